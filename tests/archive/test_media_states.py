"""What people are shown of a medium."""

from __future__ import annotations

from tests.archive import test_media_care


class States(test_media_care.Care):
    locals().update({name: None for name in dir(test_media_care.Care) if name.startswith("test_")})

    async def test_a_medium_that_nobody_has_looked_at(self) -> None:
        """Would catch room, or a moment, told of a medium of which nothing is known yet."""
        archive = await self.open()
        archive.watch._health.clear()
        state = await self.state(1)
        assert (state.total, state.free, state.since, state.up, state.why) == (0, 0, 0.0, False, "")
        assert (state.kind, state.active, state.used, state.copied, state.moved_to, state.moving_to) == (
            "directory",
            True,
            True,
            0,
            0,
            0,
        )
        archive.watch.look()
        state = await self.state(1)
        assert state.total > state.free > 0
        assert (state.since, state.up, state.mails, state.packs) == (self.clock.seconds(), True, 0, 0)
