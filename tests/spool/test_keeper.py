"""When the index is written: behind the journal by a while, again after a failure, and never while nothing changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.core.delivery.queued import RowState
from hornetmail.db.engines import DatabaseBroken, DatabaseError
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.spool.arrivals import Room
from hornetmail.spool.disk.bodies import BytesBody
from hornetmail.spool.disk.journal import Kind, Where
from hornetmail.spool.start import OpenedQueue
from tests.spool.test_faults import FaultBase


class WhenTheIndexIsWritten(FaultBase):
    """``timers`` are the keeper's, ``uptime`` says how long a message has been changing; ``writes`` are the IDs that each write held."""

    async def queue(self) -> OpenedQueue:
        queue = await self.open()
        keeper, self.timers = queue.keeper, Clock()
        self.writes: list[list[int]] = []
        self.trouble: list[Exception] = []
        write = keeper._index.write

        async def watched(change: Any) -> None:
            if self.trouble:
                raise self.trouble.pop()
            self.writes.append([entry[0] for entry in change.entries])
            await write(change)

        keeper._index.write = watched  # type: ignore[method-assign]
        keeper._timer.cancel()
        keeper._timer = None
        keeper._reactor = self.timers
        return queue

    async def pass_(self, queue: OpenedQueue, seconds: float) -> None:
        """Time goes by, and a write that began ends."""
        self.uptime.advance(seconds)
        self.timers.advance(seconds)
        await queue.keeper._writing.acquire()
        queue.keeper._writing.release()
        await deferLater(reactor, 0, lambda: None)

    async def test_behind_the_journal_by_a_while(self) -> None:
        """Would catch an index that is written with each message, or not before the queue is closed: a start would replay days of journal."""
        queue = await self.queue()
        message = await self.accept(queue)
        await self.pass_(queue, 0.9)
        assert self.writes == []
        await self.pass_(queue, 0.2)
        assert not any(self.writes), "it may be gone in a moment"
        await self.pass_(queue, 1.0)
        assert [one for one in self.writes if one] == [[message.id]]
        await self.pass_(queue, 5.0)
        assert not self.timers.getDelayedCalls(), "nothing changed: nothing wakes up"
        row = await self.row(queue, message)
        await queue.change([row.id], RowState.HELD)
        for _ in range(4):
            await self.pass_(queue, 1.0)
        assert [one for one in self.writes if one] == [[message.id]] * 2

    async def test_again_after_a_failure(self) -> None:
        """Would catch an index that is given up after one failure, and one that is hammered; what was to be written is not forgotten."""
        queue = await self.queue()
        message = await self.accept(queue)
        await self.pass_(queue, 1.0)
        self.trouble.append(DatabaseError("busy"))
        await self.pass_(queue, 1.5)
        assert not self.trouble
        for _ in range(9):
            await self.pass_(queue, 1.0)
        assert not any(self.writes)
        await self.pass_(queue, 1.0)
        assert [one for one in self.writes if one] == [[message.id]]
        assert self.alarms == []

    async def test_a_broken_one_is_left_alone(self) -> None:
        """Would catch writes into a broken database for ever, and an alarm with each."""
        queue = await self.queue()
        await self.accept(queue)
        await self.pass_(queue, 1.0)
        self.trouble.append(DatabaseBroken("malformed"))
        await self.pass_(queue, 1.5)
        assert [code for code, _ in self.alarms] == ["queue-index"]
        await self.accept(queue)
        assert not self.timers.getDelayedCalls()


class AskedDisk(Disk):
    """So much is free; how often it was asked."""

    def __init__(self) -> None:
        self.free, self.asked = 1.0, 0

    def free_fraction(self, path: Path) -> float:
        self.asked += 1
        return self.free


class HowMuchRoom(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.disk = Clock(), AskedDisk()
        self.clock.advance(1_000_000.0)
        self.room = Room(self.clock, self.disk, Path(), 0.1)
        self.room.check()

    def test_asked_once_a_second(self) -> None:
        """Would catch a disk that is asked with each of a thousand messages, an answer that is kept for ever, and one that is kept until a clock
        that was set back has caught up."""
        self.clock.advance(0.9)
        self.room.check()
        self.room.check()
        assert self.disk.asked == 1
        self.disk.free = 0.05
        self.clock.advance(0.1)
        with pytest.raises(DiskFull):
            self.room.check()
        with pytest.raises(DiskFull):
            self.room.check()
        assert self.disk.asked == 2
        self.disk.free = 0.5
        self.clock.rightNow -= 3600.0
        self.room.check()
        assert self.disk.asked == 3

    def test_letters_of_ours_have_a_reserve(self) -> None:
        """Would catch an alarm about a full disk that the full disk keeps from going out, and letters of ours that fill it up."""
        self.disk.free = 0.06
        self.clock.advance(1.0)
        with pytest.raises(DiskFull):
            self.room.check()
        self.room.check(own=True)
        self.disk.free = 0.04
        self.clock.advance(1.0)
        with pytest.raises(DiskFull):
            self.room.check(own=True)
        self.disk.free, self.room.elsewhere = 1.0, lambda: "the archive's disk is full"
        self.clock.advance(1.0)
        with pytest.raises(DiskFull):
            self.room.check()
        self.room.check(own=True)


class SmallThings(SynchronousTestCase):
    def test_parts_of_a_body_in_memory(self) -> None:
        """Would catch a part of no bytes that is all of it, which a client's ``BODY[]<0.0>`` would get."""
        body = BytesBody(b"0123456789")

        def read(*arguments: int) -> bytes:
            try:
                body.read(*arguments).send(None)
            except StopIteration as done:
                return bytes(done.value)
            raise AssertionError("it waits")

        assert (read(), read(3), read(3, 0), read(0, 0), read(3, 4), read(8, 9)) == (
            b"0123456789",
            b"3456789",
            b"",
            b"",
            b"3456",
            b"89",
        )

    def test_numbers_of_the_format(self) -> None:
        """Would catch a kind of record, or a place of a body, that gets another number: journals of before, and of other versions, would be read as
        something else. The document says which they are."""
        text = (Path(__file__).parents[2] / "docs" / "formats" / "spool.rst").read_text()
        assert {int(number): name for number, name in re.findall(r"^(\d)     ([A-Z]+) ", text, re.MULTILINE)} == {
            kind.value: kind.name for kind in Kind
        }
        said = re.search(r"^``where``: 0 no body any more, 1 in this record, 2 in the file ``file``, 3 lost", text, re.MULTILINE)
        assert said
        assert (Where(0), Where(1), Where(2), Where(3)) == (Where.NOWHERE, Where.RECORD, Where.FILE, Where.LOST)
