"""One folder of the archive, as one person sees it."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NoReturn, TypeVar

from zope.interface import implementer

from hornetmail.archive.index.finding import folders
from hornetmail.archive.index.finding.folders import MODSEQ_BITS, Month, Row, Standing, Wanted
from hornetmail.archive.tree import texts
from hornetmail.archive.tree.copying import Copying
from hornetmail.archive.tree.keys import Narrowing, email_id
from hornetmail.archive.tree.site import Snapshot, TreeSite, above, reason, rights_of
from hornetmail.core.archive.archived import ArchiveError, Refused
from hornetmail.core.folder import Copied, Entry, FolderError, FolderInfo, FolderStatus, Sieve
from hornetmail.core.served import Scope
from hornetmail.db.engines import DatabaseError
from hornetmail.interfaces.body import IBody, IDeposit
from hornetmail.interfaces.folders import IFolder, IFolderTree, IIndexedFolder
from hornetmail.mime.structure import Part
from hornetmail.wire.imap.requests.search import Key

T = TypeVar("T")

READ = frozenset({"\\Seen"})
"""Whether mail was read is not kept: all of it counts as read, so that nothing there asks to be."""

ROWS = 1000
"""Mails looked up at a time."""

GONE = 1000
"""Answers with so many that went say: compare (``IFolder.changes``)."""

READ_ONLY = "Archived mail stays as it is: nothing can be changed, put there or removed in a mail program"


@implementer(IIndexedFolder)
class ArchiveFolder:
    """``branch``: by which rights it is seen (``Around.scopes``). What it shows is proved by rights whenever it is asked: who loses them sees no more of it."""

    def __init__(
        self, site: TreeSite, mailbox: int, branch: str, month: Month, info: FolderInfo, standing: Standing, root: IFolderTree
    ) -> None:
        self.info = info
        self.mailbox = mailbox
        self._site = site
        self._branch = branch
        self._month = month
        self._root = root
        self._rights = rights_of(self.scope())
        self._standing = standing
        self._snapshot: Snapshot | None = None
        self._given: array[int] = array("I")
        self._given_at = 0
        self._trouble = ""
        self._opened: set[int] = set()
        self._numbering = numbering_of(standing)
        site.watch(self)

    # -- who asks -------------------------------------------------------------------------------------------------------------

    def scope(self) -> Scope:
        """What its person may see of this branch now. Raises FolderError NONEXISTENT: nothing any more."""
        found = self._site.scopes(self.mailbox).get(self._branch)
        if found is None or not found.content:
            raise FolderError("NONEXISTENT", "There is no such mailbox in the archive")
        return found

    def _allowed(self) -> Scope:
        """The same rights as when it was opened, for others would count otherwise."""
        scope = self.scope()
        if rights_of(scope) != self._rights:
            raise FolderError("NONEXISTENT", "What you may see of the archive has changed: open it again")
        return scope

    @property
    def there(self) -> bool:
        """See IFolder: false once its person has other rights, or the archive counts anew."""
        try:
            self._allowed()
        except FolderError:
            return False
        return numbering_of(self._standing) == self._numbering

    async def look(self) -> Snapshot:
        """How it stands now."""
        found = self._snapshot = await self._site.snapshot(self._allowed(), self._month)
        self._standing = found.standing
        return found

    async def _known(self) -> Snapshot:
        """How it stood when somebody looked last."""
        return self._snapshot or await self.look()

    # -- figures --------------------------------------------------------------------------------------------------------------

    async def status(self) -> FolderStatus:
        """See IFolder."""
        scope = self._allowed()
        if scope.addresses is None:  # nobody has to list a million to count them
            now = self._standing = await self._site.standing(scope, self._month)
            return FolderStatus(self.info.uidvalidity, now.top + 1, now.mails, 0, now.change, now.size)
        snapshot = await self.look()
        if snapshot.size is None:
            snapshot.size = await self._site.ask_long(folders.size_of, self._site.around.node, snapshot.uids)
        change = snapshot.standing.change
        return FolderStatus(self.info.uidvalidity, snapshot.next, len(snapshot.uids), 0, change, snapshot.size)

    async def uids(self) -> Sequence[int]:
        """See IIndexedFolder."""
        snapshot = await self.look()
        self._given, self._given_at = snapshot.uids, snapshot.standing.change
        return snapshot.uids

    async def compared(self, uids: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """See IIndexedFolder."""
        found: tuple[list[int], list[int]] = await self._site.around.in_thread(_compared, uids, (await self.look()).uids)
        return found

    def first_after(self, modseq: int) -> int:
        """See IIndexedFolder."""
        return (modseq >> MODSEQ_BITS) + 1

    async def entries(self, uids: Collection[int] | None = None) -> Sequence[Entry]:
        """See IFolder."""
        return [_entry(row) for row in await self._rows((await self._known()).uids if uids is None else sorted(uids))]

    async def _rows(self, uids: Sequence[int]) -> list[Row]:
        """Of those that were shown to this person."""
        self._allowed()
        snapshot = await self._known()
        found: list[Row] = []
        for at in range(0, len(uids), ROWS):
            some = [uid for uid in uids[at : at + ROWS] if snapshot.has(uid)]
            if some:
                found += await self._site.ask(folders.rows, self._site.around.node, some)
        return found

    async def changes(self, modseq: int) -> Sequence[Entry]:
        """See IFolder. What went is found by comparing with what was given out last; of what went before that, nothing is kept, and all that is not there is told."""
        snapshot = await self.look()
        change = snapshot.standing.change
        if change <= modseq:
            return ()
        new = above(snapshot.uids, modseq >> MODSEQ_BITS)
        found = list(await self.entries(new))
        if modseq >= self._given_at:
            given, gone = self._given, []
            if _fewer(given, snapshot.uids):
                gone, _ = await self._site.around.in_thread(_compared, given, snapshot.uids)
            self._given = snapshot.uids
            self._given_at = max([modseq, *[entry.modseq for entry in found], *([change] if gone else [])])
        else:
            gone = _not_there(snapshot.uids)
        found += [Entry(uid, change, frozenset(), 0, 0.0, gone=True) for uid in gone]
        return found

    async def recent(self, take: bool) -> int:
        """See IFolder: nothing is."""
        return self._standing.top + 1

    def email_id(self, entry: Entry) -> str:
        """See IFolder."""
        return entry.name

    # -- texts ----------------------------------------------------------------------------------------------------------------

    def trouble(self) -> str:
        """See IIndexedFolder."""
        told, self._trouble = self._trouble, ""
        return told

    def _wrong(self, error: ArchiveError) -> None:
        self._trouble = self._trouble or f"The archive: {error}"

    async def structures(self, uids: Sequence[int]) -> dict[int, Part]:
        """See IFolder."""
        rows = await self._rows(sorted(uids))
        sights = await self._read(lambda scope: self._site.texts.sights(scope, rows, self._wrong))
        return {row.uid: texts.unpacked(sights[row.identifier]) for row in rows if row.identifier in sights}

    async def summaries(self, uids: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
        """See IFolder: they are made from structures."""
        return {}

    async def fields(self, uids: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """See IFolder: they are taken from headers."""
        return {}

    async def sifted(self, uids: Sequence[int], sieve: Sieve) -> dict[int, bool]:
        """See IFolder: no search leaves texts here."""
        return {}

    async def keep_texts(self, found: Sequence[tuple[int, bytes, bytes]]) -> None:
        """See IFolder: what is found in the archive is found by its index."""

    async def headers(self, uids: Sequence[int]) -> dict[int, bytes]:
        """See IFolder."""
        rows = await self._rows(sorted(uids))
        found = await self._read(lambda scope: self._site.texts.headers(scope, rows, self._wrong))
        return {row.uid: found[row.identifier] for row in rows if row.identifier in found}

    async def pieces(self, wanted: Sequence[tuple[int, int, int]]) -> Sequence[bytes | None]:
        """See IFolder. Where it is not the own mail, each mail that is opened stands in the audit log before anything of it is given."""
        rows = {row.uid: row for row in await self._rows(sorted({uid for uid, _, _ in wanted}))}
        there = [(rows[uid], start, length) for uid, start, length in wanted if uid in rows]
        await self._told(await self._beyond_headers(there))
        found = iter(await self._read(lambda scope: self._site.texts.pieces(scope, there, self._wrong)))
        return [next(found) if uid in rows else None for uid, _, _ in wanted]

    async def _beyond_headers(self, wanted: Sequence[tuple[Row, int, int]]) -> list[Row]:
        """What is opened, and not just looked at from outside."""
        if not self._branch:
            return []
        rows = [row for row, _, _ in wanted]
        sights = await self._read(lambda scope: self._site.texts.sights(scope, rows, self._wrong))
        return [row for row, start, length in wanted if (sight := sights.get(row.identifier)) and start + length > sight.body]

    async def body(self, uid: int) -> IBody:
        """See IFolder."""
        rows = await self._rows([uid])
        if not rows:
            raise FolderError("EXPUNGEISSUED", f"message {uid} has been removed")
        await self._told(rows)
        try:
            return await self._read(lambda scope: self._site.texts.body(scope, rows[0]))
        except KeyError:
            raise FolderError("EXPUNGEISSUED", f"message {uid} has been removed") from None
        except FolderError as error:
            self._trouble = self._trouble or error.text
            raise

    async def _read(self, work: Callable[[Scope], Awaitable[T]]) -> T:
        """What it gives, within the rights of now."""
        try:
            return await work(self._allowed())
        except (ArchiveError, DatabaseError, Refused) as error:
            raise reason(error) from error
        except OSError as error:
            raise FolderError("UNAVAILABLE", f"The archive: {error.strerror or error}") from error

    async def _told(self, rows: Sequence[Row]) -> None:
        """As on the archive's page; once a mail while the folder is open."""
        person = self._site.around.person(self.mailbox)
        if not self._branch or person is None:
            return
        audit = self._site.around.audit
        for row in rows:
            if row.identifier not in self._opened:
                number = await audit.begin(
                    person.address, "archive.export", str(row.identifier), "in a mail program", person.tenant
                )
                self._opened.add(row.identifier)
                await audit.outcome(number, "done")

    # -- search ---------------------------------------------------------------------------------------------------------------

    async def narrowed(self, key: Key, now: float) -> Key:
        """See IIndexedFolder."""
        scope = self._allowed()

        async def ask(wanted: Wanted) -> list[int]:
            found = await self._site.ask_long(folders.numbers, scope, self._site.around.node, self._month, wanted)
            return found.tolist()

        return await Narrowing(ask, now).key(key)

    # -- nothing is changed here ----------------------------------------------------------------------------------------------

    async def store(
        self,
        uids: Collection[int],
        add: Collection[str] = (),
        remove: Collection[str] = (),
        replace: Collection[str] | None = None,
        since: int | None = None,
    ) -> Sequence[Entry]:
        """See IFolder. Raises FolderError NOPERM."""
        _refuse()

    async def expunge(self, uids: Collection[int] | None = None) -> Sequence[int]:
        """See IFolder. Raises FolderError NOPERM."""
        _refuse()

    def append(self, flags: Collection[str], date: float | None, frees: int = 0) -> IDeposit:
        """See IFolder. Raises FolderError NOPERM."""
        _refuse()

    async def commit(self, deposits: Sequence[IDeposit], instead: tuple[IFolder, int] | None = None) -> Copied:
        """See IFolder. Raises FolderError NOPERM."""
        _refuse()

    async def copy(self, uids: Collection[int], target: str) -> Copied:
        """See IFolder, and ``copying``."""
        rows = await self._rows(sorted(uids))
        if len(rows) < len(set(uids)):
            raise FolderError("EXPUNGEISSUED", "Some of the messages have gone")
        copying = Copying(self._site, self.mailbox, self._allowed(), self._root)
        if not copying.redelivers(target):  # which is in the audit log as such
            await self._told(rows)
        return await copying.to(rows, target)

    async def move(self, uids: Collection[int], target: str) -> Copied:
        """See IFolder. Raises FolderError CANNOT (rule 27)."""
        raise FolderError("CANNOT", "Archived mail cannot be moved away: copy it")


def numbering_of(standing: Standing) -> tuple[int, int]:
    """What other UIDs would not have."""
    return standing.base, standing.anew


def _refuse() -> NoReturn:
    raise FolderError("NOPERM", READ_ONLY)


def _entry(row: Row) -> Entry:
    return Entry(row.uid, row.uid << MODSEQ_BITS, READ, row.size, row.received, name=email_id(row.identifier))


def _compared(before: Sequence[int], after: Sequence[int]) -> tuple[list[int], list[int]]:
    """In a thread: what went, and what came."""
    old, new = frozenset(before), frozenset(after)
    return sorted(old - new), sorted(new - old)


def _fewer(before: array[int], after: array[int]) -> bool:
    """Whether anything went."""
    if not before:
        return False
    return len(before) != bisect_right(after, before[-1])


def _not_there(uids: array[int]) -> list[int]:
    """The first UIDs that are no message's, ``GONE`` at most."""
    found: list[int] = []
    expected = 1
    for uid in uids:
        while expected < uid and len(found) < GONE:
            found.append(expected)
            expected += 1
        if len(found) >= GONE:
            break
        expected = uid + 1
    return found
