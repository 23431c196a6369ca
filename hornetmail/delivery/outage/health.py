"""Is a primary there? Known from deliveries and from probes (connect, EHLO, QUIT) (L6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from hornetmail.core import machine
from hornetmail.core.events import DirectoryChanged, HealthChanged, PrimarySeen
from hornetmail.core.served import Domain, Host, TLSPolicy
from hornetmail.core.verdict import Stage
from hornetmail.delivery.connections.pool import Connect
from hornetmail.delivery.tasks import Tasks, together, within
from hornetmail.interfaces import IBus, IDirectory
from hornetmail.net.smtp import Broken, SMTPClient, Timeouts


class Pace(msgspec.Struct, frozen=True, gc=False):
    """Seconds between probes of a domain's primary: ``calm`` while all is well, ``alert`` while something is wrong; ``patience`` for one."""

    calm: float = 60.0
    alert: float = 5.0
    patience: float = 8.0


class HostHealth(msgspec.Struct, frozen=True, gc=False):
    """What is known of one host. ``up`` None: nothing yet. ``since``: of this state; ``seen``: the newest evidence."""

    host: Host
    up: bool | None = None
    since: float = 0.0
    seen: float = 0.0
    reason: str = "not asked yet"


class Health:
    """``told(domain, event)`` hears of every probe; ``alert(domain)`` says whether to ask more often."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        directory: IDirectory,
        bus: IBus,
        dialer: Any,
        hello: str,
        told: Callable[[str, machine.Event], None],
        alert: Callable[[str], bool],
        *,
        connect: Connect = SMTPClient.connect,
        pace: Pace | None = None,
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._bus = bus
        self._dialer = dialer
        self._hello = hello
        self._told = told
        self._alert = alert
        self._connect = connect
        self.pace = pace or Pace()
        self._hosts: dict[Host, HostHealth] = {}
        self._calls: dict[str, IDelayedCall] = {}
        self._asking: set[str] = set()
        self._tasks = Tasks(clock)
        self._running = False
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to probe; new domains are met as the directory changes."""
        self._running = True
        self._unsubscribe = self._bus.subscribe(DirectoryChanged, lambda event: self._meet())
        self._meet()

    async def stop(self) -> None:
        """End all probes."""
        self._running = False
        if self._unsubscribe is not None:
            self._unsubscribe()
        for call in self._calls.values():
            if call.active():
                call.cancel()
        self._calls.clear()
        await self._tasks.stop(0)

    def _meet(self) -> None:
        served = {domain.name for domain in self._directory.domains() if domain.primaries}
        for name in list(self._calls):
            if name not in served:
                call = self._calls.pop(name)
                if call.active():
                    call.cancel()
        for name in served:
            if name not in self._calls:
                self._schedule(name, 0.0)

    def _schedule(self, domain: str, seconds: float) -> None:
        if not self._running:
            return
        call = self._calls.get(domain)
        if call is not None and call.active():
            call.cancel()
        self._calls[domain] = self._clock.callLater(seconds, self._due, domain)

    def _due(self, domain: str) -> None:
        if domain not in self._asking:
            self._tasks.start(self._round(domain), f"probe of {domain}")

    async def _round(self, name: str) -> None:
        domain = self._directory.domain(name)
        if domain is None or not domain.primaries:
            self._calls.pop(name, None)
            return
        self._asking.add(name)
        try:
            await self.probe(domain)
        finally:
            self._asking.discard(name)
            self._schedule(name, self.pace.alert if self._worried(domain) else self.pace.calm)

    def _worried(self, domain: Domain) -> bool:
        return self._alert(domain.name) or any(self.host(host).up is False for host in domain.primaries)

    def hurry(self, domain: str) -> None:
        """Something is wrong there: ask soon."""
        call = self._calls.get(domain)
        if call is None or domain in self._asking:
            return
        if not call.active() or call.getTime() - self._clock.seconds() > self.pace.alert:
            self._schedule(domain, self.pace.alert)

    def next_probe(self, domain: str) -> float:
        """When the next probe is due, Unix seconds; 0 if none is."""
        call = self._calls.get(domain)
        return call.getTime() if call is not None and call.active() else 0.0

    async def probe(self, domain: Domain) -> bool:
        """Ask all hosts of a domain's primary; one that answers is enough. The outcome is told."""
        answers = await together(self._ask(host, domain.tls) for host in domain.primaries)
        now = self._clock.seconds()
        good = [host for host, (up, _, _) in zip(domain.primaries, answers, strict=True) if up]
        if good:
            self._told(domain.name, machine.ProbeAnswered(str(good[0])))
        else:
            texts = "; ".join(f"{host}: {text}" for host, (_, text, _) in zip(domain.primaries, answers, strict=True))
            dns = all(stage is Stage.RESOLVE for _, _, stage in answers)
            self._told(domain.name, machine.Trouble(f"probe at {now:.3f}", f"probe failed: {texts}", dns=dns, probe=True))
        return bool(good)

    async def _ask(self, host: Host, tls: TLSPolicy) -> tuple[bool, str, Stage]:
        timeouts = Timeouts(connect=self.pace.patience, reply=self.pace.patience)
        try:
            await within(self._clock, self.pace.patience, self._conversation(host, tls, timeouts))
        except TimeoutError as error:
            up, text, stage = False, str(error), Stage.CONNECT
        except Broken as error:
            up, text, stage = False, f"{error.stage}: {error.reply}", error.stage
        else:
            up, text, stage = True, "answered EHLO", Stage.EHLO
        self.saw(host, up, text, probed=True)
        return up, text, stage

    async def _conversation(self, host: Host, tls: TLSPolicy, timeouts: Timeouts) -> None:
        client = await self._connect(self._dialer, host, hello=self._hello, tls=tls, timeouts=timeouts)
        try:
            await client.quit()
        except BaseException:
            client.abort()
            raise

    async def survey(self, domain: str) -> machine.Surveyed:
        """Ask the primaries of the other domains, each host once; those on this domain's hosts tell nothing new (rule 5)."""
        mine = self._directory.domain(domain)
        own = {host.name for host in mine.primaries} if mine else set()
        others: dict[Host, TLSPolicy] = {}
        for each in self._directory.domains():
            for host in each.primaries:
                if host.name not in own:
                    others.setdefault(host, each.tls)
        answers = await together(self._ask(host, tls) for host, tls in list(others.items())[:16])
        up = sum(1 for answered, _, _ in answers if answered)
        return machine.Surveyed(up, len(answers) - up)

    def host(self, host: Host) -> HostHealth:
        """What is known of it."""
        return self._hosts.get(host) or HostHealth(host)

    def up(self, domain: Domain) -> bool | None:
        """Whether one of the domain's primaries is there; None: nobody knows yet."""
        states = [self.host(host).up for host in domain.primaries]
        if any(states):
            return True
        return False if states and all(each is False for each in states) else None

    def saw(self, host: Host, up: bool, reason: str, *, probed: bool = False) -> None:
        """Evidence from a delivery, a connection or a probe. ``PrimarySeen`` is published for each answered probe and for the first
        connection after trouble or at the start, never for each connection."""
        before = self.host(host)
        now = self._clock.seconds()
        turned = before.up is not up
        self._hosts[host] = HostHealth(host, up, now if turned else before.since, now, reason)
        if not turned and not (up and probed):
            return
        served = tuple(domain.name for domain in self._directory.domains() if host in domain.primaries)
        if turned and not (up and before.up is None):
            for name in served:
                self.log.info(
                    "{domain}: {host} is {state}: {reason}",
                    domain=name,
                    host=str(host),
                    state="up" if up else "down",
                    reason=reason,
                )
                self._bus.publish(HealthChanged(name, str(host), up, reason))
                if not up:
                    self.hurry(name)
        if up and served:
            self._bus.publish(PrimarySeen(str(host), served))
