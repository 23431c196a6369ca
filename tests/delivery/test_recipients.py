"""Callforward (C13, C14, L7, rule 4) and redelivery (C10, C16, C17, C18, rule 16)."""

from __future__ import annotations

import msgspec
import pytest
from twisted.internet.defer import Deferred, gatherResults

from hornetmail.core.archive.archived import ArchivedMail, Hit, Refused
from hornetmail.core.failover.machine import Policy
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.envelope import Direction
from hornetmail.core.served import Coverage, Domain, Host, Mailbox, Person, Role, TLSPolicy
from hornetmail.delivery.recipients.callforward import Patience
from hornetmail.testing.scripted_primary import ScriptedPrimary
from tests.delivery.world import MAIL, QUICK, WorldCase, reactor

DAY = 86400.0


class Recipients(WorldCase):
    settings = msgspec.structs.replace(QUICK, policy=Policy(signs=1000), sweep=3600)

    async def asked(self, address: str) -> int:
        return (await self.delivery.recipients.verify(address)).code

    async def ready(self, **domain: object) -> None:
        """Built, and the first question for an impossible address is over."""
        await self.build(**domain)  # type: ignore[arg-type]
        self.primary.script.unknown = {"ghost@example.test"}
        await self.until(lambda: self.primary.seen.get("RCPT"), "the question for an impossible address")
        self.primary.seen.clear()

    async def test_known_and_unknown(self) -> None:
        """C14: answers are the primary's, asked once for many, and cached both ways."""
        await self.ready()
        asked = [Deferred.fromCoroutine(self.delivery.recipients.verify("real@example.test")) for _ in range(5)]
        assert {reply.code for reply in await gatherResults(asked)} == {250}
        assert self.primary.seen["RCPT"] == 1, "one probe an address at a time"
        assert await self.asked("ghost@example.test") == 550
        assert await self.asked("ghost@example.test") == 550
        assert await self.asked("Real@example.test") == 250
        assert self.primary.seen["RCPT"] == 2
        assert await self.asked("x@elsewhere.test") == 550
        await self.until(lambda: "real@example.test" in self.known.facts, "written")

    async def test_deferred_probe(self) -> None:
        """Rule 4: when the primary defers the question, known addresses are accepted and others are told to come again."""
        await self.ready()
        self.primary.script.replies = {"RCPT": "451 4.3.0 later"}
        assert await self.asked("alice@example.test") == 250
        assert await self.asked("stranger@example.test") == 451
        self.primary.script.replies = {}
        assert await self.asked("stranger@example.test") == 250

    async def test_policy_refusal_is_not_unknown(self) -> None:
        """550 5.7.1 (an access rule against our probe) taken for an unknown recipient."""
        await self.ready()
        self.primary.script.replies = {"RCPT": "550 5.7.1 not from you"}
        assert await self.asked("stranger@example.test") == 451
        self.primary.script.replies = {"MAIL": "550 5.1.1 no"}
        assert await self.asked("stranger@example.test") == 451, "only at RCPT"

    async def test_unreachable(self) -> None:
        """Primary down in normal mode: nobody is refused for good."""
        await self.ready()
        await self.primary.stop()
        assert await self.asked("alice@example.test") == 250
        assert await self.asked("stranger@example.test") == 451
        await self.primary.listen()

    async def test_sick(self) -> None:
        """Rule 4: three known addresses refused within 10 min: 451, and what was refused before is forgotten."""
        await self.ready()
        self.primary.script.replies = {"RCPT": "550 5.1.1 no such user"}
        assert await self.asked("alice@example.test") == 550
        assert await self.asked("bob@example.test") == 550
        assert await self.asked("admin@example.test") == 451
        assert await self.asked("alice@example.test") == 451
        assert self.delivery.modes.explain("example.test")["evidence"]
        assert await self.asked("stranger@example.test") == 550, "of strangers it may be right"

    async def test_emergency(self) -> None:
        """C13: 550 5.1.1 for those neither registered nor accepted within 90 days; others wait in the queue."""
        await self.ready()
        assert await self.asked("real@example.test") == 250
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        reply = await self.delivery.recipients.verify("stranger@example.test")
        assert (reply.code, reply.enhanced) == (550, "5.1.1")
        assert await self.asked("alice@example.test") == 250
        assert await self.asked("real@example.test") == 250
        shown = await self.delivery.modes.recipients("example.test")
        assert shown == {"accepts_everything": False, "gaps": ["real@example.test"], "gaps_total": 1}, "L7: the gap is shown"
        self.delivery.accepted._cached["real@example.test"] -= 91 * DAY
        assert await self.asked("real@example.test") == 550

    async def test_emergency_with_picked_scope(self) -> None:
        """C13: with picked mailboxes nobody can be called unknown."""
        await self.ready(coverage=Coverage.PICKED)
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        assert await self.asked("stranger@example.test") == 250

    async def test_accepts_everything(self) -> None:
        """Rule 4: a primary that accepts a random address makes callforward worthless: registration counts."""
        await self.build()
        self.primary.script.unknown_start = ""
        await self.delivery.recipients.test(self.directory.domains())
        await self.until(lambda: self.delivery.recipients.accepts_everything("example.test"), "found out")
        assert await self.asked("stranger@example.test") == 550
        assert await self.asked("alice@example.test") == 250
        assert (await self.delivery.modes.recipients("example.test"))["accepts_everything"] is True
        await self.until(lambda: self.alarms, "told")
        assert self.alarms[0].code == "accept-all"

    async def test_what_is_known_cannot_be_looked_up(self) -> None:
        """A broken database refuses recipients for good, or nobody is taken any more: in normal mode the primary is asked, in an emergency it is
        "later" for those who are not registered."""
        await self.ready()
        self.known.broken = OSError("disk")
        assert await self.asked("real@example.test") == 250
        assert await self.asked("ghost@example.test") == 550
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        assert await self.asked("alice@example.test") == 250
        assert await self.asked("other@example.test") == 451
        self.known.broken = None
        assert await self.asked("other@example.test") == 550
        self.flushLoggedErrors(OSError)

    async def test_learnt_from_deliveries(self) -> None:
        """L7: what the primary accepted in a delivery is known after a restart."""
        await self.ready()
        await self.gone(await self.send("someone@example.test"))
        await self.delivery.stop(0.1)
        await self.launch()
        self.primary.seen.clear()
        assert await self.asked("someone@example.test") == 250
        assert self.known.facts["someone@example.test"].delivered

    async def test_no_primary(self) -> None:
        """A domain whose mail server is the portal: registration decides."""
        await self.ready()
        self.directory.served.append(Domain("own.test"))
        assert await self.asked("nobody@own.test") == 550


