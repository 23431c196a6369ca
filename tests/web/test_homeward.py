"""Home by IMAP on the API and the pages (L13): who may set it, who may give a password of his own, and that none is ever told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.filing import Closed, Progress
from hornetmail.core.served import Domain, Host, Mailbox, Role
from hornetmail.delivery.filing.ways import Ways
from hornetmail.disk.seal import Seal
from hornetmail.testing.control import Control
from hornetmail.testing.site import ApiOnControl
from hornetmail.web.api.operations import ApiError, Caller
from tests.web.people import House


class Filing:
    """``closed``: what a test of the way meets."""

    def __init__(self, ways: Ways) -> None:
        self.ways = ways
        self.closed: Closed | None = None
        self.kicked: list[str] = []
        self.tested: list[tuple[str, str, str]] = []

    def kick(self, domain: str) -> None:
        self.kicked.append(domain)

    async def progress(self, mailbox: int) -> Progress:
        return Progress(3, 1, (("name", "a <b>virus</b>"),), "no room")

    async def retry(self, mailbox: Mailbox) -> int:
        return 1

    async def test(self, mailbox: Mailbox, user: str = "", password: str = "") -> tuple[str, ...]:
        self.tested.append((mailbox.address, user, password))
        if user:
            self.ways.offered(mailbox, user, password)
        if self.closed is not None:
            raise self.closed
        return ("INBOX", "Sent")


async def filing_on(control: Control) -> Filing:
    ways = Ways(control.database, Seal(b"s" * 32), control.directory)
    await ways.open()
    return Filing(ways)


class TestOperations(TestCase):
    """alice of example.test with a primary, a domain without one, and another tenant's administrator."""

    async def open(self) -> None:
        self.control = control = await Control.open(self)
        self.site = ApiOnControl(control)
        self.filing = await filing_on(control)
        self.site.api.rooms = msgspec.structs.replace(self.site.rooms, filing=self.filing)
        await control.directory.add_tenant("second")
        host = (Host("primary.example.test"),)
        await control.directory.add_domain(Domain("example.test", primaries=host))
        await control.directory.add_domain(Domain("portal.test"))
        await control.directory.add_domain(Domain("other.test", tenant=2, primaries=host))
        self.callers: dict[str, Caller] = {}
        for address, roles in (
            ("alice@example.test", ()),
            ("admin@example.test", (Role.ADMIN,)),
            ("zoe@portal.test", ()),
            ("admin@other.test", (Role.ADMIN,)),
        ):
            box = await control.person(address, roles=roles)
            self.callers[address.replace("@example.test", "")] = Caller(control.access.person_of(box))

    async def call(self, who: str, operation: str, /, **request: Any) -> Any:
        return await self.site.api.call(self.callers[who], operation, request)

    async def refused(self, who: str, operation: str, /, **request: Any) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.call(who, operation, **request)
        return caught.value

    async def test_server(self) -> None:
        """Rule 25: another tenant's administrator, or a person, sets nothing; the port that is meant is taken; the password stays only for the same account, host and encryption."""
        await self.open()
        assert (await self.call("admin", "home.show", name="example.test")).host == ""
        for who in ("alice", "admin@other.test"):
            assert (await self.refused(who, "home.set", name="example.test", host="mail")).status in (403, 404)
        assert (await self.refused("admin", "home.set", name="portal.test", host="mail.test")).status == 409
        assert (await self.refused("admin", "home.set", name="example.test", host="mail.test", service="m")).status == 400
        shown = await self.call("admin", "home.set", name="example.test", host="mail.test", service="m", password="very-secret")
        assert (shown.host, shown.service) == ("mail.test:993", "m")
        assert not hasattr(shown, "password")
        assert self.filing.kicked == ["example.test"]
        await self.call("admin", "home.set", name="example.test", host="mail.test:993", service="m", own=False)
        for changed in ({"host": "evil.test"}, {"tls": "may"}, {"service": "n"}):
            request = {"host": "mail.test", "service": "m", **changed}
            assert (await self.refused("admin", "home.set", name="example.test", **request)).status == 400
        alice = self.control.directory.mailbox("alice@example.test")
        assert alice is not None
        way = self.filing.ways.way(alice)
        assert way is not None
        assert (way.account.password, way.account.acting_for) == ("very-secret", "alice@example.test")
        entries = await self.control.audit.entries()
        assert any(entry.action == "home.set" for entry in entries)
        assert "very-secret" not in repr(entries)
        assert (await self.call("admin", "home.test", address="alice@example.test")).folders == ["INBOX", "Sent"]
        self.filing.closed = Closed("the log-in is refused", lasting=True)
        assert "refused" in (await self.refused("admin", "home.test", address="alice@example.test")).text
        assert (await self.refused("admin@other.test", "home.test", address="alice@example.test")).status == 404
        await self.call("admin", "home.remove", name="example.test")
        assert self.filing.ways.way(alice) is None

    async def test_own(self) -> None:
        """A person's own password: tried before it is kept, one that is refused is not, and the one from before stays; only the own; sent to no other host than the one it was given for."""
        await self.open()
        alice = self.control.directory.mailbox("alice@example.test")
        assert alice is not None
        assert (await self.refused("alice", "account.home_login", user="al", password="p1")).status == 400
        await self.call("admin", "home.set", name="example.test", host="mail.test")
        assert (await self.call("alice", "account.home")).offered == "mail.test:993"
        assert (await self.call("alice", "account.home_login", user="al", password="p1")).note == ""
        self.filing.closed = Closed("the log-in is refused", lasting=True)
        assert (await self.refused("alice", "account.home_login", user="al", password="wrong")).code == "credentials"
        way = self.filing.ways.way(alice)
        assert way is not None
        assert (way.account.user, way.account.password, way.account.acting_for) == ("al", "p1", "")
        self.filing.closed = Closed("no connection")
        assert (await self.call("alice", "account.home_login", user="al", password="p2")).note == "no connection"
        shown = await self.call("alice", "account.home")
        assert (shown.login, shown.possible, shown.stuck_count, shown.trouble) == ("al", True, 1, "no room")
        assert "p2" not in repr(shown)
        await self.call("admin", "home.set", name="example.test", host="evil.test")
        assert self.filing.ways.way(alice) is None
        assert not (await self.call("alice", "account.home")).possible
        await self.call("admin", "home.set", name="example.test", host="mail.test")
        assert self.filing.ways.way(alice) is not None
        await self.call("alice", "account.home_forget")
        assert self.filing.ways.way(alice) is None
        again = Ways(self.control.database, Seal(b"s" * 32), self.control.directory)
        await again.open()
        assert again.login(alice.id) == ""

    async def test_gone_with_its_mailbox(self) -> None:
        """Passwords of people and domains that are not served any more stay nowhere."""
        await self.open()
        await self.call("admin", "home.set", name="example.test", host="mail.test")
        await self.call("alice", "account.home_login", user="al", password="p1")
        alice = self.control.directory.mailbox("alice@example.test")
        assert alice is not None
        await self.control.directory.remove_mailbox(alice.id)

        def left(cursor: Any) -> int:
            cursor.execute("SELECT COUNT(*) FROM home_logins", ())
            return int(cursor.fetchone()[0])

        assert await self.control.database.read(left) == 0


