"""SORT and THREAD (RFC 5256, 5957, the extended answers of 5267): what is compared comes from the structures that the folder keeps; all of it in slices, so
that a folder of any size holds nobody up (``tests/cost/test_imap.py``)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hornetmail.core.folder import Entry, FolderError
from hornetmail.core.mail.dates import parse_date
from hornetmail.mime.headers import Mailaddress, decode_text, message_ids
from hornetmail.mime.structure import Part, Summary
from hornetmail.mime.subject import base_subject, casemapped
from hornetmail.mime.threads import Threaded, by_references, in_order, ordered_subject, rendered
from hornetmail.net.serving.pump import Answer
from hornetmail.servers.imap.finding.search import BADCHARSET, answered, found
from hornetmail.servers.imap.finding.unreadable import Unreadable
from hornetmail.servers.imap.view import View
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.requests.search import counts, watches

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

BATCH = 64
EMPTY = Summary()
T = TypeVar("T")
Sight = Callable[[Entry, Summary], object]


async def sort(session: ImapSession, command: c.Sort) -> Answer:
    """SORT and UID SORT."""
    view = session.selected
    saves = command.returns is not None and "SAVE" in command.returns.words
    try:
        uids = await found(session, view, command, unreadable := Unreadable())
        if uids is not None:
            uids = await _sorted(session, view, command, uids, unreadable)
    except FolderError:
        if saves:
            view.saved = ()  # RFC 5182 section 2.1: after a NO it is empty
        raise
    if uids is None:
        if saves:
            view.saved = ()
        return BADCHARSET
    told = session.condstore() if watches(command.key) else b""
    data = told + await answered(session, command, uids, b"SORT") + unreadable.words
    return await session.finish("Sorted", data=data, expunge=command.uid and not counts(command.key))


async def _sorted(session: ImapSession, view: View, command: c.Sort, uids: list[int], unreadable: Unreadable) -> list[int]:
    """By the least criterion first: each later one leaves equal ones as they are, so a reversed one reverses nothing else."""
    sights = [_SIGHTS[name] for name, _ in command.order]
    summaries = any(name not in _FIGURES for name, _ in command.order)

    def seen(entry: Entry, summary: Summary) -> tuple[Any, ...]:
        return tuple([sight(entry, summary) for sight in sights])

    keys = await _seen(session, view, uids, seen, summaries, unreadable)
    order = [uid for uid in uids if uid in keys]
    for at, (_, reverse) in reversed(list(enumerate(command.order))):
        order = await rested(session, in_order(order, _nth(keys, at), reverse=reverse))
    return order


def _nth(keys: dict[int, tuple[Any, ...]], at: int) -> Callable[[int], Any]:
    return lambda uid: keys[uid][at]


async def thread(session: ImapSession, command: c.Thread) -> Answer:
    """THREAD and UID THREAD."""
    view = session.selected
    unreadable = Unreadable()
    uids = await found(session, view, command, unreadable)
    if uids is None:
        return BADCHARSET

    def threaded(entry: Entry, summary: Summary) -> Threaded:
        subject, answers = base_subject(decode_text(summary.subject or b""))
        number = entry.uid if command.uid else view.number(entry.uid)
        own = message_ids(summary.message_id)
        above = summary.references or tuple(message_ids(summary.in_reply_to)[:1])
        return Threaded(number, _sent(entry, summary), casemapped(subject), answers, own[0] if own else None, above)

    messages = list((await _seen(session, view, uids, threaded, True, unreadable)).values())
    algorithm = ordered_subject if command.algorithm == "ORDEREDSUBJECT" else by_references
    roots = await rested(session, algorithm(messages))
    data = b"* THREAD%b\r\n" % (b" " + await rested(session, rendered(roots)) if roots else b"")
    told = session.condstore() if watches(command.key) else b""
    return await session.finish("Threaded", data=told + data + unreadable.words, expunge=command.uid and not counts(command.key))


async def rested(session: ImapSession, work: Generator[None, None, T]) -> T:
    """What the work returns; at each of its rests others may go first."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
        if turn := session.wire.breathe():
            await turn


async def _seen(
    session: ImapSession,
    view: View,
    uids: Sequence[int],
    sight: Callable[[Entry, Summary], T],
    summaries: bool,
    unreadable: Unreadable,
) -> dict[int, T]:
    """What there is to see of each message, by UID in the order of ``uids``; without those that have gone. Without ``summaries`` no structure is asked for."""
    seen: dict[int, T] = {}
    for at in range(0, len(uids), BATCH):
        some = uids[at : at + BATCH]
        trees: dict[int, Part] = await unreadable.each(some, view.folder.structures) if summaries else {}
        for entry in await view.folder.entries(some):
            tree = trees.get(entry.uid)
            if tree is None and summaries:
                continue
            seen[entry.uid] = sight(entry, EMPTY if tree is None or tree.summary is None else tree.summary)
            if turn := session.wire.breathe():
                await turn
    return seen


def _sent(entry: Entry, summary: Summary) -> float:
    """When it was sent, by its Date; INTERNALDATE where that says nothing (RFC 5256 section 2.2)."""
    found = parse_date(summary.date) if summary.date else None
    return entry.date if found is None else found


def _mailbox(found: Sequence[Mailaddress]) -> str:
    return casemapped(decode_text(found[0].mailbox or b"")) if found else ""


def _display(found: Sequence[Mailaddress]) -> str:
    """RFC 5957: the name, or the address of who has none."""
    if not found:
        return ""
    first = found[0]
    return casemapped(
        decode_text(first.name) if first.name else decode_text(b"%b@%b" % (first.mailbox or b"", first.host or b""))
    )


_SIGHTS: dict[str, Sight] = {
    "ARRIVAL": lambda entry, summary: entry.date,
    "SIZE": lambda entry, summary: entry.size,
    "DATE": _sent,
    "SUBJECT": lambda entry, summary: casemapped(base_subject(decode_text(summary.subject or b""))[0]),
    "FROM": lambda entry, summary: _mailbox(summary.from_),
    "TO": lambda entry, summary: _mailbox(summary.to),
    "CC": lambda entry, summary: _mailbox(summary.cc),
    "DISPLAYFROM": lambda entry, summary: _display(summary.from_),
    "DISPLAYTO": lambda entry, summary: _display(summary.to),
}
_FIGURES = frozenset({"ARRIVAL", "SIZE"})
