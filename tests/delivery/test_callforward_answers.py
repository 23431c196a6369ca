"""What is said of a recipient, by what is known of it and what its primary answers (C13, C14, rule 4), and how many questions are open. The primary and the clock are
the test's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.events import Alarm
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Stage, Verdict
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Coverage, Domain, Host, Mailbox
from hornetmail.delivery.recipients.accepted import DAY, AcceptedRecipients
from hornetmail.delivery.recipients.callforward import ACCEPT_ALL, LATER, OK, UNKNOWN, Asking, CallForward, Hearers, Patience
from hornetmail.net.clients.smtp import Broken
from hornetmail.runtime.bus import Bus
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue
from hornetmail.testing.memory_recipients import MemoryRecipients

DOMAIN = "example.test"
ALICE, NOBODY = f"alice@{DOMAIN}", f"nobody@{DOMAIN}"
NO_USER = Reply(550, "5.1.1", "no such user")


class Modes:
    def __init__(self) -> None:
        self.now = Mode.NORMAL

    def mode(self, domain: str) -> Mode:
        return self.now


class Primary:
    """A pool and its one destination. ``says``: its answer, or what it raises; None: none comes, until ``silence`` is ended."""

    def __init__(self) -> None:
        self.says: Reply | Exception | None = NO_USER
        self.greets = True
        self.asked: list[str] = []
        self.silence: list[Deferred[Reply]] = []

    def destination(self, hosts: Any, tls: Any) -> Primary:
        return self

    async def exchange(self, job: Callable[[Any], Awaitable[Reply]]) -> Reply:
        if not self.greets:
            await Deferred()
        return await job(self)

    async def ask(self, sender: str, address: str) -> Reply:
        self.asked.append(address)
        if isinstance(self.says, Exception):
            raise self.says
        if self.says is None:
            self.silence.append(Deferred())
            return await self.silence[-1]
        return self.says


class CallForwardCase(TestCase):
    patience = Patience()

    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.clock.advance(1_700_000_000.0)
        self.queue = MemoryQueue(self.clock.seconds)
        self.store = MemoryRecipients()
        self.modes, self.primary, self.bus = Modes(), Primary(), Bus(self.clock)
        self.alarms: list[Alarm] = []
        self.bus.subscribe(Alarm, self.alarms.append)
        self.directory = MemoryDirectory(
            [Domain(DOMAIN, primaries=(Host("192.0.2.1"),)), Domain("portal.test")],
            [Mailbox(1, ALICE, DOMAIN), Mailbox(2, "paula@portal.test", "portal.test")],
        )
        self.accepted = AcceptedRecipients(self.clock, self.store, self.directory)
        self.trouble: list[tuple[str, Verdict, bool]] = []
        self.sick: list[str] = []
        self.made = 0
        self.callforward = self.new()

    def new(self) -> CallForward:
        return CallForward(
            self.clock,
            self.queue,
            self.directory,
            self.modes,  # type: ignore[arg-type]
            self.accepted,
            Asking(self.primary, self.unique, self.patience),  # type: ignore[arg-type]
            Hearers(
                self.bus,
                lambda domain, address, verdict, *, proven: self.trouble.append((address, verdict, proven)),
                lambda domain, address, verdict: self.sick.append(address),
            ),
        )

    def unique(self) -> str:
        self.made += 1
        return f"u{self.made}"

    def change_domain(self, **changes: Any) -> None:
        self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], **changes)

    def said(self, address: str, after: float = 0.0) -> Reply:
        """The answer, if it comes after so many seconds and not earlier."""
        answer = Deferred.fromCoroutine(self.callforward.verify(address))
        if after:
            self.clock.advance(after - 0.01)
            self.assertNoResult(answer)
            self.clock.advance(0.02)
        return self.successResultOf(answer)


class Answers(CallForwardCase):
    def test_the_replies(self) -> None:
        """A door gives them to clients as they are: would catch a code that means something else to them."""
        assert (OK.code, UNKNOWN.code, LATER.code) == (250, 550, 451)
        assert self.patience == Patience(5.0, 60.0, 4, 8, 100, 64, 16, 3600.0)

    def test_without_a_primary(self) -> None:
        """Would catch a relay for everybody, and a domain of the portal's that takes mail for nobody, or for anybody."""
        assert self.said("a@gone.test") == Reply(550, "5.7.1", "not a domain of ours")
        assert self.said("paula@portal.test") is OK
        assert self.said("peter@portal.test") is UNKNOWN
        assert not self.primary.asked

    def test_in_an_emergency(self) -> None:
        """C13: would catch mail for a recipient of the last 90 days that is refused, or for one of earlier that is taken; where not everybody is covered, nobody who
        may be at the primary is refused."""
        self.accepted.learn(NOBODY, delivered=False)
        self.modes.now = Mode.EMERGENCY
        assert self.said(ALICE) is OK
        assert self.said(f"other@{DOMAIN}") is UNKNOWN
        self.clock.advance(90 * DAY)
        assert self.said(NOBODY) is OK
        self.clock.advance(1.0)
        assert self.said(NOBODY) is UNKNOWN
        for changes in ({"coverage": Coverage.PICKED}, {"coverage": Coverage.ALL, "active": False}):
            self.change_domain(**changes)
            assert self.said(NOBODY) is OK
        assert not self.primary.asked

    def test_a_broken_store(self) -> None:
        """Would catch a recipient who is refused for a fault of ours; in normal mode the primary is asked."""
        self.store.broken = OSError("disk")
        self.modes.now = Mode.EMERGENCY
        assert self.said(NOBODY) is LATER
        self.modes.now = Mode.NORMAL
        assert self.said(ALICE) is OK
        assert not self.primary.asked
        assert self.said(NOBODY) == NO_USER
        assert self.primary.asked == [NOBODY]
        assert len(self.flushLoggedErrors(OSError)) >= 2

    def test_from_the_cache(self) -> None:
        """Would catch a question with each mail, or none after a week; and a refusal that is believed for longer than five minutes."""
        self.primary.says = Reply(250, "2.1.5")
        assert self.said(NOBODY) is OK
        self.clock.advance(7 * DAY)
        assert self.said(NOBODY) is OK
        assert len(self.primary.asked) == 1
        self.clock.advance(1.0)
        self.primary.says = Reply(550, "", "who?")
        assert self.said(NOBODY) == Reply(550, "5.1.1", "who?")
        assert self.said(NOBODY) == Reply(550, "5.1.1", "who?")
        assert len(self.primary.asked) == 2
        self.clock.advance(301.0)
        self.primary.says = Reply(551, "5.1.6", "")
        assert self.said(NOBODY) == Reply(551, "5.1.6", "")
        assert self.said(NOBODY) == Reply(550, "5.1.1", UNKNOWN.text), "a text for one that said none"

    def test_learnt(self) -> None:
        """Would catch an answer to a question that counts as delivered mail (L7), or one of a primary that accepts everything that is learnt."""
        self.primary.says = Reply(250, "2.1.5")
        self.said(NOBODY)
        assert not self.store.facts[NOBODY].delivered
        self.callforward._accept_all[DOMAIN] = 1.0
        self.successResultOf(
            Deferred.fromCoroutine(self.callforward._judged(self.directory.served[0], f"x@{DOMAIN}", known=False))
        )
        assert list(self.store.facts) == [NOBODY]

    def test_what_says_nothing_of_the_address(self) -> None:
        """Would catch a known recipient who is put off, or a stranger who is taken, because the primary refuses our question; and a sign of an outage made of it."""
        for says, signs in (
            (Reply(554, "5.7.1", "blocked"), 0),
            (Reply(550, "", "relay not permitted"), 0),
            (Reply(451, "4.3.0", "later"), 1),
            (Broken(Stage.CONNECT, Reply(451, "4.4.1", "refused")), 1),
            (Broken(Stage.LOCAL, Reply(451, "4.3.0", "no sockets")), 1),
        ):
            self.primary.says = says
            for address, expected, known in ((ALICE, OK, True), (NOBODY, LATER, False)):
                self.trouble.clear()
                assert self.said(address) is expected, says
                assert [(one, proven) for one, _, proven in self.trouble] == [(address, known)] * signs
        self.accepted.learn(NOBODY, delivered=False)
        self.clock.advance(30 * DAY)
        assert self.said(NOBODY) is OK
        self.clock.advance(1.0)
        assert self.said(NOBODY) is LATER

    def test_whose_trouble_it_is(self) -> None:
        """Rule 5: would catch our own want of sockets that is held against a primary, and a refused connection that is not."""
        for says, stage, theirs in (
            (Broken(Stage.CONNECT, Reply(421, "4.4.1", "refused")), Stage.CONNECT, True),
            (Broken(Stage.LOCAL, Reply(451, "4.3.0", "no sockets")), Stage.LOCAL, False),
            (Reply(451, "4.3.0", "later"), Stage.RCPT, True),
        ):
            self.trouble.clear()
            self.primary.says = says
            self.said(NOBODY)
            [(_, verdict, _)] = self.trouble
            assert (verdict.stage, verdict.unavailable, verdict.reply.code) == (stage, theirs, 451)

    def test_nobody_waits_long(self) -> None:
        """Would catch a client that waits for longer than 5 s, an answer that is lost though it comes later, and a question for each who wants to know."""
        self.primary.says = None
        assert self.said(NOBODY, 5.0) is LATER
        assert self.said(ALICE, 5.0) is OK
        both = [Deferred.fromCoroutine(self.callforward.verify(NOBODY)) for _ in range(2)]
        both[0].cancel()
        self.failureResultOf(both[0])
        assert self.primary.asked == [NOBODY, ALICE]
        self.primary.silence[0].callback(NO_USER)
        assert self.successResultOf(both[1]) == NO_USER
        assert self.said(NOBODY) == NO_USER
        assert not self.trouble

    def test_silent_for_a_minute(self) -> None:
        """Would catch a primary that had our question for a minute and is not held responsible, or one that was not even reached and is."""
        self.primary.says = None
        self.said(NOBODY, 5.0)
        self.clock.advance(54.9)
        assert not self.trouble
        self.clock.advance(0.2)
        [(_, verdict, _)] = self.trouble
        assert (verdict.unavailable, verdict.reply.code, verdict.stage) == (True, 451, Stage.RCPT)
        self.trouble.clear()
        self.primary.greets = False
        self.said(f"x@{DOMAIN}", 5.0)
        self.clock.advance(60.0)
        [(_, verdict, _)] = self.trouble
        assert not verdict.unavailable
        assert not self.callforward._turns
        assert not self.callforward._late

    def test_stopped(self) -> None:
        """Would catch a stop that waits for a primary which says nothing."""
        self.primary.says = None
        waiting = Deferred.fromCoroutine(self.callforward.verify(NOBODY))
        self.successResultOf(Deferred.fromCoroutine(self.callforward.stop()))
        assert self.successResultOf(waiting) is LATER

    def test_sick(self) -> None:
        """Rule 4: would catch 550 for known recipients of a primary that has lost its directory, and one that nobody hears of."""
        people = [f"known{number}@{DOMAIN}" for number in range(3)]
        for address in people:
            self.accepted.learn(address, delivered=True)
        self.clock.advance(8 * DAY)
        assert [self.said(address).code for address in people] == [550, 550, 451]
        assert self.said(people[2]).enhanced == "4.3.0"
        assert self.sick == [people[2]] * 2


