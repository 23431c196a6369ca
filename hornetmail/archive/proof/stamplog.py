"""The stamps of this node: one file each beside the leaf log, and the same objects on every medium in use, so that a rebuild finds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hornetmail.archive.media.medium import IMedium, MediumError
from hornetmail.archive.proof.stamps import Stamp, StampBroken, read_stamp
from hornetmail.disk.files import Disk

SUFFIX = ".stamp"


class StampLog:
    """Blocking. Stamps are numbered from 0 without gaps, their sizes never shrink; one is looked for by halving."""

    def __init__(self, directory: Path, disk: Disk, node: int) -> None:
        self._directory = directory
        self._disk = disk
        self._node = node
        self._newest: Stamp | None = None
        self.count = 0

    def open(self) -> None:
        """Look what is there. A damaged newest one is no reason not to start: ``newest`` is the last that reads."""
        self._disk.make_directory(self._directory)
        numbers = self.numbers()
        self.count = numbers[-1] + 1 if numbers else 0
        self._newest = None
        for number in reversed(numbers):
            try:
                self._newest = self.get(number)
            except StampBroken:
                continue
            break

    @property
    def newest(self) -> Stamp | None:
        """The last one that reads; None: nothing is stamped."""
        return self._newest

    def numbers(self) -> list[int]:
        """Those that are here."""
        return sorted(_number(path.name) for path in self._directory.glob(f"*{SUFFIX}") if _number(path.name) >= 0)

    def get(self, number: int) -> Stamp:
        """Raises StampBroken: damaged, another's, or missing."""
        try:
            stamp = read_stamp(self._path(number).read_bytes())
        except FileNotFoundError:
            raise StampBroken(f"stamp {number} is missing") from None
        if (stamp.head.node, stamp.head.number) != (self._node, number):
            raise StampBroken(f"stamp {number} is another one ({stamp.head.number} of node {stamp.head.node})")
        return stamp

    def append(self, stamp: Stamp) -> None:
        """Durable on return."""
        assert stamp.head.number == self.count
        self._disk.write_durably(self._path(self.count), stamp.to_bytes())
        self._newest = stamp
        self.count += 1

    def covering(self, leaf: int) -> Stamp | None:
        """The first stamp that reads and whose head has that leaf; None: it is not stamped yet."""
        try:
            return self._halve(leaf)
        except StampBroken:
            return self._search(leaf)

    def _search(self, leaf: int) -> Stamp | None:
        """One after the other, around those that do not read."""
        for number in self.numbers():
            try:
                stamp = self.get(number)
            except StampBroken:
                continue
            if stamp.head.size > leaf:
                return stamp
        return None

    def _halve(self, leaf: int) -> Stamp | None:
        low, high = 0, self.count
        found = None
        while low < high:
            middle = (low + high) // 2
            stamp = self.get(middle)
            if stamp.head.size > leaf:
                found, high = stamp, middle
            else:
                low = middle + 1
        return found

    def publish(self, medium: IMedium) -> int:
        """Put on a medium what it lacks; how many. Raises MediumError, DiskFull."""
        there = {_number(name.rpartition("/")[2]) for name, _ in medium.names(self._folder)}
        put = 0
        for number in self.numbers():
            if number not in there:
                medium.put(self._name(number), self._path(number).read_bytes())
                put += 1
        return put

    def restore(self, media: Sequence[IMedium], every: bool, bad: Callable[[str, str], None]) -> int:
        """Take from media what is missing here, and what is damaged if ``every`` one is read; how many. What cannot be used is told to ``bad(where, what)``."""
        self._disk.make_directory(self._directory)
        sound = set()
        for number in self.numbers():
            try:
                if every:
                    self.get(number)
                sound.add(number)
            except StampBroken:
                pass
        taken = 0
        for medium in media:
            try:
                names = [name for name, _ in medium.names(self._folder)]
            except MediumError as error:
                bad(f"medium {medium.number}", str(error))
                continue
            for name in names:
                number = _number(name.rpartition("/")[2])
                if number < 0 or number in sound:
                    continue
                try:
                    data = medium.get(name)
                    stamp = read_stamp(data)
                    if (stamp.head.node, stamp.head.number) != (self._node, number):
                        raise StampBroken("another stamp, under this one's name")
                except (MediumError, StampBroken) as error:
                    bad(f"medium {medium.number}: {name}", str(error))
                    continue
                self._disk.write_durably(self._path(number), data)
                sound.add(number)
                taken += 1
        if taken:
            self.open()
        return taken

    def differing(self, medium: IMedium, full: bool) -> list[tuple[str, str]]:
        """Where a medium's stamps are not the ones here: name and what, also those that are missing here. Not ``full``: only whether they are there. Raises MediumError."""
        there = {name for name, _ in medium.names(self._folder)}
        here = {self._name(number): number for number in self.numbers()}
        lost = sorted(name for name in there - here.keys() if _number(name.rpartition("/")[2]) >= 0)
        found = [(name, "the stamp is missing here") for name in lost]
        for name, number in here.items():
            if name not in there:
                found.append((name, "the stamp is missing"))
            elif full and medium.get(name) != self._path(number).read_bytes():
                found.append((name, "the stamp was changed"))
        return found

    @property
    def _folder(self) -> str:
        return f"stamps/n{self._node}/"

    def _name(self, number: int) -> str:
        return f"{self._folder}{number:020d}{SUFFIX}"

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:020d}{SUFFIX}"


def _number(name: str) -> int:
    """The number in a file's name; -1: it is something else."""
    text = name.removesuffix(SUFFIX)
    return int(text) if len(text) == 20 and text.isascii() and text.isdigit() and name.endswith(SUFFIX) else -1
