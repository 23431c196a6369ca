"""Folders of a mailbox: made, removed, renamed, subscribed. All take the box's lock; the order is that of ``box``: files, index, memory, hint."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.core.folder import FolderError
from hornetmail.portal.box.box import Box
from hornetmail.portal.maildir import naming
from hornetmail.portal.rows import index


async def make(box: Box, name: str, use: str) -> None:
    """A folder and the levels above it. Raises FolderError ALREADYEXISTS, CANNOT."""
    async with box.lock:
        if name in box.rows:
            raise FolderError("ALREADYEXISTS", f"{name} is there already")
        levels = name.split("/")
        wanted = ["/".join(levels[: depth + 1]) for depth in range(len(levels))]
        missing = [one for one in wanted if one not in box.rows]
        for one in missing:
            await box.ground.thread(box.maildir.make, one)
        await _make_rows(box, [(one, use if one == name and use else naming.SPECIAL_USE.get(one, "")) for one in missing])
    box.ground.changed(box.mailbox, name)


async def _make_rows(box: Box, names: Sequence[tuple[str, str]]) -> None:
    ground = box.ground
    _, made = await ground.database.run(index.make_folders, box.tenant, box.mailbox, names, int(ground.now()), 1)
    for row in made:
        box.rows[row.name] = row


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
    """A folder and those below it. Raises FolderError."""
    async with box.lock:
        below = [name for name in box.rows if name.startswith(old + "/")]
        moving = ([old] if old in box.rows else []) + below
        if not moving:
            raise FolderError("NONEXISTENT", f"no folder {old}")
        names = {name: new + name[len(old) :] for name in moving}
        taken = [name for name in [new, *names.values()] if name in box.rows]
        if taken or new.startswith(old + "/"):
            raise FolderError(
                "ALREADYEXISTS" if taken else "CANNOT",
                f"{new} is there already" if taken else "a folder cannot move into itself",
            )
        if not all(naming.valid_folder(name) for name in names.values()):
            raise FolderError("CANNOT", f"{new} cannot be the name of a folder")
        levels = new.split("/")
        above = [one for depth in range(1, len(levels)) if (one := "/".join(levels[:depth])) not in box.rows]
        for one in above:
            await box.ground.thread(box.maildir.make, one)
        await _make_rows(box, [(one, naming.SPECIAL_USE.get(one, "")) for one in above])
        for name in moving:
            await box.ground.thread(box.maildir.rename_folder, name, names[name])
        await box.ground.database.run(index.rename_folders, [(box.rows[name].id, names[name]) for name in moving])
        for name in moving:
            box.renamed(name, names[name])
    for name in moving:
        box.ground.changed(box.mailbox, name)
        box.ground.changed(box.mailbox, names[name])


async def subscribe(box: Box, name: str, wanted: bool) -> None:
    """Keep or drop a subscription, durably."""
    async with box.lock:
        names = set(box.subscribed)
        (names.add if wanted else names.discard)(name)
        if names != box.subscribed:
            await box.ground.thread(box.maildir.subscribe, names)
            box.subscribed = names
