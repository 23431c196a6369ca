"""An SMTP connection that can be awaited: delivery and callforward speak through it.

MAIL, all RCPT and DATA go out in one write where PIPELINING is offered, and a message of less than 64 KiB goes in one write with its
final dot. Whoever gets ``Broken`` with ``certain`` false must take the hand-over for possible (rule 1).

A reply counts only for what was asked (rule 8a): a server that answers anything else is left, and what it said so far in that transaction is not
believed. A refusal that leaves the transaction open is believed once the RSET behind it is answered as such, for a stray line before it would have
moved all replies by one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from hornetmail.core.failover.verdict import Stage
from hornetmail.core.mail.address import in_a_labels
from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.net.clients.dial import Dialer, DialError
from hornetmail.net.clients.smtp_link import Gone, Link, LinkFactory
from hornetmail.net.tls import ClientTLS, TLSRefused, check_peer
from hornetmail.wire.engine import LocalProtocolError, Out
from hornetmail.wire.smtp.commands import (
    AuthLogin,
    AuthPlain,
    DataCommand,
    Dot,
    Ehlo,
    Helo,
    MailFrom,
    QuitCommand,
    RcptTo,
    Response,
    Rset,
    StartTLS,
    Text,
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


class SMTPClient:
    """A connection that was greeted, secured and logged in as wanted. One conversation at a time: await each call before the next."""

    log = Logger()

    def __init__(self, link: Link, host: Host, peer: str, timeouts: Timeouts) -> None:
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
            link, peer = await dialer.connect(host, LinkFactory(dialer.reactor), timeout=timeouts.connect)
        except DialError as error:
            if error.ours:
                raise Broken(Stage.LOCAL, Reply(451, "4.3.0", error.text)) from None
            if not error.resolved:
                # RFC 3463: X.1.2 is a name that leads nowhere, X.4.4 one that cannot be followed now.
                raise Broken(Stage.RESOLVE, Reply(451, "4.1.2" if error.permanent else "4.4.4", error.text)) from None
            raise Broken(Stage.CONNECT, Reply(451, "4.4.1", error.text)) from None
        if not isinstance(link, Link):
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
        except Gone as gone:
            raise self._broken(Stage.GREETING, gone) from None
        if not greeting.completed:
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
        if not reply.completed:
            raise Broken(Stage.EHLO, reply)

    async def _handshake(self, tls: TLSPolicy, context: ClientTLS) -> None:
        try:
            await self._link.start_tls(context.to(self.host.name, tls), self._timeouts.reply)
            if tls is TLSPolicy.VERIFY:
                check_peer(self._link.transport.getHandle(), self.host.name)
        except (Gone, TLSRefused) as error:
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
            raise Broken(Stage.AUTH, reply if not reply.intermediate else Reply(451, "4.7.0", f"AUTH does not end: {reply}"))

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
        """One transaction; an answer for each recipient, in order: the refusal of its RCPT, or what became of all the others (stage BODY: refused
        in the middle of the text). Raises Broken when the connection, the server's SMTP or our reading of ``chunks`` (stage LOCAL) fails on the way."""
        unfit = self._unfit(size, smtputf8)
        if unfit is not None:
            return [Answer(Stage.MAIL, unfit)] * len(recipients)
        mail = MailFrom(envelope_sender, size, eight_bit, smtputf8, ret, envid)
        replies = await self._envelope([mail, *map(RcptTo, recipients), DataCommand()])
        mail_reply, rcpts, data = replies[0], replies[1:-1], replies[-1]
        accepted = any(reply is not None and reply.completed for reply in rcpts)
        refused = mail_reply is None or not mail_reply.completed
        if refused and accepted:
            raise self._senseless(Stage.RCPT, "it accepts recipients of a mail whose sender it refused")
        if data is not None and data.intermediate:
            stage, verdict = await self._text(chunks, empty=not accepted)
            self.used += 1
            # Where replies are awaited one by one nothing else would show that a stray line came meanwhile.
            self._dirty = "PIPELINING" not in self.extensions
        elif any(reply is not None and reply.code == 421 for reply in replies):
            stage, verdict = Stage.DATA, data or _unsaid()
            self.abort()  # it closes the connection, or should
        else:
            stage, verdict = Stage.DATA, data or _unsaid()
            await self._in_step(Stage.MAIL if refused else Stage.DATA if accepted else Stage.RCPT)
        if refused:
            return [Answer(Stage.MAIL, mail_reply or _unsaid())] * len(recipients)
        return [
            Answer(stage, verdict) if reply is not None and reply.completed else Answer(Stage.RCPT, reply or _unsaid())
            for reply in rcpts
        ]

    async def ask(self, sender: str, address: str) -> Reply:
        """What the server says to a recipient (callforward), or that it cannot be asked for one that needs SMTPUTF8. Raises Broken, also when MAIL
        is refused: that says nothing of the recipient."""
        sender, address = in_a_labels(sender), in_a_labels(address)
        international = not (sender + address).isascii()
        unfit = self._unfit(0, international)
        if unfit is not None:
            return unfit
        mail, rcpt, _ = await self._envelope([MailFrom(sender, smtputf8=international), RcptTo(Recipient(address)), Rset()])
        if mail is None or not mail.completed:
            if rcpt is not None and rcpt.completed:
                raise self._senseless(Stage.RCPT, "it accepts a recipient of a mail whose sender it refused")
            raise Broken(Stage.MAIL, mail or _unsaid())
        return rcpt or _unsaid()

    async def quit(self) -> None:
        """Part politely; never raises."""
        link = self._link
        if link.alive:
            try:
                link.write([QuitCommand()])
                await link.expect(1, QUIT_SECONDS)
            except (Gone, LocalProtocolError):
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
            return Reply(550, "5.6.7", f"{self.host.name} does not take SMTPUTF8")
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
            link.write(outs)
            replies = await link.expect(len(outs) - 1, self._timeouts.reply)
            last = self._timeouts.data if stages[-1] is Stage.DATA else self._timeouts.reply
            return replies + await link.expect(1, last)
        except Gone as gone:
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
            refused = refused or (isinstance(out, MailFrom) and not reply.completed)
            accepted += isinstance(out, RcptTo) and reply.completed
        return replies

    async def _in_step(self, stage: Stage) -> None:
        """End a transaction without a text. Raises Broken if the server is seen to be out of step, so that no refusal of it can be believed; one
        that closes the connection or is silent instead is believed."""
        try:
            self._link.write([Rset()])
            await self._link.expect(1, self._timeouts.reply)
        except Gone as gone:
            if gone.violation is not None:
                raise self._broken(stage, gone) from None

    async def _text(self, chunks: AsyncIterator[bytes], *, empty: bool) -> tuple[Stage, Reply]:
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
            link.write([*gathered, Dot()])
            dotted = True
            (reply,) = await link.expect(1, timeouts.dot)
        except Gone as gone:
            if gone.interrupted is not None:
                return Stage.BODY, gone.interrupted
            if dotted and _repeated(gone):
                return Stage.DOT, gone.replies[0]
            raise self._broken(Stage.DOT if dotted else Stage.BODY, gone, certain=not dotted) from None
        except CancelledError:
            self.abort()
            raise
        except Exception as error:
            self.abort()
            self.log.failure("the message could not be read")
            raise Broken(Stage.LOCAL, Reply(451, "4.3.0", f"the message could not be read: {type(error).__name__}")) from error
        return Stage.DOT, reply

    async def _say(self, outs: list[Out], stage: Stage) -> list[Reply]:
        timeout = self._timeouts.data if stage is Stage.DATA else self._timeouts.reply
        try:
            self._link.write(outs)
            return await self._link.expect(len(outs), timeout)
        except Gone as gone:
            raise self._broken(stage, gone) from None

    def _broken(self, stage: Stage, gone: Gone, *, certain: bool = True) -> Broken:
        """421 is kept if that was the server's last word; everything else is told as a connection that we or the server closed."""
        if gone.violation is not None:
            return Broken(stage, _violated(stage, gone.text), certain=certain)
        if gone.last is not None and gone.last.code == 421:
            return Broken(stage, gone.last, certain=certain)
        return Broken(stage, Reply(421, "4.4.2", f"{gone.text} at {stage.value}"), certain=certain)

    def _senseless(self, stage: Stage, why: str) -> Broken:
        self.abort()
        return Broken(stage, _violated(stage, why))


_STAGES: dict[type[Out], Stage] = {MailFrom: Stage.MAIL, RcptTo: Stage.RCPT, DataCommand: Stage.DATA, Rset: Stage.MAIL}


def _violated(stage: Stage, what: str) -> Reply:
    """421, for the connection is closed: trouble of the server as a whole (``core.outage``)."""
    return Reply(421, "4.5.0", f"the server breaks the protocol at {stage.value}: {what}")


def _repeated(gone: Gone) -> bool:
    """Whether all it did was to say its verdict twice."""
    return (
        gone.violation is not None
        and gone.violation.reply is not None
        and len(gone.replies) == 1
        and gone.violation.reply.code // 100 == gone.replies[0].code // 100
    )


def _unsaid() -> Reply:
    return Reply(451, "4.3.0", "the command was not said")
