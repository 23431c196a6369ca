"""Searches within somebody's rights (rules 14, 15): the rights are part of the full-text expression, so that hits, counts and pages agree.

Words can never reach the ``rights`` column: every term of a query is bound to the columns it may look into.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hornetmail.archive.index.mails import place_at
from hornetmail.archive.index.query import All, Marked, Node, Not, Query, Words, tokens
from hornetmail.archive.index.schema import (
    ANY,
    ATTACHMENT,
    FORMS,
    SIZES,
    SPAM,
    People,
    direction_token,
    months_of,
    people_decoder,
    right_token,
    size_token,
    table_of,
    type_token,
)
from hornetmail.core.archive.archived import Hit, Page, QueryError
from hornetmail.core.archive.words import sought
from hornetmail.core.mail.address import domain_of, key_of
from hornetmail.core.mail.envelope import Direction
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor

MAX_PAGE = 500
_SOME = 2000

MAX_COUNT = 10_000
"""Hits are counted one by one up to this; beyond it, people narrow their search rather than read."""

_COLUMNS = (
    "place, id, tenant, record, sha256, received, date, direction, feed, login, subject, message_id, size, attachments, spam, people, expires,"
    " month, pack, start, length, unsearched"
)


class MailRow(msgspec.Struct, frozen=True, gc=False):
    """A row of ``mail``."""

    place: int
    identifier: int
    tenant: int
    record: bytes
    sha256: bytes
    received: float
    date: float
    direction: str
    feed: str
    login: str
    subject: str
    message_id: str
    size: int
    attachments: int
    spam: int
    people: bytes
    expires: float
    month: int
    pack: int | None
    start: int
    length: int
    unsearched: str = ""


def quoted(text: str, *, prefix: bool = False) -> str:
    """A phrase of FTS5 that means just these words."""
    return '"' + text.replace('"', '""') + '"' + (" *" if prefix else "")


def _any(found: Sequence[str]) -> str:
    return f"rights : ({' OR '.join(quoted(token) for token in found)})"


def rights_expression(scope: Scope, ways: str = "sro") -> str | None:
    """What restricts a search to a scope; None if the scope sees nothing. ``ways``: of the own mail what one sent, received, or owns (``right_token``)."""
    terms = []
    if scope.tenant:
        terms.append(_any([right_token("t", str(scope.tenant))]))
    if scope.addresses is not None:
        if not scope.addresses:
            return None
        terms.append(_any([right_token(letter, key) for key in sorted(scope.addresses) for letter in ways]))
    return " AND ".join(f"({term})" for term in terms) if terms else _any([ANY])


def expression(scope: Scope, query: Query, form: int, ways: str = "sro") -> str | None:
    """The whole FTS5 expression of a query within a scope, for tables of that form (``ways``: see ``rights_expression``); None if the scope sees nothing. Raises QueryError."""
    rights = rights_expression(scope, ways)
    if rights is None:
        return None
    return _together(scope, query.wanted, form, [rights, *_sizes(query, form)])


def _sizes(query: Query, form: int) -> list[str]:
    """Roughly, for the full text: ``conditions_of`` is exact."""
    if form == 1:
        return []
    bounds = []
    if query.larger is not None:
        bounds.append(_any([size_token(1 << power) for power in range(min((query.larger + 1).bit_length(), SIZES) - 1, SIZES)]))
    if query.smaller is not None:
        bounds.append(
            _any([size_token(1 << power) for power in range(max(1, min(query.smaller.bit_length(), SIZES)))] + [size_token(0)])
        )
    return bounds


def _together(scope: Scope, nodes: Sequence[Node], form: int, needed: Sequence[str] = ()) -> str:
    """All of these. FTS5's NOT stands between two, so that what is not wanted comes last, and never alone."""
    wanted = [*needed, *(_node(scope, node, form) for node in nodes if not isinstance(node, Not))]
    whole = " AND ".join(f"({term})" for term in wanted or [_any([ANY])])
    for node in nodes:
        if isinstance(node, Not):
            whole = f"({whole}) NOT ({_node(scope, node.node, form)})"
    return whole


def _node(scope: Scope, node: Node, form: int) -> str:
    if isinstance(node, Words):
        return _term(scope, node, form)
    if isinstance(node, Marked):
        return _any([_mark(node)])
    if isinstance(node, All):
        return _together(scope, node.nodes, form)
    if isinstance(node, Not):
        return _together(scope, [node], form)
    return " OR ".join(f"({_node(scope, each, form)})" for each in node.nodes)


