"""FETCH (RFC 3501 section 6.4.5), streamed: at most about a MiB of message text is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.threads import deferToThreadPool

from hornetmail.core.folder import Entry, FolderError
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.folders import IIndexedFolder
from hornetmail.mime.reading.preview import preview, shown, wanted
from hornetmail.mime.structure import Part
from hornetmail.net.pump import Answer
from hornetmail.servers.imap import binary
from hornetmail.servers.imap.messages import NOWHERE, SOME_GONE
from hornetmail.servers.imap.selecting import vanished
from hornetmail.servers.imap.view import View
from hornetmail.wire.imap import commands as c
from hornetmail.wire.imap.answers import Tagged, Untagged
from hornetmail.wire.imap.dates import render_date_time
from hornetmail.wire.imap.items import Section
from hornetmail.wire.imap.render import nstring
from hornetmail.wire.imap.sequences import SequenceSet
from hornetmail.wire.imap.structure import KNOWN, body_structure, cut, encoding_of, envelope, outweighs, pick_fields, span

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

LIGHT_BATCH = 1000
"""Messages a hop when only figures are asked for."""

HEAD_BATCH = 256
"""Messages a hop when headers are asked for, and no text."""

BATCH = 64
"""Messages a hop when structures or bodies are asked for."""

SEND_BYTES = 65_536
HELD_BYTES = 1 << 20
"""Message text read in one hop."""

STREAM_BYTES = 262_144
"""A larger piece is read and sent in slices of this size."""

HEAVY = 2000
"""Parts, parameters and addresses of a message that are rendered at once: about 5 ms."""

NUL = b"\x80"
"""What a NUL is in a literal, which cannot have one (RFC 3501 section 9, CHAR8); of the same length, as other servers do it."""

Renderer = Callable[[Entry, Any], bytes]
Span = tuple[int, int]


class Half(NamedTuple):
    """A message half answered. ``head``: what is rendered without its text; ``spans``: where the pieces of its text lie (None: it is part of the header,
    or is none); ``encodings``: what has to be undone of each."""

    head: bytes
    entry: Entry
    spans: list[Span | None]
    header: bytes
    encodings: list[str]


async def fetch(session: ImapSession, command: c.Fetch) -> Answer:
    """FETCH and UID FETCH."""
    view = session.selected
    if not command.uid and command.wanted.beyond(len(view.uids)):
        return NOWHERE
    if command.vanished and not session.enabled.qresync:
        return Tagged("BAD", "ENABLE QRESYNC comes first (RFC 7162 section 3.2.6)")
    told = session.condstore() if command.since is not None or "MODSEQ" in command.items.plain else b""
    run = _Fetch(session, view, command)
    run.put(told)
    await run.narrow()
    await run.all()
    data = b"".join(run.out)
    if run.unknown:
        session.wire.send(Untagged(data))
        return Tagged("NO", "The transfer encoding of a part is not known", "UNKNOWN-CTE")
    if trouble := view.folder.trouble() if IIndexedFolder.providedBy(view.folder) else "":
        session.wire.send(Untagged(data))
        return Tagged("NO", trouble, "UNAVAILABLE")
    if run.missing and not command.uid:
        view.dirty = True
        session.wire.send(Untagged(data))
        return Tagged("NO", SOME_GONE, "EXPUNGEISSUED")
    return await session.finish("Fetched", data=data, expunge=command.uid)


class _Fetch:
    """One FETCH under way. ``out``: what is rendered and not yet sent."""

    def __init__(self, session: ImapSession, view: View, command: c.Fetch) -> None:
        self.session = session
        self.view = view
        self.out: list[bytes] = []
        self.held = 0
        self.missing = False
        self.unknown = False
        self._spans = view.spans(command.wanted, command.uid)
        self._sections = command.items.sections
        plain = list(command.items.plain)
        self._marks = not view.readonly and any(not section.peek for section in self._sections)
        if (command.uid or (self._marks and session.enabled.qresync)) and "UID" not in plain:
            plain.insert(0, "UID")  # RFC 7162 section 3.2.4: with each change of flags
        if command.since is not None and "MODSEQ" not in plain:
            plain.append("MODSEQ")
        self._command = command
        self._previewing = "PREVIEW" in plain
        self._previews: dict[int, bytes] = {}
        self._tells_flags = "FLAGS" in plain
        self._tells_modseq = "MODSEQ" in plain
        self._render = [self._renderer(name) for name in plain]
        self._heads = any(of_header(section) for section in self._sections)
        self._trees = any(name in ("ENVELOPE", "BODY", "BODYSTRUCTURE", "PREVIEW") for name in plain) or any(
            (section.path or section.kind or section.decoded) and not of_header(section) for section in self._sections
        )

    def _renderer(self, name: str) -> Renderer:
        match name:
            case "PREVIEW":
                return lambda entry, part: b"PREVIEW " + nstring(self._previews.get(entry.uid))
            case "EMAILID":
                email_id = self.view.folder.email_id
                return lambda entry, part: b"EMAILID (M%b)" % email_id(entry).encode("ascii")
            case "THREADID":
                return lambda entry, part: b"THREADID NIL"  # RFC 8474 section 5.2: threads are what clients make of them
            case "SAVEDATE":
                return lambda entry, part: b"SAVEDATE " + (render_date_time(entry.saved) if entry.saved else b"NIL")
            case "MODSEQ":
                return lambda entry, part: b"MODSEQ (%d)" % entry.modseq
            case "UID":
                return lambda entry, part: b"UID %d" % entry.uid
            case "FLAGS":
                flags = self.view.flags
                return lambda entry, part: b"FLAGS " + flags(entry)
            case "RFC822.SIZE":
                return lambda entry, part: b"RFC822.SIZE %d" % entry.size
            case "INTERNALDATE":
                return lambda entry, part: b"INTERNALDATE " + render_date_time(entry.date)
            case "ENVELOPE":
                return lambda entry, part: b"ENVELOPE " + envelope(part.summary)
            case "BODY":
                return lambda entry, part: b"BODY " + body_structure(part, False)
        return lambda entry, part: b"BODYSTRUCTURE " + body_structure(part, True)

    def _numbered(self) -> Iterator[tuple[int, int]]:
        for start, end in self._spans:
            yield from enumerate(self.view.uids[start:end], start + 1)

    async def narrow(self) -> None:
        """Only what changed after a modseq, and, if it was asked for, what went (RFC 7162 sections 3.1.4.1 and 3.2.6); of that a part (RFC 9394)."""
        view, command = self.view, self._command
        if command.since is not None:
            changes = await view.folder.changes(command.since)
            if command.vanished:
                among = SequenceSet(view.saved) if command.wanted.saved else command.wanted
                self.put(vanished(view, changes, (await view.folder.status()).uidnext, among))
            changed = {entry.uid for entry in changes if not entry.gone}
            self._spans = [(at, at + 1) for start, end in self._spans for at in range(start, end) if view.uids[at] in changed]
        if command.partial is not None:
            self._spans = sliced(self._spans, *command.partial)

    async def all(self) -> None:
        """Every message; what is left in ``out`` goes with the completion."""
        numbered = self._numbered()
        size = BATCH if self._trees or not all(map(of_header, self._sections)) else HEAD_BATCH if self._heads else LIGHT_BATCH
        while batch := list(islice(numbered, size)):
            await self._batch(batch)

    async def _batch(self, batch: list[tuple[int, int]]) -> None:
        folder = self.view.folder
        entries = {entry.uid: entry for entry in await folder.entries([uid for _, uid in batch])}
        seen = await self._mark(entries) if self._marks else frozenset()
        trees: dict[int, Part] = await folder.structures(list(entries)) if self._trees and entries else {}
        if self._previewing:
            self._previews = await self._preview(trees)
        if self._tells_flags:
            self.put(self.view.learned(entries.values()))
        heads = await folder.headers(list(entries)) if self._heads and entries else {}
        group: list[Half] = []
        gathered = 0
        for number, uid in batch:
            if turn := self.session.wire.breathe():
                await turn
            entry = entries.get(uid)
            part = trees.get(uid)
            if entry is None or (part is None and self._trees) or (self._heads and uid not in heads):
                self.missing = True
                continue
            encodings = self._encodings(part)
            if encodings is None:
                self.unknown = True
                continue
            pieces = await self._rendered(entry, part)
            if uid in seen and not self._tells_flags:
                pieces.append(b"FLAGS " + self.view.flags(entry))
            if uid in seen and not self._tells_modseq and self.session.enabled.condstore:
                pieces.append(b"MODSEQ (%d)" % entry.modseq)
            head = b"* %d FETCH (%b" % (number, b" ".join(pieces))
            if not self._sections:
                self.put(head + b")\r\n")
                continue
            spans = [None if of_header(section) else self._span(section, entry, part) for section in self._sections]
            header = heads.get(uid, b"")
            size = sum(s[1] - s[0] for s in spans if s is not None) + len(header)
            if gathered + size > HELD_BYTES and group:
                await self._read(group)
                group, gathered = [], 0
            if size > STREAM_BYTES:
                await self._stream(Half(head, entry, spans, header, encodings))
            else:
                group.append(Half(head, entry, spans, header, encodings))
                gathered += size
        if group:
            await self._read(group)
        elif self.held >= SEND_BYTES:
            await self.send()

    async def _rendered(self, entry: Entry, part: Part | None) -> list[bytes]:
        """What is known without the text; of a large tree in a thread, so that the reactor goes on meanwhile."""
        if part is None or not outweighs(part, HEAVY):
            return [render(entry, part) for render in self._render]
        site = self.session.site
        pieces: list[bytes] = await deferToThreadPool(
            site.from_threads, site.threads, lambda: [render(entry, part) for render in self._render]
        )
        return pieces

    async def _preview(self, trees: dict[int, Part]) -> dict[int, bytes]:
        """The first words of messages (RFC 8970); of one without text they are empty."""
        parts = {uid: shown(tree) for uid, tree in trees.items()}
        read = [(uid, part) for uid, part in parts.items() if part is not None]
        texts = await self.view.folder.pieces([(uid, part.body, wanted(part)) for uid, part in read]) if read else ()
        found = dict.fromkeys((uid for uid, part in parts.items() if part is None), b"")
        for (uid, part), text in zip(read, texts, strict=True):
            if text is not None:
                found[uid] = preview(part, text).encode()
            if turn := self.session.wire.breathe():
                await turn
        return found

    async def _mark(self, entries: dict[int, Entry]) -> frozenset[int]:
        r"""Reading sets \Seen; the UIDs that were unseen."""
        unseen = [uid for uid, entry in entries.items() if "\\Seen" not in entry.flags]
        if not unseen:
            return frozenset()
        try:
            stored = await self.view.folder.store(unseen, ("\\Seen",))
        except FolderError as error:
            if error.code == "INUSE":
                return frozenset()
            raise
        self.view.told(stored)
        entries.update((entry.uid, entry) for entry in stored)
        return frozenset(entry.uid for entry in stored)

    def _span(self, section: Section, entry: Entry, part: Part | None) -> Span | None:
        """What has to be read for a section; its partial is cut already unless fields are to be picked."""
        if part is None or not (section.path or section.kind):
            found: Span | None = (0, entry.size)
        else:
            found = span(part, section)
        if found is None or section.fields or section.decoded:
            return found
        return cut(section, *found)

    def _encodings(self, part: Part | None) -> list[str] | None:
        """What has to be undone for each section, ``""`` for nothing; None if one of them is unknown (RFC 3516 section 4.3)."""
        found = [encoding_of(part, section) or "" if section.decoded and part is not None else "" for section in self._sections]
        return None if any(name and name not in KNOWN for name in found) else found

    async def _read(self, group: list[Half]) -> None:
        """Read the pieces of some messages in one hop and render them."""
        wanted = [(half.entry.uid, s[0], s[1] - s[0]) for half in group for s in half.spans if s is not None]
        found = iter(await self.view.folder.pieces(wanted) if wanted else ())
        for half in group:
            if turn := self.session.wire.breathe():
                await turn
            texts = [None if s is None else next(found) for s in half.spans]
            if any(text is None and s is not None for text, s in zip(texts, half.spans, strict=True)):
                self.missing = True
                continue
            pieces = [
                binary.answer(section, text, encoding)
                if section.decoded
                else _labelled(section, _cut(section, half.header) if of_header(section) else text)
                for section, text, encoding in zip(self._sections, texts, half.encodings, strict=True)
            ]
            self.put(b"%b%b%b)\r\n" % (half.head, _glue(half.head), b" ".join(pieces)))
        if self.held >= SEND_BYTES:
            await self.send()

    async def _stream(self, half: Half) -> None:
        """A message too large to be held."""
        try:
            body = await self.view.folder.body(half.entry.uid)
        except FolderError:
            self.missing = True
            return
        self.put(half.head + _glue(half.head))
        for n, (section, found) in enumerate(zip(self._sections, half.spans, strict=True)):
            if n:
                self.put(b" ")
            if of_header(section):
                self.put(_labelled(section, _cut(section, half.header)))
                continue
            if section.decoded:
                await self._stream_decoded(section, body, found, half.encodings[n])
                continue
            if found is None or section.fields:
                text = None if found is None else await body.read(found[0], found[1] - found[0])
                self.put(_labelled(section, text))
                continue
            start, end = found
            self.put(b"%b {%d}\r\n" % (_label(section), end - start))
            while start < end:
                text = await body.read(start, min(STREAM_BYTES, end - start))
                if not text:
                    self.session.wire.close()
                    raise FolderError("UNAVAILABLE", "The message ends too early")
                start += len(text)
                self.put(text.replace(b"\0", NUL))
                await self.send()
        self.put(b")\r\n")

    async def _stream_decoded(self, section: Section, body: IBody, found: Span | None, encoding: str) -> None:
        """A part with its encoding undone. Raises FolderError."""
        if found is None:
            self.put(binary.answer(section, None, encoding))
            return
        part = binary.Large(body, found, encoding, STREAM_BYTES, self.session.wire)
        size, nul = await part.measured(section)
        if section.decoded == "BINARY.SIZE":
            self.put(b"%b %d" % (section.label, size))
            return
        self.put(binary.opening(section, size, nul))
        try:
            async for piece in part.data(section):
                self.put(piece)
                await self.send()
        except FolderError:
            self.session.wire.close()  # half of it is out
            raise

    def put(self, data: bytes) -> None:
        """Rendered, to be sent soon."""
        self.out.append(data)
        self.held += len(data)

    async def send(self) -> None:
        """Send what is rendered; returns when more may come."""
        data = b"".join(self.out)
        self.out.clear()
        self.held = 0
        wire = self.session.wire
        wire.send(Untagged(data))
        await wire.drained()


def sliced(spans: Sequence[Span], first: int, last: int) -> list[Span]:
    """The messages ``first`` to ``last`` of those in ``spans``, from 1 or, negative, from the end (RFC 9394 section 3.2)."""
    count = sum(end - start for start, end in spans)
    low, high = (first - 1, last) if first > 0 else (count + last, count + first + 1)
    found: list[Span] = []
    for start, end in spans:
        size = end - start
        if low < size and high > 0:
            found.append((start + max(low, 0), start + min(high, size)))
        low, high = low - size, high - size
    return found


def _glue(head: bytes) -> bytes:
    return b"" if head.endswith(b"(") else b" "


def _label(section: Section) -> bytes:
    return section.label if section.start < 0 else b"%b<%d>" % (section.label, section.start)


def _labelled(section: Section, text: bytes | None) -> bytes:
    if text is None:
        return _label(section) + b" NIL"
    if section.fields:
        text = pick_fields(text, section)
        start, end = cut(section, 0, len(text))
        text = text[start:end]
    return b"%b {%d}\r\n%b" % (_label(section), len(text), text.replace(b"\0", NUL))


def of_header(section: Section) -> bool:
    """Whether it is the message's own header, or fields of it: that is kept, and no file is opened for it."""
    return section.kind.startswith("HEADER") and not section.path


def _cut(section: Section, header: bytes) -> bytes:
    """A partial's piece; fields are picked first, by ``_labelled``."""
    if section.fields:
        return header
    start, end = cut(section, 0, len(header))
    return header[start:end]
