"""An archive that has no time stamp yet, and one that has its first."""

from __future__ import annotations

from hornetmail.archive.proof.leaves import VOID
from hornetmail.archive.proof.tokens import read_token
from hornetmail.testing.archives import mail
from tests.archive.cases import ArchiveCase
from tests.archive.test_stamping import StampCase


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


class FirstStamp(StampCase):
    async def test_what_it_says_of_the_clock(self) -> None:
        """Rule 19: would catch a clock that is held against the end of a certificate instead of against the moment that was stamped: nothing would be purged any more."""
        self.use(self.authority())
        archive = await self.fresh(**self.more())
        await self.put(archive, mail("One"), received=self.clock.now)
        await archive.flush(seal=True)
        await archive.stamps.stamp()
        newest = archive.stamps.stamps.newest
        assert newest is not None
        assert archive.stamps.clocks() == (1, newest.head.made / 1000, read_token(newest.token).at)

    async def test_leaves_of_the_audit_log_leave_no_gap(self) -> None:
        """L14, rule 17: would catch a void leaf behind each leaf of the audit log, which are thousands in ten years."""
        self.use(self.authority())
        archive = await self.fresh(**self.more())
        self.audit.hashes = [b"h" * 32]
        for number, leaves in enumerate((2, 3), 1):
            await self.put(archive, mail(f"Mail {number}"), received=self.clock.now)
            await archive.flush(seal=True)
            await archive.stamps.stamp()
            await archive.flush(seal=True)
            assert archive.holdings.leaves.size == leaves
        assert VOID not in archive.holdings.leaves.hashes()
