"""Our own letters, one by one: to whom, once for what, on whose behalf, and what they say (rules 3, 6 and 8f). The queue is in memory; modes are the test's."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.alarms import AlarmRecord, Stage
from hornetmail.core.delivery.backoff import DAY, HOUR, Backoff
from hornetmail.core.delivery.queued import Message, Row, RowKind
from hornetmail.core.events import Alarm, AlarmEnded, ModeChanged, QuotaNear, WentHome
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Verdict
from hornetmail.core.failover.verdict import Stage as At
from hornetmail.core.mail.bounce import Bounce
from hornetmail.core.mail.dates import rfc5322_date
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.mail.spf import SPF, SPFVerdict
from hornetmail.core.served import Coverage, Domain, Host, Mailbox, OverQuota, Role
from hornetmail.delivery.letters import quotas
from hornetmail.delivery.letters.alarms import SHOWN, AlarmLetters
from hornetmail.delivery.letters.emergencies import SLICE, Emergencies, Outage
from hornetmail.delivery.letters.notices import Notices
from hornetmail.runtime.bus import Bus
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue

DOMAIN, HOSTNAME = "example.test", "mx.hornet.test"
NOW = 1_700_000_000.0
NO = Verdict(Outcome.FAILED, Reply(550, "5.7.1", "no"), "primary", At.RCPT, "mx.example.test:25")
LATER = Verdict(Outcome.DEFERRED, Reply(451, "4.3.0", "not now"), "primary", At.RCPT)


class Senders:
    """``says``: what SPF makes of everybody."""

    def __init__(self) -> None:
        self.says = SPFVerdict(SPF.PASS, "SPF passes")

    async def spf(self, peer: str, helo: str, sender: str) -> SPFVerdict:
        return self.says


class Modes:
    def __init__(self) -> None:
        self.now: dict[str, Mode] = {}
        self.up: bool | None = True

    def mode(self, domain: str) -> Mode:
        return self.now.get(domain, Mode.NORMAL)

    def explain(self, domain: str) -> dict[str, Any]:
        return {"up": self.up, "reason": "as it was"}


class LettersCase(TestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.clock.advance(NOW)
        self.queue = MemoryQueue(self.clock.seconds)
        self.bus = Bus(self.clock)
        self.alarms: list[Alarm] = []
        self.ended: list[AlarmEnded] = []
        self.bus.subscribe(Alarm, self.alarms.append)
        self.bus.subscribe(AlarmEnded, self.ended.append)
        self.modes, self.senders = Modes(), Senders()
        admin = (Role.ADMIN,)
        self.directory = MemoryDirectory(
            [
                Domain(DOMAIN, primaries=(Host("192.0.2.1"),), tenant=2),
                Domain("other.test", primaries=(Host("192.0.2.2"),), tenant=3),
            ],
            [
                Mailbox(1, f"alice@{DOMAIN}", DOMAIN, 2, second="alice@home.test"),
                Mailbox(2, f"bob@{DOMAIN}", DOMAIN, 2),
                Mailbox(3, f"ann@{DOMAIN}", DOMAIN, 2, roles=admin, second="ann@home.test"),
                Mailbox(4, f"off@{DOMAIN}", DOMAIN, 2, roles=admin, enabled=False, second="off@home.test"),
                Mailbox(5, f"audit@{DOMAIN}", DOMAIN, 2, roles=(Role.AUDITOR,)),
                Mailbox(6, "boss@other.test", "other.test", 3, roles=admin),
            ],
        )
        self.made = 0
        self.notices = Notices(
            self.clock, self.queue, self.directory, self.bus, self.senders, HOSTNAME, self.unique, Backoff()
        )  # fmt: skip

    def unique(self) -> str:
        self.made += 1
        return f"u{self.made}"

    def wait(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def change_domain(self, **changes: Any) -> None:
        self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], **changes)

    def letters(self) -> list[tuple[str, str]]:
        """To whom, and on behalf of which domain, since the last look."""
        found = [(one.envelope.recipients[0].address, one.domain) for one in self.queue.requests.values()]
        self.queue.requests.clear()
        return found

    def text(self, place: int = -1) -> str:
        return self.queue.bodies[list(self.queue.requests.values())[place].id].decode()


class Bounces(LettersCase):
    def message(self, *recipients: Recipient, sender: str = "s@outside.test", **origin: Any) -> tuple[Message, list[Row]]:
        message = self.queue.take(
            2,
            b"Subject: hello\r\n\r\ntext\r\n",
            Envelope(sender, recipients or (Recipient(f"alice@{DOMAIN}"),)),
            Origin(Door.MX, **{"peer": "192.0.2.7", **origin}),
            Direction.IN,
            b"",
            DOMAIN,
            False,
            "",
            "",
        )
        return message, [row for row in self.queue.held.values() if row.message == message.id]

    def failed(self, *recipients: Recipient, worked: float = 0.0, wait: bool = True, **origin: Any) -> tuple[Bounce, str]:
        message, rows = self.message(*recipients, **origin)
        failures = [(msgspec.structs.replace(row, worked=worked), NO) for row in rows]
        return self.wait(self.notices.failed(message, failures, wait=wait))

    def test_what_a_bounce_says(self) -> None:
        """Would catch a bounce that is made twice, goes through the archive, says until when it is tried, or names the wrong recipient's wishes; and one for
        who wanted none."""
        people = (
            Recipient(f"alice@{DOMAIN}", orcpt="rfc822;al@else.test"),
            Recipient(f"bob@{DOMAIN}", ("NEVER",)),
            Recipient(f"carol@{DOMAIN}", ("failure",)),
        )
        message, rows = self.message(*people)
        for _ in range(2):
            assert self.wait(self.notices.failed(message, [(row, NO) for row in rows])) == (Bounce.SEND, "SPF passes")
        [letter] = self.queue.requests.values()
        assert (letter.tenant, letter.domain, letter.direction) == (2, DOMAIN, Direction.OUT)
        assert (letter.envelope.sender, letter.envelope.recipients) == ("", (Recipient("s@outside.test"),))
        assert (letter.origin.door, letter.envelope.eight_bit, letter.envelope.smtputf8) == (Door.NOTICE, False, False)
        assert [row.kind for row in self.queue.held.values() if row.message == letter.id] == [RowKind.DELIVER]
        text = self.text()
        assert f"Final-Recipient: rfc822; alice@{DOMAIN}\r\n" in text
        assert text.count("Original-Recipient") == 1
        assert "Original-Recipient: rfc822;al@else.test" in text
        assert f"carol@{DOMAIN}" in text
        assert f"bob@{DOMAIN}" not in text
        assert "mx.example.test:25 said: 550 5.7.1 no" in text
        assert "tried until" not in text
        assert "Subject: hello" in text

    def test_in_other_letters(self) -> None:
        """Would catch a bounce to, or about, an address in its own letters that a server without SMTPUTF8 is asked to take as if it were ASCII."""
        self.failed(sender="jürgen@outside.test")
        [letter] = self.queue.requests.values()
        assert (letter.envelope.eight_bit, letter.envelope.smtputf8) == (True, True)
        self.queue.requests.clear()
        self.failed(Recipient("jürgen@example.test"))
        [letter] = self.queue.requests.values()
        assert (letter.envelope.eight_bit, letter.envelope.smtputf8) == (True, False)

    def test_to_one_of_ours(self) -> None:
        """Would catch a bounce to somebody here that leaves over a smarthost."""
        self.failed(sender=f"bob@{DOMAIN}", login=f"bob@{DOMAIN}")
        [letter] = self.queue.requests.values()
        assert (letter.direction, letter.domain) == (Direction.IN, DOMAIN)

    def test_nobody_wanted_one(self) -> None:
        """Would catch an empty bounce."""
        assert self.failed(Recipient(f"alice@{DOMAIN}", ("NEVER",)))[0] is Bounce.SEND
        assert not self.queue.requests

    def test_who_may_be_told(self) -> None:
        """Rule 6: would catch a bounce to a forged sender, one that is held in silence, or an alarm for a bounce that nobody wants."""
        self.senders.says = SPFVerdict(SPF.SOFTFAIL, "SPF does not pass")
        assert self.failed()[0] is Bounce.HOLD
        self.clock.advance(0)
        assert [alarm.code for alarm in self.alarms] == ["bounce-held"]
        assert self.failed(sender="")[0] is Bounce.NONE
        assert self.failed(aligned=True)[0] is Bounce.SEND
        assert self.failed(trusted=True)[0] is Bounce.HOLD
        assert self.failed(trusted=True, sender=f"bob@{DOMAIN}")[0] is Bounce.SEND
        self.clock.advance(0)
        assert len(self.alarms) == 2
        assert len(self.queue.requests) == 2

    def test_dns_does_not_answer(self) -> None:
        """Would catch a failure that waits for DNS for ever, or whose sender is never told because DNS was away for a moment; an order does not wait at all."""
        self.senders.says = SPFVerdict(SPF.TEMPERROR, "no DNS")
        most = 5 * DAY + 4 * HOUR
        assert self.failed()[0] is Bounce.LATER
        assert self.failed(worked=most - 1)[0] is Bounce.LATER
        assert not self.alarms
        assert self.failed(worked=most)[0] is Bounce.HOLD
        assert self.failed(wait=False)[0] is Bounce.HOLD
        self.clock.advance(0)
        assert len(self.alarms) == 2
        message, rows = self.message(Recipient(f"alice@{DOMAIN}"), Recipient(f"bob@{DOMAIN}"))
        failures = [(msgspec.structs.replace(row, worked=worked), NO) for row, worked in zip(rows, (0.0, most), strict=True)]
        assert self.wait(self.notices.failed(message, failures))[0] is Bounce.HOLD, "the oldest of them"

    def test_delays(self) -> None:
        """Would catch a delay notice that promises another time than the one at which we give up, goes to who wants none, or is not tried again when DNS was
        away."""
        message, rows = self.message(Recipient(f"alice@{DOMAIN}"), Recipient(f"bob@{DOMAIN}", ("FAILURE",)))
        late = [(msgspec.structs.replace(row, worked=4 * HOUR), LATER) for row in rows]
        assert self.wait(self.notices.delayed(message, late)) is True
        text = self.text()
        assert "Subject: Your message is delayed" in text
        assert f"Will-Retry-Until: {rfc5322_date(NOW + 5 * DAY - 4 * HOUR)}" in text
        assert f"bob@{DOMAIN}" not in text
        over = [(msgspec.structs.replace(rows[0], worked=6 * DAY, id=77), LATER)]
        assert self.wait(self.notices.delayed(message, over)) is True
        assert f"Will-Retry-Until: {rfc5322_date(NOW)}" in self.text()
        self.queue.requests.clear()
        self.senders.says = SPFVerdict(SPF.TEMPERROR, "no DNS")
        assert self.wait(self.notices.delayed(message, late)) is False
        self.senders.says = SPFVerdict(SPF.SOFTFAIL, "no")
        assert self.wait(self.notices.delayed(message, late)) is True
        assert not self.queue.requests


class ToPeople(LettersCase):
    def test_administrators(self) -> None:
        """Would catch a notice to another organisation's administrators, to somebody who may not log in, to who is none, twice a day, or on behalf of the domain
        that is down to an address elsewhere."""
        for _ in range(2):
            self.wait(self.notices.tell_administrators(DOMAIN, "subject", ["text"], "about"))
        assert self.letters() == [(f"ann@{DOMAIN}", DOMAIN), ("ann@home.test", "")]
        self.wait(self.notices.tell_administrators("gone.test", "subject", ["text"], "about"))
        assert self.letters() == [], "of the first tenant"
        self.directory.registered.append(Mailbox(9, "root@other.test", "other.test", 1, roles=(Role.ADMIN,)))
        self.wait(self.notices.tell_administrators("gone.test", "subject", ["text"], "about"))
        assert self.letters() == [("root@other.test", "other.test")]

    def test_once_a_day(self) -> None:
        """Would catch a notice with each sweep, or one that never comes again."""
        tell = lambda: self.wait(self.notices.tell(2, "a@b.test", "subject", ["text"], "about", DOMAIN))  # noqa: E731 - in a loop
        tell()
        self.clock.advance(DAY - NOW % DAY - 1.0)
        tell()
        assert len(self.queue.requests) == 1
        self.clock.advance(1.0)
        tell()
        assert len(self.queue.requests) == 2

    def test_a_person(self) -> None:
        """Would catch a letter to a private address that the domain did not want, or none where it did."""
        alice, bob = self.directory.registered[:2]
        for tells, mailbox, expected in (
            (False, alice, [alice.address]),
            (True, alice, [alice.address, "alice@home.test"]),
            (True, bob, [bob.address]),
        ):
            self.change_domain(tell_people=tells)
            self.wait(self.notices.tell_person(mailbox, "subject", ["text"], "about", self.directory.served[0]))
            assert [address for address, _ in self.letters()] == expected

    def test_of_deferring(self) -> None:
        """Would catch a letter that a domain's postmaster gets although it has administrators, more than three of them, again within the hour, or for a
        domain that is not served."""
        self.directory.registered += [Mailbox(n, f"more{n}@{DOMAIN}", DOMAIN, 2, roles=(Role.ADMIN,)) for n in range(10, 14)]
        tell = self.notices.tell_of_deferring
        self.wait(tell(DOMAIN, "it defers"))
        assert self.letters() == [(f"{name}@{DOMAIN}", DOMAIN) for name in ("ann", "more10", "more11")]
        self.directory.registered.clear()
        for _ in range(2):
            self.wait(tell(DOMAIN, "it defers"))
        assert len(self.queue.requests) == 1
        self.clock.advance(HOUR)
        self.wait(tell(DOMAIN, "it defers"))
        assert self.letters() == [(f"postmaster@{DOMAIN}", DOMAIN)] * 2
        self.wait(tell("gone.test", "it defers"))
        assert self.letters() == []

    def test_the_way_out(self) -> None:
        """Would catch a letter about a server that is down and that waits for just that server."""
        assert self.notices.way_out(DOMAIN) == ""
        assert self.notices.way_out("gone.test") == ""
        self.change_domain(smarthost=Host("192.0.2.1", 587))
        assert self.notices.way_out(DOMAIN) == ""
        self.change_domain(smarthost=Host("relay.test"))
        assert self.notices.way_out(DOMAIN) == DOMAIN


class OfEmergencies(LettersCase):
    def setUp(self) -> None:
        super().setUp()
        self.change_domain(tell_people=True)
        self.one = self.run_()

    def run_(self) -> Emergencies:
        one = Emergencies(
            self.clock, self.queue, self.directory, self.modes, self.notices, self.bus, ["  imap: here"]  # type: ignore[arg-type]
        )  # fmt: skip
        one.start()
        return one

    def turn(self, mode: Mode) -> None:
        self.modes.now[DOMAIN] = mode
        self.bus.publish(ModeChanged(DOMAIN, mode, "test", "a try"))
        self.clock.advance(0)
        self.clock.advance(0)

    def saved(self) -> Outage | None:
        value = self.queue.remembered("emergencies").get(DOMAIN)
        return msgspec.msgpack.decode(value, type=Outage) if value is not None else None

    def to(self) -> list[str]:
        return [address for address, _ in self.letters()]

    def test_who_is_told(self) -> None:
        """Would catch a letter to whoever cannot use the portal, or has no second address, twice when the emergency comes back from draining, or one that says
        nothing of how to get in; and an alarm that says the wrong thing."""
        self.turn(Mode.EMERGENCY)
        assert "  imap: here" in self.text()
        assert self.to() == ["alice@home.test", "ann@home.test"]
        assert self.alarms[-1].text == f"{DOMAIN} is in emergency mode, new mail goes to the portal: a try"
        self.turn(Mode.DRAINING)
        assert self.alarms[-1].text == f"{DOMAIN} is on its way back, mail goes home from the portal: a try"
        self.turn(Mode.EMERGENCY)
        assert self.to() == [], "told already"
        self.turn(Mode.NORMAL)
        assert self.to() == ["alice@home.test", "ann@home.test"]
        self.change_domain(coverage=Coverage.PICKED)
        self.directory.registered[0] = msgspec.structs.replace(self.directory.registered[0], picked=False)
        self.turn(Mode.EMERGENCY)
        assert self.to() == ["ann@home.test"]
        self.turn(Mode.NORMAL)
        self.letters()
        self.change_domain(tell_people=False)
        self.turn(Mode.EMERGENCY)
        assert self.to() == []

    def test_draining_alone_tells_nobody_how_to_get_in(self) -> None:
        """Would catch people who are sent to the emergency server when it is over: the first that is heard of it is the way back."""
        self.turn(Mode.DRAINING)
        assert self.to() == []

    def test_what_went_home(self) -> None:
        """Would catch figures that are not what went home, or another person's, or that a restart forgets; and what a domain's that has none counts."""
        self.turn(Mode.EMERGENCY)
        self.letters()
        for mailbox, home in ((1, True), (1, True), (1, False), (3, True), (2, True)):
            self.bus.publish(WentHome(DOMAIN, mailbox, home))
        self.bus.publish(WentHome("other.test", 6, True))
        self.clock.advance(0)
        assert self.saved() is None
        self.clock.advance(5.0)
        assert self.saved() == Outage(NOW, True, {1: 2, 3: 1, 2: 1}, {1: 1})
        stopping = Deferred.fromCoroutine(self.one.stop())
        self.clock.advance(1.0)
        self.successResultOf(stopping)
        self.one = self.run_()
        assert self.to() == [], "they were told"
        assert self.one.over(DOMAIN) == ""
        self.turn(Mode.NORMAL)
        assert "2 messages went from the emergency server" in self.text(0)
        assert "1 message stay in the inbox" in self.text(0)
        assert "1 message went from the emergency server" in self.text(1)
        assert "stay in the inbox" not in self.text(1)
        assert (
            self.ended[-1].why
            == f"{DOMAIN} is back to normal; 4 messages went home from the portal, 1 message stay there because the primary refused them"
        )
        self.clock.advance(10.0)
        assert self.saved() is None, "and it is over"
        assert self.one.over(DOMAIN) == "the domain is back to normal"

    def test_over(self) -> None:
        """Would catch an alarm that ends while mail is still on its way home, or never."""
        assert self.one.over("gone.test") == "the domain is not served any more"
        assert self.one.over(DOMAIN) == "the domain is back to normal"
        self.turn(Mode.EMERGENCY)
        assert self.one.over(DOMAIN) == ""
        self.turn(Mode.NORMAL)
        assert self.ended[-1].why == f"{DOMAIN} is back to normal; 0 messages went home from the portal"
        assert self.one.over(DOMAIN) == "the domain is back to normal"
        self.turn(Mode.NORMAL)
        assert self.ended[-1].why == f"{DOMAIN} is back to normal; 0 messages went home from the portal", "nobody was told of it"
        self.modes.now[DOMAIN] = Mode.EMERGENCY
        assert self.one.over(DOMAIN) == ""

    def test_after_a_restart(self) -> None:
        """Would catch an emergency that nobody is told of because we were restarted in it, an alarm without its reason, and an emergency that was over behind our
        back and whose alarm lasts."""
        self.modes.now[DOMAIN] = Mode.EMERGENCY
        self.wait(self.queue.remember("emergencies", "other.test", msgspec.msgpack.encode(Outage(NOW - 5.0, True, {6: 2}))))
        self.wait(self.queue.remember("emergencies", "broken.test", b"nonsense"))
        self.run_()
        self.clock.advance(0)
        self.clock.advance(0)
        assert [alarm.text.rpartition(": ")[2] for alarm in self.alarms] == ["as it was"]
        assert [(each.subject, each.why) for each in self.ended] == [
            ("other.test", "other.test is back to normal; 2 messages went home from the portal")
        ]
        assert self.to() == ["alice@home.test", "ann@home.test"]

    def test_many_people(self) -> None:
        """Would catch a domain of thousands that keeps the reactor while its people are told, and somebody who is left out."""
        self.directory.registered = [
            Mailbox(number, f"p{number}@{DOMAIN}", DOMAIN, 2, second=f"p{number}@home.test") for number in range(2 * SLICE + 1)
        ]
        turns = 0
        self.modes.now[DOMAIN] = Mode.EMERGENCY
        self.bus.publish(ModeChanged(DOMAIN, Mode.EMERGENCY, "test", ""))
        while self.clock.calls and len(self.queue.requests) < 2 * SLICE + 1:
            turns += 1
            call = self.clock.calls.pop(0)
            call.func(*call.args, **call.kw)
        assert len(self.to()) == 2 * SLICE + 1
        assert turns >= 2


class OfAlarms(LettersCase):
    def setUp(self) -> None:
        super().setUp()
        self.alarm_letters = AlarmLetters(self.directory, self.modes, self.notices, HOSTNAME, "https://panel.test")  # type: ignore[arg-type]

    def record(self, number: int = 1, code: str = "disk-full", **changes: Any) -> AlarmRecord:
        return msgspec.structs.replace(AlarmRecord(number, code, "/var", "what  happened", NOW, NOW), **changes)

    def subject(self, *said: tuple[AlarmRecord, Stage]) -> tuple[str, str]:
        assert self.wait(self.alarm_letters.send(2, said))
        text = self.text()
        self.queue.requests.clear()
        return text.partition("Subject: ")[2].partition("\r\n")[0], text

    def test_subject_and_text(self) -> None:
        """Would catch a subject that says the opposite, kinds that are not counted, an end without its time and reason, and a count of one."""
        one = self.record(count=1)
        subject, text = self.subject((one, Stage.BEGAN))
        assert subject == "Alarm: A disk is nearly full: /var"
        assert "ALARM: A disk is nearly full (disk-full, /var)\r\n  what happened\r\n  since 2023-11-14 22:13 UTC\r\n" in text
        subject, text = self.subject((self.record(count=2, subject=""), Stage.LASTS))
        assert subject == "Still: A disk is nearly full"
        assert "STILL: A disk is nearly full (disk-full)\r\n" in text
        assert "since 2023-11-14 22:13 UTC, raised 2 times" in text
        subject, text = self.subject((self.record(ended=NOW + 60.0, why="it was emptied"), Stage.ENDED))
        assert subject == "Over: A disk is nearly full: /var"
        assert "from 2023-11-14 22:13 UTC to 2023-11-14 22:14 UTC\r\n  it was emptied" in text
        ended = (self.record(2, ended=NOW), Stage.ENDED)
        assert self.subject(ended, (self.record(3, ended=NOW), Stage.ENDED))[0] == "2 alarms are over: A disk is nearly full"
        assert self.subject(ended, (self.record(3), Stage.BEGAN))[0] == "2 alarms: A disk is nearly full"
        codes = ("disk-full", "emergency", "no-connections", "message-lost")
        three = [(self.record(number, code), Stage.BEGAN) for number, code in enumerate(codes[:3])]
        assert "other kinds" not in self.subject(*three)[0]
        assert "and 1 other kinds" in self.text_of([*three, (self.record(9, codes[3]), Stage.BEGAN)])

    def text_of(self, said: Any) -> str:
        return " ".join(self.subject(*said)[1].split())

    def test_how_many(self) -> None:
        """Would catch a letter of a megabyte, or alarms that it neither shows nor counts."""
        said = [(self.record(number), Stage.BEGAN) for number in range(SHOWN)]
        _, text = self.subject(*said)
        assert text.count("ALARM: ") == SHOWN
        assert "And " not in text
        _, text = self.subject(*said, (self.record(SHOWN), Stage.BEGAN))
        assert text.count("ALARM: ") == SHOWN
        assert "And 1 more" in text

    def addresses(self, *said: tuple[AlarmRecord, Stage]) -> list[str]:
        return list(self.alarm_letters.addresses(2, said))

    def test_second_addresses(self) -> None:
        """Would catch an alarm that waits in the queue of the very server that it is about, and mail to private addresses for nothing."""
        usual, both = [f"ann@{DOMAIN}"], [f"ann@{DOMAIN}", "ann@home.test"]
        assert self.addresses() == usual
        here = (self.record(domain=DOMAIN), Stage.BEGAN)
        there = (self.record(domain="other.test"), Stage.BEGAN)
        assert self.addresses(there) == usual
        assert self.addresses(there, here) == both
        for mode in (Mode.EMERGENCY, Mode.DRAINING):
            self.modes.now[DOMAIN] = mode
            assert self.addresses() == both
        self.modes.now.clear()
        for up, expected in ((None, usual), (False, both), (True, usual)):
            self.modes.up = up
            assert self.addresses() == expected, up
        self.modes.up = False
        self.change_domain(primaries=())
        assert self.addresses() == usual, "the portal is its mail server"
        self.modes.up = True
        self.change_domain(active=False)
        assert self.addresses() == both

    def test_one_that_cannot_be_written(self) -> None:
        """Would catch an administrator who hears nothing because the letter to another failed, and a failure that is not tried again."""
        self.modes.now[DOMAIN] = Mode.EMERGENCY
        letter = self.notices.letter

        async def failing(tenant: int, address: str, *rest: Any) -> None:
            if address == f"ann@{DOMAIN}":
                raise OSError("disk full")
            await letter(tenant, address, *rest)

        self.notices.letter = failing  # type: ignore[method-assign]
        said = [(self.record(), Stage.BEGAN)]
        self.failureResultOf(Deferred.fromCoroutine(self.alarm_letters.send(2, said)), OSError)
        assert self.letters() == [("ann@home.test", "")]


class OfQuotas(TestCase):
    def test_what_it_says(self) -> None:
        """Would catch a letter that tells of limits that there are not, or of another fate of the mail that comes when it is full."""
        owner = Mailbox(1, f"alice@{DOMAIN}", DOMAIN)
        event = QuotaNear(1, 90_000_000, 9, 0.0)

        def said(domain: Domain | None, **quota: int) -> str:
            return " ".join(quotas._lines(event, msgspec.structs.replace(owner, **quota), domain))

        away = Domain(DOMAIN, primaries=(Host("192.0.2.1"),))
        here, refusing = Domain(DOMAIN), Domain(DOMAIN, over_quota=OverQuota.REFUSE)
        assert "holds 90 of 100 MB." in said(away, quota_bytes=100_000_000)
        assert "holds 9 of 10 messages." in said(away, quota_messages=10)
        assert "holds 90 of 100 MB and 9 of 10 messages." in said(away, quota_bytes=100_000_000, quota_messages=10)
        assert "holds more than it may." in said(away)
        fates = ("taken all the same", "mail for you waits", "goes back to its senders.")
        for domain, fate in ((None, 0), (away, 0), (here, 1), (refusing, 2)):
            assert [words in said(domain) for words in fates].index(True) == fate
