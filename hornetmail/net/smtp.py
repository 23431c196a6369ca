"""An SMTP connection that can be awaited: delivery and callforward speak through it.

MAIL, all RCPT and DATA go out in one write where PIPELINING is offered, and a message of less than 64 KiB goes in one write with its
final dot. Whoever gets ``Broken`` with ``certain`` false must take the hand-over for possible (rule 1).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from hornetmail.core.envelope import Recipient
from hornetmail.core.reply import Reply
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.core.verdict import Stage
from hornetmail.net.dial import Dialer, DialError
from hornetmail.net.tls import ClientTLS, TLSRefused, check_peer
from hornetmail.wire.engine import NEED_DATA, Event, LocalProtocolError, Lost, Out, TLSPeer
from hornetmail.wire.smtp.client import (
    AuthLogin,
    AuthPlain,
    ClientEngine,
    DataCommand,
    Dot,
    Ehlo,
    Greeted,
    Helo,
    MailFrom,
    QuitCommand,
    RcptTo,
    Replied,
    Response,
    Rset,
    StartTLS,
    Text,
    Violation,
)

ONE_WRITE_BYTES = 65_536
"""Messages smaller than this go out in one write with their final dot."""

QUIT_SECONDS = 5.0
"""Nobody waits longer for the answer to QUIT."""


class Timeouts(msgspec.Struct, frozen=True, gc=False):
    """Seconds (rule 1). ``data``: for 354, and for the peer to take a piece of text; ``dot``: for the verdict."""

    connect: float = 10.0
    reply: float = 60.0
    data: float = 120.0
    dot: float = 600.0


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What became of one recipient, and at which stage that was said."""

    stage: Stage
    reply: Reply
    uncertain: bool = False


class Broken(Exception):
    """The conversation failed as a whole. ``reply`` is the server's if it said one, else a synthetic 4xx; ``certain`` is false once the
    final dot was sent: the server may have the message."""

    def __init__(self, stage: Stage, reply: Reply, *, certain: bool = True) -> None:
        super().__init__(f"{stage.value}: {reply}")
        self.stage = stage
        self.reply = reply
        self.certain = certain


class _Gone(Exception):
    """The connection ended while a reply was awaited; ``replies`` came before."""

    def __init__(self, text: str, replies: Sequence[Reply], last: Reply | None) -> None:
        super().__init__(text)
        self.text = text
        self.replies = replies
        self.last = last


