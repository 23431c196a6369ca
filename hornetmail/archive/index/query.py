"""The language of archive searches: words, ``"phrases"``, word beginnings (``mull*``) and ``name:value`` terms, all of which must hold.

``from: to: subject:`` take a word, an address or a "phrase"; ``before: after:`` a date (2026-11-22, 2026-11, 2026; UTC; ``before`` excludes that
day, ``after`` includes it); ``has:attachment``, ``is:spam``; ``size>1M size<10k`` (bytes, k, M, G); ``id:``. A ``-`` in front excludes.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

import msgspec

from hornetmail.core.archive.archived import QueryError

MAX_QUERY = 2000
MAX_TERMS = 40

_PIECE = re.compile(r'\s*(-?)(?:([A-Za-z]+)([:<>]))?("(?:[^"]*)"\*?|"[^"]*$|[^\s"]+)?')
_SIZE = re.compile(r"(\d{1,15})\s*([kKmMgG]?)[bB]?")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_FIELDS = frozenset({"from", "to", "subject"})


class Words(msgspec.Struct, frozen=True, gc=False):
    """Words that stand one after the other, as written. ``field``: ``""`` (anywhere), from, to or subject. ``prefix``: the last is a
    beginning."""

    text: str
    field: str = ""
    prefix: bool = False
    excluded: bool = False


class Query(msgspec.Struct, frozen=True, gc=False):
    """A search, understood. ``since`` (included) and ``until`` (excluded): Unix seconds of receipt. Empty: everything."""

    words: tuple[Words, ...] = ()
    since: float | None = None
    until: float | None = None
    attachment: bool | None = None
    spam: bool | None = None
    larger: int | None = None
    smaller: int | None = None
    identifier: int | None = None


def tokens(text: str) -> list[str]:
    """Text as the index splits it: letters and digits, lower case, without diacritics."""
    folded = unicodedata.normalize("NFD", text.lower())
    bare = "".join(c for c in folded if not unicodedata.combining(c))
    return "".join(c if unicodedata.category(c)[0] in "LN" or unicodedata.category(c) == "Co" else " " for c in bare).split()


def parse_query(text: str) -> Query:
    """Raises QueryError that names the term."""
    if len(text) > MAX_QUERY:
        raise QueryError(f"the query is longer than {MAX_QUERY} characters")
    if "\x00" in text:
        raise QueryError("the query holds a NUL")
    words: list[Words] = []
    limits: dict[str, float | int | bool] = {}
    at = 0
    count = 0
    while text[at:].strip():
        found = _PIECE.match(text, at)
        if found is None or found.end() == at:
            raise QueryError(f"cannot read the query at {text[at : at + 20]!r}")
        at = found.end()
        count += 1
        if count > MAX_TERMS:
            raise QueryError(f"more than {MAX_TERMS} terms")
        excluded, name, sign, value = found.group(1) == "-", (found.group(2) or "").lower(), found.group(3) or "", found.group(4)
        _term(found.group().strip(), excluded, name, sign, value or "", words, limits)
    return Query(words=tuple(words), **limits)  # type: ignore[arg-type]


def _term(
    term: str, excluded: bool, name: str, sign: str, value: str, words: list[Words], limits: dict[str, float | int | bool]
) -> None:
    if (value.startswith('"') and not value.rstrip("*").endswith('"')) or value == '"':
        raise QueryError(f"{term}: the quotation mark is not closed")
    if not name or (sign == ":" and name in _FIELDS):
        _add_words(term, excluded, name, value, words)
        return
    bare = value.strip('"')
    if sign != ":" and name != "size":
        _add_words(term, excluded, "", term.lstrip("-"), words)
        return
    if excluded and name not in ("has", "is"):
        raise QueryError(f"{term}: only words, has: and is: can be excluded")
    if not bare:
        raise QueryError(f"{term}: what is missing after {name}{sign}")
    if name == "size" and sign in "<>":
        limits["larger" if sign == ">" else "smaller"] = _size(term, bare)
    elif name in ("before", "after"):
        limits["until" if name == "before" else "since"] = _date(term, bare)
    elif name == "has" and bare in ("attachment", "attachments"):
        limits["attachment"] = not excluded
    elif name == "is" and bare == "spam":
        limits["spam"] = not excluded
    elif name == "id":
        if not bare.isascii() or not bare.isdigit() or len(bare) > 19 or int(bare) >= 1 << 63:
            raise QueryError(f"{term}: an ID is a number")
        limits["identifier"] = int(bare)
    elif name in ("size", "has", "is"):
        known = {"size": "size>1M or size<10k", "has": "has:attachment", "is": "is:spam"}[name]
        raise QueryError(f"{term}: write {known}")
    else:
        raise QueryError(f"{term}: there is no {name}: (there are from: to: subject: before: after: has: is: size> id:)")


def _add_words(term: str, excluded: bool, field: str, value: str, words: list[Words]) -> None:
    prefix = value.endswith("*")
    if not tokens(value):
        if field:
            raise QueryError(f"{term}: what is missing after {field}:")
        return
    words.append(Words(value.strip('"*'), field, prefix, excluded))


def _size(term: str, text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise QueryError(f"{term}: a size is a number with k, M or G")
    return int(found.group(1)) * _UNITS[found.group(2).lower()]


def _date(term: str, text: str) -> float:
    for form in ("%Y-%m-%d", "%Y-%m", "%Y", "%d.%m.%Y"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
        except (ValueError, OverflowError):
            continue
    raise QueryError(f"{term}: a date is like 2026-11-22")
