"""Connections to primaries by IMAP: one a mailbox, a few a domain, kept for a moment; and whom a primary does not let in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import DeferredLock, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from hornetmail.core.delivery.filing import Closed
from hornetmail.core.served import Mailbox
from hornetmail.delivery.filing.conversation import AtPrimary
from hornetmail.delivery.filing.ways import Way, Ways
from hornetmail.delivery.tasks import Tasks
from hornetmail.net.clients.imap import Broken, IMAPClient, Timeouts, Trouble

T = TypeVar("T")

IDLE_SECONDS = 10.0
"""A connection that is not used for so long is ended."""

SIDE_BY_SIDE = 4
"""Connections to one domain's primary."""

REFUSED_SECONDS = 24 * 3600.0
"""Who is not let in is tried again after that: a primary that has just come back may refuse everybody, and once a day locks nobody out."""

DOUBTS = 3
"""So many mailboxes in a row that the service account is not let into are a matter of the account: nothing is tried before it is changed, or a day is over. So many in a row whose conversations
broke are a matter of the server."""

AWAY_SECONDS = (60.0, 3600.0)
"""A primary that cannot be reached is left alone for so long: the first time, and at most."""

Connect = Callable[..., Awaitable[IMAPClient]]
"""``IMAPClient.connect``, or a test's."""


class _Refusal(msgspec.Struct, frozen=True):
    version: int
    until: float
    text: str


class _Away(msgspec.Struct, frozen=True):
    until: float
    wait: float
    text: str


