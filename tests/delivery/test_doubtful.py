"""Uncertain copies made in normal mode go home last, once the primary answered again (rule 1)."""

from __future__ import annotations

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import Portal, Row, RowKind, RowState, Settled
from hornetmail.core.failover.machine import Policy
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Host
from hornetmail.delivery.home.uncertain import UncertainTurns
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue
from tests.delivery.world import QUICK, WorldCase

FULL = Verdict(Outcome.DEFERRED, Reply(452, "4.2.2", "mailbox full"), "primary", Stage.RCPT, unavailable=True)


DOWN = Verdict(Outcome.DEFERRED, Reply(451, "4.4.1", "refused"), "primary", Stage.CONNECT, unavailable=True)


class Primary:
    """What ``Modes`` knows of it: ``since`` when it answers; the mode."""

    def __init__(self) -> None:
        self.since = 0.0
        self.now = Mode.NORMAL

    def mode(self, domain: str) -> Mode:
        return self.now

    def answering(self, domain: str) -> float:
        return self.since


class Turn(SynchronousTestCase):
    """The first step of the back-off is 60 s, the clock starts at 1000."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.queue = MemoryQueue(self.clock.seconds)
        self.primary = Primary()
        self.directory = MemoryDirectory([Domain("example.test", primaries=(Host("mx"),), aliases=("alias.test",))], [])
        self.backoff = Backoff()
        self.build()

    def build(self) -> None:
        self.doubtful = UncertainTurns(self.clock, self.queue, self.directory, self.primary, self.backoff)  # type: ignore[arg-type]
        self.successResultOf(Deferred.fromCoroutine(self.doubtful.start()))

    def copy(self, *, uncertain: bool, due: float, address: str = "alice@example.test") -> int:
        """A copy born now; its drain row's ID."""

        async def make() -> int:
            deposit = self.queue.begin(1)
            await deposit.write(b"x")
            message = await deposit.commit(
                Envelope("", (Recipient(address),)), Origin(Door.MX), Direction.IN, b"", domain="example.test", archive=False
            )
            [claim] = await self.queue.claim(self.clock.seconds(), 1, lambda row: 0.0, (RowKind.DELIVER,))
            copy = Portal(1, f"copy-{message.id}", uncertain)
            await self.queue.settle([Settled(claim.rows[0].id, RowState.DELIVERED, None, due, copy)])
            return next(row.id for row in self.queue.all(RowKind.DRAIN) if row.message == message.id)

        made = self.successResultOf(Deferred.fromCoroutine(make()))
        if uncertain:
            self.doubtful.expect("example.test")
        return made

    def doubted(self, address: str = "alice@example.test") -> int:
        return self.copy(uncertain=True, due=self.clock.seconds() + self.backoff.patience(), address=address)

    def is_due(self, row: int) -> bool:
        return self.queue.held[row].due <= self.clock.seconds()

    def change(self, row: int, **fields: object) -> Row:
        changed = self.queue.held[row] = msgspec.structs.replace(self.queue.held[row], **fields)
        return changed

    def pass_by(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)

    def test_one_step_after_it_was_made(self) -> None:
        """A copy that goes the moment the primary answers, while that may still be filing the first one; or five minutes later."""
        row = self.doubted()
        self.pass_by(5)
        self.primary.since = self.clock.seconds()
        self.pass_by(54)
        assert not self.is_due(row)
        self.pass_by(1 + 10)
        assert self.is_due(row)
        assert not self.clock.getDelayedCalls(), "nothing is watched for any more"

    def test_not_before_the_primary_answers(self) -> None:
        """A copy that is offered to a primary which has not answered since, and takes up a time-out each time."""
        row = self.doubted()
        self.pass_by(1800)
        assert not self.is_due(row)
        self.primary.since = self.clock.seconds()
        self.pass_by(10)
        assert self.is_due(row)

    def test_in_the_end_without_an_answer(self) -> None:
        """A copy that waits for ever where nobody hears of the primary: its row comes due by itself."""
        row = self.doubted()
        assert self.queue.held[row].due == 1000 + self.backoff.patience() == 1000 + 3600

    def test_after_the_certain_ones(self) -> None:
        """An uncertain copy before a certain one that waits for its first attempt, or is just being handed over."""
        row = self.doubted(address="alice@alias.test")
        self.pass_by(40)
        certain = self.copy(uncertain=False, due=self.clock.seconds() + 72)
        self.primary.since = self.clock.seconds()
        self.pass_by(72)
        assert not self.is_due(row)
        self.change(certain, state=RowState.CLAIMED, attempts=1, due=self.clock.seconds() + 120)
        self.pass_by(30)
        assert not self.is_due(row)
        self.change(certain, state=RowState.DELIVERED)
        self.pass_by(10)
        assert self.is_due(row)

    def test_not_after_all_that_comes_later(self) -> None:
        """A mailbox that is full for days, and copies that are made all the time, would keep it for ever."""
        full = self.copy(uncertain=False, due=self.clock.seconds() + 3000)
        self.change(full, attempts=7, last=FULL)
        row = self.doubted()
        self.primary.since = self.clock.seconds()
        self.pass_by(62)
        self.copy(uncertain=False, due=self.clock.seconds() + 60)
        self.pass_by(10)
        assert self.is_due(row)

    def test_what_the_outage_kept_waiting_goes_first(self) -> None:
        """Certain copies wait out a long back-off after an outage, and the uncertain one overtakes them; or one that the primary cannot
        digest is tried again and again, and keeps the uncertain one for ever."""
        row = self.doubted()
        stalled = self.copy(uncertain=False, due=self.clock.seconds() + 60)
        self.change(stalled, attempts=6, last=DOWN, due=self.clock.seconds() + 2000)
        self.pass_by(100)
        assert not self.is_due(stalled)
        self.primary.since = self.clock.seconds()
        self.pass_by(10)
        assert self.is_due(stalled)
        assert not self.is_due(row)
        self.change(stalled, attempts=7, last=DOWN, due=self.clock.seconds() + 3600)
        self.pass_by(10)
        assert not self.is_due(stalled)
        assert self.is_due(row)

    def test_other_domains_do_not_matter(self) -> None:
        """A copy of another domain that waits is no reason to wait."""
        self.copy(uncertain=False, due=self.clock.seconds() + 3000, address="x@other.test")
        row = self.doubted()
        self.primary.since = self.clock.seconds()
        self.pass_by(71)
        assert self.is_due(row)

    def test_emergency(self) -> None:
        """In an emergency the portal is the mail server: nothing is offered to the primary until the drain."""
        row = self.doubted()
        self.primary.since = self.clock.seconds()
        self.primary.now = Mode.EMERGENCY
        self.pass_by(120)
        assert not self.is_due(row)

    def test_restart(self) -> None:
        """A copy from before the restart that nobody watches: it would wait out the whole hour."""
        row = self.doubted()
        self.pass_by(30)
        self.successResultOf(Deferred.fromCoroutine(self.doubtful.stop()))
        assert not self.clock.getDelayedCalls()
        self.build()
        self.primary.since = self.clock.seconds()
        self.pass_by(40)
        assert self.is_due(row)

    def test_tried_once_the_backoff_counts(self) -> None:
        """A copy that was tried and deferred is not brought forward over and over."""
        row = self.doubted()
        self.primary.since = self.clock.seconds()
        self.change(row, attempts=1, due=self.clock.seconds() + 900)
        self.pass_by(300)
        assert not self.is_due(row)
        assert not self.clock.getDelayedCalls()


