"""A mail as a stream: the same bytes as in one piece, nothing before it is proved, in memory that does not grow."""

from __future__ import annotations

import base64
import contextlib
import gc
import os
import random
import tracemalloc

import pytest

from hornetmail.archive.running.spooled import PAGE_BYTES
from hornetmail.archive.store.records import RecordBroken
from hornetmail.archive.store.streams import SLICE_BYTES
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.testing.archives import AUDITOR, mail
from tests.archive.cases import ArchiveCase


def attached(size: int, seed: int = 1, *, lines: bool = True) -> bytes:
    """A mail with a text and attachments, one of which is shared. Without ``lines`` its base64 is not of the usual shape, and is kept as it is."""
    data = random.Random(seed).randbytes(size)
    encoded = base64.b64encode(data)
    width = 76 if lines else 64
    block = b"\r\n".join(encoded[at : at + width] for at in range(0, len(encoded), width))
    return (
        b"From: Alice <alice@example.test>\r\nTo: bob@example.test\r\nSubject: attached\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nwords\r\n--b\r\n"
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n%b\r\n--b--\r\n" % block
    )


class Streams(ArchiveCase):
    """Over a real archive."""

    async def test_the_same_bytes_from_any_place(self) -> None:
        """Catches a slice of base64 that ends within a line, a page of the spool that is read at the wrong place, and the ends of all these: staged, in a pack, sealed to the locked
        archive's key; with shared parts and without."""
        archive = await self.fresh()
        texts = [
            attached(SLICE_BYTES * 2),
            attached(SLICE_BYTES * 2 + 1, 2),
            attached(100_000, 3, lines=False),
            mail("large", os.urandom(900_000).hex()),
            mail("a page", "x" * PAGE_BYTES)[:PAGE_BYTES],
            mail("small"),
        ]
        for text in texts:
            await self.put(archive, text)
        await archive.flush()
        hits = (await archive.search(AUDITOR, "", limit=50)).results
        for _ in range(2):
            for hit in hits:
                whole = await archive.read(AUDITOR, hit.id)
                assert whole in texts
                body = await archive.body(AUDITOR, hit.id)
                assert body.size == len(whole)
                assert await body.read() == whole
                assert b"".join([piece async for piece in body.chunks()]) == whole
                for start in (0, 1, PAGE_BYTES - 1, PAGE_BYTES, len(whole) - 1, len(whole), len(whole) + 5):
                    for length in (0, 1, PAGE_BYTES, PAGE_BYTES + 1, len(whole)):
                        assert await body.read(start, length) == whole[start : start + length], (start, length)
            await archive.flush(seal=True)

    async def test_sealed_while_locked(self) -> None:
        """Catches a stream that knows data keys alone: mail that came while the key was away is sealed to its public half."""
        archive = await self.fresh()
        await archive.stop()
        archive = await self.reopened(root=None)
        await self.put(archive, mail("while locked", "x" * 200_000))
        await archive.stop()
        archive = await self.reopened()
        await archive.flush(seal=True)
        [hit] = (await archive.search(AUDITOR, "", limit=5)).results
        body = await archive.body(AUDITOR, hit.id)
        assert await body.read() == await archive.read(AUDITOR, hit.id)

    async def test_nothing_of_a_damaged_mail(self) -> None:
        """Catches bytes that are given before all was proved: a changed byte anywhere in a pack must give nothing of that mail."""
        archive = await self.fresh()
        await self.put(archive, attached(400_000))
        await archive.flush(seal=True)
        [hit] = (await archive.search(AUDITOR, "", limit=5)).results
        [pack] = list((self.medium / "packs").rglob("*.pack")) or [p for p in (self.medium / "packs").rglob("*") if p.is_file()]
        whole = pack.read_bytes()
        broken = 0
        for at in range(40, len(whole), len(whole) // 23):
            pack.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            try:
                body = await archive.body(AUDITOR, hit.id)
            except ArchiveError:
                broken += 1
            else:
                assert await body.read() == attached(400_000)
        assert broken > 15
        pack.write_bytes(whole[: len(whole) // 2])
        with pytest.raises((RecordBroken, ArchiveError)):
            await archive.body(AUDITOR, hit.id)

    async def test_memory_stays_flat(self) -> None:
        """Catches a mail that is held whole while it is laid out or read: 40 MB, with a shared attachment, cost no more than a few MiB."""
        archive = await self.fresh()
        await self.put(archive, attached(30_000_000))
        await archive.flush(seal=True)
        [hit] = (await archive.search(AUDITOR, "", limit=5)).results
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        body = await archive.body(AUDITOR, hit.id)
        read = 0
        async for piece in body.chunks():
            read += len(piece)
        _, peak = tracemalloc.get_traced_memory()
        assert read == hit.size > 40_000_000
        assert peak < 12_000_000, peak

    async def test_no_plain_text_on_the_disk(self) -> None:
        """Catches a spool in plain text (rule 24), and one that stays when nobody holds it."""
        archive = await self.fresh()
        await self.put(archive, mail("secret", "harvestmoon " * 20_000))
        await archive.flush(seal=True)
        [hit] = (await archive.search(AUDITOR, "", limit=5)).results
        body = await archive.body(AUDITOR, hit.id)
        spools = self.spools()
        assert spools
        for fd in spools:
            assert b"harvestmoon" not in os.pread(fd, 1 << 20, 0)
        del body
        await archive.holdings.in_thread(gc.collect)  # the thread that made it forgets what it made last
        gc.collect()
        assert not self.spools()

    def spools(self) -> list[int]:
        """Unnamed files in the archive's directory that are open."""
        found = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(f"/proc/self/fd/{number}")
                if target.endswith("(deleted)") and str(self.top) in target:
                    found.append(int(number))
        return found
