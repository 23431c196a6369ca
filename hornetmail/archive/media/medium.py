"""Media: where sealed packs lie (A7-A16), and the look that each call takes first.

A *place* is a directory, share or bucket with the few calls that differ. A *medium* is a place that bears an identity: which archive's it is, and
which number it has there. Only ``claim`` makes an identity. Every other call looks at it first, so that an empty mount point, a swapped disk or
another archive's share is noticed before anything is read from it, written to it, or believed to be gone from it.
A medium is written by one installation (``writer.py``), whose mark its identity bears; others that have the same archive may read.

All calls block and belong in threads. Names use ``/`` and only what every file system and object store takes.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from zope.interface import Attribute, Interface, implementer

from hornetmail.archive.media.writer import Held, Writer
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.files import DiskFull

IDENTITY = "medium"
FORMAT = 1
LONGEST = 65536
"""Bytes of an identity that are read: it has 80, and about 200 for whoever writes there."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_OURS = ("packs/", "journal/", "leaves/")


class MediumError(ArchiveError):
    """A medium cannot be used, or lacks what it should hold."""


class MediumAway(MediumError):
    """The medium is out of reach, or what is there in its place is not it."""


class MediumTaken(MediumAway):
    """Another installation writes there, or follows into it if it is a mirror: nothing may be written. What lies there may be read."""


class MediumMissing(MediumError):
    """The medium is there, the object is not."""


class MediumUnread(MediumError):
    """The medium is there, and does not give this one object: a bad sector, a right that is missing, a storage class that has to be thawed. The others may read."""


class MediumLocked(MediumError):
    """The store keeps the object for now; the message says until when."""


class PlaceTrouble(ArchiveError):
    """A place cannot do it; the message says why, and not where."""


class PlaceAway(PlaceTrouble):
    """Nobody answers there, or whoever answers lets us not in."""


class PlaceTaken(PlaceAway):
    """Another installation writes there; the message says which."""


class PlaceLocked(PlaceTrouble):
    """The store keeps the object for now; the message says which and until when."""


class PlaceMissing(PlaceTrouble):
    """There is no such object."""


class Space(msgspec.Struct, frozen=True, gc=False):
    """Bytes in all, and free for us; both 0 where nobody can tell (object stores)."""

    total: int = 0
    free: int = 0

    @property
    def share(self) -> float:
        """The free share, 1 where nobody can tell."""
        return self.free / self.total if self.total else 1.0


class IVisit(Interface):
    """A place, entered: all calls of one visit reach the same directory, share or bucket, whatever is mounted meanwhile."""

    def mark() -> object:
        """A value that stays equal only as long as the identity that was read here needs no second look."""

    def number() -> int:
        """One that a copy of the place has not, as far as that can be told (the inode of a directory); 0: it cannot. Raises PlaceTrouble."""

    def put(name: str, data: bytes | memoryview) -> None:
        """Durable on return, all or nothing, in place of what had the name. Raises PlaceTrouble, DiskFull."""

    def get(name: str, start: int, length: int) -> bytes:
        """A stretch of an object, shorter only at its end; to its end with ``length`` -1. Raises PlaceMissing, PlaceTrouble."""

    def names(prefix: str, after: str, limit: int) -> Sequence[tuple[str, int]]:
        """Objects below a prefix that ends in ``/`` (or all, for ``""``), with their sizes, by name; those behind ``after``, and no more
        than ``limit`` (0: all). Raises PlaceTrouble."""

    def delete(name: str) -> None:
        """Also if it is gone already; where the place keeps versions, all of them. Raises PlaceLocked (it is locked, and stays), PlaceTrouble."""

    def space() -> Space:
        """How much room there is. Raises PlaceTrouble."""

    def sweep(before: float) -> int:
        """Remove what puts that did not come to their end left there, last written before then (Unix seconds, by the place's clock): how many. Raises PlaceTrouble."""

    def lock(name: str, until: float) -> None:
        """Where the place is set to lock objects, nobody can change or remove this one before ``until`` (Unix seconds). Raises PlaceTrouble."""


class IPlace(Interface):
    """Where a medium lies."""

    where = Attribute("for people: a path or an address, without any secret")

    def visit() -> contextlib.AbstractContextManager[IVisit]:
        """Enter it. Raises PlaceAway."""

    def make() -> None:
        """See that the directory is there that a new medium is to lie in. Raises PlaceTrouble."""

    def close() -> None:
        """Let go of connections."""


