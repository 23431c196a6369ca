"""Mail into ``archive.db``: one function for a batch, the same for new mail and for a rebuild, so that both end alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hornetmail.archive.index.schema.fulltext import drop_text, put_text
from hornetmail.archive.index.schema.people import Arrival, People, people_decoder
from hornetmail.archive.index.schema.places import PLACE_BITS, place_at
from hornetmail.archive.index.schema.tokens import Marks
from hornetmail.archive.index.ties.kin import kin_of
from hornetmail.archive.index.ties.leaves import leaf_went
from hornetmail.archive.index.ties.rules import kept_of, rules_of
from hornetmail.archive.index.ties.uses import GONE, use_parts
from hornetmail.archive.store.records import MailMeta, Outcome
from hornetmail.core.archive.retention import DAY, goes_at
from hornetmail.core.ids import milliseconds_of
from hornetmail.db.engines import Cursor
from hornetmail.mime.reading.mail import MailText

ARRIVALS = 100
"""Arrivals of the same bytes that one row takes: each rewrites it, so that their number must have an end. Those behind are in a row of their own
(``tests/archive/test_renditions.py``)."""

MAX_SUBJECT = 2000
MAX_UNSEARCHED = 4000


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A mail that is parsed and ready for the database. ``pack`` None: it is staged, at ``start`` in the staging segment ``length``. ``event``: a further arrival of what is known, of the
    mail with the record ``original``."""

    tenant: int
    record: bytes
    meta: MailMeta
    text: MailText
    pack: int | None
    start: int
    length: int
    event: bool = False
    original: bytes = b""


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The outcome of one prepared mail. ``waiting``: for somebody who reads its files."""

    record: bytes
    outcome: Outcome
    month: int
    size: int = 0
    waiting: bool = False


def known_records(cursor: Cursor, records: Sequence[bytes]) -> dict[bytes, Stored]:
    """Those of these records that the index has dealt with, and how."""
    found = {}
    for record in records:
        known = _known(cursor, record)
        if known:
            found[record] = known
    return found


def _known(cursor: Cursor, record: bytes) -> Stored | None:
    row = cursor.execute(
        "SELECT a.outcome, coalesce(m.month, 0) FROM arrival a LEFT JOIN mail m ON m.place = a.place WHERE a.record = ?",
        (record,),
    ).fetchone()
    return Stored(record, Outcome(row[0]), row[1]) if row else None


def known_rows(cursor: Cursor, rows: Sequence[int]) -> set[int]:
    """Those of these queue rows that have arrived."""
    found = set()
    for row in rows:
        if cursor.execute("SELECT 1 FROM arrival WHERE row = ? AND row != 0 AND outcome != 'repeat'", (row,)).fetchone():
            found.add(row)
    return found


class _Texts:
    """The full texts of a batch, which are written behind all its rows. Before a statement with a trigger SQLite has FTS5 write out what it has in memory, so that between rows each text would be a
    segment of its own, to be merged with the others time and again (``tests/archive/test_index_segments.py``)."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[bool, int, MailText, People, Marks]] = {}

    def put(self, month: int, place: int, text: MailText, people: People, marks: Marks) -> None:
        """Of a mail that has none."""
        self._waiting[place] = (False, month, text, people, marks)

    def put_anew(self, month: int, place: int, text: MailText, people: People, marks: Marks) -> None:
        """In place of the one that it has, or is to get."""
        old = self._waiting.get(place)
        self._waiting[place] = (old is None or old[0], month, text, people, marks)

    def write(self, cursor: Cursor) -> None:
        """All of them."""
        for place, (anew, month, text, people, marks) in self._waiting.items():
            if anew:
                drop_text(cursor, month, place)
            put_text(cursor, month, place, text, people, marks)


def store_batch(cursor: Cursor, batch: Sequence[Prepared]) -> list[Stored]:
    """Put a batch of mails in. May run twice; touches only its cursor."""
    texts = _Texts()
    stored = [_store(cursor, one, texts) for one in batch]
    texts.write(cursor)
    return stored


def _store(cursor: Cursor, one: Prepared, texts: _Texts) -> Stored:
    meta = one.meta
    known = _known(cursor, one.record)
    if known:
        return known
    if cursor.execute("SELECT 1 FROM deleted WHERE record = ? AND at > back", (one.record,)).fetchone():
        leaf_went(cursor, meta.node, meta.leaf)
        use_parts(cursor, one.tenant, GONE, _parts_of(meta))
        if one.pack is not None:
            died_in(cursor, one.pack)
        return Stored(one.record, Outcome.GONE, meta.month)
    if meta.row:
        twin = cursor.execute(
            "SELECT place FROM arrival WHERE row = ? AND row != 0 AND outcome != 'repeat'", (meta.row,)
        ).fetchone()
        if twin:
            _arrive(cursor, one, twin[0], Outcome.REPEAT)
            return Stored(one.record, Outcome.REPEAT, meta.month)
    found = _equal(cursor, one)
    if found is None:
        if one.event:
            return Stored(one.record, Outcome.GONE, meta.month)
        return _insert(cursor, one, texts)
    _unite(cursor, one, texts, *found)
    _arrive(cursor, one, found[0], Outcome.COPY)
    return Stored(one.record, Outcome.COPY, found[1], waiting=one.text.waiting)


_EQUAL = "SELECT place, month, people, coalesce(base, expires), kept, spam, direction FROM mail WHERE tenant = ?"


