"""A primary that keeps every message and never says so: a filter behind it that takes too long, a firewall that cuts the answer off (rules 1 and 11)."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Row, RowKind, RowState
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.served import Failover
from tests.delivery.steps import DOMAIN, Fault, Stepper, Steps
from tests.delivery.world import MAIL

ALICE = f"alice@{DOMAIN}"
OUT = "friend@else.test"
DAY = 86400.0


class Mute(TestCase):
    def setUp(self) -> None:
        self.steps = Steps(Stepper())
        self.steps.server.mute = True
        self.addCleanup(self.steps.stop)

    def copies(self) -> int:
        return len(self.steps.server.got.get(ALICE, ()))

    def test_by_hand(self) -> None:
        """One more copy came to the mailbox with every retry, for as long as the primary was like that: hundreds in a week. Administrators are told,
        and try it by hand; a primary that answers again has it then."""
        domain = self.steps.directory.served[0]
        self.steps.directory.served[0] = msgspec.structs.replace(domain, failover=Failover.MANUAL)
        self.steps.start()
        self.steps.send("alice", archive=False)
        self.steps.pass_by(3 * DAY, 60.0)
        assert self.copies() == 5
        [row] = self.steps.queue.all(RowKind.DRAIN, RowState.STUCK)
        assert "5 times" in row.reason
        assert [alarm.code for alarm in self.steps.alarms if alarm.code == "drain-refused"] == ["drain-refused"]
        before = self.copies()
        assert self.steps.order(self.steps.queue.change([row.id], RowState.QUEUED))
        self.steps.pass_by(60)
        assert self.copies() == before + 1, "tried once"
        assert self.steps.queue.all(RowKind.DRAIN, RowState.STUCK)
        self.steps.server.mute = False
        assert self.steps.order(self.steps.queue.change([row.id], RowState.QUEUED))
        self.steps.quiet(3600)
        assert not self.steps.unfinished()

    def test_what_never_came_so_far(self) -> None:
        """Would catch attempts that did not reach the primary and count as silence of it: a copy that was in flight twice, after an outage of hours,
        stayed in INBOX although the primary answers."""
        domain = self.steps.directory.served[0]
        self.steps.directory.served[0] = msgspec.structs.replace(domain, failover=Failover.MANUAL)
        self.steps.start()
        self.steps.send("alice", archive=False)
        self.steps.pass_by(1)
        self.steps.server.up = False
        self.steps.pass_by(DAY, 60.0)
        assert max(row.attempts for row in self.steps.queue.all(RowKind.DRAIN)) > 5
        before = self.copies()
        self.steps.server.up = True
        while self.copies() < before + 3:
            self.steps.pass_by(60)
        self.steps.server.mute = False
        self.steps.quiet(DAY)
        assert not self.steps.queue.all(RowKind.DRAIN, RowState.STUCK)
        assert not self.steps.unfinished()

    def test_in_an_outage(self) -> None:
        """The same of the messages that a primary in an emergency is offered, one after the other, to see whether it is well."""
        self.steps.start()
        for _ in range(12):
            self.steps.send("alice", archive=False)
            self.steps.pass_by(20)
        self.steps.pass_by(7 * DAY, 60.0)
        assert self.copies() <= 12 * 5
        self.steps.server.mute = False
        for row in self.steps.queue.all(RowKind.DRAIN, RowState.STUCK):
            self.steps.order(self.steps.queue.change([row.id], RowState.QUEUED))
        self.steps.quiet(7200)
        assert not self.steps.unfinished()
        assert self.steps.mode is Mode.NORMAL


class MuteFromTheQueue(TestCase):
    """Deliveries that no portal has: the same bound, on record."""

    def setUp(self) -> None:
        self.steps = Steps(Stepper())
        self.steps.server.mute = self.steps.outside.mute = True
        self.addCleanup(self.steps.stop)

    def by_hand(self) -> None:
        domain = self.steps.directory.served[0]
        self.steps.directory.served[0] = msgspec.structs.replace(domain, failover=Failover.MANUAL)

    def copies(self, address: str) -> int:
        server = self.steps.server if address.endswith(DOMAIN) else self.steps.outside
        return len(server.got.get(address, ()))

    def held(self) -> Row:
        [row] = self.steps.queue.all(RowKind.DELIVER, RowState.HELD)
        return row

    def codes(self) -> list[str]:
        return [alarm.code for alarm in self.steps.alarms if alarm.code == "delivery-unanswered"]

    def test_primary(self) -> None:
        """Would catch what nobody has a portal mailbox for, handed over to a mute primary with every retry for five days, and a released one going on
        like that. People are told once a time; released with the primary well, it is there."""
        self.by_hand()
        self.steps.server.people.add("carol")
        self.steps.start()
        self.steps.send("carol", archive=False)
        self.steps.pass_by(6 * DAY, 60.0)
        assert self.copies(f"carol@{DOMAIN}") == 5
        row = self.held()
        assert "5 times" in row.reason
        assert self.codes() == ["delivery-unanswered"]
        assert self.steps.order(self.steps.queue.change([row.id], RowState.QUEUED))
        self.steps.pass_by(DAY, 60.0)
        assert self.copies(f"carol@{DOMAIN}") == 6, "tried once"
        assert self.codes() == ["delivery-unanswered"] * 2
        self.steps.server.mute = False
        assert self.steps.order(self.steps.queue.change([self.held().id], RowState.QUEUED))
        self.steps.quiet(3600)
        assert not self.steps.unfinished()

    def test_outside(self) -> None:
        """The same of somebody else's server, a smarthost that scans for too long: 120 copies in five days."""
        self.steps.start()
        self.steps.queue.take(
            1, MAIL, Envelope(ALICE, (Recipient(OUT),)), Origin(Door.SUBMISSION, login=ALICE), Direction.OUT, b"", DOMAIN, False, "", ""
        )  # fmt: skip
        self.steps.pass_by(6 * DAY, 60.0)
        assert self.copies(OUT) == 5
        assert self.held().address == OUT
        [alarm] = [alarm for alarm in self.steps.alarms if alarm.code == "delivery-unanswered"]
        assert alarm.domain == DOMAIN, "it is told to whoever looks after the sender's domain"

    def test_restarts(self) -> None:
        """Would catch a count that only memory has: five copies more after each restart, which a nightly update makes of it."""
        self.by_hand()
        self.steps.server.people.add("carol")
        self.steps.start()
        self.steps.send("carol", "alice", archive=False)
        for _ in range(12):
            self.steps.pass_by(900, 30.0)
            self.steps.restart()
        self.steps.pass_by(DAY, 60.0)
        assert (self.copies(f"carol@{DOMAIN}"), self.copies(ALICE)) == (5, 5)
        assert self.held().unheard == 5
        [row] = self.steps.queue.all(RowKind.DRAIN, RowState.STUCK)
        assert row.unheard == 5, "its delivery's and its own"

    def test_while_the_portal_fails(self) -> None:
        """Would catch a message that the portal cannot take just now, offered to the mute primary again before each try of the portal; and one that is
        held although the portal can have it."""
        self.by_hand()
        deliver = self.steps.portal.deliver

        async def broken(*_: object, **__: object) -> None:
            raise Fault("no portal")

        self.steps.portal.deliver = broken  # type: ignore[assignment]
        self.steps.start()
        self.steps.send("alice", archive=False)
        self.steps.pass_by(DAY, 30.0)
        assert self.copies(ALICE) == 5
        assert len(self.steps.queue.all(RowKind.DELIVER, RowState.QUEUED)) == 1
        self.steps.portal.deliver = deliver  # type: ignore[method-assign]
        self.steps.pass_by(2 * 3600, 30.0)
        assert self.steps.portal.inbox(1)
        self.steps.pass_by(DAY, 30.0)
        assert self.copies(ALICE) == 6, "the portal's copy is offered once more"
        assert self.steps.queue.all(RowKind.DRAIN, RowState.STUCK)
        self.flushLoggedErrors(Fault)
