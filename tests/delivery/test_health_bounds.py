"""Health, to the second: who is asked when, for how long an answer holds, what is published, and what a trial counts (C2, L6, rules 5 and 8c)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from hornetmail.core.events import AlarmEnded
from hornetmail.core.failover import machine
from hornetmail.core.failover.verdict import Stage
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Host
from hornetmail.delivery.outage.health import WITNESSES
from hornetmail.net.clients.smtp import Broken
from tests.delivery.test_health import ONE, HealthCase

TWO = Host("two.test")
BOTH = Domain("a.test", primaries=(ONE, TWO))


class When(HealthCase):
    def probes(self, seconds: float) -> list[float]:
        """How many seconds from now somebody is dialled."""
        began, found = self.clock.seconds(), []
        for _ in range(round(seconds * 10)):
            before = len(self.hosts.dialled)
            self.clock.advance(0.1)
            found += [round(self.clock.seconds() - began, 1)] * (len(self.hosts.dialled) - before)
        return found

    def alone(self, chance: float = 0.5, alert: set[str] | None = None) -> None:
        """One domain on one host, whose first probe is over."""
        self.build([Domain("a.test", primaries=(ONE,))], alert)
        self.health._chance = lambda: chance
        self.health.start()
        self.clock.advance(0.05)
        assert self.hosts.dialled == [ONE]
        self.hosts.dialled.clear()

    def test_calm(self) -> None:
        """Would catch probes that come more or less often than once in 60 s, give or take a tenth."""
        for chance, expected in ((0.0, 54.0), (0.5, 60.0), (1.0, 66.0)):
            self.alone(chance)
            [first] = self.probes(70)
            assert abs(first - expected) < 0.3, chance

    def test_alert(self) -> None:
        """Would catch a host that is asked every minute although a domain on it, or another host of one, is in trouble."""
        worried: set[str] = set()
        self.alone(alert=worried)
        worried.add("a.test")
        self.probes(61)
        assert len(self.probes(20)) == 4
        worried.clear()
        self.probes(10)
        assert not self.probes(40)
        self.build([BOTH, Domain("b.test", primaries=(Host("three.test"),))])
        self.hosts.down.add(TWO)
        self.health.start()
        self.run_for(61)
        self.hosts.dialled.clear()
        self.run_for(20)
        assert 3 <= self.hosts.dialled.count(ONE) <= 5
        assert self.hosts.dialled.count(Host("three.test")) <= 1

    def test_hurry(self) -> None:
        """Would catch a sign of trouble after which nobody asks for a minute, and a probe that signs put off for ever: what is due within 5 s stays."""
        self.alone()
        self.health.hurry("a.test")
        assert abs(self.health.next_probe("a.test") - self.clock.seconds() - 5.0) < 0.01
        for _ in range(3):
            self.clock.advance(1.0)
            self.health.hurry("a.test")
        [due] = self.probes(3)
        assert due <= 2.1
        self.health.hurry("elsewhere.test")
        assert self.health.next_probe("elsewhere.test") == 0.0

    def test_hurry_while_it_is_asked(self) -> None:
        """Would catch a second question beside the one under way."""
        self.alone()
        self.hosts.silent.add(ONE)
        [first] = self.probes(61)
        assert first
        self.health.hurry("a.test")
        assert not self.probes(5)

    def test_the_next_probe_of_all_hosts(self) -> None:
        """Would catch a panel that shows the last probe that is due, not the next."""
        self.build([BOTH])
        chances = iter([0.0, 1.0, *[0.5] * 100])
        self.health._chance = lambda: next(chances)
        self.health.start()
        assert self.health.next_probe("a.test") == self.clock.seconds()
        self.clock.advance(1)
        assert self.health.next_probe("a.test") == self.clock.seconds() + 60

    def test_stopped(self) -> None:
        """Would catch probes that go on after the service stopped: by their time, by a change of the directory, or by a sign."""
        self.alone()
        self.successResultOf(Deferred.fromCoroutine(self.health.stop()))
        self.health._meet()
        self.health.hurry("a.test")
        assert not self.probes(120)
        self.alone()
        self.hosts.silent.add(ONE)
        self.probes(61)
        self.successResultOf(Deferred.fromCoroutine(self.health.stop()))
        self.hosts.dialled.clear()
        assert not self.probes(120), "one was under way"

    def test_not_started(self) -> None:
        """Would catch a start that ends before its probes begin: the directory changes, or a sign comes, and connections are made that nobody stops."""
        self.build([Domain("a.test", primaries=(ONE,))])
        self.health._meet()
        assert not self.probes(61)
        self.successResultOf(Deferred.fromCoroutine(self.health.stop()))

    async def test_a_host_that_says_nothing_has_a_name(self) -> None:
        """Would catch a primary that hangs and is said to be misspelt: whoever reads it looks at DNS."""
        self.alone()
        self.hosts.silent.add(ONE)
        self.probes(75)
        event = self.told[-1][1]
        assert isinstance(event, machine.Trouble)
        assert (event.dns, event.nameless) == (False, False)
        assert not self.health.host(ONE).nameless

    def test_a_host_that_does_not_say_goodbye(self) -> None:
        """Would catch a primary that greets and leaves QUIT unanswered: it is there, and its connection is closed after some seconds."""
        self.alone()
        aborted: list[float] = []

        async def never() -> None:
            await Deferred()

        self.hosts.quit, self.hosts.abort = never, lambda: aborted.append(self.clock.seconds())  # type: ignore[method-assign, assignment]
        self.probes(61)
        assert not aborted
        self.probes(8)
        assert len(aborted) == 1
        assert isinstance(self.told[-1][1], machine.ProbeAnswered)
        assert len(self.told) == 2

    async def test_no_sockets(self) -> None:
        """Would catch an alarm for each probe that cannot be made, none an hour later, or one that is never said to be over, or over and over."""
        ended: list[AlarmEnded] = []
        self.build([Domain("a.test", primaries=(ONE,))])
        self.bus.subscribe(AlarmEnded, ended.append)
        self.hosts.stage = Stage.LOCAL
        self.hosts.down.add(ONE)
        self.health.start()
        self.run_for(850)
        assert len(self.alarms) == 1
        self.run_for(120)
        assert len(self.alarms) == 2
        assert not ended
        self.hosts.down.clear()
        self.run_for(130)
        assert [each.code for each in ended] == ["no-connections"]


class Answers(HealthCase):
    def tell(self) -> list[machine.Event]:
        """What the machine hears of the domain now."""
        self.told.clear()
        self.successResultOf(Deferred.fromCoroutine(self.health._tell_one(BOTH)))
        return [event for _, event in self.told]

    def test_for_how_long_a_host_is_up(self) -> None:
        """Would catch a domain that is said to answer by a host of which nobody has heard for long, or not by one that answered 18 s ago, one patience and two
        alert paces; and one that is called down while one of its hosts may be up."""
        self.build([BOTH])
        self.health.saw(TWO, True, "connected")
        self.health.saw(ONE, False, "refused")
        self.clock.advance(18.0)
        [event] = self.tell()
        assert isinstance(event, machine.ProbeAnswered)
        assert event.host == str(TWO)
        self.clock.advance(0.1)
        assert self.tell() == []
        self.health.saw(TWO, False, "refused too")
        [trouble] = self.tell()
        assert isinstance(trouble, machine.Trouble)
        assert trouble.probe
        assert not trouble.dns
        assert trouble.text == "probe failed: one.test:25: refused; two.test:25: refused too"

    def test_names_that_are_wrong(self) -> None:
        """Would catch trouble with DNS that is said of a domain one of whose hosts was reached, and a wrong name of which only one is wrong."""
        self.build([BOTH])
        for stages, nameless, dns, wrong in (
            ((Stage.RESOLVE, Stage.RESOLVE), (True, True), True, True),
            ((Stage.RESOLVE, Stage.RESOLVE), (True, False), True, False),
            ((Stage.RESOLVE, Stage.CONNECT), (True, False), False, False),
        ):
            for host, stage, name in zip((ONE, TWO), stages, nameless, strict=True):
                self.health.saw(host, False, "no", stage=stage, nameless=name)
            [event] = self.tell()
            assert isinstance(event, machine.Trouble)
            assert (event.dns, event.nameless) == (dns, wrong)

    def test_up(self) -> None:
        """Would catch a panel that says of a primary that it is down while one of its hosts was not asked yet, or that it is up while none is."""
        self.build([BOTH])
        assert self.health.up(BOTH) is None
        assert self.health.up(Domain("none.test")) is None
        self.health.saw(ONE, False, "refused")
        assert self.health.up(BOTH) is None
        self.health.saw(TWO, False, "refused")
        assert self.health.up(BOTH) is False
        self.health.saw(ONE, True, "connected")
        assert self.health.up(BOTH) is True

    def test_what_is_published(self) -> None:
        """Would catch a change of health that nobody hears of, or one that is told again and again; and mail that waits for a primary that is seen up for the
        first time, or after trouble."""
        self.build([Domain("a.test", primaries=(ONE,)), Domain("b.test", primaries=(ONE,))])
        self.health._meet()

        def after(up: bool, **keywords: Any) -> tuple[list[tuple[str, bool]], int]:
            self.changed.clear()
            self.seen.clear()
            self.health.saw(ONE, up, "so it is", **keywords)
            self.bus_turn()
            return [(event.domain, event.up) for event in self.changed], len(self.seen)

        both = ["a.test", "b.test"]
        assert after(True) == ([], 1), "as everybody thought"
        assert after(True) == ([], 0)
        assert after(True, probed=True) == ([], 1)
        assert after(False) == ([(name, False) for name in both], 0)
        since = self.health.host(ONE).since
        self.clock.advance(0.01)
        assert after(False, probed=True) == ([], 0)
        assert (self.health.host(ONE).since, self.health.host(ONE).seen) == (since, self.clock.seconds())
        assert after(True) == ([(name, True) for name in both], 1)
        state = self.health.host(ONE)
        assert (state.since, state.answered, state.stage) == (self.clock.seconds(), self.clock.seconds(), Stage.EHLO)

    def bus_turn(self) -> None:
        self.clock.advance(0)

    def test_a_host_that_nobody_uses(self) -> None:
        """Would catch an event for a host of no domain, a smarthost's or an exchanger's."""
        self.build([BOTH])
        self.health._meet()
        self.health.saw(Host("elsewhere.test"), True, "connected", probed=True)
        self.health.saw(Host("elsewhere.test"), False, "refused")
        self.bus_turn()
        assert not self.seen
        assert not self.changed


class Trials(HealthCase):
    """What the primary is asked for: pairs that it took mail of, then examples."""

    def ask(self, *answers: Any) -> tuple[machine.Own, list[tuple[str, str]]]:
        """What a survey makes of these answers, one a question; and the questions."""
        asked: list[tuple[str, str]] = []
        left = list(answers)

        async def answer(sender: str, address: str) -> Reply:
            asked.append((sender, address))
            now = left.pop(0)
            if isinstance(now, Exception):
                raise now
            return now

        self.hosts.ask = answer  # type: ignore[method-assign]
        found = self.successResultOf(Deferred.fromCoroutine(self.health.survey("a.test")))
        return found.own, asked

    def setUp(self) -> None:
        self.build([Domain("a.test", primaries=(ONE,))])
        self.hosts.alive = True  # type: ignore[attr-defined]

    def test_pairs(self) -> None:
        """Would catch a question for a pair that is older than the last three senders' domains, and one for the first sender of a domain, who may have gone
        bad, instead of the last."""
        for number in range(4):
            self.health.took("a.test", f"s@from{number}.test", "known@a.test")
        self.health.took("a.test", "new@from1.test", "bob@a.test")
        own, asked = self.ask(*[Reply(451, "4.3.0", "later")] * 4)
        assert own is machine.Own.DEFERS
        assert asked == [
            ("s@from2.test", "known@a.test"),
            ("s@from3.test", "known@a.test"),
            ("new@from1.test", "bob@a.test"),
            ("", "known@a.test"),
        ]
        self.directory.served.pop()
        self.health._meet()
        assert not self.health._pairs, "of domains that are gone nothing is kept"

    def test_a_sender_who_is_refused(self) -> None:
        """Would catch a stranger who gets himself refused and so keeps an emergency from ending, or makes one (rule 8c): the next pair is asked for, unless
        the server closed or said that it goes."""
        self.health.took("a.test", "bad@from.test", "known@a.test")
        ok, refused = Reply(250, "2.1.5"), Reply(550, "5.7.1", "not from you")
        assert self.ask(Broken(Stage.MAIL, refused), ok)[0] is machine.Own.TAKES
        own, asked = self.ask(Broken(Stage.MAIL, Reply(421, "4.3.2", "going down")))
        assert (own, len(asked)) == (machine.Own.DEFERS, 1)
        own, asked = self.ask(Broken(Stage.MAIL, Reply(451, "4.7.1", "not now")), Broken(Stage.MAIL, Reply(451)))
        assert (own, len(asked)) == (machine.Own.DEFERS, 2), "the empty sender is believed"
        own, asked = self.ask(Broken(Stage.EHLO, Reply(451, "4.3.0", "later")))
        assert (own, len(asked)) == (machine.Own.DEFERS, 1)
        self.hosts.alive = False  # type: ignore[attr-defined]
        own, asked = self.ask(Broken(Stage.MAIL, Reply(451, "4.7.1", "and closed")))
        assert (own, len(asked)) == (machine.Own.DEFERS, 1)

    def test_the_best_of_several_hosts(self) -> None:
        """Would catch a primary that is called down for its worst host."""
        self.build([BOTH])
        self.hosts.alive = True  # type: ignore[attr-defined]
        self.hosts.down.add(ONE)
        assert self.ask(Reply(250))[0] is machine.Own.TAKES
        assert self.ask(Reply(451, "4.3.0"))[0] is machine.Own.DEFERS
        self.hosts.down.add(TWO)
        assert self.ask()[0] is machine.Own.SILENT
        self.hosts.stage = Stage.LOCAL
        assert self.ask()[0] is machine.Own.UNASKED

    def test_without_a_primary(self) -> None:
        """Would catch a survey of a domain that was removed, or whose primaries were, that fails or dials."""
        self.build([Domain("a.test"), Domain("b.test", primaries=(ONE,))])
        for name in ("a.test", "gone.test"):
            found = self.successResultOf(Deferred.fromCoroutine(self.health.survey(name)))
            assert found == machine.Surveyed(own=machine.Own.UNASKED)
        assert not self.hosts.dialled


class Witnesses(HealthCase):
    def setUp(self) -> None:
        others = [Domain(f"d{number}.test", primaries=(Host(f"h{number}.test"),)) for number in range(20)]
        self.build([Domain("a.test", primaries=(ONE,)), Domain("sibling.test", primaries=(Host("one.test", 2525),)), *others])
        self.health._meet()

    def surveyed(self) -> machine.Surveyed:
        self.hosts.dialled.clear()
        return self.successResultOf(Deferred.fromCoroutine(self.health.survey("a.test")))

    def saw_all(self) -> None:
        for number in range(20):
            self.health.saw(Host(f"h{number}.test"), True, "connected")

    def test_sixteen_of_them(self) -> None:
        """Would catch a survey that asks everybody, or the domain's own host at another port, or one whose answer is a second old."""
        self.saw_all()
        self.clock.advance(1.0)
        found = self.surveyed()
        assert (found.answered, found.failed) == (WITNESSES, 0)
        assert WITNESSES == 16
        assert len(self.hosts.dialled) == WITNESSES + 1
        assert set(self.hosts.dialled) & {Host("one.test", 2525)} == set()

    def test_those_who_were_just_heard_from(self) -> None:
        """Would catch a survey that asks again who answered within the last second; and one that believes what will only be heard, for a clock was put back."""
        self.saw_all()
        self.clock.advance(0.9)
        assert self.surveyed().answered == WITNESSES
        assert self.hosts.dialled == [ONE]
        self.saw_all()
        assert self.surveyed().answered == WITNESSES
        assert self.hosts.dialled == [ONE], "in this moment"
        self.clock.rightNow -= 100.0
        self.health._ranked = (0.0, self.health._ranked[1])
        self.surveyed()
        assert len(self.hosts.dialled) == WITNESSES + 1

    def test_how_lately_they_answered(self) -> None:
        """Would catch a witness that was dead long before the others, and that is taken for proof that our network is down; the bound is ten minutes."""
        self.health.saw(Host("h0.test"), True, "connected")
        self.clock.advance(100.0)
        self.health.saw(Host("h1.test"), True, "connected")
        self.clock.advance(500.0)
        self.health.saw(Host("h2.test"), True, "connected")
        self.hosts.down.update(Host(f"h{number}.test") for number in range(20))
        self.hosts.down.add(ONE)
        self.clock.advance(2.0)
        assert self.surveyed().failed == 3
        self.clock.advance(2.0)
        self.hosts.down.discard(Host("h2.test"))
        assert self.surveyed() == machine.Surveyed(1, 2, machine.Own.SILENT)
        self.clock.advance(2.0)
        assert self.surveyed() == machine.Surveyed(1, 1, machine.Own.SILENT), "the newest is 4 s newer now"
