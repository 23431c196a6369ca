"""The language of archive searches: words, ``"phrases"``, word beginnings (``mull*``) and ``name:value`` terms, all of which must hold.

``OR`` between two, ``-`` before one, parentheses around several, behind a name of words too (``from:(bob OR carol)``). A space may stand behind a name. Which names there are says ``NAMES``,
in English, German, French and Spanish. What is no name, and a name whose value is none of it, is a word: a pasted subject (``Re: Angebot``, ``Datum: noch offen``) and a pasted address of a page are
searches. ``before: after: on: date: size> size< id: thread: hold: is:namesake`` hold for the whole search.
Days are UTC's; ``before`` excludes its day, ``after`` includes it.
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from hornetmail.core.archive.archived import QueryError
from hornetmail.core.archive.words import of_link

MAX_QUERY = 2000
MAX_TERMS = 40
MAX_DEPTH = 10

FIELDS = frozenset({"from", "to", "cc", "bcc", "subject", "body", "attachment", "filename", "list"})
"""Names whose values are words."""

NAMES: dict[str, str] = {
    **{
        name: name
        for name in (
            *FIELDS,
            "before",
            "after",
            "on",
            "date",
            "size",
            "id",
            "has",
            "is",
            "spam",
            "direction",
            "type",
            "thread",
            "hold",
        )
    },
    **dict.fromkeys(("von", "de", "desde"), "from"),
    **dict.fromkeys(("an", "à", "para"), "to"),
    **dict.fromkeys(("kopie", "copie", "copia"), "cc"),
    **dict.fromkeys(("blindkopie", "cci", "cco"), "bcc"),
    **dict.fromkeys(("betreff", "objet", "asunto"), "subject"),
    **dict.fromkeys(("text", "texte", "texto"), "body"),
    **dict.fromkeys(("anhang", "anlage", "pièce", "adjunto"), "attachment"),
    **dict.fromkeys(("datei", "dateiname", "fichier", "archivo"), "filename"),
    **dict.fromkeys(("liste", "lista"), "list"),
    **dict.fromkeys(("vor", "avant", "antes"), "before"),
    **dict.fromkeys(("nach", "seit", "après", "depuis", "después"), "after"),
    **dict.fromkeys(("am", "le", "el"), "on"),
    **dict.fromkeys(("datum", "fecha"), "date"),
    **dict.fromkeys(("größe", "groesse", "taille", "tamaño"), "size"),
    **dict.fromkeys(("hat", "avec", "tiene"), "has"),
    **dict.fromkeys(("ist", "est", "es"), "is"),
    **dict.fromkeys(("richtung", "sens", "dirección"), "direction"),
    **dict.fromkeys(("typ", "tipo"), "type"),
    **dict.fromkeys(("konversation", "unterhaltung", "conversation", "fil", "conversación", "hilo"), "thread"),
    **dict.fromkeys(("sperre", "gel", "retención"), "hold"),
}
"""Names of terms, and what each means."""

_OR = frozenset({"OR", "ODER", "OU", "O", "|", "||"})
_AND = frozenset({"AND", "UND", "ET", "Y", "&&"})
_BEHIND = re.compile(r'\s+("[^"]*"\*?|[^\s"()]+)')
_PIECE = re.compile(
    r'\s*(?:(?P<open>-?\()|(?P<close>\))|(?P<minus>-?)(?:(?P<name>\w+)(?P<sign>[:<>]))?(?P<value>"[^"]*"\*?|"[^"]*$|[^\s"()]+)?)'
)
_SIZE = re.compile(r"(\d{1,15})\s*([kKmMgG]?)[bBoO]?")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_YES = frozenset({"yes", "true", "1", "ja", "oui", "si", "sí"})
_NO = frozenset({"no", "false", "0", "nein", "non"})
_NAMESAKE = frozenset({"namesake", "namensvetter", "homonyme", "homónimo"})
_DIRECTIONS = {
    **dict.fromkeys(("in", "inbound", "received", "eingehend", "empfangen", "reçu", "recibido"), "in"),
    **dict.fromkeys(("out", "outbound", "sent", "ausgehend", "gesendet", "envoyé", "enviado"), "out"),
    **dict.fromkeys(("internal", "intern", "interne", "interno"), "internal"),
}
_PERIODS = {
    **dict.fromkeys(("today", "heute", "aujourd'hui", "hoy"), "today"),
    **dict.fromkeys(("yesterday", "gestern", "hier", "ayer"), "yesterday"),
    **dict.fromkeys(("this-week", "diese-woche", "cette-semaine", "esta-semana"), "this-week"),
    **dict.fromkeys(("last-week", "letzte-woche", "semaine-dernière", "semana-pasada"), "last-week"),
    **dict.fromkeys(("this-month", "dieser-monat", "ce-mois", "este-mes"), "this-month"),
    **dict.fromkeys(("last-month", "letzter-monat", "mois-dernier", "mes-pasado"), "last-month"),
    **dict.fromkeys(("this-year", "dieses-jahr", "cette-année", "este-año"), "this-year"),
    **dict.fromkeys(("last-year", "letztes-jahr", "année-dernière", "año-pasado"), "last-year"),
}


class Words(msgspec.Struct, frozen=True, gc=False):
    """Words that stand one after the other, as written. ``field``: ``""`` (anywhere), one of ``FIELDS``, ``headers``, or ``content`` (all but the header). ``prefix``: the last is a beginning."""

    text: str
    field: str = ""
    prefix: bool = False


class Marked(msgspec.Struct, frozen=True, gc=False):
    """Mail with a mark: ``attachment``, ``spam``, ``in``, ``out``, ``internal``, or ``type`` and a file's extension."""

    mark: str
    value: str = ""


