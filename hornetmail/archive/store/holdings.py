"""What an archive consists of below its index, in one value: whoever works on all of it is handed this."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from twisted.internet.threads import deferToThreadPool

from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.media.roster import Media
from hornetmail.archive.proof.leaflog import LeafLog
from hornetmail.archive.store.records import RecordCodec
from hornetmail.archive.store.shelf import Shelf
from hornetmail.archive.store.staging import Staging
from hornetmail.disk.files import Disk

T = TypeVar("T")


class Holdings(msgspec.Struct, frozen=True):
    """Of one archive in one ``directory``, from its creation to its end; they live as long as it does. ``pool``: the threads for what blocks."""

    reactor: Any
    pool: Any
    disk: Disk
    directory: Path
    media: Media
    keys: KeyStore
    codec: RecordCodec
    leaves: LeafLog
    staging: Staging
    shelf: Shelf

    @property
    def node(self) -> int:
        """The node that writes here, 0 to 1023."""
        return self.keys.node

    def seconds(self) -> float:
        """The time, Unix seconds."""
        now: float = self.reactor.seconds()
        return now

    async def in_thread(self, call: Callable[..., T], *args: Any) -> T:
        """What it returns or raises."""
        result: T = await deferToThreadPool(self.reactor, self.pool, call, *args)
        return result
