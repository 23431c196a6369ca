"""Between a courier's answer and its record (rule 8b): whatever fails of ours there, the verdict is kept, and only its recording is tried again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import RowKind, RowState, Settled
from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.core.failover.mode import Mode
from hornetmail.delivery.attempt import evidence
from hornetmail.delivery.attempt.record import Record
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.disk.files import DiskFull
from hornetmail.net.clients.smtp import SMTPClient
from hornetmail.runtime.bus import Bus
from hornetmail.spool.disk.errors import BodyLost, SpoolError
from hornetmail.testing.memory_queue import MemoryBody, MemoryQueue
from tests.delivery.world import MAIL, SLOW_MACHINE, WorldCase, reactor

EAGER = msgspec.structs.replace(SLOW_MACHINE, backoff=Backoff(first=0.05, ceiling=0.1))
"""What is thrown away is tried again at once."""


class FaultyQueue(MemoryQueue):
    """``refuse``: so many settlements raise from now on, those of a row that ends as ``only`` if that is given. ``forget``: so many ``remember`` do."""

    refuse = 0
    forget = 0
    only: RowState | None = None
    refused = 0

    async def settle(self, verdicts: Sequence[Settled]) -> None:
        if self.refuse and (self.only is None or any(one.state is self.only for one in verdicts)):
            self.refuse -= 1
            self.refused += 1
            raise DiskFull("no space left on device")
        await super().settle(verdicts)

    async def remember(self, space: str, key: str, value: bytes | None) -> None:
        if self.forget:
            self.forget -= 1
            raise SpoolError("a fact cannot be written")
        await super().remember(space, key, value)


class FaultyCase(WorldCase):
    settings = EAGER
    queue: FaultyQueue

    async def launch(self) -> None:
        if not isinstance(self.queue, FaultyQueue):
            self.queue = FaultyQueue(reactor.seconds)
        await super().launch()

    def nobody_claimed(self) -> bool:
        return not [row for row in self.queue.held.values() if row.state is RowState.CLAIMED]

    def fail_sending(self, which: int, fault: Any = RuntimeError) -> None:
        """A fault of ours in that transaction, after the answer to its dot; ``None``: it hangs there."""
        send, count = SMTPClient.send, [0]

        async def faulty(*args: Any, **keywords: Any) -> Any:
            answers = await send(*args, **keywords)
            count[0] += 1
            if count[0] == which and fault is None:
                await Deferred()
            if count[0] == which:
                raise fault("a fault")
            return answers

        self.patch(SMTPClient, "send", faulty)

    def slow_look_up(self, question: str) -> None:
        """The store of recipients does not answer any more."""

        async def hanging(*args: Any) -> Any:
            await Deferred(self.asked.append)

        self.asked: list[Any] = []
        self.patch(self.delivery.accepted, question, hanging)


class Deliveries(FaultyCase):
    async def test_one_full_disk(self) -> None:
        """One ENOSPC at the journal after the primary's 250 gave a second copy, without any crash."""
        await self.build()
        self.queue.refuse = 1
        message = await self.send("alice@example.test")
        await self.gone(message)
        assert len(self.primary.accepted) == 1
        assert self.queue.refused == 1

    async def test_others_go_on(self) -> None:
        """A verdict that cannot be recorded for long holds up others, or is given up after some tries."""
        await self.build()
        self.queue.refuse, self.queue.only = 10_000, RowState.DELIVERED
        first = await self.send("alice@example.test", archive=False)
        await self.until(lambda: self.queue.refused >= 2, "it was tried twice")
        self.queue.only = RowState.FAILED
        second = await self.send("bob@example.test", archive=False)
        await self.gone(second)
        self.queue.refuse = 0
        await self.gone(first)
        assert len(self.primary.accepted) == 2

    async def test_into_the_portal(self) -> None:
        """The same of a portal copy: settled anew it went to the primary that came back, and lay in INBOX besides."""
        await self.build()
        self.primary.script.replies = {"RCPT": "451 4.3.0 not now"}
        self.queue.refuse = 2
        await self.send("alice@example.test", archive=False)
        await self.until(lambda: self.portal.inbox(1), "it is in the portal")
        self.primary.script.replies = {}
        await self.until(lambda: not self.portal.inbox(1), "it went home")
        await self.until(self.nobody_claimed, "all is settled")
        assert len(self.primary.accepted) == 1

    async def test_learning_that_fails(self) -> None:
        """What the primary's answer teaches is not written: the verdict was thrown away with it, and the mail delivered again."""
        await self.build()
        self.queue.forget = 2
        message = await self.send("alice@example.test", "bob@example.test")
        await self.gone(message)
        assert len(self.primary.accepted) == 1
        self.flushLoggedErrors(SpoolError)

    async def test_learning_after_the_verdict(self) -> None:
        """Each newly learned recipient cost a sync between the primary's 250 and its verdict: 51 for 50 recipients, and a crash in them is a second
        copy for each."""
        await self.build()
        order: list[str] = []
        learn, settle = self.delivery.accepted.learn, self.queue.settle

        def learning(*args: Any, **keywords: Any) -> None:
            order.append("learn")
            learn(*args, **keywords)

        async def settling(verdicts: Sequence[Settled]) -> None:
            if any(one.state is RowState.DELIVERED and not one.staged for one in verdicts):
                order.append("settle")
            await settle(verdicts)

        self.delivery.accepted.learn, self.queue.settle = learning, settling  # type: ignore[method-assign]
        message = await self.send(*(f"new{n}@example.test" for n in range(20)), archive=False)
        await self.gone(message)
        await self.until(lambda: order.count("learn") == 20, "all are learned")
        assert order[0] == "settle"
        assert order.count("settle") == 1

    async def test_a_courier_that_fails(self) -> None:
        """One recipient delivered by the primary, another on its way into a portal that raises: the first was delivered again with the second."""
        await self.build()
        self.primary.script.trouble = {"bob@example.test": "451 4.3.0 not now"}
        courier: Any = self.delivery.agent._couriers["portal"]
        faults = [RuntimeError("a fault"), RuntimeError("a fault")]
        deliver = courier.deliver

        async def faulty(*args: Any) -> Any:
            if faults:
                raise faults.pop()
            return await deliver(*args)

        courier.deliver = faulty
        await self.send("alice@example.test", "bob@example.test", archive=False)
        await self.until(lambda: self.portal.inbox(2), "Bob's is in the portal")
        assert len(self.primary.to("alice@example.test")) == 1
        assert len(self.flushLoggedErrors(RuntimeError)) == 2

    async def test_after_the_dot(self) -> None:
        """A fault of ours while the primary's answer to the dot is read: nobody knows whether it arrived, and the copy must say so (rule 1)."""
        await self.build()
        self.fail_sending(1)
        await self.send("alice@example.test", archive=False)
        await self.until(lambda: self.portal.inbox(1), "a copy is in the portal")
        assert self.portal.inbox(1)[0].portal.uncertain
        assert len(self.flushLoggedErrors(RuntimeError)) == 1

    async def test_a_later_transaction_that_fails(self) -> None:
        """One message in two transactions (the server takes one recipient at a time): an error of ours in the second threw away the verdict of the
        first, whose recipient got a second copy; so did an end of the attempt from outside."""
        for fault in (RuntimeError, None):
            await self.build()
            self.delivery._recovery._longest = 0.3
            self.primary.script.most_recipients = 1
            self.fail_sending(2, fault)
            await self.send("alice@example.test", "bob@example.test", archive=False)
            await self.until(lambda: self.portal.inbox(2) or self.queue.left, "Bob's is a marked copy, or home")
            await self.until(self.nobody_claimed, "all is settled")
            assert not self.portal.inbox(1), fault
            assert len(self.primary.to("alice@example.test")) == 1, fault
            assert not self.flushLoggedErrors(RuntimeError) or fault
            await self.tearDown()

    async def test_refused_by_one_host_then_a_fault(self) -> None:
        """What the first host said was thrown away by an error of ours at the second: no portal copy (C20)."""
        await self.build(primaries=2)
        for each in self.primaries:
            each.script.replies = {"RCPT": "451 4.3.0 not now"}
        self.fail_sending(2)
        await self.send("alice@example.test", archive=False)
        await self.until(lambda: self.portal.inbox(1), "it is in the portal")
        assert not self.portal.inbox(1)[0].portal.uncertain
        assert sum(each.named.count("alice@example.test") for each in self.primaries) == 2
        self.flushLoggedErrors(RuntimeError)

    async def test_a_slow_portal(self) -> None:
        """One recipient has it from the primary, the other's copy takes its time in the portal: the first was not on record before that ended."""
        await self.build()
        self.primary.script.trouble = {"bob@example.test": "451 4.3.0 not now"}
        deliver, go = self.portal.deliver, Deferred[None]()

        async def slow(*args: Any, **keywords: Any) -> Any:
            await go
            return await deliver(*args, **keywords)

        self.portal.deliver = slow  # type: ignore[method-assign]
        await self.send("alice@example.test", "bob@example.test", archive=False)
        await self.until(lambda: self.queue.all(RowKind.DELIVER, RowState.DELIVERED), "the first is on record")
        assert not self.portal.inbox(2)
        go.callback(None)
        await self.until(lambda: self.portal.inbox(2), "the other is in the portal")

    async def test_a_slow_look_up(self) -> None:
        """What is asked about a refused or deferred recipient hangs: its verdict, and the others', waited for it without end."""
        self.patch(evidence, "LOOK_SECONDS", 0.05)
        for question, said in (("refused", "550 5.1.1 no such user"), ("is_known", "451 4.3.0 not now")):
            await self.build()
            self.slow_look_up(question)
            self.primary.script.trouble = {f"{name}@example.test": said for name in ("al", "bob")}
            message = await self.send("al@example.test", "alice@example.test", "bob@example.test", archive=False)
            if question == "refused":
                await self.gone(message)
            else:
                await self.until(lambda: len(self.queue.all(RowKind.DELIVER, RowState.DELIVERED)) == 3, "all is on record")
            assert len(self.asked) >= 2
            assert len(self.primary.to("alice@example.test")) == 1
            assert len(self.portal.copies) == (2 if question == "is_known" else 0)
            self.flushLoggedErrors(TimeoutError)
            await self.tearDown()

    async def test_cut_off_in_a_look_up(self) -> None:
        """The attempt ends from outside while a refusal is weighed: it was asked for again, as if nobody had said anything."""
        await self.build()
        self.delivery._recovery._longest = 0.3
        self.slow_look_up("refused")
        self.primary.script.unknown = {"bob@example.test"}
        await self.gone(await self.send("alice@example.test", "bob@example.test", archive=False))
        assert self.primary.named.count("bob@example.test") == 1
        assert len(self.primary.to("alice@example.test")) == 1

    async def test_a_body_that_reads_slowly(self) -> None:
        """One recipient's verdict waited until it was found out, by reading the whole message, whether it can be read for another one."""
        await self.build()
        go, bodies = Deferred[None](), []

        class Slow(MemoryBody):
            async def chunks(self) -> Any:
                if bodies:
                    await go
                yield MAIL

        async def body(message: int) -> Any:
            return Slow(self.queue.bodies[message])

        self.queue.body = body  # type: ignore[method-assign]
        self.primary.script.trouble = {"bob@example.test": "550 5.7.1 not from you", "al@example.test": "451 4.3.0 not now"}
        place = self.portal.deliver

        async def placing(*args: Any, **keywords: Any) -> Any:
            bodies.append("read from now on slowly")
            self.portal.fail = OSError("full")
            return await place(*args, **keywords)

        self.portal.deliver = placing  # type: ignore[method-assign]
        await self.send("alice@example.test", "bob@example.test", "al@example.test", archive=False)
        await self.until(lambda: self.queue.all(RowKind.DELIVER, RowState.FAILED, RowState.HELD), "the refused one is on record")
        go.callback(None)
        self.flushLoggedErrors(OSError)

    async def test_placed_all_the_same(self) -> None:
        """The portal fails after the copy is in its place: delivered to the primary at the next attempt, it lay in INBOX for ever besides."""
        await self.build()
        self.primary.script.replies = {"RCPT": "451 4.3.0 not now"}
        deliver = self.portal.deliver

        async def faulty(*args: Any, **keywords: Any) -> Any:
            await deliver(*args, **keywords)
            raise OSError("after the rename")

        self.portal.deliver = faulty  # type: ignore[method-assign]
        await self.send("alice@example.test", archive=False)
        await self.until(lambda: self.drains(), "it has a drain row")
        self.primary.script.replies = {}
        await self.until(lambda: not self.portal.inbox(1), "it went home")
        assert len(self.primary.accepted) == 1
        self.flushLoggedErrors(OSError)

    async def test_follows_but_fails(self) -> None:
        """Who hears of a delivery fails: that undid its record, or kept the others from hearing."""
        await self.build()
        published = self.bus.publish

        def faulty(event: Any) -> None:
            if type(event).__name__ == "RecipientSettled":
                raise RuntimeError("a fault")
            published(event)

        self.bus.publish = faulty  # type: ignore[method-assign]
        await self.gone(await self.send("alice@example.test"))
        assert len(self.primary.accepted) == 1
        self.flushLoggedErrors(RuntimeError)

    async def test_lost_body(self) -> None:
        """One bad sector: the message was tried for ever. It is held with the reason, its sender is told, and somebody hears of it."""
        await self.build()
        lost: set[int] = set()
        body = self.queue.body

        async def bad(message: int) -> Any:
            if message in lost:
                raise BodyLost("checksum of record 7 does not fit")
            return await body(message)

        self.queue.body = bad  # type: ignore[method-assign]
        self.primary.script.replies = {"MAIL": "451 4.3.0 not now"}
        self.portal.fail = OSError("full")
        message = await self.send("alice@example.test")
        lost.add(message.id)
        await self.until(lambda: self.queue.all(RowKind.DELIVER, RowState.HELD), "it is held")
        [row] = self.queue.all(RowKind.DELIVER, RowState.HELD)
        assert "record 7" in row.reason
        await self.until(lambda: [alarm for alarm in self.alarms if alarm.code == "message-lost"], "an alarm")
        self.flushLoggedErrors(OSError)
        self.flushLoggedErrors(BodyLost)

    async def test_lost_in_the_middle(self) -> None:
        """The same of a long body, whose bad sector is found while its text is on the way to the primary."""
        await self.build()

        class Bad(MemoryBody):
            async def chunks(self) -> Any:
                yield b"Subject: x\r\n"
                raise BodyLost("chunk 3 cannot be read")

        async def body(message: int) -> Any:
            return Bad(self.queue.bodies[message])

        self.queue.body = body  # type: ignore[method-assign]
        await self.send("alice@example.test", archive=False)
        await self.until(lambda: self.queue.all(RowKind.DELIVER, RowState.HELD), "it is held")
        assert not self.primary.accepted
        assert "chunk 3" in self.queue.all(RowKind.DELIVER, RowState.HELD)[0].reason
        self.flushLoggedErrors(BodyLost)


