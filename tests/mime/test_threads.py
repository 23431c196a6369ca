"""Base subjects and threads (RFC 5256)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.mime.subject import base_subject, casemapped
from hornetmail.mime.threads import Threaded, in_order
from tests.cost.test_imap import thread


@pytest.mark.parametrize(
    ("subject", "base", "answers"),
    [
        ("Re: Budget", "Budget", True),
        ("  re :\t [list]  fwd: [x]  Budget  (FWD) ", "Budget", True),
        ("[list] Budget", "Budget", False),
        ("[list]", "[list]", False),
        ("[a] [b]", "[b]", False),
        ("[Fwd: Re: Budget (fwd)]", "Budget", True),
        ("[fwd: ]", "", True),
        ("Re:", "", True),
        ("", "", False),
        ("Reply: x", "Reply: x", False),
        ("Re[2]: x", "x", True),
        ("Re: [", "[", True),
        ("(fwd)", "", True),
        ("Fwdx: y", "Fwdx: y", False),
        ("[a]re: [b]fw [c]: d", "d", True),
    ],
)
def test_base_subjects(subject: str, base: str, answers: bool) -> None:
    """Section 2.1, step by step."""
    assert base_subject(subject) == (base, answers)


@given(st.text("Rre:Ffwd[] ()aé\t", max_size=40))
def test_base_subjects_stay(subject: str) -> None:
    """The base of a base is itself, whatever stands before it."""
    base = base_subject(subject)[0]
    assert base_subject(base)[0] == base
    assert base_subject("Re: " + base)[0] == base


def test_case_mapping() -> None:
    """RFC 5051: small and capital letters, composed and decomposed ones, ligatures."""
    assert casemapped("äÉ") == casemapped("A\u0308".lower() + "e\u0301") == casemapped("Äé")
    assert casemapped("ﬁn") == casemapped("ﬁN")
    assert casemapped("abc") == "ABC"


def one(
    number: int, *references: str, subject: str = "", date: float | None = None, answers: bool = False, name: str = ""
) -> Threaded:
    own = name or f"m{number}"
    return Threaded(
        number, float(number) if date is None else date, subject, answers, own.encode(), tuple(r.encode() for r in references)
    )


def test_threads_of_the_standard() -> None:
    """The shapes of section 4's examples: a chain, a fork, and a parent that nobody has."""
    messages = [
        one(2),
        one(3),
        one(6, "m3"),
        one(4, "m3", "m6"),
        one(23, "m6", "m4"),
        one(44, "m6"),
        one(7, "m44"),
        one(96, "m7"),
    ]
    assert thread(messages) == b"(2)(3 6 (4 23)(44 7 96))"
    assert thread([one(3, "lost"), one(5, "lost")]) == b"((3)(5))"
    assert thread([one(3, "lost"), one(5, "other")]) == b"(3)(5)"
    assert thread([]) == b""


def test_threads_by_subject() -> None:
    """Step 5 of section 3: answers without references find their subject, equals get a parent that nobody has, dates decide the order."""
    assert thread([one(1, subject="a"), one(2, subject="a", answers=True)]) == b"(1 2)"
    assert thread([one(1, subject="a", answers=True), one(2, subject="a")]) == b"(2 1)"
    assert thread([one(1, subject="a"), one(2, subject="a"), one(3, subject="a")]) == b"((1)(2)(3))"
    assert thread([one(1, "x", subject="a"), one(2, "x", subject="a"), one(3, subject="a", answers=True)]) == b"((1)(2)(3))"
    assert (
        thread([one(1, "x", subject="a"), one(2, "x", subject="a"), one(3, "y", subject="a"), one(4, "y", subject="a")])
        == b"((1)(2)(3)(4))"
    )
    assert thread([one(1, subject="a", date=9.0), one(2, subject="b", date=3.0)]) == b"(2)(1)"


def test_references_that_lie() -> None:
    """Rings, a message that answers itself, IDs that two have, a link that a later message denies."""
    assert thread([one(1, "m2"), one(2, "m1")]) in (b"(2 1)", b"(1 2)")
    assert thread([one(1, "m1")]) == b"(1)"
    assert thread([one(1, name="same"), one(2, name="same"), one(3, "same")]) == b"(1 3)(2)"
    assert thread([one(1, "a", "m3"), one(3)]) == b"(3 1)"
    assert thread([one(1, "m2", "m3"), one(3, "m4"), one(4), one(2)]) == b"(2)(4 3 1)"


def test_ordered_subject() -> None:
    """No grandchildren; threads by the date of their first message."""
    messages = [one(1, subject="b"), one(2, subject="a", date=0.5), one(3, subject="b"), one(4, subject="a"), one(5, subject="a")]
    assert thread(messages, "subject") == b"(2 (4)(5))(1 3)"


MESSAGES = st.lists(
    st.tuples(st.lists(st.integers(0, 12), max_size=4), st.sampled_from("abc "), st.booleans(), st.integers(0, 5)), max_size=12
)


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_every_message_is_in_one_thread(given: list[tuple[list[int], str, bool, int]]) -> None:
    """Catches messages that get lost or come twice, whatever references say; and brackets that do not fit."""
    messages = [
        one(number, *[f"m{r}" for r in references], subject=subject.strip(), date=float(date), answers=answers)
        for number, (references, subject, answers, date) in enumerate(given, 1)
    ]
    for algorithm in ("references", "subject"):
        answer = thread(messages, algorithm)
        numbers = sorted(map(int, answer.replace(b"(", b" ").replace(b")", b" ").split()))
        assert numbers == list(range(1, len(messages) + 1))
        assert answer.count(b"(") == answer.count(b")")
        assert b"()" not in answer


@given(st.lists(st.tuples(st.integers(0, 5), st.integers())), st.booleans())
def test_sorting_in_slices_is_sorting(items: list[tuple[int, int]], reverse: bool) -> None:
    """Catches equal ones that change places."""
    found = in_order(items * 900, lambda item: item[0], reverse=reverse)
    while True:
        try:
            next(found)
        except StopIteration as done:
            assert done.value == sorted(items * 900, key=lambda item: item[0], reverse=reverse)
            return
