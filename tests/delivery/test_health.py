"""Health: whom the probes ask, how often, and what they tell (C2, L6, rule 5). No sockets: the clock and the hosts are the test's."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.events import Alarm, DirectoryChanged, HealthChanged, PrimarySeen
from hornetmail.core.failover import machine
from hornetmail.core.failover.verdict import Stage
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Host
from hornetmail.delivery.outage.health import Health, Pace, Watch
from hornetmail.net.clients.smtp import Broken
from hornetmail.runtime.bus import Bus
from hornetmail.testing.memory_directory import MemoryDirectory


class Hosts:
    """Greets for hosts that are up, refuses for those in ``down``, never answers for those in ``silent``."""

    def __init__(self) -> None:
        self.down: set[Host] = set()
        self.silent: set[Host] = set()
        self.dialled: list[Host] = []
        self.reply = Reply(250, "2.1.5")
        self.mail: Reply | None = None
        self.stage = Stage.CONNECT
        self.refusal = Reply(451, "4.4.1", "refused")
        self.open = 0
        self.most = 0

    async def connect(self, dialer: Any, host: Host, **options: Any) -> Any:
        self.dialled.append(host)
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            if host in self.silent:
                await Deferred()
            if host in self.down:
                raise Broken(self.stage, self.refusal)
        finally:
            self.open -= 1
        return self

    async def ask(self, sender: str, address: str) -> Reply:
        if self.mail is not None:
            raise Broken(Stage.MAIL, self.mail)
        return self.reply

    async def quit(self) -> None:
        """All is said."""

    def abort(self) -> None:
        """Nothing is open."""


class HealthCase(TestCase):
    """``self.told``: what the machine would hear; ``self.seen``: primaries seen up; ``self.changed``: those that went up or down."""

    def build(self, domains: list[Domain], alert: set[str] | None = None) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.hosts = Hosts()
        self.told: list[tuple[str, machine.Event]] = []
        self.seen: list[PrimarySeen] = []
        self.changed: list[HealthChanged] = []
        self.directory = MemoryDirectory(domains, [])
        self.alarms: list[Alarm] = []
        self.bus = bus = Bus(self.clock)
        bus.subscribe(PrimarySeen, self.seen.append)
        bus.subscribe(HealthChanged, self.changed.append)
        bus.subscribe(Alarm, self.alarms.append)
        self.strict: set[str] = set()
        self.chance = random.Random(1)
        worried = alert if alert is not None else set()
        self.health = Health(
            self.clock,
            self.directory,
            bus,
            None,
            "mx.hornet.test",
            Watch(
                lambda domain, event: self.told.append((domain, event)),
                lambda domain: domain in worried,
                lambda domain: domain in self.strict,
                self.examples,
            ),
            connect=self.hosts.connect,
            pace=Pace(calm=60, alert=5, patience=8),
            chance=self.chance.random,
        )
        self.addCleanup(self.health.stop)

    async def survey(self, domain: str) -> machine.Surveyed:
        answer = Deferred.fromCoroutine(self.health.survey(domain))
        self.run_for(9)
        return await answer

    async def examples(self, domain: str) -> list[str]:
        return [f"known@{domain}"]

    def run_for(self, seconds: float) -> None:
        """In small steps."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)


ONE = Host("one.test")


class Seen(HealthCase):
    async def test_published_once_a_probe(self) -> None:
        """Mail that waits for a primary is told of late: a primary that comes back is published within one alert pace, with the domains it
        serves, and again at each answered probe (a portal copy made meanwhile by a passing 4xx must not wait for its back-off)."""
        self.build(
            [
                Domain("a.test", primaries=(ONE,)),
                Domain("b.test", primaries=(ONE,)),
                Domain("c.test", primaries=(Host("two.test"),)),
            ]
        )
        self.hosts.down.add(ONE)
        self.health.start()
        self.run_for(10)
        assert not [event for event in self.seen if event.host == str(ONE)]
        self.hosts.down.clear()
        self.run_for(6)
        back = [event for event in self.seen if event.host == str(ONE)]
        assert back
        assert back[0].domains == ("a.test", "b.test")

    async def test_not_published_for_each_connection(self) -> None:
        """An event for each delivery's connection would cost a look at what waits each time."""
        self.build([Domain("a.test", primaries=(ONE,))])
        self.health.start()
        self.run_for(1)
        assert len(self.seen) == 1, "the first probe"
        for _ in range(50):
            self.health.saw(ONE, True, "connected")
        self.clock.advance(0.1)
        assert len(self.seen) == 1
        self.health.saw(ONE, False, "refused")
        self.health.saw(ONE, True, "connected")
        self.clock.advance(0.1)
        assert len(self.seen) == 2


