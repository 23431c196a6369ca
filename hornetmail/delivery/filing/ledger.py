"""What went home over IMAP, message by message, in ``control.db``: each thing once.

A row is written before an APPEND is begun (``going``), and again when its end is known. What a crash or a lost connection leaves as ``going`` is looked for at the primary before it is
tried again. A message keeps its name wherever its owner moves it, so it is home for good. Rows go with their files.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from hornetmail.core.delivery.filing import Filed, Standing
from hornetmail.db.pool import Database


class Ledger:
    """All of it raises DatabaseError; what is written is durable on return."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, mailbox: int) -> dict[str, Filed]:
        """By name, all of a mailbox."""
        return await self._database.read(_of, mailbox)

    async def one(self, mailbox: int, name: str) -> Filed | None:
        """What is known of a message."""
        return await self._database.read(_one, mailbox, name)

    async def put(self, mailbox: int, tenant: int, name: str, filed: Filed) -> None:
        """From now on."""
        await self._database.run(_put, mailbox, tenant, name, filed)

    async def forget(self, mailbox: int, names: Collection[str]) -> None:
        """These: their files are gone, or they are to be tried anew."""
        await self._database.run(_forget, mailbox, tuple(names))

    async def retry(self, mailbox: int) -> int:
        """What was refused is tried anew; how many."""
        return await self._database.run(_retry, mailbox)

    async def count(self, mailbox: int) -> dict[Standing, int]:
        """How many of each."""
        return await self._database.read(_count, mailbox)


def _of(cursor: Any, mailbox: int) -> dict[str, Filed]:
    cursor.execute("SELECT name, value FROM filed WHERE mailbox = ?", (mailbox,))
    return {str(name): msgspec.json.decode(value, type=Filed) for name, value in cursor.fetchall()}


def _one(cursor: Any, mailbox: int, name: str) -> Filed | None:
    cursor.execute("SELECT value FROM filed WHERE mailbox = ? AND name = ?", (mailbox, name))
    found = cursor.fetchone()
    return msgspec.json.decode(found[0], type=Filed) if found else None


def _put(cursor: Any, mailbox: int, tenant: int, name: str, filed: Filed) -> None:
    cursor.execute(
        "INSERT INTO filed (mailbox, name, tenant, standing, value) VALUES (?, ?, ?, ?, ?) ON CONFLICT (mailbox, name)"
        " DO UPDATE SET standing = excluded.standing, value = excluded.value",
        (mailbox, name, tenant, filed.standing.value, msgspec.json.encode(filed).decode()),
    )


def _forget(cursor: Any, mailbox: int, names: tuple[str, ...]) -> None:
    cursor.executemany("DELETE FROM filed WHERE mailbox = ? AND name = ?", [(mailbox, name) for name in names])


def _retry(cursor: Any, mailbox: int) -> int:
    cursor.execute("DELETE FROM filed WHERE mailbox = ? AND standing = 'stuck'", (mailbox,))
    return int(cursor.rowcount)


def _count(cursor: Any, mailbox: int) -> dict[Standing, int]:
    cursor.execute("SELECT standing, COUNT(*) FROM filed WHERE mailbox = ? GROUP BY standing", (mailbox,))
    return {Standing(standing): int(count) for standing, count in cursor.fetchall()}
