"""The daily retention run, as compose joins it to a real archive."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor

from hornetmail.compose.rooms import retention
from hornetmail.core.events import Alarm
from tests.archive.cases import ArchiveCase

reactor: Any = _reactor


class Heard:
    """A bus that keeps what is said."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def publish(self, event: Any) -> None:
        self.events.append(event)


class RetentionTest(ArchiveCase):
    async def test_a_refused_purge_is_an_alarm(self) -> None:
        """Rules 18, 19: catches retention that stops for good after a rebuild and tells nobody, and a confirmation that changes nothing."""
        archive: Any = await self.fresh()
        await archive.rebuild()
        bus: Any = Heard()
        await retention(archive, bus, reactor.seconds())
        (told,) = bus.events
        assert isinstance(told, Alarm)
        assert told.code == "archive-purge"
        assert "confirm-purge" in told.text
        await archive.confirm_purge()
        await retention(archive, bus, reactor.seconds())
        assert bus.events == [told]
