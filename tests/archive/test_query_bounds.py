"""The query language at its bounds: what may just be asked, and what not any more."""

from __future__ import annotations

import pytest

from hornetmail.archive.index.query.language import MAX_QUERY, MAX_TERMS, Marked, Not, Query, Words, parse_query
from hornetmail.core.archive.archived import QueryError

NOW = 1_795_867_200.0


def _text(query: Query) -> str:
    [words] = query.wanted
    assert isinstance(words, Words)
    return words.text


def test_how_long_a_query_may_be() -> None:
    """Would catch a query refused that the message calls short enough: two thousand characters, forty terms."""
    assert (MAX_QUERY, MAX_TERMS) == (2000, 40)
    assert len(_text(parse_query("a" * 2000, NOW))) == 2000
    with pytest.raises(QueryError, match="longer than 2000"):
        parse_query("a" * 2001, NOW)
    assert len(parse_query(" ".join("a" * 40), NOW).wanted) == 40
    with pytest.raises(QueryError, match="more than 40"):
        parse_query(" ".join("a" * 41), NOW)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("size>5", Query(larger=5)),
        ("size>5b", Query(larger=5)),
        ("size<5k", Query(smaller=5120)),
        ("size<5KB", Query(smaller=5120)),
        ("size>3M", Query(larger=3 << 20)),
        ("size<1G", Query(smaller=1 << 30)),
        ('size>"5"', Query(larger=5)),
        ("has:attachments", Query((Marked("attachment"),))),
        ("-has:attachment", Query((Not(Marked("attachment")),))),
        ("is:spam", Query((Marked("spam"),))),
        ("after:2026-11", Query(since=1793491200.0)),
        ("id:9223372036854775807", Query(identifier=(1 << 63) - 1)),
        ("a ", Query((Words("a"),))),
        ('a "" b', Query((Words("a"), Words("b")))),
        ('-from:"a b"', Query((Not(Words("a b", "from")),))),
        ("FROM:a", Query((Words("a", "from"),))),
        ('"a b"*', Query((Words("a b", prefix=True),))),
        ("a<b -c>d", Query((Words("a<b"), Not(Words("c>d"))))),
    ],
)
def test_understood(text: str, wanted: Query) -> None:
    """Would catch a size in another unit, an end of a range that is off by one, and a term that is lost at the end of a query."""
    assert parse_query(text, NOW) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id:9223372036854775808", "an ID is a number"),
        ("id:" + "1" * 20, "an ID is a number"),
        ("id:\u0665", "an ID is a number"),
        ('"', "not closed"),
        ('from:"', "not closed"),
        ('a "b', "not closed"),
        ("is:attachment", "write is:spam"),
        ("has:spam", "write has:attachment"),
        ("size:5M", "write size>1M"),
        ("-size>5", "can be excluded"),
        ("-after:2026", "can be excluded"),
        ("size>", "missing after size>"),
        ('id:""', "missing after id:"),
        ("size>5.5M", "a size is"),
        ("size>1T", "a size is"),
        ("before:2026-13", "a date is like"),
        ("spam:is", "write spam:yes"),
        ("from:---", "missing after from:"),
    ],
)
def test_refused(text: str, says: str) -> None:
    """Would catch a term that is passed over, so that more is found than was asked for."""
    with pytest.raises(QueryError, match=says):
        parse_query(text, NOW)
