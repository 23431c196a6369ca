"""The queue's promises, on both engines of its index, and over restarts."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from hornetmail.core.delivery.queued import Message, Portal, Row, RowKind, RowState, Settled, WaitsFor
from hornetmail.core.failover.verdict import Outcome, Verdict
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.db.engines import DatabaseBroken
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.disk.mounts import NetworkFileSystem
from hornetmail.disk.records import WrongKey
from hornetmail.disk.seal import Seal
from hornetmail.interfaces.body import IBody, IDeposit
from hornetmail.interfaces.queue import IQueue
from hornetmail.spool import start
from hornetmail.spool.disk.deposit import SHORT
from hornetmail.spool.disk.errors import SpoolError
from hornetmail.spool.start import OpenedQueue, open_queue
from hornetmail.testing.databases import fresh_url

SEAL = Seal(b"s" * 32)
ORIGIN = Origin(Door.MX, "192.0.2.1", "client.example")
D, A, R = RowKind.DELIVER, RowKind.ARCHIVE, RowKind.DRAIN
LATER = 4e9
DELIVERED = Verdict(Outcome.DELIVERED, Reply(250, "2.0.0", "ok"), "primary")


def never(_row: Row) -> float:
    """A next time far away."""
    return LATER


class Base(TestCase):
    """A queue in a directory of its own; ``reopen`` is a clean restart, ``crash`` one that writes nothing more."""

    engine = "sqlite"
    unpacked = 20_000
    reactor: Any = reactor

    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="hm-queue-")))
        self.url = self.enterContext(fresh_url(self.engine))
        self.copies = 0

    async def open(self, directory: Path | None = None, **keywords: Any) -> OpenedQueue:
        queue = await open_queue(
            self.reactor,
            directory or self.directory,
            self.url,
            disk=keywords.pop("disk", None) or Disk(),
            seal=SEAL,
            longest=keywords.pop("longest", 1e12),
            least_free=0.0,
            unpacked=self.unpacked,
            **keywords,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(queue.close()))
        return queue

    async def reopen(self, queue: OpenedQueue, **keywords: Any) -> OpenedQueue:
        await queue.close()
        return await self.open(**keywords)

    async def crash(self, queue: OpenedQueue, *, index: bool = True, **keywords: Any) -> OpenedQueue:
        """The directory as it is on disk this moment, and the index as it is, or lost (on PostgreSQL always)."""
        self.copies += 1
        copy = self.directory.with_name(f"{self.directory.name}-{self.copies}")
        self.addCleanup(shutil.rmtree, copy)
        shutil.copytree(self.directory, copy)
        url, self.url = self.url, self.enterContext(fresh_url(self.engine))
        if index and self.engine == "sqlite":
            for suffix in ("", "-wal"):
                shutil.copy(url.removeprefix("sqlite://") + suffix, self.url.removeprefix("sqlite://") + suffix)
        try:
            return await self.open(copy, **keywords)
        finally:
            self.url = url

    async def lives(self, queue: OpenedQueue, *others: OpenedQueue) -> AsyncIterator[OpenedQueue]:
        """The queue itself, the others, after a crash, and after a clean restart."""
        for one in (queue, *others):
            yield one
        yield await self.crash(queue)
        yield await self.reopen(queue)

    async def accept(
        self,
        queue: OpenedQueue,
        body: bytes = b"Subject: x\r\n\r\nhi\r\n",
        to: tuple[str, ...] = ("a@example.test",),
        **keywords: Any,
    ) -> Message:
        deposit = queue.begin(1)
        for place in range(0, len(body), 50_000):
            await deposit.write(body[place : place + 50_000])
        envelope = Envelope("from@example.org", tuple(map(Recipient, to)))
        keywords = {"domain": "example.test", "archive": True, **keywords}
        direction = keywords.pop("direction", Direction.IN)
        return await deposit.commit(envelope, ORIGIN, direction, b"Received: here\r\n", **keywords)

    async def states(self, queue: OpenedQueue, **keywords: Any) -> list[tuple[str, str]]:
        return [(row.kind.value, row.state.value) for _, row in await queue.rows(**keywords)]

    async def claimed(self, queue: OpenedQueue, **keywords: Any) -> list[Row]:
        claims = await queue.claim(reactor.seconds(), 100, keywords.pop("next_due", never), **keywords)
        return [row for claim in claims for row in claim.rows]


class QueueTests(Base):
    """On SQLite."""

    async def test_interfaces(self) -> None:
        """Would catch a method that IQueue, IDeposit or IBody promise and that is missing or shaped otherwise."""
        queue = await self.open()
        verifyObject(IQueue, queue)
        deposit = queue.begin(1)
        assert IDeposit.providedBy(deposit)
        await deposit.abort()
        message = await self.accept(queue)
        verifyObject(IBody, await queue.body(message.id))

    async def test_accepted_is_kept_byte_for_byte(self) -> None:
        """Would catch a body or envelope that changes, over the limit between journal and file and over restarts (step 2)."""
        queue = await self.open()
        sizes = (0, 1, 70_000, SHORT - 1, SHORT, SHORT + 1, 3 * 65536, 1_000_003)
        bodies = [hashlib.shake_256(str(size).encode()).digest(size) for size in sizes]
        accepted = await gatherResults(
            [Deferred.fromCoroutine(self.accept(queue, body, ("a@example.test", "B@Example.test"))) for body in bodies]
        )
        async for again in self.lives(queue):
            for message, body in zip(accepted, bodies, strict=True):
                kept = await again.body(message.id)
                assert kept.size == message.size == len(body)
                assert await kept.read() == body
                for place, length in ((65530, 20), (65541, 20), (131070, 70_000), (3, 0), (1_000_000, 9)):
                    assert await kept.read(place, length) == body[place : place + length]
                assert b"".join([chunk async for chunk in kept.chunks()]) == body
                assert message.sha256 == hashlib.sha256(body).digest()
                rows = await again.rows(message=message.id)
                assert [row.kind for _, row in rows] == [D, D, A]
                assert [row.address for _, row in rows] == ["a@example.test", "B@Example.test", ""]
                assert all(found == message for found, _ in rows)
        assert len(list((self.directory / "bodies").iterdir())) == 4

    async def test_bodies_lie_sealed(self) -> None:
        """Would catch mail that can be read in the queue's files (rule 24)."""
        queue = await self.open()
        await self.accept(queue, b"very secret words " * 10)
        await self.accept(queue, b"very secret words " * 20_000)
        queue = await self.reopen(queue)
        files = [path for path in self.directory.rglob("*") if path.is_file()]
        assert len(files) == 3
        assert not any(b"secret words" in path.read_bytes() for path in files)

    async def test_the_way_of_a_message(self) -> None:
        """Would catch an archive row that is due before a delivery (A18) or never, and a message that stays or leaves too early."""
        queue = await self.open()
        message = await self.accept(queue, to=("a@example.test", "b@example.test"))
        (claim,) = await queue.claim(reactor.seconds(), 10, never)
        assert [row.attempts for row in claim.rows] == [1, 1]
        assert claim.rows[0].due == LATER
        assert await self.claimed(queue) == []
        first, second = claim.rows
        await queue.settle([Settled(second.id, RowState.QUEUED, due=LATER)])
        assert await self.claimed(queue) == []
        await queue.settle([Settled(first.id, RowState.DELIVERED, DELIVERED)])
        (archive,) = await self.claimed(queue)
        assert archive.kind is A
        await queue.settle([Settled(archive.id, RowState.DELIVERED)])
        assert (await queue.body(message.id)).size
        (again,) = await queue.claim_rows([second.id, first.id], 1.0, never)
        assert [row.id for row in again.rows] == [second.id]
        await queue.settle([Settled(second.id, RowState.DELIVERED)])
        assert await queue.rows() == []
        assert queue.backlog().messages == 0
        with pytest.raises(KeyError):
            await queue.body(message.id)
        for again_open in (await self.crash(queue), await self.reopen(queue)):
            assert await again_open.rows() == []

    async def test_rejected_mail_is_not_archived(self) -> None:
        """Would catch A20 broken: all recipients failed or removed, and the archive row still waits or wakes."""
        queue = await self.open()
        await self.accept(queue, to=("a@example.test", "b@example.test"))
        first, second = await self.claimed(queue)
        await queue.settle([Settled(first.id, RowState.FAILED), Settled(second.id, RowState.QUEUED, due=LATER)])
        assert await self.states(queue, kinds={A}) == [("archive", "waiting")]
        assert await queue.change([second.id], RowState.REMOVED) == 1
        assert await queue.rows() == []

    async def test_failover_bears_a_drain_row(self) -> None:
        """Would catch rule 3 broken: no drain row from birth, the wrong state for the mode, an envelope or portal place that is lost,
        and a body that is kept although the portal has the copy."""
        queue = await self.open()
        message = await self.accept(queue, b"x" * 200_000, to=("a@example.test", "b@example.test"))
        first, second = await self.claimed(queue)
        copies = [Portal(7, "one"), Portal(8, "two", uncertain=True)]
        await queue.settle(
            [
                Settled(first.id, RowState.DELIVERED, DELIVERED, due=LATER, drain=copies[0]),
                Settled(second.id, RowState.DELIVERED, DELIVERED, drain=copies[1], reason="emergency"),
            ]
        )
        (archive,) = await self.claimed(queue)
        await queue.settle([Settled(archive.id, RowState.DELIVERED)])
        with pytest.raises(KeyError):
            await queue.body(message.id)
        queue = await self.reopen(queue)
        assert list((self.directory / "bodies").iterdir()) == []
        one, two = [row for _, row in await queue.rows(kinds={R})]
        assert (one.state, one.due, one.portal, one.address) == (RowState.QUEUED, LATER, copies[0], "a@example.test")
        assert (two.state, two.reason, two.portal) == (RowState.PARKED, "emergency", copies[1])
        assert [row.id for _, row in await queue.rows(mailbox=8)] == [two.id]
        (drained,) = await queue.claim_rows([two.id], 1.0, never)
        assert drained.message == message
        await queue.settle([Settled(two.id, RowState.DELIVERED), Settled(one.id, RowState.STUCK, reason="5xx")])
        assert [row.state for _, row in await queue.rows(kinds={R})] == [RowState.STUCK, RowState.DELIVERED]
        await queue.change([one.id], RowState.REMOVED)
        assert await queue.rows() == []

    async def test_claims_of_the_dead_are_told_and_queued(self) -> None:
        """Would catch an attempt that a crash made invisible: never retried, or retried at once although a time was recorded (step 4)."""
        queue = await self.open()
        message = await self.accept(queue)
        (row,) = await self.claimed(queue, next_due=lambda row: 1000.0 + row.attempts)
        for again in (await self.crash(queue), await self.reopen(queue)):
            ((told, claimed),) = again.claimed_at_start()
            assert told == message
            assert (claimed.id, claimed.state, claimed.due, claimed.attempts) == (row.id, RowState.CLAIMED, 1001.0, 1)
            assert (await again.rows(kinds={D}))[0][1].state is RowState.QUEUED
        await again.settle([Settled(row.id, RowState.DELIVERED, drain=Portal(1, "n"))])
        assert await self.states(again, kinds={D, R}) == [("deliver", "delivered"), ("drain", "parked")]

    async def test_claims_of_the_dead_are_told_until_they_are_settled(self) -> None:
        """Rule 11: a second death before the first one's attempts were settled, the index written in between, would lose that they may have
        been hand-overs."""
        queue = await self.open()
        await self.accept(queue)
        (row,) = await self.claimed(queue)
        second = await self.reopen(await self.reopen(queue))
        assert [(told.id, told.state) for _, told in second.claimed_at_start()] == [(row.id, RowState.CLAIMED)]
        await second.settle([Settled(row.id, RowState.QUEUED, due=LATER)])
        third = await self.reopen(second)
        assert not third.claimed_at_start()

    async def test_what_the_last_attempt_came_to_is_kept(self) -> None:
        """Would catch a queue that shows, and writes into the delay notice, no reason after a restart, read from the index or copied forward."""
        queue = await self.open()
        message = await self.accept(queue, archive=False)
        (row,) = await self.claimed(queue)
        why = Verdict(Outcome.DEFERRED, Reply(452, "4.2.2", "mailbox full"), "primary")
        await queue.settle([Settled(row.id, RowState.QUEUED, why, due=LATER, reason="waits", delay_told=True)])
        async for again in self.lives(queue, await self.crash(queue, index=False)):
            ((_, kept),) = await again.rows(message=message.id)
            assert (kept.last, kept.reason, kept.delay_told, kept.attempts, kept.due) == (why, "waits", True, 1, LATER)

    async def test_claims_of_the_dead_that_somebody_decided_about(self) -> None:
        """Would catch an interrupted attempt that is told of, and tried again, although somebody has held or removed its row since; and a start that
        fails over one that is gone."""
        queue = await self.open()
        await self.accept(queue, to=("a@example.test",), archive=False)
        await self.accept(queue, to=("b@example.test",), archive=False)
        held, gone = await self.claimed(queue)
        queue = await self.reopen(queue)
        assert len(queue.claimed_at_start()) == 2
        await queue.change([held.id], RowState.HELD, reason="by hand")
        await queue.change([gone.id], RowState.REMOVED)
        for again in (await self.crash(queue), await self.crash(queue, index=False), await self.reopen(queue)):
            assert again.claimed_at_start() == []
            assert [(row.id, row.state) for _, row in await again.rows()] == [(held.id, RowState.HELD)]

    async def test_share(self) -> None:
        """Rule 1's time-outs: many messages for one hanging destination would keep all others waiting. They wait unclaimed, are not lost when
        there is room again, and recipients of one message at one destination stay together."""

        class Two:
            rooms = {"slow.test": 2}
            waits = False

            def kept_waiting(self) -> None:
                self.waits = True

            def destination(self, domain: str, address: str) -> str:
                return address.rpartition("@")[2]

            def room(self, destination: str, taking: Mapping[str, int] = {}) -> int:
                return self.rooms.get(destination, 100) - taking.get(destination, 0)

        queue, share = await self.open(), Two()
        slow = [await self.accept(queue, to=(f"{n}@slow.test", f"{n}b@slow.test")) for n in range(6)]
        mixed = await self.accept(queue, to=("a@slow.test", "b@quick.test"))
        quick = [await self.accept(queue, to=(f"{n}@quick.test",)) for n in range(3)]
        claims = await queue.claim(LATER, 100, never, (D,), share)
        assert [(claim.message.id, len(claim.rows)) for claim in claims] == [
            (slow[0].id, 2),
            (slow[1].id, 2),
            (mixed.id, 1),
            *((message.id, 1) for message in quick),
        ]
        share.rooms["slow.test"] = 0
        assert not await queue.claim(LATER, 100, never, (D,), share)
        share.rooms["slow.test"] = 3
        share.waits = False
        again = await queue.claim(LATER - 1, 100, never, (D,), share)
        assert [claim.message.id for claim in again] == [message.id for message in slow[2:5]]
        assert share.waits, "all that came back found room, and others wait on"
        last = await queue.claim(LATER - 1, 100, never, (D,), share)
        assert [claim.message.id for claim in last] == [slow[5].id, mixed.id]

    async def test_a_copy_is_queued(self) -> None:
        """Rule 10: a copy that came back is one drain row, durable, without a body; its message leaves with it."""
        queue = await self.open()
        copy = Portal(7, "1.R2P0.h,S=9,E=4", True)
        envelope = Envelope("from@example.org", (Recipient("a@example.test"),), ret="HDRS")
        message = await queue.queue_copy(
            copy, envelope, "a@example.test", tenant=3, domain="example.test", arrived=5.0, size=5, due=LATER
        )
        for life in (await self.crash(queue), await self.reopen(queue)):
            ((found, row),) = await life.rows(mailbox=7)
            assert found == message
            assert (row.kind, row.state, row.portal, row.due) == (R, RowState.QUEUED, copy, LATER)
        with pytest.raises(KeyError):
            await life.body(message.id)
        ((_, row),) = await life.rows()
        await life.claim_rows([row.id], 1.0, never)
        await life.settle([Settled(row.id, RowState.DELIVERED, DELIVERED)])
        assert life.backlog().messages == 0

    async def test_a_claim_is_one_owners(self) -> None:
        """Would catch two claims of one row while the first is on its way to disk, and changes under an attempt."""
        queue = await self.open()
        await self.accept(queue)
        now = reactor.seconds()
        first = Deferred.fromCoroutine(queue.claim(now, 10, never))
        second = Deferred.fromCoroutine(queue.claim(now, 10, never))
        (claim,) = await first
        assert list(await second) == []
        assert await queue.change([claim.rows[0].id], RowState.REMOVED) == 0
        assert list(await queue.claim_rows([claim.rows[0].id], now, never)) == []
        with pytest.raises(ZeroDivisionError):
            await self.accept(queue)
            await queue.claim(reactor.seconds(), 10, lambda _row: 1 / 0)
        assert len(await self.claimed(queue)) == 1

    async def test_claims_are_oldest_first_and_limited(self) -> None:
        """Would catch starvation of old rows, and kinds that are not asked for."""
        queue = await self.open()
        ids = [(await self.accept(queue)).id for _ in range(6)]
        rows = [row for _, row in await queue.rows(kinds={D})]
        await queue.change([rows[4].id], RowState.QUEUED, due=5.0)
        claims = await queue.claim(reactor.seconds(), 3, never, kinds={D})
        assert [claim.message.id for claim in claims] == [ids[4], ids[0], ids[1]]
        assert await self.claimed(queue, kinds={R, A}) == []
        assert len(await self.claimed(queue)) == 3

    async def test_by_hand_nobody_is_dialled_again(self) -> None:
        """A delivery that has failed, whose sender is yet to be told: flushed, held and released, or made due with its domain, it went to the server that had
        refused it for good once more, and lost the time that it had waited."""
        queue = await self.open()
        message = await self.accept(queue)
        [row] = [each for each in await self.claimed(queue) if each.kind is D]
        await queue.settle([Settled(row.id, RowState.QUEUED, due=reactor.seconds() + 900, waits_for=WaitsFor.NOTICE)])
        for state in (RowState.QUEUED, RowState.HELD, RowState.QUEUED):
            assert await queue.change([row.id], state, due=reactor.seconds() + 900) == 1
            queue = await self.reopen(queue)
            [(_, found)] = await queue.rows(message=message.id, kinds={D})
            assert (found.state, found.waits_for) == (state, WaitsFor.NOTICE)
        await queue.adopt("example.test", reactor.seconds())
        [row] = await self.claimed(queue, kinds={D})
        assert row.waits_for is WaitsFor.NOTICE
        await queue.settle([Settled(row.id, RowState.QUEUED, due=reactor.seconds() + 900, waits_for=WaitsFor.OUTAGE)])
        await queue.change([row.id], RowState.QUEUED)
        [row] = await self.claimed(queue, kinds={D})
        assert row.waits_for is WaitsFor.NOTHING

    async def test_silences_are_counted_on_disk(self) -> None:
        """Would catch a count of unanswered final dots that a restart, a crash, or an older record forgets: five copies more each time (rule 11)."""
        queue = await self.open()
        message = await self.accept(queue)
        [row] = [each for each in await self.claimed(queue) if each.kind is D]
        later = reactor.seconds() + 900
        for count in (1, 3):
            await queue.settle([Settled(row.id, RowState.QUEUED, due=later, unheard=count)])
            await queue.claim_rows([row.id], later, never)
        await queue.settle([Settled(row.id, RowState.QUEUED, due=later)])
        queue = await self.reopen(queue)
        await queue.claim_rows([row.id], later, never)
        await queue.settle([Settled(row.id, RowState.DELIVERED, drain=Portal(1, "copy", True), due=later, unheard=4)])
        other = await self.accept(queue)
        [held] = [each for each in await self.claimed(queue) if each.message == other.id and each.kind is D]
        await queue.settle([Settled(held.id, RowState.HELD, reason="never answered", unheard=5)])
        async for life in self.lives(queue, await self.crash(queue, index=False)):
            [(_, born)] = await life.rows(message=message.id, kinds={R})
            assert born.unheard == 4, "a copy goes on from what its delivery had come to"
            [(_, found)] = await life.rows(message=other.id, kinds={D})
            assert found.unheard == 5
            await life.change([found.id], RowState.HELD, reason="by hand")
            [(_, found)] = await life.rows(message=other.id, kinds={D})
            assert found.unheard == 5, "nobody's order is an answer"

    async def test_hold_release_park_and_delete(self) -> None:
        """Would catch held mail that is delivered, parked time that counts towards giving up (rule 5), or an archive row that is freed by hand."""
        queue = await self.open()
        message = await self.accept(queue, hold="loop")
        assert await self.claimed(queue) == []
        (deliver, archive) = [row for _, row in await queue.rows()]
        assert (deliver.state, deliver.reason, archive.state) == (RowState.HELD, "loop", RowState.WAITING)
        assert queue.backlog().held == 1
        assert await queue.change([deliver.id, archive.id], RowState.QUEUED) == 1
        assert queue.backlog().held == 0
        (row,) = await self.claimed(queue)
        await queue.settle([Settled(row.id, RowState.PARKED, reason="no mailbox")])
        assert await self.claimed(queue) == []
        queue = await self.reopen(queue)
        assert (await queue.rows(states={RowState.PARKED}))[0][1].reason == "no mailbox"
        assert await queue.change([deliver.id, archive.id, 12345], RowState.REMOVED) == 2
        with pytest.raises(KeyError):
            await queue.body(message.id)
        for state in (RowState.CLAIMED, RowState.WAITING):
            with pytest.raises(ValueError):
                await queue.change([deliver.id], state)

    async def test_adoption_is_one_transition(self) -> None:
        """Would catch L4 broken: deferred mail that stays out of reach, or outgoing, held and claimed mail that is swept along."""
        queue = await self.open()
        for keywords in ({}, {}, {"hold": "x"}, {"direction": Direction.OUT}, {"domain": "other.test", "to": ("c@other.test",)}):
            await self.accept(queue, **keywords)
        taken = await self.claimed(queue)
        await queue.settle([Settled(row.id, RowState.QUEUED, due=LATER) for row in taken])
        assert await queue.adopt("example.test", reactor.seconds()) == 2
        queue = await self.reopen(queue)
        assert len(await self.claimed(queue)) == 2
        assert await queue.adopt("unknown.test", 1.0) == 0

    async def test_a_request_is_one_message(self) -> None:
        """Would catch a redelivery or notice that a repeated call, a race or a restart turns into two (design: request ID unique)."""
        queue = await self.open()
        both = await gatherResults([Deferred.fromCoroutine(self.accept(queue, request="r1")) for _ in range(3)])
        assert len({message.id for message in both}) == 1
        big = await self.accept(queue, b"x" * 200_000, request="r1")
        assert big == both[0]
        queue = await self.reopen(queue)
        assert await self.accept(queue, request="r1") == both[0]
        await queue.change([row.id for _, row in await queue.rows()], RowState.REMOVED)
        assert await queue.rows() == []
        assert await self.accept(queue, request="r1") == both[0]
        queue = await self.reopen(queue)
        assert await self.accept(queue, request="r1") == both[0]
        assert (await self.accept(queue, request="r2")).id != both[0].id
        assert list((self.directory / "bodies").iterdir()) == []

    async def test_facts(self) -> None:
        """Would catch a mode that a restart forgets, or one that comes back after it was forgotten."""
        queue = await self.open()
        await queue.remember("modes", "example.test", b"emergency")
        await queue.remember("modes", "other.test", b"x")
        await queue.remember("modes", "other.test", None)
        for again in (await self.crash(queue), await self.reopen(queue)):
            assert again.remembered("modes") == {"example.test": b"emergency"}
            assert again.remembered("none") == {}
        await again.remember("modes", "example.test", None)
        assert (await self.reopen(again)).remembered("modes") == {}

    async def test_wake(self) -> None:
        """Would catch a scheduler that sleeps while something is due: on arrival, by the clock, after an adoption, after a settlement."""
        queue = await self.open()
        calls: list[Deferred[None]] = [Deferred()]

        def woken() -> None:
            calls.append(Deferred())
            calls[-2].callback(None)

        queue.wake(woken)
        await self.accept(queue)
        await calls[-1]
        (row,) = await self.claimed(queue)
        waiting = calls[-1]
        await queue.settle([Settled(row.id, RowState.QUEUED, due=reactor.seconds() + 0.05)])
        await waiting
        due = queue.next_due({D})
        assert due is not None
        while reactor.seconds() < due:
            await calls[-1]
        (row,) = await self.claimed(queue)
        waiting = calls[-1]
        await queue.settle([Settled(row.id, RowState.QUEUED, due=LATER)])
        await queue.adopt("example.test", reactor.seconds())
        await waiting

    async def test_figures_and_pages(self) -> None:
        """Would catch figures that drift and pages that skip or repeat."""
        queue = await self.open()
        for n in range(7):
            await self.accept(
                queue, domain="x.test" if n % 2 else "example.test", to=(f"u{n}@y.test",), hold="h" if n == 6 else ""
            )
        seen: list[int] = []
        while page := await queue.rows(limit=3, after=seen[-1] if seen else 0):
            seen += [row.id for _, row in page]
        assert len(seen) == 14
        assert seen == sorted(seen)
        assert len(await queue.rows(domain="x.test")) == 6
        assert len(await queue.rows(domain="y.test", kinds={D})) == 7
        async for again in self.lives(queue):
            figures = again.backlog()
            assert (figures.messages, figures.deliver, figures.archive, figures.drain, figures.held) == (7, 7, 7, 0, 1)
            assert 0 <= figures.oldest < 100

    async def test_the_index_may_be_old_gone_or_another_journals(self) -> None:
        """Would catch an index that is believed although the journal says otherwise (files are the truth)."""
        queue = await self.open()
        old = [await self.accept(queue, bytes([65 + n]) * 50) for n in range(5)]
        queue = await self.reopen(queue)
        rows = {row.message: row for _, row in await queue.rows(kinds={D})}
        claims = await queue.claim_rows([rows[message.id].id for message in old[:3]], 1.0, never)
        await queue.settle([Settled(claims[0].rows[0].id, RowState.FAILED)])
        new = await self.accept(queue)
        await queue.remember("s", "k", b"v")
        expected = [(message, row) for message, row in await queue.rows()]
        behind = await self.crash(queue)
        if self.engine == "sqlite":
            assert behind.replayed.records == 4
        assert [message for message, _ in await behind.rows()] == [message for message, _ in expected]
        await behind.close()
        empty = await self.crash(queue, index=False)
        assert [message for message, _ in await empty.rows()] == [message for message, _ in expected]
        assert await (await empty.body(old[1].id)).read() == b"B" * 50
        assert empty.remembered("s") == {"k": b"v"}
        await empty.close()
        await queue.close()
        with pytest.raises(FileNotFoundError, match="not mounted"):
            await self.open(self.directory / "other")
        url, self.url = self.url, self.enterContext(fresh_url(self.engine))
        other = await self.open(self.directory / "other")
        theirs = await self.accept(other)
        await other.close()
        self.url = url
        other = await self.open(self.directory / "other")
        assert {message.id for message, _ in await other.rows()} == {theirs.id}
        assert new.id

    async def test_old_segments_go_and_live_records_move(self) -> None:
        """Would catch a journal that only grows, and live mail, facts or requests that a dropped segment takes along."""
        queue = await self.open(segment_bytes=40_000)
        await queue.remember("s", "k", b"v")
        keep = await self.accept(queue, b"K" * 3000, request="kept")
        parked = await self.accept(queue, b"P" * 3000)
        for _ in range(4):
            await gatherResults([Deferred.fromCoroutine(self.accept(queue, b"x" * 4000)) for _ in range(20)])
            rows = [row.id for message, row in await queue.rows() if message.id not in (keep.id, parked.id)]
            await queue.change(rows, RowState.REMOVED)
        (claim,) = await queue.claim_rows([row.id for _, row in await queue.rows(message=parked.id)], 1.0, never)
        await queue.settle([Settled(claim.rows[0].id, RowState.DELIVERED, drain=Portal(3, "n"), reason="emergency")])
        (archive,) = await self.claimed(queue, kinds={A})
        await queue.settle([Settled(archive.id, RowState.DELIVERED)])
        before = sum(path.stat().st_size for path in self.directory.rglob("*.log"))
        assert await queue.tidy() > 5
        assert sum(path.stat().st_size for path in self.directory.rglob("*.log")) < before / 4
        assert await queue.tidy() == 0
        rebuilt = await self.crash(queue, index=False)
        async for again in self.lives(queue, rebuilt):
            assert await (await again.body(keep.id)).read() == b"K" * 3000
            assert await self.states(again, message=parked.id) == [
                ("deliver", "delivered"), ("archive", "delivered"), ("drain", "parked"),
            ]  # fmt: skip
            assert again.backlog().messages == 2
            assert again.remembered("s") == {"k": b"v"}
            assert (await self.accept(again, request="kept")).id == keep.id

    async def test_the_index_lags_and_what_passes_through_never_touches_it(self) -> None:
        """Would catch an index write for every message: the hot path pays for it."""
        queue = await self.open()
        writes = []
        write = queue.keeper._index.write

        async def counted(change: Any) -> None:
            writes.append(len(change.entries) + len(change.left))
            await write(change)

        queue.keeper._index.write = counted  # type: ignore[method-assign]
        for _ in range(5):
            await self.accept(queue, archive=False)
            (row,) = await self.claimed(queue)
            await queue.settle([Settled(row.id, RowState.DELIVERED)])
        await queue.keeper.write(everything=True)
        assert writes == [0]

    async def test_no_room_and_closed(self) -> None:
        """Would catch mail taken on a full disk (rule 20: 452), or by a queue that is closing."""
        queue = await self.open()
        queue.room.least_free = 1.1
        with pytest.raises(DiskFull):
            await self.accept(queue)
        queue.room.least_free = 0.0
        deposit = queue.begin(1)
        await deposit.write(b"x" * 300_000)
        await deposit.abort()
        await deposit.abort()
        with pytest.raises(SpoolError):
            await deposit.write(b"x")
        assert list((self.directory / "bodies").iterdir()) == []
        await queue.close()
        with pytest.raises(SpoolError):
            await self.accept(queue)

    async def test_many_messages_from_the_index(self) -> None:
        """Would catch a start that reads bodies again, or pages of the index that are skipped (more than one page of 2,000)."""
        queue = await self.open()
        await gatherResults([Deferred.fromCoroutine(self.accept(queue)) for _ in range(2_500)])
        queue = await self.reopen(queue)
        assert queue.replayed.records == 0
        assert queue.backlog().deliver == 2_500
        claims = await queue.claim(reactor.seconds(), 5_000, never)
        assert len(claims) == 2_500
        page = await queue.rows(kinds={A}, limit=5_000)
        assert len(page) == 2_500

    async def test_refusals_at_start(self) -> None:
        """Would catch a queue on a network file system (rule 8), one opened under another key, and a start that leaks its threads."""
        queue = await self.open()
        await self.accept(queue)
        await queue.close()
        with pytest.raises(WrongKey):
            await open_queue(reactor, self.directory, self.url, disk=Disk(), seal=Seal(b"o" * 32))
        self.patch(start, "refuse_network", lambda path: (_ for _ in ()).throw(NetworkFileSystem(str(path))))
        with pytest.raises(NetworkFileSystem):
            await open_queue(reactor, self.directory, self.url, disk=Disk(), seal=SEAL)
        await deferLater(reactor, 0)

    async def test_close_lets_what_is_under_way_end(self) -> None:
        """Would catch a close that pulls the journal away under a batch or a tidying, so that somebody waits for ever or is told wrongly."""
        queue = await self.open(segment_bytes=20_000)
        waits: list[Deferred[Any]] = [Deferred.fromCoroutine(self.accept(queue, b"x" * 3000)) for _ in range(30)]
        first = await waits.pop(0)
        waits += [Deferred.fromCoroutine(self.accept(queue, b"y" * 200_000)) for _ in range(2)]
        waits.append(Deferred.fromCoroutine(queue.tidy()).addBoth(lambda _: None))
        closing = Deferred.fromCoroutine(queue.close())
        accepted = await gatherResults([wait.addErrback(lambda f: f.trap(SpoolError)) for wait in waits])
        await closing
        queue = await self.open()
        kept = {message.id for message, _ in await queue.rows()}
        assert {first.id} | {outcome.id for outcome in accepted if isinstance(outcome, Message)} == kept
        assert len(kept) >= 30


