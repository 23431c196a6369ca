"""The mode of each domain: the machine of ``core.machine`` joined to queue, health, drain and bus (C2-C7, C20, L4, L6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core.delivery.queued import RowKind, RowState, WaitsFor
from hornetmail.core.events import Alarm, AlarmEnded, ModeChanged
from hornetmail.core.failover import machine, outage
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Verdict
from hornetmail.core.mail.address import domain_of, key_of
from hornetmail.core.served import Domain, Failover
from hornetmail.delivery.outage.health import Health
from hornetmail.delivery.pages import pages
from hornetmail.delivery.tasks import Tasks, pause
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.modes import IModes
from hornetmail.interfaces.queue import IQueue

SPACE = "modes"

AGAIN_SECONDS = 1.0
"""Until what a switch brings about is tried again after an error; doubled each time up to a minute."""


class Consequences(msgspec.Struct, frozen=True):
    """What a mode brings about elsewhere. ``draining(domain)``: the domain goes back; ``letter(domain, text)``: see ``machine.Letter``;
    ``trial(domain)``: see ``machine.Trial``, what ``machine.Tried`` wants to know; ``recipients(domain)``: see ``IModes.recipients``."""

    draining: Callable[[str], None]
    letter: Callable[[str, str], Awaitable[None]]
    trial: Callable[[str], Awaitable[bool | None]]
    recipients: Callable[[str], Awaitable[dict[str, Any]]]


class Made(msgspec.Struct, frozen=True, gc=False):
    """A decision of the machine: ``why``, so many times in a row, last at ``at``."""

    at: float
    why: str
    count: int = 1


class _Pending(msgspec.Struct):
    """A switch whose consequences are not all there yet. ``told``: an alarm says that it could not be recorded."""

    switch: machine.Switch
    recorded: bool = False
    told: bool = False


@implementer(IModes)
class Modes:
    """``health`` is set by whoever builds both, since each needs the other."""

    log = Logger()
    health: Health

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        directory: IDirectory,
        bus: IBus,
        consequences: Consequences,
        policy: machine.Policy | None = None,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self._bus = bus
        self._consequences = consequences
        self.policy = policy or machine.Policy()
        self._states: dict[str, machine.State] = {}
        self._decisions: dict[str, deque[Made]] = {}
        self._answering: dict[str, float] = {}
        self._pending: dict[str, _Pending] = {}
        self._repeating: set[str] = set()
        self._tasks = Tasks(clock)

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
                self._tasks.start(self._adopt(name), f"adoption for {name}")
            elif state.mode is Mode.DRAINING:
                self._consequences.draining(name)

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
            "next_probe": self.health.next_probe(name),
            "probes_answered": state.streak,
            "probes_needed": machine.probes_needed(state, self.policy),
            "evidence": [{"at": e.at, "text": e.text} for e in state.evidence],
            "decisions": [{"at": made.at, "why": made.why, "count": made.count} for made in self._decisions.get(name, ())],
        }

    async def recipients(self, domain: str) -> dict[str, Any]:
        """See IModes."""
        served = self._directory.domain(domain)
        return await self._consequences.recipients(served.name if served else domain)

    async def switch(self, domain: str, mode: Mode, by: str, reason: str = "") -> None:
        """See IModes. Durable on return."""
        served = self._directory.domain(domain)
        if served is None:
            raise KeyError(domain)
        if not served.primaries:
            raise ValueError(f"{served.name} has no primary: the portal is its mail server for good")
        before = self._states.get(served.name)
        decision = self._decide(served, machine.Ordered(mode, by, reason))
        for action in decision.actions:
            if isinstance(action, machine.Switch):
                await self._ordered(served.name, before, decision.state, action)
            else:
                await self._act(served.name, action)

    async def _ordered(self, domain: str, before: machine.State | None, state: machine.State, switch: machine.Switch) -> None:
        """An order that cannot be recorded is not carried out: whoever gave it hears why."""
        try:
            await self._record(domain)
        except BaseException:
            now = self._state(domain)
            if (now.mode, now.since) == (state.mode, state.since):
                self._states[domain] = before or machine.State()
            raise
        if (pending := self._pending.get(domain)) is not None:
            self._over(domain, pending)
        self._pending[domain] = _Pending(switch, recorded=True)
        self._told(domain, switch)
        await self._follow(domain)

    # -- evidence

    def _state(self, name: str) -> machine.State:
        return self._states.get(name) or machine.State()

    def suspicious(self, domain: str) -> bool:
        """Whether to probe more often: an emergency, or signs of one."""
        state = self._states.get(domain)
        return state is not None and (state.mode is Mode.EMERGENCY or bool(state.evidence))

    def strict(self, domain: str) -> bool:
        """Whether a greeting is not enough for this domain's emergency to end (``machine.State.strict``)."""
        state = self._states.get(domain)
        return state is not None and state.mode is Mode.EMERGENCY and state.strict

    def answering(self, domain: str) -> float:
        """Since when the primary has taken messages or answered probes, Unix seconds; 0 if not since the last trouble that concerned
        all of it, or since the start."""
        return self._answering.get(domain, 0.0)

    def _heard(self, domain: str, *, well: bool) -> None:
        if well:
            self._answering.setdefault(domain, self._clock.seconds())
        else:
            self._answering.pop(domain, None)

    def verdict(
        self,
        domain: str,
        address: str,
        message: int,
        verdict: Verdict,
        *,
        sender: str = "",
        proven: bool = True,
        ours: bool = False,
    ) -> None:
        """A delivery attempt to a primary ended. ``proven``: the address is known, otherwise what a primary that greeted does about it is
        no evidence (rule 8c); ``ours``: no stranger had a say in the message; ``sender``: whose it is, if not nobody's."""
        if verdict.outcome is Outcome.DELIVERED:
            self._heard(domain, well=True)
            if sender:
                self.health.took(domain, sender, address)
            state = self._states.get(domain)
            if state is not None and state.evidence:
                self.observe(domain, machine.Delivered(verdict.host))
            return
        sign = outage.read(verdict)
        if sign.breadth.wide:
            self._heard(domain, well=False)
        self._sign(domain, f"message {message}", f"recipient {key_of(address)}", sign, proven=proven, ours=ours)

    def unverified(self, domain: str, address: str, verdict: Verdict, *, proven: bool) -> None:
        """A question about a recipient failed. ``proven`` as in ``verdict``. Who asks about whom strangers choose: all questions that were
        not even greeted are one sign."""
        self._sign(domain, "a question about a recipient", f"recipient {key_of(address)}", outage.read(verdict), proven=proven)

    def _sign(self, domain: str, connection: str, recipient: str, sign: outage.Sign, *, proven: bool, ours: bool = False) -> None:
        if sign.breadth in (outage.Breadth.SERVER, outage.Breadth.DNS):
            dns = sign.breadth is outage.Breadth.DNS
            self.observe(domain, machine.Trouble(connection, sign.why, dns=dns, ours=ours, nameless=sign.nameless))
        elif sign.breadth is not outage.Breadth.NOBODY and proven:
            proof = machine.Proof.TEXT if sign.text else machine.Proof.ENVELOPE
            key = connection if sign.breadth is outage.Breadth.CONVERSATION else recipient
            self.observe(domain, machine.Trouble(key, sign.why, proof=proof, ours=ours))

    def refused(self, domain: str, address: str, verdict: Verdict) -> None:
        """A known address was refused by a primary that is not believed (rule 4)."""
        self._heard(domain, well=False)
        text = f"refuses known addresses: {verdict.reply}"
        self.observe(domain, machine.Trouble(f"refused {key_of(address)}", text, proof=machine.Proof.ENVELOPE))

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
            made = self._decisions.setdefault(domain.name, deque(maxlen=50))
            count = made.pop().count + 1 if made and made[-1].why == decision.why else 1
            made.append(Made(now, decision.why, count))
            if count == 1:
                self.log.info("{domain}: {why}", domain=domain.name, why=decision.why)
        return decision

    # -- consequences

    async def _act(self, domain: str, action: machine.Action) -> None:
        match action:
            case machine.Warn():
                self._bus.publish(Alarm(action.code, f"{domain}: {action.text}", domain))
            case machine.Survey():
                self.observe(domain, await self.health.survey(domain))
            case machine.Letter():
                await self._consequences.letter(domain, action.text)
            case machine.Trial():
                self.observe(domain, machine.Tried(await self._consequences.trial(domain)))
            case machine.Switch():
                before = self._pending.get(domain)
                self._pending[domain] = _Pending(action, told=before is not None and before.told)
                await self._follow(domain)

    async def _record(self, domain: str) -> None:
        await self._queue.remember(SPACE, domain, msgspec.json.encode(self._state(domain)))

    def _told(self, domain: str, switch: machine.Switch) -> None:
        self._bus.publish(ModeChanged(domain, switch.mode, switch.by, switch.reason))
        self.health.hurry(domain)

    async def _follow(self, domain: str) -> None:
        """Bring about what follows from the newest switch; if something fails, it is repeated in the background until it is done."""
        try:
            await self._bring_about(domain)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001
            self._failed(domain, AGAIN_SECONDS)
            if domain not in self._repeating:
                self._repeating.add(domain)
                self._tasks.start(self._repeat(domain), f"mode of {domain}")

    async def _repeat(self, domain: str) -> None:
        seconds = AGAIN_SECONDS
        try:
            while domain in self._pending:
                await pause(self._clock, seconds)
                seconds = min(60.0, seconds * 2)
                try:
                    await self._bring_about(domain)
                except CancelledError:
                    raise
                except Exception:  # noqa: BLE001
                    self._failed(domain, seconds)
        finally:
            self._repeating.discard(domain)

    def _failed(self, domain: str, seconds: float) -> None:
        self.log.failure("what follows from the mode of {domain} failed, again in {seconds:g} s", domain=domain, seconds=seconds)
        if (pending := self._pending.get(domain)) is not None and not pending.recorded:
            text = f"{domain}: the switch to {pending.switch.mode} is in force but could not be recorded yet; a restart now would forget it"
            pending.told = True
            self._bus.publish(Alarm("mode-unrecorded", text, domain))

    async def _bring_about(self, domain: str) -> None:
        while (pending := self._pending.get(domain)) is not None:
            if not pending.recorded:
                await self._record(domain)
                pending.recorded = True
                self._over(domain, pending)
                self._told(domain, pending.switch)
            if pending.switch.mode is Mode.EMERGENCY:
                await self._adopt(domain)
            else:
                await self.release(domain)
                self._consequences.draining(domain)
            if self._pending.get(domain) is pending:
                del self._pending[domain]

    def _over(self, domain: str, pending: _Pending) -> None:
        """The domain's mode is recorded, whichever switch it was that could not be."""
        if pending.told:
            pending.told = False
            self._bus.publish(AlarmEnded("mode-unrecorded", domain, "it is recorded"))

    async def _adopt(self, domain: str) -> None:
        adopted = await self._queue.adopt(domain, self._clock.seconds())
        if adopted:
            self.log.info(
                "{domain}: {adopted} deferred recipients are delivered to the portal now (L4)", domain=domain, adopted=adopted
            )

    async def sweep(self) -> None:
        """Every minute: let go who may go, and adopt for domains in emergency what was left."""
        await self.release()
        for name, state in list(self._states.items()):
            if state.mode is Mode.EMERGENCY:
                try:
                    await self._adopt(name)
                except CancelledError:
                    raise
                except Exception:  # noqa: BLE001
                    self.log.failure("adoption for {domain} failed, it is repeated with the next sweep", domain=name)

    async def release(self, domain: str = "") -> int:
        """Let recipients that were parked for want of a mailbox go again, if their domain is back or a mailbox is there now; of one domain,
        or of all."""
        released = 0
        async for page in pages(self._clock, self._queue, (RowKind.DELIVER,), (RowState.PARKED,), domain=domain):
            free = [row.id for _, row in page if row.waits_for is WaitsFor.MAILBOX and self._free(row.address)]
            if free:
                released += await self._queue.change(free, RowState.QUEUED, due=self._clock.seconds())
        return released

    def _free(self, address: str) -> bool:
        return self.mode(domain_of(address)) is not Mode.EMERGENCY or self._directory.covered(address) is not None
