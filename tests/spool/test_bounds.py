"""The queue where it ends: the last room on its disk, and messages that are on their way out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hornetmail.core.delivery.queued import Portal, RowState, Settled
from hornetmail.core.mail.envelope import Direction, Envelope, Recipient
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.disk.segment import Damage
from hornetmail.spool.disk.deposit import SHORT
from hornetmail.spool.disk.journal import Kind, Remembered
from hornetmail.spool.start import _tell_damage
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

    async def test_how_much_the_index_has(self) -> None:
        """Would catch a start that takes a small index for a large one, or the other way round."""
        queue = await self.open()
        for _ in range(2):
            await self.accept(queue)
        await queue.keeper.write(everything=True)
        assert [await queue.keeper._index.more_than(most) for most in (0, 1, 2, 3)] == [True, True, False, False]

    async def test_only_what_lies_in_old_segments_is_copied_forward(self) -> None:
        """Would catch a journal that writes all facts anew whenever one segment goes: a busy one would do little else."""
        queue = await self.open(segment_bytes=40_000)
        await queue.remember("s", "old", b"1")
        await queue.remember("s", "forgotten", b"1")
        for _ in range(3):
            for _ in range(20):
                await self.accept(queue, b"x" * 4000, archive=False)
            await queue.change([row.id for _, row in await queue.rows()], RowState.REMOVED)
        await queue.remember("s", "forgotten", None)
        await queue.remember("s", "young", b"1")
        copied: list[str] = []
        submit = queue.tidying._submit

        async def watched(kind: Kind, record: Any) -> None:
            copied.extend([record.key] if isinstance(record, Remembered) and record.space == "s" else [])
            await submit(kind, record)

        queue.tidying._submit = watched
        assert await queue.tidy() > 2
        assert copied == ["old"]
        async for again in self.lives(queue):
            assert again.remembered("s") == {"old": b"1", "young": b"1"}


@pytest.mark.parametrize(
    ("count", "more"), [(1, ""), (5, ""), (6, "; and 1 more, see the log"), (900, "; and 895 more, see the log")]
)
def test_damage_that_is_named(count: int, more: str) -> None:
    """Would catch an alarm that leaves a damaged place out, says that there are none more, or grows with the damage."""
    damage = [Damage(7, 100 * number, 9, "checksum") for number in range(count)]
    said: list[tuple[str, str]] = []
    segments: set[int] = set()
    queue: Any = SimpleNamespace(replayed=SimpleNamespace(damage=damage), reading=SimpleNamespace(damaged=segments))
    journal: Any = SimpleNamespace(name=lambda segment: f"{segment}.log")
    _tell_damage(queue, journal, lambda code, text: said.append((code, text)))
    ((code, text),) = said
    assert (code, segments) == ("queue-damage", {7})
    assert [text.count(f"7.log at {100 * number}, 9 bytes: checksum") for number in range(6)] == [
        int(number < min(5, count)) for number in range(6)
    ]
    assert text.endswith(more or "checksum")
