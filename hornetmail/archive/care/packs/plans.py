"""Which packs are worth being written anew, and which of them together."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hornetmail.archive.store.packs import month_of
from hornetmail.archive.store.shelf import PackRow

LIMIT = 128 << 20
"""Bytes: no merged pack is larger, unless a single record is. Ten years of a million mails are a few thousand objects then
(``test_ten_years_of_a_million_mails``), and ``verify`` and a rebuild, which read packs whole, hold one of these in memory."""

SETTLED = 30 * 86400.0
"""Seconds: a group that got no pack for that long is put together whatever the sizes; until then, only where it at least doubles what is rewritten."""


class MergeSettings(msgspec.Struct, frozen=True, gc=False):
    """``limit``: bytes of a pack, at most; ``settled``: seconds after which a group is taken for finished."""

    limit: int = LIMIT
    settled: float = SETTLED


def plan_group(group: Sequence[PackRow], now: float, settings: MergeSettings) -> list[list[PackRow]]:
    """Which packs of one tenant, medium and month are written anew together. Those that hold what went: at once if it was asked for or its month has another
    name than the present, so that a month which expires day by day is not rewritten each night. Small ones: as many as are together about as large as
    the next one, so that each record is copied a number of times that grows with the logarithm of a pack's size only; all, once the group has settled."""
    present = month_of(now)
    due = [pack for pack in group if pack.dead and pack.month and (pack.soon or pack.month != present)]
    settled = now - max(pack.made for pack in group) > settings.settled
    small = sorted((p for p in group if p not in due and p.size <= settings.limit // 2), key=lambda p: (p.size, p.number))
    chosen = list(due)
    total = sum(pack.size for pack in due)
    for pack in small:
        if chosen and pack.size > max(total + total // 4, settings.limit // 64) and not settled:
            break
        chosen.append(pack)
        total += pack.size
    plans: list[list[PackRow]] = [[]]
    size = 0
    for pack in sorted(chosen, key=lambda p: p.number):
        if plans[-1] and size + pack.size > settings.limit:
            plans.append([])
            size = 0
        plans[-1].append(pack)
        size += pack.size
    return [plan for plan in plans if len(plan) > 1 or any(pack in due for pack in plan)]
