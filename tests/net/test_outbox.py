"""Replies of one reactor turn."""

from __future__ import annotations

from twisted.internet.task import Clock

from hornetmail.net.serving.outbox import Outbox


class Connection:
    """Notes when it is told to write; ``also`` is added meanwhile."""

    def __init__(self, name: str, told: list[str], outbox: Outbox, also: Connection | None = None) -> None:
        self.name, self.told, self.outbox, self.also = name, told, outbox, also

    def flush(self) -> None:
        self.told.append(self.name)
        if self.also is not None:
            self.outbox.add(self.also)


def test_at_the_end_of_the_turn_each_once_in_order() -> None:
    """Would catch a reply that is sent within the turn, twice, out of order, or never because another came while they were written."""
    clock = Clock()
    outbox = Outbox(clock)
    told: list[str] = []
    late = Connection("late", told, outbox)
    first, second = Connection("first", told, outbox, late), Connection("second", told, outbox)
    for connection in (first, second, first):
        outbox.add(connection)
    assert told == []
    clock.advance(0)
    assert told[:2] == ["first", "second"]
    clock.advance(0)
    assert told == ["first", "second", "late"]
    assert not clock.getDelayedCalls()