def _mark(node: Marked) -> str:
    if node.mark == "type":
        return type_token(node.value)
    return {"attachment": ATTACHMENT, "spam": SPAM}.get(node.mark) or direction_token(node.mark)


_PLACES = {
    "": ("sender", "recipients", "copies"),
    "from": ("sender",),
    "to": ("recipients", "copies"),
    "cc": ("copies",),
    "bcc": (),
    "subject": ("subject",),
    "body": ("body",),
    "content": ("body", "attached", "files"),
    "attachment": ("attached", "files"),
    "filename": ("files",),
    "list": ("headers",),
    "headers": ("headers",),
}
"""Where the words of a field are looked for, by everybody who may see them."""

NOBODY = "no"
"""Stands in no mail's rights."""

_OF_CONTENT = ("body", "attached", "files", "headers")
_IN_FIRST_FORM = {"attached": "body", "files": "body", "headers": "body", "copies": "recipients"}


def _term(scope: Scope, words: Words, form: int) -> str:
    phrase = _phrase(words)
    columns = list(_PLACES[words.field])
    if words.field == "":
        columns += ["subject"] if scope.subjects or scope.content else []
        columns += _OF_CONTENT if scope.content else []
    elif words.field == "subject" and not (scope.subjects or scope.content):
        raise QueryError("subject: subjects are not searchable with these rights")
    elif not scope.content and words.field in ("body", "content", "attachment", "filename", "list", "headers"):
        raise QueryError(f"{words.field}: what mail says is not searchable with these rights")
    reaches_recipients = words.field in ("", "to", "bcc")
    if reaches_recipients and scope.all_recipients:
        columns.append("hidden")
    columns = list(dict.fromkeys(name if name in FORMS[form] else _IN_FIRST_FORM[name] for name in columns))
    terms = [f"{{{' '.join(columns)}}} : {phrase}"] if columns else []
    if reaches_recipients and not scope.all_recipients and scope.mine:
        keys = sorted(scope.mine)
        terms.append(f"hidden : {phrase} AND {_any([right_token('s', key) for key in keys])}")
        if own := [right_token("r", key) for key in keys if _names(words, key)]:
            terms.append(_any(own) if words.field != "bcc" else f"hidden : {phrase} AND {_any(own)}")
    if (
        words.field in ("", "to")
        and scope.addresses is None
        and not scope.content
        and domain_of(address := words.text.strip("<>"))
    ):
        # An administrator finds what a mailbox got from outside, list mail that does not name it too (C16); whom people here wrote Bcc, nobody but they and auditors learns.
        terms.append(f"{_any([right_token('r', key_of(address))])} AND {_any([direction_token(Direction.IN.value)])}")
    return " OR ".join(f"({term})" for term in terms) or _any([NOBODY])


def _phrase(words: Words) -> str:
    """The words as the index has them, in each way of spelling them."""
    found = [quoted(text, prefix=words.prefix or single) for text, single in sought(words.text)]
    return found[0] if len(found) == 1 else f"({' OR '.join(found)})"


def _names(words: Words, key: str) -> bool:
    """Whether a term matches an address, as the index would see it."""
    wanted, have = tokens(words.text), tokens(key)
    for at in range(len(have) - len(wanted) + 1):
        part = have[at : at + len(wanted)]
        if part == wanted or (words.prefix and part[:-1] == wanted[:-1] and part[-1].startswith(wanted[-1])):
            return bool(wanted)
    return False


