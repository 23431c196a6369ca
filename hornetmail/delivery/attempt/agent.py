"""One delivery attempt for one message: walks each recipient's couriers and records what came of it (steps 3 to 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.address import domain_of
from hornetmail.core.backoff import Backoff
from hornetmail.core.bounce import Bounce
from hornetmail.core.envelope import Door
from hornetmail.core.events import RecipientSettled
from hornetmail.core.mode import Mode
from hornetmail.core.queued import Claim, Message, Row, RowKind, RowState, Settled, WaitsFor
from hornetmail.core.reply import Reply
from hornetmail.core.route import ARCHIVE, PRIMARY, Last, Route, route, waits_for_primary
from hornetmail.core.turn import is_uncertain
from hornetmail.core.verdict import Outcome, Verdict
from hornetmail.delivery.attempt.evidence import Evidence
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.delivery.couriers.archive import ArchiveCourier
from hornetmail.delivery.couriers.portal import Placed
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.outage.modes import Modes
from hornetmail.delivery.tasks import together
from hornetmail.interfaces import IBody, IBus, ICourier, IDirectory, IMeters, IQueue

QUICK_LOOKS = 3
QUICK_LOOK = 0.5
"""An archive row whose message is just being delivered to others looks again that many times after that many seconds."""


Ended = tuple[Row, Verdict]


class Group(msgspec.Struct, frozen=True):
    """Rows of one message that begin with the same courier to the same domain, each with its own route."""

    domain: str
    rows: tuple[Row, ...]
    routes: dict[int, Route]

    def couriers(self, row: Row, place: int) -> str:
        """The courier at that place of a row's route, ``""`` behind its end."""
        names = self.routes[row.id].couriers
        return names[place] if place < len(names) else ""


