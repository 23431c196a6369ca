"""Every leaf has an owner (rule 17): a mail or an arrival that the index knows, something that went, the audit log (L14), or nobody (a void leaf).

A leaf of the log that has none means that a record is missing: a pack that was lost, say. The index is what a rebuild could read, so this is how
a rebuild and ``verify`` know that it was all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hornetmail.archive.index.schema.facts import UNKNOWN_LEAVES
from hornetmail.archive.proof.leaves import VOID
from hornetmail.archive.store.records import AuditLeaf
from hornetmail.db.engines import Cursor

PAGE = 20_000
"""Rows of the index that one look takes."""

Leaf = tuple[int, int]
"""Node and number."""

UNTOLD = "deleted without their leaves"
"""Fact: how many records went before their leaves were told of; as many leaves may be without an owner."""


class Ownerless(msgspec.Struct, frozen=True, gc=False):
    """Leaves without an owner, as ranges (first, last)."""

    ranges: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """How many leaves."""
        return sum(last - first + 1 for first, last in self.ranges)

    def told(self) -> str:
        """For people: how many, and where the first of them are."""
        shown = ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in self.ranges[:5])
        more = ", …" if len(self.ranges) > 5 else ""
        return (
            f"{self.count} arrivals are in the leaf log and nowhere in the archive, nor recorded as deleted (leaf {shown}{more}):"
            " their records are missing"
        )


def leaf_went(cursor: Cursor, node: int, leaf: int) -> None:
    """What a leaf states has left the archive. Ranges grow together, so that years of them stay few."""
    if leaf < 0:
        return
    before = cursor.execute(
        "SELECT first, last FROM leaf_gone WHERE node = ? AND first <= ? ORDER BY first DESC LIMIT 1", (node, leaf)
    ).fetchone()
    after = cursor.execute("SELECT first, last FROM leaf_gone WHERE node = ? AND first = ?", (node, leaf + 1)).fetchone()
    if before and before[1] >= leaf:
        return
    first, last = leaf, leaf
    if before and before[1] == leaf - 1:
        first = before[0]
    if after:
        last = after[1]
        cursor.execute("DELETE FROM leaf_gone WHERE node = ? AND first = ?", (node, after[0]))
    cursor.execute(
        "INSERT INTO leaf_gone (node, first, last) VALUES (?, ?, ?) ON CONFLICT (node, first) DO UPDATE SET last = excluded.last",
        (node, first, last),
    )


def enter_audit_leaf(cursor: Cursor, one: AuditLeaf) -> None:
    """A leaf that the audit log owns (L14)."""
    cursor.execute(
        "INSERT INTO audit_leaf (node, leaf, number, digest, at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (node, leaf) DO NOTHING",
        (one.node, one.leaf, one.number, one.digest, one.at),
    )


def audit_leaves(cursor: Cursor) -> list[AuditLeaf]:
    """All of them, oldest first."""
    rows = cursor.execute("SELECT node, leaf, number, digest, at FROM audit_leaf ORDER BY node, leaf").fetchall()
    return [AuditLeaf(*row) for row in rows]


def is_audited(cursor: Cursor, node: int, number: int, digest: bytes) -> bool:
    """Whether a leaf of this node holds that row of the audit log, with that hash: one of another hash is of a row that is lost."""
    query = "SELECT 1 FROM audit_leaf WHERE node = ? AND number = ? AND digest = ?"
    return cursor.execute(query, (node, number, digest)).fetchone() is not None


def leaves_of(cursor: Cursor, place: int) -> list[Leaf]:
    """The leaves of a mail and of all arrivals that were united with it; those of arrivals that an earlier version entered are not known."""
    found = {tuple(row) for row in cursor.execute("SELECT node, leaf FROM mail WHERE place = ?", (place,)).fetchall()}
    found |= {
        tuple(row) for row in cursor.execute("SELECT node, leaf FROM arrival WHERE place = ? AND leaf >= 0", (place,)).fetchall()
    }
    return sorted((int(node), int(leaf)) for node, leaf in found)


class Ledger:
    """Ticks off a stretch of the leaves of one node: those from ``low`` on, with these hashes. Memory: one byte a leaf."""

    def __init__(self, node: int, low: int, hashes: Sequence[bytes]) -> None:
        self._node = node
        self._low = low
        self._high = low + len(hashes)
        self._owned = bytearray(one == VOID for one in hashes)

    def own(self, leaves: Iterable[int]) -> None:
        """These have an owner."""
        low, high = self._low, self._high
        for leaf in leaves:
            if low <= leaf < high:
                self._owned[leaf - low] = 1

    def mails(self, cursor: Cursor, after: int) -> int | None:
        """A page of mails' leaves behind that number, by an index that holds nothing else; the last one seen, None at the end."""
        return self._page(cursor, "mail", after)

    def arrivals(self, cursor: Cursor, after: int) -> int | None:
        """The same for arrivals."""
        return self._page(cursor, "arrival", after)

    def _page(self, cursor: Cursor, table: str, after: int) -> int | None:
        rows = cursor.execute(
            f"SELECT leaf FROM {table} WHERE node = ? AND leaf > ? AND leaf < ? ORDER BY leaf LIMIT ?",
            (self._node, max(after, self._low - 1), self._high, PAGE),
        ).fetchall()
        self.own(leaf for (leaf,) in rows)
        return int(rows[-1][0]) if len(rows) == PAGE else None

    def rest(self, cursor: Cursor) -> tuple[tuple[int, int], ...]:
        """What went and what the audit log owns is ticked off, and what has no owner then is the answer, as ranges (first, last)."""
        within = (self._node, self._high, self._low)
        for first, last in cursor.execute(
            "SELECT first, last FROM leaf_gone WHERE node = ? AND first < ? AND last >= ?", within
        ).fetchall():
            self.own(range(max(first, self._low), min(last + 1, self._high)))
        self.own(
            leaf
            for (leaf,) in cursor.execute(
                "SELECT leaf FROM audit_leaf WHERE node = ? AND leaf < ? AND leaf >= ?", within
            ).fetchall()
        )
        ranges = []
        at = self._owned.find(0)
        while at >= 0:
            end = self._owned.find(1, at)
            end = len(self._owned) if end < 0 else end
            ranges.append((self._low + at, self._low + end - 1))
            at = self._owned.find(0, end)
        return tuple(ranges)


