"""What helps people who search: whom they may mean, what else they might have typed, and how to narrow down what they found, as values. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

FAR = 3
"""Words further apart are no slip of the finger."""


class Count(msgspec.Struct, frozen=True, gc=False):
    """How many mails have it."""

    value: str
    mails: int


class Guidance(msgspec.Struct, frozen=True, gc=False):
    """Of a search, within the scope of whoever made it: who is in the newest ``looked`` mails that it finds, in which months (YYYY-MM, UTC) they were received, and what kinds of files hang on them, the most frequent first (months:
    the newest). ``meant``: the query with another word in the place of one that finds nothing, or ``""``."""

    looked: int = 0
    people: tuple[Count, ...] = ()
    months: tuple[Count, ...] = ()
    types: tuple[Count, ...] = ()
    meant: str = ""


def distance(one: str, other: str) -> int:
    """Letters left out, put in, taken for another, or two that changed places, between two words; ``FAR`` and more is ``FAR``."""
    if abs(len(one) - len(other)) >= FAR:
        return FAR
    before: list[int] = []
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        last, before, row = before, row, [at]
        for place, there in enumerate(other, 1):
            cost = min(before[place] + 1, row[-1] + 1, before[place - 1] + (letter != there))
            if at > 1 and place > 1 and letter == other[place - 2] and one[at - 2] == there:
                cost = min(cost, last[place - 2] + 1)
            row.append(cost)
    return min(row[-1], FAR)


def nearest(word: str, among: Iterable[str]) -> str:
    """The word that somebody may have meant: one slip in up to five letters, two in more, the most frequent of the nearest; ``""`` if there is none."""
    counts: dict[str, int] = {}
    for other in among:
        counts[other] = counts.get(other, 0) + 1
    most = 1 if len(word) <= 5 else 2
    found = [(distance(word, other), -count, other) for other, count in counts.items() if other != word and len(other) > 2]
    best = min((one for one in found if one[0] <= most), default=None)
    return best[2] if best is not None else ""
