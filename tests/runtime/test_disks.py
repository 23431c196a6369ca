"""The 90 % rule for every file system that is written to (rule 20)."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.disk import space
from hornetmail.disk.anchor import Anchor
from hornetmail.disk.files import Disk
from hornetmail.disk.space import measure
from hornetmail.runtime.disks import Disks
from hornetmail.testing.control import ListeningBus


class Figures:
    """What statvfs says."""

    def __init__(self, used: float, inodes: float = 0.0) -> None:
        self.f_blocks, self.f_bavail = 1000, round(1000 * (1 - used))
        self.f_files, self.f_favail = 1000, round(1000 * (1 - inodes))


class DisksTest(TestCase):
    def setUp(self) -> None:
        self.bus = ListeningBus()
        self.folder = Path(tempfile.mkdtemp(prefix="hm-disks-"))
        self.addCleanup(self.folder.rmdir)
        self.places = {"portal": self.folder, "archive staging": self.folder}
        self.figures: Any = Figures(0.5)
        self.patch(space.os, "statvfs", self.statvfs)
        self.disks = Disks(self.bus, self.offload, lambda: self.places, 0.9)

    def statvfs(self, path: Path) -> Any:
        if not path.exists():
            raise FileNotFoundError(2, os.strerror(2))
        return self.figures

    async def offload(self, function: Any, *args: Any) -> Any:
        return function(*args)

    async def look(self, used: float, inodes: float = 0.0) -> list[Any]:
        self.bus.published.clear()
        self.figures = Figures(used, inodes)
        await self.disks.look()
        return self.bus.published

    async def test_full_and_room_again(self) -> None:
        """Would catch a full portal disk of which nobody hears, an alarm at each look, and one that flickers at the limit."""
        assert await self.look(0.89) == []
        [alarm] = await self.look(0.91)
        assert isinstance(alarm, Alarm)
        assert alarm.code == "disk-full"
        assert "portal, archive staging" in alarm.text
        assert "91%" in alarm.text
        assert "archive staging" in self.disks.unfit(("archive staging",))
        assert not self.disks.unfit(("queue",))
        assert await self.look(0.95) == []
        assert await self.look(0.89) == [], "not yet"
        assert self.disks.over("disk-full", alarm.subject) == ""
        [ended] = await self.look(0.87)
        assert isinstance(ended, AlarmEnded)
        assert ended.subject == alarm.subject
        assert not self.disks.unfit(("archive staging",))
        assert self.disks.over("disk-full", alarm.subject)

    async def test_inodes(self) -> None:
        """A Maildir uses up inodes, not blocks."""
        [alarm] = await self.look(0.1, inodes=0.95)
        assert alarm.code == "disk-full"

    async def test_another_disk_in_its_place(self) -> None:
        """Would catch a disk that was taken away of which nobody hears, because its mount point is there; and mail still taken for it."""
        home = Path(tempfile.mkdtemp(prefix="hm-disks-"))
        self.addCleanup(shutil.rmtree, home)
        anchor = Anchor(home / "queue", Disk())
        anchor.renew()
        self.disks = Disks(self.bus, self.offload, lambda: {"queue": home}, 0.9, {"queue": anchor})
        assert await self.look(0.5) == []
        os.rename(home / "queue", home / "away")
        shutil.copytree(home / "away", home / "queue")
        [alarm] = await self.look(0.5)
        assert (alarm.code, alarm.subject) == ("disk-away", "queue")
        assert "another disk" in alarm.text
        assert "away" in self.disks.unfit(("queue",))
        shutil.rmtree(home / "queue")
        assert await self.look(0.5) == []
        os.rename(home / "away", home / "queue")
        [ended] = await self.look(0.5)
        assert isinstance(ended, AlarmEnded)
        assert not self.disks.unfit(("queue",))

    async def test_away(self) -> None:
        """A medium that is not there must be told, and must not keep the others from being looked at."""
        self.places = {"archive medium 1": self.folder / "gone", "portal": self.folder}
        found = await self.look(0.95)
        assert sorted(alarm.code for alarm in found) == ["disk-away", "disk-full"]
        self.places = {"portal": self.folder}
        [ended] = await self.look(0.95)
        assert (ended.code, ended.subject) == ("disk-away", "archive medium 1")


class MeasureTest(TestCase):
    def test_a_real_one(self) -> None:
        """Two places on one file system are one; the figure is a share."""
        folder = Path(tempfile.mkdtemp(prefix="hm-disks-"))
        self.addCleanup(folder.rmdir)
        [found], away = measure({"one": folder, "two": folder.parent})
        assert found.places == ("one", "two")
        assert 0 < found.used <= 1
        assert not away
        assert str(folder).startswith(found.mount)
