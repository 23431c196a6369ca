"""Journals and indexes of earlier builds are read, and mean what they meant.

``earlier/``: written by the last build whose rows had neither ``waits_for`` nor ``staged``, under the key of these tests. The messages whose addresses
begin with ``indexed`` are in its ``queue.db``, those with ``after`` in the journal alone; one of the latter was being tried.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from hornetmail.core.delivery.queued import Row, RowKind, RowState, Settled, WaitsFor
from hornetmail.disk.files import Disk
from hornetmail.disk.seal import Seal
from hornetmail.spool.disk.earlier import understand
from hornetmail.spool.disk.journal import LiveRow
from hornetmail.spool.start import OpenedQueue, open_queue

SAMPLE = Path(__file__).parent / "earlier"


class Earlier(TestCase):
    """The sample, opened in a copy."""

    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="hm-earlier-"))) / "queue"
        shutil.copytree(SAMPLE, self.directory)

    async def open(self) -> OpenedQueue:
        queue = await open_queue(
            reactor,
            self.directory,
            f"sqlite:///{self.directory}/queue.db",
            disk=Disk(),
            seal=Seal(b"s" * 32),
            least_free=0.0,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(queue.close()))
        return queue

    async def rows(self, queue: OpenedQueue) -> dict[str, Row]:
        """By the local part, archive rows by the recipient who is late."""
        found: dict[str, Row] = {}
        late = {row.message: row.address for _, row in await queue.rows() if ".late@" in row.address}
        for _, row in await queue.rows():
            if row.kind is RowKind.ARCHIVE:
                found[late[row.message].partition(".")[0] + ".archive"] = row
            elif row.kind is RowKind.DELIVER:
                found[row.address.partition("@")[0]] = row
        return found

    async def check(self, queue: OpenedQueue) -> None:
        rows = await self.rows(queue)
        for part in ("indexed", "after"):
            parked = rows[f"{part}.parked"]
            assert (parked.state, parked.waits_for) == (RowState.PARKED, WaitsFor.MAILBOX)
            for name in ("kept", "late"):
                assert (rows[f"{part}.{name}"].state, rows[f"{part}.{name}"].waits_for) == (RowState.QUEUED, WaitsFor.PRIMARY)
            for name in ("plain", "held", "claimed"):
                assert rows[f"{part}.{name}"].waits_for is WaitsFor.NOTHING
            assert rows[f"{part}.byhand"].reason == "emergency: so says an administrator"
            assert rows[f"{part}.archive"].staged == (rows[f"{part}.got"].id,)
            assert not rows[f"{part}.archive"].reason
        copies = {row.address: row.portal for _, row in await queue.rows(kinds=(RowKind.DRAIN,))}
        assert [copy.uncertain for copy in copies.values() if copy is not None] == [True, True]
        assert queue.remembered("modes") == {"indexed.test": b"{}", "after.test": b"{}"}

    async def test_with_its_index(self) -> None:
        """Rows out of ``queue.db`` that lose what they wait for: parked mail that nobody lets go, a mail archived twice."""
        queue = await self.open()
        await self.check(queue)
        assert [row.address for _, row in queue.claimed_at_start()] == [
            "indexed.claimed@example.test",
            "after.claimed@example.test",
        ]

    async def test_without_its_index(self) -> None:
        """The same of records: a journal is replayed as a whole when its index is gone."""
        (self.directory / "queue.db").unlink()
        await self.check(await self.open())

    async def test_an_empty_mount_point(self) -> None:
        """Would catch a queue whose disk was not mounted at the start: it began anew, empty, with all domains in normal mode, and nobody was told."""
        journal = next(path for path in self.directory.rglob("*.log")).parent
        away = journal.rename(journal.with_name("away"))
        journal.mkdir()
        with pytest.raises(FileNotFoundError, match="not mounted"):
            await self.open()
        journal.rmdir()
        away.rename(journal)
        await self.check(await self.open())

    async def test_goes_on(self) -> None:
        """What was understood is forgotten by the next restart, or by a further transition; words that an administrator chose are taken for
        a state now that rows have one of their own."""
        queue = await self.open()
        rows = await self.rows(queue)
        await queue.change([rows["indexed.held"].id], RowState.PARKED, reason="emergency: by hand")
        await queue.claim_rows([rows["after.archive"].id, rows["after.kept"].id], 4e9, lambda row: 4e9)
        await queue.settle([Settled(rows["after.archive"].id, RowState.QUEUED, None, 4e9, reason="staged 1")])
        await queue.settle([Settled(rows["after.kept"].id, RowState.QUEUED, None, 4e9, reason="kept for the primary: no")])
        for _ in range(2):
            await queue.close()
            queue = await self.open()
            now = await self.rows(queue)
            assert now["indexed.held"].waits_for is WaitsFor.NOTHING
            assert now["after.kept"].waits_for is WaitsFor.NOTHING
            assert now["after.archive"].staged == (rows["after.got"].id,)
            assert now["after.archive"].reason == "staged 1"
            assert now["indexed.parked"].waits_for is WaitsFor.MAILBOX
            (self.directory / "queue.db").unlink()


class Understood(SynchronousTestCase):
    """Rows as they stand in a record, without a queue around them."""

    def test_words_that_only_look_like_it(self) -> None:
        """Would catch a queue that does not start because the numbers in an old reason are none: of nobody, of another script, of a person's own words."""
        for text, staged in (("", ()), ("12,13", (12, 13)), ("12,,x,\u00b2,14", (12, 14)), ("by hand", ())):
            row = LiveRow(1, 1, RowKind.ARCHIVE, RowState.QUEUED, "", 0, reason="staged " + text)
            understand(row)
            assert (row.staged, row.reason) == (staged, "")
