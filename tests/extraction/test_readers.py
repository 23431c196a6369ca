"""Processes that read: what they may not, and what becomes of those that die, are late, or say what they should not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from hornetmail.extraction.frames import Answers, BadFrame, Begun, Done, Ready, Task, frame
from hornetmail.extraction.readers import PIECE, Readers, ReaderSettings, _Pieces
from hornetmail.interfaces.readers import ReadersAway, ReadingFailed
from hornetmail.mime.reading.mail import MailText
from tests.extraction import samples
from tests.findable import attached, mixed, text

CONFINED = """
import socket, sys
from hornetmail.extraction.confinement import confine
confine(600 << 20)
def refused(what, error):
    try:
        what()
    except error as met:
        return type(met).__name__
    return "allowed"
import os
print(refused(lambda: socket.socket(), OSError), refused(lambda: open("/etc/passwd"), OSError), refused(lambda: bytearray(1 << 30), MemoryError),
      refused(lambda: os.pipe(), OSError))
"""

DYING = """
import os, sys
from hornetmail.extraction import child, files
read = files.Reader._words
def words(self, name, data, into, unread, depth):
    if b"DIES" in data[:100]:
        os.kill(os.getpid(), 11)
    while b"SPINS" in data[:100]:
        pass
    if b"HUGE" in data[:100]:
        bytearray(1 << 40)
    if b"LIES" in data[:100]:
        os.write(self._begins.__self__._answers.fileno(), b"\\xff" * 8)
    return read(self, name, data, into, unread, depth)
files.Reader._words = words
child.main(int(sys.argv[1]), float(sys.argv[2]))
"""
"""A reader with the faults that libraries have."""


def a_mail(*files: tuple[str, bytes]) -> bytes:
    return b"Subject: s\r\n" + mixed(text(b"Ameise"), *(attached(data, "application/pdf", name) for name, data in files))


class Reading(TestCase):
    def readers(self, **settings: Any) -> Readers:
        readers = Readers(reactor, ReaderSettings(**settings))
        self.addCleanup(lambda: Deferred.fromCoroutine(readers.stop()))
        return readers

    def faulty(self, seconds: float = 60.0) -> Readers:
        place = Path(self.mktemp())
        place.write_text(DYING)
        return self.readers(command=(sys.executable, str(place.resolve())), seconds=seconds)

    async def test_one_that_died_while_it_had_nothing_to_do(self) -> None:
        """It was ended for being idle, or killed, and its death is not heard of yet: would catch a mail that is handed to it then, and whose files are given up for ever."""
        readers = self.readers()
        mail = a_mail(("a.pdf", b"%PDF-"))
        for end in (lambda one: one.end(), lambda one: os.kill(one.transport.pid, signal.SIGKILL)):
            await readers.read(mail)
            [idle] = readers._idle
            end(idle)
            assert (await readers.read(mail)).subject == "s"

    async def test_a_reader_that_dies_before_any_file(self) -> None:
        """A mail that ends each reader before it comes to a file: would catch one that is tried for ever."""
        place = Path(self.mktemp())
        place.write_text(
            "import os\nfrom hornetmail.extraction.frames import Ready, frame\nos.write(1, frame(Ready()))\nos.read(0, 1)\nos.kill(os.getpid(), 11)\n"
        )
        readers = self.readers(command=(sys.executable, str(place.resolve())))
        with pytest.raises(ReadingFailed, match="signal 11"):
            await readers.read(a_mail(("a.pdf", b"%PDF-")))

    async def test_read(self) -> None:
        """Would catch a process that lacks something to read with once it may open nothing any more."""
        readers = self.readers(processes=2)
        for name, words in samples.MADE.items():
            found = await readers.read(a_mail((name, samples.made(name))))
            assert not found.unsearched, found.unsearched
            assert not found.waiting
            assert words[0] in found.attached
            assert found.text == "Ameise"

    async def test_large(self) -> None:
        """Rule 8d: would catch a large mail of which a turn copies all, and one that arrives cut off or not at all."""
        written: list[int] = []

        class Pipe:
            def write(self, data: bytes) -> None:
                written.append(len(data))

            def unregisterProducer(self) -> None:
                written.append(0)

        pieces = _Pieces(Pipe(), bytes(3 * PIECE + 1))
        while 0 not in written:
            pieces.resumeProducing()
        assert written == [PIECE, PIECE, PIECE, 1, 0]
        readers = self.readers()
        for size in (PIECE, 20 << 20):
            found = await readers.read(a_mail(("a.bin", bytes(size))) + b"x" * size)
            assert found.whole

    async def test_one_dies(self) -> None:
        """Would catch a file that takes its reader with it, and the words of the others with that."""
        readers = self.faulty()
        files = [("a.rtf", samples.made("text.rtf")), ("b.pdf", b"DIES"), ("c.pdf", b"HUGE"), ("d.rtf", samples.made("text.rtf"))]
        found = await readers.read(a_mail(*files, ("e.pdf", b"LIES")))
        assert found.unsearched[0] == "b.pdf: its reader ended by signal 11"
        assert found.unsearched[1] == "c.pdf: it needs too much memory"
        assert found.unsearched[2].startswith("e.pdf: its reader answered what it should not")
        assert found.attached.count("Schnabeltier") == 2
        assert (await readers.read(a_mail(("a.rtf", b"{\\rtf1 Biene}")))).attached == "Biene"

    async def test_one_is_late(self) -> None:
        """Would catch a file that is read for ever."""
        found = await self.faulty(1.0).read(a_mail(("a.pdf", b"SPINS"), ("b.rtf", b"{\\rtf1 Biene}")))
        assert found.unsearched == ("a.pdf: it takes too long",)
        assert found.attached == "Biene"

    async def test_all_die(self) -> None:
        """Would catch a mail of a thousand such files that is read a thousand times."""
        with pytest.raises(ReadingFailed):
            await self.faulty().read(a_mail(*((f"{n}.pdf", b"DIES") for n in range(20))))

    async def test_cannot_begin(self) -> None:
        """Would catch a reader that cannot be started, and a mail that is given up, or read in vain without end, because of it."""
        readers = self.readers(command=(sys.executable, "-c", "raise SystemExit(3)"))
        with pytest.raises(ReadersAway):
            await readers.read(a_mail(("a.pdf", b"")))

    async def test_given_up(self) -> None:
        """Would catch a process that goes on when nobody waits for it any more."""
        readers = self.faulty(600.0)
        reading = Deferred.fromCoroutine(readers.read(a_mail(("a.pdf", b"SPINS"))))
        reading.cancel()
        with pytest.raises(CancelledError):
            await reading
        assert (await readers.read(a_mail(("a.rtf", b"{\\rtf1 Biene}")))).attached == "Biene"


def test_confined() -> None:
    """Would catch a reader that opens files or connections, or takes all memory."""
    said = subprocess.run([sys.executable, "-c", CONFINED], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["OSError", "OSError", "MemoryError", "OSError"]


def test_frames() -> None:
    """Would catch an answer that is believed whatever it is: too long, cut anywhere, of another shape."""
    said = [Ready(), Begun(3, "a.pdf"), Done(MailText(subject="s", text="Ä"))]
    whole = b"".join(map(frame, said))
    answers = Answers()
    assert [one for at in range(len(whole)) for one in answers.feed(whole[at : at + 1])] == said
    for bad in (b"\xff\xff\xff\xff", frame(Task(1)), b"\0\0\0\1\xc1"):
        with pytest.raises(BadFrame):
            list(Answers().feed(bad))
