"""Does a recipient exist? Asked of the primary, answered from a cache, judged by rule 4 (C13, C14)."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core.events import Alarm
from hornetmail.core.failover import outage
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.address import key_of
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Coverage, Domain
from hornetmail.delivery.connections.pool import Pool
from hornetmail.delivery.recipients.accepted import AcceptedRecipients
from hornetmail.delivery.tasks import Tasks, awaiting, together, within
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.modes import IModes
from hornetmail.interfaces.queue import IQueue
from hornetmail.interfaces.recipients import IRecipients
from hornetmail.net.clients.smtp import Broken, SMTPClient

ACCEPT_ALL = "accept-all"
"""The space of remembered facts: domains whose primary accepts every address, and since when."""

DAY = 86400.0

OK = Reply(250, "2.1.5", "known")
UNKNOWN = Reply(550, "5.1.1", "no such user here")
LATER = Reply(451, "4.4.1", "the recipient cannot be verified now, please try again later")


class Patience(msgspec.Struct, frozen=True, gc=False):
    """Seconds, and how many. Whoever wants to know waits ``quick`` s; the question itself stays open up to ``long`` s, because primaries
    keep the answer about unknown recipients back (Exchange: 5 s), and what is answered then is known to the next who asks. ``most``
    questions that are younger than ``quick`` and ``late`` older ones side by side to one primary, ``all_late`` to all; ``waiting`` wait for one
    of these turns, at most ``long`` s. ``tests`` domains are
    tested side by side for primaries that accept everything; one that could not be told is tested again after ``test_again`` s."""

    quick: float = 5.0
    long: float = 60.0
    most: int = 4
    late: int = 8
    all_late: int = 100
    waiting: int = 64
    tests: int = 16
    test_again: float = 3600.0


class _Crowded(TimeoutError):
    """It was not waited for any longer, because too many others are."""


class _Turns:
    """Questions to one primary: a few that are young, some that are old."""

    def __init__(self) -> None:
        self.young = 0
        self.late = 0
        self.waiting: deque[Deferred[None]] = deque()


Trouble = Callable[..., None]
"""``Modes.unverified``: (domain, address, verdict, *, proven)."""

Sick = Callable[[str, str, Verdict], None]
"""``Modes.refused``: (domain, address, verdict)."""


class Asking(msgspec.Struct, frozen=True):
    """How primaries are asked. ``pool``: one of its own, with room for ``Patience.most`` and ``Patience.late`` connections. ``unique`` makes up local parts that
    nobody has."""

    pool: Pool
    unique: Callable[[], str]
    patience: Patience = Patience()


class Hearers(msgspec.Struct, frozen=True):
    """Who hears of what was answered. ``trouble``: of questions that failed; ``sick``: of known addresses that were refused."""

    bus: IBus
    trouble: Trouble
    sick: Sick


@implementer(IRecipients)
class CallForward:
    """See the module."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        directory: IDirectory,
        modes: IModes,
        accepted: AcceptedRecipients,
        asking: Asking,
        hearers: Hearers,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self._modes = modes
        self._accepted = accepted
        self._pool = asking.pool
        self._unique = asking.unique
        self.patience = asking.patience
        self._hearers = hearers
        self._asking: dict[str, list[Deferred[Reply]]] = {}
        self._turns: dict[Any, _Turns] = {}
        self._late = 0
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
        emergency = self._modes.mode(domain.name) is Mode.EMERGENCY
        if emergency and (registered or not covers_all):
            return OK
        if not emergency and self.accepts_everything(domain.name):
            return OK if registered or not covers_all else UNKNOWN
        try:
            age = await self._accepted.age(address)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001
            self.log.failure("it could not be looked up whether {address} was accepted", address=address)
            if registered or emergency:
                return OK if registered else LATER
            age = float("inf")
        limits = self._accepted.limits
        if emergency:
            return OK if age <= limits.emergency else UNKNOWN
        if age <= limits.positive:
            return OK
        refusal = self._accepted.refusal(address)
        if refusal is not None:
            return Reply(550, "5.1.1", refusal or UNKNOWN.text)
        return await self._ask(domain, address, known=registered or age <= limits.learnt)

    async def _ask(self, domain: Domain, address: str, *, known: bool) -> Reply:
        """One question an address at a time; whoever comes meanwhile waits for its answer, but nobody longer than ``quick``."""
        key = key_of(address)
        answer: Deferred[Reply] = Deferred(lambda d: self._asking[key].remove(d) if d in self._asking.get(key, ()) else None)
        waiting = self._asking.get(key)
        if waiting is not None:
            waiting.append(answer)
        else:
            self._asking[key] = [answer]
            self._tasks.start(self._answer(domain, address, key, known), f"callforward of {address}")
        try:
            return await within(self._clock, self.patience.quick, awaiting(answer))
        except TimeoutError:
            return OK if known else LATER

    async def _answer(self, domain: Domain, address: str, key: str, known: bool) -> None:
        reply = LATER
        try:
            reply = await self._judged(domain, address, known)
        finally:
            for each in self._asking.pop(key):
                if not each.called:
                    each.callback(reply)

    async def _judged(self, domain: Domain, address: str, known: bool) -> Reply:
        verdict = await self.probe(domain, address)
        if verdict.outcome is Outcome.DELIVERED:
            if not self.accepts_everything(domain.name):
                self._accepted.learn(address, delivered=False)
            return OK
        if verdict.outcome is Outcome.FAILED:
            if outage.is_unknown(verdict.reply):
                if await self._accepted.refused(address, verdict.reply.text):
                    self._hearers.sick(domain.name, address, verdict)
                    return Reply(451, "4.3.0", "the recipient's server is not itself, please try again later")
                return Reply(verdict.reply.code, verdict.reply.enhanced or "5.1.1", verdict.reply.text)
            # It refuses the question for another reason, which says nothing of the address.
            return OK if known else LATER
        self._hearers.trouble(domain.name, address, verdict, proven=known)
        return OK if known else LATER

    async def probe(self, domain: Domain, address: str) -> Verdict:
        """Ask the primary, within ``long`` s: DELIVERED (it would take it), FAILED (its 5xx at RCPT) or DEFERRED. What kept us from asking,
        too many questions above all, is no unavailability of theirs."""
        destination = self._pool.destination(domain.primaries, domain.tls)
        greeted = False

        async def ask(client: SMTPClient) -> Reply:
            nonlocal greeted
            greeted = True
            return await client.ask("", address)

        async def asked() -> Reply:
            return await destination.exchange(ask)

        try:
            reply = await self._in_turn(destination, asked)
        except TimeoutError as error:
            theirs = greeted and not isinstance(error, _Crowded)
            return Verdict(Outcome.DEFERRED, Reply(451, "4.4.1", str(error)), "callforward", Stage.RCPT, unavailable=theirs)
        except Broken as error:
            ours = error.stage is Stage.LOCAL
            return Verdict(
                Outcome.DEFERRED, Reply(451, "4.4.1", str(error.reply)), "callforward", error.stage, unavailable=not ours
            )
        if reply.completed:
            return Verdict(Outcome.DELIVERED, reply, "callforward", Stage.RCPT)
        if reply.permanent:
            return Verdict(Outcome.FAILED, reply, "callforward", Stage.RCPT)
        return Verdict(Outcome.DEFERRED, reply, "callforward", Stage.RCPT, unavailable=True)

    async def _in_turn(self, primary: Any, question: Callable[[], Awaitable[Reply]]) -> Reply:
        """Put a question when it is its turn. Raises TimeoutError when it is not answered within ``long``; _Crowded when no turn
        comes, or it is not answered within ``quick`` while too many others are late already."""
        turns = self._turns.setdefault(primary, _Turns())
        try:
            await self._turn(turns)
            late = False

            def is_late() -> None:
                nonlocal late
                if turns.late < self.patience.late and self._late < self.patience.all_late:
                    late = True
                    turns.late += 1
                    self._late += 1
                    self._free(turns)
                else:
                    asking.cancel()

            asking: Deferred[Reply] = Deferred.fromCoroutine(within(self._clock, self.patience.long, awaiting(question())))
            call = self._clock.callLater(self.patience.quick, is_late)
            try:
                return await asking
            except CancelledError:
                if call.active() or late:
                    raise
                raise _Crowded("too many questions are unanswered") from None
            finally:
                if call.active():
                    call.cancel()
                if late:
                    turns.late -= 1
                    self._late -= 1
                else:
                    self._free(turns)
        finally:
            if not turns.young and not turns.late and not turns.waiting:
                self._turns.pop(primary, None)

    async def _turn(self, turns: _Turns) -> None:
        if turns.young < self.patience.most and not turns.waiting:
            turns.young += 1
            return
        if len(turns.waiting) >= self.patience.waiting:
            raise _Crowded("too many questions wait")
        turn: Deferred[None] = Deferred(lambda d: turns.waiting.remove(d) if d in turns.waiting else None)
        turns.waiting.append(turn)
        try:
            await within(self._clock, self.patience.long, awaiting(turn))
        except TimeoutError:
            raise _Crowded("too many questions wait") from None

    def _free(self, turns: _Turns) -> None:
        """A young question less: the next one takes its place, in a turn of its own, for one that ends at once frees the next."""
        turns.young -= 1
        if turns.waiting:
            self._clock.callLater(0, self._next, turns)

    def _next(self, turns: _Turns) -> None:
        while turns.waiting and turns.young < self.patience.most:
            turns.young += 1
            turns.waiting.popleft().callback(None)

    def accepts_everything(self, domain: str) -> bool:
        """The primary took a random address: callforward is off, registration is required, and the panel says so."""
        return domain in self._accept_all

    async def about(self, domain: str) -> dict[str, Any]:
        """For the panel: whether registration is required (rule 4), and whose mail would have to wait in an emergency (L7)."""
        gaps = await self._accepted.gaps(domain)
        everything = self.accepts_everything(domain)
        return {"accepts_everything": everything, "gaps": list(gaps.first), "gaps_total": gaps.total}

    async def test(self, domains: Sequence[Domain]) -> None:
        """The daily question for an address that cannot exist, to domains that were not asked for a day, several side by side. What cannot be
        told is asked again after an hour."""
        now = self._clock.seconds()
        due = deque(each for each in domains if each.primaries and self._tested.get(each.name, float("-inf")) <= now)
        for each in due:
            # Whoever comes next while these are under way finds them asked.
            self._tested[each.name] = now + self.patience.test_again
        await together(self._test_some(due) for _ in range(min(self.patience.tests, len(due))))

    async def _test_some(self, due: deque[Domain]) -> None:
        while due:
            domain = due.popleft()
            try:
                await self._test(domain)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001
                self.log.failure("the primary of {domain} could not be tested", domain=domain.name)

    async def _test(self, domain: Domain) -> None:
        if self._modes.mode(domain.name) is Mode.EMERGENCY:
            del self._tested[domain.name]
            return
        verdict = await self.probe(domain, f"no-such-user-{self._unique()}@{domain.name}")
        if verdict.outcome is Outcome.DEFERRED:
            return
        now = self._clock.seconds()
        self._tested[domain.name] = now + DAY
        takes_all = verdict.outcome is Outcome.DELIVERED
        if takes_all and domain.name not in self._accept_all:
            self._accept_all[domain.name] = now
            await self._queue.remember(ACCEPT_ALL, domain.name, repr(now).encode())
            text = f"the primary of {domain.name} accepts every address: recipients must be registered"
            self._hearers.bus.publish(Alarm("accept-all", text, domain.name))
        elif not takes_all and self._accept_all.pop(domain.name, None) is not None:
            await self._queue.remember(ACCEPT_ALL, domain.name, None)
