"""``queue.db`` is locked by another program: it is told of at once, and of all that the queue does only its index waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from hornetmail.core.delivery.queued import RowState, Settled
from hornetmail.db import pool
from hornetmail.db.pool import Watch
from hornetmail.spool import keeper
from tests.db.test_held import Locker, impatient
from tests.spool.test_queue import DELIVERED, Base, D, never


class Locked(Base):
    async def test_mail_flows(self) -> None:
        """Would catch a lock that nobody hears of for as long as mail flows, or one that holds up mail, or orders for thousands of rows, or the start
        after it. What the index did not hear is in it once it can be."""
        self.patch(pool, "HELD_SECONDS", 0.05)
        self.patch(keeper, "LAG", 0.0)
        self.patch(keeper, "EVERY", 0.01)
        self.patch(keeper, "AGAIN", 0.05)
        self.patch(keeper, "BEHIND", 3)
        told: list[bool] = []
        hears: list[Deferred[None]] = [Deferred(), Deferred()]

        def heard(file: str, held: bool) -> None:
            told.append(held)
            if len(told) <= len(hears):
                hears[len(told) - 1].callback(None)

        queue = await self.open(watch=Watch(self.broke, 0, heard))
        await queue.keeper._index._database.alone(impatient)
        other = Locker(Path(self.url.removeprefix("sqlite://")))
        self.addCleanup(other.connection.close)
        other.lock()
        mails = [await self.accept(queue) for _ in range(20)]
        await hears[0]
        assert told == [True]
        rows = [row.id for _, row in await queue.rows(kinds={D})]
        assert await queue.change(rows, RowState.QUEUED, due=1.0) == 20, "nor is an order for more than the index keeps up with"
        claims = await queue.claim(2.0, 5, never, kinds={D})
        assert len(claims) == 5
        await queue.settle([Settled(claim.rows[0].id, RowState.DELIVERED, DELIVERED) for claim in claims])
        await queue.remember("space", "key", b"value")
        crashed = await self.crash(queue)
        assert len(await crashed.rows(kinds={D})) == len(await queue.rows(kinds={D})) == 20
        other.let_go()
        await hears[1]
        assert told == [True, False]
        await queue.keeper.write(everything=True)
        assert not await queue.keeper._index.more_than(len(mails))
        assert len(await queue.keeper._index.page(0)) == 20
        again = await self.reopen(queue)
        assert [row.state for _, row in await again.rows(kinds={D})].count(RowState.DELIVERED) == 5
        assert again.remembered("space") == {"key": b"value"}

    def broke(self, file: str, error: Any) -> None:
        raise AssertionError(f"{file} is not broken: {error}")
