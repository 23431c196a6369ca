"""STORE, COPY, MOVE and EXPUNGE (RFC 3501 section 6.4, RFC 4315, RFC 6851)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from hornetmail.core.folder import Copied, FolderError
from hornetmail.interfaces.folders import ISharingTree
from hornetmail.net.serving.pump import Answer
from hornetmail.servers.imap.folders.mailboxes import trycreate
from hornetmail.servers.imap.view import SYSTEM_FLAGS, View
from hornetmail.wire.imap.answers.answers import Tagged, Untagged
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.tokens.sequences import SequenceSet, compressed

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

STORE_BATCH = 500
"""Messages whose flags are changed in one go."""


def storable(flags: Iterable[str]) -> frozenset[str]:
    r"""Flags that can be set: ``\Recent`` is passed over. Raises FolderError for system flags that do not exist."""
    found = frozenset(flag for flag in flags if flag != "\\Recent")
    for flag in found:
        if flag.startswith("\\") and flag not in SYSTEM_FLAGS:
            raise FolderError("CANNOT", "There is no such system flag")
    return found


def picked(view: View, wanted: SequenceSet, uid: bool) -> Sequence[int]:
    """The UIDs that a command names. Raises ``Nowhere`` for sequence numbers that do not exist."""
    if not uid and wanted.beyond(len(view.uids)):
        raise Nowhere
    return view.picked(wanted, uid)


class Nowhere(Exception):
    """A sequence number beyond the folder's end."""


NOWHERE = Tagged("BAD", "No message has such a number")
SOME_GONE = "Some of the messages have gone"


def writable(view: View) -> None:
    """Raises FolderError after EXAMINE, and where nobody can write."""
    if view.folder.info.readonly:
        raise FolderError("NOPERM", "These messages stay as they are: nothing can be changed here")
    if view.readonly:
        raise FolderError("READ-ONLY", "The mailbox is open for reading only")


async def store(session: ImapSession, command: c.Store) -> Answer:
    """STORE and UID STORE."""
    view = session.selected
    writable(view)
    flags = storable(command.flags)
    try:
        uids = picked(view, command.wanted, command.uid)
    except Nowhere:
        return NOWHERE
    add: Collection[str] = flags if command.op == "+" else ()
    remove: Collection[str] = flags if command.op == "-" else ()
    replace = flags if not command.op else None
    changed: set[int] = set()
    data = b"" if command.since is None else session.condstore()
    for start in range(0, len(uids), STORE_BATCH):
        entries = await view.folder.store(uids[start : start + STORE_BATCH], add, remove, replace, command.since)
        changed.update(entry.uid for entry in entries)
        view.told(entries)
        learned = view.learned(entries)
        if command.silent and not session.enabled.condstore:
            data += learned
            continue
        if data:
            session.wire.send(Untagged(data))
            await session.wire.drained()
            data = b""
        tell = view.marked if command.silent else view.fetched
        data += learned + b"".join([tell(number, entry, command.uid) for entry in entries if (number := view.number(entry.uid))])
    left = [uid for uid in uids if uid not in changed] if len(changed) < len(uids) else []
    there = {entry.uid for entry in await view.folder.entries(left)} if left and command.since is not None else frozenset()
    failed = [uid if command.uid else view.number(uid) for uid in left if uid in there]
    code = "MODIFIED " + compressed(failed).decode("ascii") if failed else ""
    if len(failed) < len(left):
        view.dirty = True
        if not command.uid:
            session.wire.send(Untagged(data))
            return Tagged("NO", SOME_GONE, code or "EXPUNGEISSUED")
    return await session.finish("Stored", code, data, expunge=command.uid)


async def expunge(session: ImapSession, command: c.Expunge) -> Answer:
    """EXPUNGE and UID EXPUNGE."""
    view = session.selected
    writable(view)
    if command.wanted is None:
        gone = await view.folder.expunge()
    else:
        uids = view.picked(command.wanted, uid=True)
        gone = await view.folder.expunge(uids) if uids else ()
    return await removed(session, view, "Expunged", view.expunged(gone), bool(gone))


async def removed(session: ImapSession, view: View, text: str, data: bytes, some: bool) -> Answer:
    """Done; who resynchronises is told the modseq that this made (RFC 7162 sections 3.2.7 and 3.2.9, RFC 6851 section 4.4)."""
    if some and session.enabled.qresync:
        view.dirty = True
        answer = await session.finish(text, data=data)
        if isinstance(answer, Tagged) and session.view is view:
            return msgspec.structs.replace(answer, code=f"HIGHESTMODSEQ {view.modseq}")
        return answer
    return await session.finish(text, data=data)


async def copy(session: ImapSession, command: c.Copy) -> Answer:
    """COPY, MOVE and their UID forms."""
    view = session.selected
    if command.away and not view.folder.info.readonly:  # where nobody can write, the folder itself says why not
        writable(view)
    try:
        uids = picked(view, command.wanted, command.uid)
    except Nowhere:
        return NOWHERE
    try:
        if not uids:
            session.mounts.target(view.tree, command.mailbox)
            await session.mounts.open(command.mailbox)
            return await session.finish("No messages")
        copied = await _copied(session, view, command, uids)
    except FolderError as error:
        raise trycreate(error) from None
    code = _copyuid(copied)
    if session.mounts.locate(command.mailbox) == (view.tree, view.folder.info.name):
        view.dirty = True
    if not command.away:
        return await session.finish("Copied", code)
    told = b"* OK [%b] Moved\r\n" % code.encode("ascii") if code else b""
    gone = copied.sources or uids
    return await removed(session, view, "Moved", told + view.expunged(gone), bool(gone))


async def _copied(session: ImapSession, view: View, command: c.Copy, uids: Sequence[int]) -> Copied:
    tree, inner = session.mounts.locate(command.mailbox)
    if tree is not view.tree and ISharingTree.providedBy(tree) and ISharingTree.providedBy(view.tree):
        taken: Copied = await tree.take(inner, view.folder, uids, command.away)
        return taken
    target = session.mounts.target(view.tree, command.mailbox)
    copied: Copied = await (view.folder.move if command.away else view.folder.copy)(uids, target)
    return copied


def _copyuid(copied: Copied) -> str:
    if not copied.uidvalidity or not copied.targets:
        return ""
    sources, targets = compressed(copied.sources).decode("ascii"), compressed(copied.targets).decode("ascii")
    return f"COPYUID {copied.uidvalidity} {sources} {targets}"
