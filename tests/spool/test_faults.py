"""What goes wrong between two steps, on the disk and with the clock: nothing known is thrown away, one bad place costs one message."""

from __future__ import annotations

import errno
import os
import shutil
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock, deferLater

from hornetmail.core.delivery.queued import Message, Portal, RowKind, RowState, Settled
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.disk.records import Position
from hornetmail.spool.disk.errors import BodyLost, SpoolError
from hornetmail.spool.disk.marks import Mark
from hornetmail.spool.start import OpenedQueue
from hornetmail.testing.databases import fresh_url
from hornetmail.testing.faulty_disk import FaultyDisk
from tests.spool.test_queue import DELIVERED, LATER, A, Base, D, R, never


class SetClock:
    """The reactor, with a wall clock that can be set. Its timers go on as before."""

    def __init__(self) -> None:
        self.moved = 0.0

    def seconds(self) -> float:
        return reactor.seconds() + self.moved

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class BadPlaces(Disk):
    """A disk with sectors that cannot be read: by file name and offset."""

    def __init__(self) -> None:
        self.bad: set[tuple[str, int]] = set()
        self.code = errno.EIO
        self._names: dict[int, str] = {}

    def open(self, path: Any, flags: int, mode: int = 0o600) -> int:
        fd = super().open(path, flags, mode)
        self._names[fd] = str(path).rpartition("/")[2]
        return fd

    def read(self, fd: int, length: int, offset: int) -> bytes:
        for name, place in self.bad:
            if self._names.get(fd) == name and offset <= place < offset + length:
                raise OSError(self.code, "bad sector")
        return super().read(fd, length, offset)


class FaultBase(Base):
    """With alarms, and a clock for uptime."""

    def setUp(self) -> None:
        super().setUp()
        self.alarms: list[tuple[str, str]] = []
        self.uptime = Clock()
        self.reactor = SetClock()

    async def open(self, *arguments: Any, **keywords: Any) -> OpenedQueue:
        keywords.setdefault("alarm", lambda code, text: self.alarms.append((code, text)))
        keywords.setdefault("uptime", self.uptime.seconds)
        return await super().open(*arguments, **keywords)

    async def row(self, queue: OpenedQueue, message: Message, kind: RowKind = D) -> Any:
        """The message's one row of that kind."""
        ((_, row),) = await queue.rows(message=message.id, kinds={kind})
        return row

    def begun(self, awaitable: Any) -> Deferred[Any]:
        """Under way."""
        return Deferred.fromCoroutine(awaitable)