class Tarpit(WorldCase):
    """A primary that keeps back its answer about unknown recipients (Exchange: 5 s; here 0.4 s, and 0.1 s of patience), and answers its probes."""

    # A busy machine needs more than a third of a second to connect: that would be a sign of an outage.
    settings = msgspec.structs.replace(
        QUICK, patience=Patience(quick=0.1, long=2.0), sweep=0.1, timeouts=msgspec.structs.replace(QUICK.timeouts, connect=5.0)
    )

    async def ready(self, **domain: object) -> None:
        await self.build(**domain)  # type: ignore[arg-type]
        self.primary.script.unknown_start = ("ghost", "no-such-user-")
        self.primary.script.tarpit = 0.4
        self.delivery.accepted.learn("real@example.test", delivered=True)

    async def asked(self, address: str) -> int:
        return (await self.delivery.recipients.verify(address)).code

    async def test_no_sign_of_an_outage(self) -> None:
        """Rule 8c: each guessed address was a sign of its own, and six made an emergency of a primary that answered all the time."""
        await self.ready()
        for number in range(40):
            assert await self.asked(f"ghost{number}@example.test") in (451, 550)
        assert not self.delivery.modes.explain("example.test")["evidence"]
        assert self.mode() is Mode.NORMAL
        assert not self.changes

    async def test_refused_all_the_same(self) -> None:
        """C14: with such a primary no unknown recipient is ever refused: 451 first, 550 after, from one question."""
        await self.ready()
        began = reactor.seconds()
        assert await self.asked("ghost@example.test") == 451
        assert reactor.seconds() - began < 0.35, "nobody waits for the primary"
        await self.until(lambda: self.delivery.accepted.refusal("ghost@example.test") is not None, "answered in the background")
        seen = self.primary.seen["RCPT"]
        assert await self.asked("ghost@example.test") == 550
        assert self.primary.seen["RCPT"] == seen

    async def test_others_are_not_held_up(self) -> None:
        """Guesses take up all connections of the questions: who is new and real is told to come again, for ever."""
        # The guesses stay open for longer than the test lasts: who is new has a turn beside them or none, on any machine.
        self.settings = msgspec.structs.replace(self.settings, patience=Patience(quick=0.5, long=600.0))
        await self.ready()
        self.primary.script.tarpit = 600.0
        guesses = [Deferred.fromCoroutine(self.delivery.recipients.verify(f"ghost{number}@example.test")) for number in range(6)]
        await self.asked("new@example.test")
        await self.until(lambda: "new@example.test" in self.delivery.accepted._cached, "it was its turn")
        assert await self.asked("new@example.test") == 250
        assert {reply.code for reply in await gatherResults(guesses)} == {451}

    async def test_bounded(self) -> None:
        """A hundred guesses at once are a hundred connections to the primary, or signs of an outage because they waited for one of ours."""
        # Patience for a hundred connections in one reactor on a loaded machine: being slow to greet would rightly be a sign.
        self.settings = msgspec.structs.replace(self.settings, patience=Patience(quick=1.0, long=4.0))
        await self.ready()
        self.primary.script.tarpit = 1.5
        await self.until(lambda: not self.delivery.recipients._turns, "the daily question is answered")
        guesses = [
            Deferred.fromCoroutine(self.delivery.recipients.verify(f"ghost{number}@example.test")) for number in range(100)
        ]
        patience = self.settings.patience
        most = 0
        while not all(each.called for each in guesses):
            most = max(most, len(self.primary.open))
            waited: Deferred[None] = Deferred()
            reactor.callLater(0.01, waited.callback, None)
            await waited
        assert {reply.code for reply in await gatherResults(guesses)} == {451}
        assert most <= patience.most + patience.late + 2, "besides a probe"
        assert not self.delivery.modes.explain("example.test")["evidence"]
        await self.until(lambda: not self.delivery.recipients._turns, "nothing is left behind")
        assert self.delivery.recipients._late == 0

    async def test_silent_about_known_recipients(self) -> None:
        """A primary that greets and never answers RCPT for anybody, known ones neither: that is trouble, and theirs."""
        self.settings = msgspec.structs.replace(self.settings, patience=Patience(quick=0.1, long=0.3))
        await self.ready()
        self.primary.script.hang = {"RCPT"}
        self.delivery.recipients._accepted._cached["real@example.test"] -= 8 * DAY
        for address in ("alice@example.test", "bob@example.test", "real@example.test"):
            assert await self.asked(address) == 250, "known"
        await self.until(lambda: self.changes, "emergency")
        assert "takes no mail" in self.changes[0].reason

    async def test_tested_side_by_side(self) -> None:
        """A primary that holds back the answer for an impossible address could never be told; a hundred of them were asked one after another
        while nothing else was swept."""
        await self.ready()
        self.delivery.recipients._tested.clear()
        hosts = self.directory.served[0].primaries
        ports = [ScriptedPrimary(reactor) for _ in range(10)]
        for number, each in enumerate(ports):
            each.script.tarpit = 0.4
            await each.listen()
            self.primaries.append(each)
            name = f"d{number}.test"
            self.directory.served.append(Domain(name, primaries=(Host("127.0.0.1", each.port),), tls=TLSPolicy.NONE))
        assert hosts
        began = reactor.seconds()
        testing = Deferred.fromCoroutine(self.delivery.recipients.test(self.directory.domains()))
        await self.delivery.recipients.test(self.directory.domains())
        assert reactor.seconds() - began < 0.1, "nobody is asked twice"
        await testing
        assert reactor.seconds() - began < 2.0, "side by side"
        assert all(each.seen["RCPT"] == 1 for each in ports)
        later = self.delivery.recipients._tested["d3.test"] - reactor.seconds()
        assert later > DAY - 60, "told, although it took long"

    async def test_what_cannot_be_told_is_remembered(self) -> None:
        """A primary that gives no answer is asked anew with each sweep."""
        await self.ready()
        self.primary.script.replies = {"RCPT": "451 4.3.0 later"}
        self.delivery.recipients._tested.clear()
        self.primary.seen.clear()
        for _ in range(5):
            await self.delivery.recipients.test(self.directory.domains())
        assert self.primary.seen["RCPT"] == 1


