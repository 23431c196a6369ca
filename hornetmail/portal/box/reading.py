"""Structures, headers and texts of a folder's messages, many in one hop. No file is opened in the reactor's thread."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hornetmail.core.folder import FolderError, Sieve
from hornetmail.mime.structure import Part, scan
from hornetmail.portal.box.body import FileBody
from hornetmail.portal.box.box import Box
from hornetmail.portal.maildir.files import Piece
from hornetmail.portal.maildir.snapshot import Snapshot
from hornetmail.portal.maildir.stacks import Stack
from hornetmail.portal.rows import index
from hornetmail.portal.rows.index import Kept
from hornetmail.wire.imap.answers.ready import Ready, ready

HEAD_BYTES = 32_768
"""Longer headers are read from the file each time."""

FEW = 4
"""Who asks for pieces of more messages at once reads the whole folder."""

TEXT_BYTES = 65_536
"""Larger messages are read each time."""

_TREES = msgspec.msgpack.Decoder(Part)


def summed_up(text: bytes) -> Kept:
    """What is kept of a message. Takes time in proportion to its size: for threads."""
    tree = scan(text)
    header = text[: tree.body]
    return Kept(msgspec.msgpack.encode(tree), header if tree.body <= HEAD_BYTES else None, ready(tree, header))


async def structures(box: Box, snapshot: Snapshot, uids: Sequence[int]) -> dict[int, Part]:
    """See IFolder. Messages that are gone are left out."""
    found: dict[int, Part] = {}
    for at in range(0, len(uids), index.TREES):
        some = uids[at : at + index.TREES]
        new = [(uid, kept.tree) for uid in some if (kept := box.unwritten.get(snapshot.id, uid)) is not None]
        for uid, tree in (
            new if len(new) == len(some) else [*new, *await box.ground.database.read(index.trees, snapshot.id, some)]
        ):
            try:
                found[uid] = _TREES.decode(tree)
            except msgspec.MsgspecError:
                continue  # made by another version: made anew below
        for uid, kept in (await _made(box, snapshot, [uid for uid in some if uid not in found])).items():
            found[uid] = _TREES.decode(kept.tree)
    return found


async def headers(box: Box, snapshot: Snapshot, uids: Sequence[int]) -> dict[int, bytes]:
    """See IFolder. Messages that are gone are left out."""
    found: dict[int, bytes] = {}
    for at in range(0, len(uids), index.HEADS):
        some = uids[at : at + index.HEADS]
        kept = {
            uid: kept.head for uid in some if (kept := box.unwritten.get(snapshot.id, uid)) is not None and kept.head is not None
        }
        found.update(
            kept if len(kept) == len(some) else [*kept.items(), *await box.ground.database.read(index.heads, snapshot.id, some)]
        )
        missing = [uid for uid in some if uid not in found]
        made = await _made(box, snapshot, missing)
        found.update((uid, kept.head) for uid, kept in made.items() if kept.head is not None)
        for uid in missing:
            if uid in made and uid not in found:
                [text] = await pieces(box, snapshot, [(uid, 0, _TREES.decode(made[uid].tree).body)])
                if text is not None:
                    found[uid] = text
    return found


async def summaries(box: Box, snapshot: Snapshot, uids: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
    """See IFolder."""
    lately = box.ground.lately.summaries
    found = lately.all_of(snapshot.id, uids)
    if found is None:
        found = {row[0]: row[1:] for row in await box.ground.database.read(index.summaries, snapshot.id, uids)}
        if len(found) < len(uids):
            made = await _readied(box, snapshot, [uid for uid in uids if uid not in found])
            found.update((uid, (one.envelope, one.structure)) for uid, one in made.items())
        lately.put_all(snapshot.id, found)
    return found


async def fields(box: Box, snapshot: Snapshot, uids: Sequence[int]) -> dict[int, tuple[int, bytes]]:
    """See IFolder."""
    lately = box.ground.lately.fields
    found = lately.all_of(snapshot.id, uids)
    if found is None:
        found = {row[0]: row[1:] for row in await box.ground.database.read(index.fields, snapshot.id, uids)}
        if len(found) < len(uids):
            made = await _readied(box, snapshot, [uid for uid in uids if uid not in found])
            found.update((uid, (one.bits, one.fields)) for uid, one in made.items())
        lately.put_all(snapshot.id, found)
    return found


async def sifted(box: Box, snapshot: Snapshot, uids: Sequence[int], sieve: Sieve) -> dict[int, bool]:
    """See IFolder."""
    ground, stacks = box.ground, box.ground.stacks
    held = stacks.of(snapshot.id)
    found = await ground.thread(_sifted, held, sieve) if held else {}
    left = [uid for uid in uids if uid not in found]
    for at in range(0, len(left), index.TEXTS):
        stack = await ground.database.read(index.texts, snapshot.id, left[at : at + index.TEXTS])
        if stack is not None:
            found.update(await ground.thread(stack.sifted, sieve))
            stacks.put(snapshot.id, stack)
    return found


def _sifted(stacks: Sequence[Stack], sieve: Sieve) -> dict[int, bool]:
    found: dict[int, bool] = {}
    for stack in stacks:
        found.update(stack.sifted(sieve))
    return found


async def keep_texts(box: Box, snapshot: Snapshot, found: Sequence[tuple[int, bytes, bytes]]) -> None:
    """See IFolder."""
    there = [one for one in found if one[0] in snapshot.places]
    if there:
        await box.ground.database.run(index.keep_texts, box.tenant, snapshot.id, there)


async def _readied(box: Box, snapshot: Snapshot, uids: Sequence[int]) -> dict[int, Ready]:
    """Made from what else is kept of messages, and kept: what an older version did not do."""
    found: dict[int, Ready] = {}
    for at in range(0, len(uids), index.TREES):
        some = uids[at : at + index.TREES]
        trees = await structures(box, snapshot, some)
        heads = await headers(box, snapshot, some)
        both = [(uid, trees[uid], heads[uid]) for uid in some if uid in trees and uid in heads]
        box.unwritten.forget(snapshot.id, [uid for uid, _, _ in both])
        made = await box.ground.thread(_ready, both)
        there = [(uid, one) for uid, one in made.items() if uid in snapshot.places]
        await box.ground.database.run(index.keep_ready, box.tenant, snapshot.id, there)
        found.update(made)
    return found


def _ready(wanted: Sequence[tuple[int, Part, bytes]]) -> dict[int, Ready]:
    return {uid: ready(tree, head) for uid, tree, head in wanted}


async def _made(box: Box, snapshot: Snapshot, uids: Sequence[int]) -> dict[int, Kept]:
    """Made from the files, and kept."""
    missing = [(uid, snapshot.places[uid]) for uid in uids if uid in snapshot.places]
    if not missing:
        return {}
    box.unwritten.forget(snapshot.id, [uid for uid, _ in missing])
    made = await box.ground.thread(box.maildir.each_whole, snapshot.name, missing, summed_up)
    there = {uid: kept for uid, kept in made.items() if uid in snapshot.places}
    await box.ground.database.run(index.keep, box.tenant, snapshot.id, list(there.items()))
    return made


async def pieces(box: Box, snapshot: Snapshot, wanted: Sequence[tuple[int, int, int]]) -> list[bytes | None]:
    """See IFolder. What was read as a whole lately is read no more (``tests/portal/test_read_lately.py``)."""
    places, texts = snapshot.places, box.ground.lately.texts
    few = len(wanted) <= FEW
    if few and (held := texts.all_of(snapshot.id, [uid for uid, _, _ in wanted])) is not None:
        return [held[uid][0][start : start + length] if uid in places else None for uid, start, length in wanted]
    found = await _pieces(box, snapshot, wanted)
    for (uid, start, length), text in zip(wanted, found, strict=True) if few else ():
        entry = snapshot.entries.get(uid)
        if text is not None and entry is not None and not start and length >= entry.size == len(text) <= TEXT_BYTES:
            texts.put(snapshot.id, uid, (text,))
    return found


async def _pieces(box: Box, snapshot: Snapshot, wanted: Sequence[tuple[int, int, int]]) -> list[bytes | None]:
    places = snapshot.places
    found = await box.ground.thread(
        box.maildir.pieces,
        snapshot.name,
        [Piece(places[uid], start, length) if uid in places else None for uid, start, length in wanted],
    )
    for number, text in enumerate(found):
        if text is None:  # it has gone, or its file has another name by now
            uid, start, length = wanted[number]
            try:
                found[number] = await FileBody(box, snapshot, uid).read(start, length)
            except FolderError as error:
                if error.code != "EXPUNGEISSUED":
                    raise
    return found
