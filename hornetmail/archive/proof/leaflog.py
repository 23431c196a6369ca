"""The leaf log of this node: hashes of all sealed leaves, in a local append log and in runs on every medium that holds their records."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from hornetmail.archive.media.directory import IMedium
from hornetmail.archive.proof.leafindex import LeafIndex
from hornetmail.archive.proof.leaves import VOID, Frontier, decode_run, encode_run
from hornetmail.core.archived import ArchiveError
from hornetmail.disk.files import Disk
from hornetmail.disk.records import Position, RecordLog, Replayed

_RUN = 1
KEEP = 64
"""So many runs beyond the index that is kept, and it is kept anew."""


class LeafLog:
    """Blocking; one thread at a time. Numbers without a hash are void leaves (rule 17)."""

    def __init__(self, records: RecordLog, node: int, disk: Disk) -> None:
        self._records = records
        self._node = node
        self._disk = disk
        self._lock = threading.Lock()
        self._index: LeafIndex | None = None
        self._index_path = records.directory.with_name(f"{records.directory.name}-index")
        self._kept_runs = 0
        self._frontier = Frontier()
        self._runs: list[tuple[int, int, Position]] = []

    def replay(self) -> Replayed:
        """Read the log at start. Raises ArchiveError if it is damaged or runs are missing in it."""
        self._frontier, self._runs = Frontier(), []
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
            self._frontier.add(one)
        self._runs.append((first, len(hashes), position))

    @property
    def size(self) -> int:
        """Leaves so far; the number of the next one."""
        return self._frontier.size

    def root(self) -> bytes:
        """The Merkle tree hash over all of them."""
        return self._frontier.root()

    def run_for(self, leaves: Mapping[int, bytes]) -> bytes | None:
        """The next run: these leaves, as far as they are new, and void ones between them."""
        if not leaves or max(leaves) < self.size:
            return None
        first = self.size
        return encode_run(first, [leaves.get(number, VOID) for number in range(first, max(leaves) + 1)])

    def append(self, run: bytes) -> None:
        """Durable on return."""
        first, hashes = decode_run(run)
        with self._lock:
            if first != self.size:
                raise ArchiveError(f"a run of leaves begins at {first}, the log ends at {self.size}")
            position = self._records.append(_RUN, run)
            self._records.sync()
            self._take(first, hashes, position)
            if self._index is not None:
                self._index.add(hashes, position)

    def hashes(self) -> list[bytes]:
        """All of them, read back from the disk. Raises ArchiveError, BadRecord."""
        found: list[bytes] = []
        for first, count, position in self._runs:
            begin, hashes = decode_run(self._records.read(position))
            if begin != first or len(hashes) != count:
                raise ArchiveError(f"the run at leaf {first} is another one")
            found += hashes
        return found

    def root_at(self, size: int) -> bytes:
        """The root when there were ``size`` leaves. Raises IndexError, ArchiveError, BadRecord."""
        return self._indexed().root_at(size)

    def path(self, number: int, size: int) -> list[bytes]:
        """The audit path of a leaf in the tree of the first ``size`` leaves. Raises IndexError, ArchiveError, BadRecord."""
        return self._indexed().path(number, size)

    def leaf(self, number: int) -> bytes:
        """One leaf's hash. Raises IndexError, ArchiveError, BadRecord."""
        if not 0 <= number < self.size:
            raise IndexError(f"leaf {number} of {self.size}")
        return self._indexed().stretch(number, number + 1)[0]

    def _indexed(self) -> LeafIndex:
        with self._lock:
            if self._index is None:
                self._index = self._find_index()
            if self._index.runs >= self._kept_runs + KEEP:
                self._disk.write_durably(self._index_path, self._index.to_bytes())
                self._kept_runs = self._index.runs
            return self._index

    def _find_index(self) -> LeafIndex:
        """What was kept, with what came since; made anew from the whole log if there is none that fits it."""
        index = LeafIndex(self._run_at)
        if self._index_path.exists() and index.load(self._index_path.read_bytes()):
            self._kept_runs = index.runs
            if self._extend(index):
                return index
        index, self._kept_runs = LeafIndex(self._run_at), 0
        if not self._extend(index):
            raise ArchiveError(f"the leaf log does not hold its {self.size} leaves: run archive verify")
        return index

    def _extend(self, index: LeafIndex) -> bool:
        """Add the runs that the log has beyond it; False if it is not of this log. Raises ArchiveError."""
        last, fits = index.last, True
        met = last is None

        def take(position: Position, _kind: int, payload: bytes) -> None:
            nonlocal met, fits
            first, hashes = decode_run(payload)
            if not met:
                met, fits = True, (first, position) == last and first + len(hashes) == index.size
            elif first != index.size:
                fits = False
            elif fits:
                index.add(hashes, position)

        # A writer of another name: it reads, and leaves all as it is.
        reader = RecordLog(self._records.directory, self._disk, writer="reader", seal=None)
        replayed = reader.replay(take, last[1] if last else None)
        if replayed.damage:
            raise ArchiveError(f"the leaf log is damaged: {replayed.damage[0]}")
        return met and fits and index.size == self.size and index.root_at(self.size) == self.root()

    def _run_at(self, first: int, position: Position) -> list[bytes]:
        begin, hashes = decode_run(self._records.read(position))
        if begin != first:
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
