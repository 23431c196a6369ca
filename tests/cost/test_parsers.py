"""What parsing costs (rule 8d): twice as much of it never much more than twice the time, and the largest that the limits allow never a long turn.

By the CPU time of this thread, so that the machine's load does not count. Commands of sessions are in ``test_doors.py`` and ``test_imap.py``, structures and texts of mail in
``test_mime.py``, ``mime.conversion`` in ``tests/mime/test_conversion.py``. Not covered: what is parsed in worker processes and threads alone (texts of attachments), the parsers of foreign
libraries behind them, and what only an administrator says (configuration, queries of the command line).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from hornetmail.core.mail import address, dsn, received, spf
from hornetmail.core.mail.dates import parse_date, parse_day
from hornetmail.core.mail.fields import mbox_end
from hornetmail.core.mail.reply import Reply
from hornetmail.filter.spam import tagged
from hornetmail.mime import charset, headers
from hornetmail.mime.reading.html import html_to_text
from hornetmail.mime.transfer import decoded
from hornetmail.mime.words import Unwritable, folded, for_old_readers, in_ascii
from hornetmail.servers.header import without_bcc
from hornetmail.wire.engine import NEED_DATA, Broken, Chunk, Engine, Event
from hornetmail.wire.imap.requests.parse import parse_command
from hornetmail.wire.imap.tokens.grammar import Bad
from hornetmail.wire.imap.tokens.names import decode_name
from hornetmail.wire.pop3 import events as pop3
from hornetmail.wire.pop3.server import POP3Policy, POP3ServerEngine
from hornetmail.wire.smtp import events as smtp
from hornetmail.wire.smtp.data import Stuffer
from hornetmail.wire.smtp.replies import ReplyParser
from hornetmail.wire.smtp.server import Policy, ServerEngine
from tests.cost.turns import MOST, calm, grows

OK = Reply(250, "2.0.0", "ok")

LINE = 65_536
"""The longest line of IMAP, and more than any other command."""

COMMANDS: dict[str, tuple[bytes, bytes, bytes]] = {
    "keys": (b"a SEARCH", b" ALL", b""),
    "keys in parentheses": (b"a SEARCH ", b"(ALL) ", b"ALL"),
    "parentheses": (b"a SEARCH ", b"(", b""),
    "not": (b"a SEARCH ", b"NOT ", b"ALL"),
    "or": (b"a SEARCH ", b"OR ALL ", b"ALL"),
    "numbers": (b"a UID FETCH 1", b",1", b" FLAGS"),
    "ranges": (b"a UID FETCH 1", b",1:*", b" FLAGS"),
    "items": (b"a FETCH 1 (FLAGS", b" FLAGS", b")"),
    "sections": (b"a FETCH 1 (FLAGS", b" BODY[1.2.MIME]<0.1>", b")"),
    "a deep section": (b"a FETCH 1 BODY[1", b".1", b"]"),
    "names of fields": (b"a FETCH 1 BODY[HEADER.FIELDS (a", b" a", b")]"),
    "flags": (b"a STORE 1 FLAGS (a", b" a", b")"),
    "patterns": (b'a LIST "" (a', b" a", b")"),
    "stars": (b'a LIST "" ', b"*", b""),
    "items of STATUS": (b"a STATUS x (MESSAGES", b" MESSAGES", b")"),
    "backslashes": (b'a LOGIN "', b"\\\\", b'" x'),
    "quotes": (b"a LOGIN ", b'"', b""),
    "spaces": (b"a NOOP", b" ", b""),
    "brackets": (b"a FETCH 1 ", b"[", b""),
    "a tag": (b"", b"a", b" NOOP"),
    "modified UTF-7": (b"a SELECT ", b"&AOQ-", b""),
    "ampersands": (b"a SELECT ", b"&", b""),
    "criteria of SORT": (b"a SORT (DATE", b" DATE", b") UTF-8 ALL"),
    "sets of QRESYNC": (b"a SELECT x (QRESYNC (1 1 1", b",1", b"))"),
    "entries of GETMETADATA": (b"a GETMETADATA x (/shared/a", b" /shared/a", b")"),
    "values of SETMETADATA": (b"a SETMETADATA x (/shared/a NIL", b" /shared/a NIL", b")"),
    "levels of an entry": (b"a GETMETADATA x /shared", b"/a", b""),
    "a value": (b'a SETMETADATA x (/shared/a "', b"\\\\", b'")'),
    "pairs of ID": (b'a ID ("a" "b"', b' "a" "b"', b")"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_imap_commands(name: str) -> None:
    """One command of one line, as long as it may be; refused ones too."""
    head, repeated, tail = COMMANDS[name]

    def parse(n: int) -> None:
        try:
            parse_command(head + repeated * n + tail)
        except Bad:
            pass

    most = (LINE - len(head) - len(tail)) // len(repeated)
    grows(parse, most // 4)
    assert calm(lambda: taken(lambda: parse(most))) < MOST


def taken(work: Callable[[], Any]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def smtp_engine(text: bool) -> ServerEngine:
    engine = ServerEngine(Policy(auth=("PLAIN",), auth_plaintext=True))
    engine.send(smtp.Greeting())
    engine.receive(b"EHLO x\r\n")
    engine.next_event()
    engine.send(smtp.Welcome())
    if text:
        for line, out in (
            (b"MAIL FROM:<a@b>\r\n", smtp.Accept(OK)),
            (b"RCPT TO:<a@b>\r\n", smtp.Accept(OK)),
            (b"DATA\r\n", smtp.GoAhead()),
        ):
            engine.receive(line)
            engine.next_event()
            engine.send(out)
    return engine


def pop3_engine() -> POP3ServerEngine:
    engine = POP3ServerEngine(POP3Policy(plaintext_login=True))
    engine.send(pop3.Greeting())
    return engine


def fed(engine: Engine, data: bytes, piece: int) -> None:
    """All of it in pieces; mistakes are answered as the engine wants."""
    for at in range(0, len(data), piece):
        engine.receive(data[at : at + piece])
        while isinstance(event := engine.next_event(), Event):
            if isinstance(event, Broken):
                engine.send(event.suggested)
            elif not isinstance(event, Chunk):
                return
        if event is not NEED_DATA:
            return


STREAMS: dict[str, tuple[Callable[[], Engine], bytes]] = {
    "SMTP: unknown commands": (lambda: smtp_engine(False), b"X\r\n"),
    "SMTP: bare LF": (lambda: smtp_engine(False), b"\n"),
    "SMTP: a line without end": (lambda: smtp_engine(False), b"x"),
    "SMTP: paths with quotes": (lambda: smtp_engine(False), b'MAIL FROM:<"' + b"\\x" * 400 + b"\r\n"),
    "SMTP: brackets": (lambda: smtp_engine(False), b"MAIL FROM:" + b"<" * 1000 + b"\r\n"),
    "SMTP: source routes": (lambda: smtp_engine(False), b"MAIL FROM:<" + b"@a," * 500 + b":x\r\n"),
    "SMTP: parameters": (lambda: smtp_engine(False), b"MAIL FROM:<a@b>" + b" A=b" * 400 + b"\r\n"),
    "SMTP: escapes": (lambda: smtp_engine(False), b"MAIL FROM:<a@b> ENVID=" + b"+2B" * 500 + b"+\r\n"),
    "SMTP: no base64": (lambda: smtp_engine(False), b"AUTH PLAIN " + b"=" * 2000 + b"\r\n"),
    "SMTP text: dots": (lambda: smtp_engine(True), b"..\r\n"),
    "SMTP text: one line": (lambda: smtp_engine(True), b"x"),
    "SMTP text: empty lines": (lambda: smtp_engine(True), b"\r\n"),
    "SMTP text: CR": (lambda: smtp_engine(True), b"\r"),
    "SMTP text: LF": (lambda: smtp_engine(True), b"\n"),
    "SMTP text: almost ends": (lambda: smtp_engine(True), b"\r\n.\r"),
    "POP3: unknown commands": (pop3_engine, b"X\r\n"),
    "POP3: a line without end": (pop3_engine, b"x"),
    "POP3: spaces": (pop3_engine, b"STAT" + b" " * 2000 + b"\r\n"),
    "POP3: no base64": (pop3_engine, b"AUTH PLAIN " + b"=" * 2000 + b"\r\n"),
}


@pytest.mark.parametrize("piece", [1, 1_000])
@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str, piece: int) -> None:
    """An engine that copies or searches again what it holds with each piece that comes: a client sends single bytes, and it costs the square of them."""
    made, repeated = STREAMS[name]
    size = 8_000 if piece < 100 else 40_000
    grows(lambda n: fed(made(), repeated * (n // len(repeated) + 1), piece), size)


@pytest.mark.parametrize("piece", [1, 65_536])
@pytest.mark.parametrize("repeated", [b"250-x\r\n", b"250-" + b"x" * 500 + b"\r\n", b"250 x\r\n", b"x", b"\r\n"])
def test_replies(repeated: bytes, piece: int) -> None:
    """A server's replies, of many lines or of one that never ends."""

    def read(n: int) -> None:
        parser = ReplyParser()
        data = repeated * (n // len(repeated) + 1)
        for at in range(0, len(data), piece):
            parser.feed(data[at : at + piece])
            while parser.next() is not None:
                pass
            if parser.fault:
                return

    grows(read, 8_000 if piece == 1 else 100_000)


@pytest.mark.parametrize("repeated", [b".\r\n", b"\r\n", b"x", b"\n.", b"\r"])
def test_transparency(repeated: bytes) -> None:
    """Text on its way out."""
    grows(lambda n: Stuffer().feed(repeated * n), 50_000)


def tolerant(read: Callable[..., Any], *refused: type[Exception]) -> Callable[[Any], None]:
    def reading(value: Any) -> None:
        try:
            read(value)
        except refused:
            pass

    return reading


EVIL = (b"a", b" ", b"\t", b",", b"<", b">", b"@", b"(", b")", b'"', b"\\", b":", b";", b"=", b"=?", b"?=", b"=?utf-8?q?a?= ", b"=?iso-2022-jp?b?GyRC?=", b"\xc3\xa4", b"\xff", b"%", b"*", b"'", b"\r\n ", b"a@b, ", b"x*0*=a; ", b"x=y; ", b"Mon, ", b"1 Jan ", b"From x\r\n", b"A: b\r\n", b"<a@b> ", b"+", b"&", b"~", b"\x1b$B", b"[", b"-", b".")  # fmt: skip

VALUES: dict[str, Callable[[Any], None]] = {
    "addresses": headers.addresses,
    "parameters": lambda raw: headers.decode_parameters(headers.parameters(raw)[1]),
    "encoded words": headers.decode_text,
    "message IDs": headers.message_ids,
    "fields": lambda raw: headers.every(raw, b"subject"),
    "an mbox": mbox_end,
    "dates": parse_date,
    "days": parse_day,
    "charsets": charset.decode,
    "charsets by label": lambda raw: [
        charset.decode(raw, label) for label in ("utf-7", "iso-2022-jp", "shift_jis", "gb18030", "hz", "big5")
    ],
    "base64": lambda raw: decoded(raw, "BASE64"),
    "quoted-printable": lambda raw: decoded(raw, "QUOTED-PRINTABLE"),
    "a header in ASCII": tolerant(in_ascii, Unwritable),
    "a header for old readers": tolerant(for_old_readers, Unwritable),
    "a header folded": tolerant(folded, Unwritable),
    "a header without Bcc": lambda raw: without_bcc(b"Bcc: x\r\n" + raw),
    "Received": lambda raw: received.own(b"Received: by x (HornetMail)" + raw, "x"),
    "marks of spam": lambda raw: tagged(b"X-Spam: " + raw),
    "the start of a message": dsn.header_of,
    "HTML": lambda raw: html_to_text("<p>" + raw.decode("latin-1")),
    "folders": tolerant(decode_name, Bad, ValueError),
    "an address": tolerant(lambda raw: address.parse(raw.decode("latin-1")), ValueError),
    "SPF": tolerant(lambda raw: spf.parse("v=spf1 " + raw.decode("latin-1")), ValueError),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    """What mail is made of, each of it very often: a pattern that goes back and forth, a string put together by halves."""
    read = VALUES[name]
    for repeated in EVIL:
        for around in (b"", b'a; b="'):
            grows(lambda n, repeated=repeated, around=around: read(around + repeated * (n // len(repeated))), 10_000)  # type: ignore[misc]
