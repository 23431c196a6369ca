"""Folders of a mailbox: made, removed, renamed, subscribed. All take the box's lock; the order is that of ``box``: files, index, memory, hint."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from twisted.logger import Logger

from hornetmail.core.folder import FolderError
from hornetmail.db.engines import DatabaseError
from hornetmail.portal.box import rights
from hornetmail.portal.box.box import Box
from hornetmail.portal.box.moving import transfer
from hornetmail.portal.box.survey import know, surveyed
from hornetmail.portal.maildir import naming
from hornetmail.portal.maildir.renaming import Renamed
from hornetmail.portal.rows import index

_log = Logger()


async def make(box: Box, name: str, use: str) -> None:
    """A folder and the levels above it. Raises FolderError ALREADYEXISTS, CANNOT."""
    async with box.lock:
        await surveyed(box)
        if name in box.rows and name not in box.missing:
            raise FolderError("ALREADYEXISTS", f"{name} is there already")
        levels = name.split("/")
        await _make(box, ["/".join(levels[: depth + 1]) for depth in range(len(levels))], use)
    box.ground.changed(box.mailbox, name)


async def _make(box: Box, wanted: Sequence[str], use: str = "") -> None:
    """Those of them that are not there; the last one for a use. One that was taken away by others and is still known is the same again: its UIDs go on. If it
    fails, nothing is left of it."""
    absent = [one for one in wanted if one not in box.rows or one in box.missing]
    unknown = [one for one in absent if one not in box.rows]
    try:
        for one in absent:
            await box.ground.thread(box.maildir.make, one)
            await _inherit(box, one, unknown)
        if unknown:
            await know(box, [(one, use if use and one == wanted[-1] else naming.SPECIAL_USE.get(one, "")) for one in unknown])
    except BaseException:
        with contextlib.suppress(OSError):
            await box.ground.thread(box.maildir.unmake, absent)
        raise
    if back := [one for one in absent if one not in unknown]:
        await rights.learn(box, back, box.grants)
    for one in absent:
        if box.missing.pop(one, None) is not None and (snapshot := box.snapshot_in_memory(one)) is not None:
            snapshot.looked, snapshot.watch = (0, 0, 0.0), None


async def _inherit(box: Box, name: str, unknown: Sequence[str]) -> None:
    """What is made has the rights of the folder above it, if there is one (RFC 4314 section 4, CREATE)."""
    above = name.rpartition("/")[0]
    if name not in unknown or not above:
        return
    given = box.grants.get(box.rows[above].id) if above in box.rows else None
    if above in unknown:
        given = (await box.ground.thread(box.maildir.grants, [above])).get(above)
    if given:
        await box.ground.thread(box.maildir.grant, name, given)


async def drop(box: Box, name: str) -> None:
    """Remove a folder with its messages. Levels below it stay. Raises FolderError."""
    async with box.lock:
        row = box.rows.get(name)
        if row is None:
            raise FolderError("NONEXISTENT", f"no folder {name}")
        await box.ground.thread(box.maildir.drop, name, f"{int(box.ground.now())}-{box.ground.token()}")
        held = await box.ground.database.run(index.drop_folders, [row.id])
        box.forget(name)
        box.usage.grew(-held[0], -held[1])
        await box.weigh()
    box.ground.changed(box.mailbox, name)


async def rename(box: Box, old: str, new: str) -> None:
    """A folder and those below it, all of them or none, whatever fails meanwhile. Raises FolderError."""
    async with box.lock:
        await surveyed(box)
        moving = [Renamed(box.rows[name].id, name, new + name[len(old) :]) for name in _with_those_below(box, old)]
        _possible(box, moving, old, new)
        levels = new.split("/")
        await _make(box, ["/".join(levels[:depth]) for depth in range(1, len(levels))])
        thread = box.ground.thread
        try:
            await thread(box.maildir.begin_renaming, moving)
            for one in moving:
                await thread(box.maildir.rename_folder, one.old, one.new)
            await box.ground.database.run(index.rename_folders, [(one.row, one.new) for one in moving])
        except BaseException:
            await _back(box, moving)
            raise
        for one in moving:
            box.renamed(one.old, one.new)
        with contextlib.suppress(OSError):  # the index does not know the old names any more: the next start does nothing
            await thread(box.maildir.end_renaming)
    _tell(box, moving)


def _with_those_below(box: Box, old: str) -> list[str]:
    there = [name for name in box.rows if name not in box.missing]
    return ([old] if old in there else []) + [name for name in there if name.startswith(old + "/")]


def _possible(box: Box, moving: Sequence[Renamed], old: str, new: str) -> None:
    """Raises FolderError if it is not."""
    if not moving:
        raise FolderError("NONEXISTENT", f"no folder {old}")
    if any(name in box.rows for name in [new, *(one.new for one in moving)]):
        raise FolderError("ALREADYEXISTS", f"{new} is there already")
    if new.startswith(old + "/"):
        raise FolderError("CANNOT", "a folder cannot move into itself")
    if not all(naming.valid_folder(one.new) for one in moving):
        raise FolderError("CANNOT", f"{new} cannot be the name of a folder")


async def _back(box: Box, moving: Sequence[Renamed]) -> None:
    """A renaming failed between its steps: what moved moves back. What cannot is known by its new name from now on, whatever the client was told: that is
    where its mail lies. Raises nothing."""
    thread = box.ground.thread
    try:
        stay = await thread(box.maildir.back_from_renaming, moving)
        if stay:
            _log.error("folders of mailbox {mailbox} stay renamed: {names}", mailbox=box.mailbox, names=[one.new for one in stay])
            for one in stay:
                box.renamed(one.old, one.new)
            await box.ground.database.run(index.rename_folders, [(one.row, one.new) for one in stay])
            _tell(box, stay)
        await thread(box.maildir.end_renaming)
    except (OSError, DatabaseError) as error:
        _log.error("a renaming in mailbox {mailbox} is settled at the next start: {error}", mailbox=box.mailbox, error=error)


def _tell(box: Box, renamed: Sequence[Renamed]) -> None:
    for one in renamed:
        box.ground.changed(box.mailbox, one.old)
        box.ground.changed(box.mailbox, one.new)


async def empty_inbox(box: Box, new: str) -> None:
    """RENAME INBOX (RFC 3501 section 6.3.5): its messages move to a folder that is made for them, and is not if they cannot. Raises FolderError."""
    await make(box, new, "")
    inbox = await box.open(naming.INBOX)
    try:
        if inbox.entries:
            await transfer(box, inbox, list(inbox.entries), new, away=True)
    except BaseException:
        with contextlib.suppress(FolderError, OSError, DatabaseError):
            if not (await box.open(new)).entries:  # some may have come there all the same
                await drop(box, new)
        raise


async def subscribe(box: Box, name: str, wanted: bool) -> None:
    """Keep or drop a subscription, durably."""
    async with box.lock:
        names = set(box.subscribed)
        (names.add if wanted else names.discard)(name)
        if names != box.subscribed:
            await box.ground.thread(box.maildir.subscribe, names)
            box.subscribed = names
