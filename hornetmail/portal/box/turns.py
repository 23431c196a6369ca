"""What arrives in a folder, and what becomes of one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from hornetmail.core.folder import Entry
from hornetmail.portal.maildir.snapshot import Place, Snapshot
from hornetmail.portal.rows.index import Kept, Stored


class Whole(msgspec.Struct, frozen=True):
    """A small message that is in no file yet: the hop that gives it its name writes it as well. ``base``: what its file in ``tmp`` is called."""

    base: str
    text: bytes


class Arrival(msgspec.Struct, frozen=True):
    """A message that wants its name: a finished file in ``tmp``, or one that is to be written yet, of which ``kept`` is not known until then."""

    tmp: Path | Whole
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
