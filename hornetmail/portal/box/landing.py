"""How messages that arrived get their names and UIDs: those of strangers to one another share a sync and a transaction, those of one command land all
together or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hornetmail.core.folder import Entry, FolderError
from hornetmail.portal.box.batch import Batch
from hornetmail.portal.box.box import Box
from hornetmail.portal.box.reading import summed_up
from hornetmail.portal.box.turns import Arrival, Turn, Whole
from hornetmail.portal.maildir import naming
from hornetmail.portal.maildir.files import Maildir
from hornetmail.portal.maildir.snapshot import Place, Snapshot
from hornetmail.portal.rows.index import Kept, Stored


class Instead(msgspec.Struct, frozen=True):
    """A message that goes when another one lands (REPLACE, RFC 8508)."""

    snapshot: Snapshot
    uid: int


async def land(box: Box, name: str, arrival: Arrival) -> int:
    """Give a finished file its name and a UID; arrivals that wait share one sync and one transaction. Raises FolderError, OSError."""
    batch = box.arrivals.get(name)
    if batch is None:

        async def landed(arrivals: Sequence[Arrival]) -> list[int | Exception]:
            return await _land(box, box.snapshot_in_memory(name) or await box.opened(name), arrivals)

        batch = box.arrivals[name] = Batch(box.lock, landed)
    return await batch.join(arrival)


async def _land(box: Box, snapshot: Snapshot, batch: Sequence[Arrival]) -> list[int | Exception]:
    """UIDs of a batch, or OVERQUOTA. A name that is there already is the same message again: its new file is dropped."""
    uids: list[int | Exception] = []
    fresh: list[Arrival] = []
    given: dict[str, int] = {}
    for arrival in batch:
        base = arrival.place.base
        known = snapshot.uids.get(base) or given.get(base)
        if known is not None:
            if isinstance(arrival.tmp, Path):
                await box.ground.thread(box.maildir.discard, arrival.tmp)
            uids.append(known)
            continue
        if arrival.bound:
            try:
                box.usage.admit(len(fresh) + 1, sum(one.size for one in fresh) + arrival.size)
            except FolderError as full:
                uids.append(full)
                continue
        given[base] = snapshot.uidnext + len(fresh)
        uids.append(given[base])
        fresh.append(arrival)
    if fresh:
        try:
            kept = await box.ground.thread(_named, box.maildir, snapshot.name, fresh)
            await box.commit(Turn(snapshot, _stored(box, snapshot, fresh, kept)))
        except BaseException:
            await _taken_back(box, snapshot, fresh)
            raise
    return uids


def _named(maildir: Maildir, folder: str, arrivals: Sequence[Arrival], together: bool = False) -> list[Kept | None]:
    """In a thread: those that are in no file yet are written, then all get their names (``together``: all or none, after a crash too), durably on return. What is
    kept of each. Leaves nothing in ``tmp`` that it wrote there."""
    kept: list[Kept | None] = []
    files: list[tuple[Path, Place]] = []
    written: list[Path] = []
    try:
        for one in arrivals:
            path, summary = one.tmp, one.kept
            if isinstance(path, Whole):
                text = path.text
                path, summary = maildir.write(folder, path.base, [text], one.date), summed_up(text)
                written.append(path)
            kept.append(summary)
            files.append((path, one.place))
        (maildir.land_together if together else maildir.land)(folder, files)
    except BaseException:
        with contextlib.suppress(OSError):
            for path in written:
                maildir.discard(path)
        raise
    return kept


def _stored(box: Box, snapshot: Snapshot, arrivals: Sequence[Arrival], kept: Sequence[Kept | None]) -> list[Stored]:
    """Their rows, with the next UIDs."""
    modseq, now = snapshot.modseq + 1, box.ground.now()
    return [
        Stored(
            Entry(uid, modseq, one.flags, one.size, one.date, one.place.base, saved=now),
            one.place,
            known,
            now if naming.row_of(one.place.base) else 0.0,
            now,
        )
        for uid, (one, known) in enumerate(zip(arrivals, kept, strict=True), snapshot.uidnext)
    ]


async def _taken_back(box: Box, snapshot: Snapshot, arrivals: Sequence[Arrival]) -> None:
    """It was said to have failed, so it must not show up at the next look."""
    with contextlib.suppress(OSError):
        await box.ground.thread(box.maildir.unlink, snapshot.name, [one.place for one in arrivals])


async def land_together(box: Box, snapshot: Snapshot, arrivals: Sequence[Arrival], instead: Instead | None = None) -> list[int]:
    """Finished files with fresh names get these and UIDs in one step: if it fails none of them has, and after a crash either all are there or none
    (RFC 3502 section 6.3.11; ``maildir.groups``). The message that goes instead goes in the same step, and only what more there is counts
    for the quota (RFC 8508 section 3). Raises FolderError, OSError, DatabaseError."""
    async with box.lock:
        if snapshot.removed:
            raise FolderError("NONEXISTENT", f"the folder {snapshot.name} has gone")
        source = snapshot if instead is None else instead.snapshot
        gone = [instead.uid] if instead is not None and not source.removed and instead.uid in source.places else []
        box.unclaimed(source, gone)
        freed = sum(source.entries[uid].size for uid in gone)
        box.usage.admit(len(arrivals) - len(gone), sum(one.size for one in arrivals) - freed)
        maildir, thread = box.maildir, box.ground.thread
        try:
            added = _stored(box, snapshot, arrivals, await thread(_named, maildir, snapshot.name, arrivals, len(arrivals) > 1))
            turns = [Turn(snapshot, added, gone=gone)] if source is snapshot else [Turn(snapshot, added), Turn(source, gone=gone)]
            if not gone:
                await box.commit(*turns)
        except BaseException:
            await _taken_back(box, snapshot, arrivals)
            raise
        if gone:  # from here on the next look finds what happened: nothing is taken back whose forerunner may have gone
            await thread(maildir.unlink, source.name, [source.places[uid] for uid in gone])
            await box.commit(*turns)
        return [stored.entry.uid for stored in added]
