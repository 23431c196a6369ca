"""A real Postfix that offers less than a message needs, or refuses it late (RFC 6152 section 3, RFC 6531 section 3.2; rule 8a)."""

from __future__ import annotations

import email
import email.policy

import msgspec

from hornetmail.core.delivery.queued import RowState
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome
from hornetmail.core.served import Domain, Host, TLSPolicy
from tests.delivery.test_fitting import BIG, EIGHT, MAIL, SIGNED, Given
from tests.mime.test_conversion import MIXED, leaves
from tests.peers.postfix import PostfixPrimary

LESSER = "smtpd_discard_ehlo_keywords = 8bitmime, smtputf8, size\n"


class Lesser(Given):
    timeout = 120
    settings = msgspec.structs.replace(
        Given.settings, timeouts=msgspec.structs.replace(Given.settings.timeouts, connect=5, reply=10, data=10, dot=20)
    )

    async def postfix(self, more: str = "") -> PostfixPrimary:
        await self.build()
        postfix = PostfixPrimary(["alice@example.test"], more=LESSER + more)
        self.addCleanup(postfix.close)
        postfix.start()
        domain = Domain("example.test", primaries=(Host("127.0.0.1", postfix.port),), tls=TLSPolicy.NONE)
        self.directory.served = [domain]
        return postfix

    async def test_what_is_delivered_reads_the_same(self) -> None:
        """Mail that a server without 8BITMIME and SMTPUTF8 bounces, gets as it is, or that reads otherwise there."""
        postfix = await self.postfix()
        for number, (data, utf8) in enumerate(((EIGHT, True), (MIXED, True), (MAIL, True)), 1):
            await self.gone(await self.submit(data, smtputf8=utf8))
            await self.until(lambda n=number: postfix.count() == n, "Postfix delivered it")
        texts = [leaves(each) for each in postfix.messages("alice@example.test")]
        assert sorted(texts) == sorted(leaves(each) for each in (EIGHT, MIXED, MAIL))
        assert all(each.isascii() for each in postfix.messages("alice@example.test"))

    async def test_headers_of_old(self) -> None:
        """Would catch a header that bears raw bytes and was never declared, lost or garbled on its way."""
        postfix = await self.postfix()
        await self.gone(await self.submit("From: Jürgen <j@outside.test>\r\nSubject: schöne Grüße\r\n\r\nx\r\n".encode()))
        await self.until(lambda: postfix.count() == 1, "Postfix delivered it")
        [taken] = postfix.messages("alice@example.test")
        message = email.message_from_bytes(taken, policy=email.policy.default)
        assert message["Subject"] == "schöne Grüße"
        assert message["From"].addresses[0].display_name == "Jürgen"

    async def test_what_cannot_be_converted(self) -> None:
        """Would catch a signature broken on the way, or the reason not told."""
        postfix = await self.postfix()
        for data, utf8, code in ((SIGNED, False, "5.6.3"), ("Subject: schön\r\n\r\nx\r\n".encode(), True, "5.6.9")):
            assert (await self.failure(await self.submit(data, smtputf8=utf8))).enhanced == code
        assert not postfix.count()

    async def test_too_big_without_a_word_before(self) -> None:
        """Large mails refused by a Postfix that did not announce its limit, taken for an outage."""
        postfix = await self.postfix("message_size_limit = 100000\n")
        for _ in range(3):
            reply = await self.failure(await self.submit(BIG))
            assert (reply.code, reply.enhanced) == (552, "5.3.4")
        assert self.mode() is Mode.NORMAL
        assert not self.portal.copies
        assert not self.drains(RowState.QUEUED)
        assert not postfix.count()
        assert {each.verdict.outcome for each in self.events if each.verdict.courier == "primary"} == {Outcome.FAILED}
