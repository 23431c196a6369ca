"""What happens in the runs: each scenario is one life of the service, from its start to its orderly end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from hornetmail.core.mode import Mode
from hornetmail.core.queued import RowKind, RowState
from tests.faults.house import House
from tests.faults.ledger import Ledger

ALICE, BOB, STRANGER = "alice@example.test", "bob@example.test", "stranger@example.test"


class Scenario(NamedTuple):
    """``starting``: the steps of the start are counted too."""

    name: str
    play: Callable[[House, Ledger], Awaitable[None]]
    starting: bool = False


async def deliver(house: House, ledger: Ledger) -> None:
    """Two messages, one of them long, one for two; both at the primary and in the archive."""
    await house.primary.listen()
    await ledger.sent("d1", ALICE, BOB)
    await ledger.sent("d2", ALICE, size=150_000)
    await ledger.until(house.idle, "the queue is empty")


async def outage(house: House, ledger: Ledger) -> None:
    """The primary is gone: failover, emergency, people at work in the portal, a copy that stays deferred; then it is back, and all goes home."""
    for number, who in enumerate((ALICE, BOB, ALICE, ALICE, STRANGER, ALICE)):
        await ledger.sent(f"o{number}", who)
        await house.pause(2.0)
    await ledger.until(lambda: house.mode() is Mode.EMERGENCY, "an emergency")
    await ledger.until(lambda: _parked(house), "all is in the portal, or waits")
    await ledger.remove(1, "o2")
    tree = house.portal.tree(1)
    await ledger.attempt(tree.create("Kept"))
    await ledger.move(1, "o3", "INBOX", "Kept")
    if await ledger.attempt(house.portal.lock(2, "pop")):
        await ledger.remove(2, "o1")
        await house.portal.unlock(2, "pop")
    await ledger.sent("o6", BOB)
    await house.primary.listen()
    await ledger.until(lambda: house.mode() is Mode.NORMAL and house.idle(), "all is home")
    await ledger.move(1, "o3", "Kept", "INBOX")
    await ledger.until(lambda: ledger.home()["o3", ALICE] or "o3" not in ledger.accepted, "what came back into INBOX goes home")


def _parked(house: House) -> bool:
    rows = [row for row in house.queue.live.rows.values() if row.kind is not RowKind.ARCHIVE]
    return all(row.state not in (RowState.CLAIMED,) for row in rows) and not any(
        row.kind is RowKind.DELIVER and row.state is RowState.QUEUED for row in rows
    )


SCENARIOS = (Scenario("deliver", deliver, starting=True), Scenario("outage", outage))
