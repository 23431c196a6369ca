"""One delivery attempt for one message: walks each recipient's couriers and records what came of it (steps 3 to 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from hornetmail.core.delivery.queued import Claim, Message, Row, RowKind, RowState, Settled, WaitsFor
from hornetmail.core.delivery.route import PORTAL, PRIMARY, Last, Route, route, waits_for_primary
from hornetmail.core.delivery.turn import counted, is_uncertain
from hornetmail.core.events import Alarm, RecipientSettled
from hornetmail.core.failover import outage
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.address import domain_of
from hornetmail.core.mail.bounce import Bounce
from hornetmail.core.mail.envelope import Door
from hornetmail.core.mail.reply import Reply
from hornetmail.delivery.attempt.evidence import Evidence
from hornetmail.delivery.attempt.ground import Ground, Retry
from hornetmail.delivery.attempt.record import Record
from hornetmail.delivery.attempt.underway import Underway
from hornetmail.delivery.couriers.portal import Placed
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.tasks import Tasks, together
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.courier import ICourier
from hornetmail.spool.disk.errors import BodyLost

OUR_TROUBLE = "trouble of our own"

UNANSWERED = "delivery-unanswered"

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


class Walk(msgspec.Struct):
    """A group on its way. ``ended``: whose verdict is known and not put on record yet; ``left``: everybody else's row, as it goes to its next courier;
    ``heard``: what the courier before that one said of it."""

    group: Group
    ended: list[Ended]
    left: dict[int, Row]
    heard: dict[int, Verdict]

    def end(self, row: Row, verdict: Verdict) -> None:
        """This row's verdict is known."""
        self.left.pop(row.id, None)
        self.ended.append((row, verdict))

    def take_delivered(self) -> list[Ended]:
        """Those whose record waits for nothing and nobody."""
        taken = [each for each in self.ended if each[1].outcome is Outcome.DELIVERED]
        self.ended = [each for each in self.ended if each[1].outcome is not Outcome.DELIVERED]
        return taken

    def cut(self) -> list[Ended]:
        """It ends here and now: what is known of each row, whatever might have come after it."""
        return [*self.ended, *((row, self.heard[row.id]) for row in self.left.values() if row.id in self.heard)]


