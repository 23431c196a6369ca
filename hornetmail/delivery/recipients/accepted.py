"""What is known of recipients: whom the primary accepted, and whether it is sick (rule 4, L7).

Facts are in ``recipients.db`` (``store.py``); in memory are those asked for or learnt lately. Learning never waits: a fact counts at once, is
written together with others as soon as the database is free, and again until it is written.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from hornetmail.core.mail.address import domain_of, key_of
from hornetmail.delivery.recipients.store import Fact, RecipientStore
from hornetmail.delivery.tasks import Tasks, pause, together
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.queue import IQueue

SPACE = "recipients"
"""Where the queue remembered accepted addresses before they had a database of their own; taken over at the start."""

DAY = 86400.0
WRITE_AGAIN = 5.0
"""Seconds until a write that failed is tried again."""

BATCH = 500


class RecipientLimits(msgspec.Struct, frozen=True, gc=False):
    """Seconds, and how many at most. ``positive``, ``negative``: how long the cache answers; ``learnt``: an accepted address is known;
    ``emergency``: it is accepted in an emergency (C13), and after that forgotten; ``sick``: window in which ``refusals`` known addresses
    refused make a primary sick; ``most`` addresses of one domain; ``most_cached`` facts and ``most_negative`` refusals in memory;
    ``tidy``: between two looks for what is to be forgotten; ``gaps``: addresses shown of those that nobody registered."""

    positive: float = 7 * DAY
    negative: float = 300.0
    learnt: float = 30 * DAY
    emergency: float = 90 * DAY
    sick: float = 600.0
    refusals: int = 3
    most: int = 250_000
    most_cached: int = 20_000
    most_negative: int = 20_000
    tidy: float = 3600.0
    gaps: int = 100


class Gaps(msgspec.Struct, frozen=True, gc=False):
    """L7: addresses that the primary accepts and that nobody registered: the first ones, and how many in all."""

    first: tuple[str, ...]
    total: int


class AcceptedRecipients:
    """Accepted addresses, refusals, sick primaries."""

    log = Logger()

    def __init__(
        self, clock: IReactorTime, store: RecipientStore, directory: IDirectory, limits: RecipientLimits | None = None
    ) -> None:
        self._clock = clock
        self._store = store
        self._directory = directory
        self.limits = limits or RecipientLimits()
        self._cached: OrderedDict[str, float] = OrderedDict()
        self._unwritten: dict[str, Fact] = {}
        self._written: OrderedDict[str, float] = OrderedDict()
        self._writing = False
        self._refused: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._doubts: dict[str, dict[str, float]] = {}
        self._tasks = Tasks(clock)
        self._tidying: IDelayedCall | None = None

    async def start(self, queue: IQueue) -> None:
        """Take over what the queue remembered, now or, if it cannot be written now, at the next start; from then on tidy now and then."""
        try:
            await self._take_over(queue)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - mail does not wait for it
            self.log.failure("accepted addresses could not be taken over from the queue; they stay there until the next start")
        self._tidying = self._clock.callLater(self.limits.tidy, self._tidy)

    async def _take_over(self, queue: IQueue) -> None:
        old = queue.remembered(SPACE)
        facts = []
        for key, value in old.items():
            try:
                facts.append(self._fact(key, float(value), delivered=True))
            except ValueError:
                continue
        for at in range(0, len(facts), BATCH):
            await self._store.write(facts[at : at + BATCH])
        if old:
            self.log.info("{count} accepted addresses were taken over from the queue", count=len(facts))
            self._tasks.start(self._forget_old(queue, list(old)), "forgetting what was taken over")

    async def _forget_old(self, queue: IQueue, keys: list[str]) -> None:
        for at in range(0, len(keys), BATCH):
            await together(queue.remember(SPACE, key, None) for key in keys[at : at + BATCH])
            await pause(self._clock, 0)

    async def stop(self) -> None:
        """Write what was learnt."""
        if self._tidying is not None and self._tidying.active():
            self._tidying.cancel()
        self._tidying = None
        await self._tasks.stop(1.0)

    # ---- learning

    def _fact(self, key: str, at: float, *, delivered: bool) -> Fact:
        name = domain_of(key)
        domain = self._directory.domain(name)
        return Fact(key, domain.name if domain else name, domain.tenant if domain else 0, at, delivered)

    def learn(self, address: str, *, delivered: bool) -> None:
        """The primary accepted it just now. Counts at once; written at most once a day for an address."""
        key = key_of(address)
        now = self._clock.seconds()
        self._cache(key, now)
        self._refused.pop(key, None)
        doubts = self._doubts.get(self._served(key))
        if doubts:
            doubts.pop(key, None)
        if now - self._written.get(key, float("-inf")) < DAY and key not in self._unwritten:
            return
        earlier = self._unwritten.get(key)
        self._unwritten[key] = self._fact(key, now, delivered=delivered or (earlier is not None and earlier.delivered))
        if not self._writing:
            self._writing = True
            self._tasks.start(self._write(), "writing accepted addresses")

    async def _write(self) -> None:
        try:
            while self._unwritten:
                some = list(self._unwritten.values())[:BATCH]
                try:
                    await self._store.write(some)
                except CancelledError:
                    raise
                except Exception:  # noqa: BLE001
                    self.log.failure("accepted addresses could not be written, again in {seconds:g} s", seconds=WRITE_AGAIN)
                    while len(self._unwritten) > self.limits.most_cached:
                        self._unwritten.pop(next(iter(self._unwritten)))
                    await pause(self._clock, WRITE_AGAIN)
                    continue
                for fact in some:
                    if self._unwritten.get(fact.address) is fact:
                        del self._unwritten[fact.address]
                    self._written[fact.address] = fact.accepted
                while len(self._written) > self.limits.most_cached:
                    self._written.popitem(last=False)
        finally:
            self._writing = False

    def _cache(self, key: str, at: float) -> None:
        self._cached[key] = at
        self._cached.move_to_end(key)
        while len(self._cached) > self.limits.most_cached:
            self._cached.popitem(last=False)

    # ---- forgetting

    def _tidy(self) -> None:
        self._tasks.start(self.tidy(), "forgetting old addresses").addCallback(lambda _: self._tidy_again())

    def _tidy_again(self) -> None:
        if self._tidying is not None:
            self._tidying = self._clock.callLater(self.limits.tidy, self._tidy)

    async def tidy(self) -> None:
        """Forget what nobody accepted for 90 days, and what one domain has too much."""
        while await self._store.forget(self._clock.seconds() - self.limits.emergency):
            pass
        for domain, too_many in (await self._store.crowded(self.limits.most)).items():
            self.log.warn(
                "{domain}: {count} accepted addresses too many (at most {most} of a domain), the oldest are forgotten",
                domain=domain,
                count=too_many,
                most=self.limits.most,
            )
            while too_many > 0:
                dropped = await self._store.thin(domain, too_many)
                if not dropped:
                    break
                too_many -= dropped
            self._cached.clear()

    # ---- refusals

    async def refused(self, address: str, text: str = "") -> bool:
        """The primary says that it does not know it. True if that is not to be believed: the primary is sick."""
        key = key_of(address)
        known = await self.is_known(address)
        now = self._clock.seconds()
        if known:
            name = self._served(key)
            doubts = self._doubts.setdefault(name, {})
            doubts[key] = now
            if self.is_sick(name):
                # What it said of known addresses before it was found out is void too.
                for each in doubts:
                    self._refused.pop(each, None)
                return True
        self._refused[key] = (now, text)
        self._refused.move_to_end(key)
        while len(self._refused) > self.limits.most_negative:
            self._refused.popitem(last=False)
        return False

    def _served(self, key: str) -> str:
        """The name of the domain that an address belongs to, by whichever of its names."""
        domain = self._directory.domain(domain_of(key))
        return domain.name if domain is not None else domain_of(key)

    def is_sick(self, domain: str) -> bool:
        """Whether a domain's primary refused too many known addresses lately."""
        doubts = self._doubts.get(domain)
        if not doubts:
            return False
        now = self._clock.seconds()
        for key, at in list(doubts.items()):
            if now - at > self.limits.sick:
                del doubts[key]
        return len(doubts) >= self.limits.refusals

    def refusal(self, address: str) -> str | None:
        """The text of a refusal that is still believed (5 min), or None."""
        key = key_of(address)
        found = self._refused.get(key)
        if found is None:
            return None
        at, text = found
        if self._clock.seconds() - at > self.limits.negative:
            del self._refused[key]
            return None
        return text

    # ---- asking

    async def age(self, address: str) -> float:
        """Seconds since the primary accepted it last; infinite if never. Raises DatabaseError."""
        key = key_of(address)
        at = self._cached.get(key)
        if at is None and key in self._unwritten:
            at = self._unwritten[key].accepted
        if at is None:
            at = await self._store.accepted(key)
            # It may have been accepted while the database was asked.
            at = self._cached.get(key, at)
            if at is not None:
                self._cache(key, at)
        else:
            self._cached.move_to_end(key, last=True) if key in self._cached else None
        return float("inf") if at is None else self._clock.seconds() - at

    async def is_known(self, address: str) -> bool:
        """Registered, or accepted within 30 days. Never raises: what a broken database knows is not known."""
        if self._directory.mailbox(address) is not None:
            return True
        try:
            return await self.age(address) <= self.limits.learnt
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001
            self.log.failure("it could not be looked up whether {address} is known", address=address)
            return False

    async def examples(self, domain: str, count: int = 3) -> list[str]:
        """Addresses that the primary should take: those that took mail last, then registered ones, then the postmaster (RFC 5321
        section 4.5.1). Never raises."""
        try:
            found = await self._store.newest(domain, count)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001
            self.log.failure("accepted addresses of {domain} could not be looked up", domain=domain)
            found = []
        if len(found) < count:
            found += [each.address for each in self._directory.mailboxes(domain)[:count]]
        return (list(dict.fromkeys(found)) or [f"postmaster@{domain}"])[:count]

    async def gaps(self, domain: str) -> Gaps:
        """L7: whose mail would have to wait in an emergency. Raises DatabaseError."""
        since = self._clock.seconds() - self.limits.emergency
        first: list[str] = []
        total = 0
        after = ""
        while True:
            page = await self._store.page(domain, since, after)
            missing = [address for address in page if self._directory.mailbox(address) is None]
            total += len(missing)
            first += missing[: self.limits.gaps - len(first)]
            if len(page) < 2000:
                return Gaps(tuple(first), total)
            after = page[-1]
