"""Retention's two daily jobs, as compose joins them to a real archive."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor

from hornetmail.compose.rooms.rooms import retention_jobs
from hornetmail.core.events import Alarm, AlarmEnded
from tests.archive.cases import ArchiveCase

reactor: Any = _reactor


class Heard:
    """A bus that keeps what is said."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def publish(self, event: Any) -> None:
        self.events.append(event)


class RetentionTest(ArchiveCase):
    async def test_a_refused_job_is_an_alarm(self) -> None:
        """Rules 18, 19: catches retention that stops for good after a rebuild and tells nobody, and a confirmation that changes nothing."""
        archive: Any = await self.fresh()
        await archive.rebuild()
        bus: Any = Heard()
        mark, purge = retention_jobs(archive, bus)
        assert (mark.when, purge.when) == ("30 2 * * *", "40 3 * * *")
        await mark.run(reactor.seconds())
        await purge.run(reactor.seconds())
        assert [type(told) for told in bus.events] == [Alarm, Alarm]
        assert {told.code for told in bus.events} == {"archive-purge"}
        assert all("confirm-purge" in told.text for told in bus.events)
        await archive.confirm_purge()
        await mark.run(reactor.seconds())
        await purge.run(reactor.seconds())
        assert [(told.code, told.subject) for told in bus.events[2:]] == [("archive-purge", "mark"), ("archive-purge", "purge")]
        assert {type(told) for told in bus.events[2:]} == {AlarmEnded}, "an alarm whose cause is gone must end"
