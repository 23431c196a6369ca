"""The real rooms on stepped ground: one life of a process after the other in one directory, a primary outside of them."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from hornetmail.archive.archive import Archive, ArchiveSettings, Surroundings
from hornetmail.archive.care.terms.retention import RetentionSettings
from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.medium import Medium
from hornetmail.archive.media.roster import Media
from hornetmail.compose.rooms.delivery import Chance, Lines, Stores, delivery_of
from hornetmail.compose.rooms.delivery import House as Shared
from hornetmail.core.delivery.queued import RowState
from hornetmail.core.events import Alarm
from hornetmail.core.failover.mode import Mode
from hornetmail.core.ids import IdSource
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.served import Domain, Host, Mailbox, Role, TLSPolicy
from hornetmail.delivery.outage.health import Pace
from hornetmail.delivery.recipients.store import RecipientDatabase
from hornetmail.delivery.service import Delivery, Settings
from hornetmail.disk.seal import Seal
from hornetmail.filter.spf import SenderCheck
from hornetmail.net.dial import Dialer
from hornetmail.portal.schema import MIGRATIONS as PORTAL
from hornetmail.portal.store import PortalStore
from hornetmail.runtime.bus import Bus
from hornetmail.spool.start import open_queue
from hornetmail.testing.faults.database import SteppedDatabase
from hornetmail.testing.faults.disk import Image, SteppedDisk
from hornetmail.testing.faults.medium import SteppedPlace
from hornetmail.testing.faults.network import Network
from hornetmail.testing.faults.reactor import ProcessDied, SteppedReactor, Stuck
from hornetmail.testing.faults.steps import Ending, Plan, Steps
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.resolver import FakeResolver
from hornetmail.testing.scripted_primary import ScriptedPrimary
from tests.delivery.world import Access, Meters

BEGINNING = 1_710_000_000.0
"""2024-03-09; long before any real clock, so that no file looks settled to the portal."""

HOSTNAME = "mx.hornet.test"
SENDER = "sender@outside.test"
TRACE = b"Received: from outside.test\r\n\tby mx.hornet.test; today\r\n"
ROOT = bytes(range(32))
SETTINGS = Settings(pace=Pace(calm=600.0))
PORT = 2525

WHOLE, PACKED = 20_000, 0
"""Messages that the queue keeps whole in memory: all, and none."""


class House:
    """``disk_of`` a life is what the one before left behind, or what of it was durable. ``unpacked``: of the queue."""

    def __init__(self, template: Path | None, unpacked: int = WHOLE) -> None:
        self.unpacked = unpacked
        self.top = Path(tempfile.mkdtemp(prefix="hm-faults-", dir=_quick()))
        self.home = self.top / "0"
        if template is None:
            self.home.mkdir()
        else:
            shutil.copytree(template, self.home)
        self.network = Network()
        self.primary = ScriptedPrimary(self.network)
        self.primary.port = PORT
        self.directory = MemoryDirectory(
            [Domain("example.test", primaries=(Host("127.0.0.1", PORT),), tls=TLSPolicy.NONE)],
            [
                Mailbox(1, "alice@example.test", "example.test"),
                Mailbox(2, "bob@example.test", "example.test"),
                Mailbox(3, "admin@example.test", "example.test", roles=(Role.ADMIN,)),
            ],
        )
        self.lives = 0
        self.now = BEGINNING
        self.alarms: list[Alarm] = []
        self.notes: list[str] = []
        self.reactor: SteppedReactor
        self.steps: Steps

    # A life

    def awake(self, plan: Plan | None = None, *, counting: bool = False, losing: bool = False) -> None:
        """A new process; nothing is open yet. ``losing``: when it is over, what was not synced will be gone."""
        self.steps = Steps(plan)
        self.steps.counting = counting
        self.lives += 1
        self.reactor = SteppedReactor(self.steps, self.network, self.now)
        losing = losing or (plan is not None and plan.ending is Ending.LOSES)
        self.image = Image(self.home) if losing else None
        self.disk = SteppedDisk(self.reactor, self.image)
        self.foreground: Deferred[Any] | None = None
        self.reactor.cut_off = self._cut_off
        self._closing: list[Callable[[], Awaitable[object]]] = []
        self.boot = f"boot {self.lives}" if self.image is not None else "boot"

    def kill(self) -> int:
        """The process dies now; how many connections were open."""
        connections = len(self.network.open)
        self.steps.dead = True
        self.steps.die()
        return connections

    def _cut_off(self) -> None:
        if self.foreground is not None:
            self.foreground.cancel()

    def run(self, coroutine: Coroutine[Any, Any, Any], seconds: float, what: str) -> Any:
        """Run it in the present life. Raises ProcessDied, Stuck, and what it raises."""
        return self.reactor.run(self._kept(coroutine), seconds, what)

    async def _kept(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        self.foreground = Deferred.fromCoroutine(coroutine)
        return await self.foreground

    async def open(self, *, delivering: bool = True) -> None:
        """All rooms, as ``compose`` opens them."""
        reactor, home = self.reactor, self.home
        self.bus = Bus(reactor)
        self.bus.subscribe(Alarm, self.alarms.append)
        self.queue: Any = await open_queue(
            reactor,
            home / "queue",
            f"sqlite://{home}/queue.db",
            disk=self.disk,
            seal=Seal(b"k" * 32),
            least_free=0.0,
            alarm=lambda code, text: self.bus.publish(Alarm(code, text)),
            open_database=SteppedDatabase.open,
            uptime=reactor.seconds,
            unpacked=self.unpacked,
        )
        self._closing.append(self.queue.close)
        database = await SteppedDatabase.open(reactor, f"sqlite://{home}/portal.db", PORTAL, synchronous="NORMAL")
        self._closing.append(database.close)
        self.portal = PortalStore(
            reactor, home / "portal", self.disk, database, self.bus, self.directory, host=HOSTNAME, boot=self.boot
        )
        await self.portal.open()
        self._closing.append(self.portal.close)
        self.archive = self.new_archive()
        await self.archive.start()
        self._closing.append(self.archive.stop)
        known = await RecipientDatabase.open(
            reactor, f"sqlite://{home}/recipients.db", self.disk, lambda code, text: None, SteppedDatabase.open
        )
        self._closing.append(known.close)
        resolver = FakeResolver()
        chance = Chance(random.Random(self.lives).random, map(str, itertools.count(self.lives * 1000)).__next__)
        self.delivery: Delivery = delivery_of(
            Shared(reactor, self.directory, Access(), self.bus, Meters()),  # type: ignore[arg-type]
            Stores(self.queue, known, self.portal, self.archive),
            Lines(Dialer(reactor, resolver), resolver, SenderCheck(reactor, resolver), HOSTNAME),
            SETTINGS,
            chance,
        )
        if delivering:
            await self.delivery.start()
            self._closing.append(lambda: self.delivery.stop(self.grace))

    grace = 1.5

    def new_archive(self) -> Archive:
        """Not started."""
        return Archive(
            Surroundings(
                self.reactor,
                self.disk,
                IdSource(self.reactor.seconds),
                self.bus,
                uptime=self.reactor.seconds,
                open_database=SteppedDatabase.open,
            ),
            self.home / "archive",
            media=Media([Medium(1, SteppedPlace(DirectoryPlace(self.home / "medium", self.disk), self.reactor))], 1),
            root=ROOT,
            settings=ArchiveSettings(tick_seconds=300.0, retention=RetentionSettings(share=1.0)),
        )

    async def shut(self) -> None:
        """In reverse order, each whatever became of the others (as an AsyncExitStack does); the last error is raised."""
        async with contextlib.AsyncExitStack() as stack:
            for close in self._closing:
                stack.push_async_callback(close)
            self._closing = []

    def over(self) -> None:
        """The process is no more; the next life begins with what it left behind, or with what of it was durable."""
        self.reactor.bury()
        self.now = self.reactor.seconds() + 5.0
        if self.image is not None:
            after = self.top / str(self.lives)
            self._unsynced_is_gone(self.image, after)
            self.image.close()
            self.home = after
        for database in self.reactor.databases:
            database.abandon()
        self.disk.close_all()

    def _unsynced_is_gone(self, image: Image, after: Path) -> None:
        """Databases write by themselves: with ``synchronous=FULL`` what is committed is durable, else what the last checkpoint wrote."""
        image.write(after)
        for stale in after.rglob("*.db*"):
            stale.unlink()
        full = {database.path.name for database in self.reactor.databases if database.durable}
        for path in self.home.rglob("*.db*"):
            base, suffix = path.name.partition(".db")[0] + ".db", path.name.partition(".db")[2]
            if not suffix or (suffix == "-wal" and base in full):
                shutil.copyfile(path, after / path.relative_to(self.home))

    def close(self) -> None:
        """At the end of all."""
        self.reactor.bury()
        for database in self.reactor.databases:
            with contextlib.suppress(Exception):
                database.abandon()
        self.disk.close_all()
        shutil.rmtree(self.top, ignore_errors=True)

    # What people and peers do

    async def pause(self, seconds: float) -> None:
        """Time passes."""
        waited: Deferred[None] = Deferred()
        self.reactor.callLater(seconds, waited.callback, None)
        await waited

    async def until(self, true: Callable[[], Any], seconds: float, what: str) -> bool:
        """Wait for it, looking ever more seldom; whether it came."""
        until = self.reactor.seconds() + seconds
        wait = 0.5
        while not (outcome := true()):
            if self.reactor.seconds() > until:
                return False
            await self.pause(wait)
            wait = min(wait * 1.3, 60.0)
        return bool(outcome)

    def mode(self) -> Mode:
        return self.delivery.modes.mode("example.test")

    def queue_broken(self) -> bool:
        """Whether nothing more could be recorded in the last life."""
        queue = getattr(self, "queue", None)
        return queue is not None and bool(queue.broken)

    def idle(self) -> bool:
        """Nothing is left but what is held, of which somebody was told and has to decide."""
        left = self.queue.backlog().messages
        if left:
            left -= len({row.message for row in self.queue.live.rows.values() if row.state is RowState.HELD})
        return bool(left <= 0)

    async def send(self, mark: str, *recipients: str, size: int = 0) -> None:
        """Accepted, or an exception: then nobody has said 250."""
        data = f"From: {SENDER}\r\nTo: you\r\nMessage-ID: <{mark}@outside.test>\r\nSubject: {mark}\r\n\r\nThe text of {mark}.\r\n".encode()
        data += b"0123456789abcde\r\n" * (size // 17)
        deposit = self.queue.begin(1)
        try:
            await deposit.write(data)
            await deposit.commit(
                Envelope(SENDER, tuple(Recipient(each) for each in recipients)),
                Origin(Door.MX, peer="203.0.113.9", aligned=True),
                Direction.IN,
                TRACE,
                domain="example.test",
                archive=True,
            )
        except BaseException:
            await deposit.abort()
            raise


def _quick() -> str | None:
    """A place in memory, if there is one: nothing here needs a disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def template() -> Path:
    """A house that was opened once, without mail, in a directory that the caller removes."""
    house = House(None)
    house.awake()

    async def first() -> None:
        house.bus = Bus(house.reactor)
        await _threaded(house.reactor, house.new_archive().create)
        await house.open(delivering=False)
        for mailbox in (1, 2, 3):
            await (await house.portal.tree(mailbox).open("INBOX")).entries()
        await house.shut()

    house.run(first(), 600.0, "the first start")
    house.over()
    place = Path(tempfile.mkdtemp(prefix="hm-faults-template-", dir=_quick()))
    shutil.copytree(house.home, place / "home")
    house.close()
    return place / "home"


def _threaded(reactor: SteppedReactor, call: Callable[[], object]) -> Deferred[None]:
    done: Deferred[None] = Deferred()

    def work() -> None:
        call()
        reactor.callFromThread(done.callback, None)

    reactor.callInThread(work)
    return done


__all__ = ["CancelledError", "House", "ProcessDied", "Stuck", "template"]
