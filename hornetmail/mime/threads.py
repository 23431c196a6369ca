"""Messages as threads: ORDEREDSUBJECT and REFERENCES (RFC 5256 section 3). Pure; in steps, so that who asks can let others go first. Cost is linear but for
sorting (``tests/cost/test_imap.py``).

Both algorithms are generators: each ``yield`` is a place to rest; what they return are the roots in order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

import msgspec

SLICE = 2_000
"""Sorted at once."""

STEP = 200
"""Messages between two rests."""

DEPTH = 1_000
"""A link that could close a ring is looked at so many levels up; where that is not enough, it is not made."""


class Threaded(msgspec.Struct, frozen=True, gc=False):
    """A message to be threaded. ``number``: what it is called in the answer. ``date``: when it was sent, in Unix seconds. ``subject``: its base subject,
    compared as it stands; ``answers``: it was one of a reply (``mime.subject``). ``references``: Message-IDs, the parent last."""

    number: int
    date: float
    subject: str
    answers: bool = False
    id: bytes | None = None
    references: tuple[bytes, ...] = ()


class Node:
    """A message and what answers it; ``message`` None: one that is only known from references. ``rank``: where it stands among its siblings."""

    __slots__ = ("children", "message", "parent", "rank")

    def __init__(self, message: Threaded | None = None) -> None:
        self.message = message
        self.parent: Node | None = None
        self.children: dict[Node, None] = {}
        self.rank: tuple[float, int] = (0.0, 0)

    def adopt(self, child: Node) -> None:
        """Become its parent, in place of another."""
        child.leave()
        child.parent = self
        self.children[child] = None

    def leave(self) -> None:
        """Answer nobody."""
        if self.parent is not None:
            del self.parent.children[self]
            self.parent = None


T = TypeVar("T")
Threads = Generator[None, None, list[Node]]


def in_order(items: Sequence[T], key: Callable[[T], Any], *, reverse: bool = False) -> Generator[None, None, list[T]]:
    """Sorted, equal ones as they were: in slices, with rests between them."""
    slices: list[list[T]] = []
    for at in range(0, len(items), SLICE):
        slices.append(sorted(items[at : at + SLICE], key=key, reverse=reverse))
        yield
    if len(slices) == 1:
        return slices[0]
    found: list[T] = []
    for item in heapq.merge(*slices, key=key, reverse=reverse):
        found.append(item)
        if len(found) % STEP == 0:
            yield
    return found


_RANK = attrgetter("rank")


def ordered_subject(messages: Sequence[Threaded]) -> Threads:
    """One thread a subject: its first message, and all others below that."""
    groups: dict[str, list[Threaded]] = {}
    for count, message in enumerate(messages):
        groups.setdefault(message.subject, []).append(message)
        if count % STEP == 0:
            yield
    roots: list[Node] = []
    for count, group in enumerate(groups.values()):
        first, *others = [Node(message) for message in sorted(group, key=attrgetter("date", "number"))]
        first.children = dict.fromkeys(others)
        first.rank = _rank(first)
        roots.append(first)
        if count % STEP == 0:
            yield
    return (yield from in_order(roots, _RANK))


def by_references(messages: Sequence[Threaded]) -> Threads:
    """Threads by References and In-Reply-To, then by subject."""
    linking = _Linking()
    for count, message in enumerate(messages):
        linking.take(message)
        if count % STEP == 0:
            yield
    roots = yield from _pruned(linking.nodes)
    yield from _ranked(roots)
    roots = yield from in_order(roots, _RANK)
    roots = yield from _gathered(roots)
    yield from _ranked(roots)
    return (yield from in_order(roots, _RANK))


class _Linking:
    """Step 1: who answers whom. ``nodes``: all, in the order they were heard of. ``_group``: a forest in which whoever was ever linked has one root: messages
    of different groups cannot make a ring, so that the way up is gone only where one is to be feared."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._known: dict[bytes, Node] = {}
        self._group: dict[Node, Node] = {}

    def take(self, message: Threaded) -> None:
        former: Node | None = None
        for reference in message.references:
            node = self._known.get(reference)
            if node is None:
                node = self._known[reference] = self._new(None)
            if former is not None and node.parent is None:
                self._link(former, node)
            former = node
        mine = self._known.get(message.id) if message.id is not None else None
        if mine is None or mine.message is not None:  # without an ID, or with one that another has
            first = mine is None and message.id is not None
            mine = self._new(message)
            if first and message.id is not None:
                self._known[message.id] = mine
        mine.message = message
        if mine.parent is not former:
            mine.leave()
            if former is not None:
                self._link(former, mine)

    def _new(self, message: Threaded | None) -> Node:
        node = Node(message)
        self.nodes.append(node)
        return node

    def _found(self, node: Node) -> Node:
        group = self._group
        while (above := group.get(node)) is not None:
            further = group.get(above)
            if further is not None:
                group[node] = further
            node = above
        return node

    def _link(self, parent: Node, child: Node) -> None:
        one, other = self._found(parent), self._found(child)
        if one is other:
            above: Node | None = parent
            for _ in range(DEPTH):
                if above is None or above is child:
                    break
                above = above.parent
            if above is not None:
                return
        else:
            self._group[other] = one
        parent.adopt(child)


