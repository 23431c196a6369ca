"""``recipients.db``: which addresses a primary accepted, and when (C13, L7). SQLite or PostgreSQL.

It is knowledge, not mail: what is lost costs a question to the primary. Nothing of it is held in memory as a whole, so that it may grow with
the organisations (a million addresses; ``tests/delivery/test_recipient_store.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from hornetmail.db.engines import Cursor, DatabaseError, DatabaseFull, DatabaseLocked
from hornetmail.db.migrate import Migration
from hornetmail.db.pool import Database, OpenDatabase, Watch
from hornetmail.disk.files import Disk

MIGRATIONS = (
    Migration(
        1,
        "accepted recipients",
        (
            "CREATE TABLE accepted_recipients (address TEXT PRIMARY KEY, domain TEXT NOT NULL, tenant INTEGER NOT NULL,"
            " accepted REAL NOT NULL, delivered INTEGER NOT NULL)",
            "CREATE INDEX accepted_by_domain ON accepted_recipients (domain, delivered, accepted)",
            "CREATE INDEX accepted_by_age ON accepted_recipients (accepted)",
        ),
    ),
)

TOGETHER = 200
"""Rows that one call of a purge removes."""

_UPSERT = (
    "INSERT INTO accepted_recipients (address, domain, tenant, accepted, delivered) VALUES (?, ?, ?, ?, ?) ON CONFLICT (address) DO UPDATE SET"
    " domain = excluded.domain, tenant = excluded.tenant,"
    " accepted = CASE WHEN excluded.accepted > accepted_recipients.accepted THEN excluded.accepted ELSE accepted_recipients.accepted END,"
    " delivered = CASE WHEN excluded.delivered > accepted_recipients.delivered THEN excluded.delivered ELSE accepted_recipients.delivered END"
)


class Fact(msgspec.Struct, frozen=True, gc=False):
    """An address (its key) of a served domain was accepted at that time (Unix seconds); ``delivered``: with a message, not only when asked."""

    address: str
    domain: str
    tenant: int
    accepted: float
    delivered: bool


class RecipientStore(Protocol):
    """What is asked of it. All of it raises DatabaseError."""

    async def write(self, facts: Sequence[Fact], /) -> None:
        """Durable on return; of two times the later one stays."""

    async def accepted(self, address: str, /) -> float | None:
        """When the primary accepted it last."""

    async def page(self, domain: str, since: float, after: str = "", limit: int = 2000, /) -> list[str]:
        """Addresses of a domain accepted since then, in order, beginning behind ``after``."""

    async def newest(self, domain: str, limit: int, /) -> list[str]:
        """Addresses that took a message last, the newest first."""

    async def forget(self, before: float, /) -> int:
        """Drop what was accepted before then and not since; the number dropped, at most ``TOGETHER``: call again until 0."""

    async def crowded(self, most: int, /) -> dict[str, int]:
        """Domains with more addresses than that, and how many too many."""

    async def thin(self, domain: str, count: int, /) -> int:
        """Drop some of a domain's addresses, those first that never took a message, of these the oldest; at most ``TOGETHER``."""


class RecipientDatabase:
    """The door to ``recipients.db``, opened with ``MIGRATIONS``; see RecipientStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(
        cls,
        reactor: Any,
        url: str,
        disk: Disk,
        alarm: Callable[[str, str], None],
        open_database: OpenDatabase = Database.open,
        watch: Watch | None = None,
        key: bytes | None = None,
    ) -> RecipientDatabase:
        """A SQLite file that is damaged is put aside, for mail does not wait for it; ``alarm(code, text)`` tells. ``watch`` hears should it break later.
        Raises DatabaseError, SchemaError."""
        try:
            return cls(await open_database(reactor, url, MIGRATIONS, key=key, synchronous="NORMAL", watch=watch))
        except (DatabaseFull, DatabaseLocked) as error:
            # What is known is known: a moment without room, or with somebody else's lock, is no damage.
            raise DatabaseError(f"the recipients database cannot be opened: {error}") from error
        except DatabaseError as error:
            path = Path(unquote(urlsplit(url).path))
            if not url.startswith("sqlite:") or not path.exists():
                raise DatabaseError(f"the recipients database cannot be opened: {error}") from error
            aside = path.with_name(f"{path.name}.damaged")
            disk.rename(path, aside)
            for suffix in ("-wal", "-shm"):
                disk.unlink(path.with_name(path.name + suffix), missing_ok=True)
            alarm("recipients-damaged", f"{path.name} is damaged ({error}) and kept as {aside.name}: recipients are learnt anew")
            return cls(await open_database(reactor, url, MIGRATIONS, key=key, synchronous="NORMAL", watch=watch))

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()

    async def write(self, facts: Sequence[Fact]) -> None:
        """See RecipientStore."""
        await self._database.run(_write, facts)

    async def accepted(self, address: str) -> float | None:
        """See RecipientStore."""

        def ask(cursor: Cursor) -> float | None:
            cursor.execute("SELECT accepted FROM accepted_recipients WHERE address = ?", (address,))
            found = cursor.fetchone()
            return float(found[0]) if found else None

        return await self._database.read(ask)

    async def page(self, domain: str, since: float, after: str = "", limit: int = 2000) -> list[str]:
        """See RecipientStore."""

        def ask(cursor: Cursor) -> list[str]:
            cursor.execute(
                "SELECT address FROM accepted_recipients WHERE domain = ? AND accepted >= ? AND address > ? ORDER BY address LIMIT ?",
                (domain, since, after, limit),
            )
            return [str(address) for (address,) in cursor.fetchall()]

        return await self._database.read(ask)

    async def newest(self, domain: str, limit: int) -> list[str]:
        """See RecipientStore."""

        def ask(cursor: Cursor) -> list[str]:
            cursor.execute(
                "SELECT address FROM accepted_recipients WHERE domain = ? AND delivered = 1 ORDER BY accepted DESC LIMIT ?",
                (domain, limit),
            )
            return [str(address) for (address,) in cursor.fetchall()]

        return await self._database.read(ask)

    async def forget(self, before: float) -> int:
        """See RecipientStore."""

        def drop(cursor: Cursor) -> int:
            cursor.execute(
                "DELETE FROM accepted_recipients WHERE address IN (SELECT address FROM accepted_recipients WHERE accepted < ?"
                " ORDER BY accepted LIMIT ?)",
                (before, TOGETHER),
            )
            return cursor.rowcount

        return await self._database.run(drop)

    async def crowded(self, most: int) -> dict[str, int]:
        """See RecipientStore."""

        def ask(cursor: Cursor) -> dict[str, int]:
            cursor.execute("SELECT domain, COUNT(*) FROM accepted_recipients GROUP BY domain HAVING COUNT(*) > ?", (most,))
            return {str(domain): int(count) - most for domain, count in cursor.fetchall()}

        return await self._database.read(ask)

    async def thin(self, domain: str, count: int) -> int:
        """See RecipientStore."""

        def drop(cursor: Cursor) -> int:
            cursor.execute(
                "DELETE FROM accepted_recipients WHERE address IN (SELECT address FROM accepted_recipients WHERE domain = ?"
                " ORDER BY delivered, accepted LIMIT ?)",
                (domain, min(count, TOGETHER)),
            )
            return cursor.rowcount

        return await self._database.run(drop)


def _write(cursor: Cursor, facts: Sequence[Fact]) -> None:
    cursor.executemany(_UPSERT, [(f.address, f.domain, f.tenant, f.accepted, int(f.delivered)) for f in facts])
