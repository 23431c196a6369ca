"""Pages of the queue: who and what is on them."""

from __future__ import annotations

from tests.spool.test_queue import Base


class Pages(Base):
    async def test_what_memory_has_is_shown_whole(self) -> None:
        """Would catch a list without envelopes in which mail that is at hand has no sender, no size and no way in, as if it were lost."""
        queue = await self.open()
        message = await self.accept(queue, to=("a@example.test", "b@example.test"))
        assert [found for found, _ in await queue.rows(envelopes=False)] == [message] * 3
