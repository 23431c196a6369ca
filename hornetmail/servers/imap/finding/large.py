"""What the body of a message has that is too large to be held: it is read in slices, each looked through in a thread (``tests/servers/imap/test_large.py``: memory
stays flat)."""

from __future__ import annotations

from codecs import IncrementalDecoder
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from twisted.internet.threads import deferToThreadPool

from hornetmail.core.folder import FolderError
from hornetmail.interfaces.body import IBody
from hornetmail.mime.structure import Part
from hornetmail.mime.transfer import BEGINNING, Decoder, Fitting, decoder_of, label_in
from hornetmail.servers.imap.finding.match import Seeker, header_text

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

SLICE_BYTES = 262_144
"""Read and looked through at a time."""


async def found(session: ImapSession, body: IBody, root: Part, needles: frozenset[str]) -> frozenset[str]:
    """Which of the needles the text parts, decoded, or the headers of parts have. Raises FolderError EXPUNGEISSUED if the message goes meanwhile."""
    seeker = Seeker(needles)
    for part, top in _below(root, top=True):
        if not seeker.left:
            break
        if not top:
            header = await body.read(part.start, part.body - part.start)
            await _apart(session, seeker, header)
        if not part.parts and part.type in ("TEXT", "MESSAGE"):
            await _look(session, body, part, seeker)
    return needles - seeker.left


def _below(part: Part, *, top: bool) -> Iterator[tuple[Part, bool]]:
    """A part and those in it, in their order, and whether it is the whole message."""
    yield part, top
    for child in part.parts:
        yield from _below(child, top=False)


async def _apart(session: ImapSession, seeker: Seeker, header: bytes) -> None:
    seeker.feed(header_text(header, 0, len(header)))
    seeker.ends()
    if turn := session.wire.breathe():
        await turn


async def _look(session: ImapSession, body: IBody, part: Part, seeker: Seeker) -> None:
    """One text: once to know its charset, and once more for what it says."""
    site = session.site
    label = part.param("charset") or ""
    if part.subtype == "HTML":
        beginning = await body.read(part.body, min(BEGINNING, part.end - part.body))
        label = label_in(beginning, part.encoding, part.subtype, label)
    fitting = Fitting(label)
    decoder = decoder_of(part.encoding)
    async for raw, _ in _slices(body, part):
        await deferToThreadPool(site.from_threads, site.threads, _fit, fitting, decoder, raw)
    fitting.feed(decoder.end())
    reader = fitting.reader()
    decoder = decoder_of(part.encoding)
    async for raw, last in _slices(body, part):
        await deferToThreadPool(site.from_threads, site.threads, _seek, seeker, decoder, reader, raw, last)
        if not seeker.left:
            return
    seeker.ends()


async def _slices(body: IBody, part: Part) -> AsyncIterator[tuple[bytes, bool]]:
    """The bytes of a part, and whether they are the last. Raises FolderError if the message is shorter than it was."""
    at = part.body
    while at < part.end:
        raw = await body.read(at, min(SLICE_BYTES, part.end - at))
        if not raw:
            raise FolderError("EXPUNGEISSUED", "The message ends too early")
        at += len(raw)
        yield raw, at >= part.end


def _fit(fitting: Fitting, decoder: Decoder, raw: bytes) -> None:
    fitting.feed(decoder.feed(raw))


def _seek(seeker: Seeker, decoder: Decoder, reader: IncrementalDecoder, raw: bytes, last: bool) -> None:
    data = decoder.feed(raw) + (decoder.end() if last else b"")
    seeker.feed(reader.decode(data, last).casefold())
