"""The queue where it ends: the last room on its disk, and messages that are on their way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from hornetmail.core.delivery.queued import Portal, RowState, Settled
from hornetmail.core.mail.envelope import Direction, Envelope, Recipient
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.spool.disk.deposit import SHORT
from tests.spool.test_faults import FaultBase
from tests.spool.test_queue import DELIVERED, ORIGIN


class NearlyFull(Disk):
    """A twentieth of it is free."""

    def free_fraction(self, path: Path) -> float:
        return 0.05


class Ends(FaultBase):
    async def test_the_reserve_is_for_letters_of_ours(self) -> None:
        """Would catch strangers' mail that takes the room which is kept for the alarm about it."""
        queue = await self.open(disk=NearlyFull())
        queue.room.least_free = 0.08
        with pytest.raises(DiskFull):
            await self.accept(queue)
        ours = queue.begin(1, own=True)
        await ours.write(b"Subject: it is full\r\n")
        await ours.commit(
            Envelope("", (Recipient("a@example.test"),)), ORIGIN, Direction.OUT, b"", domain="x.test", archive=False
        )

    async def test_a_body_that_left_while_it_was_read(self) -> None:
        """Would catch an alarm about a lost body when it only went home, or into the portal, before its last reader had opened it."""
        queue = await self.open()
        for copy in (None, Portal(7, "name")):
            message = await self.accept(queue, b"x" * (SHORT + 1), archive=False)
            body = await queue.body(message.id)
            assert await body.read(0, 2) == b"xx"
            (row,) = await self.claimed(queue)
            await queue.settle([Settled(row.id, RowState.DELIVERED, DELIVERED, drain=copy)])
            for path in (self.directory / "bodies").iterdir():
                path.unlink(missing_ok=True)  # a thread of the queue does so at its own time
            assert bool(await queue.rows(message=message.id)) is bool(copy)
            with pytest.raises(KeyError):
                await body.read(0, 2)
        assert self.alarms == []

    async def test_what_left_leaves_the_index_too(self) -> None:
        """Would catch mail that was delivered days ago and is queued again by a restart, because the index still has it and the journal begins later."""
        queue = await self.open()
        await self.accept(queue, archive=False)
        await queue.keeper.write(everything=True)
        assert queue.live.dirty == {}, "it is in the index as it is"
        (row,) = await self.claimed(queue)
        await queue.settle([Settled(row.id, RowState.DELIVERED, DELIVERED)])
        await queue.keeper.write(everything=True)
        async for again in self.lives(queue):
            assert await again.rows() == []
            assert again.backlog().messages == 0