class Joined(WorldCase):
    settings = msgspec.structs.replace(QUICK, backoff=Backoff(first=0.2, ceiling=900), policy=Policy(signs=1000))

    async def test_probes_and_deliveries_tell(self) -> None:
        """The delivery room as a whole: the primary is gone after the final dot, comes back, answers a probe, and gets the certain copy
        first, then the uncertain one; without being heard of it is not dialled for the latter."""
        await self.build()
        self.primary.script.drop = {"DOT"}
        await self.send("alice@example.test", sender="doubtful@outside.test")
        await self.until(lambda: self.portal.inbox(1), "the uncertain copy is in the portal")
        await self.primary.stop()
        self.primary.script.drop = set()
        await self.send("bob@example.test", sender="certain@outside.test")
        await self.until(lambda: self.portal.inbox(2), "the certain one is in the portal")
        await self.until(lambda: any(r.attempts >= 2 for r in self.drains()), "the certain one was tried in vain")
        assert not self.delivery.modes.answering("example.test")
        [doubtful] = [row for row in self.drains() if row.portal is not None and row.portal.uncertain]
        assert not doubtful.attempts
        await self.primary.listen()
        await self.until(lambda: not self.portal.copies, "both went home")
        assert [each.sender for each in self.primary.accepted] == [
            f"{name}@outside.test" for name in ("doubtful", "certain", "doubtful")
        ]
        assert self.delivery.modes.answering("example.test")
