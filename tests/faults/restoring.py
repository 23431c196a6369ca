"""A restore from the medium into an empty data directory, as ``compose`` does it, and what is found there afterwards."""

from __future__ import annotations

from pathlib import Path

from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.medium import IDENTITY, IPlace, Medium, valid_name
from hornetmail.archive.media.roster import Media
from hornetmail.archive.media.settings import DirectorySettings
from hornetmail.compose.ground.foundations import RESTORING
from hornetmail.compose.rooms.people import control_database
from hornetmail.compose.rooms.rooms import archive_of, root_store
from hornetmail.compose.setting_up.restore import Restored, Source, Wanted, _Restore
from hornetmail.compose.setting_up.setup import SetupError
from hornetmail.directory.store import DirectoryStore
from hornetmail.testing.archives import AUDITOR
from tests.faults.ground import prepare
from tests.faults.house import ROOT, House
from tests.faults.ledger import Ledger

RESTORED = "restored"
"""The data directory, below the house's."""

MIRROR = "mirror"
"""The mirror's, there too."""


def _source(house: House, name: str) -> IPlace:
    return house.place() if name != MIRROR else DirectoryPlace(house.home / name, house.disk)


async def restored(house: House, name: str = "medium") -> Restored:
    """Once; the same again goes on where it was cut off. Raises what it fails with."""
    base = house.ground(house.home / RESTORED, restoring=True)
    try:
        settings = DirectorySettings(str(house.home / name))
        wanted = Wanted(Source("directory", settings.path))
        return await _Restore(
            base, settings, "", _source(house, name), ROOT, lambda line: None, root_store(base.config, base.disk)
        ).run(wanted)
    finally:
        await base.close()


async def judge_mirror(ledger: Ledger) -> list[str]:
    """After a run without faults: where the mirror is not as the medium."""
    house = ledger.house
    # Each life after a loss of power has a home of its own, and whoever sets the mirror up may have been cut off before.
    await house.safety.set_mirror("directory", str(house.home / MIRROR), {}, "")
    # What a process that died between medium and index left is settled by the night's merging.
    for job in ("merge", "mirror"):
        if not await ledger.attempt(lambda job=job: ledger.ran(job)):  # type: ignore[misc]
            return [f"the job {job} does not go through"]
    there, here = (_objects(house.home / name) for name in (MIRROR, "medium"))
    found = [f"not in the mirror: {name}" for name in sorted(here.keys() - there.keys())]
    found += [f"gone, and still in the mirror: {name}" for name in sorted(there.keys() - here.keys())]
    both = sorted(there.keys() & here.keys())
    return found + [f"another one in the mirror: {name}" for name in both if there[name] != here[name]]


def _objects(top: Path) -> dict[str, bytes]:
    """What a medium or mirror holds, but for what each has of its own."""
    files = {str(path.relative_to(top)): path for path in top.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if valid_name(name) and name != IDENTITY}


async def judge_restored(ledger: Ledger, name: str) -> list[str]:
    """After a restore that was begun is ended: what is not as the last backup and the medium have it."""
    house = ledger.house
    root = house.home / RESTORED
    if not root.exists():
        prepare(root)
    try:
        await restored(house, name)
    except SetupError as error:
        if "not empty" not in str(error) or (root / RESTORING).exists():
            return [f"cannot be restored: {error}"]
    base = house.ground(root)
    found: list[str] = []
    try:
        settings = await DirectoryStore.open(await control_database(base), base.bus, base.ids)
        value = settings.setting("story", "")
        place = house.place() if name != MIRROR else DirectoryPlace(base.config.path(base.config.archive.medium), house.disk)
        archive = archive_of(base, ROOT, Media([Medium(1, place)], 1))
        await archive.start()
        try:
            page = await archive.search(AUDITOR, "", limit=500)
            there = [hit.subject for hit in page.results]
            for hit in page.results:
                if hit.subject.encode() not in await archive.read(AUDITOR, hit.id):
                    found.append(f"restored, and another mail: {hit.subject}")
            found += [f"restored, and verify says: {one.where}: {one.what}" for one in await archive.verify(full=True)]
        finally:
            await archive.stop()
    finally:
        await base.close()
    if ledger.values.index(value) < ledger.values.index(ledger.safe):
        found.append(f"the backup with {ledger.safe!r} went through, and a restore brings {value!r}")
    for mark in sorted(ledger.feeds):
        if there.count(mark) > 1:
            found.append(f"restored {there.count(mark)} times: {mark}")
        if mark in ledger.on_medium - ledger.perhaps_expired and mark not in there:
            found.append(f"on the medium, and not restored: {mark}")
        if mark in there and mark in ledger.gone_from_medium:
            found.append(f"deleted, and restored: {mark}")
    return found
