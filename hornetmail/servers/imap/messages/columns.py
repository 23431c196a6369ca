"""The answers of FETCH, many messages at once: what was asked for is a column each, and one format makes all lines of them
(``tests/cost/test_imap.py``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec

from hornetmail.core.folder import Entry
from hornetmail.mime.structure import Part
from hornetmail.servers.imap.messages import binary
from hornetmail.servers.imap.view import View
from hornetmail.wire.imap.answers.ready import asked, picked
from hornetmail.wire.imap.answers.render import nstring
from hornetmail.wire.imap.answers.structure import cut, pick_fields
from hornetmail.wire.imap.requests.items import Section
from hornetmail.wire.imap.tokens.dates import render_date_time

Span = tuple[int, int]

NUL = b"\x80"
"""What a NUL is in a literal, which cannot have one (RFC 3501 section 9, CHAR8); of the same length, as other servers do it."""

_WORDS = {
    "UID": b"UID %d",
    "FLAGS": b"FLAGS %b",
    "MODSEQ": b"MODSEQ (%d)",
    "RFC822.SIZE": b"RFC822.SIZE %d",
    "INTERNALDATE": b"INTERNALDATE %b",
    "SAVEDATE": b"SAVEDATE %b",
    "EMAILID": b"EMAILID (M%b)",
    "THREADID": b"THREADID NIL",  # RFC 8474 section 5.2: threads are what clients make of them
    "PREVIEW": b"PREVIEW %b",
    "ENVELOPE": b"ENVELOPE %b",
    "BODYSTRUCTURE": b"BODYSTRUCTURE %b",
    "BODY": b"BODY %b",
}


class Gathered(msgspec.Struct):
    """Some messages and what is known of them, by UID. ``numbers`` are those of ``entries``. ``summaries``: ENVELOPE and BODYSTRUCTURE; ``texts``: a piece for
    each section, None where there is no such part; ``encodings``: what has to be undone of each; ``long``: those that are read while they are sent, and
    where their pieces lie."""

    numbers: Sequence[int]
    entries: Sequence[Entry]
    seen: frozenset[int] = frozenset()
    trees: dict[int, Part] = {}
    summaries: dict[int, tuple[bytes, bytes]] = {}
    bodies: dict[int, bytes] = {}
    fields: dict[int, tuple[int, bytes]] = {}
    heads: dict[int, bytes] = {}
    previews: dict[int, bytes] = {}
    texts: dict[int, Sequence[bytes | None]] = {}
    encodings: dict[int, list[str]] = {}
    long: dict[int, list[Span | None]] = {}


Column = Callable[[Gathered, Sequence[Entry]], Iterable[Any]]
Text = Callable[[Gathered, int], bytes]
"""A section of the message with that UID, label and all."""


class Columns:
    """What a FETCH asks for. ``names``: items other than sections; ``tells_seen``: the mod-sequence is told with flags that reading changed."""

    def __init__(self, view: View, names: Sequence[str], sections: Sequence[Section], tells_modseq: bool) -> None:
        self._view = view
        self._sections = sections
        self._tells_flags = "FLAGS" in names
        self._tells_modseq = tells_modseq and "MODSEQ" not in names
        self._plain = [column for name in names if (column := self._column(name)) is not None]
        self._texts = [self._text(at, section) for at, section in enumerate(sections)]
        words = [_WORDS[name] for name in names]
        self._format = b"* %d FETCH (" + b" ".join([*words, *([b"%b"] if sections else [])]) + b")\r\n"
        head = b"* %d FETCH (" + b"".join([word + b" " for word in words])
        self._head = head + b"%b"
        self._marked = head + b"%b%b)\r\n"

    def _column(self, name: str) -> Column | None:
        match name:
            case "THREADID":
                return None
            case "UID":
                return lambda found, entries: [entry.uid for entry in entries]
            case "FLAGS":
                return lambda found, entries: self._view.flag_lists(entries)
            case "MODSEQ":
                return lambda found, entries: [entry.modseq for entry in entries]
            case "RFC822.SIZE":
                return lambda found, entries: [entry.size for entry in entries]
            case "INTERNALDATE":
                return lambda found, entries: [render_date_time(entry.date) for entry in entries]
            case "SAVEDATE":
                return lambda found, entries: [render_date_time(entry.saved) if entry.saved else b"NIL" for entry in entries]
            case "EMAILID":
                email_id = self._view.folder.email_id
                return lambda found, entries: [email_id(entry).encode("ascii") for entry in entries]
            case "PREVIEW":
                return lambda found, entries: [nstring(found.previews.get(entry.uid)) for entry in entries]
            case "ENVELOPE":
                return lambda found, entries: [found.summaries[entry.uid][0] for entry in entries]
            case "BODYSTRUCTURE":
                return lambda found, entries: [found.summaries[entry.uid][1] for entry in entries]
        return lambda found, entries: [found.bodies[entry.uid] for entry in entries]

    def _text(self, at: int, section: Section) -> Text:
        if not of_header(section):
            return lambda found, uid: self._piece(found, uid, at, section)
        if not (wanted := asked(section)):
            return lambda found, uid: labelled(section, whole_or_cut(section, found.heads[uid]))
        label = _label(section)

        def common(found: Gathered, uid: int) -> bytes:
            bits, fields = found.fields.get(uid, _ANEW)
            text = picked(bits, fields, section, wanted) if bits >= 0 else pick_fields(found.heads[uid], section)
            return b"%b {%d}\r\n%b" % (label, len(text), text.replace(b"\0", NUL))

        return common

    def _piece(self, found: Gathered, uid: int, at: int, section: Section) -> bytes:
        text = found.texts[uid][at]
        if section.decoded:
            return binary.answer(section, text, found.encodings[uid][at])
        return labelled(section, text)

    def lines(self, found: Gathered, start: int, end: int) -> bytes:
        """The answers about some of the messages."""
        entries = found.entries[start:end]
        columns = [column(found, entries) for column in self._plain]
        form = self._format
        if found.seen and self._sections:
            form = self._marked
            columns.append(self._marks(found, entries))
        if len(self._texts) == 1:
            [text] = self._texts
            columns.append([text(found, entry.uid) for entry in entries])
        elif self._texts:  # one column for all: hundreds may be asked for
            columns.append([b" ".join([text(found, entry.uid) for text in self._texts]) for entry in entries])
        return form * len(entries) % tuple(chain.from_iterable(zip(found.numbers[start:end], *columns, strict=True)))

    def head(self, found: Gathered, at: int) -> bytes:
        """The answer about one message as far as its first section."""
        entries = found.entries[at : at + 1]
        values = [next(iter(column(found, entries))) for column in self._plain]
        return self._head % (found.numbers[at], *values, self._marks(found, entries)[0])

    def text(self, found: Gathered, at: int, section: int) -> bytes:
        """One section of one message that was gathered with it."""
        return self._texts[section](found, found.entries[at].uid)

    def _marks(self, found: Gathered, entries: Sequence[Entry]) -> list[bytes]:
        """What reading made of the flags, where that was not asked for."""
        return [self._mark(entry) if entry.uid in found.seen else b"" for entry in entries]

    def _mark(self, entry: Entry) -> bytes:
        flags = b"" if self._tells_flags else b"FLAGS %b " % self._view.flags(entry)
        return flags + b"MODSEQ (%d) " % entry.modseq if self._tells_modseq else flags


_ANEW = (-1, b"")


def _label(section: Section) -> bytes:
    return section.label if section.start < 0 else b"%b<%d>" % (section.label, section.start)


def labelled(section: Section, text: bytes | None) -> bytes:
    """A section's piece, its fields picked."""
    if text is None:
        return _label(section) + b" NIL"
    if section.fields:
        text = pick_fields(text, section)
        start, end = cut(section, 0, len(text))
        text = text[start:end]
    return b"%b {%d}\r\n%b" % (_label(section), len(text), text.replace(b"\0", NUL))


def opening(section: Section, size: int) -> bytes:
    """What stands before so many bytes of a section."""
    return b"%b {%d}\r\n" % (_label(section), size)


def of_header(section: Section) -> bool:
    """Whether it is the message's own header, or fields of it: that is kept, and no file is opened for it."""
    return section.kind.startswith("HEADER") and not section.path


def whole_or_cut(section: Section, header: bytes) -> bytes:
    """A partial's piece of a header; fields are picked first, by ``labelled``."""
    if section.fields:
        return header
    start, end = cut(section, 0, len(header))
    return header[start:end]