class TurnTests(FaultBase):
    """Transitions of the same rows."""

    async def test_a_settlement_waits_for_the_copy_that_the_keeper_makes(self) -> None:
        """Would catch a verdict that is dropped while its message is copied forward: the mail would be delivered again after a restart."""
        queue = await self.open(segment_bytes=20_000)
        kept = await self.accept(queue, b"K" * 3000, archive=False)
        (claim,) = await queue.claim_rows([(await self.row(queue, kept)).id], 1.0, never)
        for _ in range(4):
            rows = [row.id for _, row in await queue.rows(states={RowState.QUEUED, RowState.WAITING})]
            await queue.change(rows, RowState.REMOVED)
            await gatherResults([self.begun(self.accept(queue, b"x" * 3000)) for _ in range(8)])
        await queue.change([row.id for _, row in await queue.rows(states={RowState.QUEUED, RowState.WAITING})], RowState.REMOVED)
        submit, settling = queue._submit, []

        def submitted(kind: Any, record: Any, *arguments: Any, **keywords: Any) -> Any:
            waiting = submit(kind, record, *arguments, **keywords)
            if kind.name == "KEPT":
                settling.append(self.begun(queue.settle([Settled(claim.rows[0].id, RowState.DELIVERED, DELIVERED)])))
                assert not settling[0].called
            return waiting

        queue.tidying._submit = submitted
        await queue.tidy()
        assert settling
        await settling[0]
        assert await queue.rows() == []
        for again in (await self.crash(queue, index=False), await self.reopen(queue)):
            assert await again.rows() == []

    async def test_each_transition_waits_and_keeps_its_order(self) -> None:
        """Would catch a change, claim, adoption or reclaim that is passed over, or overtakes, because another one is under way."""
        queue = await self.open()
        message = await self.accept(queue, archive=False)
        row = (await self.row(queue, message)).id
        claiming = self.begun(queue.claim(reactor.seconds(), 5, never))
        settling = self.begun(queue.settle([Settled(row, RowState.QUEUED, due=LATER)]))
        holding = self.begun(queue.change([row], RowState.HELD, reason="x"))
        adopting = self.begun(queue.adopt("example.test", 1.0))
        releasing = self.begun(queue.change([row], RowState.QUEUED, due=LATER))
        again = self.begun(queue.claim_rows([row], 1.0, never))
        back = self.begun(queue.reclaim([row]))
        assert not any(one.called for one in (claiming, settling, holding, releasing, again, back))
        assert len(await claiming) == 1
        await settling
        assert (await holding, await adopting, await releasing, len(await again)) == (1, 0, 1, 1)
        assert [(found.id, found.attempts) for _, found in await back] == [(row, 2)]
        assert (await self.row(queue, message)).state is RowState.QUEUED
        assert len(queue.live.turns) == 0

    async def test_whoever_is_cancelled_may_ask_again(self) -> None:
        """Would catch a row that stays locked after a cancelled settle, or a second drain row for one copy when the call is made again."""
        queue = await self.open()
        message = await self.accept(queue, to=("a@example.test", "b@example.test"))
        first, second = await self.claimed(queue, kinds={D})
        verdicts = [
            Settled(first.id, RowState.DELIVERED, DELIVERED, drain=Portal(7, "one"), reason="emergency"),
            Settled(second.id, RowState.QUEUED, due=LATER, drain=Portal(8, "two", uncertain=True)),
        ]
        settling = self.begun(queue.settle(verdicts))
        waiting = self.begun(queue.settle(verdicts))
        for one in (settling, waiting):
            one.cancel()
            with pytest.raises(CancelledError):
                await one
        await queue.settle(verdicts)
        await queue.settle(verdicts)
        async for again in self.lives(queue, await self.crash(queue, index=False)):
            drains = [row for _, row in await again.rows(message=message.id, kinds={R})]
            assert [row.portal and row.portal.name for row in drains] == ["one", "two"]
            assert len(again.live.turns) == 0

    async def test_a_settlement_that_fails_recorded_nothing_and_may_be_made_again(self) -> None:
        """Would catch a part of the verdicts that is applied, and rows that stay locked: a disk that is full for a moment, a state that
        cannot be settled, a record that cannot be made."""
        disk = FaultyDisk()
        queue = await self.open(disk=disk)
        message = await self.accept(queue, to=("a@example.test", "b@example.test"))
        rows = await self.claimed(queue, kinds={D})
        verdicts = [Settled(row.id, RowState.DELIVERED, DELIVERED, drain=Portal(7, row.address)) for row in rows]
        disk.fail("write", errno.ENOSPC, times=1)
        with pytest.raises(DiskFull):
            await queue.settle(verdicts)
        with pytest.raises(ValueError):
            await queue.settle([verdicts[0], Settled(rows[1].id, RowState.CLAIMED)])
        with pytest.raises(SpoolError):
            await queue.settle([verdicts[0], Settled(rows[1].id, RowState.HELD, reason="x" * (65 << 20))])
        assert await self.states(queue, message=message.id, kinds={D, R}) == [("deliver", "claimed")] * 2
        await queue.settle(verdicts)
        assert await self.states(queue, message=message.id, kinds={D}) == [("deliver", "delivered")] * 2

    async def test_a_claim_whose_next_time_cannot_be_said_leaves_the_rows_free(self) -> None:
        """Would catch rows that nobody can claim any more after an exception between taking and recording them."""
        queue = await self.open()
        await self.accept(queue)

        def broken(_row: Any) -> float:
            raise RuntimeError("no time")

        with pytest.raises(RuntimeError):
            await queue.claim(reactor.seconds(), 5, broken)
        assert len(await self.claimed(queue, kinds={D})) == 1

    async def test_claims_that_never_end_are_listed_and_taken_back(self) -> None:
        """Would catch a row that is claimed for ever with nobody working on it, and one that is forgotten by the recovery of a later start."""
        queue = await self.open()
        message = await self.accept(queue)
        (row,) = await self.claimed(queue, kinds={D}, next_due=lambda _row: 5.0)
        self.uptime.advance(100.0)
        later = await self.accept(queue)
        await self.claimed(queue, kinds={D})
        assert queue.claimed_for(200.0) == []
        assert [(owner.id, found.id) for owner, found in queue.claimed_for(50.0)] == [(message.id, row.id)]
        taken = await queue.reclaim([row.id, 4711])
        assert [(owner.id, found.state, found.attempts) for owner, found in taken] == [(message.id, RowState.CLAIMED, 1)]
        assert [row.id for _, row in queue.claimed_for(-1.0)] == [(await self.row(queue, later)).id]
        assert await queue.reclaim([row.id]) == []
        for again in (await self.crash(queue, index=False), await self.crash(queue)):
            assert [found.id for _, found in again.claimed_at_start()] == [row.id, (await self.row(queue, later)).id]
            assert (await self.row(again, message)).due == 5.0
        assert len(await self.claimed(queue, kinds={D})) == 1

    async def test_a_fact_is_in_memory_when_it_is_in_the_journal(self) -> None:
        """Would catch a mode that memory has switched and a restart takes back (fault of remember)."""
        disk = FaultyDisk()
        queue = await self.open(disk=disk)
        await queue.remember("modes", "example.test", b"normal")
        disk.fail("write", errno.ENOSPC, times=1)
        with pytest.raises(DiskFull):
            await queue.remember("modes", "example.test", b"emergency")
        assert queue.remembered("modes") == {"example.test": b"normal"}
        await queue.remember("modes", "example.test", b"emergency")
        assert queue.remembered("modes") == {"example.test": b"emergency"}


