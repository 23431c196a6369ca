"""Rooms in memory, small enough to read, for tests of what stands on top of them: modes, queue, archive, redelivery, a bus, a site on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from zope.interface import implementer

from hornetmail.archive.keys.paper import PAGE
from hornetmail.core.archive.archived import (
    ArchivedMail,
    ArchiveError,
    ArchiveFigures,
    Finding,
    Handed,
    Hit,
    KeyRefused,
    MediumProbe,
    MediumRefused,
    MediumState,
    NoAuthority,
    Page,
    RootKeyState,
)
from hornetmail.core.archive.guidance import Guidance
from hornetmail.core.archive.stamps import StampState, read_settings
from hornetmail.core.delivery.queued import DONE, Backlog, Message, Row, RowKind, RowState
from hornetmail.core.delivery.stray import Choice, Stray
from hornetmail.core.events import ModeChanged
from hornetmail.core.failover.mode import Mode
from hornetmail.core.served import Person, Scope
from hornetmail.interfaces.archive import IArchive
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.expiry import IExpiry
from hornetmail.interfaces.media import IMedia
from hornetmail.interfaces.modes import IModes
from hornetmail.interfaces.redelivery import IRedelivery
from hornetmail.interfaces.root_keys import IRootKeys
from hornetmail.interfaces.stamps import IStamps
from hornetmail.interfaces.strays import IStrays
from hornetmail.testing.folders import MemoryTree
from hornetmail.testing.memory_queue import page


@implementer(IModes)
class MemoryModes:
    """Switches as told; ``primaries`` is what ``explain`` says of a domain's hosts."""

    def __init__(self, bus: IBus, now: Callable[[], float]) -> None:
        self._bus = bus
        self._now = now
        self._modes: dict[str, tuple[Mode, str, str, float]] = {}
        self.primaries: dict[str, list[dict[str, Any]]] = {}

    def mode(self, domain: str) -> Mode:
        """Normal until switched."""
        return self._modes.get(domain, (Mode.NORMAL, "", "", 0.0))[0]

    def explain(self, domain: str) -> dict[str, Any]:
        """What the panel shows."""
        mode, by, reason, since = self._modes.get(domain, (Mode.NORMAL, "", "", 0.0))
        return {
            "mode": mode.value,
            "since": since,
            "by": by,
            "reason": reason,
            "next_probe": 0.0,
            "primaries": self.primaries.get(domain, []),
        }

    async def recipients(self, domain: str) -> dict[str, Any]:
        """None are known."""
        return {"accepts_everything": False, "gaps": [], "gaps_total": 0}

    def ended(self, domain: str) -> float:
        """None is remembered."""
        return 0.0

    async def switch(self, domain: str, mode: Mode, by: str, reason: str = "") -> None:
        """At once."""
        if self.mode(domain) is mode:
            raise ValueError(f"{domain} is in {mode.value} mode already")
        self._modes[domain] = (mode, by, reason, self._now())
        self._bus.publish(ModeChanged(domain, mode, by, reason))


