"""An archive that has no time stamp yet."""

from __future__ import annotations

from hornetmail.testing.archives import mail
from tests.archive.cases import ArchiveCase


class NoStamps(ArchiveCase):
    async def test_what_stamps_say_of_the_clock(self) -> None:
        """Rule 19: would catch a clock that is confirmed while there is no stamp, and the first stamp, which disagrees with it, passed over for that."""
        archive = await self.fresh()
        assert archive.stamps.clocks() == (0, 0.0, 0.0)
        assert archive.stamps.unstamped() == 0
        await self.put(archive, mail("One"))
        assert archive.stamps.unstamped() == 1, "those included that wait to be sealed"
        await archive.flush(seal=True)
        assert archive.stamps.unstamped() == 1