class WakingTests(FaultBase):
    """Who is woken when."""

    async def test_overdue_rows_of_one_kind_do_not_silence_another(self) -> None:
        """Would catch a timer that is not set because the top of some heap has passed."""
        queue = await self.open()
        await self.accept(queue, archive=False)
        message = await self.accept(queue)
        (deliver,) = await queue.claim_rows([(await self.row(queue, message)).id], 1.0, never)
        await queue.settle([Settled(deliver.rows[0].id, RowState.DELIVERED, DELIVERED)])
        (archive,) = await self.claimed(queue, kinds={A})
        due = reactor.seconds() + 0.15
        await queue.settle([Settled(archive.id, RowState.QUEUED, due=due)])
        assert queue.next_due({A}) == due
        assert (queue.next_due({D}) or LATER) < reactor.seconds()
        await deferLater(reactor, 0)
        woken: Deferred[None] = Deferred()
        queue.wake(lambda: None if woken.called or reactor.seconds() < due else woken.callback(None))
        await woken
        assert reactor.seconds() < due + 3.0

    async def test_next_due_follows_every_change(self) -> None:
        """Would catch a next time that is stale, counts claimed rows, or forgets those whose claim came to nothing."""
        disk = FaultyDisk()
        queue = await self.open(disk=disk)
        assert queue.next_due() is None
        message = await self.accept(queue)
        row = (await self.row(queue, message)).id
        assert queue.next_due({A, R}) is None
        at = queue.next_due()
        disk.fail("write", errno.ENOSPC, times=1)
        with pytest.raises(DiskFull):
            await queue.claim(reactor.seconds(), 5, never)
        assert queue.next_due({D}) == at
        await queue.change([row], RowState.QUEUED, due=500.0)
        assert queue.next_due() == 500.0
        await queue.change([row], RowState.HELD)
        assert queue.next_due() is None


