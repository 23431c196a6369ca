"""Search keys as functions of a message. Texts are compared without regard to case, decoded (RFC 2047, transfer encodings, charsets)."""

from __future__ import annotations

import enum
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hornetmail.core.folder import Entry, Sieve
from hornetmail.core.mail.dates import parse_day
from hornetmail.mime.headers import Mailaddress, decode_text, every, fields
from hornetmail.mime.structure import Part
from hornetmail.mime.transfer import PIECE_BYTES, label_in, texts
from hornetmail.servers.imap.view import View
from hornetmail.wire.imap.requests import search as keys
from hornetmail.wire.imap.tokens.dates import day_of
from hornetmail.wire.imap.tokens.sequences import SequenceSet


class Need(enum.IntEnum):
    """What must be known of a message to judge it; each includes those before it."""

    NUMBER = 0
    ENTRY = 1
    SUMMARY = 2
    HEADER = 3
    BODY = 4


_SUMMARISED = {"subject": "subject", "message-id": "message_id", "in-reply-to": "in_reply_to", "date": "date"}
_ADDRESSES = {"from": "from_", "to": "to", "cc": "cc", "bcc": "bcc"}


class Content:
    """The text of a message: ``data`` begins at its first byte and goes as far as it was needed. ``found``: of a message too large to be held, which of
    the needles its body has (``large``)."""

    __slots__ = ("_body", "_found", "data", "root")

    def __init__(self, root: Part, data: bytes, found: frozenset[str] | None = None) -> None:
        self.root = root
        self.data = data
        self._body: str | None = None
        self._found = found

    def header(self, name: str) -> Iterator[str]:
        """Values of a field, folded in case."""
        summary = self.root.summary
        if name in _ADDRESSES and summary is not None:
            found: tuple[Mailaddress, ...] = getattr(summary, _ADDRESSES[name])
            yield from map(_address, found)
        elif name in _SUMMARISED and summary is not None:
            value: bytes | None = getattr(summary, _SUMMARISED[name])
            if value is not None:
                yield folded(decode_text(value))
        else:
            for raw in every(self.data, name.encode("latin-1"), self.root.start, self.root.body):
                yield folded(decode_text(raw))

    @property
    def sent(self) -> int | None:
        """The day of the Date field as it is written there."""
        summary = self.root.summary
        return parse_day(summary.date) if summary is not None and summary.date else None

    def headers(self) -> str:
        """All fields of the message."""
        return header_text(self.data, self.root.start, self.root.body)

    def headers_have(self, needle: str) -> bool:
        """Whether a field of the message has it."""
        return needle in self.headers()

    def body_has(self, needle: str) -> bool:
        """Whether the text parts, decoded, or the headers of parts have it. A short body is decoded once for all needles."""
        if self._found is not None:
            return needle in self._found
        if len(self.data) > PIECE_BYTES:
            return any(occurs(needle, pieces) for pieces in _texts(self.root, self.data, top=True))
        return needle in self._whole_body()

    def _whole_body(self) -> str:
        if self._body is None:
            self._body = composed("\n".join("".join(pieces) for pieces in _texts(self.root, self.data, top=True)))
        return self._body

    def kept(self) -> tuple[bytes, bytes] | None:
        """Header and body as they are compared, for ``Kept``; None of a message that is compared in pieces."""
        if self._found is not None or len(self.data) > PIECE_BYTES:
            return None
        return _encoded(self.headers()), _encoded(self._whole_body())


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class Kept:
    """What a search before left of a message: enough for what it has, but for its single fields."""

    __slots__ = ("_body", "_headers")

    def __init__(self, headers: bytes, body: bytes) -> None:
        self._headers = headers
        self._body = body

    def headers_have(self, needle: str) -> bool:
        """See ``Content``."""
        return _encoded(needle) in self._headers

    def body_has(self, needle: str) -> bool:
        """See ``Content``."""
        return _encoded(needle) in self._body


def composed(text: str) -> str:
    """A letter and its marks as one sign, as most programs write them (Unicode's NFC): Ü is found however it is typed."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """As texts are compared."""
    return composed(text.casefold())


def _address(found: Mailaddress) -> str:
    name = decode_text(found.name) if found.name else ""
    return folded(f"{name} <{decode_text(found.mailbox or b'')}@{decode_text(found.host or b'')}>")


def header_text(data: bytes, start: int, end: int) -> str:
    """All fields of a header, decoded and folded in case."""
    lines = [
        f"{field.name.decode('latin-1')}: {decode_text(data[field.value : field.end])}" for field in fields(data, start, end)
    ]
    return folded("\n".join(lines))


def _texts(part: Part, data: bytes, top: bool) -> Iterator[Iterator[str]]:
    """The header of each part below the top, and each text: every one in pieces."""
    if not top:
        yield iter((header_text(data, part.start, part.body),))
    if part.parts:
        for child in part.parts:
            yield from _texts(child, data, top=False)
    elif part.type in ("TEXT", "MESSAGE"):
        raw = data[part.body : part.end]
        pieces = texts(raw, part.encoding, label_in(raw, part.encoding, part.subtype, part.param("charset") or ""))
        yield map(str.casefold, pieces)


def occurs(needle: str, pieces: Iterator[str]) -> bool:
    """Whether a text, folded in case, has it. Holds a piece and the needle's length."""
    seeker = Seeker((needle,))
    for piece in pieces:
        seeker.feed(piece)
        if not seeker.left:
            return True
    return False


