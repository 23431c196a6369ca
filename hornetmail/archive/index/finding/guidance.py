"""Facets, suggestions and "did you mean" (rules 14, 15): all of it is made of what the newest hits within the scope show, and of nothing else, so that no word of a mail which somebody may not see can be
guessed from it. Cost: so many hits are looked at, however large the archive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from hornetmail.archive.index.finding.search import newest_hits
from hornetmail.archive.index.query.language import Any, Marked, Query, Words, tokens
from hornetmail.core.archive.archived import Hit
from hornetmail.core.archive.guidance import Count, Guidance, nearest
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor

LOOKED = 300
"""Hits that are looked at."""

MOST = 10
"""People, kinds of files or suggestions that are told."""

MONTHS = 24
SHORTEST = 4
"""Letters of a word for which another one is looked for."""

KINDS = ("pdf", "docx", "doc", "xlsx", "xls", "pptx", "odt", "ods", "csv", "jpg", "png", "zip", "ics", "eml")


def guidance(cursor: Cursor, scope: Scope, query: Query, text: str) -> Guidance:
    """Of a query, which stands in ``text`` as it was typed."""
    hits = newest_hits(cursor, scope, query, LOOKED)
    if not hits:
        return Guidance(meant=_meant(cursor, scope, query, text))
    months = Counter(datetime.fromtimestamp(hit.received, UTC).strftime("%Y-%m") for hit in hits)
    return Guidance(
        len(hits),
        _most(Counter(person for hit in hits for person in {hit.sender, *hit.recipients} if person)),
        tuple(Count(month, months[month]) for month in sorted(months, reverse=True)[:MONTHS]),
        _types(cursor, scope, query, hits),
    )


def _most(counted: Counter[str]) -> tuple[Count, ...]:
    found = sorted(counted.items(), key=lambda each: (-each[1], each[0]))
    return tuple(Count(value, mails) for value, mails in found[:MOST])


def _types(cursor: Cursor, scope: Scope, query: Query, hits: Sequence[Hit]) -> tuple[Count, ...]:
    if not scope.content or not any(hit.attachments for hit in hits):
        return ()
    since = min(hit.received for hit in hits)
    shown = {hit.id for hit in hits}
    counted: Counter[str] = Counter()
    for kind in KINDS:
        of_kind = msgspec.structs.replace(
            query, wanted=(*query.wanted, Marked("type", kind)), since=max(since, query.since or 0.0)
        )
        mails = sum(hit.id in shown for hit in newest_hits(cursor, scope, of_kind, LOOKED))
        if mails:
            counted[kind] = mails
    return _most(counted)


def suggestions(cursor: Cursor, scope: Scope, text: str) -> tuple[str, ...]:
    """People whose name or address has words that begin as what was typed, those of the most and newest mail first."""
    typed = tokens(text[:100])
    if not typed:
        return ()
    begun = Words(" ".join(typed), prefix=True)
    wanted = Any(tuple(msgspec.structs.replace(begun, field=field) for field in ("from", "to")))
    hits = newest_hits(cursor, scope, Query((wanted,)), LOOKED)
    people = Counter(person for hit in hits for person in {hit.sender, *hit.recipients} if _begins(person, typed))
    return tuple(count.value for count in _most(people))


def _begins(person: str, typed: Sequence[str]) -> bool:
    words = tokens(person)
    return all(any(word.startswith(part) for word in words) for part in typed)


def _meant(cursor: Cursor, scope: Scope, query: Query, text: str) -> str:
    """Words of subjects and people are what one may have meant."""
    meant = text
    for node in query.wanted:
        if not isinstance(node, Words) or node.prefix or len(node.text) < SHORTEST or not node.text.isalpha():
            continue
        if newest_hits(cursor, scope, Query((node,)), 1):
            continue
        (word, *more) = tokens(node.text)
        better = "" if more else nearest(word, _words_like(cursor, scope, word))
        if better:
            meant = meant.replace(node.text, better)
    return meant if meant != text else ""


def _words_like(cursor: Cursor, scope: Scope, word: str) -> Iterable[str]:
    fields = ("from", "to", "subject") if scope.subjects or scope.content else ("from", "to")
    wanted = Any(tuple(Words(word[:2], field, prefix=True) for field in fields))
    for hit in newest_hits(cursor, scope, Query((wanted,)), LOOKED):
        yield from {
            one for each in (hit.subject, hit.sender, *hit.recipients) for one in tokens(each) if one.startswith(word[:2])
        }