class Agent:
    """``born(domain)`` is told when a portal copy was made while its domain is not in emergency, so that none is overlooked,
    ``uncertain(domain)`` when an uncertain one was, whose turn has to be watched for."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        directory: IDirectory,
        modes: Modes,
        evidence: Evidence,
        couriers: Mapping[str, ICourier],
        archive: ArchiveCourier,
        notices: Notices,
        bus: IBus,
        meters: IMeters,
        backoff: Backoff,
        jitter: Callable[[], float],
        expect: Callable[[float], None],
        born: Callable[[str], None],
        uncertain: Callable[[str], None],
        unrecorded: Unrecorded,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self._modes = modes
        self._evidence = evidence
        self._couriers = couriers
        self._archive = archive
        self._notices = notices
        self._bus = bus
        self._meters = meters
        self._backoff = backoff
        self._jitter = jitter
        self._expect = expect
        self._born = born
        self._uncertain = uncertain
        self._unrecorded = unrecorded

    def next_due(self, row: Row) -> float:
        """When the attempt after the one about to start is due, which ``row`` counts already; durable before anybody is dialled."""
        return self._clock.seconds() + self._backoff.delay(row.attempts, self._jitter())

    def _again(self, row: Row) -> float:
        due = self._clock.seconds() + self._backoff.delay(max(row.attempts, 1), self._jitter())
        self._expect(due)
        return due

    # -- recipients

    async def run(self, claim: Claim) -> None:
        """An attempt for claimed DELIVER rows. Each ends with a record in the queue, whatever goes wrong."""
        message = claim.message
        try:
            body = await self._queue.body(message.id)
            groups = self._groups(message, claim.rows)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - a fault of ours delays the message and never loses it
            self.log.failure("attempt for message {message} could not start", message=message.id)
            await self._queue.settle([Settled(row.id, RowState.QUEUED, row.last, self._again(row)) for row in claim.rows])
            return
        await together(self._attempt(message, group, body) for group in groups)

    def _groups(self, message: Message, rows: Sequence[Row]) -> list[Group]:
        found: dict[tuple[str, str], list[tuple[Row, Route]]] = {}
        for row in rows:
            name = domain_of(row.address)
            domain = self._directory.domain(name)
            mode = self._modes.mode(domain.name) if domain else Mode.NORMAL
            registered = self._directory.mailbox(row.address) if domain else None
            covered = self._directory.covered(row.address) if domain else None
            way = route(domain, registered, covered, mode, notice=message.origin.door is Door.NOTICE)
            found.setdefault((name, way.couriers[0] if way.couriers else ""), []).append((row, way))
        return [
            Group(name, tuple(row for row, _ in members), {row.id: way for row, way in members})
            for (name, _), members in found.items()
        ]

    async def _attempt(self, message: Message, group: Group, body: IBody) -> None:
        left: Sequence[Row] = group.rows
        try:
            silent, failed, late = self._sorted(group, await self._walk(message, group, body))
            if silent:
                settled = [self._outcome(group, row, verdict) for row, verdict in silent]
                await self._record(message, group, silent, settled)
            left = [row for row, _ in (*failed, *late)]
            if left:
                # It may take a while to find out whether a sender may be told. Nobody got these: no second copies, if we die over it.
                self._unrecorded.recorded([row.id for row in group.rows])
                await self._tell(message, group, failed, late)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - see run
            self.log.failure("attempt for message {message} to {domain} failed", message=message.id, domain=group.domain)
            await self._queue.settle([Settled(row.id, RowState.QUEUED, row.last, self._again(row)) for row in left])
        finally:
            self._unrecorded.recorded([row.id for row in group.rows])

    async def _walk(self, message: Message, group: Group, body: IBody) -> list[tuple[Row, Verdict]]:
        """Courier after courier until each row has its verdict; unavailable means the next one, now (C20), unless the mail is kept."""
        ended = [(row, _nowhere(group.routes[row.id])) for row in group.rows if not group.couriers(row, 0)]
        left = [row for row in group.rows if group.couriers(row, 0)]
        place = 0
        while left:
            by_courier: dict[str, list[Row]] = {}
            for row in left:
                by_courier.setdefault(group.couriers(row, place), []).append(row)
            left = []
            for name, rows in by_courier.items():
                for row, verdict in await self._try(name, message, rows, body):
                    onward = not verdict.final and verdict.unavailable and bool(group.couriers(row, place + 1))
                    if onward and not waits_for_primary(group.routes[row.id], verdict, row.last):
                        # Once uncertain, the primary may have it, whatever it says later: the portal's copy is a marked one.
                        left.append(row if is_uncertain(row) else msgspec.structs.replace(row, last=verdict))
                    else:
                        ended.append((row, verdict))
            place += 1
        return ended

    async def _try(self, name: str, message: Message, rows: Sequence[Row], body: IBody) -> list[tuple[Row, Verdict]]:
        verdicts = await self._couriers[name].deliver(message, rows, body)
        tried = []
        for row in rows:
            verdict = verdicts[row.id]
            if name == PRIMARY:
                verdict = await self._evidence.weigh(row.address, message, verdict)
            self._meters.count("delivery_attempts", courier=name, outcome=str(verdict.outcome))
            tried.append((row, verdict))
        return tried

    def _name(self, domain: str) -> str:
        served = self._directory.domain(domain)
        return served.name if served else domain

    # -- records

    def _sorted(self, group: Group, ended: Sequence[Ended]) -> tuple[list[Ended], list[Ended], list[Ended]]:
        """Those of whom nobody is told, those who failed, and those who are late."""
        silent: list[Ended] = []
        failed: list[Ended] = []
        late: list[Ended] = []
        for row, verdict in ended:
            retried = not verdict.final and group.routes[row.id].last is Last.RETRY
            if verdict.outcome is Outcome.FAILED:
                failed.append((row, verdict))
            elif retried and self._backoff.over(row.worked):
                failed.append((row, self._given_up(verdict)))
            elif retried and self._backoff.is_late(row.worked, row.delay_told):
                late.append((row, verdict))
            else:
                silent.append((row, verdict))
        return silent, failed, late

    async def _tell(self, message: Message, group: Group, failed: Sequence[Ended], late: Sequence[Ended]) -> None:
        """Bounces and notices first (their request IDs make them once), then the rows in one transition."""
        bounce, why = await self._notices.failed(message, failed) if failed else (Bounce.NONE, "")
        told = await self._notices.delayed(message, late) if late else False
        settled = [self._failure(row, verdict, bounce, why) for row, verdict in failed]
        settled += [self._outcome(group, row, verdict, told=told) for row, verdict in late]
        await self._record(message, group, (*failed, *late), settled)

    async def _record(self, message: Message, group: Group, ended: Sequence[Ended], settled: Sequence[Settled]) -> None:
        """Everything in one transition, then whoever has to hear of it."""
        await self._queue.settle(settled)
        if any(each.waits_for is WaitsFor.PRIMARY for each in settled) and self._modes.mode(group.domain) is Mode.EMERGENCY:
            # The emergency began while the primary was being asked: adoption (L4) passed over what was under way.
            await self._queue.adopt(self._name(group.domain), self._clock.seconds())
        if (
            any(each.drain is not None and each.due == 0 for each in settled)
            and self._modes.mode(group.domain) is not Mode.EMERGENCY
        ):
            # The emergency ended while the copy was being made: it must not be overlooked.
            self._born(self._name(group.domain))
        if any(each.drain is not None and each.drain.uncertain and each.due for each in settled):
            self._uncertain(self._name(group.domain))
        for row, verdict in ended:
            self._bus.publish(RecipientSettled(message.id, row.id, self._name(group.domain), _plain(verdict)))
            self.log.info(
                "message {message} for <{address}>: {outcome} by {courier} ({reply})",
                message=message.id,
                address=row.address,
                outcome=str(verdict.outcome),
                courier=verdict.courier or "nobody",
                reply=str(verdict.reply),
            )

    def _given_up(self, verdict: Verdict) -> Verdict:
        days = self._backoff.give_up / 86400
        reply = Reply(
            verdict.reply.code, verdict.reply.enhanced, f"given up after {days:g} days; the last answer: {verdict.reply}"
        )
        return Verdict(Outcome.FAILED, reply, verdict.courier, verdict.stage, verdict.host)

    def _failure(self, row: Row, verdict: Verdict, bounce: Bounce, why: str) -> Settled:
        if bounce is Bounce.HOLD:
            return Settled(
                row.id,
                RowState.HELD,
                verdict,
                reason=f"failed ({verdict.reply}), and no bounce: {why}",
                delay_told=row.delay_told,
            )
        if bounce is Bounce.LATER:
            reason = f"failed ({verdict.reply}), and not yet known whether a bounce may go out: {why}"
            last = row.last if is_uncertain(row) else verdict
            return Settled(row.id, RowState.QUEUED, last, self._again(row), reason=reason, delay_told=row.delay_told)
        return Settled(row.id, RowState.FAILED, verdict, reason=why, delay_told=row.delay_told)

    def _outcome(self, group: Group, row: Row, verdict: Verdict, *, told: bool = False) -> Settled:
        way = group.routes[row.id]
        if verdict.outcome is Outcome.DELIVERED:
            copy = verdict.copy if isinstance(verdict, Placed) and way.drains else None
            due = 0.0
            if copy is not None and self._modes.mode(group.domain) is not Mode.EMERGENCY:
                # The primary may have an uncertain one already: it goes last, when its turn comes (rule 1).
                wait = self._backoff.patience() if copy.uncertain else self._backoff.delay(1, self._jitter())
                due = self._clock.seconds() + wait
                self._expect(due)
            return Settled(row.id, RowState.DELIVERED, _plain(verdict), due, copy, delay_told=row.delay_told)
        if way.last is Last.PARK:
            return Settled(
                row.id, RowState.PARKED, verdict, reason=way.why, delay_told=row.delay_told, waits_for=WaitsFor.MAILBOX
            )
        reason = waits_for_primary(way, verdict, row.last)
        waits_for = WaitsFor.PRIMARY if reason else WaitsFor.NOTHING
        if is_uncertain(row) and verdict.outcome is Outcome.DEFERRED and row.last is not None:
            verdict = row.last
        told = told or row.delay_told
        return Settled(row.id, RowState.QUEUED, verdict, self._again(row), reason=reason, delay_told=told, waits_for=waits_for)

    async def give_up(self, rows: Sequence[int], reason: str) -> int:
        """Administration: end the deliveries named and tell their senders. Where rule 6 forbids that, the
        message is held and shown; ``delete`` is the word for ending it in silence. How many ended."""
        ended = 0
        # Held rows cannot be claimed; parked ones can, and nobody else does.
        await self._queue.change(rows, RowState.PARKED, reason=reason)
        for claim in await self._queue.claim_rows(rows, self._clock.seconds(), self.next_due):
            verdict = Verdict(Outcome.FAILED, Reply(554, "5.0.0", reason), "")
            failed = [(row, verdict) for row in claim.rows if row.kind is RowKind.DELIVER]
            others = [row for row in claim.rows if row.kind is not RowKind.DELIVER]
            bounce, why = await self._notices.failed(claim.message, failed, wait=False) if failed else (Bounce.NONE, "")
            settled = [self._failure(row, verdict, bounce, why) for row, _ in failed]
            settled += [Settled(row.id, RowState.QUEUED, row.last, self._clock.seconds(), reason=row.reason) for row in others]
            await self._queue.settle(settled)
            ended += len(failed) if bounce is not Bounce.HOLD else 0
        return ended

    # -- archive rows

    async def archive(self, claim: Claim) -> None:
        """An attempt for a message's ARCHIVE row: stages it, and comes back for recipients that are still under way."""
        message = claim.message
        settled: list[Settled] = []
        for row in claim.rows:
            try:
                settled.append(await self._archive_row(message, row))
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - see run
                self.log.failure("archive row {row} failed", row=row.id)
                settled.append(Settled(row.id, RowState.QUEUED, row.last, self._again(row), reason=row.reason))
        await self._queue.settle(settled)

    async def _archive_row(self, message: Message, row: Row) -> Settled:
        now = self._clock.seconds()
        standing = await self._archive.standing(message)
        if not standing.entitled and not standing.pending:
            return Settled(row.id, RowState.REMOVED, None, reason="nobody in the service's scope got it (A20)")
        if row.attempts <= QUICK_LOOKS and any(each.state is RowState.CLAIMED for each in standing.pending):
            # Most recipients of one message are delivered within a second: one record for all of them is cheaper.
            self._expect(now + QUICK_LOOK)
            return Settled(row.id, RowState.QUEUED, row.last, now + QUICK_LOOK, reason=row.reason)
        body = await self._queue.body(message.id)
        verdict = await self._archive.stage(message, row, standing, body)
        self._meters.count("delivery_attempts", courier=ARCHIVE, outcome=str(verdict.outcome))
        if verdict.outcome is not Outcome.DELIVERED:
            return Settled(row.id, RowState.QUEUED, verdict, self._again(row), reason=row.reason)
        if not standing.pending:
            return Settled(row.id, RowState.DELIVERED, verdict, staged=standing.staged)
        # Those still under way are united with the record when they got it.
        soonest = min((each.due for each in standing.pending if each.due > now), default=now + self._backoff.ceiling)
        due = min(soonest + 30.0, now + self._backoff.ceiling)
        self._expect(due)
        return Settled(row.id, RowState.QUEUED, verdict, due, staged=standing.staged)


def _nowhere(way: Route) -> Verdict:
    """For a route without couriers."""
    if way.last is Last.FAIL:
        return Verdict(Outcome.FAILED, Reply(550, "5.1.1", way.why), "")
    return Verdict(Outcome.DEFERRED, Reply(451, "4.2.1", way.why), "")


def _plain(verdict: Verdict) -> Verdict:
    return verdict.plain() if isinstance(verdict, Placed) else verdict
