"""Which rows somebody works on, so that no claim is left with nobody behind it."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Underway:
    """The work on claimed rows, all of it."""

    def __init__(self) -> None:
        self._work: dict[int, Deferred[Any]] = {}

    def __contains__(self, row: object) -> bool:
        return row in self._work

    async def work(self, rows: Sequence[int], coroutine: Coroutine[Any, Any, T]) -> T:
        """Its result; the rows are under way until it ends. Cancelling cancels it."""
        running = Deferred.fromCoroutine(coroutine)
        if not running.called:
            for row in rows:
                self._work[row] = running
        try:
            return await running
        finally:
            for row in rows:
                if self._work.get(row) is running:
                    del self._work[row]

    def cut(self, row: int) -> None:
        """Cancel the work on a row."""
        running = self._work.pop(row, None)
        if running is not None:
            running.cancel()
