"""Redelivery as an attachment (rule 16): the archive's exact bytes inside a new message, or a clear word why not."""

from __future__ import annotations

import email
import hashlib
from email.message import Message
from email.policy import default

import pytest

from hornetmail.core.archive.archived import ArchivedMail, Hit
from hornetmail.core.mail.envelope import Direction
from hornetmail.delivery.letters.enclosed import Cover, Fitness, Unfit, around
from tests.delivery.test_recipients import ALICE, RAW
from tests.delivery.world import WorldCase

COVER = Cover(
    7,
    "alice@example.test",
    "example.test",
    "Mon, 02 Mar 2026 10:00:00 -0000",
    "u1",
    "Sun, 01 Mar 2026 10:00:00 -0000",
    b"\1" * 32,
)


def whole(data: bytes) -> bytes:
    head, tail = around(COVER, data)
    return head + data + tail


def inner(message: bytes) -> bytes:
    """The attachment's bytes by RFC 2046 section 5.1.1, without a parser that might tidy them up."""
    parsed: Message = email.message_from_bytes(message)
    boundary = str(parsed.get_boundary()).encode()
    part = message.split(b"\r\n--" + boundary)[2]
    return part.split(b"\r\n\r\n", 1)[1]


@pytest.mark.parametrize(
    "data",
    [
        RAW,
        b"Subject: no end of line\r\n\r\nlast",
        b"Subject: many ends\r\n\r\nlast\r\n\r\n\r\n",
        b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n",
        "Subject: wide\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n".encode("latin-1"),
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n" + b"x" * 998 + b"\r\n",
        b'Content-Type: multipart/mixed; boundary="=_u1_0"\r\n\r\n--=_u1_0\r\n\r\nours, by accident\r\n--=_u1_0--\r\n',
        b"",
    ],
    ids=["plain", "no end", "ends", "dots", "8bit", "998", "boundary", "empty"],
)
def test_exact_bytes(data: bytes) -> None:
    """A byte that the wrapping adds, drops or encodes: base64 is not allowed (RFC 2046 section 5.2.1), 8-bit text stays 8-bit."""
    message = whole(data)
    assert inner(message) == data
    parsed = email.message_from_bytes(message, policy=default)
    attached = parsed.get_payload()[1]
    assert attached.get_content_type() == "message/rfc822"
    eight = "7bit" if data.isascii() else "8bit"
    assert (attached["Content-Transfer-Encoding"], parsed["Content-Transfer-Encoding"]) == (eight, eight)
    assert not parsed.defects
    assert (b"\1" * 32).hex() in parsed.get_payload()[0].get_content()


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        (b"old", "Redelivered: old"),
        (b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Redelivered: Grüße"),
        (b"=?utf-8?q?a=0D=0ABcc:_evil=40x.test?=", "Redelivered: a Bcc: evil@x.test"),
        ("Grüße ".encode() * 60, "Redelivered: " + ("Grüße " * 60)[:200].strip()),
        (b"", "Redelivered: mail without a subject"),
    ],
)
def test_subject(subject: bytes, shown: str) -> None:
    """A derived subject that breaks the header, or lets a stranger write fields of ours."""
    message = whole(b"Subject: " + subject + b"\r\nMessage-ID: <seen@x>\r\n\r\ntext\r\n")
    head = message.partition(b"\r\n\r\n")[0]
    assert head.isascii()
    assert max(map(len, head.split(b"\r\n"))) <= 998
    parsed = email.message_from_bytes(message, policy=default)
    assert parsed["Subject"] == shown
    assert parsed["Bcc"] is None
    assert parsed["From"] == "Mail archive <MAILER-DAEMON@example.test>"
    assert parsed["Message-ID"] == "<u1@example.test>"


@pytest.mark.parametrize("cut", [1, 7, 998, 65_536])
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"Subject: x\r\n\r\n" + b"y" * 998 + b"\r\n", ""),
        (b"Subject: x\r\n\r\n" + b"y" * 999 + b"\r\n", "more than 998"),
        (b"Subject: x\r\n\r\n" + b"y" * 999, "more than 998"),
        (b"Subject: x\r\n\r\na\0b\r\n", "NUL"),
        (b"Subject: x\r\n\r\na\nb\r\n", "CRLF"),
        (b"Subject: x\r\n\r\na\rb\r\n", "CRLF"),
        (b"Subject: x\r\n\r\nb\r", "CRLF"),
        (b"Subject: x\r\n\r\nb", ""),
    ],
)
def test_fitness(data: bytes, why: str, cut: int) -> None:
    """What 8bit cannot carry taken for fit (it would arrive changed), or the answer depending on where pieces were cut."""
    fitness = Fitness()

    def look() -> None:
        for start in range(0, len(data), cut):
            fitness.feed(data[start : start + cut])
        fitness.end()

    if why:
        with pytest.raises(Unfit, match=why):
            look()
    else:
        look()


class Attached(WorldCase):
    async def ready(self, *datas: bytes) -> None:
        await self.build()
        for number, data in enumerate(datas, 1):
            hit = Hit(number, 0, "x@outside.test", (ALICE.address,), "old", len(data), Direction.IN)
            mail = ArchivedMail(hit, 1, "inline", "", "<1@x>", hashlib.sha256(data).digest(), 1, 0)
            self.archive.mails[number] = (mail, data, frozenset({ALICE.address}))

    async def test_delivered(self) -> None:
        """MAIL FROM <>, not archived, a Message-ID of its own each time, and one request is one delivery, apart from the plain way."""
        large = b"Subject: large\r\n\r\n" + b"line of the large one\r\n" * 20_000
        await self.ready(large)
        redeliver = self.delivery.redelivery.redeliver
        first = await redeliver(ALICE, [1], request="r1", attached=True)
        assert await redeliver(ALICE, [1], request="r1", attached=True) == first
        assert (await redeliver(ALICE, [1], request="r1")).queued != first.queued
        await redeliver(ALICE, [1], request="r2", attached=True)
        await self.until(lambda: len(self.primary.accepted) == 3, "delivered")
        wrapped = [taken for taken in self.primary.accepted if taken.data != large]
        assert [taken.sender for taken in wrapped] == ["", ""]
        assert [inner(taken.data) for taken in wrapped] == [large, large]
        assert len({email.message_from_bytes(taken.data)["Message-ID"] for taken in wrapped}) == 2
        assert not self.archive.items

    async def test_unfit(self) -> None:
        """One mail that cannot travel so must not stop the others, nor be altered without a word."""
        await self.ready(RAW, b"Subject: long\r\n\r\n" + b"x" * 200_000 + b"\r\n", RAW)
        handed = await self.delivery.redelivery.redeliver(ALICE, [1, 2, 3], attached=True)
        assert len(handed.queued) == 2
        assert [(number, "998" in why) for number, why in handed.unfit] == [(2, True)]
        await self.until(lambda: len(self.primary.accepted) == 2, "delivered")
        assert (await self.delivery.redelivery.redeliver(ALICE, [2])).queued, "the plain way is open"
