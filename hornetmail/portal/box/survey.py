"""Folders that other programs made or removed (mutt, rsync, a backup that came back): taken in without a restart."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.portal.box import rights
from hornetmail.portal.box.box import Box
from hornetmail.portal.maildir import naming
from hornetmail.portal.rows import index

AGAIN_SECONDS = 1.0
"""A survey is believed for so long, so that a thousand questions are one."""

MISSED_SECONDS = 600.0
"""A folder whose directory is missing is told as not there at once, but known for so long: when it comes back (a backup that is put in its place) its UIDs
are the same."""


async def survey(box: Box) -> None:
    """Look for them. Takes the lock."""
    if not 0 <= box.ground.now() - box.surveyed[1] < AGAIN_SECONDS:
        async with box.lock:
            await surveyed(box)


async def surveyed(box: Box) -> None:
    """The same, for who has the lock. Where the whole Maildir is missing nothing is done: somebody is putting another one in its place."""
    ground, now = box.ground, box.ground.now()
    try:
        found = await ground.thread(box.maildir.survey, box.surveyed, frozenset(box.rows))
    except FileNotFoundError:
        return
    if found is not None:
        stamp, present = found
        box.surveyed = (stamp, now)
        box.missing = {name: box.missing.get(name, now) for name in box.rows if name not in present and name != naming.INBOX}
        if fresh := [name for name in present if name not in box.rows]:
            await know(box, [(name, naming.SPECIAL_USE.get(name, "")) for name in fresh])
            for name in fresh:
                ground.changed(box.mailbox, name)
    await _let_go(box, [name for name, since in box.missing.items() if now - since > MISSED_SECONDS])


async def know(box: Box, wanted: Sequence[tuple[str, str]]) -> None:
    """Rows for folders that are on the disk: names and SPECIAL-USE. The lock is held."""
    ground = box.ground
    _, made = await ground.database.run(index.make_folders, box.tenant, box.mailbox, wanted, int(ground.now()), 1)
    for row in made:
        box.rows[row.name] = row
    await rights.learn(box, [row.name for row in made], {})


async def _let_go(box: Box, names: list[str]) -> None:
    if not names:
        return
    held = await box.ground.database.run(index.drop_folders, [box.rows[name].id for name in names])
    for name in names:
        box.missing.pop(name, None)
        box.forget(name)
    box.usage.grew(-held[0], -held[1])
    await box.weigh()
    for name in names:
        box.ground.changed(box.mailbox, name)
