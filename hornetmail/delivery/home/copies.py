"""What is done with a portal copy once the journal has what became of its hand-over.

The primary's 250 is on record before the file is touched: the row is ``HOME``, and nobody offers the copy again. Its removal is a step of its own,
repeated until it succeeds, by this process or the next; only then the row is done. A copy that stays in INBOX is let go the same way, so
that its owner can use it. A fault of the disk delays either, and says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import Portal, Row, RowKind, RowState, Settled
from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.core.folder import FolderError
from hornetmail.delivery.attempt.ground import Ground
from hornetmail.delivery.attempt.record import Record
from hornetmail.delivery.pages import pages
from hornetmail.delivery.tasks import Tasks, pause, within
from hornetmail.interfaces.portal import IPortal

AGAIN = Backoff(first=1.0, ceiling=300.0)
"""Between tries."""

TOLD_SECONDS = 60.0
"""An administrator hears of a copy that could not be removed or let go for that long."""

HANGS_SECONDS = 120.0
"""A try that is not answered for that long has failed; longer than the portal waits for a POP session."""

TRY_SECONDS = 10.0
"""For the first try; a pass of the drain goes on after it."""

ALARM = "portal-copy-stays"


class Copies:
    """See the module. ``late``: seconds after which an alarm tells."""

    log = Logger()

    def __init__(
        self, ground: Ground, record: Record, portal: IPortal, again: Backoff = AGAIN, late: float = TOLD_SECONDS
    ) -> None:
        self._ground = ground
        self._record = record
        self._portal = portal
        self._again = again
        self._late = late
        self._busy: dict[str, list[Deferred[None]]] = {}
        self._untried: dict[str, list[Deferred[None]]] = {}
        self._tasks = Tasks(ground.clock)

    async def stop(self, grace: float) -> None:
        """Let steps end that are under way."""
        await self._tasks.stop(grace)

    def remove(self, row: Row, *, claimed: bool) -> None:
        """The row is HOME: its copy leaves INBOX, and the row the queue. ``claimed``: the portal keeps it claimed since its hand-over."""
        assert row.portal is not None
        self._start(row.portal.name, self._removed(row, row.portal, claimed), f"removal of {row.portal.name}")

    def let_go(self, copy: Portal, keyword: str = "", reason: str = "") -> None:
        """The copy stays, marked with ``keyword`` if that is given."""
        step = self._repeated(
            lambda: self._portal.end_drain(copy, delivered=False, keyword=keyword, reason=reason), copy, "let go"
        )
        self._start(copy.name, step, f"letting go of {copy.name}")

    async def at_rest(self, copy: Portal) -> None:
        """Returns when nothing is being done with it any more."""
        while copy.name in self._busy:
            waiting: Deferred[None] = Deferred()
            self._busy[copy.name].append(waiting)
            await waiting

    async def tried(self, copy: Portal) -> None:
        """Returns when what is to be done with it was tried once, or after some seconds: nobody waits for a disk that hangs."""
        if copy.name in self._untried:
            waiting: Deferred[None] = Deferred()
            self._untried[copy.name].append(waiting)
            with contextlib.suppress(TimeoutError):
                await within(self._ground.clock, TRY_SECONDS, _fired(waiting))

    async def sweep(self) -> int:
        """Take up what a death or a fault left in INBOX though the primary has it; how many."""
        found = 0
        async for page in pages(self._ground.clock, self._ground.queue, (RowKind.DRAIN,), (RowState.HOME,)):
            for _, row in page:
                if not self._record.holds(row.id):
                    self.remove(row, claimed=False)
            found += len(page)
        return found

    def _start(self, name: str, step: Coroutine[Any, Any, None], what: str) -> None:
        if name in self._busy:
            step.close()
            return
        self._busy[name] = []
        self._untried[name] = []
        self._tasks.start(step, what).addCallback(lambda _: self._ended(name))

    def _ended(self, name: str) -> None:
        for each in (*self._untried.pop(name, ()), *self._busy.pop(name, ())):
            if not each.called:
                each.callback(None)

    async def _removed(self, row: Row, copy: Portal, claimed: bool) -> None:
        """Claimed anew at each further try: what its owner did meanwhile counts (C6)."""

        async def step() -> None:
            nonlocal claimed
            there, claimed = claimed, False
            if there or await self._portal.begin_drain(copy) is not None:
                await self._portal.end_drain(copy, delivered=True)

        await self._repeated(step, copy, "removed though the primary has it")
        await self._record.put([Settled(row.id, RowState.DELIVERED, delay_told=row.delay_told)])

    async def _repeated(self, step: Callable[[], Coroutine[Any, Any, None]], copy: Portal, what: str) -> None:
        clock = self._ground.clock
        began, tries, told = clock.seconds(), 0, False
        while True:
            try:
                await within(clock, HANGS_SECONDS, step())
                if told:
                    self._ground.bus.publish(AlarmEnded(ALARM, copy.name, "it is done"))
                return
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, only this step is tried again
                if isinstance(error, FolderError) and error.code == "CANNOT":
                    # Its mailbox was removed since: there is nobody whose INBOX it could be in.
                    if told:
                        self._ground.bus.publish(AlarmEnded(ALARM, copy.name, "its mailbox was removed"))
                    return
                tries += 1
                why = str(error)
                for each in self._untried.pop(copy.name, ()):
                    if not each.called:
                        each.callback(None)
                self.log.error("copy {name} cannot be {what}: {why}", name=copy.name, what=what, why=why)
            if not told and clock.seconds() - began >= self._late:
                told = True
                mailbox = self._ground.directory.mailbox_by_id(copy.mailbox)
                whose = f"<{mailbox.address}>" if mailbox is not None else f"mailbox {copy.mailbox}"
                text = f"{whose}: the portal's copy {copy.name} cannot be {what}, it is tried again and again: {why}"
                self._ground.bus.publish(Alarm(ALARM, text, subject=copy.name))
            await pause(clock, self._again.delay(tries, 0.5))


async def _fired(waited: Deferred[None]) -> None:
    await waited
