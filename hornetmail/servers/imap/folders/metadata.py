"""GETMETADATA and SETMETADATA (RFC 5464), and what a client that said ENABLE METADATA is told of what others change (section 4.4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hornetmail.core.events import Annotated
from hornetmail.core.folder import FolderError
from hornetmail.core.metadata import EVERYBODY, chosen, is_shared
from hornetmail.interfaces.folders import ISharingTree
from hornetmail.net.serving.pump import Answer
from hornetmail.wire.imap.answers.answers import Untagged
from hornetmail.wire.imap.answers.render import astring, literal8, mailbox_name, string
from hornetmail.wire.imap.requests import commands as c

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

WAITING = 1_000
"""Of so many changed entries a client that says nothing is told; of older ones no longer."""


def _place(session: ImapSession, name: str) -> tuple[ISharingTree | None, str]:
    """The tree, None if its folders have no annotations, and the name in it. Raises FolderError."""
    tree, inner = session.mounts.locate(name or "INBOX")
    return tree if ISharingTree.providedBy(tree) else None, inner if name else ""


async def _values(session: ImapSession, name: str) -> Mapping[str, bytes]:
    tree, inner = _place(session, name)
    if tree is not None:
        found: Mapping[str, bytes] = await tree.annotations(inner)
        return found
    if name:
        await session.mounts.open(name)
    return {}


async def get_values(session: ImapSession, command: c.GetMetadata) -> Answer:
    """GETMETADATA. An entry that is asked for by itself and has no value is NIL; where levels below are asked for, only what is there is told."""
    there = await _values(session, command.mailbox)
    found: dict[str, bytes | None] = {}
    longest = 0
    for entry in command.entries:
        names = chosen(there, entry, command.depth)
        if not names and command.depth == 0:
            found[entry] = None
        for name in names:
            if command.most is not None and len(there[name]) > command.most:
                longest = max(longest, len(there[name]))
            else:
                found[name] = there[name]
        if turn := session.wire.breathe():
            await turn
    code = f"METADATA LONGENTRIES {longest}" if longest else ""
    pairs = b" ".join(b"%b %b" % (astring(entry.encode("ascii")), _value(value)) for entry, value in found.items())
    data = b"* METADATA %b (%b)\r\n" % (_named(session, command.mailbox), pairs) if pairs else b""
    return await session.finish("Done", code, data)


def _value(value: bytes | None) -> bytes:
    if value is None:
        return b"NIL"
    return literal8(value) if b"\0" in value else string(value)


def _named(session: ImapSession, name: str) -> bytes:
    return mailbox_name(name, utf8=session.enabled.utf8) if name else b'""'


async def set_values(session: ImapSession, command: c.SetMetadata) -> Answer:
    """SETMETADATA."""
    tree, inner = _place(session, command.mailbox)
    if tree is None:
        if command.mailbox:
            await session.mounts.open(command.mailbox)
        private = not all(map(is_shared, command.values))
        raise FolderError("METADATA NOPRIVATE" if private else "NOPERM", "Nothing can be noted there")
    await tree.annotate(inner, command.values)
    return await session.finish("Done")


class Annotations:
    """What a client has to be told of annotations that changed."""

    log = Logger()

    def __init__(self, session: ImapSession) -> None:
        self._session = session
        self._waiting: dict[tuple[int, str, str], None] = {}
        self._lines = b""
        self._telling: Deferred[None] | None = None
        session.site.watch.annotations.add(self.heard)

    def close(self) -> None:
        """Hear no more."""
        self._session.site.watch.annotations.discard(self.heard)

    @property
    def news(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._waiting or self._lines)

    def heard(self, event: Annotated) -> None:
        """See ``Watch``."""
        person = self._session.person
        if person is None or event.person not in (EVERYBODY, person.mailbox):
            return
        if not event.folder and event.mailbox != person.mailbox:
            return
        for entry in event.entries:
            self._waiting[event.mailbox, event.folder, entry] = None
        while len(self._waiting) > WAITING:
            del self._waiting[next(iter(self._waiting))]
        self.wake()

    def wake(self) -> None:
        """Tell a client that idles."""
        if self._session.idling and self.news and self._telling is None:
            telling = Deferred.fromCoroutine(self._tell())
            if not telling.called:
                self._telling = telling
                telling.addBoth(self._told)
            telling.addErrback(lambda failure: self.log.failure("a change of annotations could not be told", failure))

    def _told(self, result: object) -> object:
        self._telling = None
        return result

    async def _tell(self) -> None:
        while self.news:
            lines = await self.lines()
            if not self._session.idling:  # with its next command, then
                self._lines = lines + self._lines
                return
            self._session.wire.remark(Untagged(lines))

    async def lines(self) -> bytes:
        """All there is to tell; it is told only once. Of folders whose annotations are not for this person nothing is."""
        lines, self._lines = self._lines, b""
        waiting, self._waiting = self._waiting, {}
        changed: dict[tuple[int, str], list[bytes]] = {}
        for mailbox, folder, entry in waiting:
            changed.setdefault((mailbox, folder), []).append(astring(entry.encode("ascii")))
        for (mailbox, folder), entries in changed.items():
            name = await self._session.mounts.name_of(mailbox, folder) if folder and not self._mine(mailbox) else folder
            if name or not folder:
                lines += b"* METADATA %b %b\r\n" % (_named(self._session, name), b" ".join(entries))
        return lines

    def _mine(self, mailbox: int) -> bool:
        person = self._session.person
        return person is not None and person.mailbox == mailbox
