"""What ``portal.db`` is asked and told. Functions that take a cursor run in database threads and touch nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from hornetmail.core.folder import Entry
from hornetmail.db.engines import Cursor
from hornetmail.portal.maildir import naming
from hornetmail.portal.maildir.snapshot import GONE_KEPT, Gone, Place, Snapshot
from hornetmail.portal.maildir.stacks import Stack, stacked
from hornetmail.wire.imap.answers.ready import Ready

TREES = 64
"""Structures read in one hop."""

HEADS = 256
"""Headers read in one hop."""

TEXTS = 500
"""Kept texts looked through in one hop: about 5 ms."""

NEAR_BY = 64
"""So many messages that nobody asked for are read along, rather than naming each one."""

GONE_LOOKED_AT = 64
"""The rows of what has gone are counted at each so many changes only."""

_SEARCHED = ("portal_messages", "portal_texts")
_PER_MESSAGE = (*_SEARCHED, "portal_trees", "portal_heads", "portal_summaries", "portal_fields")

_KEPT = (
    ("portal_trees", "tree"),
    ("portal_heads", "head"),
    ("portal_summaries", "envelope, structure"),
    ("portal_fields", "bits, fields"),
)
"""Tables of what is kept of a message's text, and their columns."""

SKIPPED_UIDS = 100_000
"""UIDs and modseqs left out after a crash of the machine: more than the index can have forgotten."""


class FolderRow(msgspec.Struct, frozen=True, gc=False):
    """A folder as the index has it."""

    id: int
    name: str
    special: str
    uidvalidity: int


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What a client asks of a message without its text: its structure, packed, its header if that is not too long to be kept, and what of these is ready
    to be sent; that has no envelope if it is too large to be kept."""

    tree: bytes
    head: bytes | None
    ready: Ready


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A message to be put into the index. ``landed``: since when it is in the portal, in Unix seconds; a copy of the message ``source`` (its
    folder and UID) is there as long as that one, and has its structure and header."""

    entry: Entry
    place: Place
    kept: Kept | None = None
    at: float = 0.0
    landed: float = 0.0
    source: tuple[int, int] = (0, 0)


class Change(msgspec.Struct, frozen=True, gc=False):
    """What becomes of one folder: messages that came, changed, went. ``recent``: the first UID that nobody was told of; ``unwritten``: nothing of what is kept
    of those that went was ever written (``box.unwritten``)."""

    folder: int
    uidnext: int
    modseq: int
    recent: int
    added: Sequence[Stored] = ()
    changed: Sequence[Entry] = ()
    gone: Sequence[Gone] = ()
    unwritten: bool = False


def flag_text(flags: Iterable[str]) -> str:
    """Flags as a column."""
    return " ".join(sorted(flags))


def start(cursor: Cursor, boot: str) -> bool:
    """Release all claims (they die with the process that made them), and skip UIDs if the machine went down under us. Whether it did."""
    cursor.execute("UPDATE portal_messages SET claimed = 0 WHERE claimed = 1")
    cursor.execute("SELECT value FROM portal_facts WHERE tenant = 0 AND name = 'boot'")
    row = cursor.fetchone()
    crashed = row is not None and row[0] not in ("", boot)
    if crashed:
        cursor.execute("UPDATE portal_folders SET uidnext = uidnext + ?, modseq = modseq + ?", (SKIPPED_UIDS, SKIPPED_UIDS))
    fact(cursor, "boot", boot)
    return crashed


def stop(cursor: Cursor) -> None:
    """An orderly end."""
    fact(cursor, "boot", "")


