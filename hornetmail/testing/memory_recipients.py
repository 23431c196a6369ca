"""Accepted recipients in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from hornetmail.delivery.recipients.store import Fact


class MemoryRecipients:
    """A RecipientStore; ``facts`` by address. While ``broken`` is set nothing can be asked or written."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self.broken: Exception | None = None

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken

    async def write(self, facts: Sequence[Fact]) -> None:
        """See RecipientStore."""
        self._check()
        for fact in facts:
            before = self.facts.get(fact.address, fact)
            self.facts[fact.address] = msgspec.structs.replace(
                fact, accepted=max(before.accepted, fact.accepted), delivered=before.delivered or fact.delivered
            )

    async def accepted(self, address: str) -> float | None:
        """See RecipientStore."""
        self._check()
        fact = self.facts.get(address)
        return fact.accepted if fact is not None else None

    def _of(self, domain: str) -> list[Fact]:
        self._check()
        return [fact for fact in self.facts.values() if fact.domain == domain]

    async def page(self, domain: str, since: float, after: str = "", limit: int = 2000) -> list[str]:
        """See RecipientStore."""
        return sorted(f.address for f in self._of(domain) if f.accepted >= since and f.address > after)[:limit]

    async def newest(self, domain: str, limit: int) -> list[str]:
        """See RecipientStore."""
        return [f.address for f in sorted(self._of(domain), key=lambda f: -f.accepted) if f.delivered][:limit]

    async def forget(self, before: float) -> int:
        """See RecipientStore."""
        self._check()
        old = [fact.address for fact in self.facts.values() if fact.accepted < before]
        for address in old:
            del self.facts[address]
        return len(old)

    async def crowded(self, most: int) -> dict[str, int]:
        """See RecipientStore."""
        self._check()
        counts = Counter(fact.domain for fact in self.facts.values())
        return {domain: count - most for domain, count in counts.items() if count > most}

    async def thin(self, domain: str, count: int) -> int:
        """See RecipientStore."""
        dropped = sorted(self._of(domain), key=lambda f: (f.delivered, f.accepted))[:count]
        for fact in dropped:
            del self.facts[fact.address]
        return len(dropped)
