"""One message to one destination over the pool, and what its answers mean as verdicts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from hornetmail.core.envelope import Recipient
from hornetmail.core.reply import Reply
from hornetmail.core.served import Host
from hornetmail.core.verdict import Outcome, Stage, Verdict
from hornetmail.delivery.connections.pool import Destination
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.net.smtp import Answer, Broken, SMTPClient


class Load(msgspec.Struct, frozen=True):
    """What goes over: the reverse-path, the recipients, ``chunks`` that starts the same bytes anew each time it is called, and the ``rows``
    that record what becomes of it."""

    sender: str
    recipients: tuple[Recipient, ...]
    chunks: Callable[[], AsyncIterator[bytes]]
    size: int
    eight_bit: bool = False
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    rows: tuple[int, ...] = ()


async def prefixed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """``first``, then the rest: our trace headers in front of the exact bytes received."""
    if first:
        yield first
    async for chunk in rest:
        yield chunk


async def hand_over(destination: Destination, load: Load, courier: str) -> list[Verdict]:
    """A verdict for each recipient, in order. Recipients that the server wants in a transaction of their own (452 4.5.3 after
    an accepted one, RFC 5321 section 4.5.3.1.10) get it; those that one host defers at MAIL or RCPT are given to the next one
    (section 5.1). Never raises for what the destination does."""
    verdicts: dict[int, Verdict] = {}
    unrecorded = destination.unrecorded
    left = list(range(len(load.recipients)))
    deferred: list[int] = []
    tried: set[Host] = set()
    deferring: set[Host] = set()
    while left:
        chosen = [load.recipients[at] for at in left]
        again: list[int] = []
        try:
            host, answers = await destination.exchange(lambda client, to=chosen: _send(client, load, to, unrecorded), tried)  # type: ignore[misc]
        except Broken as error:
            for at in left:
                # What a host said before is nearer to the truth than that another one is away.
                if at not in verdicts or not error.certain:
                    verdicts[at] = verdict_of_broken(error, courier)
            answers = []
        else:
            took_some = any(answer.reply.positive or answer.stage is not Stage.RCPT for answer in answers)
            for at, answer in zip(left, answers, strict=True):
                if took_some and _too_many(answer):
                    again.append(at)
                    continue
                verdicts[at] = verdict_of(answer, courier, str(host))
                if answer.reply.transient and answer.stage in (Stage.MAIL, Stage.RCPT) and not answer.uncertain:
                    deferred.append(at)
                    deferring.add(host)
        left = again
        if not left and answers:
            tried |= deferring
            if not tried.issuperset(destination.hosts):
                left, deferred = deferred, []
        if left and unrecorded is not None:
            # It will want a connection again: those who have one must not wait for it.
            unrecorded.recorded(load.rows)
    return [verdicts[at] for at in range(len(load.recipients))]


async def _gated(client: SMTPClient, load: Load, unrecorded: Unrecorded) -> AsyncIterator[bytes]:
    """The text; it ends, and the final dot follows, when what the connection carried before is recorded (rule 11)."""
    async for chunk in load.chunks():
        yield chunk
    await unrecorded.before_dot(client, load.rows)


async def _send(
    client: SMTPClient, load: Load, recipients: Sequence[Recipient], unrecorded: Unrecorded | None
) -> tuple[Host, list[Answer]]:
    fresh = client.used == 0
    answers = await client.send(
        load.sender,
        recipients,
        load.chunks() if unrecorded is None else _gated(client, load, unrecorded),
        size=load.size,
        eight_bit=load.eight_bit,
        smtputf8=load.smtputf8,
        ret=load.ret,
        envid=load.envid,
    )
    first = answers[0]
    if not fresh and all(a.reply.code == 421 and not a.uncertain and a.stage is not Stage.DOT for a in answers):
        # 421 closes the connection: on a reused one that is an error before the final dot (rule 2).
        raise Broken(first.stage, first.reply)
    return client.host, answers


def _too_many(answer: Answer) -> bool:
    return answer.stage is Stage.RCPT and answer.reply.code == 452 and answer.reply.enhanced in ("", "4.5.3")


def verdict_of(answer: Answer, courier: str, host: str) -> Verdict:
    """What one answer means. 4xx is unavailability in the sense of C20."""
    if answer.uncertain:
        return Verdict(Outcome.UNCERTAIN, answer.reply, courier, Stage.DOT, host, unavailable=True)
    if answer.reply.permanent:
        return Verdict(Outcome.FAILED, answer.reply, courier, answer.stage, host)
    if answer.reply.transient:
        return Verdict(Outcome.DEFERRED, answer.reply, courier, answer.stage, host, unavailable=True)
    return Verdict(Outcome.DELIVERED, answer.reply, courier, answer.stage, host)


def verdict_of_broken(error: Broken, courier: str, host: str = "") -> Verdict:
    """A connection that never came about or broke. 5xx at connect, EHLO, STARTTLS or AUTH is unavailability too (rule 4)."""
    if not error.certain:
        return Verdict(Outcome.UNCERTAIN, error.reply, courier, Stage.DOT, host, unavailable=True)
    if error.stage is Stage.LOCAL:
        # Our own reading failed: nobody there is to blame.
        return Verdict(Outcome.DEFERRED, error.reply, courier, Stage.LOCAL, host)
    reply = error.reply
    if not reply.transient:
        reply = Reply(451, "4.4.1", f"the server said at {error.stage}: {error.reply}")
    return Verdict(Outcome.DEFERRED, reply, courier, error.stage, host, unavailable=True)
