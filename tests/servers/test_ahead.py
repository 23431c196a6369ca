"""Messages that are read ahead: those that are asked for, whatever becomes of them, and no more than is allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from hornetmail.core.folder import FolderError
from hornetmail.servers.ahead import AHEAD_BYTES, Ahead
from hornetmail.testing.folders import MemoryBus, MemoryFolder, MemoryTree


def text(number: int, size: int = 0) -> bytes:
    return b"Subject: %d\r\n\r\n" % number + b"x" * size


class Reading(TestCase):
    def setUp(self) -> None:
        self.tree = MemoryTree(1, MemoryBus())
        self.inbox: MemoryFolder = self.tree.found("INBOX")
        self.read: list[int] = []
        self.deleted: set[int] = set()
        self.held: Deferred[None] | None = None
        self.fails = False
        self.later: list[Callable[[], None]] = []
        kept = self.inbox.pieces

        async def pieces(wanted: Sequence[tuple[int, int, int]]) -> Sequence[bytes | None]:
            self.read.append(sum(length for _, _, length in wanted))
            found = await kept(wanted)
            if len(wanted) > 1 and self.held is not None:
                await self.held
            if len(wanted) > 1 and self.fails:
                raise FolderError("UNAVAILABLE", "no disk")
            return found

        self.inbox.pieces = pieces  # type: ignore[method-assign]

    async def ahead(self, count: int = 40, size: int = 0) -> Ahead[bytes]:
        for number in range(count):
            self.inbox.add(text(number, size))
        return Ahead(self.inbox, await self.inbox.entries(), bytes, lambda place: place not in self.deleted, self.later.append)

    async def take(self, ahead: Ahead[bytes], place: int) -> bytes:
        found = ahead.at_once(place)
        answer = await ahead.text(place) if found is None else found
        while self.later:
            self.later.pop()()
        return answer

    async def test_in_their_order(self) -> None:
        """Would catch a text under another number, one that is left out, and a hop for each."""
        ahead = await self.ahead()
        assert [await self.take(ahead, place) for place in range(40)] == [text(place) for place in range(40)]
        assert len(self.read) < 8

    async def test_here_and_there(self) -> None:
        """Who takes single messages has nothing read that was not asked for."""
        ahead = await self.ahead()
        for place in (5, 30, 2, 17):
            assert await self.take(ahead, place) == text(place)
        assert len(self.read) == 4

    async def test_no_more_than_is_allowed(self) -> None:
        """Would catch a mailbox that is read into memory because somebody began to."""
        ahead = await self.ahead(30, AHEAD_BYTES // 3)
        for place in range(30):
            assert await self.take(ahead, place) == text(place, AHEAD_BYTES // 3)
        assert max(self.read) <= AHEAD_BYTES

    async def test_what_is_here_is_answered_first(self) -> None:
        """Would catch an answer that waits until the next messages are asked for, and a mailbox that is asked for twice."""
        ahead = await self.ahead()
        assert [await self.take(ahead, place) for place in range(2)] == [text(0), text(1)]
        before = len(self.read)
        place = 2
        while not self.later:
            assert ahead.at_once(place) == text(place)
            place += 1
        assert len(self.read) == before
        assert ahead.at_once(place) == text(place)
        assert len(self.later) == 1
        self.later.pop()()
        assert len(self.read) == before + 1

    async def test_asked_for_while_it_comes(self) -> None:
        """Would catch a message that is read twice, or never answered, because it was on its way."""
        ahead = await self.ahead()
        self.held = Deferred()
        assert await self.take(ahead, 0) == text(0)
        assert await self.take(ahead, 1) == text(1)
        waiting = Deferred.fromCoroutine(self.take(ahead, 2))
        assert not waiting.called
        self.held.callback(None)
        assert await waiting == text(2)

    async def test_what_went_and_what_failed(self) -> None:
        """Would catch a failure ahead that is told of another message or of none, and an answer made of nothing."""
        ahead = await self.ahead()
        self.fails = True
        self.deleted.add(4)
        assert [await self.take(ahead, place) for place in (0, 1, 2, 3)] == [text(place) for place in range(4)]
        self.fails = False
        self.inbox.remove((await self.inbox.entries())[6].uid)
        assert await self.take(ahead, 5) == text(5)
        with pytest.raises(FolderError) as caught:
            await self.take(ahead, 6)
        assert caught.value.code == "EXPUNGEISSUED"
        assert await self.take(ahead, 7) == text(7)
