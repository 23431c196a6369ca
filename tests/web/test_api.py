"""The API: rights, validation, audit, and what each operation asks of the rooms."""

from typing import Any

import msgspec
import pytest
from twisted.trial.unittest import TestCase

from hornetmail.core.archive.archived import Finding
from hornetmail.core.delivery.queued import RowState
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.envelope import Direction
from hornetmail.core.served import Coverage, Domain, Person, PortalOn, Role, Scope
from hornetmail.directory.checks import DirectoryError
from hornetmail.testing.control import NOW, Control
from hornetmail.testing.site import ApiOnControl, queued
from hornetmail.web.api.catalogue import OPERATIONS
from hornetmail.web.api.door.openapi import describe
from hornetmail.web.api.operations import ApiError, Caller

ROOT = Caller(door="socket", root=True)
NOBODY = Caller(door="http")


class ApiCase(TestCase):
    """With example.test and its people, and other.test of another tenant."""

    async def open(self) -> ApiOnControl:
        control = await Control.open(self)
        self.site = ApiOnControl(control)
        directory = control.directory
        await directory.add_tenant("second")
        await directory.add_domain(Domain("example.test"))
        await directory.add_domain(Domain("other.test", tenant=2))
        self.callers: dict[str, Caller] = {}
        for name, address, roles in (
            ("alice", "alice@example.test", ()),
            ("bob", "bob@example.test", ()),
            ("admin", "admin@example.test", (Role.ADMIN,)),
            ("auditor", "auditor@example.test", (Role.AUDITOR,)),
            ("stranger", "admin@other.test", (Role.ADMIN,)),
        ):
            self.callers[name] = Caller(control.access.person_of(await control.person(address, roles=roles)))
        return self.site

    async def call(self, who: str | Caller, name: str, /, **request: Any) -> Any:
        caller = self.callers[who] if isinstance(who, str) else who
        return await self.site.api.call(caller, name, request)

    async def refused(self, who: str | Caller, name: str, /, **request: Any) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.call(who, name, **request)
        assert "\n" not in caught.value.text
        return caught.value


