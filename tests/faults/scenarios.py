"""What happens in the runs: each scenario is one life of the service, from its start to its orderly end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.failover.mode import Mode
from hornetmail.delivery.tasks import together
from tests.faults.ground import prepare
from tests.faults.house import PACKED, WHOLE, House
from tests.faults.ledger import Ledger
from tests.faults.restoring import MIRROR, RESTORED, restored

ALICE, BOB, STRANGER = "alice@example.test", "bob@example.test", "stranger@example.test"
DAY = 86_400.0


class Scenario(NamedTuple):
    """``starting``: the steps of the start are counted too. ``before``: what the life before did, without faults, until it died. ``planned``: jobs
    that run at their times. ``opens``: the service runs. ``restores``: the verdict is on what a restore from there (``medium``, ``mirror``) brings back, too. ``unpacked``: messages that
    the queue keeps whole in memory. ``files``: the primary offers IMAP (L13). ``shares``: people see folders of others (RFC 4314)."""

    name: str
    play: Callable[[House, Ledger], Awaitable[None]]
    starting: bool = False
    before: Callable[[House, Ledger], Awaitable[None]] | None = None
    planned: frozenset[str] = frozenset()
    opens: bool = True
    restores: str = ""
    unpacked: int = WHOLE
    files: bool = False
    shares: bool = False


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


async def drain(house: House, ledger: Ledger) -> None:
    """Mail goes home while people read, file and remove it, over IMAP and POP at once."""
    await ledger.attempt(lambda: house.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin"))
    for number in range(1, 9):
        await ledger.sent(f"g{number}", BOB if number in (2, 5, 8) else ALICE)
    await ledger.until(lambda: _parked(house), "all is in the portal")
    await ledger.made(1, "Kept")

    async def alice() -> None:
        await ledger.remove(1, "g7")
        await house.pause(0.1)
        await ledger.move(1, "g6", "INBOX", "Kept")
        await house.pause(0.1)
        await ledger.copy(1, "g4", "INBOX", "Kept")
        await ledger.appended(1, "g9", "Kept")
        await ledger.move(1, "g6", "Kept", "INBOX")
        await ledger.remove(1, "g1")

    async def bob() -> None:
        await ledger.popped(2, "g5")
        await house.pause(0.1)
        await ledger.popped(2, "g2")

    await house.primary.listen()
    await ledger.attempt(lambda: house.delivery.modes.switch("example.test", Mode.NORMAL, "admin"))
    await together((alice(), bob()))
    await ledger.until(lambda: house.mode() is not Mode.NORMAL or house.idle(), "all is home")


async def away(house: House, ledger: Ledger) -> None:
    """The medium is away when the service starts: mail is taken, delivered and staged, somebody is told; then it is back, and all goes there."""
    await house.primary.listen()
    await ledger.sent("w3", BOB)
    await ledger.staged("w2", retention_days=90)
    alarms = house.base.alarms
    await ledger.until(lambda: alarms.find("medium-away", "1"), "somebody is told that the medium is away")
    await house.pause(1800.0)
    house.medium_away = False
    await ledger.until(lambda: not alarms.find("medium-away", "1"), "somebody is told that it is back")
    await ledger.until(lambda: not house.archive.holdings.staging.count and house.idle(), "all is on the medium")
    await ledger.redelivered("w1", BOB)
    await ledger.until(house.idle, "the queue is empty")


async def before_away(house: House, ledger: Ledger) -> None:
    """A mail on the medium."""
    await ledger.staged("w1", retention_days=90)
    await ledger.sealed()
    house.medium_away = True
    house.kill()


async def merge(house: House, ledger: Ledger) -> None:
    """Small packs are put together, one mail is deleted, and the pack is written anew without it; then the index is made again."""

    async def rebuilt() -> None:
        assert not await house.archive.rebuild(), "what it could not read is told, and whoever asked for it asks again"

    async def merged() -> None:
        done = await house.archive.merge(house.reactor.seconds() + 40 * DAY)
        assert not done.away, "a night later it is tried again"

    await house.primary.listen()
    for number in range(1, 4):
        await ledger.staged(f"m{number}", retention_days=90)
        await ledger.sealed()
    await ledger.attempt(merged)
    await ledger.deleted("m2")
    await ledger.sealed()
    await ledger.attempt(merged)
    await ledger.attempt(rebuilt)


async def nights(house: House, ledger: Ledger) -> None:
    """Two nights with their jobs: a mail that has expired is marked and purged, packs are merged."""
    await house.primary.listen()
    for mark, days in (("n1", 1), ("n2", 90), ("n3", 90)):
        await ledger.staged(mark, retention_days=days, age=2 * DAY)
        await ledger.sealed()
    ledger.perhaps_expired.add("n1")
    await ledger.sent("n4", ALICE)
    await house.pause(1.6 * DAY)
    await ledger.until(house.idle, "the queue is empty")


async def backups(house: House, ledger: Ledger) -> None:
    """A full backup and an increment, with a deletion between them; a restore from the medium brings all of it back, and nothing else."""
    await house.primary.listen()
    await ledger.staged("b1", retention_days=90)
    await ledger.staged("b2", retention_days=90)
    await ledger.sealed()
    await ledger.backed_up("backup-full", "first")
    await ledger.deleted("b2")
    await ledger.staged("b3", retention_days=90)
    await ledger.backed_up("backup", "second")


async def restore(house: House, ledger: Ledger) -> None:
    """The data directory is lost; people and mail come back from the medium, into an empty one."""
    await ledger.attempt(lambda: restored(house))


async def before_restore(house: House, ledger: Ledger) -> None:
    """What is there to come back."""
    await backups(house, ledger)
    await house.shut()
    prepare(house.home / RESTORED)
    house.kill()


async def home(house: House, ledger: Ledger) -> None:
    """An emergency in which somebody files, reads, writes and throws away; then it goes home, by IMAP what somebody did something with, while he goes on."""
    await ledger.attempt(lambda: house.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin"))
    for number in range(1, 8):
        await ledger.sent(f"h{number}", BOB if number == 6 else ALICE)
    await ledger.until(lambda: _parked(house), "all is in the portal")
    await ledger.made(1, "Kept")
    await ledger.move(1, "h1", "INBOX", "Kept")
    await ledger.move(1, "h2", "INBOX", "Kept")
    await ledger.flag(1, "h3", "\\Seen", "\\Flagged")
    await ledger.remove(1, "h4")
    await ledger.move(1, "h7", "INBOX", "Trash")
    await ledger.appended(1, "h9", "Kept")
    await house.primary.listen()
    await ledger.attempt(lambda: house.delivery.modes.switch("example.test", Mode.NORMAL, "admin"))
    await ledger.made(1, "Later")
    await ledger.move(1, "h2", "Kept", "Later")
    # One that was refused at first came again under another name, and nobody moved it.
    filed = sum(mark in ledger.accepted or (mark, ALICE) in ledger.places for mark in ("h1", "h2", "h3", "h9"))
    await ledger.until(lambda: house.idle() and len(house.offered.copies()) >= filed, "all is home")


async def mirror(house: House, ledger: Ledger) -> None:
    """A mirror is set up and follows, while mail comes, one is deleted and packs are merged; what it has at last is what the medium has, and all comes back from it."""
    await house.primary.listen()
    for mark in ("f1", "f2"):
        await ledger.staged(mark, retention_days=90)
        await ledger.sealed()
    await ledger.attempt(lambda: house.safety.set_mirror("directory", str(house.home / MIRROR), {}, ""))
    await ledger.backed_up("backup-full", "first")
    await ledger.attempt(lambda: ledger.ran("mirror"))
    await ledger.deleted("f2")
    await ledger.staged("f3", retention_days=90)
    await ledger.sealed()
    await ledger.attempt(lambda: ledger.ran("merge"))
    await ledger.backed_up("backup", "second")
    await ledger.attempt(lambda: ledger.ran("mirror"))


async def shared(house: House, ledger: Ledger) -> None:
    """Alice shares folders with Bob in an emergency by hand: he copies out of one and into it, moves both ways, and removes; she renames it while he has it open, and deletes another one that he has open."""
    await ledger.attempt(lambda: house.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin"))
    for number in range(1, 7):
        await ledger.sent(f"s{number}", BOB if number in (5, 6) else ALICE)
    await ledger.until(lambda: _parked(house), "all is in the portal")
    for folder, marks in (("Team", ("s1", "s2", "s3")), ("Old", ("s4",))):
        await ledger.made(1, folder)
        await ledger.given(1, folder, BOB, "lrswite")
        for mark in marks:
            await ledger.move(1, mark, "INBOX", folder)
    team = ledger.others(1, "Team")
    await ledger.made(2, "Mine")
    await ledger.move(2, "s1", team, "Mine")
    await ledger.move(2, "s5", "INBOX", team)
    await ledger.copy(2, "s2", team, "Mine")
    await ledger.copy(2, "s6", "INBOX", team)
    await ledger.remove(2, "s3", team)
    if await ledger.renamed(1, "Team", "Crew"):
        await ledger.move(2, "s2", ledger.others(1, "Crew"), "Mine")
    await ledger.there(2, "s4", ledger.others(1, "Old"))
    await ledger.dropped(1, "Old")
    await ledger.there(2, "s4", ledger.others(1, "Old"))
    await house.primary.listen()
    await ledger.attempt(lambda: house.delivery.modes.switch("example.test", Mode.NORMAL, "admin"))
    await ledger.until(lambda: house.mode() is not Mode.NORMAL or house.idle(), "all is home")


BACKUPS = frozenset({"backup", "backup-full"})

SCENARIOS = (
    Scenario("deliver", deliver, starting=True),
    Scenario("outage", outage),
    Scenario("archive", archive),
    Scenario("portal", portal),
    Scenario("cut off", cut_off, starting=True, before=before_cut_off),
    Scenario("drain", drain),
    Scenario("away", away, starting=True, before=before_away),
    Scenario("merge", merge),
    Scenario("nights", nights, planned=frozenset({"mark", "purge", "merge"})),
    Scenario("backups", backups, planned=BACKUPS, restores="medium"),
    Scenario("packed deliveries", deliver, unpacked=PACKED),
    Scenario("packed outage", outage, unpacked=PACKED),
    Scenario("packed drain", drain, unpacked=PACKED),
    Scenario("home", home, files=True),
    Scenario("shared", shared, shares=True),
    Scenario("restore", restore, before=before_restore, planned=BACKUPS, opens=False, restores="medium"),
    Scenario("mirror", mirror, planned=BACKUPS | {"mirror", "merge"}, restores=MIRROR),
)
