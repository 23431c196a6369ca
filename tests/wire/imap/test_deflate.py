"""COMPRESS=DEFLATE in the engine (RFC 4978)."""

from __future__ import annotations

import itertools
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.wire.engine import NEED_DATA, Broken, Chunk, End, Event
from hornetmail.wire.imap.answers.answers import Continuation, Tagged, Untagged
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.server.deflate import SLICE_BYTES
from hornetmail.wire.imap.server.server import Bounds, ImapServerEngine
from tests.wire.imap.test_engine import greeted


def compressed(engine: ImapServerEngine | None = None) -> tuple[ImapServerEngine, zlib._Compress, zlib._Decompress]:
    engine = greeted(Bounds()) if engine is None else engine
    engine.receive(b"c COMPRESS DEFLATE\r\n")
    event = engine.next_event()
    assert isinstance(event, c.Compress)
    assert event.algorithm == "DEFLATE"
    assert engine.send(Tagged("OK", "on")) == b"c OK on\r\n", "the answer itself is not compressed"
    return engine, zlib.compressobj(9, zlib.DEFLATED, -15), zlib.decompressobj(-15)


def whole(deflater: zlib._Compress, data: bytes) -> bytes:
    return deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)


def test_both_ways() -> None:
    """Catches an answer that the client cannot read before the next one, or a command that waits for more."""
    engine, deflater, inflater = compressed()
    for n in range(3):
        engine.receive(whole(deflater, b"a%d NOOP\r\n" % n))
        assert isinstance(engine.next_event(), c.Noop)
        assert inflater.decompress(engine.send(Untagged(b"* 1 EXISTS\r\n"))) == b"* 1 EXISTS\r\n"
        assert inflater.decompress(engine.send(Tagged("OK", "done"))) == b"a%d OK done\r\n" % n
    assert engine.next_event() is NEED_DATA


def test_refused_or_not_compressed() -> None:
    """Catches a stream that begins at a refusal."""
    engine = greeted(Bounds())
    engine.receive(b"c COMPRESS LZ4\r\nd NOOP\r\n")
    assert isinstance(engine.next_event(), c.Compress)
    assert engine.send(Tagged("NO", "no")) == b"c NO no\r\n"
    assert isinstance(engine.next_event(), c.Noop)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 60), max_size=20))
def test_any_split(cuts: list[int]) -> None:
    """Catches a slice that is lost between two pieces."""
    engine, deflater, _ = compressed()
    data = whole(deflater, b"a APPEND INBOX {70000+}\r\n" + b"z" * 70_000 + b"\r\nb NOOP\r\n")
    places = [0, *sorted({min(at, len(data)) for at in itertools.accumulate(cuts)}), len(data)]
    got = bytearray()
    kinds: list[type[Event]] = []
    for a, b in itertools.pairwise(places):
        engine.receive(data[a:b]) if a < b else None
        while isinstance(event := engine.next_event(), Event):
            if isinstance(event, Chunk):
                got += event.data
                continue
            kinds.append(type(event))
            engine.send(Continuation() if isinstance(event, c.Append) else Tagged("OK", "done"))
    assert got == b"z" * 70_000
    assert kinds == [c.Append, End, c.Noop]


def test_few_bytes_become_many_in_slices() -> None:
    """A bomb: 64 MiB out of 64 KiB. Catches one that is inflated at once, into memory or in one turn, in each place where much may come: a line, a
    literal, a message, and what is passed over."""
    bomb = b"z" * (60 << 20)
    for opening in (
        b"",
        b"a SEARCH SUBJECT {60000+}\r\n",
        b"a APPEND INBOX {62914560+}\r\n",
        b"a SEARCH SUBJECT {62914560+}\r\n",
    ):
        engine, deflater, _ = compressed()
        engine.receive(whole(deflater, opening + bomb + b"\r\n"))
        assert engine.buffered < 100_000
        events = 0
        while isinstance(event := engine.next_event(), Event):
            events += 1
            assert engine.buffered < 300_000, opening
            if isinstance(event, Chunk | c.Passed):
                continue
            engine.send(
                event.suggested
                if isinstance(event, Broken)
                else Continuation()
                if isinstance(event, c.Append)
                else Tagged("OK", "x")
            )
            if engine.closing:
                break
        assert events < 3 * len(bomb) // SLICE_BYTES
        if b"62914560" in opening:
            assert events > len(bomb) // (SLICE_BYTES * 4), "others had their turn meanwhile"
        else:
            assert engine.closing


def test_nonsense_ends_the_connection() -> None:
    """Catches plain text, or a stream that ended, taken for commands; what a client says before it saw the answer counts as compressed."""
    engine = greeted(Bounds())
    engine.receive(b"c COMPRESS DEFLATE\r\na LOGOUT\r\n")
    assert isinstance(engine.next_event(), c.Compress)
    engine.send(Tagged("OK", "on"))
    event = engine.next_event()
    assert isinstance(event, Broken)
    assert event.fatal
    engine, deflater, inflater = compressed()
    engine.receive(deflater.compress(b"a NOOP\r\n") + deflater.flush(zlib.Z_FINISH) + b"b NOOP\r\n")
    assert isinstance(engine.next_event(), c.Noop)
    engine.send(Tagged("OK", "done"))
    event = engine.next_event()
    assert isinstance(event, Broken)
    assert inflater.decompress(engine.send(event.suggested)).endswith(b"* BYE What came is not compressed as was agreed\r\n")
