"""Messages on their way from one folder of a mailbox into another: copies share their bytes, what moves is renamed. All take the box's lock; the order is that of ``box``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence

from hornetmail.core.folder import Copied, Entry, FolderError
from hornetmail.portal.box.box import Box
from hornetmail.portal.box.turns import Turn
from hornetmail.portal.maildir import naming
from hornetmail.portal.maildir.snapshot import Place, Snapshot
from hornetmail.portal.rows.index import Stored

Flags = Callable[[frozenset[str]], frozenset[str]]
"""Which flags of a message come along."""


def all_of_them(flags: frozenset[str]) -> frozenset[str]:
    """One's own folders keep them."""
    return flags


async def transfer(
    box: Box, source: Snapshot, uids: Collection[int], target: str, *, away: bool, flags: Flags = all_of_them
) -> Copied:
    """Copy messages to another folder, or move them there. All or nothing, and with their flags from the first moment on. Raises FolderError TRYCREATE, INUSE, EXPUNGEISSUED."""
    async with box.lock:
        box.alive(source)
        if target not in box.rows:
            raise FolderError("TRYCREATE", f"no folder {target}")
        goal = await box.opened(target)
        wanted = sorted(uid for uid in set(uids) if uid in source.entries)
        if away:
            box.unclaimed(source, wanted)
        elif wanted:
            box.usage.admit(len(wanted), sum(source.entries[uid].size for uid in wanted))
        if not wanted:
            return Copied(goal.uidvalidity, (), ())
        try:
            return await _transfer(box, source, wanted, goal, away, flags)
        except FileNotFoundError:
            await box.looked(source)
            raise FolderError("EXPUNGEISSUED", "another program removed some of these messages; nothing was changed") from None


async def _transfer(box: Box, source: Snapshot, uids: Sequence[int], goal: Snapshot, away: bool, flags: Flags) -> Copied:
    modseq, now = goal.modseq + 1, box.ground.now()
    added: list[Stored] = []
    pairs: list[tuple[Place, Place]] = []
    for number, uid in enumerate(uids, goal.uidnext):
        entry, place = source.entries[uid], source.places[uid]
        base = place.base if away and place.base not in goal.uids else _copy_name(box, entry, place)
        kept = flags(entry.flags)
        letters = naming.letters_of(kept, place.letters)
        new = Place(base, "cur" if letters else place.sub, letters, place.hidden, place.bare)
        added.append(
            Stored(
                Entry(number, modseq, kept, entry.size, entry.date, base, saved=now),
                new,
                at=now,
                landed=now,
                source=(source.id, uid),
                kept=box.unwritten.get(source.id, uid),
            )
        )
        pairs.append((place, new))
    files, thread = box.maildir, box.ground.thread
    await thread(files.move if away else files.link, source.name, goal.name, pairs)
    try:
        if away and goal is source:
            await box.commit(Turn(source, added, gone=uids))
        else:
            await box.commit(Turn(goal, added), *([Turn(source, gone=uids)] if away else []))
    except BaseException:
        # said to have failed, so it must not show up at the next look
        with contextlib.suppress(OSError):
            if away:
                await thread(files.move, goal.name, source.name, [(new, old) for old, new in pairs])
            else:
                await thread(files.unlink, goal.name, [new for _, new in pairs])
        raise
    return Copied(goal.uidvalidity, tuple(uids), tuple(stored.entry.uid for stored in added))


def _copy_name(box: Box, entry: Entry, place: Place) -> str:
    ground = box.ground
    if naming.row_of(place.base):
        return naming.copied_base(place.base, f"{ground.number():x}{ground.token()}")
    return naming.twin_base(place.base, ground.now(), ground.number(), ground.token(), ground.host, entry.size, bare=place.bare)


async def leave(box: Box, source: Snapshot, uids: Sequence[int]) -> tuple[Sequence[int], Exception | None]:
    """Messages go that lie in another mailbox by now: those of them that are still here for sure, and what failed. Of what may have gone nothing is taken back there. Raises FolderError
    NONEXISTENT, INUSE: nothing went."""
    async with box.lock:
        box.alive(source)
        box.unclaimed(source, uids)
        places = {uid: source.places[uid] for uid in uids if uid in source.places}
        try:
            await box.expunged(source, uids)
        except Exception as error:  # noqa: BLE001 - whatever it is, files may have gone before it
            try:
                there = await box.ground.thread(box.maildir.there, source.name, list(places.values()))
            except Exception:  # noqa: BLE001 - then nobody knows, and both stay
                return (), error
            return [uid for uid, still in zip(places, there, strict=True) if still], error
    return (), None
