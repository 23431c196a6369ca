"""A mapping that never changes, whose changed copies share nearly all of it.

A change copies the nodes on the way to its key: up to 128 entries and, at 100,000 entries, two nodes of 32. So the directory can derive
its next version for the price of what changed, and whoever still reads the version before is not disturbed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_LEAF = 128
"""Entries of a leaf; one more splits it."""

_BITS = 5
_WIDTH = 1 << _BITS
_TOP = 64 - _BITS
_MIXER = 0x9E37_79B9_7F4A_7C15


class PersistentMap(Mapping[K, V]):
    """Read it as any mapping; the order is its own. ``including`` and ``without`` derive another one, O(log n); ``of`` makes a whole one."""

    __slots__ = ("_root", "_size")

    def __init__(self) -> None:
        self._root: Any = {}
        self._size = 0

    @classmethod
    def of(cls, entries: Mapping[K, V]) -> PersistentMap[K, V]:
        """With all of these, O(n)."""
        made = cls()
        made._root, made._size = _divided(dict(entries), _TOP), len(entries)
        return made

    def including(self, key: K, value: V) -> PersistentMap[K, V]:
        """The same with ``key`` set."""
        root, grown = _including(self._root, key, value, _spread(key), _TOP)
        return self._derived(root, self._size + grown)

    def without(self, key: K) -> PersistentMap[K, V]:
        """The same without ``key``, if it is there."""
        if key not in self:
            return self
        return self._derived(_without(self._root, key, _spread(key), _TOP), self._size - 1)

    def _derived(self, root: Any, size: int) -> PersistentMap[K, V]:
        made: PersistentMap[K, V] = PersistentMap.__new__(PersistentMap)
        made._root, made._size = root if size else {}, size
        return made

    def _leaf(self, key: object) -> dict[K, V]:
        """Where the key is, if it is anywhere."""
        node = self._root
        if type(node) is tuple:
            spread, shift = _spread(key), _TOP
            while type(node) is tuple:
                node = node[(spread >> shift) % _WIDTH]
                shift -= _BITS
        leaf: dict[K, V] = node
        return leaf

    def __getitem__(self, key: K) -> V:
        return self._leaf(key)[key]

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: D) -> V | D: ...
    def get(self, key: K, /, default: Any = None) -> Any:
        """The value, or ``default``."""
        return self._leaf(key).get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._leaf(key)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[K]:
        waiting = [self._root]
        while waiting:
            node = waiting.pop()
            if type(node) is tuple:
                waiting += node
            else:
                yield from node


def _spread(key: object) -> int:
    """64 bits of which the upper ones tell keys apart: hashes of identifiers made within one millisecond differ in few bits only."""
    return (hash(key) * _MIXER) & 0xFFFF_FFFF_FFFF_FFFF


def _divided(entries: dict[Any, Any], shift: int) -> Any:
    """A leaf, or a node over leaves. Below the last bits a leaf may be of any size: these keys' hashes are equal."""
    if len(entries) <= _LEAF or shift < 0:
        return entries
    parts: list[dict[Any, Any]] = [{} for _ in range(_WIDTH)]
    for key, value in entries.items():
        parts[(_spread(key) >> shift) % _WIDTH][key] = value
    return tuple(_divided(part, shift - _BITS) for part in parts)


def _including(node: Any, key: object, value: object, spread: int, shift: int) -> tuple[Any, int]:
    """The node with the entry, and by how many it grew."""
    if type(node) is dict:
        leaf = {**node, key: value}
        return _divided(leaf, shift), len(leaf) - len(node)
    at = (spread >> shift) % _WIDTH
    child, grown = _including(node[at], key, value, spread, shift - _BITS)
    return (*node[:at], child, *node[at + 1 :]), grown


def _without(node: Any, key: object, spread: int, shift: int) -> Any:
    if type(node) is dict:
        leaf = dict(node)
        del leaf[key]
        return leaf
    at = (spread >> shift) % _WIDTH
    return (*node[:at], _without(node[at], key, spread, shift - _BITS), *node[at + 1 :])
