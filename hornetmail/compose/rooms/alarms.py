"""Alarms: who looks at what, and how administrators and people are told (rule 8f)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.ground.ways_in import panel, ways_in
from hornetmail.compose.rooms.people import People
from hornetmail.compose.rooms.rooms import MailRooms, resolver_of
from hornetmail.config import Config
from hornetmail.core.alarms import AlarmRecord, Stage, Way
from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome
from hornetmail.core.mail.address import domain_of
from hornetmail.delivery.letters.alarms import AlarmLetters
from hornetmail.delivery.letters.emergencies import Emergencies
from hornetmail.delivery.letters.quotas import QuotaLetters
from hornetmail.delivery.outage.silence import Silence
from hornetmail.delivery.tasks import together
from hornetmail.runtime.alarms import AlarmBook
from hornetmail.runtime.disks import Disks
from hornetmail.runtime.telling import Outlet, Pace, Teller
from hornetmail.runtime.timetable import Job
from hornetmail.runtime.webhook import Target, Webhook, payload
from hornetmail.web.api.service import alarms as settings

STEADY = 60.0
"""Seconds that a primary has taken mail or answered, without trouble between, before it is not called down any more."""

SILENCE_SECONDS = 600.0

PAGES = 20
"""Pages of the queue that are looked through for what still lies there."""


class Alarms:
    """Built once everything is open; ``start`` it when delivery runs."""

    def __init__(self, base: Foundations, people: People, rooms: MailRooms) -> None:
        self._base = base
        self._rooms = rooms
        self._directory = people.directory
        self.book: AlarmBook = base.alarms
        delivery, config, reactor = rooms.delivery, base.config, base.reactor
        self._webhook = Webhook(reactor, resolver_of(base), config.hostname)
        self._letters = AlarmLetters(
            people.directory, delivery.modes, delivery.notices, config.hostname, f"{panel(config)}/alarms"
        )
        pace = Pace(gather=min(5.0, config.alarms.look))
        self._tellers = [
            Teller(reactor, self.book, outlet, self.repeat, pace)
            for outlet in (
                Outlet(Way.MAIL, self._letters.send, trouble=lambda tenant, why: self._untold(Way.MAIL, tenant, why)),
                Outlet(Way.HOOK, self._post, self._target, lambda tenant, why: self._untold(Way.HOOK, tenant, why)),
            )
        ]
        self._emergencies = Emergencies(
            reactor, rooms.queue, people.directory, delivery.modes, delivery.notices, base.bus, ways_in(config)
        )
        self._quotas = QuotaLetters(reactor, people.directory, rooms.portal, delivery.notices, base.bus)
        self._silence = Silence(reactor, rooms.queue, people.directory, base.bus, monotonic)
        anchors = {"queue": rooms.queue.anchor, "portal": rooms.portal.anchor}
        self._disks = Disks(base.bus, base.offload, lambda: places(config), config.limits.disk_percent / 100, anchors)
        rooms.queue.room.elsewhere = lambda: self._disks.unfit(("archive staging", "queue"))
        self._lying: dict[str, frozenset[str]] = {}
        self._watch()
        base.jobs += [
            Job("alarms", config.alarms.look, self.look, first=min(1.0, config.alarms.look)),
            Job("disks", max(5.0, config.alarms.look), self._disks.look),
            Job("outbound silence", SILENCE_SECONDS, self._silence.look, first=1.0),
        ]
        base.meters.gauges("alarms", "code", self.book.counts)

    def start(self) -> None:
        """Modes are loaded, the queue runs."""
        self._emergencies.start()
        self._quotas.start()
        self._silence.start()
        self._say_if_died()

    def _say_if_died(self) -> None:
        """A service that is started again by its supervisor each time it dies looks as if it ran (ADR 35)."""
        died = self._base.lock.died
        if died is None:
            return
        began = datetime.fromtimestamp(died.began, UTC)
        text = (
            f"process {died.pid}, which began at {began:%Y-%m-%d %H:%M:%S} UTC, ended without being stopped: it was killed, it crashed, or the machine went down."
            " Nothing that was accepted is lost; what was on its way at that moment may come twice"
        )
        self._base.bus.publish(Alarm("service-died", text))
        self._base.lock.died = None

    async def stop(self) -> None:
        """Say nothing more."""
        for teller in self._tellers:
            await teller.stop()
        await self._emergencies.stop()
        await self._quotas.stop()
        await self._silence.stop()

    def addresses(self, tenant: int) -> Sequence[str]:
        """Whom a mail about an alarm would reach now."""
        return list(self._letters.addresses(tenant))

    def repeat(self, tenant: int) -> float:
        """Seconds between reminders."""
        return settings.repeat_hours(self._directory.setting(settings.HOURS, "", tenant)) * 3600

    async def tell(self) -> None:
        """Say now what is to be said, by every way."""
        await together(teller.round() for teller in self._tellers)

    async def look(self) -> None:
        """What is over ends; what is due is told."""
        await self._see()
        await self.book.look()
        for teller in self._tellers:
            teller.soon()

    def _target(self, tenant: int) -> Target:
        return Target(self._directory.setting(settings.URL, "", tenant), self._directory.setting(settings.SECRET, "", tenant))

    def _untold(self, way: Way, tenant: int, why: str) -> None:
        """An alarm about a way out is seen in the panel, and said by the other way."""
        name = {Way.MAIL: "mail", Way.HOOK: "the webhook"}[way]
        domain = next((one.name for one in self._directory.domains() if one.tenant == tenant), "") if tenant != 1 else ""
        subject = f"{name} of {domain or 'the administrators'}"
        if not why:
            self._base.bus.publish(AlarmEnded("alarms-untold", subject, f"{name} works, or is not used any more"))
            return
        text = f"alarms cannot be told by {name}, it is tried again and again: {why}"
        self._base.bus.publish(Alarm("alarms-untold", text, domain, subject))

    async def _post(self, tenant: int, said: Sequence[tuple[AlarmRecord, Stage]]) -> bool:
        target = self._target(tenant)
        if not target.url:
            return False
        await self._webhook.post(target, payload(self._base.config.hostname, said), outside=tenant != 1)
        return True

    # -- causes

    def _watch(self) -> None:
        watch = self.book.watch
        watch("emergency", lambda alarm: self._emergencies.over(alarm.domain))
        for code in ("primary-down", "primary-defers", "primary-unknown", "network-down", "dns-down"):
            watch(code, self._reached)
        watch("primary-back", self._back)
        watch("accept-all", self._picky)
        for code in ("bounce-held", "loop", "delivery-unanswered", "drain-refused"):
            watch(code, self._gone)
        for code in ("disk-full", "disk-away"):
            watch(code, lambda alarm: self._disks.over(alarm.code, alarm.subject))
        watch("filing", self._filing)
        watch("outbound-silence", lambda alarm: self._silence.over(alarm.domain))

    def _filing(self, alarm: AlarmRecord) -> str:
        filing = self._rooms.delivery.filing
        return "there is no way home by IMAP any more" if filing is None else filing.over(alarm.subject)

    def _served(self, alarm: AlarmRecord) -> bool:
        served = self._directory.domain(alarm.domain)
        return served is not None and bool(served.primaries)

    def _reached(self, alarm: AlarmRecord) -> str:
        modes = self._rooms.delivery.modes
        if not self._served(alarm):
            return "the domain has no primary any more"
        if modes.mode(alarm.domain) is not Mode.NORMAL:
            return "the domain is in emergency mode, which is an alarm of its own"
        since = modes.answering(alarm.domain)
        return "the primary has answered for a minute" if since and self._base.reactor.seconds() - since >= STEADY else ""

    def _back(self, alarm: AlarmRecord) -> str:
        modes = self._rooms.delivery.modes
        if not self._served(alarm) or modes.mode(alarm.domain) is not Mode.EMERGENCY:
            return "the emergency is over"
        return "the primary does not answer any more" if modes.explain(alarm.domain).get("up") is False else ""

    def _picky(self, alarm: AlarmRecord) -> str:
        if not self._served(alarm):
            return "the domain has no primary any more"
        asked = self._rooms.delivery.recipients.accepts_everything(alarm.domain)
        return "" if asked else "the primary refuses unknown addresses again"

    def _gone(self, alarm: AlarmRecord) -> str:
        """Mail that lies there is the cause, and gone once it was released, deleted, or delivered."""
        lying = self._lying.get(alarm.code)
        return "" if lying is None or alarm.subject in lying else "nothing of the kind lies there any more"

    async def _see(self) -> None:
        """Which domains have mail that is held, or that the primary refused. Unknown while there is more than can be looked through."""
        self._lying = {}
        codes = {alarm.code for alarm in self.book.standing()}
        if codes & {"bounce-held", "loop"}:
            held = await self._domains((RowState.HELD,), ())
            if held is not None:
                self._lying |= {"bounce-held": held, "loop": held}
        if "delivery-unanswered" in codes:
            unanswered = await self._domains((RowState.HELD,), (RowKind.DELIVER,), Outcome.UNCERTAIN)
            if unanswered is not None:
                self._lying["delivery-unanswered"] = unanswered
        if "drain-refused" in codes:
            stuck = await self._domains((RowState.STUCK,), (RowKind.DRAIN,))
            if stuck is not None:
                self._lying["drain-refused"] = stuck

    async def _domains(
        self, states: tuple[RowState, ...], kinds: tuple[RowKind, ...], outcome: Outcome | None = None
    ) -> frozenset[str] | None:
        """Whose rows there are, of those with that newest verdict if one is given."""
        found: set[str] = set()
        after = 0
        for _ in range(PAGES):
            page = await self._rooms.queue.rows(states=states, kinds=kinds, after=after, envelopes=False)
            for message, row in page:
                if outcome is None or (row.last is not None and row.last.outcome is outcome):
                    found |= {message.domain, domain_of(row.address)}
            if len(page) < 500:
                return frozenset(found)
            after = page[-1][1].id
        return None


def places(config: Config) -> Mapping[str, Path]:
    """What lies where, by its name for people. The archive looks after its media itself."""
    found = {
        "data directory": config.root,
        "queue": config.root / "queue",
        "portal": config.root / "portal",
        "archive staging": config.root / "archive",
    }
    for name in ("control", "queue", "portal"):
        url = config.database_url(name)
        if url.startswith("sqlite:"):
            found[f"{name} database"] = Path(url.removeprefix("sqlite://")).parent
    return found
