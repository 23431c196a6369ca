"""What people get out of the archive: hits, mails, their bytes and evidence, and figures."""

from __future__ import annotations

from hornetmail.archive.care.terms.retention import count_marked
from hornetmail.archive.care.trust.evidence import Evidence
from hornetmail.archive.index import search
from hornetmail.archive.index.query import parse_query
from hornetmail.archive.index.schema import people_decoder
from hornetmail.archive.index.search import MailRow
from hornetmail.archive.media.medium import MediumError, MediumMissing
from hornetmail.archive.proof.stamplog import StampLog
from hornetmail.archive.running.footing import Footing
from hornetmail.archive.store.shelf import PackRow, pack_row
from hornetmail.core.archive.archived import ArchivedMail, ArchiveError, ArchiveFigures, Page, Refused
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor
from hornetmail.mime.reading.mail import read_mail

TRIES = 3
"""A mail may move to a pack, or to another one, between looking and reading."""


class Reading:
    """See ``IArchive``."""

    def __init__(self, footing: Footing, stamps: StampLog) -> None:
        self._standing = footing.standing
        self._holdings = footing.holdings
        self._stamps = stamps

    async def search(self, scope: Scope, query: str, limit: int, after: str) -> Page:
        """See ``IArchive``."""
        understood = parse_query(query, self._holdings.seconds())
        return await self._standing.index().read(search.search_page, scope, understood, limit, after)

    async def mail(self, scope: Scope, identifier: int) -> ArchivedMail:
        """See ``IArchive``."""
        row, pack = await self._standing.index().read(_locate, scope, identifier)
        people = people_decoder.decode(row.people)
        text = away = ""
        if scope.content:
            try:
                raw = await self._fetch(scope, identifier)
                text = (await self._holdings.in_thread(lambda: read_mail(raw, lines=True))).text
            except MediumError as error:
                away = str(error)
        return ArchivedMail(
            hit=search.hit_of(row, scope),
            tenant=row.tenant,
            feed=row.feed,
            login=row.login if search.sees_all_recipients(scope, people) else "",
            message_id=row.message_id,
            sha256=row.sha256,
            medium=pack.medium if pack else self._holdings.media.active.number,
            expires=row.expires,
            recipients=search.visible_envelope(scope, people),
            header_recipients=people.shown(),
            text=text,
            away=away,
            unsearched=tuple(row.unsearched.splitlines()) if scope.content else (),
        )

    async def read(self, scope: Scope, identifier: int) -> bytes:
        """See ``IArchive``."""
        if not scope.content:
            await self._standing.index().read(_locate, scope, identifier)
            raise Refused("reading archived mail needs the right to its content")
        return await self._fetch(scope, identifier)

    async def evidence(self, scope: Scope, identifier: int) -> bytes:
        """See ``IArchive``."""
        return await Evidence(self._holdings, self._standing.index(), self._stamps).bundle(scope, identifier)

    async def _fetch(self, scope: Scope, identifier: int) -> bytes:
        for attempt in range(1, TRIES + 1):
            row, pack = await self._standing.index().read(_locate, scope, identifier)
            try:
                return await self._holdings.in_thread(self._open, row, pack)
            except KeyError:
                if attempt == TRIES:
                    raise ArchiveError(f"mail {identifier} is neither staged nor in a pack") from None
            except MediumMissing:
                # Its pack may just have been merged into another one.
                if attempt == TRIES:
                    raise
        raise AssertionError

    def _open(self, row: MailRow, pack: PackRow | None) -> bytes:
        shelf = self._holdings.shelf
        return shelf.mail(shelf.record(pack, row.start, row.length, row.record))[1]

    async def figures(self) -> ArchiveFigures:
        """See ``IArchive``."""
        standing, staging = self._standing, self._holdings.staging
        if standing.opened is None:
            return ArchiveFigures(staged=staging.count, unindexed=len(staging.unindexed), locked=True)
        packs, stored = await standing.index().read(_pack_totals)
        marked = await standing.index().read(count_marked)
        return ArchiveFigures(
            mails=standing.mails,
            packs=packs,
            bytes_raw=standing.raw,
            bytes_stored=stored + staging.bytes,
            staged=staging.count,
            unindexed=len(staging.unindexed),
            marked=marked,
        )


def _pack_totals(cursor: Cursor) -> tuple[int, int]:
    packs, size = cursor.execute("SELECT count(*), coalesce(sum(size), 0) FROM pack").fetchone()
    return packs, size


def _locate(cursor: Cursor, scope: Scope, identifier: int) -> tuple[MailRow, PackRow | None]:
    row = search.find_mail(cursor, scope, identifier)
    return row, pack_row(cursor, row.pack) if row.pack is not None else None
