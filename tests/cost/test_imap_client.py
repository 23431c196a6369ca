"""What a server can make the IMAP client's engine do (rule 8d): twice as much never costs much more than twice."""

from __future__ import annotations

import time

import pytest

from hornetmail.core.delivery.filing import newest_first
from hornetmail.core.folder import Entry
from hornetmail.wire.engine import NEED_DATA
from hornetmail.wire.imap.client import commands as c
from hornetmail.wire.imap.client.engine import ClientEngine
from hornetmail.wire.imap.client.reader import RESPONSE_BYTES
from tests.cost.turns import MOST, calm, grows

SAID: dict[str, tuple[bytes, bytes, bytes]] = {
    "numbers": (b"* SEARCH", b" 123", b"\r\n"),
    "falling numbers": (b"* SEARCH", b" 9 7 5", b"\r\n"),
    "ranges": (b'* ESEARCH (TAG "h2") UID ALL 1', b",3:4", b"\r\n"),
    "flags": (b"* 1 FETCH (FLAGS (a", b" a", b"))\r\n"),
    "items": (b"* 1 FETCH (UID 1", b" X 1", b")\r\n"),
    "sections": (b"* 1 FETCH (UID 1", b" BODY[1] NIL", b")\r\n"),
    "open sections": (b"* 1 FETCH (", b"BODY[", b" {3}\r\n"),
    "parentheses": (b"* 1 FETCH (X ", b"()", b")\r\n"),
    "nested": (b"* 1 FETCH (X ", b"(", b"\r\n"),
    "strings": (b"* 1 FETCH (X (", b'"a" ', b"))\r\n"),
    "literals": (b"* 1 FETCH (X (", b"{1}\r\na ", b"))\r\n"),
    "empty literals": (b"* 1 FETCH (X (", b"{0}\r\n", b"))\r\n"),
    "backslashes": (b'* LIST () "/" "', b"\\\\", b'"\r\n'),
    "namespaces": (b"* NAMESPACE (", b'("" "/")', b")\r\n"),
    "capabilities": (b"* CAPABILITY", b" X", b"\r\n"),
    "text": (b"* OK [", b"x", b"\r\n"),
    "carriage returns": (b"* OK ", b"\r", b"\r\n"),
    "a line that does not end": (b"* OK ", b"x", b""),
}


def hear(said: bytes, piece: int) -> None:
    engine = ClientEngine()
    engine.receive(b"* PREAUTH [CAPABILITY IMAP4rev1 ESEARCH] hi\r\n")
    engine.next_event()
    engine.send(c.Select(b"INBOX"))
    engine.receive(b"h1 OK\r\n")
    engine.next_event()
    engine.send(c.UidSearch(("ALL",)) if b"SEARCH" in said[:12] else c.UidFetch(((1, 1),), ("X",), 10))
    for at in range(0, len(said), piece):
        engine.receive(said[at : at + piece])
        while not engine.closing and engine.next_event() is not NEED_DATA:
            pass


@pytest.mark.parametrize("name", SAID)
def test_linear(name: str) -> None:
    """A response that costs more than it is long: a server could hold up everybody (rule 8d)."""
    head, middle, tail = SAID[name]
    grows(lambda size: hear(head + middle * (size // len(middle)) + tail, 16_384), 100_000)


@pytest.mark.parametrize("name", SAID)
def test_small_pieces(name: str) -> None:
    """The same byte for byte: what waits for its end is looked at once, not with each byte anew."""
    head, middle, tail = SAID[name]
    grows(lambda size: hear(head + middle * (size // len(middle)) + tail, 7), 20_000)


def test_the_largest_is_no_long_turn() -> None:
    """A search with as many results as a response may have, in one turn."""
    said = b"* SEARCH" + b" 4000000" * (RESPONSE_BYTES // 8 - 2)

    def longest() -> float:
        engine = ClientEngine()
        engine.receive(b"* PREAUTH hi\r\n")
        engine.next_event()
        engine.send(c.Select(b"INBOX"))
        engine.receive(b"h1 OK\r\n")
        engine.next_event()
        engine.send(c.UidSearch(("ALL",)))
        engine.receive(said)
        engine.next_event()
        engine.receive(b"\r\n")
        began = time.thread_time()
        assert isinstance(engine.next_event(), c.Found)
        return time.thread_time() - began

    assert calm(longest) < MOST


def test_newest_first_of_a_large_folder() -> None:
    """What a pass does with all of a folder at once is one turn each (``Filing._todo``)."""
    entries = [Entry(uid, 1, frozenset({"\\Seen"}), 1, float(uid * 7919 % 50_000), str(uid)) for uid in range(50_000)]

    def seconds() -> float:
        began = time.thread_time()
        newest_first(entries)
        return time.thread_time() - began

    assert calm(seconds) < MOST
    grows(lambda count: newest_first(entries[:count]), 12_500)