class MemoryQueue:
    """Rows in a list; what administration asks of ``IQueue``."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[Message, Row]] = {}

    def add(self, message: Message, *rows: Row) -> None:
        """Put a message into it."""
        for row in rows:
            self.held[row.id] = (message, row)

    async def rows(self, *, envelopes: bool = True, **wanted: Any) -> Sequence[tuple[Message, Row]]:
        """See IQueue."""
        return page(self.held.values(), **wanted)

    async def change(self, rows: Iterable[int], state: RowState, *, due: float = 0.0, reason: str = "") -> int:
        """Those that are not done."""
        changed = 0
        for identifier in rows:
            owner, row = self.held[identifier]
            if row.state not in DONE:
                self.held[identifier] = (owner, msgspec.structs.replace(row, state=state, due=due, reason=reason))
                changed += 1
        return changed

    def backlog(self, tenant: int = 0) -> Backlog:
        """Counted anew."""
        mine = [(message, row) for message, row in self.held.values() if tenant in (0, message.tenant)]
        live = [(message, row) for message, row in mine if row.state not in DONE]
        return Backlog(
            messages=len({message.id for message, _ in live}),
            deliver=sum(row.kind is RowKind.DELIVER for _, row in live),
            drain=sum(row.kind is RowKind.DRAIN for _, row in live),
            held=sum(row.state is RowState.HELD for _, row in live),
            archive=sum(row.kind is RowKind.ARCHIVE for _, row in live),
        )


class Kept(msgspec.Struct, frozen=True):
    """A mail in the archive: what is shown of it, its bytes, and whose it is."""

    mail: ArchivedMail
    data: bytes
    owners: frozenset[str]


@implementer(IArchive)
class MemoryArchive:
    """Finds words in addresses, subject and text."""

    def __init__(self) -> None:
        self.kept: dict[int, Kept] = {}

    async def stage(self, item: Any, body: Any) -> None:
        """Nothing arrives by delivery here."""
        raise NotImplementedError

    def _seen(self, scope: Scope, kept: Kept) -> bool:
        return scope.addresses is None or bool(scope.addresses & kept.owners)

    async def search(self, scope: Scope, query: str, *, limit: int = 50, after: str = "") -> Page:
        """Every word must occur; terms with a colon are looked for in their value."""
        words = [word.rpartition(":")[2].strip('"').casefold() for word in query.split()]
        hits: list[Hit] = []
        for kept in self.kept.values():
            hit = kept.mail.hit
            text = " ".join(
                (hit.sender, *hit.recipients, hit.subject if scope.subjects else "", kept.mail.text if scope.content else "")
            ).casefold()
            if self._seen(scope, kept) and all(word in text for word in words):
                hits.append(hit if scope.subjects else msgspec.structs.replace(hit, subject=""))
        hits.sort(key=lambda hit: -hit.date)
        start = int(after or 0)
        shown = hits[start : start + limit]
        return Page(len(hits), tuple(shown), str(start + limit) if start + limit < len(hits) else "")

    async def guidance(self, scope: Scope, query: str) -> Guidance:
        """Nothing to narrow down."""
        return Guidance()

    async def suggestions(self, scope: Scope, text: str) -> tuple[str, ...]:
        """Nobody."""
        return ()

    async def mail(self, scope: Scope, identifier: int) -> ArchivedMail:
        """Without its text for those who have no right to content."""
        kept = self.kept[identifier]
        if not self._seen(scope, kept):
            raise KeyError(identifier)
        return kept.mail if scope.content else msgspec.structs.replace(kept.mail, text="")

    async def read(self, scope: Scope, identifier: int) -> bytes:
        """The bytes."""
        if not self._seen(scope, self.kept[identifier]):
            raise KeyError(identifier)
        return self.kept[identifier].data

    async def evidence(self, scope: Scope, identifier: int) -> bytes:
        """The bytes, under another name."""
        return b"evidence of " + await self.read(scope, identifier)

    async def figures(self) -> ArchiveFigures:
        """Counted anew."""
        raw = sum(len(kept.data) for kept in self.kept.values())
        return ArchiveFigures(mails=len(self.kept), packs=1, bytes_raw=raw, bytes_stored=raw * 2 // 3)

    async def confirm_purge(self) -> None:
        """Nothing was refused here."""

    async def verify(self, full: bool = False) -> Sequence[Finding]:
        """All is well."""
        return ()

    async def flush(self, seal: bool = False) -> None:
        """Everything is indexed at once."""

    async def mark(self, now: float) -> int:
        """Nothing expires."""
        return 0

    async def purge(self, now: float) -> int:
        """Nothing went."""
        return 0


@implementer(IStamps)
class MemoryStamps:
    """Counts; ``settings`` gives the value of the setting."""

    def __init__(self, settings: Callable[[], str]) -> None:
        self._settings = settings
        self.stamped = StampState()
        self.trouble = ""

    def state(self) -> StampState:
        """As set."""
        return msgspec.structs.replace(self.stamped, authorities=len(read_settings(self._settings()).authorities))

    async def stamp(self) -> StampState:
        """One more."""
        await self.test("")
        self.stamped = msgspec.structs.replace(self.stamped, stamps=self.stamped.stamps + 1)
        return self.state()

    async def test(self, name: str) -> None:
        """``trouble``, if there is any."""
        settings = read_settings(self._settings())
        if not settings.authorities:
            raise NoAuthority("no time stamp authority is set up")
        if name and settings.authority(name) is None:
            raise KeyError(name)
        if self.trouble:
            raise ArchiveError(self.trouble)


@implementer(IRedelivery)
class MemoryRedelivery:
    """Remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[int, ...], str]] = []
        self.attached: list[bool] = []

    async def redeliver(
        self, person: Person, identifiers: Sequence[int], to: str = "", request: str = "", *, attached: bool = False
    ) -> Handed:
        """One message ID each."""
        self.asked.append((person.address, tuple(identifiers), to))
        self.attached.append(attached)
        return Handed(tuple(9000 + identifier for identifier in identifiers))


