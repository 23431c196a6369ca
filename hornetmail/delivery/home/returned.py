"""Copies that were not in INBOX when their turn to drain came, and drain once they are back there (rule 10).

A fact in the queue for each, so that only these are looked for: what was delivered for good, or taken off the queue by hand, stays where it
is. They are found by the hint that INBOX changed, and, a few mailboxes at a time, by the sweep. A fact lives as long as the portal's folders.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from weakref import WeakValueDictionary

import msgspec
from twisted.internet.defer import CancelledError, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.delivery.queued import DONE, Message, Portal, Row, RowKind, RowState
from hornetmail.core.events import FolderChanged
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.address import domain_of
from hornetmail.delivery.pages import pages
from hornetmail.delivery.tasks import Tasks, within
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.modes import IModes
from hornetmail.interfaces.portal import IPortal
from hornetmail.interfaces.queue import IQueue

SPACE = "moved"
INBOX = "INBOX"

DAY = 86_400.0

EXTRA_DAYS = 30
"""A copy that comes back drains as long as portal folders are kept (rule 24), and so much longer: announcing may take its time."""

LONGEST_DAYS = 366
"""The same where they are kept for good."""

LOOKS = 50
"""Mailboxes looked at in one sweep."""

HANGS_SECONDS = 300.0
"""A look that takes longer has failed: its turn comes again."""

LIVE = tuple(state for state in RowState if state not in DONE)


class Away(msgspec.Struct, frozen=True, array_like=True):
    """What the settled row knew. ``at``: when it was settled, ``arrived``: the message, both in Unix seconds."""

    at: float
    arrived: float
    tenant: int
    domain: str
    address: str
    uncertain: bool


class Returned:
    """Notes them, and makes their rows anew."""

    log = Logger()

    def __init__(
        self, clock: IReactorTime, queue: IQueue, portal: IPortal, directory: IDirectory, modes: IModes, bus: IBus
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._portal = portal
        self._directory = directory
        self._modes = modes
        self._bus = bus
        self._away: dict[int, dict[str, Away]] = {}
        self._turns: deque[int] = deque()
        self._looking: set[int] = set()
        self._alone: WeakValueDictionary[int, DeferredLock] = WeakValueDictionary()
        self._tasks = Tasks(clock)
        self._unsubscribe: Callable[[], None] | None = None

    def load(self) -> None:
        """Read what was remembered."""
        for key, value in self._queue.remembered(SPACE).items():
            mailbox, _, name = key.partition("/")
            try:
                self._watch(int(mailbox), name, msgspec.msgpack.decode(value, type=Away))
            except (msgspec.DecodeError, ValueError):
                self.log.error("the fact {key} of moved copies cannot be read", key=key)

    def start(self) -> None:
        """Listen to INBOXes."""
        self._unsubscribe = self._bus.subscribe(FolderChanged, self._hint)

    async def stop(self, grace: float) -> None:
        """Let looks end."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        await self._tasks.stop(grace)

    async def note(self, message: Message, row: Row) -> None:
        """A drain row is about to be settled because its copy was not in INBOX. In memory when it is durable; raises the queue's errors."""
        copy = row.portal
        assert copy is not None
        away = Away(self._clock.seconds(), message.arrived, message.tenant, message.domain, row.address, copy.uncertain)
        await self._queue.remember(SPACE, f"{copy.mailbox}/{copy.name}", msgspec.msgpack.encode(away))
        self._watch(copy.mailbox, copy.name, away)

    def watched(self, mailbox: int = 0) -> list[str]:
        """Names of copies that drain once they are back in INBOX: of a mailbox, or with 0 of all."""
        some = [self._away.get(mailbox, {})] if mailbox else list(self._away.values())
        return [name for names in some for name in names]

    def _watch(self, mailbox: int, name: str, away: Away) -> None:
        if mailbox not in self._away:
            self._away[mailbox] = {}
            self._turns.append(mailbox)
        self._away[mailbox][name] = away

    async def _forget(self, mailbox: int, name: str) -> None:
        await self._queue.remember(SPACE, f"{mailbox}/{name}", None)
        names = self._away.get(mailbox, {})
        names.pop(name, None)
        if not names:
            self._away.pop(mailbox, None)

    def _hint(self, event: FolderChanged) -> None:
        if event.folder == INBOX and event.mailbox in self._away:
            self._tasks.start(self.look(event.mailbox), f"look for moved copies in mailbox {event.mailbox}")

    async def sweep(self) -> None:
        """Look at some mailboxes whose turn it is, whatever was hinted; drop what is too old."""
        now = self._clock.seconds()
        for _ in range(min(LOOKS, len(self._turns))):
            mailbox = self._turns.popleft()
            try:
                for name in [name for name, away in self._away.get(mailbox, {}).items() if away.at < now - self._watched(away)]:
                    await self._forget(mailbox, name)
            finally:
                if mailbox in self._away:
                    self._turns.append(mailbox)
            if mailbox in self._away:
                await self.look(mailbox)

    def _watched(self, away: Away) -> float:
        """Seconds for which a copy that comes back drains."""
        domain = self._directory.domain(domain_of(away.address))
        days = domain.portal_days if domain is not None else 0
        return (days + EXTRA_DAYS if days else LONGEST_DAYS) * DAY

    async def look(self, mailbox: int) -> int:
        """Drain rows for what is back in INBOX; how many."""
        if mailbox in self._looking:
            return 0
        self._looking.add(mailbox)
        try:
            return await within(self._clock, HANGS_SECONDS, self._look_alone(mailbox))
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - its turn comes again, and others wait
            self.log.failure("mailbox {mailbox} could not be looked at for copies that came back", mailbox=mailbox)
            return 0
        finally:
            self._looking.discard(mailbox)

    async def _look_alone(self, mailbox: int) -> int:
        async with self.alone(mailbox):
            return await self._look(mailbox)

    def alone(self, mailbox: int) -> DeferredLock:
        """Held by whoever asks which copies of a mailbox have a drain row and makes those that are missing, so that no two are made."""
        lock = self._alone.get(mailbox)
        if lock is None:
            lock = self._alone[mailbox] = DeferredLock()
        return lock

    async def _look(self, mailbox: int) -> int:
        wanted = {name: away for name, away in self._away.get(mailbox, {}).items() if self._has_primary(away)}
        back = await self._portal.returned(mailbox, wanted) if wanted else {}
        if not back:
            return 0
        waiting: dict[str, RowState] = {}
        async for page in pages(self._clock, self._queue, (RowKind.DRAIN,), LIVE, mailbox=mailbox):
            waiting.update((row.portal.name, row.state) for _, row in page if row.portal is not None)
        made = 0
        for name, (envelope, size) in back.items():
            away = wanted[name]
            if waiting.get(name) is RowState.CLAIMED:
                # Its row is about to be done, because the copy was not there: not forgotten before it is.
                continue
            if name not in waiting:
                emergency = self._modes.mode(domain_of(away.address)) is Mode.EMERGENCY
                await self._queue.queue_copy(
                    Portal(mailbox, name, away.uncertain),
                    envelope,
                    away.address,
                    tenant=away.tenant,
                    domain=away.domain,
                    arrived=away.arrived,
                    size=size,
                    due=0.0 if emergency else self._clock.seconds(),
                )
                made += 1
            await self._forget(mailbox, name)
        self.log.info("mailbox {mailbox}: {count} messages are back in INBOX and drain", mailbox=mailbox, count=made)
        return made

    def _has_primary(self, away: Away) -> bool:
        domain = self._directory.domain(domain_of(away.address))
        return domain is not None and bool(domain.primaries)
