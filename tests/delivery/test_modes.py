"""What a switch brings about, when something of it fails (rules 3 and 5, L4)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.events import AlarmEnded, ModeChanged
from hornetmail.core.failover import machine
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Failover, Host, Mailbox
from hornetmail.delivery.outage import modes
from hornetmail.runtime.bus import Bus
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue
from tests.delivery.world import WorldCase, reactor

STRANGE = st.builds(
    lambda stage, reply, outcome: Verdict(
        outcome, Reply(*reply), "primary", stage, "mx", unavailable=outcome is not Outcome.FAILED
    ),
    st.sampled_from(list(Stage)),
    st.sampled_from(
        [
            (450, "4.2.0", "try again"),
            (451, "4.3.0", "the filter failed"),
            (452, "4.3.1", "disk full"),
            (421, "4.4.2", "connection lost"),
            (421, "4.7.0", "too many connections"),
            (552, "5.3.4", "too big"),
            (554, "5.6.0", "content rejected"),
            (550, "5.1.1", "no such user"),
        ]
    ),
    st.sampled_from([Outcome.DEFERRED, Outcome.UNCERTAIN, Outcome.FAILED]),
)


class Answering:
    """Health as a primary that greets and takes a known recipient has it."""

    async def survey(self, domain: str) -> machine.Surveyed:
        return machine.Surveyed(3, 0, machine.Own.TAKES)

    def hurry(self, domain: str) -> None:
        """It is asked soon."""


@given(
    st.lists(
        st.tuples(STRANGE, st.integers(0, 12), st.integers(0, 40), st.booleans(), st.booleans(), st.floats(0, 30)), max_size=60
    ),
    st.sampled_from(Failover),
)
@settings(deadline=None)
def test_strangers_switch_nothing(events: list[tuple[Verdict, int, int, bool, bool, float]], failover: Failover) -> None:
    """Rule 8c: any history of verdicts that strangers bring about by the addresses, senders, sizes and texts they choose, in messages and in
    questions, to known and unknown recipients, at any stage: a primary that answers our own question keeps its domain in normal mode."""
    clock = Clock()
    clock.advance(1000)
    queue, bus = MemoryQueue(clock.seconds), Bus(clock)
    directory = MemoryDirectory([Domain("example.test", primaries=(Host("mx"),), failover=failover)], [])
    switched: list[ModeChanged] = []
    letters: list[str] = []
    bus.subscribe(ModeChanged, switched.append)

    async def letter(domain: str, text: str) -> None:
        letters.append(text)

    async def trial(domain: str) -> bool | None:
        raise AssertionError("not in normal mode")

    async def recipients(domain: str) -> dict[str, Any]:
        return {}

    kept = modes.Modes(clock, queue, directory, bus, modes.Consequences(lambda domain: None, letter, trial, recipients))
    kept.health = Answering()  # type: ignore[assignment]
    began = clock.seconds()
    for verdict, recipient, message, proven, question, after in events:
        clock.advance(after)
        address = f"r{recipient}@example.test"
        if question:
            kept.unverified("example.test", address, verdict, proven=proven)
        else:
            kept.verdict("example.test", address, message, verdict, proven=proven)
        assert kept.mode("example.test") is Mode.NORMAL
    clock.advance(1)
    assert not switched
    assert len(letters) <= 1 + (clock.seconds() - began) / 900


class Failing(WorldCase):
    """``fail``: the queue's functions that fail, and how many times yet."""

    async def ready(self, **domain: Any) -> None:
        self.patch(modes, "AGAIN_SECONDS", 0.05)
        await self.build(**domain)
        self.fail: dict[str, int] = {}
        for name in ("remember", "adopt", "rows"):
            self.patch(self.queue, name, self.failing(name, getattr(self.queue, name)))

    def failing(self, name: str, real: Any) -> Any:
        async def call(*args: Any, **keywords: Any) -> Any:
            if self.fail.get(name, 0) > 0:
                self.fail[name] -= 1
                raise OSError(f"{name}: disk full")
            return await real(*args, **keywords)

        return call

    async def seconds(self, seconds: float) -> None:
        waited: Deferred[None] = Deferred()
        reactor.callLater(seconds, waited.callback, None)
        await waited

    def remembered(self) -> str:
        return self.queue.facts.get("modes", {}).get("example.test", b"").decode()

    async def deferred(self) -> None:
        """A recipient whose next attempt is an hour away."""
        self.primary.script.replies = {"RCPT": "451 4.3.0 not now"}
        await self.send("late@example.test")
        await self.until(lambda: any(r.last for r in self.queue.all(RowKind.DELIVER, RowState.QUEUED)), "it was deferred")
        [row] = self.queue.all(RowKind.DELIVER)
        await self.queue.change([row.id], RowState.QUEUED, due=reactor.seconds() + 3600)
        self.directory.registered.append(Mailbox(7, "late@example.test", "example.test"))

    async def test_an_order_that_cannot_be_recorded(self) -> None:
        """The switch by hand fails and is in force all the same, until a restart forgets it."""
        await self.ready()
        self.fail["remember"] = 1
        with pytest.raises(OSError, match="disk full"):
            await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        assert self.mode() is Mode.NORMAL
        assert not self.changes
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        assert self.mode() is Mode.EMERGENCY
        assert "emergency" in self.remembered()

    async def test_an_outage_that_cannot_be_recorded(self) -> None:
        """By itself it is in force at once, and recorded as soon as that can be; what follows is done then, and somebody hears of it."""
        await self.ready()
        await self.deferred()
        self.fail["remember"] = 3
        await self.primary.stop()
        await self.until(lambda: self.mode() is Mode.EMERGENCY, "emergency")
        await self.until(lambda: "emergency" in self.remembered(), "recorded")
        await self.until(lambda: self.portal.inbox(7), "and adopted (L4)")
        await self.until(lambda: self.changes, "told")
        assert [each.mode for each in self.changes] == [Mode.EMERGENCY]
        assert "mode-unrecorded" in [alarm.code for alarm in self.alarms]
        assert len(self.flushLoggedErrors(OSError)) == 3

    async def test_the_alarm_of_an_unrecorded_switch_ends_with_whatever_is_recorded(self) -> None:
        """Would catch an alarm that stands until a restart: the switch that could not be recorded was overtaken by the next one, or an order."""
        await self.ready()
        ended: list[AlarmEnded] = []
        self.bus.subscribe(AlarmEnded, ended.append)
        keeper = self.delivery.modes
        self.patch(modes, "AGAIN_SECONDS", 3600.0)
        self.fail["remember"] = 1
        await keeper._act("example.test", machine.Switch(Mode.EMERGENCY, machine.HEALTH, "an outage"))
        await self.until(lambda: "mode-unrecorded" in [alarm.code for alarm in self.alarms], "told")
        assert not ended
        self.fail["remember"] = 0
        await keeper._act("example.test", machine.Switch(Mode.NORMAL, machine.HEALTH, "it is over"))
        await self.until(lambda: ended, "over")
        assert [(each.code, each.subject) for each in ended] == [("mode-unrecorded", "example.test")]
        self.fail["remember"] = 1
        await keeper._act("example.test", machine.Switch(Mode.NORMAL, machine.HEALTH, "again"))
        await keeper.switch("example.test", Mode.EMERGENCY, "admin")
        await self.until(lambda: len(ended) == 2, "over")
        self.flushLoggedErrors(OSError)

    async def test_adoption_is_repeated(self) -> None:
        """An adoption that failed was never tried again: what had been deferred stayed out of reach for the whole emergency (L4)."""
        await self.ready()
        await self.deferred()
        self.fail["adopt"] = 2
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        assert self.mode() is Mode.EMERGENCY
        await self.until(lambda: self.portal.inbox(7), "adopted")
        self.flushLoggedErrors(OSError)

    async def test_what_is_deferred_later_is_adopted(self) -> None:
        """An attempt that was under way at the switch ends deferred afterwards, and waits for its back-off through the emergency."""
        await self.ready()
        await self.deferred()
        [row] = self.queue.all(RowKind.DELIVER)
        await self.queue.change([row.id], RowState.HELD)
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.queue.change([row.id], RowState.QUEUED, due=reactor.seconds() + 3600)
        await self.until(lambda: self.portal.inbox(7), "a sweep adopted it")
        assert len(self.portal.inbox(7)) == 1
        assert [each.id for each in self.queue.all(RowKind.DELIVER, RowState.QUEUED)] == [], "nothing waits for its back-off"
        assert not self.primary.accepted

    async def test_the_way_back_is_repeated(self) -> None:
        """The release of parked recipients fails, and the drain never begins: DRAINING for ever."""
        await self.ready()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.send("alice@example.test")
        await self.until(lambda: self.portal.inbox(1), "in the portal")
        self.fail["rows"] = 3
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until(lambda: self.mode() is Mode.NORMAL, "home")
        await self.until(lambda: not self.portal.inbox(1), "drained")
        assert [each.recipients for each in self.primary.accepted] == [("alice@example.test",)]
        self.flushLoggedErrors(OSError)

    async def test_the_newest_switch_counts(self) -> None:
        """While the adoption of an emergency is still repeated it is over: the repetition adopts nothing more, and ends."""
        await self.ready()
        self.fail["adopt"] = 10**9
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until(lambda: self.mode() is Mode.NORMAL, "home")
        await self.until(lambda: not self.delivery.modes._pending, "nothing is left to do")
        left = self.fail["adopt"]
        await self.seconds(0.3)
        assert self.fail["adopt"] == left
        self.flushLoggedErrors(OSError)
