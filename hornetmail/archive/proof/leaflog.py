"""The leaf log of this node: hashes of all sealed leaves, in a local append log and in runs on every medium that holds their records."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping

from hornetmail.archive.media.directory import IMedium
from hornetmail.archive.proof.leaves import VOID, Tree, decode_run, encode_run
from hornetmail.core.archived import ArchiveError
from hornetmail.disk.records import Position, RecordLog, Replayed

_RUN = 1


class LeafLog:
    """Blocking; one thread at a time. Numbers without a hash are void leaves (rule 17)."""

    def __init__(self, records: RecordLog, node: int) -> None:
        self._records = records
        self._node = node
        self._tree = Tree()
        self._runs: list[tuple[int, int, Position]] = []

    def replay(self) -> Replayed:
        """Read the log at start. Raises ArchiveError if it is damaged or runs are missing in it."""
        self._tree, self._runs = Tree(), []
        problems: list[str] = []

        def take(position: Position, _kind: int, payload: bytes) -> None:
            first, hashes = decode_run(payload)
            if first != self.size:
                problems.append(f"leaf {self.size} is followed by leaf {first}")
                return
            self._take(first, hashes, position)

        replayed = self._records.replay(take)
        if replayed.damage:
            raise ArchiveError(f"the leaf log is damaged: {replayed.damage[0]}")
        if problems:
            raise ArchiveError(f"the leaf log has a gap: {problems[0]}")
        return replayed

    def _take(self, first: int, hashes: list[bytes], position: Position) -> None:
        for one in hashes:
            self._tree.add(one)
        self._runs.append((first, len(hashes), position))

    @property
    def size(self) -> int:
        """Leaves so far; the number of the next one."""
        return self._tree.size

    def root(self) -> bytes:
        """The Merkle tree hash over all of them."""
        return self._tree.root()

    def run_for(self, leaves: Mapping[int, bytes]) -> bytes | None:
        """The next run: these leaves, as far as they are new, and void ones between them."""
        if not leaves or max(leaves) < self.size:
            return None
        first = self.size
        return encode_run(first, [leaves.get(number, VOID) for number in range(first, max(leaves) + 1)])

    def append(self, run: bytes) -> None:
        """Durable on return."""
        first, hashes = decode_run(run)
        if first != self.size:
            raise ArchiveError(f"a run of leaves begins at {first}, the log ends at {self.size}")
        position = self._records.append(_RUN, run)
        self._records.sync()
        self._take(first, hashes, position)

    def hashes(self) -> list[bytes]:
        """All of them, read back from the disk. Raises ArchiveError, BadRecord."""
        found: list[bytes] = []
        for run in self._runs:
            found += self._read(run)
        return found

    def root_at(self, size: int) -> bytes:
        """The root when there were ``size`` leaves. Raises IndexError, ArchiveError, BadRecord."""
        return self._tree.root_at(size, self._stretch)

    def path(self, number: int, size: int) -> list[bytes]:
        """The audit path of a leaf in the tree of the first ``size`` leaves. Raises IndexError, ArchiveError, BadRecord."""
        return self._tree.path(number, size, self._stretch)

    def leaf(self, number: int) -> bytes:
        """One leaf's hash. Raises IndexError, ArchiveError, BadRecord."""
        if not 0 <= number < self.size:
            raise IndexError(f"leaf {number} of {self.size}")
        return self._stretch(number, number + 1)[0]

    def _stretch(self, low: int, high: int) -> list[bytes]:
        """Leaves ``low`` to ``high`` - 1, read back from the runs that hold them."""
        found: list[bytes] = []
        at = bisect_right(self._runs, low, key=lambda run: run[0]) - 1
        while len(found) < high - low:
            begin = low + len(found) - self._runs[at][0]
            found += self._read(self._runs[at])[begin : begin + high - low - len(found)]
            at += 1
        return found

    def _read(self, run: tuple[int, int, Position]) -> list[bytes]:
        first, count, position = run
        begin, hashes = decode_run(self._records.read(position))
        if begin != first or len(hashes) != count:
            raise ArchiveError(f"the run at leaf {first} is another one")
        return hashes

    def name_of(self, run: bytes) -> str:
        """A run's name on a medium."""
        first, _ = decode_run(run)
        return f"leaves/n{self._node}/{first:020d}.run"


def runs_on(medium: IMedium, node: int, bad: Callable[[str, str], None], since: int = 0) -> list[tuple[int, list[bytes]]]:
    """The runs that a medium holds, by number of their first leaf (from ``since`` on); damaged ones are told to ``bad(where, what)``."""
    found = []
    for name, _ in medium.names(f"leaves/n{node}/"):
        number = name.rpartition("/")[2].removesuffix(".run")
        if number.isascii() and number.isdigit() and int(number) < since:
            continue
        try:
            found.append(decode_run(medium.get(name)))
        except ValueError as error:
            bad(f"medium {medium.number}: {name}", str(error))
    return sorted(found, key=lambda run: run[0])
