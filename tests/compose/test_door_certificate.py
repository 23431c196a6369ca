"""Who is told of the certificate of our doors."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.compose.doors.certificate import DAYS, Certificate
from hornetmail.compose.ground.certificate import self_signed
from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.net.tls import ServerTLS
from hornetmail.runtime.bus import Bus

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = 86_400.0


class DoorCertificate(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.write(90)
        self.clock = Clock()
        self.clock.advance(NOW.timestamp())
        clock: Any = self.clock
        bus = Bus(clock)
        self.said: list[str] = []
        bus.subscribe(Alarm, lambda alarm: self.said.append(alarm.text))
        bus.subscribe(AlarmEnded, lambda ended: self.said.append(""))
        self.tls = ServerTLS(self.folder / "cert.pem", self.folder / "key.pem")
        self.certificate = Certificate(clock, bus, self.tls)

    def write(self, days: int) -> None:
        for name, data in zip(("cert.pem", "key.pem"), self_signed("mx.test", NOW, days), strict=True):
            (self.folder / name).write_bytes(data)

    def look(self) -> str:
        self.said.clear()
        self.successResultOf(Deferred.fromCoroutine(self.certificate.look()))
        self.clock.advance(0)
        [said] = self.said
        return said

    def test_it_ends(self) -> None:
        """A certificate that nothing renewed ended without a word, and so did one that was renewed while nobody told the service to read it."""
        assert self.look() == ""
        self.clock.advance((90 - DAYS) * DAY - 60)
        assert self.look() == ""
        self.clock.advance(120)
        assert "ends 2027-01-30" in self.look()
        self.clock.advance(DAYS * DAY)
        assert "programs refuse it" in self.look()
        self.write(300)
        assert self.look() == ""
        assert self.tls.ends > self.clock.seconds()

    def test_a_new_one_cannot_be_used(self) -> None:
        """A pair that SIGHUP could not read was in the log only, until the old one ended."""
        (self.folder / "cert.pem").write_text("garbage")
        assert not self.tls.reload()
        self.said.clear()
        self.certificate.tell()
        self.clock.advance(0)
        [said] = self.said
        assert "cert.pem" in said
        assert "the one before stays in use, and ends 2027-01-30" in said
        (self.folder / "key.pem").unlink()
        assert "cannot be used" in self.look()
        self.write(90)
        assert self.look() == ""
        self.flushLoggedErrors()
