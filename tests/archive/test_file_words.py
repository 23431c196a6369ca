"""Files that hang on archived mail are found by their words: behind the mail, in processes of their own."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from zope.interface import implementer

from hornetmail.archive.archive import Archive
from hornetmail.archive.index.writing.unread import count_unread
from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.extraction.readers import Readers, ReaderSettings
from hornetmail.interfaces.readers import IReaders, ReadersAway, ReadingFailed
from hornetmail.mime.reading.mail import FileWords, MailText, read_mail
from hornetmail.testing.archives import AUDITOR
from tests.archive.cases import ArchiveCase
from tests.extraction import samples
from tests.findable import attached, mixed, text


def with_file(name: str, data: bytes, subject: str = "s") -> bytes:
    return f"From: a@example.test\r\nTo: b@example.test\r\nSubject: {subject}\r\n".encode() + mixed(
        text(b"Ameise"), attached(data, "application/octet-stream", name)
    )


@implementer(IReaders)
class Scripted:
    """Reads as it is told to."""

    processes = 1

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.says: list[Any] = []
        self.held: list[Deferred[MailText]] = []
        self.met: Deferred[None] = Deferred()

    async def read(self, raw: bytes) -> MailText:
        self.asked.append(raw)
        if not self.met.called:
            self.met.callback(None)
        if self.says:
            said = self.says.pop(0)
            if isinstance(said, Exception):
                raise said
            if isinstance(said, Deferred):
                self.held.append(said)
                await said
        return read_mail(raw, files=lambda name, data: FileWords(data.decode("latin-1")))


class FoundByFiles(ArchiveCase):
    async def waiting(self, archive: Archive) -> int:
        return await archive.index().read(count_unread)

    async def unsearched(self, archive: Archive, query: str) -> tuple[str, ...]:
        return (await archive.mail(AUDITOR, (await self.only(archive, query)).id)).unsearched

    async def test_every_kind(self) -> None:
        """Would catch a kind of file whose words find nothing, through real processes; and the mail that is found later than by its own words."""
        readers = Readers(reactor, ReaderSettings(processes=2))
        self.addCleanup(lambda: Deferred.fromCoroutine(readers.stop()))
        archive = await self.fresh(readers=readers)
        for name in samples.MADE:
            await self.put(archive, with_file(name, samples.made(name), name.replace(".", "")))
        await self.put(archive, with_file("sealed.pdf", samples.made("sealed.pdf"), "sealed"))
        await archive.flush()
        assert await self.total(archive, "Ameise") == len(samples.MADE) + 1
        await archive.words_read()
        for name, words in samples.MADE.items():
            for word in words:
                assert await self.total(archive, f"attachment:{word} subject:{name.replace('.', '')}") == 1, (name, word)
            assert await self.unsearched(archive, f"subject:{name.replace('.', '')}") == ()
        assert await self.unsearched(archive, "subject:sealed") == ("sealed.pdf: it is encrypted",)

    async def test_a_restart(self) -> None:
        """Would catch files that were waiting, or being read, when the service stopped, and are never read."""
        readers = Scripted()
        readers.says = [Deferred() for _ in range(5)]
        archive = await self.fresh(readers=readers)
        for number in range(5):
            await self.put(archive, with_file("a.pdf", b"%%PDF- Biene%d" % number, f"n{number}"))
        await archive.flush()
        await readers.met
        assert await self.unsearched(archive, "subject:n3") == ("a.pdf: not read yet",)
        await archive.stop()
        again = await self.reopened(readers=Scripted())
        await again.words_read()
        for number in range(5):
            assert (await self.only(again, f"Biene{number} Ameise")).subject == f"n{number}"
        assert await self.waiting(again) == 0

    async def test_nobody_reads(self) -> None:
        """Would catch a reader that cannot be started and is given up for ever, or told to nobody; rule 8f: the alarm ends with its cause."""
        said: list[Any] = []

        class Bus:
            def publish(self, event: object) -> None:
                said.append(event)

            def subscribe(self, *_: Any) -> None: ...

        readers = Scripted()
        readers.says = [ReadersAway("no memory")]
        archive = await self.fresh(readers=readers, bus=Bus())
        await self.put(archive, with_file("a.pdf", b"%PDF- Biene"))
        await archive.flush()
        await archive.words_read()
        assert (await archive.figures()).unread == 1
        assert [one.code for one in said if isinstance(one, Alarm)] == ["archive-files"]
        archive.standing.writing().words.wake()
        await archive.words_read()
        assert await self.total(archive, "Biene") == 1
        assert "archive-files" in [one.code for one in said if isinstance(one, AlarmEnded)]

    async def test_one_that_cannot_be_read(self) -> None:
        """Would catch a mail that ends every reader and holds up the others, or is tried without end, or does not say so."""
        readers = Scripted()
        readers.says = [ReadingFailed("its reader ended by signal 9"), ValueError("x")]
        archive = await self.fresh(readers=readers)
        for number in range(3):
            await self.put(archive, with_file("a.pdf", b"%%PDF- Biene%d" % number, f"n{number}"))
        await archive.flush()
        await archive.words_read()
        assert len(readers.asked) == 3
        assert await self.waiting(archive) == 0
        said = [(await self.unsearched(archive, f"subject:n{number}")) for number in range(3)]
        assert sorted(said) == [
            (),
            ("a.pdf: its reader ended by signal 9",),
            ("a.pdf: its words cannot be put into the index: ValueError('x')",),
        ]
        assert await self.total(archive, "Ameise") == 3
        self.flushLoggedErrors(ValueError)

    async def test_what_comes_again_and_what_goes(self) -> None:
        """Would catch the words of files that are lost when the same mail comes again, is sealed, or is indexed anew; and what is left of mail that went."""
        archive = await self.fresh(readers=Scripted())
        raw = with_file("a.pdf", b"%PDF- Biene")
        await self.put(archive, raw)
        await archive.flush()
        await archive.words_read()
        await self.put(archive, raw, recipients=("carol@example.test",))
        await archive.flush(seal=True)
        await archive.words_read()
        assert await self.total(archive, "Biene") == 1
        await archive.rebuild()
        await archive.words_read()
        assert await self.total(archive, "Biene") == 1
        assert await self.waiting(archive) == 0
        await archive.confirm_purge()
        assert await self.night(archive, 200) == (1, 0)
        assert await self.night(archive, 201) == (0, 1)
        assert await self.total(archive, "Ameise") == 0
        assert await self.total(archive, "Biene") == 0

    async def test_turned_off(self) -> None:
        """Would catch files that are forgotten while nobody reads: they are read when somebody does again."""
        archive = await self.fresh()
        await self.put(archive, with_file("a.pdf", b"%PDF- Biene"))
        await archive.flush()
        await archive.words_read()
        assert await self.total(archive, "Biene") == 0
        await archive.stop()
        again = await self.reopened(readers=Scripted())
        await again.words_read()
        assert await self.total(again, "Biene") == 1
