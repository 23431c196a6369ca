"""One portal copy to the primary (C5, C6, rules 3, 9-11):

    claim in the queue → claim in the portal (gone? then it was removed, C6) → primary → on record → out of the portal → done

Whatever the user did before the claim wins. A crash before the record leads to at most one second copy; a fault of ours after the primary's
answer to none, for only what follows it is tried again (rule 8b).
"""

from __future__ import annotations

import enum

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from hornetmail.core.delivery.queued import Message, Portal, Row, RowState, Settled
from hornetmail.core.delivery.route import PRIMARY
from hornetmail.core.delivery.turn import counted, is_uncertain
from hornetmail.core.events import Alarm, WentHome
from hornetmail.core.failover import outage
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.folder import FolderError
from hornetmail.core.mail.address import domain_of
from hornetmail.core.mail.envelope import Envelope, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.delivery.attempt.evidence import Evidence
from hornetmail.delivery.attempt.ground import Ground, Retry
from hornetmail.delivery.attempt.record import Record
from hornetmail.delivery.couriers.exchange import Load
from hornetmail.delivery.home.bystate import ByState
from hornetmail.delivery.home.copies import Copies
from hornetmail.delivery.home.returned import Returned
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.portal import IPortal

KEYWORD = "$DrainFailed"

IN_USE_SECONDS = 20.0
"""A copy in a mailbox that a POP session has locked is tried again after this."""


class Result(enum.Enum):
    """How one hand-over ended. ``LATER``: this copy must wait, for a reason of ours or of its mailbox. ``DEFERRED``: the primary put it off, for a
    reason that may be the primary's own. ``UNAVAILABLE``: the primary is in trouble, the pass ends."""

    HOME = "home"
    GONE = "gone"
    STUCK = "stuck"
    LATER = "later"
    DEFERRED = "deferred"
    UNAVAILABLE = "unavailable"