class Drains(FaultyCase):
    async def in_portal(self, *names: str) -> None:
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        for name in names:
            await self.send(f"{name}@example.test", archive=False)
        await self.until(lambda: len(self.drains(RowState.PARKED)) == len(names), "in the portal")

    async def home(self) -> None:
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")

    async def test_one_full_disk(self) -> None:
        """One ENOSPC at the journal after the primary's 250: offered again, though we knew."""
        await self.build()
        await self.in_portal("alice")
        self.queue.refuse, self.queue.only = 2, RowState.HOME
        await self.home()
        await self.until(lambda: not self.portal.inbox(1), "it went home")
        await self.until(lambda: self.mode() is Mode.NORMAL, "the emergency is over")
        assert self.queue.refused == 2
        assert len(self.primary.accepted) == 1

    async def test_recorded_before_it_is_removed(self) -> None:
        """The file is touched before the journal has it: a crash in between, and the copy is lost or there twice."""
        await self.build()
        await self.in_portal("alice")
        self.queue.refuse, self.queue.only = 3, RowState.HOME
        await self.home()
        await self.until(lambda: self.queue.refused == 2, "it cannot be recorded")
        assert len(self.primary.accepted) == 1
        assert self.portal.inbox(1)
        await self.until(lambda: not self.portal.inbox(1), "it is removed after its record")

    async def test_cannot_be_removed(self) -> None:
        """A copy that cannot be removed (EACCES, EROFS, EIO) was handed over without end: 16 times in 6 s."""
        await self.build()
        await self.in_portal("alice")
        end, faults = self.portal.end_drain, [PermissionError(13, "Permission denied")] * 2

        async def faulty(copy: Any, **keywords: Any) -> None:
            if keywords["delivered"] and faults:
                raise faults.pop()
            await end(copy, **keywords)

        self.portal.end_drain = faulty  # type: ignore[method-assign]
        self.delivery._copies._again = Backoff(first=0.05, ceiling=0.1)
        self.delivery._copies._late = 0.0
        await self.home()
        await self.until(lambda: self.mode() is Mode.NORMAL, "the emergency is over, the primary has all")
        await self.until(lambda: not self.portal.inbox(1), "it is removed in the end")
        await self.until(lambda: not self.drains(RowState.HOME), "its row is done")
        assert len(self.primary.accepted) == 1
        await self.until(lambda: [alarm for alarm in self.alarms if alarm.code == "portal-copy-stays"], "an alarm")

    async def test_removed_by_the_next_start(self) -> None:
        """The process dies between the record and the removal: the copy stays in INBOX for good, or goes to the primary again."""
        await self.build()
        await self.in_portal("alice")
        end = self.portal.end_drain

        async def faulty(copy: Any, **keywords: Any) -> None:
            raise OSError("read-only")

        self.portal.end_drain = faulty  # type: ignore[method-assign]
        await self.home()
        await self.until(lambda: self.drains(RowState.HOME), "on record")
        await self.delivery.stop(0.0)
        self.queue.restart()
        self.portal.end_drain = end  # type: ignore[method-assign]
        self.portal.copies[self.portal.inbox(1)[0].portal.name].claimed = False
        await self.launch()
        await self.until(lambda: not self.portal.inbox(1), "removed")
        await self.until(lambda: not self.drains(), "done")
        assert len(self.primary.accepted) == 1

    async def test_not_flushed(self) -> None:
        """An administrator who makes everything due now would have a copy handed over that the primary has."""
        await self.build()
        await self.in_portal("alice")

        async def faulty(copy: Any, **keywords: Any) -> None:
            raise OSError("read-only")

        end, self.portal.end_drain = self.portal.end_drain, faulty  # type: ignore[method-assign]
        await self.home()
        await self.until(lambda: self.drains(RowState.HOME), "on record")
        [row] = self.drains(RowState.HOME)
        for state in (RowState.QUEUED, RowState.HELD, RowState.PARKED):
            assert await self.queue.change([row.id], state) == 0
        assert not await self.queue.claim_rows([row.id], reactor.seconds(), lambda _: 0.0)
        self.portal.end_drain = end  # type: ignore[method-assign]
        await self.until(lambda: not self.drains(), "done")

    async def test_refused_and_full_disk(self) -> None:
        """A 5xx that cannot be marked in the portal, or recorded at once, was asked for again and again."""
        await self.build()
        await self.in_portal("alice")
        self.primary.script.replies = {"DOT": "554 5.6.0 spam"}
        self.queue.refuse, self.queue.only = 1, RowState.STUCK
        end, faults = self.portal.end_drain, [OSError("no")]

        async def faulty(copy: Any, **keywords: Any) -> None:
            if faults:
                raise faults.pop()
            await end(copy, **keywords)

        self.portal.end_drain = faulty  # type: ignore[method-assign]
        self.delivery._copies._again = Backoff(first=0.05, ceiling=0.1)
        await self.home()
        await self.until(lambda: self.drains(RowState.STUCK), "it is refused")
        await self.until(lambda: self.portal.inbox(1)[0].keywords, "and marked")
        assert not self.portal.inbox(1)[0].claimed
        assert self.primary.seen["DOT"] == 1

    async def test_a_slow_look_up(self) -> None:
        """The primary refused a copy, and the look at who is known hangs: nothing was on record, and it was offered again as an uncertain one."""
        for patience in (0.05, 60.0):
            self.patch(evidence, "LOOK_SECONDS", patience)
            await self.build()
            self.delivery._recovery._longest = 0.3
            await self.in_portal("alice")
            self.slow_look_up("refused")
            self.primary.script.unknown = {"alice@example.test"}
            await self.home()
            await self.until(lambda: self.drains(RowState.STUCK), "it is refused")
            assert self.primary.named.count("alice@example.test") == 1, patience
            self.flushLoggedErrors(TimeoutError)
            await self.tearDown()

    async def test_a_pass_that_fails(self) -> None:
        """A pass that raised was not repeated: the domain stayed draining until somebody noticed."""
        await self.build()
        await self.in_portal("alice")
        rows, faults = self.queue.rows, [SpoolError("a fault")]

        async def faulty(**keywords: Any) -> Any:
            if faults and keywords.get("kinds") == (RowKind.DRAIN,) and keywords.get("domain"):
                raise faults.pop()
            return await rows(**keywords)

        self.queue.rows = faulty  # type: ignore[method-assign]
        self.delivery._sweeping.cancel()  # type: ignore[union-attr]
        await self.home()
        await self.until(lambda: self.mode() is Mode.NORMAL, "the emergency is over")
        assert not faults
        assert len(self.primary.accepted) == 1
        assert len(self.flushLoggedErrors(SpoolError)) == 1

    async def test_one_that_fails_among_many(self) -> None:
        """One mailbox whose lock raises ended each pass, and nobody's mail got home behind it."""
        await self.build()
        await self.in_portal("alice", "admin", "bob")
        lock = self.portal.lock

        async def faulty(mailbox: int, owner: str) -> bool:
            if mailbox == 2:
                raise OSError("a fault")
            return await lock(mailbox, owner)

        self.portal.lock = faulty  # type: ignore[method-assign]
        await self.home()
        await self.until(lambda: not self.portal.inbox(1) and not self.portal.inbox(3), "the others went home")
        self.portal.lock = lock  # type: ignore[method-assign]
        await self.until(lambda: self.mode() is Mode.NORMAL, "and that one too")
        self.flushLoggedErrors(OSError)

    async def test_moved_and_a_fact_that_fails(self) -> None:
        """The fact of a moved copy cannot be written: its row was settled without it, and it never drained when it came back (rule 10)."""
        await self.build()
        await self.in_portal("alice")
        copy = self.portal.inbox(1)[0]
        copy.moved = True
        self.queue.forget = 1
        self.delivery._sweeping.cancel()  # type: ignore[union-attr]
        # The switch itself is a fact too.
        self.queue.forget = 0
        faults = [SpoolError("a fault")]
        remember = self.queue.remember

        async def faulty(space: str, key: str, value: bytes | None) -> None:
            if space == "moved" and faults:
                raise faults.pop()
            await remember(space, key, value)

        self.queue.remember = faulty  # type: ignore[method-assign]
        await self.home()
        await self.until(lambda: not self.drains(), "its row is done")
        assert not faults
        copy.moved = False
        await self.delivery._returned.look(1)
        await self.until(lambda: not self.portal.inbox(1), "it went home when it came back")
        assert len(self.primary.accepted) == 1


