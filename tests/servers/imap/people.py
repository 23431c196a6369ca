"""People of two tenants with folders in the real portal, each with connections to one door."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hornetmail.core.served import Mailbox, Person
from hornetmail.interfaces.folders import IFolderTree
from hornetmail.net.serving.listener import PumpFactory
from hornetmail.servers.imap.session import ImapSession
from hornetmail.servers.imap.site import ImapSite
from hornetmail.testing.folders import MemoryAccess
from hornetmail.wire.imap.server.server import ImapServerEngine
from tests.peers.imap_lines import Lines
from tests.portal.ground import Ground
from tests.servers.imap.door import PLAIN

ALICE, BOB, CAROL, EVE = (f"{name}@example.test" for name in ("alice", "bob", "carol", "eve"))
OTHERS = "Other users/"

Said = tuple[list[bytes], bytes]


def ok(said: Said) -> bool:
    """Whether a command was done."""
    return said[1].startswith(b"OK")


class People(TestCase):
    """Alice, Bob and Carol are people of one tenant, Eve is of another."""

    timeout = 600

    async def start(self) -> None:
        self.ground = Ground("sqlite")
        self.addCleanup(self.ground.clean)
        people = [
            Mailbox(n, who, "example.test", tenant=7 if who == EVE else 1) for n, who in enumerate((ALICE, BOB, CAROL, EVE), 1)
        ]
        self.ground.directory._boxes = {one.id: one for one in people}
        await self.ground.start()
        self.addCleanup(self.ground.stop)
        access = MemoryAccess(dict.fromkeys((ALICE, BOB, CAROL, EVE), "secret"))
        self.site = ImapSite(reactor, reactor.getThreadPool(), access, self.trees, self.ground.bus, PLAIN)
        self.factory = PumpFactory(lambda peer: ImapServerEngine(), lambda peer: ImapSession(self.site), reactor)
        self.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.factory.listener)
        self.addCleanup(self.stop)

    def trees(self, person: Person) -> Sequence[tuple[str, IFolderTree]]:
        portal = self.ground.portal
        return [("", portal.tree(person.mailbox)), (OTHERS, portal.shared(person.mailbox, OTHERS))]

    async def stop(self) -> None:
        await self.port.stopListening()
        await self.factory.stop(0)

    async def talk(self, work: Callable[..., None], *who: str) -> None:
        """Work with a connection each."""

        def run() -> None:
            lines = [Lines(self.port.getHost().port, one, "secret") for one in who]
            try:
                work(*lines)
            finally:
                for one in lines:
                    one.close()

        await deferToThread(run)
