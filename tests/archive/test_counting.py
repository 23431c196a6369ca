"""Counting hits up to a bound, over several months' full text, and word beginnings with and without indexes of their own."""

from __future__ import annotations

import msgspec

from hornetmail.archive.archive import Archive
from hornetmail.archive.index.finding import search
from hornetmail.archive.index.schema import fulltext as index
from hornetmail.archive.index.schema.fulltext import FORMS, make_month, table_of
from hornetmail.db.engines import Cursor
from hornetmail.testing.archives import AUDITOR, NOW, mail, user
from tests.archive.cases import ArchiveCase

BOB = user("bob@example.test")


class Counting(ArchiveCase):
    async def spread(self) -> Archive:
        """Thirty mails that expire in three months."""
        archive = await self.fresh()
        for n in range(30):
            await self.put(archive, mail(f"Mail{n}", "common"), received=NOW + n, retention_days=10 + 30 * (n % 3))
        await archive.flush(seal=True)
        return archive

    async def test_exact_up_to_the_bound(self) -> None:
        """Catches a count that is off by one at the bound, or that says it is exact when there are more."""
        archive = await self.spread()
        for bound, total, exact in ((10, 10, False), (29, 29, False), (30, 30, True), (31, 30, True)):
            self.patch(search, "MAX_COUNT", bound)
            for scope in (AUDITOR, BOB):
                for limit in (1, 5, 500):
                    page = await archive.search(scope, "common", limit=limit)
                    assert (page.total, page.exact) == (total, exact), (bound, limit)
                    assert len(page.results) == min(limit, 30)

    async def test_every_page_says_the_same(self) -> None:
        """Catches totals that change from page to page, pages that end at the bound, or hits twice or never across months."""
        archive = await self.spread()
        self.patch(search, "MAX_COUNT", 12)
        found, after = [], ""
        while True:
            page = await archive.search(AUDITOR, "", limit=7, after=after)
            assert (page.total, page.exact) == (12, False)
            found += [hit.subject for hit in page.results]
            after = page.after
            if not after:
                break
        assert found == [f"Mail{n}" for n in reversed(range(30))]

    async def test_marked_mail_is_not_counted(self) -> None:
        """Catches a count that still has what retention took out of the search (A57)."""
        archive = await self.spread()
        await archive.confirm_purge()
        assert await self.night(archive, 11) == (10, 0)
        for limit in (5, 500):
            page = await archive.search(AUDITOR, "mail*", limit=limit)
            assert (page.total, page.exact) == (20, True)

    async def test_month_of_an_older_version(self) -> None:
        """Catches an archive whose older months have no lists of word beginnings and are searched wrongly, or cannot be written any more."""
        old: list[int] = []

        def as_before(cursor: Cursor, month: int) -> tuple[int, int | None]:
            if len(old) < 2 and month not in old:
                old.append(month)
                cursor.execute(
                    f"CREATE VIRTUAL TABLE {table_of(month)} USING fts5({', '.join(FORMS[1])}, content='', contentless_delete=1,"
                    ' tokenize="unicode61 remove_diacritics 2")'
                )
                cursor.execute("INSERT INTO month (month) VALUES (?)", (month,))
            return make_month(cursor, month)

        self.patch(index, "make_month", as_before)
        archive = await self.spread()
        assert len(old) == 2
        queries = ("m*", "ma*", "mai*", "mail*", "mail2*", "comm*", "bob@exam*", "from:al*", "xyz*")
        found = [await archive.search(scope, query) for scope in (AUDITOR, BOB) for query in queries]
        assert [page.total for page in found[:9]] == [30, 30, 30, 30, 11, 30, 30, 30, 0]
        assert await archive.verify(True) == ()
        self.patch(index, "make_month", make_month)
        await archive.rebuild()
        anew = [await archive.search(scope, query) for scope in (AUDITOR, BOB) for query in queries]
        assert anew == [msgspec.structs.replace(page, partly=()) for page in found]
        assert all(page.partly for page in found), "that they are not searched fully is said"
        assert await archive.verify(True) == ()