class Places(HealthCase):
    """Who is asked, and when."""

    async def test_once_a_host(self) -> None:
        """A thousand domains on one primary were a thousand connections in one turn of the reactor; each of them hears of the one."""
        names = [f"d{number}.test" for number in range(1000)]
        self.build([Domain(name, primaries=(ONE,)) for name in names])
        self.health.start()
        self.run_for(1)
        assert len(self.hosts.dialled) == 1
        assert {domain for domain, event in self.told if isinstance(event, machine.ProbeAnswered)} == set(names)
        assert len(self.told) == len(names)

    async def test_not_in_step(self) -> None:
        """Many hosts are asked in the same turn, at the start and ever after."""
        self.build([Domain(f"d{number}.test", primaries=(Host(f"h{number}.test"),)) for number in range(500)])
        self.health.start()
        turns = []
        for _ in range(1300):
            before = len(self.hosts.dialled)
            self.clock.advance(0.1)
            turns.append(len(self.hosts.dialled) - before)
        assert len(set(self.hosts.dialled)) == 500
        assert max(turns) <= 25, "5 are the average at the start"
        assert sum(turns[-650:]) >= 500, "and each of them every minute"

    async def test_side_by_side(self) -> None:
        """Hosts that hang use up all sockets: at most 200 at a time."""
        hosts = [Host(f"h{number}.test") for number in range(500)]
        self.build([Domain(f"d{number}.test", primaries=(host,)) for number, host in enumerate(hosts)])
        self.hosts.silent.update(hosts)
        self.health.start()
        self.run_for(60)
        assert 150 < self.hosts.most <= 200
        assert len(set(self.hosts.dialled)) == 500

    async def test_several_hosts(self) -> None:
        """A domain hears of its primary once a round, whatever the number of its hosts; one that answers is enough."""
        two = Host("two.test")
        self.build([Domain("a.test", primaries=(ONE, two))])
        self.hosts.down.add(ONE)
        self.health.start()
        self.run_for(60)
        assert not [event for _, event in self.told if isinstance(event, machine.Trouble)]
        answered = [event for _, event in self.told if isinstance(event, machine.ProbeAnswered)]
        assert {event.host for event in answered} == {str(two)}
        assert len(answered) <= 14, "once in 5 s"
        self.hosts.down.add(two)
        self.told.clear()
        self.run_for(12)
        troubles = [event for _, event in self.told if isinstance(event, machine.Trouble)]
        assert 1 <= len(troubles) <= 3
        assert "one.test" in troubles[-1].text
        assert "two.test" in troubles[-1].text

    async def test_removed_hosts_are_forgotten(self) -> None:
        """What is known of hosts grows for ever as domains come and go."""
        self.build([Domain("a.test", primaries=(ONE,))])
        self.health.start()
        self.run_for(1)
        self.directory.served[:] = [Domain("a.test", primaries=(Host("two.test"),))]
        self.bus.publish(DirectoryChanged(2, frozenset({"a.test"})))
        self.run_for(61)
        assert self.health.host(ONE).up is None
        assert self.health.host(Host("two.test")).up is True
        self.hosts.dialled.clear()
        self.run_for(120)
        assert set(self.hosts.dialled) == {Host("two.test")}

    async def test_strict(self) -> None:
        """An emergency of a primary that greets and takes no mail, or lets nobody in (530), ends after three greetings."""
        self.build([Domain("a.test", primaries=(ONE,))])
        self.strict.add("a.test")
        self.hosts.reply = Reply(452, "4.3.1", "disk full")
        self.health.start()
        self.run_for(1)
        self.hosts.reply = Reply(530, "5.7.57", "client not authenticated")
        self.run_for(66)
        assert len(self.told) > 1
        for _, event in self.told:
            assert isinstance(event, machine.Trouble)
            assert event.probe
        self.hosts.reply = Reply(250, "2.1.5")
        self.run_for(66)
        assert isinstance(self.told[-1][1], machine.ProbeAnswered)

    async def test_a_name_that_is_wrong(self) -> None:
        """A misspelt primary: the machine hears that DNS is down, and the panel shows a code."""
        self.build([Domain("a.test", primaries=(ONE,))])
        self.hosts.down.add(ONE)
        self.hosts.stage, self.hosts.refusal = Stage.RESOLVE, Reply(451, "4.1.2", "one.test has no address")
        self.health.start()
        self.run_for(5)
        [(_, event)] = self.told
        assert isinstance(event, machine.Trouble)
        assert (event.dns, event.nameless) == (True, True)
        assert self.health.host(ONE).reason == "one.test has no address"
        self.hosts.refusal = Reply(451, "4.4.4", "no answer")
        self.run_for(66)
        assert isinstance(self.told[-1][1], machine.Trouble)
        assert not self.told[-1][1].nameless

    async def test_lets_nobody_in(self) -> None:
        """A primary that refuses the session at MAIL (530) is said to take mail, and what is held against it is void."""
        self.build([Domain("a.test", primaries=(ONE,))])
        self.hosts.mail = Reply(530, "5.7.57", "client not authenticated")
        assert (await self.survey("a.test")).own is machine.Own.DEFERS
        self.hosts.mail = Reply(550, "5.7.1", "not from you")
        assert (await self.survey("a.test")).own is machine.Own.TAKES

    async def test_no_sockets(self) -> None:
        """Rule 5: no socket is left here, and the primaries are called down for it; or nobody is told."""
        self.build([Domain("a.test", primaries=(ONE,))])
        self.hosts.stage = Stage.LOCAL
        self.hosts.down.add(ONE)
        self.health.start()
        self.run_for(200)
        assert not self.told
        assert not self.changed
        assert [alarm.code for alarm in self.alarms] == ["no-connections"]
        answer = await self.survey("a.test")
        assert answer.own is machine.Own.UNASKED


