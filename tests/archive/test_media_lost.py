"""A medium that goes out of reach, and what is asked of it afterwards: nothing, since a server that hangs takes a minute for each answer."""

from __future__ import annotations

from hornetmail.archive.archive import Archive
from hornetmail.archive.media.medium import MediumAway
from hornetmail.core.archive.archived import Finding
from hornetmail.disk.files import DiskFull
from hornetmail.testing.archives import mail
from tests.archive import test_mirror
from tests.archive.cases import told


class Lost(test_mirror.MirrorCase):
    asked: list[str]

    async def two(self) -> Archive:
        """Four packs on medium 2, one on medium 1, which is the active one."""
        archive = await self.begin()
        archive.media.change([archive.media.any(1), archive.media.any(2)], 2, frozenset(), {})
        for number in range(4):
            await self.put(archive, mail(f"Second{number}"))
            await archive.flush(seal=True)
        archive.media.change([archive.media.any(1), archive.media.any(2)], 1, frozenset(), {})
        await self.put(archive, mail("First"))
        await archive.flush(seal=True)
        assert await archive.verify(True) == ()
        return archive

    def goes(self, archive: Archive, after: int) -> None:
        """Medium 2 gives so many objects more, and is gone then."""
        self.asked = []
        medium = archive.media.any(2)
        real = medium.get

        def get(name: str, start: int = 0, length: int = -1) -> bytes:
            self.asked.append(name)
            if len(self.asked) > after:
                raise MediumAway("medium 2 is out of reach: no answer in time")
            return real(name, start, length)

        self.patch(medium, "get", get)

    @staticmethod
    def of_two(findings: tuple[Finding, ...]) -> list[str]:
        return [one.what for one in findings if one.where.startswith("medium 2")]

    async def test_verify_of_one_that_is_away(self) -> None:
        """Would catch a verification that asks a medium which is away for each of its packs, and for each record in them once more, a minute each, and says the same each time."""
        archive = await self.two()
        (self.top / "second").rename(self.top / "unmounted")
        self.goes(archive, 10_000)
        findings = tuple(await archive.verify(True))
        found = self.of_two(findings)
        assert len(found) == 2, found
        assert "medium 2 is out of reach" in found[0]
        assert found[1] == "4 packs that lie there were not read"
        assert len(self.asked) == 1, self.asked
        assert told(findings, "missing on the media that were asked; not asked: medium 2"), findings
        (self.top / "unmounted").rename(self.top / "second")
        assert await archive.verify(True) == ()

    async def test_verify_of_one_that_goes_meanwhile(self) -> None:
        """The same, where it goes behind the first of its packs; those of the other one are read."""
        archive = await self.two()
        # The wrapped keys, four runs of leaves, one pack.
        self.goes(archive, 6)
        found = self.of_two(tuple(await archive.verify(True)))
        assert found == ["medium 2 is out of reach: no answer in time", "3 packs that lie there were not read"]
        assert len([name for name in self.asked if name.startswith("packs/")]) == 2

    async def test_verify_of_one_that_takes_no_mark(self) -> None:
        """Would catch a verification that ends with an error, and has looked at nothing, because one medium is full; it can be read, and is."""
        archive = await self.two()

        def look() -> None:
            raise DiskFull(28, "medium 2 is full")

        self.goes(archive, 10_000)
        self.patch(archive.media.any(2), "look", look)
        found = self.of_two(tuple(await archive.verify(True)))
        assert found == ["medium 2 is full"]
        assert len([name for name in self.asked if name.startswith("packs/")]) == 4

    async def test_rebuild_while_it_goes(self) -> None:
        """Would catch packs called damaged or missing that lie on a medium which is away, and each of them waited for twice."""
        archive = await self.two()
        # Heads of four packs, then the first of them whole.
        self.goes(archive, 5)
        findings = tuple(await archive.rebuild())
        found = self.of_two(findings)
        assert len(found) == 2, found
        assert "went out of reach" in found[0]
        assert found[1] == "3 packs and journals that lie there were not read, and are not in the new index"
        assert not told(findings, "damaged"), findings
        assert not told(findings, "the pack is missing"), findings
        assert await self.total(archive, "subject:first") == 1

    async def test_rebuild_without_it(self) -> None:
        """The same, where it was away from the beginning."""
        archive = await self.two()
        (self.top / "second").rename(self.top / "unmounted")
        findings = tuple(await archive.rebuild())
        assert len([what for what in self.of_two(findings) if "nothing that lies there is in the new index" in what]) == 1
        assert not told(findings, "the pack is missing"), findings

    async def test_repair_while_it_goes(self) -> None:
        """Would catch a repair that asks for each pack of a medium that is away, and tries to put each back there."""
        archive = await self.two()
        await self.follow()
        self.goes(archive, 1)
        found = self.of_two(tuple(await self.repair(True)))
        assert found == ["medium 2 is out of reach: no answer in time"]
        assert len([name for name in self.asked if name.startswith("packs/")]) == 2
