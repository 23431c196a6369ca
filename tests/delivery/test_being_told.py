"""Rule 8f in delivery: letters to administrators and people over other paths, and a primary that has fallen silent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hornetmail.core.alarms import AlarmRecord, Stage, Telling
from hornetmail.core.delivery.queued import Message
from hornetmail.core.events import Alarm, AlarmEnded, MessageAccepted, ModeChanged
from hornetmail.core.failover import silence
from hornetmail.core.failover.mode import Mode
from hornetmail.core.served import Domain, Host, Mailbox, Role
from hornetmail.delivery.letters.alarms import AlarmLetters
from hornetmail.delivery.letters.emergencies import Emergencies
from hornetmail.delivery.outage.silence import SPACE, Silence
from hornetmail.disk.files import DiskFull
from tests.delivery.world import HOSTNAME, SLOW_MACHINE, WorldCase, reactor

DAY = 86400.0


class Staying(dict[int, bytes]):
    """Forgets nothing."""

    def pop(self, key: int, default: Any = None) -> Any:
        return self.get(key, default)


class LetterCase(WorldCase):
    settings = SLOW_MACHINE

    async def people(self, **domain: Any) -> None:
        """The administrator and alice have a second address. Texts stay here when their messages leave."""
        await self.build(**domain)
        self.queue.bodies = Staying(self.queue.bodies)
        change = msgspec.structs.replace
        self.directory.registered = [
            change(one, second=f"{one.address.partition('@')[0]}@elsewhere.test") if one.id in (1, 3) else one
            for one in self.directory.registered
        ]
        self.letters = AlarmLetters(self.directory, self.delivery.modes, self.delivery.notices, HOSTNAME, "https://panel.test")

    def said(self, code: str = "disk-full", domain: str = "", stage: Stage = Stage.BEGAN, number: int = 1) -> Any:
        return AlarmRecord(
            number, code, domain or "/", "what happened", reactor.seconds(), reactor.seconds(), domain=domain
        ), stage

    def to(self, address: str) -> list[Message]:
        """Letters of ours to somebody, whether they left already or not."""
        return [one for one in self.queue.requests.values() if one.envelope.recipients[0].address == address]

    def body(self, message: Message) -> str:
        return self.queue.bodies[message.id].decode()


class ToAdministrators(LetterCase):
    async def test_the_usual_address_while_all_is_well(self) -> None:
        """Would catch mail to private addresses for what can be read at work."""
        await self.people()
        await self.until(lambda: self.delivery.health.up(self.directory.served[0]), "the primary is known to be up")
        assert await self.letters.send(1, [self.said()])
        assert len(self.to("admin@example.test")) == 1
        assert not self.to("admin@elsewhere.test")
        assert "Subject: Alarm: A disk is nearly full: /" in self.body(self.to("admin@example.test")[0])

    async def test_another_path_when_the_own_domain_is_down(self) -> None:
        """Would catch an alarm about a mail server that waits in that mail server's queue."""
        await self.people()
        await self.letters.send(1, [self.said("emergency", "example.test")])
        assert len(self.to("admin@elsewhere.test")) == 1
        assert len(self.to("admin@example.test")) == 1
        await self.letters.send(1, [self.said("emergency", "example.test", Stage.ENDED)])
        assert len(self.to("admin@elsewhere.test")) == 2, "who heard of the beginning hears of the end"
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "test")
        await self.letters.send(1, [self.said("disk-full", number=2)])
        assert len(self.to("admin@elsewhere.test")) == 3, "whatever it is about, while own mail is astray"

    async def test_trying_again_repeats_nothing(self) -> None:
        """Would catch a second copy for those who had theirs before the disk was full."""
        await self.people()
        self.directory.registered.append(Mailbox(4, "zoe@example.test", "example.test", roles=(Role.ADMIN,)))
        begin, calls = self.queue.begin, []

        def second_fails(tenant: int, **keywords: Any) -> Any:
            assert keywords == {"own": True}, "from the reserve that is kept for such letters"
            calls.append(tenant)
            if len(calls) == 1:
                raise DiskFull("no room")
            return begin(tenant, **keywords)

        self.patch(self.queue, "begin", second_fails)
        with pytest.raises(DiskFull):
            await self.letters.send(1, [self.said()])
        assert len(self.to("zoe@example.test")) == 1, "one's trouble is not the other's"
        assert await self.letters.send(1, [self.said()])
        assert len(self.to("admin@example.test")) == len(self.to("zoe@example.test")) == 1
        record, _ = self.said()
        await self.letters.send(1, [(msgspec.structs.replace(record, mail=Telling(5.0, True)), Stage.LASTS)])
        assert len(self.to("admin@example.test")) == 2, "a reminder is another letter"

    async def test_many_in_one(self) -> None:
        """A digest must name what it holds and not be a megabyte."""
        await self.people()
        await self.letters.send(1, [self.said("emergency", f"d{number}.test", number=number) for number in range(300)])
        text = self.body(self.to("admin@example.test")[0])
        assert "Subject: 300 alarms: Emergency mode" in text
        assert "And 250 more" in text
        assert len(text) < 20_000

    async def test_nobody(self) -> None:
        """False, so that an administrator who comes later hears of it."""
        await self.people()
        assert not await self.letters.send(7, [self.said()])
        self.directory.registered = [one for one in self.directory.registered if one.id != 3]
        assert not await self.letters.send(1, [self.said()])

    async def test_a_log_in_without_a_domain(self) -> None:
        """The first administrator's address may be of this host, where nobody takes mail: the second one must be enough."""
        await self.people()
        self.directory.registered.append(
            Mailbox(9, "admin@mx.hornet.test", "mx.hornet.test", roles=(Role.ADMIN,), second="admin@far.test")
        )
        addresses = self.letters.addresses(1, [self.said()])
        assert "admin@far.test" in addresses
        assert "admin@mx.hornet.test" not in addresses
        self.directory.registered[-1] = Mailbox(9, "admin@mx.hornet.test", "mx.hornet.test", roles=(Role.ADMIN,))
        assert "admin@mx.hornet.test" not in self.letters.addresses(1, [self.said()]), "nor without a second one"

    async def test_a_log_in_of_a_domain_that_is_gone(self) -> None:
        """Would catch an administrator with an address elsewhere who hears nothing, and one who hears at an address that he replaced."""
        await self.people()
        self.directory.registered += [
            Mailbox(9, "ann@elsewhere.test", "elsewhere.test", roles=(Role.ADMIN,)),
            Mailbox(10, "ben@elsewhere.test", "elsewhere.test", roles=(Role.ADMIN,), second="ben@far.test"),
            Mailbox(11, "cid@example.test", "example.test", roles=(Role.ADMIN,), enabled=False),
        ]
        addresses = self.letters.addresses(1, [self.said()])
        assert addresses["ann@elsewhere.test"] == "", "on behalf of no domain"
        assert "ben@far.test" in addresses
        assert "ben@elsewhere.test" not in addresses
        assert "cid@example.test" not in addresses

    async def test_not_through_the_server_that_is_down(self) -> None:
        """A smarthost that is the primary itself is no other path."""
        await self.people()
        notices, host = self.delivery.notices, self.directory.served[0].primaries[0]
        assert notices.way_out("example.test") == ""
        self.directory.served = [msgspec.structs.replace(self.directory.served[0], smarthost=Host(host.name, 587))]
        assert notices.way_out("example.test") == ""
        self.directory.served = [msgspec.structs.replace(self.directory.served[0], smarthost=Host("relay.test", 587))]
        assert notices.way_out("example.test") == "example.test"


