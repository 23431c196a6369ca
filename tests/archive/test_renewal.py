"""Months that an earlier version indexed get the present form while the archive is in use."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from hornetmail.archive.archive import Archive
from hornetmail.archive.index.schema.fulltext import FORM
from hornetmail.archive.index.schema.people import people_decoder
from hornetmail.archive.index.writing.renewal import due
from hornetmail.archive.running import renewing
from hornetmail.core.archive.archived import Stretch
from hornetmail.db.engines import Cursor
from hornetmail.extraction.readers import Readers, ReaderSettings
from hornetmail.testing.archives import AUDITOR, NOW, mail
from tests.archive.cases import ArchiveCase
from tests.archive.test_earlier import DAY, EARLIER

SECOND_FORM = Path(__file__).parent / "second_form"
"""An archive as it was when full text had its second form, before renditions, conversations and files were read: nine mails, three of them conversing as
``letter1``, ``letter2`` and the journal's copy of ``letter1``, one with ``text.docx``, one staged."""


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

    def readers(self) -> Readers:
        readers = Readers(reactor, ReaderSettings())
        self.addCleanup(lambda: Deferred.fromCoroutine(readers.stop()))
        return readers

    async def test_the_second_form(self) -> None:
        """Catches months of the version before that are taken for the present form: no conversations and no renditions in them, for ever."""
        shutil.copytree(SECOND_FORM, self.top, dirs_exist_ok=True)
        self.clock.now = NOW + 4 * DAY
        archive = await self.reopened()
        assert await self.total(archive, "") == 9
        assert await self.total(archive, "Kormoran") == 2
        assert (await archive.search(AUDITOR, "keep*")).partly != ()
        done = await archive.renewing.run()
        assert (done.left, done.unread, done.mails) == (0, 0, 9)
        assert await self.total(archive, "Kormoran") == 1, "the journal's copy is one hit with the mail"
        answer = await self.only(archive, "Eisvogel")
        assert await self.total(archive, f"thread:{answer.id}") == 2
        assert (await archive.search(AUDITOR, "keep*")).total == 4
        assert (await archive.search(AUDITOR, "keep*")).partly == ()
        assert await archive.verify(True) == ()
        assert await archive.rebuild() == ()
        assert await self.total(archive, "Kormoran") == 1

    async def test_words_of_files_are_found_all_the_while(self) -> None:
        """Catches a new table that takes the old one's place before the words of files are in it: found yesterday, and not today."""
        shutil.copytree(SECOND_FORM, self.top, dirs_exist_ok=True)
        self.clock.now = NOW + 4 * DAY
        archive = await self.reopened(readers=self.readers())
        await archive.words_read()
        assert await self.total(archive, "Hobelbank") == 1
        renewal, hear = archive.renewing, archive.renewing._hear
        seen = []

        async def watched() -> None:
            seen.append(await self.total(archive, "Hobelbank"))
            await hear()
            seen.append(await self.total(archive, "Hobelbank"))

        self.patch(renewal, "_hear", watched)
        done = await renewal.run()
        assert (done.left, done.mails) == (0, 9)
        # not after words_read(): at once
        seen.append(await self.total(archive, "Hobelbank"))
        assert seen == [1, 1, 1]
        assert (await archive.mail(AUDITOR, (await self.only(archive, "Hobelbank")).id)).unsearched == ()

    async def test_asked_to_end_while_files_are_read(self) -> None:
        """Catches a run that cannot be ended for as long as files wait, or that ends with a table without their words."""
        shutil.copytree(SECOND_FORM, self.top, dirs_exist_ok=True)
        self.clock.now = NOW + 4 * DAY
        archive = await self.reopened()
        renewal = archive.renewing
        never: Deferred[None] = Deferred()

        async def waits() -> None:
            renewal._holdings.reactor.callLater(0, renewal.halt)
            await never

        self.patch(archive.standing.writing().words, "done", waits)
        done = await renewal.run()
        assert (done.halted, done.months, done.mails) == (True, 0, 9)
        assert (await archive.search(AUDITOR, "keep*")).partly != (), "the old table is asked"
        assert await self.total(archive, "keep*") == 4

    async def test_a_header_is_read_anew(self) -> None:
        """Catches rows that keep for ever what an earlier version made of a header: a second To, a date that it could not read."""
        archive = await self.fresh()
        raw = b"From: a@x.test\r\nTo: b@x.test\r\nTo: second@y.test\r\nDate: Mon, 27 Nov 06 10:00:00 UT\r\nSubject: twice\r\n\r\nhello\r\n"
        await self.put(archive, raw, recipients=("bob@example.test",))
        await archive.flush(seal=True)
        fresh = await self.only(archive, "twice")
        assert await self.total(archive, "to:second@y.test") == 1

        def earlier(cursor: Cursor) -> None:
            people = people_decoder.decode(cursor.execute("SELECT people FROM mail").fetchone()[0])
            old = msgspec.msgpack.encode(msgspec.structs.replace(people, to=people.to[:1]))
            cursor.execute("UPDATE mail SET people = ?, date = received, subject = 'tw'", (old,))
            cursor.execute("UPDATE month SET form = 2")

        await archive.standing.index().run(earlier)
        assert (await self.only(archive, "twice")).date != fresh.date
        assert (await archive.renewing.run()).left == 0
        assert await self.only(archive, "twice to:second@y.test bob@example.test") == fresh

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
