"""What we say ourselves about a delivery, where no server did: code and enhanced code go into bounces, and senders' programs act on them (RFC 3463)."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Message, Row, RowKind, RowState
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.folder import FolderError
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Host, Mailbox, OverQuota
from hornetmail.delivery.connections.pool import Limits, Pool
from hornetmail.delivery.couriers.archive import ArchiveCourier
from hornetmail.delivery.couriers.mx import MOST_LEARNT, MXCourier
from hornetmail.delivery.couriers.portal import PortalCourier
from hornetmail.delivery.couriers.primary import PrimaryCourier
from hornetmail.net.clients.smtp import Broken
from hornetmail.net.resolver import ResolveError
from hornetmail.testing.destinations import MemoryPortal, StagedArchive
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryBody, MemoryQueue
from hornetmail.testing.resolver import FakeResolver
from tests.delivery.steps import Ending, Stepper, Steps
from tests.delivery.world import HOSTNAME, MAIL, SENDER, TRACE

HERE = Host("192.0.2.1")


class Couriers(TestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.queue = MemoryQueue(self.clock.seconds)
        self.directory = MemoryDirectory(
            [Domain("example.test", primaries=(HERE,)), Domain("portal.test")],
            [Mailbox(1, "alice@example.test", "example.test"), Mailbox(2, "paula@portal.test", "portal.test")],
        )
        self.portal = MemoryPortal()
        self.archive = StagedArchive()
        self.resolver = FakeResolver()
        self.pool = Pool(self.clock, None, HOSTNAME, connect=self.connect, limits=Limits(rest=0.0))
        self.dialled: list[Host] = []
        self.trouble = Broken(Stage.CONNECT, Reply(451, "4.4.1", "refused"))

    async def connect(self, dialer: Any, host: Host, **options: Any) -> Any:
        self.dialled.append(host)
        raise self.trouble

    def message(self, address: str, **changes: Any) -> tuple[Message, Row]:
        message = self.queue.take(
            1,
            MAIL,
            Envelope(SENDER, (Recipient(address),)),
            Origin(Door.MX),
            changes.pop("direction", Direction.IN),
            TRACE,
            changes.pop("domain", "example.test"),
            False,
            "",
            "",
        )
        [row] = [row for row in self.queue.held.values() if row.message == message.id]
        return message, msgspec.structs.replace(row, **changes)

    async def said(self, courier: Any, address: str, **changes: Any) -> Verdict:
        message, row = self.message(address, **changes)
        verdicts: dict[int, Verdict] = {}
        await courier.deliver(message, [row], MemoryBody(MAIL), verdicts)
        assert list(verdicts) == [row.id]
        return verdicts[row.id]

    async def test_a_primary_that_was_taken_away(self) -> None:
        """Would catch mail of a domain whose primaries were just removed that bounces, or counts as a sign of an outage."""
        verdict = await self.said(PrimaryCourier(self.pool, self.directory), "paula@portal.test")
        assert (verdict.outcome, verdict.stage, verdict.unavailable) == (Outcome.DEFERRED, Stage.LOCAL, False)
        assert str(verdict.reply) == "451 4.3.5 portal.test has no primary any more"

    async def test_what_dns_says(self) -> None:
        """Would catch a name server that is down and makes mail bounce; a domain that does not exist, or that is we ourselves, and whose mail waits for
        five days; and a bounce whose code says something else."""
        mx = MXCourier(self.pool, self.directory, self.resolver, "MX.Hornet.test")
        self.resolver.mx["down.test"] = ResolveError("no answer")
        verdict = await self.said(mx, "a@down.test")
        assert (verdict.outcome, verdict.stage, verdict.unavailable) == (Outcome.DEFERRED, Stage.RESOLVE, True)
        assert str(verdict.reply) == "451 4.4.3 DNS does not help for down.test: no answer"
        self.resolver.mx["null.test"] = ResolveError("it takes no mail", permanent=True)
        verdict = await self.said(mx, "a@null.test")
        assert (verdict.outcome, verdict.stage) == (Outcome.FAILED, Stage.RESOLVE)
        assert str(verdict.reply) == "550 5.1.2 mail for null.test has nowhere to go: it takes no mail"
        verdict = await self.said(mx, "postmaster")
        assert (verdict.outcome, verdict.stage) == (Outcome.FAILED, Stage.RESOLVE)
        assert str(verdict.reply) == "550 5.1.2 no usable domain in the address"
        self.resolver.mx["loop.test"] = (Host("mx.hornet.TEST."), Host("behind.test"))
        verdict = await self.said(mx, "a@loop.test")
        assert (verdict.outcome, verdict.stage) == (Outcome.FAILED, Stage.RESOLVE)
        assert str(verdict.reply) == "554 5.4.6 mail for loop.test loops back to this server"
        assert not self.dialled

    async def test_who_is_dialled(self) -> None:
        """Would catch exchangers behind ourselves that are dialled (a loop), a smarthost that is passed over or taken for a stranger's mail, and mail without
        a domain of ours that cannot be sent at all."""
        mx = MXCourier(self.pool, self.directory, self.resolver, HOSTNAME)
        first, smart = Host("first.test"), Host("smart.test")
        self.resolver.mx["outside.test"] = (first, Host(HOSTNAME), Host("behind.test"))
        for domain in ("", "example.test"):
            self.dialled.clear()
            verdict = await self.said(mx, "a@outside.test", domain=domain, direction=Direction.OUT)
            assert self.dialled == [first]
            assert (verdict.outcome, str(verdict.reply)) == (Outcome.DEFERRED, "451 4.4.1 refused")
        self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], smarthost=smart)
        assert mx.destination("example.test", "a@outside.test") == str(smart)
        assert mx.destination("", "a@outside.test") == str(first), "learnt from DNS"
        assert mx.destination("portal.test", "a@other.test") == "other.test"
        self.dialled.clear()
        await self.said(mx, "a@outside.test", direction=Direction.OUT)
        assert self.dialled == [smart]

    async def test_one_name_for_the_same_hosts(self) -> None:
        """Would catch a hanging server that has a share of the deliveries under each of the names by which mail goes there, and memory that grows with every domain that
        mail was ever sent to."""
        mx = MXCourier(self.pool, self.directory, self.resolver, HOSTNAME)
        hosts = (Host("b.test"), Host("a.test"))
        self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], primaries=hosts)
        for number in range(MOST_LEARNT):
            mx._learn(f"d{number}.test", hosts[::-1])
        mx._learn("d0.test", hosts)
        assert {mx.destination("", f"x@d{number}.test") for number in range(3)} == {mx.destination("", "x@example.test")}
        assert mx.destination("", "x@portal.test") == "portal.test"
        mx._learn("new.test", hosts)
        assert mx.exchanger("d0.test") == mx.exchanger("new.test") == str(hosts[1])
        assert mx.exchanger("d1.test") == "d1.test", "the oldest is forgotten"

    async def test_the_portal(self) -> None:
        """Would catch mail that bounces for a fault of our disk, or for a mailbox that was removed meanwhile; a full one whose domain refuses that
        waits, or the other way round."""
        portal = PortalCourier(self.portal, self.directory)  # type: ignore[arg-type]
        verdict = await self.said(portal, "nobody@example.test")
        assert (verdict.outcome, str(verdict.reply)) == (Outcome.DEFERRED, "451 4.2.1 no portal mailbox")
        self.portal.fail = OSError("disk")
        verdict = await self.said(portal, "paula@portal.test")
        assert (verdict.outcome, str(verdict.reply)) == (Outcome.DEFERRED, "451 4.3.0 our portal store failed")
        self.portal.fail = FolderError("CANNOT", "gone")
        verdict = await self.said(portal, "paula@portal.test")
        assert (verdict.outcome, str(verdict.reply)) == (Outcome.DEFERRED, "451 4.3.0 our portal store failed")
        assert len(self.flushLoggedErrors(OSError, FolderError)) == 4
        self.portal.fail = FolderError("OVERQUOTA", "full")
        verdict = await self.said(portal, "paula@portal.test")
        assert (verdict.outcome, str(verdict.reply)) == (Outcome.DEFERRED, "452 4.2.2 the mailbox is full")
        self.directory.served[1] = msgspec.structs.replace(self.directory.served[1], over_quota=OverQuota.REFUSE)
        verdict = await self.said(portal, "paula@portal.test")
        assert (verdict.outcome, str(verdict.reply)) == (Outcome.FAILED, "552 5.2.2 the mailbox is full")
        self.directory.served.pop(1)
        verdict = await self.said(portal, "paula@portal.test")
        assert verdict.outcome is Outcome.DEFERRED, "the domain was removed meanwhile"

    async def test_marked_as_uncertain(self) -> None:
        """Would catch a copy of what the primary may have that is not marked (rule 1), or one that is marked for nothing, also where the portal failed after
        the copy was in its place."""
        portal: Any = PortalCourier(self.portal, self.directory)  # type: ignore[arg-type]
        for outcome, uncertain in ((None, False), (Outcome.DEFERRED, False), (Outcome.UNCERTAIN, True)):
            last = Verdict(outcome, Reply(451), "primary") if outcome is not None else None
            verdict: Any = await self.said(portal, "alice@example.test", last=last)
            assert (verdict.outcome, str(verdict.reply)) == (Outcome.DELIVERED, "250 2.0.0 in the portal")
            assert (verdict.copy.mailbox, verdict.copy.uncertain) == (1, uncertain)
        deliver = self.portal.deliver

        async def late(*args: Any, **keywords: Any) -> Any:
            await deliver(*args, **{**keywords, "uncertain": False})
            raise OSError("the directory could not be synced")

        self.portal.deliver = late  # type: ignore[method-assign]
        verdict = await self.said(portal, "alice@example.test", last=last)
        assert verdict.copy.uncertain
        assert len(self.flushLoggedErrors(OSError)) == 1

    async def test_the_archive(self) -> None:
        """Would catch a mail that bounces, or a domain that switches, because the archive is down."""
        courier = ArchiveCourier(self.clock, self.archive, self.queue, self.directory)  # type: ignore[arg-type]
        message, row = self.message("alice@example.test", kind=RowKind.ARCHIVE)
        self.queue.held[row.id] = msgspec.structs.replace(row, kind=RowKind.DELIVER, state=RowState.DELIVERED)
        verdicts: dict[int, Verdict] = {}
        self.archive.fail = OSError("down")
        await courier.deliver(message, [row], MemoryBody(MAIL), verdicts)
        assert (verdicts[row.id].outcome, str(verdicts[row.id].reply)) == (
            Outcome.DEFERRED,
            "451 4.3.0 the archive did not take it",
        )
        assert not verdicts[row.id].unavailable
        assert len(self.flushLoggedErrors(OSError)) == 1
        self.archive.fail = None
        await courier.deliver(message, [row], MemoryBody(MAIL), verdicts)
        assert (verdicts[row.id].outcome, str(verdicts[row.id].reply)) == (Outcome.DELIVERED, "250 2.0.0 archived")


class Attempts(TestCase):
    """The agent's own."""

    def build(self, stepper: Stepper | None = None) -> Steps:
        self.steps = Steps(stepper or Stepper())
        self.steps.watch()
        self.steps.start()
        self.addCleanup(self.steps.stop)
        return self.steps

    def verdicts(self, state: RowState) -> list[str]:
        """Of rows that got that state, in the order in which it was recorded."""
        return [str(one.verdict.reply) for one in self.steps.queue.settled if one.state is state and one.verdict is not None]

    def test_given_up_by_hand(self) -> None:
        """Would catch a bounce that blames a server for an administrator's order, and a count of what ended that is not right."""
        steps = self.build()
        steps.server.up = False
        steps.directory.registered.clear()
        steps.send("alice", archive=False)
        steps.send("bob", archive=False)
        steps.pass_by(2)
        found: list[int] = []
        rows = [row.id for row in steps.queue.all(RowKind.DELIVER)]
        Deferred.fromCoroutine(steps.delivery.give_up(rows, "it is enough")).addCallback(found.append)
        steps.pass_by(2)
        assert found == [2]
        assert self.verdicts(RowState.FAILED) == ["554 5.0.0 it is enough"] * 2

    def test_the_text_is_lost(self) -> None:
        """Would catch a sender who is never told of damage of ours, because the bounce itself wants to read the message (it was so: only mail whose end alone
        was lost had a bounce); and a bounce that has another reason."""
        steps = self.build()
        steps.queue.lost.add(2)
        message = steps.send("alice", archive=False)
        assert message.id == 2
        steps.pass_by(2)
        assert self.verdicts(RowState.HELD) == ["554 5.3.0 the message was damaged in our queue and cannot be delivered"]
        [alarm] = [alarm for alarm in steps.alarms if alarm.code == "message-lost"]
        assert alarm.text.endswith("its sender was told")
        [bounce] = steps.outside.got[SENDER]
        assert b"554 5.3.0 the message was damaged" in bounce
        assert b"Your message itself cannot be read any more." in bounce
        assert b"rfc822-headers" not in bounce

    def test_lost_while_it_waits(self) -> None:
        """Would catch a message that was lost after it failed, or after a while without a primary: its sender is told as of any other, and an administrator
        who gives it up is not left with it."""
        steps = self.build()
        steps.directory.registered.clear()
        steps.server.up = False
        steps.send("alice", archive=False)
        [row] = steps.queue.all(RowKind.DELIVER)
        steps.queue.lost.add(row.message)
        assert steps.order(steps.delivery.give_up([row.id], "it is enough"))
        assert self.verdicts(RowState.FAILED) == ["554 5.0.0 it is enough"]
        steps.pass_by(2)
        assert b"554 5.0.0 it is enough" in steps.outside.got[SENDER][0]

    def test_trouble_of_our_own(self) -> None:
        """Would catch a fault of ours that is told to senders as a server's answer, or that is taken for an uncertain hand-over before anything was sent,
        and the other way round (rules 1 and 11)."""
        for ending, said, outcome in (
            (Ending.RAISES, "451 4.3.0 trouble of our own", Outcome.DEFERRED),
            (Ending.RAISES_AFTER, "451 4.4.2 trouble of our own after the final dot", Outcome.UNCERTAIN),
        ):
            stepper = Stepper(ending=ending)
            steps = self.build(stepper)
            steps.directory.registered.clear()
            step = stepper.step

            async def failing(name: str, call: Any, *, step: Any = step, stepper: Stepper = stepper) -> Any:
                if name == "line.send" and stepper.place < 0:
                    stepper.place = len(stepper.names)
                return await step(name, call)

            stepper.step = failing  # type: ignore[method-assign]
            steps.send("alice", archive=False)
            steps.pass_by(2)
            [row] = steps.queue.all(RowKind.DELIVER)
            assert row.last is not None
            assert (row.last.outcome, str(row.last.reply)) == (outcome, said)
            assert len(self.flushLoggedErrors()) >= 1

    def test_nowhere_to_go(self) -> None:
        """Would catch an address that the portal does not have, and whose mail waits; or mail without a portal mailbox that bounces in an emergency instead of
        waiting for one."""
        steps = self.build()
        steps.switch(Mode.EMERGENCY)
        steps.send("carol", archive=False)
        steps.pass_by(2)
        [row] = steps.queue.all(RowKind.DELIVER)
        assert row.state is RowState.PARKED
        assert row.last is not None
        assert str(row.last.reply).startswith("451 4.2.1 emergency")
        steps.directory.served[0] = msgspec.structs.replace(steps.directory.served[0], primaries=())
        steps.send("dave", archive=False)
        steps.pass_by(2)
        assert self.verdicts(RowState.FAILED) == ["550 5.1.1 the portal is this domain's mail server and has no such mailbox"]
