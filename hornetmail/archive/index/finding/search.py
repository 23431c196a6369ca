"""Pages of hits, and mail by ID, within somebody's rights (rules 14, 15). What a search finds of several renditions of one mail is one hit (rule 13)."""

from __future__ import annotations

from typing import Any

import msgspec

from hornetmail.archive.index.finding.seen import COLUMNS, MailRow, hits_at
from hornetmail.archive.index.query.expressions import closed_to, expression, rights_expression
from hornetmail.archive.index.query.language import Query
from hornetmail.archive.index.schema.fulltext import FORMS, months_of, table_of
from hornetmail.archive.index.schema.places import place_at
from hornetmail.archive.index.ties.holds import HELD_BY
from hornetmail.archive.index.writing.renewal import stretches_left
from hornetmail.core.archive.archived import Hit, Page, QueryError
from hornetmail.core.archive.identity import of_same_message_id
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor

MAX_PAGE = 500
_SOME = 2000

MAX_COUNT = 10_000
"""Hits are counted one by one up to this; beyond it, people narrow their search rather than read."""

_NAMESAKES = 20

CONVERSATION = 200
"""Mails of one conversation that are looked at."""

_SIBLINGS = 200
"""Renditions of one mail of which it is asked whether an earlier page had them."""


class _Asked(msgspec.Struct, frozen=True):
    """What is asked of each month. ``groups``: the column that holds renditions together."""

    expressions: dict[int, str | None]
    conditions: str
    values: tuple[Any, ...]
    groups: str

    def sql(self, month: int, form: int, more: str) -> tuple[str, tuple[Any, ...]]:
        """Of which place and group come, and what it takes."""
        table = table_of(month)
        where = f"{table} MATCH ?{self.conditions.format(table=table)}{more}"
        return f"SELECT rowid, {self.groups.format(table=table)} FROM {table} WHERE {where}", (
            self.expressions[form],
            *self.values,
        )


def search_page(cursor: Cursor, scope: Scope, query: Query, limit: int, after: str) -> Page:
    """A page of hits, newest first. Raises QueryError. Each month is asked once, and those whose newest mail is older than the page only as long as hits are
    counted; a page behind the first costs what it holds, for ``after`` knows the count (``tests/archive/test_pages.py``)."""
    asked = _asked(cursor, scope, query)
    if asked is None:
        return Page(0, ())
    limit = max(1, min(limit, MAX_PAGE))
    start, total = _cursor_of(after)
    if start is None or total is None:
        found, total = _first(cursor, asked, limit)
    else:
        found = _further(cursor, asked, start, limit)
    page = found[:limit]
    on = f"{page[-1]}-{total}" if len(found) > limit else ""
    return Page(
        min(total, MAX_COUNT),
        hits_at(cursor, scope, page),
        on,
        total <= MAX_COUNT,
        stretches_left(cursor),
        closed_to(scope, query),
    )


def newest_hits(cursor: Cursor, scope: Scope, query: Query, limit: int) -> tuple[Hit, ...]:
    """The first so many, uncounted. Raises QueryError."""
    asked = _asked(cursor, scope, query)
    return hits_at(cursor, scope, _further(cursor, asked, 1 << 62, limit)[:limit]) if asked is not None else ()


def _asked(cursor: Cursor, scope: Scope, query: Query) -> _Asked | None:
    """None: the scope sees nothing."""
    expressions = {form: expression(scope, query, form) for form in FORMS}
    if None in expressions.values():
        return None
    conditions, values = conditions_of(cursor, scope, query)
    return _Asked(expressions, conditions, tuple(values), _groups(cursor))


def _groups(cursor: Cursor) -> str:
    if cursor.execute("SELECT 1 FROM mail WHERE rendition IS NOT NULL LIMIT 1").fetchone() is None:
        return "rowid"
    member = "SELECT m.rendition FROM mail m INDEXED BY mail_rendition WHERE m.rendition IS NOT NULL AND m.place = {table}.rowid"
    return f"coalesce(({member}), rowid)"


