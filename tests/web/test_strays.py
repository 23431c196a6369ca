"""Mail without an envelope (rule 10) on the API and on the pages: who sees what of it, and who may choose."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Row, RowKind, RowState
from hornetmail.core.served import Domain, Host, Mailbox, Role
from hornetmail.testing.control import Control
from hornetmail.testing.rooms import MemoryPortal, MemoryStrays
from hornetmail.testing.site import ApiOnControl
from hornetmail.web.api.operations import ApiError, Caller
from tests.web.people import House

NOTE = b"From: Alice <alice@example.test>\r\nSubject: <b>a note</b>\r\n\r\nmine\r\n"
ROOT = Caller(door="socket", root=True)


class TestOperations(TestCase):
    """alice and bob of example.test with a primary, another tenant, and a domain without a primary."""

    async def open(self) -> None:
        control = await Control.open(self)
        self.site = ApiOnControl(control)
        self.portal = MemoryPortal(control.bus)
        self.strays = MemoryStrays(self.portal, self.goal)
        self.site.api.rooms = msgspec.structs.replace(self.site.rooms, portal=self.portal, strays=self.strays)
        self.directory = control.directory
        await self.directory.add_tenant("second")
        host = (Host("primary.example.test"),)
        await self.directory.add_domain(Domain("example.test", primaries=host))
        await self.directory.add_domain(Domain("portal.test"))
        await self.directory.add_domain(Domain("other.test", tenant=2, primaries=host))
        self.boxes: dict[str, Mailbox] = {}
        self.callers: dict[str, Caller] = {}
        for address, roles in (
            ("alice@example.test", ()),
            ("bob@example.test", ()),
            ("admin@example.test", (Role.ADMIN,)),
            ("auditor@example.test", (Role.AUDITOR,)),
            ("zoe@portal.test", ()),
            ("admin@other.test", (Role.ADMIN,)),
        ):
            box = self.boxes[address] = await control.person(address, roles=roles)
            self.callers[address] = Caller(control.access.person_of(box))

    def goal(self, mailbox: int) -> str:
        box = self.directory.mailbox_by_id(mailbox)
        domain = self.directory.domain(box.domain) if box is not None else None
        return box.address if box is not None and domain is not None and domain.primaries else ""

    def put(self, address: str, *data: bytes) -> list[int]:
        box = self.boxes[address].id
        uids = [self.portal.tree(box).found("INBOX").add(each) for each in data]
        self.strays.marked.setdefault(box, set()).update(uids)
        return uids

    async def call(self, who: str | Caller, name: str, **request: Any) -> Any:
        caller = self.callers[who] if isinstance(who, str) else who
        return await self.site.api.call(caller, name, request)

    async def refused(self, who: str | Caller, name: str, **request: Any) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.call(who, name, **request)
        return caught.value

    async def listed(self, who: str | Caller, **request: Any) -> list[tuple[str, str, str]]:
        answer = await self.call(who, "stray.list", **request)
        return [(one.mailbox, one.sender, one.subject) for one in answer.messages]

    async def test_who_sees_what(self) -> None:
        """Rules 15 and 25: the own with its subject; administrators their tenant's, without subjects or senders if set so; others nothing."""
        await self.open()
        self.portal.tree(self.boxes["alice@example.test"].id).found("INBOX").add(b"Subject: delivered\r\n\r\nx\r\n")
        self.put("alice@example.test", NOTE)
        self.put("admin@other.test", b"Subject: theirs\r\n\r\nx\r\n")
        self.put("zoe@portal.test", NOTE)
        note = ("alice@example.test", "Alice <alice@example.test>", "<b>a note</b>")
        theirs = ("admin@other.test", "", "theirs")
        assert await self.listed("alice@example.test") == [note]
        assert await self.listed("bob@example.test") == []
        assert await self.listed("admin@example.test") == [note]
        assert await self.listed("admin@example.test", domain="example.test") == [note]
        assert await self.listed("admin@other.test") == [theirs]
        assert await self.listed(ROOT) == [note, theirs], "by domain and address"
        for setting, shown in (("administrators_see_subjects", note[1]), ("administrators_search", "")):
            await self.directory.set_setting(setting, "no", 1)
            assert await self.listed("admin@example.test") == [(note[0], shown, "")]
            await self.directory.set_setting(setting, "yes", 1)
        assert await self.listed("alice@example.test") == [note], "the owner sees it whatever administrators may"
        for who in ("bob@example.test", "auditor@example.test"):
            for address in ("alice@example.test", "nobody@example.test"):
                error = await self.refused(who, "stray.list", address=address)
                assert (error.status, address in error.text) == (403, False), "nothing of who is registered"
            assert (await self.refused(who, "stray.list", domain="example.test")).status == 403
        assert (await self.refused("admin@other.test", "stray.list", address="alice@example.test")).status == 404
        assert (await self.refused("admin@other.test", "stray.list", domain="example.test")).status == 404
        assert "portal.test has no primary" in (await self.call(ROOT, "stray.list", domain="portal.test")).note
        assert (await self.refused(Caller(door="http"), "stray.list")).status == 401

    async def test_pages(self) -> None:
        """Catches pages that leave out, repeat, or begin anew without saying so."""
        await self.open()
        self.put("alice@example.test", *[NOTE] * 3)
        self.put("bob@example.test", *[NOTE] * 2)
        seen: list[tuple[str, int]] = []
        after = ""
        while True:
            page = await self.call(ROOT, "stray.list", limit=2, after=after)
            seen += [(one.mailbox, one.uid) for one in page.messages]
            after = page.after
            if not after:
                break
        alice, bob = "alice@example.test", "bob@example.test"
        assert seen == [(alice, 1), (alice, 2), (alice, 3), (bob, 1), (bob, 2)]
        for wrong in ("77.1", "x", "1", "1.x"):
            assert (await self.refused(ROOT, "stray.list", after=wrong)).status == 400
        assert (await self.refused(ROOT, "stray.list", limit=0)).status == 400

    async def test_who_may_choose(self) -> None:
        """Rule 10: the owner and administrators of the tenant, each time in the audit log; nobody else, refusals on the record too."""
        await self.open()
        one, two, three = self.put("alice@example.test", NOTE, NOTE, NOTE)
        ids = {each.uid: each.id for each in (await self.call("alice@example.test", "stray.list")).messages}
        address = "alice@example.test"
        for who in ("bob@example.test", "auditor@example.test"):
            assert (await self.refused(who, "stray.drain", address=address, all=True)).status == 403
        assert (await self.refused("admin@other.test", "stray.drain", address=address, all=True)).status == 404
        assert not self.strays.rows
        for request in ({}, {"all": True, "ids": [ids[one]]}, {"ids": ["x"]}):
            assert (await self.refused(address, "stray.drain", address=address, **request)).status == 400
        mine = await self.call(address, "stray.drain", address=address, ids=[ids[one]])
        assert (mine.chosen, mine.already, mine.gone, mine.to) == (1, 0, 0, address)
        later = await self.call("admin@example.test", "stray.drain", address=address, ids=[ids[one], ids[two], "1.2"])
        assert (later.chosen, later.already, later.gone) == (1, 1, 1)
        assert (await self.refused(address, "stray.drain", address=address, ids=["1.2"])).status == 404, (
            "of an INBOX before this one"
        )
        assert (await self.call(ROOT, "stray.drain", address=address, all=True)).chosen == 1
        assert set(self.strays.rows) == {(self.boxes[address].id, uid) for uid in (one, two, three)}
        error = await self.refused(ROOT, "stray.drain", address="zoe@portal.test", all=True)
        assert (error.status, error.code) == (409, "conflict")
        rows = await self.site.rooms.audit.entries()
        told = [(row.actor, row.subject, row.result) for row in rows if row.action == "stray.drain" and row.result == "done"]
        assert told == [(who, address, "done") for who in ("local administrator", "admin@example.test", address)]
        refused = [row for row in rows if row.actor == "bob@example.test"]
        assert "of their own mailbox only" in refused[0].result


