"""The archive as mail programs see it, over an archive in a temporary directory: who may see what, an audit log and a redelivery that can be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from hornetmail.archive.archive import Archive
from hornetmail.archive.tree.site import Around, TreeSite
from hornetmail.archive.tree.tree import ArchiveTree
from hornetmail.core.archive.archived import Handed, Refused
from hornetmail.core.folder import Entry
from hornetmail.core.served import Person, Scope
from hornetmail.interfaces.audit import IAudit
from hornetmail.interfaces.redelivery import IRedelivery
from hornetmail.testing.archives import user
from hornetmail.testing.folders import MemoryBus, MemoryTree
from tests.archive.cases import ArchiveCase

BOB, CAROL, AUDITOR = 1, 2, 3
PREFIX = "Mail archive/"
MAY = "Received/2026/05"
ALL_MAY = "Everybody/Received/2026/05"


@implementer(IAudit)
class Log:
    """What was begun, in order."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []
        self.fails = False

    async def begin(self, actor: str, action: str, subject: str, detail: str = "", tenant: int = 0) -> int:
        if self.fails:
            raise OSError("no room for the audit log")
        self.rows.append((actor, action, subject))
        return len(self.rows)

    async def outcome(self, number: int, result: str) -> None:
        assert 0 < number <= len(self.rows)

    async def entries(self, *, tenant: int = 0, before: int = 0, limit: int = 100) -> Sequence[Any]:
        return self.rows

    async def verify(self, since: int = 0) -> str:
        return ""

    async def newest(self) -> tuple[int, bytes]:
        return len(self.rows), b""

    async def hash_of(self, number: int) -> bytes | None:
        return None


@implementer(IRedelivery)
class Sent:
    """What was redelivered, to whom."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, int]] = []
        self.fails: Exception | None = None

    async def redeliver(
        self, person: Person, identifiers: Sequence[int], to: str = "", request: str = "", *, attached: bool = False
    ) -> Handed:
        if self.fails is not None:
            raise self.fails
        self.mails += [(to, identifier) for identifier in identifiers]
        return Handed(tuple(identifiers))


class TreeCase(ArchiveCase):
    """Bob, Carol, and an auditor of their tenant, each with own folders in memory."""

    def setUp(self) -> None:
        super().setUp()
        self.people = {
            BOB: Person(BOB, "bob@example.test", 1, addresses=("bob@example.test",)),
            CAROL: Person(CAROL, "carol@example.test", 1, addresses=("carol@example.test",)),
            AUDITOR: Person(AUDITOR, "audit@example.test", 1, addresses=("audit@example.test",)),
        }
        self.rights: dict[int, dict[str, Scope]] = {number: {"": user(*one.addresses)} for number, one in self.people.items()}
        self.rights[AUDITOR]["Everybody/"] = Scope(1, None, all_recipients=True)
        self.closed = ""
        self.log = Log()
        self.sent = Sent()
        self.bus = MemoryBus()
        self.own = {number: MemoryTree(number, self.bus) for number in self.people}

    def scopes(self, mailbox: int) -> dict[str, Scope]:
        if self.closed:
            raise Refused(self.closed)
        return self.rights.get(mailbox, {})

    def site(self, archive: Archive) -> TreeSite:
        """What all trees share, as after a start."""
        return TreeSite(
            Around(
                index=archive.index,
                writing=archive.writing,
                node=0,
                texts=archive,
                scopes=self.scopes,
                person=self.people.get,
                redelivery=self.sent,
                audit=self.log,
                bus=self.bus,
                in_thread=archive.holdings.in_thread,
                seconds=self.clock.seconds,
            )
        )

    def tree(self, site: TreeSite, mailbox: int = BOB) -> ArchiveTree:
        return ArchiveTree(site, mailbox, self.own[mailbox], PREFIX)

    async def names(self, site: TreeSite, mailbox: int = BOB) -> list[str]:
        return [info.name for info in await self.tree(site, mailbox).folders()]

    async def shown(self, site: TreeSite, name: str = MAY, mailbox: int = BOB) -> dict[int, str]:
        """UIDs and subjects of a folder."""
        folder = await self.tree(site, mailbox).open(name)
        uids = list(await folder.uids())
        trees = await folder.structures(uids)
        assert list(trees) == uids
        return {uid: (tree.summary.subject or b"").decode() for uid, tree in trees.items() if tree.summary is not None}

    async def validity(self, site: TreeSite, name: str = MAY, mailbox: int = BOB) -> int:
        validity: int = (await self.tree(site, mailbox).open(name)).info.uidvalidity
        return validity


def uids_of(entries: Sequence[Entry], *, gone: bool = False) -> list[int]:
    """Of those that are there, or went."""
    return [entry.uid for entry in entries if entry.gone is gone]