class Seeker:
    """Looks for needles in texts that come in pieces, also across the ends of pieces. ``left``: those not found yet."""

    __slots__ = ("_keep", "_tail", "left")

    def __init__(self, needles: Iterable[str]) -> None:
        self.left = set(needles)
        self._keep = max(map(len, self.left), default=0)
        self._tail = ""

    def feed(self, piece: str) -> None:
        """A piece, folded in case."""
        text = composed(self._tail + piece)
        self.left = {needle for needle in self.left if needle not in text}
        self._tail = text[-self._keep :] if self._keep else ""

    def ends(self) -> None:
        """Another text follows."""
        self._tail = ""


Possible = Callable[[bytes, bytes], bool]
Light = Callable[[Entry], bool | None]
Match = Callable[[Entry, Any], bool]
"""Of an entry and its ``Content`` or ``Kept``."""


class Matcher:
    """A search compiled for a view. ``light`` answers from the entry alone, None when that is not enough; ``match`` answers always.
    ``now``: Unix seconds, for OLDER and YOUNGER.
    ``blind``: ``light`` never knows; ``of_texts``: nothing else of the messages is asked for than what ``Kept`` knows.
    ``light`` looks at the view and belongs to the reactor's thread; ``match`` looks at a copy of what it needs."""

    def __init__(self, key: keys.Key, view: View, now: float = 0.0) -> None:
        self._view = view
        self._now = now
        self._key = key
        self.need = _need(key)
        self.of_texts = _of_texts(key)
        self.blind = _blind(key)
        self.light = self._light(key)
        self.match = self._match(key)

    def needles(self) -> frozenset[str]:
        """What is looked for in bodies."""
        return frozenset(_needles(self._key))

    def sieve(self, entries: Mapping[int, Entry]) -> Sieve:
        """For texts that were kept of these messages; of others it says no."""
        match = self.match

        def judge(uid: int, headers: bytes, body: bytes) -> bool:
            entry = entries.get(uid)
            return entry is not None and match(entry, Kept(headers, body))

        return Sieve(judge, _possible(self._key))

    def candidates(self) -> list[int]:
        """UIDs that can match at all, by the first set of numbers that must hold."""
        numbers = self._sets()
        return list(self._view.picked(numbers[0].wanted, numbers[0].uid)) if numbers else self._view.uids.tolist()

    @property
    def plain(self) -> bool:
        """Nothing but that one set of numbers is asked for, or ALL."""
        parts = self._parts()
        return len(parts) == 1 and isinstance(parts[0], (keys.Numbers, keys.All))

    def _parts(self) -> tuple[keys.Key, ...]:
        return self._key.keys if isinstance(self._key, keys.And) else (self._key,)

    def _sets(self) -> list[keys.Numbers]:
        return [part for part in self._parts() if isinstance(part, keys.Numbers)]

    def _light(self, key: keys.Key) -> Light:
        match key:
            case keys.Not():
                inner = self._light(key.key)
                return lambda entry: None if (found := inner(entry)) is None else not found
            case keys.Or():
                return _either(self._light(key.left), self._light(key.right))
            case keys.And():
                return _both([self._light(inner) for inner in sorted(key.keys, key=_need)])
            case keys.Header() | keys.Text():
                return lambda entry: None
            case keys.Day(sent=True):
                return lambda entry: None
        return self._figure(key)

    def _figure(self, key: keys.Key) -> Callable[[Entry], bool]:
        """Keys that the entry alone decides."""
        match key:
            case keys.Flagged(flag="\\Recent"):
                first, present = self._view.recent_from, key.present
                return lambda entry: (entry.uid >= first) is present
            case keys.Flagged():
                flag, wanted = key.flag, key.present
                if flag.startswith("\\"):
                    return lambda entry: (flag in entry.flags) is wanted
                folded = flag.casefold()
                return lambda entry: any(have.casefold() == folded for have in entry.flags) is wanted
            case keys.Size():
                octets = key.octets
                return (lambda entry: entry.size > octets) if key.op == ">" else (lambda entry: entry.size < octets)
            case keys.Day(saved=True):  # RFC 8514 section 4.3: what has no save date has its internal date
                return lambda entry: _compared(day_of(entry.saved or entry.date), key)
            case keys.Day():
                return lambda entry: _compared(day_of(entry.date), key)
            case keys.EmailId():
                email_id, named = self._view.folder.email_id, key.id
                return lambda entry: bool(f"M{email_id(entry)}" == named)
            case keys.Numbers():
                return self._numbers(key.wanted, key.uid)
            case keys.Changed():
                since = key.since
                return lambda entry: entry.modseq >= since
            case keys.Age():
                edge, younger = self._now - key.seconds, key.younger
                return lambda entry: (entry.date >= edge) is younger
        return lambda entry: True

    def _numbers(self, wanted: SequenceSet, uid: bool) -> Callable[[Entry], bool]:
        view = self._view
        if wanted.saved:
            wanted, uid = SequenceSet(view.saved), True
        if not view.uids:
            return lambda entry: False
        ranges = wanted.resolved(view.uids[-1] if uid else len(view.uids))
        if not uid:
            uids, count = view.uids, len(view.uids)
            ranges = [(uids[low - 1], uids[min(high, count) - 1]) for low, high in ranges if low <= count]
        starts = [low for low, _ in ranges]

        def inside(entry: Entry) -> bool:
            at = bisect_right(starts, entry.uid) - 1
            return at >= 0 and entry.uid <= ranges[at][1]

        return inside

    def _match(self, key: keys.Key) -> Match:
        match key:
            case keys.Not():
                inner = self._match(key.key)
                return lambda entry, content: not inner(entry, content)
            case keys.Or():
                left, right = self._match(key.left), self._match(key.right)
                return lambda entry, content: left(entry, content) or right(entry, content)
            case keys.And():
                several = [self._match(inner) for inner in sorted(key.keys, key=_need)]
                return lambda entry, content: all(one(entry, content) for one in several)
            case keys.Header():
                name, needle = key.name, _needle(key.text)
                return lambda entry, content: any(needle in value for value in content.header(name))
            case keys.Text():
                return _text_match(_needle(key.text), key.headers)
            case keys.Day(sent=True):
                return lambda entry, content: (day := content.sent) is not None and _compared(day, key)
        figure = self._figure(key)
        return lambda entry, content: figure(entry)


