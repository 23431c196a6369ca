"""Back-off as a pure function."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hornetmail.core.delivery.backoff import Backoff


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_bounds(attempts: int, jitter: float) -> None:
    """Delays that overflow, come at once, or leave the ceiling behind by more than the jitter."""
    assert 60 * 0.8 <= Backoff().delay(attempts, jitter) <= 3600 * 1.2


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_grows(attempts: int, jitter: float) -> None:
    """A later attempt that comes sooner with the same jitter."""
    assert Backoff().delay(attempts + 1, jitter) >= Backoff().delay(attempts, jitter)


def test_jitter_spreads() -> None:
    """What failed together must not be tried together again."""
    assert len({Backoff().delay(3, each / 10) for each in range(10)}) == 10


def test_end() -> None:
    """Rule 5 and step 6: late after 4 h, once; given up after 5 days of worked time."""
    backoff = Backoff()
    assert not backoff.is_late(4 * 3600 - 1, False)
    assert backoff.is_late(4 * 3600, False)
    assert not backoff.is_late(4 * 3600, True)
    assert not backoff.over(5 * 86400 - 1)
    assert backoff.over(5 * 86400)


def test_the_delays() -> None:
    """A minute, doubled up to an hour, 20 % either way: ``docs/operations.rst`` says so."""
    assert Backoff() == Backoff(60.0, 3600.0, 4 * 3600.0, 5 * 86_400.0)
    assert [Backoff().delay(number, 0.5) for number in range(9)] == [60, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert Backoff().delay(1, 0.0) == 48
    assert Backoff().delay(1, 0.999999) < 72
    assert Backoff().delay(2000, 0.5) == 3600
    assert Backoff(first=1e-9, ceiling=1e9).delay(2000, 0.5) == 1e-9 * 2.0**40


def test_patience() -> None:
    """Five first delays, and never less than the longest one: an uncertain copy is not handed over before a certain one was."""
    assert Backoff().patience() == 3600
    assert Backoff(first=1000.0).patience() == 5000
