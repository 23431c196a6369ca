"""A delivery room whose primary offers IMAP too, a scripted one, on the real stores and a ``control.db`` that outlives restarts."""

from __future__ import annotations

from typing import Any

from hornetmail.compose.rooms.delivery import Stores
from hornetmail.core.delivery.filing import Form, HomeServer
from hornetmail.core.failover.mode import Mode
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.db.pool import Database
from hornetmail.delivery.filing.filing import Filing
from hornetmail.delivery.filing.ledger import Ledger
from hornetmail.delivery.filing.ways import Ways
from hornetmail.directory.schema import CONTROL
from hornetmail.disk.seal import Seal
from hornetmail.testing.scripted_imap import Folder, ScriptedIMAP
from tests.delivery.stores import StoresCase
from tests.delivery.world import SLOW_MACHINE, reactor

ALICE, BOB = "alice@example.test", "bob@example.test"


def letter(number: int | str, text: str = "text") -> bytes:
    """A mail with a Message-ID of its own."""
    return f"Message-ID: <{number}@x.test>\r\nSubject: {number}\r\n\r\n{text}\r\n".encode()


class FilingCase(StoresCase):
    """``imap`` is the primary's; the service account is ``master`` with ``key``."""

    timeout = 120
    settings = SLOW_MACHINE

    async def build(self, primaries: int = 1, **domain: Any) -> None:
        self.imap = ScriptedIMAP(reactor, {ALICE: "secret", BOB: "secret"}, master=("master", "key"))
        self.port = self.imap.listen()
        self.addCleanup(self.imap.close)
        await super().build(primaries, **domain)
        self.addCleanup(self.at_rest)

    async def at_rest(self) -> None:
        """Before the directories go, which is before ``tearDown``: what threads still did for a pass would meet none."""
        self.filing.end()
        await self.until(lambda: not self.filing.busy, "the passes are over", seconds=60)

    async def stores(self) -> Stores:
        self.control = await Database.open(reactor, f"sqlite:///{self.home}/control.db", CONTROL)
        await self.control.run(self._registered)
        self.ways = Ways(self.control, Seal(b"s" * 32), self.directory)  # type: ignore[arg-type]
        await self.ways.open()
        return Stores(self.queue, self.known, self.portal, self.archive, self.ways, Ledger(self.control))  # type: ignore[arg-type]

    def _registered(self, cursor: Any) -> None:
        cursor.execute("INSERT INTO domains (name, tenant, value) VALUES ('example.test', 1, '{}') ON CONFLICT DO NOTHING", ())
        sql = "INSERT INTO mailboxes (id, tenant, domain, value) VALUES (?, 1, 'example.test', '{}') ON CONFLICT DO NOTHING"
        cursor.executemany(sql, [(1,), (2,), (3,)])

    async def shut(self) -> None:
        await super().shut()
        await self.control.close()

    async def restart(self) -> None:
        """Of the process."""
        await self.shut()
        await self.launch()

    @property
    def filing(self) -> Filing:
        assert self.delivery.filing is not None
        return self.delivery.filing

    async def service(self, form: Form = Form.AUTHZID, password: str = "key") -> None:
        """The domain's server, with the service account."""
        server = HomeServer(Host("127.0.0.1", self.port), TLSPolicy.NONE, "master", form)
        await self.ways.set_server("example.test", 1, server, password)

    async def emergency(self) -> None:
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")

    async def normal(self) -> None:
        """By hand, and everything that is kicked by it begun."""
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")

    async def put(
        self, mailbox: int, name: str, data: bytes, flags: tuple[str, ...] = (), date: float = 1e9, use: str = ""
    ) -> int:
        """A message into a folder here; its UID. A pass that begins meanwhile (the primary is seen) takes it: what it shall meet is told before."""
        tree = self.portal.tree(mailbox)
        if name not in [each.name for each in await tree.folders()]:
            await tree.create(name, use)
        deposit = (await tree.open(name)).append(flags, date)
        await deposit.write(data)
        return int((await deposit.commit()).targets[0])

    def there(self, user: str, name: str) -> list[bytes]:
        """What the primary has, as it is now."""
        folder = self.imap.of(user).get(name) or Folder(0)
        return [each.data for each in folder.kept]

    async def quiet(self) -> None:
        """A pass over the domain that begins after this, and its end."""
        self.filing.kick("example.test")
        await self.until(lambda: not self.filing.busy, "the passes are over", seconds=60)