class OnPostgreSQL(QueueTests):
    """The same with the index in PostgreSQL."""

    engine = "postgresql"


class PackedTests(QueueTests):
    """The same with a memory that keeps no message whole."""

    unpacked = 0


class PackedOnPostgreSQL(OnPostgreSQL):
    """The same with both."""

    unpacked = 0


class DamagedIndexTests(Base):
    """What only a file can suffer."""

    async def test_a_damaged_index_is_made_again(self) -> None:
        """Would catch a start that fails, or forgets mail, because queue.db is broken."""
        queue = await self.open()
        message = await self.accept(queue)
        await queue.close()
        Path(self.url.removeprefix("sqlite://")).write_bytes(b"garbage" * 1000)
        queue = await self.open()
        assert [found.id for found, _ in await queue.rows(kinds={D})] == [message.id]

    async def test_a_broken_index_stops_nothing(self) -> None:
        """Would catch mail that is refused because queue.db fails while the journal is sound."""
        queue = await self.open()
        first = await self.accept(queue)

        async def broken(_change: Any) -> None:
            raise DatabaseBroken("disk I/O error")

        queue.keeper._index.write = broken  # type: ignore[method-assign]
        with pytest.raises(DatabaseBroken):
            await queue.keeper.write(everything=True)
        second = await self.accept(queue)
        queue = await self.reopen(queue)
        assert [message for message, _ in await queue.rows(kinds={D})] == [first, second]
