"""Log lines: Twisted's own text, only quicker."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Application, IServiceCollection
from twisted.logger import ILogObserver, LogLevel, formatEventAsClassicLogText
from twisted.python.failure import Failure

from hornetmail import tap
from hornetmail.compose.ground.logfile import LogFile, StreamLog
from hornetmail.compose.service import HornetMail


class Sized:
    """Something whose parts a format names."""

    size = 7

    def name(self) -> str:
        return "called"


def _failure() -> Failure:
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        return Failure()


EVENTS: tuple[dict[str, Any], ...] = (
    {"log_format": "accepted {id} from {peer} as {messages}", "id": "a", "peer": "::1", "messages": [1, 2]},
    {"log_format": "{part.size} and {part!r:.3}", "part": Sized()},
    {"log_format": "{part.name()} by a call", "part": Sized()},
    {"log_format": "two\nlines {text}", "text": "and\nmore"},
    {"log_format": "missing {nothing}"},
    {"log_format": "broken {", "x": 1},
    {"log_format": "{{braces}}"},
    {"log_format": ""},
    {},
    {"log_format": "legacy", "log_system": "-"},
    {"log_format": "failed at {where}", "where": "home", "log_failure": _failure()},
    {"log_format": b"bytes"},
    {"log_format": "no level", "log_level": None, "log_namespace": None},
    {"log_format": "no time", "log_time": None},
)


@pytest.mark.parametrize("event", EVENTS)
def test_the_same_as_twisted(event: dict[str, Any]) -> None:
    """Would catch a line that tells less than Twisted's, or other scripts (fail2ban's) cannot read."""
    stream = io.StringIO()
    log = StreamLog(stream)
    expected = ""
    for when in (1_700_000_000.25, 1_700_000_000.75, 1_720_000_000.0):
        whole = {"log_time": when, "log_level": LogLevel.info, "log_namespace": "a.b", **event}
        log(whole)
        expected += formatEventAsClassicLogText(whole) or ""
    assert stream.getvalue() == expected


def test_a_stream_that_knows_no_umlauts() -> None:
    """Would catch a log line that ends the delivery it tells of."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    StreamLog(stream)({"log_format": "für {who}", "who": "Änne", "log_time": None})
    assert raw.getvalue() == b"- [-#-] f\\xfcr \\xc4nne\n"


class Full(io.StringIO):
    """A disk without room for a while."""

    room = False

    def write(self, text: str) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "no room")
        return super().write(text)


def test_a_full_disk() -> None:
    """Would catch a log line that ends the delivery it tells of, and a log that is silent for good once the disk was full."""
    stream = Full()
    log = StreamLog(stream)
    log({"log_format": "lost"})
    stream.room = True
    log({"log_format": "kept"})
    assert stream.getvalue() == "- [-#-] kept\n"


def test_reopened(tmp_path: Path) -> None:
    """Would catch lines that go on into the file that logrotate moved away."""
    log = LogFile(tmp_path / "log")
    log({"log_format": "one"})
    (tmp_path / "log").rename(tmp_path / "log.1")
    log({"log_format": "two"})
    log.reopen()
    log({"log_format": "three"})
    log._stream.close()
    assert (tmp_path / "log").read_text() == "- [-#-] three\n"
    assert (tmp_path / "log.1").read_text() == "- [-#-] one\n- [-#-] two\n"


@pytest.mark.parametrize(
    ("above", "ours"),
    [
        ({"nodaemon": True}, True),
        ({"nodaemon": True, "logfile": "x.log"}, False),
        ({"nodaemon": True, "syslog": True}, False),
        ({}, False),
    ],
)
def test_twistd_logs_our_lines_to_standard_output(monkeypatch: pytest.MonkeyPatch, above: dict[str, Any], ours: bool) -> None:
    """Would catch ``twistd -n`` that logs at Twisted's price, and a ``--logfile`` or ``--syslog`` that is not minded."""
    service = HornetMail(None, None, frozenset())  # type: ignore[arg-type]
    monkeypatch.setattr("hornetmail.compose.service.build", lambda *arguments: service)
    options = tap.Options()
    options.parent = above  # type: ignore[assignment]
    assert tap.makeService(options) is service
    application = Application("hornetmail")
    service.setServiceParent(application)
    assert isinstance(application.getComponent(ILogObserver, None), StreamLog) is ours
    assert list(IServiceCollection(application)) == [service]