class Turns(CallForwardCase):
    patience = Patience(most=2, late=1, all_late=100, waiting=2)

    def ask(self, *names: str) -> list[Deferred[Reply]]:
        return [Deferred.fromCoroutine(self.callforward.verify(f"{name}@{DOMAIN}")) for name in names]

    def asked(self) -> list[str]:
        return [address.partition("@")[0] for address in self.primary.asked]

    def end(self, place: int) -> None:
        self.primary.silence[place].callback(NO_USER)
        self.clock.advance(0)

    def test_in_turn(self) -> None:
        """Would catch more questions at a time than a primary is to have, one whose turn never comes, and more that wait than there is room for."""
        self.primary.says = None
        self.ask("a", "b", "c", "d", "e")
        assert self.asked() == ["a", "b"]
        assert [address for address, _, _ in self.trouble] == [f"e@{DOMAIN}"]
        self.end(0)
        assert self.asked() == ["a", "b", "c"]
        self.end(1)
        assert self.asked() == ["a", "b", "c", "d"]
        self.ask("f")
        assert len(self.asked()) == 4
        self.end(2)
        self.end(3)
        assert self.asked()[4:] == ["f"]
        self.end(4)
        assert not self.callforward._turns, "nothing is kept of a primary that is not asked"

    def test_late_ones(self) -> None:
        """Would catch questions that are late and keep the young from their turn, more of them than a primary is to have, and turns that are lost with them."""
        self.primary.says = None
        self.ask("a", "b", "c", "d")
        self.clock.advance(5.0)
        self.clock.advance(0)
        assert self.asked() == ["a", "b", "c", "d"], "one is late, the other is given up"
        assert [(address, verdict.unavailable) for address, verdict, _ in self.trouble] == [(f"b@{DOMAIN}", False)]
        self.clock.advance(5.0)
        assert [address for address, _, _ in self.trouble[1:]] == [f"c@{DOMAIN}", f"d@{DOMAIN}"]
        [turns] = self.callforward._turns.values()
        assert (turns.young, turns.late, self.callforward._late) == (0, 1, 1)
        self.ask("e", "f")
        assert self.asked()[4:] == ["e", "f"]
        self.end(0)
        assert (turns.young, turns.late, self.callforward._late) == (2, 0, 0)
        self.clock.advance(5.0)
        assert (turns.young, turns.late, self.callforward._late) == (0, 1, 1)

    def test_late_ones_of_all(self) -> None:
        """Would catch a hundred primaries that hang and use up what all may have."""
        self.callforward.patience = msgspec.structs.replace(self.patience, late=8, all_late=1)
        self.primary.says = None
        self.ask("a", "b")
        self.clock.advance(5.0)
        assert self.callforward._late == 1
        assert len(self.trouble) == 1