class Agent:
    """``copied(domain, uncertain)`` is told when a portal copy was made that nobody waits for yet: one whose domain is not in emergency (any
    more), so that none is overlooked, or an uncertain one, whose turn has to be watched for."""

    log = Logger()

    def __init__(
        self,
        ground: Ground,
        record: Record,
        retry: Retry,
        evidence: Evidence,
        couriers: Mapping[str, ICourier],
        notices: Notices,
        underway: Underway,
        copied: Callable[[str, bool], None],
    ) -> None:
        self._ground = ground
        self._record = record
        self._retry = retry
        self._evidence = evidence
        self._couriers = couriers
        self._notices = notices
        self._underway = underway
        self._copied = copied
        self._tasks = Tasks(ground.clock)

    async def stop(self, grace: float) -> None:
        """Let what follows from recorded verdicts be done."""
        await self._tasks.stop(grace)

    async def run(self, claim: Claim) -> None:
        """An attempt for claimed DELIVER rows. Each ends with a record in the queue, whatever goes wrong; what a cancelled one did not come to
        know stays claimed, and is taken back as after a crash (``home/recovery.py``)."""
        message = claim.message
        try:
            body = await self._ground.queue.body(message.id)
            groups = self._groups(message, claim.rows)
        except CancelledError:
            raise
        except BodyLost as error:
            await self._lost(message, claim.rows, error)
            return
        except Exception:  # noqa: BLE001 - a fault of ours delays the message and never loses it
            self.log.failure("attempt for message {message} could not start", message=message.id)
            await self._record.put([self._as_it_was(row) for row in claim.rows])
            return
        await together(self._attempt(message, group, body) for group in groups)

    def _as_it_was(self, row: Row) -> Settled:
        due, told, why = self._retry.again(row), row.delay_told, row.reason
        return Settled(row.id, RowState.QUEUED, row.last, due, reason=why, delay_told=told, waits_for=row.waits_for)

    def _groups(self, message: Message, rows: Sequence[Row]) -> list[Group]:
        directory = self._ground.directory
        found: dict[tuple[str, str], list[tuple[Row, Route]]] = {}
        for row in rows:
            name = domain_of(row.address)
            domain = directory.domain(name)
            mode = self._ground.modes.mode(domain.name) if domain else Mode.NORMAL
            registered = directory.mailbox(row.address) if domain else None
            covered = directory.covered(row.address) if domain else None
            way = route(domain, registered, covered, mode, notice=message.origin.door is Door.NOTICE)
            if self._retry.is_hopeless(row) and PORTAL in way.couriers:
                # The primary never says that it has it, and the portal did not take it so far: whatever comes next comes from there (rule 11).
                way = msgspec.structs.replace(way, couriers=(PORTAL,))
            found.setdefault((name, way.couriers[0] if way.couriers else ""), []).append((row, way))
        return [
            Group(name, tuple(row for row, _ in members), {row.id: way for row, way in members})
            for (name, _), members in found.items()
        ]

    async def _attempt(self, message: Message, group: Group, body: IBody) -> None:
        walk = Walk(group, [], {row.id: row for row in group.rows}, {})
        try:
            await self._walk(message, walk, body)
        except CancelledError:
            self._put_without_telling(message, group, walk.cut())
            raise
        except Exception:  # noqa: BLE001 - see run
            self.log.failure("attempt for message {message} to {domain} failed", message=message.id, domain=group.domain)
            for row in list(walk.left.values()):
                if row.id in walk.heard:
                    walk.end(row, walk.heard[row.id])
                else:
                    verdict = self._unanswered(row, "")
                    walk.end(counted(row, verdict), verdict)
        ours = [each for each in walk.ended if each[1].courier and _is_ours(each[1])]
        if not ours:
            await self._conclude(message, group, walk.ended)
            return
        # The others' verdicts do not wait until a body is read to its end.
        known = {row.id for row, _ in ours}
        others = [each for each in walk.ended if each[0].id not in known]
        await together([self._conclude(message, group, others), self._ours(message, group, ours, body)])

    async def _ours(self, message: Message, group: Group, ended: Sequence[Ended], body: IBody) -> None:
        """Those whose delivery failed by a fault of ours: their message may be lost."""
        try:
            lost = await self._is_lost(body)
        except CancelledError:
            self._put_without_telling(message, group, ended)
            raise
        if lost is not None:
            await self._lost(message, [row for row, _ in ended], lost)
        else:
            await self._conclude(message, group, ended)

    async def _walk(self, message: Message, walk: Walk, body: IBody) -> None:
        """Courier after courier until each row has its verdict; unavailable means the next one, now (C20), unless the mail waits for the primary."""
        group = walk.group
        for row in group.rows:
            if row.waits_for is WaitsFor.NOTICE and row.last is not None:
                walk.end(row, row.last)
            elif not group.couriers(row, 0):
                walk.end(row, _nowhere(group.routes[row.id]))
        place = 0
        while walk.left:
            by_courier: dict[str, list[Row]] = {}
            for row in walk.left.values():
                by_courier.setdefault(group.couriers(row, place), []).append(row)
            for name, rows in by_courier.items():
                for row, verdict in await self._try(name, message, walk, rows, body):
                    onward = not verdict.final and verdict.unavailable and bool(group.couriers(row, place + 1))
                    if onward and not waits_for_primary(group.routes[row.id], verdict, row.last):
                        # Once uncertain, the primary may have it, whatever it says later: the portal's copy is a marked one.
                        walk.left[row.id] = row if is_uncertain(row) else msgspec.structs.replace(row, last=verdict)
                        walk.heard[row.id] = verdict
                    else:
                        walk.end(row, verdict)
                if walk.left and (known := walk.take_delivered()):
                    # What these others' next courier takes its time for is nothing that a verdict waits for (rule 8b).
                    self._put(message, group, known, [self._outcome(group, *each) for each in known])
            place += 1

    async def _try(self, name: str, message: Message, walk: Walk, rows: Sequence[Row], body: IBody) -> list[Ended]:
        """Each row's verdict. Should a courier fail by a fault of ours, that is no answer, and no verdict on the primary. Cancelled, it leaves in
        ``walk`` what the courier said by then: of the others of these rows nobody knows."""
        verdicts: dict[int, Verdict] = {}
        try:
            try:
                await self._couriers[name].deliver(message, rows, body, verdicts)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - a fault of ours
                self.log.failure("courier {name} failed with message {message}", name=name, message=message.id)
            tried = await together(self._weighed(name, message, row, verdicts.get(row.id)) for row in rows)
        except CancelledError:
            for row in rows:
                walk.left.pop(row.id)
                if row.id in verdicts:
                    walk.end(counted(row, verdicts[row.id]), verdicts[row.id])
            raise
        for _, verdict in tried:
            self._ground.meters.count("delivery_attempts", courier=name, outcome=str(verdict.outcome))
        return tried

    async def _weighed(self, name: str, message: Message, row: Row, verdict: Verdict | None) -> Ended:
        if verdict is None:
            verdict = self._unanswered(row, name)
        elif name == PRIMARY:
            verdict = await self._evidence.weigh(row.address, message, verdict)
        return counted(row, verdict), verdict

    def _unanswered(self, row: Row, courier: str) -> Verdict:
        """For a row of which a fault of ours left no answer: it may have arrived, if the final dot was on its way (rules 1 and 11)."""
        if self._record.was_offered(row.id):
            reply = Reply(451, "4.4.2", f"{OUR_TROUBLE} after the final dot")
            return Verdict(Outcome.UNCERTAIN, reply, courier, Stage.DOT, unavailable=True)
        return Verdict(Outcome.DEFERRED, Reply(451, "4.3.0", OUR_TROUBLE), courier, Stage.LOCAL)

    # -- what becomes of them

    def _sorted(self, message: Message, group: Group, ended: Sequence[Ended]) -> tuple[list[Ended], list[Ended], list[Ended]]:
        """Those of whom nobody is told, those who failed, and those who are late."""
        backoff = self._retry.backoff
        silent: list[Ended] = []
        failed: list[Ended] = []
        late: list[Ended] = []
        for row, verdict in ended:
            retried = not verdict.final and group.routes[row.id].last is Last.RETRY
            if verdict.outcome is Outcome.FAILED:
                failed.append((row, verdict))
            elif retried and backoff.over(row.worked):
                failed.append((row, self._given_up(verdict)))
            elif self._stays_silent(row, verdict) and message.origin.door is Door.NOTICE:
                failed.append((row, self._unanswered_so_often(row, verdict)))  # a letter of ours that was there, most likely
            elif self._stays_silent(row, verdict):
                silent.append((row, verdict))  # whether it is late, or was there five times, nobody can tell its sender
            elif retried and backoff.is_late(row.worked, row.delay_told):
                late.append((row, verdict))
            else:
                silent.append((row, verdict))
        return silent, failed, late

    def _stays_silent(self, row: Row, verdict: Verdict) -> bool:
        """Time and again the final dot was taken and not answered: each further attempt is one more copy in somebody's mailbox (rule 11)."""
        return verdict.outcome is Outcome.UNCERTAIN and self._retry.is_hopeless(row)

    async def _conclude(self, message: Message, group: Group, ended: Sequence[Ended]) -> None:
        silent, failed, late = self._sorted(message, group, ended)
        tried = self._put(message, group, silent, [self._outcome(group, row, verdict) for row, verdict in silent])
        if failed or late:
            # It may take a while to find out whether a sender may be told. Nobody got these: no second copies, if we die over it.
            self._record.nothing_given([row.id for row, _ in (*failed, *late)])
            try:
                settled = await self._told(message, group, failed, late)
            except CancelledError:
                self._put_without_telling(message, group, (*failed, *late))
                raise
            await self._put(message, group, (*failed, *late), settled)
        await tried

    async def _told(self, message: Message, group: Group, failed: Sequence[Ended], late: Sequence[Ended]) -> list[Settled]:
        """Bounces and notices first (their request IDs make them once), then the rows. What of them is trouble of ours is told later."""
        settled: list[Settled] = []
        if failed:
            try:
                bounce, why = await self._notices.failed(message, failed)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - see run
                self.log.failure("the sender of message {message} could not be told of its failure", message=message.id)
                bounce, why = Bounce.LATER, OUR_TROUBLE
            settled += [self._failure(row, verdict, bounce, why) for row, verdict in failed]
        told = False
        if late:
            try:
                told = await self._notices.delayed(message, late)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - see run
                self.log.failure("the sender of message {message} could not be told of its delay", message=message.id)
        return settled + [self._outcome(group, row, verdict, told=told) for row, verdict in late]

    def _put_without_telling(self, message: Message, group: Group, ended: Sequence[Ended]) -> None:
        """What is known is recorded though there is no time to tell anybody: whoever has to be told is told after the next attempt."""
        silent, failed, late = self._sorted(message, group, ended)
        settled = [self._outcome(group, row, verdict) for row, verdict in (*silent, *late)]
        settled += [self._failure(row, verdict, Bounce.LATER, OUR_TROUBLE) for row, verdict in failed]
        self._put(message, group, (*silent, *late, *failed), settled)

    def _put(self, message: Message, group: Group, ended: Sequence[Ended], settled: Sequence[Settled]) -> Deferred[None]:
        """Everything in one transition, then whoever has to hear of it."""
        return self._record.put(settled, lambda: self._recorded(message, group, ended, settled))

    def _recorded(self, message: Message, group: Group, ended: Sequence[Ended], settled: Sequence[Settled]) -> None:
        name, emergency = self._ground.name(group.domain), self._ground.in_emergency(group.domain)
        if emergency and any(each.waits_for is WaitsFor.PRIMARY for each in settled):
            # The emergency began while the primary was being asked: adoption (L4) passed over what was under way.
            self._tasks.start(self._ground.queue.adopt(name, self._ground.clock.seconds()), f"adoption for {name}")
        copies = [(each.drain.uncertain, each.due) for each in settled if each.drain is not None]
        if not emergency and any(not due for _, due in copies):
            # The emergency ended while the copy was being made: it must not be overlooked.
            self._copied(name, False)
        if any(uncertain and due for uncertain, due in copies):
            self._copied(name, True)
        self._evidence.learn(
            row.address for row, verdict in ended if verdict.outcome is Outcome.DELIVERED and verdict.courier == PRIMARY
        )
        for row, verdict in ended:
            self._ground.bus.publish(RecipientSettled(message.id, row.id, name, _plain(verdict)))
            self.log.info(
                "message {message} for <{address}>: {outcome} by {courier} ({reply})",
                message=message.id,
                address=row.address,
                outcome=str(verdict.outcome),
                courier=verdict.courier or "nobody",
                reply=str(verdict.reply),
            )
        silenced = {one.row: one.reason for one in settled if one.state is RowState.HELD}
        for row, verdict in ended:
            if row.id in silenced and self._stays_silent(row, verdict):
                text = f"message {message.id} for <{row.address}> is held: {silenced[row.id]}"
                self._ground.bus.publish(Alarm(UNANSWERED, text, message.domain))

    def _given_up(self, verdict: Verdict) -> Verdict:
        days = self._retry.backoff.give_up / 86400
        reply = Reply(
            verdict.reply.code, verdict.reply.enhanced, f"given up after {days:g} days; the last answer: {verdict.reply}"
        )
        return Verdict(Outcome.FAILED, reply, verdict.courier, verdict.stage, verdict.host)

    def _unanswered_so_often(self, row: Row, verdict: Verdict) -> Verdict:
        reply = Reply(554, "5.4.7", f"given up after {row.unheard} final dots without an answer; the last: {verdict.reply}")
        return Verdict(Outcome.FAILED, reply, verdict.courier, verdict.stage, verdict.host)

    def _failure(self, row: Row, verdict: Verdict, bounce: Bounce, why: str) -> Settled:
        if bounce is Bounce.HOLD:
            reason = f"failed ({verdict.reply}), and no bounce: {why}"
            return Settled(row.id, RowState.HELD, verdict, reason=reason, delay_told=row.delay_told, unheard=row.unheard)
        if bounce is Bounce.LATER:
            reason = f"failed ({verdict.reply}), and not yet known whether a bounce may go out: {why}"
            due, told = self._retry.again(row), row.delay_told
            # Failed is failed: whoever said so is not asked again.
            return Settled(row.id, RowState.QUEUED, verdict, due, reason=reason, delay_told=told, waits_for=WaitsFor.NOTICE)
        return Settled(row.id, RowState.FAILED, verdict, reason=why, delay_told=row.delay_told)

    def _outcome(self, group: Group, row: Row, verdict: Verdict, *, told: bool = False) -> Settled:
        way = group.routes[row.id]
        if verdict.outcome is Outcome.DELIVERED:
            copy = verdict.copy if isinstance(verdict, Placed) and way.drains else None
            due, why = 0.0, WaitsFor.NOTHING
            if copy is not None and not self._ground.in_emergency(group.domain):
                # The primary may have an uncertain one already: it goes last, when its turn comes (rule 1).
                backoff = self._retry.backoff
                wait = backoff.patience() if copy.uncertain else backoff.delay(1, self._retry.jitter())
                due = self._ground.clock.seconds() + wait
                # The primary's verdict was the row's last, on the way here.
                why = WaitsFor.OUTAGE if row.last is not None and _is_wide(row.last) else why
            told, said = row.delay_told, _plain(verdict)
            return Settled(row.id, RowState.DELIVERED, said, due, copy, delay_told=told, waits_for=why, unheard=row.unheard)
        if way.last is Last.PARK:
            return Settled(
                row.id, RowState.PARKED, verdict, reason=way.why, delay_told=row.delay_told, waits_for=WaitsFor.MAILBOX
            )
        if self._stays_silent(row, verdict):
            reason = f"{verdict.host or 'the server'} may have it, {row.unheard} times by now, but never says so: {verdict.reply}"
            return Settled(row.id, RowState.HELD, verdict, reason=reason, delay_told=row.delay_told, unheard=row.unheard)
        reason = waits_for_primary(way, verdict, row.last)
        waits_for = WaitsFor.PRIMARY if reason else WaitsFor.NOTHING
        if is_uncertain(row) and verdict.outcome is Outcome.DEFERRED and row.last is not None:
            verdict = row.last
        told, due, unheard = told or row.delay_told, self._retry.again(row), row.unheard
        return Settled(
            row.id, RowState.QUEUED, verdict, due, reason=reason, delay_told=told, waits_for=waits_for, unheard=unheard
        )

    # -- a message that cannot be read, and orders

    async def _is_lost(self, body: IBody) -> BodyLost | None:
        """Whether a body is why a courier failed: read to its end."""
        try:
            async for _ in body.chunks():
                pass
        except BodyLost as error:
            return error
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - it cannot be told now
            return None
        return None

    async def _lost(self, message: Message, rows: Sequence[Row], error: BodyLost) -> None:
        """A message that cannot be read is not tried again by itself: its sender is told as far as rule 6 allows, and it is held and shown."""
        verdict = Verdict(Outcome.FAILED, Reply(554, "5.3.0", "the message was damaged in our queue and cannot be delivered"), "")
        failed = [(row, verdict) for row in rows]
        self._record.nothing_given([row.id for row in rows])
        try:
            bounce, why = await self._notices.failed(message, failed, wait=False)
        except CancelledError:
            self._record.put([self._failure(row, verdict, Bounce.LATER, OUR_TROUBLE) for row in rows])
            raise
        except Exception:  # noqa: BLE001 - held all the same
            self.log.failure("the sender of message {message} could not be told", message=message.id)
            bounce, why = Bounce.HOLD, OUR_TROUBLE
        told = "its sender was told" if bounce is Bounce.SEND else f"its sender was not told: {why}"
        reason = f"its text cannot be read any more ({error}); {told}"
        self._ground.bus.publish(
            Alarm("message-lost", f"message {message.id} from <{message.envelope.sender}>: {reason}", message.domain)
        )
        await self._record.put(
            [Settled(row.id, RowState.HELD, verdict, reason=reason, delay_told=row.delay_told) for row in rows]
        )

    async def give_up(self, rows: Sequence[int], reason: str) -> int:
        """Administration: end the deliveries named and tell their senders. Where rule 6 forbids that, the
        message is held and shown; ``delete`` is the word for ending it in silence. How many ended."""
        queue, now = self._ground.queue, self._ground.clock.seconds()
        # Held rows cannot be claimed; parked ones can, and nobody else does.
        await queue.change(rows, RowState.PARKED, reason=reason)
        claims = list(await queue.claim_rows(rows, now, self._retry.next_due))
        return await self._underway.work([row.id for claim in claims for row in claim.rows], self._end_all(claims, reason))

    async def _end_all(self, claims: list[Claim], reason: str) -> int:
        ended = 0
        while claims:
            try:
                ended += await self._end(claims.pop(0), reason)
            except CancelledError:
                # They may have been held: not the end of the process lets them go.
                left = [row for claim in claims for row in claim.rows]
                self._record.put([Settled(row.id, RowState.HELD, row.last, reason=f"{reason}; not carried out") for row in left])
                raise
        return ended

    async def _end(self, claim: Claim, reason: str) -> int:
        verdict = Verdict(Outcome.FAILED, Reply(554, "5.0.0", reason), "")
        now = self._ground.clock.seconds()
        failed = [(row, verdict) for row in claim.rows if row.kind is RowKind.DELIVER]
        others = [row for row in claim.rows if row.kind is not RowKind.DELIVER]
        settled = [Settled(row.id, RowState.QUEUED, row.last, now, reason=row.reason) for row in others]
        try:
            bounce, why = await self._notices.failed(claim.message, failed, wait=False) if failed else (Bounce.NONE, "")
        except CancelledError:
            self._record.put([*settled, *(self._failure(row, verdict, Bounce.HOLD, OUR_TROUBLE) for row, _ in failed)])
            raise
        except Exception:  # noqa: BLE001 - held and shown: it can be ordered again
            self.log.failure("the sender of message {message} could not be told", message=claim.message.id)
            bounce, why = Bounce.HOLD, OUR_TROUBLE
        await self._record.put([*settled, *(self._failure(row, verdict, bounce, why) for row, _ in failed)])
        return len(failed) if bounce is not Bounce.HOLD else 0


def _nowhere(way: Route) -> Verdict:
    """For a route without couriers."""
    if way.last is Last.FAIL:
        return Verdict(Outcome.FAILED, Reply(550, "5.1.1", way.why), "")
    return Verdict(Outcome.DEFERRED, Reply(451, "4.2.1", way.why), "")


def _is_ours(verdict: Verdict) -> bool:
    """Deferred by trouble of our own; reading the message may be it."""
    return verdict.outcome is Outcome.DEFERRED and verdict.stage is Stage.LOCAL


def _is_wide(verdict: Verdict) -> bool:
    """Trouble of the primary as a whole."""
    return outage.read(verdict).breadth.wide


def _plain(verdict: Verdict) -> Verdict:
    return verdict.plain() if isinstance(verdict, Placed) else verdict
