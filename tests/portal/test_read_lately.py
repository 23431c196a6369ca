"""Messages that were read as a whole a moment ago are answered from memory, and only as long as they are there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from hornetmail.disk.files import Disk
from hornetmail.portal.box.reading import FEW, TEXT_BYTES
from hornetmail.portal.maildir.lately import KEPT_BYTES
from tests.portal.ground import MAIL, Ground


class Counting(Disk):
    """Says how many files were opened to be read."""

    opened = 0

    def open(self, path: str | Path, flags: int, mode: int = 0o600) -> int:
        self.opened += not flags & (os.O_CREAT | os.O_DIRECTORY)
        return super().open(path, flags, mode)


class ReadLately(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.disk = Counting()
        self.ground = Ground("sqlite", self.disk)
        await self.ground.start()
        self.inbox = await self.ground.portal.tree(1).open("INBOX")

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def put(self, text: bytes) -> int:
        deposit = self.inbox.append(["\\Deleted"], None)
        await deposit.write(text)
        return int((await deposit.commit()).targets[0])

    async def opens(self, ask: Callable[[], Any]) -> tuple[Any, int]:
        before = self.disk.opened
        found = await ask()
        return found, self.disk.opened - before

    async def test_once(self) -> None:
        """Would catch a file that is opened for each part of a message, and a part that is another message's, or cut elsewhere."""
        one, two = await self.put(MAIL), await self.put(MAIL.replace(b"one", b"two"))
        both = [(one, 0, len(MAIL)), (two, 0, len(MAIL))]
        whole = [MAIL, MAIL.replace(b"one", b"two")]
        assert await self.opens(lambda: self.inbox.pieces(both)) == (whole, 2)
        assert await self.opens(lambda: self.inbox.pieces(both)) == (whole, 0)
        assert await self.opens(lambda: self.inbox.pieces([(two, 10, 7), (one, len(MAIL) - 3, 99)])) == (
            [whole[1][10:17], MAIL[-3:]],
            0,
        )
        trash = await self.ground.portal.tree(1).open("Trash")
        moved = (await self.inbox.move([two], "Trash")).targets[0]
        assert await trash.pieces([(moved, 0, len(MAIL))]) == [whole[1]]

    async def test_gone(self) -> None:
        """Would catch a message that is served after it was removed."""
        uid = await self.put(MAIL)
        await self.inbox.pieces([(uid, 0, len(MAIL))])
        await self.inbox.expunge([uid])
        assert await self.inbox.pieces([(uid, 0, len(MAIL))]) == [None]

    async def test_what_is_not_held(self) -> None:
        """Would catch a piece taken for the whole, a large message held, and a folder read as a whole that pushes all else out."""
        small, large = await self.put(MAIL), await self.put(MAIL + b"x" * TEXT_BYTES)
        await self.inbox.pieces([(small, 0, 10)])
        assert (await self.opens(lambda: self.inbox.pieces([(small, 0, 20)])))[1] == 1
        size = len(MAIL) + TEXT_BYTES
        await self.inbox.pieces([(large, 0, size)])
        assert (await self.opens(lambda: self.inbox.pieces([(large, 0, size)])))[1] == 1
        many = [await self.put(MAIL) for _ in range(FEW + 1)]
        await self.inbox.pieces([(uid, 0, len(MAIL)) for uid in many])
        assert (await self.opens(lambda: self.inbox.pieces([(many[0], 0, len(MAIL))])))[1] == 1

    async def test_bounds(self) -> None:
        """Would catch memory that grows with what is read."""
        text = MAIL + b"x" * (TEXT_BYTES - len(MAIL))
        count = KEPT_BYTES // len(text) + 5
        uids = [await self.put(text) for _ in range(count)]
        for uid in uids:
            await self.inbox.pieces([(uid, 0, len(text))])
        assert (await self.opens(lambda: self.inbox.pieces([(uids[-1], 0, 9)])))[1] == 0
        assert (await self.opens(lambda: self.inbox.pieces([(uids[0], 0, 9)])))[1] == 1