class AcceptsAll(CallForwardCase):
    def test(self) -> None:
        """Would catch a primary that takes every address and fills the portal with mail for nobody: once a day an address is asked for that cannot exist; what
        could not be told is asked again after an hour, and a primary that mended its ways is asked for recipients again."""

        def tested() -> int:
            before = len(self.primary.asked)
            self.successResultOf(Deferred.fromCoroutine(self.callforward.test(self.directory.domains())))
            self.clock.advance(0)
            return len(self.primary.asked) - before

        def remembered() -> int:
            return len(self.queue.remembered(ACCEPT_ALL))

        self.primary.says = Reply(451, "4.3.0", "later")
        assert [tested(), tested()] == [1, 0]
        assert self.primary.asked == [f"no-such-user-u1@{DOMAIN}"]
        self.clock.advance(3599.0)
        assert tested() == 0
        self.clock.advance(1.0)
        self.primary.says = Reply(250, "2.1.5")
        assert tested() == 1
        assert self.callforward.accepts_everything(DOMAIN)
        assert ([alarm.code for alarm in self.alarms], remembered()) == (["accept-all"], 1)
        again = self.new()
        again.load()
        assert again.accepts_everything(DOMAIN)
        assert self.said(NOBODY) is UNKNOWN
        assert self.said(ALICE) is OK
        self.change_domain(coverage=Coverage.PICKED)
        assert self.said(NOBODY) is OK
        self.clock.advance(DAY - 1.0)
        assert tested() == 0
        self.clock.advance(1.0)
        assert tested() == 1
        assert len(self.alarms) == 1, "it is known"
        self.clock.advance(DAY)
        self.primary.says = NO_USER
        assert tested() == 1
        assert not self.callforward.accepts_everything(DOMAIN)
        assert remembered() == 0
        self.clock.advance(DAY)
        self.modes.now = Mode.EMERGENCY
        assert [tested(), tested()] == [0, 0]
        self.modes.now = Mode.NORMAL
        assert tested() == 1, "as soon as it is over"