class BadDiskTests(FaultBase):
    """One bad place costs one message."""

    async def filled(self, disk: BadPlaces) -> tuple[OpenedQueue, Message, Message]:
        """A journal of several segments that are nearly dead; the first message lies on a bad sector, the second beside it."""
        queue = await self.open(disk=disk, segment_bytes=20_000, recent_bytes=0)
        bad, good = await self.accept(queue, b"B" * 3000), await self.accept(queue, b"G" * 3000)
        for _ in range(5):
            await gatherResults([self.begun(self.accept(queue, b"x" * 3000)) for _ in range(8)])
            rows = [row.id for message, row in await queue.rows() if message.id not in (bad.id, good.id)]
            await queue.change(rows, RowState.REMOVED)
        place = queue.live.messages[bad.id].place
        disk.bad.add((queue._journal.name(place.segment), place.offset + 500))
        return queue, bad, good

    async def test_tidying_goes_on(self) -> None:
        """Would catch a journal that only grows until all get 452, because one body cannot be read; and one that nobody is told of."""
        disk = BadPlaces()
        queue, bad, good = await self.filled(disk)
        before = len(queue._journal.segments())
        assert [await queue.tidy() for _ in range(2)] == [0, 0]
        assert self.alarms == []
        assert await queue.tidy() > 3
        assert len(queue._journal.segments()) < before
        assert await queue.tidy() == 0
        ((code, text),) = self.alarms
        assert code == "queue-body-lost"
        assert str(bad.id) in text
        assert "from@example.org" in text
        assert len(list((self.directory / "journal" / "damaged").iterdir())) == 1
        async for again in self.lives(queue, await self.crash(queue, index=False)):
            with pytest.raises(BodyLost):
                await again.body(bad.id)
            assert await (await again.body(good.id)).read() == b"G" * 3000
            assert await self.states(again, message=bad.id) == [("deliver", "queued"), ("archive", "waiting")]

    async def test_its_disk_is_taken_away(self) -> None:
        """Would catch all waiting messages held as lost, and their senders told so, because the queue's disk was taken away; and a long body or a
        segment begun at its mount point."""
        queue = await self.open(segment_bytes=20_000, recent_bytes=0)
        short, long = await self.accept(queue, b"S" * 3000), await self.accept(queue, b"L" * 200_000)
        bodies = [await queue.body(long.id)]
        os.rename(self.directory, f"{self.directory}.away")
        (self.directory / "journal").mkdir(parents=True)
        (self.directory / "bodies").mkdir()
        for question in (bodies[0].read(), queue.body(short.id)):
            with pytest.raises(SpoolError) as caught:
                await question
            assert not isinstance(caught.value, BodyLost)
        with pytest.raises((OSError, SpoolError)):
            await self.accept(queue, b"M" * 200_000)
        assert not list((self.directory / "bodies").iterdir())
        assert self.alarms == []
        shutil.rmtree(self.directory)
        os.rename(f"{self.directory}.away", self.directory)
        assert await bodies[0].read() == b"L" * 200_000
        assert await (await queue.body(short.id)).read() == b"S" * 3000

    async def test_a_bad_moment_costs_nothing(self) -> None:
        """Would catch a message that is given up for a disk that had a bad moment, or one that could be copied from memory."""
        disk = BadPlaces()
        queue, bad, _ = await self.filled(disk)
        assert await queue.tidy() == 0
        disk.bad.clear()
        assert await queue.tidy() > 3
        assert await (await queue.body(bad.id)).read() == b"B" * 3000
        assert self.alarms == []

    async def test_a_short_body_is_at_hand(self) -> None:
        """Would catch a mail delivered at once that costs a read of the journal, and one delivered late though a disk had a bad moment."""
        disk = BadPlaces()
        queue = await self.open(disk=disk)
        message = await self.accept(queue, b"b" * 3000)
        place = queue.live.messages[message.id].place
        disk.bad.add((queue._journal.name(place.segment), place.offset + 100))
        assert await (await queue.body(message.id)).read() == b"b" * 3000
        assert self.alarms == []

    async def test_attempts_are_told(self) -> None:
        """Would catch an attempt that cannot tell a lost body from one that cannot be read now, and a missing file that reads as a message that left."""
        disk = BadPlaces()
        queue = await self.open(disk=disk, recent_bytes=0)
        short, long, rotten = [await self.accept(queue, b"b" * size) for size in (3000, 200_000, 300_000)]
        entry = queue.live.messages[short.id]
        disk.bad.add((queue._journal.name(entry.place.segment), entry.place.offset + 100))
        for code, kind in ((errno.EMFILE, SpoolError), (errno.EIO, BodyLost)):
            disk.code = code
            with pytest.raises(SpoolError) as caught:
                await queue.body(short.id)
            assert caught.type is kind
        body, other = await queue.body(long.id), await queue.body(rotten.id)
        queue._files.path(queue.live.messages[long.id].file).unlink()
        path = queue._files.path(queue.live.messages[rotten.id].file)
        raw = bytearray(path.read_bytes())
        raw[100_000] ^= 1
        path.write_bytes(raw)
        for one in (body, other):
            with pytest.raises(BodyLost):
                await one.read()
            with pytest.raises(BodyLost):
                async for _ in one.chunks():
                    pass
        assert [code for code, _ in self.alarms] == ["queue-body-lost"] * 3
        self.alarms.clear()
        await self.reopen(queue)
        assert [code for code, _ in self.alarms] == ["queue-body-lost"]

    async def test_damage_at_start_is_named_and_kept(self) -> None:
        """Would catch damage in the middle of a segment that costs more than its record, is not named, or goes with its segment before
        anybody could look."""
        queue = await self.open(segment_bytes=20_000)
        messages = await gatherResults([self.begun(self.accept(queue, b"x" * 3000)) for _ in range(12)])
        entry = queue.live.messages[messages[2].id]
        name = queue._journal.name(entry.place.segment)
        await queue.close()
        path = self.directory / "journal" / name
        raw = bytearray(path.read_bytes())
        raw[entry.place.offset + 300] ^= 1
        path.write_bytes(raw)
        queue = await self.crash(queue, index=False, segment_bytes=20_000)
        ((code, text),) = self.alarms
        assert code == "queue-damage"
        assert name in text
        assert str(entry.place.offset) in text
        assert {message.id for message, _ in await queue.rows(kinds={D})} == {m.id for m in messages} - {messages[2].id}
        await queue.change([row.id for message, row in await queue.rows() if message.id != messages[5].id], RowState.REMOVED)
        assert await queue.tidy() > 0
        assert len(list((queue._journal.directory / "damaged").iterdir())) == 1

    async def test_damaged_neighbours_are_both_kept(self) -> None:
        """Would catch a damaged segment that goes because the one before it was put aside."""
        queue = await self.open(segment_bytes=20_000)
        messages = await gatherResults([self.begun(self.accept(queue, b"x" * 3000)) for _ in range(24)])
        await queue.close()
        names = []
        for number in (2, 8):
            place = queue.live.messages[messages[number].id].place
            names.append(queue._journal.name(place.segment))
            path = self.directory / "journal" / names[-1]
            raw = bytearray(path.read_bytes())
            raw[place.offset + 300] ^= 1
            path.write_bytes(raw)
        assert len(set(names)) == 2
        queue = await self.crash(queue, index=False, segment_bytes=20_000)
        await queue.change([row.id for _, row in await queue.rows()], RowState.REMOVED)
        assert await queue.tidy() > 2
        assert sorted(path.name for path in (queue._journal.directory / "damaged").iterdir()) == sorted(names)


