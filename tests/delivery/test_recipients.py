"""Callforward (C13, C14, L7, rule 4) and redelivery (C10, C16, C17, C18, rule 16)."""

from __future__ import annotations

import msgspec
import pytest
from twisted.internet.defer import Deferred, gatherResults

from hornetmail.core.archived import ArchivedMail, Hit, Refused
from hornetmail.core.envelope import Direction
from hornetmail.core.machine import Policy
from hornetmail.core.mode import Mode
from hornetmail.core.served import Coverage, Domain, Person, Role
from hornetmail.delivery.recipients.accepted import SPACE
from tests.delivery.world import QUICK, WorldCase, reactor

DAY = 86400.0


class Recipients(WorldCase):
    settings = msgspec.structs.replace(QUICK, policy=Policy(signs=1000), sweep=3600)

    async def asked(self, address: str) -> int:
        return (await self.delivery.recipients.verify(address)).code

    async def ready(self, **domain: object) -> None:
        """Built, and the first question for an impossible address is over."""
        await self.build(**domain)  # type: ignore[arg-type]
        self.primary.script.unknown = {"ghost@example.test"}
        await self.until(lambda: self.primary.seen.get("RCPT"), "the question for an impossible address")
        self.primary.seen.clear()

    async def test_known_and_unknown(self) -> None:
        """C14: answers are the primary's, asked once for many, and cached both ways."""
        await self.ready()
        asked = [Deferred.fromCoroutine(self.delivery.recipients.verify("real@example.test")) for _ in range(5)]
        assert {reply.code for reply in await gatherResults(asked)} == {250}
        assert self.primary.seen["RCPT"] == 1, "one probe an address at a time"
        assert await self.asked("ghost@example.test") == 550
        assert await self.asked("ghost@example.test") == 550
        assert await self.asked("Real@example.test") == 250
        assert self.primary.seen["RCPT"] == 2
        assert await self.asked("x@elsewhere.test") == 550
        assert "real@example.test" in self.queue.remembered(SPACE)

    async def test_deferred_probe(self) -> None:
        """Rule 4: when the primary defers the question, known addresses are accepted and others are told to come again."""
        await self.ready()
        self.primary.script.replies = {"RCPT": "451 4.3.0 later"}
        assert await self.asked("alice@example.test") == 250
        assert await self.asked("stranger@example.test") == 451
        self.primary.script.replies = {}
        assert await self.asked("stranger@example.test") == 250

    async def test_policy_refusal_is_not_unknown(self) -> None:
        """550 5.7.1 (an access rule against our probe) taken for an unknown recipient."""
        await self.ready()
        self.primary.script.replies = {"RCPT": "550 5.7.1 not from you"}
        assert await self.asked("stranger@example.test") == 451
        self.primary.script.replies = {"MAIL": "550 5.1.1 no"}
        assert await self.asked("stranger@example.test") == 451, "only at RCPT"

    async def test_unreachable(self) -> None:
        """Primary down in normal mode: nobody is refused for good."""
        await self.ready()
        await self.primary.stop()
        assert await self.asked("alice@example.test") == 250
        assert await self.asked("stranger@example.test") == 451
        await self.primary.listen()

    async def test_sick(self) -> None:
        """Rule 4: three known addresses refused within 10 min: 451, and what was refused before is forgotten."""
        await self.ready()
        self.primary.script.replies = {"RCPT": "550 5.1.1 no such user"}
        assert await self.asked("alice@example.test") == 550
        assert await self.asked("bob@example.test") == 550
        assert await self.asked("admin@example.test") == 451
        assert await self.asked("alice@example.test") == 451
        assert self.delivery.modes.explain("example.test")["evidence"]
        assert await self.asked("stranger@example.test") == 550, "of strangers it may be right"

    async def test_emergency(self) -> None:
        """C13: 550 5.1.1 for those neither registered nor accepted within 90 days; others wait in the queue."""
        await self.ready()
        assert await self.asked("real@example.test") == 250
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        reply = await self.delivery.recipients.verify("stranger@example.test")
        assert (reply.code, reply.enhanced) == (550, "5.1.1")
        assert await self.asked("alice@example.test") == 250
        assert await self.asked("real@example.test") == 250
        assert self.delivery.known.gaps("example.test") == ["real@example.test"], "L7: the gap is shown"
        assert self.delivery.modes.explain("example.test")["recipients"]["gaps"] == ["real@example.test"]
        self.delivery.known._accepted["real@example.test"] -= 91 * DAY
        assert await self.asked("real@example.test") == 550

    async def test_emergency_with_picked_scope(self) -> None:
        """C13: with picked mailboxes nobody can be called unknown."""
        await self.ready(coverage=Coverage.PICKED)
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        assert await self.asked("stranger@example.test") == 250

    async def test_accepts_everything(self) -> None:
        """Rule 4: a primary that accepts a random address makes callforward worthless: registration counts."""
        await self.build()
        self.primary.script.unknown_start = ""
        await self.delivery.recipients.test(self.directory.domains())
        await self.until(lambda: self.delivery.recipients.accepts_everything("example.test"), "found out")
        assert await self.asked("stranger@example.test") == 550
        assert await self.asked("alice@example.test") == 250
        assert self.delivery.modes.explain("example.test")["recipients"]["accepts_everything"] is True
        await self.until(lambda: self.alarms, "told")
        assert self.alarms[0].code == "accept-all"

    async def test_learnt_from_deliveries(self) -> None:
        """L7: what the primary accepted in a delivery is known after a restart."""
        await self.ready()
        await self.gone(await self.send("someone@example.test"))
        await self.delivery.stop(0.1)
        await self.launch()
        self.primary.seen.clear()
        assert await self.asked("someone@example.test") == 250
        assert "someone@example.test" in self.queue.remembered(SPACE)

    async def test_no_primary(self) -> None:
        """A domain whose mail server is the portal: registration decides."""
        await self.ready()
        self.directory.served.append(Domain("own.test"))
        assert await self.asked("nobody@own.test") == 550


