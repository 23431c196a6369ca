"""The archive as a whole, on a real disk: in, out, duplicates, pages."""

from __future__ import annotations

import base64

import pytest
from twisted.internet.defer import Deferred, gatherResults

from hornetmail.core.archive.archived import ArchiveError
from hornetmail.core.events import ArchiveGrew
from hornetmail.core.mail.envelope import Direction
from hornetmail.testing.archives import AUDITOR, ROOT, BytesBody, item, mail, user
from tests.archive.cases import ArchiveCase

BOB = user("bob@example.test")


def corpus() -> list[bytes]:
    """Mail of many shapes."""
    blob = base64.encodebytes(bytes(range(256)) * 2000).replace(b"\n", b"\r\n")
    return [
        mail("Plain"),
        mail("Long lines", "x" * 5000),
        mail("Dots", "..\r\n.\r\n.x"),
        b"",
        b"no header at all",
        b"\xff\xfe\x00 binary \x00" * 50,
        b"Subject: only\n\nbare LF\n",
        b"Subject: =?utf-8?q?broken?\r\nFrom: ((((\r\nDate: never\r\nTo: \xfc@x\r\n\r\nx\r\n",
        mail("Attached", extra="X-Extra: 1").replace(b"text/plain", b"multipart/mixed; boundary=b").replace(b"Some words.", b"")
        + b"--b\r\nContent-Type: text/plain\r\n\r\ninner words\r\n--b\r\nContent-Type: application/pdf; name=\"report.pdf\"\r\n"
        + b"Content-Disposition: attachment; filename=\"report.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + blob
        + b"--b--\r\n",
        b"Subject: deep\r\n" + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" * 300 + b"\r\ninnermost\r\n",
        b"Subject: " + b"A" * 300_000 + b"\r\n\r\nx\r\n",
    ]  # fmt: skip


