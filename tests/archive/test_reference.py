"""Random mail and random searches against a reference that has no index: it reads each mail and asks each term of it. Equal sets, whoever asks."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence

import msgspec
import sqlcipher3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hornetmail.archive.index.finding.search import newest_hits, search_page
from hornetmail.archive.index.query.language import parse_query
from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.archive.index.writing.mails import Prepared, store_batch
from hornetmail.archive.store.records import MailMeta
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor
from hornetmail.mime.reading.mail import read_mail
from hornetmail.testing.archives import AUDITOR, NOW, mail, user

PEOPLE = ("alice@example.test", "bob@example.test", "carol@else.test")
WORDS = (
    "Müller",
    "Mueller",
    "muller",
    "Straße",
    "STRASSE",
    "offer",
    "Offers",
    "off",
    "ﬁne",
    "fine",
    "ｆｕｌｌ",
    "full",
    "会議予算",
    "予算",
    "2026",
    "naïve",
)
SCOPES = {"auditor": AUDITOR, "tenant": Scope(1, None, all_recipients=True), "other": Scope(2, None, all_recipients=True)} | {
    one: user(one) for one in PEOPLE
}


class Letter(msgspec.Struct, frozen=True):
    """A mail as the generator made it."""

    subject: tuple[str, ...]
    body: tuple[str, ...]
    sender: str
    to: str
    recipients: tuple[str, ...]
    login: str
    spam: bool
    month: int


class Term(msgspec.Struct, frozen=True):
    """``words`` one after the other in ``field`` (``""``: in any), the last as a beginning if ``prefix``; or a mark in ``field`` ``spam``."""

    field: str
    words: tuple[str, ...]
    prefix: bool = False


class Node(msgspec.Struct, frozen=True):
    """``how``: ``term``, ``not`` (of the first), ``all``, ``any``."""

    how: str
    term: Term | None = None
    nodes: tuple[Node, ...] = ()


letters = st.builds(
    Letter,
    st.lists(st.sampled_from(WORDS), max_size=3).map(tuple),
    st.lists(st.sampled_from(WORDS), max_size=5).map(tuple),
    st.sampled_from(PEOPLE),
    st.sampled_from(PEOPLE),
    st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=3, unique=True).map(tuple),
    st.sampled_from(("", *PEOPLE)),
    st.booleans(),
    st.sampled_from((202_607, 202_608)),
)
_names = st.sampled_from(("alice", "bob", "carol", "example", "else", "test", *PEOPLE))
_fields = st.sampled_from(("", "subject", "body"))
# second spellings lie behind a text, so that phrases reach none of them
_phrases = st.lists(st.sampled_from(("offer", "Offers", "off", "fine", "2026", "FULL")), min_size=2, max_size=2).map(tuple)
terms = st.one_of(
    st.builds(Term, _fields, st.sampled_from(WORDS).map(lambda word: (word,))),
    st.builds(Term, _fields, _phrases),
    st.builds(Term, _fields, st.sampled_from(("o", "off", "mü", "str", "20", "会")).map(lambda word: (word,)), st.just(True)),
    st.builds(Term, st.sampled_from(("", "from", "to")), _names.map(lambda word: (word,))),
    st.just(Term("spam", ())),
).map(lambda term: Node("term", term))
nodes = st.recursive(
    terms,
    lambda inner: st.one_of(
        inner.filter(lambda node: node.how != "not").map(lambda node: Node("not", nodes=(node,))),
        st.builds(Node, st.sampled_from(("all", "any")), st.none(), st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)


def written(node: Node) -> str:
    """As people write it."""
    if node.term is not None:
        term = node.term
        if term.field == "spam":
            return "is:spam"
        name = f"{term.field}:" if term.field else ""
        if term.prefix:
            return f"{name}{term.words[0]}*"
        return f'{name}"{" ".join(term.words)}"' if len(term.words) > 1 else f"{name}{term.words[0]}"
    if node.how == "not":
        (inner,) = node.nodes
        return f"-{written(inner)}"
    return f"({(' OR ' if node.how == 'any' else ' ').join(map(written, node.nodes))})"


# -- the reference


def plain(word: str) -> str:
    """Without case, diacritics and forms that are only other signs for the same letters."""
    same = unicodedata.normalize("NFKC", word).replace("ß", "ss").replace("ẞ", "ss").lower()
    return "".join(c for c in unicodedata.normalize("NFD", same) if not unicodedata.combining(c))


def spelt(word: str) -> str:
    """The same, with umlauts spelt out."""
    for letter, two in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("Ü", "Ue")):
        word = word.replace(letter, two)
    return plain(word)


def is_unspaced(word: str) -> bool:
    return word >= "\u3000"


def pieces(text: Sequence[str]) -> list[str]:
    """Addresses are words with signs between them."""
    return [piece for word in text for piece in word.replace("@", " ").replace(".", " ").split()]


def stands_in(term: Term, text: Sequence[str], form: Callable[[str], str]) -> bool:
    """Whether the words stand there one after the other. Scripts without blanks are looked for inside of words."""
    have, want = pieces(text), pieces(term.words)
    for at in range(len(have) - len(want) + 1):
        matched = True
        for place, (there, wanted) in enumerate(zip(have[at : at + len(want)], want, strict=True)):
            last = place == len(want) - 1
            if is_unspaced(wanted) and is_unspaced(there):
                inside = there.endswith if len(want) > 1 and place == 0 else there.startswith
                matched &= wanted in there if len(want) == 1 else (there == wanted or inside(wanted))
            elif last and term.prefix:
                matched &= any(made(there).startswith(form(wanted)) for made in ((plain, spelt) if len(want) == 1 else (plain,)))
            else:
                matched &= any(made(there) == form(wanted) for made in ((plain, spelt) if len(want) == 1 else (plain,)))
        if matched:
            return True
    return False


def says(term: Term, letter: Letter, scope: Scope) -> bool:
    """Rules 14 and 15, as they stand."""
    if term.field == "spam":
        return letter.spam
    places: list[Sequence[str]] = []
    if term.field in ("", "subject"):
        places.append(letter.subject)
    if term.field in ("", "body"):
        places.append(letter.body)
    if term.field in ("", "from"):
        places.append((letter.sender,))
    if term.field in ("", "to"):
        places.append((letter.to,))
        everybody = scope.addresses is None or letter.login in scope.addresses
        places += [(one,) for one in letter.recipients if everybody or one in (scope.addresses or ())]
    return any(stands_in(term, place, form) for place in places for form in (plain, spelt))


def holds(node: Node, letter: Letter, scope: Scope) -> bool:
    if node.term is not None:
        return says(node.term, letter, scope)
    if node.how == "not":
        return not holds(node.nodes[0], letter, scope)
    return (all if node.how == "all" else any)(holds(each, letter, scope) for each in node.nodes)


def may_see(letter: Letter, scope: Scope) -> bool:
    if scope.tenant not in (0, 1):
        return False
    return scope.addresses is None or bool(scope.addresses & {letter.login, *letter.recipients})


# -- the index


def index_of(letters: Sequence[Letter]) -> Cursor:
    """The database that the product keeps, in memory."""
    cursor: Cursor = sqlcipher3.connect(":memory:").cursor()
    for migration in MIGRATIONS:
        for sql in migration.sql:
            cursor.execute(sql)
    for number, letter in enumerate(letters):
        raw = mail(" ".join(letter.subject), " ".join(letter.body), sender=letter.sender, to=letter.to) + b"\r\n" * number
        meta = MailMeta(
            identifier=1 + number,
            row=1 + number,
            node=1,
            leaf=number,
            salt=b"",
            sha256=hashlib.sha256(raw).digest(),
            size=len(raw),
            received=NOW + number,
            expires=NOW * 2,
            month=letter.month,
            feed="inline",
            direction="in",
            sender=letter.sender,
            recipients=letter.recipients,
            login=letter.login,
            spam=letter.spam,
        )
        store_batch(cursor, [Prepared(1, b"%016d" % number, meta, read_mail(raw), None, 0, len(raw))])
    return cursor


@settings(max_examples=150, deadline=None)
@given(st.lists(letters, min_size=1, max_size=8), st.lists(nodes, min_size=1, max_size=3))
@example(
    [Letter(("Müller",), (), PEOPLE[0], PEOPLE[0], (PEOPLE[1],), "", False, 202_607)], [Node("term", Term("", ("Mueller",)))]
)
def test_the_same_mail_is_found(letters: list[Letter], query: list[Node]) -> None:
    """Catches mail that is archived and not found, or found by who may not, by words, phrases, beginnings, people, marks and any combination; a count or a page that says otherwise."""
    text = " ".join(map(written, query))
    cursor = index_of(letters)
    understood = parse_query(text, NOW)
    for name, scope in SCOPES.items():
        wanted = [
            1 + number
            for number, letter in enumerate(letters)
            if may_see(letter, scope) and all(holds(node, letter, scope) for node in query)
        ][::-1]
        page = search_page(cursor, scope, understood, 500, "")
        assert ([hit.id for hit in page.results], page.total) == (wanted, len(wanted)), (name, text)
        assert [hit.id for hit in newest_hits(cursor, scope, understood, 500)] == wanted
        paged: list[int] = []
        after = ""
        while True:
            part = search_page(cursor, scope, understood, 2, after)
            paged += [hit.id for hit in part.results]
            after = part.after
            if not after:
                break
        assert paged == wanted
