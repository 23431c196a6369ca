"""Whose trouble a question is that got no answer: the primary's, or ours for having too many of them. On a clock of the tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Verdict
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Host, Mailbox
from hornetmail.delivery.recipients.accepted import AcceptedRecipients
from hornetmail.delivery.recipients.callforward import Asking, CallForward, Hearers, Patience
from hornetmail.runtime.bus import Bus
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue
from hornetmail.testing.memory_recipients import MemoryRecipients

DOMAIN = "example.test"
LIMITS = Patience(quick=5.0, long=60.0, most=4, late=8, waiting=64)


class Normal:
    """No domain is in an emergency."""

    def mode(self, domain: str) -> Mode:
        return Mode.NORMAL


class Silent:
    """A pool and its one destination: a primary that greets and never answers a question."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.silence: list[Deferred[Reply]] = []

    def destination(self, hosts: Any, tls: Any) -> Silent:
        return self

    async def exchange(self, job: Callable[[Any], Awaitable[Reply]]) -> Reply:
        return await job(self)

    async def ask(self, sender: str, address: str) -> Reply:
        self.asked.append(address)
        answer: Deferred[Reply] = Deferred()
        self.silence.append(answer)
        return await answer


class Turns(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.heard: list[tuple[float, Verdict, bool]] = []
        self.primary = Silent()
        self.known = [f"known{number}@{DOMAIN}" for number in range(90)]
        directory = MemoryDirectory(
            [Domain(DOMAIN, primaries=(Host("192.0.2.1"),))],
            [Mailbox(number, address, DOMAIN) for number, address in enumerate(self.known, 1)],
        )
        clock: Any = self.clock
        self.callforward = CallForward(
            clock,
            MemoryQueue(self.clock.seconds),
            directory,
            Normal(),  # type: ignore[arg-type]
            AcceptedRecipients(clock, MemoryRecipients(), directory),
            Asking(self.primary, lambda: "", LIMITS),  # type: ignore[arg-type]
            Hearers(Bus(clock), self._trouble, lambda domain, address, verdict: None),
        )

    def _trouble(self, domain: str, address: str, verdict: Verdict, *, proven: bool) -> None:
        self.heard.append((self.clock.seconds(), verdict, proven))

    def test_waiting_for_our_own_turns_is_not_theirs(self) -> None:
        """Known recipients whose questions get no turn, or are given up because too many are late, count against the primary; only those
        that it had for ``long`` seconds do."""
        replies: list[Reply] = []
        for address in self.known:
            Deferred.fromCoroutine(self.callforward.verify(address)).addCallback(replies.append)
        assert len(self.heard) == 90 - LIMITS.most - LIMITS.waiting, "no room to wait"
        for _ in range(59):
            self.clock.advance(1.0)
        assert [reply.code for reply in replies] == [250] * 90, "nobody waited for longer than quick"
        crowded = len(self.heard)
        assert crowded > 90 - LIMITS.most - LIMITS.waiting, "young ones were given up while too many were late"
        assert not [verdict for _, verdict, _ in self.heard if verdict.unavailable]
        for _ in range(150):
            self.clock.advance(1.0)
        theirs = [(at, verdict.unavailable, proven) for at, verdict, proven in self.heard if verdict.unavailable]
        assert theirs, "who had the question for a minute and says nothing is not well"
        assert len(theirs) <= 2 * LIMITS.late + LIMITS.most, "two rounds"
        assert all(at >= LIMITS.long and proven for at, _, proven in theirs)
        assert len(self.heard) == 90, "each was told of once"
