"""One portal copy to its primary, whatever the primary, the portal or we say (C5, C6, rules 9-11). The queue and the portal are in memory, the primary and the clock the test's."""

from __future__ import annotations

from typing import Any

import msgspec

from hornetmail.core.delivery.queued import Message, Portal, Row, RowState, Settled
from hornetmail.core.events import WentHome
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.folder import FolderError
from hornetmail.core.mail.envelope import Envelope, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.delivery.couriers.exchange import Load
from hornetmail.delivery.home.copies import Copies
from hornetmail.delivery.home.handover import KEYWORD, HandOver, Result
from tests.delivery.test_home_bounds import ALICE, DOMAIN, NOW, HomeCase


class Evidence:
    def __init__(self) -> None:
        self.learnt: list[str] = []

    async def weigh(self, address: str, message: Message, verdict: Verdict) -> Verdict:
        return verdict

    def learn(self, addresses: Any) -> None:
        self.learnt += addresses


class Primary:
    """``says``: its verdict, or what is raised; ``dot``: the final dot was on its way."""

    def __init__(self, case: HandedOver) -> None:
        self.case = case
        self.says: Verdict | Exception = verdict(Outcome.DELIVERED)
        self.dot = False
        self.loads: list[Load] = []

    async def hand_over(
        self, domain: str, load: Load, copy: Portal, verdicts: dict[int, Verdict], *, doubtful: bool = False, trial: bool = False
    ) -> None:
        self.loads.append(load)
        if self.dot:
            await self.case.unrecorded.before_dot(self, load.rows)
        if isinstance(self.says, Exception):
            raise self.says
        verdicts[load.rows[0]] = self.says


def verdict(outcome: Outcome, stage: Stage = Stage.DOT, code: int = 250, unavailable: bool = True) -> Verdict:
    return Verdict(outcome, Reply(code, "", "so it is"), "primary", stage, "mx", unavailable)


