"""What proves one mail (L2): a bundle that stands by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set

from twisted.logger import Logger

from hornetmail.archive.care.trust.stamping import times_of
from hornetmail.archive.index.finding import search, seen
from hornetmail.archive.index.schema.people import people_decoder
from hornetmail.archive.proof.evidence import Proof, write_bundle
from hornetmail.archive.proof.stamplog import StampLog
from hornetmail.archive.proof.stamps import Stamp, StampBroken
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.packs import members_of
from hornetmail.archive.store.records import MailMeta
from hornetmail.archive.store.shelf import PackRow, pack_row, pack_rows
from hornetmail.core.archive.archived import ArchiveError, Refused
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database
from hornetmail.disk.records import BadRecord

TRIES = 3
"""A mail may move to a pack between looking and reading."""


class Evidence:
    """Makes bundles. What blocks runs in threads."""

    log = Logger()

    def __init__(self, holdings: Holdings, database: Database, stamps: StampLog) -> None:
        self._holdings = holdings
        self._database = database
        self._shelf = holdings.shelf
        self._leaves = holdings.leaves
        self._stamps = stamps

    async def bundle(self, scope: Scope, identifier: int) -> bytes:
        """See ``IArchive.evidence``."""
        for attempt in range(1, TRIES + 1):
            row, pack = await self._database.read(_locate, scope, identifier)
            if not scope.content:
                raise Refused("evidence holds the mail itself: it needs the right to its content")
            try:
                meta, raw = await self._holdings.in_thread(self._open, row, pack)
                break
            except KeyError:
                if attempt == TRIES:
                    raise ArchiveError(f"mail {identifier} is neither staged nor in a pack") from None
        if not seen.sees_whole(scope, people_decoder.decode(row.people), meta.login, meta.recipients):
            raise Refused(
                "evidence names everybody on the envelope, hidden recipients too: it is for the sender, for auditors, and for whoever may see them all"
            )
        further, left_out = await self._further(scope, row, meta)
        return await self._holdings.in_thread(self._write, meta, raw, further, left_out)

    async def _further(self, scope: Scope, row: seen.MailRow, first: MailMeta) -> tuple[list[MailMeta], int]:
        """What the later arrivals of the same bytes state, in their order, as far as they are on a medium, read, and are the scope's to see; how many others there are."""
        wanted = await self._database.read(_arrivals, row.record)
        found: dict[bytes, MailMeta] = {}
        packs = await self._database.read(_packs_with_facts, row.tenant, first.month) if wanted else []
        for pack in packs:
            if missing := wanted - found.keys():
                found |= await self._holdings.in_thread(self._copies_in, pack, missing)
        people = people_decoder.decode(row.people)
        theirs = [
            one
            for one in found.values()
            if one.leaf < self._leaves.size and seen.sees_whole(scope, people, one.login, one.recipients)
        ]
        return sorted(theirs, key=lambda one: (one.node, one.leaf)), len(wanted) - len(theirs)

    def _copies_in(self, pack: PackRow, wanted: Set[bytes]) -> dict[bytes, MailMeta]:
        """In a thread. What does not read is left to ``verify`` to name."""
        holdings = self._holdings
        found: dict[bytes, MailMeta] = {}
        try:
            medium = holdings.media.get(pack.medium)
            _, members = members_of(lambda at, length: medium.get(pack.name, at, length), pack.size, holdings.keys.current())
            for member in members:
                if member.record in wanted:
                    event = holdings.codec.open_event(medium.get(pack.name, member.offset, member.length))[1]
                    if event.copy is not None:
                        found[member.record] = event.copy
        except ArchiveError as error:
            self.log.error("further arrivals in {pack} cannot be read: {error}", pack=pack.name, error=error)
        return found

    def _open(self, row: seen.MailRow, pack: PackRow | None) -> tuple[MailMeta, bytes]:
        return self._shelf.mail(self._shelf.record(pack, row.start, row.length, row.record))

    def _write(self, meta: MailMeta, raw: bytes, further: Sequence[MailMeta], left_out: int) -> bytes:
        return write_bundle(raw, self._proof(meta), [self._proof(one) for one in further], left_out)

    def _proof(self, meta: MailMeta) -> Proof:
        if meta.node != self._holdings.node:
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
        chosen, links = self._kept_good(first) if first else ([], b"")
        return Proof(meta.leaf_input(), meta.leaf, size, path, chosen, links)

    def _kept_good(self, first: Stamp) -> tuple[list[Stamp], bytes]:
        """The stamp, and as few later ones as keep it good as long as can be: each made before the one before it ended, and over a chain of which each
        stamp reads and holds the one before; and the links between them."""
        chosen, links = [first], b""
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
                    high = middle
                    continue
                if times_of(stamp)[0] <= until:
                    found, low = stamp, middle + 1
                else:
                    high = middle
            chain = self._chained(last, found.head.number) if found is not None else []
            if not chain or times_of(chain[-1])[1] <= until:
                return chosen, links
            for stamp in chain[:-1]:
                links += stamp.head.to_bytes() + hashlib.sha512(stamp.token).digest()
            chosen.append(chain[-1])

    def _chained(self, older: Stamp, until: int) -> list[Stamp]:
        """The stamps behind one, up to a number, as far as each reads and holds the one before."""
        chain: list[Stamp] = []
        for number in range(older.head.number + 1, until + 1):
            try:
                stamp = self._stamps.get(number)
            except StampBroken:
                break
            if stamp.head.before != (chain[-1] if chain else older).link:
                break
            chain.append(stamp)
        return chain


def _locate(cursor: Cursor, scope: Scope, identifier: int) -> tuple[seen.MailRow, PackRow | None]:
    row = search.find_mail(cursor, scope, identifier)
    return row, pack_row(cursor, row.pack) if row.pack is not None else None


def _arrivals(cursor: Cursor, record: bytes) -> Set[bytes]:
    """The records under which the same bytes came again."""
    rows = cursor.execute(
        "SELECT a.record FROM arrival a JOIN mail m ON m.place = a.place WHERE m.record = ? AND a.outcome = 'copy'", (record,)
    ).fetchall()
    return frozenset(one for (one,) in rows)


def _packs_with_facts(cursor: Cursor, tenant: int, month: int) -> list[PackRow]:
    return [
        pack for pack in pack_rows(cursor) if (pack.tenant, pack.month) == (tenant, month) and pack.shared and not pack.merged
    ]
