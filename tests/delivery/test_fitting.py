"""Mail for servers that take less than what came (RFC 6531, RFC 6152), and answers that are none, through the whole of delivery (C3, C20; rules 3, 8a)."""

from __future__ import annotations

import email
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.core.delivery.queued import Message, RowState
from hornetmail.core.events import RecipientSettled
from hornetmail.core.failover.machine import Policy
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import TLSPolicy
from hornetmail.delivery.connections.pool import Pool
from hornetmail.delivery.couriers.exchange import Load, hand_over
from hornetmail.delivery.couriers.fitting import Fit, Text, fit
from hornetmail.net.clients.dial import Dialer
from tests.delivery.world import MAIL, SENDER, SLOW_MACHINE, TRACE, WorldCase, reactor

OLD = ("PIPELINING", "SIZE 52428800")
"""What a server offers that knows neither 8BITMIME nor SMTPUTF8."""

TEXT = "Grüße\r\n.\r\n".encode()
EIGHT = b"From: sender@outside.test\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" + (
    b"Content-Transfer-Encoding: 8bit\r\n\r\n" + TEXT
)
SIGNED = b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n" + TEXT + b"--s--\r\n"
BIG = b"From: sender@outside.test\r\n\r\n" + (b"x" * 990 + b"\r\n") * 12_000


class Given(WorldCase):
    settings = SLOW_MACHINE

    async def launch(self) -> None:
        self.events: list[RecipientSettled] = []
        self.bus.subscribe(RecipientSettled, self.events.append)
        await super().launch()

    async def settled(self, wanted: Callable[[RecipientSettled], bool], count: int = 1) -> list[RecipientSettled]:
        """So many events of that kind, once they are there."""
        await self.until(lambda: sum(map(wanted, self.events)) >= count, "it is settled")
        return list(filter(wanted, self.events))

    async def submit(self, data: bytes, *recipients: str, sender: str = SENDER, smtputf8: bool = False) -> Message:
        deposit = self.queue.begin(1)
        await deposit.write(data)
        envelope = Envelope(sender, tuple(map(Recipient, recipients or ("alice@example.test",))), not data.isascii(), smtputf8)
        origin = Origin(Door.MX, peer="203.0.113.9", aligned=True)
        return await deposit.commit(envelope, origin, Direction.IN, TRACE, domain="example.test", archive=False)

    async def failure(self, message: Message) -> Reply:
        """What its failed recipient is told."""
        found = await self.settled(lambda each: each.message == message.id and each.verdict.outcome is Outcome.FAILED)
        return found[0].verdict.reply


