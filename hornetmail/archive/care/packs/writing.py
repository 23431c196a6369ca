"""A pack written anew of the records of others, as they are; and what is believed of a pack that was put before."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hornetmail.archive.care.packs.sealing import trailer_key
from hornetmail.archive.keys.keyring import KeyTrouble
from hornetmail.archive.media.medium import IMedium, MediumError, MediumMissing, MediumUnread
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.packs import FOOTER, Group, Member, PackBroken, PackHead, PackWriter, SealedPack, members_of
from hornetmail.archive.store.shelf import PackRow
from hornetmail.core.archive.archived import ArchiveError

SPAN = 8 << 20
"""Bytes read from a medium at once."""


class SourceDamaged(ArchiveError):
    """A source is not as it was put there."""

    def __init__(self, pack: PackRow, why: str) -> None:
        super().__init__(f"medium {pack.medium}: {pack.name}: {why}")
        self.number = pack.number


class Writer:
    """Blocking. Memory does not grow with the packs: records go through a file of ciphertext beside ``archive.db``."""

    def __init__(self, holdings: Holdings) -> None:
        self._keys = holdings.keys
        self._disk = holdings.disk
        self._scratch = holdings.directory / "merging.tmp"

    def read_back(self, medium: IMedium, pack: PackRow) -> SealedPack:
        """In a thread: a pack from end to end, as it was entered. Raises PackBroken, MediumError."""
        self._check_whole(medium, pack.name, pack.size, pack.sha256)
        head, members = members_of(lambda at, length: medium.get(pack.name, at, length), pack.size, self._keys.current())
        return SealedPack(head, members, b"", pack.sha256, pack.size)

    def members(self, medium: IMedium, pack: PackRow) -> tuple[Member, ...]:
        """In a thread."""
        try:
            head, members = members_of(lambda at, length: medium.get(pack.name, at, length), pack.size, self._keys.current())
        except (PackBroken, MediumMissing, MediumUnread) as error:
            raise SourceDamaged(pack, str(error)) from None
        if (head.group, head.pack) != (Group(pack.tenant, pack.month), pack.pack):
            raise SourceDamaged(pack, "it is another pack")
        return members

    def put_before(self, medium: IMedium, head: PackHead, records: Sequence[bytes]) -> SealedPack | None:
        """In a thread: the pack of these records in this order that was put there and never entered, read from end to end. None: there is none, or it is not
        whole. Raises MediumError."""
        try:
            size, whole, body, end = self._digests(medium, head.name)
            there, members = members_of(lambda at, length: medium.get(head.name, at, length), size, self._keys.current())
            if (there.group, there.pack, [member.record for member in members]) != (head.group, head.pack, list(records)):
                return None
            row = PackRow(
                0, head.group.tenant, head.pack, medium.number, head.group.month, size, b"", len(members), 0, there.made, 0.0
            )
            for _ in _records(medium, row, members):
                pass
            if FOOTER.unpack(end)[2] != body:
                return None
        except (PackBroken, KeyTrouble, SourceDamaged, MediumMissing, MediumUnread):
            return None
        return SealedPack(there, members, b"", whole, size)

    def put(self, medium: IMedium, head: PackHead, wanted: Sequence[tuple[PackRow, Sequence[Member]]]) -> SealedPack:
        """In a thread: into a file, onto the medium, and read back."""
        self._keys.publish(medium)
        key = trailer_key(self._keys, medium, head.group.tenant, head.made)
        with self._file() as write:
            writer = PackWriter(head, write)
            for pack, members in wanted:
                for record in _records(medium, pack, members):
                    writer.add(record)
            sealed = writer.end(self._keys.current(), key)
            self._put_file(medium, head.name)
        try:
            self._check_whole(medium, head.name, sealed.size, sealed.sha256)
        except PackBroken as error:
            raise MediumError(f"medium {medium.number}: {error}") from None
        return sealed

    def _put_file(self, medium: IMedium, name: str) -> None:
        """A view of the file's pages, which the system keeps or drops as memory allows."""
        with open(self._scratch, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
            view = memoryview(pages)
            try:
                medium.put(name, view)
            finally:
                view.release()

    @contextmanager
    def _file(self) -> Iterator[Callable[[bytes], None]]:
        disk, path = self._disk, self._scratch
        disk.unlink(path, missing_ok=True)
        fd = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        at = 0

        def write(data: bytes) -> None:
            nonlocal at
            disk.write(fd, data, at)
            at += len(data)

        try:
            yield write
        finally:
            disk.close(fd)
            disk.unlink(path, missing_ok=True)

    def _check_whole(self, medium: IMedium, name: str, size: int, sha256: bytes) -> None:
        if self._digests(medium, name)[:2] != (size, sha256):
            raise PackBroken(f"{name} is not as it was written")

    def _digests(self, medium: IMedium, name: str) -> tuple[int, bytes, bytes, bytes]:
        """Bytes read; SHA-256 of them all, and of those that the checksum at a pack's end is of; that end."""
        whole, body = hashlib.sha256(), hashlib.sha256()
        read, end = 0, b""
        while chunk := medium.get(name, read, SPAN):
            whole.update(chunk)
            before = max(0, len(end) + len(chunk) - FOOTER.size)
            body.update(end[:before])
            body.update(memoryview(chunk)[: max(0, before - len(end))])
            end = (end + chunk[-FOOTER.size :])[-FOOTER.size :]
            read += len(chunk)
            if len(chunk) < SPAN:
                break
        return read, whole.digest(), body.digest(), end


def _records(medium: IMedium, pack: PackRow, members: Sequence[Member]) -> Iterator[bytes]:
    """Records of a source in order, read in spans, each checked. Raises SourceDamaged, MediumError."""
    at = 0
    while at < len(members):
        first = members[at]
        end = at + 1
        while end < len(members) and members[end].offset + members[end].length - first.offset <= SPAN:
            end += 1
        last = members[end - 1]
        try:
            data = medium.get(pack.name, first.offset, last.offset + last.length - first.offset)
        except MediumUnread as error:
            raise SourceDamaged(pack, str(error)) from None
        for member in members[at:end]:
            begin = member.offset - first.offset
            record = data[begin : begin + member.length]
            if hashlib.sha256(record).digest() != member.sha256:
                raise SourceDamaged(pack, f"record {member.record.hex()} was changed or is cut off")
            yield record
        at = end
