"""One POP3 conversation: INBOX of whoever logged in, locked for as long as it lasts (RFC 1939). Runs in ``net/serving/pump``.

Messages are numbered once, at log-in. DELE becomes real at QUIT, durably before the answer, and counts as removal (C6). A message that is
being handed over to the primary at that moment stays with that hand-over: QUIT then answers -ERR [SYS/TEMP]. A client that has not said UTF8 gets headers
that are in UTF-8 as encoded words; what cannot be written so (an address) is -ERR [UTF8] (RFC 6856). Sizes are those of messages as they are.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hornetmail.access.login import AccessRefused
from hornetmail.core.folder import Entry, FolderError
from hornetmail.core.served import Person
from hornetmail.interfaces.access import IAccess
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.folders import IFolder
from hornetmail.interfaces.portal import IPortal
from hornetmail.mime.words import Unwritable, for_old_readers
from hornetmail.net.serving.pump import Answer, Result, Session, Wire
from hornetmail.servers.ahead import Ahead
from hornetmail.servers.sasl import LogIn, mechanisms
from hornetmail.wire.engine import Broken, Event, Out
from hornetmail.wire.pop3.events import (
    Auth,
    AuthResponse,
    Begin,
    Body,
    Capa,
    Capabilities,
    Challenge,
    Dele,
    Err,
    Farewell,
    Finish,
    Greeting,
    Lang,
    List,
    Listing,
    Noop,
    Ok,
    Pass,
    Quit,
    Retr,
    Rset,
    Stat,
    Stls,
    Top,
    Uidl,
    User,
    Utf8,
    Welcome,
    Whole,
)
from hornetmail.wire.pop3.rendering import whole
from hornetmail.wire.pop3.server import POP3Policy
from hornetmail.wire.sasl import SASLError

__all__ = ["POP3Policy", "POP3Session", "POP3Site"]

DOOR = "pop3"

WHOLE_BYTES = 1 << 18
"""Messages up to this size are answered in one piece."""


class POP3Site(msgspec.Struct, frozen=True):
    """What all sessions of a door share. After ``login_tries`` failed log-ins or ``mistakes`` broken commands the connection ends;
    each failed log-in is answered ``login_delay`` seconds later than the one before. ``early``: commands before log-in, exchanges that were given up
    included.
    ``expire``: what CAPA may promise of how long mail stays (RFC 2449 section 6.7), ``""`` for nothing."""

    reactor: Any
    access: IAccess
    portal: IPortal
    login_tries: int = 3
    login_delay: float = 1.0
    mistakes: int = 20
    early: int = 50
    expire: Callable[[], str] = lambda: ""


_owners = itertools.count(1)


class POP3Session(Session):
    """See ``net.pump.Session``."""

    log = Logger()

    def __init__(self, site: POP3Site) -> None:
        self._site = site
        self._owner = f"pop3-{next(_owners)}"
        self._exchange: LogIn | None = None
        self._tries = 0
        self._mistakes = 0
        self._mailbox = 0
        self._locked = False
        self._lost = False
        self._folder: IFolder | None = None
        self._entries: Sequence[Entry] = ()
        self._deleted: set[int] = set()
        self._octets = 0
        self._listings: dict[type[Event], Listing] = {}
        self._ahead: Ahead[Out] | None = None
        self._early = 0
        self._utf8 = False

    # ---- the pump's side

    def attach(self, wire: Wire) -> Result:
        """Keeps the wire and greets."""
        self.wire = wire
        return Greeting()

    def on(self, event: Event) -> Result:
        """The answer to an event."""
        if isinstance(event, Retr):
            return self._retr(event)
        if isinstance(event, (Dele, List, Uidl, Stat, Noop, Rset)):
            return self._simple(event)
        if isinstance(event, Top):
            return self._top(event)
        if isinstance(event, Quit):
            return self._update() if event.update else Ok("goodbye")
        if isinstance(event, Broken):
            return self._broken(event)
        return self._before(event)

    def failed(self, event: Event, failure: Failure) -> Answer:
        """Trouble of ours: said, unless a message is half-way out; then the connection ends."""
        if isinstance(event, (Retr, Top)):
            return None
        return Farewell("trouble with the mail store, come again later")

    def lost(self, reason: Failure) -> None:
        """Without QUIT nothing is deleted (RFC 1939 section 6)."""
        self._lost = True
        self._release()

    def goodbye(self) -> Answer:
        """We are going down. Nothing is deleted."""
        return Farewell("going down, come again later")

    def _release(self) -> None:
        if self._locked:
            self._locked = False
            Deferred.fromCoroutine(self._site.portal.unlock(self._mailbox, self._owner)).addErrback(
                lambda failure: self.log.failure("the lock could not be released", failure)
            )

    # ---- before log-in

    def _before(self, event: Event) -> Result:
        if isinstance(event, (Capa, User, Stls, Auth, Utf8, Lang)) and self._folder is None:
            self._early += 1
            if self._early > self._site.early:
                return Farewell("too many commands before log-in", "")
        if isinstance(event, Capa):
            return Capabilities(mechanisms(self._site.access, self.wire), self._site.expire())
        if isinstance(event, Utf8):
            self._utf8 = True
            return Ok("UTF-8 it is")
        if isinstance(event, Lang):
            return _language(event.tag)
        if isinstance(event, User):
            return Ok("and the password?")
        if isinstance(event, Pass):
            return self._login(event.user, event.password)
        if isinstance(event, Auth):
            return self._begin(event)
        if isinstance(event, AuthResponse):
            return self._sasl(event.data)
        if isinstance(event, Stls):
            self._utf8 = False
            return Ok("begin TLS")
        raise TypeError(type(event).__name__)

    def _broken(self, event: Broken) -> Out:
        self._mistakes += 1
        self._exchange = None
        if self._mistakes >= self._site.mistakes and not event.fatal:
            return Farewell("too many mistakes", "")
        return event.suggested

    def _begin(self, event: Auth) -> Result:
        try:
            self._exchange = LogIn(self._site.access, self.wire, DOOR, event.mechanism)
        except SASLError as error:
            return Err(str(error), "AUTH")
        return self._sasl(event.initial)

    async def _sasl(self, response: bytes | None) -> Answer:
        exchange = self._exchange
        if exchange is None:
            return Err("no exchange is under way")
        try:
            said = await exchange.step(response)
        except SASLError as error:
            self._exchange = None
            return Err(str(error), "AUTH")
        except AccessRefused as refused:
            self._exchange = None
            return await self._refused(refused)
        if isinstance(said, bytes):
            return Challenge(said)
        self._exchange = None
        return await self._welcome(said)

    async def _login(self, user: str, password: str) -> Answer:
        try:
            person = await self._site.access.login(user, password, DOOR, self.wire.peer[0])
        except AccessRefused as refused:
            return await self._refused(refused)
        return await self._welcome(person)

    async def _refused(self, refused: AccessRefused) -> Answer:
        site = self._site
        self._tries += 1
        await deferLater(site.reactor, site.login_delay * self._tries)
        code = "SYS/TEMP" if refused.reason == "throttled" else "AUTH"
        text = "too many attempts, come again later" if refused.reason == "throttled" else "name or password is wrong"
        return Farewell(text, code) if self._tries >= site.login_tries else Err(text, code)

    async def _welcome(self, person: Person) -> Answer:
        """Lock and count the mailbox of whoever logged in."""
        site = self._site
        self._mailbox = person.mailbox
        if not await site.portal.lock(person.mailbox, self._owner):
            return Err("the mailbox is in use by another POP3 session", "IN-USE")
        self._locked = True
        if self._lost:
            self._release()
            return None
        try:
            self._folder = await site.portal.tree(person.mailbox).open("INBOX")
            self._entries = await self._folder.entries()
            self._octets = sum(entry.size for entry in self._entries)
            self._ahead = Ahead(
                self._folder,
                self._entries,
                self._whole,
                lambda place: self._entry(place + 1) is not None,
                lambda work: site.reactor.callLater(0, work),
            )
        except FolderError as error:
            self._release()
            return Err(error.text, "SYS/PERM" if error.code == "NONEXISTENT" else "SYS/TEMP")
        except BaseException:
            self._release()
            raise
        return Welcome(f"{len(self._entries)} messages")

    # ---- after log-in

    def _simple(self, event: Event) -> Out:
        if isinstance(event, Stat):
            return Ok(f"{len(self._entries) - len(self._deleted)} {self._octets}")
        if isinstance(event, (List, Uidl)):
            return self._listing(event)
        if isinstance(event, Rset):
            self._octets += sum(self._entries[number - 1].size for number in self._deleted)
            self._deleted.clear()
            self._listings.clear()
            return Ok(f"{len(self._entries)} messages")
        if isinstance(event, Dele):
            entry = self._entry(event.number)
            if entry is None:
                return _no_such(event.number)
            self._deleted.add(event.number)
            self._octets -= entry.size
            self._listings.clear()
            return Ok(f"message {event.number} goes at QUIT")
        return Ok()

    def _live(self) -> list[tuple[int, Entry]]:
        return [(number, entry) for number, entry in enumerate(self._entries, 1) if number not in self._deleted]

    def _entry(self, number: int) -> Entry | None:
        return self._entries[number - 1] if 1 <= number <= len(self._entries) and number not in self._deleted else None

    def _listing(self, event: List | Uidl) -> Out:
        unique = isinstance(event, Uidl)
        if event.number:
            entry = self._entry(event.number)
            if entry is None:
                return _no_such(event.number)
            return Ok(f"{event.number} {unique_id(entry.name) if unique else entry.size}")
        listing = self._listings.get(type(event))
        if listing is None:
            lines = [f"{number} {unique_id(entry.name) if unique else entry.size}\r\n" for number, entry in self._live()]
            listing = self._listings[type(event)] = Listing(f"{len(lines)} messages", "".join(lines).encode("ascii"))
        return listing

    async def _body(self, number: int) -> IBody | Err:
        entry = self._entry(number)
        if entry is None or self._folder is None:
            return _no_such(number)
        try:
            return await self._folder.body(entry.uid)
        except FolderError as error:
            return Err(error.text, "SYS/TEMP")

    def _retr(self, event: Retr) -> Result:
        entry, ahead = self._entry(event.number), self._ahead
        if entry is None or ahead is None:
            return _no_such(event.number)
        if entry.size > WHOLE_BYTES:
            return self._large(event)
        return ahead.at_once(event.number - 1) or self._read(ahead, event.number - 1)

    async def _read(self, ahead: Ahead[Out], place: int) -> Answer:
        try:
            return await ahead.text(place)
        except FolderError as error:
            return Err(error.text, "SYS/TEMP")

    def _whole(self, text: bytes) -> Out:
        try:
            return Whole(whole(text if self._utf8 else for_old_readers(text), len(text)))
        except Unwritable as why:
            return Err(f"{why}: say UTF8 before log-in", "UTF8")

    async def _large(self, event: Retr) -> Answer:
        body = await self._body(event.number)
        if isinstance(body, Err):
            return body
        return await self._stream(f"{body.size} octets", self._readable(body))

    async def _top(self, event: Top) -> Answer:
        body = await self._body(event.number)
        if isinstance(body, Err):
            return body
        return await self._stream("the top of it follows", top(self._readable(body), event.lines))

    async def _readable(self, body: IBody) -> AsyncIterator[bytes]:
        """The message, its header as the client takes it. Raises Unwritable before the first piece."""
        begun = self._utf8
        async for piece in body.chunks():
            yield piece if begun else for_old_readers(piece)
            begun = True

    async def _stream(self, text: str, pieces: AsyncIterator[bytes]) -> Answer:
        """A message in pieces, no faster than the peer takes them. Raises FolderError if it goes away meanwhile: the connection ends then."""
        begun = False
        try:
            async for piece in pieces:
                if not begun:
                    begun = True
                    self.wire.send(Begin(text))
                self.wire.send(Body(piece))
                await self.wire.drained()
        except FolderError as error:
            if begun:
                raise
            return Err(error.text, "SYS/TEMP")
        except Unwritable as why:
            return Err(f"{why}: say UTF8 before log-in", "UTF8")
        return Finish() if begun else [Begin(text), Finish()]

    async def _update(self) -> Answer:
        """Make deletions real (the UPDATE state), even if the connection is lost meanwhile, and let the mailbox go."""
        done: Deferred[Answer] = Deferred()
        self._locked, locked = False, self._locked
        work = Deferred.fromCoroutine(self._removed())

        async def unlock(result: Any) -> Any:
            if locked:
                await self._site.portal.unlock(self._mailbox, self._owner)
            return result

        work.addBoth(lambda result: Deferred.fromCoroutine(unlock(result)))
        work.addCallbacks(done.callback, done.errback)
        return await done

    async def _removed(self) -> Out:
        folder = self._folder
        uids = sorted(self._entries[number - 1].uid for number in self._deleted)
        if folder is None or not uids:
            return Ok("goodbye")
        kept = 0
        try:
            await folder.store(uids, add=["\\Deleted"])
            await folder.expunge(uids)
        except FolderError as error:
            if error.code != "INUSE":
                self.log.warn("POP3 deletions of mailbox {mailbox} failed: {error}", mailbox=self._mailbox, error=error)
                return Err("the deleted messages could not be removed", "SYS/TEMP")
            kept = await self._removed_singly(folder, uids)
        if kept:
            return Err(f"{kept} of {len(uids)} deleted messages are being handed over and were not removed", "SYS/TEMP")
        return Ok(f"goodbye, {len(uids)} messages removed")

    async def _removed_singly(self, folder: IFolder, uids: Sequence[int]) -> int:
        kept = 0
        for uid in uids:
            try:
                await folder.store([uid], add=["\\Deleted"])
            except FolderError:
                kept += 1
        await folder.expunge(uids)
        return kept


async def top(pieces: AsyncIterator[bytes], lines: int) -> AsyncIterator[bytes]:
    """The header, the blank line, and so many lines of the body (RFC 1939 section 7)."""
    tail = b"\r\n"
    header = True
    async for piece in pieces:
        at = 0
        if header:
            joined = tail + piece
            found = joined.find(b"\n\r\n")
            if found < 0:
                tail = joined[-2:]
                yield piece
                continue
            header = False
            at = found + 3 - len(tail)
        while lines:
            end = piece.find(b"\n", at)
            if end < 0:
                break
            at = end + 1
            lines -= 1
        if not lines:
            if at:
                yield piece[:at]
            return
        yield piece


def unique_id(name: str) -> str:
    """The message's stable name if RFC 1939 lets it be one (1 to 70 characters, 0x21 to 0x7E), else a digest of it."""
    if 0 < len(name) <= 70 and all("!" <= c <= "~" for c in name):
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:48]


def _language(tag: str) -> Out:
    """There is one."""
    if not tag:
        return Listing("languages", b"en English\r\ni-default Default language\r\n")
    if tag in ("en", "i-default", "*"):
        return Ok(f"{'en' if tag == '*' else tag} English it is")
    return Err("that language is not spoken here")


def _no_such(number: int) -> Err:
    return Err(f"no message {number}")
