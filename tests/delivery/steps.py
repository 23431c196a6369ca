"""A whole delivery room on a clock that tests advance, each of whose awaits can be made to fail: deliveries, failover, archive, an emergency, the way
home. Everything is the real thing but the stores, the lines to the servers, and DNS; so hours of back-off cost nothing.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from hornetmail.compose.rooms.delivery import Chance, House, Lines, Stores, delivery_of
from hornetmail.core.delivery.queued import DONE, Message
from hornetmail.core.events import Alarm
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.mail.spf import SPF, SPFVerdict
from hornetmail.core.served import Domain, Host, Mailbox
from hornetmail.delivery.service import Settings
from hornetmail.net.clients.smtp import Answer, Broken, Timeouts
from hornetmail.runtime.bus import Bus
from hornetmail.testing.destinations import MemoryPortal, StagedArchive
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue
from hornetmail.testing.memory_recipients import MemoryRecipients
from tests.delivery.world import HOSTNAME, MAIL, SENDER, TRACE, Access, Meters

DOMAIN = "example.test"
OUTSIDE = Host("192.0.2.99")


class Fault(OSError):
    """What a step raises."""


class Ending(enum.StrEnum):
    """How a step ends: instead of being done, or after it was done."""

    RAISES = "raises"
    RAISES_AFTER = "raises after"
    CANCELLED = "is cancelled"
    CANCELLED_AFTER = "is cancelled after"
    HANGS = "hangs"
    HANGS_AFTER = "hangs after"


class Stepper:
    """Counts the awaits that go out of the room; the one at ``place`` has that ``ending``."""

    def __init__(self, place: int = -1, ending: Ending = Ending.RAISES) -> None:
        self.place = place
        self.ending = ending
        self.names: list[str] = []
        self.hanging: list[Deferred[None]] = []

    async def step(self, name: str, call: Callable[[], Any]) -> Any:
        self.names.append(name)
        if len(self.names) - 1 != self.place:
            return await call()
        result = await call() if self.ending.value.endswith("after") else None
        if self.ending in (Ending.RAISES, Ending.RAISES_AFTER):
            raise Fault(f"{name} {self.ending}")
        if self.ending in (Ending.CANCELLED, Ending.CANCELLED_AFTER):
            raise CancelledError
        forever: Deferred[None] = Deferred()
        # held: what waits for a Deferred that nobody holds is closed by the garbage collector, some time, and then it does not hang
        self.hanging.append(forever)
        await forever
        return result

    def through(self, target: Any, room: str, *names: str) -> None:
        """These methods go through here."""
        for name in names:
            setattr(target, name, self._wrapped(getattr(target, name), f"{room}.{name}"))

    def _wrapped(self, method: Any, name: str) -> Any:
        async def stepped(*args: Any, **keywords: Any) -> Any:
            return await self.step(name, lambda: method(*args, **keywords))

        return stepped


class Server:
    """The primary, and everybody outside: ``got`` is what was taken, by address, ``at`` when. ``people``: whom it knows when asked; ``up``: it answers; ``takes``: it takes mail then;
    ``dot``: what it says to each text, if that is not
    250; ``mute``: it keeps each text and closes instead of saying so; ``indigestible``: a text that it defers; ``greylists``: seconds for which it does not know a new pair of sender and recipient;
    ``barred``: what it says to a sender."""

    def __init__(self) -> None:
        self.up = True
        self.takes = True
        self.people = {"alice", "bob"}
        self.dot: Reply | None = None
        self.mute = False
        self.indigestible = b""
        self.greylists = 0.0
        self.barred: dict[str, Reply] = {}
        self.greeted: dict[tuple[str, str], float] = {}
        self.offered = 0
        self.last = b""
        self.trouble: dict[str, Reply] = {}
        self.got: dict[str, list[bytes]] = {}
        self.at: dict[str, list[float]] = {}
        self.dialled: list[float] = []

    def says(self, sender: str, address: str, now: float) -> Reply | None:
        """What it has against a recipient, in words of its own if it is that it greylists."""
        new = now - self.greeted.setdefault((sender, address), now) < self.greylists
        return self.trouble.get(address) or (Reply(451, "4.3.0", "please call again") if new else None)


class Line:
    """A connection to it, in the shape of ``SMTPClient``."""

    def __init__(self, host: Host, server: Server, stepper: Stepper, clock: Clock) -> None:
        self.host = host
        self.used = 0
        self.alive = True
        self.extensions = {"8BITMIME": "", "SMTPUTF8": "", "PIPELINING": ""}
        self._server = server
        self._stepper = stepper
        self._clock = clock

    async def send(self, sender: str, recipients: Sequence[Recipient], chunks: AsyncIterator[bytes], **_: Any) -> list[Answer]:
        async def told() -> list[Answer]:
            if not (self._server.up and self._server.takes):
                self.alive = False
                raise Broken(Stage.MAIL, Reply(421, "4.4.2", "going down"))
            trouble = [self._server.says(sender, each.address, self._clock.seconds()) for each in recipients]
            data = b"".join([chunk async for chunk in chunks]) if not all(trouble) else b""
            self._server.offered += 1
            self._server.last = data
            dot = self._server.dot
            if self._server.indigestible and self._server.indigestible in data:
                dot = Reply(451, "4.6.0", "cannot be digested")
            for each, reply in zip(recipients, trouble, strict=True):
                if reply is None and dot is None:
                    self._server.got.setdefault(each.address, []).append(data)
                    self._server.at.setdefault(each.address, []).append(self._clock.seconds())
            if self._server.mute:
                self.alive = False
                raise Broken(Stage.DOT, Reply(421, "4.4.2", "connection lost"), certain=False)
            self.used += 1
            return [
                Answer(Stage.RCPT, reply) if reply is not None else Answer(Stage.DOT, dot or Reply(250, "2.0.0", "ok"))
                for reply in trouble
            ]

        answers: list[Answer] = await self._stepper.step("line.send", told)
        return answers

    async def ask(self, sender: str, address: str) -> Reply:
        if sender in self._server.barred:
            raise Broken(Stage.MAIL, self._server.barred[sender])
        known = address.partition("@")[0] in self._server.people
        return self._server.says(sender, address, self._clock.seconds()) or (
            Reply(250, "2.1.5", "ok") if known else Reply(550, "5.1.1", "unknown")
        )

    async def quit(self) -> None:
        self.alive = False

    def abort(self) -> None:
        self.alive = False

    def on_lost(self, callback: Callable[[], None]) -> None:
        """It never is."""


class Resolver:
    async def mail_hosts(self, domain: str) -> Sequence[Host]:
        return (OUTSIDE,)


class Senders:
    async def spf(self, peer: str, helo: str, sender: str) -> SPFVerdict:
        return SPFVerdict(SPF.PASS, "it may")


class Steps:
    """``build``, then the acts of a play; ``quiet`` advances the clock until nothing waits any more."""

    def __init__(self, stepper: Stepper, settings: Settings | None = None) -> None:
        self.stepper = stepper
        self.clock = Clock()
        self.clock.advance(1_700_000_000.0)
        self.server, self.outside = Server(), Server()
        self.directory = MemoryDirectory(
            [Domain(DOMAIN, primaries=(Host("192.0.2.1"),))],
            [Mailbox(1, f"alice@{DOMAIN}", DOMAIN), Mailbox(2, f"bob@{DOMAIN}", DOMAIN)],
        )
        self.queue = MemoryQueue(self.clock.seconds)
        self.portal = MemoryPortal()
        self.archive = StagedArchive()
        self.bus = Bus(self.clock)
        self.alarms: list[Alarm] = []
        self.bus.subscribe(Alarm, self.alarms.append)
        senders = Senders()
        stepper.through(
            self.queue, "queue", "claim", "claim_rows", "settle", "body", "rows", "remember", "change", "adopt", "queue_copy"
        )
        stepper.through(self.portal, "portal", "deliver", "lock", "unlock", "begin_drain", "end_drain", "received", "returned")
        stepper.through(self.archive, "archive", "stage")
        stepper.through(senders, "senders", "spf")
        begin = self.queue.begin

        def begun(tenant: int, *, own: bool = False) -> Any:
            deposit = begin(tenant, own=own)
            stepper.through(deposit, "deposit", "commit")
            return deposit

        self.queue.begin = begun  # type: ignore[method-assign]
        reactor: Any = self.clock
        house: Any = House(reactor, self.directory, Access(), self.bus, Meters())  # type: ignore[arg-type]
        stores = Stores(self.queue, MemoryRecipients(), self.portal, self.archive)  # type: ignore[arg-type]
        lines = Lines(None, Resolver(), senders, HOSTNAME, self._connect)  # type: ignore[arg-type]
        chosen = settings or Settings(timeouts=Timeouts(dot=60))
        self._build = lambda: delivery_of(house, stores, lines, chosen, Chance(jitter=lambda: 0.5))
        self.delivery = self._build()

    async def _connect(self, dialer: Any, host: Host, **_: Any) -> Line:
        server = self.outside if host == OUTSIDE else self.server
        server.dialled.append(self.clock.seconds())
        if not server.up:
            raise Broken(Stage.CONNECT, Reply(451, "4.4.1", "connection refused"))
        return Line(host, server, self.stepper, self.clock)

    def start(self) -> None:
        self.order(self.delivery.start())
        self.begun = len(self.stepper.names)

    def stop(self) -> None:
        assert not self.queue.read_whole, "delivery reads a hundred thousand envelopes from disk to look at rows"
        stopping = Deferred.fromCoroutine(self.delivery.stop(0.0))
        stopping.addErrback(lambda failure: None)
        for _ in range(30):
            self.clock.advance(1.0)

    def restart(self) -> None:
        """The process ends and comes back."""
        self.stop()
        self.queue.restart()
        self.delivery = self._build()
        self.start()

    def order(self, coroutine: Any) -> bool:
        """An administrator's order; whether it was carried out."""
        outcome: list[Any] = []
        running = Deferred.fromCoroutine(coroutine)
        running.addCallbacks(lambda _: outcome.append(True), lambda _: outcome.append(False))
        self.clock.advance(1.0)
        return bool(outcome and outcome[0])

    def switch(self, mode: Mode) -> None:
        """Until it is done: whoever gives an order sees what came of it."""
        for _ in range(5):
            if self.order(self.delivery.modes.switch(DOMAIN, mode, "admin")):
                return
            if self.mode is not Mode.EMERGENCY and mode is Mode.NORMAL:
                return

    @property
    def mode(self) -> Mode:
        return self.delivery.modes.mode(DOMAIN)

    def send(self, *names: str, archive: bool = True, data: bytes = MAIL, sender: str = SENDER) -> Message:
        return self.queue.take(
            1,
            data,
            Envelope(sender, tuple(Recipient(f"{name}@{DOMAIN}") for name in names)),
            Origin(Door.MX, peer="203.0.113.9", aligned=True),
            Direction.IN,
            TRACE,
            DOMAIN,
            archive,
            "",
            "",
        )

    def pass_by(self, seconds: float, step: float = 1.0) -> None:
        """Time goes by, and everything that is due happens."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(step)

    def unfinished(self) -> list[Any]:
        return [row for row in self.queue.held.values() if row.state not in DONE]

    def quiet(self, seconds: float) -> None:
        """Wait for all to be done, at most so long."""
        end = self.clock.seconds() + seconds

        def busy() -> bool:
            return bool(self.unfinished() or self.mode is not Mode.NORMAL or len(self.delivery.record) or self.portal.copies)

        while self.clock.seconds() < end and busy():
            self.clock.advance(5.0)

    def uncertain(self, address: str) -> bool:
        """Whether a hand-over to it was recorded as one whose end nobody knows (rules 1 and 11)."""
        rows = {row for row, name in self.addresses.items() if name == address}
        return any(
            one.row in rows
            and (
                (one.verdict is not None and one.verdict.outcome is Outcome.UNCERTAIN)
                or (one.drain is not None and one.drain.uncertain)
            )
            for one in self.queue.settled
        )

    addresses: dict[int, str]

    def watch(self) -> None:
        """Remember whose rows there were."""
        self.addresses = {}
        row = self.queue._row

        def kept(each: Any) -> None:
            self.addresses[each.id] = each.address
            row(each)

        self.queue._row = kept  # type: ignore[method-assign]
