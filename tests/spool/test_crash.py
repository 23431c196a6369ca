"""kill -9 and failing disks: what was acknowledged is there afterwards."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Message, RowKind, RowState, Settled
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.disk.seal import Seal
from hornetmail.spool.disk.errors import SpoolBroken, SpoolError
from hornetmail.spool.start import OpenedQueue, open_queue
from hornetmail.testing.faulty_disk import FaultyDisk

ROUNDS = 8
ROOT = Path(__file__).parents[2]


class Base(TestCase):
    """A directory that several queues open in turn."""

    unpacked = 20_000

    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="hm-crash-")))

    async def open(self, disk: Disk | None = None, alarms: list[str] | None = None) -> OpenedQueue:
        url = f"sqlite://{self.directory}/queue.db"
        queue = await open_queue(
            reactor, self.directory, url, disk=disk or Disk(), seal=Seal(b"s" * 32), segment_bytes=100_000, least_free=0.0,
            unpacked=self.unpacked, alarm=lambda code, _text: alarms.append(code) if alarms is not None else None,
        )  # fmt: skip
        self.addCleanup(lambda: Deferred.fromCoroutine(queue.close()))
        return queue

    async def accept(self, queue: OpenedQueue, body: bytes) -> Message:
        deposit = queue.begin(1)
        for start in range(0, len(body), 60_000):
            await deposit.write(body[start : start + 60_000])
        envelope = Envelope("s@example.org", (Recipient("a@example.test"),))
        return await deposit.commit(envelope, Origin(Door.MX), Direction.IN, b"", domain="example.test", archive=False)


class KillTests(Base):
    """The process dies in the middle of everything."""

    async def test_killed_many_times(self) -> None:
        """Would catch an answer before the sync, a replay or tidying that loses or revives a message, a body without its file (steps 2 and 4)."""
        chance = random.Random(4)
        there: dict[int, str] = {}
        leaving: set[int] = set()
        left: set[int] = set()
        for number in range(ROUNDS):
            lines = self._run_and_kill(number, chance.randrange(20, 260))
            for line in lines:
                words = line.split()
                if words[0] == "accepted":
                    there[int(words[1])] = words[2]
                elif words[0] == "leaving":
                    leaving.add(int(words[1]))
                else:
                    left.add(int(words[1]))
            queue = await self.open()
            assert not queue.replayed.damage
            kept = {message.id: message for message, _ in await queue.rows(kinds={RowKind.DELIVER}, limit=1_000_000)}
            assert set(there) - leaving <= set(kept)
            assert not left & set(kept)
            for identifier, message in kept.items():
                body = await (await queue.body(identifier)).read()
                assert hashlib.sha256(body).digest() == message.sha256
                assert there.setdefault(identifier, message.sha256.hex()) == message.sha256.hex()
            await queue.close()
        assert len(there) > ROUNDS * 20
        assert left

    def _run_and_kill(self, number: int, after: int) -> list[str]:
        """Run the child until it has said that many lines, kill it, and answer all whole lines that it said."""
        command = [sys.executable, "-m", "tests.spool.child", str(self.directory), str(number), str(self.unpacked)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=dict(os.environ, PYTHONPATH=str(ROOT))) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(after)]
            child.kill()
            lines += child.stdout.readlines()
        return [line.decode() for line in lines if line.endswith(b"\n")]


class FaultyDiskTests(Base):
    """The disk fails at each operation in turn."""

    async def check(self, expected: dict[int, bytes]) -> None:
        """A start on a sound disk knows all that was acknowledged."""
        queue = await self.open()
        kept = {message.id for message, _ in await queue.rows()}
        assert set(expected) <= kept
        for identifier, body in expected.items():
            assert await (await queue.body(identifier)).read() == body
        await queue.close()

    async def test_each_operation_fails(self) -> None:
        """Would catch a lost acknowledged message, or an error that is no SpoolError or DiskFull (the answer would not be 4xx)."""
        expected: dict[int, bytes] = {}
        refused = 0
        for operation in ("open", "write", "sync_data", "sync_file", "truncate"):
            for code in (errno.ENOSPC, errno.EIO):
                for after in (0, 3):
                    disk = FaultyDisk()
                    queue = await self.open(disk)
                    disk.fail(operation, code, after=after, partial=13)
                    for count in range(6):
                        body = f"{operation} {code} {after} {count} ".encode() * (6000 if count % 3 == 2 else 20)
                        try:
                            expected[(await self.accept(queue, body)).id] = body
                        except (SpoolError, DiskFull):
                            refused += 1
                    disk.heal()
                    await queue.close()
        assert refused > 20
        assert len(expected) > 40
        await self.check(expected)

    async def test_after_no_room_it_goes_on(self) -> None:
        """Would catch a queue that needs a restart because the disk was full for a moment, and rows that stay claimed or busy for ever."""
        disk = FaultyDisk()
        queue = await self.open(disk)
        message = await self.accept(queue, b"one")
        disk.fail("write", errno.ENOSPC, partial=40)
        with pytest.raises(DiskFull):
            await self.accept(queue, b"two")
        with pytest.raises(DiskFull):
            await self.accept(queue, b"three" * 50_000)
        with pytest.raises(DiskFull):
            await queue.claim(reactor.seconds(), 5, lambda _row: 4e9)
        with pytest.raises(DiskFull):
            await queue.change([row.id for _, row in await queue.rows()], RowState.HELD)
        disk.heal()
        assert list((self.directory / "bodies").iterdir()) == []
        (claim,) = await queue.claim(reactor.seconds(), 5, lambda _row: 4e9)
        assert claim.message == message
        disk.fail("write", errno.ENOSPC, times=1)
        with pytest.raises(DiskFull):
            await queue.settle([Settled(claim.rows[0].id, RowState.DELIVERED)])
        await queue.settle([Settled(claim.rows[0].id, RowState.DELIVERED)])
        assert await queue.rows() == []
        body = b"four" * 50_000
        four = await self.accept(queue, body)
        await queue.close()
        await self.check({four.id: body})

    async def test_after_a_failed_sync_nothing_is_taken(self) -> None:
        """Would catch a 250 after a failed fsync (design: 4xx, stop, restart)."""
        disk, alarms = FaultyDisk(), []  # type: FaultyDisk, list[str]
        queue = await self.open(disk, alarms)
        first = await self.accept(queue, b"one")
        disk.fail("sync_data", errno.EIO, times=1)
        outcomes = await gatherResults(
            [
                Deferred.fromCoroutine(self.accept(queue, b"x")).addErrback(lambda failure: failure.trap(SpoolBroken))
                for _ in range(5)
            ]
        )
        assert outcomes == [SpoolBroken] * 5
        assert alarms == ["queue-broken"]
        assert queue.broken
        disk.heal()
        for attempt in (
            queue.claim(reactor.seconds(), 5, lambda _row: 4e9),
            queue.adopt("example.test", 1.0),
            self.accept(queue, b"x"),
        ):
            with pytest.raises(SpoolBroken):
                await attempt
        await queue.close()
        await self.check({first.id: b"one"})

    async def test_damage_costs_only_what_it_hits(self) -> None:
        """Would catch one flipped bit that costs more than one message, or goes unnoticed."""
        queue = await self.open()
        messages = [await self.accept(queue, bytes([65 + n]) * 2000) for n in range(6)]
        await queue.close()
        (path,) = (self.directory / "journal").glob("*.log")
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 4
        path.write_bytes(raw)
        (self.directory / "queue.db").unlink()
        alarms: list[str] = []
        queue = await self.open(alarms=alarms)
        kept = [message for message, _ in await queue.rows()]
        assert len(kept) == 5
        assert set(kept) < set(messages)
        assert alarms == ["queue-damage"]


class PackedKillTests(KillTests):
    """The same with a memory that keeps few messages whole."""

    unpacked = 3


class PackedFaultyDiskTests(FaultyDiskTests):
    """The same with a memory that keeps none."""

    unpacked = 0
