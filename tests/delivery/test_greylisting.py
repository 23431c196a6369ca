"""A primary that greylists in words nobody knows: it defers each first attempt of a new pair, and is well (L6)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from hornetmail.core.events import ModeChanged
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Mailbox
from tests.delivery.steps import DOMAIN, Stepper, Steps

NAMES = ("alice", "bob", "dora")


class Greylisting(TestCase):
    def setUp(self) -> None:
        self.steps = Steps(Stepper())
        self.server = self.steps.server
        self.server.people.add("dora")
        self.changes: list[Mode] = []
        self.steps.bus.subscribe(ModeChanged, lambda event: self.changes.append(event.mode))
        self.steps.directory.registered += [Mailbox(4, f"dora@{DOMAIN}", DOMAIN), Mailbox(5, f"emil@{DOMAIN}", DOMAIN)]
        self.steps.start()
        self.steps.pass_by(130)
        self.addCleanup(self.steps.stop)

    def strangers(self, first: int, names: tuple[str, ...] = NAMES) -> None:
        """Within a minute or so, from senders whom it never met, to people whom it knows."""
        for number in range(first, first + 6):
            for name in names:
                self.steps.send(name, sender=f"s{number}@outside{number}.test")
            self.steps.pass_by(10)

    def test_it_is_no_outage(self) -> None:
        """It took mail of a pair before and takes it again when asked, so it is well, whatever it says to others: three strangers within minutes, while nothing
        else was delivered, made an emergency. Their mail gets home when it is offered again."""
        self.steps.send("alice")
        self.steps.pass_by(600, 5.0)
        self.server.greylists = 300.0
        self.strangers(0)
        self.steps.pass_by(300)
        self.strangers(10)
        self.steps.pass_by(4000, 5.0)
        assert self.changes == []
        for name in NAMES:
            assert len(self.server.got[f"{name}@{DOMAIN}"]) == 12 + (name == "alice")

    def test_an_outage_is_one(self) -> None:
        """The same words for everybody, known pairs too: its directory is away, and the domain is switched."""
        for name in NAMES:
            self.steps.send(name)
        self.steps.pass_by(600, 5.0)
        self.server.trouble = {f"{name}@{DOMAIN}": Reply(451, "4.3.0", "please call again") for name in NAMES}
        self.strangers(0)
        assert self.changes == [Mode.EMERGENCY]

    def test_a_sender_who_went_bad(self) -> None:
        """Rule 8c: a stranger whose mail was taken once, and whose domain is gone since. The primary defers him at MAIL; it is asked on, and is well."""
        self.steps.send("alice", sender="gone@outside.test")
        self.steps.pass_by(600, 5.0)
        self.server.barred = {"gone@outside.test": Reply(450, "4.1.8", "Domain not found")}
        others = ("bob", "dora", "emil")
        self.server.trouble = {f"{name}@{DOMAIN}": Reply(451, "4.3.0", "please call again") for name in others}
        self.strangers(0, others)
        assert self.changes == []
        assert self.steps.delivery.modes.explain(DOMAIN)["decisions"], "it was asked"
