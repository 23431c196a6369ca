"""An emergency as people meet it: an alarm for administrators, and, if the domain wants that, two letters to those who have a second address on
file, which their own server need not bring: at the beginning how to get in, at the end what went home (rule 8f).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.events import Alarm, AlarmEnded, ModeChanged, WentHome
from hornetmail.core.failover.mode import Mode
from hornetmail.core.served import Domain, Mailbox
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.tasks import Tasks, pause
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.modes import IModes
from hornetmail.interfaces.queue import IQueue

SPACE = "emergencies"

LATER = 5.0
"""Seconds until what went home is written down; a crash in them makes the figures of the last letter too small, which says "at least"."""

SLICE = 50
"""Letters in one turn of the reactor."""


class Outage(msgspec.Struct, frozen=True, gc=False):
    """An emergency that was told of. ``since``: its beginning in Unix seconds; ``home`` and ``refused``: messages by mailbox ID."""

    since: float
    told: bool = False
    home: dict[int, int] = {}
    refused: dict[int, int] = {}


class Emergencies:
    """``ways_in``: lines that say where the portal is."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        directory: IDirectory,
        modes: IModes,
        notices: Notices,
        bus: IBus,
        ways_in: Sequence[str],
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self._modes = modes
        self._notices = notices
        self._bus = bus
        self._ways_in = tuple(ways_in)
        self._outages: dict[str, Outage] = {}
        self._unsaved: set[str] = set()
        self._timer: Any = None
        self._tasks = Tasks(clock)
        self._listening: list[Callable[[], None]] = []

    def start(self) -> None:
        """Take up what an earlier process began, and listen. The modes are loaded."""
        for domain, value in self._queue.remembered(SPACE).items():
            try:
                self._outages[domain] = msgspec.msgpack.decode(value, type=Outage)
            except msgspec.DecodeError:
                self.log.error("what was remembered of the emergency of {domain} cannot be read", domain=domain)
        self._listening = [self._bus.subscribe(ModeChanged, self._changed), self._bus.subscribe(WentHome, self._went)]
        for served in self._directory.domains():
            mode = self._modes.mode(served.name)
            if mode is not Mode.NORMAL:
                self._begin(served.name, mode, str(self._modes.explain(served.name).get("reason", "")))
        for domain in list(self._outages):
            if self._modes.mode(domain) is Mode.NORMAL:
                self._tasks.start(self._end(domain), f"the end of the emergency of {domain}")

    async def stop(self) -> None:
        """Listen no more; what is being written is written."""
        for unsubscribe in self._listening:
            unsubscribe()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._save()
        await self._tasks.stop(1.0)

    def over(self, domain: str) -> str:
        """Why there is no emergency, or ``""``: it lasts, or mail is still on its way home."""
        if self._directory.domain(domain) is None:
            return "the domain is not served any more"
        return "" if self._modes.mode(domain) is not Mode.NORMAL or domain in self._outages else "the domain is back to normal"

    # -- beginning

    def _changed(self, event: ModeChanged) -> None:
        if event.mode is Mode.NORMAL:
            self._tasks.start(self._end(event.domain), f"the end of the emergency of {event.domain}")
        else:
            self._begin(event.domain, event.mode, event.reason)

    def _begin(self, domain: str, mode: Mode, reason: str) -> None:
        text = f"{domain} is in emergency mode, new mail goes to the portal: {reason}"
        if mode is Mode.DRAINING:
            text = f"{domain} is on its way back, mail goes home from the portal: {reason}"
        self._bus.publish(Alarm("emergency", text, domain))
        outage = self._outages.get(domain)
        if outage is None:
            outage = self._outages[domain] = Outage(self._clock.seconds())
            self._later(domain)
        if mode is Mode.EMERGENCY and not outage.told:
            self._tasks.start(self._tell_in(domain), f"telling people of {domain} how to get in")

    async def _tell_in(self, domain: str) -> None:
        outage = self._outages[domain]
        for served, mailbox in await self._people(domain):
            subject = f"The mail server of {domain} is unavailable: where your mail is now"
            lines = [
                f"The mail server of {domain} does not take mail at the moment. Your mail goes to the emergency",
                f"server instead, and you can go on reading and writing there, as {mailbox.address} and with the",
                "password that you have there:",
                "",
                *self._ways_in,
                "",
                "When your mail server is back, what is left in your inbox there goes to it by itself.",
            ]
            await self._letter(served, mailbox, subject, lines, f"emergency:{domain}:{outage.since:.0f}:in:{mailbox.id}")
        if domain in self._outages:
            self._outages[domain] = msgspec.structs.replace(self._outages[domain], told=True)
            self._later(domain)

    async def _people(self, domain: str) -> list[tuple[Domain, Mailbox]]:
        """Whom the domain wants to be told: those with a second address who can use the portal."""
        served = self._directory.domain(domain)
        if served is None or not served.tell_people:
            return []
        found: list[tuple[Domain, Mailbox]] = []
        for number, mailbox in enumerate(self._directory.mailboxes(served.name), 1):
            if number % SLICE == 0:
                await pause(self._clock, 0)
            if mailbox.second and mailbox.enabled and self._directory.covered(mailbox.address) is not None:
                found.append((served, mailbox))
        return found

    async def _letter(self, domain: Domain, mailbox: Mailbox, subject: str, lines: Sequence[str], request: str) -> None:
        """One person's letter; trouble with it is logged and keeps it from nobody else."""
        try:
            await self._notices.letter(
                mailbox.tenant, mailbox.second, subject, lines, request, self._notices.way_out(domain.name)
            )
        except Exception:  # noqa: BLE001 - the others are to be told all the same
            self.log.failure("the second address of {address} could not be written to", address=mailbox.address)

    # -- going home, and the end

    def _went(self, event: WentHome) -> None:
        outage = self._outages.get(event.domain)
        if outage is None:
            return
        counts = outage.home if event.home else outage.refused
        counted = {**counts, event.mailbox: counts.get(event.mailbox, 0) + 1}
        field = {"home": counted} if event.home else {"refused": counted}
        self._outages[event.domain] = msgspec.structs.replace(outage, **field)
        self._later(event.domain)

    async def _end(self, domain: str) -> None:
        await pause(self._clock, 0)  # what drained last is on the bus by then
        outage = self._outages.pop(domain, None)
        self._unsaved.discard(domain)
        home, refused = (sum(counts.values()) for counts in (outage.home, outage.refused)) if outage is not None else (0, 0)
        why = f"{domain} is back to normal; {_many(home)} went home from the portal" + (
            f", {_many(refused)} stay there because the primary refused them" if refused else ""
        )
        self._bus.publish(AlarmEnded("emergency", domain, why))
        if outage is None:
            return
        for served, mailbox in await self._people(domain):
            own, left = outage.home.get(mailbox.id, 0), outage.refused.get(mailbox.id, 0)
            lines = [
                f"The mail server of {domain} takes mail again. Use your usual mailbox.",
                "",
                f"{_many(own)} went from the emergency server to your usual mailbox.",
            ]
            if left:
                lines.append(f"{_many(left)} stay in the inbox of the emergency server: your mail server refused them.")
            lines += ["What you moved into other folders there stays there for a while:", "", *self._ways_in]
            subject = f"The mail server of {domain} is back"
            await self._letter(served, mailbox, subject, lines, f"emergency:{domain}:{outage.since:.0f}:out:{mailbox.id}")
        await self._queue.remember(SPACE, domain, None)

    def _later(self, domain: str) -> None:
        self._unsaved.add(domain)
        if self._timer is None:
            self._timer = self._clock.callLater(LATER, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._tasks.start(self._save(), "writing down what went home")

    async def _save(self) -> None:
        domains, self._unsaved = self._unsaved, set()
        for domain in domains:
            outage = self._outages.get(domain)
            if outage is not None:
                await self._queue.remember(SPACE, domain, msgspec.msgpack.encode(outage))


def _many(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"
