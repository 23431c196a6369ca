"""SEARCH (RFC 3501 section 6.4.4) and its extended answers (RFC 4731, 5182, 7162, 9394): what can be known from flags and figures first, texts only where
that decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import msgspec
from twisted.internet.threads import deferToThreadPool

from hornetmail.core.folder import Entry, FolderError
from hornetmail.interfaces.folders import IIndexedFolder
from hornetmail.mime.structure import Part
from hornetmail.net.serving.pump import Answer
from hornetmail.servers.imap.finding import large
from hornetmail.servers.imap.finding.match import Content, Match, Matcher, Need, bare
from hornetmail.servers.imap.finding.unreadable import Unreadable
from hornetmail.servers.imap.view import View
from hornetmail.wire.imap.answers.answers import Tagged
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.requests.search import Returns, counts, watches
from hornetmail.wire.imap.tokens.sequences import compressed, runs

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

T = TypeVar("T")
P = ParamSpec("P")

STRETCH = 8
"""Messages judged between two looks at the clock, which costs as much as judging one."""

BATCH = 64
OPENED = 1000
"""Messages of a folder of any size that one search opens at most."""

SLICE = 5_000
"""Numbers that are rendered at once."""

HELD_BYTES = 4 << 20
"""Message text held at a time; larger messages are read in slices."""

ALL = Returns(frozenset({"ALL"}))
"""What IMAP4rev2 answers where nothing else was asked for (RFC 9051 section 6.4.4)."""

BADCHARSET = Tagged("NO", "Search in UTF-8", "BADCHARSET (US-ASCII UTF-8)")


async def search(session: ImapSession, command: c.Search) -> Answer:
    """SEARCH and UID SEARCH."""
    view = session.selected
    if session.enabled.accept and command.charset:
        return Tagged("BAD", "With UTF8=ACCEPT searches are in UTF-8 (RFC 6855 section 3)")
    if session.enabled.rev2 and command.returns is None:
        command = msgspec.structs.replace(command, returns=ALL)
    saves = command.returns is not None and "SAVE" in command.returns.words
    try:
        uids = await found(session, view, command, unreadable := Unreadable())
    except FolderError:
        if saves:
            view.saved = ()  # RFC 5182 section 2.1: after a NO it is empty
        raise
    if uids is None:
        if saves:
            view.saved = ()
        return BADCHARSET
    told = session.condstore() if watches(command.key) else b""
    data = told + await answered(session, command, uids, b"SEARCH") + unreadable.words
    return await session.finish("Searched", data=data, expunge=command.uid and not counts(command.key))


async def found(session: ImapSession, view: View, command: c.Search, unreadable: Unreadable) -> list[int] | None:
    """The UIDs that match, in order, without those that are ``unreadable``; None for a charset that is not understood."""
    if command.charset not in ("", "UTF-8", "US-ASCII"):
        return None
    now = session.site.reactor.seconds()
    key = await view.folder.narrowed(command.key, now) if IIndexedFolder.providedBy(view.folder) else command.key
    return await _found(session, view, Matcher(key, view, now), unreadable)


async def answered(session: ImapSession, command: c.Search, uids: Sequence[int], word: bytes) -> bytes:
    """The answer about messages that were found, in their order; what was to be kept is kept (RFC 5182). Of many a slice at a time (``tests/cost/test_archive_tree.py``)."""
    returns, view = command.returns, session.selected
    numbers: list[int] = []
    pieces: list[bytes] = []
    for at in range(0, len(uids), SLICE):
        some = uids[at : at + SLICE]
        numbers += some if command.uid else [view.number(uid) for uid in some]
        if returns is None:
            pieces.append("".join([f" {n}" for n in numbers[at:]]).encode("ascii"))
        elif "ALL" in returns.words:
            pieces.append(compressed(numbers[at:]))
        if turn := session.wire.breathe():
            await turn
    highest: dict[int, int] = {}
    if uids and watches(command.key):
        highest = {entry.uid: entry.modseq for entry in await view.folder.entries(uids)}
    if returns is None:
        tail = b" (MODSEQ %d)" % max(highest.values()) if highest else b""
        return b"* %b%b%b\r\n" % (word, b"".join(pieces), tail)
    picked = _picked(returns, uids)
    if "SAVE" in returns.words:
        view.saved = tuple(runs(sorted(picked)))
    if returns.words == {"SAVE"}:
        return b""
    best = max((highest[uid] for uid in picked if uid in highest), default=0)
    return _extended(command, returns, numbers, b",".join(pieces), best)


def _picked(returns: Returns, uids: Sequence[int]) -> Sequence[int]:
    """Those that an answer is about: all, unless only the first, the last or a range was asked for (RFC 4731 section 3.1, RFC 5182 section 2.4, RFC 7162
    section 3.1.10)."""
    words = returns.words
    if words & {"ALL", "COUNT"} or not words & {"MIN", "MAX", "PARTIAL"}:
        return uids
    found = list(part(uids, *returns.partial)) if "PARTIAL" in words else []
    if uids and "MIN" in words:
        found.append(uids[0])
    if uids and "MAX" in words:
        found.append(uids[-1])
    return found


def part(found: Sequence[int], first: int, last: int) -> Sequence[int]:
    """The results ``first`` to ``last``, from 1 or, negative, from the end (RFC 9394 section 3.1)."""
    if first > 0:
        return found[first - 1 : last]
    return found[max(len(found) + last, 0) : max(len(found) + first + 1, 0)]


async def _found(session: ImapSession, view: View, matcher: Matcher, unreadable: Unreadable) -> list[int]:
    """UIDs, in order."""
    candidates = matcher.candidates()
    if matcher.need is Need.NUMBER:
        return await _numbered(session, matcher, candidates)
    folder = view.folder
    if IIndexedFolder.providedBy(folder):
        return await _indexed(session, view, folder, matcher, candidates, unreadable)
    found: dict[int, bool] = {}
    unsure: list[Entry] = []
    everything = len(candidates) == len(view.uids)
    wanted = frozenset(candidates)
    entries = await view.folder.entries(None if everything else candidates)
    if matcher.blind:
        for at in range(0, len(entries), SLICE):
            unsure += [entry for entry in entries[at : at + SLICE] if entry.uid in wanted]
            if turn := session.wire.breathe():
                await turn
        entries = ()
    for number, entry in enumerate(entries):
        if not number % STRETCH and (turn := session.wire.breathe()):
            await turn
        if entry.uid not in wanted:
            continue
        verdict = matcher.light(entry)
        if verdict is None:
            unsure.append(entry)
        elif verdict:
            found[entry.uid] = True
    if unsure:
        found.update(await session.site.reading(view.place[0], lambda: _read(session, view, matcher, unsure, unreadable)))
    return [uid for uid in candidates if uid in found]


async def _indexed(
    session: ImapSession, view: View, folder: IIndexedFolder, matcher: Matcher, candidates: list[int], unreadable: Unreadable
) -> list[int]:
    """Where the index answered for all that an entry tells: what is left has to be opened, and that not for very many. Raises FolderError LIMIT."""
    found: list[int] = []
    unsure: list[int] = []
    for uid in candidates:
        verdict = matcher.light(bare(uid))
        if verdict:
            found.append(uid)
        elif verdict is None:
            unsure.append(uid)
            if len(unsure) > OPENED:
                text = f"For this, more than {OPENED} messages would have to be opened: narrow the search by words or dates"
                raise FolderError("LIMIT", text)
        if turn := session.wire.breathe():
            await turn
    if unsure:
        entries = list(await folder.entries(unsure))
        found += await session.site.reading(view.place[0], lambda: _read(session, view, matcher, entries, unreadable))
        if trouble := folder.trouble():
            raise FolderError("UNAVAILABLE", trouble)
    return sorted(found)


async def _numbered(session: ImapSession, matcher: Matcher, candidates: list[int]) -> list[int]:
    """Of a search that asks for numbers only."""
    if matcher.plain:
        return candidates
    found = []
    for number, uid in enumerate(candidates):
        if not number % STRETCH and (turn := session.wire.breathe()):
            await turn
        if matcher.light(bare(uid)):
            found.append(uid)
    return found


async def _read(
    session: ImapSession, view: View, matcher: Matcher, unsure: list[Entry], unreadable: Unreadable
) -> dict[int, bool]:
    """Those that match by their text."""
    found: dict[int, bool] = {}
    if matcher.of_texts:
        unsure = await _sifted(view, matcher, unsure, found)
    for start in range(0, len(unsure), BATCH):
        found.update(dict.fromkeys(await _deep(session, view, matcher, unsure[start : start + BATCH], unreadable), True))
    return found


async def _sifted(view: View, matcher: Matcher, unsure: list[Entry], found: dict[int, bool]) -> list[Entry]:
    """Judge those whose texts a search before left in the folder; the others."""
    entries = {entry.uid: entry for entry in unsure}
    verdicts = await view.folder.sifted(list(entries), matcher.sieve(entries))
    found.update((uid, True) for uid, matches in verdicts.items() if matches)
    if len(verdicts) >= len(entries) and verdicts.keys() >= entries.keys():
        return []
    return [entry for entry in unsure if entry.uid not in verdicts]


async def _deep(session: ImapSession, view: View, matcher: Matcher, batch: list[Entry], unreadable: Unreadable) -> list[int]:
    """The UIDs of a batch that match by their text; judged in a thread."""
    folder = view.folder
    keeps = matcher.of_texts and not IIndexedFolder.providedBy(folder)
    trees: dict[int, Part] = await unreadable.each([entry.uid for entry in batch], folder.structures)
    batch = [entry for entry in batch if entry.uid in trees]
    if matcher.need is Need.SUMMARY:
        contents = [(entry, Content(trees[entry.uid], b"")) for entry in batch]
        return await _judged(session, matcher, contents)
    found: list[int] = []
    if matcher.need is Need.BODY:
        found += await _large(
            session,
            view,
            matcher,
            [(entry, trees[entry.uid]) for entry in batch if trees[entry.uid].end > HELD_BYTES],
            unreadable,
        )
        batch = [entry for entry in batch if trees[entry.uid].end <= HELD_BYTES]

    async def texts(uids: Sequence[int]) -> dict[int, bytes]:
        some = await folder.pieces([(uid, 0, group[uid][1]) for uid in uids])
        return {uid: text for uid, text in zip(uids, some, strict=True) if text is not None}

    group: dict[int, tuple[Entry, int]] = {}
    held = 0
    for entry in [*batch, None]:
        tree = trees[entry.uid] if entry is not None else None
        size = 0 if tree is None else (tree.end if matcher.need is Need.BODY else tree.body)
        if group and (entry is None or held + size > HELD_BYTES):
            read = await unreadable.each(list(group), texts)
            contents = [(group[uid][0], Content(trees[uid], text)) for uid, text in read.items()]
            found += await _judged(session, matcher, contents)
            if keeps and (kept := await _apart(session, _kept, contents)):
                await folder.keep_texts(kept)
            group, held = {}, 0
        if entry is not None:
            group[entry.uid] = entry, size
            held += size
    return found


async def _large(
    session: ImapSession, view: View, matcher: Matcher, some: list[tuple[Entry, Part]], unreadable: Unreadable
) -> list[int]:
    """Of messages that are not held, those that match."""
    contents: list[tuple[Entry, Content]] = []
    needles = matcher.needles()
    for entry, tree in some:

        async def read(uids: Sequence[int], tree: Part = tree) -> dict[int, Content]:
            body = await view.folder.body(uids[0])
            header = await body.read(0, tree.body)
            return {uids[0]: Content(tree, header, await large.found(session, body, tree, needles))}

        try:
            contents += [(entry, content) for content in (await unreadable.each([entry.uid], read)).values()]
        except FolderError as error:
            if error.code != "EXPUNGEISSUED":
                raise
    return await _judged(session, matcher, contents) if contents else []


async def _judged(session: ImapSession, matcher: Matcher, contents: list[tuple[Entry, Content]]) -> list[int]:
    return await _apart(session, _judge, contents, matcher.match)


async def _apart(
    session: ImapSession,
    work: Callable[Concatenate[list[tuple[Entry, Content]], P], T],
    contents: list[tuple[Entry, Content]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """In a thread."""
    site = session.site
    result: T = await deferToThreadPool(site.from_threads, site.threads, work, contents, *args, **kwargs)
    return result


def _kept(contents: list[tuple[Entry, Content]]) -> list[tuple[int, bytes, bytes]]:
    return [(entry.uid, *kept) for entry, content in contents if (kept := content.kept()) is not None]


def _judge(contents: list[tuple[Entry, Content]], match: Match) -> list[int]:
    return [entry.uid for entry, content in contents if match(entry, content)]


def _extended(command: c.Search, returns: Returns, numbers: Sequence[int], whole: bytes, modseq: int) -> bytes:
    """ESEARCH. ``whole``: all the numbers, as a set; ``modseq`` 0: none is told."""
    pieces = [b'* ESEARCH (TAG "%b")' % command.tag]
    words = returns.words
    if command.uid:
        pieces.append(b"UID")
    if numbers:
        if "MIN" in words:
            pieces.append(b"MIN %d" % numbers[0])
        if "MAX" in words:
            pieces.append(b"MAX %d" % numbers[-1])
        if "ALL" in words:
            pieces.append(b"ALL " + whole)
    if "COUNT" in words:
        pieces.append(b"COUNT %d" % len(numbers))
    if "PARTIAL" in words:
        pieces.append(b"PARTIAL (%d:%d %b)" % (*returns.partial, compressed(part(numbers, *returns.partial)) or b"NIL"))
    if modseq:
        pieces.append(b"MODSEQ %d" % modseq)
    return b" ".join(pieces) + b"\r\n"