@implementer(IPushProducer, IHandshakeListener)
class _Link(Protocol):
    """The connection itself: engine, replies that are awaited, flow control."""

    log = Logger()
    transport: Any

    def __init__(self, reactor: Any) -> None:
        self.engine = ClientEngine()
        self.alive = True
        self.why = ""
        self.last: Reply | None = None
        self.on_lost: Callable[[], None] | None = None
        self._reactor = reactor
        self._replies: list[Reply] = []
        self._need = 0
        self._wait: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._paused = False
        self._drain: Deferred[None] | None = None
        self._handshake: Deferred[None] | None = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self.engine.receive(data)
        while self.alive and not self.engine.upgrade:
            step = self.engine.next_event()
            if step is NEED_DATA:
                return
            self._event(step)

    def _event(self, step: Any) -> None:
        if isinstance(step, (Greeted, Replied)):
            self.last = step.reply
            self._replies.append(step.reply)
            if self._timer is not None:
                self._timer.reset(self._timeout)
            if self._wait is not None and len(self._replies) >= self._need:
                self._fire(None)
        elif isinstance(step, Violation):
            self.last = step.reply or self.last
            self.fail(step.reply.text if step.reply is not None else step.reason)
        elif isinstance(step, (Event, Lost)):
            self.fail("connection lost")

    def _fire(self, error: BaseException | None) -> None:
        wait, self._wait = self._wait, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait is not None:
            if error is None:
                wait.callback(None)
            else:
                wait.errback(error)

    def fail(self, why: str) -> None:
        """The connection is of no use any more."""
        if self.alive:
            self.alive = False
            self.why = why
            self.transport.abortConnection()
            self._ended()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        if self.alive:
            self.alive = False
            value = reason.value
            self.why = "the TLS handshake failed" if isinstance(value, SSL.Error) else "connection lost"
            self._ended()

    def _ended(self) -> None:
        error = _Gone(self.why, tuple(self._replies), self.last)
        self._fire(error)
        for waiting in (self._drain, self._handshake):
            if waiting is not None and not waiting.called:
                waiting.errback(error)
        self._drain = self._handshake = None
        if self.on_lost is not None:
            self.on_lost()

    # ---- sending and waiting

    def write(self, outs: Sequence[Out]) -> None:
        """Commands and text, in one write."""
        self.transport.write(b"".join(map(self.engine.send, outs)))

    async def expect(self, count: int, timeout: float) -> list[Reply]:
        """The next replies; ``timeout`` seconds between any two. Raises _Gone."""
        if not self.alive:
            raise _Gone(self.why, tuple(self._replies), self.last)
        if len(self._replies) < count:
            self._need = count
            self._timeout = timeout
            self._wait = Deferred(lambda _: self.fail("cancelled"))
            self._timer = self._reactor.callLater(timeout, self._slow)
            await self._wait
        replies, self._replies = self._replies[:count], self._replies[count:]
        return replies

    def _slow(self) -> None:
        self._timer = None
        self.last = None
        self.fail(f"no answer within {self._timeout:g} s")

    async def drained(self, timeout: float) -> None:
        """Until the transport takes more. Raises _Gone."""
        if not self.alive:
            raise _Gone(self.why, (), self.last)
        if self._paused:
            self._drain = Deferred()
            timer = self._reactor.callLater(timeout, lambda: self.fail(f"the text was not taken within {timeout:g} s"))
            try:
                await self._drain
            finally:
                if timer.active():
                    timer.cancel()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        drain, self._drain = self._drain, None
        if drain is not None:
            drain.callback(None)

    def stopProducing(self) -> None:
        self._paused = True

    # ---- TLS

    async def start_tls(self, creator: Any, timeout: float) -> None:
        """Handshake. Raises _Gone."""
        self._handshake = Deferred()
        timer = self._reactor.callLater(timeout, lambda: self.fail("the TLS handshake took too long"))
        self.transport.startTLS(creator)
        try:
            await self._handshake
        finally:
            if timer.active():
                timer.cancel()

    def handshakeCompleted(self) -> None:
        handle = self.transport.getHandle()
        self.engine.tls_started(TLSPeer(handle.get_protocol_version_name(), handle.get_cipher_name() or ""))
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.callback(None)


class _LinkFactory(Factory):
    noisy = False

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def buildProtocol(self, addr: Any) -> _Link:
        return _Link(self._reactor)


