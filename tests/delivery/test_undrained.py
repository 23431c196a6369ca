"""What lies in the portal, or in the queue for a primary, for more than 4 h is told to administrators and users (rule 3), whatever goes on."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.envelope import Door
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Mailbox, PortalOn, Role
from tests.delivery.steps import DOMAIN, Stepper, Steps

HOUR = 3600.0


class Undrained(TestCase):
    def setUp(self) -> None:
        self.steps = Steps(Stepper())
        self.steps.directory.registered.append(Mailbox(3, f"admin@{DOMAIN}", DOMAIN, roles=(Role.ADMIN,)))
        self.steps.start()
        self.addCleanup(self.steps.stop)

    def told(self) -> list[str]:
        notices = [each for each in self.steps.queue.messages.values() if each.origin.door is Door.NOTICE]
        return sorted(each.envelope.recipients[0].address for each in notices)

    def test_in_an_emergency(self) -> None:
        """An emergency that lasts: nobody was told of the mail that lay in the portal for days, and nobody looks at a panel at night."""
        self.steps.switch(Mode.EMERGENCY)
        self.steps.send("alice", archive=False)
        self.steps.pass_by(3.9 * HOUR, 30.0)
        assert self.told() == []
        self.steps.pass_by(0.3 * HOUR, 30.0)
        assert self.told() == [f"admin@{DOMAIN}", f"alice@{DOMAIN}"]
        self.steps.pass_by(4 * HOUR, 30.0)
        assert len(self.told()) <= 4, "once a day each"

    async def test_second_addresses(self) -> None:
        """Would catch a notice that their own mail server is away sent to nobody but that mail server, and private addresses written to that the
        domain does not want to be."""
        for tell_people in (True, False):
            self.setUp()
            directory = self.steps.directory
            directory.served[0] = msgspec.structs.replace(directory.served[0], tell_people=tell_people)
            directory.registered = [msgspec.structs.replace(each, second=f"{each.id}@else.test") for each in directory.registered]
            self.steps.switch(Mode.EMERGENCY)
            self.steps.send("alice", archive=False)
            self.steps.pass_by(4.2 * HOUR, 30.0)
            private = ["1@else.test"] if tell_people else []
            assert self.told() == [*private, "3@else.test", f"admin@{DOMAIN}", f"alice@{DOMAIN}"]

    async def test_second_addresses_while_it_defers(self) -> None:
        """The same of mail that waits in the queue for a full mailbox."""
        directory = self.steps.directory
        directory.served[0] = msgspec.structs.replace(directory.served[0], portal_on=PortalOn.OUTAGE, tell_people=True)
        directory.registered = [msgspec.structs.replace(each, second=f"{each.id}@else.test") for each in directory.registered]
        self.steps.server.trouble = {f"bob@{DOMAIN}": Reply(452, "4.2.2", "mailbox full")}
        self.steps.send("bob", archive=False)
        self.steps.pass_by(5)
        [row] = self.steps.queue.all(RowKind.DELIVER, RowState.QUEUED)
        self.steps.queue.held[row.id] = msgspec.structs.replace(row, queued=row.queued - 4 * HOUR)
        await self.steps.delivery._waiting.sweep()
        assert self.told() == ["2@else.test", "3@else.test", f"admin@{DOMAIN}", f"bob@{DOMAIN}"]

    async def test_while_it_is_tried(self) -> None:
        """A copy whose attempt was under way at each look was told of by none of them."""
        self.steps.switch(Mode.EMERGENCY)
        self.steps.send("bob", archive=False)
        self.steps.pass_by(60)
        [row] = self.steps.queue.all(RowKind.DRAIN, RowState.PARKED)
        self.steps.queue.held[row.id] = msgspec.structs.replace(row, state=RowState.CLAIMED, queued=row.queued - 4 * HOUR)
        await self.steps.delivery._undrained.sweep()
        assert self.told() == [f"admin@{DOMAIN}", f"bob@{DOMAIN}"]

    async def test_in_the_queue_while_it_is_tried(self) -> None:
        """The same of mail that waits in the queue for a full mailbox."""
        self.steps.directory.served[0] = msgspec.structs.replace(self.steps.directory.served[0], portal_on=PortalOn.OUTAGE)
        self.steps.server.trouble = {f"bob@{DOMAIN}": Reply(452, "4.2.2", "mailbox full")}
        self.steps.send("bob", archive=False)
        self.steps.pass_by(5)
        [row] = self.steps.queue.all(RowKind.DELIVER, RowState.QUEUED)
        self.steps.queue.held[row.id] = msgspec.structs.replace(row, state=RowState.CLAIMED, queued=row.queued - 4 * HOUR)
        await self.steps.delivery._waiting.sweep()
        assert self.told() == [f"admin@{DOMAIN}", f"bob@{DOMAIN}"]
