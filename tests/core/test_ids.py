"""Identifiers and the clock they are made of (L15, rule 19)."""

from __future__ import annotations

import pytest

from hornetmail.core.clock import TOLERANCE, Drift, trouble
from hornetmail.core.ids import EPOCH_MS, IdSource, milliseconds_of

NOW = 1_800_000_000.0


def test_they_grow_and_tell_their_time() -> None:
    """Would catch two mails with one ID, in one millisecond or when the clock is set back, and an ID that says another time."""
    now = [NOW]
    source = IdSource(lambda: now[0], 5)
    first = source.next()
    assert milliseconds_of(first) == int(NOW * 1000)
    assert first == ((int(NOW * 1000) - EPOCH_MS) << 22) + (5 << 12)
    assert source.next() == first + 1
    now[0] -= 60
    assert source.next() == first + 2
    now[0] = NOW + 0.001
    later = source.next()
    assert later == first + (1 << 22)


def test_a_full_millisecond_borrows_from_the_next() -> None:
    """Would catch the 4097th mail of a millisecond with the ID of the first, or of another node's."""
    source = IdSource(lambda: NOW, 1023)
    of_one = [source.next() for _ in range(4097)]
    assert of_one == sorted(set(of_one))
    assert milliseconds_of(of_one[4095]) == int(NOW * 1000)
    assert milliseconds_of(of_one[4096]) == int(NOW * 1000) + 1
    assert of_one[4096] & 4095 == 0
    assert {each >> 12 & 1023 for each in of_one} == {1023}
    assert source.next() == of_one[4096] + 1


def test_the_epoch() -> None:
    """IDs are kept for years: a moved epoch would make new ones that were given before. Nodes have ten bits."""
    assert EPOCH_MS == 1_704_067_200_000
    assert IdSource(lambda: EPOCH_MS / 1000 + 1).next() == 1000 << 22
    for node in (-1, 1024):
        with pytest.raises(ValueError, match=r"0\.\.1023"):
            IdSource(lambda: NOW, node)
    IdSource(lambda: NOW, 0)


def test_drift() -> None:
    """Would catch a clock set back or forward that nobody sees, and time that passes taken for one."""
    wall, up = [NOW], [50.0]
    drift = Drift(lambda: wall[0], lambda: up[0])
    wall[0] += 100
    up[0] += 100
    assert drift() == 0
    wall[0] += 7
    assert drift() == 7
    up[0] += 10
    assert drift() == -3


def test_when_nothing_may_be_removed() -> None:
    """Rule 19: would catch retention that goes on by a clock that jumped or lies in the past, and one that stops for an hour's change."""
    assert trouble(TOLERANCE, NOW + TOLERANCE, NOW, "the newest mail") == ""
    assert trouble(-TOLERANCE, NOW, NOW, "the newest mail") == ""
    assert "moved" in trouble(TOLERANCE + 1, NOW, NOW, "the newest mail")
    assert "moved" in trouble(-TOLERANCE - 1, NOW, NOW, "the newest mail")
    assert trouble(0, NOW + TOLERANCE + 1, NOW, "the newest mail") == "the clock is behind the newest mail"
    assert TOLERANCE == 3600
