"""Machine, queue, portal and drain against a model of twenty lines: what people, primary and crashes do, in any order."""

from __future__ import annotations

import shutil
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from hornetmail.core.failover.machine import OrderRefused
from hornetmail.core.failover.mode import Mode
from tests.faults.driver import quietly
from tests.faults.house import PACKED, WHOLE, House, template
from tests.faults.judge import judge
from tests.faults.ledger import MAILBOXES, Ledger

LONG = 40 * 86_400.0
DOMAIN = "example.test"


class Model:
    """A message is somewhere between its sender and its reader (``mail``), in a folder that its reader put it into (``kept``), or removed. What
    reached the primary (``home``) is there for good; what is kept or removed does not get there any more."""

    def __init__(self) -> None:
        self.mail: set[tuple[str, str]] = set()
        self.kept: dict[tuple[str, str], int] = {}
        self.removed: dict[tuple[str, str], int] = {}

    def keep(self, key: tuple[str, str], home: int) -> None:
        self.mail.discard(key)
        self.kept[key] = home

    def remove(self, key: tuple[str, str], home: int) -> None:
        self.mail.discard(key)
        self.removed[key] = home

    def back(self, key: tuple[str, str]) -> None:
        del self.kept[key]
        self.mail.add(key)


class Outage(RuleBasedStateMachine):
    """``second``: second copies that rule 11 has: one a connection that was open when the process died or the primary went away."""

    def __init__(self, place: Path, unpacked: int) -> None:
        super().__init__()
        self.house = House(place, unpacked)
        self.ledger = Ledger(self.house)
        self.model = Model()
        self.second = 0
        self.number = 0
        self.up = False
        self.wake(losing=False)

    def wake(self, *, losing: bool) -> None:
        """The next life; ``losing`` says how it may end."""
        self.house.awake(losing=losing)
        self.do(self.house.open())

    def do(self, action: Coroutine[Any, Any, Any]) -> Any:
        return self.house.run(action, LONG, "a rule")

    def there(self, mailbox: int, folder: str) -> list[str]:
        async def look() -> list[str]:
            session = await self.ledger.session(mailbox)
            return sorted(await session.subjects(folder)) if folder in await session.folders() else []

        found: list[str] = self.do(look())
        return found

    # What happens

    @rule(mailbox=st.sampled_from([1, 2]))
    def mail_comes(self, mailbox: int) -> None:
        self.number += 1
        mark = f"m{self.number}"
        self.do(self.ledger.sent(mark, MAILBOXES[mailbox]))
        assert mark in self.ledger.accepted
        self.model.mail.add((mark, MAILBOXES[mailbox]))

    @rule(seconds=st.sampled_from([0.01, 1.0, 20.0, 90.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.do(self.house.pause(seconds))

    @rule()
    def primary_comes_or_goes(self) -> None:
        self.second += self.house.network.dialled() if self.up else 0
        self.do(self.house.primary.stop() if self.up else self.house.primary.listen())
        self.up = not self.up

    @rule(mode=st.sampled_from([Mode.EMERGENCY, Mode.NORMAL]))
    def somebody_switches(self, mode: Mode) -> None:
        with suppress(OrderRefused):  # it is so already
            self.do(self.house.delivery.modes.switch(DOMAIN, mode, "admin"))

    @rule(mailbox=st.sampled_from([1, 2]), which=st.integers(0, 5), away=st.booleans())
    def somebody_sorts(self, mailbox: int, which: int, away: bool) -> None:
        """Deletes a message of INBOX, or files it, if it is still there when he comes to it."""
        marks = self.there(mailbox, "INBOX")
        if not marks:
            return
        key = (marks[which % len(marks)], MAILBOXES[mailbox])
        if away:
            self.do(self.ledger.made(mailbox, "Kept"))
            self.do(self.ledger.move(mailbox, key[0], "INBOX", "Kept"))
            if self.ledger.places.get(key) == {"Kept"} and key[0] in self.there(mailbox, "Kept"):
                self.model.keep(key, self.ledger.home()[key])
        else:
            self.do(self.ledger.remove(mailbox, key[0]))
            if key in self.ledger.removed:
                self.model.remove(key, self.ledger.removed[key])

    @precondition(lambda self: self.model.kept)
    @rule(which=st.integers(0, 5))
    def somebody_puts_back(self, which: int) -> None:
        keys = sorted(self.model.kept)
        mark, address = keys[which % len(keys)]
        mailbox = next(number for number, each in MAILBOXES.items() if each == address)
        self.do(self.ledger.move(mailbox, mark, "Kept", "INBOX"))
        if self.ledger.places[mark, address] == {"INBOX"}:
            self.model.back((mark, address))

    @rule()
    def stops_and_starts(self) -> None:
        self.do(self.house.shut())
        self.house.over()
        self.wake(losing=False)

    @rule(losing=st.booleans())
    def dies(self, losing: bool) -> None:
        """In the middle of whatever is under way. ``losing`` is how the next life will end."""
        self.second += self.house.kill()
        self.house.over()
        self.wake(losing=losing)

    # What holds

    @invariant()
    def as_the_model_says(self) -> None:
        # In the order in which mail goes: things move on while the portal is read.
        addresses = {row.address for _, row in self.do(self.house.queue.rows())}
        portal = self.do(self.ledger.portal())
        home = self.ledger.home()
        for key in self.model.mail:
            found = home[key] or portal[(*key, "INBOX")] or portal[(*key, "Kept")] or key[1] in addresses
            assert found, f"{key} is nowhere"
        for key, before in self.model.kept.items():
            assert portal[(*key, "Kept")] == 1, f"{key} was kept"
            assert home[key] <= before + self.second, f"{key} was kept, and went home"
        for key, before in self.model.removed.items():
            assert not portal[(*key, "INBOX")] or self.second, f"{key} came back"
            assert home[key] <= before + self.second, f"{key} was removed, and went home"

    def teardown(self) -> None:
        """All gets home in the end: the judge says so."""
        try:
            self.do(self.house.shut())
            self.house.over()
            self.wake(losing=False)
            if not self.up:
                self.do(self.house.primary.listen())
            wrong = self.do(judge(self.ledger, self.second))
            assert not wrong, wrong
            self.do(self.house.shut())
        finally:
            self.house.close()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    made = template()
    with quietly():
        yield made
    shutil.rmtree(made.parent)


def machine(place: Path, unpacked: int, examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Outage(place, unpacked),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=examples < 100,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("unpacked", [WHOLE, PACKED])
def test_any_order(place: Path, unpacked: int) -> None:
    """Would catch mail that is lost, comes back, is handed over though its reader kept it, or stays for ever, in some order of events that nobody
    has thought of."""
    machine(place, unpacked, 12, 15)


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("unpacked", [WHOLE, PACKED])
def test_any_order_for_long(place: Path, unpacked: int) -> None:
    """The same, many times more, and differently each time."""
    machine(place, unpacked, 500, 40)
