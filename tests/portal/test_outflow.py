"""Copies on their way home out of a large INBOX: what it costs, and one bad one among many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Portal
from hornetmail.core.folder import FolderError
from hornetmail.portal.maildir.files import Maildir
from hornetmail.testing.faulty_disk import FaultyDisk, Trouble
from tests.portal.ground import MAIL, Bytes, Ground, message, row


class Still:
    """The reactor with a clock that only a test moves on."""

    def __init__(self) -> None:
        self.at = 1_790_000_000.0

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def seconds(self) -> float:
        return self.at


class Counting(FaultyDisk):
    """Tells which steps it took."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def trouble(self, operation: str, path: Path | str | int) -> Trouble | None:
        self.steps.append(operation)
        return super().trouble(operation, path)


class Homeward(TestCase):
    """Claims and removals."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.disk = Counting()
        self.ground = Ground("sqlite", self.disk)
        await self.ground.start()
        self.clock = Still()
        self.ground.portal._ground.reactor = self.clock
        self.listed = 0

        def listing(maildir: Maildir, *words: Any) -> Any:
            self.listed += 1
            return original(maildir, *words)

        original = Maildir._list
        self.patch(Maildir, "_list", listing)

    async def tearDown(self) -> None:  # type: ignore[override]
        self.disk.heal()
        await self.ground.stop()
        self.ground.clean()

    async def delivered(self, count: int) -> list[Portal]:
        portal = self.ground.portal
        return list(
            await gatherResults(
                [Deferred.fromCoroutine(portal.deliver(1, message(MAIL, n), row(n), Bytes(MAIL))) for n in range(1, count + 1)]
            )
        )

    async def home(self, copy: Portal) -> None:
        claimed = await self.ground.portal.begin_drain(copy)
        assert claimed is not None
        assert (await claimed[1].read()).endswith(MAIL)
        await self.ground.portal.end_drain(copy, delivered=True)

    async def test_a_copy_costs_the_same_in_a_full_inbox(self) -> None:
        """Each removal changes the directory, and each claim listed it anew: 10,000 copies took eight times as long each as 1,000. One look serves for
        a second at least, one sync of the directory and one transaction for all that wait."""
        copies = await self.delivered(60)
        await self.home(copies[0])
        self.listed = 0
        for copy in copies[1:20]:
            await self.home(copy)
        assert self.listed == 0
        self.disk.steps.clear()
        await gatherResults([Deferred.fromCoroutine(self.home(copy)) for copy in copies[20:]])
        assert self.listed == 0
        assert self.disk.steps.count("sync_file") <= 6
        assert os.listdir(self.ground.maildir() / "new") == []

    async def test_other_programs_are_seen(self) -> None:
        """What another program removed, or marked for deletion, within that second does not drain all the same (C6); what it put there is seen after it."""
        copies = await self.delivered(4)
        await self.home(copies[0])
        new = self.ground.maildir() / "new"
        os.unlink(new / copies[1].name)
        os.rename(new / copies[2].name, self.ground.maildir() / "cur" / f"{copies[2].name}:2,T")
        os.rename(new / copies[3].name, self.ground.maildir() / "cur" / f"{copies[3].name}:2,S")
        assert await self.ground.portal.begin_drain(copies[1]) is None
        assert await self.ground.portal.begin_drain(copies[2]) is None
        (new / "1.foreign.test").write_bytes(MAIL)
        self.clock.at += 1.1
        await self.home(copies[3])
        inbox = await self.ground.portal.folder(1, "INBOX")
        assert [entry.name for entry in await inbox.entries()] == [copies[2].name, "1.foreign.test"]

    async def test_one_that_cannot_be_read_keeps_no_others(self) -> None:
        """Claimed together, each has its own answer: a bad sector in one file, a copy that was removed, one of nobody's."""
        copies = await self.delivered(4)
        inbox = await self.ground.portal.folder(1, "INBOX")
        uids = {entry.name: entry.uid for entry in await inbox.entries()}
        await inbox.store([uids[copies[1].name]], add=["\\Deleted"])
        bad = self.ground.maildir() / "new" / copies[2].name
        os.unlink(bad)
        os.symlink(bad, bad)
        waiting = [Deferred.fromCoroutine(self.ground.portal.begin_drain(copy)).addErrback(lambda f: f.value) for copy in copies]
        first, removed, broken, last = await gatherResults(waiting)
        assert removed is None
        assert isinstance(broken, OSError | FolderError)
        for copy, claimed in ((copies[0], first), (copies[3], last)):
            assert isinstance(claimed, tuple)
            await self.ground.portal.end_drain(copy, delivered=True)

    async def test_one_that_cannot_be_removed_keeps_no_others(self) -> None:
        """Removed together, each has its own answer; the one that failed is claimed still, and goes at the next try."""
        copies = await self.delivered(5)
        for copy in copies:
            assert await self.ground.portal.begin_drain(copy) is not None
        self.disk.fail("unlink", times=2)
        waiting = [
            Deferred.fromCoroutine(self.ground.portal.end_drain(copy, delivered=True)).addErrback(lambda f: f.value)
            for copy in copies
        ]
        results = await gatherResults(waiting)
        assert [isinstance(result, OSError) for result in results] == [True, False, False, False, False]
        assert len(os.listdir(self.ground.maildir() / "new")) == 1
        await self.ground.portal.end_drain(copies[0], delivered=True)
        assert os.listdir(self.ground.maildir() / "new") == []
