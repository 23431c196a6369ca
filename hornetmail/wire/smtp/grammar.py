"""Command lines of SMTP, and replies, as text: what a line says, or the reply that tells what is wrong with it."""

from __future__ import annotations

import binascii

from hornetmail.core.mail.address import AddressError, domain_of, parse
from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.wire.smtp.events import Mail, Rcpt

REPLY_LINE = 500
"""Longest text of one reply line in bytes; RFC 5321 section 4.5.3.1.5 allows 512 with code and CRLF."""


class Fault(Exception):
    """A command that cannot be understood; ``reply`` is what the client gets."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.reply = Reply(code, enhanced, text)


class Offered:
    """Which parameters MAIL and RCPT may bear."""

    __slots__ = ("dsn", "esmtp", "smtputf8")

    def __init__(self, *, esmtp: bool, smtputf8: bool, dsn: bool) -> None:
        self.esmtp = esmtp
        self.smtputf8 = smtputf8
        self.dsn = dsn


def render(reply: Reply) -> bytes:
    """A reply on the wire. Text that does not fit there (controls, non-ASCII, overlong lines) is made to fit."""
    head = f"{reply.code} {reply.enhanced} " if reply.enhanced else f"{reply.code} "
    text = reply.text
    if text.isascii() and text.isprintable() and len(text) < REPLY_LINE:
        return f"{head}{text}\r\n".encode("ascii")
    lines = [_printable(line) for line in text.split("\n")]
    more = head.replace(" ", "-", 1)
    return "".join([f"{more}{line}\r\n" for line in lines[:-1]] + [f"{head}{lines[-1]}\r\n"]).encode("ascii")


def _printable(line: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in line.rstrip("\r"))[: REPLY_LINE - 1]


def parse_mail(argument: str, offered: Offered) -> Mail:
    """The argument of MAIL (RFC 5321 section 4.1.1.2). Raises Fault."""
    path, rest = _path(argument, "FROM:")
    parameters = _parameters(rest, offered.esmtp)
    size, eight_bit, smtputf8, ret, envid = 0, False, False, "", ""
    for name, value in parameters.items():
        match name:
            case "SIZE":
                if not (value.isascii() and value.isdigit()) or len(value) > 20:
                    raise Fault(501, "5.5.4", "SIZE wants a number of bytes")
                size = int(value)
            case "BODY":
                if value.upper() not in ("7BIT", "8BITMIME"):
                    raise Fault(501, "5.5.4", "BODY is 7BIT or 8BITMIME")
                eight_bit = value.upper() == "8BITMIME"
            case "SMTPUTF8" if offered.smtputf8 and not value:
                smtputf8 = True
            case "AUTH":
                pass  # RFC 4954 section 5: what others authenticated is not trusted here
            case "RET" if offered.dsn:
                ret = value.upper()
                if ret not in ("FULL", "HDRS"):
                    raise Fault(501, "5.5.4", "RET is FULL or HDRS")
            case "ENVID" if offered.dsn:
                envid = _xtext(value)
                if not envid or len(value) > 100:
                    raise Fault(501, "5.5.4", "ENVID wants 1 to 100 characters")
            case _:
                raise Fault(555, "5.5.4", f"parameter {name} is not known here")
    if path:
        if not path.isascii() and not smtputf8:
            raise Fault(553, "5.6.7", "non-ASCII addresses need SMTPUTF8")
        _check(path, "5.1.7")
    return Mail(path, size, eight_bit, smtputf8, ret, envid)


def parse_rcpt(argument: str, offered: Offered, smtputf8: bool) -> Rcpt:
    """The argument of RCPT (RFC 5321 section 4.1.1.3). Raises Fault."""
    path, rest = _path(argument, "TO:")
    parameters = _parameters(rest, offered.esmtp)
    notify: tuple[str, ...] = ()
    orcpt = ""
    for name, value in parameters.items():
        match name:
            case "NOTIFY" if offered.dsn:
                notify = _notify(value)
            case "ORCPT" if offered.dsn:
                kind, semicolon, address = value.partition(";")
                if not semicolon or not kind or not address or len(value) > 500:
                    raise Fault(501, "5.5.4", "ORCPT wants type;address")
                orcpt = f"{kind};{_xtext(address)}"
            case _:
                raise Fault(555, "5.5.4", f"parameter {name} is not known here")
    if not path:
        raise Fault(501, "5.1.3", "a recipient has an address")
    if path.lower() != "postmaster":
        if not path.isascii() and not smtputf8:
            raise Fault(553, "5.6.7", "non-ASCII addresses need SMTPUTF8")
        _check(path, "5.1.3")
    return Rcpt(Recipient(path, notify, orcpt))


def _notify(value: str) -> tuple[str, ...]:
    wishes = tuple(value.upper().split(","))
    if wishes != ("NEVER",) and (
        not all(w in ("SUCCESS", "FAILURE", "DELAY") for w in wishes) or len(set(wishes)) != len(wishes)
    ):
        raise Fault(501, "5.5.4", "NOTIFY is NEVER or a list of SUCCESS, FAILURE and DELAY")
    return wishes


def _path(argument: str, word: str) -> tuple[str, str]:
    """``<path>`` behind FROM: or TO: without brackets and source route, and what follows it."""
    if argument[: len(word)].upper() != word:
        raise Fault(501, "5.5.4", f"write {word}<address>")
    text = argument[len(word) :].lstrip(" ")
    if not text.startswith("<"):
        raise Fault(501, "5.5.4", f"write {word}<address>, in angle brackets")
    end = _closing(text)
    path, rest = text[1:end], text[end + 1 :]
    if rest and not rest.startswith(" "):
        raise Fault(501, "5.5.4", "a space parts an address from its parameters")
    if path.startswith("@"):
        route, colon, path = path.partition(":")
        if not colon or not all(domain_of("x" + hop) for hop in route.split(",")):
            raise Fault(501, "5.1.3", "not a source route")
    return path, rest


def _closing(text: str) -> int:
    """Where the bracket closes, quoted strings skipped."""
    place = text.find(">")
    if place >= 0 and '"' not in text[:place]:
        return place
    quoted = escaped = False
    for place, c in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and c == "\\":
            escaped = True
        elif c == '"':
            quoted = not quoted
        elif c == ">" and not quoted:
            return place
    raise Fault(501, "5.5.4", "the angle bracket does not close")


def _check(path: str, enhanced: str) -> None:
    try:
        parse(path)
    except AddressError as error:
        raise Fault(501, enhanced, str(error)) from None


def _parameters(rest: str, esmtp: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in rest.split():
        name, _, value = word.partition("=")
        name = name.upper()
        if not name.replace("-", "").isalnum() or not name.isascii():
            raise Fault(501, "5.5.4", "parameters are NAME or NAME=value")
        if name in found:
            raise Fault(501, "5.5.4", f"parameter {name} twice")
        found[name] = value
    if found and not esmtp:
        raise Fault(555, "5.5.4", "parameters need EHLO")
    return found


def _xtext(value: str) -> str:
    """Decode RFC 3461 section 4's xtext."""
    out: list[str] = []
    parts = value.split("+")
    out.append(parts[0])
    for part in parts[1:]:
        try:
            out.append(chr(int(part[:2], 16)) + part[2:] if len(part) >= 2 else _broken_xtext())
        except ValueError:
            _broken_xtext()
    text = "".join(out)
    if not text.isprintable():
        _broken_xtext()
    return text


def _broken_xtext() -> str:
    raise Fault(501, "5.5.4", "not xtext")


def xtext(text: str) -> str:
    """Encode as xtext (RFC 3461 section 4); non-ASCII must not come here."""
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)


def unbase64(text: str) -> bytes:
    """The SASL way of base64; ``=`` alone is the empty string (RFC 4954 section 4). Raises Fault."""
    if text == "=":
        return b""
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        raise Fault(501, "5.5.2", "that is no base64") from None
