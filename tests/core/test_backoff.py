"""Back-off as a pure function."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hornetmail.core.backoff import Backoff


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
