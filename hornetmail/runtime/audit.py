"""The audit log (L14): who did what, chained by hash, in ``control.db``.

A row is written before the action and a second one, its outcome, after it; nothing is ever changed. Each row's ``hash`` is SHA-256 over the
fields of the row, length-prefixed, beginning with the hash of the row before (32 zero bytes before the first), so that a row cannot be
altered, dropped or slipped in without all later hashes changing. An action without outcome was cut short.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
from zope.interface import implementer

from hornetmail.core.served import OPERATOR
from hornetmail.db.pool import Database
from hornetmail.interfaces.audit import IAudit

FIRST = bytes(32)
_PAGE = 1000


class AuditRow(msgspec.Struct, frozen=True):
    """One row. ``refers`` is 0 for an action and the action's number for its outcome; ``at`` Unix seconds, to the millisecond."""

    number: int
    tenant: int
    at: float
    refers: int
    actor: str
    action: str
    subject: str
    detail: str
    result: str
    previous: bytes
    hash: bytes

    def computed(self) -> bytes:
        """What ``hash`` must be."""
        head = struct.pack(">QQQQ", self.number, self.tenant, round(self.at * 1000), self.refers)
        texts = [text.encode("utf-8") for text in (self.actor, self.action, self.subject, self.detail, self.result)]
        return hashlib.sha256(self.previous + head + b"".join(struct.pack(">I", len(text)) + text for text in texts)).digest()


_COLUMNS = "number, tenant, at, refers, actor, action, subject, detail, result, previous, hash"


@implementer(IAudit)
class Audit:
    """``database`` is ``control.db``, opened with the schema of ``hornetmail.directory.schema``; ``clock`` an ``IReactorTime``."""

    def __init__(self, database: Database, clock: Any) -> None:
        self._database = database
        self._clock = clock

    async def begin(self, actor: str, action: str, subject: str, detail: str = "", tenant: int = 0) -> int:
        """Durable before the action; its number."""
        return await self._database.run(_append, self._now(), tenant, 0, (actor, action, subject, detail, ""))

    async def outcome(self, number: int, result: str) -> None:
        """What came of it."""
        await self._database.run(_append, self._now(), 0, number, ("", "", "", "", result))

    async def entries(self, *, tenant: int = 0, before: int = 0, limit: int = 100) -> Sequence[AuditRow]:
        """Actions, newest first, each with the newest outcome in ``result``. What concerns the whole installation is the operator's too."""
        return await self._database.read(_entries, tenant, before, limit)

    async def verify(self) -> str:
        """Walk the whole chain: ``""``, or where it breaks."""
        number, previous = 0, FIRST
        while rows := await self._database.read(_page, number):
            for row in rows:
                if row.number != number + 1:
                    return f"audit row {number + 1} is missing"
                if row.previous != previous or row.hash != row.computed():
                    return f"audit row {row.number} was altered"
                number, previous = row.number, row.hash
        return ""

    async def newest(self) -> tuple[int, bytes]:
        """Number and hash of the newest row; number 0: there is none."""
        return await self._database.read(_newest)

    async def hash_of(self, number: int) -> bytes | None:
        """The hash of a row; None: it is not there."""
        return await self._database.read(_hash_of, number)

    def _now(self) -> float:
        seconds: float = self._clock.seconds()
        return round(seconds * 1000) / 1000


def _row(values: Sequence[Any]) -> AuditRow:
    number, tenant, at, refers, actor, action, subject, detail, result, previous, hashed = values
    head = (int(number), int(tenant), float(at), int(refers))
    return AuditRow(*head, actor, action, subject, detail, result, bytes(previous), bytes(hashed))


def _storable(text: str) -> str:
    """PostgreSQL takes no NUL, and nobody takes lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _append(cursor: Any, at: float, tenant: int, refers: int, texts: tuple[str, str, str, str, str]) -> int:
    last, previous = _newest(cursor)
    number = last + 1
    if refers and not tenant:
        cursor.execute("SELECT tenant FROM audit WHERE number = ?", (refers,))
        found = cursor.fetchone()
        tenant = int(found[0]) if found is not None else 0
    actor, action, subject, detail, result = (_storable(text) for text in texts)
    row = AuditRow(number, tenant, at, refers, actor, action, subject, detail, result, previous, b"")
    row = msgspec.structs.replace(row, hash=row.computed())
    sql = f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    cursor.execute(sql, msgspec.structs.astuple(row))
    return number


def _newest(cursor: Any) -> tuple[int, bytes]:
    cursor.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1", ())
    found = cursor.fetchone()
    return (int(found[0]), bytes(found[1])) if found is not None else (0, FIRST)


def _hash_of(cursor: Any, number: int) -> bytes | None:
    cursor.execute("SELECT hash FROM audit WHERE number = ?", (number,))
    found = cursor.fetchone()
    return bytes(found[0]) if found is not None else None


def _entries(cursor: Any, tenant: int, before: int, limit: int) -> list[AuditRow]:
    where, values = "refers = 0", []
    if tenant == OPERATOR:
        where = f"{where} AND tenant IN (0, {OPERATOR})"
    elif tenant:
        where, values = f"{where} AND tenant = ?", [tenant]
    if before:
        where, values = f"{where} AND number < ?", [*values, before]
    cursor.execute(f"SELECT {_COLUMNS} FROM audit WHERE {where} ORDER BY number DESC LIMIT ?", (*values, limit))
    rows = [_row(values) for values in cursor.fetchall()]
    answers = []
    for row in rows:
        cursor.execute("SELECT result FROM audit WHERE refers = ? ORDER BY number DESC LIMIT 1", (row.number,))
        found = cursor.fetchone()
        answers.append(msgspec.structs.replace(row, result=str(found[0])) if found is not None else row)
    return answers


def _page(cursor: Any, after: int) -> list[AuditRow]:
    cursor.execute(f"SELECT {_COLUMNS} FROM audit WHERE number > ? ORDER BY number LIMIT ?", (after, _PAGE))
    return [_row(values) for values in cursor.fetchall()]
