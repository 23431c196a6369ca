"""Does a recipient exist? Asked of the primary, answered from a cache, judged by rule 4 (C13, C14)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core import outage
from hornetmail.core.address import key_of
from hornetmail.core.events import Alarm
from hornetmail.core.mode import Mode
from hornetmail.core.reply import Reply
from hornetmail.core.served import Coverage, Domain
from hornetmail.core.verdict import Outcome, Stage, Verdict
from hornetmail.delivery.connections.pool import Pool
from hornetmail.delivery.recipients.accepted import AcceptedRecipients
from hornetmail.delivery.tasks import Tasks, within
from hornetmail.interfaces import IBus, IDirectory, IModes, IQueue, IRecipients
from hornetmail.net.smtp import Broken

ACCEPT_ALL = "accept-all"
"""The space of remembered facts: domains whose primary accepts every address, and since when."""

PROBE_SECONDS = 5.0
DAY = 86400.0

OK = Reply(250, "2.1.5", "known")
UNKNOWN = Reply(550, "5.1.1", "no such user here")
LATER = Reply(451, "4.4.1", "the recipient cannot be verified now, please try again later")


@implementer(IRecipients)
class CallForward:
    """``pool``: one of its own with four connections. ``trouble(domain, key, verdict)`` hears of probes that failed."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        directory: IDirectory,
        modes: IModes,
        known: AcceptedRecipients,
        pool: Pool,
        bus: IBus,
        unique: Callable[[], str],
        trouble: Callable[[str, str, Verdict], None],
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self._modes = modes
        self._known = known
        self._pool = pool
        self._bus = bus
        self._unique = unique
        self._trouble = trouble
        self._asking: dict[str, list[Deferred[Reply]]] = {}
        self._accept_all: dict[str, float] = {}
        self._tested: dict[str, float] = {}
        self._tasks = Tasks(clock)

    def load(self) -> None:
        """Read what was remembered."""
        for domain, value in self._queue.remembered(ACCEPT_ALL).items():
            try:
                self._accept_all[domain] = float(value)
            except ValueError:
                continue

    async def stop(self) -> None:
        """End the probes."""
        await self._tasks.stop(0)

    async def verify(self, address: str, sender: str = "") -> Reply:
        """See IRecipients."""
        domain = self._directory.domain(key_of(address).rpartition("@")[2])
        if domain is None:
            return Reply(550, "5.7.1", "not a domain of ours")
        registered = self._directory.mailbox(address) is not None
        if not domain.primaries:
            return OK if registered else UNKNOWN
        covers_all = domain.active and domain.coverage is Coverage.ALL
        if self._modes.mode(domain.name) is Mode.EMERGENCY:
            if registered or not covers_all or self._known.age(address) <= self._known.limits.emergency:
                return OK
            return UNKNOWN
        if self.accepts_everything(domain.name):
            return OK if registered or not covers_all else UNKNOWN
        if self._known.age(address) <= self._known.limits.positive:
            return OK
        refusal = self._known.refusal(address)
        if refusal is not None:
            return Reply(550, "5.1.1", refusal or UNKNOWN.text)
        return await self._ask(domain, address)

    async def _ask(self, domain: Domain, address: str) -> Reply:
        """One probe an address at a time; whoever comes meanwhile waits for its answer."""
        key = key_of(address)
        answer: Deferred[Reply] = Deferred()
        waiting = self._asking.get(key)
        if waiting is not None:
            waiting.append(answer)
        else:
            self._asking[key] = [answer]
            self._tasks.start(self._answer(domain, address, key), f"callforward of {address}")
        return await answer

    async def _answer(self, domain: Domain, address: str, key: str) -> None:
        reply = LATER
        try:
            reply = await self._judged(domain, address)
        finally:
            for each in self._asking.pop(key):
                if not each.called:
                    each.callback(reply)

    async def _judged(self, domain: Domain, address: str) -> Reply:
        verdict = await self.probe(domain, address)
        known = self._known.is_known(address)
        if verdict.outcome is Outcome.DELIVERED:
            await self._known.accepted(address)
            return OK
        if verdict.outcome is Outcome.FAILED:
            if outage.is_unknown(verdict.reply):
                if self._known.refused(address, verdict.reply.text):
                    self._trouble(domain.name, f"refused {key_of(address)}", verdict)
                    return Reply(451, "4.3.0", "the recipient's server is not itself, please try again later")
                return Reply(verdict.reply.code, verdict.reply.enhanced or "5.1.1", verdict.reply.text)
            # It refuses the question for another reason, which says nothing of the address.
            return OK if known else LATER
        self._trouble(domain.name, f"probe {key_of(address)}", verdict)
        return OK if known else LATER

    async def probe(self, domain: Domain, address: str) -> Verdict:
        """Ask the primary: DELIVERED (it would take it), FAILED (its 5xx at RCPT) or DEFERRED."""
        destination = self._pool.destination(domain.primaries, domain.tls)
        try:
            reply = await within(self._clock, PROBE_SECONDS, destination.exchange(lambda client: client.ask("", address)))
        except TimeoutError as error:
            return Verdict(Outcome.DEFERRED, Reply(451, "4.4.1", str(error)), "callforward", Stage.CONNECT, unavailable=True)
        except Broken as error:
            return Verdict(Outcome.DEFERRED, Reply(451, "4.4.1", str(error.reply)), "callforward", error.stage, unavailable=True)
        if reply.completed:
            return Verdict(Outcome.DELIVERED, reply, "callforward", Stage.RCPT)
        if reply.permanent:
            return Verdict(Outcome.FAILED, reply, "callforward", Stage.RCPT)
        return Verdict(Outcome.DEFERRED, reply, "callforward", Stage.RCPT, unavailable=True)

    def accepts_everything(self, domain: str) -> bool:
        """The primary took a random address: callforward is off, registration is required, and the panel says so."""
        return domain in self._accept_all

    async def test(self, domains: Sequence[Domain]) -> None:
        """The daily question for an address that cannot exist; asks domains that were not asked for a day."""
        now = self._clock.seconds()
        for domain in domains:
            if not domain.primaries or self._modes.mode(domain.name) is Mode.EMERGENCY:
                continue
            if now - self._tested.get(domain.name, float("-inf")) < DAY:
                continue
            verdict = await self.probe(domain, f"no-such-user-{self._unique()}@{domain.name}")
            if verdict.outcome is Outcome.DEFERRED:
                continue
            self._tested[domain.name] = now
            takes_all = verdict.outcome is Outcome.DELIVERED
            if takes_all and domain.name not in self._accept_all:
                self._accept_all[domain.name] = now
                await self._queue.remember(ACCEPT_ALL, domain.name, repr(now).encode())
                text = f"the primary of {domain.name} accepts every address: recipients must be registered"
                self._bus.publish(Alarm("accept-all", text, domain.name))
            elif not takes_all and self._accept_all.pop(domain.name, None) is not None:
                await self._queue.remember(ACCEPT_ALL, domain.name, None)
