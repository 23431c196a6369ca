"""Whatever waits for a primary is gone through in slices: memory has a page of it, and twice as much costs twice the pages (rule 8d)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import Backlog, Message, Portal, Row, RowKind, RowState, WaitsFor
from hornetmail.core.failover.machine import Policy
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Host, Mailbox, PortalOn, Role
from hornetmail.delivery.attempt.ground import Ground
from hornetmail.delivery.home.homeward import Homeward
from hornetmail.delivery.home.uncertain import UncertainTurns
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.outage.waiting import Waiting
from hornetmail.runtime.bus import Bus
from hornetmail.testing.memory_directory import MemoryDirectory
from tests.delivery.world import Meters

NAME = "example.test"
NOW = 1_800_000_000.0
DOWN = Verdict(Outcome.DEFERRED, Reply(451, "4.4.1", "refused"), "primary", Stage.CONNECT, unavailable=True)
FULL = Verdict(Outcome.DEFERRED, Reply(452, "4.2.2", "mailbox full"), "primary", Stage.RCPT, unavailable=True)
MESSAGE = Message(1, 1, Envelope("", ()), Origin(Door.MX), Direction.IN, NOW, 1, b"", b"", NAME)


class ManyRows:
    """A queue of so many rows, none of which exists before somebody asks for it. ``made(number)`` makes one; what was changed is counted."""

    def __init__(self, count: int, made: Callable[[int], Row]) -> None:
        self.count = count
        self.made = made
        self.pages = self.changed = self.most = 0
        self.dues: dict[float, int] = {}

    def backlog(self) -> Backlog:
        return Backlog(self.count, self.count, self.count)

    async def rows(
        self,
        *,
        domain: str,
        states: Collection[RowState],
        kinds: Collection[RowKind],
        message: int,
        mailbox: int,
        limit: int,
        after: int,
        envelopes: bool,
    ) -> Sequence[tuple[Message, Row]]:
        assert not envelopes
        self.pages += 1
        return [(MESSAGE, self.made(number)) for number in range(after + 1, min(after + limit, self.count) + 1)]

    async def change(self, rows: Iterable[int], state: RowState, *, due: float = 0.0, reason: str = "") -> int:
        count = sum(1 for _ in rows)
        self.most = max(self.most, count)
        self.changed += count
        self.dues[due] = self.dues.get(due, 0) + count
        return count


class Said(Notices):
    """Letters that are counted."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def tell_administrators(self, domain: str, subject: str, lines: Sequence[str], about: str) -> None:
        self.lines += lines

    async def tell_person(self, mailbox: Mailbox, subject: str, lines: Sequence[str], about: str, domain: Domain) -> None:
        self.lines += lines


class Primary:
    """It answers."""

    policy = Policy()

    def mode(self, domain: str) -> Mode:
        return Mode.NORMAL

    def answering(self, domain: str) -> float:
        return NOW - 1000


class Nothing:
    """A drain with nothing to do."""

    async def anything(self, domain: str) -> bool:
        return False


class SlicesTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        domain = Domain(NAME, primaries=(Host("mx"),), portal_on=PortalOn.OUTAGE)
        self.directory = MemoryDirectory([domain], [Mailbox(1, f"alice@{NAME}", NAME, roles=(Role.ADMIN,))])
        self.primary: Any = Primary()

    def measured(self, queue: ManyRows, call: Callable[[], Any]) -> int:
        """Bytes that it takes at most."""
        tracemalloc.start()
        try:
            running = Deferred.fromCoroutine(call())
            before = tracemalloc.get_traced_memory()[0]
            while not running.called:
                self.clock.advance(0)
            self.successResultOf(running)
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

    def compared(self, made: Callable[[int], Row], act: Callable[[Any], Any], *, each: int = 0) -> tuple[ManyRows, ManyRows]:
        """With 20,000 rows and 40,000: as many bytes but for ``each`` a row, twice the pages."""
        small, large = ManyRows(20_000, made), ManyRows(40_000, made)
        sizes = [self.measured(queue, act(queue)) for queue in (small, large)]
        assert sizes[1] < sizes[0] * 1.2 + 100_000 + each * 20_000, sizes
        assert sizes[1] < 3_000_000 + each * 40_000, sizes
        assert large.pages <= 2 * small.pages + 1
        assert max(small.most, large.most) <= 500
        return small, large

    def deliver(self, number: int) -> Row:
        row = Row(number, number, RowKind.DELIVER, RowState.QUEUED, f"alice@{NAME}", due=NOW + 1e6, queued=NOW - 5 * 3600)
        return msgspec.structs.replace(row, last=DOWN)

    def copy(self, number: int) -> Row:
        row = msgspec.structs.replace(self.deliver(number), kind=RowKind.DRAIN, portal=Portal(1, "x", True), last=None)
        return msgspec.structs.replace(row, queued=NOW - 3000)

    def test_homeward(self) -> None:
        """Would catch all rows of a domain in one list when its primary comes back; and a pace that is another because of the pages."""

        def act(queue: Any) -> Callable[[], Any]:
            ground = Ground(self.clock, queue, self.directory, self.primary, Bus(self.clock), Meters())  # type: ignore[arg-type]
            homeward = Homeward(ground, Nothing())  # type: ignore[arg-type]
            return lambda: homeward._hurry(NAME)

        _, large = self.compared(self.deliver, act)
        assert large.changed == 40_000
        counts = [large.dues[at] for at in sorted(large.dues)]
        assert counts[:7] == [10, 20, 40, 80, 160, 320, 320]
        assert sorted(large.dues)[:3] == [NOW, NOW + 1, NOW + 2]
        assert sum(counts) == 40_000

    def test_waiting(self) -> None:
        """Would catch all that waits for a full mailbox in one list, every minute; and a notice that tells of the rest only, or of each."""

        def kept(number: int) -> Row:
            return msgspec.structs.replace(self.deliver(number), waits_for=WaitsFor.PRIMARY, last=FULL)

        said: list[Said] = []

        def act(queue: Any) -> Callable[[], Any]:
            said.append(Said())
            return Waiting(self.clock, queue, self.directory, said[-1], 4 * 3600.0).sweep

        self.compared(kept, act)
        assert said[1].lines[0].startswith(f"40000 messages for {NAME} ")
        assert sum(1 for line in said[1].lines if line.startswith("  <")) == 50
        assert any(line.startswith("40000 messages for you") for line in said[1].lines)

    def test_waiting_no_more(self) -> None:
        """The same when the rule is changed back: a million rows by one order."""

        def kept(number: int) -> Row:
            return msgspec.structs.replace(self.deliver(number), waits_for=WaitsFor.PRIMARY, last=FULL)

        def act(queue: Any) -> Callable[[], Any]:
            self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], portal_on=PortalOn.OUTAGE)
            waiting = Waiting(self.clock, queue, self.directory, Said(), 4 * 3600.0)

            async def changed() -> None:
                waiting._patient = frozenset({NAME})
                self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], portal_on=PortalOn.ANY)
                await waiting.sweep()

            return changed

        _, large = self.compared(kept, act)
        assert large.dues == {NOW: 40_000}

    def test_uncertain(self) -> None:
        """The same of uncertain copies, whose turn is looked for every ten seconds: of each no more is kept than two numbers."""

        def act(queue: Any) -> Callable[[], Any]:
            turns = UncertainTurns(self.clock, queue, self.directory, self.primary, Backoff())
            return lambda: turns._look(NAME)

        _, large = self.compared(self.copy, act, each=40)
        assert large.dues == {NOW: 40_000}

    def test_those_ahead(self) -> None:
        """The same of certain ones that are let ahead of them."""

        def mixed(number: int) -> Row:
            row = self.copy(number)
            if number % 2:
                return row
            return msgspec.structs.replace(row, portal=Portal(1, "x"), attempts=1, last=DOWN)

        def act(queue: Any) -> Callable[[], Any]:
            turns = UncertainTurns(self.clock, queue, self.directory, self.primary, Backoff())
            return lambda: turns._look(NAME)

        _, large = self.compared(mixed, act, each=40)
        assert large.dues == {NOW: 20_000}, "the certain ones, once; the others next time"
