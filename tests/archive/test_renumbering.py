"""Mail that a second installation staged, under leaf numbers that the first one gave away meanwhile (rule 17, ADR 38)."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

from hornetmail.archive.archive import Archive
from hornetmail.archive.index.ties.leaves import audit_leaves
from hornetmail.archive.proof.leaves import audit_input, leaf_hash
from hornetmail.archive.store.records import EventMeta, What
from hornetmail.archive.store.renumbering import Renumbering
from hornetmail.core.events import Alarm
from hornetmail.testing.archives import AUDITOR, NOW, mail, make_archive
from tests.archive.cases import ArchiveCase
from tests.archive.test_stamping import Alarms

DIGEST = b"d" * 32


class Broken(Exception):
    """The process ended."""


class Renumbers(ArchiveCase):
    def setUp(self) -> None:
        super().setUp()
        self.alarms: list[Alarm] = []

    async def two(self) -> None:
        """The directory of the second installation, which is stopped: three mails and a row of the audit log staged, whose numbers are those of four sealed mails on the medium."""
        archive = await self.fresh()
        await self.put(archive, mail("before"))
        await archive.flush(seal=True)
        await archive.stop()
        shutil.copytree(self.top / "archive", self.top / "copy")
        for number in range(4):
            archive = await self.reopened()
            await self.put(archive, mail(f"first {number}"))
            await archive.flush(seal=True)
            await archive.stop()
        there, self.away = self.medium, self.top / "elsewhere"
        shutil.rmtree(self.top / "archive")
        (self.top / "copy").rename(self.top / "archive")
        there.rename(self.away)
        shutil.copytree(self.away, there)
        for name in sorted(there.rglob("*.run"))[1:]:
            name.unlink()
        archive = await self.reopened()
        for number in range(3):
            await self.put(archive, mail(f"second {number}"))
        await archive.flush()
        event = EventMeta(What.AUDIT, NOW, text=f"7 {DIGEST.hex()}")
        await archive.holdings.staging.add_event(0, event, leaf_hash(audit_input(7, DIGEST, NOW)))
        assert archive.holdings.leaves.size == 1
        assert [entry.leaf for entry in self.staged(archive)] == [1, 2, 3, 4]
        await archive.stop()
        shutil.rmtree(there)
        self.away.rename(there)

    async def test_read_before_a_rebuild(self) -> None:
        """Catches an index that looks for staged mail where it lay before its log was written anew."""
        await self.two()
        archive = await self.again()
        hits = (await archive.search(AUDITOR, "second", limit=10)).results
        assert sorted([(await archive.read(AUDITOR, hit.id)).count(b"second") for hit in hits]) == [1, 1, 1]
        await archive.stop()

    @staticmethod
    def staged(archive: Archive) -> list[Any]:
        segments = archive.holdings.staging.segments
        return [entry for number in sorted(segments) for entry in segments[number]]

    async def again(self, **more: Any) -> Archive:
        return await self.reopened(bus=Alarms(self.alarms), **more)

    async def whole(self, archive: Archive) -> None:
        """All is readable, once, each under a number of its own, on the medium and here."""
        assert not [found for found in await archive.rebuild() if "ends" not in found.what]
        assert await archive.verify(full=True) == ()
        await archive.flush(seal=True)
        assert await archive.verify(full=True) == ()
        for subject in ("before", *(f"first {n}" for n in range(4)), *(f"second {n}" for n in range(3))):
            hit = await self.only(archive, f'subject:"{subject}"')
            assert (await (await archive.body(AUDITOR, hit.id)).read()).startswith(b"From: Alice"), subject
        leaves = [leaf for (leaf,) in await archive.index().read(_leaves)]
        assert len(leaves) == len(set(leaves)) == 8
        [audit] = await archive.index().read(audit_leaves)
        assert (audit.number, audit.digest) == (7, DIGEST)
        assert audit.leaf not in leaves

    async def test_new_numbers(self) -> None:
        """Catches two mails with one leaf: the second one's is readable, is in no proof, and verify finds fault with it for ever."""
        await self.two()
        archive = await self.again()
        assert archive.holdings.leaves.size == 5
        assert [entry.leaf for entry in self.staged(archive)] == [5, 6, 7, 8]
        assert [alarm.code for alarm in self.alarms] == ["archive-renumbered"]
        assert "4 staged records" in self.alarms[0].text
        await self.whole(archive)
        await archive.stop()
        self.alarms.clear()
        archive = await self.again()
        assert self.alarms == [], "once"

    async def test_nothing_to_do(self) -> None:
        """Catches a start that writes anew what a seal that was cut off behind the leaf log left staged, whose leaves are there; and one that writes anew what has numbers of its own."""
        archive = await self.fresh()
        await self.put(archive, mail("one"))
        await archive.flush()
        staging = archive.holdings.staging
        with patch.object(staging, "leave", side_effect=OSError(errno.EIO, "cut off")):
            try:
                await archive.flush(seal=True)
            except OSError:
                pass
        assert archive.holdings.leaves.size == 1
        await self.put(archive, mail("two"))
        await archive.stop()
        before = sorted(path.name for path in (self.top / "archive" / "staging").iterdir())
        archive = await self.again()
        assert [entry.leaf for entry in self.staged(archive)] == [0, 1]
        assert self.alarms == []
        assert set(before) <= {path.name for path in (self.top / "archive" / "staging").iterdir()}
        await archive.flush(seal=True)
        assert await archive.verify(full=True) == ()

    async def test_cut_off_at_each_step(self) -> None:
        """Between two steps: catches a record that is lost, or there twice, because the process ended, or the disk was full, while all was written anew."""
        await self.two()
        shutil.copytree(self.top, self.top.with_name("kept"))
        steps = 0
        while True:
            shutil.rmtree(self.top)
            shutil.copytree(self.top.with_name("kept"), self.top)
            if not await self._ends_at(steps):
                break
            archive = await self.again()
            records = [entry.record for entry in self.staged(archive)]
            assert len(records) == len(set(records)) == 4, steps
            leaves = [entry.leaf for entry in self.staged(archive)]
            assert leaves == sorted(set(leaves))
            assert leaves[0] >= 5, (steps, leaves)
            await self.whole(archive)
            await archive.stop()
            steps += 1
        assert steps > 4, "as many were cut off"

    async def _ends_at(self, step: int) -> bool:
        """Start, and end at a step of the log's writing anew; whether there was one."""
        left = step

        def ending(call: Callable[..., Any], *given: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Broken
            left -= 1
            return call(*given, **more)

        archive = make_archive(self.clock, self.top)
        run = Renumbering.run
        records = archive.holdings.staging.records

        def cut(one: Renumbering) -> int:
            names = ("append", "sync", "drop")
            with patch.multiple(records, **{name: partial(ending, getattr(records, name)) for name in names}):
                return run(one)

        try:
            with patch.object(Renumbering, "run", cut):
                await archive.start()
        except Broken:
            archive.holdings.staging.records.close()
            return True
        await archive.stop()
        return False

    async def test_full_disk(self) -> None:
        """8f: catches an archive that does not come up, or mail that is gone, because there was no room to write it anew; and nobody who is told."""
        await self.two()
        with patch.object(Renumbering, "_write", side_effect=OSError(errno.ENOSPC, "no room")):
            archive = await self.again()
        assert [alarm.code for alarm in self.alarms] == ["archive-renumbered"]
        assert [entry.leaf for entry in self.staged(archive)] == [1, 2, 3, 4]
        assert await self.total(archive, "second") == 3
        await archive.stop()
        archive = await self.again()
        await self.whole(archive)


def _leaves(cursor: Any) -> list[tuple[int]]:
    return list(cursor.execute("SELECT leaf FROM mail").fetchall())
