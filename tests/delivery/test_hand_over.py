"""Which recipients are offered again, to whom, and what each is told, whatever a destination answers (rules 1, 2 and 8a)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Host
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.delivery.couriers.exchange import Load, hand_over
from hornetmail.net.clients.smtp import Answer, Broken

A, B = Host("a.test"), Host("b.test")
TAKEN = Answer(Stage.DOT, Reply(250, "2.0.0", "ok"))
LATER = Answer(Stage.RCPT, Reply(450, "4.2.1", "later"))
FULL_ROUND = Answer(Stage.RCPT, Reply(452, "4.5.3", "too many recipients"))
LATER_ALL = Answer(Stage.DOT, Reply(451, "4.3.0", "later"))
REFUSED = Answer(Stage.RCPT, Reply(550, "5.1.1", "no such user"))
LOST = Answer(Stage.DOT, Reply(421, "4.4.2", "lost"), uncertain=True)


class Scripted:
    """A destination whose exchanges end as the test says; ``asked``: which hosts each was to leave out."""

    def __init__(self, *script: Any, hosts: tuple[Host, ...] = (A, B), unrecorded: Unrecorded | None = None) -> None:
        self.hosts = hosts
        self.unrecorded = unrecorded
        self.script = list(script)
        self.asked: list[set[Host]] = []

    async def exchange(self, job: Any, but: Collection[Host] = ()) -> Any:
        self.asked.append(set(but))
        said = self.script.pop(0)
        if isinstance(said, BaseException):
            raise said
        return said


async def _nothing() -> AsyncIterator[bytes]:
    yield b""


class HandOver(SynchronousTestCase):
    def given(self, destination: Scripted, count: int = 3) -> list[tuple[Outcome, Stage, str]]:
        verdicts: dict[int, Verdict] = {}
        self.tried(destination, count, verdicts)
        assert destination.script == []
        return [(verdicts[row].outcome, verdicts[row].stage, verdicts[row].host) for row in range(10, 10 + count)]

    def tried(self, destination: Any, count: int, verdicts: dict[int, Verdict]) -> None:
        recipients = tuple(Recipient(f"{number}@x.test") for number in range(count))
        load = Load("s@y.test", recipients, tuple(range(10, 10 + count)), _nothing, 10)
        done = Deferred.fromCoroutine(hand_over(destination, load, "primary", verdicts))
        done.addErrback(lambda failure: None if failure.check(RuntimeError) else failure)
        self.successResultOf(done)

    def test_each_gets_its_own(self) -> None:
        """Would catch a recipient who is told another's answer, and a second transaction when nobody is left."""
        there = Scripted((A, [TAKEN, REFUSED, LATER_ALL]))
        assert self.given(there) == [
            (Outcome.DELIVERED, Stage.DOT, str(A)),
            (Outcome.FAILED, Stage.RCPT, str(A)),
            (Outcome.DEFERRED, Stage.DOT, str(A)),
        ]
        assert there.asked == [set()]

    def test_too_many_for_one_transaction(self) -> None:
        """RFC 5321 section 4.5.3.1.10: would catch those beyond a server's limit who wait for the next attempt, and a loop with a server that takes
        nobody and says so of each."""
        there = Scripted((A, [TAKEN, FULL_ROUND, FULL_ROUND]), (A, [TAKEN, FULL_ROUND]), (A, [REFUSED]))
        assert [outcome for outcome, _, _ in self.given(there)] == [Outcome.DELIVERED, Outcome.DELIVERED, Outcome.FAILED]
        assert there.asked == [set(), set(), set()]
        assert [outcome for outcome, _, _ in self.given(Scripted((A, [FULL_ROUND] * 3), hosts=(A,)))] == [Outcome.DEFERRED] * 3

    def test_what_one_host_defers_the_next_may_take(self) -> None:
        """RFC 5321 section 5.1: would catch a second host that is never asked, one that is asked for what the first one took, and a host that is asked twice."""
        there = Scripted((A, [TAKEN, LATER, LATER]), (B, [TAKEN, LATER]))
        assert self.given(there) == [
            (Outcome.DELIVERED, Stage.DOT, str(A)),
            (Outcome.DELIVERED, Stage.DOT, str(B)),
            (Outcome.DEFERRED, Stage.RCPT, str(B)),
        ]
        assert there.asked == [set(), {A}]
        alone = Scripted((A, [LATER] * 3), hosts=(A,))
        assert [outcome for outcome, _, _ in self.given(alone)] == [Outcome.DEFERRED] * 3
        behind_the_dot = Scripted((A, [LATER_ALL, LOST, TAKEN]))
        assert [outcome for outcome, _, _ in self.given(behind_the_dot)] == [
            Outcome.DEFERRED, Outcome.UNCERTAIN, Outcome.DELIVERED,
        ]  # fmt: skip

    def test_the_limit_and_the_next_host(self) -> None:
        """Would catch those who were deferred before the limit was met and whom nobody offers to the next host."""
        there = Scripted((A, [TAKEN, LATER, FULL_ROUND]), (A, [TAKEN]), (B, [TAKEN]))
        assert [host for _, _, host in self.given(there)] == [str(A), str(B), str(A)]
        assert there.asked == [set(), set(), {A}]

    def test_the_next_host_is_away(self) -> None:
        """Would catch an answer that is replaced by a worse one, or a doubt that is not told (rule 1)."""
        away = Broken(Stage.CONNECT, Reply(451, "4.4.1", "refused"))
        assert self.given(Scripted((A, [LATER, TAKEN]), away), 2) == [
            (Outcome.DEFERRED, Stage.RCPT, str(A)),
            (Outcome.DELIVERED, Stage.DOT, str(A)),
        ]
        lost = Broken(Stage.DOT, Reply(421, "4.4.2", "lost"), certain=False)
        assert [each[0] for each in self.given(Scripted((A, [LATER, TAKEN]), lost), 2)] == [Outcome.UNCERTAIN, Outcome.DELIVERED]
        assert [each[:2] for each in self.given(Scripted(away), 2)] == [(Outcome.DEFERRED, Stage.CONNECT)] * 2

    def test_an_error_of_ours_in_between(self) -> None:
        """Rule 8b: would catch a 250 that is forgotten because a later transaction failed, and an old answer that stands for a final dot under way."""
        gate = Unrecorded(Clock())
        verdicts: dict[int, Verdict] = {}
        self.tried(Scripted((A, [TAKEN, LATER, LATER]), RuntimeError("ours"), unrecorded=gate), 3, verdicts)
        assert {row: verdict.outcome for row, verdict in verdicts.items()} == {
            10: Outcome.DELIVERED, 11: Outcome.DEFERRED, 12: Outcome.DEFERRED,
        }  # fmt: skip

        connection: Any = Scripted()

        class Dotted(Scripted):
            async def exchange(self, job: Any, but: Collection[Host] = ()) -> Any:
                if self.asked:
                    await gate.before_dot(connection, (11,))
                return await super().exchange(job, but)

        verdicts.clear()
        self.tried(Dotted((A, [TAKEN, LATER, LATER]), RuntimeError("ours"), unrecorded=gate), 3, verdicts)
        assert sorted(verdicts) == [10, 12]

    def test_others_need_not_wait(self) -> None:
        """Would catch two messages that each hold a connection and wait for the other's to be recorded."""
        told: list[tuple[int, ...]] = []
        gate = Unrecorded(Clock())
        self.patch(gate, "recorded", lambda rows: told.append(tuple(rows)))
        self.given(Scripted((A, [TAKEN, TAKEN]), unrecorded=gate), 2)
        assert told == []
        self.given(Scripted((A, [TAKEN, LATER]), (B, [TAKEN]), unrecorded=gate), 2)
        assert told == [(10, 11)]
