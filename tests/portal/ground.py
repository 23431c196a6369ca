"""A portal on a directory and a database of its own."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from zope.interface import implementer

from hornetmail.core.delivery.queued import Message, Row, RowKind, RowState
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.served import Domain, Mailbox
from hornetmail.db.pool import Database
from hornetmail.disk.files import Disk
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.portal.rows.schema import MIGRATIONS
from hornetmail.portal.store import PortalStore
from hornetmail.testing.databases import fresh_url

MAIL = b"From: Alice <alice@example.test>\r\nTo: bob@example.test\r\nSubject: one\r\n\r\nHello\r\n.\r\nBob\r\n"
TRACE = b"Received: from somewhere\r\n\tby mx.example.test; Sun, 22 Nov 2026 17:00:00 +0000\r\n"


@implementer(IBody)
class Bytes:
    """A body in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    async def read(self, start: int = 0, length: int = -1) -> bytes:
        return self.data[start:] if length < 0 else self.data[start : start + length]

    async def chunks(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.data), 65_536):
            yield self.data[at : at + 65_536]


@implementer(IDirectory)
class People:
    """Two mailboxes: 1 is bob (also robert@), 2 is carol."""

    version = 1

    def __init__(self) -> None:
        self._boxes = {
            1: Mailbox(1, "Bob@example.test", "example.test", aliases=("robert@example.test",)),
            2: Mailbox(2, "carol@example.test", "example.test", tenant=7),
        }

    served: Domain | None = None

    def domain(self, name: str) -> Domain | None:
        return self.served

    def domains(self) -> Sequence[Domain]:
        return ()

    def mailbox(self, address: str) -> Mailbox | None:
        for box in self._boxes.values():
            if address.lower() in (box.address.lower(), *box.aliases):
                return box
        return None

    def mailbox_by_id(self, identifier: int) -> Mailbox | None:
        return self._boxes.get(identifier)

    def mailboxes(self, domain: str = "") -> Sequence[Mailbox]:
        return list(self._boxes.values())

    def covered(self, address: str) -> Mailbox | None:
        return self.mailbox(address)


def message(
    data: bytes = MAIL, number: int = 1, *recipients: str, sender: str = "alice@example.test", **keywords: Any
) -> Message:
    """A message of the queue."""
    envelope = Envelope(sender, tuple(Recipient(one) for one in recipients or ("bob@example.test",)), **keywords)
    return Message(
        number,
        1,
        envelope,
        Origin(Door.MX),
        Direction.IN,
        1_790_000_000.0 + number,
        len(data),
        hashlib.sha256(data).digest(),
        TRACE,
        "example.test",
    )


def row(number: int = 1, address: str = "bob@example.test", place: int = 0) -> Row:
    """One of its recipients."""
    return Row(1000 + number, number, RowKind.DELIVER, RowState.CLAIMED, address, place)


@implementer(IBus)
class Ears:
    """A bus that tells at once."""

    def __init__(self) -> None:
        self._listeners: list[tuple[type, Callable[[Any], Any]]] = []

    def publish(self, event: Any) -> None:
        for kind, listener in self._listeners:
            if isinstance(event, kind):
                listener(event)

    def subscribe(self, kind: type, listener: Callable[[Any], Any]) -> Callable[[], None]:
        self._listeners.append((kind, listener))
        return lambda: self._listeners.remove((kind, listener))


class Ground:
    """``portal`` below ``root``; ``restart()`` as after a crash of the process, ``boot`` another one for a crash of the machine."""

    portal: PortalStore
    token = ""

    def __init__(self, engine: str, disk: Disk | None = None) -> None:
        self.bus = Ears()
        self.disk = disk if disk is not None else Disk()
        self.directory = People()
        self._home = Path(tempfile.mkdtemp(prefix="hm-portal-"))
        self.root = self._home / "portal"
        self._url = fresh_url(engine)
        self.url = self._url.__enter__()

    async def start(self, boot: str = "one") -> None:
        self.database = await Database.open(reactor, self.url, MIGRATIONS, synchronous="NORMAL")
        self.portal = PortalStore(
            reactor, self.root, self.disk, self.database, self.bus, self.directory, host="mx.example.test", boot=boot
        )
        self.token = await self.portal.open(self.token)

    async def stop(self) -> None:
        await self.portal.close()
        await self.database.close()

    async def crash(self) -> None:
        """End without the orderly end."""
        self.portal._ground.watching.close()  # as the machine does with what a process had open
        self.portal._pool.stop()
        await self.database.close()

    async def restart(self, boot: str = "one") -> None:
        await self.crash()
        await self.start(boot)

    def clean(self) -> None:
        shutil.rmtree(self._home, ignore_errors=True)
        self._url.__exit__(None, None, None)

    def maildir(self, mailbox: int = 1, tenant: int = 1) -> Path:
        return self.root / str(tenant) / str(mailbox) / "Maildir"
