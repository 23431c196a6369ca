"""The finer rule of C20: greylisted mail and mail for a full mailbox waits for the primary (L6)."""

from __future__ import annotations

from typing import Any

import msgspec

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import Row, RowKind, RowState, WaitsFor
from hornetmail.core.failover.mode import Mode
from hornetmail.core.served import PortalOn
from tests.delivery.world import MAIL, QUICK, SLOW_MACHINE, TRACE, WorldCase

GREY = "waits for the primary: greylisting is no outage"
FULL = "waits for the primary: one full mailbox is no outage"


PATIENT = msgspec.structs.replace(SLOW_MACHINE, backoff=Backoff(first=900, ceiling=900))
"""No second attempt comes by itself."""


class KeptCase(WorldCase):
    settings = SLOW_MACHINE

    def waiting(self) -> dict[str, Row]:
        return {row.address.partition("@")[0]: row for row in self.queue.all(RowKind.DELIVER, RowState.QUEUED)}

    async def kept(self, *names: str) -> None:
        def are() -> bool:
            waiting = self.waiting()
            return all(name in waiting and waiting[name].waits_for is WaitsFor.PRIMARY for name in names)

        await self.until(are, f"{names} are kept")


class Finer(KeptCase):
    async def test_greylisting(self) -> None:
        """A greylisted mail in the portal, not at the primary after its retry, or archived twice."""
        await self.build(portal_on=PortalOn.OUTAGE)
        self.primary.script.grey = True
        message = await self.send("alice@example.test")
        await self.kept("alice")
        row = self.waiting()["alice"]
        assert row.reason == GREY
        assert row.last is not None
        assert row.last.reply.enhanced == "4.7.1"
        await self.gone(message)
        [taken] = self.primary.accepted
        assert taken.data == TRACE + MAIL
        assert not self.portal.copies
        assert len(self.archive.items) == 1

    async def test_default(self) -> None:
        """C20 as it is: the same mail is in the portal at once."""
        await self.build()
        self.primary.script.grey = True
        message = await self.send("alice@example.test")
        await self.until(lambda: self.portal.inbox(1), "it is in the portal")
        await self.gone(message)
        assert len(self.primary.accepted) == 1

    async def test_each_recipient_for_itself(self) -> None:
        """One message: the first is delivered, the second kept, the third in trouble and therefore in the portal."""
        await self.build(portal_on=PortalOn.OUTAGE)
        self.primary.script.full = {"bob@example.test"}
        self.primary.script.trouble = {"admin@example.test": "451 4.3.0 not now"}
        message = await self.send("alice@example.test", "bob@example.test", "admin@example.test")
        await self.until(lambda: self.portal.inbox(3), "the third is in the portal")
        await self.kept("bob")
        await self.kept("bob")
        row = self.waiting()["bob"]
        assert row.reason == FULL
        self.queue.held[row.id] = msgspec.structs.replace(row, worked=5 * 3600.0)
        await self.until(lambda: any(n.request.startswith("dsn-delayed") for n in self.notices()), "the sender is told")
        assert not self.portal.inbox(1)
        assert not self.portal.inbox(2)
        assert [each.recipients for each in self.primary.accepted] == [("alice@example.test",)]
        self.primary.script.full, self.primary.script.trouble = set(), {}
        await self.gone(message)
        assert not self.portal.copies
        for name in ("alice", "bob", "admin"):
            assert len(self.primary.to(f"{name}@example.test")) == 1

    async def test_421_and_silence_are_an_outage(self) -> None:
        """What is no greylisting and no full mailbox goes to the portal at once, under either rule."""
        await self.build(portal_on=PortalOn.OUTAGE)
        self.primary.script.replies = {"RCPT": "421 4.7.1 greylisted, shutting down"}
        await self.send("alice@example.test")
        await self.until(lambda: len(self.portal.inbox(1)) == 1, "421: the portal")
        self.primary.script.replies, self.primary.script.hang = {}, {"RCPT"}
        await self.send("alice@example.test")
        await self.until(lambda: len(self.portal.inbox(1)) == 2, "silence: the portal")
        self.primary.script.hang = set()
        await self.primary.stop()
        await self.send("alice@example.test")
        await self.until(lambda: len(self.portal.inbox(1)) == 3, "refused: the portal")
        assert not self.waiting(), "nothing is kept"
        assert not self.primary.accepted
        assert len(self.drains()) == 3, "each of them goes home later"
        await self.primary.listen()

    async def test_uncertain_is_never_kept(self) -> None:
        """Rule 1: the primary may have it, and the recipient's mailbox is full by now: a marked copy, not another hand-over later."""
        self.settings = msgspec.structs.replace(SLOW_MACHINE, backoff=Backoff(first=2, ceiling=2))
        await self.build(portal_on=PortalOn.OUTAGE)
        script = self.primary.script
        script.drop = {"DOT"}

        class FullWithIt(list[Any]):
            """The mailbox is full once the primary has it: no attempt comes between the two."""

            def append(self, message: Any) -> None:
                list.append(self, message)
                script.full, script.drop = {"bob@example.test"}, set()

        self.primary.accepted = FullWithIt()
        self.portal.fail = OSError("disk")
        await self.send("bob@example.test")
        await self.until(lambda: any(s.state is RowState.QUEUED for s in self.queue.settled), "it was deferred")
        assert self.primary.accepted, "the primary has it"
        self.portal.fail = None
        await self.until(lambda: self.portal.inbox(2), "a copy is in the portal")
        self.flushLoggedErrors(OSError)
        assert self.portal.inbox(2)[0].portal.uncertain
        assert len(self.primary.accepted) == 1

    async def test_emergency_takes_it(self) -> None:
        """L4: kept mail waits on in the queue though the portal is the mail server now; nothing is there twice."""
        await self.build(portal_on=PortalOn.OUTAGE)
        self.primary.script.full = {"bob@example.test"}
        message = await self.send("bob@example.test")
        await self.kept("bob")
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.until(lambda: self.portal.inbox(2), "it is in the portal")
        assert not self.waiting()
        self.primary.script.full = set()
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.gone(message)
        assert len(self.primary.accepted) == 1

    async def test_emergency_during_the_attempt(self) -> None:
        """Adoption passes over claimed rows: kept a moment later, the mail would lie until its next attempt."""
        self.settings = PATIENT
        await self.build(portal_on=PortalOn.OUTAGE)
        self.primary.script.hang = {"RCPT"}
        message = await self.send("bob@example.test")
        await self.until(lambda: self.primary.seen.get("RCPT"), "it is at RCPT")
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        [claimed] = self.queue.all(RowKind.DELIVER, RowState.CLAIMED)
        assert claimed.address == "bob@example.test"
        for dialogue in list(self.primary.open):
            dialogue.transport.write(b"452 4.2.2 mailbox full\r\n554 5.5.1 nobody to send it to\r\n")
        await self.until(lambda: self.portal.inbox(2), "it is in the portal")
        assert any(each.reason == FULL for each in self.queue.settled), "it was kept first"
        self.primary.script.hang = set()
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.gone(message)

    async def test_rule_changed_back(self) -> None:
        """An administrator who goes back to C20 would wait for the next attempt of what was kept."""
        self.settings = PATIENT
        await self.build(portal_on=PortalOn.OUTAGE)
        self.primary.script.full = {"bob@example.test"}
        message = await self.send("bob@example.test")
        await self.kept("bob")
        self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], portal_on=PortalOn.ANY)
        await self.until(lambda: self.portal.inbox(2), "it is in the portal")
        assert message.id in self.queue.messages


class Late(KeptCase):
    settings = msgspec.structs.replace(
        SLOW_MACHINE,
        drain=msgspec.structs.replace(QUICK.drain, undrained=0.3),
    )

    async def test_told(self) -> None:
        """Rule 3 in spirit: mail for a mailbox that stays full is forgotten in the queue. Administrator and user are told once a day, the
        sender by a delay notice; the user's goes to the portal instead of waiting behind the full mailbox itself."""
        await self.build(portal_on=PortalOn.OUTAGE)
        self.primary.script.full = {"bob@example.test"}
        await self.send("bob@example.test")
        await self.until(lambda: len({n.request for n in self.notices()}) >= 2, "notices")
        tos = sorted(n.envelope.recipients[0].address for n in self.notices())
        assert tos == ["admin@example.test", "bob@example.test"]
        await self.until(lambda: self.primary.to("admin@example.test"), "the administrator has it")
        assert len(self.primary.to("admin@example.test")) == 1
        assert b"bob@example.test" in self.primary.to("admin@example.test")[0].data
        await self.until(lambda: self.portal.inbox(2), "the user's is in the portal")
        assert len(self.portal.inbox(2)) == 1
        assert self.waiting()["bob"].reason == FULL
