"""What is counted."""

from __future__ import annotations

from zope.interface import Interface


class IMeters(Interface):
    """Counters and gauges for /metrics and the dashboard."""

    def count(name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""

    def observe(name: str, seconds: float, **labels: str) -> None:
        """A duration into a histogram."""
