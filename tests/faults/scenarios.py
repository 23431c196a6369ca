"""What happens in the runs: each scenario is one life of the service, from its start to its orderly end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.failover.mode import Mode
from tests.faults.house import House
from tests.faults.ledger import Ledger

ALICE, BOB, STRANGER = "alice@example.test", "bob@example.test", "stranger@example.test"
DAY = 86_400.0


class Scenario(NamedTuple):
    """``starting``: the steps of the start are counted too. ``before``: what the life before did, without faults, until it died."""

    name: str
    play: Callable[[House, Ledger], Awaitable[None]]
    starting: bool = False
    before: Callable[[House, Ledger], Awaitable[None]] | None = None


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
    await ledger.made(1, "Kept")
    await ledger.move(1, "o3", "INBOX", "Kept")
    await ledger.popped(2, "o1")
    await ledger.sent("o6", BOB)
    await house.primary.listen()
    await ledger.until(lambda: house.mode() is Mode.NORMAL and house.idle(), "all is home")
    await ledger.move(1, "o3", "Kept", "INBOX")
    if ledger.places.get(("o3", ALICE)) == {"INBOX"}:
        await ledger.until(lambda: ledger.home()["o3", ALICE] and house.idle(), "what came back into INBOX goes home")


def _parked(house: House) -> bool:
    rows = [row for row in house.queue.live.rows.values() if row.kind is not RowKind.ARCHIVE]
    return not any(
        row.state is RowState.CLAIMED or (row.kind is RowKind.DELIVER and row.state is RowState.QUEUED) for row in rows
    )


async def archive(house: House, ledger: Ledger) -> None:
    """Mail is staged, sealed onto the medium, found, redelivered; one expires and is purged, and the index is made again."""

    async def rebuilt() -> None:
        assert not await house.archive.rebuild(), "what it could not read is told, and whoever asked for it asks again"

    await house.primary.listen()
    now = house.reactor.seconds()
    await ledger.staged("a1", retention_days=1)
    await ledger.staged("a2", retention_days=90)
    await ledger.staged("a3", retention_days=90)
    await ledger.attempt(lambda: house.archive.flush(seal=True))
    await ledger.staged("a4", retention_days=90)
    await ledger.redelivered("a2", BOB)
    ledger.perhaps_expired.add("a1")
    if await ledger.attempt(lambda: house.archive.mark(now + 2 * DAY)):
        await ledger.purged("a1", now + 3.5 * DAY)
    await ledger.attempt(rebuilt)
    await ledger.attempt(lambda: house.archive.flush(seal=True))
    await ledger.until(house.idle, "the queue is empty")


async def portal(house: House, ledger: Ledger) -> None:
    """An emergency by hand, in which somebody sorts his mail: folders made, renamed and removed, messages moved, copied, appended, expunged."""
    await ledger.attempt(lambda: house.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin"))
    for number in range(1, 6):
        await ledger.sent(f"p{number}", ALICE)
    await ledger.until(lambda: _parked(house), "all is in the portal")
    await ledger.made(1, "Work")
    await ledger.move(1, "p1", "INBOX", "Work")
    await ledger.appended(1, "p9", "Work")
    if await ledger.renamed(1, "Work", "Done"):
        await ledger.copy(1, "p2", "INBOX", "Done")
    await ledger.made(1, "Old")
    await ledger.move(1, "p3", "INBOX", "Old")
    await ledger.dropped(1, "Old")
    await ledger.remove(1, "p4")
    await house.primary.listen()
    await ledger.attempt(lambda: house.delivery.modes.switch("example.test", Mode.NORMAL, "admin"))
    await ledger.until(lambda: house.mode() is not Mode.NORMAL or house.idle(), "all is home")


async def cut_off(house: House, ledger: Ledger) -> None:
    """What the life before has begun is taken up again: a hand-over whose answer it did not hear, copies that waited in the portal, a modes's change."""
    await house.primary.listen()
    await ledger.sent("r9", BOB)
    await ledger.until(lambda: house.mode() is Mode.NORMAL and house.idle(), "all is home")


async def before_cut_off(house: House, ledger: Ledger) -> None:
    """An emergency, its end, and death while the first message goes home."""
    await ledger.attempt(lambda: house.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin"))
    for number in range(1, 5):
        await ledger.sent(f"r{number}", ALICE if number % 2 else BOB)
    await ledger.until(lambda: _parked(house), "all is in the portal")
    await ledger.sent("r5", STRANGER)
    await house.primary.listen()
    await house.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
    await ledger.sent("r6", ALICE)
    while not house.primary.accepted:
        await house.pause(0.0005)
    house.kill()


SCENARIOS = (
    Scenario("deliver", deliver, starting=True),
    Scenario("outage", outage),
    Scenario("archive", archive),
    Scenario("portal", portal),
    Scenario("cut off", cut_off, starting=True, before=before_cut_off),
)
