"""At most one second copy for each connection open at a crash (rule 11).

What became of a hand-over is on disk a moment after the server's reply, and the connection is at the next message by then. So the next
final dot on it waits for that record: the commands and the text of the next message go over meanwhile, and a crash finds no more than one
hand-over of each connection that is not recorded. A message that needs several transactions is not waited for between them: it could be
waiting for that very connection.
"""

from __future__ import annotations

from collections.abc import Collection
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.delivery.tasks import within

PATIENCE_SECONDS = 5.0
"""A record that takes longer, because a disk hangs, is not waited for: mail has to go on."""


class Unrecorded:
    """Which rows' hand-overs are not on disk yet, and what each connection carried last."""

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._rows: dict[int, list[Deferred[None]]] = {}
        self._last: WeakKeyDictionary[object, frozenset[int]] = WeakKeyDictionary()

    async def before_dot(self, connection: object, rows: Collection[int]) -> None:
        """These rows' final dot is next on the connection; returns when what went over it before is recorded."""
        own = frozenset(rows)
        try:
            await within(self._clock, PATIENCE_SECONDS, self._earlier(connection, own))
        except TimeoutError:
            self.log.warn("a hand-over is not recorded after {seconds:g} s, going on", seconds=PATIENCE_SECONDS)
        self._last[connection] = own
        for row in own:
            self._rows.setdefault(row, [])

    async def _earlier(self, connection: object, own: frozenset[int]) -> None:
        for row in self._last.get(connection, frozenset()) - own:
            while row in self._rows:
                waiting: Deferred[None] = Deferred()
                self._rows[row].append(waiting)
                await waiting

    def waits(self, row: int) -> bool:
        """Whether the row's final dot was sent, or is about to be, and nothing is recorded yet."""
        return row in self._rows

    def recorded(self, rows: Collection[int]) -> None:
        """What became of these rows' attempt is on disk, or nobody will record it any more."""
        for row in rows:
            for each in self._rows.pop(row, ()):
                each.callback(None)