def excused(cursor: Cursor) -> int:
    """How many leaves may be of what an earlier version deleted, or entered without its leaf."""
    (unknown,) = cursor.execute("SELECT count(*) FROM arrival WHERE node = 0 AND leaf = -1 AND outcome != 'stored'").fetchone()
    untold = cursor.execute("SELECT value FROM fact WHERE name = ?", (UNTOLD,)).fetchone()
    return int(unknown) + (int(untold[0]) if untold else 0)


class Looked(msgspec.Struct, frozen=True, gc=False):
    """How far short verifications have come: leaves below ``until`` were looked at and found well, and ``swept`` is where the next sweep over them begins."""

    until: int = 0
    swept: int = 0


_LOOKED = "leaves looked at"


def looked_at(cursor: Cursor) -> Looked:
    """What an index says of itself; a new one was not looked at."""
    row = cursor.execute("SELECT value FROM fact WHERE name = ?", (_LOOKED,)).fetchone()
    return msgspec.json.decode(row[0], type=Looked) if row else Looked()


def set_looked(cursor: Cursor, looked: Looked) -> None:
    """Remember it."""
    cursor.execute(
        "INSERT INTO fact (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (_LOOKED, msgspec.json.encode(looked).decode()),
    )


def settle_unknown(cursor: Cursor, node: int, found: Ownerless) -> bool:
    """In an index that an earlier version began, whose leaves could not have owners, what has none at the first look is taken for gone; True if so."""
    if not cursor.execute("SELECT 1 FROM fact WHERE name = ?", (UNKNOWN_LEAVES,)).fetchone():
        return False
    for first, last in found.ranges:
        for leaf in range(first, last + 1):
            leaf_went(cursor, node, leaf)
    cursor.execute("UPDATE arrival SET leaf = -2 WHERE leaf = -1")
    cursor.execute("DELETE FROM fact WHERE name = ?", (UNKNOWN_LEAVES,))
    return True


def count_untold(cursor: Cursor, records: int) -> None:
    """That many records went without a word about their leaves."""
    row = cursor.execute("SELECT value FROM fact WHERE name = ?", (UNTOLD,)).fetchone()
    cursor.execute(
        "INSERT INTO fact (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (UNTOLD, str(records + (int(row[0]) if row else 0))),
    )
