"""How far the queue had come, as the archive's media say it (ADR 34); the whole of it on a real service is in ``tests/scenarios/test_older_queue.py``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from hornetmail.archive.media.medium import MediumError, MediumMissing
from hornetmail.compose.rooms.marks import LAST_SECONDS, OUTSIDE, READ_SECONDS, OutsideMarks, PortalMark
from hornetmail.core.delivery.queued import RowKind
from hornetmail.core.events import Alarm
from hornetmail.db.pool import Database
from hornetmail.directory.schema import CONTROL
from hornetmail.runtime.bus import Bus
from hornetmail.spool.disk.marks import Mark
from hornetmail.testing.databases import fresh_url

OLD, NEW = Mark("n0-1-a.log", 1, 100, 1_700_000_000.0), Mark("n0-1-a.log", 1, 900, 1_700_000_900.0)


class Medium:
    """``answer``: a Deferred while it hangs, an error while it fails."""

    def __init__(self, number: int, mark: Mark | None = None) -> None:
        self.number = number
        self.data = msgspec.json.encode(mark) if mark is not None else None
        self.answer: Any = None
        self.puts: list[bytes] = []

    def get(self, name: str) -> bytes:
        if self.data is None:
            raise MediumMissing(f"no {name}")
        return self.data

    def put(self, name: str, data: bytes) -> None:
        assert name == "queue/n3"
        self.puts.append(data)


class Queue:
    """A queue that is at OLD."""

    def __init__(self) -> None:
        self.at: Mark | None = OLD
        self.doubted: list[Collection[RowKind]] = []
        self.older = ""

    def mark(self) -> Mark | None:
        return self.at

    async def older_than(self, mark: Mark) -> str:
        return "it ends before" if mark.offset > OLD.offset else ""

    async def doubt(self, why: str, kinds: Collection[RowKind]) -> int:
        self.doubted.append(kinds)
        return 7


class OutsideMarksTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_001_000.0)
        bus = Bus(self.clock)
        self.alarms: list[Alarm] = []
        bus.subscribe(Alarm, self.alarms.append)
        self.bus = bus
        self.first, self.second = Medium(1), Medium(2)
        self.away: dict[int, str] = {}
        self.taken: dict[int, str] = {}
        self.queue: Any = Queue()
        self.marks = self.made()

    def made(self, *, fresh: bool = False) -> OutsideMarks:
        media = SimpleNamespace(all=lambda: [self.first, self.second], active=self.second)
        watch = SimpleNamespace(away=lambda: {**self.away, **self.taken}, unread=lambda: frozenset(self.away))
        archive: Any = SimpleNamespace(media=media, watch=watch)

        async def offload(call: Callable[..., Any], *arguments: Any) -> Any:
            medium = getattr(call, "__self__", None)
            medium = medium if isinstance(medium, Medium) else arguments[0]
            if isinstance(medium.answer, Exception):
                raise medium.answer
            if medium.answer is not None:
                await medium.answer
            return call(*arguments)

        return OutsideMarks(self.clock, self.bus, archive, offload, 3, fresh)  # type: ignore[arg-type]

    def done(self, coroutine: Any, seconds: float = 0.0) -> None:
        running = Deferred.fromCoroutine(coroutine)
        self.clock.advance(seconds)
        self.clock.advance(0)
        self.successResultOf(running)

    def test_one_that_knows_better(self) -> None:
        """Would catch an older directory that is delivered from, portal copies included; and one medium that fails, or hangs, and keeps the other from being asked."""
        for trouble in (MediumError("away"), Deferred()):
            self.setUp()
            self.first.answer = trouble
            self.second.data = msgspec.json.encode(NEW)
            self.done(self.marks.compare(self.queue), READ_SECONDS + 1)
            assert self.queue.doubted == [(RowKind.DELIVER, RowKind.DRAIN)]
            [alarm] = self.alarms
            assert alarm.code == "queue-older"
            assert "2023-11-14 22:28 UTC" in alarm.text
            assert "7 deliveries" in alarm.text
            self.done(self.marks.compare(self.queue), READ_SECONDS + 1)
            assert len(self.alarms) == 1, "it is told once"

    def test_one_that_is_back(self) -> None:
        """Would catch a medium that was away, and whose better knowledge is overwritten before anybody asked it."""
        self.second.data = msgspec.json.encode(NEW)
        self.away = {2: "not mounted"}
        self.done(self.marks.compare(self.queue))
        self.done(self.marks.write(self.queue))
        self.done(self.marks.last(self.queue))
        assert self.second.puts == []
        self.away = {}
        self.done(self.marks.write(self.queue))
        assert len(self.alarms) == 1
        assert self.second.puts == [msgspec.json.encode(OLD)]

    def test_one_to_which_another_installation_writes(self) -> None:
        """ADR 34, 36: would catch an older directory that is delivered from because its medium, which can be read, is another's by now; and that one's mark overwritten."""
        self.second.data = msgspec.json.encode(NEW)
        self.taken = {2: "another installation writes there"}
        self.done(self.marks.compare(self.queue))
        assert len(self.alarms) == 1
        self.done(self.marks.write(self.queue))
        self.done(self.marks.last(self.queue))
        assert self.second.puts == []

    def test_nothing_to_tell(self) -> None:
        """Would catch an alarm at an ordinary start, after a restore, whose queue has no past, for a queue of which it is told already that it was put back alone, or for
        what nobody can read."""
        for fresh, older, data in (
            (False, "", None),
            (False, "", msgspec.json.encode(OLD)),
            (True, "", msgspec.json.encode(NEW)),
            (False, "the queue alone was put back", msgspec.json.encode(NEW)),
            (False, "", b"{"),
            (False, "", b'{"name": 5}'),
        ):
            self.setUp()
            self.marks = self.made(fresh=fresh)
            self.queue.older = older
            self.second.data = data
            self.done(self.marks.compare(self.queue))
            assert (self.alarms, self.queue.doubted) == ([], [])

    def test_how_often(self) -> None:
        """Would catch a medium that is written to every minute, though nothing happened, or never; and an end that waits for one."""
        self.done(self.marks.write(self.queue))
        assert len(self.second.puts) == 1
        self.queue.at = NEW
        self.clock.advance(OUTSIDE - 1)
        self.done(self.marks.write(self.queue))
        assert len(self.second.puts) == 1
        self.clock.advance(1)
        self.done(self.marks.write(self.queue))
        self.clock.advance(OUTSIDE)
        self.done(self.marks.write(self.queue))
        assert self.second.puts == [msgspec.json.encode(OLD), msgspec.json.encode(NEW)]
        self.queue.at = OLD
        self.done(self.marks.last(self.queue))
        assert self.second.puts[2:] == [msgspec.json.encode(OLD)], "and at the end"
        self.queue.at = NEW
        self.second.answer = Deferred()
        self.done(self.marks.last(self.queue), LAST_SECONDS + 1)
        assert len(self.second.puts) == 3
        self.queue.at = None
        self.second.answer = None
        self.done(self.marks.last(self.queue))
        assert len(self.second.puts) == 3


class OfThePortal(TestCase):
    async def test_the_last_word(self) -> None:
        """Would catch a start that is taken for another node's, and one that is not the last."""
        with fresh_url("sqlite") as url:
            control = await Database.open(reactor, url, CONTROL)
            try:
                one, two = PortalMark(control, 1), PortalMark(control, 2)
                assert await one.last() == ""
                for word in ("first", "second"):
                    await one.write(word)
                await two.write("other")
                assert (await one.last(), await two.last()) == ("second", "other")
            finally:
                await control.close()
