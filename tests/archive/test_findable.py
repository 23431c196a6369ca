"""Archived and not findable: what mail of the world hides from an index. A table of mails and of what a person types (``tests/findable.py``)."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from hornetmail.core.archive.archived import Hit
from hornetmail.extraction.readers import Readers, ReaderSettings
from hornetmail.mime.reading.mail import read_mail
from hornetmail.mime.structure import scan
from hornetmail.servers.imap.finding.match import Content, folded
from hornetmail.testing.archives import AUDITOR
from hornetmail.web import mailview
from tests.archive.cases import ArchiveCase
from tests.findable import Findable, of_bytes, table


class Found(ArchiveCase):
    async def test_all(self) -> None:
        """Each word finds its mail, and what must not find it does not; all of them in one archive."""
        readers = Readers(reactor, ReaderSettings())
        self.addCleanup(lambda: Deferred.fromCoroutine(readers.stop()))
        archive = await self.fresh(readers=readers)
        rows = table()
        for row in rows:
            await self.put(archive, row.raw)
        await archive.flush()
        await archive.words_read()
        page = await archive.search(AUDITOR, "", limit=500)
        assert page.total == len(rows)
        by_id = dict(zip(sorted(hit.id for hit in page.results), rows, strict=True))
        missed = []
        tried = 0
        for identifier, row in by_id.items():
            for query, wanted in (*((q, True) for q in row.wanted), *((q, False) for q in row.unwanted)):
                tried += 1
                hits: tuple[Hit, ...] = (await archive.search(AUDITOR, query, limit=500)).results
                if any(hit.id == identifier for hit in hits) is not wanted:
                    missed.append(f"{row.name}: {query!r} {'does not find it' if wanted else 'finds it'}")
        assert not missed, "\n".join([f"{len(missed)} of {tried}:", *missed])
        assert tried >= 380


@pytest.mark.parametrize("row", of_bytes(), ids=lambda row: row.name)
def test_one_decoder(row: Findable) -> None:
    """What search finds, people read on the page, in the archive, and find over IMAP: three decoders disagreed."""
    content = Content(scan(row.raw), row.raw)
    for word in row.wanted:
        assert content.body_has(folded(word)), f"IMAP: {word}"
        assert word in mailview.show(row.raw).text, f"page: {word}"
        assert word in read_mail(row.raw, lines=True).text, f"archive: {word}"