def fact(cursor: Cursor, name: str, value: str) -> None:
    """Remember it."""
    cursor.execute(
        "INSERT INTO portal_facts (tenant, name, value) VALUES (0, ?, ?) ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def box(cursor: Cursor, mailbox: int) -> tuple[int, list[FolderRow]] | None:
    """The mailbox's last UIDVALIDITY and its folders, or None if it is not in the index."""
    cursor.execute("SELECT uidvalidity FROM portal_boxes WHERE mailbox = ?", (mailbox,))
    row = cursor.fetchone()
    if row is None:
        return None
    cursor.execute("SELECT id, name, special, uidvalidity FROM portal_folders WHERE mailbox = ?", (mailbox,))
    return row[0], [FolderRow(*found) for found in cursor.fetchall()]


def anything(cursor: Cursor) -> bool:
    """Whether there is any message."""
    cursor.execute("SELECT 1 FROM portal_messages LIMIT 1")
    return cursor.fetchone() is not None


def token(cursor: Cursor) -> str:
    """What stands in the identity file of the directory that this is the index of; ``""`` if that is not known yet."""
    cursor.execute("SELECT value FROM portal_facts WHERE tenant = 0 AND name = 'disk'")
    row = cursor.fetchone()
    return str(row[0]) if row is not None else ""


def set_token(cursor: Cursor, token: str) -> None:
    """Once it is in the file."""
    fact(cursor, "disk", token)


def renumber(cursor: Cursor, now: int) -> int:
    """New UIDVALIDITYs for all folders, which this index never gave: how many. For an index that is older than its files, and does not know which UIDs
    were told to clients since."""
    cursor.execute("SELECT mailbox, uidvalidity FROM portal_boxes")
    count = 0
    for mailbox, last in cursor.fetchall():
        cursor.execute("SELECT id FROM portal_folders WHERE mailbox = ? ORDER BY id", (mailbox,))
        fresh = max(now, last + 1)
        identifiers = [row[0] for row in cursor.fetchall()]
        for number, identifier in enumerate(identifiers):
            cursor.execute("UPDATE portal_folders SET uidvalidity = ? WHERE id = ?", (fresh + number, identifier))
        count += len(identifiers)
        cursor.execute("UPDATE portal_boxes SET uidvalidity = ? WHERE mailbox = ?", (fresh + len(identifiers), mailbox))
    return count


def mailboxes(cursor: Cursor) -> set[int]:
    """IDs of all mailboxes that were ever made."""
    cursor.execute("SELECT mailbox FROM portal_boxes")
    return {row[0] for row in cursor.fetchall()}


def tenant(cursor: Cursor, mailbox: int) -> int | None:
    """The tenant that a mailbox was made for."""
    cursor.execute("SELECT tenant FROM portal_boxes WHERE mailbox = ?", (mailbox,))
    row = cursor.fetchone()
    return row[0] if row is not None else None


def make_folders(
    cursor: Cursor, tenant: int, mailbox: int, names: Sequence[tuple[str, str]], now: int, least: int
) -> tuple[int, list[FolderRow]]:
    """Folders with UIDVALIDITYs that this mailbox never had (``least`` at least): the last of them, and the rows."""
    cursor.execute("SELECT uidvalidity FROM portal_boxes WHERE mailbox = ?", (mailbox,))
    row = cursor.fetchone()
    last = max(now, least, row[0] + 1 if row is not None else 0)
    made: list[FolderRow] = []
    for number, (name, special) in enumerate(names):
        cursor.execute(
            "INSERT INTO portal_folders (tenant, mailbox, name, special, uidvalidity, uidnext, modseq) VALUES (?, ?, ?, ?, ?, 1, 1) RETURNING id",
            (tenant, mailbox, name, special, last + number),
        )
        made.append(FolderRow(cursor.fetchone()[0], name, special, last + number))
    last += max(0, len(names) - 1)
    cursor.execute(
        "INSERT INTO portal_boxes (mailbox, tenant, uidvalidity) VALUES (?, ?, ?)"
        " ON CONFLICT (mailbox) DO UPDATE SET uidvalidity = excluded.uidvalidity",
        (mailbox, tenant, last),
    )
    return last, made


def drop_folders(cursor: Cursor, identifiers: Sequence[int]) -> tuple[int, int]:
    """Forget folders and all that was in them: how many messages and bytes."""
    messages = size = 0
    for identifier in identifiers:
        cursor.execute("SELECT count(*), coalesce(sum(size), 0) FROM portal_messages WHERE folder = ?", (identifier,))
        held = cursor.fetchone()
        messages, size = messages + int(held[0]), size + int(held[1])
        for table in (*_PER_MESSAGE, "portal_gone", "portal_grants"):
            cursor.execute(f"DELETE FROM {table} WHERE folder = ?", (identifier,))
        cursor.execute("DELETE FROM portal_folders WHERE id = ?", (identifier,))
    return messages, size


def rename_folders(cursor: Cursor, names: Sequence[tuple[int, str]]) -> None:
    """New names by folder ID."""
    for identifier, name in names:
        cursor.execute("UPDATE portal_folders SET name = ? WHERE id = ?", (name, identifier))


def load(cursor: Cursor, row: FolderRow) -> Snapshot:
    """A folder with all its messages; their places are only guessed and have to be looked up."""
    cursor.execute("SELECT uidnext, modseq, recent FROM portal_folders WHERE id = ?", (row.id,))
    uidnext, modseq, recent = cursor.fetchone()
    snapshot = Snapshot(row.id, row.name, row.special, row.uidvalidity, uidnext, modseq)
    snapshot.recent_from = max(recent, 1)
    cursor.execute(
        "SELECT uid, modseq, base, flags, size, date, bare, claimed, saved FROM portal_messages WHERE folder = ? ORDER BY uid",
        (row.id,),
    )
    sets: dict[str, frozenset[str]] = {}
    for uid, changed, base, text, size, date, bare, claimed, saved in cursor.fetchall():
        flags = sets.get(text)
        if flags is None:
            flags = sets[text] = frozenset(text.split())
        place = Place(base, "", "", naming.hidden_of(base), bool(bare))
        snapshot.put(Entry(uid, changed, flags, size, date, base, saved=saved), place)
        if claimed:
            snapshot.claimed.add(uid)
    cursor.execute("SELECT uid, modseq, base FROM portal_gone WHERE folder = ? ORDER BY modseq DESC LIMIT ?", (row.id, GONE_KEPT))
    snapshot.gone = [Gone(*found) for found in reversed(cursor.fetchall())]
    snapshot.loaded()
    return snapshot


def store(cursor: Cursor, tenant: int, mailbox: int, changes: Sequence[Change]) -> None:
    """Changes of folders, in order: what a move puts into one is copied before it leaves the other."""
    for change in changes:
        _store(cursor, tenant, mailbox, change)


def relabel_and_store(
    cursor: Cursor, relabel: Callable[[], list[int]], tenant: int, mailbox: int, changes: Sequence[Change]
) -> list[int]:
    """Files first: what ``relabel`` did not find, and then nothing is stored. It runs here, in the thread that commits, because a hop of its own costs more than all the
    rest; it may run twice."""
    lost = relabel()
    if not lost:
        store(cursor, tenant, mailbox, changes)
    return lost


def _store(cursor: Cursor, tenant: int, mailbox: int, change: Change) -> None:
    folder = change.folder
    cursor.execute(
        "UPDATE portal_folders SET uidnext = ?, modseq = ?, recent = ? WHERE id = ?",
        (change.uidnext, change.modseq, change.recent, folder),
    )
    if change.gone:
        _bury(cursor, tenant, folder, change.gone, _SEARCHED if change.unwritten else _PER_MESSAGE)
    if change.changed:
        cursor.executemany(
            "UPDATE portal_messages SET modseq = ?, flags = ? WHERE folder = ? AND uid = ?",
            [(one.modseq, flag_text(one.flags), folder, one.uid) for one in change.changed],
        )
    if change.added:
        _add(cursor, tenant, mailbox, folder, change.added)


def _bury(cursor: Cursor, tenant: int, folder: int, gone: Sequence[Gone], tables: Sequence[str]) -> None:
    uids = [(folder, one.uid) for one in gone]
    for table in tables:
        cursor.executemany(f"DELETE FROM {table} WHERE folder = ? AND uid = ?", uids)
    cursor.executemany(
        "INSERT INTO portal_gone (tenant, folder, uid, modseq, base) VALUES (?, ?, ?, ?, ?)",
        [(tenant, folder, one.uid, one.modseq, one.base) for one in gone],
    )
    if gone[0].modseq % GONE_LOOKED_AT == 0 or len(gone) >= GONE_LOOKED_AT:
        _forget_gone(cursor, folder)


def _add(cursor: Cursor, tenant: int, mailbox: int, folder: int, added: Sequence[Stored]) -> None:
    cursor.executemany(
        "INSERT INTO portal_messages (tenant, folder, uid, modseq, base, flags, size, date, bare, landed, saved)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (tenant, folder, e.uid, e.modseq, p.base, flag_text(e.flags), e.size, e.date, int(p.bare), landed, e.saved)
            for e, p, landed in ((one.entry, one.place, one.landed) for one in added)
        ],
    )
    copies = [(*one.source, folder, one.entry.uid) for one in added if one.source != (0, 0)]
    if copies:
        cursor.executemany(
            "UPDATE portal_messages SET landed = coalesce((SELECT s.landed FROM portal_messages s WHERE s.folder = ? AND s.uid = ?),"
            " landed) WHERE folder = ? AND uid = ?",
            copies,
        )
        for table, columns in _KEPT:
            cursor.executemany(
                f"INSERT INTO {table} (tenant, folder, uid, {columns}) SELECT tenant, ?, ?, {columns} FROM {table} WHERE folder = ? AND uid = ?"
                " ON CONFLICT (folder, uid) DO NOTHING",
                [(folder, uid, source, old) for source, old, _, uid in copies],
            )
    for one in added:
        row = naming.row_of(one.place.base) if one.at else 0
        if row:
            cursor.execute(
                "INSERT INTO portal_received (entry, mailbox, tenant, base, at) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (entry, mailbox) DO NOTHING",
                (row, mailbox, tenant, one.place.base, one.at),
            )


