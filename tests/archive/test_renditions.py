"""One mail that came in several forms is one hit (rule 13, A27, L9), and the same bytes that come for ever cost the same each time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hornetmail.archive.archive import Archive
from hornetmail.archive.index.finding.folders import Month, numbers, standing
from hornetmail.archive.index.writing import mails
from hornetmail.core.archive.archived import Hit
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor
from hornetmail.testing.archives import AUDITOR, NOW, mail, user
from tests.archive.cases import ArchiveCase

ALICE = user("alice@example.test")
BOB = user("bob@example.test")
CAROL = user("carol@example.test")
DAY = 86_400.0


def named(subject: str, body: str = "the offer", extra: str = "", message_id: str = "<one@example.test>", **more: str) -> bytes:
    return mail(subject, body, extra=f"Message-ID: {message_id}{extra}", **more)


def base64_of(name: str, data: str, extra: str = "") -> bytes:
    """A mail with a file in base64."""
    return (
        f"From: a@example.test\r\nTo: b@example.test\r\nDate: Mon, 25 May 2026 10:00:00 +0000\r\nMessage-ID: <file@example.test>\r\n{extra}"
        f'Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee file\r\n--b\r\nContent-Type: application/octet-stream; name="{name}"\r\n'
        f"Content-Transfer-Encoding: base64\r\n\r\n{data}\r\n--b--\r\n"
    ).encode()


SCAN = b"From: scanner@example.test\r\nTo: undisclosed\r\nSubject: Scan\r\n\r\nsee file\r\n"


class Renditions(ArchiveCase):
    async def journal_and_inline(self) -> Archive:
        archive = await self.fresh()
        await self.put(archive, named("Offer", extra="\r\nX-Inline: yes"), recipients=("bob@example.test",))
        await self.put(
            archive,
            named("Offer", extra="\r\nX-Journal: yes"),
            recipients=("carol@example.test",),
            feed="journal",
            received=NOW + 60,
        )
        await archive.flush()
        return archive

    async def test_a_journal_copy_and_an_inline_copy_are_one_hit(self) -> None:
        """Catches one mail that is found twice, or whose recipients are not together, with feed and time of each."""
        archive = await self.journal_and_inline()
        hit = await self.only(archive, "offer")
        assert (hit.renditions, hit.namesake, set(hit.recipients)) == (2, False, {"bob@example.test", "carol@example.test"})
        seen = await archive.mail(AUDITOR, hit.id)
        assert [(one.feed, one.received, one.recipients) for one in seen.came] == [
            ("inline", NOW, ("bob@example.test",)),
            ("journal", NOW + 60, ("carol@example.test",)),
        ]
        texts = [await archive.read(AUDITOR, one.id) for one in seen.came]
        assert b"X-Inline" in texts[0], "all bytes are kept"
        assert b"X-Journal" in texts[1]
        await archive.flush(seal=True)
        await archive.rebuild()
        again = await self.only(archive, "offer")
        assert (again.renditions, set(again.recipients)) == (2, set(hit.recipients))

    async def test_each_sees_the_renditions_that_are_theirs(self) -> None:
        """Catches somebody who gains a recipient, a word, or bytes by sending or getting another form of a mail (rule 14)."""
        archive = await self.fresh()
        await self.put(archive, named("Offer", extra="\r\nKeywords: zebra"), recipients=("bob@example.test",))
        await self.put(archive, named("Offer"), recipients=("carol@example.test",), received=NOW + 60)
        await archive.flush()
        assert await self.total(archive, "zebra", BOB) == 1
        assert await self.total(archive, "zebra", CAROL) == 0
        bobs, carols = await self.only(archive, "offer", BOB), await self.only(archive, "offer", CAROL)
        assert (bobs.renditions, carols.renditions) == (1, 1)
        assert "carol@example.test" not in bobs.recipients
        with pytest.raises(KeyError):
            await archive.read(CAROL, bobs.id)
        assert b"zebra" not in await archive.read(CAROL, carols.id)
        assert [one.id for one in (await archive.mail(CAROL, carols.id)).came] == [carols.id]

    async def test_same_message_id_and_other_content(self) -> None:
        """Catches a mail that is suppressed by a forged Message-ID, and one that nobody is told of (L9)."""
        archive = await self.fresh()
        await self.put(archive, named("Offer", "pay to 1234"), recipients=("bob@example.test",))
        await self.put(archive, named("Offer", "pay to 6666"), recipients=("carol@example.test",))
        await self.put(archive, named("Offer", "pay to 1234", message_id="<two@example.test>"), received=NOW + 5)
        await archive.flush()
        hits = (await archive.search(AUDITOR, "offer pay")).results
        assert [(hit.namesake, hit.renditions) for hit in hits] == [(False, 1), (True, 1), (True, 1)]
        true, forged = (
            await self.only(archive, "1234 to:bob before:2100 -id:<two@example.test>"),
            await self.only(archive, "6666"),
        )
        assert (await archive.mail(AUDITOR, true.id)).namesakes == (forged.id,)
        bobs = await archive.mail(BOB, true.id)
        assert (bobs.namesakes, bobs.hit.namesake) == ((), False), "nobody learns of mail that is not theirs"

    async def test_what_hangs_on_it_counts(self) -> None:
        """Catches two mails with the same text and different files that are taken for one, and one mail that is taken for two because a server encoded it anew."""
        archive = await self.fresh()
        await self.put(archive, base64_of("a.bin", "AAECAwQFBgcICQoLDA0ODw=="))
        await self.put(archive, base64_of("a.bin", "AAECAwQF\r\nBgcICQoL\r\nDA0ODw==", "X-Relay: 1\r\n"))
        await self.put(archive, base64_of("a.bin", "AAECAwQFBgcICQoLDA0OEA=="))
        await archive.flush()
        hits = (await archive.search(AUDITOR, "file")).results
        assert sorted((hit.renditions, hit.namesake) for hit in hits) == [(1, True), (2, True)]

    async def test_never_across_tenants(self) -> None:
        """Catches mail of one customer that is united with that of another."""
        archive = await self.fresh()
        await self.put(archive, named("Offer"), tenant=1)
        await self.put(archive, named("Offer", extra="\r\nX-Other: 1"), tenant=2)
        await self.put(archive, named("Offer", "another text"), tenant=2)
        await archive.flush()
        assert await self.total(archive, "offer") == 3
        assert (await self.only(archive, "offer", Scope(1, None, content=True))).namesake is False

    async def test_pages_have_each_mail_once(self) -> None:
        """Catches a mail that is on two pages, on none, or counted twice, whichever rendition is found first, in whichever month of expiry."""
        archive = await self.fresh()
        wanted = []
        for n in range(30):
            subject = f"Mail{n}"
            for form in range(1 + n % 4):
                raw = named(subject, "common", f"\r\nX-Form: {form}", f"<{n}@example.test>")
                # the forms of one mail come with all the others between
                await self.put(archive, raw, received=NOW + n + 40 * form, retention_days=10 + 31 * form)
            wanted.append(subject)
        await archive.flush()
        for limit in (1, 2, 7, 50):
            hits: list[Hit] = []
            after = ""
            while True:
                page = await archive.search(AUDITOR, "common", limit=limit, after=after)
                assert page.total == 30
                hits += page.results
                after = page.after
                if not after:
                    break
            assert sorted(hit.subject for hit in hits) == sorted(wanted), limit
            assert {hit.subject: hit.renditions for hit in hits} == {f"Mail{n}": 1 + n % 4 for n in range(30)}

    async def test_in_mail_programs(self) -> None:
        """Catches one mail that lies in a folder twice, for those who see everybody's mail or their own, and a folder that counts otherwise than it lists."""
        archive = await self.journal_and_inline()
        await self.put(archive, named("Other", "other", message_id="<other@example.test>"), received=NOW + 90)
        await self.put(archive, named("Offer", extra="\r\nX-Third: yes"), recipients=("bob@example.test",), received=NOW + 95)
        await archive.flush()
        index = archive.standing.index()
        (rows,) = await index.read(
            lambda cursor: cursor.execute("SELECT DISTINCT node, strftime('%Y%m', received, 'unixepoch') FROM mail").fetchall()
        )
        month, node = Month(int(rows[1]), False), int(rows[0])
        everybody = Scope(1, None, content=True)

        def listed(cursor: Cursor, scope: Scope) -> tuple[Sequence[int], int]:
            found = standing(cursor, 1, month)
            assert found is not None
            return list(numbers(cursor, scope, node, month)), found.mails

        all_uids, count = await index.read(listed, everybody)
        assert (len(all_uids), count) == (2, 2)
        assert len((await index.read(listed, BOB))[0]) == 2
        assert len((await index.read(listed, CAROL))[0]) == 1

    async def test_holds_and_requests_take_all_of_a_mail(self) -> None:
        """Catches a form of a deleted mail that stays behind (rule 23), and one that a hold does not hold."""
        archive = await self.journal_and_inline()
        hit = await self.only(archive, "offer")
        assert await archive.keeping.hold(1, "case", "auditor", identifiers=[hit.id]) == 2
        await archive.keeping.release(1, "case", "auditor")
        assert await archive.keeping.hold(1, "feed", "auditor", query=f"id:{hit.id}") == 2
        await archive.keeping.release(1, "feed", "auditor")
        gone = await archive.keeping.delete(1, [hit.id], "auditor", "asked for")
        assert len(gone.removed) == 2
        assert await self.total(archive, "offer") == 0


