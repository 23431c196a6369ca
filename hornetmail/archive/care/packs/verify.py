"""``archive verify``: everything that can be wrong is looked for, and named."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hornetmail.archive.care.packs.accounts import Accounts, Stretch, in_stretches
from hornetmail.archive.care.packs.leafcheck import LeafCheck, plan
from hornetmail.archive.care.packs.sealing import Sealer
from hornetmail.archive.index.schema.fulltext import table_of
from hornetmail.archive.index.schema.tokens import ANY
from hornetmail.archive.index.ties.leaves import looked_at, set_looked
from hornetmail.archive.keys.keyring import KEYRING_NAME, Keyring, KeyTrouble
from hornetmail.archive.media.medium import IMedium, MediumAway, MediumError, MediumMissing, MediumUnread
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.packs import PackBroken, keys_of, month_of, open_pack
from hornetmail.archive.store.records import AuditLeaf, Kind, MailMeta, audit_leaf_of
from hornetmail.archive.store.shelf import PackRow, dead_packs, names_being_written, pack_rows
from hornetmail.core.archive.archived import ArchiveError, Finding
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database
from hornetmail.disk.files import DiskFull
from hornetmail.disk.records import BadRecord

SAMPLE = 8
"""Packs that a short run reads whole: those that were checked longest ago."""


SAMPLE_BYTES = 256 << 20
SAMPLE_MEMBERS = 50_000
"""And no more bytes or records than that, but for a single one."""

MONTH_MAILS = 250_000
"""Mails of months whose full text a short run counts, those first that were checked longest ago."""


def sample_of(packs: Sequence[PackRow]) -> Sequence[PackRow]:
    """The first of them, as far as a short run goes."""
    size = members = 0
    for count, pack in enumerate(packs[:SAMPLE]):
        size += pack.size
        members += pack.members
        if count and (size > SAMPLE_BYTES or members > SAMPLE_MEMBERS):
            return packs[:count]
    return packs[:SAMPLE]


class Verification:
    """One run. What blocks runs in threads."""

    def __init__(
        self,
        holdings: Holdings,
        database: Database,
        sealer: Sealer,
    ) -> None:
        self._holdings = holdings
        self._database = database
        self._keys = holdings.keys
        self._media = holdings.media
        self._shelf = holdings.shelf
        self._staging = holdings.staging
        self._sealer = sealer
        self._on_media: dict[int, frozenset[int]] = {}
        self._found: list[Finding] = []
        self._leaves = LeafCheck(holdings, self._bad)
        self._lost: dict[int, int] = {}
        """Media that do not answer, or cannot be believed, and how many packs on each were passed over for it."""

    async def run(self, full: bool) -> Sequence[Finding]:
        """Findings; empty if all is well."""
        known, size = await self._database.read(looked_at), self._holdings.leaves.size
        stretches, looked = plan(size, known, full)
        complete = stretches == in_stretches(0, size)
        packs = await self._sealer.between(partial(self._compared, stretches))
        oldest = sorted(packs, key=lambda p: (p.checked > p.made, p.checked))
        for pack in packs if full else sample_of(oldest):
            members = await self._database.read(_mails_in, pack.number)
            if await self._holdings.in_thread(self._check_pack, pack, members):
                await self._database.run(_checked, pack.number, self._holdings.seconds())
        for number, packs_there in sorted(self._lost.items()):
            if packs_there:
                self._bad(f"medium {number}", f"{packs_there} packs that lie there were not read")
        await self._holdings.in_thread(self._check_staging, await self._database.read(_unsealed))
        await self._check_index(full)
        ownerless = await Accounts(self._holdings, self._database).check(None if complete else stretches)
        self._found += ownerless
        if self._leaves.well and not ownerless:
            await self._database.run(set_looked, looked)
        return tuple(self._found)

    async def _compared(self, stretches: Sequence[Stretch]) -> list[PackRow]:
        """What medium, index and leaf log say of one another; the packs that the index has."""
        await self._holdings.in_thread(self._check_keys)
        await self._holdings.in_thread(self._leaves.compare, stretches, frozenset(self._lost))
        packs = await self._database.read(pack_rows)
        dead = await self._database.read(dead_packs, month_of(self._holdings.seconds()))
        leaving = frozenset(pack.name for pack in (*dead, *(pack for pack in packs if pack.merged)))
        coming = await self._database.read(names_being_written)
        await self._holdings.in_thread(self._check_presence, packs, coming, leaving)
        return packs

    def _bad(self, where: str, what: str) -> None:
        self._found.append(Finding(where, what))

    async def _check_index(self, full: bool) -> None:
        """Whether what lies where the index says lies there, and has its full text. One month a transaction."""
        counted = 0
        for month in await self._database.read(_months):
            if counted >= MONTH_MAILS and not full:
                break
            mails, texts = await self._database.read(_texts_of, month)
            counted += mails
            if mails != texts:
                self._bad(f"archive.db: {table_of(month)}", f"{texts} full texts for {mails} mails")
            else:
                await self._database.run(_month_checked, month, self._holdings.seconds())
        if lost := await self._database.read(_in_unknown_packs):
            self._bad("archive.db: mail", f"{lost} mails lie in packs that the index does not know")
        if full:
            for what in await self._database.read(_integrity):
                self._bad("archive.db", what)

    def _check_keys(self) -> None:
        wanted = self._keys.current().to_bytes()
        path = self._holdings.directory / KEYRING_NAME
        if not path.exists():
            self._bad("keyring", f"{path} is missing; a copy lies on every medium")
        elif path.read_bytes() != wanted:
            self._bad("keyring", f"{path} is not the keyring in force: it was changed")
        for medium in self._media.all():
            where = f"medium {medium.number}"
            told = ""
            try:
                medium.look()
            except (MediumError, DiskFull) as error:
                told = str(error)
                self._bad(where, told)
            try:
                # A new key is on the medium before a pack that needs it, and may be missing there until then.
                self._on_media[medium.number] = self._numbers_on(medium)
            except MediumMissing:
                self._bad(f"{where}: keyring", "the wrapped keys are missing")
            except KeyTrouble as error:
                self._bad(f"{where}: keyring", f"the wrapped keys are of no use: {error}")
            except MediumUnread as error:
                self._bad(f"{where}: keyring", str(error))
            except MediumError as error:
                self._gone(medium.number, str(error), told)

    def _gone(self, number: int, why: str, told: str = "") -> None:
        """A medium is out of reach: said once, and nothing more is asked of it, since each question may take a minute."""
        if number not in self._lost:
            self._lost[number] = 0
            if why != told:
                self._bad(f"medium {number}", why)

    def _numbers_on(self, medium: IMedium) -> frozenset[int]:
        """The keys that a medium holds. One that was out of reach when the root key changed holds those from before, until it has the new ones."""
        keyring, data = self._keys.current(), medium.get(KEYRING_NAME)
        if medium.number in self._keys.waiting and keyring.follows(data):
            return Keyring.from_bytes(data, None).numbers
        return keyring.copy_of(data).numbers

    def _check_presence(self, packs: Sequence[PackRow], coming: frozenset[str], leaving: frozenset[str]) -> None:
        """``leaving`` may be gone from their media already, by a run that died before the index had it."""
        expected = {(p.medium, p.name): p.size for p in packs}
        known = {name for _, name in expected}
        for medium in self._media.all():
            if medium.number in self._lost:
                continue
            try:
                there = {name: size for folder in ("packs/", "journal/") for name, size in medium.names(folder)}
            except MediumAway as error:
                self._gone(medium.number, str(error))
                continue
            except MediumError as error:
                self._bad(f"medium {medium.number}", str(error))
                continue
            for (number, name), size in expected.items():
                if number != medium.number:
                    continue
                if name not in there and name in leaving:
                    continue
                if name not in there:
                    self._bad(f"medium {number}: {name}", "the pack is missing")
                elif there[name] != size:
                    self._bad(f"medium {number}: {name}", f"the pack has {there[name]} bytes instead of {size}")
            for name in there:
                # One that lies elsewhere too is being moved there.
                if name not in known and name not in coming:
                    self._bad(f"medium {medium.number}: {name}", "a pack that the index does not know")

    def _check_pack(self, pack: PackRow, mails: dict[bytes, tuple[int, int]]) -> bool:
        """Read a pack whole: seal, order, every record, every SHA-256, every leaf."""
        where = f"medium {pack.medium}: {pack.name}"
        if pack.medium in self._lost:
            self._lost[pack.medium] += 1
            return False
        before = len(self._found)
        try:
            data = self._media.get(pack.medium).get(pack.name)
            opened = open_pack(data, self._keys.current())
        except MediumMissing:
            return False
        except MediumAway as error:
            self._gone(pack.medium, str(error))
            self._lost[pack.medium] += 1
            return False
        except (PackBroken, KeyTrouble, MediumError) as error:
            self._bad(where, str(error))
            self._check_members_singly(where, pack, mails)
            return False
        if opened.sha256 != pack.sha256:
            self._bad(where, "a whole pack, but not the one that was put there")
        for key in sorted(keys_of(data, opened.members) - self._on_media.get(pack.medium, self._keys.current().numbers)):
            self._bad(where, f"it needs key {key}, which is not in the medium's keyring")
        members = {m.record: m for m in opened.members}
        for record, place in mails.items():
            member = members.get(record)
            if member is None or (member.offset, member.length) != place:
                self._bad(where, f"record {record.hex()} does not lie where the index has it")
        for member in opened.members:
            self._check_record(f"{where}: record {member.record.hex()}", data[member.offset : member.offset + member.length])
        return len(self._found) == before

    def _check_members_singly(self, where: str, pack: PackRow, mails: dict[bytes, tuple[int, int]]) -> None:
        """What of a damaged pack still opens."""
        for record, (start, length) in mails.items():
            try:
                data = self._shelf.record(pack, start, length, record)
            except (ArchiveError, KeyError) as error:
                self._bad(f"{where}: record {record.hex()}", str(error))
            else:
                self._check_record(f"{where}: record {record.hex()}", data)

    def _check_record(self, where: str, data: bytes) -> None:
        try:
            kind = data[1] if len(data) > 1 else 0
            if kind == Kind.MESSAGE:
                self._check_leaf(where, self._shelf.mail(data)[0])
            elif kind == Kind.EVENT:
                _, event = self._holdings.codec.open_event(data)
                if stated := event.copy or audit_leaf_of(event):
                    self._check_leaf(where, stated)
            else:
                self._holdings.codec.open_part(data)
        except ArchiveError as error:
            self._bad(where, str(error))

    def _check_leaf(self, where: str, meta: MailMeta | AuditLeaf) -> None:
        if meta.node != self._holdings.node:
            return
        stated = self._leaves.leaf(meta.leaf)
        if stated is not None and stated != meta.leaf_hash():
            self._bad(where, f"it is not what leaf {meta.leaf} states")

    def _check_staging(self, unsealed: Sequence[tuple[int, bytes, int]]) -> None:
        """Staged records, and the mails (ID, record, segment) that the index has in the staging area."""
        for path in sorted(self._staging.aside.glob("*.log")) if self._staging.aside.is_dir() else ():
            self._bad(f"staging: {path.name}", f"damaged, kept aside in {path.parent}; records in it may be missing")
        segments = set(self._staging.records.segments())
        for identifier, record, segment in unsealed:
            if segment not in segments:
                self._bad(f"staging: record {record.hex()}", f"mail {identifier} was staged, and its bytes are lost")
        for entries in list(self._staging.segments.values()):
            for entry in list(entries):
                where = f"staging: record {entry.record.hex()}"
                try:
                    data = self._staging.read(entry.position)
                except KeyError:
                    continue
                except (BadRecord, OSError) as error:
                    self._bad(where, str(error))
                    continue
                self._check_record(where, data)


def _mails_in(cursor: Cursor, number: int) -> dict[bytes, tuple[int, int]]:
    found = cursor.execute("SELECT record, start, length FROM mail WHERE pack = ?", (number,)).fetchall()
    found += cursor.execute("SELECT record, start, length FROM part WHERE pack = ?", (number,)).fetchall()
    return {record: (start, length) for record, start, length in found}


def _unsealed(cursor: Cursor) -> list[tuple[int, bytes, int]]:
    found: list[tuple[int, bytes, int]] = cursor.execute("SELECT id, record, length FROM mail WHERE pack IS NULL").fetchall()
    return found


def _checked(cursor: Cursor, number: int, now: float) -> None:
    cursor.execute("UPDATE pack SET checked = ? WHERE number = ?", (now, number))


def _months(cursor: Cursor) -> list[int]:
    return [month for (month,) in cursor.execute("SELECT month FROM month ORDER BY checked, month").fetchall()]


def _texts_of(cursor: Cursor, month: int) -> tuple[int, int]:
    """Mails of a month, and full texts of it."""
    table = table_of(month)
    (mails,) = cursor.execute("SELECT count(*) FROM mail WHERE month = ?", (month,)).fetchone()
    (texts,) = cursor.execute(f"SELECT count(*) FROM {table} WHERE {table} MATCH ?", (f'rights : "{ANY}"',)).fetchone()
    return int(mails), int(texts)


def _month_checked(cursor: Cursor, month: int, now: float) -> None:
    cursor.execute("UPDATE month SET checked = ? WHERE month = ?", (now, month))


def _in_unknown_packs(cursor: Cursor) -> int:
    """Mails in packs that there are not. From one pack to the next by the index: there are few packs, however many mails."""
    lost = 0
    pack = cursor.execute("SELECT min(pack) FROM mail").fetchone()[0]
    while pack is not None:
        if not cursor.execute("SELECT 1 FROM pack WHERE number = ?", (pack,)).fetchone():
            lost += cursor.execute("SELECT count(*) FROM mail WHERE pack = ?", (pack,)).fetchone()[0]
        pack = cursor.execute("SELECT min(pack) FROM mail WHERE pack > ?", (pack,)).fetchone()[0]
    return lost


def _integrity(cursor: Cursor) -> list[str]:
    for month in _months(cursor):
        # FTS5 goes by the segments that this connection knew last; only a query looks whether others have written since.
        table = table_of(month)
        cursor.execute(f"SELECT 1 FROM {table} WHERE {table} MATCH ? LIMIT 1", (f'rights : "{ANY}"',)).fetchall()
    found = [str(row[0]) for row in cursor.execute("PRAGMA cipher_integrity_check").fetchall()]
    return found + [str(row[0]) for row in cursor.execute("PRAGMA integrity_check").fetchall() if row[0] != "ok"]