def _first(cursor: Cursor, asked: _Asked, limit: int) -> tuple[list[int], int]:
    """The newest place of each of the first mails, one more than ``limit``, and how many mails there are."""
    top: dict[int, int] = {}
    counted: set[int] = set()
    for newest, month, form in _by_newest(cursor):
        counting = len(counted) <= MAX_COUNT
        if not counting and len(top) > limit and newest < min(top.values()):
            break
        sql, values = asked.sql(month, form, " ORDER BY rowid DESC")
        cursor.execute(sql, values)
        found: dict[int, int] = {}
        rows = cursor.fetchmany(limit + 1)
        while rows:
            for place, group in rows:
                found.setdefault(group, place)
            counted |= found.keys()
            enough = len(found) > limit and len(counted) > MAX_COUNT
            rows = [] if enough else cursor.fetchmany(_SOME)
        top = _newest(top, found, limit)
    return list(top.values()), len(counted)


def _newest(one: dict[int, int], other: dict[int, int], limit: int) -> dict[int, int]:
    """Of both the newest, one more than ``limit``, as place by group, the newest first."""
    places = {group: max(one.get(group, -1), other.get(group, -1)) for group in (*one, *other)}
    return dict(sorted(places.items(), key=lambda each: each[1], reverse=True)[: limit + 1])


def _further(cursor: Cursor, asked: _Asked, start: int, limit: int) -> list[int]:
    """The same for what comes behind that place, without mails of which an earlier page had a newer rendition."""
    top: dict[int, int] = {}
    before = start
    while True:
        found: dict[int, int] = {}
        for newest, month, form in _by_newest(cursor):
            if len(found) > limit and newest < min(found.values()):
                break
            sql, values = asked.sql(month, form, " AND rowid < ? ORDER BY rowid DESC")
            cursor.execute(sql, (*values, before))
            here: dict[int, int] = {}
            while len(here) <= limit and (rows := cursor.fetchmany(limit + 1)):
                for place, group in rows:
                    here.setdefault(group, place)
            found = _newest(found, here, limit)
        for group, place in found.items():
            if group not in top and not _was_shown(cursor, asked, group, start):
                top[group] = place
        if len(found) <= limit or len(top) > limit:
            return list(top.values())[: limit + 1]
        before = min(found.values())


def _was_shown(cursor: Cursor, asked: _Asked, group: int, start: int) -> bool:
    """Whether the search finds something of that mail from that place on."""
    siblings = cursor.execute(
        "SELECT place, month FROM mail WHERE rendition = ? AND place >= ? UNION ALL SELECT place, month FROM mail WHERE place = ? AND place >= ? LIMIT ?",
        (group, start, group, start, _SIBLINGS),
    ).fetchall()
    forms = dict(months_of(cursor)) if siblings else {}
    for place, month in siblings:
        sql, values = asked.sql(month, forms[month], " AND rowid = ?")
        if cursor.execute(sql, (*values, place)).fetchone():
            return True
    return False


def _by_newest(cursor: Cursor) -> list[tuple[int, int, int]]:
    """The newest place of each month that has any mail, the month and its form, the newest first."""
    found = []
    for month, form in months_of(cursor):
        newest = cursor.execute("SELECT max(place) FROM mail WHERE month = ?", (month,)).fetchone()[0]
        if newest is not None:
            found.append((newest, month, form))
    return sorted(found, reverse=True)


def _cursor_of(after: str) -> tuple[int | None, int | None]:
    """The last place of the page before, and how many hits there are in all; None: not known."""
    if not after:
        return None, None
    place, _, total = after.partition("-")
    if not all(number.isascii() and number.isdigit() and len(number) <= 19 for number in (place, total)) or int(place) >= 1 << 63:
        raise QueryError("after: not from an earlier page")
    return int(place), int(total)