class EqualBytes(ArchiveCase):
    async def test_a_scanner_is_found_by_day_and_recipient(self) -> None:
        """Catches bytes that come for years under the date of the first day (issue: the first arrival's date)."""
        archive = await self.fresh()
        for day, who in enumerate(("bob", "carol", "bob")):
            for minute in range(3):
                await self.put(
                    archive, SCAN, recipients=(f"{who}@example.test",), received=NOW + day * DAY + minute * 60, retention_days=90
                )
        await archive.flush()
        for _ in range(2):
            assert await self.total(archive, "scan") == 3
            assert await self.total(archive, "scan", BOB) == 2
            assert await self.total(archive, "scan", CAROL) == 1
            carols = await self.only(archive, "scan to:carol")
            assert NOW + DAY <= carols.received < NOW + 2 * DAY
            newest = (await archive.search(BOB, "scan")).results[0]
            assert NOW + 2 * DAY <= newest.date < NOW + 3 * DAY
            assert await archive.read(CAROL, carols.id) == SCAN
            await archive.flush(seal=True)
            await archive.rebuild()

    async def test_rows_have_room_for_so_many_arrivals(self) -> None:
        """Catches a row that grows with each arrival of the same bytes, recipients who lose their mail behind it, a rebuild that comes to something else, and mail with a
        Message-ID that becomes several hits."""
        self.patch(mails, "ARRIVALS", 4)
        archive = await self.fresh()
        raw = named("Circular")
        for n in range(10):
            await self.put(archive, raw, recipients=(f"u{n}@example.test",), received=NOW + n)
            await self.put(archive, SCAN, recipients=(f"u{n}@example.test",), received=NOW + n)
        await archive.flush()

        def rows(cursor: Cursor) -> int:
            return int(cursor.execute("SELECT count(*) FROM mail").fetchone()[0])

        for _ in range(2):
            assert await archive.standing.index().read(rows) == 6
            hit = await self.only(archive, "circular")
            assert len([one for one in hit.recipients if one.startswith("u")]) == 10
            assert await self.total(archive, "scan") == 3
            for n in range(10):
                assert await self.total(archive, "circular", user(f"u{n}@example.test")) == 1
                assert await self.total(archive, "scan", user(f"u{n}@example.test")) == 1
                assert await self.total(archive, f"to:u{n}@example.test") == 2
            await archive.flush(seal=True)
            assert not await archive.rebuild()