class ForeignIndexTests(FaultBase):
    """queue.db is believed only if it is this journal's, and not of its future; neither is a journal believed that is older than it was."""

    mark: Mark | None = None

    async def same_as_rebuilt(self, queue: OpenedQueue) -> None:
        """Its state is what the journal alone says."""
        rebuilt = await self.crash(queue, index=False)
        assert [row for _, row in await queue.rows()] == [row for _, row in await rebuilt.rows()]

    async def test_a_journal_that_lost_its_end(self) -> None:
        """Would catch mail that exists in the index only, and records written anew behind the old checkpoint that the next start skips."""
        queue = await self.open()
        first = await self.accept(queue)
        await queue.close()
        (path,) = (self.directory / "journal").glob("*.log")
        short = path.read_bytes()
        queue = await self.open()
        await self.accept(queue, b"y" * 5000)
        await queue.close()
        path.write_bytes(short)
        queue = await self.open()
        assert [message.id for message, _ in await queue.rows(kinds={D})] == [first.id]
        second = await self.accept(queue, b"z" * 700)
        await self.same_as_rebuilt(queue)
        queue = await self.reopen(queue)
        assert [message.id for message, _ in await queue.rows(kinds={D})] == [first.id, second.id]

    async def test_an_index_brought_back_from_a_backup_or_elsewhere(self) -> None:
        """Would catch mail that comes back although it was delivered, because an older or another installation's queue.db is believed."""
        queue = await self.open(segment_bytes=20_000)
        await gatherResults([self.begun(self.accept(queue, b"x" * 3000)) for _ in range(4)])
        await queue.close()
        path = self.url.removeprefix("sqlite://")
        shutil.copy(path, path + ".old")
        queue = await self.open(segment_bytes=20_000)
        await queue.change([row.id for _, row in await queue.rows()], RowState.REMOVED)
        kept = await self.accept(queue)
        await queue.close()
        shutil.copy(path + ".old", path)
        queue = await self.open(segment_bytes=20_000)
        assert [message.id for message, _ in await queue.rows(kinds={D})] == [kept.id]
        await gatherResults([self.begun(self.accept(queue, b"x" * 3000, hold="x")) for _ in range(20)])
        await queue.change([row.id for _, row in await queue.rows(states={RowState.HELD})], RowState.REMOVED)
        await queue.tidy()
        await queue.close()
        shutil.copy(path + ".old", path)
        queue = await self.open(segment_bytes=20_000)
        assert [message.id for message, _ in await queue.rows(kinds={D})] == [kept.id]
        await self.same_as_rebuilt(queue)

    async def older(self, *, index: bool, held: str = "") -> OpenedQueue:
        """A queue that was put back as it was before its two messages were delivered, and a third one came; the newest index too, or it is gone."""
        queue = await self.open()
        for number in range(3):
            await self.accept(queue, b"x%d" % number, hold=held if number == 2 else "")
        await self.copied(queue)
        await queue.close()
        shutil.copytree(self.directory, self.directory / "backup")
        queue = await self.open()
        rows = await self.claimed(queue, kinds={D})
        await queue.settle([Settled(row.id, RowState.DELIVERED, DELIVERED) for row in rows])
        await self.accept(queue)
        self.mark = mark = queue.mark()
        await queue.close()
        shutil.rmtree(self.directory / "journal")
        shutil.copytree(self.directory / "backup" / "journal", self.directory / "journal")
        if not index:
            self.url = self.enterContext(fresh_url(self.engine))
        return await self.open(mark=mark)

    async def copied(self, queue: OpenedQueue) -> None:
        """One more message has failed over: its delivery is done, its copy has to get home."""
        message = await self.accept(queue, b"portal")
        [row] = [each for each in await self.claimed(queue, kinds={D}) if each.message == message.id]
        await queue.settle([Settled(row.id, RowState.DELIVERED, DELIVERED, drain=Portal(1, "copy"))])
        for _, other in await queue.rows(kinds={D}, states={RowState.CLAIMED}):
            await queue.settle([Settled(other.id, RowState.QUEUED)])

    async def test_an_older_copy_of_the_queue_is_put_back(self) -> None:
        """What had been delivered since was delivered again, and nobody was told that what had come since was gone. Deliveries are held, which people
        release or drop; copies in the portal go home, for one that is home already is not there any more; new mail flows."""
        for index in (True, False):
            queue = await self.older(index=index, held="loop")
            reasons = sorted(row.reason for _, row in await queue.rows(kinds={D}, states={RowState.HELD}))
            assert len(reasons) == 3
            assert reasons[0] == "loop"
            assert all("older copy" in reason for reason in reasons[1:])
            assert [row.state for _, row in await queue.rows(kinds={R})] == [RowState.PARKED]
            assert not await self.claimed(queue, kinds={D})
            [(code, text)] = self.alarms
            assert code == "queue-older"
            assert "2 of its deliveries" in text
            fresh = await self.accept(queue)
            assert [row.message for row in await self.claimed(queue, kinds={D})] == [fresh.id]
            mark = queue.mark()
            queue = await self.reopen(queue, mark=mark)
            assert len(self.alarms) == 1, "told once"
            await queue.close()
            self.setUp()

    async def test_what_was_being_delivered_in_the_older_copy(self) -> None:
        """Attempts that the copy saw under way were taken up again by the look at what a crash had cut off."""
        queue = await self.open()
        await self.accept(queue)
        await self.claimed(queue, kinds={D})
        shutil.copytree(self.directory, self.directory / "backup")
        await self.accept(queue)
        mark = queue.mark()
        await queue.close()
        shutil.rmtree(self.directory / "journal")
        shutil.copytree(self.directory / "backup" / "journal", self.directory / "journal")
        queue = await self.open(mark=mark)
        assert queue.claimed_at_start() == []
        assert [row.state for _, row in await queue.rows(kinds={D})] == [RowState.HELD]

    async def test_a_start_that_is_cut_off_while_it_holds(self) -> None:
        """The copy has grown by then, beyond where it had ended: its deliveries would be believed."""
        whole = OpenedQueue.doubt

        async def cut_off(queue: OpenedQueue, why: str) -> int:
            await queue.remember("s", "k", bytes(5000))
            raise SpoolError("the machine died here")

        self.patch(OpenedQueue, "doubt", cut_off)
        with pytest.raises(SpoolError, match="died here"):
            await self.older(index=False)
        self.patch(OpenedQueue, "doubt", whole)
        queue = await self.open(mark=self.mark)
        assert len(await queue.rows(kinds={D}, states={RowState.HELD})) == 3
        assert not await self.claimed(queue, kinds={D})
        assert [code for code, _ in self.alarms] == ["queue-older"]

    async def test_marks_of_sound_queues(self) -> None:
        """Would catch mail that is held though nothing was put back: after a clean end, a crash, segments that went when their time had come, a bad sector, and
        the mark of a life before the last."""
        disk = BadPlaces()
        queue = await self.open(disk=disk, segment_bytes=20_000)
        old = queue.mark()
        assert old is None
        await self.accept(queue)
        old = queue.mark()
        assert old is not None
        queue = await self.reopen(queue, disk=disk, segment_bytes=20_000, mark=old)
        await gatherResults([self.begun(self.accept(queue, b"x" * 3000, hold="x")) for _ in range(20)])
        await queue.change([row.id for _, row in await queue.rows(states={RowState.HELD})], RowState.REMOVED)
        assert await queue.tidy()
        assert not any(path.name == old.name for path in (self.directory / "journal").iterdir())
        queue = await self.crash(queue, disk=disk, segment_bytes=20_000, mark=old)
        queue = await self.crash(queue, disk=disk, segment_bytes=20_000, mark=queue.mark())
        mark = queue.mark()
        assert mark is not None
        disk.bad.add((mark.name, mark.offset))
        assert queue._journal.missing(mark.name, Position(mark.segment, mark.offset + 1)) == ""
        assert self.alarms == []
        assert not await queue.rows(states={RowState.HELD})

    async def test_contents_that_cannot_be_read(self) -> None:
        """Would catch a start that fails because of a row of the index that means nothing."""
        queue = await self.open()
        message = await self.accept(queue)
        await queue.keeper.write(everything=True)
        await queue.keeper._index._database.run(
            lambda cursor: cursor.execute("UPDATE queue_messages SET row_data = ?", (b"\xc1",))
        )
        queue = await self.crash(queue)
        assert [found.id for found, _ in await queue.rows(kinds={D})] == [message.id]
        await self.same_as_rebuilt(queue)

    async def test_a_position_of_another_journal_does_not_pass(self) -> None:
        """Would catch a check of checkpoints that any offset passes."""
        queue = await self.open()
        message = await self.accept(queue)
        place = queue.live.messages[message.id].place
        assert queue._journal.holds(place)
        assert queue._journal.holds(Position(place.segment, place.offset + 1))
        for wrong in (
            Position(place.segment, place.offset + 2),
            Position(place.segment, 10**9),
            Position(99, 60),
            Position(place.segment, 0),
        ):
            assert not queue._journal.holds(wrong)


