"""Mail that cannot be indexed as it is."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import mock

import pytest

from hornetmail.archive.index.writing import mails as index
from hornetmail.archive.index.writing import poison
from hornetmail.archive.index.writing.mails import Prepared, Stored
from hornetmail.core.events import Alarm
from hornetmail.db.engines import Cursor, DatabaseFull
from hornetmail.mime.reading.mail import MailText, read_mail
from hornetmail.testing.archives import AUDITOR, mail
from tests.archive.cases import ArchiveCase, told

POISON = mail("Poison apple", "SNOWWHITE words")


def choking(raw: bytes, **more: bool) -> MailText:
    """A parser that trips over one mail."""
    if b"SNOWWHITE" in raw:
        raise RecursionError("too deep")
    return read_mail(raw, **more)


def unstorable(raw: bytes, **more: bool) -> MailText:
    """A parser whose text of one mail no database takes."""
    text = read_mail(raw, **more)
    if b"SNOWWHITE" in raw:
        return MailText(subject=text.subject, sender=text.sender, to=text.to, text="\ud800", date=float("inf"))
    return text


class Poison(ArchiveCase):
    async def _others_are_indexed(self) -> None:
        alarms: list[Alarm] = []
        archive = await self.fresh()
        indexer = archive.standing.writing().indexer
        indexer._alarm = lambda code, text: alarms.append(Alarm(code, text))
        for raw in (mail("Before", "one"), POISON, mail("After", "two"), POISON + b"again\r\n", mail("Last", "three")):
            await self.put(archive, raw)
        await archive.flush()
        assert await self.total(archive, "") == 5
        assert await self.total(archive, "one") == await self.total(archive, "two") == await self.total(archive, "three") == 1
        assert await self.total(archive, "subject:poison") == 2
        assert await self.total(archive, "snowwhite") == 0
        assert [alarm.code for alarm in alarms] == ["archive-unreadable"]
        page = await archive.search(AUDITOR, "subject:poison")
        assert POISON in [await archive.read(AUDITOR, hit.id) for hit in page.results]
        await archive.flush(seal=True)
        found = await archive.rebuild()
        assert told(found, "headers only")
        assert await self.total(archive, "") == 5
        assert await self.total(archive, "subject:poison") == 2

    async def test_a_parser_that_trips(self) -> None:
        """Would catch an index that stands still behind one mail, one that lacks a mail, and an alarm a mail."""
        with mock.patch.object(poison, "read_mail", side_effect=choking) as reading:
            await self._others_are_indexed()
        assert POISON in [call.args[0] for call in reading.call_args_list]

    async def test_a_text_that_no_database_takes(self) -> None:
        """Would catch the same where the batch's transaction fails."""
        batches: list[int] = []

        def watched(cursor: Cursor, batch: Sequence[Prepared]) -> list[Stored]:
            batches.append(len(batch))
            return index.store_batch(cursor, batch)

        with mock.patch.object(poison, "read_mail", unstorable), mock.patch.object(poison, "store_batch", watched):
            await self._others_are_indexed()
        assert max(batches) > 1, "the batch failed"
        assert batches.count(1) >= 3, "and its mails were stored each by itself"

    async def test_a_full_disk_is_no_poison(self) -> None:
        """Would catch sound mail that loses its words because the disk was full for a while."""
        archive = await self.fresh()
        await self.put(archive, mail("Sound", "words to find"))
        with mock.patch.object(poison, "store_batch", side_effect=DatabaseFull("full")), pytest.raises(DatabaseFull):
            await archive.flush()
        await archive.flush()
        assert poison.store_batch is index.store_batch
        assert await self.total(archive, "find") == 1
        self.flushLoggedErrors(DatabaseFull)
