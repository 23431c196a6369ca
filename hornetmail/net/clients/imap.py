"""An IMAP connection that can be awaited: the way home with flags and folders (L13) speaks through it.

Passwords never go in the clear but under ``TLSPolicy.NONE``; with ``MAY`` there is TLS as well, only the certificate is not looked at. Whoever gets ``Broken`` with ``certain``
false must take the APPEND for possible. A refused log-in is a trouble of its own: it is the caller's not to try it again before something changed (lock-outs).
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from hornetmail.core.served import Host, TLSPolicy
from hornetmail.net.clients.dial import Dialer, DialError
from hornetmail.net.clients.imap_link import Gone, Link, LinkFactory
from hornetmail.net.tls import ClientTLS, TLSRefused, check_peer
from hornetmail.wire.engine import Event, LocalProtocolError
from hornetmail.wire.imap.client import commands as c
from hornetmail.wire.sasl_client import Account, ClientExchange, Derive, SASLError, choose

IMPLICIT = 993
"""The port on which TLS comes first (RFC 8314 section 3.2)."""

GOODBYE_SECONDS = 5.0
"""Nobody waits longer for the answer to LOGOUT."""

FOLDERS = 10_000
"""No more folders are looked at."""

NAME_BYTES = 1000
"""Folders with longer names are left out."""


class Timeouts(msgspec.Struct, frozen=True, gc=False):
    """Seconds. ``reply``: between any two things that the server says; ``command``: until a command is completed, however much is said meanwhile;
    ``text``: for the server to take a piece of a message; ``verdict``: after its last byte."""

    connect: float = 10.0
    reply: float = 60.0
    command: float = 600.0
    text: float = 120.0
    verdict: float = 600.0


class Trouble(enum.Enum):
    """What kind of. ``REFUSED``: these credentials will not do, now or later. ``LATER``: the server says that it cannot just now."""

    OURS = "ours"
    CONNECT = "connect"
    TLS = "tls"
    REFUSED = "login"
    LATER = "later"
    PROTOCOL = "protocol"
    LOST = "lost"


class Broken(Exception):
    """The conversation failed as a whole. ``certain`` is false once a message's last byte was sent: the server may have it."""

    def __init__(self, trouble: Trouble, text: str, *, certain: bool = True) -> None:
        super().__init__(text)
        self.trouble = trouble
        self.text = text
        self.certain = certain


class Refused(Exception):
    """The server completed a command with NO or BAD; the connection is whole."""

    def __init__(self, done: c.Completed) -> None:
        super().__init__(f"{done.status.value} {f'[{done.code.word}] ' if done.code.word else ''}{done.text[:200]}")
        self.code = done.code.word
        self.text = done.text


Derived = Callable[[Derive], Awaitable[bytes]]
"""Where the password is salted: nowhere near the reactor."""