class ClockTests(FaultBase):
    """Wall clocks are set; uptime is not."""

    async def worked(self, queue: OpenedQueue, message: Message) -> float:
        """What counts towards giving up, as the next claim and settlement tell it."""
        row = (await self.row(queue, message)).id
        await queue.claim_rows([row], 1.0, never)
        await queue.settle([Settled(row, RowState.QUEUED, due=LATER)])
        return float((await self.row(queue, message)).worked)

    async def test_a_leap_gives_nothing_up(self) -> None:
        """Would catch six days that never passed (suspend, NTP) counted towards giving up, at run time or over a restart (rule 5)."""
        queue = await self.open()
        message = await self.accept(queue)
        self.uptime.advance(30.0)
        self.reactor.moved = 6 * 86400
        assert await self.worked(queue, message) == 30.0
        self.uptime.advance(10.0)
        await queue.tidy()
        for again in (await self.crash(queue), await self.crash(queue, index=False)):
            assert 40.0 <= await self.worked(again, message) <= 70.0
        queue = await self.reopen(queue)
        self.uptime.advance(60.0)
        assert await self.worked(queue, message) == 100.0

    async def test_parked_time_does_not_count(self) -> None:
        """Would catch rule 5 broken for parked and held rows."""
        queue = await self.open()
        message = await self.accept(queue)
        row = (await self.row(queue, message)).id
        self.uptime.advance(5.0)
        await queue.change([row], RowState.PARKED)
        self.uptime.advance(500.0)
        assert await self.worked(queue, message) == 5.0

    async def test_a_clock_that_is_set_back_delays_nobody_for_days(self) -> None:
        """Would catch mail that is not tried again until the wall clock is where it was: at run time, and after a restart."""
        queue = await self.open(longest=7200.0)
        message = await self.accept(queue)
        row = (await self.row(queue, message)).id
        now = reactor.seconds()
        await queue.change([row], RowState.QUEUED, due=now + 3000.0)
        self.reactor.moved = -6 * 86400
        back = now + self.reactor.moved
        again = await self.crash(queue, longest=7200.0)
        due = again.next_due({D})
        assert due is not None
        assert back < due <= back + 7300.0
        await self.accept(queue, hold="x")
        for _ in range(5):
            await deferLater(reactor, 0)
        due = queue.next_due({D})
        assert due is not None
        assert back <= due <= back + 7300.0
        assert (await self.row(queue, message)).due == due


class PackedTurnTests(TurnTests):
    """The same with a memory that keeps no message whole."""

    unpacked = 0


class PackedWakingTests(WakingTests):
    """The same with a memory that keeps no message whole."""

    unpacked = 0


class PackedBadDiskTests(BadDiskTests):
    """The same with a memory that keeps no message whole."""

    unpacked = 0


class PackedForeignIndexTests(ForeignIndexTests):
    """The same with a memory that keeps no message whole."""

    unpacked = 0


class PackedClockTests(ClockTests):
    """The same with a memory that keeps no message whole."""

    unpacked = 0