def _text_match(needle: str, headers: bool) -> Match:
    if not headers:
        return lambda entry, content: content.body_has(needle)
    return lambda entry, content: content.headers_have(needle) or content.body_has(needle)


def _possible(key: keys.Key) -> Possible:
    """What must hold of all texts together if one of them is to match."""
    match key:
        case keys.Text():
            needle, headers = _encoded(_needle(key.text)), key.headers
            return lambda head, body: needle in body or (headers and needle in head)
        case keys.Or():
            left, right = _possible(key.left), _possible(key.right)
            return lambda head, body: left(head, body) or right(head, body)
        case keys.And():
            several = [_possible(inner) for inner in key.keys if isinstance(inner, (keys.Text, keys.Or, keys.And))]
            return lambda head, body: all(one(head, body) for one in several)
    return lambda head, body: True


def _blind(key: keys.Key) -> bool:
    """Whether no message is decided by its entry."""
    match key:
        case keys.Not():
            return _blind(key.key)
        case keys.Or():
            return _blind(key.left) and _blind(key.right)
        case keys.And():
            return all(map(_blind, key.keys))
    return isinstance(key, (keys.Text, keys.Header))


def _needles(key: keys.Key) -> Iterator[str]:
    match key:
        case keys.Text():
            yield _needle(key.text)
        case keys.Not():
            yield from _needles(key.key)
        case keys.Or():
            yield from _needles(key.left)
            yield from _needles(key.right)
        case keys.And():
            for inner in key.keys:
                yield from _needles(inner)


def bare(uid: int) -> Entry:
    """For keys that look at the UID alone."""
    return Entry(uid, 0, frozenset(), 0, 0.0)


def _needle(raw: bytes) -> str:
    try:
        return folded(raw.decode())
    except UnicodeDecodeError:
        return folded(raw.decode("latin-1"))


def _compared(day: int, key: keys.Day) -> bool:
    if key.op == "<":
        return day < key.day
    return day == key.day if key.op == "=" else day >= key.day


def _either(left: Light, right: Light) -> Light:
    def light(entry: Entry) -> bool | None:
        found = left(entry)
        if found:
            return True
        other = right(entry)
        return True if other else None if found is None or other is None else False

    return light


def _both(several: list[Light]) -> Light:
    def light(entry: Entry) -> bool | None:
        verdict: bool | None = True
        for one in several:
            found = one(entry)
            if found is False:
                return False
            if found is None:
                verdict = None
        return verdict

    return light


def _need(key: keys.Key) -> Need:
    match key:
        case keys.Not():
            return _need(key.key)
        case keys.Or():
            return max(_need(key.left), _need(key.right))
        case keys.And():
            return max(map(_need, key.keys), default=Need.NUMBER)
        case keys.All() | keys.Numbers():
            return Need.NUMBER
        case keys.Header():
            return Need.SUMMARY if key.name in _ADDRESSES or key.name in _SUMMARISED else Need.HEADER
        case keys.Text():
            return Need.BODY
        case keys.Day(sent=True):
            return Need.SUMMARY
    return Need.ENTRY


def _of_texts(key: keys.Key) -> bool:
    """Whether what needs more than the entry are texts alone."""
    match key:
        case keys.Not():
            return _of_texts(key.key)
        case keys.Or():
            return _of_texts(key.left) and _of_texts(key.right)
        case keys.And():
            return all(map(_of_texts, key.keys))
    return isinstance(key, keys.Text) or _need(key) <= Need.ENTRY
