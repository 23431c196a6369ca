"""APPEND and REPLACE (RFC 3501 section 6.3.11, RFC 3502, RFC 8508): messages that are arriving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hornetmail.core.folder import Copied, FolderError
from hornetmail.interfaces.body import IDeposit
from hornetmail.interfaces.folders import IFolder
from hornetmail.net.pump import Answer, Result
from hornetmail.servers.imap import mailboxes, messages
from hornetmail.servers.imap.view import View
from hornetmail.wire.engine import Chunk, End
from hornetmail.wire.imap import commands as c
from hornetmail.wire.imap.answers import Continuation, Tagged, Untagged
from hornetmail.wire.imap.sequences import compressed

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

MESSAGES = 256
"""No command brings more: each is held in memory up to 64 KiB until all are there."""


class Appending:
    """The messages of one command. Takes pieces; the first error is kept until the end, because nothing can be answered before it. All of them
    are kept, or none (RFC 3502 section 2). ``replaced``: the UID in whose place the message comes, 0 for none."""

    log = Logger()

    def __init__(self, folder: IFolder, replaced: int = 0) -> None:
        self.folder = folder
        self.replaced = replaced
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
            self._deposits.append(self.folder.append(flags, message.date))
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
        targets: list[int] = []
        try:
            if self._error is not None:
                raise self._error
            validity = 0
            for deposit in deposits:
                copied: Copied = await deposit.commit()
                validity = copied.uidvalidity
                targets += copied.targets
        except BaseException:
            for deposit in deposits:
                await self._aborted(deposit)
            await self.undo(targets)
            raise
        return Copied(validity, (), tuple(targets))

    async def undo(self, uids: list[int] | tuple[int, ...]) -> None:
        """Take back what is there already."""
        if uids:
            try:
                await self.folder.store(uids, add=("\\Deleted",))
                await self.folder.expunge(uids)
            except Exception:  # noqa: BLE001
                self.log.failure(
                    "messages {uids} of an APPEND that failed stay in {folder}", uids=uids, folder=self.folder.info.name
                )

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
    replaced = _replaced(session, event) if isinstance(event, c.Replace) else 0
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
        appending = Appending(folder, replaced)
        appending.begin(event)
    except FolderError as error:
        raise mailboxes.trycreate(error) from None
    session.appending = appending
    return Continuation()


def _replaced(session: ImapSession, event: c.Replace) -> int | Tagged:
    """The UID of the message to be replaced. Raises FolderError."""
    view = session.selected
    messages.writable(view)
    try:
        uids = messages.picked(view, event.replaced, event.uid)
    except messages.Nowhere:
        return messages.NOWHERE
    if not uids:
        raise FolderError("EXPUNGEISSUED" if not event.uid else "NONEXISTENT", "There is no such message")
    return uids[0]


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
    if not appending.replaced or view is None:
        return await session.finish("Appended", code)
    gone = await _replace(view, appending, copied)
    told = b"* OK [%b] The message in its place\r\n" % code.encode("ascii") if code else b""
    session.wire.send(Untagged(told))
    return await session.finish("Replaced", data=view.expunged(gone))


async def _replace(view: View, appending: Appending, copied: Copied) -> list[int]:
    """Remove the message that was replaced. If that cannot be, nor is the new one there. Raises FolderError."""
    try:
        await view.folder.store([appending.replaced], add=("\\Deleted",))
        return list(await view.folder.expunge([appending.replaced]))
    except BaseException:
        await appending.undo(copied.targets)
        raise