@implementer(IExpiry)
class MemoryExpiry:
    """``dates`` by mailbox."""

    def __init__(self) -> None:
        self.dates: dict[int, float] = {}

    def due(self, mailbox: int) -> float:
        """See IExpiry."""
        return self.dates.get(mailbox, 0.0)


@implementer(IStrays)
class MemoryStrays:
    """Messages that the test ``marked``, by mailbox; ``goals`` of mailboxes; ``rows`` by mailbox and UID, parked once chosen."""

    def __init__(self, portal: MemoryPortal, goals: Callable[[int], str]) -> None:
        self._portal = portal
        self.goal = goals
        self.marked: dict[int, set[int]] = {}
        self.rows: dict[tuple[int, int], Row] = {}
        self.waits = False

    async def of(self, mailbox: int, uids: Collection[int] | None = None) -> Sequence[Stray]:
        """Marked and still there."""
        there = self._portal.tree(mailbox).found("INBOX").messages
        wanted = [uid for uid in there if uid in self.marked.get(mailbox, ()) and (uids is None or uid in uids)]
        return [Stray(mailbox, there[uid].entry, 1.7e9, self.rows.get((mailbox, uid))) for uid in wanted]

    async def page(self, mailboxes: Sequence[int], limit: int, after: int = 0) -> tuple[Sequence[Stray], bool]:
        """In order."""
        found = [stray for mailbox in mailboxes for stray in await self.of(mailbox)]
        found = [stray for stray in found if stray.mailbox != mailboxes[0] or stray.entry.uid > after]
        return found[:limit], len(found) > limit

    async def choose(self, mailbox: int, uids: Collection[int] | None = None) -> Choice:
        """Rows for those that have none."""
        if not self.goal(mailbox):
            raise ValueError("no primary")
        strays = await self.of(mailbox, uids)
        fresh = [stray for stray in strays if stray.row is None]
        for stray in fresh:
            number = len(self.rows) + 1
            self.rows[mailbox, stray.entry.uid] = Row(number, number, RowKind.DRAIN, RowState.PARKED)
        return Choice(len(fresh), len(strays) - len(fresh), waits=self.waits)


class MemoryPortal:
    """A tree of folders for every mailbox."""

    def __init__(self, bus: IBus) -> None:
        self._bus = bus
        self.trees: dict[int, MemoryTree] = {}

    def tree(self, mailbox: int) -> MemoryTree:
        """Made on first use."""
        return self.trees.setdefault(mailbox, MemoryTree(mailbox, self._bus))

    async def figures(self) -> dict[str, int]:
        """Mailboxes and messages."""
        return {"mailboxes": len(self.trees)}


