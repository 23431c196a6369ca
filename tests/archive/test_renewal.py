"""Months that an earlier version indexed get the present form while the archive is in use."""

from __future__ import annotations

import shutil

from hornetmail.archive.archive import Archive
from hornetmail.archive.index.schema.fulltext import FORM
from hornetmail.archive.index.writing.renewal import due
from hornetmail.archive.running import renewing
from hornetmail.core.archive.archived import Stretch
from hornetmail.db.engines import Cursor
from hornetmail.testing.archives import AUDITOR, NOW, mail
from tests.archive.cases import ArchiveCase
from tests.archive.test_earlier import DAY, EARLIER


def state(cursor: Cursor) -> list[tuple[int, int | None, int]]:
    """Form, how far its new one is, and texts, of each month."""
    rows = cursor.execute("SELECT month, form, walked FROM month ORDER BY month").fetchall()
    return [
        (form, walked, int(cursor.execute(f"SELECT count(*) FROM fts_{month:06d}").fetchone()[0])) for month, form, walked in rows
    ]


class Renewal(ArchiveCase):
    async def opened(self) -> Archive:
        shutil.copytree(EARLIER, self.top, dirs_exist_ok=True)
        self.clock.now = NOW + 4 * DAY
        self.row = 1000
        return await self.reopened()

    async def halted(self, archive: Archive, slices: int) -> renewing.Renewed:
        """A run that is asked to end in its slice of that number."""
        renewal, read = archive.renewing, archive.renewing._texts
        count = 0

        def watched(*args: object) -> object:
            nonlocal count
            count += 1
            if count == slices:
                renewal.halt()
            return read(*args)  # type: ignore[arg-type]

        self.patch(renewal, "_texts", watched)
        done = await renewal.run()
        self.patch(renewal, "_texts", read)
        return done

    async def test_what_was_not_searched_fully_is(self) -> None:
        """Catches months that stay as they are until somebody rebuilds, of which nobody says that they are not searched fully."""
        archive = await self.opened()
        before = await archive.search(AUDITOR, "direction:in")
        assert before.total == 0
        assert (
            [isinstance(one, Stretch) and one.since <= one.until for one in before.partly].count(True) == len(before.partly) > 0
        )
        assert (await archive.figures()).renewing >= len(before.partly)
        done = await archive.renewing.run()
        assert (done.left, done.unread, done.waits, done.halted) == (0, 0, "", False)
        assert done.mails >= 32
        after = await archive.search(AUDITOR, "direction:in")
        assert (after.total, after.partly) == (33, ())
        assert await self.total(archive, "keep*") == 30
        assert (await archive.figures()).renewing == 0
        assert await archive.verify(True) == ()
        assert (await archive.renewing.run()).mails == 0

    async def test_stopped_and_gone_on_with(self) -> None:
        """Catches a run that begins from the start each time, and what comes, comes again or goes meanwhile and is lost, or back, when the new table takes its place."""
        self.patch(renewing, "SLICE", 4)
        archive = await self.opened()
        first = await self.halted(archive, 2)
        assert (first.mails, first.halted) == (8, True)
        walked = [one for one in await archive.standing.index().read(state) if one[1] is not None]
        assert len(walked) == 1
        assert await self.total(archive, "keep*") == 30, "the old table is asked"
        # one that went and one that came again, behind and before the place that was reached
        gone = [(await self.only(archive, f"keep{n}")).id for n in (1, 29)]
        await archive.keeping.delete(1, gone, "auditor", "asked for")
        for n in (2, 28):
            await self.put(archive, mail(f"Keep{n}"), recipients=("dora@example.test",))
        for n in range(3):
            await self.put(archive, mail(f"Newcomer{n}"), received=NOW + n)
        await archive.flush()
        await archive.stop()
        archive = await self.reopened()
        rest = await archive.renewing.run()
        assert rest.left == 0
        assert rest.mails < 33 - 8 + 5 + 1
        assert all(form == FORM and walked is None for form, walked, _ in await archive.standing.index().read(state))
        assert await self.total(archive, "keep*") == 28
        assert await self.total(archive, "keep* direction:in") == 28
        assert await self.total(archive, "newcomer*") == 3
        assert await self.total(archive, "to:dora") == 2
        assert await archive.verify(True) == ()

    async def test_a_medium_that_is_away(self) -> None:
        """Catches words that are lost because a medium did not answer just then."""
        archive = await self.opened()
        self.medium.rename(self.medium.with_name("away"))
        done = await archive.renewing.run()
        assert done.left > 0
        assert done.waits
        assert await self.total(archive, "keep*") == 30
        self.medium.with_name("away").rename(self.medium)
        archive.media.active.look()
        assert (await archive.renewing.run()).left == 0
        assert await self.total(archive, "keep* direction:in") == 30

    async def test_the_next_slice_is_found_by_index(self) -> None:
        """Catches a job whose slices read all that is before them."""
        archive = await self.opened()

        def plan(cursor: Cursor) -> str:
            seen: list[str] = []

            class Watched:
                def execute(self, sql: str, params: tuple[object, ...] = ()) -> object:
                    seen.append(sql)
                    return cursor.execute(sql, params)

            due(Watched(), 202608, 5, 4)  # type: ignore[arg-type]
            return " ".join(line[3] for line in cursor.execute(f"EXPLAIN QUERY PLAN {seen[0]}", (202608, 5, 4)).fetchall())

        found = await archive.standing.index().read(plan)
        assert "mail_month" in found, found
        assert "TEMP B-TREE" not in found, found
