"""A medium's place whose reading is a step; what it writes goes over the stepped disk anyway."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zope.interface import implementer

from hornetmail.archive.media.medium import IPlace, IVisit, PlaceTrouble
from hornetmail.testing.faults.reactor import SteppedReactor
from hornetmail.testing.faults.steps import Kind


@implementer(IPlace)
class SteppedPlace:
    """Stands before another one."""

    def __init__(self, inner: IPlace, reactor: SteppedReactor, away: Callable[[], bool] = lambda: False) -> None:
        """``away``: whether it is out of reach now."""
        self.where: str = inner.where
        self._away = away
        self._inner = inner
        self._reactor = reactor

    @contextlib.contextmanager
    def visit(self) -> Iterator[IVisit]:
        """See IPlace."""
        if self._away():
            raise PlaceTrouble("it is not mounted")
        with self._inner.visit() as visit:
            yield _SteppedVisit(visit, self._reactor)

    def make(self) -> None:
        """See IPlace."""
        self._inner.make()

    def close(self) -> None:
        """See IPlace."""
        self._inner.close()


@implementer(IVisit)
class _SteppedVisit:
    def __init__(self, inner: IVisit, reactor: SteppedReactor) -> None:
        self._inner: Any = inner
        self._reactor = reactor

    def _step(self, kind: Kind, what: str) -> None:
        ending = self._reactor.step(kind, what)
        if ending is not None:
            raise PlaceTrouble(str(ending))

    def get(self, name: str, start: int, length: int) -> bytes:
        self._step(Kind.GET, name)
        data: bytes = self._inner.get(name, start, length)
        return data

    def names(self, prefix: str, after: str, limit: int) -> Sequence[tuple[str, int]]:
        self._step(Kind.LIST, prefix)
        found: Sequence[tuple[str, int]] = self._inner.names(prefix, after, limit)
        return found

    def mark(self) -> object:
        return self._inner.mark()

    def number(self) -> int:
        number: int = self._inner.number()
        return number

    def put(self, name: str, data: bytes | memoryview) -> None:
        self._inner.put(name, data)

    def delete(self, name: str) -> None:
        self._inner.delete(name)

    def sweep(self, before: float) -> int:
        removed: int = self._inner.sweep(before)
        return removed

    def space(self) -> Any:
        return self._inner.space()

    def lock(self, name: str, until: float) -> None:
        self._inner.lock(name, until)
