"""The stamps of this node: one file each beside the leaf log, and the same objects on every medium in use, so that a rebuild finds them."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from pathlib import Path

from hornetmail.archive.media.medium import IMedium, MediumError, MediumUnread
from hornetmail.archive.proof.stamps import Stamp, StampBroken, read_stamp
from hornetmail.archive.proof.stampsheets import SHEET, STAMP_SUFFIX, encode_sheet, number_in, sheet_of, stamps_of
from hornetmail.archive.proof.stampsheets import SUFFIX as SHEET_SUFFIX
from hornetmail.disk.files import Disk


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
        numbers = (number_in(path.name, STAMP_SUFFIX) for path in self._directory.glob(f"*{STAMP_SUFFIX}"))
        return sorted(number for number in numbers if number >= 0)

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
        """Put on a medium what it lacks; how many objects. Whole sheets of old ones take the place of the single ones. Raises MediumError, DiskFull."""
        names = {name for name, _ in medium.names(self._folder)}
        put = 0
        for number in self.numbers():
            name = self._name(number)
            if name not in names and sheet_of(name) not in names:
                medium.put(name, self._path(number).read_bytes())
                names.add(name)
                put += 1
        for first in range(0, self.count - SHEET, SHEET):
            put += self._gather(medium, first, names)
        return put

    def _gather(self, medium: IMedium, first: int, names: set[str]) -> int:
        """One sheet, put and read back before the stamps in it are deleted one by one; a crash in between leaves both, which say the same."""
        single = [name for name in map(self._name, range(first, first + SHEET)) if name in names]
        sheet = sheet_of(self._name(first))
        put = 0
        if sheet not in names:
            data = self._sheet(first)
            if data is None:
                return 0
            medium.put(sheet, data)
            if medium.get(sheet) != data:
                raise MediumError(f"medium {medium.number} did not keep {sheet} as it was written")
            put = 1
        for name in single:
            medium.delete(name)
        return put

    def _sheet(self, first: int) -> bytes | None:
        """None: not all of its stamps are here and whole."""
        try:
            return encode_sheet(first, [self.get(number).to_bytes() for number in range(first, first + SHEET)])
        except StampBroken:
            return None

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
                try:
                    found = self._in_object(medium, name, sound)
                except (MediumError, StampBroken) as error:
                    bad(f"medium {medium.number}: {name}", str(error))
                    continue
                for number, data in found:
                    try:
                        stamp = read_stamp(data)
                        if (stamp.head.node, stamp.head.number) != (self._node, number):
                            raise StampBroken("another stamp, under this one's name")
                    except StampBroken as error:
                        bad(f"medium {medium.number}: {name}", str(error))
                        continue
                    self._disk.write_durably(self._path(number), data)
                    sound.add(number)
                    taken += 1
        if taken:
            self.open()
        return taken

    def _in_object(self, medium: IMedium, name: str, known: Container[int]) -> list[tuple[int, bytes]]:
        """The stamps in an object that are not known, by their number. Raises MediumError, StampBroken."""
        file = name.rpartition("/")[2]
        if (number := number_in(file, STAMP_SUFFIX)) >= 0:
            return [] if number in known else [(number, medium.get(name))]
        first = number_in(file, SHEET_SUFFIX)
        if first < 0 or all(each in known for each in range(first, first + SHEET)):
            return []
        return [(each, data) for each, data in enumerate(stamps_of(medium.get(name)), first) if each not in known]

    def differing(self, medium: IMedium, full: bool) -> list[tuple[str, str]]:
        """Where a medium's stamps are not the ones here: name and what, also those that are missing here. Not ``full``: only whether they are there. Raises MediumError."""
        there = {name for name, _ in medium.names(self._folder)}
        here = {self._name(number) for number in self.numbers()}
        sheeted = {sheet_of(name) for name in here}
        lost = sorted(
            name
            for name in there
            if (sheet_of(name) and name not in here) or (name.endswith(SHEET_SUFFIX) and name not in sheeted)
        )
        found = [(name, "the stamp is missing here") for name in lost]
        sheets: set[str] = set()
        for number in self.numbers():
            name = self._name(number)
            sheet = sheet_of(name)
            if name not in there and sheet not in there:
                found.append((name, "the stamp is missing"))
            elif not full:
                continue
            elif name in there:
                if what := _otherwise(medium, name, self._path(number).read_bytes(), "the stamp was changed"):
                    found.append((name, what))
            elif sheet not in sheets:
                sheets.add(sheet)
                mine = self._sheet(number - number % SHEET)
                if mine is not None and (what := _otherwise(medium, sheet, mine, "a stamp in it was changed")):
                    found.append((sheet, what))
        return found

    @property
    def _folder(self) -> str:
        return f"stamps/n{self._node}/"

    def _name(self, number: int) -> str:
        return f"{self._folder}{number:020d}{STAMP_SUFFIX}"

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:020d}{STAMP_SUFFIX}"


def _otherwise(medium: IMedium, name: str, wanted: bytes, what: str) -> str:
    """``what`` if a medium holds something else of that name, or that it does not read; ``""``: it is as wanted. Raises MediumError."""
    try:
        return "" if medium.get(name) == wanted else what
    except MediumUnread as error:
        return str(error)