class Surveys(HealthCase):
    """Rule 5: whether it is our own network."""

    async def test_the_dead_are_no_witnesses(self) -> None:
        """Sixteen domains whose primaries are long dead were asked first, and failover was off for all."""
        dead = [Host(f"dead{number}.test") for number in range(20)]
        mine, other = Host("mine.test"), Host("other.test")
        served = [Domain(f"d{number}.test", primaries=(host,)) for number, host in enumerate(dead)]
        self.build([*served, Domain("mine.test", primaries=(mine,)), Domain("other.test", primaries=(other,))])
        self.hosts.down.update(dead)
        self.health.start()
        self.run_for(65)
        self.hosts.down.add(mine)
        self.run_for(65)
        answer = await self.survey("mine.test")
        assert answer == machine.Surveyed(1, 0, machine.Own.SILENT)

    async def test_the_dead_of_an_hour_ago_are_none(self) -> None:
        """A primary that was switched off an hour ago is taken for proof that our network is down now."""
        mine, gone = Host("mine.test"), Host("gone.test")
        self.build([Domain("mine.test", primaries=(mine,)), Domain("gone.test", primaries=(gone,))])
        self.health.start()
        self.run_for(65)
        self.hosts.down.add(gone)
        self.run_for(3600)
        self.hosts.down.add(mine)
        self.run_for(65)
        assert await self.survey("mine.test") == machine.Surveyed(0, 0, machine.Own.SILENT)

    async def test_those_that_went_with_it_are(self) -> None:
        """All that were up are gone at once: that is our network, also an hour later, and also if it is so from the start."""
        hosts = [Host(f"h{number}.test") for number in range(5)]
        self.build([Domain(f"d{number}.test", primaries=(host,)) for number, host in enumerate(hosts)])
        self.health.start()
        self.run_for(65)
        self.hosts.down.update(hosts)
        for _ in range(2):
            self.run_for(1800)
            answer = await self.survey("d0.test")
            assert answer == machine.Surveyed(0, 4, machine.Own.SILENT)

    async def test_down_from_the_start(self) -> None:
        """A start without network switches every domain."""
        hosts = [Host(f"h{number}.test") for number in range(5)]
        self.build([Domain(f"d{number}.test", primaries=(host,)) for number, host in enumerate(hosts)])
        self.hosts.down.update(hosts)
        self.health.start()
        self.run_for(65)
        assert (await self.survey("d0.test")).failed == 4

    async def test_many_surveys_ask_once(self) -> None:
        """Hundreds of domains that suspect an outage ask the same sixteen hosts hundreds of times."""
        count = 300
        self.build([Domain(f"d{number}.test", primaries=(Host(f"h{number}.test"),)) for number in range(count)])
        self.health.start()
        self.run_for(65)
        self.hosts.silent.update(Host(f"h{number}.test") for number in range(count))
        self.run_for(2)
        self.hosts.dialled.clear()
        surveys = gatherResults([Deferred.fromCoroutine(self.health.survey(f"d{number}.test")) for number in range(count)])
        self.clock.advance(0.1)
        assert len(self.hosts.dialled) <= count + 32, "each its own primary, and the witnesses once"
        self.run_for(9)
        await surveys

    async def test_our_own_question(self) -> None:
        """What the primary itself does with a known recipient (rule 8c)."""
        self.build([Domain("a.test", primaries=(ONE,))])
        for reply, own in (
            (Reply(250, "2.1.5"), machine.Own.TAKES),
            (Reply(452, "4.2.2", "mailbox full"), machine.Own.TAKES),
            (Reply(450, "4.7.1", "greylisted"), machine.Own.TAKES),
            (Reply(550, "5.7.1", "not from you"), machine.Own.TAKES),
            (Reply(550, "5.1.1", "no such user"), machine.Own.DEFERS),
            (Reply(554, "5.7.1", "Relay access denied"), machine.Own.DEFERS),
            (Reply(452, "4.3.1", "disk full"), machine.Own.DEFERS),
        ):
            self.hosts.reply = reply
            assert (await self.survey("a.test")).own is own, reply
        self.hosts.mail = Reply(452, "4.3.1", "disk full")
        assert (await self.survey("a.test")).own is machine.Own.DEFERS
        self.hosts.mail = Reply(554, "5.7.1", "Client host rejected: Access denied")
        assert (await self.survey("a.test")).own is machine.Own.DEFERS
        self.hosts.mail = Reply(550, "5.7.1", "no empty sender")
        assert (await self.survey("a.test")).own is machine.Own.TAKES
