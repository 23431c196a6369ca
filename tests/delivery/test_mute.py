"""A primary that keeps every message and never says so: a filter behind it that takes too long, a firewall that cuts the answer off (rules 1 and 11)."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.failover.mode import Mode
from hornetmail.core.served import Failover
from tests.delivery.steps import DOMAIN, Stepper, Steps

ALICE = f"alice@{DOMAIN}"
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
        assert self.copies() <= 6
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
        while self.copies() < before + 4:
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
        assert self.copies() <= 12 * 6
        self.steps.server.mute = False
        for row in self.steps.queue.all(RowKind.DRAIN, RowState.STUCK):
            self.steps.order(self.steps.queue.change([row.id], RowState.QUEUED))
        self.steps.quiet(7200)
        assert not self.steps.unfinished()
        assert self.steps.mode is Mode.NORMAL
