"""The machine's time zone, as a value: what ``time.localtime`` goes by, with all its changes of the clocks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def local_zone(environment: Mapping[str, str], file: Path = Path("/etc/localtime")) -> tzinfo:
    """``TZ`` if it names a zone (``Europe/Berlin``), else ``file``, else UTC. Raises ValueError for a ``TZ`` that names none."""
    name = environment.get("TZ", "").removeprefix(":")
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f'TZ: "{name}" is no time zone that this machine knows') from None
    try:
        with file.open("rb") as data:
            return ZoneInfo.from_file(data, key="local")
    except (OSError, ValueError):
        return UTC
