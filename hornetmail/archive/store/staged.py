"""What lies in the staging area, and what is on its way there."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from hornetmail.archive.store.parts import PartKey
from hornetmail.archive.store.records import Kind, MailMeta, Outcome
from hornetmail.core.archive.archived import ArchiveItem
from hornetmail.disk.records import Position


class Staged:
    """One record in the staging log, and how far it has come."""

    __slots__ = (
        "at",
        "identifier",
        "kind",
        "leaf",
        "leaf_hash",
        "month",
        "outcome",
        "part",
        "position",
        "raw",
        "record",
        "row",
        "size",
        "tenant",
    )

    def __init__(
        self,
        position: Position,
        kind: Kind,
        tenant: int,
        record: bytes,
        row: int,
        leaf: int,
        identifier: int,
        size: int,
        at: float,
    ) -> None:
        self.position = position
        self.kind = kind
        self.tenant = tenant
        self.record = record
        self.row = row
        self.leaf = leaf
        self.identifier = identifier
        self.size = size
        self.at = at
        self.raw: tuple[MailMeta, bytes] | None = None
        self.outcome: Outcome | None = None
        self.month = 0
        self.leaf_hash: bytes | None = None
        self.part: PartKey | None = None


class Pending:
    """A mail that is to be staged; ``done`` fires once it is durable."""

    __slots__ = ("done", "identifier", "item", "leaf", "raw")

    def __init__(self, item: ArchiveItem, raw: bytes) -> None:
        self.item = item
        self.raw = raw
        self.done: Deferred[None] = Deferred()
        self.leaf = 0
        self.identifier = 0
