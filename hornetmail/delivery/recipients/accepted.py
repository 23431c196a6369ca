"""What is known of recipients: whom the primary accepted, and whether it is sick (rule 4, L7).

Facts are kept by ``queue.remember("recipients", address key, …)`` as two times: last accepted by a delivery or probe, last written.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec
from twisted.internet.interfaces import IReactorTime

from hornetmail.core.address import domain_of, key_of
from hornetmail.interfaces import IDirectory, IQueue

SPACE = "recipients"
DAY = 86400.0


class RecipientLimits(msgspec.Struct, frozen=True, gc=False):
    """Seconds, and how many at most. ``positive``, ``negative``: how long the cache answers; ``learnt``: an accepted address is known;
    ``emergency``: it is accepted in an emergency (C13); ``sick``: window in which ``refusals`` known addresses refused make a primary sick;
    ``gaps``: how long a list of them is shown before it is made anew."""

    positive: float = 7 * DAY
    negative: float = 300.0
    learnt: float = 30 * DAY
    emergency: float = 90 * DAY
    sick: float = 600.0
    refusals: int = 3
    gaps: float = 60.0
    most: int = 100_000
    most_negative: int = 20_000


class AcceptedRecipients:
    """Accepted addresses, refusals, sick primaries. Answers from memory."""

    def __init__(self, clock: IReactorTime, queue: IQueue, directory: IDirectory, limits: RecipientLimits | None = None) -> None:
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self.limits = limits or RecipientLimits()
        self._accepted: OrderedDict[str, float] = OrderedDict()
        self._written: dict[str, float] = {}
        self._refused: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._doubts: dict[str, dict[str, float]] = {}
        self._gaps: dict[str, tuple[float, list[str]]] = {}

    def load(self) -> None:
        """Read what was remembered."""
        facts = []
        for key, value in self._queue.remembered(SPACE).items():
            try:
                facts.append((float(value), key))
            except ValueError:
                continue
        for at, key in sorted(facts):
            self._accepted[key] = self._written[key] = at

    async def accepted(self, address: str) -> None:
        """The primary accepted it just now. Written at most once a day for an address: what is lost costs a question."""
        key = key_of(address)
        now = self._clock.seconds()
        self._accepted[key] = now
        self._accepted.move_to_end(key)
        self._refused.pop(key, None)
        doubts = self._doubts.get(domain_of(address))
        if doubts:
            doubts.pop(key, None)
        if now - self._written.get(key, float("-inf")) >= DAY:
            self._written[key] = now
            await self._queue.remember(SPACE, key, repr(now).encode())
            await self._prune(now)

    async def _prune(self, now: float) -> None:
        while self._accepted:
            key, at = next(iter(self._accepted.items()))
            if len(self._accepted) <= self.limits.most and now - at <= self.limits.emergency:
                return
            del self._accepted[key]
            self._written.pop(key, None)
            await self._queue.remember(SPACE, key, None)

    def refused(self, address: str, text: str = "") -> bool:
        """The primary says that it does not know it. True if that is not to be believed: the primary is sick."""
        key = key_of(address)
        now = self._clock.seconds()
        if self.is_known(address):
            doubts = self._doubts.setdefault(domain_of(address), {})
            doubts[key] = now
            if self.is_sick(domain_of(address)):
                # What it said of known addresses before it was found out is void too.
                for each in doubts:
                    self._refused.pop(each, None)
                return True
        self._refused[key] = (now, text)
        self._refused.move_to_end(key)
        while len(self._refused) > self.limits.most_negative:
            self._refused.popitem(last=False)
        return False

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

    def age(self, address: str) -> float:
        """Seconds since the primary accepted it last; infinite if never."""
        at = self._accepted.get(key_of(address))
        return float("inf") if at is None else self._clock.seconds() - at

    def is_known(self, address: str) -> bool:
        """Registered, or accepted within 30 days."""
        return self._directory.mailbox(address) is not None or self.age(address) <= self.limits.learnt

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

    def gaps(self, domain: str) -> list[str]:
        """L7: addresses that the primary accepts and that nobody registered; in an emergency their mail would have to wait.
        Looked up anew once a minute, for it walks over everything."""
        now = self._clock.seconds()
        made, found = self._gaps.get(domain, (float("-inf"), []))
        if now - made >= self.limits.gaps:
            end = f"@{domain}"
            found = sorted(
                key
                for key, at in self._accepted.items()
                if key.endswith(end) and now - at <= self.limits.emergency and self._directory.mailbox(key) is None
            )
            self._gaps[domain] = (now, found)
        return found