def _equal(cursor: Cursor, one: Prepared) -> Any:
    """The row of the same bytes that this arrival belongs to, or None. Mail that has neither Message-ID nor Date (scanners) is another one each day."""
    bytes_of = f"{_EQUAL} AND sha256 = ? AND room = 1"
    if one.event:
        named = cursor.execute(f"{_EQUAL} AND record = ?", (one.tenant, one.original)).fetchone()
        return named or cursor.execute(f"{bytes_of} LIMIT 1", (one.tenant, one.meta.sha256)).fetchone()
    if one.pack is not None:
        return None  # it had a row of its own when it was sealed
    low, high = 0, 1 << 62
    if not one.text.message_id and one.text.date is None:
        day = one.meta.received // DAY * DAY
        low, high = place_at(day), place_at(day + DAY)
    return cursor.execute(
        f"{bytes_of} AND place >= ? AND place < ? ORDER BY place DESC LIMIT 1", (one.tenant, one.meta.sha256, low, high)
    ).fetchone()


def _arrive(cursor: Cursor, one: Prepared, place: int, outcome: Outcome) -> None:
    cursor.execute(
        "INSERT INTO arrival (record, tenant, row, place, outcome, node, leaf) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (one.record, one.tenant, one.meta.row, place, outcome.value, one.meta.node, one.meta.leaf),
    )


def _arrival(meta: MailMeta) -> Arrival:
    return Arrival(meta.feed, meta.received, meta.sender, meta.login, meta.recipients, meta.owners, meta.leaf)


def _insert(cursor: Cursor, one: Prepared, texts: _Texts) -> Stored:
    meta, text = one.meta, one.text
    arrival = _arrival(meta)
    people = People(text.sender, text.to, text.cc, text.bcc, (arrival,))
    place = _free_place(cursor, meta)
    kin = kin_of(cursor, one.tenant, text)
    cursor.execute(
        "INSERT INTO mail (place, id, tenant, record, sha256, received, date, direction, feed, login, subject, message_id, size, attachments,"
        " spam, people, expires, base, month, node, leaf, pack, start, length, unsearched,"
        " content, rendition, namesake, thread)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            place,
            _free_id(cursor, meta.identifier),
            one.tenant,
            one.record,
            meta.sha256,
            meta.received,
            text.date if text.date is not None else meta.received,
            meta.direction,
            meta.feed,
            meta.login,
            text.subject[:MAX_SUBJECT],
            text.message_id,
            meta.size,
            len(text.files),
            int(meta.spam),
            msgspec.msgpack.encode(people),
            _goes_at(cursor, one.tenant, meta.direction, people, meta.spam, meta.expires),
            meta.expires,
            meta.month,
            meta.node,
            meta.leaf,
            one.pack,
            one.start,
            one.length,
            "\n".join(text.unsearched)[:MAX_UNSEARCHED],
            kin.content,
            kin.rendition,
            int(kin.namesake),
            kin.thread,
        ),
    )
    use_parts(cursor, one.tenant, place, _parts_of(meta))
    _arrive(cursor, one, place, Outcome.STORED)
    texts.put(meta.month, place, text, people, Marks(one.tenant, meta.direction, meta.size, meta.spam))
    return Stored(one.record, Outcome.STORED, meta.month, meta.size, text.waiting)


def _parts_of(meta: MailMeta) -> list[bytes]:
    return [stretch.part for stretch in meta.stretches if stretch.part]


def died_in(cursor: Cursor, pack: int) -> None:
    """A record in this pack went; it is to be written anew without it."""
    cursor.execute("UPDATE pack SET dead = dead + 1, soon = 1 WHERE number = ?", (pack,))


def _unite(
    cursor: Cursor,
    one: Prepared,
    texts: _Texts,
    place: int,
    month: int,
    people: bytes,
    base: float,
    kept: float,
    spam: int,
    direction: str,
) -> None:
    """Another arrival of the same bytes: its recipients gain their right, its retention counts if it is longer."""
    meta = one.meta
    old = people_decoder.decode(people)
    arrival = _arrival(meta)
    new = msgspec.structs.replace(old, arrivals=(*old.arrivals, arrival))
    spam = min(spam, int(meta.spam))
    base = max(base, meta.expires)
    expires = _goes_at(cursor, one.tenant, direction, new, bool(spam), base, kept)
    cursor.execute(
        "UPDATE mail SET people = ?, expires = ?, base = ?, spam = ?, marked = NULL, room = ? WHERE place = ?",
        (msgspec.msgpack.encode(new), expires, base, spam, int(len(new.arrivals) < ARRIVALS), place),
    )
    texts.put_anew(month, place, one.text, new, Marks(one.tenant, direction, meta.size, bool(spam)))


def _goes_at(cursor: Cursor, tenant: int, direction: str, people: People, spam: bool, base: float, kept: float = 0.0) -> float:
    rules = rules_of(cursor, tenant)
    return goes_at(rules, kept_of(people, direction, spam, base, kept)) if rules else max(base, kept)


def _free_place(cursor: Cursor, meta: MailMeta) -> int:
    """By time of receipt; within a millisecond, by the low bits of the ID's time and sequence, so that a rebuild comes to the same."""
    low = (milliseconds_of(meta.identifier) & 0x3FF) << 8 | meta.identifier & 0xFF
    start = max(0, int(meta.received * 1000)) << PLACE_BITS
    place = start | low
    while cursor.execute("SELECT 1 FROM mail WHERE place = ?", (place,)).fetchone():
        end = start + (1 << PLACE_BITS)
        (last,) = cursor.execute("SELECT max(place) FROM mail WHERE place >= ? AND place < ?", (start, end)).fetchone()
        place, start = (place if last is None else last) + 1, end
    return place


def _free_id(cursor: Cursor, identifier: int) -> int:
    """The mail's own ID, or the next free one: IDs repeat if the clock was set back across a restart."""
    while cursor.execute("SELECT 1 FROM mail WHERE id = ?", (identifier,)).fetchone():
        identifier += 1
    return identifier
