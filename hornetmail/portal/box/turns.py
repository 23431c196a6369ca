"""What arrives in a folder, and what becomes of one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from hornetmail.core.folder import Entry
from hornetmail.portal.maildir.snapshot import Place, Snapshot
from hornetmail.portal.rows.index import Kept, Stored


class Arrival(msgspec.Struct, frozen=True):
    """A finished file in ``tmp`` that wants its name."""

    tmp: Path
    place: Place
    flags: frozenset[str]
    size: int
    date: float
    kept: Kept | None
    bound: bool
    """By the quota."""


class Turn(msgspec.Struct, frozen=True):
    """What becomes of one folder in a change whose files are done. All of it bears ``snapshot.modseq + 1``."""

    snapshot: Snapshot
    added: Sequence[Stored] = ()
    changed: Sequence[tuple[Entry, Place]] = ()
    gone: Collection[int] = ()