class IMedium(Interface):
    """One medium."""

    number = Attribute("its numeric ID")
    where = Attribute("for people: a path or an address")

    def put(name: str, data: bytes | memoryview) -> None:
        """Durable on return, all or nothing. Raises MediumError, DiskFull."""

    def get(name: str, start: int = 0, length: int = -1) -> bytes:
        """A stretch of an object, shorter only at its end. Raises MediumMissing, MediumUnread (the medium is in reach, this stretch of the object does not read),
        MediumError."""

    def names(prefix: str, after: str = "", limit: int = 0) -> Sequence[tuple[str, int]]:
        """Objects below a prefix that ends in ``/`` (or all, for ``""``), with their sizes, by name; those behind ``after``, and no more
        than ``limit`` (0: all). Raises MediumError."""

    def delete(name: str) -> None:
        """Also if it is gone already; where the place keeps versions, all of them. Raises MediumLocked (it is locked, and stays), MediumError."""

    def lock(name: str, until: float) -> None:
        """Where the medium is set to lock objects, nobody can change or remove this one before ``until`` (Unix seconds): for packs that are as
        they will stay (rule 20). Raises MediumError."""

    def sweep(before: float) -> int:
        """Remove what puts that were cut off left there, if it was last written before then (Unix seconds): how many files. Raises MediumError."""

    def look() -> Space:
        """See that it is there and that it is the one; its room. Raises MediumError."""

    def expect(archive: bytes) -> None:
        """From now on it must be a medium of this archive."""

    def claim(archive: bytes) -> None:
        """Make it a medium of this archive; one that is already stays as it is. Raises MediumError: another's, or not empty."""

    def close() -> None:
        """Let go of connections."""


class Identity(msgspec.Struct, frozen=True):
    """What the object ``medium`` says: the archive's name in hex, and the medium's number in it. ``follower``: of a mirror, which installation follows into it; ``writers``: of a medium, who writes
    there, by node, until it ends."""

    archive: str
    medium: int
    format: int = FORMAT
    follower: str | msgspec.UnsetType = msgspec.UNSET
    writers: Mapping[str, Held] | msgspec.UnsetType = msgspec.UNSET

    def writer(self, node: str) -> Held | None:
        """Who writes there for a node."""
        return self.writers.get(node) if self.writers is not msgspec.UNSET else None

    def written_by(self, node: str, held: Held | None) -> Identity:
        """The same with another one for that node, or none."""
        others = dict(self.writers) if self.writers is not msgspec.UNSET else {}
        others.pop(node, None)
        if held is not None:
            others[node] = held
        return msgspec.structs.replace(self, writers=others or msgspec.UNSET)


def identity_at(place: IPlace) -> Identity | None:
    """The identity of what lies at a place; None: it has none. Raises PlaceTrouble."""
    with place.visit() as there:
        try:
            return _identity(there.get(IDENTITY, 0, LONGEST))
        except PlaceMissing:
            return None


def _identity(raw: bytes) -> Identity:
    try:
        return msgspec.json.decode(raw, type=Identity)
    except ValueError as error:
        raise PlaceTrouble(f"its identity file is damaged ({error})") from None