class TestDoor(ApiCase):
    """What holds for every operation."""

    async def test_rights(self) -> None:
        """Nobody and plain users must not come near administration; the catalogue decides, not each operation."""
        await self.open()
        for operation in OPERATIONS:
            assert (await self.refused(NOBODY, operation.name)).status == 401
            if operation.right == "administer":
                assert (await self.refused("alice", operation.name)).status == 403
                assert (await self.refused("auditor", operation.name)).status == 403
        assert (await self.refused("admin", "no.such")).status == 404

    async def test_errors_name_the_place(self) -> None:
        """A script's author must see which field is wrong and why."""
        await self.open()
        for request, text in (
            ({"name": "new.test", "primaries": "mx"}, "$.primaries: Expected `array`"),
            ({"name": "new.test", "primaries": [1]}, "$.primaries[0]: Expected `str`"),
            ({"name": "new.test", "primaries": ["mx.new.test:99999"]}, '$.primaries[0]: "mx.new.test:99999"'),
            ({"name": "new.test", "relay_from": ["10.0.0.1/8"]}, "$.relay_from[0]: "),
            ({"name": "new.test", "smarthost": "a b"}, "$.smarthost: "),
            ({"name": "new.test", "failover": "never"}, "$.failover: Invalid enum value 'never'"),
            ({"name": "new.test", "primary": "x"}, "$: Object contains unknown field `primary`"),
            ({}, "$: Object missing required field `name`"),
            ({"name": "x y"}, 'domain "x y": not a domain'),
        ):
            error = await self.refused("admin", "domain.add", **request)
            assert (error.status, error.code) == (400, "invalid")
            assert error.text.startswith(text), error.text

    async def test_texts_that_cannot_be_read(self) -> None:
        """Catches a name, a reason or an address that shows something else than it is (a turned direction of writing), or breaks what shows it; through
        each operation that keeps something, and whatever form or program asks. Passwords are nobody's to read."""
        await self.open()
        turned, bell = "moc\u202eelpmaxe", "a\x07b"
        for name, request, place in (
            ("mailbox.add", {"address": "new@example.test", "name": turned}, "$.name: it has U+202E, which turns"),
            ("mailbox.add", {"address": f"{turned}@example.test"}, "$.address: it has U+202E"),
            (
                "mailbox.add",
                {"address": "new@example.test", "aliases": ["ok@example.test", bell]},
                "$.aliases[1]: it has a control",
            ),
            (
                "mailbox.change",
                {"address": "bob@example.test", "name": "Bob\nSmith"},
                "$.name: it has a control character (U+000A)",
            ),
            ("queue.bounce", {"messages": ["1"], "reason": bell}, "$.reason: it has a control character (U+0007)"),
        ):
            refused = await self.refused("admin", name, **request)
            assert (refused.status, refused.text.startswith(place)) == (400, True), refused.text
        directory = self.site.control.directory
        for name in (turned, bell):
            with pytest.raises(DirectoryError):
                await directory.add_mailbox("direct@example.test", name=name)
        await self.call("admin", "mailbox.add", address="new@example.test", name="Zoë \u05d0\u05dc\u05d9 नमस्\u200dते")
        made = directory.mailbox("new@example.test")
        assert made is not None
        assert made.name.endswith("ते")

    async def test_audit_before_and_after(self) -> None:
        """Each write must stand in the audit log with its outcome, refused ones too, and no password ever."""
        await self.open()
        await self.call("admin", "mailbox.add", address="carol@example.test", password="top secret", roles=["auditor"])
        await self.refused("admin", "mailbox.add", address="carol@example.test", password="top secret")
        await self.call("admin", "mailbox.list")
        second, first = await self.site.rooms.audit.entries()
        assert (first.actor, first.action, first.subject, first.result) == (
            "admin@example.test",
            "mailbox.add",
            "carol@example.test",
            "done",
        )
        assert first.detail == '{"roles":["auditor"]}'
        assert "registered already" in second.result
        await self.call("alice", "account.password", old="correct horse", new="another secret")
        entries = await self.site.rooms.audit.entries()
        assert entries[0].action == "account.password"
        assert "secret" not in repr(entries)
        assert "horse" not in repr(entries)
        assert await self.site.rooms.audit.verify() == ""

    async def test_a_room_that_fails(self) -> None:
        """A fault of ours must become a 500 without its innards, and a line in the log; missing roles a 503."""
        site = await self.open()

        async def broken(*args: object, **keywords: object) -> object:
            raise RuntimeError("secret path /x")

        site.archive.search = broken  # type: ignore[method-assign]
        error = await self.refused("alice", "archive.search", query="x")
        assert (error.status, "secret" in error.text) == (500, False)
        assert len(self.flushLoggedErrors(RuntimeError)) == 1
        site.api.rooms = msgspec.structs.replace(site.rooms, queue=None)
        assert (await self.refused("admin", "queue.list")).status == 503

    async def test_tenants_do_not_see_each_other(self) -> None:
        """Rule 25: an administrator of one customer sees, changes and learns nothing of another's."""
        site = await self.open()
        site.queue.content = [*queued(1000, "a@example.test"), *queued(2000, "b@other.test", tenant=2)]
        assert [one.name for one in (await self.call("stranger", "domain.list")).domains] == ["other.test"]
        assert [one.address for one in (await self.call("stranger", "mailbox.list")).mailboxes] == ["admin@other.test"]
        for name, request in (
            ("domain.show", {"name": "example.test"}),
            ("domain.change", {"name": "example.test", "active": False}),
            ("domain.mode", {"name": "example.test", "mode": "emergency"}),
            ("mailbox.show", {"address": "alice@example.test"}),
            ("mailbox.password", {"address": "alice@example.test", "password": "x"}),
            ("mailbox.remove", {"address": "alice@example.test"}),
            ("mailbox.add", {"address": "new@example.test"}),
            ("queue.show", {"id": "1000"}),
            ("queue.delete", {"messages": ["1000"]}),
        ):
            assert (await self.refused("stranger", name, **request)).status == 404, name
        assert (await self.refused("stranger", "domain.add", name="x.test", tenant=1)).status == 403
        shown = (await self.call("stranger", "status")).queue
        assert (shown.messages, shown.deliver) == (1, 1), "what others have in the queue"
        assert (await self.call("stranger", "queue.delete", all=True)).changed == 1
        assert site.queue.asked == [([2001], RowState.REMOVED, 0.0, "deleted by admin@other.test")]
        assert {one.name for one in (await self.call(ROOT, "domain.list")).domains} == {"example.test", "other.test"}
        assert (await self.call("stranger", "domain.add", name="third.test")).tenant == 2
        assert [one.name for one in (await self.call("stranger", "status")).domains] == ["other.test", "third.test"]

    def test_openapi_describes_every_operation(self) -> None:
        """Scripts are generated from it: every operation, its parameters and its answer, with references that exist."""
        document = describe(OPERATIONS, "1")
        listed = {(method, path): one for path, methods in document["paths"].items() for method, one in methods.items()}
        assert len(listed) == len(OPERATIONS) == len({operation.name for operation in OPERATIONS})
        mode = listed["put", "/api/v1/domains/{name}/mode"]
        assert [(one["name"], one["in"]) for one in mode["parameters"]] == [("name", "path")]
        assert mode["requestBody"]["content"]["application/json"]["schema"]["required"] == ["mode"]
        search = listed["get", "/api/v1/archive"]
        assert {one["name"] for one in search["parameters"]} == {"query", "limit", "after", "own"}
        text = msgspec.json.encode(document).decode()
        import re

        for name in set(re.findall(r'"#/components/schemas/(\w+)"', text)):
            assert name in document["components"]["schemas"], name
        for operation in OPERATIONS:
            assert operation.run.__doc__, operation.name