ALICE = Person(1, "alice@example.test", 1, addresses=("alice@example.test", "al@example.test"))
ADMIN = Person(3, "admin@example.test", 1, roles=(Role.ADMIN,), addresses=("admin@example.test",))
RAW = b"Subject: old\r\n\r\nold mail\r\n"


class Redeliver(WorldCase):
    async def ready(self) -> None:
        await self.build()
        for identifier, owner in ((1, "alice@example.test"), (2, "bob@example.test")):
            hit = Hit(identifier, 0, "x@outside.test", (owner,), "old", len(RAW), Direction.IN)
            mail = ArchivedMail(hit, 1, "inline", "", "<1@x>", b"", 1, 0)
            self.archive.mails[identifier] = (mail, RAW, frozenset({owner}))

    async def test_own(self) -> None:
        """C18, rule 16: to oneself, MAIL FROM <>, exact bytes, not archived again, one request is one delivery."""
        await self.ready()
        [queued] = (await self.delivery.redelivery.redeliver(ALICE, [1], request="r1")).queued
        again = await self.delivery.redelivery.redeliver(ALICE, [1], request="r1")
        assert again.queued == (queued,)
        await self.until(lambda: self.primary.accepted, "delivered")
        [taken] = self.primary.accepted
        assert taken.sender == ""
        assert taken.recipients == ("alice@example.test",)
        assert taken.data == RAW
        assert not self.archive.items

    async def test_to_the_portal(self) -> None:
        """C10: in an emergency to the portal."""
        await self.ready()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.delivery.redelivery.redeliver(ALICE, [1])
        await self.until(lambda: self.portal.inbox(1), "in the portal")

    async def test_others(self) -> None:
        """C18: somebody else's mail, or to somebody else's mailbox."""
        await self.ready()
        with pytest.raises(KeyError):
            await self.delivery.redelivery.redeliver(ALICE, [2])
        with pytest.raises(Refused):
            await self.delivery.redelivery.redeliver(ALICE, [1], "bob@example.test")
        with pytest.raises(Refused):
            await self.delivery.redelivery.redeliver(ALICE, [1], "x@outside.test")
        with pytest.raises(ValueError, match="no @"):
            await self.delivery.redelivery.redeliver(ALICE, [1], "nonsense")
        assert not self.queue.messages

    async def test_administrator(self) -> None:
        """C16: to the owner without seeing it; not to somebody who has no right to it, not to himself."""
        await self.ready()
        await self.delivery.redelivery.redeliver(ADMIN, [2], "bob@example.test")
        await self.until(lambda: self.primary.to("bob@example.test"), "delivered")
        with pytest.raises(KeyError):
            await self.delivery.redelivery.redeliver(ADMIN, [2], "alice@example.test")
        with pytest.raises(KeyError):
            await self.delivery.redelivery.redeliver(ADMIN, [2])
        assert all(scope.addresses for scope in self.archive.scopes)
        assert reactor is not None
