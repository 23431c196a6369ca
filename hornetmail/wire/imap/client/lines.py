"""A command's bytes, in the parts that a server may want to ask for (RFC 3501 section 9, RFC 7888)."""

from __future__ import annotations

import binascii
from collections.abc import Collection, Sequence

from hornetmail.wire.engine import LocalProtocolError, Out
from hornetmail.wire.imap.answers.render import string
from hornetmail.wire.imap.client import commands as c
from hornetmail.wire.imap.tokens.dates import render_date_time

SMALL = 4096
"""A literal of so many bytes need not be asked for where LITERAL- is offered (RFC 7888 section 5); larger ones are, so that a refusal comes before them."""


class Line:
    """``parts``: each but the first is sent when it was wanted."""

    def __init__(self, capabilities: Collection[str]) -> None:
        self.parts: list[bytes] = [b""]
        self._unasked = "LITERAL+" in capabilities or "LITERAL-" in capabilities

    def add(self, data: bytes | str) -> Line:
        """As it is, behind a space."""
        try:
            raw = data.encode("ascii") if isinstance(data, str) else data
        except UnicodeEncodeError:
            raise LocalProtocolError("a command takes ASCII") from None
        if b"\r" in raw or b"\n" in raw or b"\0" in raw:
            raise LocalProtocolError("a command holds a line end")
        self._put(b" " + raw)
        return self

    def _put(self, raw: bytes) -> None:
        self.parts[-1] += raw

    def string(self, data: bytes) -> Line:
        """A string: quoted, or as a literal."""
        if b"\0" in data:
            raise LocalProtocolError("a string holds NUL")
        if data.isascii() and b"\r" not in data and b"\n" not in data:
            return self.add(string(data))
        self.literal(len(data))
        self._put(data)
        return self

    def literal(self, size: int, mark: bytes = b"") -> bool:
        """The announcement of one; whether it need not be asked for."""
        unasked = self._unasked and size <= SMALL
        self._put(b" %b{%d%b}\r\n" % (mark, size, b"+" if unasked else b""))
        if not unasked:
            self.parts.append(b"")
        return unasked


def line(command: Out, tag: bytes, capabilities: Collection[str]) -> Line:
    """The whole of a command but for an APPEND's message. Raises LocalProtocolError for what cannot be said."""
    made = Line(capabilities)
    made.parts[0] = tag
    match command:
        case c.Id(fields=fields):
            made.add("ID")
            made.add(b"(%b)" % b" ".join(_quoted(each) for field in fields for each in field) if fields else b"NIL")
        case c.Login(user=user, password=password):
            made.add("LOGIN").string(user).string(password)
        case c.Authenticate(mechanism=mechanism, initial=initial):
            made.add("AUTHENTICATE").add(mechanism)
            if initial is not None and "SASL-IR" in capabilities:
                made.add(base64(initial) or b"=")
        case c.Enable(words=words):
            made.add("ENABLE").add(" ".join(words))
        case c.List(reference=reference, pattern=pattern, uses=uses):
            made.add("LIST").string(reference).string(pattern)
            if uses and "SPECIAL-USE" in capabilities and "LIST-EXTENDED" in capabilities:
                made.add("RETURN (SPECIAL-USE)")
        case c.Select(mailbox=mailbox, readonly=readonly):
            made.add("EXAMINE" if readonly else "SELECT").string(mailbox)
        case c.Create(mailbox=mailbox, use=use):
            made.add("CREATE").string(mailbox)
            if use and "CREATE-SPECIAL-USE" in capabilities:
                made.add(f"(USE ({use}))")
        case c.Subscribe(mailbox=mailbox):
            made.add("SUBSCRIBE").string(mailbox)
        case c.Append():
            made.add("APPEND").string(command.mailbox)
            if command.flags:
                made.add(f"({' '.join(command.flags)})")
            if command.date is not None:
                made.add(render_date_time(command.date))
            made.literal(command.size, b"~" if command.binary else b"")
        case _:
            _selected(command, made, capabilities)
    return made


def _selected(command: Out, made: Line, capabilities: Collection[str]) -> None:
    match command:
        case c.UidSearch(keys=keys):
            made.add("UID SEARCH")
            if "ESEARCH" in capabilities or "IMAP4REV2" in capabilities:
                made.add("RETURN (ALL)")
            if any(isinstance(key, bytes) and not key.isascii() for key in keys):
                made.add("CHARSET UTF-8")
            for key in keys:
                made.add(key) if isinstance(key, str) else made.string(key)
        case c.UidFetch(uids=uids, items=items):
            made.add("UID FETCH").add(ranges(uids)).add(f"({' '.join(items)})")
        case c.UidStore(uids=uids, how=how, flags=flags):
            made.add("UID STORE").add(ranges(uids)).add(how).add(f"({' '.join(flags)})")
        case c.UidCopy(uids=uids, mailbox=mailbox):
            made.add("UID COPY").add(ranges(uids)).string(mailbox)
        case c.UidMove(uids=uids, mailbox=mailbox):
            made.add("UID MOVE").add(ranges(uids)).string(mailbox)
        case c.UidExpunge(uids=uids):
            made.add("UID EXPUNGE").add(ranges(uids))
        case _:
            bare = _BARE.get(type(command))
            if bare is None:
                raise LocalProtocolError(f"{type(command).__name__} is no command")
            made.add(bare)


def _quoted(data: bytes) -> bytes:
    if not data.isascii():
        raise LocalProtocolError("ID takes ASCII")
    return string(data)


def ranges(uids: Sequence[tuple[int, int]]) -> bytes:
    """A sequence set. Raises LocalProtocolError for none at all."""
    if not uids:
        raise LocalProtocolError("no messages are named")
    return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in uids)


def base64(data: bytes) -> bytes:
    """As SASL goes over the line."""
    return binascii.b2a_base64(data, newline=False)


_BARE: dict[type[Out], str] = {
    c.Capability: "CAPABILITY",
    c.Noop: "NOOP",
    c.Logout: "LOGOUT",
    c.StartTLS: "STARTTLS",
    c.Namespace: "NAMESPACE",
    c.Unselect: "UNSELECT",
}
