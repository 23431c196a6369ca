"""Messages whose files cannot be read: the others are told, and nothing else is taken for their text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hornetmail.core.folder import FolderError
from hornetmail.servers.imap.messages.fetch import STREAM_BYTES, UNREADABLE
from hornetmail.testing.folders import MemoryBody
from tests.servers.imap.door import SIMPLE, Door


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
