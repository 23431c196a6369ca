"""A primary that greets, takes recipients and defers each text: no question shows that, and no answered question ends it (L6)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from hornetmail.core.events import ModeChanged
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Mailbox, Role
from tests.delivery.steps import DOMAIN, Stepper, Steps
from tests.delivery.world import MAIL

ALICE, BOB = f"alice@{DOMAIN}", f"bob@{DOMAIN}"
STORAGE = Reply(452, "4.3.1", "insufficient system storage")


class TextsDeferred(TestCase):
    def setUp(self) -> None:
        self.steps = Steps(Stepper())
        self.server = self.steps.server
        self.changes: list[Mode] = []
        self.steps.bus.subscribe(ModeChanged, lambda event: self.changes.append(event.mode))
        self.steps.directory.registered += [
            Mailbox(3, f"admin@{DOMAIN}", DOMAIN, roles=frozenset({Role.ADMIN})),
            Mailbox(4, f"dora@{DOMAIN}", DOMAIN),
        ]
        self.steps.start()
        self.steps.pass_by(130)
        self.addCleanup(self.steps.stop)

    def outage(self) -> None:
        """Until the machine believes it."""
        self.server.dot = STORAGE
        for number in range(60):
            for name in ("alice", "bob", "dora"):
                self.steps.send(name, data=MAIL + b"%d to %b\r\n" % (number, name.encode()))
            self.steps.pass_by(10)
            if self.steps.mode is Mode.EMERGENCY:
                return
        raise AssertionError("no emergency")

    def test_it_does_not_flap(self) -> None:
        """A full disk for two hours: recipients are taken all the time, which ended the emergency after half a minute, and each time all of the mail was
        offered again. Now one copy is, ever less often, until one is taken."""
        self.outage()
        self.server.offered = 0
        self.steps.pass_by(7200, 1.0)
        assert self.changes == [Mode.EMERGENCY]
        assert 5 <= self.server.offered <= 25
        self.server.dot = None
        self.steps.pass_by(1000, 1.0)
        assert self.changes == [Mode.EMERGENCY, Mode.DRAINING, Mode.NORMAL]
        assert not self.steps.portal.copies

    def test_it_ends_soon(self) -> None:
        """Minutes after it began, the disk has room again: the emergency ends within two more."""
        self.outage()
        self.steps.pass_by(100, 1.0)
        self.server.dot = None
        self.steps.pass_by(125, 1.0)
        assert self.changes == [Mode.EMERGENCY, Mode.DRAINING, Mode.NORMAL]

    def test_one_message_that_it_cannot_digest(self) -> None:
        """Would catch an emergency that lasts for ever because of the one copy that is offered: the next time it is another."""
        self.outage()
        before = self.server.offered
        while self.server.offered == before:
            self.steps.pass_by(1)
        self.server.dot = None
        self.server.indigestible = bad = self.server.last
        self.steps.pass_by(150)
        assert self.changes[:2] == [Mode.EMERGENCY, Mode.DRAINING]
        assert [copy.data for copy in self.steps.portal.copies.values()] == [bad]

    def test_nothing_to_offer(self) -> None:
        """People removed all of it: the emergency ends by recipients taken, as there is nothing else to go by."""
        self.outage()
        self.steps.portal.copies.clear()
        self.steps.pass_by(400, 1.0)
        assert self.changes[:2] == [Mode.EMERGENCY, Mode.DRAINING]

    def test_by_hand(self) -> None:
        """One that was ordered ends by order, whatever is taken, and nothing is offered meanwhile."""
        self.outage()
        self.steps.switch(Mode.EMERGENCY)
        self.server.offered = 0
        self.server.dot = None
        self.steps.pass_by(1800, 1.0)
        assert self.steps.mode is Mode.EMERGENCY
        assert self.server.offered == 0
