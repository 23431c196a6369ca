"""One SMTP transaction on its way into the queue.

A transaction becomes one queue message for each served domain that its recipients belong to, and one for all outside recipients under
the sender's domain: a queue message has one tenant, one domain, one direction (rule 25). They are committed side by side, so that one
sync covers them, and 250 needs all of them; if one fails the others are taken back as far as they have not been claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from hornetmail.core.delivery.queued import Message, RowState
from hornetmail.core.mail.envelope import Direction, Envelope, Origin, Recipient
from hornetmail.core.mail.received import loops
from hornetmail.core.mail.reply import Reply
from hornetmail.disk.files import DiskFull
from hornetmail.interfaces.body import IDeposit
from hornetmail.interfaces.queue import IQueue
from hornetmail.servers.header import HeaderScan
from hornetmail.wire.smtp.events import Mail

FULL = Reply(452, "4.3.1", "no room for mail now, come again")
FAILED = Reply(451, "4.3.0", "the message could not be stored, come again")


class Target(msgspec.Struct, frozen=True):
    """Where a recipient belongs."""

    tenant: int
    domain: str
    direction: Direction
    archive: bool


class Transaction:
    """From MAIL to the reply to the dot. ``recipients`` in the order of acceptance, each once."""

    log = Logger()

    def __init__(self, mail: Mail, queue: IQueue, *, submission: bool) -> None:
        self.mail = mail
        self.scan = HeaderScan(submission=submission)
        self.refusal: Reply | None = None
        self.began = False
        self.committing = False
        self._queue = queue
        self._targets: dict[str, tuple[Recipient, Target]] = {}
        self._deposits: list[tuple[Target, IDeposit]] = []

    @property
    def count(self) -> int:
        """Recipients accepted."""
        return len(self._targets)

    def add(self, key: str, recipient: Recipient, target: Target) -> None:
        """Accept a recipient; the same one again changes nothing."""
        self._targets.setdefault(key, (recipient, target))

    def begin(self) -> None:
        """The message is coming. Raises what the queue raises."""
        self.began = True
        for target in dict.fromkeys(target for _, target in self._targets.values()):
            self._deposits.append((target, self._queue.begin(target.tenant)))

    async def write(self, data: bytes) -> None:
        """A piece of it. Failures of ours are kept for the reply to the dot; the rest is then not stored."""
        if self.refusal is None and data:
            await self._store(self.scan.take(data))

    async def _store(self, data: bytes) -> None:
        if not data:
            return
        try:
            for _, deposit in self._deposits:
                await deposit.write(data)
        except CancelledError:
            await self.abort()
            raise
        except Exception as error:  # noqa: BLE001
            await self.fail(error)

    async def fail(self, error: BaseException) -> None:
        """Ours is the fault."""
        self.refusal = FULL if isinstance(error, DiskFull) else FAILED
        self.log.error("a message could not be stored: {error!r}", error=error)
        await self.abort()

    async def end(self) -> None:
        """All of it has come."""
        if self.refusal is None:
            await self._store(self.scan.finish())

    async def abort(self) -> None:
        """Forget it."""
        deposits, self._deposits = self._deposits, []
        for _, deposit in deposits:
            try:
                await deposit.abort()
            except Exception:  # noqa: BLE001
                self.log.failure("a deposit could not be aborted")

    def held(self, by: str, domains: Sequence[str]) -> dict[str, str]:
        """Domains whose mail comes round again (rule 7), with the recipient; ``domains`` are those whose primary is the client."""
        lines = self.scan.own_lines(by) if domains else []
        if not lines:
            return {}
        return {
            target.domain: recipient.address
            for recipient, target in self._targets.values()
            if target.domain in domains and loops(lines, recipient.address)
        }

    def addresses(self, target: Target) -> tuple[Recipient, ...]:
        """The recipients of one queue message."""
        return tuple(recipient for recipient, there in self._targets.values() if there is target or there == target)

    async def commit(self, origin: Origin, traces: dict[Target, bytes], held: dict[str, str]) -> list[Message]:
        """Durable on return. Raises what the queue raises; then nothing of it stays that is not already on its way."""
        self.committing = True
        if len(self._deposits) == 1:
            message = await self._commit(*self._deposits[0], origin, traces, held)
            self._deposits = []
            return [message]
        waits = [
            Deferred.fromCoroutine(self._commit(target, deposit, origin, traces, held)) for target, deposit in self._deposits
        ]
        results: list[tuple[bool, Any]] = await DeferredList(waits, consumeErrors=True)
        messages: list[Message] = [result for good, result in results if good]
        failures: list[Failure] = [result for good, result in results if not good]
        if failures:
            await self._withdraw(messages)
            await self.abort()
            failures[0].raiseException()
        self._deposits = []
        return messages

    async def _commit(
        self, target: Target, deposit: IDeposit, origin: Origin, traces: dict[Target, bytes], held: dict[str, str]
    ) -> Message:
        mail = self.mail
        envelope = Envelope(
            mail.sender,
            self.addresses(target),
            eight_bit=mail.eight_bit or self.scan.eight_bit,
            smtputf8=mail.smtputf8,
            ret=mail.ret,
            envid=mail.envid,
        )
        message: Message = await deposit.commit(
            envelope,
            origin,
            target.direction,
            traces[target],
            domain=target.domain,
            archive=target.archive,
            hold="loop" if target.domain in held else "",
        )
        return message

    @property
    def targets(self) -> list[Target]:
        """Of the queue messages that this becomes."""
        return [target for target, _ in self._deposits]

    async def _withdraw(self, messages: Sequence[Message]) -> None:
        for message in messages:
            rows = [row.id for _, row in await self._queue.rows(message=message.id)]
            await self._queue.change(rows, RowState.REMOVED, reason="another part of the transaction failed")
