"""An archive in a temporary directory, and mail for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from zope.interface import implementer

from hornetmail.archive.archive import Archive, ArchiveSettings, Surroundings
from hornetmail.archive.care.trust.stamping import Outside
from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.medium import Medium
from hornetmail.archive.media.roster import Media
from hornetmail.core.archive.archived import ArchiveItem
from hornetmail.core.ids import IdSource
from hornetmail.core.mail.envelope import Direction
from hornetmail.core.served import Scope
from hornetmail.disk.files import Disk
from hornetmail.interfaces.audit import IAudit
from hornetmail.interfaces.body import IBody

ROOT = bytes(range(32))
NOW = 1_780_000_000.0
"""2026-05-28, when the mail of the tests arrives."""

FOLLOWER = "f0" * 16
"""The mark of the installation that mirrors (``care/copies/follower.py``)."""

AUDITOR = Scope(0, None, all_recipients=True)
ADMIN = Scope(0, None, content=False, subjects=False)


def user(*addresses: str, tenant: int = 1) -> Scope:
    """What somebody with these addresses may see."""
    return Scope(tenant, frozenset(addresses))


@implementer(IBody)
class BytesBody:
    """A body in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    async def read(self, start: int = 0, length: int = -1) -> bytes:
        """A part of it."""
        return self.data[start:] if length < 0 else self.data[start : start + length]

    async def chunks(self) -> AsyncIterator[bytes]:
        """In pieces."""
        for at in range(0, len(self.data), 65536):
            yield self.data[at : at + 65536]


class Clock:
    """The reactor that is handed in, with a wall clock that stands still; ``skew`` is what it jumped by."""

    def __init__(self, reactor: Any, now: float = NOW) -> None:
        self._reactor = reactor
        self.now = now
        self.skew = 0.0

    def seconds(self) -> float:
        return self.now + self.skew

    def monotonic(self) -> float:
        return self.now - NOW + 1000.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


def directory_medium(number: int, path: Path, disk: Disk | None = None) -> Medium:
    """A medium in a directory, by name of nobody's archive yet."""
    return Medium(number, DirectoryPlace(path, disk or Disk()))


def make_archive(
    clock: Clock,
    top: Path,
    *,
    root: bytes | None = ROOT,
    disk: Disk | None = None,
    settings: ArchiveSettings | None = None,
    media: Media | None = None,
    stamping: Outside | None = None,
    audit: IAudit | None = None,
    **around: Any,
) -> Archive:
    """An archive below ``top``: ``top/archive`` and medium 1 in ``top/medium``. Not created, not started. ``around``: more of its surroundings."""
    return Archive(
        Surroundings(clock, disk or Disk(), IdSource(clock.seconds), uptime=clock.monotonic, **around),
        top / "archive",
        media=media or Media([directory_medium(1, top / "medium", disk)], 1),
        root=root,
        settings=settings or ArchiveSettings(),
        stamping=stamping,
        audit=audit,
    )


def item(
    row: int,
    *,
    sender: str = "alice@example.test",
    recipients: tuple[str, ...] = ("bob@example.test",),
    login: str = "",
    received: float = NOW,
    tenant: int = 1,
    retention_days: int = 90,
    feed: str = "inline",
    direction: Direction = Direction.IN,
    **more: Any,
) -> ArchiveItem:
    """An archive item with sensible values."""
    return ArchiveItem(
        row=row,
        tenant=tenant,
        feed=feed,
        direction=direction,
        sender=sender,
        recipients=recipients,
        received=received,
        retention_days=retention_days,
        login=login,
        **more,
    )


def mail(
    subject: str = "Hello",
    body: str = "Some words.",
    *,
    sender: str = "Alice <alice@example.test>",
    to: str = "Bob <bob@example.test>",
    cc: str = "",
    extra: str = "",
) -> bytes:
    """A small mail, CRLF line ends, UTF-8."""
    lines = [f"From: {sender}", f"To: {to}", f"Subject: {subject}", "Date: Mon, 25 May 2026 10:00:00 +0000"]
    if cc:
        lines.append(f"Cc: {cc}")
    if extra:
        lines.append(extra)
    lines += ["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "", body, ""]
    return "\r\n".join(lines).encode()
