"""The API on ``control.db`` with rooms that remember what they were asked, for tests of API, command line and pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from zope.interface import implementer

from hornetmail.core.archive.archived import ArchivedMail, ArchiveFigures, Finding, Handed, Hit, Page, QueryError, Refused
from hornetmail.core.archive.guidance import Guidance
from hornetmail.core.archive.stamps import AUTHORITIES
from hornetmail.core.delivery.queued import Backlog, Message, Row, RowKind, RowState
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Person, Scope
from hornetmail.interfaces.modes import IModes
from hornetmail.interfaces.redelivery import IRedelivery
from hornetmail.testing.control import NOW, Control
from hornetmail.testing.retention import MemoryRetention
from hornetmail.testing.rooms import MemoryExpiry, MemoryQueue, MemoryRootKeys, MemoryStamps
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.rooms import Rooms


def queued(number: int, *recipients: str, tenant: int = 1, state: RowState = RowState.QUEUED) -> list[tuple[Message, Row]]:
    """A message and its rows as the queue would hold them."""
    envelope = Envelope("sender@elsewhere.test", tuple(Recipient(address) for address in recipients))
    domain = recipients[0].rpartition("@")[2]
    message = Message(number, tenant, envelope, Origin(Door.MX, "192.0.2.1"), Direction.IN, NOW, 1234, b"\0" * 32, b"", domain)
    verdict = Verdict(Outcome.DEFERRED, Reply(451, "4.3.0", "later"), "primary", Stage.RCPT, "mx.example.test")
    rows = [
        Row(number + place, number, RowKind.DELIVER, state, address, place, NOW + 60, 1, NOW, last=verdict)
        for place, address in enumerate(recipients, 1)
    ]
    rows.append(Row(number + 500, number, RowKind.ARCHIVE, RowState.WAITING, queued=NOW))
    return [(message, row) for row in rows]


class RememberedQueue(MemoryQueue):
    """Keeps what it was asked to change."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[list[int], RowState, float, str]] = []

    @property
    def content(self) -> list[tuple[Message, Row]]:
        """All that it holds."""
        return list(self.held.values())

    @content.setter
    def content(self, content: Iterable[tuple[Message, Row]]) -> None:
        self.held = {row.id: (message, row) for message, row in content}

    async def change(self, rows: Iterable[int], state: RowState, *, due: float = 0.0, reason: str = "") -> int:
        """Remember, and change."""
        wanted = list(rows)
        self.asked.append((wanted, state, due, reason))
        return await super().change(wanted, state, due=due, reason=reason)

    def backlog(self, tenant: int = 0) -> Backlog:
        """Some figures; of other tenants than the first, counted ones."""
        if tenant > 1:
            return super().backlog(tenant)
        return Backlog(messages=3, deliver=4, drain=1, archive=2, held=1, oldest=12.34)


@implementer(IModes)
class RememberedModes:
    """Modes by domain; a domain named ``fixed.test`` has no primary."""

    def __init__(self) -> None:
        self.modes: dict[str, Mode] = {}
        self.asked: list[tuple[str, Mode, str, str]] = []
        self.primary: dict[str, Any] = {"host": "[::1]:25", "up": True, "since": 0.0, "seen": 0.0, "reason": "answered EHLO"}

    def mode(self, domain: str) -> Mode:
        """Normal unless switched."""
        return self.modes.get(domain, Mode.NORMAL)

    def explain(self, domain: str) -> dict[str, Any]:
        """As delivery does."""
        return {"mode": str(self.mode(domain)), "up": True, "primaries": [self.primary]}

    async def recipients(self, domain: str) -> dict[str, Any]:
        """None are known."""
        return {"accepts_everything": False, "gaps": [], "gaps_total": 0}

    def ended(self, domain: str) -> float:
        """None is remembered."""
        return 0.0

    async def switch(self, domain: str, mode: Mode, by: str, reason: str = "") -> None:
        """Remember, and switch."""
        if domain == "fixed.test":
            raise ValueError("fixed.test has no primary: the portal is its mail server for good")
        self.asked.append((domain, mode, by, reason))
        self.modes[domain] = mode


