"""What was left in the portal goes home (C5, C6, rules 3, 9-11).

A domain on its way back is drained in passes: all its copies, newest first, uncertain ones last, one at first and then more side by side,
throttled. Copies of single failures in normal mode come through the scheduler's lane with the queue's back-off. Either way one hand-over is:

    no POP session → claim in the queue → claim in the portal (gone? then it was removed, C6) → primary → out of the portal → settled

so that whatever the user did before the claim wins, and a crash at any point leads to at most one second copy.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection

import msgspec
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core import outage
from hornetmail.core.address import domain_of
from hornetmail.core.backoff import Backoff
from hornetmail.core.envelope import Door, Envelope, Recipient
from hornetmail.core.events import Alarm
from hornetmail.core.folder import FolderError
from hornetmail.core.machine import Drained
from hornetmail.core.mode import Mode
from hornetmail.core.queued import Claim, Message, Portal, Row, RowKind, RowState, Settled
from hornetmail.core.reply import Reply
from hornetmail.core.turn import is_uncertain
from hornetmail.core.verdict import Outcome, Verdict
from hornetmail.delivery.attempt.evidence import Evidence
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.delivery.couriers.exchange import Load
from hornetmail.delivery.couriers.primary import PrimaryCourier
from hornetmail.delivery.home.returned import Returned
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.outage.modes import Modes
from hornetmail.delivery.tasks import Tasks, pause, together
from hornetmail.interfaces import IBody, IBus, IDirectory, IPortal, IQueue

KEYWORD = "$DrainFailed"
OWNER = "drain"

IN_USE_SECONDS = 20.0
"""A copy in a mailbox that a POP session has locked is tried again after this."""

UNSETTLED = (RowState.PARKED, RowState.QUEUED, RowState.STUCK)
WAITING = (RowState.PARKED, RowState.QUEUED)


class DrainLimits(msgspec.Struct, frozen=True, gc=False):
    """``most`` hand-overs of a domain side by side, ``per_second`` started; ``troubled`` batches in a row at which the primary was in trouble end
    a pass; passes that end early are repeated after ``again`` s, doubled up to ``slowest``; a copy at which the primary was in trouble
    ``suspect`` times has that trouble to itself and follows its own back-off; a copy undrained for ``undrained`` s is told; one whose domain has had no primary for ``orphaned`` s stays for good."""

    most: int = 10
    per_second: float = 50.0
    troubled: int = 3
    suspect: int = 5
    again: float = 5.0
    slowest: float = 120.0
    undrained: float = 4 * 3600.0
    orphaned: float = 3600.0


class Result(enum.Enum):
    """How one hand-over ended. ``LATER``: this copy must wait. ``UNAVAILABLE``: the primary is in trouble, the pass ends."""

    HOME = "home"
    GONE = "gone"
    STUCK = "stuck"
    LATER = "later"
    UNAVAILABLE = "unavailable"


class Drain:
    """See the module. ``expect(due)`` wakes the scheduler's drain lane."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        portal: IPortal,
        directory: IDirectory,
        modes: Modes,
        evidence: Evidence,
        primary: PrimaryCourier,
        notices: Notices,
        returned: Returned,
        bus: IBus,
        backoff: Backoff,
        jitter: Callable[[], float],
        expect: Callable[[float], None],
        unrecorded: Unrecorded,
        limits: DrainLimits | None = None,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._portal = portal
        self._directory = directory
        self._modes = modes
        self._evidence = evidence
        self._primary = primary
        self._notices = notices
        self._returned = returned
        self._bus = bus
        self._backoff = backoff
        self._jitter = jitter
        self._expect = expect
        self._unrecorded = unrecorded
        self.limits = limits or DrainLimits()
        self._tasks = Tasks(clock)
        self._passes: set[str] = set()
        self._orphans: dict[str, float] = {}
        self._wanted: set[str] = set()
        self._running = False
        self._started = 0.0

    # -- life

    def start(self) -> None:
        """Passes may run from now on."""
        self._running = True

    async def stop(self, grace: float) -> None:
        """Begin nothing new, wait for hand-overs."""
        self._running = False
        await self._tasks.stop(grace)

    def kick(self, domain: str) -> None:
        """Drain a domain, now if no pass is under way, else once more after it."""
        if domain in self._passes:
            self._wanted.add(domain)
        elif self._running:
            self._passes.add(domain)
            self._tasks.start(self._domain(domain), f"drain of {domain}")

    # -- passes

    async def _domain(self, domain: str) -> None:
        wait = self.limits.again
        try:
            while self._running and self._modes.mode(domain) is not Mode.EMERGENCY:
                self._wanted.discard(domain)
                left, moved = await self._pass(domain)
                if not left:
                    self._modes.observe(domain, Drained())
                    if domain not in self._wanted:
                        return
                    continue
                wait = self.limits.again if moved else min(wait * 2, self.limits.slowest)
                await pause(self._clock, wait)
        finally:
            self._passes.discard(domain)
            if domain in self._wanted and self._running:
                self._wanted.discard(domain)
                self.kick(domain)

    async def waiting(self, domain: str = "", states: Collection[RowState] = WAITING) -> list[tuple[Message, Row]]:
        """All copies that have to get home (a domain's, if one is given), in the order of draining."""
        found: list[tuple[Message, Row]] = []
        after = 0
        while True:
            page = await self._queue.rows(domain=domain, kinds=(RowKind.DRAIN,), states=states, after=after)
            found.extend(each for each in page if not domain or self._domain_of(each[1]) == domain)
            if len(page) < 500:
                break
            after = page[-1][1].id
        found.sort(key=lambda each: (is_uncertain(each[1]), _troubles(each[1]), -each[0].arrived, -each[1].id))
        return found

    def _domain_of(self, row: Row) -> str:
        """The served domain of a copy's recipient."""
        name = domain_of(row.address)
        served = self._directory.domain(name)
        return served.name if served else name

    async def _pass(self, domain: str) -> tuple[int, int]:
        """One go over everything; how many are still parked, and how many moved."""
        todo = [row for _, row in await self.waiting(domain)]
        if todo:
            self.log.info("{domain}: {count} messages in the portal go home", domain=domain, count=len(todo))
        width, moved, troubled = 1, 0, 0
        while todo and self._running and self._modes.mode(domain) is not Mode.EMERGENCY:
            batch, todo = todo[:width], todo[width:]
            began = self._clock.seconds()
            results = await together(self._by_id(row) for row in batch)
            moved += sum(1 for each in results if each in (Result.HOME, Result.GONE, Result.STUCK))
            if Result.UNAVAILABLE in results:
                # Not every message that a server stumbles over means that it is down: the next ones are tried.
                width, troubled = 1, troubled + 1 if Result.HOME not in results else 1
                if troubled >= self.limits.troubled:
                    break
            else:
                width, troubled = min(width + 1, self.limits.most), 0
            rest = began + len(batch) / self.limits.per_second - self._clock.seconds()
            if todo and rest > 0:
                await pause(self._clock, rest)
        parked = await self._queue.rows(
            domain=domain, kinds=(RowKind.DRAIN,), states=(RowState.PARKED, RowState.CLAIMED), limit=1
        )
        return len(parked), moved

    async def _by_id(self, row: Row) -> Result:
        assert row.portal is not None
        if await self._read_by_pop(row.portal.mailbox):
            # Later (rule 10), and not before: parked, it is the next pass's.
            if row.state is RowState.QUEUED:
                await self._queue.change([row.id], RowState.PARKED)
            return Result.LATER
        claims = await self._queue.claim_rows([row.id], self._clock.seconds(), self.next_due)
        for claim in claims:
            for each in claim.rows:
                return await self._hand(claim.message, each, sweeping=True)
        return Result.LATER

    # -- single copies

    def next_due(self, row: Row) -> float:
        """For claims: when the attempt after this one is due."""
        return self._clock.seconds() + self._backoff.delay(row.attempts, self._jitter())

    async def run(self, claim: Claim) -> None:
        """Copies whose back-off is over, from the scheduler's lane."""
        for row in claim.rows:
            assert row.portal is not None
            if await self._read_by_pop(row.portal.mailbox):
                await self._later(row)
            else:
                await self._hand(claim.message, row, sweeping=False)

    async def _later(self, row: Row) -> Result:
        """The mailbox is in use: soon again, whatever the back-off."""
        due = self._clock.seconds() + IN_USE_SECONDS
        self._expect(due)
        await self._queue.settle([Settled(row.id, RowState.QUEUED, row.last, due, delay_told=row.delay_told)])
        return Result.LATER

    async def _hand(self, message: Message, row: Row, *, sweeping: bool) -> Result:
        """One claimed copy to the primary; the row is settled on return."""
        copy = row.portal
        assert copy is not None
        if self._modes.mode(domain_of(row.address)) is Mode.EMERGENCY:
            await self._queue.settle([Settled(row.id, RowState.PARKED, row.last, delay_told=row.delay_told)])
            return Result.LATER
        begun = False
        try:
            found = await self._portal.begin_drain(copy)
            if found is None:
                reason = "removed from INBOX before it was drained (C6)"
                await self._returned.note(message, row)
                await self._queue.settle([Settled(row.id, RowState.REMOVED, row.last, reason=reason)])
                return Result.GONE
            begun = True
            verdict = await self._offer(message, row, copy, *found)
            return await self._concluded(row, copy, verdict, sweeping=sweeping)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours: the copy stays and is tried again
            if isinstance(error, FolderError) and not begun and error.code in ("INUSE", "CANNOT"):
                return await (self._later(row) if error.code == "INUSE" else self._nobody(row, error.text))
            self.log.failure("drain of row {row} failed", row=row.id)
            if begun:
                await self._portal.end_drain(copy, delivered=False)
            verdict = Verdict(Outcome.DEFERRED, Reply(451, "4.3.0", "our own trouble"), "primary")
            await self._queue.settle([self._back(row, verdict)])
            return Result.LATER
        finally:
            self._unrecorded.recorded((row.id,))

    async def _nobody(self, row: Row, reason: str) -> Result:
        """Chosen without an envelope of its own (rule 10), and its mailbox was removed since: it stays where it is."""
        await self._queue.settle([Settled(row.id, RowState.REMOVED, row.last, reason=reason, delay_told=row.delay_told)])
        return Result.GONE

    async def _offer(self, message: Message, row: Row, copy: Portal, envelope: Envelope, body: IBody) -> Verdict:
        domain = domain_of(row.address)
        recipient = self._recipient(message, row, copy, envelope)
        load = Load(
            envelope.sender,
            (recipient,),
            body.chunks,
            body.size,
            message.envelope.smtputf8,
            message.envelope.ret,
            message.envelope.envid,
            (row.id,),
        )
        [verdict] = await self._primary.hand_over(domain, load)
        return await self._evidence.weigh(recipient.address, message, verdict)

    def _recipient(self, message: Message, row: Row, copy: Portal, envelope: Envelope) -> Recipient:
        """Rule 9: the original recipient if that address is this mailbox's alone, else the mailbox's main address."""
        original = envelope.recipients[0].address if envelope.recipients else row.address
        wished = {each.address: each for each in message.envelope.recipients}.get(original, Recipient(original))
        owner = self._directory.mailbox(original)
        if owner is not None and owner.id == copy.mailbox:
            return wished
        mailbox = self._directory.mailbox_by_id(copy.mailbox)
        return Recipient(mailbox.address, wished.notify, wished.orcpt) if mailbox is not None else wished

    async def _concluded(self, row: Row, copy: Portal, verdict: Verdict, *, sweeping: bool) -> Result:
        if verdict.outcome is Outcome.DELIVERED:
            await self._portal.end_drain(copy, delivered=True)
            await self._queue.settle([Settled(row.id, RowState.DELIVERED, verdict, delay_told=row.delay_told)])
            return Result.HOME
        if verdict.outcome is Outcome.FAILED:
            reason = f"the primary refused it: {verdict.reply}"
            await self._portal.end_drain(copy, delivered=False, keyword=KEYWORD, reason=reason)
            await self._queue.settle([Settled(row.id, RowState.STUCK, verdict, reason=reason, delay_told=row.delay_told)])
            self._bus.publish(Alarm("drain-refused", f"<{row.address}>: {reason}; it stays in INBOX", domain_of(row.address)))
            return Result.STUCK
        await self._portal.end_drain(copy, delivered=False)
        wide = outage.read(verdict).breadth.wide
        if sweeping and wide and verdict.outcome is not Outcome.UNCERTAIN and row.attempts < self.limits.suspect:
            # The primary as a whole: the copy waits for the next pass, not for a back-off of its own.
            await self._queue.settle([Settled(row.id, RowState.PARKED, verdict, delay_told=row.delay_told)])
        else:
            await self._queue.settle([self._back(row, verdict)])
        return Result.UNAVAILABLE if wide else Result.LATER

    def _back(self, row: Row, verdict: Verdict) -> Settled:
        due = self._clock.seconds() + self._backoff.delay(max(row.attempts, 1), self._jitter())
        self._expect(due)
        return Settled(row.id, RowState.QUEUED, verdict, due, delay_told=row.delay_told)

    async def _read_by_pop(self, mailbox: int) -> bool:
        """Whether a POP session has the mailbox: tried and given back at once. The portal makes sure of it again when it is claimed."""
        if not await self._portal.lock(mailbox, OWNER):
            return True
        await self._portal.unlock(mailbox, OWNER)
        return False

    # -- what is overlooked or late

    async def sweep(self) -> None:
        """Every few minutes: start passes for copies parked outside an emergency, and tell of what lies too long (rule 3)."""
        if not self._queue.backlog().drain:
            return
        now = self._clock.seconds()
        by_domain: dict[str, list[tuple[Message, Row]]] = {}
        for message, row in await self.waiting(states=UNSETTLED):
            by_domain.setdefault(self._domain_of(row), []).append((message, row))
        self._orphans = {name: since for name, since in self._orphans.items() if name in by_domain}
        for name, copies in by_domain.items():
            domain = self._directory.domain(name)
            if domain is None or not domain.primaries:
                await self._orphaned(name, [row for _, row in copies])
                continue
            self._orphans.pop(name, None)
            if self._modes.mode(name) is Mode.EMERGENCY:
                continue
            if any(row.state is RowState.PARKED for _, row in copies):
                self.kick(name)
            late = [
                row
                for message, row in copies
                if row.state in WAITING and now - row.queued >= self.limits.undrained and message.origin.door is not Door.NOTICE
            ]
            if late:
                await self._tell(name, domain.tenant, late)

    async def _orphaned(self, name: str, rows: list[Row]) -> None:
        """Nobody is left to take these home: after a while (a primary may just be being replaced) they stay where they are."""
        now = self._clock.seconds()
        if now - self._orphans.setdefault(name, now) < self.limits.orphaned:
            return
        reason = f"{name} has no primary any more: the copy stays in the portal, which is its mail server for good"
        count = await self._queue.change([row.id for row in rows], RowState.REMOVED, reason=reason)
        if not count:
            return
        text = f"{name} has no primary any more: {count} messages that were to be drained stay in the portal for good"
        self._bus.publish(Alarm("drain-orphaned", text, name))
        await self._notices.tell_administrators(name, f"Mail of {name} stays in the portal", [text + "."], f"orphaned:{name}")

    async def _tell(self, domain: str, tenant: int, late: list[Row]) -> None:
        hours = self.limits.undrained / 3600
        lines = [
            f"{len(late)} messages for {domain} have been in the portal for more than {hours:g} hours, because the mail server did not take them.",
            "They are readable there, and delivery goes on being tried.",
            "",
        ]
        shown = [f"  <{row.address}>: {row.last.reply if row.last else 'not tried yet'}" for row in late[:50]]
        await self._notices.tell_administrators(
            domain, f"Undelivered mail in the portal of {domain}", [*lines, *shown], f"undrained:{domain}"
        )
        for identifier in sorted({row.portal.mailbox for row in late if row.portal is not None}):
            mailbox = self._directory.mailbox_by_id(identifier)
            if mailbox is None:
                continue
            count = sum(1 for row in late if row.portal is not None and row.portal.mailbox == identifier)
            text = [
                f"{count} of your messages lie in the portal, because your own mail server did not take them.",
                "You can read them there over webmail, IMAP or POP.",
            ]
            await self._notices.tell(tenant, mailbox.address, "Mail for you is waiting in the portal", text, "undrained", domain)


def _troubles(row: Row) -> int:
    """How often the primary as a whole was in trouble when it was offered this copy: it goes behind those that it may still take, for
    one message that a server cannot digest must not keep all others away from it."""
    wide = row.last is not None and outage.read(row.last).breadth.wide
    return row.attempts if wide else 0
