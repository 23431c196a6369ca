"""The leaf log of this node: hashes of all sealed leaves, in a local append log and in runs on every medium that holds their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hornetmail.archive.media.directory import IMedium
from hornetmail.archive.proof.leaves import VOID, Frontier, decode_run, encode_run
from hornetmail.core.archived import ArchiveError
from hornetmail.disk.records import Position, RecordLog, Replayed

_RUN = 1


class LeafLog:
    """Blocking; one thread at a time. Numbers without a hash are void leaves (rule 17)."""

    def __init__(self, records: RecordLog, node: int) -> None:
        self._records = records
        self._node = node
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
        if first != self.size:
            raise ArchiveError(f"a run of leaves begins at {first}, the log ends at {self.size}")
        position = self._records.append(_RUN, run)
        self._records.sync()
        self._take(first, hashes, position)

    def hashes(self) -> list[bytes]:
        """All of them, read back from the disk. Raises ArchiveError, BadRecord."""
        found: list[bytes] = []
        for first, count, position in self._runs:
            begin, hashes = decode_run(self._records.read(position))
            if begin != first or len(hashes) != count:
                raise ArchiveError(f"the run at leaf {first} is another one")
            found += hashes
        return found

    def name_of(self, run: bytes) -> str:
        """A run's name on a medium."""
        first, _ = decode_run(run)
        return f"leaves/n{self._node}/{first:020d}.run"


def span_of(name: str, size: int) -> tuple[int, int]:
    """First leaf and number of leaves of a run, by its name on a medium and its size in bytes; (0, 0) if they are not a run's."""
    number = name.rpartition("/")[2].removesuffix(".run")
    count, rest = divmod(size - len(encode_run(0, ())), 32)
    if not (number.isascii() and number.isdigit()) or rest or count < 1:
        return 0, 0
    return int(number), count


def runs_on(medium: IMedium, node: int, bad: Callable[[str, str], None], since: int = 0) -> list[tuple[int, list[bytes]]]:
    """The runs that a medium holds, by number of their first leaf (those with leaves from ``since`` on); damaged ones are told to ``bad(where, what)``."""
    found = []
    for name, size in medium.names(f"leaves/n{node}/"):
        first, count = span_of(name, size)
        if count and first + count <= since:
            continue
        try:
            found.append(decode_run(medium.get(name)))
        except ValueError as error:
            bad(f"medium {medium.number}: {name}", str(error))
    return sorted(found, key=lambda run: run[0])