@implementer(IRootKeys)
class MemoryRootKeys:
    """The archive key in three steps, without an archive: a paper is its key's name and its password."""

    def __init__(self) -> None:
        self.state = RootKeyState("0011223344556677")

    async def backup(self, password: str, parts: int = 1, need: int = 1) -> str:
        """Something to keep."""
        return PAGE.join(f"KEY PAPER of {len(password)} characters\n" for _ in range(parts))

    async def page(self, text: str) -> str:
        """As if it were printed."""
        return f"<!doctype html><pre>{text}</pre>"

    async def begin(self, password: str, parts: int = 1, need: int = 1) -> str:
        """Pending."""
        if self.state.pending:
            raise KeyRefused(f"root key {self.state.pending} is pending already: confirm it, or cancel it")
        self.state = RootKeyState(self.state.key, "8899aabbccddeeff", 1_780_000_000.0)
        return PAGE.join(f"{self.state.pending} {password}\n" for _ in range(parts))

    async def confirm(self, text: str, password: str) -> RootKeyState:
        """In force."""
        if not self.state.pending:
            raise KeyRefused("no root key is pending: make one first")
        if text.strip() != f"{self.state.pending} {password}":
            raise KeyRefused("another key's paper, or the wrong password")
        self.state = RootKeyState(self.state.pending, waiting=(2,))
        return self.state

    async def cancel(self) -> None:
        """Dropped."""
        if not self.state.pending:
            raise KeyRefused("no root key is pending: make one first")
        self.state = RootKeyState(self.state.key)


@implementer(IMedia)
class MemoryMedia:
    """Media without places; the secrets that were given are kept to be looked for."""

    def __init__(self) -> None:
        self.media = {1: MediumState(id=1, kind="directory", where="/srv/<one>", active=True, up=True, mails=5)}
        self.secrets: dict[int, str] = {}
        self.merged: list[tuple[tuple[int, ...], int]] = []
        self.refuses = ""

    async def list(self) -> Sequence[MediumState]:
        """All."""
        return [self.media[number] for number in sorted(self.media)]

    async def test(self, number: int) -> MediumProbe:
        """It works, if there is one."""
        self._known(number)
        return MediumProbe(0.01, 100, 50)

    async def add(self, kind: str, place: str, options: Mapping[str, object], secret: str, name: str = "") -> int:
        """The next number."""
        if not place.startswith("/"):
            raise ValueError(f"{place!r}: an absolute path is needed")
        number = max(self.media) + 1
        self.media[number] = MediumState(id=number, kind=kind, where=place, name=name, up=True)
        self.secrets[number] = secret
        return number

    async def activate(self, number: int) -> None:
        """This one, and no other."""
        self._known(number)
        self.media = {n: msgspec.structs.replace(m, active=n == number) for n, m in self.media.items()}

    async def deactivate(self, number: int) -> None:
        """Not the active one."""
        if self._known(number).active:
            raise MediumRefused(f"medium {number} is the active one: activate another one first")
        self.media[number] = msgspec.structs.replace(self.media[number], used=False)

    async def use(self, number: int) -> None:
        """Again."""
        self.media[number] = msgspec.structs.replace(self._known(number), used=True)

    async def take(self, number: int) -> None:
        """From the other installation, unless it ``refuses``."""
        if self.refuses:
            raise MediumRefused(self.refuses)
        self.media[number] = msgspec.structs.replace(self._known(number), taken=False, up=True)

    async def set_secret(self, number: int, secret: str) -> None:
        """Kept."""
        self._known(number)
        self.secrets[number] = secret

    async def remove(self, number: int) -> None:
        """Gone."""
        del self.media[self._known(number).id]

    async def merge(self, numbers: Sequence[int], into: int) -> None:
        """Noted."""
        self._known(into)
        self.merged.append((tuple(numbers), into))

    def _known(self, number: int) -> MediumState:
        if number not in self.media:
            raise MediumRefused(f"there is no medium {number}")
        return self.media[number]