class ToPeople(LetterCase):
    async def emergencies(self, **domain: Any) -> Emergencies:
        await self.people(**domain)
        return self.run_()

    def run_(self) -> Emergencies:
        parts = (self.queue, self.directory, self.delivery.modes, self.delivery.notices, self.bus)
        one = Emergencies(reactor, *parts, ["  imap: mx.hornet.test"])
        one.start()
        return one

    async def test_how_to_get_in_and_what_went_home(self) -> None:
        """Would catch people who hear nothing, or everything twice after a restart, and a number that is not what went home."""
        one = await self.emergencies(tell_people=True)
        try:
            await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "test", "a try")
            await self.until(lambda: self.to("alice@elsewhere.test"), "alice is told")
            assert "mx.hornet.test" in self.body(self.to("alice@elsewhere.test")[0])
            await self.until(lambda: [alarm.code for alarm in self.alarms] == ["emergency"], "the alarm is raised")
            for _ in range(3):
                await self.send("alice@example.test", archive=False)
            await self.until(lambda: len(self.portal.inbox(1)) == 3, "three are in the portal")
            await one.stop()
            one = self.run_()
            ended: list[AlarmEnded] = []
            self.bus.subscribe(AlarmEnded, ended.append)
            await self.delivery.modes.switch("example.test", Mode.NORMAL, "test")
            await self.until(lambda: len(self.to("alice@elsewhere.test")) == 2, "alice is told of the end")
            assert "3 messages went from the emergency server" in self.body(self.to("alice@elsewhere.test")[1])
            assert not self.to("bob@elsewhere.test")
            assert not self.to("")
            await self.until(lambda: ended, "the alarm ends")
            assert "messages went home" in ended[0].why
            assert SPACE not in self.queue.facts
            assert not self.queue.facts.get("emergencies")
        finally:
            await one.stop()

    async def test_only_if_the_domain_wants_it(self) -> None:
        """Private addresses are not written to unasked."""
        one = await self.emergencies()
        try:
            await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "test")
            await self.until(lambda: self.alarms, "the alarm is raised")
            await self.until(lambda: one._outages["example.test"].told, "everybody was told")
            assert not self.to("alice@elsewhere.test")
        finally:
            await one.stop()

    async def test_a_domain_that_was_back_while_we_were_down(self) -> None:
        """An emergency that ended behind our back must still end as an alarm and for the people."""
        one = await self.emergencies(tell_people=True)
        self.bus.publish(ModeChanged("example.test", Mode.EMERGENCY, "test", ""))
        await self.until(lambda: self.to("alice@elsewhere.test"), "alice is told")
        await one.stop()
        one = self.run_()
        try:
            await self.until(lambda: len(self.to("alice@elsewhere.test")) == 2, "alice is told of the end")
            assert one.over("example.test")
            assert one.over("gone.test")
        finally:
            await one.stop()


