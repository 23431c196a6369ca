"""A delivery room on the real queue and the real portal, in a directory that outlives restarts of them."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from hornetmail.compose.rooms.delivery import House, Lines, Stores, delivery_of
from hornetmail.core.failover.mode import Mode
from hornetmail.core.folder import FolderError
from hornetmail.db.pool import Database
from hornetmail.disk.files import Disk
from hornetmail.disk.seal import Seal
from hornetmail.filter.spf import SenderCheck
from hornetmail.net.clients.dial import Dialer
from hornetmail.portal.rows.schema import MIGRATIONS
from hornetmail.portal.store import PortalStore
from hornetmail.spool.start import open_queue
from tests.delivery.world import HOSTNAME, Access, Meters, WorldCase, reactor


class StoresCase(WorldCase):
    """``shut`` and ``launch`` are a restart of the process."""

    async def launch(self) -> None:
        if not hasattr(self, "home"):
            self.home = Path(tempfile.mkdtemp(prefix="hm-delivery-"))
            self.addCleanup(shutil.rmtree, self.home)
        queue: Any = await open_queue(
            reactor,
            self.home / "queue",
            f"sqlite:///{self.home}/queue.db",
            disk=Disk(),
            seal=Seal(b"k" * 32),
            least_free=0.0,
        )
        queue.read_whole, rows = 0, queue.rows

        async def counted(**asked: Any) -> Any:
            queue.read_whole += asked.get("envelopes", True)
            return await rows(**asked)

        queue.rows = counted
        database = await Database.open(reactor, f"sqlite:///{self.home}/portal.db", MIGRATIONS)
        portal: Any = PortalStore(
            reactor, self.home / "portal", Disk(), database, self.bus, self.directory, host=HOSTNAME, boot="one"
        )
        await portal.open()
        self.queue, self.portal, self.database = queue, portal, database
        house: Any = House(reactor, self.directory, Access(), self.bus, Meters())  # type: ignore[arg-type]
        lines = Lines(Dialer(reactor, self.resolver), self.resolver, SenderCheck(reactor, self.resolver), HOSTNAME)
        self.delivery = delivery_of(house, await self.stores(), lines, self.settings)
        await self.delivery.start()

    async def stores(self) -> Stores:
        """What the delivery room stands on."""
        return Stores(self.queue, self.known, self.portal, self.archive)  # type: ignore[arg-type]

    async def shut(self) -> None:
        await self.delivery.stop(0.2)
        await self.portal.close()  # type: ignore[attr-defined]
        await self.database.close()
        await self.queue.close()  # type: ignore[attr-defined]

    async def tearDown(self) -> None:
        await self.shut()
        await super().tearDown()

    async def inbox(self, mailbox: int) -> list[bytes]:
        """What lies there; one that leaves while this looks is there no more."""
        folder = await self.portal.tree(mailbox).open("INBOX")
        there = []
        for entry in await folder.entries():
            with suppress(FolderError):
                there.append(await (await folder.body(entry.uid)).read())
        return there

    async def wait(self, true: Any, what: str) -> None:
        """``until`` for coroutines."""
        give_up = reactor.seconds() + 60
        while not await true():
            assert reactor.seconds() < give_up, f"never: {what}; {[r for _, r in await self.queue.rows(envelopes=False)]}"
            waited: Deferred[None] = Deferred()
            reactor.callLater(0.01, waited.callback, None)
            await waited

    async def until_mode(self, mode: Mode) -> None:
        async def there() -> bool:
            return self.delivery.modes.mode("example.test") is mode

        await self.wait(there, f"{mode} mode")
