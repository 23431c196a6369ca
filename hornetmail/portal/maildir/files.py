"""A mailbox's Maildir on disk. Everything here blocks and runs in threads; ``Box`` serialises what changes names."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from hornetmail.portal.maildir import groups, naming
from hornetmail.portal.maildir.folders import LITTER, SETTLED_NS, SUBS, Folders, anchored
from hornetmail.portal.maildir.snapshot import Place

T = TypeVar("T")

PIECE = 1 << 20


class Found(msgspec.Struct, frozen=True, gc=False):
    """A file that is not in the index. ``size`` as served."""

    place: Place
    size: int
    date: float


class Piece(msgspec.Struct, frozen=True, gc=False):
    """What is to be read of a message as served."""

    place: Place
    start: int
    length: int


class Listing(msgspec.Struct, frozen=True, gc=False):
    """What differs between a folder's files and what was known: new ones, other places of known ones, names that are gone, and names of
    what is there and no message that we could read."""

    looked: tuple[int, int, float]
    added: tuple[Found, ...]
    moved: tuple[Place, ...]
    vanished: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


class Maildir(Folders):
    """The directory of one mailbox. Raises OSError; DiskFull when there is no room, DiskAway when the disk is: nothing was changed then, or
    what was is on the disk that is away."""

    # Looking

    @anchored
    def holds_unaddressed(self, spoken_for: Collection[int] | None = None) -> bool:
        """Whether INBOX has files that do not begin with an envelope, or do so for a row that is not ``spoken_for`` if that is given, from their
        names alone; False for a mailbox that was never made."""
        for sub in SUBS:
            with contextlib.suppress(FileNotFoundError), os.scandir(self.path / sub) as entries:
                for entry in entries:
                    base = naming.split_name(entry.name)[0]
                    loose = spoken_for is not None and naming.row_of(base) not in spoken_for
                    if not entry.name.startswith(".") and (loose or not naming.hidden_of(base)):
                        return True
        return False

    @anchored
    def look(self, name: str, places: Collection[Place], looked: tuple[int, int, float], now: float) -> Listing | None:
        """What differs from the known places, or None if the directories did not change since ``looked``."""
        folder = self.folder(name)
        try:
            stamps = tuple(os.stat(folder / sub).st_mtime_ns for sub in SUBS)
        except FileNotFoundError:
            if not folder.is_dir():
                raise
            self._mend(folder)
            stamps = tuple(os.stat(folder / sub).st_mtime_ns for sub in SUBS)
        settled = (looked[2] * 1e9) - max(stamps) > SETTLED_NS
        if stamps == looked[:2] and settled:
            return None
        known = {place.base: place for place in places}
        seen = self._list(folder)
        gone = [base for base in known if base not in seen]
        if gone:  # a file that is renamed while we read the directory can be missed: look twice before believing it
            again = self._list(folder)
            seen.update(again)
            gone = [base for base in gone if base not in again]
        added: list[Found] = []
        moved: list[Place] = []
        unreadable: list[str] = []
        for base, (sub, letters) in seen.items():
            former = known.get(base)
            if former is None:
                try:
                    added.append(self._found(folder, base, sub, letters))
                except FileNotFoundError:
                    continue  # gone again
                except OSError:
                    unreadable.append(base)
            elif (former.sub, former.letters) != (sub, letters):
                moved.append(Place(base, sub, letters, former.hidden, former.bare))
        added.sort(key=lambda found: (found.date, found.place.base))
        return Listing((stamps[0], stamps[1], now), tuple(added), tuple(moved), tuple(gone), tuple(unreadable))

    def _list(self, folder: Path) -> dict[str, tuple[str, str]]:
        """Sub-directory and letters by base. What lies in ``new`` and in ``cur`` is one message of which a loss of power brought back where it was before: a
        removal would leave it there, and it would be new mail. The one in ``cur`` is it."""
        seen: dict[str, tuple[str, str]] = {}
        for sub in SUBS:
            for name in os.listdir(folder / sub):
                if not name.startswith("."):
                    try:
                        name.encode()
                    except UnicodeEncodeError:
                        continue  # neither index nor protocols can carry such a name
                    base, letters = naming.split_name(name)
                    if base in seen and sub == "cur":
                        self._drop_back(folder, base, name)
                    seen[base] = (sub, letters if sub == "cur" else "")
        return seen

    def _drop_back(self, folder: Path, base: str, name: str) -> None:
        """Remove from ``new`` what is in ``cur`` too. In a race with whoever is just renaming it nothing is there; what has another size is another's, and stays.
        What cannot be removed now keeps nobody from reading: the next look tries again."""
        with contextlib.suppress(OSError):
            if os.stat(folder / "new" / base).st_size == os.stat(folder / "cur" / name).st_size:
                self._disk.unlink(folder / "new" / base, missing_ok=True)
                self._loose.setdefault(folder, set()).add("new")

    def _found(self, folder: Path, base: str, sub: str, letters: str) -> Found:
        place = Place(base, sub, letters, naming.hidden_of(base), False)
        path = folder / place.file
        try:
            status = os.stat(path)
        except FileNotFoundError:
            # a file in cur without an info part
            path = folder / sub / base
            status = os.stat(path)
            self._disk.rename(path, folder / place.file)
            path = folder / place.file
        if not stat.S_ISREG(status.st_mode):
            raise IsADirectoryError(path)
        size = status.st_size - min(place.hidden, status.st_size)
        if not naming.is_ours(base, status.st_size):
            bare = _bare_line_feeds(path)
            if bare:
                place, size = Place(base, sub, letters, 0, True), size + bare
        return Found(place, size, status.st_mtime)

    # Messages

    @anchored
    def write(
        self, name: str, base: str, pieces: Sequence[bytes], date: float, *, append: bool = False, done: bool = True
    ) -> Path:
        """Write (or go on with) an unfinished file in ``tmp``; with ``done`` it gets its date and is synced."""
        folder = self.folder(name)
        path = folder / "tmp" / (base + LITTER)
        if not append and not path.parent.is_dir() and folder.is_dir():
            self._mend(folder)
        fd = self._disk.open(path, os.O_WRONLY | os.O_CREAT | (0 if append else os.O_TRUNC))
        try:
            offset = os.fstat(fd).st_size if append else 0
            for piece in pieces:
                self._disk.write(fd, piece, offset)
                offset += len(piece)
            if done:
                os.utime(fd, (date, date))
                self._disk.sync_file(fd)
        except BaseException:
            with contextlib.suppress(OSError):
                self._disk.unlink(path, missing_ok=True)
            raise
        finally:
            self._disk.close(fd)
        return path

    def discard(self, path: Path) -> None:
        """Forget an unfinished file."""
        self._disk.unlink(path, missing_ok=True)

    @anchored
    def land(self, name: str, arrivals: Sequence[tuple[Path, Place]]) -> None:
        """Give finished files their names; one sync of each directory for all of them."""
        folder = self.folder(name)
        pairs = [(tmp, folder / place.file) for tmp, place in arrivals]
        try:
            self._rename(pairs)
        except FileNotFoundError:
            if not folder.is_dir():
                raise
            self._mend(folder)
            self._rename(pairs)
        self._sync(folder, {place.sub for _, place in arrivals})

    @anchored
    def land_together(self, name: str, arrivals: Sequence[tuple[Path, Place]]) -> None:
        """The same, all or none of them whatever happens in between, a crash too."""
        folder = self.folder(name)
        group = groups.begin(self._disk, folder, arrivals[0][1].base, [place.base for _, place in arrivals])
        try:
            self._rename([(tmp, folder / place.file) for tmp, place in arrivals])
            self._sync(folder, {place.sub for _, place in arrivals})
            groups.end(self._disk, group)
        except BaseException:
            with contextlib.suppress(OSError):  # the next start does it
                self.unlink(name, [place for _, place in arrivals])
                groups.end(self._disk, group)
            raise

    def _sync(self, folder: Path, subs: Collection[str]) -> None:
        """Make new names in a folder durable, and once the folder itself, which ``_mend`` may have made."""
        for sub in subs:
            self._disk.sync_directory(folder / sub)
        if folder not in self._settled:
            self._disk.sync_directory(folder)
            self._settled.add(folder)

    @anchored
    def relabel(self, name: str, changes: Sequence[tuple[Place, Place]]) -> list[int]:
        """Rename files to their new info parts; the positions of those that are gone. Flags are not worth a sync: the index has them too. What is
        not synced is remembered, for whoever removes such a file: it must not come back where it was before (``_left``). Done once more it changes nothing."""
        folder = self.folder(name)
        lost: list[int] = []
        for number, (old, new) in enumerate(changes):
            try:
                self._disk.rename_unsynced(folder / old.file, folder / new.file)
                if old.sub != new.sub:
                    self._loose.setdefault(folder, set()).add(old.sub)
            except FileNotFoundError:
                if old.file == new.file or not (folder / new.file).is_file():
                    lost.append(number)
        return lost

    @anchored
    def unlink(self, name: str, places: Sequence[Place]) -> None:
        """Remove messages, durably on return. One that is gone already is fine."""
        folder = self.folder(name)
        for place in places:
            self._disk.unlink(folder / place.file, missing_ok=True)
        self._left(folder, {place.sub for place in places})

    @anchored
    def there(self, name: str, places: Sequence[Place]) -> list[bool]:
        """Which messages have their files where they were."""
        folder = self.folder(name)
        return [(folder / place.file).is_file() for place in places]

    def _left(self, folder: Path, subs: Collection[str]) -> None:
        """Make durable that files are no longer in a folder: neither where they were now, nor where they were before their flags changed."""
        for sub in sorted({*subs, *self._loose.get(folder, ())}):
            self._disk.sync_directory(folder / sub)
        self._loose.pop(folder, None)

    @anchored
    def link(self, source: str, target: str, pairs: Sequence[tuple[Place, Place]]) -> None:
        """Copy messages into another folder, all or none, durable on return. The copies share their bytes where the file system lets them."""
        old, new = self.folder(source), self.folder(target)
        done: list[Path] = []
        try:
            for former, place in pairs:
                path = new / place.file
                try:
                    self._disk.link(old / former.file, path)
                except FileNotFoundError:
                    raise
                except OSError:
                    self._copy(old / former.file, path)
                done.append(path)
            self._sync(new, {place.sub for _, place in pairs})
        except BaseException:
            for path in done:
                self._disk.unlink(path, missing_ok=True)
            raise

    def _copy(self, source: Path, target: Path) -> None:
        tmp = target.parent.parent / "tmp" / (target.name + LITTER)
        former = self._disk.open(source, os.O_RDONLY)
        try:
            fd = self._disk.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                offset = 0
                while piece := self._disk.read(former, PIECE, offset):
                    self._disk.write(fd, piece, offset)
                    offset += len(piece)
                date = os.fstat(former).st_mtime
                os.utime(fd, (date, date))
                self._disk.sync_file(fd)
            finally:
                self._disk.close(fd)
            self._disk.rename_unsynced(tmp, target)
        except BaseException:
            # What does not become a message takes no room until the next start.
            with contextlib.suppress(OSError):
                self._disk.unlink(tmp, missing_ok=True)
            raise
        finally:
            self._disk.close(former)

    @anchored
    def move(self, source: str, target: str, pairs: Sequence[tuple[Place, Place]]) -> None:
        """Move messages into another folder, all or none; the new place is durable before the old one is given up."""
        old, new = self.folder(source), self.folder(target)
        renames = [(old / former.file, new / place.file) for former, place in pairs]
        self._rename(renames)
        try:
            self._sync(new, {place.sub for _, place in pairs})
            self._left(old, {former.sub for former, _ in pairs})
        except BaseException:
            self._rename([(there, here) for here, there in reversed(renames)])
            raise

    def _rename(self, pairs: Sequence[tuple[Path, Path]]) -> None:
        done: list[tuple[Path, Path]] = []
        try:
            for old, new in pairs:
                self._disk.rename_unsynced(old, new)
                done.append((old, new))
        except BaseException:
            for old, new in reversed(done):
                self._disk.rename_unsynced(new, old)
            raise

    # Reading

    def read(self, name: str, place: Place, start: int, length: int) -> bytes:
        """Bytes of a message as served; ``length`` -1 is up to the end. Raises FileNotFoundError."""
        return self._read(self._below(name), place, start, length)

    def _below(self, name: str) -> str:
        """What the paths of a folder's files begin with. Joined as text: a Path costs more than the read."""
        directory = naming.directory_of(name)
        return f"{self._text}/{directory}/" if directory else f"{self._text}/"

    def _read(self, below: str, place: Place, start: int, length: int) -> bytes:
        letters = f":2,{place.letters}" if place.sub == "cur" else ""
        fd = self._disk.open(f"{below}{place.sub}/{place.base}{letters}", os.O_RDONLY)
        try:
            if place.bare:
                whole = with_crlf(self._disk.read(fd, os.fstat(fd).st_size, 0))
                return whole[start:] if length < 0 else whole[start : start + length]
            if length < 0:
                length = max(0, os.fstat(fd).st_size - place.hidden - start)
            return self._disk.read(fd, length, place.hidden + start)
        finally:
            self._disk.close(fd)

    @anchored
    def envelopes(self, name: str, places: Sequence[Place]) -> list[bytes | OSError]:
        """The hidden lines of each, ``b""`` for one without any, or why its file cannot be read (FileNotFoundError: it is not there)."""
        folder = self.folder(name)
        return [self._envelope(folder / place.file, place.hidden) for place in places]

    def _envelope(self, path: Path, hidden: int) -> bytes | OSError:
        try:
            fd = self._disk.open(path, os.O_RDONLY)
            try:
                return self._disk.read(fd, hidden, 0) if hidden else b""
            finally:
                self._disk.close(fd)
        except OSError as error:
            return error

    def pieces(self, name: str, wanted: Sequence[Piece | None]) -> list[bytes | None]:
        """A piece of each message; None for one that is not where it was."""
        found: list[bytes | None] = []
        below = self._below(name)
        for piece in wanted:
            try:
                found.append(None if piece is None else self._read(below, piece.place, piece.start, piece.length))
            except FileNotFoundError:
                found.append(None)
        return found

    @anchored
    def each_whole(self, name: str, wanted: Sequence[tuple[int, Place]], make: Callable[[bytes], T]) -> dict[int, T]:
        """What ``make`` makes of each message; those that are gone are left out."""
        found: dict[int, T] = {}
        for uid, place in wanted:
            with contextlib.suppress(FileNotFoundError):
                found[uid] = make(self.read(name, place, 0, -1))
        return found


def with_crlf(data: bytes) -> bytes:
    """Bare LF becomes CRLF."""
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _bare_line_feeds(path: Path) -> int:
    bare = 0
    last = b""
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            bare += piece.count(b"\n") - piece.count(b"\r\n") - (1 if last == b"\r" and piece.startswith(b"\n") else 0)
            last = piece[-1:]
    return bare
