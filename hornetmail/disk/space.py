"""How full file systems are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec


class Space(msgspec.Struct, frozen=True, gc=False):
    """A file system. ``mount``: where it is mounted. ``used``: the share that is not free for us, of blocks or of inodes, whichever is more.
    ``places``: what of ours lies on it."""

    mount: str
    used: float
    places: tuple[str, ...]


class Away(msgspec.Struct, frozen=True, gc=False):
    """A place that cannot be reached."""

    place: str
    path: str
    why: str


def measure(places: Mapping[str, Path]) -> tuple[list[Space], list[Away]]:
    """Each file system once, and what cannot be reached. Blocking: a network file system that hangs holds the thread."""
    found: dict[str, tuple[float, list[str]]] = {}
    away: list[Away] = []
    for place, path in places.items():
        try:
            figures = os.statvfs(path)
            mount = _mount(path)
        except OSError as error:
            away.append(Away(place, str(path), error.strerror or str(error)))
            continue
        free = figures.f_bavail / figures.f_blocks if figures.f_blocks else 1.0
        inodes = figures.f_favail / figures.f_files if figures.f_files else 1.0
        found.setdefault(mount, (1.0 - min(free, inodes), []))[1].append(place)
    return [Space(mount, used, tuple(names)) for mount, (used, names) in found.items()], away


def _mount(path: Path) -> str:
    here = path.resolve(strict=True)
    device = here.stat().st_dev
    while here.parent != here and here.parent.stat().st_dev == device:
        here = here.parent
    return str(here)
