"""Outage and return by themselves and by hand (C2-C7, C13, C20, L4, L6; rules 3-5, 9-11)."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from twisted.internet.defer import Deferred

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.events import DirectoryChanged
from hornetmail.core.failover import machine
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome
from hornetmail.core.served import Domain, Failover, Host, Mailbox
from hornetmail.testing.scripted_primary import ScriptedPrimary
from tests.delivery.world import MAIL, QUICK, SENDER, TRACE, WorldCase, reactor


class Outage(WorldCase):
    async def emergency(self) -> None:
        await self.until(lambda: self.mode() is Mode.EMERGENCY, "emergency mode")

    async def normal(self) -> None:
        await self.until(lambda: self.mode() is Mode.NORMAL, "normal mode")

    async def test_story(self) -> None:
        """C4-C7: outage, mail into the portal, some of it read and moved, return, drain with the original envelope, normal."""
        await self.build()
        await self.gone(await self.send("alice@example.test"))
        await self.primary.stop()
        await self.emergency()
        before = len(self.primary.accepted)
        for number in range(12):
            await self.send("alice@example.test", sender=f"s{number}@outside.test", data=MAIL + b"%d\r\n" % number)
        await self.until(lambda: len(self.portal.inbox(1)) == 12, "all in the portal")
        assert all(row.state is RowState.PARKED for row in self.drains())
        deleted, moved = self.portal.inbox(1)[:2]
        del self.portal.copies[deleted.portal.name]
        moved.moved = True
        await self.primary.listen()
        await self.normal()
        await self.until(lambda: not self.portal.inbox(1), "INBOX is empty")
        home = self.primary.accepted[before:]
        assert len(home) == 10
        assert {each.sender for each in home} == {f"s{n}@outside.test" for n in range(2, 12)}
        assert all(each.data.startswith(TRACE + MAIL) for each in home)
        assert all(each.recipients == ("alice@example.test",) for each in home)
        assert moved.portal.name in self.portal.copies, "what was moved away stays where it was put (C6)"
        await self.until(lambda: not self.queue.held, "the queue is empty")
        await self.until(lambda: len(self.changes) >= 3, "everybody is told")
        assert [each.mode for each in self.changes] == [Mode.EMERGENCY, Mode.DRAINING, Mode.NORMAL]
        assert all(each.reason for each in self.changes)

    async def test_newest_first_uncertain_last(self) -> None:
        """Rules 1 and 10: the order of the drain, and that it begins with one."""
        await self.build()
        self.primary.script.drop, self.primary.script.keep_dropped = {"DOT"}, False
        await self.send("alice@example.test", sender="uncertain@outside.test")
        await self.until(lambda: self.portal.inbox(1), "uncertain copy")
        self.primary.script.drop = set()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        for number in range(3):
            await self.send("alice@example.test", sender=f"s{number}@outside.test")
        await self.until(lambda: len(self.portal.inbox(1)) == 4, "all in the portal")
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.normal()
        order = [each.sender for each in self.primary.accepted]
        assert order[0] == "s2@outside.test"
        assert sorted(order) == ["s0@outside.test", "s1@outside.test", "s2@outside.test", "uncertain@outside.test"]
        assert order.index("uncertain@outside.test") >= 2, "what goes side by side with the last one may be overtaken by it"

    async def test_adoption(self) -> None:
        """L4: mail that is already deferred when the emergency begins waits for its back-off instead of moving to the portal."""
        await self.build(failover=Failover.MANUAL)
        self.primary.script.replies = {"RCPT": "451 4.3.0 not now"}
        await self.send("late@example.test")
        await self.until(lambda: any(r.last for r in self.queue.all(RowKind.DELIVER, RowState.QUEUED)), "it was deferred")
        [row] = self.queue.all(RowKind.DELIVER)
        self.queue.held[row.id] = msgspec.structs.replace(row, state=RowState.QUEUED, due=reactor.seconds() + 3600)
        self.directory.registered.append(Mailbox(7, "late@example.test", "example.test"))
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.until(lambda: self.portal.inbox(7), "adopted into the portal")
        assert len(self.portal.inbox(7)) == 1
        assert not self.primary.accepted

    async def test_parked_without_mailbox(self) -> None:
        """Rule 4: a known recipient without a mailbox waits with the clock stopped; an administrator assigns one; or the primary comes back."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        first = await self.send("new@example.test")
        second = await self.send("other@example.test")
        await self.until(lambda: len(self.queue.all(RowKind.DELIVER, RowState.PARKED)) == 2, "parked")
        self.directory.registered.append(Mailbox(8, "new@example.test", "example.test"))
        await self.until(lambda: self.portal.inbox(8), "delivered once a mailbox was assigned")
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.gone(second)
        await self.gone(first)
        assert self.primary.to("other@example.test")

    async def test_refused_at_drain(self) -> None:
        """Rule 10: 5xx at drain. The message stays in INBOX with keyword and reason; nobody is bounced; the mode gets normal."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.send("bob@example.test")
        await self.until(lambda: self.portal.inbox(2), "in the portal")
        self.primary.script.replies = {"DOT": "554 5.6.0 spam"}
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.normal()
        [copy] = self.portal.inbox(2)
        assert copy.keywords == ("$DrainFailed",)
        assert "spam" in copy.reason
        assert not copy.claimed
        [row] = self.drains()
        assert row.state is RowState.STUCK
        assert not self.notices()
        # Retried by hand: an administrator releases the row.
        self.primary.script.replies = {}
        await self.queue.change([row.id], RowState.QUEUED, due=reactor.seconds())
        await self.until(lambda: not self.portal.inbox(2), "home")

    async def test_pop_session(self) -> None:
        """Rule 10: drain takes a message away under a POP session, or never comes back to it."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.send("alice@example.test")
        await self.send("bob@example.test")
        await self.until(lambda: len(self.portal.copies) == 2, "in the portal")
        assert await self.portal.lock(1, "a POP session")
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until(lambda: not self.portal.inbox(2), "Bob's went home")
        assert self.portal.inbox(1)
        assert self.mode() is Mode.DRAINING
        await self.portal.unlock(1, "a POP session")
        await self.normal()
        assert not self.portal.inbox(1)

    async def test_main_address(self) -> None:
        """Rule 9: an address that is this mailbox's alone stays the recipient, another one becomes the main address."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.send("al@example.test")
        await self.send("alice@example.test", sender="list@outside.test")
        await self.until(lambda: len(self.portal.inbox(1)) == 2, "in the portal")
        for copy in self.portal.inbox(1):
            if copy.envelope.sender == "list@outside.test":
                [recipient] = copy.envelope.recipients
                wider = msgspec.structs.replace(recipient, address="everybody@example.test")
                copy.envelope = msgspec.structs.replace(copy.envelope, recipients=(wider,))
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.normal()
        sent = {each.sender: each.recipients for each in self.primary.accepted}
        assert sent == {SENDER: ("al@example.test",), "list@outside.test": ("alice@example.test",)}

    async def test_primary_fails_again_in_the_drain(self) -> None:
        """A drain that loses or doubles mail when the primary goes away in the middle of it."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        for number in range(10):
            await self.send("alice@example.test", sender=f"s{number}@outside.test")
        await self.until(lambda: len(self.portal.inbox(1)) == 10, "in the portal")
        self.primary.script.limited["DOT"] = (0, "")
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until(lambda: len(self.primary.accepted) >= 3, "some went home")
        await self.primary.stop()
        await self.until(lambda: self.mode() is not Mode.NORMAL, "still draining, or an emergency again")
        await self.primary.listen()
        await self.normal()
        await self.until(lambda: not self.portal.inbox(1), "everything is home")
        assert {each.sender for each in self.primary.accepted} == {f"s{n}@outside.test" for n in range(10)}
        assert len(self.primary.accepted) <= 20

    async def test_messages_that_the_primary_stumbles_over(self) -> None:
        """Rule 10: the newest messages, which a primary answers with 421 each time, keep all others from getting home, or the domain from
        ever being normal again."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        for number in range(5):
            await self.send("alice@example.test", sender=f"s{number}@outside.test")
        await self.until(lambda: len(self.portal.inbox(1)) == 5, "in the portal")
        for number in range(4):
            await self.send("bob@example.test", sender=f"poison{number}@outside.test")
        await self.until(lambda: len(self.portal.inbox(2)) == 4, "those too")
        self.primary.script.trouble = {"bob@example.test": "421 4.3.2 filter crashed"}
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until(lambda: not self.portal.inbox(1), "the others are home")
        await self.normal()
        assert len(self.portal.inbox(2)) == 4
        self.primary.script.trouble = {}
        await self.until(lambda: not self.portal.inbox(2), "what was wrong with it is mended")

    async def test_greylisting_and_a_full_mailbox_are_no_outage(self) -> None:
        """L6: the whole domain goes into emergency for what concerns one sender or one mailbox."""
        await self.build()
        self.primary.script.grey = True
        self.primary.script.full = {"bob@example.test"}
        for number in range(8):
            await self.send("alice@example.test", "bob@example.test", sender=f"s{number}@outside.test")
        await self.until(lambda: len(self.primary.to("alice@example.test")) == 8, "greylisted mail got home")
        assert self.mode() is Mode.NORMAL
        assert not self.changes
        assert len(self.portal.inbox(2)) == 8

    async def test_by_hand(self) -> None:
        """Rule 5: an emergency by hand ends only by hand; orders that make no sense are refused with a reason."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin", "moving")
        await self.until(lambda: [a for a in self.alarms if a.code == "primary-back"], "told that the primary answers")
        assert self.mode() is Mode.EMERGENCY
        explained = self.delivery.modes.explain("example.test")
        assert explained["by"] == "admin"
        assert explained["reason"] == "moving"
        assert explained["primaries"][0]["up"] is True
        assert explained["decisions"]
        reasons = [each["why"] for each in explained["decisions"]]
        assert all(one != other for one, other in itertools.pairwise(reasons)), "what is decided again is counted"
        for _ in range(60):
            self.delivery.modes.observe("example.test", machine.ProbeAnswered("mx.example"))
        reasons = [each["why"] for each in self.delivery.modes.explain("example.test")["decisions"]]
        assert any("moving" in reason for reason in reasons), "probes pushed away why the domain switched"
        with pytest.raises(ValueError, match="draining"):
            await self.delivery.modes.switch("example.test", Mode.DRAINING, "admin")
        with pytest.raises(KeyError):
            await self.delivery.modes.switch("unknown.test", Mode.EMERGENCY, "admin")
        self.directory.served.append(Domain("own.test"))
        with pytest.raises(ValueError, match="no primary"):
            await self.delivery.modes.switch("own.test", Mode.EMERGENCY, "admin")

    async def test_mode_survives_a_restart(self) -> None:
        """A restart in an emergency delivers to a primary that an administrator took out of service."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.delivery.stop(0.1)
        await self.launch()
        assert self.mode() is Mode.EMERGENCY
        await self.send("alice@example.test")
        await self.until(lambda: self.portal.inbox(1), "in the portal")
        assert not self.primary.accepted

    async def test_restart_in_normal_mode(self) -> None:
        """Rule 3: a restart offers copies at once that wait for their own time, however full the mailbox still is."""
        self.settings = msgspec.structs.replace(QUICK, backoff=Backoff(first=600.0, ceiling=600.0))
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.normal()
        self.primary.script.full = {"bob@example.test"}
        await self.send("bob@example.test")
        await self.until(lambda: self.drains(RowState.QUEUED), "it waits")
        await self.delivery.stop(0.1)
        self.primary.script.full = set()
        await self.launch()
        await self.send("alice@example.test")
        await self.until(lambda: self.primary.to("alice@example.test"), "the service works")
        assert not self.primary.to("bob@example.test")
        assert [row.attempts for row in self.drains(RowState.QUEUED)] == [0]

    async def test_manual_domain(self) -> None:
        """C7: a manual domain only raises an alarm; its mail fails over all the same."""
        await self.build(failover=Failover.MANUAL)
        await self.primary.stop()
        await self.until(lambda: [a for a in self.alarms if a.code == "primary-down"], "an alarm")
        assert self.mode() is Mode.NORMAL
        message = await self.send("alice@example.test")
        await self.until(lambda: self.portal.inbox(1), "in the portal")
        await self.primary.listen()
        await self.gone(message)
        assert self.primary.accepted

    async def test_our_own_network(self) -> None:
        """Rule 5: all primaries down at once. An alarm, and nobody's mode changes; one alone does change."""
        await self.build()
        other = ScriptedPrimary(reactor)
        await other.listen()
        self.primaries.append(other)
        self.directory.served.append(
            Domain("other.test", primaries=(Host("localhost", other.port),), tls=self.directory.served[0].tls)
        )
        self.resolver.hosts["localhost"] = ("127.0.0.1",)
        self.delivery.health._meet()
        await other.stop()
        await self.primary.stop()
        await self.until(lambda: [a for a in self.alarms if a.code == "network-down"], "an alarm")
        assert not self.changes
        await other.listen()
        await self.emergency()
        await self.until(lambda: self.changes, "told")
        assert {each.domain for each in self.changes} == {"example.test"}