class Claims(FaultyCase):
    settings = msgspec.structs.replace(EAGER, orphaned_claim=0.2)

    async def test_claimed_by_nobody(self) -> None:
        """An exception between claim and attempt, or a wait that was cancelled, left the row claimed for ever; nobody was told."""
        await self.build()
        claim, faults = self.queue.claim, [RuntimeError("a fault")]

        async def faulty(*args: Any) -> Any:
            claims = await claim(*args)
            if claims and faults:
                raise faults.pop()
            return claims

        self.queue.claim = faulty  # type: ignore[method-assign]
        message = await self.send("alice@example.test")
        await self.gone(message)
        assert len(self.primary.accepted) + len(self.portal.copies) == 1
        await self.until(lambda: [alarm.code for alarm in self.alarms] == ["attempt-lost"], "an alarm")
        self.flushLoggedErrors(RuntimeError)

    async def test_draining_ends(self) -> None:
        """The same of a drain's claim: the emergency never ended."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.send("alice@example.test", archive=False)
        await self.until(lambda: self.drains(RowState.PARKED), "in the portal")
        [row] = self.drains(RowState.PARKED)
        await self.queue.claim_rows([row.id], reactor.seconds(), lambda _: reactor.seconds() + 3600)
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until(lambda: self.mode() is Mode.NORMAL, "the emergency is over")
        assert not self.portal.inbox(1) or self.drains(RowState.QUEUED)

    async def test_hangs(self) -> None:
        """An attempt that hangs in a store of ours for longer than any can last kept its row, and its place, for ever."""
        await self.build()
        self.delivery._recovery._longest = 0.3
        self.primary.script.replies = {"RCPT": "451 4.3.0 not now"}
        deliver, hang = self.portal.deliver, [True]

        async def hanging(*args: Any, **keywords: Any) -> Any:
            if hang:
                hang.pop()
                await Deferred()
            return await deliver(*args, **keywords)

        self.portal.deliver = hanging  # type: ignore[method-assign]
        await self.send("alice@example.test", archive=False)
        await self.until(lambda: self.portal.inbox(1), "another attempt brought it into the portal")
        assert self.portal.inbox(1)[0].portal.uncertain
        await self.until(lambda: "attempt-lost" in [alarm.code for alarm in self.alarms], "an alarm")

    async def test_cut_off_with_a_verdict(self) -> None:
        """One recipient has it, another's attempt hangs and is cut off: the first was delivered again with the second."""
        await self.build()
        self.delivery._recovery._longest = 0.3
        self.primary.script.trouble = {"bob@example.test": "451 4.3.0 not now"}
        deliver, hang = self.portal.deliver, [True]

        async def hanging(*args: Any, **keywords: Any) -> Any:
            if hang:
                hang.pop()
                await Deferred()
            return await deliver(*args, **keywords)

        self.portal.deliver = hanging  # type: ignore[method-assign]
        await self.send("alice@example.test", "bob@example.test", archive=False)
        await self.until(lambda: self.portal.inbox(2), "Bob's is in the portal")
        assert len(self.primary.to("alice@example.test")) == 1

    async def test_not_what_is_being_recorded(self) -> None:
        """A row whose verdict is known and cannot be recorded yet is no lost claim."""
        await self.build()
        self.queue.refuse, self.queue.only = 10_000, RowState.DELIVERED
        message = await self.send("alice@example.test", archive=False)
        await self.until(lambda: self.queue.refused >= 3, "it cannot be recorded")
        before = reactor.seconds()
        await self.until(lambda: reactor.seconds() - before > 0.6, "some sweeps")
        self.queue.refuse = 0
        await self.gone(message)
        assert len(self.primary.accepted) == 1
        assert not [alarm for alarm in self.alarms if alarm.code == "attempt-lost"]