class _Nowhere:
    """A database that keeps nothing; what is in memory stays."""

    async def run(self, *anything: Any) -> None:
        """Nothing."""

    async def read(self, *anything: Any) -> Any:
        return {}, {}


def test_pages() -> None:
    """A form that does not reach its operation, a password in a page, markup out of a server's answer, or a card where there is nothing to set."""
    house = House()
    filing = Filing(Ways(_Nowhere(), Seal(b"s" * 32), house.directory))  # type: ignore[arg-type]
    admin, alice = house.browser("admin@example.test"), house.browser("alice@example.test")
    assert 'id="home"' not in admin.get("/domains/example.test").text
    house.rooms_with(filing=filing)
    fields = {"host": "mail.test", "tls": "verify", "service": "m", "password": "very-secret", "form": "star", "own": "on"}
    assert admin.post("/domains/example.test/home", fields).status == 303
    page = admin.get("/domains/example.test").text
    assert 'value="mail.test:993"' in page
    assert '<option value="star" selected>' in page
    assert "very-secret" not in page
    tried = admin.post("/domains/example.test/home", {**fields, "test": "1", "address": "alice@example.test"})
    assert tried.status == 303
    assert "2 folders" in admin.get("/domains/example.test").text
    assert filing.tested[-1] == ("alice@example.test", "", "")
    assert alice.post("/domains/example.test/home", fields).status == 403
    page = alice.get("/account").text
    assert "mail.test:993" in page
    assert "a &lt;b&gt;virus&lt;/b&gt;" in page
    assert alice.post("/account/home", {"user": "al", "password": "p-1-secret"}).status == 303
    page = alice.get("/account").text
    assert "as al" in page
    assert "p-1-secret" not in page
    filing.closed = Closed("the log-in is refused", lasting=True)
    assert "the log-in is refused" in alice.post("/account/home", {"user": "al", "password": "x"}).text
    assert alice.post("/account/home/forget", {}).status == 303
    assert "as al" not in alice.get("/account").text
    assert admin.post("/domains/example.test/home", {**fields, "tls": "perhaps"}).status == 303
    assert "cannot be chosen" in admin.get("/domains/example.test").text
    admin.post("/domains/example.test/home", {**fields, "host": ""})
    assert filing.ways.server("example.test") is None