class Connections:
    """``clock`` is the reactor. ``told(mailbox, text, lasting)`` hears of what is in the way, with ``""`` when it is not any more."""

    log = Logger()

    def __init__(
        self,
        clock: Any,
        dialer: Any,
        ways: Ways,
        told: Callable[[Mailbox, str, bool], None],
        connect: Connect = IMAPClient.connect,
        timeouts: Timeouts = Timeouts(),
    ) -> None:
        self._clock = clock
        self._dialer = dialer
        self._ways = ways
        self._told = told
        self._connect = connect
        self._timeouts = timeouts
        self._locks: dict[int, DeferredLock] = {}
        self._room: dict[str, DeferredSemaphore] = {}
        self._open: dict[int, tuple[Way, AtPrimary, IDelayedCall]] = {}
        self._refused: dict[int, _Refusal] = {}
        self._doubts: dict[str, tuple[int, int]] = {}
        self._barred: dict[str, _Refusal] = {}
        self._away: dict[str, _Away] = {}
        self._rough: dict[str, dict[int, _Away]] = {}
        """Mailboxes of a domain at which conversations broke: they wait, the others go on."""
        self._stumbles: dict[str, set[int]] = {}
        """Those of them since one last went well."""
        self._tasks = Tasks(clock)

    async def stop(self) -> None:
        """End those that are kept."""
        for mailbox in list(self._open):
            _, at, timer = self._open.pop(mailbox)
            timer.cancel()
            at.client.abort()
        await self._tasks.stop(1.0)

    def closed(self, mailbox: Mailbox) -> Closed | None:
        """Why nobody is to be asked now; None: one may try."""
        now = self._clock.seconds()
        for refusal in (self._barred.get(mailbox.domain), self._refused.get(mailbox.id)):
            if refusal is not None and refusal.version == self._ways.version and now < refusal.until:
                return Closed(refusal.text, lasting=True)
        for away in (self._away.get(mailbox.domain), self._rough.get(mailbox.domain, {}).get(mailbox.id)):
            if away is not None and now < away.until:
                return Closed(away.text)
        return None

    def again(self, domain: str) -> None:
        """It is there again: what was in the way of all is forgotten."""
        self._away.pop(domain, None)
        self._rough.pop(domain, None)
        self._stumbles.pop(domain, None)

    async def tried(self, way: Way) -> tuple[str, ...]:
        """A connection of its own, for a test: the folders that are there, as on the wire. Raises Broken, Refused."""
        client = await self._connect(self._dialer, way.server.host, way.account, tls=way.server.tls, timeouts=self._timeouts)
        try:
            tree = await AtPrimary(client).tree()
        finally:
            await client.logout()
        return tuple(each.name.decode("ascii", "replace") for each in tree.remotes)

    async def use(self, mailbox: Mailbox, way: Way, work: Callable[[AtPrimary], Awaitable[T]]) -> T:
        """``work`` with the mailbox to itself. Raises Closed, Refused, Broken of ``work``'s own, whatever it raises."""
        lock = self._locks.setdefault(mailbox.id, DeferredLock())
        room = self._room.setdefault(mailbox.domain, DeferredSemaphore(SIDE_BY_SIDE))
        await lock.acquire()
        try:
            await room.acquire()
            try:
                kept = self._kept(mailbox, way)
                if kept is not None:
                    try:
                        return await self._with(mailbox, way, kept, work)
                    except Broken as error:
                        # The server may have ended it since it was used; once more on a fresh one (rule 2).
                        if not error.certain or error.trouble is not Trouble.LOST:
                            self._stumbled(mailbox, error.text)
                            raise
                at = await self._fresh(mailbox, way)
                try:
                    return await self._with(mailbox, way, at, work)
                except Broken as error:
                    if error.trouble is not Trouble.OURS:
                        self._stumbled(mailbox, error.text)
                    raise
            finally:
                room.release()
        finally:
            lock.release()
            if not lock.locked and not lock.waiting:
                self._locks.pop(mailbox.id, None)

    async def _with(self, mailbox: Mailbox, way: Way, at: AtPrimary, work: Callable[[AtPrimary], Awaitable[T]]) -> T:
        """Kept afterwards, unless it broke on the way: whoever leaves a conversation in the middle ends its connection (``IMAPClient``)."""
        try:
            done = await work(at)
            self._rough.get(mailbox.domain, {}).pop(mailbox.id, None)
            self._stumbles.pop(mailbox.domain, None)
            return done
        finally:
            if at.client.alive:
                self._open[mailbox.id] = (way, at, self._clock.callLater(IDLE_SECONDS, self._end, mailbox.id))

    def _kept(self, mailbox: Mailbox, way: Way) -> AtPrimary | None:
        kept = self._open.pop(mailbox.id, None)
        if kept is not None:
            kept[2].cancel()
            if kept[1].client.alive and kept[0] == way:
                return kept[1]
            kept[1].client.abort()
        return None

    async def _fresh(self, mailbox: Mailbox, way: Way) -> AtPrimary:
        why = self.closed(mailbox)
        if why is not None:
            raise why
        try:
            client = await self._connect(self._dialer, way.server.host, way.account, tls=way.server.tls, timeouts=self._timeouts)
        except Broken as error:
            if error.trouble is Trouble.REFUSED:
                raise self._not_let_in(mailbox, way, error.text) from None
            if error.trouble is not Trouble.OURS:
                self._unreachable(mailbox, error.text)
            raise Closed(error.text) from None
        self._refused.pop(mailbox.id, None)
        self._away.pop(mailbox.domain, None)
        if way.service:
            self._doubts.pop(mailbox.domain, None)
        self._told(mailbox, "", False)
        return AtPrimary(client)

    def _not_let_in(self, mailbox: Mailbox, way: Way, text: str) -> Closed:
        """Each further try with a wrong password is one towards a lock-out."""
        now, version = self._clock.seconds(), self._ways.version
        until = now + REFUSED_SECONDS
        self._refused[mailbox.id] = _Refusal(version, until, text)
        if way.service:
            before, count = self._doubts.get(mailbox.domain, (version, 0))
            count = count + 1 if before == version else 1
            self._doubts[mailbox.domain] = version, count
            if count >= DOUBTS:
                self._barred[mailbox.domain] = _Refusal(version, until, text)
        self._told(mailbox, text, True)
        return Closed(text, lasting=True)

    def _unreachable(self, mailbox: Mailbox, text: str) -> None:
        self._away[mailbox.domain] = self._longer(self._away.get(mailbox.domain), text)
        self._told(mailbox, text, False)

    def _stumbled(self, mailbox: Mailbox, text: str) -> None:
        """In the middle of a conversation: it may be for this one's mail, or for all."""
        rough = self._rough.setdefault(mailbox.domain, {})
        rough[mailbox.id] = self._longer(rough.get(mailbox.id), text)
        stumbles = self._stumbles.setdefault(mailbox.domain, set())
        stumbles.add(mailbox.id)
        if len(stumbles) >= DOUBTS:
            self._unreachable(mailbox, text)
        else:
            self._told(mailbox, text, False)

    def _longer(self, before: _Away | None, text: str) -> _Away:
        wait = AWAY_SECONDS[0] if before is None else min(before.wait * 2, AWAY_SECONDS[1])
        return _Away(self._clock.seconds() + wait, wait, text)

    def _end(self, mailbox: int) -> None:
        _, at, _ = self._open.pop(mailbox)
        self._tasks.start(at.client.logout(), "a farewell to a primary")