def _pruned(nodes: Sequence[Node]) -> Threads:
    """Step 3: those that are only known from references go; what answers them answers who they answered. At the top they stay, with two or more below
    them. What is at the top then."""
    roots: list[Node] = []
    for count, node in enumerate((yield from _upwards(nodes))):
        if count % STEP == 0:
            yield
        if any(child.message is None for child in node.children):
            kept: dict[Node, None] = {}
            for child in node.children:
                kept.update({child: None} if child.message is not None else child.children)
            node.children = kept
            for child in kept:
                child.parent = node
        if node.parent is not None:
            continue
        if node.message is not None or len(node.children) > 1:
            roots.append(node)
        elif node.children:
            (child,) = node.children
            child.parent = None
            roots.append(child)
    return roots


def _upwards(nodes: Iterable[Node]) -> Threads:
    """Those at the top and all below them, each behind those below it."""
    found: list[Node] = []
    waiting = []
    for count, node in enumerate(nodes):
        if node.parent is None:
            waiting.append(node)
        if count % STEP == 0:
            yield
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting.extend(node.children)
        if len(found) % STEP == 0:
            yield
    found.reverse()
    return found


def _rank(node: Node) -> tuple[float, int]:
    message = node.message
    return (message.date, message.number) if message is not None else next(iter(node.children)).rank


def _ranked(roots: Iterable[Node]) -> Generator[None, None, None]:
    """Step 6: siblings by date, the deepest first."""
    for count, node in enumerate((yield from _upwards(roots))):
        if len(node.children) > 1:
            node.children = dict.fromkeys((yield from in_order(list(node.children), _RANK)))
        node.rank = _rank(node)
        if count % STEP == 0:
            yield


def _subject(node: Node) -> Threaded:
    message = node.message if node.message is not None else next(iter(node.children)).message
    assert message is not None  # below the top all are messages
    return message


def _gathered(roots: Sequence[Node]) -> Threads:
    """Step 5: threads of the same subject become one."""
    table: dict[str, Node] = {}
    for count, node in enumerate(roots):
        if count % STEP == 0:
            yield
        this = _subject(node)
        if not this.subject:
            continue
        other = table.get(this.subject)
        if other is None or (
            other.message is not None and (node.message is None or (_subject(other).answers and not this.answers))
        ):
            table[this.subject] = node
    top: dict[Node, None] = dict.fromkeys(roots)
    for count, node in enumerate(roots):
        if count % STEP == 0:
            yield
        this = _subject(node)
        there = table.get(this.subject) if this.subject else None
        if there is None or there is node:
            continue
        del top[node]
        if there.message is None and node.message is None:
            for child in node.children:
                child.parent = there
            there.children.update(node.children)
        elif there.message is None or (this.answers and not _subject(there).answers):
            there.adopt(node)
        else:
            both = Node()
            del top[there]
            both.adopt(there)
            both.adopt(node)
            top[both] = None
            table[this.subject] = both
    return list(top)


def rendered(roots: Iterable[Node]) -> Generator[None, None, bytes]:
    """``thread-list`` (RFC 5256 section 5)."""
    out: list[str] = []
    for count, root in enumerate(roots):
        if count % STEP == 0:
            yield
        waiting: list[Node | str] = [root]
        out.append("(")
        while waiting:
            node = waiting.pop()
            if isinstance(node, str):
                out.append(node)
                continue
            if node.message is not None:
                out.append(str(node.message.number))
            children = node.children
            if len(children) == 1:
                out.append(" ")
                waiting.extend(children)
            elif children:
                if node.message is not None:
                    out.append(" ")
                for child in reversed(list(children)):
                    waiting += [")", child, "("]
        out.append(")")
    return "".join(out).encode("ascii")
