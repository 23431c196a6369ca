"""What the tests of the whole archive share."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from hornetmail.archive.archive import Archive
from hornetmail.core.archive.archived import ArchiveItem, Finding, Hit
from hornetmail.core.served import Scope
from hornetmail.testing.archives import AUDITOR, NOW, BytesBody, Clock, item, make_archive


class ArchiveCase(TestCase):
    """Makes archives in a temporary directory, and stops them."""

    def setUp(self) -> None:
        self.top = Path(self.mktemp()).resolve()
        self.top.mkdir(parents=True)
        self.row = 0
        self.clock = Clock(reactor)

    @property
    def medium(self) -> Path:
        return self.top / "medium"

    async def fresh(self, **more: Any) -> Archive:
        """A new archive, started."""
        archive = make_archive(self.clock, self.top, **more)
        archive.create()
        return await self.started(archive)

    async def reopened(self, **more: Any) -> Archive:
        """The same directory once more, as after a restart."""
        return await self.started(make_archive(self.clock, self.top, **more))

    async def started(self, archive: Archive) -> Archive:
        await archive.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(archive.stop()))
        return archive

    async def put(self, archive: Archive, raw: bytes, given: ArchiveItem | None = None, **more: Any) -> None:
        """Stage a mail under a new row."""
        self.row += 1
        await archive.stage(given or item(self.row, **more), BytesBody(raw))

    async def night(self, archive: Archive, days: float) -> tuple[int, int]:
        """Retention that many days after ``NOW``, at 02:30 and 03:40; how many were marked, and how many went."""
        self.clock.now = NOW + days * 86400.0
        marked = await archive.mark(self.clock.seconds())
        self.clock.now += 70 * 60.0
        return marked, await archive.purge(self.clock.seconds())

    async def total(self, archive: Archive, query: str, scope: Scope = AUDITOR) -> int:
        return (await archive.search(scope, query)).total

    async def only(self, archive: Archive, query: str, scope: Scope = AUDITOR) -> Hit:
        page = await archive.search(scope, query)
        assert page.total == 1, (query, page)
        return page.results[0]

    def packs(self) -> list[Path]:
        return sorted(self.medium.rglob("*.pack"))

    def wipe_local(self) -> None:
        """Lose everything but the media and the key (L3)."""
        shutil.rmtree(self.top / "archive")


def told(findings: Sequence[Finding], *words: str) -> bool:
    """Whether some finding names all of these."""
    return any(all(word in f"{f.where} {f.what}" for word in words) for f in findings)
