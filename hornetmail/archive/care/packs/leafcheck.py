"""The leaf log against its copies on the media (rule 17), stretch by stretch, so that a look needs no more memory the longer the log is.

A short look compares what came since the last one, oldest first and no more than ``NEW`` stretches of it, and one stretch of what is older: after so many of them as there are stretches all was looked at
again. So the first of all, of an archive that is ten years old, takes no longer than others may: the rest of its leaves is the next ones'. That runs are there for all leaves is looked at each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hornetmail.archive.care.packs.accounts import STRETCH, Stretch, in_stretches
from hornetmail.archive.index.ties.leaves import Looked
from hornetmail.archive.media.medium import IMedium, MediumError
from hornetmail.archive.proof.leaflog import span_of
from hornetmail.archive.proof.leaves import Frontier, decode_run
from hornetmail.archive.store.holdings import Holdings
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.records import BadRecord

NEW = 24
"""Stretches that a short look takes of what nobody looked at yet: three million leaves, some 20 s."""

BLOCKS = 8
BLOCK = 1024


def plan(size: int, looked: Looked, full: bool) -> tuple[list[Stretch], Looked]:
    """What is looked at of a log of that size, and what is known if all of it is well. A log that is shorter than what was looked at is looked at anew."""
    if full:
        return in_stretches(0, size), Looked(size, 0)
    until = looked.until if looked.until <= size else 0
    begin = looked.swept if looked.swept < until else 0
    end = min(begin + STRETCH, until)
    swept = [(begin, end)] if end > begin else []
    new = in_stretches(until, size)[:NEW]
    return swept + new, Looked(new[-1][1] if new else until, end)


class LeafCheck:
    """``bad(where, what)`` is told what is wrong; ``well``: nothing was. Blocking."""

    def __init__(self, holdings: Holdings, bad: Callable[[str, str], None]) -> None:
        self._holdings = holdings
        self._tell = bad
        self.well = True
        self._told: set[str] = set()
        self._blocks: dict[int, list[bytes]] = {}
        self._differ = 0
        self._first = -1
        self._what = ""
        self._unasked: set[int] = set()

    def _bad(self, where: str, what: str) -> None:
        self.well = False
        self._tell(where, what)

    def compare(self, stretches: Sequence[Stretch], lost: frozenset[int] = frozenset()) -> None:
        """These stretches of the log with the media; whether the media have all the others, by the names of what lies there. ``lost``: media that are not asked, which was told."""
        leaves = self._holdings.leaves
        size = leaves.size
        frontier = Frontier()
        runs: list[tuple[IMedium, str, int, int]] = []
        used = self._holdings.media.all()
        self._unasked = {m.number for m in self._holdings.media.every()} - {m.number for m in used}
        for medium in used:
            if medium.number in lost:
                self.well = False
                self._unasked.add(medium.number)
                continue
            try:
                runs += [
                    (medium, name, *span_of(name, length)) for name, length in medium.names(f"leaves/n{self._holdings.node}/")
                ]
            except MediumError as error:
                self._bad(f"medium {medium.number}", str(error))
        for medium, name, _, count in runs:
            if not count:
                self._damaged(medium, name, "it is no run of leaves, or is cut off")
        whole = sorted((first, first + count) for _, _, first, count in runs if count)
        self._look_for_gaps(whole, size)
        try:
            for low, high in stretches:
                mine = leaves.stretch(low, high)
                self._compare(low, mine, [run for run in runs if run[3] and run[2] < high and run[2] + run[3] > low])
                if frontier.size == low:
                    for one in mine:
                        frontier.add(one)
            if frontier.size == size and frontier.root() != leaves.root():
                self._bad("leaf log", "it is not the log whose root is kept beside it: it was changed")
            elif leaves.root_at(size) != leaves.root():
                self._bad("leaf log", "its index is not that of the log: it was changed")
        except (ArchiveError, BadRecord, KeyError, ValueError, OSError) as error:
            self._bad("leaf log", str(error))
            return
        end = max((last for _, last in whole), default=0)
        if self._differ:
            self._bad("leaf log", f"{self._differ} leaves differ, the first is leaf {self._first}: {self._what}")
        elif end > size:
            self._bad("leaf log", f"the media hold {end} leaves, the local log {size}")

    @property
    def _without(self) -> str:
        """For people: of which media nothing is known."""
        return f" that were asked; not asked: medium {', '.join(map(str, sorted(self._unasked)))}" if self._unasked else ""

    def _look_for_gaps(self, spans: Sequence[tuple[int, int]], size: int) -> None:
        """Whether runs of these spans are there for all leaves below ``size``."""
        end = 0
        for first, behind in [*spans, (size, size)]:
            if min(first, size) > end:
                self._differs(end, f"missing on the media{self._without}", min(first, size) - end)
            end = max(end, behind)

    def _differs(self, leaf: int, what: str, count: int = 1) -> None:
        if self._first < 0 or leaf < self._first:
            self._first, self._what = leaf, what
        self._differ += count

    def _compare(self, low: int, mine: Sequence[bytes], runs: Sequence[tuple[IMedium, str, int, int]]) -> None:
        """What of a stretch no run has, or has otherwise."""
        seen = bytearray(len(mine))
        named = bytearray(len(mine))
        for medium, name, begin, count in runs:
            at, end = max(begin, low) - low, min(begin + count, low + len(mine)) - low
            named[at:end] = b"\1" * (end - at)
            try:
                first, theirs = decode_run(medium.get(name))
            except (MediumError, ValueError) as error:
                self._damaged(medium, name, str(error))
                continue
            at, end = max(first, low) - low, min(first + len(theirs), low + len(mine)) - low
            if at >= end:
                continue
            part = theirs[at + low - first : end + low - first]
            if part == mine[at:end]:
                seen[at:end] = bytes(max(1, each) for each in seen[at:end])
            else:
                for number, (one, other) in enumerate(zip(part, mine[at:end], strict=True), at):
                    seen[number] = max(seen[number], 1 if one == other else 2)
        for number, each in enumerate(seen) if seen.count(1) < len(seen) else ():
            if each == 2:
                self._differs(low + number, "another one on the media")
            elif each == 0 and named[number]:
                # Where no run even says that it has it, that was told of with the gaps.
                self._differs(low + number, f"missing on the media{self._without}")

    def _damaged(self, medium: IMedium, name: str, what: str) -> None:
        where = f"medium {medium.number}: {name}"
        if where not in self._told:
            self._told.add(where)
            self._bad(where, what)

    def leaf(self, number: int) -> bytes | None:
        """One leaf's hash, with others around it kept for the next; None: the log has none, or does not read (which ``compare`` tells of)."""
        leaves = self._holdings.leaves
        block = number // BLOCK
        if not 0 <= number < leaves.size:
            return None
        if block not in self._blocks:
            while len(self._blocks) >= BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            try:
                self._blocks[block] = leaves.stretch(block * BLOCK, min((block + 1) * BLOCK, leaves.size))
            except (ArchiveError, BadRecord, KeyError, ValueError, OSError):
                self._blocks[block] = []
        found = self._blocks[block]
        return found[number % BLOCK] if number % BLOCK < len(found) else None