class Not(msgspec.Struct, frozen=True, gc=False):
    """What does not hold."""

    node: Node


class All(msgspec.Struct, frozen=True, gc=False):
    """What must hold together."""

    nodes: tuple[Node, ...]


class Any(msgspec.Struct, frozen=True, gc=False):
    """Of which one must hold."""

    nodes: tuple[Node, ...]


Node = Words | Marked | Not | All | Any


class Query(msgspec.Struct, frozen=True, gc=False):
    """A search, understood. ``wanted``: all of it must hold. ``since`` (included) and ``until`` (excluded): Unix seconds of receipt. ``thread``: of that mail's conversation; ``hold``: under the legal hold of that
    name; ``namesake``: another mail has its Message-ID. Empty: everything."""

    wanted: tuple[Node, ...] = ()
    since: float | None = None
    until: float | None = None
    larger: int | None = None
    smaller: int | None = None
    identifier: int | None = None
    thread: int | None = None
    hold: str = ""
    namesake: bool = False


def tokens(text: str) -> list[str]:
    """Text as the index splits it: letters and digits, lower case, without diacritics."""
    folded = unicodedata.normalize("NFD", text.lower())
    bare = "".join(c for c in folded if not unicodedata.combining(c))
    return "".join(c if unicodedata.category(c)[0] in "LN" or unicodedata.category(c) == "Co" else " " for c in bare).split()


def parse_query(text: str, now: float) -> Query:
    """``now``: Unix seconds, for ``date:last-month``. Raises QueryError that names the term."""
    if len(text) > MAX_QUERY:
        raise QueryError(f"the query is longer than {MAX_QUERY} characters")
    if "\x00" in text:
        raise QueryError("the query holds a NUL")
    return _Reader(text, now).read()


