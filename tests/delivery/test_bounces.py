"""Who is told of a failure, when SPF has to say so (rule 6)."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from hornetmail.core.delivery.queued import Message, Row, RowKind, RowState, WaitsFor
from hornetmail.core.mail.envelope import Door, Origin
from hornetmail.net.resolver import ResolveError
from hornetmail.testing.scripted_primary import ScriptedPrimary
from tests.delivery.world import SENDER, WorldCase, reactor

OUTSIDE = Origin(Door.MX, peer="192.0.2.7", helo="mail.outside.test")
TEXT = ("outside.test", "TXT")
NOBODY = "nobody@example.test"


class BouncesCase(WorldCase):
    async def refused(self, record: Any, **message: Any) -> Message:
        """A message whose recipient the primary refuses, from a domain that publishes ``record``; its own mail host takes what comes."""
        await self.build()
        self.theirs = ScriptedPrimary(reactor)
        await self.theirs.listen()
        self.primaries.append(self.theirs)
        self.resolver.mx["outside.test"] = (msgspec.structs.replace(self.host(), port=self.theirs.port),)
        self.publish(record)
        self.primary.script.unknown = {NOBODY}
        return await self.send(NOBODY, **{"origin": OUTSIDE, **message})

    def host(self) -> Any:
        domain = self.directory.domain("example.test")
        assert domain is not None
        return domain.primaries[0]

    def publish(self, record: Any) -> None:
        self.resolver.zone[TEXT] = record if isinstance(record, ResolveError) else [f'"{record}"']

    def row(self) -> Row:
        """The delivery of the message, not of what is said about it."""
        [row] = (
            row for row in self.queue.all(RowKind.DELIVER) if self.queue.messages[row.message].origin.door is not Door.NOTICE
        )
        return row

    def work(self, seconds: float) -> None:
        """The row has waited that long in service time."""
        row = self.row()
        self.queue.held[row.id] = msgspec.structs.replace(row, worked=seconds)

    async def held(self) -> Row:
        await self.until(lambda: self.queue.all(RowKind.DELIVER, RowState.HELD), "it is held")
        assert not self.notices()
        return self.row()


class TestBySPF(BouncesCase):
    async def test_pass(self) -> None:
        """A proved sender has to hear; from nobody, so that nothing comes back."""
        message = await self.refused("v=spf1 ip4:192.0.2.0/24 -all")
        await self.gone(message)
        await self.until(lambda: self.theirs.to(SENDER), "the bounce is with the sender's mail host")
        [bounce] = self.theirs.to(SENDER)
        assert bounce.sender == ""
        assert b"Final-Recipient: rfc822; nobody@example.test" in bounce.data

    async def test_no_pass(self) -> None:
        """What is not a pass is no proof: held, with the reason in plain words, and an alarm that says it too."""
        await self.refused("v=spf1 ~all")
        row = await self.held()
        assert "5.1.1" in row.reason
        assert "SPF of outside.test says softfail for 192.0.2.7" in row.reason
        await self.until(lambda: self.alarms, "an alarm")
        assert "SPF of outside.test says softfail for 192.0.2.7" in self.alarms[0].text

    async def test_forged(self) -> None:
        """The client's own domain says pass, the reverse-path's says fail: the bounce would go to the latter."""
        await self.build()
        self.resolver.zone[("mail.outside.test", "TXT")] = ['"v=spf1 +all"']
        self.publish("v=spf1 -all")
        self.primary.script.unknown = {NOBODY}
        await self.send(NOBODY, origin=OUTSIDE)
        assert "says fail for 192.0.2.7" in (await self.held()).reason

    async def test_dns_down(self) -> None:
        """DNS trouble decides nothing: the row stays in the queue with the reason, and the bounce goes out once DNS is back."""
        message = await self.refused(ResolveError("no answer"))
        await self.until(lambda: "cannot be looked up now: no answer" in self.row().reason, "it says why it waits")
        assert self.row().state in (RowState.QUEUED, RowState.CLAIMED)
        assert "5.1.1" in self.row().reason
        await self.until(lambda: self.row().attempts > 3, "it was tried again and again")
        assert self.primary.named.count(NOBODY) == 1, "the primary has said no, and is not asked again"
        assert not self.notices()
        self.publish("v=spf1 +all")
        await self.gone(message)
        await self.until(lambda: self.theirs.to(SENDER), "the bounce")

    async def test_a_crash_while_dns_is_down(self) -> None:
        """The primary's no was forgotten over a crash: the message was offered again, as one that may be there already."""
        message = await self.refused(ResolveError("no answer"))
        await self.until(lambda: self.row().waits_for is WaitsFor.NOTICE, "it waits")
        await self.delivery.stop(0.1)
        self.queue.held[self.row().id] = msgspec.structs.replace(self.row(), state=RowState.CLAIMED)
        self.queue.restart()
        self.primary.script.unknown = set()
        self.publish("v=spf1 +all")
        await self.launch()
        await self.gone(message)
        assert self.primary.named.count(NOBODY) == 1
        await self.until(lambda: self.theirs.to(SENDER), "the bounce")

    async def test_an_order_that_is_cut_off(self) -> None:
        """The service stops while held mail is being ended by hand: the end of the process released it instead, to its recipients."""
        await self.refused("v=spf1 ~all")
        await self.send(NOBODY, origin=OUTSIDE)
        await self.until(lambda: len(self.queue.all(RowKind.DELIVER, RowState.HELD)) == 2, "both are held")
        self.primary.script.unknown = set()
        asked: list[Any] = []

        async def hanging(*args: Any, **keywords: Any) -> Any:
            await Deferred(asked.append)

        self.patch(self.delivery.notices, "failed", hanging)
        rows = [row.id for row in self.queue.all(RowKind.DELIVER)]
        running = Deferred.fromCoroutine(self.delivery.give_up(rows, "no longer wanted"))
        running.addErrback(lambda failure: None)
        running.cancel()
        assert asked
        assert len(self.queue.all(RowKind.DELIVER, RowState.HELD)) == 2
        assert not self.primary.to(NOBODY)

    async def test_dns_down_for_ever(self) -> None:
        """A domain whose DNS never answers would keep its mail in the queue, and the primary busy, without end."""
        await self.refused(ResolveError("no answer"))
        await self.until(lambda: "looked up now" in self.row().reason, "it waits")
        self.work(6 * 86400)
        assert "cannot be looked up now" in (await self.held()).reason

    async def test_by_hand_with_dns_down(self) -> None:
        """An order has an outcome at once: held, and it may be ordered again."""
        await self.refused(ResolveError("no answer"))
        await self.until(lambda: self.row().state is RowState.QUEUED and self.row().attempts, "it waits")
        self.primary.script.unknown = set()
        self.primary.script.replies = {"RCPT": "451 4.3.0 later"}
        assert await self.delivery.give_up([self.row().id], "no longer wanted") == 0
        assert "cannot be looked up now" in (await self.held()).reason
        self.publish("v=spf1 +all")
        assert await self.delivery.give_up([self.row().id], "no longer wanted") == 1
        await self.until(lambda: self.theirs.to(SENDER), "the bounce")

    async def test_others_do_not_wait(self) -> None:
        """While DNS hangs over one refused recipient, the others' deliveries are on record (or a crash would repeat them, rule 11)
        and the connection's next mail goes home."""
        await self.build()
        hanging: Deferred[Any] = Deferred()
        self.publish("v=spf1 +all")
        asked = self.resolver.records

        async def slowly(name: str, kind: str) -> Any:
            await hanging
            return await asked(name, kind)

        self.resolver.records = slowly  # type: ignore[method-assign]
        self.primary.script.unknown = {NOBODY}
        message = await self.send("alice@example.test", NOBODY, origin=OUTSIDE)
        await self.until(lambda: self.queue.all(RowKind.DELIVER, RowState.DELIVERED), "Alice's is on record")
        assert self.queue.all(RowKind.DELIVER, RowState.CLAIMED)
        await self.gone(await self.send("bob@example.test", origin=OUTSIDE))
        assert message.id not in self.queue.left
        hanging.callback(None)
        await self.gone(message)

    async def test_trouble_of_our_own(self) -> None:
        """A fault while a bounce is written delays that recipient, and leaves alone what is on record already."""
        await self.build()
        asked = self.resolver.records
        faults = [RuntimeError("a fault")]

        async def faulty(name: str, kind: str) -> Any:
            if faults:
                raise faults.pop()
            return await asked(name, kind)

        self.resolver.records = faulty  # type: ignore[method-assign]
        self.publish("v=spf1 +all")
        self.primary.script.unknown = {NOBODY}
        message = await self.send("alice@example.test", NOBODY, origin=OUTSIDE)
        await self.gone(message)
        assert len(self.primary.to("alice@example.test")) == 1
        assert not faults
        assert len(self.flushLoggedErrors(RuntimeError)) == 1

    async def test_accepting_costs_nothing(self) -> None:
        """Mail that arrives asks nothing of DNS, nor does a failure of which nobody is told or everybody knows the sender."""
        message = await self.refused("v=spf1 +all", sender="")
        await self.gone(message)
        await self.gone(await self.send("alice@example.test", origin=OUTSIDE))
        login = Origin(Door.SUBMISSION, peer="192.0.2.7", login="alice@example.test")
        await self.gone(await self.send(NOBODY, sender="alice@example.test", origin=login))
        assert not [name for name in self.resolver.asked if name.endswith(" TXT")]

    async def test_delay(self) -> None:
        """Delay notices follow the same rule: none without a proof, none lost to DNS trouble, one in all."""
        await self.refused(ResolveError("no answer"))
        self.primary.script.unknown = set()
        self.primary.script.replies = {"RCPT": "451 4.3.0 later"}
        await self.until(lambda: self.row().last and "4.3.0" in str(self.row().last.reply), "it was deferred")  # type: ignore[union-attr]
        self.work(5 * 3600)
        asked = len(self.resolver.asked)
        await self.until(lambda: self.resolver.asked[asked:].count("outside.test TXT") >= 2, "SPF was asked again")
        assert not self.notices()
        assert not self.row().delay_told
        self.publish("v=spf1 +all")
        await self.until(lambda: self.theirs.to(SENDER), "the delay notice")
        await self.until(lambda: self.row().delay_told, "it is remembered")
        assert b"Action: delayed" in self.theirs.to(SENDER)[0].data

    async def test_delay_of_a_stranger(self) -> None:
        """A delay notice to somebody who did not write is backscatter like a bounce."""
        await self.refused("v=spf1 -all")
        await self.held()
        self.primary.script.unknown = set()
        self.primary.script.replies = {"RCPT": "451 4.3.0 later"}
        await self.delivery._queue.change([self.row().id], RowState.QUEUED)
        self.work(5 * 3600)
        await self.until(lambda: self.row().delay_told, "it was decided")
        assert not self.notices()
