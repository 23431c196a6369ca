"""The machine's time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hornetmail.compose.ground.zone import local_zone


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    """Would catch jobs at 02:30 UTC on a machine in Berlin, and a wrong name that silently means UTC."""
    summer = datetime(2026, 7, 1, tzinfo=UTC)
    assert summer.astimezone(local_zone({"TZ": ":Europe/Berlin"}, tmp_path / "none")).hour == 2
    rule = local_zone({"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}, tmp_path / "none")
    assert [summer.astimezone(rule).hour, summer.replace(month=1).astimezone(rule).hour] == [2, 1]
    assert str(summer.astimezone(local_zone({"TZ": "XXX-11:28:07"}, tmp_path / "none")).time()) == "11:28:07"
    assert local_zone({}, tmp_path / "none") is UTC
    file = Path("/usr/share/zoneinfo/America/New_York")
    if file.exists():
        assert summer.astimezone(local_zone({}, file)).hour == 20
    (tmp_path / "bad").write_bytes(b"no zone")
    assert local_zone({}, tmp_path / "bad") is UTC
    with pytest.raises(ValueError, match="Mars"):
        local_zone({"TZ": "Mars/Olympus"}, tmp_path / "none")
