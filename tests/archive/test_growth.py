"""What must not grow with the age of an archive: a start, and a short verification."""

from __future__ import annotations

from typing import Any

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.packs import accounts, leafcheck, verify
from hornetmail.archive.care.packs.rebuild import BATCH, BATCH_BYTES, in_batches
from hornetmail.archive.care.packs.verify import sample_of
from hornetmail.archive.proof.leaves import encode_run
from hornetmail.archive.store.packs import Member
from hornetmail.archive.store.records import Kind
from hornetmail.archive.store.shelf import PackRow
from hornetmail.testing.archives import AUDITOR, NOW, mail
from tests.archive.cases import ArchiveCase, told

DAY = 86400.0


class Growth(ArchiveCase):
    async def filled(self) -> Archive:
        """Twelve leaves in twelve runs, of which a short look takes four."""
        self.patch(accounts, "STRETCH", 4)
        self.patch(leafcheck, "STRETCH", 4)
        archive = await self.fresh()
        for n in range(12):
            await self.put(archive, mail(f"Number{n}"), retention_days=40 * (1 + n % 3))
            await archive.flush(seal=True)
        return archive

    def watched(self, archive: Archive) -> list[str]:
        """Runs of leaves that are read on the medium from now on."""
        medium, read = archive.media.active, list[str]()
        get = medium.get

        def watch(name: str, *more: Any) -> bytes:
            if name.startswith("leaves/"):
                read.append(name)
            return bytes(get(name, *more))

        self.patch(medium, "get", watch)
        return read

    def other_leaf(self, archive: Archive, number: int) -> None:
        """On the medium, one leaf is another one."""
        archive.media.active.put(archive.holdings.leaves.name_at(number), encode_run(number, [bytes(32)]))

    async def test_a_short_look_at_the_leaves(self) -> None:
        """Catches a short verification that reads all leaves on all media, however old the archive; or that never comes back to what is old."""
        archive = await self.filled()
        read = self.watched(archive)
        assert await archive.verify() == ()
        assert len(read) == 12, "the first look is at all"
        seen = set()
        for _ in range(3):
            read.clear()
            assert await archive.verify() == ()
            assert len(read) == 4
            seen |= set(read)
        assert len(seen) == 12
        await self.put(archive, mail("New"))
        await archive.flush(seal=True)
        read.clear()
        assert await archive.verify() == ()
        assert len(read) == 5
        assert read[-1].endswith("12.run")
        read.clear()
        assert await archive.verify(True) == ()
        assert len(set(read)) == 13

    async def test_the_first_look_of_all(self) -> None:
        """Catches a first short verification that reads all leaves of an archive that is ten years old (68 s of ten millions), and leaves that none of the next ones comes to."""
        self.patch(leafcheck, "NEW", 1)
        archive = await self.filled()
        read = self.watched(archive)
        seen, counts = set(), []
        for _ in range(3):
            read.clear()
            assert await archive.verify() == ()
            counts.append(len(read))
            seen |= set(read)
        assert (counts, len(seen)) == ([4, 8, 8], 12)
        read.clear()
        assert await archive.verify(True) == ()
        assert len(set(read)) == 12

    async def test_wrong_before_anybody_looked(self) -> None:
        """Catches damage behind the first stretch that a short verification takes for looked at, because the one before it was well."""
        self.patch(leafcheck, "NEW", 1)
        archive = await self.filled()
        self.other_leaf(archive, 9)
        assert [bool(await archive.verify()) for _ in range(4)] == [False, False, True, True]

    async def test_what_is_old_and_wrong_is_found(self) -> None:
        """Catches damage in what was looked at once that no short verification finds any more, and one that is told once and then forgotten."""
        archive = await self.filled()
        assert await archive.verify() == ()
        self.other_leaf(archive, 9)
        assert [bool(await archive.verify()) for _ in range(5)] == [False, False, True, True, True]
        assert told(await archive.verify(True), "1 leaves differ", "leaf 9", "another one")

    async def test_a_missing_run_is_noticed_at_once(self) -> None:
        """Catches a short verification that goes by what it reads alone: of what it does not read it knows whether it is there."""
        archive = await self.filled()
        assert await archive.verify() == ()
        archive.media.active.delete(archive.holdings.leaves.name_at(10))
        assert told(await archive.verify(), "1 leaves differ", "leaf 10", "missing on the media")

    async def test_a_mail_without_a_trace(self) -> None:
        """Catches an index that lost a row, in what was looked at once: within as many short looks as there are stretches, and until it is mended."""
        archive = await self.filled()
        assert await archive.verify() == ()
        await archive.index().run(lambda cursor: cursor.execute("DELETE FROM mail WHERE leaf = 5").fetchall())
        await archive.index().run(lambda cursor: cursor.execute("DELETE FROM arrival WHERE leaf = 5").fetchall())
        await archive.index().run(
            lambda cursor: [
                cursor.execute(f"DELETE FROM fts_{m}") for (m,) in cursor.execute("SELECT month FROM month").fetchall()
            ]
        )
        self.patch(verify, "MONTH_MAILS", 0)
        found = [await archive.verify() for _ in range(4)]
        assert [told(one, "nowhere in the archive", "leaf 5") for one in found] == [False, True, True, True]

    async def test_full_texts_are_counted_in_turn(self) -> None:
        """Catches a short verification that counts all full texts; or that counts those of the same month each time."""
        archive = await self.filled()
        months = [
            m for (m,) in await archive.index().read(lambda c: c.execute("SELECT month FROM month ORDER BY month").fetchall())
        ]
        assert len(months) == 3
        self.patch(verify, "MONTH_MAILS", 1)
        last = months[-1]
        await archive.index().run(lambda cursor: cursor.execute(f"DELETE FROM fts_{last}").fetchall())
        found = []
        for _ in range(4):
            self.clock.now += 1.0
            found.append(told(await archive.verify(), f"fts_{last}", "0 full texts for 4 mails"))
        assert found == [False, False, True, True]

    def test_a_sample_has_a_bound(self) -> None:
        """Catches a short verification that opens eight packs of a hundred thousand small mails each."""
        packs = [PackRow(n, 1, bytes(16), 1, 202601, 1 << 20, bytes(32), 40_000, 0, NOW, 0.0) for n in range(20)]
        assert len(sample_of(packs)) == 1
        assert len(sample_of([one for one in packs if one.number % 2])) == 1

    async def test_the_tally_is_right(self) -> None:
        """Catches a start that counts every mail, or a tally that is not the count: mail comes, comes again, is purged and deleted, the index is made anew."""
        archive = await self.filled()
        await self.put(archive, mail("Number3"))
        await archive.flush(seal=True)
        first = (await archive.search(AUDITOR, "", limit=1)).results[0]
        await archive.keeping.delete(1, [first.id], "admin", "asked for")
        await archive.confirm_purge()
        assert await self.night(archive, 50) == (3, 0), "one of the four came again, and is kept longer"
        assert (await self.night(archive, 51))[1] == 3
        await self.counted(archive, 8)
        await archive.stop()
        again = await self.reopened()
        await self.counted(again, 8)
        await again.rebuild()
        await self.counted(again, 8)

    async def counted(self, archive: Archive, mails: int) -> None:
        count = await archive.index().read(lambda c: c.execute("SELECT count(*), sum(size) FROM mail").fetchone())
        assert (archive.standing.mails, archive.standing.raw) == tuple(count)
        assert archive.standing.mails == mails


def test_batches_have_a_bound() -> None:
    """Catches a rebuild that holds the texts of 512 large mails at once, one that leaves a record out, and one that never gets past a record which is larger than a batch."""
    sizes = [1 << 20] * 10 + [9 << 20] + [100] * 1200
    members = [Member(bytes([n >> 8, n & 255]) * 8, Kind.MESSAGE, n, size, bytes(32)) for n, size in enumerate(sizes)]
    batches = list(in_batches(members))
    assert [member for batch in batches for member in batch] == members
    assert all(len(batch) <= BATCH for batch in batches)
    assert all(sum(member.length for member in batch) <= BATCH_BYTES or len(batch) == 1 for batch in batches)
    assert len(batches) == 3 + 1 + 3
    assert list(in_batches([])) == []