@implementer(IMedium)
class Medium:
    """A place that must bear this number and, once it is known, this archive's name; and where one is given, the mark of a ``follower``. Whoever gives a ``writer`` writes only where nobody
    else does: its mark is put into the identity by the first ``look`` or write, unless another's is there."""

    def __init__(self, number: int, place: IPlace, follower: str = "", writer: Writer | None = None) -> None:
        self.number = number
        self._place = place
        self._follower = follower
        self._writer = writer
        self._archive: str | None = None
        self._seen: object = None
        self._held: object = None
        self._wrote = False
        self._lost = ""

    @property
    def _name(self) -> str:
        """For people."""
        return f"medium {self.number}" if self.number else "the mirror"

    @property
    def where(self) -> str:
        """See IMedium."""
        where: str = self._place.where
        return where

    def expect(self, archive: bytes) -> None:
        """See IMedium."""
        if self._archive != archive.hex():
            self._archive, self._seen = archive.hex(), None

    def put(self, name: str, data: bytes | memoryview) -> None:
        """See IMedium."""
        with self._visit(name, writing=True) as there:
            there.put(name, data)

    def get(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """See IMedium. Whether one object does not read or the medium is no good at all is told by its identity; then it is read once more."""
        try:
            return self._get(name, start, length)
        except (MediumMissing, MediumAway):
            raise
        except MediumError:
            with self._visit() as there:
                self._check(there)
        try:
            return self._get(name, start, length)
        except (MediumMissing, MediumAway):
            raise
        except MediumError as error:
            raise MediumUnread(
                f"{self._name} ({self.where}) is there, but {name} does not read: {error.__cause__ or error}"
            ) from error

    def _get(self, name: str, start: int, length: int) -> bytes:
        with self._visit(name) as there:
            try:
                data: bytes = there.get(name, start, length)
            except PlaceMissing:
                # It may be the whole medium that is missing by now.
                self._check(there)
                raise
            return data

    def names(self, prefix: str, after: str = "", limit: int = 0) -> Sequence[tuple[str, int]]:
        """See IMedium."""
        with self._visit() as there:
            found: Sequence[tuple[str, int]] = there.names(prefix, after, limit)
            if not found:
                self._check(there)
            return found

    def delete(self, name: str) -> None:
        """See IMedium."""
        with self._visit(name, writing=True) as there:
            there.delete(name)

    def lock(self, name: str, until: float) -> None:
        """See IMedium."""
        with self._visit(name, writing=True) as there:
            there.lock(name, until)

    def sweep(self, before: float) -> int:
        """See IMedium."""
        with self._visit(writing=True) as there:
            removed: int = there.sweep(before)
            return removed

    def look(self) -> Space:
        """See IMedium."""
        with self._visit() as there:
            self._hold(there, self._check(there))
            space: Space = there.space()
            return space

    def claim(self, archive: bytes) -> None:
        """See IMedium."""
        with self._told():
            self._place.make()
            with self._place.visit() as there:
                self.expect(archive)
                try:
                    self._check(there)
                except PlaceMissing:
                    self._refuse_strays(there)
                    there.put(IDENTITY, msgspec.json.encode(Identity(archive.hex(), self.number)) + b"\n")
                    self._check(there)

    def take(self) -> None:
        """Put the follower's mark on it, whoever's it bears. Raises MediumTaken: somebody else did the same just now; MediumError."""
        with self._told(), self._place.visit() as there:
            assert self._archive is not None
            identity = Identity(self._archive, self.number, follower=self._follower or msgspec.UNSET)
            there.put(IDENTITY, msgspec.json.encode(identity) + b"\n")
            self._check(there)

    def writer(self) -> Held | None:
        """Who else writes there, as the medium has it; None: nobody but this installation. Raises MediumError."""
        with self._told(), self._place.visit() as there:
            return self._other(there, self._check(there))

    def take_over(self) -> None:
        """From now on this installation writes there, whoever did before. Raises MediumTaken: somebody else did the same just now; MediumError."""
        with self._told(), self._place.visit() as there:
            self._mark(there, self._check(there))
            self._lost = ""

    def release(self) -> None:
        """This installation writes there no more: another one may begin. Raises MediumError."""
        with self._told(), self._place.visit() as there:
            identity = self._check(there)
            held = identity.writer(self._node)
            if held is not None and self._writer is not None and held.mark == self._writer.held.mark:
                there.put(IDENTITY, msgspec.json.encode(identity.written_by(self._node, None)) + b"\n")
            self._held = None

    def close(self) -> None:
        """See IMedium."""
        self._place.close()

    @property
    def _node(self) -> str:
        return self._writer.node if self._writer is not None else ""

    def _hold(self, there: IVisit, identity: Identity) -> None:
        """See that this installation is the one that writes there. Raises PlaceTaken."""
        self._held = None
        if self._writer is None:
            return
        if (other := self._other(there, identity)) is not None:
            self._lost = told(other)
            raise PlaceTaken(self._lost)
        if self._lost:
            # It went on with the archive, and this process does not know how: leaf numbers would be given twice.
            raise PlaceTaken(f"{self._lost}, which ended since: restart this one, which takes up what the other one did,")
        held = identity.writer(self._node)
        if held is None or held.mark != self._writer.held.mark:
            self._mark(there, identity)
        self._held, self._wrote = self._seen, True

    def _other(self, there: IVisit, identity: Identity) -> Held | None:
        """Who else writes there. The mark on a copy of a medium says who wrote to the first one, and does not count when it is met at first."""
        held = identity.writer(self._node)
        if held is None or (self._writer is not None and self._writer.is_own(held.mark)):
            return None
        number = 0 if self._wrote else there.number()
        return None if number and held.place and number != held.place else held

    def _mark(self, there: IVisit, identity: Identity) -> None:
        """Two at once both write, and the one whose mark does not stay is told, here or by its next look."""
        if self._writer is None:
            raise PlaceTrouble("nobody is there to write to it")
        mark = msgspec.structs.replace(self._writer.held, place=there.number())
        there.put(IDENTITY, msgspec.json.encode(identity.written_by(self._node, mark)) + b"\n")
        held = self._check(there).writer(self._node)
        if held is None or held.mark != self._writer.held.mark:
            raise PlaceTaken(told(held) if held is not None else "one that took it this moment")

    def _refuse_strays(self, there: IVisit) -> None:
        if strays := [name for prefix in _OURS for name, _ in there.names(prefix, "", 1)]:
            raise PlaceTrouble(f"it has no identity, and yet holds {strays[0]}: is it another archive's, damaged?")

    @contextlib.contextmanager
    def _visit(self, name: str = IDENTITY, writing: bool = False) -> Iterator[IVisit]:
        if not _NAME.fullmatch(name):
            raise MediumError(f"not a name on a medium: {name!r}")
        with self._told(), self._place.visit() as there:
            mark = there.mark()
            fresh = mark is not None and mark == (self._held if writing and self._writer else self._seen)
            if not fresh:
                identity = self._check(there)
                if writing:
                    self._hold(there, identity)
            yield there

    def _check(self, there: IVisit) -> Identity:
        """Read the identity anew. Raises PlaceMissing("medium"), PlaceTrouble."""
        self._seen = None
        mark = there.mark()
        try:
            raw = there.get(IDENTITY, 0, LONGEST)
        except (PlaceMissing, PlaceAway):
            raise
        except PlaceTrouble as error:
            # Where not even this reads, nothing can be said of anything else.
            raise PlaceAway(str(error)) from error
        identity = _identity(raw)
        if self._archive is not None and identity.archive != self._archive:
            raise PlaceTrouble(f"it holds another archive ({identity.archive})")
        if identity.format != FORMAT:
            raise PlaceTrouble(f"it has format {identity.format}, and this program knows {FORMAT}")
        if identity.medium != self.number:
            raise PlaceTrouble(f"it calls itself medium {identity.medium}")
        if self._follower and identity.follower != self._follower:
            raise PlaceTaken(f"its mark: {(identity.follower or 'none')[:8]}")
        self._seen = mark
        return identity

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say of which medium it is."""
        try:
            yield
        except PlaceMissing as error:
            if str(error) == IDENTITY:
                raise MediumAway(f"{self._name} is out of reach: at {self.where} there is no medium (is it mounted?)") from None
            raise MediumMissing(f"{self._name} has no {error}") from None
        except PlaceTaken as error:
            if self._follower:
                raise MediumTaken(f"another installation follows into {self.where} ({error})") from None
            raise MediumTaken(f"another installation ({error}) writes to {self._name} ({self.where})") from None
        except PlaceAway as error:
            raise MediumAway(f"{self._name} is out of reach: {self.where}: {error}") from error
        except DiskFull as error:
            raise DiskFull(errno.ENOSPC, f"{self._name} is full ({self.where})") from error
        except PlaceLocked as error:
            raise MediumLocked(f"{self._name}: {error}") from None
        except PlaceTrouble as error:
            raise MediumError(f"{self._name} ({self.where}): {error}") from error


def told(held: Held) -> str:
    """For people: who it is."""
    since = f", since {datetime.fromtimestamp(held.since, UTC):%Y-%m-%d %H:%M} UTC" if held.since else ""
    return f"{held.where or 'its mark: ' + held.mark[:8]}{since}"


def valid_name(name: str) -> bool:
    """Whether it is a name on a medium; what else lies there (files under way, other programs' folders) is passed over."""
    return _NAME.fullmatch(name) is not None
