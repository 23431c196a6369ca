"""Backups that lie on a medium and are damaged: found before somebody needs them (L3)."""

from __future__ import annotations

from pathlib import Path

from hornetmail.archive.archive import Archive
from hornetmail.testing.archives import NOW, mail
from tests.archive.cases import told
from tests.archive.test_backup import BackupCase


class Checked(BackupCase):
    async def made(self) -> tuple[Archive, list[Path]]:
        """A full backup and two increments; the folders of the three."""
        archive = await self.begin()
        for number in range(3):
            await self.put(archive, mail(f"Number{number}"))
            await self.backups.make(NOW + 3600 * number, full=number == 0)
        folders = sorted({path.parent for path in (self.medium / "backup").rglob("manifest")})
        assert len(folders) == 3
        assert await archive.verify(True) == ()
        return archive, folders

    async def test_each_damage_is_named(self) -> None:
        """Would catch a verification that is content although a backup, an older one too, could not be restored: nobody looked at backups but the drill, and it at the newest."""
        archive, folders = await self.made()
        for folder in folders:
            for path in sorted(folder.iterdir()):
                content, name = path.read_bytes(), path.relative_to(self.medium).as_posix()
                for damaged in (content[:-20], content[:50] + bytes([content[50] ^ 1]) + content[51:], None):
                    path.unlink()
                    if damaged is not None:
                        path.write_bytes(damaged)
                    found = await archive.verify(True)
                    # Where there is no manifest there is no backup.
                    gone = damaged is None and path.name == "manifest"
                    assert told(found, f"medium 1: {name}", "cannot be restored whole") or gone, (name, found)
                    assert all("backup/" in one.where for one in found), found
                    path.write_bytes(content)
        assert await archive.verify(True) == ()

    async def test_a_quick_look_at_the_newest(self) -> None:
        """Would catch a quick verification to which part of the newest backup may be missing; and one that reads all backups."""
        archive, folders = await self.made()
        for path in sorted(folders[2].iterdir()):
            if path.name != "manifest":
                content = path.read_bytes()
                path.unlink()
                assert told(await archive.verify(False), path.name, "it is missing"), path
                path.write_bytes(content)
        asked: list[str] = []
        medium = archive.media.any(1)
        real = medium.get

        def get(name: str, start: int = 0, length: int = -1) -> bytes:
            asked.append(name)
            return real(name, start, length)

        self.patch(medium, "get", get)
        assert await archive.verify(False) == ()
        assert sorted(Path(name).name for name in asked if name.startswith("backup/")) == ["control", "manifest"]

    async def test_one_that_is_dropped_meanwhile(self) -> None:
        """Would catch a backup that was dropped while it was looked at taken for a lost one."""
        archive, _ = await self.made()
        medium = archive.media.any(1)
        real = medium.get

        def get(name: str, start: int = 0, length: int = -1) -> bytes:
            if name.startswith("backup/") and name.endswith("manifest"):
                for path in self.medium.rglob("backup/*/*/*"):
                    path.unlink()
            return real(name, start, length)

        self.patch(medium, "get", get)
        assert await archive.verify(True) == ()