class Unfit(Given):
    async def test_the_exact_bytes_where_they_are_taken(self) -> None:
        """C3: mail altered although the primary offers what it needs."""
        await self.build()
        for data in (EIGHT, SIGNED, "Subject: schön\r\n\r\nx\r\n".encode()):
            await self.gone(await self.submit(data, smtputf8=data.startswith(b"Subject")))
            assert self.primary.accepted[-1].data == TRACE + data

    async def test_eight_bits_for_a_primary_without(self) -> None:
        """8-bit text sent to a server that does not offer 8BITMIME; mail lost that could be converted (RFC 6152 section 3)."""
        await self.build()
        self.primary.script.extensions = OLD
        await self.gone(await self.submit(EIGHT))
        [taken] = self.primary.accepted
        assert taken.data.isascii()
        assert taken.data.startswith(TRACE)
        assert email.message_from_bytes(taken.data).get_payload(decode=True) == TEXT

    async def test_signed_mail_for_a_primary_without(self) -> None:
        """A signature broken by conversion, or 8-bit text sent as it is: the sender is told 5.6.3."""
        await self.build()
        self.primary.script.extensions = OLD
        reply = await self.failure(await self.submit(SIGNED))
        assert reply.enhanced == "5.6.3"
        await self.until(self.notices, "the sender is told")
        assert not self.primary.accepted
        assert not self.portal.copies

    async def test_long_lines(self) -> None:
        """Lines over 998 bytes altered for a server of today, which takes them, and whose DKIM check would fail."""
        await self.build()
        data = b"Content-Type: text/html\r\n\r\n" + b"<p>word" * 1_000 + b"\r\n"
        await self.gone(await self.submit(data))
        assert self.primary.accepted[0].data == TRACE + data

    async def test_long_lines_for_an_old_server(self) -> None:
        """Lines over 998 bytes sent as they are to a server without 8BITMIME."""
        await self.build()
        self.primary.script.extensions = OLD
        data = b"Content-Type: text/html\r\n\r\n" + b"<p>word" * 1_000 + b"\r\n"
        await self.gone(await self.submit(data))
        [taken] = self.primary.accepted
        assert max(map(len, taken.data.split(b"\r\n"))) <= 998
        decoded = email.message_from_bytes(taken.data).get_payload(decode=True)
        assert decoded == b"<p>word" * 1_000 + b"\r\n"

    async def test_smtputf8_that_nobody_needs(self) -> None:
        """An ASCII message whose client asked for SMTPUTF8 (Go's always does) bounced at a primary without it, or stuck in the portal."""
        await self.build()
        self.primary.script.extensions = OLD
        await self.gone(await self.submit(MAIL, smtputf8=True))
        assert self.primary.accepted[-1].data == TRACE + MAIL
        # 8-bit text needs 8BITMIME, not SMTPUTF8.
        await self.gone(await self.submit(EIGHT, smtputf8=True))
        # And from the portal.
        self.primary.script.replies = {"MAIL": "451 4.3.0 not now"}
        message = await self.submit(MAIL, smtputf8=True)
        await self.until(lambda: self.portal.inbox(1), "it is in the portal")
        self.primary.script.replies = {}
        await self.gone(message)
        assert len(self.primary.accepted) == 3
        assert not self.portal.copies

    async def test_smtputf8_that_is_needed(self) -> None:
        """RFC 6531 section 3.2: mail with a header in UTF-8, of a part too, or with a sender or recipient of that kind, sent to a server that does not
        offer SMTPUTF8; the failure names what needs it, and hits those recipients alone."""
        await self.build()
        self.primary.script.extensions = ("PIPELINING", "8BITMIME")
        part = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Description: ü\r\n\r\n--b--\r\n".encode()
        for data, sender, recipients, code in (
            ("Subject: schön\r\n\r\nx\r\n".encode(), SENDER, ("alice@example.test",), "5.6.9"),
            (part, SENDER, ("alice@example.test",), "5.6.9"),
            (MAIL, SENDER, ("jürgen@example.test", "alice@example.test"), "5.6.7"),
        ):
            reply = await self.failure(await self.submit(data, *recipients, sender=sender, smtputf8=True))
            assert (reply.code, reply.enhanced) == (550, code)
        assert [each.recipients for each in self.primary.accepted] == [("alice@example.test",)]

    async def test_a_drain_that_needs_it(self) -> None:
        """A copy in the portal that its primary can never take, and nobody is told: it stays in INBOX with keyword, reason and alarm."""
        await self.build()
        self.primary.script.extensions = OLD
        self.primary.script.replies = {"GREETING": "421 4.3.2 down"}
        await self.submit("Subject: schön\r\n\r\nx\r\n".encode(), smtputf8=True)
        await self.until(lambda: self.portal.inbox(1), "it is in the portal")
        self.primary.script.replies = {}
        await self.until(lambda: self.drains(RowState.STUCK), "it is stuck")
        [copy] = self.portal.inbox(1)
        assert copy.keywords == ("$DrainFailed",)
        assert "SMTPUTF8" in copy.reason
        await self.until(lambda: any(alarm.code == "drain-refused" for alarm in self.alarms), "an alarm tells of it")

    async def test_a_domain_in_its_own_letters(self) -> None:
        """RFC 6531 section 3.2: a domain that has an ASCII form keeps mail from a server without SMTPUTF8."""
        await self.build()
        self.primary.script.extensions = OLD
        await self.gone(await self.submit(MAIL, sender="sender@bücher.test", smtputf8=True))
        assert self.primary.accepted[-1].sender == "sender@xn--bcher-kva.test"

    async def test_a_message_larger_than_what_is_held(self) -> None:
        """Would catch a message cut or doubled that is read more than once."""
        await self.build()
        self.primary.script.extensions = OLD
        text = "für\r\n".encode() * 60_000
        await self.gone(await self.submit(b"Content-Type: text/plain\r\n\r\n" + text))
        assert email.message_from_bytes(self.primary.accepted[-1].data).get_payload(decode=True) == text

    async def test_it_cannot_be_read(self) -> None:
        """Would catch a disk of ours that fails taken for trouble of the server, or for a verdict."""
        await self.build()

        async def failing() -> Any:
            yield b"x"
            raise OSError("disk")

        pool = Pool(reactor, Dialer(reactor, self.resolver), "client.test", timeouts=SLOW_MACHINE.timeouts)
        destination = pool.destination(self.directory.domain("example.test").primaries, TLSPolicy.NONE)  # type: ignore[union-attr]
        verdicts: dict[int, Verdict] = {}
        load = Load("a@b.test", (Recipient("alice@example.test"),), (7,), failing, 1)
        await hand_over(destination, load, "primary", verdicts)
        verdict = verdicts[7]
        assert (verdict.outcome, verdict.stage, verdict.unavailable) == (Outcome.DEFERRED, Stage.LOCAL, False)
        assert self.flushLoggedErrors(OSError)
        await pool.close()


