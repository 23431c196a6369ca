"""Messages whose files cannot be read: the others are told, and nothing else is taken for their text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.error import ConnectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from hornetmail.core.folder import FolderError
from hornetmail.mime.structure import Part
from hornetmail.servers.imap.finding import search
from hornetmail.servers.imap.finding.unreadable import MOST
from hornetmail.servers.imap.messages.fetch import STREAM_BYTES, UNREADABLE
from hornetmail.testing.folders import MemoryBody
from tests.servers.imap.door import SIMPLE, Door, Talk

HELLO = b"Subject: one\r\nX-Other: two\r\n\r\nHello\r\n"


def unreadable(door: Door, *uids: int) -> None:
    """These cannot be read."""
    true = door.inbox.pieces

    async def pieces(wanted: Sequence[tuple[int, int, int]]) -> Sequence[bytes | None]:
        if any(uid in uids for uid, _, _ in wanted):
            raise FolderError("UNAVAILABLE", "the mail store has trouble; try again later")
        return await true(wanted)

    door.inbox.pieces = pieces  # type: ignore[method-assign]


@pytest.mark.parametrize("uid", [False, True])
def test_one_among_many(uid: bool) -> None:
    """Would catch a bad sector under one message that keeps a mail program from all others of its folder, or is told to nobody."""
    door = Door()
    for _ in range(5):
        door.inbox.add(SIMPLE)
    unreadable(door, 3)
    talk = door.connect().login()
    talk.say(b"s SELECT INBOX")
    said = talk.say(b"a UID FETCH 1:* BODY.PEEK[]" if uid else b"a FETCH 1:* BODY.PEEK[]")
    assert [line for line in said.split(b"\r\n") if b" FETCH (" in line and b"BODY[]" in line] == [
        b"* %d FETCH (%bBODY[] {%d}" % (n, b"UID %d " % n if uid else b"", len(SIMPLE)) for n in (1, 2, 4, 5)
    ]
    assert said.endswith(b"a NO [UNAVAILABLE] 1 messages cannot be read now\r\n")
    assert b"b OK" in talk.say(b"b FETCH 3 FLAGS")


def test_the_whole_disk() -> None:
    """Would catch each message of a large folder asked for one by one while the disk is away."""
    door = Door()
    for _ in range(50):
        door.inbox.add(SIMPLE)
    asked = 0

    async def pieces(wanted: Sequence[tuple[int, int, int]]) -> Sequence[bytes | None]:
        nonlocal asked
        asked += 1
        raise FolderError("UNAVAILABLE", "the mail store has trouble; try again later")

    door.inbox.pieces = pieces  # type: ignore[method-assign]
    talk = door.connect().login()
    talk.say(b"s SELECT INBOX")
    assert talk.say(b"a UID FETCH 1:* BODY.PEEK[]") == b"a NO [UNAVAILABLE] the mail store has trouble; try again later\r\n"
    assert asked <= UNREADABLE + 2


def test_in_the_middle_of_a_literal() -> None:
    """Would catch the answer NO taken for the rest of a large message: the connection ends instead."""
    door = Door()
    door.inbox.add(SIMPLE + b"x" * (3 * STREAM_BYTES))

    class Failing(MemoryBody):
        async def read(self, start: int = 0, length: int = -1) -> bytes:
            if start >= STREAM_BYTES:
                raise FolderError("UNAVAILABLE", "the mail store has trouble; try again later")
            return await super().read(start, length)

    async def body(uid: int) -> Failing:
        return Failing(door.inbox.messages[uid].data)

    door.inbox.body = body  # type: ignore[method-assign,assignment]
    talk = door.connect().login()
    talk.say(b"s SELECT INBOX")
    said = talk.say(b"a UID FETCH 1 BODY.PEEK[]")
    assert b"BODY[] {%d}" % (len(SIMPLE) + 3 * STREAM_BYTES) in said
    assert b"NO [" not in said
    assert talk.transport.disconnecting


def unstructured(door: Door, *uids: int) -> None:
    """The files of these cannot be read, and nothing is kept of them."""
    true = door.inbox.structures

    async def structures(wanted: Sequence[int]) -> dict[int, Part]:
        if set(uids).intersection(wanted):
            raise FolderError("UNAVAILABLE", "the mail store has trouble; try again later")
        return await true(wanted)

    door.inbox.structures = structures  # type: ignore[method-assign]
    unreadable(door, *uids)


MAY_BE_MISSING = b"* NO [UNAVAILABLE] 1 messages cannot be read now and may be missing here\r\n"


def unread(door: Door, *uids: int) -> None:
    """What is read of these in slices cannot be."""
    true = door.inbox.body

    async def body(uid: int) -> Any:
        if uid in uids:
            raise FolderError("UNAVAILABLE", "the mail store has trouble; try again later")
        return await true(uid)

    door.inbox.body = body  # type: ignore[method-assign]


class Searches(TestCase):
    """With real threads."""

    def door(self, spoil: Callable[[Door, int], None], count: int = 5) -> Talk:
        door = Door(reactor)
        door.threads.start()
        self.addCleanup(door.threads.stop)
        for _ in range(count):
            door.inbox.add(HELLO)
        spoil(door, 3)
        talk = door.connect().login()
        talk.say(b"s SELECT INBOX")
        self.addCleanup(lambda: talk.pump.connectionLost(Failure(ConnectionDone())))
        return talk

    async def heard(self, talk: Talk, command: bytes) -> bytes:
        data = talk.say(b"a " + command)
        while b"\r\na " not in b"\r\n" + data:
            await deferLater(reactor, 0.01)
            data += talk.heard()
        return data

    async def test_over_one_that_cannot_be_read(self) -> None:
        """Would catch one bad sector under a folder of thousands that answers each search in it with NO, and one message left out of which nobody hears."""
        for spoil in (unreadable, unstructured):
            for command, answer in (
                (b"SEARCH TEXT hello", b"* SEARCH 1 2 4 5\r\n"),
                (b"SEARCH RETURN (COUNT) NOT BODY xyz", b'* ESEARCH (TAG "a") COUNT 4\r\n'),
                (b'SEARCH HEADER X-Other ""', b"* SEARCH 1 2 4 5\r\n"),
                (b"SORT (REVERSE ARRIVAL) UTF-8 TEXT hello", b"* SORT 1 2 4 5\r\n"),
            ):
                assert await self.heard(self.door(spoil), command) == answer + MAY_BE_MISSING + (
                    b"a OK Sorted\r\n" if command.startswith(b"SORT") else b"a OK Searched\r\n"
                )

    async def test_over_a_large_one(self) -> None:
        """As above, of one that is read in slices."""
        self.patch(search, "HELD_BYTES", 10)
        assert await self.heard(self.door(unread), b"SEARCH TEXT hello") == (
            b"* SEARCH 1 2 4 5\r\n" + MAY_BE_MISSING + b"a OK Searched\r\n"
        )

    async def test_order_without_one(self) -> None:
        """As above, where the structure decides where it stands."""
        assert await self.heard(self.door(unstructured), b"SORT (SUBJECT) UTF-8 ALL") == (
            b"* SORT 1 2 4 5\r\n" + MAY_BE_MISSING + b"a OK Sorted\r\n"
        )
        said = await self.heard(self.door(unstructured), b"THREAD REFERENCES UTF-8 ALL")
        assert said.startswith(b"* THREAD ")
        assert b"3" not in said.split(b"\r\n")[0]
        assert said.endswith(MAY_BE_MISSING + b"a OK Threaded\r\n")

    async def test_over_a_disk_that_is_away(self) -> None:
        """Would catch a search that asks for each of ten thousand messages alone, and says that nothing was found."""
        asked = 0

        def spoil(door: Door, uid: int) -> None:
            async def structures(wanted: Sequence[int]) -> dict[int, Part]:
                nonlocal asked
                asked += 1
                raise FolderError("UNAVAILABLE", "the mail store has trouble; try again later")

            door.inbox.structures = structures  # type: ignore[method-assign]

        said = await self.heard(self.door(spoil, 50), b"SEARCH TEXT hello")
        assert said == b"a NO [UNAVAILABLE] the mail store has trouble; try again later\r\n"
        assert asked <= MOST + 2
