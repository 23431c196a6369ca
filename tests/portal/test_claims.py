"""Copies that are handed over just now: what becomes of the claim if it fails, and of a look that does; and one that arrives in a folder that left memory."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator

from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Portal
from hornetmail.core.folder import FolderError
from tests.portal.ground import MAIL, TRACE, Bytes, Ground, message, row


class Slow(Bytes):
    """A long body that takes so long that its folder has left memory before its end."""

    def __init__(self, data: bytes, ground: Ground) -> None:
        super().__init__(data)
        self._ground = ground

    async def chunks(self) -> AsyncIterator[bytes]:
        async for piece in super().chunks():
            self._ground.portal._ground.forget()
            gc.collect()
            yield piece


class Claims(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        await self.ground.start()

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def delivered(self, number: int = 1) -> Portal:
        return await self.ground.portal.deliver(1, message(MAIL, number), row(number), Bytes(MAIL))

    async def claimed(self) -> int:
        figures = await self.ground.portal.figures()
        return int(figures["claimed"])

    async def test_a_hand_over_that_failed(self) -> None:
        """Rule 10: would catch a message that stays claimed because another program marked it for deletion while it was handed over: its owner could not change it until the next restart."""
        portal = self.ground.portal
        for number, letters in ((1, ""), (2, "T")):
            copy = await self.delivered(number)
            assert await portal.begin_drain(copy) is not None
            assert await self.claimed() == 1
            maildir = self.ground.maildir()
            os.rename(maildir / "new" / copy.name, maildir / "cur" / f"{copy.name}:2,{letters}")
            inbox = await portal.tree(1).open("INBOX")
            await portal.end_drain(copy, delivered=False, keyword="$refused", reason="550 no")
            assert await self.claimed() == 0
            flags = {entry.uid: entry.flags for entry in await inbox.entries()}[number]
            assert "$refused" in flags
            assert ("\\Deleted" in flags) is (letters == "T")
            await inbox.store([number], add=["\\Flagged"])

    async def test_a_look_that_failed(self) -> None:
        """Rule 8f: would catch a fault of ours in looking at files of which nobody hears, and a log full of folders that were just removed."""
        await self.delivered()
        box = await self.ground.portal._box(1)
        for error, told in ((FolderError("NONEXISTENT", "gone"), 0), (OSError("disk"), 0), (ZeroDivisionError("a fault"), 1)):
            box._unseen(Failure(error))
            assert len(self.flushLoggedErrors(ZeroDivisionError)) == told
        assert self.flushLoggedErrors() == []

    async def test_a_folder_that_left_memory(self) -> None:
        """Would catch a delivery that fails for being slow, on a portal so large that folders do not stay in memory."""
        long = MAIL + b"x" * (1 << 20)
        for number in (1, 2):
            box = await self.ground.portal._box(1)
            await self.ground.portal.deliver(1, message(long, number), row(number), Slow(long, self.ground))
            assert box.snapshot_in_memory("INBOX") is not None
        inbox = await self.ground.portal.tree(1).open("INBOX")
        assert [entry.size for entry in await inbox.entries()] == [len(TRACE + long)] * 2