class TestDirectory(ApiCase):
    """Domains and mailboxes."""

    async def test_domains(self) -> None:
        """Add, change, switch and remove, with the settings that were given and no other."""
        site = await self.open()
        shown = await self.call(
            "admin", "domain.add", name="New.test", primaries=["mx.new.test:2525", "[::1]:26"], scope="picked", tls="verify"
        )
        assert (shown.name, shown.primaries, shown.scope, shown.tls) == (
            "new.test",
            ["mx.new.test:2525", "[::1]:26"],
            "picked",
            "verify",
        )
        shown = await self.call(
            "admin",
            "domain.change",
            name="new.test",
            portal_on="outage",
            portal_days=30,
            retention_days=365,
            aliases=["new.example"],
            smarthost="out.test:587",
        )
        assert (shown.portal_on, shown.portal_days, shown.retention_days, shown.aliases, shown.smarthost, shown.scope) == (
            PortalOn.OUTAGE,
            30.0,
            365,
            ["new.example"],
            "out.test:587",
            Coverage.PICKED,
        )
        assert (shown.quota_bytes, shown.quota_messages, shown.over_quota) == (0, 0, "defer")
        shown = await self.call("admin", "domain.change", name="new.test", quota_bytes=5_000_000, over_quota="refuse")
        assert (shown.quota_bytes, shown.quota_messages, shown.over_quota) == (5_000_000, 0, "refuse")
        added = await self.call("admin", "mailbox.add", address="full@new.test", quota_messages=9)
        assert (added.mailbox.quota_bytes, added.mailbox.quota_messages) == (None, 9)
        box = await self.call("admin", "mailbox.change", address="full@new.test", quota_bytes=0, quota_messages=None)
        assert (box.quota_bytes, box.quota_messages) == (0, None)
        await self.call("admin", "mailbox.remove", address="full@new.test")
        shown = await self.call("admin", "domain.change", name="new.example", smarthost="", primaries=[])
        assert (shown.name, shown.smarthost, shown.primaries, shown.retention_days) == ("new.test", "", [], 365)
        shown = await self.call("admin", "domain.mode", name="new.test", mode="emergency", reason="drill")
        assert (shown.mode, site.modes.asked) == (Mode.EMERGENCY, [("new.test", Mode.EMERGENCY, "admin@example.test", "drill")])
        assert (await self.refused("admin", "domain.mode", name="new.test", mode="draining")).status == 400
        await self.call("admin", "domain.add", name="fixed.test")
        error = await self.refused("admin", "domain.mode", name="fixed.test", mode="emergency")
        assert (error.status, "for good" in error.text) == (409, True)
        await self.call("admin", "domain.remove", name="new.test")
        assert (await self.refused("admin", "domain.show", name="new.test")).status == 404
        assert (await self.refused("admin", "domain.remove", name="example.test")).status == 409

    async def test_mailboxes(self) -> None:
        """A new mailbox can log in at once, by the password given or the one shown (C12, C23)."""
        site = await self.open()
        added = await self.call(
            "admin", "mailbox.add", address="Carol@example.test", password="given", name="Carol", aliases=["c@example.test"]
        )
        assert (added.password, added.mailbox.aliases, added.mailbox.must_change) == ("", ["c@example.test"], False)
        assert added.mailbox.id.isdigit()
        assert (await site.rooms.access.login("carol@example.test", "given", "imap", "")).mailbox == int(added.mailbox.id)
        added = await self.call("admin", "mailbox.add", address="dave@example.test")
        person = await site.rooms.access.login("dave@example.test", added.password, "imap", "")
        assert site.rooms.access.must_change(person)
        shown = await self.call("admin", "mailbox.change", address="dave@example.test", roles=["revisor"], enabled=False)
        assert (shown.roles, shown.enabled) == ([Role.REVISOR], False)
        reset = await self.call("admin", "mailbox.password", address="dave@example.test")
        assert reset.password
        assert (await self.refused("admin", "mailbox.add", address="dave@example.test")).status == 409
        assert (await self.refused("admin", "mailbox.add", address="x@nowhere.test")).status == 404
        assert (await self.refused("admin", "mailbox.add", address="nonsense")).status == 400
        await self.call("admin", "mailbox.remove", address="dave@example.test")
        assert site.rooms.directory.mailbox("dave@example.test") is None

    async def test_nobody_locks_himself_out(self) -> None:
        """An administrator must not lose the last way in by a slip."""
        await self.open()
        for name, request in (("mailbox.change", {"roles": []}), ("mailbox.change", {"enabled": False}), ("mailbox.remove", {})):
            assert (await self.refused("admin", name, address="admin@example.test", **request)).status == 409
        await self.call("admin", "mailbox.change", address="admin@example.test", roles=["admin", "auditor"])

    async def test_own_account(self) -> None:
        """Everybody sees and changes the own account, and nothing else (C23)."""
        site = await self.open()
        shown = await self.call("alice", "account.me")
        assert (shown.address, shown.roles, shown.rights) == (
            "alice@example.test",
            [],
            ["anybody", "person", "search", "open", "redeliver"],
        )
        error = await self.refused("alice", "account.password", old="wrong", new="long enough")
        assert (error.status, error.text) == (403, "$.old: not the present password")
        assert (await self.refused("alice", "account.password", old="correct horse", new="short")).status == 400
        await self.call("alice", "account.password", old="correct horse", new="long enough")
        await site.rooms.access.login("alice@example.test", "long enough", "imap", "")
        person = self.callers["alice"].person
        assert isinstance(person, Person)
        _, session = await site.rooms.sessions.create(person)
        listed = await self.call(msgspec.structs.replace(self.callers["alice"], session=session.id), "account.sessions")
        assert [(one.id, one.current) for one in listed.sessions] == [(session.id, True)]
        assert (await self.refused("bob", "account.revoke", id=session.id)).status == 404
        await self.call("alice", "account.revoke", id=session.id)


