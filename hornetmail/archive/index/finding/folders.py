"""The archive as folders: by month of receipt, what was received and what was sent, each mail under its UID.

A UID is the number of a leaf and one: that of the arrival by which a mail became visible to whoever looks. Leaf numbers only grow, are never given twice and stand in
the records (rule 17), so that UIDs are in the order of becoming visible, and the same after a restart, a purge and a rebuild; nothing is kept for any single
view. ``folder``, which triggers keep, knows by month and direction how many mails there are, the highest UID, and the modseq of the last change. Where UIDs cannot go
on (a mail comes back that was marked to go, or is entered behind later ones), its ``anew`` grows, and with it the UIDVALIDITY (ADR 31).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from hornetmail.archive.index.query.expressions import expression
from hornetmail.archive.index.query.language import Query, Words, tokens
from hornetmail.archive.index.schema.facts import UID_BASE, UNNUMBERED
from hornetmail.archive.index.schema.fulltext import FORMS, months_of, table_of
from hornetmail.archive.index.schema.migrations import BITS
from hornetmail.archive.index.schema.people import People, people_decoder
from hornetmail.archive.index.schema.places import month_of, place_at
from hornetmail.core.mail.address import key_of
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor
from hornetmail.mime.reading.mail import Named

RECEIVED = ("in", "internal")
SENT = ("internal", "out")
MODSEQ_BITS = 24
"""A modseq is a UID, and behind it a count of what went since."""

VALIDITY_MOST = (1 << 32) - 1


class Month(msgspec.Struct, frozen=True, gc=False, order=True):
    """What was received or ``sent`` in a month, ``month`` as YYYYMM in UTC."""

    month: int
    sent: bool

    @property
    def directions(self) -> tuple[str, ...]:
        """Of the mail that lies there for those who see everybody's."""
        return SENT if self.sent else RECEIVED

    @property
    def ways(self) -> str:
        """The rights by which it lies there for its own people (``right_token``)."""
        return "s" if self.sent else "ro"

    def places(self) -> tuple[int, int]:
        """From the first place of the month to that of the next."""
        year, month = divmod(self.month, 100)
        return _place(year, month), _place(year + month // 12, month % 12 + 1)


def _place(year: int, month: int) -> int:
    return place_at(datetime(year, month, 1, tzinfo=UTC).timestamp())


class Standing(msgspec.Struct, frozen=True, gc=False):
    """How a month stands, whoever looks: mails and bytes in all, the highest UID that there ever was, the modseq of the last change, how often UIDs had to begin anew, and since when
    they are those of this index, Unix seconds."""

    mails: int
    size: int
    top: int
    change: int
    anew: int
    base: int


class Row(msgspec.Struct, frozen=True, gc=False):
    """A mail of a folder."""

    uid: int
    identifier: int
    size: int
    received: float


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """What is looked for in a folder. ``since`` (included), ``until``: of receipt; ``sent_since``, ``sent_until``: of the Date field, or of receipt where there is none; Unix seconds.
    ``identifier``: the mail of that ID. ``field``: the words must stand in the header's ``from``, ``to`` or ``cc``: the index puts the envelope's sender to the first, and does not tell the others apart."""

    words: Words | None = None
    since: float | None = None
    until: float | None = None
    sent_since: float | None = None
    sent_until: float | None = None
    larger: int | None = None
    smaller: int | None = None
    field: str = ""
    identifier: int | None = None


ALL = Wanted()
_FULL = (1 << BITS) - 1
_PLACES = tuple(tuple(place for place in range(8) if byte >> place & 1) for byte in range(256))
"""Which bits of a byte are set."""


def standing(cursor: Cursor, tenant: int, month: Month) -> Standing | None:
    """None: nothing ever lay there."""
    first, second = month.directions
    row = cursor.execute(
        "SELECT sum(mails), sum(size), max(top), max(change), sum(anew), (SELECT CAST(value AS INTEGER) FROM fact WHERE name = ?)"
        " FROM folder WHERE tenant = ? AND month = ? AND direction IN (?, ?)",
        (UID_BASE, tenant, month.month, first, second),
    ).fetchone()
    if row[0] is None:
        return None
    more, size = cursor.execute(_BEHIND.format("count(*), coalesce(sum(m.size), 0)"), _behind(tenant, month)).fetchone()
    return Standing(row[0] - more, row[1] - size, *row[2:])


_BEHIND = (
    "SELECT {} FROM mail m INDEXED BY mail_rendition JOIN mail f ON f.place = m.rendition WHERE m.rendition IS NOT NULL AND m.place >= ?1 AND m.place < ?2 AND m.tenant = ?3"
    " AND m.direction IN (?4, ?5) AND m.marked IS NULL AND f.place >= ?1 AND f.place < ?2 AND f.direction IN (?4, ?5) AND f.marked IS NULL"
)
"""Of everybody's mail, renditions of a mail that lies in the same folder: what is one mail is there once (rule 13)."""


def _behind(tenant: int, month: Month) -> tuple[int | str, ...]:
    return (*month.places(), tenant, *month.directions)


def changed(cursor: Cursor, tenant: int) -> int:
    """A number that another one follows when anything comes or goes."""
    (total,) = cursor.execute("SELECT coalesce(sum(change), 0) FROM folder WHERE tenant = ?", (tenant,)).fetchone()
    return int(total)


def months(cursor: Cursor, scope: Scope) -> list[Month]:
    """Those in which there is any mail for that scope."""
    if scope.addresses is not None:
        return sorted(month for sent in (False, True) for month in _own_months(cursor, scope, sent))
    rows = cursor.execute("SELECT month, direction FROM folder WHERE tenant = ? AND mails > 0", (scope.tenant,)).fetchall()
    return sorted(
        {Month(month, sent) for month, direction in rows for sent in (False, True) if direction in (SENT if sent else RECEIVED)}
    )


def _own_months(cursor: Cursor, scope: Scope, sent: bool) -> set[Month]:
    """One look a month and full-text table."""
    found: set[Month] = set()
    for table, wanted in _tables(cursor, scope, Query(), Month(0, sent).ways):
        low = 0
        while row := cursor.execute(
            f"SELECT rowid FROM {table} WHERE {table} MATCH ? AND rowid >= ? AND +rowid NOT IN (SELECT place FROM mail WHERE marked IS NOT NULL)"
            " ORDER BY rowid LIMIT 1",
            (wanted, low),
        ).fetchone():
            when = datetime.fromtimestamp((row[0] >> 18) / 1000, UTC)
            month = Month(when.year * 100 + when.month, sent)
            found.add(month)
            low = month.places()[1]
    return found


def _tables(cursor: Cursor, scope: Scope, query: Query, ways: str) -> list[tuple[str, str]]:
    """Full-text tables, and what to ask each of them; none if the scope sees nothing."""
    wanted = {form: expression(scope, query, form, ways) for form in FORMS}
    return [(table_of(month), sought) for month, form in reversed(months_of(cursor)) if (sought := wanted[form]) is not None]


def numbers(cursor: Cursor, scope: Scope, node: int, month: Month, wanted: Wanted = ALL) -> array[int]:
    """The UIDs of a folder, in their order; of it all, or what is wanted. Takes time in proportion to what is found; of everybody's mail, asked by size or date, to what lies there."""
    low, high = month.places()
    if wanted.since is not None:
        low = max(low, place_at(wanted.since))
    if wanted.until is not None:
        high = min(high, place_at(wanted.until))
    conditions, values = _conditions(wanted)
    conditions += " AND node = ?"
    values.append(node)
    if scope.addresses is not None or wanted.words is not None:
        return _in_words(cursor, scope, month, wanted, (low, high), (conditions, values))
    if wanted == ALL:
        return _all(cursor, scope.tenant, node, month)
    rows = cursor.execute(
        "SELECT leaf + 1 FROM mail WHERE tenant = ? AND place >= ? AND place < ? AND direction IN (?, ?) AND marked IS NULL"
        + conditions,
        (scope.tenant, low, high, *month.directions, *values),
    ).fetchall()
    behind = cursor.execute(f"{_BEHIND.format('m.leaf + 1')} AND m.node = ?6", (*_behind(scope.tenant, month), node)).fetchall()
    return array("I", sorted({uid for (uid,) in rows} - {uid for (uid,) in behind}))


def _all(cursor: Cursor, tenant: int, node: int, month: Month) -> array[int]:
    """Of everybody's mail, out of the bits."""
    found: array[int] = array("I")
    sql = "SELECT block, bits FROM folder_uids WHERE tenant = ? AND month = ? AND direction IN (?, ?) AND node = ?"
    blocks: dict[int, int] = {}
    for block, bits in cursor.execute(sql, (tenant, month.month, *month.directions, node)).fetchall():
        blocks[block] = blocks.get(block, 0) | bits
    for (leaf,) in cursor.execute(f"{_BEHIND.format('m.leaf')} AND m.node = ?6", (*_behind(tenant, month), node)).fetchall():
        blocks[leaf // BITS] &= ~(1 << leaf % BITS)
    for block in sorted(blocks):
        bits, first = blocks[block], block * BITS + 1
        if bits == _FULL:
            found.extend(range(first, first + BITS))
            continue
        for start, byte in zip(range(first, first + BITS, 8), bits.to_bytes(8, "little"), strict=True):
            found.extend([start + place for place in _PLACES[byte]])
    return found


def _conditions(wanted: Wanted) -> tuple[str, list[float]]:
    parts, values = "", []
    for bound, column, sign in (
        (wanted.larger, "size", ">"),
        (wanted.smaller, "size", "<"),
        (wanted.sent_since, "date", ">="),
        (wanted.sent_until, "date", "<"),
    ):
        if bound is not None:
            parts += f" AND {column} {sign} ?"
            values.append(bound)
    if wanted.identifier is not None:
        parts += " AND id = ?"
        values.append(wanted.identifier)
    return parts, values


def _in_words(
    cursor: Cursor, scope: Scope, month: Month, wanted: Wanted, places: tuple[int, int], more: tuple[str, list[float]]
) -> array[int]:
    """By rights, or by words: both lie in the full text."""
    own = scope.addresses is not None
    query = Query((wanted.words,) if wanted.words is not None else ())
    conditions, values = more
    if not own:
        conditions, values = conditions + " AND direction IN (?, ?)", [*values, *month.directions]  # type: ignore[list-item]
    found: dict[int, int] = {}
    for table, sought in _tables(cursor, scope, query, month.ways if own else "sro"):
        found.update(
            cursor.execute(
                f"SELECT place, leaf + 1 FROM mail WHERE place IN (SELECT rowid FROM {table} WHERE {table} MATCH ? AND rowid >= ? AND rowid < ?)"
                f" AND tenant = ? AND marked IS NULL{conditions}",
                (sought, *places, scope.tenant, *values),
            ).fetchall()
        )
    if own:
        _renumber(cursor, scope, month, places, found)
    found = _once(cursor, found, places)
    if wanted.field and wanted.words is not None:
        found = _named(cursor, found, wanted.field, wanted.words)
    return array("I", sorted(found.values()))


def _once(cursor: Cursor, found: dict[int, int], places: tuple[int, int]) -> dict[int, int]:
    """Of renditions of one mail the one that was there first."""
    rows = cursor.execute(
        "SELECT place, rendition FROM mail INDEXED BY mail_rendition WHERE rendition IS NOT NULL AND place >= ? AND place < ?",
        places,
    ).fetchall()
    groups: dict[int, list[int]] = {}
    for place, group in rows:
        if place in found:
            groups.setdefault(group, [group] if group in found else []).append(place)
    behind = {place for members in groups.values() for place in members if place != min(members, key=lambda one: found[one])}
    return {place: uid for place, uid in found.items() if place not in behind}


def _renumber(cursor: Cursor, scope: Scope, month: Month, places: tuple[int, int], found: dict[int, int]) -> None:
    """Mail that came several times is somebody's from the arrival on that made it so."""
    rows = cursor.execute(
        "SELECT place, people FROM mail WHERE place IN (SELECT place FROM arrival WHERE outcome = 'copy' AND place >= ? AND place < ?)",
        places,
    ).fetchall()
    for place, people in rows:
        if place in found and (leaf := _first(people_decoder.decode(people), scope.addresses or frozenset(), month.sent)) >= 0:
            found[place] = leaf + 1


def _first(people: People, keys: frozenset[str], sent: bool) -> int:
    """The leaf of the first arrival that concerns somebody; -1: an index from before they were noted."""
    leaves = [
        arrival.leaf
        for arrival in people.arrivals
        if keys & ({key_of(arrival.login)} if sent else {key_of(one) for one in (*arrival.recipients, *arrival.owners)})
    ]
    return min(leaves, default=-1)


def _named(cursor: Cursor, found: dict[int, int], field: str, words: Words) -> dict[int, int]:
    """Those whose header has the words in that field."""
    kept = {}
    places = list(found)
    for at in range(0, len(places), 500):
        some = places[at : at + 500]
        marks = ",".join("?" * len(some))
        for place, people in cursor.execute(f"SELECT place, people FROM mail WHERE place IN ({marks})", some).fetchall():
            if any(_has(str(named), words) for named in _field(people_decoder.decode(people), field)):
                kept[place] = found[place]
    return kept


def _field(people: People, field: str) -> Sequence[Named]:
    if field == "from":
        return (people.sender,) if people.sender is not None else ()
    return people.to if field == "to" else people.cc


def _has(text: str, words: Words) -> bool:
    have, want = tokens(text), tokens(words.text)
    return any(have[at : at + len(want)] == want for at in range(len(have) - len(want) + 1))


def grown(cursor: Cursor, tenant: int, node: int, month: Month, top: int) -> array[int]:
    """Of everybody's mail, the UIDs above ``top``: what came since it was the highest."""
    low, high = month.places()
    rows = cursor.execute(
        "SELECT leaf + 1 FROM mail WHERE node = ? AND leaf >= ? AND tenant = ? AND place >= ? AND place < ? AND direction IN (?, ?) AND marked IS NULL ORDER BY leaf",
        (node, top, tenant, low, high, *month.directions),
    ).fetchall()
    if not rows:
        return array("I")
    behind = cursor.execute(
        f"{_BEHIND.format('m.leaf + 1')} AND m.node = ?6 AND m.leaf >= ?7", (*_behind(tenant, month), node, top)
    ).fetchall()
    return array("I", sorted({uid for (uid,) in rows} - {uid for (uid,) in behind}))


def rows(cursor: Cursor, node: int, uids: Sequence[int]) -> list[Row]:
    """Mails by UID, in their order; those that have gone are left out. Whether whoever asks may see them is not looked at."""
    leaves = [uid - 1 for uid in uids]
    marks = ",".join("?" * len(leaves))
    found = cursor.execute(
        f"SELECT leaf + 1, id, size, received FROM mail WHERE node = ? AND leaf IN ({marks}) AND marked IS NULL", (node, *leaves)
    ).fetchall()
    if len(found) < len(leaves):
        found += cursor.execute(
            "SELECT a.leaf + 1, m.id, m.size, m.received FROM arrival a JOIN mail m ON m.place = a.place"
            f" WHERE a.node = ? AND a.leaf IN ({marks}) AND a.outcome = 'copy' AND m.marked IS NULL",
            (node, *leaves),
        ).fetchall()
    return [Row(*row) for row in sorted(found)]


def size_of(cursor: Cursor, node: int, uids: Sequence[int]) -> int:
    """Bytes in all."""
    return sum(row.size for at in range(0, len(uids), 1000) for row in rows(cursor, node, uids[at : at + 1000]))


# -- UIDVALIDITY --------------------------------------------------------------------------------------------------------------


def begin_uids(cursor: Cursor, now: float) -> int:
    """What all UIDVALIDITY begin at: from now, in a new index."""
    cursor.execute("INSERT INTO fact (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (UID_BASE, str(int(now))))
    (value,) = cursor.execute("SELECT value FROM fact WHERE name = ?", (UID_BASE,)).fetchone()
    return int(value)


def renew_uids(cursor: Cursor, now: float) -> None:
    """All UIDVALIDITY higher than any before. An index that was restored may lack mail of its last days, whose leaf numbers may be given again."""
    base = begin_uids(cursor, now)
    (since,) = cursor.execute("SELECT coalesce(max(since), 0) FROM viewer").fetchone()
    cursor.execute("UPDATE fact SET value = ? WHERE name = ?", (str(max(int(now), base + 1, since + 1)), UID_BASE))


def seen_since(cursor: Cursor, mailbox: int, tree: str) -> tuple[bytes, int] | None:
    """A person's rights when the tree was last opened, and since when they are these."""
    row = cursor.execute("SELECT rights, since FROM viewer WHERE mailbox = ? AND tree = ?", (mailbox, tree)).fetchone()
    return (bytes(row[0]), int(row[1])) if row else None


def see(cursor: Cursor, mailbox: int, tree: str, tenant: int, rights: bytes, now: float) -> int:
    """Since when these are that person's rights. Others than before: from now, and later than any UIDVALIDITY that was told before."""
    known = seen_since(cursor, mailbox, tree)
    if known is not None and known[0] == rights:
        return known[1]
    since = 0
    if known is not None:
        (anew,) = cursor.execute("SELECT coalesce(sum(anew), 0) FROM folder").fetchone()
        since = max(int(now), max(begin_uids(cursor, now), known[1]) + anew + 1)
    cursor.execute(
        "INSERT INTO viewer (mailbox, tree, tenant, rights, since) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (mailbox, tree) DO UPDATE SET tenant = excluded.tenant, rights = excluded.rights, since = excluded.since",
        (mailbox, tree, tenant, rights, since),
    )
    return since


class Numbering(msgspec.Struct, frozen=True, gc=False):
    """What an index knows of UIDs that packs do not tell: it is taken along into a new one. ``marked``: months with mail that retention has marked, which in a
    new index it is not yet."""

    base: int
    folders: tuple[tuple[int, int, str, int, int, int], ...]
    viewers: tuple[tuple[int, str, int, bytes, int], ...]
    marked: tuple[tuple[int, int, str], ...]


def numbering(cursor: Cursor) -> Numbering | None:
    """None: there is nothing to take along, for a new index would number otherwise."""
    if cursor.execute("SELECT 1 FROM fact WHERE name = ?", (UNNUMBERED,)).fetchone():
        return None
    base = cursor.execute("SELECT value FROM fact WHERE name = ?", (UID_BASE,)).fetchone()
    if base is None:
        return None
    return Numbering(
        int(base[0]),
        tuple(cursor.execute("SELECT tenant, month, direction, top, change, anew FROM folder").fetchall()),
        tuple(cursor.execute("SELECT mailbox, tree, tenant, rights, since FROM viewer").fetchall()),
        tuple(
            cursor.execute(
                f"SELECT DISTINCT tenant, {month_of('place')}, direction FROM mail WHERE marked IS NOT NULL"
            ).fetchall()
        ),
    )


def take_numbering(cursor: Cursor, known: Numbering | None, now: float) -> None:
    """In an index that was just made: the order in which packs were read says nothing of the order of arrival. What ``known`` does not tell begins anew ``now``."""
    cursor.execute("UPDATE folder SET anew = 0")
    if known is None:
        cursor.execute("DELETE FROM fact WHERE name = ?", (UID_BASE,))
        begin_uids(cursor, now)
        return
    cursor.execute(
        "INSERT INTO fact (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (UID_BASE, str(known.base)),
    )
    cursor.executemany(
        "INSERT INTO folder (tenant, month, direction, mails, size, top, change, anew) VALUES (?1, ?2, ?3, 0, 0, 0, ?5, ?6) ON CONFLICT DO UPDATE"
        " SET change = max(change, excluded.change) + 1, anew = excluded.anew",
        known.folders,
    )
    cursor.executemany("UPDATE folder SET anew = anew + 1 WHERE tenant = ? AND month = ? AND direction = ?", known.marked)
    cursor.executemany("INSERT INTO viewer (mailbox, tree, tenant, rights, since) VALUES (?, ?, ?, ?, ?)", known.viewers)


def take_tops(cursor: Cursor, known: Numbering) -> None:
    """Once all that is staged has been entered too: what went may have had the highest UID."""
    cursor.executemany(
        "UPDATE folder SET top = max(top, ?) WHERE tenant = ? AND month = ? AND direction = ?",
        [(top, tenant, month, direction) for tenant, month, direction, top, _, _ in known.folders],
    )
