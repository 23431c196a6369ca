"""What rooms tell each other without knowing one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import Interface


class IBus(Interface):
    """Hints between rooms, sent after commit: losing one costs latency, never correctness."""

    def publish(event: Any) -> None:
        """Call every subscriber of ``type(event)`` in the next reactor turn; a subscriber's error is logged and disturbs nobody."""

    def subscribe(kind: type, listener: Callable[[Any], Any]) -> Callable[[], None]:
        """Listen to events of a class (of ``hornetmail.core.events``); the answer unsubscribes."""
