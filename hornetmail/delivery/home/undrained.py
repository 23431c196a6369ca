"""What lies in the portal for too long is told (rule 3), and what nobody is left to take home stays for good."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from hornetmail.core.delivery.queued import Message, Row, RowKind, RowState
from hornetmail.core.events import Alarm
from hornetmail.core.mail.envelope import Door
from hornetmail.core.served import Domain
from hornetmail.delivery.attempt.ground import Ground
from hornetmail.delivery.home.drain import DrainLimits
from hornetmail.delivery.letters.notices import Notices

UNSETTLED = (RowState.PARKED, RowState.QUEUED, RowState.STUCK, RowState.CLAIMED)
WAITING = (RowState.PARKED, RowState.QUEUED, RowState.CLAIMED)


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
        tried with it just now. One domain's trouble is not another's."""
        if not self._ground.queue.backlog().drain:
            return
        by_domain: dict[str, list[tuple[Message, Row]]] = {}
        for message, row in await self._copies():
            by_domain.setdefault(self._ground.domain(row), []).append((message, row))
        self._orphans = {name: since for name, since in self._orphans.items() if name in by_domain}
        for name, copies in by_domain.items():
            try:
                await self._look_at(name, copies)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - the others are told all the same, and this one at the next sweep
                self.log.failure("undrained mail of {domain} could not be told of", domain=name)

    async def _copies(self) -> list[tuple[Message, Row]]:
        found: list[tuple[Message, Row]] = []
        after = 0
        while True:
            page = await self._ground.queue.rows(kinds=(RowKind.DRAIN,), states=UNSETTLED, after=after)
            found.extend(page)
            if len(page) < 500:
                return found
            after = page[-1][1].id

    async def _look_at(self, name: str, copies: list[tuple[Message, Row]]) -> None:
        domain = self._ground.directory.domain(name)
        if domain is None or not domain.primaries:
            await self._orphaned(name, [row for _, row in copies])
            return
        self._orphans.pop(name, None)
        if not self._ground.in_emergency(name) and any(row.state is RowState.PARKED for _, row in copies):
            self._kick(name)
        since = self._ground.clock.seconds() - self._limits.undrained
        late = [
            row
            for message, row in copies
            if row.state in WAITING and row.queued <= since and message.origin.door is not Door.NOTICE
        ]
        if late:
            await self._tell(domain, late)

    async def _orphaned(self, name: str, rows: list[Row]) -> None:
        """Nobody is left to take these home: after a while (a primary may just be being replaced) they stay where they are."""
        now = self._ground.clock.seconds()
        if now - self._orphans.setdefault(name, now) < self._limits.orphaned:
            return
        reason = f"{name} has no primary any more: the copy stays in the portal, which is its mail server for good"
        count = await self._ground.queue.change([row.id for row in rows], RowState.REMOVED, reason=reason)
        if not count:
            return
        text = f"{name} has no primary any more: {count} messages that were to be drained stay in the portal for good"
        self._ground.bus.publish(Alarm("drain-orphaned", text, name))
        await self._notices.tell_administrators(name, f"Mail of {name} stays in the portal", [text + "."], f"orphaned:{name}")

    async def _tell(self, served: Domain, late: list[Row]) -> None:
        domain = served.name
        hours = self._limits.undrained / 3600
        away = self._ground.in_emergency(domain)
        why = "the mail server is not there" if away else "the mail server did not take them"
        lines = [
            f"{len(late)} messages for {domain} have been in the portal for more than {hours:g} hours, because {why}.",
            f"They are readable there, and {'go home once the emergency is over' if away else 'delivery goes on being tried'}.",
            "",
        ]
        shown = [f"  <{row.address}>: {row.last.reply if row.last else 'not tried yet'}" for row in late[:50]]
        await self._notices.tell_administrators(
            domain, f"Undelivered mail in the portal of {domain}", [*lines, *shown], f"undrained:{domain}"
        )
        for identifier in sorted({row.portal.mailbox for row in late if row.portal is not None}):
            mailbox = self._ground.directory.mailbox_by_id(identifier)
            if mailbox is None:
                continue
            count = sum(1 for row in late if row.portal is not None and row.portal.mailbox == identifier)
            text = [
                f"{count} of your messages lie in the portal, because your own {why[4:]}.",
                "You can read them there over webmail, IMAP or POP.",
            ]
            await self._notices.tell_person(mailbox, "Mail for you is waiting in the portal", text, "undrained", served)