def search_page(cursor: Cursor, scope: Scope, query: Query, limit: int, after: str) -> Page:
    """A page of hits, newest first. Raises QueryError. Each month is asked once, and those whose newest mail is older than the page only as long as hits are
    counted; a page behind the first costs what it holds, for ``after`` knows the count (``tests/archive/test_pages.py``)."""
    expressions = {form: expression(scope, query, form) for form in FORMS}
    if None in expressions.values():
        return Page(0, ())
    limit = max(1, min(limit, MAX_PAGE))
    conditions, values = conditions_of(cursor, query)
    start, total = _cursor_of(after)
    counts = total is None
    total = total or 0
    places: list[int] = []
    if start is not None:
        conditions += " AND rowid < ?"
        values.append(start)
    for newest, month, form in _by_newest(cursor):
        counting = counts and total <= MAX_COUNT
        if len(places) > limit and newest < places[limit] and not counting:
            break
        table = table_of(month)
        cursor.execute(
            f"SELECT rowid FROM {table} WHERE {table} MATCH ?{conditions.format(table=table)} ORDER BY rowid DESC",
            (expressions[form], *values),
        )
        found = cursor.fetchmany(limit + 1)
        places = sorted((*places, *(place for (place,) in found)), reverse=True)[: limit + 1]
        while counting and found:
            total += len(found)
            found = cursor.fetchmany(_SOME) if total <= MAX_COUNT else []
    more = len(places) > limit
    page = places[:limit]
    rows = rows_at(cursor, page)
    hits = tuple(hit_of(rows[p], scope) for p in page if p in rows)
    return Page(min(total, MAX_COUNT), hits, f"{page[-1]}-{total}" if more else "", exact=total <= MAX_COUNT)


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


def conditions_of(cursor: Cursor, query: Query, *, marked: bool = False) -> tuple[str, list[Any]]:
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
    for bound, sign in ((query.larger, ">"), (query.smaller, "<")):
        if bound is not None:
            # Mail by mail, of those that the full text found; there the sizes are known to a power of two.
            parts.append(f" AND (SELECT size FROM mail WHERE place = {{table}}.rowid) {sign} ?")
            values.append(bound)
    return "".join(parts), values


def rows_at(cursor: Cursor, places: Sequence[int]) -> dict[int, MailRow]:
    """Rows of ``mail`` by place."""
    if not places:
        return {}
    marks = ",".join("?" * len(places))
    found = cursor.execute(f"SELECT {_COLUMNS} FROM mail WHERE place IN ({marks})", tuple(places)).fetchall()
    return {row[0]: MailRow(*row) for row in found}


def find_mail(cursor: Cursor, scope: Scope, identifier: int) -> MailRow:
    """The row of a mail that the scope may see. Raises KeyError, also for mail of others: nobody learns that it exists."""
    found = cursor.execute(f"SELECT {_COLUMNS} FROM mail WHERE id = ?", (identifier,)).fetchone()
    rights = rights_expression(scope)
    if found is None or rights is None:
        raise KeyError(identifier)
    row = MailRow(*found)
    table = table_of(row.month)
    if not cursor.execute(f"SELECT 1 FROM {table} WHERE {table} MATCH ? AND rowid = ?", (rights, row.place)).fetchone():
        raise KeyError(identifier)
    return row


def sees_all_recipients(scope: Scope, people: People) -> bool:
    """Rule 14: the sender and auditors see all."""
    return scope.all_recipients or bool(scope.mine & people.senders())


def visible_envelope(scope: Scope, people: People) -> tuple[str, ...]:
    """Envelope recipients that the scope may see: those the header names, and one's own entry; all for sender and auditors."""
    everybody = people.envelope()
    if sees_all_recipients(scope, people):
        return everybody
    open_keys = {key_of(n.address) for n in (*people.to, *people.cc)} | scope.mine
    return tuple(r for r in everybody if key_of(r) in open_keys)


def sees_whole(scope: Scope, people: People, login: str, recipients: Sequence[str]) -> bool:
    """Whether the scope may see everything that an arrival's envelope states: all its recipients and who logged in (rule 14)."""
    if sees_all_recipients(scope, people):
        return True
    return not login and set(recipients) <= set(visible_envelope(scope, people))


def visible_recipients(scope: Scope, people: People) -> tuple[str, ...]:
    """What a result list shows as recipients: the header's, and those of the envelope that may be seen besides."""
    shown = people.shown()
    named = {key_of(s) for s in shown}
    return (*shown, *(r for r in visible_envelope(scope, people) if key_of(r) not in named))


def sender_text(people: People) -> str:
    """The From of the header, or else the reverse-path."""
    if people.sender is not None:
        return str(people.sender)
    return next((a.sender for a in people.arrivals), "")


def hit_of(row: MailRow, scope: Scope) -> Hit:
    """A line of a result list."""
    people = people_decoder.decode(row.people)
    return Hit(
        id=row.identifier,
        date=row.date,
        sender=sender_text(people),
        recipients=visible_recipients(scope, people),
        subject=row.subject if scope.content or scope.subjects else "",
        size=row.size,
        direction=Direction(row.direction),
        received=row.received,
        spam=bool(row.spam),
        attachments=row.attachments,
    )
