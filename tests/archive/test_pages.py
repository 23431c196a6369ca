"""What a search costs: pages behind the first, months that cannot have anything to say, sizes, and a question without end."""

from __future__ import annotations

from typing import Any

import pytest

from hornetmail.archive.archive import Archive
from hornetmail.archive.index.finding import search
from hornetmail.archive.index.query.language import parse_query
from hornetmail.archive.running import reading
from hornetmail.core.archive.archived import Page, QueryError
from hornetmail.db.engines import Cursor
from hornetmail.testing.archives import AUDITOR, NOW, mail
from tests.archive.cases import ArchiveCase


class Watched:
    """A cursor that counts the questions to full texts."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self.asked = 0

    def execute(self, sql: str, params: Any = ()) -> Any:
        self.asked += "MATCH" in sql
        return self._cursor.execute(sql, params)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def page_of(cursor: Cursor, query: str, limit: int, after: str) -> tuple[Page, int]:
    watched = Watched(cursor)
    page = search.search_page(watched, AUDITOR, parse_query(query, NOW), limit, after)  # type: ignore[arg-type]
    return page, watched.asked


class Costs(ArchiveCase):
    async def spread(self) -> Archive:
        """Sixty mails, each ten of them in a month of expiry of their own, and received one after the other."""
        archive = await self.fresh()
        for n in range(60):
            await self.put(archive, mail(f"Mail{n}", "common"), received=NOW + n, retention_days=10 + 31 * (n // 10))
        await archive.flush(seal=True)
        return archive

    async def test_each_month_is_asked_once(self) -> None:
        """Each was asked for hits and once more for their number; a page behind the first counted everything again, and asked all of them."""
        archive = await self.spread()
        index = archive.standing.index()
        first, asked = await index.read(page_of, "common", 5, "")
        assert (first.total, asked) == (60, 6)
        second, asked = await index.read(page_of, "common", 5, first.after)
        assert (second.total, second.exact) == (60, True)
        assert asked <= 2, "the newest months alone have it"
        assert [hit.subject for hit in (*first.results, *second.results)] == [f"Mail{n}" for n in range(59, 49, -1)]
        self.patch(search, "MAX_COUNT", 15)
        common, asked = await index.read(page_of, "common", 5, "")
        assert (common.total, common.exact) == (15, False)
        assert asked <= 3, "nobody counts on"

    async def test_sizes(self) -> None:
        """Sizes are known to the full text by powers of two: an edge that is off by one finds what is not meant, or hides a mail."""
        archive = await self.fresh()
        sizes = [300, 511, 512, 513, 1023, 1024, 1025, 2000, 4096, 5000]
        for number, size in enumerate(sizes):
            raw = mail(f"Size{number}", "x")
            await self.put(archive, raw + b"y" * (size - len(raw) - 2) + b"\r\n")
        await archive.flush()
        for bound in (0, 1, 299, 300, 301, 510, 511, 512, 513, 1023, 1024, 1025, 4095, 4096, 4097, 5000, 1 << 41):
            assert await self.total(archive, f"size>{bound}") == sum(size > bound for size in sizes), bound
            assert await self.total(archive, f"size<{bound}") == sum(size < bound for size in sizes), bound
        assert await self.total(archive, "size>500 size<1k y*") == 4

    async def test_a_search_without_end(self) -> None:
        """One question held a reader for as long as it wanted; now it is given up with a clear answer, and those behind it have their turn."""
        archive = await self.spread()

        def endless(cursor: Cursor, *args: Any) -> Page:
            cursor.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n").fetchall()
            raise AssertionError

        self.patch(reading, "SEARCH_SECONDS", 0.2)
        found = search.search_page
        self.patch(search, "search_page", endless)
        for _ in range(3):
            with pytest.raises(QueryError, match="takes longer than"):
                await archive.search(AUDITOR, "common")
        self.patch(search, "search_page", found)
        self.patch(reading, "SEARCH_SECONDS", 600.0)
        assert await self.total(archive, "common") == 60
