"""A restore from the browser (A11)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from zope.interface import Attribute, Interface


class RestoreState(msgspec.Struct, frozen=True, gc=False):
    """``phase``: ``closed`` (this installation holds something), ``open``, ``running``, ``failed``, ``done``. ``lines``: what was done so far; ``problem``: what
    prevented it, ``""`` otherwise."""

    phase: str
    lines: tuple[str, ...] = ()
    problem: str = ""


class RestoreSource(msgspec.Struct, frozen=True):
    """A medium or mirror as it was typed, with the key's paper. ``options`` and ``secret``: see ``archive.media.settings``; ``without``: numbers of media that are lost; ``take_over``: whoever wrote to the
    media is lost for good."""

    kind: str
    place: str
    options: Mapping[str, object] = {}
    secret: str = ""
    text: str = ""
    password: str = ""
    without: tuple[int, ...] = ()
    take_over: bool = False


class Found(msgspec.Struct, frozen=True):
    """What the key opens there. ``medium``: its number, 0 for a mirror; ``backups``: stamps, newest first."""

    where: str
    archive: str
    key: str
    medium: int
    backups: tuple[str, ...]


class RestoreRefused(Exception):
    """It cannot be restored like this; the message says why in a line."""


class IRestoring(Interface):
    """Only while the installation is empty, and for whoever has the token from its log."""

    state = Attribute("a ``RestoreState``")

    def trusts(token: str) -> bool:
        """Whether that is the token, which is anew with each start."""

    async def look(source: RestoreSource) -> Found:
        """What is there. Raises RestoreRefused."""

    async def begin(backup: str) -> None:
        """Restore what was looked at last, with the backup of that stamp (``""``: the newest). Returns at once. Raises RestoreRefused."""