class TestQueue(ApiCase):
    """The queue."""

    async def test_look(self) -> None:
        """All rows beneath their message, IDs as strings (JavaScript rounds 63 bits), pages that continue."""
        site = await self.open()
        site.queue.content = [
            *queued(9_007_199_254_740_993, "a@example.test", "b@example.test"),
            *queued(10**16, "c@example.test"),
        ]
        listed = await self.call("admin", "queue.list", domain="EXAMPLE.test")
        assert [(one.id, len(one.rows)) for one in listed.messages] == [("9007199254740993", 3), ("10000000000000000", 2)]
        row = listed.messages[0].rows[0]
        assert (row.recipient, row.last, row.host) == ("a@example.test", "451 4.3.0 later", "mx.example.test")
        page = await self.call("admin", "queue.list", limit=2)
        rest = await self.call("admin", "queue.list", limit=100, after=page.after)
        assert sum(len(one.rows) for one in (*page.messages, *rest.messages)) == 5
        assert rest.after == ""
        assert len((await self.call("admin", "queue.show", id="9007199254740993")).rows) == 3
        assert (await self.refused("admin", "queue.show", id="17")).status == 404
        assert (await self.refused("admin", "queue.show", id="²")).status == 400
        assert (await self.refused("admin", "queue.list", limit=501)).status == 400

    async def test_change(self) -> None:
        """Hold, release, delete and bounce touch deliveries, never the archive's row: it follows what was delivered (C8, A20)."""
        site = await self.open()
        site.queue.content = [
            *queued(1000, "a@example.test", "B@example.test"),
            *queued(2000, "c@example.test", state=RowState.HELD),
        ]
        assert (await self.call("admin", "queue.hold", messages=["1000"], recipient="b@example.test", reason="why")).changed == 1
        assert (await self.call("admin", "queue.release", all=True)).changed == 2
        assert (await self.call("admin", "queue.flush", all=True)).changed == 3
        assert (await self.call("admin", "queue.delete", rows=["1001"])).changed == 1
        assert (await self.call("admin", "queue.bounce", messages=["2000"], reason="no such project")).changed == 1
        assert site.queue.asked == [
            ([1002], RowState.HELD, 0.0, "why"),
            ([1002, 2001], RowState.QUEUED, NOW, ""),
            ([1001, 1002, 2001], RowState.QUEUED, NOW, ""),
            ([1001], RowState.REMOVED, 0.0, "deleted by admin@example.test"),
        ]
        assert site.given_up == [([2001], "no such project")]
        assert (await self.refused("admin", "queue.delete")).text == "$: name messages, rows or a domain, or say all"
        assert (await self.refused("admin", "queue.delete", messages=["3000"])).status == 404
        assert (await self.call("admin", "queue.release", messages=["1000"])).changed == 0


