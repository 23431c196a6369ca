"""The query language: what is understood, and that errors name the term."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.archive.index.query.language import All, Any, Marked, Not, Query, Words, parse_query, tokens
from hornetmail.core.archive.archived import QueryError

NOW = 1_795_867_200.0
"""2026-11-28 12:00 UTC, a Saturday."""

DAY = 86_400.0
MIDNIGHT = NOW - DAY / 2


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Query()),
        ("a B", Query((Words("a"), Words("B")))),
        ('"a b" c*', Query((Words("a b"), Words("c", prefix=True)))),
        ("from:bob@x.test", Query((Words("bob@x.test", "from"),))),
        ('subject:"a b"', Query((Words("a b", "subject"),))),
        (
            "Betreff:a von:b an:c Anhang:d",
            Query((Words("a", "subject"), Words("b", "from"), Words("c", "to"), Words("d", "attachment"))),
        ),
        ("-a to:b", Query((Not(Words("a")), Words("b", "to")))),
        ("a OR b c", Query((Any((Words("a"), Words("b"))), Words("c")))),
        ("a OR b OR -c", Query((Any((Words("a"), Words("b"), Not(Words("c")))),))),
        ("(a b) OR c", Query((Any((All((Words("a"), Words("b"))), Words("c"))),))),
        ("-(a b)", Query((Not(All((Words("a"), Words("b")))),))),
        ("a AND b", Query((Words("a"), Words("b")))),
        ("OR a OR", Query((Words("a"),))),
        ("after:2026-01-02", Query(since=1767312000.0)),
        ("before:2026", Query(until=1767225600.0)),
        ("after:02.01.2026", Query(since=1767312000.0)),
        ("on:2026-01-02", Query(since=1767312000.0, until=1767312000.0 + DAY)),
        ("date:2026-01-02..2026-01-03", Query(since=1767312000.0, until=1767312000.0 + 2 * DAY)),
        ("date:today", Query(since=MIDNIGHT, until=MIDNIGHT + DAY)),
        ("date:gestern", Query(since=MIDNIGHT - DAY, until=MIDNIGHT)),
        ("date:last-week", Query(since=MIDNIGHT - 12 * DAY, until=MIDNIGHT - 5 * DAY)),
        ("date:last-month", Query(since=MIDNIGHT - 58 * DAY, until=MIDNIGHT - 27 * DAY)),
        ("date:last-year", Query(since=1735689600.0, until=1767225600.0)),
        ("size>1M size<2g", Query(larger=1 << 20, smaller=2 << 30)),
        ("has:attachment -is:spam", Query((Marked("attachment"), Not(Marked("spam"))))),
        ("spam:no direction:out type:PDF", Query((Not(Marked("spam")), Marked("out"), Marked("type", "pdf")))),
        ("id:5", Query(identifier=5)),
        ("id:<a.b@c.test>", Query((Words("a.b@c.test", "headers"),))),
        ("18:30", Query((Words("18:30"),))),
        ("*** -- ;", Query()),
        ("from: bob Betreff: a", Query((Words("bob", "from"), Words("a", "subject")))),
        ('to: "a b" -subject: c', Query((Words("a b", "to"), Not(Words("c", "subject"))))),
        ("before: 2026 has: attachment", Query((Marked("attachment"),), until=1767225600.0)),
        ("subject:(a b)", Query((All((Words("a", "subject"), Words("b", "subject"))),))),
        ("from:(a OR b) -to:(c)", Query((Any((Words("a", "from"), Words("b", "from"))), Not(Words("c", "to"))))),
        ("from:(a to:b)", Query((All((Words("a", "from"), Words("b", "to"))),))),
        ("after:2026/01/02 a", Query((Words("a"),), since=1767312000.0)),
        ("after:02.01.26", Query(since=1767312000.0)),
        ("a ☎", Query((Words("a"),))),
        ("x<y", Query((Words("x<y"),))),
        ("facture OU devis", Query((Any((Words("facture"), Words("devis"))),))),
        ("factura O oferta", Query((Any((Words("factura"), Words("oferta"))),))),
        ("facture ET devis", Query((Words("facture"), Words("devis")))),
        ("factura Y oferta", Query((Words("factura"), Words("oferta")))),
        ("O sole mio", Query((Words("sole"), Words("mio")))),
        ("taille>1Mo", Query(larger=1 << 20)),
        ("tamaño<10ko", Query(smaller=10 << 10)),
    ],
)
def test_understood(text: str, wanted: Query) -> None:
    """Catches a term that means something else than it says."""
    assert parse_query(text, NOW) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Re: Angebot", ["Re:", "Angebot"]),
        ("AW: Rechnung - 2026", ["AW:", "Rechnung", "2026"]),
        ("Fwd: WG: [team] Termin (verschoben)", ["Fwd:", "WG:", "[team]", "Termin", "verschoben"]),
        ('Rohr 5" lang', ["Rohr", "5", "lang"]),
        ("done :) thanks", ["done", "thanks"]),
        ("https://www.example.org/docs/123?utm_source=mail", ["www.example.org docs 123"]),
        ("note:this holds:on", ["note:this", "holds:on"]),
        ("DO NOT REPLY", ["DO", "NOT", "REPLY"]),
        ("Datum: noch offen", ["Datum", "noch", "offen"]),
        ("Subject: Offer 17", ["Offer", "17"]),
    ],
)
def test_pasted(text: str, words: list[str]) -> None:
    """What people paste was refused for a name that there is not, or for an odd sign."""
    assert [node.text for node in parse_query(text, NOW).wanted if isinstance(node, Words)] == words


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('"open', "not closed"),
        ("from:", "missing after from:"),
        ("after:soon", "a date is like"),
        ("size>big", "a size is"),
        ("size:5", "write size>1M"),
        ("has:wings", "write has:attachment"),
        ("direction:up", "write direction:in"),
        ("spam:maybe", "write spam:yes"),
        ("id:x", "an ID is a number"),
        ("id:" + "9" * 19, "an ID is a number"),
        ("-id:5", "can be excluded"),
        ("a OR after:2026", "holds for the whole search"),
        ("(" * 12 + "a", "deeper than 10"),
        ("a\x00b", "NUL"),
        ("😀", "nothing in it can be searched"),
        ("date:28/11/2026", "a date is like"),
        ("a" * 3000, "longer than"),
        ("a " * 100, "more than 40"),
    ],
)
def test_errors_name_the_term(text: str, says: str) -> None:
    """Catches an error that does not say what is wrong."""
    with pytest.raises(QueryError, match=says):
        parse_query(text, NOW)


@settings(max_examples=100)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    """Catches other exceptions than QueryError."""
    try:
        parse_query(text, NOW)
    except QueryError:
        pass


def test_tokens() -> None:
    """Catches own addresses that are compared otherwise than the index splits them."""
    assert tokens("Jürgen.Müller+x@Beispiel-Firma.de") == ["jurgen", "muller", "x", "beispiel", "firma", "de"]