class SMTPClient:
    """A connection that was greeted, secured and logged in as wanted. One conversation at a time: await each call before the next."""

    log = Logger()

    def __init__(self, link: _Link, host: Host, peer: str, timeouts: Timeouts) -> None:
        self.host = host
        self.peer = peer
        self.used = 0
        self._link = link
        self._timeouts = timeouts
        self._dirty = False

    @property
    def alive(self) -> bool:
        """Whether it may be used for a further message."""
        return self._link.alive

    @property
    def extensions(self) -> dict[str, str]:
        """What EHLO offered: keyword in capitals to parameters."""
        return self._link.engine.extensions

    @property
    def tls(self) -> bool:
        """Whether it is encrypted."""
        return self._link.engine.tls

    @classmethod
    async def connect(
        cls,
        dialer: Dialer,
        host: Host,
        *,
        hello: str,
        tls: TLSPolicy,
        login: tuple[str, str] | None = None,
        timeouts: Timeouts = Timeouts(),
        client_tls: ClientTLS | None = None,
    ) -> SMTPClient:
        """A connection ready for mail. Port 465 is TLS from the start. With ``MAY``, a failed handshake is followed by one attempt in the
        clear. Passwords are sent without TLS only under ``NONE``. Raises Broken for everything that goes wrong, replies kept."""
        context = client_tls or ClientTLS()
        client = await cls._dial(dialer, host, timeouts)
        try:
            await client._open(hello, tls, context)
        except Broken as error:
            client.abort()
            if tls is not TLSPolicy.MAY or error.stage is not Stage.TLS or host.port == 465:
                raise
            client = await cls._dial(dialer, host, timeouts)
            await client._guarded(client._open(hello, TLSPolicy.NONE, context))
        if login is not None:
            await client._guarded(client._login(login, tls))
        return client

    @classmethod
    async def _dial(cls, dialer: Dialer, host: Host, timeouts: Timeouts) -> SMTPClient:
        try:
            link, peer = await dialer.connect(host, _LinkFactory(dialer.reactor), timeout=timeouts.connect)
        except DialError as error:
            if not error.resolved:
                raise Broken(Stage.RESOLVE, Reply(451, "4.4.4", error.text)) from None
            raise Broken(Stage.CONNECT, Reply(451, "4.4.1", error.text)) from None
        if not isinstance(link, _Link):
            raise TypeError("the dialer answered with a foreign protocol")
        return cls(link, host, peer, timeouts)

    async def _guarded(self, step: Any) -> None:
        try:
            await step
        except BaseException:
            self.abort()
            raise

    # ---- opening

    async def _open(self, hello: str, tls: TLSPolicy, context: ClientTLS) -> None:
        link = self._link
        if self.host.port == 465 and tls is not TLSPolicy.NONE:
            await self._handshake(tls, context)
        try:
            (greeting,) = await link.expect(1, self._timeouts.reply)
        except _Gone as gone:
            raise self._broken(Stage.GREETING, gone) from None
        if not greeting.positive:
            raise Broken(Stage.GREETING, greeting)
        await self._hello(hello)
        if tls is TLSPolicy.NONE or link.engine.tls:
            return
        if "STARTTLS" not in self.extensions:
            if tls is TLSPolicy.VERIFY:
                raise Broken(Stage.TLS, Reply(451, "4.7.4", "TLS is required, and STARTTLS is not offered"))
            return
        (reply,) = await self._say([StartTLS()], Stage.TLS)
        if reply.code != 220:
            if tls is TLSPolicy.VERIFY:
                raise Broken(Stage.TLS, reply)
            return
        await self._handshake(tls, context)
        await self._hello(hello)

    async def _hello(self, hello: str) -> None:
        (reply,) = await self._say([Ehlo(hello)], Stage.EHLO)
        if reply.permanent:
            (reply,) = await self._say([Helo(hello)], Stage.EHLO)
        if not reply.positive:
            raise Broken(Stage.EHLO, reply)

    async def _handshake(self, tls: TLSPolicy, context: ClientTLS) -> None:
        try:
            await self._link.start_tls(context.to(self.host.name, tls), self._timeouts.reply)
            if tls is TLSPolicy.VERIFY:
                check_peer(self._link.transport.getHandle(), self.host.name)
        except (_Gone, TLSRefused) as error:
            raise Broken(Stage.TLS, Reply(451, "4.7.5", str(error))) from None

    async def _login(self, login: tuple[str, str], tls: TLSPolicy) -> None:
        mechanisms = self.extensions.get("AUTH", "").split()
        if not self._link.engine.tls and tls is not TLSPolicy.NONE:
            raise Broken(Stage.AUTH, Reply(451, "4.7.0", "no TLS: the password is not sent in the clear"))
        if "PLAIN" in mechanisms:
            (reply,) = await self._say([AuthPlain(*login)], Stage.AUTH)
        elif "LOGIN" in mechanisms:
            (reply,) = await self._say([AuthLogin()], Stage.AUTH)
            for word in login:
                if reply.code == 334:
                    (reply,) = await self._say([Response(word.encode())], Stage.AUTH)
        else:
            raise Broken(Stage.AUTH, Reply(451, "4.7.0", "neither AUTH PLAIN nor AUTH LOGIN is offered"))
        if reply.code != 235:
            raise Broken(Stage.AUTH, reply if not reply.positive else Reply(451, "4.7.0", f"unexpected answer to AUTH: {reply}"))

    # ---- mail

    async def send(
        self,
        envelope_sender: str,
        recipients: Sequence[Recipient],
        chunks: AsyncIterator[bytes],
        *,
        size: int,
        eight_bit: bool,
        smtputf8: bool,
        ret: str = "",
        envid: str = "",
    ) -> list[Answer]:
        """One transaction; an answer for each recipient, in order: the refusal of its RCPT, or what became of all the others. Raises Broken
        when the connection or our reading of ``chunks`` (stage LOCAL) fails on the way."""
        unfit = self._unfit(size, smtputf8)
        if unfit is not None:
            return [Answer(Stage.MAIL, unfit)] * len(recipients)
        mail = MailFrom(envelope_sender, size, eight_bit, smtputf8, ret, envid)
        replies = await self._envelope([mail, *map(RcptTo, recipients), DataCommand()])
        mail_reply, rcpts, data = replies[0], replies[1:-1], replies[-1]
        if data is not None and data.code == 354:
            verdict: Reply | None = await self._text(chunks, empty=not any(r is not None and r.positive for r in rcpts))
            stage = Stage.DOT
            self.used += 1
        else:
            self._dirty = True
            verdict, stage = data, Stage.DATA
        if mail_reply is None or not mail_reply.positive:
            return [Answer(Stage.MAIL, mail_reply or _unsaid())] * len(recipients)
        return [
            Answer(Stage.RCPT, reply or _unsaid()) if reply is None or not reply.positive else Answer(stage, verdict or _unsaid())
            for reply in rcpts
        ]

    async def ask(self, sender: str, address: str) -> Reply:
        """What the server says to a recipient (callforward). Raises Broken, also when MAIL is refused: that says nothing of the recipient."""
        mail, rcpt, _ = await self._envelope([MailFrom(sender), RcptTo(Recipient(address)), Rset()])
        if mail is None or not mail.positive:
            raise Broken(Stage.MAIL, mail or _unsaid())
        return rcpt or _unsaid()

    async def quit(self) -> None:
        """Part politely; never raises."""
        link = self._link
        if link.alive:
            try:
                link.write([QuitCommand()])
                await link.expect(1, QUIT_SECONDS)
            except (_Gone, LocalProtocolError):
                self.log.debug("no goodbye from {host}", host=str(self.host))
            self.abort()

    def abort(self) -> None:
        """Drop the connection."""
        self._link.fail("aborted")

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call when the connection ends, whoever ends it; at once if it has."""
        if self._link.alive:
            self._link.on_lost = callback
        else:
            callback()

    def _unfit(self, size: int, smtputf8: bool) -> Reply | None:
        """Why the server cannot take the message, known from its extensions."""
        if smtputf8 and "SMTPUTF8" not in self.extensions:
            return Reply(553, "5.6.7", f"{self.host.name} does not take SMTPUTF8")
        limit = self.extensions.get("SIZE", "")
        if limit.isascii() and limit.isdigit() and 0 < int(limit) < size:
            return Reply(552, "5.3.4", f"{self.host.name} takes at most {limit} bytes")
        return None

    async def _envelope(self, outs: list[Out]) -> list[Reply | None]:
        """MAIL, RCPTs and what follows: pipelined if possible. Without pipelining, commands that make no sense any more are not said:
        their reply is None."""
        if self._dirty:
            outs = [Rset(), *outs]
        stages = [_STAGES[type(out)] for out in outs]
        if "PIPELINING" in self.extensions:
            replies: list[Reply | None] = list(await self._pipelined(outs, stages))
        else:
            replies = await self._one_by_one(outs, stages)
        if self._dirty:
            replies = replies[1:]
            self._dirty = False
        return replies

    async def _pipelined(self, outs: list[Out], stages: list[Stage]) -> list[Reply]:
        link = self._link
        replies: list[Reply] = []
        try:
            if not link.alive:
                raise _Gone(link.why, (), None)
            link.write(outs)
            replies = await link.expect(len(outs) - 1, self._timeouts.reply)
            last = self._timeouts.data if stages[-1] is Stage.DATA else self._timeouts.reply
            return replies + await link.expect(1, last)
        except _Gone as gone:
            said = len(replies) + len(gone.replies)
            raise self._broken(stages[min(said, len(stages) - 1)], gone) from None

    async def _one_by_one(self, outs: list[Out], stages: list[Stage]) -> list[Reply | None]:
        replies: list[Reply | None] = []
        refused, accepted = False, 0
        for out, stage in zip(outs, stages, strict=True):
            if (refused and not isinstance(out, Rset)) or (isinstance(out, DataCommand) and not accepted):
                replies.append(None)
                continue
            (reply,) = await self._say([out], stage)
            replies.append(reply)
            refused = refused or (isinstance(out, MailFrom) and not reply.positive)
            accepted += isinstance(out, RcptTo) and reply.positive
        return replies

    async def _text(self, chunks: AsyncIterator[bytes], *, empty: bool) -> Reply:
        """The message and its verdict; with ``empty`` only the dot, because nobody is to get it (RFC 2920 section 3.1)."""
        link, timeouts = self._link, self._timeouts
        dotted = False
        gathered: list[Out] = []
        size = 0
        try:
            if not empty:
                async for chunk in chunks:
                    gathered.append(Text(chunk))
                    size += len(chunk)
                    if size >= ONE_WRITE_BYTES:
                        link.write(gathered)
                        gathered, size = [], 0
                        await link.drained(timeouts.data)
            if not link.alive:
                raise _Gone(link.why, (), link.last)
            link.write([*gathered, Dot()])
            dotted = True
            (reply,) = await link.expect(1, timeouts.dot)
        except _Gone as gone:
            raise self._broken(Stage.DOT if dotted else Stage.BODY, gone, certain=not dotted) from None
        except CancelledError:
            self.abort()
            raise
        except LocalProtocolError:
            raise self._broken(Stage.BODY, _Gone(link.why or "connection lost", (), link.last)) from None
        except Exception as error:
            self.abort()
            self.log.failure("the message could not be read")
            raise Broken(Stage.LOCAL, Reply(451, "4.3.0", f"the message could not be read: {type(error).__name__}")) from error
        return reply

    async def _say(self, outs: list[Out], stage: Stage) -> list[Reply]:
        timeout = self._timeouts.data if stage is Stage.DATA else self._timeouts.reply
        try:
            if not self._link.alive:
                raise _Gone(self._link.why, (), None)
            self._link.write(outs)
            return await self._link.expect(len(outs), timeout)
        except _Gone as gone:
            raise self._broken(stage, gone) from None

    def _broken(self, stage: Stage, gone: _Gone, *, certain: bool = True) -> Broken:
        """421 is kept if that was the server's last word; everything else is told as a lost connection."""
        if gone.last is not None and gone.last.code == 421:
            return Broken(stage, gone.last, certain=certain)
        return Broken(stage, Reply(421, "4.4.2", f"{gone.text} at {stage.value}"), certain=certain)


_STAGES: dict[type[Out], Stage] = {MailFrom: Stage.MAIL, RcptTo: Stage.RCPT, DataCommand: Stage.DATA, Rset: Stage.MAIL}


def _unsaid() -> Reply:
    return Reply(451, "4.3.0", "the command was not said")
