"""A medium whose reading is a step; what it writes goes over the stepped disk anyway."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from hornetmail.archive.media.directory import IMedium, MediumError
from hornetmail.testing.faults.reactor import SteppedReactor
from hornetmail.testing.faults.steps import Kind


@implementer(IMedium)
class SteppedMedium:
    """Stands before another one."""

    def __init__(self, inner: IMedium, reactor: SteppedReactor) -> None:
        self.number: int = inner.number
        self._inner = inner
        self._reactor = reactor

    def _step(self, kind: Kind, what: str) -> None:
        ending = self._reactor.step(kind, what)
        if ending is not None:
            raise MediumError(f"medium {self.number}: {ending}")

    def put(self, name: str, data: bytes) -> None:
        """See IMedium."""
        self._inner.put(name, data)

    def get(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """A step."""
        self._step(Kind.GET, name)
        return self._inner.get(name, start, length)

    def names(self, prefix: str) -> Sequence[tuple[str, int]]:
        """A step."""
        self._step(Kind.LIST, prefix)
        return self._inner.names(prefix)

    def delete(self, name: str) -> None:
        """See IMedium."""
        self._inner.delete(name)
