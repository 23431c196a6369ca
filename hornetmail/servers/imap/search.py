"""SEARCH (RFC 3501 section 6.4.4, RFC 4731): what can be known from flags and figures first, texts only where that decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.threads import deferToThreadPool

from hornetmail.core.folder import Entry
from hornetmail.mime.structure import Part
from hornetmail.net.pump import Answer
from hornetmail.servers.imap.match import Content, Match, Matcher, Need, bare
from hornetmail.servers.imap.view import View
from hornetmail.wire.imap import commands as c
from hornetmail.wire.imap.answers import Tagged
from hornetmail.wire.imap.sequences import compressed

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

BATCH = 64
HELD_BYTES = 4 << 20
"""Message text held at a time, a single larger message aside."""


async def search(session: ImapSession, command: c.Search) -> Answer:
    """SEARCH and UID SEARCH."""
    view = session.selected
    if command.charset not in ("", "UTF-8", "US-ASCII"):
        return Tagged("NO", "Search in UTF-8", "BADCHARSET (US-ASCII UTF-8)")
    uids = await _found(session, view, Matcher(command.key, view))
    numbers = uids if command.uid else [view.number(uid) for uid in uids]
    data = _plain(numbers) if command.returns is None else _extended(command, command.returns, numbers)
    return await session.finish("Searched", data=data, expunge=command.uid)


async def _found(session: ImapSession, view: View, matcher: Matcher) -> list[int]:
    """UIDs, in order."""
    candidates = matcher.candidates()
    if matcher.need is Need.NUMBER:
        return await _numbered(session, matcher, candidates)
    found: dict[int, bool] = {}
    unsure: list[Entry] = []
    everything = len(candidates) == len(view.uids)
    wanted = frozenset(candidates)
    for entry in await view.folder.entries(None if everything else candidates):
        if entry.uid not in wanted:
            continue
        verdict = matcher.light(entry)
        if verdict is None:
            unsure.append(entry)
        elif verdict:
            found[entry.uid] = True
        if turn := session.wire.breathe():
            await turn
    if unsure:
        found.update(await session.site.reading(view.place[0], lambda: _read(session, view, matcher, unsure)))
    return [uid for uid in candidates if uid in found]


async def _numbered(session: ImapSession, matcher: Matcher, candidates: list[int]) -> list[int]:
    """Of a search that asks for numbers only."""
    if matcher.plain:
        return candidates
    found = []
    for uid in candidates:
        if matcher.light(bare(uid)):
            found.append(uid)
        if turn := session.wire.breathe():
            await turn
    return found


async def _read(session: ImapSession, view: View, matcher: Matcher, unsure: list[Entry]) -> dict[int, bool]:
    """Those that match by their text."""
    found: dict[int, bool] = {}
    for start in range(0, len(unsure), BATCH):
        found.update(dict.fromkeys(await _deep(session, view, matcher, unsure[start : start + BATCH]), True))
    return found


async def _deep(session: ImapSession, view: View, matcher: Matcher, batch: list[Entry]) -> list[int]:
    """The UIDs of a batch that match by their text; judged in a thread."""
    folder = view.folder
    trees: dict[int, Part] = await folder.structures([entry.uid for entry in batch])
    batch = [entry for entry in batch if entry.uid in trees]
    if matcher.need is Need.SUMMARY:
        contents = [(entry, Content(trees[entry.uid], b"")) for entry in batch]
        return await _judged(session, matcher, contents)
    found: list[int] = []
    group: list[tuple[int, int, int]] = []
    members: list[Entry] = []
    held = 0
    for entry in [*batch, None]:
        tree = trees[entry.uid] if entry is not None else None
        size = 0 if tree is None else (tree.end if matcher.need is Need.BODY else tree.body)
        if members and (entry is None or held + size > HELD_BYTES):
            texts = await folder.pieces(group)
            contents = [(e, Content(trees[e.uid], text)) for e, text in zip(members, texts, strict=True) if text is not None]
            found += await _judged(session, matcher, contents)
            group, members, held = [], [], 0
        if entry is not None:
            group.append((entry.uid, 0, size))
            members.append(entry)
            held += size
    return found


async def _judged(session: ImapSession, matcher: Matcher, contents: list[tuple[Entry, Content]]) -> list[int]:
    site = session.site
    verdicts: list[int] = await deferToThreadPool(site.from_threads, site.threads, _judge, matcher.match, contents)
    return verdicts


def _judge(match: Match, contents: list[tuple[Entry, Content]]) -> list[int]:
    return [entry.uid for entry, content in contents if match(entry, content)]


def _plain(numbers: list[int]) -> bytes:
    return b"* SEARCH%b\r\n" % "".join([f" {n}" for n in numbers]).encode("ascii")


def _extended(command: c.Search, returns: frozenset[str], numbers: list[int]) -> bytes:
    """ESEARCH."""
    pieces = [b'* ESEARCH (TAG "%b")' % command.tag]
    if command.uid:
        pieces.append(b"UID")
    if numbers:
        if "MIN" in returns:
            pieces.append(b"MIN %d" % numbers[0])
        if "MAX" in returns:
            pieces.append(b"MAX %d" % numbers[-1])
        if "ALL" in returns:
            pieces.append(b"ALL " + compressed(numbers))
    if "COUNT" in returns:
        pieces.append(b"COUNT %d" % len(numbers))
    return b" ".join(pieces) + b"\r\n"