class Recording(TestCase):
    """Record alone, on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.queue = FaultyQueue(self.clock.seconds)
        self.bus = Bus(self.clock)
        self.alarms: list[Alarm] = []
        self.bus.subscribe(Alarm, self.alarms.append)
        self.record = Record(self.clock, self.queue, self.bus, Unrecorded(self.clock))
        self.followed: list[str] = []

    async def test_back_off(self) -> None:
        """A disk that stays full is hammered, nobody hears of it, or the verdict is given up."""
        self.queue.refuse = 1_000_000
        tried = self.record.put([Settled(7, RowState.DELIVERED)], lambda: self.followed.append("then"))
        assert tried.called, "whoever waits goes on after the first try"
        for _ in range(3600):
            self.clock.advance(1)
        assert 100 < self.queue.refused < 200
        assert self.record.holds(7)
        assert len(self.alarms) == 1
        assert "no space left" in self.alarms[0].text
        assert not self.followed
        self.queue.refuse = 0
        self.clock.advance(31)
        assert self.queue.settled == [Settled(7, RowState.DELIVERED)]
        assert self.followed == ["then"]
        assert not self.record.holds(7)
        assert not len(self.record)

    async def test_the_alarm_ends_with_the_last_of_them(self) -> None:
        """Would catch an alarm that stands for ever: the verdict that raised it was recorded first, and the last one was too young to have."""
        ended: list[AlarmEnded] = []
        self.bus.subscribe(AlarmEnded, ended.append)
        self.queue.refuse, self.queue.only = 1_000_000, RowState.DELIVERED
        self.record.put([Settled(7, RowState.DELIVERED)])
        self.clock.pump([1.0] * 30)
        assert len(self.alarms) == 1
        self.record.put([Settled(8, RowState.FAILED)])
        assert not ended, "one of them is left"
        self.queue.only = RowState.FAILED
        self.record.put([Settled(9, RowState.FAILED)])
        self.clock.pump([1.0] * 31)
        assert not self.record.holds(7)
        assert self.record.holds(9)
        assert not ended
        self.queue.refuse = 0
        self.clock.pump([1.0] * 31)
        assert not len(self.record)
        assert len(ended) == 1

    async def test_cancelled(self) -> None:
        """Whoever waits is cancelled, at a stop or by a time-out: the record went with it."""
        gate: Deferred[None] = Deferred()
        settle = self.queue.settle

        async def slow(verdicts: Sequence[Settled]) -> None:
            await gate
            await settle(verdicts)

        self.queue.settle = slow  # type: ignore[method-assign]
        tried = self.record.put([Settled(7, RowState.DELIVERED)], lambda: self.followed.append("then"))
        tried.addErrback(lambda failure: None)
        tried.cancel()
        gate.callback(None)
        assert self.queue.settled == [Settled(7, RowState.DELIVERED)]
        assert self.followed == ["then"]

    async def test_stop_waits(self) -> None:
        """A stop that lets go of what could be recorded a moment later."""
        self.queue.refuse = 1
        self.record.put([Settled(7, RowState.DELIVERED)])
        stopping = Deferred.fromCoroutine(self.record.stop(5.0))
        self.assertNoResult(stopping)
        self.clock.advance(0.3)
        self.successResultOf(stopping)
        assert self.queue.settled
