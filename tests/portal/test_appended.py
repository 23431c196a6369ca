"""What a mail program puts into a folder, in pieces as they come, within what the mailbox may hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from hornetmail.core.folder import FolderError
from hornetmail.core.served import Domain
from hornetmail.portal.maildir import naming
from hornetmail.testing.faulty_disk import FaultyDisk
from tests.portal.ground import MAIL, Ground


@pytest.mark.parametrize(
    ("host", "name"), [("mx.example.test", "mx.example.test"), ("", "localhost"), ("a/b:c", "a_b_c"), ("h" * 99, "h" * 64)]
)
def test_the_host_in_a_name(host: str, name: str) -> None:
    """Would catch names of files of two hosts that are the same, and one that no directory takes."""
    assert naming.safe_host(host) == name


class Alone(TestCase):
    """Nobody else is at work in the mailbox."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.disk = FaultyDisk()
        self.ground = Ground("sqlite", self.disk)
        await self.ground.start()
        self.inbox = await self.ground.portal.tree(1).open("INBOX")
        self.hops: list[str] = []
        ground: Any = self.ground.portal._ground
        thread = ground.thread

        def counted(fn: Any, *args: Any) -> Any:
            self.hops.append(fn.__name__)
            return thread(fn, *args)

        ground.thread = counted

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def put(self) -> None:
        deposit = self.inbox.append(["\\Seen"], None)
        await deposit.write(MAIL)
        try:
            await deposit.commit()
        finally:
            await deferLater(reactor, 0)  # it is told while the mailbox is still held

    def files(self) -> list[Path]:
        return [path for sub in ("new", "cur", "tmp") for path in (self.ground.maildir() / sub).iterdir()]

    async def test_one_hop_and_two_syncs(self) -> None:
        """Would catch a message that is written in one hop and gets its name in the next, each of which waits for a thread, and more syncs than the file's and its directory's; or fewer."""
        await self.put()
        self.hops.clear()
        self.disk.calls.clear()
        await self.put()
        assert len(self.hops) == 1, self.hops
        assert [call for call in self.disk.calls if call in ("write", "sync_file", "rename")] == [
            "write",
            "sync_file",
            "rename",
            "sync_file",
        ]
        self.disk.calls.clear()
        await self.inbox.store([1], add=["\\Flagged"])
        assert "sync_file" not in self.disk.calls, "flags are the index's as well"
        await self.inbox.store([1], add=["\\Deleted"])
        await self.inbox.expunge()
        assert self.disk.calls.count("sync_file") == 1
        [summary] = (await self.inbox.summaries([2])).values()
        assert b"one" in summary[0], "what is kept of it came along"

    async def test_side_by_side(self) -> None:
        """Would catch many at once whose files are synced one after the other, with the mailbox held: only the first of them may be."""
        await self.put()
        self.hops.clear()
        await gatherResults([Deferred.fromCoroutine(self.put()) for _ in range(12)])
        assert self.hops.count("_finish") == 11, self.hops
        assert len(await self.inbox.entries()) == 13

    async def test_nothing_is_left_of_one_that_fails(self) -> None:
        """Would catch a file that stays in ``tmp``, or a message that is there although it was refused, wherever its one hop fails."""
        await self.put()
        for operation, after in (("open", 0), ("write", 0), ("sync_file", 0), ("rename", 0), ("sync_file", 1)):
            self.disk.fail(operation, after=after, times=1)
            with pytest.raises(FolderError) as caught:
                await self.put()
            assert caught.value.code == "UNAVAILABLE"
            self.disk.heal()
            assert len(self.files()) == 1, (operation, after)
        assert len(await self.inbox.entries()) == 1


class Appended(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        self.ground.directory.served = Domain("example.test", quota_messages=4)
        await self.ground.start()
        self.inbox = await self.ground.portal.tree(1).open("INBOX")

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def put(self, pieces: Sequence[bytes]) -> int:
        deposit = self.inbox.append([], None)
        try:
            for piece in pieces:
                await deposit.write(piece)
            copied = await deposit.commit()
        finally:
            await deposit.abort()
        return int(copied.targets[0])

    async def test_line_ends_where_pieces_are_cut(self) -> None:
        """Would catch a byte lost or doubled where a piece ends between CR and LF, which depends on the network and happens once in a thousand mails."""
        text = b"A: b\r\n\nc\r\n\r\nd\n\n\re\r\n\r"
        whole = b"A: b\r\n\r\nc\r\n\r\nd\r\n\r\n\re\r\n\r"
        for cut in ((6,), (5, 6), (5,), (9, 10, 11, 12)):
            ends = [*cut, len(text)]
            uid = await self.put([text[start:end] for start, end in zip([0, *cut], ends, strict=True)])
            body = await self.inbox.body(uid)
            assert body.size == len(whole)
            assert await body.read() == whole

    async def test_a_line_feed_that_opens_a_piece(self) -> None:
        """As above, where what follows has bare line feeds: its first letter was at stake."""
        uid = await self.put([b"A: b\r", b"\nxyz\n", b"\n", b"end\r", b"\n"])
        assert await (await self.inbox.body(uid)).read() == b"A: b\r\nxyz\r\n\r\nend\r\n"

    async def test_the_last_that_fits(self) -> None:
        """RFC 9208: would catch a message refused that there is just room for, in one piece or in many, and one more taken."""
        for number in range(4):
            assert await self.put([MAIL[:10], MAIL[10:]] if number % 2 else [MAIL]) == number + 1
        with pytest.raises(FolderError) as caught:
            await self.put([MAIL])
        assert caught.value.code == "OVERQUOTA"
        assert len(await self.inbox.entries()) == 4
