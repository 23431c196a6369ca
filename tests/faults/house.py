"""The real rooms on stepped ground: one life of a process after the other in one directory, a primary outside of them."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from hornetmail.access.login import AccessRefused
from hornetmail.archive.archive import Archive, ArchiveSettings, Surroundings
from hornetmail.archive.care.terms.retention import RetentionSettings
from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.medium import Medium
from hornetmail.archive.media.roster import Media
from hornetmail.compose.rooms.alarms import Alarms
from hornetmail.compose.rooms.delivery import Chance, Lines, Stores, delivery_of
from hornetmail.compose.rooms.delivery import House as Shared
from hornetmail.compose.rooms.people import control_database
from hornetmail.compose.rooms.rooms import merge_job, retention_jobs
from hornetmail.compose.rooms.safety import Safety
from hornetmail.core.delivery.pace import Limits
from hornetmail.core.delivery.queued import RowState
from hornetmail.core.events import Alarm, StoreBroken
from hornetmail.core.failover.mode import Mode
from hornetmail.core.ids import IdSource
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.served import Domain, Host, Mailbox, Person, Role, TLSPolicy
from hornetmail.delivery.filing.filing import EVERY_SECONDS
from hornetmail.delivery.home.drain import DrainLimits
from hornetmail.delivery.outage.health import Pace
from hornetmail.delivery.recipients.accepted import RecipientLimits
from hornetmail.delivery.recipients.store import RecipientDatabase
from hornetmail.delivery.service import Delivery, Settings
from hornetmail.delivery.tasks import together
from hornetmail.directory.store import DirectoryStore
from hornetmail.disk.seal import Seal
from hornetmail.filter.spf import SenderCheck
from hornetmail.net.clients.dial import Dialer
from hornetmail.net.serving.listener import PumpFactory
from hornetmail.portal.rows.schema import MIGRATIONS as PORTAL
from hornetmail.portal.store import PortalStore
from hornetmail.runtime.bus import Bus
from hornetmail.runtime.jobs import Jobs
from hornetmail.runtime.timetable import Job, Timetable
from hornetmail.servers.imap.session import ImapSession
from hornetmail.servers.imap.site import ImapPolicy, ImapSite
from hornetmail.servers.pop3 import POP3Policy, POP3Session, POP3Site
from hornetmail.spool.start import open_queue
from hornetmail.testing.faults.database import SteppedDatabase
from hornetmail.testing.faults.disk import Image, SteppedDisk
from hornetmail.testing.faults.medium import SteppedPlace
from hornetmail.testing.faults.network import Network
from hornetmail.testing.faults.reactor import ProcessDied, SteppedReactor, Stuck
from hornetmail.testing.faults.reading import IMAP, POP, Dialling
from hornetmail.testing.faults.steps import Ending, Plan, Steps
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.resolver import FakeResolver
from hornetmail.testing.scripted_primary import ScriptedPrimary
from hornetmail.wire.imap.server.server import ImapServerEngine
from hornetmail.wire.pop3.server import POP3ServerEngine
from tests.delivery.world import Access, Meters
from tests.faults.ground import HOSTNAME, LOOK, SteppedFoundations, prepare

BEGINNING = 1_710_000_000.0
"""2024-03-09; long before any real clock, so that no file looks settled to the portal."""

SENDER = "sender@outside.test"
TRACE = b"Received: from outside.test\r\n\tby mx.hornet.test; today\r\n"
ROOT = bytes(range(32))
SETTINGS = Settings(pace=Pace(calm=600.0), drain=DrainLimits(pace=Limits(first=4.0)))
"""Mail goes home so slowly that people can do something meanwhile."""

SELDOM = Settings(pace=Pace(calm=86_400.0), sweep=86_400.0, recipients=RecipientLimits(tidy=86_400.0))
OTHERS = "Others/"
PORT = 2525
IMAP_PORT = 143
POP_PORT = 110


T = TypeVar("T", bound=IMAP | POP)


class _Everybody(Access):
    """Whose mailbox it is, is let in."""

    def __init__(self, directory: MemoryDirectory) -> None:
        self._directory = directory

    async def login(self, user: str, password: str, door: str, peer: str) -> Person:
        """See IAccess."""
        mailbox = self._directory.mailbox(user)
        if mailbox is None:
            raise AccessRefused("credentials", "no")
        return Person(mailbox.id, mailbox.address, mailbox.tenant, mailbox.roles, (mailbox.address,))


class _Directory(MemoryDirectory):
    """With settings, none of which was made."""

    def setting(self, name: str, default: str, tenant: int = 0) -> str:
        """See DirectoryStore."""
        return default


WHOLE, PACKED = 20_000, 0
"""Messages that the queue keeps whole in memory: all, and none."""


class House:
    """``disk_of`` a life is what the one before left behind, or what of it was durable. ``planned``: jobs that run at their times; then nobody looks
    often at what is well. ``unpacked``: messages that the queue keeps whole in memory."""

    def __init__(self, template: Path | None, unpacked: int = WHOLE) -> None:
        self.unpacked = unpacked
        self.top = Path(tempfile.mkdtemp(prefix="hm-faults-", dir=_quick()))
        self.home = self.top / "0"
        if template is None:
            prepare(self.home)
        else:
            shutil.copytree(template, self.home)
        self.network = Network()
        self.primary = ScriptedPrimary(self.network)
        self.primary.port = PORT
        self.directory = _Directory(
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
        self.broken: list[StoreBroken] = []
        self.base: Any = None
        self.grounds: list[SteppedFoundations] = []
        self.notes: list[str] = []
        self.planned: frozenset[str] = frozenset()
        self.offered: Any = None
        """The primary's IMAP (``filing.Offered``), where it has one."""
        self.shares = False
        """People have folders of others in their mail programs."""
        self.medium_away = False
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
        connections = self.network.dialled()
        self.steps.dead = True
        self.steps.die()
        return connections

    def _cut_off(self) -> None:
        self.network.hang_up()
        if self.foreground is not None:
            self.foreground.cancel()

    def run(self, coroutine: Coroutine[Any, Any, Any], seconds: float, what: str) -> Any:
        """Run it in the present life. Raises ProcessDied, Stuck, and what it raises."""
        return self.reactor.run(self._kept(coroutine), seconds, what)

    async def _kept(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        self.foreground = Deferred.fromCoroutine(coroutine)
        return await self.foreground

    def ground(self, root: Path, *, restoring: bool = False) -> SteppedFoundations:
        """Of a data directory, in this life."""
        base = SteppedFoundations(self.reactor, self.disk, root, restoring=restoring)
        self.grounds.append(base)
        return base

    async def open(self, *, delivering: bool = True) -> None:
        """All rooms, as ``compose`` opens them."""
        reactor, home = self.reactor, self.home
        self.base = base = self.ground(home)
        self._closing.append(base.close)
        self.bus = base.bus
        self.bus.subscribe(Alarm, self.alarms.append)
        self.broken = []
        self.bus.subscribe(StoreBroken, self.broken.append)
        self.control = await control_database(base)
        await base.alarms.open(self.control, lambda name: 1)
        base.at_close(base.alarms.write)
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
        homeward = {} if self.offered is None else await self.offered.stores(self.control, self.directory)
        self.delivery: Delivery = delivery_of(
            Shared(reactor, self.directory, Access(), self.bus, Meters()),  # type: ignore[arg-type]
            Stores(self.queue, known, self.portal, self.archive, **homeward),
            Lines(Dialer(reactor, resolver), resolver, SenderCheck(reactor, resolver), HOSTNAME),
            SELDOM if self.planned else SETTINGS,
            chance,
        )
        if delivering:
            await self.delivery.start()
            self._closing.append(lambda: self.delivery.stop(self.grace))
            self._listen()
            self._look()
        if delivering and self.planned:
            await self._plan()

    grace = 1.5

    def _trees(self, person: Person) -> list[tuple[str, Any]]:
        own = self.portal.tree(person.mailbox)
        return [("", own), (OTHERS, self.portal.shared(person.mailbox, OTHERS))] if self.shares else [("", own)]

    def _listen(self) -> None:
        """The doors through which people read mail."""
        reactor = self.reactor
        access, threads = _Everybody(self.directory), reactor.thread_pool(0, 1, "search")
        site = ImapSite(
            reactor,  # type: ignore[arg-type]
            threads,
            access,
            self._trees,
            self.bus,
            ImapPolicy(plaintext_login=True, starttls=False),
        )
        pop = POP3Site(reactor, access, self.portal)
        doors = (
            (IMAP_PORT, PumpFactory(lambda peer: ImapServerEngine(), lambda peer: ImapSession(site), reactor)),
            (
                POP_PORT,
                PumpFactory(
                    lambda peer: POP3ServerEngine(POP3Policy(hostname=HOSTNAME, starttls=False, plaintext_login=True)),
                    lambda peer: POP3Session(pop),
                    reactor,
                ),
            ),
        )
        ports = [reactor.listenTCP(number, factory.listener) for number, factory in doors]

        async def shut() -> None:
            for port in ports:
                await port.stopListening()
            await together(factory.stop(self.grace) for _, factory in doors)

        self._closing.append(shut)

    def _look(self) -> None:
        """Whoever looks after alarms, and tells the administrator."""
        people: Any = SimpleNamespace(directory=self.directory)
        rooms: Any = SimpleNamespace(queue=self.queue, delivery=self.delivery, portal=self.portal, archive=self.archive)
        alarms = Alarms(self.base, people, rooms)
        alarms.start()
        self._closing.append(alarms.stop)
        looks = [Job("alarms", LOOK, alarms.look, first=1.0)]
        if self.delivery.filing is not None:
            looks.append(Job("home by IMAP", EVERY_SECONDS, self.delivery.filing.sweep, first=EVERY_SECONDS))
        timetable = Timetable(self.reactor, looks)  # type: ignore[arg-type]
        timetable.startService()
        self._closing.append(timetable.stopService)

    async def _plan(self) -> None:
        """Jobs at their times, remembered in ``control.db``."""
        self.settings = await DirectoryStore.open(self.control, self.bus, self.base.ids)
        people: Any = SimpleNamespace(control=self.control, directory=self.settings)
        self.safety = Safety(self.base, people, self.archive)
        jobs = (*retention_jobs(self.archive, self.bus), merge_job(self.archive, self.bus), *self.safety.jobs())
        self.jobs = Jobs(self.reactor, self.settings, self.bus, UTC, [job for job in jobs if job.name in self.planned], 21_600.0)
        await self.jobs.start()
        self._closing.append(self.jobs.stop)

    def book(self) -> tuple[set[tuple[str, str]], list[str]]:
        """Alarms of this life: code and subject of those that are written down, and those that are not."""
        if self.base is None:
            return set(), []
        unwritten = {record.key for record in self.base.alarms._dirty.values()}
        raised = {(alarm.code, alarm.subject or alarm.domain) for alarm in self.alarms}
        return raised - unwritten, sorted(f"{code} {subject}" for code, subject in raised & unwritten)

    async def dial(self, port: int, conversation: T) -> T:
        """Somebody's mail program. Raises ConnectionRefusedError."""
        factory = Dialling(conversation)
        self.network.connect(self.reactor, port, factory, 30.0, delay=0.0, refused=False)
        await factory.made
        return conversation

    def place(self) -> SteppedPlace:
        """The medium's."""
        return SteppedPlace(DirectoryPlace(self.home / "medium", self.disk), self.reactor, lambda: self.medium_away)

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
            media=Media([Medium(1, self.place())], 1),
            root=ROOT,
            settings=ArchiveSettings(tick_seconds=10_000.0 if self.planned else 300.0, retention=RetentionSettings(share=1.0)),
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
        for base in self.grounds:
            base.lock.release()
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
        for base in self.grounds:
            base.lock.release()
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
        data += (b"0123456789abcdef" * 60 + b"\r\n") * (size // 962)
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
