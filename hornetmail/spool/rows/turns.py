"""One transition a row at a time, in the order in which they were asked for."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred


class Turn:
    """A transition's hold on its rows. ``ahead``: rows for which it still waits."""

    __slots__ = ("ahead", "rows", "waiter")

    def __init__(self, rows: tuple[int, ...]) -> None:
        self.rows = rows
        self.ahead = 0
        self.waiter: Deferred[None] | None = None


class Turns:
    """Who changes which row now, and who comes after. A turn lines up for all its rows at once, so that two can never wait for each other."""

    def __init__(self) -> None:
        self._now: dict[int, Turn] = {}
        self._after: dict[int, list[Turn]] = {}

    def __contains__(self, row: object) -> bool:
        """Whether a transition of that row is under way."""
        return row in self._now

    def __len__(self) -> int:
        return len(self._now)

    def begin(self, rows: Iterable[int]) -> Turn:
        """Line up; the turn is there once ``ahead`` is 0 (``take`` waits for that)."""
        turn = Turn(tuple(dict.fromkeys(rows)))
        for row in turn.rows:
            if row in self._now:
                self._after.setdefault(row, []).append(turn)
                turn.ahead += 1
            else:
                self._now[row] = turn
        return turn

    async def take(self, rows: Iterable[int]) -> Turn:
        """The rows, once all that was asked for them before is over. Whoever is cancelled meanwhile leaves the line."""
        turn = self.begin(rows)
        if turn.ahead:
            turn.waiter = Deferred(lambda _: self.end(turn))
            await turn.waiter
        return turn

    def end(self, turn: Turn) -> None:
        """Let the next ones have these rows."""
        rows, turn.rows = turn.rows, ()
        ready = []
        for row in rows:
            if self._now.get(row) is not turn:
                self._after[row].remove(turn)
                if not self._after[row]:
                    del self._after[row]
                continue
            line = self._after.get(row)
            if not line:
                del self._now[row]
                continue
            self._now[row] = heir = line.pop(0)
            if not line:
                del self._after[row]
            heir.ahead -= 1
            if not heir.ahead:
                ready.append(heir)
        for heir in ready:
            if heir.waiter is not None:
                waiter, heir.waiter = heir.waiter, None
                waiter.callback(None)
