"""Is a primary there? Known from deliveries and from probes (connect, EHLO, QUIT) (L6).

Probes are per host, however many domains it serves, at times that drift apart: a thousand domains on one primary are one connection a minute.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from hornetmail.core.events import Alarm, AlarmEnded, DirectoryChanged, HealthChanged, PrimarySeen
from hornetmail.core.failover import machine, outage
from hornetmail.core.failover.machine import Own
from hornetmail.core.failover.verdict import Stage
from hornetmail.core.mail.address import domain_of
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Host, TLSPolicy
from hornetmail.delivery.connections.pool import Connect
from hornetmail.delivery.tasks import Tasks, awaiting, pause, together, within
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.net.clients.smtp import Broken, SMTPClient, Timeouts

MOST_AT_ONCE = 200
"""Probes under way side by side."""

SPREAD_SECONDS = 0.02
"""Hosts that are new are asked this far apart, on the average."""

WITNESSES = 16
"""So many other primaries are asked whether the fault is ours (rule 5)."""

LATELY_SECONDS = 600.0
"""A witness answered at most this long before the last answer of any primary: one that was dead before tells nothing of our network."""

TRIALS = 16
"""Domains of one host for which it is asked for recipients side by side."""

PAIRS = 3
"""Senders of different domains, with a recipient each, from whom a primary took mail last: whom it is asked for besides."""

TURN = 500
"""Domains that hear of a probe in one turn of the reactor."""

COMPLAIN_AGAIN = 900.0

Place = tuple[Host, TLSPolicy]


class Pace(msgspec.Struct, frozen=True, gc=False):
    """Seconds between probes of a host: ``calm`` while all is well, ``alert`` while something is wrong; ``patience`` for one."""

    calm: float = 60.0
    alert: float = 5.0
    patience: float = 8.0


class HostHealth(msgspec.Struct, frozen=True, gc=False):
    """What is known of one host. ``up`` None: nothing yet. ``since``: of this state; ``seen``: the newest evidence; ``answered``: when it
    was up last, 0 for never; ``stage``: how far the last conversation came; ``nameless``: DNS says that there is no such host."""

    host: Host
    up: bool | None = None
    since: float = 0.0
    seen: float = 0.0
    reason: str = "not asked yet"
    answered: float = 0.0
    stage: Stage = Stage.CONNECT
    nameless: bool = False


class Watch(msgspec.Struct, frozen=True):
    """What health is for. ``told(domain, event)`` hears of every probe; ``alert(domain)``: ask more often; ``strict(domain)``: a greeting is
    not enough, it must take a recipient; ``examples(domain)``: addresses it should take."""

    told: Callable[[str, machine.Event], None]
    alert: Callable[[str], bool]
    strict: Callable[[str], bool]
    examples: Callable[[str], Awaitable[Sequence[str]]]


class Health:
    """``dialer`` and ``hello`` are for ``connect``; ``chance`` gives numbers from 0 to 1."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        directory: IDirectory,
        bus: IBus,
        dialer: Any,
        hello: str,
        watch: Watch,
        *,
        connect: Connect = SMTPClient.connect,
        pace: Pace | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._bus = bus
        self._dialer = dialer
        self._hello = hello
        self._watch = watch
        self._connect = connect
        self._chance = chance
        self.pace = pace or Pace()
        self._hosts: dict[Host, HostHealth] = {}
        self._domains: dict[Place, tuple[str, ...]] = {}
        self._siblings: dict[Place, frozenset[Host]] = {}
        self._served: dict[Host, tuple[str, ...]] = {}
        self._ranked: tuple[float, list[Place]] = (float("-inf"), [])
        self._surveyed: dict[Place, list[Deferred[None]]] = {}
        self._calls: dict[Place, IDelayedCall] = {}
        self._asking: set[Place] = set()
        self._pairs: dict[str, OrderedDict[str, tuple[str, str]]] = {}
        self._at_once = DeferredSemaphore(MOST_AT_ONCE)
        self._complained = float("-inf")
        self._complaining = False
        self._tasks = Tasks(clock)
        self._running = False
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to probe; new hosts are met as the directory changes."""
        self._running = True
        self._unsubscribe = self._bus.subscribe(DirectoryChanged, lambda event: self._meet() if event.domains else None)
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

    # ---- when

    def _meet(self) -> None:
        domains: dict[Place, list[str]] = {}
        siblings: dict[Place, set[Host]] = {}
        for domain in self._directory.domains():
            for place in _places(domain):
                domains.setdefault(place, []).append(domain.name)
                siblings.setdefault(place, set()).update(domain.primaries)
        self._domains = {place: tuple(names) for place, names in domains.items()}
        self._siblings = {place: frozenset(hosts) for place, hosts in siblings.items()}
        served: dict[Host, dict[str, None]] = {}
        for (host, _), names in domains.items():
            served.setdefault(host, {}).update(dict.fromkeys(names))
        self._served = {host: tuple(names) for host, names in served.items()}
        self._pairs = {name: pairs for name, pairs in self._pairs.items() if self._directory.domain(name) is not None}
        there = set(served)
        self._hosts = {host: state for host, state in self._hosts.items() if host in there}
        for place in list(self._calls):
            if place not in domains:
                call = self._calls.pop(place)
                if call.active():
                    call.cancel()
        new = [place for place in domains if place not in self._calls]
        for place in new:
            self._schedule(place, self._chance() * min(self.pace.calm, SPREAD_SECONDS * len(new)))

    def _schedule(self, place: Place, seconds: float) -> None:
        if not self._running:
            return
        call = self._calls.get(place)
        if call is not None and call.active():
            call.cancel()
        self._calls[place] = self._clock.callLater(seconds, self._due, place)

    def _due(self, place: Place) -> None:
        if place not in self._asking:
            self._tasks.start(self._round(place), f"probe of {place[0]}")

    async def _round(self, place: Place) -> None:
        if place not in self._domains:
            self._calls.pop(place, None)
            return
        self._asking.add(place)
        try:
            await self._at_once.acquire()
            try:
                asked = await self._ask(*place)
            finally:
                self._at_once.release()
            if asked:
                await self._tell(place)
        finally:
            self._asking.discard(place)
            pace = self.pace.alert if self._worried(place) else self.pace.calm
            self._schedule(place, pace * (0.9 + 0.2 * self._chance()))

    def _worried(self, place: Place) -> bool:
        if any(self.host(host).up is False for host in self._siblings.get(place, ())):
            return True
        return any(self._watch.alert(domain) for domain in self._domains.get(place, ()))

    def hurry(self, domain: str) -> None:
        """Something is wrong there: ask soon."""
        served = self._directory.domain(domain)
        for place in _places(served) if served is not None else ():
            call = self._calls.get(place)
            if call is None or place in self._asking:
                continue
            if not call.active() or call.getTime() - self._clock.seconds() > self.pace.alert:
                self._schedule(place, self.pace.alert)

    def next_probe(self, domain: str) -> float:
        """When the next probe is due, Unix seconds; 0 if none is."""
        served = self._directory.domain(domain)
        calls = [self._calls.get(place) for place in _places(served)] if served is not None else []
        return min((call.getTime() for call in calls if call is not None and call.active()), default=0.0)

    # ---- what is asked

    async def _ask(self, host: Host, tls: TLSPolicy) -> bool:
        """Greeting and EHLO. False: the question could not be put, for a reason of ours."""
        client = await self._reached(host, tls)
        if isinstance(client, Stage):
            return client is not Stage.LOCAL
        try:
            await within(self._clock, self.pace.patience, client.quit())
        except TimeoutError:
            client.abort()
        except BaseException:
            client.abort()
            raise
        return True

    async def _reached(self, host: Host, tls: TLSPolicy) -> SMTPClient | Stage:
        """A connection that was greeted; or the stage at which that failed."""
        timeouts = Timeouts(connect=self.pace.patience, reply=self.pace.patience)
        try:
            client = await within(
                self._clock,
                self.pace.patience,
                awaiting(self._connect(self._dialer, host, hello=self._hello, tls=tls, timeouts=timeouts)),
            )
        except TimeoutError as error:
            stage, text, nameless = Stage.CONNECT, str(error), False
        except Broken as error:
            nameless = error.stage is Stage.RESOLVE and outage.is_nameless(error.reply)
            stage, text = error.stage, error.reply.text if nameless else f"{error.stage}: {error.reply}"
        else:
            if self._complaining:
                self._complaining = False
                self._bus.publish(AlarmEnded("no-connections", why="connections can be made again"))
            self.saw(host, True, "answered EHLO", probed=True)
            return client
        if stage is Stage.LOCAL:
            self._complain(host, text)
        else:
            self.saw(host, False, text, probed=True, stage=stage, nameless=nameless)
        return stage

    def _complain(self, host: Host, text: str) -> None:
        """Our own trouble is not theirs (rule 5), and somebody must hear of it."""
        now = self._clock.seconds()
        if now - self._complained >= COMPLAIN_AGAIN:
            self._complained = now
            self._complaining = True
            self._bus.publish(Alarm("no-connections", f"no connection can be made from here, {host} could not be asked: {text}"))

    async def _tell(self, place: Place) -> None:
        """The domains hear of it, each once a round: from the probe of its first host."""
        strict: list[Domain] = []
        for number, name in enumerate(self._domains.get(place, ())):
            if number % TURN == TURN - 1:
                await pause(self._clock, 0)
            domain = self._directory.domain(name)
            if domain is None or not domain.primaries or _places(domain)[0] != place:
                continue
            if self._watch.strict(name):
                strict.append(domain)
            else:
                await self._tell_one(domain)
        for start in range(0, len(strict), TRIALS):
            await together(self._tell_one(domain) for domain in strict[start : start + TRIALS])

    async def _tell_one(self, domain: Domain) -> None:
        now = self._clock.seconds()
        states = [self.host(host) for host in domain.primaries]
        fresh = self.pace.patience + 2 * self.pace.alert
        up = next((state for state in states if state.up and now - state.seen <= fresh), None)
        key = f"probe at {now:.3f}"
        if up is not None:
            if self._watch.strict(domain.name) and await self._trial(domain) is not Own.TAKES:
                text = "it greets but takes no mail"
                self._watch.told(domain.name, machine.Trouble(key, text, probe=True, proof=machine.Proof.ENVELOPE))
                return
            self._watch.told(domain.name, machine.ProbeAnswered(str(up.host)))
        elif all(state.up is False for state in states):
            text = "probe failed: " + "; ".join(f"{state.host}: {state.reason}" for state in states)
            dns = all(state.stage is Stage.RESOLVE for state in states)
            nameless = all(state.nameless for state in states)
            self._watch.told(domain.name, machine.Trouble(key, text, dns=dns, probe=True, nameless=nameless))

    # ---- surveys

    async def survey(self, name: str) -> machine.Surveyed:
        """Ask a domain's own primary for a recipient, and the primaries of others whether they are there (rules 5 and 8c)."""
        domain = self._directory.domain(name)
        if domain is None or not domain.primaries:
            return machine.Surveyed(own=Own.UNASKED)
        trial: Deferred[Own] = Deferred.fromCoroutine(self._trial(domain))
        try:
            asked = self._witnesses(domain)
            await together(self._heard_from(place) for place in asked)
        finally:
            own = await trial
        up = sum(1 for host, _ in asked if self.host(host).up)
        return machine.Surveyed(up, len(asked) - up, own)

    def _witnesses(self, domain: Domain) -> list[Place]:
        """Whom to ask whether our network works: hosts that were up until lately, each once, the newest first. While nobody was ever up,
        anybody. Those on this domain's hosts tell nothing new."""
        now = self._clock.seconds()
        if now - self._ranked[0] >= 1.0:
            self._ranked = (now, self._rank())
        own = {host.name for host in domain.primaries}
        found: list[Place] = []
        for place in self._ranked[1]:
            if place[0].name not in own:
                found.append(place)
                if len(found) == WITNESSES:
                    break
        return found

    def _rank(self) -> list[Place]:
        hosts = {host: (host, tls) for host, tls in self._domains}
        newest = max((state.answered for state in self._hosts.values()), default=0.0)
        if not newest:
            return list(hosts.values())
        answered = {host: self.host(host).answered for host in hosts}
        lately = [host for host in hosts if answered[host] and answered[host] >= newest - LATELY_SECONDS]
        return [hosts[host] for host in sorted(lately, key=lambda host: -answered[host])]

    async def _heard_from(self, place: Place) -> None:
        """Asked within the last seconds, or now, once for all surveys that want to know."""
        state = self.host(place[0])
        if state.up is not None and 0 <= self._clock.seconds() - state.seen < min(1.0, self.pace.alert):
            return
        if (waiting := self._surveyed.get(place)) is not None:
            answer: Deferred[None] = Deferred()
            waiting.append(answer)
            await answer
            return
        self._surveyed[place] = []
        try:
            await self._ask(*place)
        finally:
            for each in self._surveyed.pop(place):
                each.callback(None)

    async def _trial(self, domain: Domain) -> Own:
        """The best that any host of the primary answers to questions of our own: MAIL and RCPT for pairs that it took mail of, and from nobody for
        addresses that it should know."""
        pairs = list(self._pairs.get(domain.name, {}).values())
        pairs += [("", address) for address in await self._watch.examples(domain.name)]
        found = await together(self._tried(host, tls, pairs) for host, tls in _places(domain))
        return next((own for own in (Own.TAKES, Own.DEFERS, Own.UNASKED) if own in found), Own.SILENT)

    async def _tried(self, host: Host, tls: TLSPolicy, pairs: Iterable[tuple[str, str]]) -> Own:
        client = await self._reached(host, tls)
        if isinstance(client, Stage):
            return Own.UNASKED if client is Stage.LOCAL else Own.SILENT
        try:
            for sender, address in pairs:
                if await self._taken(client, sender, address):
                    await within(self._clock, self.pace.patience, client.quit())
                    return Own.TAKES
        except TimeoutError:
            return Own.DEFERS
        except Broken as error:
            refused = error.reply.permanent and not _of_the_server(error.reply)
            return Own.TAKES if refused else Own.DEFERS
        finally:
            client.abort()
        return Own.DEFERS

    async def _taken(self, client: SMTPClient, sender: str, address: str) -> bool:
        """Whether it takes, or refuses for good, what the question names. A refusal of MAIL is believed of the empty sender only: of another it says
        something about that sender, whom a stranger may have chosen (rule 8c). Raises Broken, TimeoutError."""
        try:
            return _works(await within(self._clock, self.pace.patience, client.ask(sender, address)))
        except Broken as error:
            if sender and error.stage is Stage.MAIL and error.reply.code != 421 and client.alive:
                return False
            raise

    def took(self, name: str, sender: str, address: str) -> None:
        """The primary of that domain took a message from the sender for the recipient. It knows this pair, and whoever greylists, in whatever words, takes it
        again: what it defers then it defers for another reason."""
        pairs = self._pairs.setdefault(name, OrderedDict())
        place = domain_of(sender)
        pairs[place] = (sender, address)
        pairs.move_to_end(place)
        if len(pairs) > PAIRS:
            pairs.popitem(last=False)

    # ---- what is known

    def host(self, host: Host) -> HostHealth:
        """What is known of it."""
        return self._hosts.get(host) or HostHealth(host)

    def up(self, domain: Domain) -> bool | None:
        """Whether one of the domain's primaries is there; None: nobody knows yet."""
        states = [self.host(host).up for host in domain.primaries]
        if any(states):
            return True
        return False if states and all(each is False for each in states) else None

    def saw(
        self,
        host: Host,
        up: bool,
        reason: str,
        *,
        probed: bool = False,
        stage: Stage = Stage.CONNECT,
        nameless: bool = False,
    ) -> None:
        """Evidence from a delivery, a connection or a probe. ``PrimarySeen`` is published for each answered probe and for the first
        connection after trouble or at the start, never for each connection."""
        before = self.host(host)
        now = self._clock.seconds()
        turned = before.up is not up
        since = now if turned else before.since
        self._hosts[host] = HostHealth(
            host, up, since, now, reason, now if up else before.answered, Stage.EHLO if up else stage, nameless
        )
        if not turned and not (up and probed):
            return
        served = self._served.get(host, ())
        if turned and not (up and before.up is None):
            self.log.info(
                "{host} of {domains} domains is {state}: {reason}",
                host=str(host),
                domains=len(served),
                state="up" if up else "down",
                reason=reason,
            )
            for name in served:
                self._bus.publish(HealthChanged(name, str(host), up, reason))
                if not up:
                    self.hurry(name)
        if up and served:
            self._bus.publish(PrimarySeen(str(host), served))


def _places(domain: Domain) -> list[Place]:
    return [(host, domain.tls) for host in domain.primaries]


def _works(reply: Reply) -> bool:
    """A known recipient was taken, or refused for a reason that says nothing of the server as a whole."""
    if reply.permanent:
        return not (outage.is_unknown(reply) or _of_the_server(reply))
    return reply.completed or outage.is_greylisting(reply) or outage.is_full(reply)


def _of_the_server(reply: Reply) -> bool:
    """A refusal that everybody's mail meets."""
    return outage.is_of_the_session(reply) or outage.bars_us(reply)
