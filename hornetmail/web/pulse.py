"""What happened lately, from the bus: mail per minute for an hour, and the newest alarms and switches. In memory, a hint, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hornetmail.core.events import Alarm, HealthChanged, MessageAccepted, ModeChanged, RecipientSettled
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome

MINUTES = 60
SECONDS = 60
NEWS = 50


class News(msgspec.Struct, frozen=True):
    """Something an administrator may want to know. ``tone``: ok, info, warn or bad; ``at`` Unix seconds."""

    at: float
    tone: str
    icon: str
    title: str
    detail: str = ""
    domain: str = ""


class Counter:
    """Events by second for a minute, and by minute for an hour."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque(maxlen=SECONDS)
        self._minutes: deque[tuple[int, int]] = deque(maxlen=MINUTES)

    def add(self, now: float) -> None:
        """Another one."""
        for counts, slot in ((self._seconds, int(now)), (self._minutes, int(now) // 60)):
            if counts and counts[-1][0] == slot:
                counts[-1] = (slot, counts[-1][1] + 1)
            else:
                counts.append((slot, 1))

    def per_minute(self, now: float) -> int:
        """Those of the last 60 seconds."""
        return sum(count for slot, count in self._seconds if slot > now - 60)

    def hour(self, now: float) -> list[int]:
        """60 counts, oldest first."""
        found = dict(self._minutes)
        current = int(now) // 60
        return [found.get(slot, 0) for slot in range(current - MINUTES + 1, current + 1)]


class Pulse:
    """Listens to the bus and remembers. ``now`` gives Unix seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.accepted = Counter()
        self.delivered = Counter()
        self.deferred = Counter()
        self._news: deque[News] = deque(maxlen=NEWS)

    def listen(self, bus: Any) -> None:
        """Subscribe to what is counted."""
        bus.subscribe(MessageAccepted, self._on_accepted)
        bus.subscribe(RecipientSettled, self._on_settled)
        bus.subscribe(ModeChanged, self._on_mode)
        bus.subscribe(HealthChanged, self._on_health)
        bus.subscribe(Alarm, self._on_alarm)

    def news(self) -> Sequence[News]:
        """Newest first."""
        return tuple(reversed(self._news))

    def _on_accepted(self, event: MessageAccepted) -> None:
        self.accepted.add(self._now())

    def _on_settled(self, event: RecipientSettled) -> None:
        if event.verdict.outcome is Outcome.DELIVERED:
            self.delivered.add(self._now())
        elif event.verdict.outcome is Outcome.DEFERRED:
            self.deferred.add(self._now())

    def _on_mode(self, event: ModeChanged) -> None:
        tone, title = {
            Mode.EMERGENCY: ("bad", "Emergency mode"),
            Mode.DRAINING: ("info", "Mail is going home"),
            Mode.NORMAL: ("ok", "Normal mode"),
        }[event.mode]
        by = "automatically" if event.by == "health" else f"by {event.by}"
        detail = f"{by}: {event.reason}" if event.reason else by
        self._news.append(
            News(
                self._now(), tone, "bolt" if tone == "bad" else "refresh" if tone == "info" else "ok", title, detail, event.domain
            )
        )

    def _on_health(self, event: HealthChanged) -> None:
        title = f"{event.host} answers again" if event.up else f"{event.host} does not answer"
        self._news.append(
            News(self._now(), "ok" if event.up else "warn", "ok" if event.up else "warn", title, event.reason, event.domain)
        )

    def _on_alarm(self, event: Alarm) -> None:
        if event.code == "emergency":
            return  # the switch of the mode is news already
        self._news.append(News(self._now(), "warn", "bell", event.text, "", event.domain))


def points(counts: Sequence[int], width: int, height: int, top: int) -> str:
    """``points`` of an SVG polyline for counts, ``top`` being the value at the upper edge."""
    step = width / max(len(counts) - 1, 1)
    return " ".join(
        f"{number * step:.1f},{height - 2 - (height - 6) * count / max(top, 1):.1f}" for number, count in enumerate(counts)
    )
