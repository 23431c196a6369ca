"""Varied messages shaped like real ones, made from a seed: the same seed gives the same bytes, on every machine.

All have CRLF line ends, end with CRLF, have no line above 998 octets and hold a token that is nowhere else, so that they can be told apart.
"""

from __future__ import annotations

import base64
import quopri
import random
from collections.abc import Callable, Iterator, Sequence

import msgspec


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One message with its envelope."""

    kind: str
    sender: str
    recipients: tuple[str, ...]
    data: bytes


_WORDS = [
    "the",
    "invoice",
    "of",
    "last",
    "week",
    "was",
    "paid",
    "yesterday",
    "please",
    "find",
    "attached",
    "our",
    "offer",
    "and",
    "let",
    "me",
    "know",
    "what",
    "you",
    "think",
    "about",
    "meeting",
    "on",
    "Thursday",
    "in",
    "the",
    "small",
    "room",
    "because",
    "the",
    "big",
    "one",
    "is",
    "taken",
    "by",
    "the",
    "auditors",
    "who",
    "want",
    "to",
    "see",
    "all",
    "mail",
    "of",
    "the",
    "year",
    "kind",
    "regards",
    "nobody",
    "knows",
    "when",
    "the",
    "delivery",
    "will",
    "arrive",
    "so",
    "we",
    "should",
    "ask",
    "again",
    "tomorrow",
    "morning",
    "before",
    "the",
    "call",
    "with",
    "our",
    "colleagues",
    "in",
    "Lyon",
]
_GERMAN = [
    "Grüße",
    "aus",
    "Köln,",
    "die",
    "Überweisung",
    "für",
    "März",
    "läuft;",
    "bitte",
    "prüfen",
    "Sie",
    "die",
    "Maße",
    "der",
    "Tür,",
    "ob",
    "fünf",
    "Schlüssel",
    "genügen",
    "–",
    "schöne",
    "Wünsche",
]
_JAPANESE = "お世話になっております。来週の会議の資料を添付いたしますので、ご確認ください。よろしくお願いいたします。"
_NAMES = ("Alice Adams", "Bob Baker", "Jörg Müller", "Zoë O'Neil", "Dr. Carol C. Clark", "山田 太郎", "Service Desk")


class Maker:
    """Makes one message; ``rng`` decides everything."""

    def __init__(self, rng: random.Random, sender: str, recipients: Sequence[str], token: str) -> None:
        self.rng = rng
        self.sender = sender
        self.recipients = recipients
        self.token = token

    def text(self, lines: int = 0) -> str:
        """Lines of ordinary text, the token among them."""
        rng = self.rng
        out = [" ".join(rng.choices(_WORDS, k=rng.randint(3, 12))) for _ in range(lines or rng.randint(3, 40))]
        out.insert(rng.randint(0, len(out)), f"ref {self.token}")
        return "\r\n".join(out) + "\r\n"

    def date(self) -> str:
        """Some moment of 2026."""
        rng = self.rng
        month = rng.choice(("Jan", "Mar", "Jul", "Nov"))
        zone = rng.choice(("+0000", "+0100", "-0500", "+0900", "GMT"))
        return f"{rng.randint(1, 28)} {month} 2026 {rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02} {zone}"

    def head(self, subject: str = "", *more: str, message_id: bool = True) -> str:
        """An ordinary header without the blank line."""
        rng = self.rng
        lines = [f"Received: from host{n}.outside.test by relay{n}.outside.test; {self.date()}" for n in range(rng.randint(0, 4))]
        lines += [
            f"From: {_named(rng.choice(_NAMES), self.sender)}",
            "To: " + ",\r\n ".join(_named(rng.choice(_NAMES), one) if rng.random() < 0.5 else one for one in self.recipients),
            f"Subject: {subject or ' '.join(rng.choices(_WORDS, k=4))}",
            f"Date: {self.date()}",
        ]
        if message_id:
            lines.append(f"Message-ID: <{self.token}@outside.test>")
        if rng.random() < 0.3:
            lines.append("X-Mailer: Some Program 7.1 (build 4711)")
        return "".join(f"{line}\r\n" for line in [*lines, *more])

    def boundary(self) -> str:
        """A boundary of one of the usual shapes."""
        number = self.rng.randrange(10**12)
        return self.rng.choice((f"=_{number}", f"----=_NextPart_000_{number:012X}", f"b{number}", f"--{number}"))

    def bytes(self, least: int, most: int) -> bytes:
        """Noise."""
        return self.rng.randbytes(self.rng.randint(least, most))


def _named(name: str, address: str) -> str:
    if not name.isascii():
        return f"=?utf-8?B?{base64.b64encode(name.encode()).decode()}?= <{address}>"
    return f'"{name}" <{address}>' if "." in name or "'" in name else f"{name} <{address}>"


def _base64(data: bytes) -> str:
    return base64.encodebytes(data).decode().replace("\n", "\r\n")


def _quoted(text: str, charset: str = "utf-8") -> str:
    return quopri.encodestring(text.replace("\r\n", "\n").encode(charset)).decode("ascii").replace("\n", "\r\n")


def _multipart(maker: Maker, subtype: str, parts: Sequence[str], *, close: bool = True, preamble: str = "") -> tuple[str, str]:
    """A Content-Type line and the body. Parts bring their own headers."""
    boundary = maker.boundary()
    body = preamble + "".join(f"--{boundary}\r\n{part}" + ("" if part.endswith("\r\n") else "\r\n") for part in parts)
    return f'Content-Type: multipart/{subtype};\r\n\tboundary="{boundary}"', body + (f"--{boundary}--\r\n" if close else "")


def _part(kind: str, body: str, *more: str) -> str:
    return "".join(f"{line}\r\n" for line in (f"Content-Type: {kind}", *more)) + "\r\n" + body


_MIME = "MIME-Version: 1.0"
_B64 = "Content-Transfer-Encoding: base64"
_QP = "Content-Transfer-Encoding: quoted-printable"
_8BIT = "Content-Transfer-Encoding: 8bit"


def _plain(maker: Maker) -> str:
    return maker.head() + "\r\n" + maker.text()


def _eight_bit(maker: Maker) -> str:
    body = "".join(" ".join(maker.rng.choices(_GERMAN, k=8)) + "\r\n" for _ in range(maker.rng.randint(2, 30)))
    return maker.head("", _MIME, "Content-Type: text/plain; charset=utf-8", _8BIT) + "\r\n" + body + maker.text(2)


def _latin1(maker: Maker) -> bytes:
    body = " ".join(maker.rng.choices(_GERMAN, k=40)).replace("–", "-")
    head = maker.head("=?iso-8859-1?Q?Pr=FCfung_der_T=FCr?=", _MIME, "Content-Type: text/plain; charset=iso-8859-1", _8BIT)
    return (head + "\r\n" + body + "\r\n" + maker.text(2)).encode("latin-1")


def _raw_header(maker: Maker) -> bytes:
    """8-bit bytes in the header, against the rules, as real mail has them."""
    return maker.head().replace("Subject: ", "Subject: Überweisung ").encode("latin-1") + b"\r\n" + maker.text().encode()


def _long_lines(maker: Maker) -> str:
    lines = "".join(maker.rng.choice("abcdef ") * maker.rng.randint(700, 900) + "x\r\n" for _ in range(maker.rng.randint(2, 20)))
    return maker.head() + "\r\n" + lines + maker.text(2)


def _attachment(maker: Maker) -> str:
    name = maker.rng.choice(('filename="report.pdf"', "filename*=utf-8''Pr%C3%BCfung.pdf", 'filename="=?utf-8?Q?T=C3=BCr.pdf?="'))
    kind, body = _multipart(
        maker,
        "mixed",
        [
            _part("text/plain; charset=us-ascii", maker.text()),
            _part("application/pdf", _base64(maker.bytes(2_000, 60_000)), _B64, f"Content-Disposition: attachment; {name}"),
        ],
        preamble="This is a multi-part message in MIME format.\r\n",
    )
    return maker.head("", _MIME, kind) + "\r\n" + body


def _quoted_attachment(maker: Maker) -> str:
    table = "".join(f"{n};{maker.rng.random():.4f};Größe = {n % 7}\r\n" for n in range(200))
    kind, body = _multipart(
        maker,
        "mixed",
        [
            _part("text/plain; charset=utf-8", _quoted("Grüße und eine Tabelle\r\n" + maker.text(3)), _QP),
            _part(
                "text/csv; charset=utf-8; name=list.csv",
                _quoted(table),
                _QP,
                "Content-Disposition: attachment; filename=list.csv",
            ),
        ],
    )
    return maker.head("", _MIME, kind) + "\r\n" + body


def _alternative_parts(maker: Maker) -> tuple[str, str]:
    text = maker.text(8)
    html = "<html><body><p>" + "<br>\r\n".join(text.splitlines()) + '</p><img src=3D"cid:logo@x"></body></html>\r\n'
    return _multipart(
        maker, "alternative", [_part("text/plain; charset=utf-8", text), _part("text/html; charset=utf-8", html, _QP)]
    )


def _alternative(maker: Maker) -> str:
    kind, body = _alternative_parts(maker)
    return maker.head("", _MIME, kind) + "\r\n" + body


def _html_only(maker: Maker) -> str:
    html = "<!DOCTYPE html>\r\n<html><head><style>p { color: #333 }</style></head><body>\r\n"
    html += "".join(f"<p>{line}</p>\r\n" for line in maker.text().splitlines()) + "</body></html>\r\n"
    return (
        maker.head("", _MIME, "Content-Type: text/html; charset=UTF-8", "List-Unsubscribe: <mailto:out@outside.test>")
        + "\r\n"
        + html
    )


def _nested(maker: Maker) -> str:
    alternative, inner = _alternative_parts(maker)
    picture = _part("image/png", _base64(maker.bytes(300, 9_000)), _B64, "Content-ID: <logo@x>", "Content-Disposition: inline")
    related, middle = _multipart(maker, "related", [f"{alternative}\r\n\r\n{inner}", picture])
    mixed, outer = _multipart(
        maker, "mixed", [f"{related}\r\n\r\n{middle}", _part("application/octet-stream", _base64(maker.bytes(10, 900)), _B64)]
    )
    return maker.head("", _MIME, mixed) + "\r\n" + outer


def _forwarded(maker: Maker) -> str:
    inner = Maker(maker.rng, "third@elsewhere.test", ["someone@elsewhere.test"], maker.token + "i")
    kind, body = _multipart(
        maker, "mixed", [_part("text/plain", maker.text(3)), _part("message/rfc822", inner.head("inner") + "\r\n" + inner.text())]
    )
    return maker.head("Fwd: inner", _MIME, kind) + "\r\n" + body


def _report(maker: Maker) -> str:
    status = f"Reporting-MTA: dns; mx.outside.test\r\n\r\nFinal-Recipient: rfc822; {maker.sender}\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    kind, body = _multipart(
        maker,
        "report; report-type=delivery-status",
        [
            _part("text/plain", maker.text(3)),
            _part("message/delivery-status", status),
            _part("text/rfc822-headers", maker.head("sent")),
        ],
    )
    return maker.head("Undelivered Mail Returned to Sender", "Auto-Submitted: auto-replied", _MIME, kind) + "\r\n" + body


def _no_message_id(maker: Maker) -> str:
    return maker.head(message_id=False) + "\r\n" + maker.text()


def _dots(maker: Maker) -> str:
    lines = [".", "..", "...", ".a", "a.", " .", ".."]
    maker.rng.shuffle(lines)
    return maker.head("dots") + "\r\n" + ".\r\n" + "".join(f"{line}\r\n" for line in lines) + f".{maker.token}\r\n.\r\n"


def _leading_dots(maker: Maker) -> str:
    return maker.head() + "\r\n" + "".join(f".{line}\r\n" for line in maker.text().splitlines())


def _bare_minimum(maker: Maker) -> str:
    return f"From: {maker.sender}\r\nDate: {maker.date()}\r\n\r\n{maker.token}\r\n"


def _no_headers(maker: Maker) -> str:
    return f"just text {maker.token}\r\n\r\nand more of it\r\n"


def _empty_body(maker: Maker) -> str:
    return maker.head() + "\r\n"


def _header_only(maker: Maker) -> str:
    """Not even the blank line."""
    return maker.head()


def _encoded_subject(maker: Maker) -> str:
    words = [f"=?utf-8?B?{base64.b64encode(f'Prüfung {word} '.encode()).decode()}?=" for word in maker.rng.choices(_WORDS, k=5)]
    return maker.head("\r\n ".join(words)) + "\r\n" + maker.text()


def _japanese(maker: Maker) -> bytes:
    subject = base64.b64encode("来週の会議".encode("iso-2022-jp")).decode()
    head = maker.head(
        f"=?ISO-2022-JP?B?{subject}?=", _MIME, "Content-Type: text/plain; charset=iso-2022-jp", "Content-Transfer-Encoding: 7bit"
    )
    return (head + "\r\n").encode() + (_JAPANESE + "\r\n").encode("iso-2022-jp") * 4 + maker.text(1).encode()


def _flowed(maker: Maker) -> str:
    body = "".join(f"> {line} \r\n" for line in maker.text().splitlines()) + "\r\nyes, \r\nindeed.\r\n-- \r\nBob\r\n"
    return maker.head("Re: flowed", "In-Reply-To: <first@outside.test>", "References: <first@outside.test>", _MIME,
                      "Content-Type: text/plain; charset=us-ascii; format=flowed; delsp=no") + "\r\n" + body  # fmt: skip


def _calendar(maker: Maker) -> str:
    event = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\n"
        f"UID:{maker.token}\r\nDTSTART:20261201T100000Z\r\nSUMMARY:Meeting\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    kind, body = _multipart(
        maker, "alternative", [_part("text/plain", maker.text(2)), _part("text/calendar; method=REQUEST; charset=utf-8", event)]
    )
    return maker.head("Invitation: Meeting", _MIME, kind) + "\r\n" + body


def _missing_boundary(maker: Maker) -> str:
    kind, body = _multipart(
        maker, "mixed", [_part("text/plain", maker.text(3)), _part("text/plain", "the last part never ends\r\n")], close=False
    )
    return maker.head("", _MIME, kind) + "\r\n" + body


def _folded_header(maker: Maker) -> str:
    """Long folded fields, odd white space, odd case, fields twice."""
    references = "\r\n\t".join(f"<{maker.rng.randrange(10**15)}@outside.test>" for _ in range(30))
    return (
        maker.head("a \r\n\t folded  one", f"REFERENCES:{references}", "x-odd :  value", "Comments: one", "Comments: two")
        + "\r\n"
        + maker.text()
    )


def _signed(maker: Maker) -> str:
    signature = _base64(maker.bytes(800, 1_200))
    kind, body = _multipart(
        maker,
        'signed; protocol="application/pkcs7-signature"; micalg=sha-256',
        [
            _part("text/plain; charset=us-ascii", maker.text(5)),
            _part(
                'application/pkcs7-signature; name="smime.p7s"',
                signature,
                _B64,
                "Content-Disposition: attachment; filename=smime.p7s",
            ),
        ],
    )
    return maker.head("", _MIME, kind) + "\r\n" + body


KINDS: dict[str, Callable[[Maker], str | bytes]] = {
    "plain": _plain,
    "8-bit": _eight_bit,
    "latin-1": _latin1,
    "raw 8-bit header": _raw_header,
    "long lines": _long_lines,
    "attachment": _attachment,
    "quoted-printable attachment": _quoted_attachment,
    "alternative": _alternative,
    "html only": _html_only,
    "nested": _nested,
    "forwarded": _forwarded,
    "report": _report,
    "no message-id": _no_message_id,
    "dots": _dots,
    "leading dots": _leading_dots,
    "bare minimum": _bare_minimum,
    "no headers": _no_headers,
    "empty body": _empty_body,
    "header only": _header_only,
    "encoded subject": _encoded_subject,
    "japanese": _japanese,
    "flowed": _flowed,
    "calendar": _calendar,
    "missing boundary": _missing_boundary,
    "folded header": _folded_header,
    "signed": _signed,
}
"""Every kind, in the order in which ``messages`` makes them."""


def messages(
    count: int, seed: int, *, sender: str, recipients: Sequence[str], kinds: Sequence[str] = tuple(KINDS)
) -> Iterator[Sample]:
    """``count`` messages, each kind in turn. Most go to one of the recipients, every fourth to several; every 23rd comes from ``<>``."""
    rng = random.Random(seed)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        wanted = rng.randint(1, len(recipients)) if number % 4 == 3 else 1
        to = tuple(rng.sample(list(recipients), wanted))
        maker = Maker(rng, sender, to, f"{seed:x}-{number:x}-{rng.randrange(1 << 40):010x}")
        made = KINDS[kind](maker)
        data = made if isinstance(made, bytes) else made.encode()
        yield Sample(kind, "" if number % 23 == 22 else sender, to, data)


def big(size: int = 20 << 20, seed: int = 1, *, sender: str, recipients: Sequence[str]) -> Sample:
    """One message with an attachment that makes it ``size`` bytes long, give or take a line."""
    rng = random.Random(seed)
    maker = Maker(rng, sender, recipients, f"big-{seed:x}-{rng.randrange(1 << 40):010x}")
    noise = _base64(rng.randbytes(size * 57 // 78))
    kind, body = _multipart(
        maker,
        "mixed",
        [
            _part("text/plain", maker.text(3)),
            _part("application/zip", noise, _B64, 'Content-Disposition: attachment; filename="big.zip"'),
        ],
    )
    return Sample("big", sender, tuple(recipients), (maker.head("big", _MIME, kind) + "\r\n" + body).encode())