def _forget_gone(cursor: Cursor, folder: int) -> None:
    """Of one removal all is kept or nothing, so that who sees few of them knows that these are all."""
    cursor.execute(
        "SELECT modseq FROM portal_gone WHERE folder = ? ORDER BY modseq DESC LIMIT 1 OFFSET ?", (folder, GONE_KEPT - 1)
    )
    row = cursor.fetchone()
    if row is not None:
        cursor.execute("DELETE FROM portal_gone WHERE folder = ? AND modseq < ?", (folder, row[0]))


def received(cursor: Cursor, row: int, mailbox: int) -> str:
    """The base name that a row was delivered under, or ``""``."""
    cursor.execute("SELECT base FROM portal_received WHERE entry = ? AND mailbox = ?", (row, mailbox))
    found = cursor.fetchone()
    return found[0] if found is not None else ""


def forget_received(cursor: Cursor, before: float) -> int:
    """Drop 200 old rows of what was received; how many went."""
    cursor.execute("SELECT entry, mailbox FROM portal_received WHERE at < ? LIMIT 200", (before,))
    rows = cursor.fetchall()
    cursor.executemany("DELETE FROM portal_received WHERE entry = ? AND mailbox = ?", rows)
    return len(rows)


def claim(cursor: Cursor, folder: int, uids: Collection[int], claimed: bool, note: str) -> None:
    """Claim messages for hand-over or let them go, with a note why."""
    cursor.executemany(
        "UPDATE portal_messages SET claimed = ?, note = ? WHERE folder = ? AND uid = ?",
        [(int(claimed), note, folder, uid) for uid in uids],
    )