class Late(WorldCase):
    settings = msgspec.structs.replace(QUICK, drain=msgspec.structs.replace(QUICK.drain, undrained=0.3))

    async def test_undrained_is_told(self) -> None:
        """Rule 3: a copy that does not get home is forgotten; administrator and user are told, once a day."""
        await self.build()
        self.primary.script.full = {"bob@example.test"}
        await self.send("bob@example.test")
        await self.until(lambda: len({n.request for n in self.notices()}) == 2, "notices")
        tos = sorted(n.envelope.recipients[0].address for n in self.notices())
        assert tos == ["admin@example.test", "bob@example.test"]
        await self.until(lambda: self.primary.to("admin@example.test"), "the administrator has it")
        assert len(self.primary.to("admin@example.test")) == 1
        assert b"bob@example.test" in self.primary.to("admin@example.test")[0].data


class Orphans(WorldCase):
    settings = msgspec.structs.replace(QUICK, drain=msgspec.structs.replace(QUICK.drain, orphaned=0.3))

    async def test_primaries_removed(self) -> None:
        """Rule 3: copies of a domain that lost its primary in an emergency would be parked for ever: they stay in INBOX, their rows are
        settled, and the administrator hears of it; a primary that is only being replaced loses nothing."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.send("alice@example.test")
        await self.until(lambda: self.drains(RowState.PARKED), "in the portal")
        served = self.directory.served[0]
        self.directory.served[0] = msgspec.structs.replace(served, primaries=())
        await self.until(lambda: not self.drains(), "settled")
        assert len(self.portal.inbox(1)) == 1
        await self.until(lambda: any(each.code == "drain-orphaned" for each in self.alarms), "shown")
        assert not self.primary.accepted

    async def test_primaries_replaced(self) -> None:
        """The same, with another primary in time: everything drains."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.send("alice@example.test")
        await self.until(lambda: self.drains(RowState.PARKED), "in the portal")
        served = self.directory.served[0]
        self.directory.served[0] = msgspec.structs.replace(served, primaries=())
        await self.until(lambda: self.delivery._undrained._orphans, "missed")
        self.directory.served[0] = served
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until(lambda: len(self.primary.accepted) == 1, "home")
        await self.until(lambda: not self.drains(), "settled")
        assert not self.portal.inbox(1)
        [taken] = self.primary.accepted
        assert (taken.recipients, taken.data) == (("alice@example.test",), TRACE + MAIL)
        assert "drain-orphaned" not in [each.code for each in self.alarms]