class _Reader:
    def __init__(self, text: str, now: float) -> None:
        self._text = text
        self._now = now
        self._at = 0
        self._count = 0
        self._limits: dict[str, float | int | str] = {}

    def read(self) -> Query:
        nodes: list[Node] = []
        while not self._done():
            nodes += self._group(0)
        if not nodes and not self._limits and any(unicodedata.category(c) == "So" for c in self._text):
            raise QueryError(f"{self._text.strip()}: nothing in it can be searched for")
        return Query(wanted=tuple(nodes), **self._limits)  # type: ignore[arg-type]

    def _done(self) -> bool:
        return not self._text[self._at :].strip()

    def _group(self, depth: int) -> list[Node]:
        """Up to its closing parenthesis, or to the end if it has none: subjects have parentheses of all kinds."""
        if depth > MAX_DEPTH:
            raise QueryError(f"parentheses lie deeper than {MAX_DEPTH} in one another")
        choices: list[list[Node]] = [[]]
        chosen = False
        while not self._done():
            found = _PIECE.match(self._text, self._at)
            in_a_word = self._text.startswith('"', self._at) and self._at and self._text[self._at - 1] not in " \t(-"
            if found is None or found.end() == self._at or in_a_word:
                # a quotation mark behind a word is none of ours: 5" pipe
                self._at += 1
                continue
            self._at = found.end()
            if found["close"]:
                break
            excluded = (found["open"] or found["minus"] or "").startswith("-")
            if found["open"]:
                self._add(choices, _all(self._group(depth + 1)), excluded, chosen)
            else:
                said = found[0].strip()
                if said in _OR or said in _AND:
                    chosen = said in _OR and bool(choices[-1])
                    continue
                self._count += 1
                if self._count > MAX_TERMS:
                    raise QueryError(f"more than {MAX_TERMS} terms")
                self._add(choices, self._found(found, depth, chosen), excluded, chosen)
            chosen = False
        return [nodes[0] if len(nodes) == 1 else Any(tuple(nodes)) for nodes in choices if nodes]

    @staticmethod
    def _add(choices: list[list[Node]], node: Node | None, excluded: bool, chosen: bool) -> None:
        """``OR`` binds what stands on its two sides."""
        if node is None:
            return
        made = Not(node) if excluded else node
        if chosen and choices[-1]:
            choices[-1].append(made)
        else:
            choices.append([made])

    def _found(self, found: re.Match[str], depth: int, chosen: bool) -> Node | None:
        """A term; its value may be in parentheses, or stand behind a space."""
        inside = depth > 0 or chosen
        name = NAMES.get((found["name"] or "").lower(), "")
        if found["value"] or found["sign"] != ":" or not name:
            return self._term(found, inside)
        if name in FIELDS and self._text.startswith("(", self._at):
            self._at += 1
            node = _all(self._group(depth + 1))
            return None if node is None else _in_field(node, name)
        behind = _BEHIND.match(self._text, self._at)
        joined = _PIECE.fullmatch(f"{found['minus']}{found['name']}:{behind[1]}") if behind is not None else None
        if behind is None or joined is None:
            return self._term(found, inside)
        try:
            node = self._term(joined, inside)
        except QueryError:
            return Words(found["name"])
        self._at = behind.end()
        return node

    def _term(self, found: re.Match[str], inside: bool) -> Node | None:
        term, sign, value = found[0].strip(), found["sign"] or "", found["value"] or ""
        name = NAMES.get((found["name"] or "").lower(), "") if sign else ""
        excluded = found["minus"] == "-"
        if not name or (sign != ":" and name != "size"):
            whole = term.removeprefix("-") if excluded else term
            # a name that is none and quoted words behind it are both words
            return _words(term, "", whole if not value.startswith('"') or not sign else f"{found['name']} {value.strip(chr(34))}")
        if (value.startswith('"') and not value.rstrip("*").endswith('"')) or value == '"':
            raise QueryError(f"{term}: the quotation mark is not closed")
        if name in FIELDS:
            if not tokens(value):
                raise QueryError(f"{term}: what is missing after {found['name']}:")
            return _words(term, name, value)
        bare = value.strip('"')
        if not bare:
            raise QueryError(f"{term}: what is missing after {found['name']}{sign}")
        mark = _mark(term, name, bare.lower())
        if mark is not None:
            return mark
        if name == "id" and not bare.isdigit() and "@" in bare:
            return _words(term, "headers", bare.strip("<>"))
        if excluded:
            raise QueryError(f"{term}: only words, has: is: spam: type: and direction: can be excluded")
        if inside:
            raise QueryError(f"{term}: holds for the whole search, write it outside of parentheses and OR")
        self._limit(term, name, sign, bare)
        return None

    def _limit(self, term: str, name: str, sign: str, bare: str) -> None:
        limits = self._limits
        if name == "size":
            if sign == ":":
                raise QueryError(f"{term}: write size>1M or size<10k")
            limits["larger" if sign == ">" else "smaller"] = _size(term, bare)
        elif name == "id":
            limits["identifier"] = _number(term, bare, "an ID is a number, or a Message-ID")
        elif name == "thread":
            limits["thread"] = _number(term, bare, "write the archive's number of a mail of the conversation")
        elif name == "hold":
            limits["hold"] = bare
        elif name == "is":
            limits["namesake"] = True
        else:
            since, until = self._days(term, bare)
            if name == "before":
                limits["until"] = since
            elif name == "after":
                limits["since"] = since
            else:
                limits["since"], limits["until"] = since, until

    def _days(self, term: str, text: str) -> tuple[float, float]:
        """First second, and the first one behind, of what is said."""
        today = datetime.fromtimestamp(self._now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        period = _PERIODS.get(text.lower())
        if period is not None:
            first, behind = _period(period, today)
        elif ".." in text:
            start, _, end = text.partition("..")
            return self._days(term, start)[0], self._days(term, end)[1]
        else:
            first, behind = _day(term, text)
        return first.timestamp(), behind.timestamp()


def _in_field(node: Node, field: str) -> Node:
    """The same, where its words are not looked for elsewhere already."""
    match node:
        case Words(field=""):
            return msgspec.structs.replace(node, field=field)
        case Not():
            return Not(_in_field(node.node, field))
        case All() | Any():
            return type(node)(tuple(_in_field(each, field) for each in node.nodes))
    return node


def _all(nodes: Sequence[Node]) -> Node | None:
    if not nodes:
        return None
    return nodes[0] if len(nodes) == 1 else All(tuple(nodes))


def _words(term: str, field: str, value: str) -> Node | None:
    if (value.startswith('"') and not value.rstrip("*").endswith('"')) or value == '"':
        raise QueryError(f"{term}: the quotation mark is not closed")
    prefix = value.endswith("*")
    bare = value.strip('"*')
    if "://" in bare:
        bare = of_link(bare) or bare
    return Words(bare, field, prefix) if tokens(bare) else None


def _mark(term: str, name: str, bare: str) -> Node | None:
    if name == "has":
        if bare in ("attachment", "attachments", "anhang", "anhänge", "pièce-jointe", "adjunto", "adjuntos"):
            return Marked("attachment")
        raise QueryError(f"{term}: write has:attachment")
    if name == "is":
        if bare == "spam":
            return Marked("spam")
        if bare in _NAMESAKE:
            return None
        raise QueryError(f"{term}: write is:spam or is:namesake")
    if name == "spam":
        if bare in _YES or bare in _NO:
            return Marked("spam") if bare in _YES else Not(Marked("spam"))
        raise QueryError(f"{term}: write spam:yes or spam:no")
    if name == "direction":
        if bare in _DIRECTIONS:
            return Marked(_DIRECTIONS[bare])
        raise QueryError(f"{term}: write direction:in, direction:out or direction:internal")
    if name == "type":
        kind = bare.lstrip(".")
        if kind.isalnum() and len(kind) <= 20:
            return Marked("type", kind)
        raise QueryError(f"{term}: write the ending of a file's name, type:pdf")
    return None


def _number(term: str, text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) >= 1 << 63:
        raise QueryError(f"{term}: {what}")
    return int(text)


def _size(term: str, text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise QueryError(f"{term}: a size is a number with k, M or G")
    return int(found.group(1)) * _UNITS[found.group(2).lower()]


def _day(term: str, text: str) -> tuple[datetime, datetime]:
    for form, unit in (
        ("%Y-%m-%d", "day"),
        ("%Y/%m/%d", "day"),
        ("%d.%m.%Y", "day"),
        ("%d.%m.%y", "day"),
        ("%Y-%m", "month"),
        ("%Y/%m", "month"),
        ("%m.%Y", "month"),
        ("%Y", "year"),
    ):
        try:
            first = datetime.strptime(text, form).replace(tzinfo=UTC)
            return first, _behind(first, unit)
        except (ValueError, OverflowError):
            continue
    raise QueryError(f"{term}: a date is like 2026-11-22, 2026-11, 2026 or last-month")


def _behind(first: datetime, unit: str) -> datetime:
    if unit == "day":
        return first + timedelta(days=1)
    if unit == "week":
        return first + timedelta(days=7)
    if unit == "month":
        return first + timedelta(days=calendar.monthrange(first.year, first.month)[1])
    return first.replace(year=first.year + 1)


def _period(period: str, today: datetime) -> tuple[datetime, datetime]:
    if period in ("today", "yesterday"):
        first = today - timedelta(days=period == "yesterday")
        return first, _behind(first, "day")
    which, _, unit = period.partition("-")
    if unit == "week":
        first = today - timedelta(days=today.weekday() + (7 if which == "last" else 0))
    elif unit == "month":
        first = today.replace(day=1)
        first = (first - timedelta(days=1)).replace(day=1) if which == "last" else first
    else:
        first = today.replace(month=1, day=1)
        first = first.replace(year=first.year - 1) if which == "last" else first
    return first, _behind(first, unit)
