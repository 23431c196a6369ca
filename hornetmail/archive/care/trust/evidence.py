"""What proves one mail (L2): a bundle that stands by itself."""

from __future__ import annotations

import hashlib
from itertools import pairwise

from hornetmail.archive.care.trust.stamping import times_of
from hornetmail.archive.index import search
from hornetmail.archive.index.schema import people_decoder
from hornetmail.archive.proof.evidence import write_bundle
from hornetmail.archive.proof.stamplog import StampLog
from hornetmail.archive.proof.stamps import Stamp, StampBroken
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.records import MailMeta
from hornetmail.archive.store.shelf import PackRow, pack_row
from hornetmail.core.archive.archived import ArchiveError, Refused
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database
from hornetmail.disk.records import BadRecord

TRIES = 3
"""A mail may move to a pack between looking and reading."""


class Evidence:
    """Makes bundles. What blocks runs in threads."""

    def __init__(self, holdings: Holdings, database: Database, stamps: StampLog) -> None:
        self._in_thread = holdings.in_thread
        self._database = database
        self._shelf = holdings.shelf
        self._leaves = holdings.leaves
        self._stamps = stamps
        self._node = holdings.node

    async def bundle(self, scope: Scope, identifier: int) -> bytes:
        """See ``IArchive.evidence``."""
        for attempt in range(1, TRIES + 1):
            row, pack = await self._database.read(_locate, scope, identifier)
            if not scope.content:
                raise Refused("evidence holds the mail itself: it needs the right to its content")
            try:
                meta, raw = await self._in_thread(self._open, row, pack)
                break
            except KeyError:
                if attempt == TRIES:
                    raise ArchiveError(f"mail {identifier} is neither staged nor in a pack") from None
        if not search.sees_whole(scope, people_decoder.decode(row.people), meta.login, meta.recipients):
            raise Refused(
                "evidence names everybody on the envelope, hidden recipients too: it is for the sender, for auditors, and for whoever may see them all"
            )
        further = await self._database.read(_arrivals, row.record)
        return await self._in_thread(self._write, meta, raw, further)

    def _open(self, row: search.MailRow, pack: PackRow | None) -> tuple[MailMeta, bytes]:
        return self._shelf.mail(self._shelf.record(pack, row.start, row.length))

    def _write(self, meta: MailMeta, raw: bytes, further: int) -> bytes:
        if meta.node != self._node:
            raise ArchiveError(f"mail {meta.identifier} is in the leaf log of node {meta.node}, which keeps its own evidence")
        if meta.leaf >= self._leaves.size:
            raise ArchiveError(
                f"mail {meta.identifier} is not on a medium yet, so no leaf log holds it: ask again in some minutes, or after 'archive timestamp'"
            )
        try:
            if self._leaves.leaf(meta.leaf) != meta.leaf_hash():
                raise ArchiveError(f"mail {meta.identifier} is not what leaf {meta.leaf} states: run archive verify")
            first = self._stamps.covering(meta.leaf)
            size = first.head.size if first else self._leaves.size
            path = self._leaves.path(meta.leaf, size)
        except (BadRecord, ValueError, OSError) as error:
            raise ArchiveError(f"the leaf log does not read: {error}") from None
        remark = ""
        if further:
            remark = f"\nThe same bytes arrived {further} more time{'s' if further > 1 else ''}, with envelopes of their own, of which this does not speak."
        chosen = self._kept_good(first) if first else []
        return write_bundle(raw, meta.leaf_input(), meta.leaf, size, path, chosen, self._links(chosen), remark)

    def _kept_good(self, first: Stamp) -> list[Stamp]:
        """The stamp, and as few later ones as keep it good as long as can be: each made before the one before it ended."""
        chosen = [first]
        while True:
            last = chosen[-1]
            until = times_of(last)[1]
            low, high = last.head.number + 1, self._stamps.count
            found = None
            while low < high:
                middle = (low + high) // 2
                try:
                    stamp = self._stamps.get(middle)
                except StampBroken:
                    return chosen
                if times_of(stamp)[0] <= until:
                    found, low = stamp, middle + 1
                else:
                    high = middle
            if found is None or times_of(found)[1] <= until:
                return chosen
            chosen.append(found)

    def _links(self, chosen: list[Stamp]) -> bytes:
        parts = []
        for older, newer in pairwise(chosen):
            for number in range(older.head.number + 1, newer.head.number):
                stamp = self._stamps.get(number)
                parts += [stamp.head.to_bytes(), hashlib.sha512(stamp.token).digest()]
        return b"".join(parts)


def _locate(cursor: Cursor, scope: Scope, identifier: int) -> tuple[search.MailRow, PackRow | None]:
    row = search.find_mail(cursor, scope, identifier)
    return row, pack_row(cursor, row.pack) if row.pack is not None else None


def _arrivals(cursor: Cursor, record: bytes) -> int:
    """How often the same bytes came again."""
    (count,) = cursor.execute(
        "SELECT count(*) FROM arrival a JOIN mail m ON m.place = a.place WHERE m.record = ? AND a.outcome = 'copy'", (record,)
    ).fetchone()
    return int(count)
