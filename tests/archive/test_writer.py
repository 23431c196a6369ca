"""The archive as a whole, on a real disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from hornetmail.archive.writer import Archive
from hornetmail.core.archived import Refused
from hornetmail.testing.archives import ADMIN, AUDITOR, BytesBody, item, mail, make_archive, user


class ArchiveCase(TestCase):
    """Makes archives in a temporary directory, and stops them."""

    def setUp(self) -> None:
        self.top = Path(self.mktemp()).resolve()
        self.top.mkdir(parents=True)

    async def fresh(self, **more: Any) -> Archive:
        archive = make_archive(reactor, self.top, **more)
        archive.create()
        return await self.started(archive)

    async def reopened(self, **more: Any) -> Archive:
        return await self.started(make_archive(reactor, self.top, **more))

    async def started(self, archive: Archive) -> Archive:
        await archive.start()
        self.addCleanup(lambda: Deferred_of(archive))
        return archive


def Deferred_of(archive: Archive) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(archive.stop())


class RoundTrip(ArchiveCase):
    async def test_staged_found_read(self) -> None:
        """Catches a mail that is staged and then not found, or comes back changed."""
        archive = await self.fresh()
        raw = mail("Grüße aus Köln", "Die Rechnung für Müller liegt bei.")
        await archive.stage(item(7), BytesBody(raw))
        await archive.flush()
        for query in ("muller", "Müller", "rechn*", '"rechnung fur"', "subject:köln", "from:alice@example.test", "to:bob", ""):
            page = await archive.search(AUDITOR, query)
            self.assertEqual(page.total, 1, query)
        hit = page.results[0]
        self.assertEqual(hit.subject, "Grüße aus Köln")
        self.assertEqual(await archive.read(AUDITOR, hit.id), raw)
        await archive.flush(seal=True)
        self.assertEqual(await archive.read(AUDITOR, hit.id), raw)
        seen = await archive.mail(user("bob@example.test"), hit.id)
        self.assertIn("Rechnung", seen.text)
        self.assertEqual(await archive.verify(True), ())
        figures = await archive.figures()
        self.assertEqual((figures.mails, figures.packs, figures.staged), (1, 1, 0))

    async def test_administrator_by_headers_only(self) -> None:
        """Catches content that leaks to administrators (rule 15)."""
        archive = await self.fresh()
        await archive.stage(item(7), BytesBody(mail("Secretsubject", "secretbody")))
        await archive.flush()
        self.assertEqual((await archive.search(ADMIN, "secretbody")).total, 0)
        self.assertEqual((await archive.search(ADMIN, "secretsubject")).total, 0)
        page = await archive.search(ADMIN, "to:bob")
        self.assertEqual((page.total, page.results[0].subject), (1, ""))
        with self.assertRaises(Refused):
            await archive.read(ADMIN, page.results[0].id)
