"""What lies in the portal for too long is told (rule 3), and what nobody is left to take home stays for good."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from hornetmail.core.delivery.queued import Row, RowKind, RowState
from hornetmail.core.events import Alarm
from hornetmail.core.mail.envelope import Door
from hornetmail.core.served import Domain
from hornetmail.delivery.attempt.ground import Ground
from hornetmail.delivery.home.drain import DrainLimits
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.pages import pages

UNSETTLED = (RowState.PARKED, RowState.QUEUED, RowState.STUCK, RowState.CLAIMED)
WAITING = (RowState.PARKED, RowState.QUEUED, RowState.CLAIMED)


SHOWN = 50
"""Copies that a notice names."""


class _Copies:
    """Of one domain. ``orphaned``: it has no primary, and ``rows`` are all of them. ``late``: how many are told of, ``shown`` the first, and ``mailboxes`` how
    many are whose."""

    def __init__(self, orphaned: bool) -> None:
        self.orphaned = orphaned
        self.rows = array("q")
        self.parked = False
        self.late = 0
        self.shown: list[Row] = []
        self.mailboxes: Counter[int] = Counter()

    def add(self, row: Row, *, late: bool) -> None:
        """One more."""
        if self.orphaned:
            self.rows.append(row.id)
            return
        self.parked = self.parked or row.state is RowState.PARKED
        if late:
            self.late += 1
            if len(self.shown) < SHOWN:
                self.shown.append(row)
            if row.portal is not None:
                self.mailboxes[row.portal.mailbox] += 1


class Undrained:
    """``kick(domain)`` starts a pass for copies parked outside an emergency."""

    log = Logger()

    def __init__(self, ground: Ground, notices: Notices, kick: Callable[[str], None], limits: DrainLimits) -> None:
        self._ground = ground
        self._notices = notices
        self._kick = kick
        self._limits = limits
        self._orphans: dict[str, float] = {}

    async def sweep(self) -> None:
        """Every few minutes: start passes for what is overlooked, and tell of what lies too long, in an emergency too, and whatever is being
        tried with it just now. One domain's trouble is not another's. Of copies that have their time nothing is kept."""
        if not self._ground.queue.backlog().drain:
            return
        found = await self._look()
        self._orphans = {name: since for name, since in self._orphans.items() if name in found}
        for name, copies in found.items():
            try:
                await self._look_at(name, copies)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - the others are told all the same, and this one at the next sweep
                self.log.failure("undrained mail of {domain} could not be told of", domain=name)

    async def _look(self) -> dict[str, _Copies]:
        found: dict[str, _Copies] = {}
        since = self._ground.clock.seconds() - self._limits.undrained
        async for page in pages(self._ground.clock, self._ground.queue, (RowKind.DRAIN,), UNSETTLED):
            for message, row in page:
                name = self._ground.domain(row)
                copies = found.get(name)
                if copies is None:
                    copies = found[name] = _Copies(not self._has_primary(name))
                copies.add(row, late=row.state in WAITING and row.queued <= since and message.origin.door is not Door.NOTICE)
        return found

    def _has_primary(self, name: str) -> bool:
        domain = self._ground.directory.domain(name)
        return domain is not None and bool(domain.primaries)

    async def _look_at(self, name: str, copies: _Copies) -> None:
        domain = self._ground.directory.domain(name)
        if copies.orphaned:
            await self._orphaned(name, copies.rows)
            return
        self._orphans.pop(name, None)
        if not self._ground.in_emergency(name) and copies.parked:
            self._kick(name)
        if domain is not None and copies.late:
            await self._tell(domain, copies)

    async def _orphaned(self, name: str, rows: Sequence[int]) -> None:
        """Nobody is left to take these home: after a while (a primary may just be being replaced) they stay where they are."""
        now = self._ground.clock.seconds()
        if now - self._orphans.setdefault(name, now) < self._limits.orphaned:
            return
        reason = f"{name} has no primary any more: the copy stays in the portal, which is its mail server for good"
        count = await self._ground.queue.change(rows, RowState.REMOVED, reason=reason)
        if not count:
            return
        text = f"{name} has no primary any more: {count} messages that were to be drained stay in the portal for good"
        self._ground.bus.publish(Alarm("drain-orphaned", text, name))
        await self._notices.tell_administrators(name, f"Mail of {name} stays in the portal", [text + "."], f"orphaned:{name}")

    async def _tell(self, served: Domain, copies: _Copies) -> None:
        domain = served.name
        hours = self._limits.undrained / 3600
        away = self._ground.in_emergency(domain)
        why = "the mail server is not there" if away else "the mail server did not take them"
        lines = [
            f"{copies.late} messages for {domain} have been in the portal for more than {hours:g} hours, because {why}.",
            f"They are readable there, and {'go home once the emergency is over' if away else 'delivery goes on being tried'}.",
            "",
        ]
        shown = [f"  <{row.address}>: {row.last.reply if row.last else 'not tried yet'}" for row in copies.shown]
        await self._notices.tell_administrators(
            domain, f"Undelivered mail in the portal of {domain}", [*lines, *shown], f"undrained:{domain}"
        )
        for identifier, count in sorted(copies.mailboxes.items()):
            mailbox = self._ground.directory.mailbox_by_id(identifier)
            if mailbox is None:
                continue
            text = [
                f"{count} of your messages lie in the portal, because your own {why[4:]}.",
                "You can read them there over webmail, IMAP or POP.",
            ]
            await self._notices.tell_person(mailbox, "Mail for you is waiting in the portal", text, "undrained", served)