class HandedOver(HomeCase):
    def setUp(self) -> None:
        super().setUp()
        self.primary, self.evidence = Primary(self), Evidence()
        self.copies = Copies(self.ground, self.record, self.portal)  # type: ignore[arg-type]
        self.hand_over = HandOver(
            self.ground, self.record, self.retry, self.portal, self.primary, self.evidence, self.copies, self.returned, 5  # type: ignore[arg-type]
        )  # fmt: skip

    def handed(self, row: Row, *, sweeping: bool = True, trial: bool = False, **changes: Any) -> tuple[Result, Settled]:
        before = len(self.queue.settled)
        row = msgspec.structs.replace(row, state=RowState.CLAIMED, **changes)
        self.queue.held[row.id] = row
        result = self.wait(self.hand_over.hand(self.message(row), row, sweeping=sweeping, trial=trial))
        self.clock.advance(0)
        return result, self.queue.settled[before]

    def test_taken(self) -> None:
        """Would catch a copy that is removed before that is on record, an address that is not learnt, and people who are not told that it went home."""
        row = self.copy()
        result, one = self.handed(row, delay_told=True)
        assert (result, one.state, one.delay_told) == (Result.HOME, RowState.HOME, True)
        assert [each.state for each in self.queue.settled] == [RowState.HOME, RowState.DELIVERED]
        assert not self.portal.copies
        assert self.evidence.learnt == [ALICE]
        assert self.went == [WentHome(DOMAIN, 1, True)]

    def test_refused(self) -> None:
        """Rule 10: would catch one that goes on draining, vanishes, or is refused in silence."""
        self.primary.says = verdict(Outcome.FAILED, Stage.RCPT, 550, False)
        row = self.copy("alice@alias.test")
        result, one = self.handed(row)
        assert (result, one.state, one.reason) == (Result.STUCK, RowState.STUCK, "the primary refused it: 550 so it is")
        [there] = self.portal.copies.values()
        assert (there.keywords, there.claimed, there.reason) == ((KEYWORD,), False, one.reason)
        assert self.went == [WentHome(DOMAIN, 1, False)]
        assert [(alarm.code, alarm.text) for alarm in self.alarms] == [
            ("drain-refused", "<alice@alias.test>: the primary refused it: 550 so it is; it stays in INBOX")
        ]

    def test_deferred(self) -> None:
        """Would catch a copy that waits for the next pass though its own mailbox is the trouble, or out its back-off though the primary was; one at which the primary was in
        trouble five times has that trouble to itself; and a pass that goes on, or ends, for the wrong reason."""
        connect, rcpt = verdict(Outcome.DEFERRED, Stage.CONNECT, 451), verdict(Outcome.DEFERRED, Stage.RCPT, 451)
        full = Verdict(Outcome.DEFERRED, Reply(452, "4.2.2", "full"), "primary", Stage.RCPT, "mx", True)
        back = NOW + self.backoff.delay(4, 0.5)
        for says, sweeping, attempts, result, state, due in (
            (connect, True, 4, Result.UNAVAILABLE, RowState.PARKED, 0.0),
            (connect, True, 5, Result.UNAVAILABLE, RowState.QUEUED, NOW + self.backoff.delay(5, 0.5)),
            (connect, False, 4, Result.UNAVAILABLE, RowState.QUEUED, back),
            (rcpt, True, 4, Result.DEFERRED, RowState.QUEUED, back),
            (full, True, 4, Result.LATER, RowState.QUEUED, back),
            (verdict(Outcome.UNCERTAIN, Stage.DOT, 421), True, 4, Result.UNAVAILABLE, RowState.QUEUED, back),
        ):
            self.primary.says = says
            got, one = self.handed(self.copy(), sweeping=sweeping, attempts=attempts)
            assert (got, one.state, one.due, one.verdict) == (result, state, due, says)
        assert not any(copy.claimed for copy in self.portal.copies.values()), "their owner can use them"

    def test_never_heard_of(self) -> None:
        """Rule 11: would catch a copy that comes to somebody's mailbox again and again because the primary never answers its final dot, and one that is given up for attempts
        that did not come so far."""
        row = self.copy()
        unheard = verdict(Outcome.UNCERTAIN, Stage.DOT, 421)
        self.primary.says = unheard
        for count in range(4):
            result, one = self.handed(row, unheard=count)
            assert (result, one.unheard) == (Result.UNAVAILABLE, count + 1)
        self.primary.says = verdict(Outcome.DEFERRED, Stage.CONNECT, 451)
        self.handed(row, unheard=4)
        assert self.queue.held[row.id].unheard == 4
        self.primary.says = unheard
        result, one = self.handed(row, unheard=4)
        assert (result, one.state, one.unheard) == (Result.STUCK, RowState.STUCK, 5)
        assert one.reason.startswith("the primary may have it, 5 times by now, but never says so: 421")
        self.primary.says = verdict(Outcome.FAILED, Stage.RCPT, 550, False)
        assert self.handed(row, unheard=5)[1].reason.startswith("the primary refused it")
        self.primary.says = unheard
        assert self.handed(row, unheard=5)[0] is Result.STUCK, "what it may have it has, whatever it said since"

    def test_trouble_of_our_own(self) -> None:
        """Would catch a fault of ours that is held against the primary, or after which a copy that may be there goes as certain."""
        for dot, outcome, said, result in (
            (False, Outcome.DEFERRED, "451 4.3.0 trouble of our own", Result.LATER),
            (True, Outcome.UNCERTAIN, "451 4.4.2 trouble of our own after the final dot", Result.UNAVAILABLE),
        ):
            self.primary.says, self.primary.dot = OSError("disk"), dot
            got, one = self.handed(self.copy())
            assert one.verdict is not None
            assert (got, one.state, one.verdict.outcome, str(one.verdict.reply)) == (result, RowState.QUEUED, outcome, said)
            assert len(self.flushLoggedErrors(OSError)) == 1
        assert one.verdict.unavailable

    def test_what_the_portal_says(self) -> None:
        """Would catch a copy that is offered while a POP session has it, or after it was removed (C6), and one whose mailbox was removed that is tried for ever."""
        row = self.copy()
        self.portal.locks[1] = "pop"
        assert self.handed(row) == (Result.LATER, Settled(row.id, RowState.QUEUED, None, NOW + 20.0))
        self.portal.locks.clear()
        begin = self.portal.begin_drain
        for error, result, state in (
            (FolderError("CANNOT", "gone"), Result.GONE, RowState.REMOVED),
            (OSError("disk"), Result.LATER, RowState.QUEUED),
        ):
            row = self.copy()

            async def failing(copy: Portal, error: Exception = error) -> Any:
                raise error

            self.portal.begin_drain = failing  # type: ignore[method-assign]
            got, one = self.handed(row)
            assert (got, one.state) == (result, state)
        assert one.verdict is not None
        assert (str(one.verdict.reply), one.verdict.stage) == ("451 4.3.0 our portal store failed", Stage.LOCAL)
        self.portal.begin_drain = begin  # type: ignore[method-assign]
        row = self.copy()
        del self.portal.copies[row.portal.name]  # type: ignore[union-attr]
        got, one = self.handed(row)
        assert (got, one.state, one.reason) == (Result.GONE, RowState.REMOVED, "removed from INBOX before it was drained (C6)")
        assert self.returned.watched(1)
        assert not self.primary.loads

    def test_in_an_emergency(self) -> None:
        """Would catch copies that are offered to a primary in an emergency, beside the one that is to tell whether it is over."""
        self.modes.now = Mode.EMERGENCY
        row = self.copy()
        assert self.handed(row)[1].state is RowState.PARKED
        assert not self.primary.loads
        assert self.handed(row, trial=True)[0] is Result.HOME

    def test_to_whom(self) -> None:
        """Rule 9: would catch a copy that goes to an address that is somebody else's by now, or to another than it was sent to although that is its owner's; and the sender's
        wishes that are lost on the way."""
        wished = Recipient(f"al@{DOMAIN}", ("NEVER",), "rfc822;al@x.test")
        for mailbox, address, expected in (
            (1, f"al@{DOMAIN}", f"al@{DOMAIN}"),
            (2, f"al@{DOMAIN}", f"bob@{DOMAIN}"),
            (1, f"gone@{DOMAIN}", ALICE),
            (77, f"gone@{DOMAIN}", f"gone@{DOMAIN}"),
        ):
            row = self.copy(address, mailbox)
            message = self.message(row)
            envelope = msgspec.structs.replace(message.envelope, recipients=(msgspec.structs.replace(wished, address=address),))
            self.queue.messages[message.id] = msgspec.structs.replace(message, envelope=envelope)
            self.handed(row)
            [recipient] = self.primary.loads[-1].recipients
            assert recipient == msgspec.structs.replace(wished, address=expected)
        row = self.copy()
        self.portal.copies[row.portal.name].envelope = Envelope("", ())  # type: ignore[union-attr]
        self.handed(row)
        assert self.primary.loads[-1].recipients == (Recipient(ALICE),)
