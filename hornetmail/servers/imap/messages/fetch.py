"""FETCH (RFC 3501 section 6.4.5), streamed: at most about a MiB of message text is held, half of it read ahead."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from hornetmail.core.folder import Entry, FolderError
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.folders import IIndexedFolder
from hornetmail.mime.reading.preview import preview, shown, wanted
from hornetmail.mime.structure import Part
from hornetmail.net.serving.pump import Answer
from hornetmail.servers.imap.folders.selecting import vanished
from hornetmail.servers.imap.messages import binary
from hornetmail.servers.imap.messages.columns import NUL, Columns, Gathered, Span, labelled, of_header, opening
from hornetmail.servers.imap.messages.messages import NOWHERE, SOME_GONE
from hornetmail.servers.imap.view import View
from hornetmail.wire.imap.answers.answers import Tagged, Untagged
from hornetmail.wire.imap.answers.ready import asked
from hornetmail.wire.imap.answers.structure import KNOWN, body_structure, cut, encoding_of, envelope, outweighs, span
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.requests.items import Section
from hornetmail.wire.imap.tokens.sequences import SequenceSet

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

LIGHT = 1000
"""Messages gathered at a time when only figures are asked for."""

KEPT = 256
"""When what is kept in the form of the wire is asked for."""

HEADS = 128
"""When whole headers or texts are asked for."""

TREES = 64
"""When structures are needed."""

SLICE = 64
"""Sections of messages that are rendered at once, or those of one message."""

SEND_BYTES = 65_536
HELD_BYTES = 1 << 19
"""Message text read in one hop; while it is sent the next is read."""

STREAM_BYTES = 262_144
"""A larger piece is read and sent in slices of this size."""

HEAVY = 2000
"""Parts, parameters and addresses of a message that are rendered at once: about 5 ms."""

UNREADABLE = 8
"""Messages of one command that cannot be read before it is given up."""

_NOTHING = (b"", b"")
_NO_FIELDS = (-1, b"")

T = TypeVar("T")


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
    if run.unreadable:
        session.wire.send(Untagged(data))
        return Tagged("NO", f"{run.unreadable} messages cannot be read now", "UNAVAILABLE")
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
    """One FETCH under way. ``out``: what is rendered and not yet sent. While some messages are told of, the next ones are gathered."""

    def __init__(self, session: ImapSession, view: View, command: c.Fetch) -> None:
        self.session = session
        self.view = view
        self.out: list[bytes] = []
        self.held = 0
        self.missing = False
        self.unknown = False
        self.unreadable = 0
        self._spans = view.spans(command.wanted, command.uid)
        sections = self._sections = command.items.sections
        plain = list(command.items.plain)
        self._marks = not view.readonly and any(not section.peek for section in self._sections)
        if (command.uid or (self._marks and session.enabled.qresync)) and "UID" not in plain:
            plain.insert(0, "UID")  # RFC 7162 section 3.2.4: with each change of flags
        if command.since is not None and "MODSEQ" not in plain:
            plain.append("MODSEQ")
        self._command = command
        self._columns = Columns(view, plain, sections, session.enabled.condstore)
        self._tells_flags = "FLAGS" in plain
        self._previewing = "PREVIEW" in plain
        self._bodies = "BODY" in plain
        self._summaries = "ENVELOPE" in plain or "BODYSTRUCTURE" in plain
        self._fields = any(asked(section) for section in sections)
        self._heads = any(of_header(section) and not asked(section) for section in sections)
        self._decodes = any(section.decoded for section in sections)
        self._texts = sum(not of_header(section) for section in sections)
        parts = any((section.path or section.kind or section.decoded) and not of_header(section) for section in sections)
        self._trees = self._bodies or self._previewing or parts
        kept = self._summaries or self._fields
        self._most = TREES if self._trees else HEADS if self._heads or self._texts else KEPT if kept else LIGHT
        self._slice = max(1, SLICE // len(sections)) if sections else LIGHT

    async def narrow(self) -> None:
        """Only what changed after a modseq, and, if it was asked for, what went (RFC 7162 sections 3.1.4.1 and 3.2.6); of that a part (RFC 9394)."""
        view, command = self.view, self._command
        if command.since is not None and not command.vanished and IIndexedFolder.providedBy(view.folder):
            first = bisect_left(view.uids, view.folder.first_after(command.since))
            self._spans = [(max(start, first), end) for start, end in self._spans if end > first]
        elif command.since is not None:
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
        former: Gathered | None = None
        for uids, numbers in self._batches():
            entries = await self.view.folder.entries(uids)
            if len(entries) < len(uids):
                self.missing = True
                numbers = [self.view.number(entry.uid) for entry in entries]
            for start, end in self._weighed(entries):
                found = Gathered(numbers[start:end], entries[start:end])
                if former is None:
                    former = await self._gathered(found)
                else:
                    former = await self._meanwhile(former, found)
        if former is not None:
            await self._tell(former)

    def _batches(self) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
        """UIDs and numbers of messages, so many at a time as are gathered together at most."""
        view, most = self.view, self._most
        uids, numbers = array("I"), array("I")
        for start, end in self._spans:
            while start < end:
                stop = min(end, start + most - len(uids))
                uids += view.uids[start:stop]
                numbers.extend(range(start + 1, stop + 1))
                start = stop
                if len(uids) == most:
                    yield uids, numbers
                    uids, numbers = array("I"), array("I")
        if uids:
            yield uids, numbers

    def _weighed(self, entries: Sequence[Entry]) -> Iterator[Span]:
        """Of those the ones whose texts are held at the same time."""
        start = held = 0
        for at, entry in enumerate(entries) if self._texts else ():
            size = entry.size * self._texts
            if held and held + size > HELD_BYTES:
                yield start, at
                start, held = at, 0
            held += size
        if start < len(entries):
            yield start, len(entries)

    async def _meanwhile(self, former: Gathered, found: Gathered) -> Gathered:
        """Gather some messages while the former ones are told of."""
        ahead = Deferred.fromCoroutine(self._gathered(found))
        try:
            await self._tell(former)
        except BaseException:
            ahead.addErrback(lambda _: None)  # it is this error that counts
            ahead.cancel()
            raise
        return await ahead

    # ---- gathering

    async def _gathered(self, found: Gathered) -> Gathered:
        """All that has to be read, of many messages in one go. Those that have gone meanwhile are left out."""
        folder, entries = self.view.folder, found.entries
        uids = [entry.uid for entry in entries]
        if self._marks:
            await self._mark(found)
        if self._summaries and uids:
            found.summaries = await folder.summaries(uids)
        if self._fields and uids:
            found.fields = await folder.fields(uids)
        lacking = [uid for uid in uids if not found.summaries.get(uid, _NOTHING)[0]] if self._summaries else []
        if (wanted := uids if self._trees else lacking) and wanted:
            found.trees = await folder.structures(wanted)
            await self._structured(found, set(lacking))
        if self._heads or self._fields:
            bare = uids if self._heads else [uid for uid in uids if found.fields.get(uid, _NO_FIELDS)[0] < 0]
            found.heads = await folder.headers(bare) if bare else {}
            self._keep(found, lambda uid: uid in found.heads or not (self._heads or found.fields.get(uid, _NO_FIELDS)[0] < 0))
        if self._previewing:
            found.previews = await self._preview(found.trees)
        if self._texts:
            await self._read(found)
        return found

    def _keep(self, found: Gathered, there: Callable[[int], bool]) -> None:
        """Leave out those that are not there any more."""
        kept = [(number, entry) for number, entry in zip(found.numbers, found.entries, strict=True) if there(entry.uid)]
        if len(kept) < len(found.entries):
            self.missing = True
            found.numbers, found.entries = [number for number, _ in kept], [entry for _, entry in kept]

    async def _structured(self, found: Gathered, lacking: set[int]) -> None:
        """What has to be made from structures; of a large one in a thread, so that the reactor goes on meanwhile."""
        trees = found.trees
        self._keep(found, lambda uid: uid in trees or not (self._trees or uid in lacking))
        for uid, tree in trees.items():
            if turn := self.session.wire.breathe():
                await turn
            if uid in lacking:
                found.summaries[uid] = await self._apart(tree, lambda tree: (envelope(tree.summary), body_structure(tree, True)))
            if self._bodies:
                found.bodies[uid] = await self._apart(tree, lambda tree: body_structure(tree, False))

    async def _apart(self, tree: Part, make: Callable[[Part], T]) -> T:
        if not outweighs(tree, HEAVY):
            return make(tree)
        site = self.session.site
        made: T = await deferToThreadPool(site.from_threads, site.threads, make, tree)
        return made

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

    async def _mark(self, found: Gathered) -> None:
        r"""Reading sets \Seen."""
        unseen = [entry.uid for entry in found.entries if "\\Seen" not in entry.flags]
        if not unseen:
            return
        try:
            stored = {entry.uid: entry for entry in await self.view.folder.store(unseen, ("\\Seen",))}
        except FolderError as error:
            if error.code in ("INUSE", "NOPERM"):  # NOPERM: read without the right to say so (RFC 4314 section 4)
                return
            raise
        self.view.told(stored.values())
        found.entries = [stored.get(entry.uid, entry) for entry in found.entries]
        found.seen = frozenset(stored)

    async def _read(self, found: Gathered) -> None:
        """The pieces of texts, in one hop; those of large messages are read when they are sent."""
        wanted: list[tuple[int, int, int]] = []
        spans: dict[int, list[Span | None]] = {}
        strange: set[int] = set()  # they are there, and not told
        for at, entry in enumerate(found.entries):
            if not at % self._slice and (turn := self.session.wire.breathe()):
                await turn
            uid, tree = entry.uid, found.trees.get(entry.uid)
            if self._decodes:
                encodings = self._encodings(tree)
                if encodings is None:
                    strange.add(uid)
                    self.unknown = True
                    continue
                found.encodings[uid] = encodings
            mine = [None if of_header(section) else self._span(section, entry, tree) for section in self._sections]
            pieces = [(uid, s[0], s[1] - s[0]) for s in mine if s is not None]
            if sum([length for _, _, length in pieces]) > STREAM_BYTES:
                found.long[uid] = mine
            else:
                spans[uid] = mine
                wanted += pieces
        texts = iter(await self._pieces(wanted, spans))
        strange |= {uid for uid, _, _ in wanted if uid not in spans and uid not in found.long}
        gone: set[int] = set()
        for uid, mine in spans.items():
            found.texts[uid] = read = [None if s is None else next(texts) for s in mine]
            if None in read and any(text is None and s is not None for text, s in zip(read, mine, strict=True)):
                gone.add(uid)
        if strange:
            missing = self.missing
            self._keep(found, lambda uid: uid not in strange)
            self.missing = missing
        self._keep(found, lambda uid: uid not in gone)

    async def _pieces(self, wanted: list[tuple[int, int, int]], spans: dict[int, list[Span | None]]) -> Sequence[bytes | None]:
        """Where one of the messages cannot be read, the others are told all the same; it leaves ``spans``. After ``UNREADABLE`` of them it is the disk, and an end.
        Raises FolderError."""
        if not wanted:
            return ()
        try:
            return await self.view.folder.pieces(wanted)
        except FolderError as error:
            if error.code != "UNAVAILABLE":
                raise
        found: list[bytes | None] = []
        for uid in dict.fromkeys(uid for uid, _, _ in wanted):
            try:
                found += await self.view.folder.pieces([each for each in wanted if each[0] == uid])
            except FolderError as error:
                self.unreadable += 1
                if error.code != "UNAVAILABLE" or self.unreadable > UNREADABLE:
                    raise
                del spans[uid]
        return found

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

    # ---- telling

    async def _tell(self, found: Gathered) -> None:
        """Render and send."""
        if self._tells_flags:
            self.put(self.view.learned(found.entries))
        at = 0
        for n in [n for n, entry in enumerate(found.entries) if entry.uid in found.long] if found.long else ():
            await self._lines(found, at, n)
            await self._stream(found, n)
            at = n + 1
        await self._lines(found, at, len(found.entries))

    async def _lines(self, found: Gathered, start: int, end: int) -> None:
        for at in range(start, end, self._slice):
            if turn := self.session.wire.breathe():
                await turn
            self.put(self._columns.lines(found, at, min(at + self._slice, end)))
            if self.held >= SEND_BYTES:
                await self.send()

    async def _stream(self, found: Gathered, at: int) -> None:
        """A message too large to be held."""
        uid = found.entries[at].uid
        try:
            body = await self.view.folder.body(uid)
        except FolderError:
            self.missing = True
            return
        self.put(self._columns.head(found, at))
        for n, (section, place) in enumerate(zip(self._sections, found.long[uid], strict=True)):
            if n:
                self.put(b" ")
            if of_header(section):
                self.put(self._columns.text(found, at, n))
                continue
            if section.decoded:
                await self._stream_decoded(section, body, place, found.encodings[uid][n])
                continue
            if place is None or section.fields:
                text = None if place is None else await body.read(place[0], place[1] - place[0])
                self.put(labelled(section, text))
                continue
            start, end = place
            self.put(opening(section, end - start))
            while start < end:
                text = await self._some(body, start, min(STREAM_BYTES, end - start))
                start += len(text)
                self.put(text.replace(b"\0", NUL))
                await self.send()
        self.put(b")\r\n")

    async def _some(self, body: IBody, start: int, length: int) -> bytes:
        """Some of a literal whose length is out. Raises FolderError; the connection ends with it: what comes next would be taken for the message."""
        try:
            text: bytes = await body.read(start, length)
        except FolderError:
            self.session.wire.close()
            raise
        if not text:
            self.session.wire.close()
            raise FolderError("UNAVAILABLE", "The message ends too early")
        return text

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
