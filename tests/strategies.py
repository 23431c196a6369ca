"""What Hypothesis draws, where its own strategies do not do."""

from __future__ import annotations

from hypothesis import strategies as st


def any_bytes(max_size: int, min_size: int = 0) -> st.SearchStrategy[bytes]:
    """Bytes; ``st.binary`` compares bytes with integers inside Hypothesis now and then, which ``python -bb`` forbids."""
    return st.lists(st.integers(0, 255), min_size=min_size, max_size=max_size).map(bytes)
