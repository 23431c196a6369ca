"""Messages of which memory keeps no more than their rows: nothing is lost by that, and what cannot be read costs one message."""

from __future__ import annotations

import errno
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from hornetmail.core.delivery.queued import Message, Portal, RowKind, RowState, Settled, WaitsFor
from hornetmail.core.failover.verdict import Outcome, Verdict
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.spool.disk.journal import LiveRow, Where
from hornetmail.spool.rows.entries import Entries
from hornetmail.spool.rows.entry import Entry
from hornetmail.spool.rows.packed import Numbers, Shared, in_file, pack, unpack
from hornetmail.spool.start import OpenedQueue
from tests.spool.test_faults import BadPlaces, FaultBase
from tests.spool.test_queue import LATER, A, D, never

MOST = 400
"""Bytes of memory for a packed message with a recipient and an archive row, all sets that it is in included; the aim is a million in less than 500 MB."""

VERDICTS = st.none() | st.builds(
    Verdict, st.sampled_from(Outcome), st.builds(Reply, st.integers(200, 599), st.just("4.0.0"), st.text(max_size=9)), st.just("primary")
)  # fmt: skip
TIMES = st.sampled_from([0.0, 1.0, 1.7e9 + 0.123456])
ROWS = st.lists(
    st.builds(
        LiveRow, st.integers(101, 1 << 40), st.just(100), st.sampled_from(RowKind), st.sampled_from(RowState),
        st.sampled_from(["", "a@x.test", "B@X.test", "a@sub.x.test", "postmaster", "b@y.test", "@x.test", "ü@x.test"]), st.integers(0, 999),
        TIMES, st.integers(0, 99), TIMES, TIMES, VERDICTS, st.none() | st.builds(Portal, st.integers(1, 9), st.text(max_size=5), st.booleans()),
        st.text(max_size=5), st.booleans(), TIMES, st.booleans(), st.none() | st.sampled_from(WaitsFor),
        st.lists(st.integers(1, 1 << 62), max_size=2).map(tuple), st.integers(0, 9),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@given(
    ROWS, st.sampled_from(["", "x.test", "y.test"]), st.sampled_from(Where), st.integers(0, 1 << 62), st.booleans(), st.booleans(),
    st.sampled_from(["", "r1"]), st.integers(0, 2),
)  # fmt: skip
def test_packed_and_unpacked_is_the_same(
    rows: list[LiveRow], domain: str, where: Where, file: int, outgoing: bool, indexed: bool, request: str, slots: int
) -> None:
    """Would catch a field of a row that is lost, rounded or taken from another row, whatever it holds, and verdicts that are mixed up."""
    message = Message(100, 1, Envelope("", ()), Origin(Door.MX), Direction.IN, 1.0, 3, b"h", b"t", domain, request)
    entry = Entry(100, 1, message, tuple(rows), 7, 1 << 33, 900, where, file, domain, outgoing, request, indexed)
    shared = Shared()
    shared.verdicts, shared.domains = Numbers(slots), Numbers(slots)
    packed = pack(entry, shared)
    assert in_file(packed) is (where is Where.FILE)
    again = unpack(100, packed, shared)
    assert again.rows == tuple(rows)
    assert again.message == (message if request or not indexed else None)
    again.meta = entry.meta
    assert again == entry
    assert unpack(100, pack(entry, shared, bare=True), shared).message == (message if request else None)
    assert not shared.verdicts._numbers
    assert not shared.domains._numbers


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60))
def test_numbers_are_used_again(steps: list[tuple[bool, int]]) -> None:
    """Would catch a number that means another value while somebody has it, and a table that only grows."""
    numbers: Numbers[str] = Numbers(3)
    held: list[tuple[int | str, str]] = []
    for take, one in steps:
        if take:
            held.append((numbers.number(f"v{one}"), f"v{one}"))
        elif held:
            given_out, value = held.pop(one % len(held))
            assert numbers.back(given_out) == value
        assert all(not isinstance(number, int) or numbers._known[number] == value for number, value in held)
        assert len(numbers._numbers) == len({number for number, _ in held if isinstance(number, int)})
    assert len(numbers._known) <= 3


