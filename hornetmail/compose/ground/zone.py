"""The machine's time zone, as a value: what ``time.localtime`` goes by, with all its changes of the clocks."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def local_zone(environment: Mapping[str, str], file: Path = Path("/etc/localtime")) -> tzinfo:
    """``TZ`` if it names a zone (``Europe/Berlin``) or is a rule (``CET-1CEST,M3.5.0,M10.5.0/3``; POSIX, Base Definitions 8.3), else ``file``, else UTC. Raises
    ValueError for a ``TZ`` that is neither."""
    name = environment.get("TZ", "").removeprefix(":")
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
        try:
            return ZoneInfo.from_file(io.BytesIO(_ruled(name)), key=name)
        except ValueError:
            raise ValueError(f'TZ: "{name}" is no time zone that this machine knows') from None
    try:
        with file.open("rb") as data:
            return ZoneInfo.from_file(data, key="local")
    except (OSError, ValueError):
        return UTC


def _ruled(rule: str) -> bytes:
    """A time zone file (RFC 8536) that knows no change of the clocks but what its footer's rule says."""
    block = b"TZif2" + bytes(15) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + struct.pack(">lBB", 0, 0, 0) + b"UTC\0"
    return block + block + b"\n" + rule.encode("ascii", "replace") + b"\n"
