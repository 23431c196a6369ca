"""SEARCH through bodies that are too large to be held."""

from __future__ import annotations

import base64
import tracemalloc

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ConnectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from hornetmail.servers.imap.finding import search
from hornetmail.servers.imap.finding.large import SLICE_BYTES
from hornetmail.servers.imap.finding.match import Seeker
from hornetmail.servers.imap.finding.search import HELD_BYTES
from tests.servers.imap.door import SIMPLE, Door, Talk

HAY = b"hay and straw of the last year\r\n"


def large(needle: bytes, size: int, headers: bytes = b"", encode: bool = False) -> bytes:
    """A message with the needle across the end of a slice, and some of it in another part's header."""
    body = HAY * (size // len(HAY))
    at = SLICE_BYTES * 3 - len(needle) // 2
    body = body[:at] + needle + body[at:]
    if encode:
        body = base64.encodebytes(body[: size // 2]).replace(b"\n", b"\r\n") + base64.encodebytes(
            b"behind a second run " + needle
        ).replace(b"\n", b"\r\n")
    return b"Subject: large\r\n" + headers + b"\r\n" + body


@pytest.mark.parametrize("cut", range(1, 8))
def test_across_the_ends_of_pieces(cut: int) -> None:
    """Catches words that lie in two slices, or letters whose marks do."""
    text = "xx gru\u0308sse yy"
    seeker = Seeker(("gr\u00fcsse", "nothing"))
    for at in range(0, len(text), cut):
        seeker.feed(text[at : at + cut])
    assert seeker.left == {"nothing"}
    seeker.feed("noth")
    seeker.ends()
    seeker.feed("ing")
    assert seeker.left == {"nothing"}


class Large(TestCase):
    """With real threads."""

    async def heard(self, talk: Talk, said: bytes) -> bytes:
        data = talk.say(said)
        while b"\r\n%b OK " % said[:1] not in data:
            await deferLater(reactor, 0.01)
            data += talk.heard()
        return data

    def door(self) -> Door:
        door = Door(reactor)
        door.threads.start()
        self.addCleanup(door.threads.stop)
        return door

    async def test_what_is_found(self) -> None:
        """The same as in small ones: by charset, by transfer encoding, behind a second run of base64, in the headers of parts."""
        self.patch(search, "HELD_BYTES", SLICE_BYTES)
        door = self.door()
        size = SLICE_BYTES * 5
        door.inbox.add(large("Gr\u00fc\u00dfe".encode("latin-1"), size, b"Content-Type: text/plain; charset=iso-8859-1\r\n"))
        door.inbox.add(large("Gr\u00fc\u00dfe".encode(), size, b"Content-Type: text/plain; charset=us-ascii\r\n"))
        door.inbox.add(
            large(
                "Gru\u0308\u00dfe".encode(),
                size,
                b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n",
                encode=True,
            )
        )
        door.inbox.add(large(b"nothing", size))
        door.inbox.add(SIMPLE.replace(b"Hello", "Gr\u00fc\u00dfe".encode()))
        inner = (
            large(b"nothing", size, b"Content-Type: multipart/mixed; boundary=b\r\n")
            + b"\r\n--b\r\nX-Note: needle in a part\r\n\r\nx\r\n--b--\r\n"
        )
        door.inbox.add(inner)
        talk = door.connect().login()
        talk.say(b"a SELECT INBOX")
        assert (await self.heard(talk, b"b SEARCH BODY {7+}\r\nGR\xc3\x9cSSE")).startswith(b"* SEARCH 1 2 3 5\r\n")
        assert (await self.heard(talk, b"c SEARCH BODY second NOT BODY nothing")).startswith(b"* SEARCH 3\r\n")
        assert (await self.heard(talk, b"d SEARCH BODY needle SUBJECT large")).startswith(b"* SEARCH 6\r\n")
        assert (await self.heard(talk, b"e SEARCH TEXT large NOT BODY x-note BODY straw")).startswith(b"* SEARCH 1 2 3 4\r\n")
        talk.pump.connectionLost(Failure(ConnectionDone()))

    async def test_memory_stays_flat(self) -> None:
        """Four people search a mail of 45 MB at a time: it took 2.1 GB. Catches texts that are held, or decoded, as a whole."""
        door = self.door()
        door.inbox.add(large("\U0001f40e".encode() + b" needle", 45 << 20, b"Content-Type: text/plain; charset=utf-8\r\n"))
        await door.inbox.structures([1])
        talks = [door.connect().login() for _ in range(4)]
        for talk in talks:
            await self.heard(talk, b"a SELECT INBOX")
        tracemalloc.start()
        try:
            answers = await DeferredList(
                [Deferred.fromCoroutine(self.heard(talk, b"b SEARCH BODY {5+}\r\nhorse BODY needle")) for talk in talks]
            )
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert [answer[:10] for _, answer in answers] == [b"* SEARCH\r\n"] * 4
        assert peak < 4 * HELD_BYTES, peak
        for talk in talks:
            talk.pump.connectionLost(Failure(ConnectionDone()))