def entry_of(number: int) -> Entry:
    """One with a recipient and an archive row."""
    rows = (
        LiveRow(number + 1, number, D, RowState.QUEUED, f"user{number}@x.test", 0, 1.0),
        LiveRow(number + 2, number, A, RowState.WAITING),
    )
    return Entry(number, 1, b"x" * 300, rows, 1, number, 900, Where.RECORD, 0, "x.test", False, "", True)


def test_those_that_somebody_works_with_stay() -> None:
    """Would catch a row in a transition, or claimed, that becomes another object while somebody holds it, and one of them that keeps all others
    unpacked."""
    busy = {11}
    entries = Entries(2, busy)
    kept = [entry_of(number) for number in (10, 20, 30, 40, 50, 60)]
    kept[1].rows[0].state = RowState.CLAIMED
    for entry in kept:
        entries.add(entry)
    for _ in range(4):
        entries.cool()
    assert entries.packed == 4
    assert entries[10] is kept[0]
    assert entries[20] is kept[1]
    assert entries[30] is not kept[2]
    assert entries[30] is entries[30]
    assert len(entries) == 6
    assert list(entries) == [10, 20, 30, 40, 50, 60]
    entries.remove(entries[40])
    assert 40 not in entries
    assert entries.get(40) is None


class PackedQueueTests(FaultBase):
    """A queue that keeps no message whole."""

    unpacked = 0

    async def held(self, queue: OpenedQueue) -> set[int]:
        return {message.id for message, _ in await queue.rows(states={RowState.HELD})}

    async def test_nothing_is_whole(self) -> None:
        """Would catch a queue in which packing never happens: all tests here would say nothing."""
        queue = await self.open()
        messages = [await self.accept(queue) for _ in range(5)]
        await queue.keeper.write(everything=True)
        await queue.remember("s", "k", b"v")
        assert queue.live.messages.packed == 5
        (claim, *_) = await queue.claim(reactor.seconds(), 1, never)
        assert claim.message == messages[0]
        await queue.remember("s", "k", b"w")
        assert queue.live.messages.packed == 4
        assert queue.claimed_for(-1.0) == [(messages[0], claim.rows[0])]
        await queue.settle([Settled(claim.rows[0].id, RowState.QUEUED, due=LATER)])
        await queue.remember("s", "k", b"x")
        assert queue.live.messages.packed == 5

    async def test_what_cannot_be_read_now_waits_alone(self) -> None:
        """One input holds everybody up: one segment that cannot be opened for a moment would fail every claim, or be claimed in a circle."""
        disk = BadPlaces()
        queue = await self.open(disk=disk, recent_bytes=0)
        bad, *good = [await self.accept(queue) for _ in range(4)]
        queue = await self.reopen(queue, disk=disk)
        place = queue.live.messages[bad.id].place
        disk.code = errno.EMFILE
        disk.bad.add((queue._journal.name(place.segment), place.offset + 20))
        claims = await queue.claim(reactor.seconds(), 10, never)
        assert {claim.message.id for claim in claims} <= {message.id for message in good}
        row = await self.row(queue, bad)
        assert row.state is RowState.QUEUED
        assert 50.0 < row.due - reactor.seconds() < 70.0
        assert queue.next_due() == min(
            row.due, *[found.due for _, found in await queue.rows(kinds={D}, states={RowState.QUEUED})]
        )
        assert not await queue.claim(reactor.seconds(), 10, never)
        disk.bad.clear()
        claims = await queue.claim(reactor.seconds() + 100.0, 10, never)
        assert bad in [claim.message for claim in claims]
        assert self.alarms == []

    async def test_a_damaged_record_is_made_up_for_by_the_index(self) -> None:
        """Would catch an envelope that is given up though queue.db has it, also after its rows have changed while it was packed."""
        disk = BadPlaces()
        queue = await self.open(disk=disk, recent_bytes=0)
        bad = await self.accept(queue, request="r", archive=False)
        lone = await self.accept(queue)
        await queue.keeper.write(everything=True)
        rows = [row.id for _, row in await queue.rows()]
        await queue.change(rows, RowState.QUEUED, due=5.0)
        await queue.keeper.write(everything=True)
        queue = await self.reopen(queue, disk=disk, recent_bytes=0)
        for message in (bad, lone):
            place = queue.live.messages[message.id].place
            disk.bad.add((queue._journal.name(place.segment), place.offset + 20))
        claims = await queue.claim(reactor.seconds(), 10, never)
        assert [claim.message for claim in claims] == [bad, lone]

    async def test_what_is_lost_is_held_and_told(self) -> None:
        """Would catch a message without an envelope that is tried, bounced, left out of pages or keeps others waiting; a damaged place of the journal
        that the index cannot make up for."""
        disk = BadPlaces()
        queue = await self.open(disk=disk, recent_bytes=0)
        bad, good = await self.accept(queue), await self.accept(queue)
        queue = await self.reopen(queue, disk=disk, recent_bytes=0)
        await queue.keeper._index._database.run(
            lambda cursor: cursor.execute("UPDATE queue_messages SET meta = ? WHERE id = ?", (b"", bad.id))
        )
        place = queue.live.messages[bad.id].place
        disk.bad.add((queue._journal.name(place.segment), place.offset + 20))
        claims = await queue.claim(reactor.seconds(), 10, never, {D})
        assert [claim.message for claim in claims] == [good]
        assert await self.held(queue) == {bad.id}
        assert [code for code, _ in self.alarms] == ["queue-body-lost"]
        ((shown, row), *_) = await queue.rows(message=bad.id)
        assert (shown.envelope, shown.domain) == (Envelope("", (Recipient("a@example.test"),)), "example.test")
        assert row.reason
        await queue.change([row.id], RowState.QUEUED)
        assert await queue.claim(reactor.seconds(), 10, never, {D}) == []
        assert await self.held(queue) == {bad.id}
        assert len(self.alarms) == 1

    async def test_the_index_is_whole_again_after_it_was_lost(self) -> None:
        """Would catch a replay that leaves the index without the messages themselves, or that keeps a million of them unpacked until it is written."""
        queue = await self.open()
        messages = await gatherResults([self.begun(self.accept(queue)) for _ in range(1_200)])
        again = await self.crash(queue, index=False)
        assert again.live.messages.packed == 1_200
        assert len({id(since) for since in again.live.dirty.values()}) == 1
        await again.keeper.write(everything=True)
        found: dict[int, Message] = {}
        for start in range(0, 1_200, 400):
            found |= await again.keeper._index.messages([message.id for message in messages[start : start + 400]])
        assert sorted(found) == sorted(message.id for message in messages)
        assert all(found[message.id] == message for message in messages)

    async def test_whoever_looks_at_rows_alone_reads_nothing(self) -> None:
        """Would catch a look at rows that reads every envelope, one message's too, and a notice of ours that is taken for mail because its envelope
        was not read (whoever tells of late mail would tell of his own notices, for ever)."""
        self.unpacked = 0
        queue = await self.open()
        mail = await self.accept(queue)
        deposit = queue.begin(1, own=True)
        await deposit.write(b"Subject: late\r\n\r\n")
        envelope, origin = Envelope("", (Recipient("a@example.test"),)), Origin(Door.NOTICE)
        notice = await deposit.commit(
            envelope, origin, Direction.IN, b"", domain="example.test", archive=False, request="notice:1"
        )
        queue = await self.reopen(queue)
        assert queue.live.messages.packed == 2
        queue.recall._read = None  # type: ignore[assignment, method-assign]
        looked = await queue.rows(kinds={D}, envelopes=False)
        assert [(message.id, message.origin.door) for message, _ in looked] == [
            (mail.id, Door.REDELIVERY),
            (notice.id, Door.NOTICE),
        ]
        assert [message.id for message, _ in await queue.rows(message=mail.id, kinds={D}, envelopes=False)] == [mail.id]
        assert not await queue.rows(message=12345, envelopes=False)

    async def test_a_page_in_a_turn_of_its_own(self) -> None:
        """Whoever went through all rows, page by page, did so in one turn of the reactor: a second for some thousands, while nobody was served (rule 8d)."""
        self.unpacked = 0
        queue = await self.open()
        await gatherResults([self.begun(self.accept(queue)) for _ in range(30)])
        pages: list[int] = []

        async def all_of_them() -> None:
            after = 0
            while page := await queue.rows(kinds={D}, limit=10, after=after, envelopes=False):
                pages.append(len(page))
                after = page[-1][1].id

        going = self.begun(all_of_them())
        assert pages == [10]
        await going
        assert pages == [10, 10, 10]

    async def test_many_rows_at_a_time(self) -> None:
        """Would catch an adoption, a change or a page that passes over packed rows, and an index that falls behind for good."""
        queue = await self.open()
        await gatherResults([self.begun(self.accept(queue, to=("a@example.test", "b@other.test"))) for _ in range(1_300)])
        rows = [row.id for _, row in await queue.rows(kinds={D}, limit=10_000)]
        assert len(rows) == 2_600
        assert await queue.change(rows, RowState.QUEUED, due=LATER) == 2_600
        assert queue.next_due() == LATER
        assert await queue.adopt("other.test", 7.0) == 1_300
        assert queue.next_due() == 7.0
        assert await queue.change(rows, RowState.HELD) == 2_600
        assert queue.next_due() is None
        assert queue.backlog().held == 2_600

    async def test_a_message_that_leaves_while_its_page_is_read(self) -> None:
        """Would catch a page that fails, or a claim, because a message left or was copied forward between its rows and its envelope."""
        queue = await self.open(segment_bytes=20_000)
        messages = await gatherResults([self.begun(self.accept(queue, b"x" * 3000, archive=False)) for _ in range(20)])
        await queue.keeper.write(everything=True)
        await queue.remember("s", "k", b"v")
        rows = [row.id for _, row in await queue.rows()]
        await queue.remember("s", "k", b"w")
        assert queue.live.messages.packed == 20
        listing = self.begun(queue.rows())
        removing = self.begun(queue.change(rows[:15], RowState.REMOVED))
        claiming = self.begun(queue.claim_rows(rows[10:], 1.0, never))
        tidying = self.begun(queue.tidy())
        shown = {message.id for message, _ in await listing}
        await removing
        await tidying
        assert {message.id for message in messages[15:]} <= shown
        assert sorted(claim.message.id for claim in await claiming) == sorted(message.id for message in messages[15:])
        assert len(queue.live.turns) == 0

    async def test_whoever_is_cancelled_while_messages_are_read_leaves_their_rows_free(self) -> None:
        """Would catch rows that nobody can claim any more because a claim was cancelled before its record."""
        queue = await self.open()
        message = await self.accept(queue)
        await queue.keeper.write(everything=True)
        queue = await self.reopen(queue)
        claiming = self.begun(queue.claim(reactor.seconds(), 5, never))
        assert not claiming.called
        claiming.addErrback(lambda failure: None)
        claiming.cancel()
        await deferLater(reactor, 0.05)
        assert len(queue.live.turns) == 0
        assert [claim.message for claim in await queue.claim(reactor.seconds(), 5, never)] == [message]

    async def test_memory(self) -> None:
        """Would catch a packed message that takes much more of memory than the aim has for it."""
        queue = await self.open()
        live, count = queue.live, 5_000

        def add(first: int) -> None:
            for number in range(first, first + 10 * count, 10):
                live.load(entry_of(number))

        add(1_000)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            add(1_000_000)
            taken = (tracemalloc.get_traced_memory()[0] - before) / count
        finally:
            tracemalloc.stop()
        assert live.messages.packed == 2 * count
        assert taken < MOST