class Strangers(WorldCase):
    """Rule 8c: mail of strangers at a primary that greets and answers EHLO."""

    async def test_to_unproven_addresses(self) -> None:
        """A primary that defers addresses nobody knows (greylisting in words of its own, a directory it asks): three of them made an
        emergency."""
        await self.build()
        strange = [f"stranger{number}@example.test" for number in range(8)]
        self.primary.script.trouble = dict.fromkeys(strange, "451 4.4.3 directory asked, try later")
        for number, address in enumerate(strange):
            await self.send(address, sender=f"s{number}@outside.test")
        await self.until(lambda: self.primary.seen.get("RCPT", 0) > 12, "tried more than once")
        assert not self.changes
        assert not self.delivery.modes.explain("example.test")["evidence"]

    async def test_poison(self) -> None:
        """Texts that a content filter chokes on, sent to all known recipients by somebody outside: no emergency for a primary that takes
        the message that we send it."""
        await self.build()
        self.primary.script.poison = b"EICAR"
        for _ in range(4):
            for address in ("alice@example.test", "bob@example.test", "admin@example.test"):
                await self.send(address, data=MAIL + b"EICAR\r\n")
        letter = "the mail server defers mail"
        await self.until(lambda: [a for a in self.alarms if a.code == "primary-defers"], "an alarm")
        await self.until(lambda: [m for m in self.primary.accepted if letter.encode() in m.data], "the letter")
        tried = self.primary.seen["DOT"]
        await self.until(lambda: self.primary.seen["DOT"] > tried + 50, "and goes on")
        assert not self.changes

    async def test_every_text_deferred(self) -> None:
        """Rules 1 to 4 stay: a primary whose disk is full after RCPT defers our own letter too, and the domain is switched."""
        await self.build()
        self.primary.script.replies = {"DOT": "452 4.3.1 disk full"}
        for address in ("alice@example.test", "bob@example.test", "admin@example.test"):
            await self.send(address)
        await self.until(lambda: self.mode() is Mode.EMERGENCY, "emergency")
        assert any(row.address == "admin@example.test" for row in self.drains()), "the letter is in the portal"

    async def test_recipients_deferred(self) -> None:
        """The same at MAIL: no letter is needed, the question shows it."""
        await self.build()
        self.primary.script.replies = {"MAIL": "452 4.3.1 disk full"}
        for address in ("alice@example.test", "bob@example.test", "admin@example.test"):
            await self.send(address)
        await self.until(lambda: self.mode() is Mode.EMERGENCY, "emergency")
        held = reactor.seconds() + 1.0
        await self.until(lambda: reactor.seconds() > held, "ten greetings later")
        assert self.mode() is Mode.EMERGENCY, "a greeting does not end it"
        self.primary.script.replies = {}
        await self.until(lambda: self.mode() is Mode.NORMAL, "back")
        await self.until(lambda: len(self.primary.accepted) == 3, "all home")