def notes(cursor: Cursor, folder: int) -> dict[int, str]:
    """Why messages of a folder could not be handed over, by UID."""
    cursor.execute("SELECT uid, note FROM portal_messages WHERE folder = ? AND note <> ''", (folder,))
    return dict(cursor.fetchall())


def trees(cursor: Cursor, folder: int, uids: Sequence[int]) -> list[tuple[int, bytes]]:
    """Structures that are kept."""
    marks = ",".join("?" * len(uids))
    cursor.execute(f"SELECT uid, tree FROM portal_trees WHERE folder = ? AND uid IN ({marks})", (folder, *uids))
    return [(uid, bytes(tree)) for uid, tree in cursor.fetchall()]


def keep_trees(cursor: Cursor, tenant: int, folder: int, found: Sequence[tuple[int, bytes]]) -> None:
    """Keep structures."""
    if found:
        cursor.executemany(
            "INSERT INTO portal_trees (tenant, folder, uid, tree) VALUES (?, ?, ?, ?) ON CONFLICT (folder, uid) DO NOTHING",
            [(tenant, folder, uid, tree) for uid, tree in found],
        )


def heads(cursor: Cursor, folder: int, uids: Sequence[int]) -> list[tuple[int, bytes]]:
    """Headers that are kept."""
    marks = ",".join("?" * len(uids))
    cursor.execute(f"SELECT uid, head FROM portal_heads WHERE folder = ? AND uid IN ({marks})", (folder, *uids))
    return [(uid, bytes(head)) for uid, head in cursor.fetchall()]