class RememberedArchive:
    """Of ``IArchive`` the part that people ask; scopes are kept as asked. ``mails``: content by ID with its owner keys."""

    def __init__(self) -> None:
        self.mails: dict[int, tuple[ArchivedMail, bytes, frozenset[str]]] = {}
        self.scopes: list[Scope] = []
        self.findings: list[Finding] = []
        self.confirmed = 0

    def add(self, number: int, sender: str, *recipients: str, direction: Direction = Direction.IN, tenant: int = 1) -> None:
        """A mail of the sender and the recipients."""
        hit = Hit(number, NOW, sender, recipients, "Subject", 99, direction, NOW)
        mail = ArchivedMail(hit, tenant, "inline", "", "<m@x>", b"\1" * 32, 1, NOW + 1, recipients, recipients, "the text")
        self.mails[number] = (mail, f"From: {sender}\r\n\r\nbody {number}\r\n".encode(), frozenset({sender, *recipients}))

    def _seen(self, scope: Scope) -> list[int]:
        self.scopes.append(scope)
        return [
            number
            for number, (mail, _, owners) in sorted(self.mails.items(), reverse=True)
            if scope.tenant in (0, mail.tenant) and (scope.addresses is None or owners & scope.addresses)
        ]

    async def search(self, scope: Scope, query: str, *, limit: int = 50, after: str = "") -> Page:
        """Everything that the scope sees, whatever the words."""
        if query == "size>":
            raise QueryError("size>: a number is missing")
        found = self._seen(scope)
        closed = () if scope.content or ":" in query or not query else ("content",)
        return Page(len(found), tuple(self.mails[number][0].hit for number in found[:limit]), closed=closed)

    async def guidance(self, scope: Scope, query: str) -> Guidance:
        """Nothing to narrow down."""
        return Guidance()

    async def suggestions(self, scope: Scope, text: str) -> tuple[str, ...]:
        """Nobody."""
        return ()

    async def mail(self, scope: Scope, identifier: int) -> ArchivedMail:
        """One of them."""
        if identifier not in self._seen(scope):
            raise KeyError(identifier)
        mail = self.mails[identifier][0]
        return mail if scope.content else msgspec.structs.replace(mail, text="")

    async def read(self, scope: Scope, identifier: int) -> bytes:
        """Its bytes."""
        await self.mail(scope, identifier)
        if not scope.content:
            raise Refused("no right to content")
        return self.mails[identifier][1]

    async def evidence(self, scope: Scope, identifier: int) -> bytes:
        """Its bytes, under another name."""
        return b"evidence of " + await self.read(scope, identifier)

    async def figures(self) -> ArchiveFigures:
        """Some figures."""
        return ArchiveFigures(mails=len(self.mails), packs=1, bytes_raw=1000, bytes_stored=400)

    async def verify(self, full: bool = False) -> Sequence[Finding]:
        """What the test put there."""
        return self.findings

    async def confirm_purge(self) -> None:
        """Counted."""
        self.confirmed += 1

    async def flush(self, seal: bool = False) -> None:
        """Nothing waits."""


@implementer(IRedelivery)
class RememberedRedelivery:
    """Remembers who asked for what; ``unfit`` are mails that cannot travel as attachments, ``without`` addresses that have no right to any."""

    def __init__(self) -> None:
        self.asked: list[tuple[Person, list[int], str, str]] = []
        self.attached: list[bool] = []
        self.unfit: set[int] = set()
        self.without: set[str] = set()

    async def redeliver(
        self, person: Person, identifiers: Sequence[int], to: str = "", request: str = "", *, attached: bool = False
    ) -> Handed:
        """One message ID a mail."""
        if to in self.without:
            raise KeyError(identifiers[0])
        self.asked.append((person, list(identifiers), to, request))
        self.attached.append(attached)
        unfit = self.unfit.intersection(identifiers) if attached else set()
        went = tuple(9_007_199_254_740_993 + number for number in identifiers if number not in unfit)
        return Handed(went, tuple((number, "its lines are too long") for number in sorted(unfit)))


class ApiOnControl:
    """``Api`` with all rooms; ``health`` and ``given_up`` are the test's to look at and change."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.queue = RememberedQueue()
        self.modes = RememberedModes()
        self.archive = RememberedArchive()
        self.redelivery = RememberedRedelivery()
        self.retention = MemoryRetention(control.clock.seconds)
        self.expiry = MemoryExpiry()
        self.root_keys = MemoryRootKeys()
        self.stamps = MemoryStamps(lambda: control.directory.setting(AUTHORITIES, ""))
        self.health: dict[str, str] = {"smtp": "", "delivery": ""}
        self.given_up: list[tuple[list[int], str]] = []
        self.rooms = Rooms(
            directory=control.directory,
            access=control.access,
            sessions=control.sessions,
            clock=control.clock,
            audit=control.audit,
            second=control.second,
            bus=control.bus,
            queue=self.queue,
            modes=self.modes,
            archive=self.archive,
            redelivery=self.redelivery,
            retention=self.retention,
            expiry=self.expiry,
            health=lambda: self.health,
            bounce=self._bounce,
            root_keys=self.root_keys,
            stamps=self.stamps,
            hostname="mx.example.test",
            version="1.2.3",
        )
        self.api = Api(self.rooms)

    async def _bounce(self, rows: Sequence[int], reason: str) -> int:
        self.given_up.append((list(rows), reason))
        return len(rows)
