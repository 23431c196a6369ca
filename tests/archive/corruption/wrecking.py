"""Ways to damage files, drawn by a seed, with what of the old bytes each has touched."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

Span = tuple[int, int]
"""First byte and the one behind the last."""


class Wreck(NamedTuple):
    """What was done to a file, and the spans of its old bytes that are not where they were, or not what they were. ``moved``: bytes behind them lie
    elsewhere now; ``gone``: the file is."""

    path: Path
    what: str
    spans: tuple[Span, ...]
    moved: bool = False
    gone: bool = False

    def touches(self, start: int, end: int) -> bool:
        """Whether some byte of a stretch was touched."""
        return self.gone or any(start < last and first < end for first, last in self.spans)


def flip(path: Path, chance: random.Random, others: Sequence[Path]) -> Wreck:
    """One bit."""
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    data[at] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return Wreck(path, f"bit of byte {at} flipped", ((at, at + 1),))


def overwrite(path: Path, chance: random.Random, others: Sequence[Path]) -> Wreck:
    """A bad sector: up to 512 bytes are zeros, or noise."""
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    end = min(len(data), at + chance.randint(1, 512))
    fresh = bytes(end - at) if chance.random() < 0.5 else chance.randbytes(end - at)
    if data[at:end] == fresh:
        return flip(path, chance, others)
    data[at:end] = fresh
    path.write_bytes(data)
    return Wreck(path, f"bytes {at} to {end} overwritten", ((at, end),))


def truncate(path: Path, chance: random.Random, others: Sequence[Path]) -> Wreck:
    """The end is gone."""
    data = path.read_bytes()
    at = chance.randrange(len(data))
    path.write_bytes(data[:at])
    return Wreck(path, f"cut off at byte {at}", ((at, len(data)),))


def insert(path: Path, chance: random.Random, others: Sequence[Path]) -> Wreck:
    """Some bytes come twice."""
    data = path.read_bytes()
    at = chance.randrange(len(data))
    end = min(len(data), at + chance.randint(1, 300))
    path.write_bytes(data[:end] + data[at:])
    return Wreck(path, f"bytes {at} to {end} come twice", ((max(0, end - 1), end + 1),), moved=True)


def remove(path: Path, chance: random.Random, others: Sequence[Path]) -> Wreck:
    """Some bytes are left out."""
    data = path.read_bytes()
    at = chance.randrange(len(data))
    end = min(len(data), at + chance.randint(1, 300))
    path.write_bytes(data[:at] + data[end:])
    return Wreck(path, f"bytes {at} to {end} left out", ((max(0, at - 1), end + 1),), moved=True)


def swap(path: Path, chance: random.Random, others: Sequence[Path]) -> Wreck:
    """Two stretches of the same length change places."""
    data = path.read_bytes()
    length = chance.randint(1, max(1, min(400, len(data) // 3)))
    first = chance.randrange(max(1, len(data) // 2 - length + 1))
    second = chance.randrange(first + length, max(first + length + 1, len(data) - length + 1))
    one, other = data[first : first + length], data[second : second + length]
    if one == other or len(other) != length:
        return flip(path, chance, others)
    path.write_bytes(data[:first] + other + data[first + length : second] + one + data[second + length :])
    return Wreck(path, f"{length} bytes at {first} and {second} swapped", ((first, first + length), (second, second + length)))


def empty(path: Path, chance: random.Random, others: Sequence[Path]) -> Wreck:
    """What a file system leaves of a file that was never synced."""
    size = path.stat().st_size
    path.write_bytes(b"")
    return Wreck(path, "emptied", ((0, size),), gone=True)


def lose(path: Path, chance: random.Random, others: Sequence[Path]) -> Wreck:
    """The file is gone."""
    size = path.stat().st_size
    path.unlink()
    return Wreck(path, "removed", ((0, size),), gone=True)


def replace(path: Path, chance: random.Random, others: Sequence[Path]) -> Wreck:
    """Another file of its kind lies there in its place; where there is none, it is gone."""
    if not others:
        return lose(path, chance, others)
    other, size = chance.choice(others), path.stat().st_size
    shutil.copy(other, path)
    return Wreck(path, f"replaced by {other.name}", ((0, size),), gone=True)


WRECKERS: tuple[Callable[[Path, random.Random, Sequence[Path]], Wreck], ...] = (
    flip, overwrite, truncate, insert, remove, swap, empty, lose, replace,
)  # fmt: skip