_TEMPORARY = ("UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "CONTACTADMIN")
"""Codes of a log-in that failed for another reason than the password (RFC 5530)."""


class IMAPClient:
    """A connection that is logged in. One conversation at a time: await each call before the next."""

    log = Logger()

    def __init__(self, link: Link, host: Host, timeouts: Timeouts) -> None:
        self.host = host
        self._link = link
        self._timeouts = timeouts
        self._private = False

    @property
    def alive(self) -> bool:
        """Whether it may be used."""
        return self._link.alive

    @property
    def capabilities(self) -> frozenset[str]:
        """What the server offers, in capitals."""
        return self._link.engine.capabilities

    @property
    def tls(self) -> bool:
        """Whether it is encrypted."""
        return self._link.engine.tls

    @classmethod
    async def connect(
        cls,
        dialer: Dialer,
        host: Host,
        account: Account,
        *,
        tls: TLSPolicy,
        timeouts: Timeouts = Timeouts(),
        client_tls: ClientTLS | None = None,
        derived: Derived | None = None,
    ) -> IMAPClient:
        """Logged in. Port 993 is TLS from the start. Raises Broken for everything that goes wrong."""
        try:
            link, _ = await dialer.connect(host, LinkFactory(dialer.reactor), timeout=timeouts.connect)
        except DialError as error:
            raise Broken(Trouble.OURS if error.ours else Trouble.CONNECT, error.text) from None
        assert isinstance(link, Link)
        client = cls(link, host, timeouts)
        try:
            await client._open(tls, client_tls or ClientTLS())
            await client._login(account, derived or _in_thread(dialer.reactor))
        except BaseException:
            client.abort()
            raise
        return client

    # ---- opening

    async def _open(self, tls: TLSPolicy, context: ClientTLS) -> None:
        wanted = tls is not TLSPolicy.NONE
        implicit = wanted and self.host.port == IMPLICIT
        if implicit:
            await self._handshake(tls, context)
        greeting = await self._heard(self._timeouts.reply)
        assert isinstance(greeting, c.Greeted)
        if greeting.status is c.Status.BYE:
            raise Broken(Trouble.LATER, f"the server turns us away: {greeting.text[:200] or greeting.code.word}")
        if greeting.status is c.Status.PREAUTH:
            raise Broken(
                Trouble.PROTOCOL, "the server lets us in before it knows who we are: whose mailbox that is, nobody can say"
            )
        if wanted and not implicit:
            await self._know()
            if "STARTTLS" not in self.capabilities:
                raise Broken(Trouble.TLS, "no TLS: STARTTLS is not offered, and the password is not sent in the clear")
            try:
                await self.ask(c.StartTLS())
            except Refused as refused:
                raise Broken(Trouble.TLS, f"STARTTLS is refused: {refused}") from None
            await self._handshake(tls, context)
        self._private = tls is TLSPolicy.VERIFY

    async def _know(self) -> None:
        """What the server offers, if it has not said so."""
        if not self.capabilities:
            await self._needed(c.Capability())

    async def _handshake(self, tls: TLSPolicy, context: ClientTLS) -> None:
        try:
            await self._link.start_tls(context.to(self.host.name, tls), self._timeouts.reply)
            if tls is TLSPolicy.VERIFY:
                check_peer(self._link.transport.getHandle(), self.host.name)
        except (Gone, TLSRefused) as error:
            raise Broken(Trouble.TLS, str(error)) from None

    async def _login(self, account: Account, derived: Derived) -> None:
        await self._know()
        offered = {each[5:] for each in self.capabilities if each.startswith("AUTH=")}
        try:
            mechanism = choose(offered, account, private=self._private)
            if mechanism is not None:
                done = await self._authenticate(ClientExchange(mechanism, account, secrets.token_urlsafe(18)), derived)
            elif account.acting_for or account.token or "LOGINDISABLED" in self.capabilities:
                raise Broken(
                    Trouble.REFUSED,
                    f"none of the ways to log in that the server offers will do ({', '.join(sorted(offered)) or 'none'})",
                )
            else:
                done = await self._said(c.Login(account.user.encode(), account.password.encode()))
        except SASLError as error:
            raise Broken(Trouble.REFUSED, f"the log-in failed: {error}") from None
        if done.status is not c.Status.OK:
            later = done.status is c.Status.NO and done.code.word in _TEMPORARY
            raise Broken(Trouble.LATER if later else Trouble.REFUSED, f"the log-in is refused: {Refused(done)}")
        await self._know()
        if "ID" in self.capabilities:
            await self._said(c.Id(((b"name", b"HornetMail"),)))

    async def _authenticate(self, exchange: ClientExchange, derived: Derived) -> c.Completed:
        first = exchange.first()
        self._write(c.Authenticate(exchange.mechanism, first))
        waiting = first is not None and "SASL-IR" not in self.capabilities
        while True:
            event = await self._heard(self._timeouts.reply)
            if isinstance(event, c.Completed):
                if event.status is c.Status.OK and not exchange.proved:
                    raise SASLError("the server lets us in without having shown that it knows the password")
                return event
            if not isinstance(event, c.Wanted):
                continue
            if waiting and first is not None:
                waiting = False
                answer: bytes | Derive = first
            else:
                answer = exchange.step(event.challenge)
            if isinstance(answer, Derive):
                answer = exchange.derived(await derived(answer))
            self._write(c.Response(answer))

    # ---- commands

    async def ask(
        self, command: c.Command, heard: Callable[[Event], Awaitable[None]] | None = None, *, seconds: float | None = None
    ) -> c.Completed:
        """Its OK; what the server says before is given to ``heard``, one thing at a time, however large it is altogether. ``seconds``: instead of
        ``Timeouts.command``. Raises Refused; Broken; whatever ``heard`` raises, and then the connection is gone."""
        try:
            done = await self._said(command, heard, seconds)
        except BaseException:
            self.abort()
            raise
        if done.status is not c.Status.OK:
            raise Refused(done)
        return done

    async def asked(self, command: c.Command) -> list[Event]:
        """The same for what is small: all that was said, but for the completion, which is last."""
        said: list[Event] = []

        async def heard(event: Event) -> None:
            said.append(event)

        done = await self.ask(command, heard)
        return [*said, done]

    async def append(self, command: c.Append, chunks: Callable[[], AsyncIterator[bytes]]) -> c.Code:
        """Its OK's response code: APPENDUID where there is UIDPLUS. Raises Refused; Broken, with ``certain`` false from the last byte on."""
        sent = False
        try:
            self._write(command)
            done = await self._wanted()
            if done is None:
                done = await self._text(command, chunks)
            if done is None:
                sent = True
                done = await self._completed(self._timeouts.verdict)
        except CancelledError:
            self.abort()
            raise
        except Broken as error:
            self.abort()
            raise Broken(error.trouble, error.text, certain=not sent) from None
        except LocalProtocolError as error:
            self.abort()
            raise Broken(Trouble.OURS, str(error)) from None
        if done.status is not c.Status.OK:
            raise Refused(done)
        return done.code

    async def _wanted(self) -> c.Completed | None:
        """Until the message may be sent, or was refused."""
        engine = self._link.engine
        while not engine.wants:
            event = await self._heard(self._timeouts.reply)
            if isinstance(event, c.Completed):
                return event
            if isinstance(event, c.Wanted) and not engine.wants:
                self._write(c.Further())
        return None

    async def _text(self, command: c.Append, chunks: Callable[[], AsyncIterator[bytes]]) -> c.Completed | None:
        """The message; its completion if that comes in the middle."""
        link, left = self._link, command.size
        held = b""
        try:
            async for chunk in chunks():
                # The last byte goes only when the message ended where it should.
                held, piece = chunk[-1:] or held, held + chunk[:-1] if chunk else b""
                left -= len(chunk)
                if left < 0:
                    break
                if piece:
                    self._write(c.Text(piece))
                    await self._drained()
                while (event := self._here()) is not None:
                    if isinstance(event, c.Completed):
                        link.fail("refused in the middle of the message")
                        return event
        except (CancelledError, Broken, LocalProtocolError):
            raise
        except Exception as error:
            self.log.failure("the message could not be read")
            raise Broken(Trouble.OURS, f"the message could not be read: {type(error).__name__}") from error
        if left:
            raise Broken(Trouble.OURS, "the message is not as long as it was said to be")
        self._write(c.Text(held))
        return None

    async def logout(self) -> None:
        """Part politely; never raises."""
        if self._link.alive:
            try:
                self._write(c.Logout())
                await self._completed(GOODBYE_SECONDS)
            except (Broken, LocalProtocolError):
                self.log.debug("no goodbye from {host}", host=str(self.host))
            self.abort()

    def abort(self) -> None:
        """Drop the connection."""
        self._link.fail("aborted")

    # ---- below

    async def _needed(self, command: c.Command) -> None:
        """Without its OK there is no going on."""
        try:
            await self.ask(command)
        except Refused as refused:
            raise Broken(Trouble.PROTOCOL, f"{type(command).__name__.upper()} is refused: {refused}") from None

    async def _said(
        self, command: c.Command, heard: Callable[[Event], Awaitable[None]] | None = None, seconds: float | None = None
    ) -> c.Completed:
        self._write(command)
        return await self._completed(self._timeouts.reply, heard, seconds)

    async def _completed(
        self, timeout: float, heard: Callable[[Event], Awaitable[None]] | None = None, seconds: float | None = None
    ) -> c.Completed:
        clock, link = self._link.clock, self._link
        until = clock.seconds() + max(timeout, self._timeouts.command if seconds is None else seconds)
        while True:
            event = await self._heard(timeout)
            if isinstance(event, c.Completed):
                return event
            if clock.seconds() > until:
                link.fail("an answer that does not end")
            if isinstance(event, c.Wanted):
                self._write(c.Further())
            elif heard is not None:
                await heard(event)

    def _write(self, out: Any) -> None:
        try:
            self._link.write([out])
        except Gone as gone:
            raise self._broken(gone) from None

    async def _heard(self, timeout: float) -> Event:
        try:
            return await self._link.heard(timeout)
        except Gone as gone:
            raise self._broken(gone) from None

    def _here(self) -> Event | None:
        try:
            return self._link.said()
        except Gone as gone:
            raise self._broken(gone) from None

    async def _drained(self) -> None:
        try:
            await self._link.drained(self._timeouts.text)
        except Gone as gone:
            raise self._broken(gone) from None

    @staticmethod
    def _broken(gone: Gone) -> Broken:
        return Broken(Trouble.PROTOCOL if gone.violation else Trouble.LOST, gone.text)


def _in_thread(reactor: Any) -> Derived:
    async def derived(wanted: Derive) -> bytes:
        salted: bytes = await deferToThreadPool(reactor, reactor.getThreadPool(), wanted.salted)
        return salted

    return derived