ALICE = Person(1, "alice@example.test", 1, addresses=("alice@example.test", "al@example.test"))
ADMIN = Person(3, "admin@example.test", 1, roles=(Role.ADMIN,), addresses=("admin@example.test",))
RAW = b"Subject: old\r\n\r\nold mail\r\n"


class Redeliver(WorldCase):
    async def ready(self) -> None:
        await self.build()
        for identifier, owner in ((1, "alice@example.test"), (2, "bob@example.test")):
            hit = Hit(identifier, 0, "x@outside.test", (owner,), "old", len(RAW), Direction.IN)
            mail = ArchivedMail(hit, 1, "inline", "", "<1@x>", b"", 1, 0)
            self.archive.mails[identifier] = (mail, RAW, frozenset({owner}))

    async def test_own(self) -> None:
        """C18, rule 16: to oneself, MAIL FROM <>, exact bytes, not archived again, one request is one delivery."""
        await self.ready()
        [queued] = (await self.delivery.redelivery.redeliver(ALICE, [1], request="r1")).queued
        again = await self.delivery.redelivery.redeliver(ALICE, [1], request="r1")
        assert again.queued == (queued,)
        await self.until(lambda: self.primary.accepted, "delivered")
        [taken] = self.primary.accepted
        assert taken.sender == ""
        assert taken.recipients == ("alice@example.test",)
        assert taken.data == RAW
        assert not self.archive.items

    async def test_what_its_server_must_be_able_to(self) -> None:
        """Would catch bytes beyond ASCII sent as if they were none, and an old mail for an ordinary address that is refused because SMTPUTF8 is asked
        for (RFC 6531 section 3.4)."""
        await self.ready()
        self.directory.registered.append(Mailbox(4, "grüße@example.test", "example.test"))
        person = Person(4, "grüße@example.test", 1, addresses=("grüße@example.test",))
        wide = "Subject: wide\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n".encode("latin-1")
        for identifier, owner, raw in ((5, "alice@example.test", wide), (6, "grüße@example.test", RAW)):
            hit = Hit(identifier, 0, "x@outside.test", (owner,), "old", len(raw), Direction.IN)
            self.archive.mails[identifier] = (ArchivedMail(hit, 1, "inline", "", "<1@x>", b"", 1, 0), raw, frozenset({owner}))
        found = []
        for who, identifier in ((ALICE, 1), (ALICE, 5), (person, 6)):
            await self.delivery.redelivery.redeliver(who, [identifier], request=f"r{identifier}")
            [message] = [each for key, each in self.queue.requests.items() if f"r{identifier}:" in key]
            found.append((message.envelope.eight_bit, message.envelope.smtputf8))
        assert found == [(False, False), (True, False), (False, True)]

    async def test_to_the_portal(self) -> None:
        """C10: in an emergency to the portal."""
        await self.ready()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.delivery.redelivery.redeliver(ALICE, [1])
        await self.until(lambda: self.portal.inbox(1), "in the portal")
        assert not self.primary.accepted

    async def test_others(self) -> None:
        """C18: somebody else's mail, or to somebody else's mailbox."""
        await self.ready()
        with pytest.raises(KeyError):
            await self.delivery.redelivery.redeliver(ALICE, [2])
        with pytest.raises(Refused):
            await self.delivery.redelivery.redeliver(ALICE, [1], "bob@example.test")
        with pytest.raises(Refused):
            await self.delivery.redelivery.redeliver(ALICE, [1], "x@outside.test")
        with pytest.raises(ValueError, match="no @"):
            await self.delivery.redelivery.redeliver(ALICE, [1], "nonsense")
        assert not self.queue.messages

    async def test_by_each_address_of_its_owner(self) -> None:
        """C16: would catch mail to an alias, or to a domain that is the same (A46), which its owner finds and an administrator cannot redeliver to him."""
        await self.ready()
        [domain] = self.directory.served
        self.directory.served = [msgspec.structs.replace(domain, aliases=("same.test",))]
        for identifier, address in ((7, "al@example.test"), (8, "alice@same.test"), (9, "al@same.test")):
            hit = Hit(identifier, 0, "x@outside.test", (address,), "old", len(RAW), Direction.IN)
            self.archive.mails[identifier] = (ArchivedMail(hit, 1, "inline", "", "<1@x>", b"", 1, 0), RAW, frozenset({address}))
            await self.delivery.redelivery.redeliver(ADMIN, [identifier], "alice@example.test")
        await self.until(lambda: len(self.primary.to("alice@example.test")) == 3, "delivered")

    async def test_administrator(self) -> None:
        """C16: to the owner without seeing it; not to somebody who has no right to it, not to himself."""
        await self.ready()
        await self.delivery.redelivery.redeliver(ADMIN, [2], "bob@example.test")
        await self.until(lambda: self.primary.to("bob@example.test"), "delivered")
        with pytest.raises(KeyError):
            await self.delivery.redelivery.redeliver(ADMIN, [2], "alice@example.test")
        with pytest.raises(KeyError):
            await self.delivery.redelivery.redeliver(ADMIN, [2])
        assert all(scope.addresses for scope in self.archive.scopes)
        assert reactor is not None