def test_the_reader_says_so() -> None:
    """Catches own notes that look like delivered mail, a button on delivered mail, and choices that say nothing afterwards."""
    house = House()
    browser = house.browser("alice@example.test")
    inbox = house.portal.tree(2).found("INBOX")
    note, delivered = inbox.add(NOTE), inbox.add(NOTE)
    house.strays.marked[2] = {note}
    page = browser.get(f"/mail?uid={note}")
    assert "it did not arrive by mail" in page.text
    assert "Deliver it to alice@example.test" in page.text
    assert "did not arrive by mail" not in browser.get(f"/mail?uid={delivered}").text
    house.strays.waits = True
    validity = inbox.info.uidvalidity
    answer = browser.post("/strays", {"message": f"{validity}.{note} alice@example.test", "back": str(note), "action": "deliver"})
    assert (answer.status, answer.header("location")) == (303, f"/mail?uid={note}")
    assert list(house.strays.rows) == [(2, note)]
    page = browser.get(f"/mail?uid={note}")
    assert "once the mail server is back" in page.text
    assert "as soon as your mail server is back" in page.text
    assert "Deliver it to" not in page.text
    house.strays.waits = False
    answer = browser.post("/strays", {"message": f"{validity}.{note} alice@example.test", "back": str(note), "action": "deliver"})
    assert answer.header("location") == "/mail", "it may be gone before the page is"
    house.strays.rows[2, note] = Row(1, 1, RowKind.DRAIN, RowState.STUCK, reason="refused: 554 <no>")
    page = browser.get(f"/mail?uid={note}")
    assert "refused: 554 &lt;no&gt;" in page.text
    assert "Try again" in page.text


def test_the_list() -> None:
    """Catches markup of a subject coming alive, other people's notes on a user's page, and an administrator's choice that misses."""
    house = House()
    for box in (2, 3):
        house.strays.marked[box] = {house.portal.tree(box).found("INBOX").add(NOTE)}
    admin, alice = house.browser("admin@example.test"), house.browser("alice@example.test")
    page = admin.get("/strays")
    assert "&lt;b&gt;a note&lt;/b&gt;" in page.text
    assert "<b>a note" not in page.text
    assert "bob@example.test" in page.text
    assert "would go to alice@example.test" in page.text
    assert 'href="/strays"' in admin.get("/queue").text
    own = alice.get("/strays")
    assert "bob@example.test" not in own.text
    assert "Messages that stay here" in own.text
    assert alice.get("/strays?domain=example.test").status == 200, "the domain means nothing for a user"
    assert alice.get("/strays?address=bob@example.test").status == 403
    stolen = alice.post("/strays", {"message": "1.1 bob@example.test", "action": "deliver"})
    assert stolen.status == 303
    assert not house.strays.rows
    assert "of their own mailbox only" in alice.get("/strays").text
    answer = admin.post("/strays", {"address": "bob@example.test", "action": "all"})
    assert answer.header("location") == "/strays?address=bob%40example.test"
    assert list(house.strays.rows) == [(3, 1)]
    assert admin.post("/strays", {"action": "deliver"}).status == 303
    assert "Tick the messages first" in admin.get("/strays?domain=example.test").text
