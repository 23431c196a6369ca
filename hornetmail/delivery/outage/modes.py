"""The mode of each domain: the machine of ``core.machine`` joined to queue, health, drain and bus (C2-C7, C20, L4, L6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core import machine, outage
from hornetmail.core.address import domain_of, key_of
from hornetmail.core.events import Alarm, ModeChanged
from hornetmail.core.mode import Mode
from hornetmail.core.queued import RowKind, RowState, WaitsFor
from hornetmail.core.served import Domain, Failover
from hornetmail.core.verdict import Outcome, Verdict
from hornetmail.delivery.outage.health import Health
from hornetmail.delivery.tasks import Tasks
from hornetmail.interfaces import IBus, IDirectory, IModes, IQueue

SPACE = "modes"


@implementer(IModes)
class Modes:
    """``health`` is set by whoever builds both, since each needs the other. ``draining(domain)`` is called when a domain goes back;
    ``recipients(domain)`` says what ``explain`` tells of a domain's recipients."""

    log = Logger()
    health: Health

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        directory: IDirectory,
        bus: IBus,
        draining: Callable[[str], None],
        policy: machine.Policy | None = None,
        recipients: Callable[[str], dict[str, Any]] = lambda domain: {},
    ) -> None:
        self._recipients = recipients
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self._bus = bus
        self._draining = draining
        self.policy = policy or machine.Policy()
        self._states: dict[str, machine.State] = {}
        self._decisions: dict[str, deque[tuple[float, str]]] = {}
        self._answering: dict[str, float] = {}
        self._tasks = Tasks(clock)
        self._counter = 0

    def load(self) -> None:
        """Read what was remembered; domains in emergency stay there."""
        for domain, value in self._queue.remembered(SPACE).items():
            try:
                self._states[domain] = msgspec.json.decode(value, type=machine.State)
            except msgspec.DecodeError:
                self.log.error("the remembered mode of {domain} cannot be read, it starts as normal", domain=domain)

    def resume(self) -> None:
        """Go on where the last run stopped: adopt for domains in emergency, drain for those on the way back."""
        for name, state in list(self._states.items()):
            if state.mode is Mode.EMERGENCY:
                self._tasks.start(self._queue.adopt(name, self._clock.seconds()), f"adoption for {name}")
            elif state.mode is Mode.DRAINING:
                self._draining(name)

    async def stop(self) -> None:
        """Let what is being written be written."""
        await self._tasks.stop(1.0)

    # -- IModes

    def mode(self, domain: str) -> Mode:
        """See IModes."""
        state = self._states.get(domain)
        if state is None:
            served = self._directory.domain(domain)
            state = self._states.get(served.name) if served is not None else None
        return state.mode if state is not None else Mode.NORMAL

    def ended(self, domain: str) -> float:
        """See IModes. Remembered with each switch."""
        served = self._directory.domain(domain)
        return self._state(served.name if served is not None else domain).ended

    def explain(self, domain: str) -> dict[str, Any]:
        """See IModes."""
        served = self._directory.domain(domain)
        name = served.name if served else domain
        state = self._state(name)
        hosts = [self.health.host(host) for host in served.primaries] if served else []
        return {
            "domain": name,
            "mode": str(state.mode),
            "since": state.since,
            "by": state.by,
            "reason": state.reason,
            "automatic": served is not None and served.failover is Failover.AUTO,
            "up": self.health.up(served) if served else None,
            "primaries": [{"host": str(h.host), "up": h.up, "since": h.since, "seen": h.seen, "reason": h.reason} for h in hosts],
            "recipients": self._recipients(name),
            "next_probe": self.health.next_probe(name),
            "probes_answered": state.streak,
            "probes_needed": machine.probes_needed(state, self.policy),
            "evidence": [{"at": e.at, "text": e.text} for e in state.evidence],
            "decisions": [{"at": at, "why": why} for at, why in self._decisions.get(name, ())],
        }

    async def switch(self, domain: str, mode: Mode, by: str, reason: str = "") -> None:
        """See IModes. Durable on return."""
        served = self._directory.domain(domain)
        if served is None:
            raise KeyError(domain)
        if not served.primaries:
            raise ValueError(f"{served.name} has no primary: the portal is its mail server for good")
        decision = self._decide(served, machine.Ordered(mode, by, reason))
        for action in decision.actions:
            await self._act(served.name, action)

    # -- evidence

    def _state(self, name: str) -> machine.State:
        return self._states.get(name) or machine.State()

    def suspicious(self, domain: str) -> bool:
        """Whether to probe more often: an emergency, or signs of one."""
        state = self._states.get(domain)
        return state is not None and (state.mode is Mode.EMERGENCY or bool(state.evidence))

    def answering(self, domain: str) -> float:
        """Since when the primary has taken messages or answered probes, Unix seconds; 0 if not since the last trouble that concerned
        all of it, or since the start."""
        return self._answering.get(domain, 0.0)

    def _heard(self, domain: str, *, well: bool) -> None:
        if well:
            self._answering.setdefault(domain, self._clock.seconds())
        else:
            self._answering.pop(domain, None)

    def verdict(self, domain: str, address: str, message: int, verdict: Verdict) -> None:
        """A delivery attempt to a primary ended."""
        if verdict.outcome is Outcome.DELIVERED:
            self._heard(domain, well=True)
            state = self._states.get(domain)
            if state is not None and state.evidence:
                self.observe(domain, machine.Delivered(verdict.host))
            return
        sign = outage.read(verdict)
        if sign.breadth is outage.Breadth.NOBODY:
            return
        if sign.breadth is not outage.Breadth.RECIPIENT:
            self._heard(domain, well=False)
        key = f"recipient {key_of(address)}" if sign.breadth is outage.Breadth.RECIPIENT else f"message {message}"
        self.observe(domain, machine.Trouble(key, sign.why, dns=sign.breadth is outage.Breadth.DNS))

    def refused(self, domain: str, key: str, verdict: Verdict) -> None:
        """A probe of a recipient failed, or a known address was refused (rule 4): a sign that counts by ``key``."""
        if verdict.outcome is Outcome.FAILED:
            self._heard(domain, well=False)
            self.observe(domain, machine.Trouble(key, f"refuses known addresses: {verdict.reply}"))
            return
        sign = outage.read(verdict)
        if sign.breadth is not outage.Breadth.NOBODY:
            self.observe(domain, machine.Trouble(key, sign.why, dns=sign.breadth is outage.Breadth.DNS))

    def observe(self, domain: str, event: machine.Event) -> None:
        """Give the machine an event; what follows from it is done in the background."""
        served = self._directory.domain(domain)
        if served is None or not served.primaries or (not served.active and isinstance(event, machine.Trouble)):
            return
        if isinstance(event, machine.ProbeAnswered):
            self._heard(served.name, well=True)
        elif isinstance(event, machine.Trouble) and event.probe:
            self._heard(served.name, well=False)
        decision = self._decide(served, event)
        if isinstance(event, machine.Trouble) and decision.state.mode is not Mode.EMERGENCY:
            self.health.hurry(served.name)
        for action in decision.actions:
            self._tasks.start(self._act(served.name, action), f"mode of {served.name}")

    def _decide(self, domain: Domain, event: machine.Event) -> machine.Decision:
        before = self._state(domain.name)
        now = self._clock.seconds()
        automatic = domain.failover is Failover.AUTO
        decision = machine.step(before, event, now, automatic=automatic, policy=self.policy)
        self._states[domain.name] = decision.state
        if decision.state != before or decision.actions:
            self._decisions.setdefault(domain.name, deque(maxlen=50)).append((now, decision.why))
            self.log.info("{domain}: {why}", domain=domain.name, why=decision.why)
        return decision

    # -- consequences

    async def _act(self, domain: str, action: machine.Action) -> None:
        match action:
            case machine.Warn():
                self._bus.publish(Alarm(action.code, f"{domain}: {action.text}", domain))
            case machine.Survey():
                self.observe(domain, await self.health.survey(domain))
            case machine.Switch():
                await self._switched(domain, action)

    async def _switched(self, domain: str, switch: machine.Switch) -> None:
        await self._queue.remember(SPACE, domain, msgspec.json.encode(self._states[domain]))
        now = self._clock.seconds()
        if switch.mode is Mode.EMERGENCY:
            adopted = await self._queue.adopt(domain, now)
            if adopted:
                self.log.info(
                    "{domain}: {adopted} deferred recipients are delivered to the portal now (L4)", domain=domain, adopted=adopted
                )
        else:
            await self.release(domain)
            self._draining(domain)
        self._bus.publish(ModeChanged(domain, switch.mode, switch.by, switch.reason))
        self.health.hurry(domain)

    async def release(self, domain: str = "") -> int:
        """Let recipients that were parked for want of a mailbox go again, if their domain is back or a mailbox is there now; of one domain,
        or of all."""
        released = after = 0
        while True:
            page = await self._queue.rows(domain=domain, kinds=(RowKind.DELIVER,), states=(RowState.PARKED,), after=after)
            free = [row.id for _, row in page if row.waits_for is WaitsFor.MAILBOX and self._free(row.address)]
            if free:
                released += await self._queue.change(free, RowState.QUEUED, due=self._clock.seconds())
            if len(page) < 500:
                return released
            after = page[-1][1].id

    def _free(self, address: str) -> bool:
        return self.mode(domain_of(address)) is not Mode.EMERGENCY or self._directory.covered(address) is not None