class Outbound(WorldCase):
    settings = SLOW_MACHINE

    async def setUp(self) -> None:
        await self.build()
        self.directory.served.append(Domain("never.test", primaries=(Host("p.never.test"),)))
        self.now, self.up = 1_800_000_000.0, 0.0
        self.ended: list[AlarmEnded] = []
        self.bus.subscribe(AlarmEnded, self.ended.append)
        self.silence = self.run_()

    def seconds(self) -> float:
        return self.now

    def run_(self) -> Silence:
        clock: Any = self
        one = Silence(clock, self.queue, self.directory, self.bus, lambda: self.up)
        one.start()
        return one

    async def go(self, days: float, *, sending: bool) -> list[Alarm]:
        """Time passes by hours, in which mail goes through the relay or does not; the alarms."""
        self.alarms.clear()
        for _ in range(round(days * 24)):
            self.now += 3600
            self.up += 3600
            if sending:
                self.silence._accepted(MessageAccepted(1, "example.test", True))
            self.silence._accepted(MessageAccepted(1, "example.test"))
            self.silence._accepted(MessageAccepted(1, "never.test"))
            await self.silence.look()
        await self.until(lambda: not self.bus._pending, "the bus is empty")
        return [alarm for alarm in self.alarms if alarm.code == "outbound-silence"]

    async def test_silence(self) -> None:
        """Would catch a primary whose outgoing mail is stuck for days while all its probes answer; an alarm each hour; one that a restart
        forgets; and one for a domain that never sent through us."""
        assert await self.go(20, sending=True) == []
        assert await self.go(5 / 24, sending=False) == []
        [alarm] = await self.go(1, sending=False)
        assert alarm.domain == "example.test"
        assert "longest pause" in alarm.text
        await self.silence.stop()
        self.silence = self.run_()
        assert self.silence.over("example.test") == ""
        [again] = await self.go(1 / 24, sending=False)
        assert again.code == "outbound-silence"
        assert await self.go(1 / 24, sending=True) == []
        assert [one.subject for one in self.ended] == ["example.test"]
        assert self.silence.over("example.test")
        await self.silence.stop()

    async def test_our_own_pauses_are_nobodys_silence(self) -> None:
        """Would catch an alarm after each long stop of ours, or when the clock jumps."""
        await self.go(20, sending=True)
        self.now += 3 * DAY
        assert await self.go(2 / 24, sending=False) == []
        await self.silence.stop()
        self.silence = self.run_()
        assert await self.go(2 / 24, sending=False) == []
        await self.silence.stop()

    async def test_one_that_left(self) -> None:
        """A domain that stopped using the relay for good must not be an alarm for ever."""
        await self.go(20, sending=True)
        assert len(await self.go(10, sending=False)) == 1
        await self.go(silence.DAYS, sending=False)
        assert [one.subject for one in self.ended] == ["example.test"]
        assert not self.queue.facts.get(SPACE)
        await self.silence.stop()