def keep_heads(cursor: Cursor, tenant: int, folder: int, found: Sequence[tuple[int, bytes]]) -> None:
    """Keep headers."""
    if found:
        cursor.executemany(
            "INSERT INTO portal_heads (tenant, folder, uid, head) VALUES (?, ?, ?, ?) ON CONFLICT (folder, uid) DO NOTHING",
            [(tenant, folder, uid, head) for uid, head in found],
        )


def _among(uids: Sequence[int]) -> tuple[str, Sequence[int]]:
    """A condition for these UIDs, which are sorted: as a range, which costs least, where that has few others."""
    if uids[-1] - uids[0] < 2 * len(uids) + NEAR_BY:
        return "BETWEEN ? AND ?", (uids[0], uids[-1])
    return f"IN ({','.join('?' * len(uids))})", uids


def summaries(cursor: Cursor, folder: int, uids: Sequence[int]) -> list[tuple[int, bytes, bytes]]:
    """UID, ENVELOPE and BODYSTRUCTURE of those that are kept; of some that were not asked for, too. No envelope: they are too large to be kept."""
    clause, values = _among(uids)
    cursor.execute(f"SELECT uid, envelope, structure FROM portal_summaries WHERE folder = ? AND uid {clause}", (folder, *values))
    rows: list[tuple[int, bytes, bytes]] = cursor.fetchall()
    return rows


def fields(cursor: Cursor, folder: int, uids: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """UID, bits and common fields (``wire.imap.ready``) in the same way; bits below 0: they are too large."""
    clause, values = _among(uids)
    cursor.execute(f"SELECT uid, bits, fields FROM portal_fields WHERE folder = ? AND uid {clause}", (folder, *values))
    rows: list[tuple[int, int, bytes]] = cursor.fetchall()
    return rows


def texts(cursor: Cursor, folder: int, uids: Sequence[int]) -> Stack | None:
    """The texts that are kept of these messages, if there are any."""
    clause, values = _among(uids)
    cursor.execute(f"SELECT uid, headers, body FROM portal_texts WHERE folder = ? AND uid {clause}", (folder, *values))
    wanted = frozenset(uids)
    rows = [row for row in iter(cursor.fetchone, None) if row[0] in wanted]
    return stacked(rows) if rows else None


def keep_texts(cursor: Cursor, tenant: int, folder: int, found: Sequence[tuple[int, bytes, bytes]]) -> None:
    """Keep texts as searches compare them."""
    cursor.executemany(
        "INSERT INTO portal_texts (tenant, folder, uid, headers, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT (folder, uid) DO NOTHING",
        [(tenant, folder, uid, headers, body) for uid, headers, body in found],
    )


def keep_ready(cursor: Cursor, tenant: int, folder: int, found: Sequence[tuple[int, Ready]]) -> None:
    """Keep what is ready to be sent."""
    if found:
        cursor.executemany(
            "INSERT INTO portal_summaries (tenant, folder, uid, envelope, structure) VALUES (?, ?, ?, ?, ?) ON CONFLICT (folder, uid) DO NOTHING",
            [(tenant, folder, uid, one.envelope, one.structure) for uid, one in found],
        )
        cursor.executemany(
            "INSERT INTO portal_fields (tenant, folder, uid, bits, fields) VALUES (?, ?, ?, ?, ?) ON CONFLICT (folder, uid) DO NOTHING",
            [(tenant, folder, uid, one.bits, one.fields) for uid, one in found],
        )


def keep(cursor: Cursor, tenant: int, folder: int, found: Sequence[tuple[int, Kept]]) -> None:
    """Keep structures, headers, and what is ready to be sent."""
    keep_trees(cursor, tenant, folder, [(uid, kept.tree) for uid, kept in found])
    keep_heads(cursor, tenant, folder, [(uid, kept.head) for uid, kept in found if kept.head is not None])
    keep_ready(cursor, tenant, folder, [(uid, kept.ready) for uid, kept in found])


def keep_all(cursor: Cursor, found: Sequence[tuple[int, int, Sequence[tuple[int, Kept]]]]) -> None:
    """The same for some folders: tenant, folder, and its messages."""
    for tenant, folder, some in found:
        keep(cursor, tenant, folder, some)
