"""Rules and holds in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from zope.interface import implementer

from hornetmail.core.archive.archived import HoldRefused
from hornetmail.core.archive.retention import Deleted, Hold, RetentionPreview, RetentionState, Rule, checked
from hornetmail.interfaces.retention import IRetention


@implementer(IRetention)
class MemoryRetention:
    """Keeps what it is told. ``seen`` is what each preview says; every hold takes ``found`` mails."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.states: dict[int, RetentionState] = {}
        self.seen = RetentionPreview(
            mails=1000, going=12, bytes=34_567, more=10, held=2, spared=3, oldest=1e9, newest=1.1e9, sample=(7, 8)
        )
        self.found = 4
        self.kept: list[tuple[tuple[int, ...], float, str, str]] = []
        self.by: dict[tuple[int, str], Hold] = {}
        self.asked: list[tuple[str, bool, tuple[int, ...]]] = []

    async def state(self, tenant: int) -> RetentionState:
        """No rules at first."""
        return self.states.get(tenant, RetentionState())

    async def preview(self, tenant: int, rules: Sequence[Rule]) -> RetentionPreview:
        """``seen``."""
        checked(rules)
        return self.seen

    async def set_rules(self, tenant: int, rules: Sequence[Rule], by: str) -> None:
        """Kept."""
        before = await self.state(tenant)
        self.states[tenant] = msgspec.structs.replace(before, rules=checked(rules), at=self._seconds(), by=by)

    async def holds(self, tenant: int) -> Sequence[Hold]:
        """The newest first."""
        return sorted((hold for (whose, _), hold in self.by.items() if whose == tenant), key=lambda hold: -hold.at)

    async def hold(
        self,
        tenant: int,
        name: str,
        by: str,
        *,
        query: str = "",
        content: bool = False,
        identifiers: Sequence[int] = (),
        reason: str = "",
    ) -> int:
        """Kept."""
        if not query and not identifiers:
            raise ValueError("a hold needs a query, or IDs of mails")
        self.asked.append((query, content, tuple(identifiers)))
        self.by[tenant, name] = Hold(name, self._seconds(), by, query, content, reason, 0.0, self.found)
        return self.found

    async def release(self, tenant: int, name: str, by: str) -> None:
        """Kept."""
        self.by[tenant, name] = msgspec.structs.replace(self.by[tenant, name], released=self._seconds(), mails=0)

    async def keep(self, tenant: int, identifiers: Sequence[int], until: float, by: str, reason: str = "") -> int:
        """Kept."""
        if until <= self._seconds():
            raise ValueError("mail is kept until a day to come")
        if 404 in identifiers:
            raise KeyError(404)
        self.kept.append((tuple(identifiers), until, by, reason))
        return len(identifiers)

    async def delete(self, tenant: int, identifiers: Sequence[int], by: str, reason: str) -> Deleted:
        """Refused while anything is held."""
        if any(not hold.released for hold in self.by.values()):
            raise HoldRefused("it is under a legal hold")
        return Deleted(tuple(identifiers), self._seconds() + 86_400.0)
