"""SELECT, EXAMINE, CLOSE and UNSELECT (RFC 3501 sections 6.3.1, 6.3.2, 6.4.2, RFC 3691), and what a client that was here before is told (RFC 7162
section 3.2.5): what changed and what went since then, instead of all."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hornetmail.core.folder import Entry, FolderError, FolderStatus
from hornetmail.core.sharing import ALL, flags_allowed
from hornetmail.interfaces.folders import IFolder, IIndexedFolder, ISharedFolder
from hornetmail.net.serving.pump import Answer, Result
from hornetmail.servers.imap.folders.mailboxes import listed
from hornetmail.servers.imap.view import REMEMBERED, SYSTEM_FLAGS, View
from hornetmail.wire.imap.answers.answers import Tagged, Untagged
from hornetmail.wire.imap.answers.render import flag_list
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.tokens.sequences import SequenceSet, agreed, compressed, missing, rendered

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

SEND_BYTES = 65_536

CHANGING = frozenset("swtei")
"""Who has one of these rights on a folder can change something in it (RFC 4314 section 5.2)."""


def rights(folder: IFolder) -> frozenset[str]:
    """What the person who looks at a folder may do."""
    had: frozenset[str] = folder.rights if ISharedFolder.providedBy(folder) else frozenset(ALL)
    return had


def select(session: ImapSession, command: c.Select) -> Result:
    """SELECT and EXAMINE."""
    if command.known is not None and not session.enabled.qresync:
        return Tagged("BAD", "ENABLE QRESYNC comes first (RFC 7162 section 3.2.5)")
    if session.deselect() is not None:
        session.wire.send(Untagged(b"* OK [CLOSED] The former mailbox is closed\r\n"))
    session.enabled.condstore = session.enabled.condstore or command.condstore
    return _select(session, command)


async def _select(session: ImapSession, command: c.Select) -> Answer:
    tree, inner = session.mounts.locate(command.mailbox)
    folder = await tree.open(inner)
    if not folder.info.selectable:
        raise FolderError("NONEXISTENT", "This mailbox holds only others")
    readonly = command.readonly or folder.info.readonly or not rights(folder) & CHANGING
    view = View(command.mailbox, tree, folder, readonly, session.enabled)
    session.select(view)
    try:
        figures = await folder.status()
        entries: Sequence[Entry] = ()
        if IIndexedFolder.providedBy(folder):
            view.uids.extend(await folder.uids())
        else:
            entries = await folder.entries()
            view.uids.extend([entry.uid for entry in entries])
        view.recent_from = await folder.recent(take=not readonly)
        view.modseq = figures.modseq
        data = await _selected(session, view, figures, entries)
        if command.known is not None and command.known.uidvalidity == figures.uidvalidity:
            session.wire.send(Untagged(data))
            data = await _resynchronised(session, view, command.known, figures.uidnext)
    except BaseException:
        session.deselect()
        raise
    return Tagged("OK", "Selected", "READ-ONLY" if readonly else "READ-WRITE", data)


async def _selected(session: ImapSession, view: View, figures: FolderStatus, entries: Sequence[Entry]) -> bytes:
    uidnext = max(figures.uidnext, view.uids[-1] + 1 if view.uids else 1)
    view.keywords = frozenset().union(*{entry.flags for entry in entries}) - SYSTEM_FLAGS
    flags = flag_list(SYSTEM_FLAGS | view.keywords)
    had = rights(view.folder)
    stay = flag_list(flags_allowed(had, SYSTEM_FLAGS | view.keywords))
    permanent = b"()" if view.readonly else stay[:-1] + b" \\*)" * ("w" in had) + b")" * ("w" not in had)
    unseen = next((n for n, entry in enumerate(entries, 1) if "\\Seen" not in entry.flags), 0)
    return b"".join(
        (
            b"* FLAGS %b\r\n* OK [PERMANENTFLAGS %b] Flags that stay\r\n" % (flags, permanent),
            view.counts(),
            b"* OK [UNSEEN %d] First unseen\r\n" % unseen if unseen and not view.enabled.rev2 else b"",
            b"* OK [UIDVALIDITY %d] UIDs valid\r\n* OK [UIDNEXT %d] Next UID\r\n" % (figures.uidvalidity, uidnext),
            view.highest(),
            b"* OK [MAILBOXID (%b)] Known by this\r\n" % view.folder.info.object.encode("ascii")
            if view.folder.info.object
            else b"",
            await listed(session, view.name) if view.enabled.rev2 else b"",
        )
    )


async def _resynchronised(session: ImapSession, view: View, known: c.Known, uidnext: int) -> bytes:
    """What the client has to be told; the last of it is returned, all before it is sent."""
    changes = await view.folder.changes(known.modseq)
    least = agreed(*known.match, view.uids) + 1 if known.match is not None else 1
    out = [vanished(view, changes, uidnext, known.uids, least)]
    wanted = None if known.uids is None else frozenset(view.picked(known.uids, uid=True))
    held = 0
    for entry in sorted((entry for entry in changes if not entry.gone), key=lambda entry: entry.uid):
        number = view.number(entry.uid)
        if number and (wanted is None or entry.uid in wanted):
            out.append(view.fetched(number, entry, uid=True))
            held += len(out[-1])
        if turn := session.wire.breathe():
            await turn
        if held > SEND_BYTES:
            session.wire.send(Untagged(b"".join(out)))
            await session.wire.drained()
            out, held = [], 0
    return b"".join(out)


def vanished(view: View, changes: Sequence[Entry], uidnext: int, among: SequenceSet | None, least: int = 1) -> bytes:
    """VANISHED (EARLIER), if anything went (RFC 7162 section 3.2.10.1). ``changes``: all since the client's modseq. ``among``: the UIDs it asks for,
    None for all; ``least``: those below are as it knows them. Where the folder no longer remembers all that went, it is all that is not there
    (section 3.2.6 allows it). What this session still counts is told later, as VANISHED."""
    top = uidnext - 1
    asked = [(1, top)] if among is None else among.resolved(top)
    ranges = [(max(low, least), min(high, top)) for low, high in asked if high >= least and low <= top]
    gone = sorted(entry.uid for entry in changes if entry.gone)
    if len(gone) >= REMEMBERED:
        told = rendered(missing(ranges, view.uids))
    else:
        told = compressed(
            uid for low, high in ranges for uid in gone[bisect_left(gone, low) : bisect_right(gone, high)] if not view.number(uid)
        )
    return b"* VANISHED (EARLIER) %b\r\n" % told if told else b""


def close(session: ImapSession, command: c.Close) -> Result:
    """CLOSE and UNSELECT."""
    view = session.view
    if view is None or view.readonly or not command.expunge:
        session.deselect()
        return Tagged("OK", "Closed")
    return _close(session, view)


async def _close(session: ImapSession, view: View) -> Answer:
    """A folder that could not be expunged stays selected: the client is told NO, and can try again. Of what went it is told nothing, nor of the modseq that
    this made: it might take others' changes below for known (RFC 7162 section 3.2.8)."""
    if "e" in rights(view.folder):  # who may not expunge closes all the same (RFC 4314 section 4)
        await view.folder.expunge()
    session.deselect()
    return Tagged("OK", "Closed")
