"""APPEND and REPLACE (RFC 3501 section 6.3.11, RFC 3502, RFC 8508): messages that are arriving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hornetmail.core.folder import Copied, Entry, FolderError
from hornetmail.interfaces.body import IDeposit
from hornetmail.interfaces.folders import IFolder
from hornetmail.net.serving.pump import Answer, Result
from hornetmail.servers.imap.folders import mailboxes
from hornetmail.servers.imap.messages import messages
from hornetmail.wire.engine import Chunk, End
from hornetmail.wire.imap.answers.answers import Continuation, Tagged, Untagged
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.tokens.sequences import compressed

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

MESSAGES = 256
"""No command brings more: each is held in memory up to 64 KiB until all are there."""


class Appending:
    """The messages of one command. Takes pieces; the first error is kept until the end, because nothing can be answered before it. All of them
    are kept, or none (RFC 3502 section 6.3.11). ``replaced``: the message in whose place it comes, ``source`` its folder."""

    log = Logger()

    def __init__(self, folder: IFolder, source: IFolder | None = None, replaced: Entry | None = None) -> None:
        self.folder = folder
        self.replaced = replaced
        self._source = source
        self.size = 0
        self._deposits: list[IDeposit] = []
        self._binary = False
        self._last = b""
        self._error: FolderError | None = None

    def begin(self, message: c.Append | c.Further) -> None:
        """The next message. Raises FolderError."""
        if len(self._deposits) >= MESSAGES:
            raise FolderError("LIMIT", f"No more than {MESSAGES} messages a command")
        flags = messages.storable(message.flags)
        if self._error is None:
            frees = 0 if self.replaced is None else self.replaced.size
            self._deposits.append(self.folder.append(flags, message.date, frees))
        self.size += message.size
        self._binary = message.binary
        self._last = b""

    async def take(self, data: bytes) -> None:
        """A piece. Never raises; after an error pieces are dropped."""
        if self._error is not None:
            return
        if self._binary:
            if b"\0" in data or not self._lines(data):
                self._error = FolderError("UNKNOWN-CTE", "Binary content cannot be stored here (RFC 3516 section 4.4): encode it")
                return
        elif b"\0" in data:
            self._error = FolderError("CANNOT", "The message has a NUL byte, which a literal cannot carry (RFC 3501 section 9)")
            return
        try:
            await self._deposits[-1].write(data)
        except FolderError as error:
            self._error = error
        except OSError as error:
            self._error = FolderError("UNAVAILABLE", "The message cannot be stored now")
            self.log.error("APPEND failed: {error}", error=error)

    def _lines(self, data: bytes) -> bool:
        """Whether all line ends are CRLF: folders keep text, and would change others."""
        whole = b"\r" + data if self._last == b"\r" else data
        self._last = data[-1:]
        return whole.count(b"\n") == whole.count(b"\r\n")

    async def commit(self) -> Copied:
        """Where they lie. Raises FolderError, and then none of them does."""
        deposits, self._deposits = self._deposits, []
        if self._error is not None:
            await self._forgotten(deposits)
            raise self._error
        instead = None if self._source is None or self.replaced is None else (self._source, self.replaced.uid)
        if instead is None and len(deposits) == 1:
            copied: Copied = await deposits[0].commit()
        else:
            copied = await self.folder.commit(deposits, instead)
        return copied

    def forget(self) -> None:
        """It will not be completed."""
        deposits, self._deposits = self._deposits, []
        Deferred.fromCoroutine(self._forgotten(deposits))

    async def _forgotten(self, deposits: list[IDeposit]) -> None:
        for deposit in deposits:
            await self._aborted(deposit)

    async def _aborted(self, deposit: IDeposit) -> None:
        try:
            await deposit.abort()
        except Exception:  # noqa: BLE001
            self.log.failure("an unfinished message could not be removed")


def append(session: ImapSession, event: c.Append) -> Result:
    """APPEND and REPLACE up to the message."""
    refused = _refused(session, event, 0)
    return _begin(session, event) if refused is None else refused


def _refused(session: ImapSession, event: c.Append | c.Further, before: int) -> Tagged | None:
    limit = session.site.policy.append_bytes
    if event.size > limit:
        return Tagged("NO", f"No message may be larger than {limit} bytes", "TOOBIG")
    if event.size + before > limit:
        return Tagged("NO", f"The messages of one command may not be larger than {limit} bytes", "TOOBIG")
    if not event.size:
        return Tagged("NO", "The message is empty")
    return None


async def _begin(session: ImapSession, event: c.Append) -> Answer:
    replaced = await _replaced(session, event) if isinstance(event, c.Replace) else None
    if isinstance(replaced, Tagged):
        return replaced
    view = session.view
    try:
        if view is not None and view.name == event.mailbox and view.stands(session.mounts):
            folder = view.folder  # opening it again would wait for what others do to it
        else:
            folder = await session.mounts.open(event.mailbox)
        if not folder.info.selectable:
            raise FolderError("NONEXISTENT", "This mailbox holds only others")
        if replaced is not None and session.selected.tree is not session.mounts.locate(event.mailbox)[0]:
            raise FolderError("CANNOT", "A message cannot be replaced by one there")
        appending = Appending(folder, None if view is None else view.folder, replaced)
        appending.begin(event)
    except FolderError as error:
        raise mailboxes.trycreate(error) from None
    session.appending = appending
    return Continuation()


async def _replaced(session: ImapSession, event: c.Replace) -> Entry | Tagged:
    """The message to be replaced. Raises FolderError."""
    view = session.selected
    messages.writable(view)
    try:
        uids = messages.picked(view, event.replaced, event.uid)
    except messages.Nowhere:
        return messages.NOWHERE
    entries: Sequence[Entry] = await view.folder.entries(uids)
    if not entries:
        raise FolderError("EXPUNGEISSUED" if not event.uid else "NONEXISTENT", "There is no such message")
    return entries[0]


def further(session: ImapSession, event: c.Further) -> Result:
    """Another message of the same APPEND."""
    appending = session.appending
    if appending is None:
        return Tagged("NO", "The message was not taken", "UNAVAILABLE")
    answer = _refused(session, event, appending.size)
    try:
        if answer is None:
            appending.begin(event)
            return Continuation()
    except FolderError as error:
        answer = Tagged("NO", error.text, error.code)
    session.appending = None
    appending.forget()
    return answer


def chunk(session: ImapSession, event: Chunk) -> Result:
    """A piece of a message."""
    return None if session.appending is None else session.appending.take(event.data)


def end(session: ImapSession, event: End) -> Result:
    """All messages are here."""
    appending, session.appending = session.appending, None
    if appending is None:
        return Tagged("NO", "The message was not taken", "UNAVAILABLE")
    return _finish(session, appending)


async def _finish(session: ImapSession, appending: Appending) -> Answer:
    view = session.view
    try:
        copied = await appending.commit()
    except FolderError as error:
        raise mailboxes.trycreate(error) from None
    known = copied.uidvalidity and copied.targets
    code = f"APPENDUID {copied.uidvalidity} {compressed(copied.targets).decode('ascii')}" if known else ""
    if view is not None and view.shows(appending.folder.info):
        view.dirty = True
    if appending.replaced is None or view is None:
        return await session.finish("Appended", code)
    told = b"* OK [%b] The message in its place\r\n" % code.encode("ascii") if code else b""
    session.wire.send(Untagged(told))
    return await messages.removed(session, view, "Replaced", view.expunged([appending.replaced.uid]), True)