def conditions_of(cursor: Cursor, scope: Scope, query: Query, *, marked: bool = False) -> tuple[str, list[Any]]:
    """Beside the full-text expression, with ``{table}`` for the full text's table. What retention has marked to go is found no more (A57), unless
    ``marked``."""
    parts: list[str] = []
    values: list[Any] = []
    if not marked and cursor.execute("SELECT 1 FROM mail WHERE marked IS NOT NULL LIMIT 1").fetchone():
        parts.append(" AND +rowid NOT IN (SELECT place FROM mail WHERE marked IS NOT NULL)")
    if query.since is not None:
        parts.append(" AND rowid >= ?")
        values.append(place_at(query.since))
    if query.until is not None:
        parts.append(" AND rowid < ?")
        values.append(place_at(query.until))
    if query.identifier is not None:
        row = cursor.execute("SELECT place FROM mail WHERE id = ?", (query.identifier,)).fetchone()
        parts.append(" AND rowid = ?")
        values.append(row[0] if row else -1)
    if query.thread is not None:
        parts.append(" AND rowid IN (SELECT place FROM mail WHERE tenant = ? AND thread = ?)")
        values += _thread_of(cursor, scope, query.thread)
    if (query.hold or query.namesake) and scope.addresses is not None:
        raise QueryError("hold: and is:namesake are for those who see everybody's mail")
    if query.hold:
        parts.append(f" AND rowid IN (SELECT m.place FROM mail m WHERE m.record IN ({HELD_BY}))")
        values.append(query.hold)
    if query.namesake:
        parts.append(" AND rowid IN (SELECT place FROM mail WHERE namesake = 1)")
    for bound, sign in ((query.larger, ">"), (query.smaller, "<")):
        if bound is not None:
            # Mail by mail, of those that the full text found; there the sizes are known to a power of two.
            parts.append(f" AND (SELECT size FROM mail WHERE place = {{table}}.rowid) {sign} ?")
            values.append(bound)
    return "".join(parts), values


def find_mail(cursor: Cursor, scope: Scope, identifier: int) -> MailRow:
    """The row of a mail that the scope may see. Raises KeyError, also for mail of others: nobody learns that it exists."""
    found = cursor.execute(f"SELECT {COLUMNS} FROM mail WHERE id = ?", (identifier,)).fetchone()
    rights = rights_expression(scope)
    if found is None or rights is None:
        raise KeyError(identifier)
    row = MailRow(*found)
    table = table_of(row.month)
    if not cursor.execute(f"SELECT 1 FROM {table} WHERE {table} MATCH ? AND rowid = ?", (rights, row.place)).fetchone():
        raise KeyError(identifier)
    return row


def _thread_of(cursor: Cursor, scope: Scope, identifier: int) -> tuple[int, int]:
    """Tenant and conversation of a mail that the scope may see; else one that there is not."""
    try:
        place = find_mail(cursor, scope, identifier).place
    except KeyError:
        return -1, -1
    tenant, thread = cursor.execute("SELECT tenant, thread FROM mail WHERE place = ?", (place,)).fetchone()
    return (tenant, thread) if thread is not None else (-1, -1)


def conversation(cursor: Cursor, scope: Scope, row: MailRow) -> tuple[Hit, ...]:
    """The newest mails of its conversation that the scope may see, the oldest first; none if it is alone. So many rows at most are looked at, however long it is."""
    (thread,) = cursor.execute("SELECT thread FROM mail WHERE place = ?", (row.place,)).fetchone()
    found = cursor.execute(
        "SELECT place, coalesce(rendition, place), id FROM mail WHERE tenant = ? AND thread = ? AND marked IS NULL ORDER BY place DESC LIMIT ?",
        (row.tenant, thread, CONVERSATION),
    ).fetchall()
    once: dict[int, int] = {}
    for place, group, identifier in found:
        if _is_seen(cursor, scope, identifier):
            once.setdefault(group, place)
    return hits_at(cursor, scope, sorted(once.values())) if len(once) > 1 else ()


def namesakes(cursor: Cursor, scope: Scope, row: MailRow) -> tuple[int, ...]:
    """IDs of some mails that have its Message-ID and other content, of those that the scope may see."""
    (content,) = cursor.execute("SELECT content FROM mail WHERE place = ?", (row.place,)).fetchone()
    if not row.namesake or not content:
        return ()
    found = cursor.execute(
        "SELECT id FROM mail WHERE tenant = ? AND content >= ? AND content < ? AND content != ? AND marked IS NULL LIMIT ?",
        (row.tenant, *of_same_message_id(content), content, _NAMESAKES),
    ).fetchall()
    return tuple(identifier for (identifier,) in found if _is_seen(cursor, scope, identifier))


def _is_seen(cursor: Cursor, scope: Scope, identifier: int) -> bool:
    try:
        find_mail(cursor, scope, identifier)
    except KeyError:
        return False
    return True
