"""The leaf log of this node: hashes of all sealed leaves, in a local append log and in runs on every medium that holds their records.

Beside the log lies a checkpoint: the frontier of the tree and where the last run lies, so that a start reads one segment, however old the
archive is. It is written after each run, and believed only if the log still has that run in that place.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import msgspec

from hornetmail.archive.media.medium import IMedium, MediumMissing, MediumUnread
from hornetmail.archive.proof.leafindex import LeafIndex
from hornetmail.archive.proof.leaves import VOID, Frontier, decode_run, encode_run
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.files import Disk
from hornetmail.disk.records import Position, RecordLog, Replayed

MOST_MERGED = 65_536
"""Leaves of a merged run: 2 MiB."""

_RUN = 1
KEEP = 64
"""So many runs beyond the index that is kept, and it is kept anew."""
_MAGIC = b"HMFRONT1"


class _Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """``segment``: the name of its file, and ``number`` and ``offset`` of the last run, which begins with leaf ``first``."""

    size: int
    peaks: tuple[tuple[int, bytes], ...]
    segment: str = ""
    number: int = 0
    offset: int = 0
    first: int = 0


class LeafLog:
    """Blocking. Numbers without a hash are void leaves (rule 17)."""

    def __init__(
        self, records: RecordLog, node: int, disk: Disk, lock: Callable[[], AbstractContextManager[object]] = threading.Lock
    ) -> None:
        self.records = records
        self._node = node
        self._disk = disk
        self._path = records.directory.with_name(f"{records.directory.name}-checkpoint")
        self._index: LeafIndex | None = None
        self._index_path = records.directory.with_name(f"{records.directory.name}-index")
        self._kept_runs = 0
        self._frontier = Frontier()
        self._last = (Position(0, 0), 0)
        self._lock = lock()
        self.known = False

    def begin(self) -> None:
        """A new archive: it says that there are no leaves, so that a log which is lost later is missed."""
        self._disk.make_directory(self._path.parent)
        self._save(_Checkpoint(0, ()))

    def replay(self) -> Replayed:
        """Read the log at start; ``known`` says afterwards whether it is all that there ever was, as far as can be seen from here. Raises
        ArchiveError if it is damaged or runs are missing in it."""
        last = self._load()
        if last is not None and last.size:
            if self.records.locate(last.number) != last.segment:
                raise ArchiveError(f"the leaf log is gone, it had {last.size} leaves")
            replayed = self._replay_from(last)
        else:
            replayed = self._replay_all()
            self.known = bool(self.size) or last is not None
        if self.size and (last is None or last.size != self.size):
            self._checkpoint(self._last)
        return replayed

    def _replay_all(self) -> Replayed:
        self._frontier = Frontier()
        return self._replay(None, 0)

    def _replay_from(self, last: _Checkpoint) -> Replayed:
        self._frontier = Frontier(last.size, last.peaks)
        self.known = True
        return self._replay(Position(last.number, last.offset), last.first)

    def _replay(self, since: Position | None, begun: int) -> Replayed:
        problems: list[str] = []
        self._last = (Position(0, 0), 0)
        met = since is None

        def take(position: Position, _kind: int, payload: bytes) -> None:
            nonlocal met
            first, hashes = decode_run(payload)
            if not met:
                met = True
                if position != since or first != begun or first + len(hashes) != self.size:
                    problems.append(f"another run than that of leaf {begun} at its checkpoint")
                self._last = (position, first)
                return
            if first != self.size:
                problems.append(f"leaf {self.size} is followed by leaf {first}")
                return
            self._take(first, hashes, position)

        replayed = self.records.replay(take, since)
        if replayed.damage:
            raise ArchiveError(f"the leaf log is damaged: {replayed.damage[0]}")
        if problems or not met:
            raise ArchiveError(f"the leaf log has a gap: {problems[0] if problems else 'its last run is gone'}")
        return replayed

    def _take(self, first: int, hashes: list[bytes], position: Position) -> None:
        for one in hashes:
            self._frontier.add(one)
        self._last = (position, first)

    def _checkpoint(self, last: tuple[Position, int]) -> None:
        position, first = last
        name = self.records.locate(position.segment)
        self._save(_Checkpoint(self.size, self._frontier.peaks, name, position.segment, position.offset, first))

    def _save(self, checkpoint: _Checkpoint) -> None:
        data = _MAGIC + msgspec.msgpack.encode(checkpoint)
        self._disk.write_durably(self._path, data + hashlib.sha256(data).digest())

    def _load(self) -> _Checkpoint | None:
        try:
            data = self._path.read_bytes()
            if data[:8] != _MAGIC or hashlib.sha256(data[:-32]).digest() != data[-32:]:
                return None
            return msgspec.msgpack.decode(data[8:-32], type=_Checkpoint)
        except (FileNotFoundError, ValueError):
            return None

    def reopen(self) -> None:
        """Forget what is in memory: ``replay`` comes next."""
        self.close()
        self.records = RecordLog(self.records.directory, self._disk, writer=f"n{self._node}", seal=None)
        self._frontier = Frontier()
        self._index, self._kept_runs = None, 0
        self.known = False

    def set_aside(self, name: str) -> None:
        """The log goes beside itself under another name, as it is, and its checkpoint counts no more: ``replay`` begins an empty one."""
        self.close()
        self._disk.unlink(self._path, missing_ok=True)
        self._disk.sync_directory(self._path.parent)
        if self.records.directory.exists():
            self._disk.rename(self.records.directory, self.records.directory.with_name(name))
        self.reopen()

    def close(self) -> None:
        """Close files."""
        self.records.close()

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
            position = self.records.append(_RUN, run)
            self.records.sync()
            self._take(first, hashes, position)
            self._checkpoint(self._last)
            if self._index is not None:
                self._index.add(hashes, position)

    def hashes(self) -> list[bytes]:
        """All of them, read back from the disk. Raises ArchiveError, BadRecord."""
        found: list[bytes] = []
        problems: list[str] = []

        def take(_: Position, _kind: int, payload: bytes) -> None:
            first, hashes = decode_run(payload)
            if first != len(found):
                problems.append(f"leaf {len(found)} is followed by leaf {first}")
            found.extend(hashes)

        with self._lock:
            # A writer of another name: it reads, and leaves all as it is.
            reader = RecordLog(self.records.directory, self._disk, writer="reader", seal=None)
            replayed = reader.replay(take)
            size = self.size
        if replayed.damage:
            raise ArchiveError(f"the leaf log is damaged: {replayed.damage[0]}")
        if problems or len(found) != size:
            raise ArchiveError(problems[0] if problems else f"the leaf log holds {len(found)} leaves instead of {size}")
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

    def stretch(self, low: int, high: int) -> list[bytes]:
        """The hashes of leaves ``low`` to ``high`` - 1, read back from the disk. Raises IndexError, ArchiveError, BadRecord."""
        if not 0 <= low <= high <= self.size:
            raise IndexError(f"leaves {low} to {high - 1}, of {self.size}")
        return self._indexed().stretch(low, high)

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
        reader = RecordLog(self.records.directory, self._disk, writer="reader", seal=None)
        replayed = reader.replay(take, last[1] if last else None)
        if replayed.damage:
            raise ArchiveError(f"the leaf log is damaged: {replayed.damage[0]}")
        return met and fits and index.size == self.size and index.root_at(self.size) == self.root()

    def _run_at(self, first: int, position: Position) -> list[bytes]:
        begin, hashes = decode_run(self.records.read(position))
        if begin != first:
            raise ArchiveError(f"the run at leaf {first} is another one")
        return hashes

    def name_of(self, run: bytes) -> str:
        """A run's name on a medium."""
        return self.name_at(decode_run(run)[0])

    def name_at(self, first: int) -> str:
        """The name on a medium of the run that begins with a leaf."""
        return f"leaves/n{self._node}/{first:020d}.run"

    def catch_up(self, medium: IMedium) -> bool:
        """Take the next run from a medium, if it has one: this log is older than the medium, or died between the two. Raises MediumError,
        ArchiveError (damaged)."""
        name = self.name_at(self.size)
        try:
            data = medium.get(name)
        except MediumMissing:
            name = self._merged_on(medium)
            if not name:
                return False
            data = medium.get(name)
        try:
            first, hashes = decode_run(data)
        except ValueError as error:
            raise ArchiveError(f"medium {medium.number}: {name}: {error}") from None
        run = self.run_for(dict(enumerate(hashes, first)))
        if run is None:
            return False
        self.append(run)
        return True

    def goes_on(self, medium: IMedium) -> bool:
        """Whether a medium has runs that begin behind this log's end. Raises MediumError."""
        return any(
            span_of(name, size)[1]
            for name, size in medium.names(f"leaves/n{self._node}/", after=self.name_at(self.size), limit=1)
        )

    def unlike(self, medium: IMedium) -> str:
        """How the newest run of a medium is not this log's, for people: it has other leaves, or goes on behind its end; ``""`` if it is. Raises MediumError, ArchiveError."""
        runs = [(span_of(name, size), name) for name, size in medium.names(f"leaves/n{self._node}/")]
        (first, count), name = max(runs, default=((0, 0), ""))
        if not count:
            return ""
        if first + count > self.size:
            return f"it has {first + count} leaves, and here are {self.size}"
        begin, hashes = decode_run(medium.get(name))
        return "" if self.stretch(begin, begin + len(hashes)) == hashes else f"its leaves from {begin} on are others"

    def _merged_on(self, medium: IMedium) -> str:
        """The name of a merged run on a medium that begins before this log's end and goes on behind it. Only as many names are listed as can be its."""
        behind = self.name_at(max(0, self.size - MOST_MERGED - 1))
        for name, size in medium.names(f"leaves/n{self._node}/", after=behind if self.size > MOST_MERGED else ""):
            first, count = span_of(name, size)
            if first <= self.size < first + count:
                return name
        return ""


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
            run = decode_run(medium.get(name))
            if count and run[0] != first:
                raise ValueError("another run than its name says")
            found.append(run)
        except (ValueError, MediumMissing, MediumUnread) as error:
            bad(f"medium {medium.number}: {name}", str(error))
    return sorted(found, key=lambda run: run[0])