class Flags(SynchronousTestCase):
    """What is said at MAIL."""

    def fitted(self, data: bytes, offers: str, *recipients: str, sender: str = SENDER, smtputf8: bool = True) -> Fit:
        async def chunks() -> AsyncIterator[bytes]:
            yield data

        to = [Recipient(each) for each in recipients or ("alice@example.test",)]
        work = fit(Text(chunks), sender, to, len(data), offers.split(), "mx.test", smtputf8=smtputf8)
        return self.successResultOf(Deferred.fromCoroutine(work))

    def sent(self, fitted: Fit) -> bytes:
        async def gather() -> bytes:
            return b"".join([chunk async for chunk in fitted.chunks()])

        return self.successResultOf(Deferred.fromCoroutine(gather()))

    def test_only_what_is_needed(self) -> None:
        """Extensions asked for that no byte needs, or not asked for where one does."""
        utf8 = "Subject: schön\r\n\r\nx\r\n".encode()
        both = "8BITMIME SMTPUTF8"
        for data, sender, to, flags in (
            (MAIL, SENDER, "alice@example.test", (False, False)),
            (EIGHT, SENDER, "alice@example.test", (True, False)),
            (utf8, SENDER, "alice@example.test", (True, True)),
            (MAIL, "jürgen@x.test", "alice@example.test", (False, True)),
            (MAIL, SENDER, "jürgen@example.test", (False, True)),
            (MAIL, "a@bücher.test", "alice@bücher.test", (False, False)),
        ):
            fitted = self.fitted(data, both, to, sender=sender)
            assert (fitted.eight_bit, fitted.smtputf8) == flags, (data, sender, to)
            assert self.sent(fitted) == data
            assert fitted.size == len(data)
        # Raw bytes in a header that nobody declared: as they are, and without a flag that would bounce them further on.
        fitted = self.fitted(utf8, both, smtputf8=False)
        assert (fitted.eight_bit, fitted.smtputf8, self.sent(fitted)) == (True, False, utf8)

    def test_smtputf8_without_8bitmime(self) -> None:
        """Would catch a header declared as UTF-8 made encoded words where UTF-8 is taken, or the body left 8-bit where it is not."""
        data = "Subject: schön\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nschön\r\n".encode()
        fitted = self.fitted(data, "SMTPUTF8")
        head, _, body = self.sent(fitted).partition(b"\r\n\r\n")
        assert "Subject: schön".encode() in head
        assert body.isascii()
        assert (fitted.eight_bit, fitted.smtputf8, fitted.size) == (False, True, 0)

    def test_why_it_cannot_be_taken(self) -> None:
        """Would catch a sender who is told that his text is not ASCII when his lines are too long, or the other way round."""
        ascii_, eight, long, short = b"a" * 10, "schön".encode(), b"x" * 1200, b"x"
        for text, line, told in (
            (eight, short, "takes ASCII (no 8BITMIME) only"),
            (ascii_, long, "takes lines of 998 bytes only"),
            (eight, long, "takes ASCII (no 8BITMIME) and lines of 998 bytes only"),
        ):
            data = SIGNED.replace(TEXT, text + b"\r\n" + line + b"\r\n")
            reply = self.fitted(data, "").refusals[0]
            assert reply.enhanced == "5.6.3"
            assert told in reply.text
        assert not self.fitted(SIGNED.replace(TEXT, ascii_ + b"\r\n"), "").refusals