class InAndOut(ArchiveCase):
    async def test_exact_bytes_of_a_varied_corpus(self) -> None:
        """Catches a mail that is changed, lost, or stops the archive, whatever it looks like (rule 12)."""
        archive = await self.fresh()
        mails = corpus()
        for raw in mails:
            await self.put(archive, raw)
        await archive.flush()
        assert await self.total(archive, "") == len(mails)
        page = await archive.search(AUDITOR, "")
        read = [await archive.read(AUDITOR, hit.id) for hit in page.results]
        assert sorted(read) == sorted(mails)
        await archive.flush(seal=True)
        read = [await archive.read(AUDITOR, hit.id) for hit in page.results]
        assert sorted(read) == sorted(mails)
        assert await archive.verify(True) == ()
        hit = await self.only(archive, "has:attachment")
        assert (hit.attachments, hit.subject) == (1, "Attached")
        assert await self.total(archive, "report.pdf inner") == 1
        assert await self.total(archive, "subject:only bare") == 1
        figures = await archive.figures()
        assert (figures.mails, figures.bytes_raw, figures.staged) == (len(mails), sum(map(len, mails)), 0)

    async def test_words_are_found(self) -> None:
        """Catches umlauts, beginnings, phrases and limits that do not find what people look for."""
        archive = await self.fresh()
        await self.put(archive, mail("Grüße aus Köln", "Die Rechnung für Müller, Straße 5."), received=1_780_000_000.0)
        await archive.flush()
        for query in (
            "muller", "Müller", "MÜLLER", "rechn*", '"rechnung fur"', "subject:köln", "subject:koln", "from:alice@example.test",
            "from:Alice", "to:bob", "straße", "size>10 size<10k", "after:2026-05-28 before:2026-05-29", "", "-absent", "mul* köl*",
        ):  # fmt: skip
            assert await self.total(archive, query) == 1, query
        for query in (
            "mull",
            '"fur rechnung"',
            "subject:rechnung",
            "from:bob",
            "to:alice",
            "size>1M",
            "before:2026-05-28",
            "has:attachment",
            "-köln",
        ):
            assert await self.total(archive, query) == 0, query
        hit = await self.only(archive, "müller")
        assert await self.total(archive, f"id:{hit.id}") == 1
        assert await self.total(archive, f"id:{hit.id + 1}") == 0
        assert (hit.sender, hit.subject, hit.received, hit.direction) == (
            "Alice <alice@example.test>", "Grüße aus Köln", 1_780_000_000.0, Direction.IN,
        )  # fmt: skip
        seen = await archive.mail(BOB, hit.id)
        assert "Rechnung für Müller" in seen.text
        assert (seen.medium, seen.tenant, seen.feed) == (1, 1, "inline")
        assert seen.expires == 1_780_000_000.0 + 90 * 86400

    async def test_equal_bytes_are_one_mail(self) -> None:
        """Catches the same mail twice in the archive, or a second recipient without a right to it, whichever ways they came (rule 13, A27, L9)."""
        archive = await self.fresh()
        raw = mail("Twice", to="list@example.test")
        await self.put(archive, raw, recipients=("bob@example.test",))
        await self.put(archive, raw, recipients=("carol@example.test",), feed="journal")
        await archive.flush()
        await self.put(archive, raw, recipients=("dave@example.test",), retention_days=400)
        await archive.flush(seal=True)
        for name in ("bob", "carol", "dave"):
            hit = await self.only(archive, "twice", user(f"{name}@example.test"))
            assert await archive.read(user(f"{name}@example.test"), hit.id) == raw
        assert (await archive.figures()).mails == 1
        seen = await archive.mail(AUDITOR, hit.id)
        assert set(seen.recipients) == {"bob@example.test", "carol@example.test", "dave@example.test"}
        assert seen.expires == 1_780_000_000.0 + 400 * 86400
        assert await archive.verify(True) == ()
        assert sum(raw in p.read_bytes() for p in self.packs()) == 0

    async def test_same_message_id_suppresses_nothing(self) -> None:
        """Catches evidence hidden by a forged Message-ID (L9)."""
        archive = await self.fresh()
        for body in ("first", "second"):
            await self.put(archive, mail("Same ID", body, extra="Message-ID: <1@x>"))
        await archive.flush()
        assert await self.total(archive, "same") == 2

    async def test_a_row_is_staged_once(self) -> None:
        """Catches a mail that is archived twice because the queue asked twice."""
        archive = await self.fresh()
        body = BytesBody(mail("Once"))
        await gatherResults([Deferred.fromCoroutine(archive.stage(item(9), body)) for _ in range(5)])
        await archive.stage(item(9), body)
        assert (await archive.figures()).staged == 1
        await archive.flush(seal=True)
        await archive.stage(item(9), body)
        await archive.flush()
        figures = await archive.figures()
        assert (figures.mails, figures.staged) == (1, 0)

    async def test_pages_newest_first(self) -> None:
        """Catches pages that skip, repeat or misorder mail, or a count that changes from page to page."""
        archive = await self.fresh()
        for n in range(25):
            await self.put(archive, mail(f"Number{n}"), received=1_780_000_000.0 + (n * 7 % 25) * 86400 * 5)
        await archive.flush()
        seen: list[float] = []
        after = ""
        while True:
            page = await archive.search(BOB, "", limit=7, after=after)
            assert page.total == 25
            seen += [hit.received for hit in page.results]
            after = page.after
            if not after:
                break
        assert len(seen) == len(set(seen)) == 25
        assert seen == sorted(seen, reverse=True)

    async def test_many_mails_of_one_moment(self) -> None:
        """Catches places that run out, or a search for a free one that grows with each mail, when all bear the same time."""
        archive = await self.fresh()
        for n in range(600):
            await self.put(archive, mail(f"Same{n}"), received=0.0)
        await archive.flush()
        page = await archive.search(AUDITOR, "", limit=500)
        rest = await archive.search(AUDITOR, "", limit=500, after=page.after)
        assert len({hit.id for hit in (*page.results, *rest.results)}) == 600

    async def test_spam_is_marked(self) -> None:
        """Catches a spam mark that is lost (A21)."""
        archive = await self.fresh()
        await self.put(archive, mail("Offer"), spam=True)
        await self.put(archive, mail("Letter"))
        await archive.flush()
        assert (await self.only(archive, "is:spam")).spam
        assert (await self.only(archive, "-is:spam")).subject == "Letter"

    async def test_findable_within_seconds_by_itself(self) -> None:
        """Catches indexing that waits for somebody to ask (A50)."""
        heard: Deferred[ArchiveGrew] = Deferred()

        class Bus:
            def publish(self, event: object) -> None:
                if isinstance(event, ArchiveGrew) and not heard.called:
                    heard.callback(event)

        archive = await self.fresh(bus=Bus())
        await self.put(archive, mail("Soon"))
        assert (await heard).mails == 1
        assert await self.total(archive, "soon") == 1

    async def test_locked_archive_takes_mail(self) -> None:
        """Catches mail refused, or lost, because the key is not there (rule 22)."""
        archive = await self.fresh()
        await self.put(archive, mail("Before"))
        await archive.flush()
        await archive.stop()
        locked = await self.reopened(root=None)
        await self.put(locked, mail("While locked"))
        await self.put(locked, mail("While locked"))
        figures = await locked.figures()
        assert figures.locked
        with pytest.raises(ArchiveError):
            await locked.search(AUDITOR, "")
        await locked.unlock(ROOT)
        await locked.flush(seal=True)
        assert await self.total(locked, "locked") == 1
        assert await self.total(locked, "") == 2
        assert await locked.verify(True) == ()

    async def test_no_plain_text_anywhere(self) -> None:
        """Catches a word of a mail in any file of the archive or its medium (A2, L11, rule 24)."""
        archive = await self.fresh()
        word = "Geheimwortxyz"
        for n in range(40):
            await self.put(
                archive, mail(word, f"{word} {n} " * 50, to=f"{word}@example.test"), recipients=(f"{word}@example.test",)
            )
        await archive.flush()
        self.assert_nowhere(word)
        await archive.flush(seal=True)
        assert await self.total(archive, word) == 40
        self.assert_nowhere(word)
        await archive.stop()
        self.assert_nowhere(word)

    def assert_nowhere(self, word: str) -> None:
        files = [p for p in self.top.rglob("*") if p.is_file()]
        assert len(files) >= 4
        for path in files:
            data = path.read_bytes().lower()
            for form in (word.lower().encode(), word.lower().encode("utf-16-le")):
                assert form not in data, path
