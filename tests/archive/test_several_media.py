"""Where several say something of the same: two media of one name, several leaves that differ."""

from __future__ import annotations

from hornetmail.archive.proof.leaves import encode_run
from hornetmail.testing.archives import mail
from tests.archive import test_mirror
from tests.archive.cases import ArchiveCase, told


class TwoOfOneName(test_mirror.MirrorCase):
    async def test_the_active_one_counts(self) -> None:
        """A32: would catch a mirror that lacks a pack because another medium has a damaged one of its name, as a medium that is moved away from does."""
        archive = await self.begin()
        await self.fill(archive, "one")
        [pack] = self.packs()
        content = pack.read_bytes()
        damaged = content[:100] + bytes([content[100] ^ 1]) + content[101:]
        name = pack.relative_to(self.top / "medium")
        there, mirrored = self.top / "second" / name, self.top / "mirror" / name
        there.parent.mkdir(parents=True)
        for active, sound, other in ((1, pack, there), (2, there, pack)):
            archive.media.change([archive.media.any(1), archive.media.any(2)], active, frozenset(), {})
            sound.write_bytes(content)
            other.write_bytes(damaged)
            mirrored.unlink(missing_ok=True)
            await self.follow()
            assert mirrored.read_bytes() == content


class SeveralLeaves(ArchiveCase):
    async def test_the_first_is_named(self) -> None:
        """Rule 17: would catch a finding that names another leaf than the first that differs, or another number of them; the very first leaf too."""
        archive = await self.fresh()
        for number in range(4):
            await self.put(archive, mail(f"Number{number}"))
            await archive.flush(seal=True)
        medium, name_at = archive.media.active, archive.holdings.leaves.name_at
        for wrong, said in (((0,), "1 leaves differ, the first is leaf 0"), ((0, 2), "2 leaves differ, the first is leaf 0")):
            for number in wrong:
                medium.put(name_at(number), encode_run(number, [bytes(32)]))
            assert told(await archive.verify(True), said, "another one on the media")
        medium.delete(name_at(1))
        assert told(await archive.verify(True), "3 leaves differ, the first is leaf 0", "another one on the media")
