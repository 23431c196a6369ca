"""What people get out of the archive: hits, mails, their bytes and evidence, and figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import DeferredSemaphore

from hornetmail.archive.care.terms.retention import count_marked
from hornetmail.archive.care.trust.evidence import Evidence
from hornetmail.archive.index.finding import guidance, search, seen
from hornetmail.archive.index.finding.seen import MailRow
from hornetmail.archive.index.query.language import parse_query
from hornetmail.archive.index.schema.people import people_decoder
from hornetmail.archive.index.writing.renewal import stretches_left
from hornetmail.archive.index.writing.unread import count_unread
from hornetmail.archive.media.medium import MediumAway, MediumError, MediumMissing
from hornetmail.archive.proof.stamplog import StampLog
from hornetmail.archive.running.footing import Footing
from hornetmail.archive.running.spooled import Spool, SpooledBody
from hornetmail.archive.store.shelf import PackRow, pack_row
from hornetmail.core.archive.archived import ArchivedMail, ArchiveError, ArchiveFigures, Hit, Page, QueryError, Refused
from hornetmail.core.archive.guidance import Guidance
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor, DatabaseSlow
from hornetmail.interfaces.body import IBody
from hornetmail.mime.reading.mail import read_mail

T = TypeVar("T")

SEARCHES = 2
"""Searches side by side: people who open mail meanwhile have readers of their own."""

SEARCH_SECONDS = 10.0
"""A search that takes longer is given up."""

TRIES = 3
"""A mail may move to a pack, or to another one, between looking and reading."""


class Reading:
    """See ``IArchive``."""

    def __init__(self, footing: Footing, stamps: StampLog) -> None:
        self._standing = footing.standing
        self._holdings = footing.holdings
        self._stamps = stamps
        self._turns = DeferredSemaphore(SEARCHES)

    async def search(self, scope: Scope, query: str, limit: int, after: str) -> Page:
        """See ``IArchive``."""
        understood = parse_query(query, self._holdings.seconds())
        return await self._asked(search.search_page, scope, understood, limit, after)

    async def guidance(self, scope: Scope, query: str) -> Guidance:
        """See ``IArchive``."""
        understood = parse_query(query, self._holdings.seconds())
        return await self._asked(guidance.guidance, scope, understood, query)

    async def suggestions(self, scope: Scope, text: str) -> tuple[str, ...]:
        """See ``IArchive``."""
        return await self._asked(guidance.suggestions, scope, text)

    async def _asked(self, question: Callable[..., T], *about: Any) -> T:
        """In its turn, and not without end."""
        await self._turns.acquire()
        try:
            return await self._standing.index().read_within(SEARCH_SECONDS, question, *about)
        except DatabaseSlow:
            raise QueryError(
                f"the search takes longer than {SEARCH_SECONDS:.0f} s: add words, or dates between which to look"
            ) from None
        finally:
            self._turns.release()

    async def mail(self, scope: Scope, identifier: int) -> ArchivedMail:
        """See ``IArchive``."""
        row, pack, members, namesakes, conversation = await self._standing.index().read(_described, scope, identifier)
        people = people_decoder.decode(row.people)
        all_people = [people_decoder.decode(one.people) for one in members]
        text = away = ""
        if scope.content:
            try:
                raw = await self._fetch(scope, identifier)
                text = (await self._holdings.in_thread(lambda: read_mail(raw, lines=True))).text
            except MediumError as error:
                away = str(error)
        return ArchivedMail(
            hit=msgspec.structs.replace(seen.united(members, scope), id=row.identifier, size=row.size),
            tenant=row.tenant,
            feed=row.feed,
            login=row.login if seen.sees_all_recipients(scope, people) else "",
            message_id=row.message_id,
            sha256=row.sha256,
            medium=pack.medium if pack else self._holdings.media.active.number,
            expires=row.expires,
            recipients=tuple(dict.fromkeys(each for one in all_people for each in seen.visible_envelope(scope, one))),
            header_recipients=people.shown(),
            text=text,
            away=away,
            unsearched=tuple(row.unsearched.splitlines()) if scope.content else (),
            came=seen.came(members, scope),
            namesakes=namesakes,
            conversation=conversation,
        )

    async def read(self, scope: Scope, identifier: int) -> bytes:
        """See ``IArchive``."""
        if not scope.content:
            await self._standing.index().read(_locate, scope, identifier)
            _need_content(scope)
        return await self._fetch(scope, identifier)

    async def several(self, scope: Scope, identifiers: Sequence[int]) -> dict[int, bytes | ArchiveError]:
        """See ``IArchive``."""
        _need_content(scope)
        found: dict[int, bytes | ArchiveError] = {}
        left = list(identifiers)
        for attempt in range(TRIES):
            located = await self._standing.index().read(_locate_several, scope, left)
            opened = await self._holdings.in_thread(self._open_several, located)
            found.update(opened)
            left = [one for one, what in opened.items() if isinstance(what, (_Moved, MediumMissing)) and attempt < TRIES - 1]
            if not left:
                break
        return found

    def _open_several(self, located: list[tuple[int, MailRow, PackRow | None]]) -> dict[int, bytes | ArchiveError]:
        """In the order in which they lie; a medium that is away is not asked again for each of them."""
        found: dict[int, bytes | ArchiveError] = {}
        away: dict[int, MediumAway] = {}
        for identifier, row, pack in sorted(located, key=lambda one: (one[1].pack or 0, one[1].start)):
            if pack is not None and pack.medium in away:
                found[identifier] = away[pack.medium]
                continue
            try:
                found[identifier] = self._open(row, pack)
            except KeyError:
                found[identifier] = _Moved(f"mail {identifier} is neither staged nor in a pack")
            except MediumAway as error:
                found[identifier] = error
                if pack is not None:
                    away[pack.medium] = error
            except ArchiveError as error:
                found[identifier] = error
            except OSError as error:
                found[identifier] = ArchiveError(f"mail {identifier} cannot be read from the staging log: {error.strerror}")
        return found

    async def body(self, scope: Scope, identifier: int) -> IBody:
        """See ``IArchive``."""
        _need_content(scope)
        for attempt in range(1, TRIES + 1):
            row, pack = await self._standing.index().read(_locate, scope, identifier)
            try:
                return SpooledBody(await self._holdings.in_thread(self._spooled, row, pack), self._holdings.in_thread)
            except KeyError:
                if attempt == TRIES:
                    raise ArchiveError(f"mail {identifier} is neither staged nor in a pack") from None
            except MediumMissing:
                if attempt == TRIES:
                    raise
        raise AssertionError

    def _spooled(self, row: MailRow, pack: PackRow | None) -> Spool:
        holdings = self._holdings
        spool = Spool(holdings.disk, holdings.directory)
        spool.fill(holdings.shelf.slices(pack, row.start, row.length, row.record))
        return spool

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
            renewing=len(await standing.index().read(stretches_left)),
            unread=await standing.index().read(count_unread),
        )


class _Moved(ArchiveError):
    """It lay elsewhere when it was to be read."""


def _need_content(scope: Scope) -> None:
    if not scope.content:
        raise Refused("reading archived mail needs the right to its content")


def _locate_several(cursor: Cursor, scope: Scope, identifiers: Sequence[int]) -> list[tuple[int, MailRow, PackRow | None]]:
    """Those that are there, and that the scope may see."""
    found = []
    packs: dict[int, PackRow | None] = {}
    for identifier in identifiers:
        try:
            row = search.find_mail(cursor, scope, identifier)
        except KeyError:
            continue
        if row.pack is not None and row.pack not in packs:
            packs[row.pack] = pack_row(cursor, row.pack)
        found.append((identifier, row, packs[row.pack] if row.pack is not None else None))
    return found


def _pack_totals(cursor: Cursor) -> tuple[int, int]:
    packs, size = cursor.execute("SELECT count(*), coalesce(sum(size), 0) FROM pack").fetchone()
    return packs, size


def _described(
    cursor: Cursor, scope: Scope, identifier: int
) -> tuple[MailRow, PackRow | None, list[MailRow], tuple[int, ...], tuple[Hit, ...]]:
    """A mail, where it lies, its renditions as far as the scope may see them, what else bears its Message-ID, and its conversation."""
    row, pack = _locate(cursor, scope, identifier)
    members, conversation = seen.renditions(cursor, scope, row), search.conversation(cursor, scope, row)
    return row, pack, members, search.namesakes(cursor, scope, row), conversation


def _locate(cursor: Cursor, scope: Scope, identifier: int) -> tuple[MailRow, PackRow | None]:
    row = search.find_mail(cursor, scope, identifier)
    return row, pack_row(cursor, row.pack) if row.pack is not None else None
