"""Counters, gauges and durations for ``/metrics`` and the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from zope.interface import implementer

from hornetmail.interfaces.meters import IMeters

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)


@implementer(IMeters)
class Meters:
    """Meters in a registry of their own, made at first use; the labels of a name are those of its first use."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._children: dict[tuple[str, tuple[str, ...]], Counter] = {}
        self._totals: dict[str, float] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to the counter ``hornetmail_<name>_total``."""
        self._totals[name] = self._totals.get(name, 0.0) + amount
        key = (name, tuple(labels.values()))
        child = self._children.get(key)
        if child is None:
            counter = self._counters.get(name)
            if counter is None:
                counter = Counter(f"hornetmail_{name}", name.replace("_", " "), tuple(labels), registry=self._registry)
                self._counters[name] = counter
            child = counter.labels(**labels) if labels else counter
            self._children[key] = child
        child.inc(amount)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """A duration into the histogram ``hornetmail_<name>_seconds``."""
        histogram = self._histograms.get(name)
        if histogram is None:
            histogram = Histogram(
                f"hornetmail_{name}_seconds", name.replace("_", " "), tuple(labels), registry=self._registry, buckets=_BUCKETS
            )
            self._histograms[name] = histogram
        (histogram.labels(**labels) if labels else histogram).observe(seconds)

    def gauge(self, name: str, value: Callable[[], float]) -> None:
        """A gauge ``hornetmail_<name>`` that asks ``value`` when it is read."""
        Gauge(f"hornetmail_{name}", name.replace("_", " "), registry=self._registry).set_function(value)

    def gauges(self, name: str, label: str, values: Callable[[], Mapping[str, float]]) -> None:
        """Gauges ``hornetmail_<name>{<label>=…}`` that ask ``values`` for all of them when they are read."""

        def family() -> GaugeMetricFamily:
            return GaugeMetricFamily(f"hornetmail_{name}", name.replace("_", " "), labels=(label,))

        class Asked(Collector):
            def describe(self) -> Iterable[Metric]:
                return (family(),)

            def collect(self) -> Iterable[Metric]:
                found = family()
                for key, value in values().items():
                    found.add_metric((key,), value)
                return (found,)

        self._registry.register(Asked())

    def total(self, name: str) -> float:
        """The sum of a counter over all its labels, for rates on the dashboard."""
        return self._totals.get(name, 0.0)

    def render(self) -> bytes:
        """Prometheus text."""
        return generate_latest(self._registry)
