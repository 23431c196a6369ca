"""For how long read mail waits for a way into its mailbox, and when folders are gone over (``filing/filing.py``). The ways and the ledger are not asked here."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.events import Alarm, ModeChanged, PrimarySeen
from hornetmail.core.failover.mode import Mode
from hornetmail.core.served import Mailbox
from hornetmail.delivery.filing.filing import PATIENCE_SECONDS, Filing, Later, Surroundings
from hornetmail.delivery.filing.troubles import INBOX_SECONDS, UNTOLD_SECONDS, Troubles
from hornetmail.runtime.bus import Bus
from hornetmail.testing.memory_directory import MemoryDirectory

ALICE = Mailbox(1, "alice@example.test", "example.test")


class Ways:
    """No domain has one that a pass could begin with."""

    def domains(self) -> list[str]:
        return []

    def server(self, domain: str) -> None:
        return None


class Bounds(TestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.clock.advance(1_700_000_000.0)
        self.bus = Bus(self.clock)
        nobody: Any = None
        house: Any = Surroundings(self.clock, nobody, MemoryDirectory([], []), nobody, nobody, self.bus)  # type: ignore[arg-type]
        self.filing = Filing(house, Ways(), nobody)  # type: ignore[arg-type]

    def waits(self, lasting: bool = False) -> bool:
        try:
            self.filing._wait_for(ALICE, "refused", lasting)
        except Later:
            return True
        return False

    def test_for_how_long(self) -> None:
        """Would catch read mail that goes home as unread the moment its IMAP cannot be reached, or that waits for it for ever, or for a password that is wrong."""
        assert PATIENCE_SECONDS == 3600
        assert self.waits()
        self.clock.advance(3599.0)
        assert self.waits()
        self.clock.advance(1.0)
        assert not self.waits()
        self.filing._since.clear()
        assert not self.waits(lasting=True)

    def test_each_outage_has_its_hour(self) -> None:
        """Would catch read mail of an outage that goes home as unread at once, because in another one, weeks ago, IMAP could not be reached and nothing went by it since."""
        self.filing.start()
        assert self.waits()
        self.clock.advance(30 * 86_400.0)
        self.bus.publish(ModeChanged("example.test", Mode.EMERGENCY, "test", ""))
        self.clock.advance(0)
        assert self.waits()
        self.filing.end()

    def test_who_is_told_of_what_does_not_end(self) -> None:
        """Would catch a wrong host, or an IMAP that never comes back, that nobody is told of until the folders expire; log-ins that go well and hide that no mail does; and an alarm about a copy of INBOX
        that ends and begins again with each pass over folders that have nothing to do with it."""
        alarms: list[Alarm] = []
        self.bus.subscribe(Alarm, alarms.append)
        troubles = Troubles(self.clock, self.bus)
        troubles.barred(ALICE, "refused", False)
        self.clock.advance(UNTOLD_SECONDS - 1)
        troubles.barred(ALICE, "", False)
        troubles.met(ALICE, "busy", False)
        self.clock.advance(1)
        assert not alarms
        troubles.barred(ALICE, "", False)
        assert troubles.text(1) == "busy"
        assert not troubles.is_well(1)
        troubles.met(ALICE, "busy", False)
        self.clock.advance(0)
        assert [(alarm.code, alarm.subject) for alarm in alarms] == [("filing", ALICE.address)]
        troubles.well(ALICE)
        assert troubles.is_well(1)
        assert not troubles.text(1)
        troubles.met_in_inbox(ALICE, "full", True)
        troubles.well(ALICE)
        assert not troubles.is_well(1)
        self.clock.advance(INBOX_SECONDS)
        troubles.well(ALICE)
        assert troubles.is_well(1)
        troubles.met_in_inbox(ALICE, "full", True)
        troubles.gone_from_inbox(ALICE)
        troubles.well(ALICE)
        assert troubles.is_well(1)

    def test_when(self) -> None:
        """Would catch folders that are left in the portal when an emergency ends or a primary is seen again, and a pass that begins with the emergency."""
        kicked: list[str] = []
        self.filing.kick = kicked.append  # type: ignore[method-assign]
        self.filing.start()
        for mode, count in ((Mode.EMERGENCY, 0), (Mode.DRAINING, 1), (Mode.NORMAL, 2)):
            self.bus.publish(ModeChanged("example.test", mode, "test", ""))
            self.clock.advance(0)
            assert kicked == ["example.test"] * count
        self.bus.publish(PrimarySeen("mx:25", ("a.test", "b.test")))
        self.clock.advance(0)
        assert kicked[2:] == ["a.test", "b.test"]
        self.filing.end()
        self.bus.publish(PrimarySeen("mx:25", ("a.test",)))
        self.clock.advance(0)
        assert len(kicked) == 4