class TestArchive(ApiCase):
    """Who sees what, and what redelivery asks for."""

    async def archive(self) -> ApiOnControl:
        site = await self.open()
        site.archive.add(1, "x@elsewhere.test", "alice@example.test", "bob@example.test")
        site.archive.add(2, "bob@example.test", "y@elsewhere.test", direction=Direction.OUT)
        site.archive.add(3, "x@elsewhere.test", "admin@example.test")
        site.archive.add(4, "x@elsewhere.test", "admin@other.test", tenant=2)
        return site

    async def test_scopes(self) -> None:
        """C18, A39, A40: users their own, administrators all headers of their tenant, auditors everything of it."""
        site = await self.archive()
        for who, seen in (
            ("alice", ["1"]),
            ("bob", ["2", "1"]),
            ("admin", ["3", "2", "1"]),
            ("auditor", ["3", "2", "1"]),
            ("stranger", ["4"]),
        ):
            page = await self.call(who, "archive.search", query="")
            assert [hit.id for hit in page.results] == seen, who
            assert page.total == len(seen)
        assert [hit.id for hit in (await self.call(ROOT, "archive.search")).results] == ["4", "3", "2", "1"]
        assert site.archive.scopes[-1] == Scope(0, None, content=False)
        assert [hit.id for hit in (await self.call("admin", "archive.search", own=True)).results] == ["3"]
        assert (await self.call("alice", "archive.show", id="1")).text == "the text"
        assert (await self.refused("alice", "archive.show", id="2")).status == 404
        assert (await self.refused("alice", "archive.search", query="size>")).code == "query"

    async def test_content(self) -> None:
        """Rule 15: an administrator opens the own mail and no other, root at the socket none; auditors stand in the audit log."""
        await self.archive()
        assert (await self.call("alice", "archive.export", id="1")).data.endswith(b"body 1\r\n")
        assert (await self.call("admin", "archive.export", id="3")).data.endswith(b"body 3\r\n")
        assert (await self.refused("admin", "archive.export", id="1")).status == 403
        shown = await self.call("admin", "archive.show", id="1")
        assert (shown.text, shown.content) == ("", False)
        assert "--as" in (await self.refused(ROOT, "archive.export", id="1")).text
        assert (await self.refused("alice", "archive.export", id="2")).status == 404
        assert (await self.call("auditor", "archive.export", id="2")).data
        entry = (await self.site.rooms.audit.entries())[0]
        assert (entry.actor, entry.action, entry.subject) == ("auditor@example.test", "archive.export", "2")
        await self.call("admin", "archive.redeliver", ids=["1", "2"])
        await self.call("admin", "archive.verify", full=True)
        verified, redelivered = (await self.site.rooms.audit.entries())[:2]
        assert (redelivered.subject, redelivered.detail) == ("1 2", "")
        assert (verified.subject, verified.detail) == ("", '{"full":true}')

    async def test_redeliver(self) -> None:
        """C16-C18: users to themselves, administrators to the owners, outgoing mail to its sender."""
        site = await self.archive()
        done = await self.call("alice", "archive.redeliver", ids=["1"])
        assert (done.messages, done.to) == (["9007199254740994"], ["alice@example.test"])
        assert (await self.refused("alice", "archive.redeliver", ids=["2"])).status == 404
        done = await self.call("admin", "archive.redeliver", ids=["1", "2"], request="r1")
        assert done.to == ["alice@example.test", "bob@example.test"]
        assert [(to, ids, token) for _, ids, to, token in site.redelivery.asked[1:]] == [
            ("alice@example.test", [1], "r1/alice@example.test"),
            ("bob@example.test", [1, 2], "r1/bob@example.test"),
        ]
        await self.call(ROOT, "archive.redeliver", ids=["1"], to="bob@example.test")
        person, ids, to, _ = site.redelivery.asked[-1]
        assert (person.mailbox, person.roles, ids, to) == (0, (Role.ADMIN,), [1], "bob@example.test")
        site.archive.add(5, "x@elsewhere.test", "gone@example.test")
        assert (await self.refused("admin", "archive.redeliver", ids=["5"])).status == 409

    async def test_redeliver_to_those_who_got_it(self) -> None:
        """C16, rule 14: would catch an administrator's redelivery to whom a header names and who never got the mail; and, where one of several turns out to have no right to it, an
        answer that hides that it is on the way to the others."""
        site = await self.archive()
        mail, data, seen_by = site.archive.mails[1]
        site.archive.mails[1] = (msgspec.structs.replace(mail, recipients=("alice@example.test",)), data, seen_by)
        assert (await self.call("admin", "archive.redeliver", ids=["1"])).to == ["alice@example.test"]
        site.archive.mails[1] = (msgspec.structs.replace(mail, recipients=()), data, seen_by)
        error = await self.refused("admin", "archive.redeliver", ids=["1"])
        assert (error.status, "say to whom" in error.text) == (409, True)
        site.archive.mails[1] = (mail, data, seen_by)
        site.redelivery.without = {"bob@example.test"}
        error = await self.refused("admin", "archive.redeliver", ids=["1"])
        assert (error.status, error.text) == (
            404,
            "no mail 1 in the archive of bob@example.test; on the way to alice@example.test already",
        )

    async def test_folders_expire(self) -> None:
        """Rule 24: the announced date is on the mailbox and in the own account; 0 as long as none was announced."""
        site = await self.archive()
        alice = await self.call("admin", "mailbox.show", address="alice@example.test")
        assert alice.folders_expire == 0
        site.expiry.dates[int(alice.id)] = 1_800_000_000.0
        dates = {}
        for who in ("alice", "bob"):
            dates[who] = (
                (await self.call("admin", "mailbox.show", address=f"{who}@example.test")).folders_expire,
                (await self.call(who, "account.me")).folders_expire,
            )
        assert dates == {"alice": (1_800_000_000.0, 1_800_000_000.0), "bob": (0.0, 0.0)}

    async def test_redeliver_as_attachment(self) -> None:
        """Rule 16: asked for, passed on; what cannot travel so is told, and an error if it was all."""
        site = await self.archive()
        await self.call("alice", "archive.redeliver", ids=["1"])
        await self.call("alice", "archive.redeliver", ids=["1"], as_attachment=True)
        assert site.redelivery.attached == [False, True]
        site.redelivery.unfit = {1}
        done = await self.call("bob", "archive.redeliver", ids=["1", "2"], as_attachment=True)
        assert (len(done.messages), [(one.id, one.why) for one in done.unfit]) == (1, [("1", "its lines are too long")])
        refused = await self.refused("bob", "archive.redeliver", ids=["1"], as_attachment=True)
        assert (refused.status, refused.code, "mail 1 cannot travel" in refused.text) == (409, "unfit", True)
        assert not (await self.call("bob", "archive.redeliver", ids=["1"])).unfit

    async def test_verify_and_what_is_not_there_yet(self) -> None:
        """Findings must come through; what this version cannot do is refused clearly."""
        site = await self.archive()
        assert (await self.call("admin", "archive.verify", full=True)).ok
        site.archive.findings = [Finding("pack 7", "a seal is broken")]
        found = await self.call("admin", "archive.verify")
        assert (found.ok, found.findings[0].where) == (False, "pack 7")
        await self.call("admin", "archive.confirm_purge")
        assert site.archive.confirmed == 1
        assert (await self.refused("alice", "archive.confirm_purge")).status == 403
        for name, request in (("import", {"source": "/x"}), ("feed", {"kind": "domain", "name": "a.test"})):
            assert (await self.refused("admin", f"archive.{name}", **request)).status == 501
        assert (await self.call("admin", "key.backup", password="long enough")).text == "KEY PAPER of 11 characters\n"
        assert (await self.refused("admin", "key.backup", password="short")).status == 400

    async def test_key_change(self) -> None:
        """Catches a change of the key that anybody may make, that stands in no audit log, or that brings its paper there (rule 22)."""
        await self.archive()
        for name in ("new", "confirm", "cancel"):
            request = {"new": {"password": "x" * 8}, "confirm": {"text": "x", "password": "y"}, "cancel": {}}[name]
            assert (await self.refused("alice", f"key.{name}", **request)).status == 403
        assert (await self.refused("admin", "key.new", password="short")).status == 400
        text = (await self.call("admin", "key.new", password="long enough")).text
        assert (await self.refused("admin", "key.new", password="long enough")).status == 409
        status = msgspec.to_builtins(await self.call(ROOT, "status"))["archive"]["key"]
        assert (status["id"], status["pending"], status["media_waiting"]) == ("0011223344556677", "8899aabbccddeeff", [])
        assert (await self.refused("admin", "key.confirm", text=text, password="wrong")).status == 409
        assert (await self.refused("admin", "key.confirm", text="x" * 70_000, password="long enough")).status == 400
        done = await self.call("admin", "key.confirm", text=text, password="long enough")
        assert (done.key.id, done.former, done.key.media_waiting) == ("8899aabbccddeeff", "0011223344556677", [2])
        assert "still open with it" in done.notice
        assert (await self.refused("admin", "key.cancel")).status == 409
        log = msgspec.to_builtins((await self.call(ROOT, "audit.list")).entries)
        assert {one["action"] for one in log} >= {"key.new", "key.confirm", "key.cancel"}
        assert "long enough" not in str(log)

    async def test_status(self) -> None:
        """The JSON that scripts read (the contract) must have exactly these names."""
        await self.archive()
        status = msgspec.to_builtins(await self.call(ROOT, "status"))
        assert status["roles"] == {"smtp": {"up": True, "reason": ""}, "delivery": {"up": True, "reason": ""}}
        assert status["domains"][0]["name"] == "example.test"
        assert status["domains"][0]["mode"] == "normal"
        assert status["domains"][0]["primary"]["up"] is True
        assert (status["queue"]["messages"], status["queue"]["archive_pending"], status["queue"]["oldest_seconds"]) == (
            3,
            2,
            12.3,
        )
        assert (status["archive"]["mails"], status["archive"]["packs"]) == (4, 1)
        assert (status["archive"]["bytes_raw"], status["archive"]["bytes_stored"]) == (1000, 400)