class Crash(WorldCase):
    async def crash(self) -> None:
        """What is queued or parked was being tried when the process died."""
        await self.delivery.stop(0.1)
        far = reactor.seconds() + 3600
        for row in list(self.queue.held.values()):
            if row.state in (RowState.QUEUED, RowState.PARKED):
                self.queue.held[row.id] = msgspec.structs.replace(row, state=RowState.CLAIMED, attempts=1, due=far)
        self.queue.restart()

    async def test_hand_overs(self) -> None:
        """Rule 11: a copy that is gone is done, another is handed over again; a delivery that was cut off is made at once."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.send("alice@example.test")
        await self.send("bob@example.test")
        await self.until(lambda: len(self.drains()) == 2, "in the portal")
        await self.until(lambda: not self.queue.all(RowKind.ARCHIVE, RowState.QUEUED, RowState.CLAIMED), "archived")
        await self.delivery.stop(0.1)
        await self.send("alice@example.test", sender="claimed@outside.test")
        await self.crash()
        del self.portal.copies[self.portal.inbox(2)[0].portal.name]
        await self.queue.remember("modes", "example.test", None)
        await self.launch()
        await self.until(lambda: not self.queue.held, "everything is settled")
        assert sorted(each.sender for each in self.primary.accepted) == ["claimed@outside.test", SENDER]

    async def test_may_have_been_at_the_primary(self) -> None:
        """Rules 1 and 11: an attempt that a crash cut off may have reached the primary, so the portal's copy of it is a marked one; a second
        crash before the next attempt changes nothing, and neither does a portal that cannot be asked."""
        await self.build()
        await self.delivery.stop(0.1)
        await self.send("alice@example.test")
        await self.primary.stop()
        await self.crash()
        self.portal.fail = OSError("away")
        await self.launch()
        await self.delivery.stop(0.1)
        assert self.flushLoggedErrors(OSError)
        [row] = self.queue.all(RowKind.DELIVER)
        assert row.last is not None
        assert row.last.outcome is Outcome.UNCERTAIN
        await self.crash()
        self.portal.fail = None
        await self.launch()
        await self.until(lambda: self.portal.inbox(1), "in the portal")
        await self.until(self.drains, "its drain row")
        [drain] = self.drains()
        assert drain.portal is not None
        assert drain.portal.uncertain

    async def test_in_the_portal_but_not_recorded(self) -> None:
        """A crash between the portal's file and the queue's record: the mail reaches the primary and stays in INBOX besides."""
        await self.build()
        await self.delivery.stop(0.1)
        message = await self.send("alice@example.test")
        [row] = self.queue.all(RowKind.DELIVER)
        await self.portal.deliver(1, message, row, await self.queue.body(message.id))
        await self.crash()
        await self.launch()
        await self.gone(message)
        assert not self.portal.inbox(1)
        assert len(self.primary.accepted) == 1


class DirectoryTells(WorldCase):
    """No sweep comes by itself for an hour: what happens is what changes of the directory bring about."""

    settings = msgspec.structs.replace(QUICK, sweep=3600.0)

    async def test_people_are_one_domains_business(self) -> None:
        """A mailbox more lets its domain's parked mail go, at once, and nothing else is looked through; a domain that changed brings a sweep,
        also if one is under way just then. Catches 100,000 sweeps of everything while 100,000 mailboxes are imported."""
        await self.build()
        asked: list[str] = []
        release, gate = self.delivery.modes.release, Deferred[None]()

        async def listening(domain: str = "") -> int:
            asked.append(domain)
            return await release(domain)

        async def held(domain: str = "") -> int:
            await gate
            return await listening(domain)

        await self.until(
            lambda: self.delivery._sweeping is not None and self.delivery._sweeping.getTime() > reactor.seconds() + 60, "calm"
        )
        self.delivery.modes.release = listening  # type: ignore[method-assign]
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.send("new@example.test")
        await self.until(lambda: self.queue.all(RowKind.DELIVER, RowState.PARKED), "parked")
        self.directory.registered.append(Mailbox(8, "new@example.test", "example.test"))
        for version in range(2, 20):
            self.bus.publish(DirectoryChanged(version, people=frozenset({"example.test"})))
        await self.until(lambda: self.portal.inbox(8), "delivered once a mailbox was assigned")
        assert asked
        assert set(asked) == {"example.test"}
        self.delivery.modes.release = held  # type: ignore[method-assign]
        self.bus.publish(DirectoryChanged(20, domains=frozenset({"example.test"})))
        await self.until(lambda: not self.delivery._sweeping.active(), "a sweep is under way")  # type: ignore[union-attr]
        self.bus.publish(DirectoryChanged(21, domains=frozenset({"example.test"})))
        await self.until(lambda: self.delivery._sweep_anew, "another is wanted")
        gate.callback(None)
        await self.until(lambda: asked[-2:] == ["", ""], "both came")
