"""The SMTP session: MX, relay, submission and LMTP doors.

It decides who may send and to whom, and hands the message to the queue. 250 to the dot is said only when the message is on disk; every
failure of ours is a 4xx. See ``smtp_policy`` for what tells the doors apart, ``smtp_transaction`` for what a transaction becomes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, cast

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hornetmail.access.login import AccessRefused
from hornetmail.core.delivery import full
from hornetmail.core.events import Alarm, MessageAccepted
from hornetmail.core.mail.address import domain_of, key_of
from hornetmail.core.mail.dates import rfc5322_date
from hornetmail.core.mail.envelope import Direction, Door, Origin, Recipient
from hornetmail.core.mail.received import Hop, received
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, OverQuota, Person
from hornetmail.interfaces.access import IAccess
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.meters import IMeters
from hornetmail.interfaces.portal import IPortal
from hornetmail.interfaces.queue import IQueue
from hornetmail.interfaces.recipients import IRecipients
from hornetmail.net.serving.pump import Answer, Result, Session, Wire
from hornetmail.servers.guessing import Guesses
from hornetmail.servers.relay import RelayNetworks
from hornetmail.servers.sasl import LogIn, mechanisms
from hornetmail.servers.smtp_policy import SMTPPolicy
from hornetmail.servers.smtp_transaction import FAILED, Target, Transaction
from hornetmail.wire.engine import Broken, Chunk, End, Event, Out
from hornetmail.wire.sasl import SASLError
from hornetmail.wire.smtp.events import (
    Accept,
    Auth,
    AuthResponse,
    Challenge,
    Data,
    Expand,
    Farewell,
    GoAhead,
    Greeting,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Refuse,
    Reset,
    StartTLS,
    Verify,
    Welcome,
)


class Services(msgspec.Struct, frozen=True):
    """What sessions of all doors share. ``clock.seconds()`` is Unix time."""

    queue: IQueue
    directory: IDirectory
    access: IAccess
    recipients: IRecipients
    portal: IPortal
    relay: RelayNetworks
    guesses: Guesses
    bus: IBus
    meters: IMeters
    clock: IReactorTime


def accept(code: int, enhanced: str, text: str) -> Accept:
    """A positive answer."""
    return Accept(Reply(code, enhanced, text))


def refuse(code: int, enhanced: str, text: str) -> Refuse:
    """A negative answer."""
    return Refuse(Reply(code, enhanced, text))


_SENDER_OK = accept(250, "2.1.0", "sender ok")
_RECIPIENT_OK = accept(250, "2.1.5", "recipient ok")
_RESET = accept(250, "2.0.0", "forgotten")
_OURS = Refuse(Reply(451, "4.3.0", "an error of ours, come again"))
_OK = accept(250, "2.0.0", "ok")
_TRY = accept(252, "2.5.0", "send mail, and see")
_NO_LISTS = refuse(502, "5.5.1", "lists are not expanded here")
_HELP = accept(214, "2.0.0", "RFC 5321; the extensions are in the answer to EHLO")
_BYE = accept(221, "2.0.0", "goodbye")
_RELAYING = refuse(550, "5.7.1", "relaying denied")


class SMTPSession(Session):
    """One connection at one door."""

    log = Logger()

    def __init__(self, policy: SMTPPolicy, services: Services) -> None:
        self._policy = policy
        self._services = services
        self._hello = Hello("", esmtp=False)
        self._person: Person | None = None
        self._exchange: LogIn | None = None
        self._transaction: Transaction | None = None
        self._sender_domain: Domain | None = None
        self._errors = 0
        self._refused = 0
        self._moot = 0
        self._odd = 0

    # ---- the pump's side

    def attach(self, wire: Wire) -> Result:
        """See Session."""
        self.wire = wire
        self._services.meters.count("smtp_connections", door=self._policy.door.value)
        return Greeting()

    def on(self, event: Event) -> Result:
        """See Session."""
        return _ANSWERS[type(event)](self, event)

    def failed(self, event: Event, failure: Failure) -> Answer:
        """Whatever we did wrong is a 4xx."""
        if isinstance(event, Chunk):
            if self._transaction is not None:
                self._transaction.refusal = FAILED
            return None
        if isinstance(event, End):
            self._drop()
        if isinstance(event, Hello):
            return Farewell(Reply(421, "4.3.0", "an error of ours, come again"))
        return _OURS

    def lost(self, reason: Failure) -> None:
        """See Session."""
        self._drop()

    def timed_out(self) -> Answer:
        """See Session."""
        self._drop()
        return Farewell(Reply(421, "4.4.2", f"{self._policy.hostname} waited long enough"))

    def goodbye(self) -> Answer:
        """See Session."""
        self._drop()
        return Farewell(Reply(421, "4.3.2", f"{self._policy.hostname} goes down, come again"))

    def busy(self) -> bool:
        """See Session."""
        return self._transaction is not None

    # ---- before mail

    def _on_hello(self, event: Hello) -> Result:
        self._drop()
        self._hello = event
        return Welcome(mechanisms(self._services.access, self.wire) if self._policy.auth else ())

    def _on_starttls(self, event: StartTLS) -> Result:
        self._drop()
        self._person = None
        self._hello = Hello("", esmtp=False)
        return accept(220, "2.0.0", "go ahead with TLS")

    def _on_auth(self, event: Auth) -> Result:
        try:
            self._exchange = LogIn(self._services.access, self.wire, self._policy.door.value, event.mechanism)
        except SASLError as error:
            return self._count_error(refuse(504, "5.5.4", str(error)))
        return self._step(event.initial)

    def _on_auth_response(self, event: AuthResponse) -> Result:
        return self._step(event.data)

    async def _step(self, response: bytes | None) -> Out:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return refuse(503, "5.5.1", "no exchange is under way")
        try:
            said = await exchange.step(response)
        except SASLError as error:
            return self._count_error(refuse(501, "5.5.2", str(error)))
        except AccessRefused as refused:
            self._services.meters.count("smtp_logins_refused", reason=refused.reason)
            if refused.reason == "throttled":
                return self._count_error(refuse(454, "4.7.0", "too many attempts, come again later"))
            return self._count_error(refuse(535, "5.7.8", "name or password is wrong"))
        except Exception:  # noqa: BLE001
            self.log.failure("a log-in failed for a reason of ours")
            return refuse(454, "4.7.0", "log-in is not possible now")
        if isinstance(said, bytes):
            self._exchange = exchange
            return Challenge(said)
        self._person = said
        self._errors = 0
        return accept(235, "2.7.0", "welcome")

    # ---- the envelope

    def _on_mail(self, event: Mail) -> Result:
        answer = self._mail(event)
        # What was pipelined behind a refused MAIL is moot, and no error of the client's (RFC 2920 section 3.1).
        self._moot = self._policy.max_recipients + 1 if isinstance(answer, Refuse) else 0
        return answer

    def _mail(self, event: Mail) -> Out:
        policy = self._policy
        if policy.tls_required and self.wire.tls is None:
            return refuse(530, "5.7.0", "start TLS first")
        if event.size > policy.max_size:
            return refuse(552, "5.3.4", f"at most {policy.max_size} bytes")
        refusal = self._refuse_sender(event.sender)
        if refusal is not None:
            self._services.meters.count("smtp_refused", door=policy.door.value, stage="mail")
            return refusal
        self._transaction = Transaction(event, self._services.queue, submission=policy.door is Door.SUBMISSION)
        return _SENDER_OK

    def _refuse_sender(self, sender: str) -> Refuse | None:
        """Who may send; sets the domain that outgoing mail belongs to."""
        directory = self._services.directory
        self._sender_domain = None
        if self._policy.door is Door.SUBMISSION:
            person = self._person
            if person is None:
                return refuse(530, "5.7.0", "log in first")
            if sender and key_of(sender) not in person.addresses:
                return refuse(553, "5.7.1", "that is not an address of yours")
            domain = directory.domain(domain_of(sender or person.address))
            if domain is None or not domain.active:
                return refuse(550, "5.7.1", "the domain of that address is not active")
            self._sender_domain = domain
        elif self._policy.door is Door.RELAY:
            allowed = self._services.relay.domains(self.wire.peer[0])
            if not allowed:
                return refuse(550, "5.7.1", "this address may not send here")
            if sender:
                own = directory.domain(domain_of(sender))
                allowed = tuple(domain for domain in allowed if own is not None and domain.name == own.name)
                if not allowed:
                    return refuse(550, "5.7.1", "this address may not send for that domain")
            self._sender_domain = allowed[0]
        return None

    def _on_rcpt(self, event: Rcpt) -> Result:
        transaction = self._transaction
        if transaction is None:
            return refuse(503, "5.5.1", "MAIL first")
        if transaction.count >= self._policy.max_recipients or (transaction.count and self._over()):
            return refuse(452, "4.5.3", "too many recipients, send the rest in a transaction of their own")
        recipient = event.recipient
        if "@" not in recipient.address:
            recipient = msgspec.structs.replace(recipient, address=f"postmaster@{self._home()}")
        domain = self._services.directory.domain(domain_of(recipient.address))
        if domain is None:
            answer = self._outside(transaction, recipient)
            return self._braked(answer) if isinstance(answer, Refuse) else answer
        if not domain.active and not domain.primaries:
            # With a primary, its mail passes (C11): the MX record may point here before and after the service is on.
            return self._braked(refuse(550, "5.7.1", "that domain is not active here"))
        if not self._policy.callforward:
            return self._take(transaction, recipient, domain)
        return self._verify(transaction, recipient, domain)

    def _home(self) -> str:
        """The domain whose postmaster takes mail to ``<postmaster>`` (RFC 5321 section 4.5.1): ours if it is served, else the first active one."""
        directory, hostname = self._services.directory, self._policy.hostname
        names = [domain.name for domain in directory.domains() if domain.active]
        return next((name for name in (hostname, hostname.partition(".")[2], *names) if name in names), hostname)

    def _outside(self, transaction: Transaction, recipient: Recipient) -> Out:
        """A recipient that is not ours: only for those who may relay."""
        sender = self._sender_domain
        if sender is None:
            self._services.meters.count("smtp_refused", door=self._policy.door.value, stage="rcpt")
            return _RELAYING
        target = Target(sender.tenant, sender.name, Direction.OUT, sender.archive)
        transaction.add(key_of(recipient.address), recipient, target)
        return _RECIPIENT_OK

    async def _verify(self, transaction: Transaction, recipient: Recipient, domain: Domain) -> Out:
        reply = await self._services.recipients.verify(recipient.address, transaction.mail.sender)
        if not reply.completed:
            self._services.meters.count("smtp_refused", door=self._policy.door.value, stage="rcpt")
            return await self._braked(Refuse(reply)) if reply.permanent else Refuse(reply)
        if not domain.primaries and await self._full(transaction, recipient, domain):
            self._services.meters.count("smtp_refused", door=self._policy.door.value, stage="rcpt")
            return Refuse(full.reply(domain.over_quota))
        return self._take(transaction, recipient, domain)

    async def _full(self, transaction: Transaction, recipient: Recipient, domain: Domain) -> bool:
        """Whether the mailbox has no room for a message as large as its sender says, if that is to be said before it comes: people's mail programs would not
        try again later, the queue does. If it cannot be found out, the message is taken; it is measured once more when it is delivered."""
        if self._policy.door is Door.SUBMISSION and domain.over_quota is OverQuota.DEFER:
            return False
        mailbox = self._services.directory.mailbox(recipient.address)
        if mailbox is None:
            return False
        try:
            return not await self._services.portal.room(mailbox.id, max(transaction.mail.size, 1))
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001
            self.log.failure("it could not be found out whether the mailbox of {address} is full", address=recipient.address)
            return False

    # ---- guesses

    def _over(self) -> bool:
        return self._refused > 0 and self._services.guesses.over(self.wire.peer[0], self._refused)

    async def _braked(self, answer: Refuse) -> Out:
        """A recipient was refused for good. Strangers get that answer later each time, and after too many of them 421, or, with recipients
        accepted before, 452 for the rest: what is good of a message goes through."""
        services, peer = self._services, self.wire.peer[0]
        if self._policy.door is not Door.MX or services.relay.trusted(peer):
            return answer
        self._refused += 1
        services.guesses.refused(peer)
        seconds = services.guesses.delay(peer, self._refused)
        if seconds:
            await deferLater(cast(Any, services.clock), seconds)
        if not self._over():
            return answer
        services.meters.count("smtp_guesses_stopped", door=self._policy.door.value)
        if self._transaction is not None and self._transaction.count:
            return answer
        self._drop()
        return Farewell(Reply(421, "4.7.0", "too many unknown recipients, come again later"))

    def _take(self, transaction: Transaction, recipient: Recipient, domain: Domain) -> Out:
        sender = self._sender_domain
        inside = sender is not None and sender.tenant == domain.tenant
        direction = Direction.INTERNAL if inside else Direction.IN
        transaction.add(key_of(recipient.address), recipient, Target(domain.tenant, domain.name, direction, domain.archive))
        return _RECIPIENT_OK

    # ---- the message

    def _on_data(self, event: Data) -> Result:
        if not event.recipients or self._transaction is None:
            return refuse(554, "5.5.1", "no valid recipients")
        self._transaction.begin()
        return GoAhead()

    def _on_chunk(self, event: Chunk) -> Result:
        transaction = self._transaction
        if transaction is None or not event.data or transaction.refusal is not None:
            return None
        return transaction.write(event.data)

    def _on_end(self, event: End) -> Result:
        return self._finish()

    async def _finish(self) -> Out:
        transaction = self._transaction
        if transaction is None:
            return _OURS
        try:
            await transaction.end()
            refusal = transaction.refusal
            if refusal is None and transaction.scan.hops() > self._policy.max_received:
                refusal = Reply(554, "5.4.6", "too many Received lines, the message loops")
            if refusal is not None:
                await transaction.abort()
                return Refuse(refusal)
            return await self._commit(transaction)
        except Exception as error:  # noqa: BLE001
            await transaction.fail(error)
            return Refuse(transaction.refusal or FAILED)
        finally:
            self._transaction = None

    async def _commit(self, transaction: Transaction) -> Out:
        services, policy = self._services, self._policy
        identifier = secrets.token_hex(8)
        origin = Origin(
            policy.door,
            peer=self.wire.peer[0],
            helo=self._hello.name,
            login=self._person.address if self._person is not None else "",
            tls=self.wire.tls is not None,
            trusted=policy.door is Door.RELAY,
        )
        primaries = [domain.name for domain in services.relay.domains(origin.peer)]
        held = transaction.held(policy.hostname, primaries)
        traces = {target: self._trace(transaction, target, identifier) for target in transaction.targets}
        messages = await transaction.commit(origin, traces, held)
        for message in messages:
            services.bus.publish(
                MessageAccepted(message.id, message.domain, policy.door is Door.RELAY and message.direction is Direction.OUT)
            )
        for domain, address in held.items():
            services.bus.publish(Alarm("loop", f"mail for {address} came back from the primary and is held", domain))
        services.meters.count("smtp_accepted", door=policy.door.value)
        self._errors = self._refused = 0
        services.guesses.accepted(origin.peer, transaction.count)
        self.log.info(
            "accepted {id} from {peer} as {messages}, {size} bytes",
            id=identifier,
            peer=origin.peer,
            messages=[message.id for message in messages],
            size=messages[0].size,
        )
        return accept(250, "2.0.0", f"accepted as {identifier}")

    def _trace(self, transaction: Transaction, target: Target, identifier: str) -> bytes:
        """The header lines that we put in front: Received, and for submitted mail what RFC 6409 section 8 lets us add."""
        wire, scan = self.wire, transaction.scan
        hop = Hop(
            helo=self._hello.name,
            peer=wire.peer[0],
            by=self._policy.hostname,
            id=identifier,
            at=self._services.clock.seconds(),
            esmtp=self._hello.esmtp,
            tls=wire.tls is not None,
            authenticated=self._person is not None,
            lmtp=self._policy.door is Door.LMTP,
            smtputf8=transaction.mail.smtputf8,
            cipher=f"{wire.tls.version} {wire.tls.cipher}".strip() if wire.tls is not None else "",
        )
        addresses = transaction.addresses(target)
        alone = (addresses[0].address,) if transaction.count == 1 else ()
        trace = received(hop, alone)
        if scan.submission:
            if not scan.has(b"date"):
                trace += f"Date: {rfc5322_date(hop.at)}\r\n".encode()
            if not scan.has(b"message-id"):
                trace += f"Message-ID: <{identifier}@{self._policy.hostname}>\r\n".encode()
        return trace + scan.bridge

    # ---- the rest

    def _on_reset(self, event: Reset) -> Result:
        self._drop()
        return _RESET

    def _on_broken(self, event: Broken) -> Result:
        if self._transaction is not None and self._transaction.began:
            self._drop()
        answer = cast(Refuse, event.suggested)
        if event.command in ("RCPT", "DATA") and answer.reply.code == 503 and self._moot > 0:
            self._moot -= 1
            return answer
        if event.command == "MAIL":
            self._moot = self._policy.max_recipients + 1
        if event.command == "RCPT" and self._transaction is not None and self._odd < self._policy.max_recipients:
            # An address that cannot be: the others of this message may be good. It tells nothing to those who guess.
            self._odd += 1
            return answer
        return self._count_error(answer)

    def _count_error(self, answer: Refuse) -> Out:
        self._errors += 1
        if self._errors >= self._policy.max_errors:
            self._drop()
            return Farewell(Reply(421, "4.7.0", "too many errors"))
        return answer

    def _drop(self) -> None:
        """Forget the transaction, unless it is being committed: then it is ours already."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None and transaction.began and not transaction.committing:
            aborting = Deferred.fromCoroutine(transaction.abort())
            aborting.addErrback(lambda failure: self.log.failure("a transaction could not be aborted", failure))


_ANSWERS: dict[type[Event], Callable[[SMTPSession, Any], Result]] = {
    Hello: SMTPSession._on_hello,
    StartTLS: SMTPSession._on_starttls,
    Auth: SMTPSession._on_auth,
    AuthResponse: SMTPSession._on_auth_response,
    Mail: SMTPSession._on_mail,
    Rcpt: SMTPSession._on_rcpt,
    Data: SMTPSession._on_data,
    Chunk: SMTPSession._on_chunk,
    End: SMTPSession._on_end,
    Reset: SMTPSession._on_reset,
    Broken: SMTPSession._on_broken,
    Noop: lambda session, event: _OK,
    Verify: lambda session, event: _TRY,
    Expand: lambda session, event: _NO_LISTS,
    Help: lambda session, event: _HELP,
    Quit: lambda session, event: _BYE,
}
