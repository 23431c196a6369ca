"""What a mail program puts into a folder, in pieces as they come, within what the mailbox may hold."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from twisted.trial.unittest import TestCase

from hornetmail.core.folder import FolderError
from hornetmail.core.served import Domain
from hornetmail.portal.maildir import naming
from tests.portal.ground import MAIL, Ground


@pytest.mark.parametrize(
    ("host", "name"), [("mx.example.test", "mx.example.test"), ("", "localhost"), ("a/b:c", "a_b_c"), ("h" * 99, "h" * 64)]
)
def test_the_host_in_a_name(host: str, name: str) -> None:
    """Would catch names of files of two hosts that are the same, and one that no directory takes."""
    assert naming.safe_host(host) == name


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