class HandOver:
    """See the module. ``suspect``: see ``DrainLimits``."""

    log = Logger()

    def __init__(
        self,
        ground: Ground,
        record: Record,
        retry: Retry,
        portal: IPortal,
        way: ByState,
        evidence: Evidence,
        copies: Copies,
        returned: Returned,
        suspect: int,
    ) -> None:
        self._ground = ground
        self._record = record
        self._retry = retry
        self._portal = portal
        self._way = way
        self._evidence = evidence
        self._copies = copies
        self._returned = returned
        self._suspect = suspect

    async def hand(self, message: Message, row: Row, *, sweeping: bool, trial: bool = False) -> Result:
        """One claimed copy. What became of it is known to ``Record`` on return; cancelled, it stays claimed, and is taken back as after a crash.
        ``sweeping``: in a pass, which comes again by itself; ``trial``: in an emergency too, in which others stay."""
        copy = row.portal
        assert copy is not None
        if not trial and self._ground.in_emergency(domain_of(row.address)):
            await self._record.put([Settled(row.id, RowState.PARKED, row.last, delay_told=row.delay_told)])
            return Result.LATER
        try:
            await self._copies.at_rest(copy)
            found = await self._portal.begin_drain(copy)
            if found is None:
                # Before its row is done: should it come back into INBOX, it drains (rule 10).
                await self._returned.note(message, row)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours: the copy stays and is tried again
            return await self._not_begun(row, error)
        if found is None:
            reason = "removed from INBOX before it was drained (C6)"
            await self._record.put([Settled(row.id, RowState.REMOVED, row.last, reason=reason)])
            return Result.GONE
        recipient = self._recipient(message, row, copy, found[0])
        said: dict[int, Verdict] = {}
        try:
            await self._offer(message, row, recipient, *found, said, trial=trial)
        except CancelledError:
            if row.id in said:
                self._conclude(row, copy, recipient, said[row.id], sweeping=sweeping)
            raise
        except Exception:  # noqa: BLE001 - a fault of ours, and no answer
            self.log.failure("drain of row {row} failed", row=row.id)
        tried, result = self._conclude(row, copy, recipient, said.get(row.id) or self._unanswered(row), sweeping=sweeping)
        await tried
        return result

    async def tidied(self, row: Row) -> None:
        """Returns when what is to be done with the copy after its hand-over, to remove it or to let it go, was tried once: the primary need not wait for
        that."""
        assert row.portal is not None
        await self._copies.tried(row.portal)

    async def later(self, row: Row) -> Result:
        """The mailbox is in use: soon again, whatever the back-off."""
        due = self._ground.clock.seconds() + IN_USE_SECONDS
        await self._record.put([Settled(row.id, RowState.QUEUED, row.last, due, delay_told=row.delay_told)])
        return Result.LATER

    async def _not_begun(self, row: Row, error: Exception) -> Result:
        code = error.code if isinstance(error, FolderError) else ""
        if code == "INUSE":
            return await self.later(row)
        if code == "CANNOT":
            # Chosen without an envelope of its own (rule 10), and its mailbox was removed since: it stays where it is.
            await self._record.put([Settled(row.id, RowState.REMOVED, row.last, reason=str(error), delay_told=row.delay_told)])
            return Result.GONE
        self.log.error("the portal copy of row {row} cannot be taken: {error}", row=row.id, error=error)
        verdict = Verdict(Outcome.DEFERRED, Reply(451, "4.3.0", "our portal store failed"), PRIMARY, Stage.LOCAL)
        await self._record.put([self._back(row, verdict)])
        return Result.LATER

    def _unanswered(self, row: Row) -> Verdict:
        if self._record.was_offered(row.id):
            reply = Reply(451, "4.4.2", "trouble of our own after the final dot")
            return Verdict(Outcome.UNCERTAIN, reply, PRIMARY, Stage.DOT, unavailable=True)
        return Verdict(Outcome.DEFERRED, Reply(451, "4.3.0", "trouble of our own"), PRIMARY, Stage.LOCAL)

    async def _offer(
        self,
        message: Message,
        row: Row,
        recipient: Recipient,
        envelope: Envelope,
        body: IBody,
        said: dict[int, Verdict],
        *,
        trial: bool,
    ) -> None:
        """``said``: the row's verdict, once it is known, whatever happens after that."""
        load = Load(
            envelope.sender,
            (recipient,),
            (row.id,),
            body.chunks,
            body.size,
            message.envelope.smtputf8,
            message.envelope.ret,
            message.envelope.envid,
        )
        assert row.portal is not None
        await self._way.hand_over(domain_of(row.address), load, row.portal, said, doubtful=is_uncertain(row), trial=trial)
        said[row.id] = await self._evidence.weigh(recipient.address, message, said[row.id])

    def _recipient(self, message: Message, row: Row, copy: Portal, envelope: Envelope) -> Recipient:
        """Rule 9: the original recipient if that address is this mailbox's alone, else the mailbox's main address."""
        original = envelope.recipients[0].address if envelope.recipients else row.address
        wished = {each.address: each for each in message.envelope.recipients}.get(original, Recipient(original))
        owner = self._ground.directory.mailbox(original)
        if owner is not None and owner.id == copy.mailbox:
            return wished
        mailbox = self._ground.directory.mailbox_by_id(copy.mailbox)
        return Recipient(mailbox.address, wished.notify, wished.orcpt) if mailbox is not None else wished

    def _conclude(
        self, row: Row, copy: Portal, recipient: Recipient, verdict: Verdict, *, sweeping: bool
    ) -> tuple[Deferred[None], Result]:
        """Puts it on record; the answer fires as ``Record.put``'s does. Attempts that our own end cut off, or that never came so far, say nothing of the
        primary and do not count as silences."""
        told, row = row.delay_told, counted(row, verdict)
        if verdict.outcome is Outcome.DELIVERED:

            def home() -> None:
                self._evidence.learn((recipient.address,))
                self._copies.remove(row, claimed=True)
                self._ground.bus.publish(WentHome(self._ground.name(domain_of(row.address)), copy.mailbox, True))

            return self._record.put([Settled(row.id, RowState.HOME, verdict, delay_told=told)], home), Result.HOME
        # Time and again a primary that takes the final dot and does not answer it: each further attempt is one more copy in somebody's mailbox (rule 11).
        hopeless = verdict.outcome is Outcome.UNCERTAIN and self._retry.is_hopeless(row)
        if verdict.outcome is Outcome.FAILED or hopeless:
            reason = f"the primary refused it: {verdict.reply}"
            if hopeless:
                reason = f"the primary may have it, {row.unheard} times by now, but never says so: {verdict.reply}"

            def stuck() -> None:
                self._copies.let_go(copy, KEYWORD, reason)
                text = f"<{row.address}>: {reason}; it stays in INBOX"
                self._ground.bus.publish(WentHome(self._ground.name(domain_of(row.address)), copy.mailbox, False))
                self._ground.bus.publish(Alarm("drain-refused", text, domain_of(row.address)))

            settled = Settled(row.id, RowState.STUCK, verdict, reason=reason, delay_told=told, unheard=row.unheard)
            return self._record.put([settled], stuck), Result.STUCK
        breadth = outage.read(verdict).breadth
        wide = breadth.wide
        if sweeping and wide and verdict.outcome is not Outcome.UNCERTAIN and row.attempts < self._suspect:
            # The primary as a whole: the copy waits for the next pass, not for a back-off of its own.
            settled = Settled(row.id, RowState.PARKED, verdict, delay_told=told)
        else:
            settled = self._back(row, verdict)
        put = self._record.put([settled], lambda: self._copies.let_go(copy))
        if wide:
            return put, Result.UNAVAILABLE
        return put, Result.DEFERRED if breadth is outage.Breadth.RECIPIENT else Result.LATER

    def _back(self, row: Row, verdict: Verdict) -> Settled:
        due, told = self._retry.again(row), row.delay_told
        return Settled(row.id, RowState.QUEUED, verdict, due, delay_told=told, unheard=row.unheard)