class Senseless(Given):
    async def test_data_answered_250(self) -> None:
        """250 to DATA counted as delivered; the mail is lost, and a drain removes the portal's copy."""
        await self.build()
        self.primary.script.replies = {"DATA": "250 ok"}
        message = await self.submit(MAIL)
        await self.until(lambda: self.portal.inbox(1), "it is in the portal")
        await self.until(lambda: self.primary.seen["DATA"] >= 3, "the drain tried")
        assert self.portal.inbox(1)
        assert not self.primary.accepted
        self.primary.script.replies = {}
        await self.gone(message)
        assert [each.data for each in self.primary.accepted] == [TRACE + MAIL]
        assert not self.portal.copies

    async def test_the_dot_answered_354(self) -> None:
        """354 after the final dot counted as delivered: nobody knows, so the portal's copy is a marked one (rule 1)."""
        await self.build()
        self.primary.script.limited = {"DOT": (1, "354 go on")}
        await self.submit(MAIL)
        await self.until(lambda: self.portal.inbox(1), "it is in the portal")
        assert [row.portal.uncertain for row in self.drains() if row.portal] == [True]


class Sick(Given):
    """With a machine that is switched by three signs."""

    settings = msgspec.structs.replace(SLOW_MACHINE, policy=Policy(signs=3, span=0.0))

    async def test_three_large_mails(self) -> None:
        """A 5xx in the middle of the text taken for a broken connection: three large mails switched the domain. It is those mails' failure."""
        await self.build()
        self.primary.script.replies = {"BODY": "552 5.3.4 too big"}
        for _ in range(4):
            message = await self.send("alice@example.test", data=BIG, archive=False)
            assert str(await self.failure(message)) == "552 5.3.4 too big"
        assert self.mode() is Mode.NORMAL
        assert not self.portal.copies
        told = [each.verdict for each in self.events if each.verdict.courier == "primary"]
        assert {each.stage for each in told} == {Stage.BODY}

    async def test_violations_are_signs(self) -> None:
        """A primary that answers nonsense is in trouble, and the domain switches."""
        await self.build()
        self.primary.script.replies = {"RCPT": "354 go on"}
        for _ in range(4):
            await self.send("alice@example.test", archive=False)
        await self.until(lambda: self.mode() is Mode.EMERGENCY, "emergency mode")
        assert len(self.portal.inbox(1)) == 4

    async def test_deferred_in_the_middle(self) -> None:
        """A 4xx in the middle of the text: C20 has this mail in the portal, with the server's words."""
        await self.build()
        self.primary.script.replies = {"BODY": "452 4.2.2 mailbox full"}
        await self.send("alice@example.test", data=BIG, archive=False)
        await self.until(lambda: self.portal.inbox(1), "it is in the portal")
        assert self.mode() is Mode.NORMAL
        assert not self.notices()
