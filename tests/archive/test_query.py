"""The query language: what is understood, and that errors name the term."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.archive.index.query import Query, Words, parse_query, tokens
from hornetmail.core.archive.archived import QueryError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Query()),
        ("a B", Query(words=(Words("a"), Words("B")))),
        ('"a b" c*', Query(words=(Words("a b"), Words("c", prefix=True)))),
        ("from:bob@x.test", Query(words=(Words("bob@x.test", "from"),))),
        ('subject:"a b"', Query(words=(Words("a b", "subject"),))),
        ("-a to:b", Query(words=(Words("a", excluded=True), Words("b", "to")))),
        ("after:2026-01-02", Query(since=1767312000.0)),
        ("before:2026", Query(until=1767225600.0)),
        ("after:02.01.2026", Query(since=1767312000.0)),
        ("size>1M size<2g", Query(larger=1 << 20, smaller=2 << 30)),
        ("has:attachment -is:spam", Query(attachment=True, spam=False)),
        ("id:5", Query(identifier=5)),
        ("18:30", Query(words=(Words("18:30"),))),
        ("*** -- ;", Query()),
        ("x<y", Query(words=(Words("x<y"),))),
    ],
)
def test_understood(text: str, wanted: Query) -> None:
    """Catches a term that means something else than it says."""
    assert parse_query(text) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('"open', "not closed"),
        ("from:", "missing after from:"),
        ("cc:bob", "no cc:"),
        ("after:soon", "a date is like"),
        ("size>big", "a size is"),
        ("size:5", "write size>1M"),
        ("has:wings", "write has:attachment"),
        ("id:x", "an ID is a number"),
        ("id:" + "9" * 19, "an ID is a number"),
        ("-id:5", "can be excluded"),
        ("a\x00b", "NUL"),
        ("a" * 3000, "longer than"),
        ("a " * 100, "more than 40"),
    ],
)
def test_errors_name_the_term(text: str, says: str) -> None:
    """Catches an error that does not say what is wrong."""
    with pytest.raises(QueryError, match=says):
        parse_query(text)


@settings(max_examples=100)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    """Catches other exceptions than QueryError."""
    try:
        parse_query(text)
    except QueryError:
        pass


def test_tokens() -> None:
    """Catches own addresses that are compared otherwise than the index splits them."""
    assert tokens("Jürgen.Müller+x@Beispiel-Firma.de") == ["jurgen", "muller", "x", "beispiel", "firma", "de"]
