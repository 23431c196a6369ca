"""One message to one destination over the pool, and what its answers mean as verdicts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import msgspec
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from hornetmail.core.delivery.route import PRIMARY
from hornetmail.core.failover import outage
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Host
from hornetmail.delivery.connections.pool import Destination
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.delivery.couriers.fitting import Chunks, Fit, Text, fit
from hornetmail.net.clients.smtp import Answer, Broken, SMTPClient

log = Logger()


class Load(msgspec.Struct, frozen=True):
    """What goes over: the reverse-path, the recipients, the ``rows`` that record what becomes of each, and ``chunks`` that starts the same bytes anew
    each time it is called. ``smtputf8``: what was declared when it came."""

    sender: str
    recipients: tuple[Recipient, ...]
    rows: tuple[int, ...]
    chunks: Callable[[], AsyncIterator[bytes]]
    size: int
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


async def prefixed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """``first``, then the rest: our trace headers in front of the exact bytes received."""
    if first:
        yield first
    async for chunk in rest:
        yield chunk


async def hand_over(destination: Destination, load: Load, courier: str, verdicts: dict[int, Verdict]) -> None:
    """A verdict for each row, in ``verdicts`` by its ID as soon as it is known. Recipients that the server wants in a transaction of their own
    (452 4.5.3 after an accepted one, RFC 5321 section 4.5.3.1.10) get it; those that one host defers at MAIL or RCPT are given to the next one
    (section 5.1). Never raises for what the destination does; raising or cancelled in a later transaction it leaves what earlier ones brought, but
    for rows whose final dot went out anew."""
    text = Text(load.chunks)
    unrecorded = destination.unrecorded
    left = list(range(len(load.recipients)))
    deferred: list[int] = []
    tried: set[Host] = set()
    deferring: set[Host] = set()
    while left:
        chosen = [load.recipients[at] for at in left]
        again: list[int] = []
        try:
            job = partial(_send, load=load, text=text, recipients=chosen, unrecorded=unrecorded, courier=courier)
            host, answers = await destination.exchange(job, tried)
        except Broken as error:
            for at in left:
                # What a host said before is nearer to the truth than that another one is away.
                if load.rows[at] not in verdicts or not error.certain:
                    verdicts[load.rows[at]] = verdict_of_broken(error, courier)
            answers = []
        except BaseException:
            for row in [load.rows[at] for at in left]:
                if unrecorded is None or unrecorded.waits(row):
                    verdicts.pop(row, None)
            raise
        else:
            took_some = any(answer.reply.completed or answer.stage is not Stage.RCPT for answer in answers)
            for at, answer in zip(left, answers, strict=True):
                if took_some and _too_many(answer):
                    again.append(at)
                    continue
                verdicts[load.rows[at]] = verdict_of(answer, courier, str(host))
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


async def _gated(client: SMTPClient, load: Load, chunks: Chunks, unrecorded: Unrecorded) -> AsyncIterator[bytes]:
    """The text; it ends, and the final dot follows, when what the connection carried before is recorded (rule 11)."""
    async for chunk in chunks():
        yield chunk
    await unrecorded.before_dot(client, load.rows)


async def _fitted(client: SMTPClient, load: Load, text: Text, recipients: Sequence[Recipient]) -> Fit:
    """Raises Broken (stage LOCAL) if the message cannot be read."""
    server = client.host.name
    try:
        return await fit(text, load.sender, recipients, load.size, client.extensions, server, smtputf8=load.smtputf8)
    except CancelledError:
        raise
    except Exception as error:
        log.failure("the message could not be read")
        reply = Reply(451, "4.3.0", f"the message could not be read: {type(error).__name__}")
        raise Broken(Stage.LOCAL, reply) from error


async def _send(
    client: SMTPClient, load: Load, text: Text, recipients: Sequence[Recipient], unrecorded: Unrecorded | None, courier: str
) -> tuple[Host, list[Answer]]:
    fresh = client.used == 0
    fitted = await _fitted(client, load, text, recipients)
    found = {at: Answer(Stage.MAIL, reply) for at, reply in fitted.refusals.items()}
    if fitted.recipients:
        said = await client.send(
            fitted.sender,
            tuple(fitted.recipients.values()),
            fitted.chunks() if unrecorded is None else _gated(client, load, fitted.chunks, unrecorded),
            size=fitted.size,
            eight_bit=fitted.eight_bit,
            smtputf8=fitted.smtputf8,
            ret=load.ret,
            envid=load.envid,
        )
        found.update(zip(fitted.recipients, said, strict=True))
    answers = [_about_this_mail(found[at], courier) for at in range(len(recipients))]
    first = answers[0]
    if not fresh and all(a.reply.code == 421 and not a.uncertain and a.stage is not Stage.DOT for a in answers):
        # 421 closes the connection: on a reused one that is an error before the final dot (rule 2).
        raise Broken(first.stage, first.reply)
    return client.host, answers


def _about_this_mail(answer: Answer, courier: str) -> Answer:
    """A refusal of the session, or of us by a primary, is trouble of the server as a whole (421): another host, or a fresh connection, may do better."""
    barred = courier == PRIMARY and answer.stage in (Stage.MAIL, Stage.RCPT) and outage.bars_us(answer.reply)
    if answer.uncertain or not (barred or outage.is_of_the_session(answer.reply)):
        return answer
    text = f"the server refuses {'us' if barred else 'the session'} and not this mail, at {answer.stage}: {answer.reply}"
    return msgspec.structs.replace(answer, reply=Reply(421, "4.5.0", text))


def _too_many(answer: Answer) -> bool:
    return answer.stage is Stage.RCPT and answer.reply.code == 452 and answer.reply.enhanced in ("", "4.5.3")


def verdict_of(answer: Answer, courier: str, host: str) -> Verdict:
    """What one answer means. 4xx is unavailability in the sense of C20. Delivered is what got 2xx after its final dot, and nothing else (rule 8a)."""
    if answer.uncertain:
        return Verdict(Outcome.UNCERTAIN, answer.reply, courier, Stage.DOT, host, unavailable=True)
    if answer.reply.permanent:
        return Verdict(Outcome.FAILED, answer.reply, courier, answer.stage, host)
    if answer.reply.transient:
        return Verdict(Outcome.DEFERRED, answer.reply, courier, answer.stage, host, unavailable=True)
    if answer.stage is not Stage.DOT or not answer.reply.completed:
        reply = Reply(421, "4.5.0", f"no verdict on the message, at {answer.stage}: {answer.reply}")
        return Verdict(Outcome.DEFERRED, reply, courier, answer.stage, host, unavailable=True)
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
