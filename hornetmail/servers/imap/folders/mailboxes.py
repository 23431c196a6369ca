"""Commands about folders by name (RFC 3501 section 6.3; RFC 5258, 5819, 6154)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hornetmail.core.folder import Entry, FolderError, FolderStatus
from hornetmail.interfaces.folders import IFolder
from hornetmail.net.serving.pump import Answer
from hornetmail.servers.imap.mounts import Listed
from hornetmail.wire.imap.answers.answers import Tagged
from hornetmail.wire.imap.answers.render import mailbox_name
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.tokens.names import DELIMITER, Pattern

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

USES = {u.upper(): u for u in ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash")}
COUNTED = 5_000
"""Messages looked at before others may have their turn."""

LEVELS = 50
"""No name has more."""


def trycreate(error: FolderError) -> FolderError:
    """The error of a target (RFC 3501 section 7.1, TRYCREATE)."""
    return FolderError("TRYCREATE", error.text) if error.code == "NONEXISTENT" else error


def _checked(name: str) -> str:
    """A name that may be made. Raises FolderError."""
    name = name.removesuffix(DELIMITER)
    levels = name.split(DELIMITER)
    if len(levels) > LEVELS or any(not level or level in (".", "..") for level in levels) or "*" in name or "%" in name:
        raise FolderError("CANNOT", "No mailbox can have this name")
    return name


async def create(session: ImapSession, command: c.Create) -> Answer:
    """CREATE, with USE."""
    if len(command.use) > 1 or any(use.upper() not in USES for use in command.use):
        raise FolderError("USEATTR", "No mailbox can be made for this use")
    tree, inner = session.mounts.locate_new(_checked(command.mailbox))
    if command.use:
        await tree.create(inner, USES[command.use[0].upper()])
    else:
        await tree.create(inner)
    known = (await tree.open(inner)).info.object
    return await session.finish("Created", f"MAILBOXID ({known})" if known else "")


async def delete(session: ImapSession, command: c.Delete) -> Answer:
    """DELETE."""
    if command.mailbox == "INBOX":
        raise FolderError("CANNOT", "INBOX cannot be deleted")
    tree, inner = session.mounts.locate(command.mailbox)
    await tree.delete(inner)
    return await session.finish("Deleted")


async def rename(session: ImapSession, command: c.Rename) -> Answer:
    """RENAME."""
    tree, old = session.mounts.locate(command.old)
    target, new = session.mounts.locate_new(_checked(command.new))
    if target is not tree:
        raise FolderError("CANNOT", "Mailboxes cannot be moved there")
    if new.startswith(old + DELIMITER):
        raise FolderError("CANNOT", "A mailbox cannot be moved below itself")
    await tree.rename(old, new)
    return await session.finish("Renamed")


async def subscribe(session: ImapSession, command: c.Subscribe) -> Answer:
    """SUBSCRIBE and UNSUBSCRIBE."""
    name = command.mailbox.removesuffix(DELIMITER)
    tree, inner = session.mounts.locate(_checked(name) if command.wanted else name)
    await tree.subscribe(inner, command.wanted)
    return await session.finish("Done")


NO_RECENT = Tagged("BAD", "IMAP4rev2 has no RECENT (RFC 9051 appendix E)")


async def status(session: ImapSession, command: c.Status) -> Answer:
    """STATUS."""
    if session.enabled.rev2 and "RECENT" in command.items:
        return NO_RECENT
    folder = await session.mounts.open(command.mailbox)
    if not folder.info.selectable:
        raise FolderError("NONEXISTENT", "This mailbox holds only others")
    told = session.condstore() if "HIGHESTMODSEQ" in command.items else b""
    return await session.finish("Done", data=told + await _status_line(session, command.mailbox, command.items, folder))


async def _status_line(session: ImapSession, name: str, items: Sequence[str], folder: IFolder) -> bytes:
    figures: FolderStatus = await folder.status()
    values: dict[str, int | str] = {
        "MESSAGES": figures.messages,
        "RECENT": figures.recent,
        "UIDNEXT": figures.uidnext,
        "UIDVALIDITY": figures.uidvalidity,
        "UNSEEN": figures.unseen,
        "SIZE": figures.size,
        "APPENDLIMIT": session.site.policy.append_bytes,
        "HIGHESTMODSEQ": figures.modseq,
    }
    if "DELETED" in items or "DELETED-STORAGE" in items:
        marked = (0, 0) if folder.info.readonly else await _deleted(session, await folder.entries())
        values["DELETED"], values["DELETED-STORAGE"] = marked
    if folder.info.object:
        values["MAILBOXID"] = f"({folder.info.object})"
    told = " ".join(f"{item} {values[item]}" for item in items if item in values)
    return b"* STATUS %b (%b)\r\n" % (mailbox_name(name, utf8=session.enabled.utf8), told.encode("ascii"))


async def _deleted(session: ImapSession, entries: Sequence[Entry]) -> tuple[int, int]:
    """How many are marked, and their bytes (RFC 9208 section 4.1.4); counted a slice at a time (``tests/cost/test_doors.py``)."""
    count = size = 0
    for start in range(0, len(entries), COUNTED):
        marked = [entry.size for entry in entries[start : start + COUNTED] if "\\Deleted" in entry.flags]
        count += len(marked)
        size += sum(marked)
        if turn := session.wire.breathe():
            await turn
    return count, size


async def listing(session: ImapSession, command: c.Listing) -> Answer:
    """LIST and LSUB."""
    if command.lsub:
        return await session.finish("Done", data=await _lsub(session, command))
    if session.enabled.rev2 and "RECENT" in command.status:
        return NO_RECENT
    if command.patterns == ("",) and not command.extended:
        return await session.finish("Done", data=b'* LIST (\\Noselect) "/" ""\r\n')
    wanted = _Wanted(command, session.enabled.utf8)
    folders = await session.mounts.folders()
    if wanted.subscriptions:
        folders = _with_subscriptions(folders, await session.mounts.subscriptions())
    lines = [b"* NO [UNAVAILABLE] %b\r\n" % word.encode("ascii", "replace") for word in session.mounts.words()]
    lines += [session.condstore()] if "HIGHESTMODSEQ" in command.status else []
    parents = _parents(folders)
    fitting = await _fitting(session, wanted, folders)
    above = _above_chosen(folders, wanted, frozenset()) if wanted.recursive else frozenset()
    unseen = _above_chosen(folders, wanted, fitting) if wanted.recursive else frozenset()
    for folder in folders:
        if folder.name not in fitting:
            continue
        if turn := session.wire.breathe():
            await turn
        chosen = wanted.selects(folder)
        child = folder.name in (above if chosen else unseen)
        if not chosen and not child:
            continue
        lines.append(wanted.line(folder, folder.name in parents, child))
        if command.status and chosen and folder.selectable and folder.exists:
            try:
                opened = await session.mounts.open(folder.name)
                lines.append(await _status_line(session, folder.name, command.status, opened))
            except FolderError:
                continue
    return await session.finish("Done", data=b"".join(lines))


async def listed(session: ImapSession, name: str) -> bytes:
    """The LIST line of a mailbox that was selected (RFC 9051 section 6.3.2)."""
    folders = await session.mounts.folders()
    wanted = _Wanted(c.Listing(b"", "", (name,)), session.enabled.utf8)
    parents = _parents(folders)
    return b"".join(wanted.line(folder, folder.name in parents, False) for folder in folders if folder.name == name)


async def _fitting(session: ImapSession, wanted: _Wanted, folders: Sequence[Listed]) -> frozenset[str]:
    """The names that the patterns match."""
    found = []
    for folder in folders:
        if wanted.matches(folder.name):
            found.append(folder.name)
        if turn := session.wire.breathe():
            await turn
    return frozenset(found)


class _Wanted:
    """The question of a LIST."""

    def __init__(self, command: c.Listing, utf8: bool) -> None:
        select = command.select
        self.utf8 = utf8
        self.patterns = [
            Pattern(_joined(command.reference, pattern)) for pattern in command.patterns if pattern or not command.extended
        ]
        self.only_subscribed = "SUBSCRIBED" in select
        self.only_special = "SPECIAL-USE" in select
        self.recursive = "RECURSIVEMATCH" in select
        self.tell_subscribed = self.only_subscribed or "SUBSCRIBED" in command.returns
        self.subscriptions = self.only_subscribed

    def matches(self, name: str) -> bool:
        return any(pattern.matches(name) for pattern in self.patterns)

    def selects(self, folder: Listed) -> bool:
        if not folder.exists and not (self.only_subscribed and folder.subscribed) and (self.only_subscribed or self.only_special):
            return False
        return (folder.subscribed or not self.only_subscribed) and (bool(folder.use) or not self.only_special)

    def line(self, folder: Listed, parent: bool, child: bool) -> bytes:
        words = []
        if not folder.exists:
            words.append(b"\\NonExistent" if self.subscriptions else b"\\Noselect")
        elif not folder.selectable:
            words.append(b"\\Noselect")
        words.append(b"\\HasChildren" if parent else b"\\HasNoChildren")
        if folder.use:
            words.append(folder.use.encode("ascii"))
        if self.tell_subscribed and folder.subscribed:
            words.append(b"\\Subscribed")
        info = b""
        if child:
            names = [b'"SUBSCRIBED"'] * self.only_subscribed + [b'"SPECIAL-USE"'] * self.only_special
            info = b' ("CHILDINFO" (%b))' % b" ".join(names)
        return b'* LIST (%b) "/" %b%b\r\n' % (b" ".join(words), mailbox_name(folder.name, utf8=self.utf8), info)


def _joined(reference: str, pattern: str) -> str:
    """RFC 3501 section 6.3.8: our names have no root, so a reference is simply put in front."""
    return reference + pattern


def _parents(folders: Iterable[Listed]) -> frozenset[str]:
    return frozenset(level for folder in folders if folder.exists for level in _levels_above(folder.name))


def _above_chosen(folders: Iterable[Listed], wanted: _Wanted, shown: frozenset[str]) -> frozenset[str]:
    """Levels with a chosen folder below them that is not ``shown``. A level that is chosen itself is told to have any; one that is not is told of only
    for what the answer does not show (RFC 5258 section 3.5)."""
    found: set[str] = set()
    for folder in folders:
        if wanted.selects(folder) and folder.name not in shown:
            found.update(_levels_above(folder.name))
    return frozenset(found)


def _levels_above(name: str) -> list[str]:
    parts = name.split(DELIMITER)
    return [DELIMITER.join(parts[:n]) for n in range(1, len(parts))]


def _with_subscriptions(folders: list[Listed], names: Iterable[str]) -> list[Listed]:
    known = {folder.name for folder in folders if folder.exists}
    lost = [Listed(name, subscribed=True, selectable=False, exists=False) for name in names if name not in known]
    gone = {folder.name for folder in lost}
    return [folder for folder in folders if folder.name not in gone] + lost


async def _lsub(session: ImapSession, command: c.Listing) -> bytes:
    """RFC 3501 section 6.3.9: with ``%``, levels above what is subscribed are shown as \\Noselect."""
    names = await session.mounts.subscriptions()
    patterns = [_joined(command.reference, pattern) for pattern in command.patterns]
    if patterns == [command.reference]:
        return b'* LSUB (\\Noselect) "/" ""\r\n'
    exists = {folder.name: folder for folder in await session.mounts.folders()}
    pattern = Pattern(patterns[0])
    shown: dict[str, bytes] = {}
    asked: set[str] = set()
    for name in names:
        if turn := session.wire.breathe():
            await turn
        if pattern.matches(name):
            known = exists.get(name)
            shown[name] = b"" if known is not None and known.selectable else b"\\Noselect"
        elif patterns[0].endswith("%"):
            for level in _levels_above(name):
                if level not in asked and pattern.matches(level):
                    shown.setdefault(level, b"\\Noselect")
                asked.add(level)
    return b"".join(
        b'* LSUB (%b) "/" %b\r\n' % (words, mailbox_name(name, utf8=session.enabled.utf8)) for name, words in shown.items()
    )
