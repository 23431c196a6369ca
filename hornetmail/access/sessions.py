"""Web sessions: a random token in the browser's cookie, only its hash in ``control.db``."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.logger import Logger

from hornetmail.core.served import Person
from hornetmail.db.engines import DatabaseError
from hornetmail.db.pool import Database

LIFETIME = 7 * 86_400.0
"""Seconds that a session lasts at most."""

IDLE = 12 * 3600.0
"""Seconds that it lasts unused."""

_WRITE_EVERY = 60.0


class Session(msgspec.Struct, frozen=True):
    """One browser's log-in; times in Unix seconds. ``id`` may be shown, the token never is. ``expires``: at the latest."""

    id: str
    tenant: int
    mailbox: int
    created: float
    seen: float
    expires: float
    peer: str
    agent: str
    token_hash: bytes

    def alive(self, now: float) -> bool:
        """Neither too old nor unused for too long."""
        return now < self.expires and now < self.seen + IDLE


def csrf_token(token: str) -> str:
    """What forms and scripts of our own pages send along; derived from the cookie's token, so that nothing is to be stored."""
    return hashlib.blake2b(token.encode(), person=b"csrf", digest_size=16).hexdigest()


def csrf_matches(token: str, given: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(csrf_token(token).encode(), given.encode("utf-8", "replace"))


class Sessions:
    """All sessions, from memory; ``control.db`` keeps them over a restart. ``clock`` is an ``IReactorTime``."""

    log = Logger()

    def __init__(self, database: Database, clock: Any) -> None:
        self._database = database
        self._clock = clock
        self._by_hash: dict[bytes, Session] = {}
        self._written: dict[str, float] = {}

    @classmethod
    async def open(cls, database: Database, clock: Any) -> Sessions:
        """With those of before."""
        sessions = cls(database, clock)
        for session in await database.read(_read_all):
            sessions._by_hash[session.token_hash] = session
        await sessions.expire()
        return sessions

    async def create(self, person: Person, peer: str = "", agent: str = "") -> tuple[str, Session]:
        """A new session; the token goes into the cookie and is kept nowhere."""
        now = self._clock.seconds()
        token = secrets.token_urlsafe(32)
        session = Session(
            id=secrets.token_hex(8),
            tenant=person.tenant,
            mailbox=person.mailbox,
            created=now,
            seen=now,
            expires=now + LIFETIME,
            peer=peer[:64],
            agent="".join(c for c in agent[:200] if c.isprintable()),
            token_hash=_hash(token),
        )
        self._by_hash[session.token_hash] = session
        await self._keep(_insert, session)
        self._written[session.id] = now
        return token, session

    async def find(self, token: str) -> Session | None:
        """The live session of a token; being asked keeps it alive."""
        session = self._by_hash.get(_hash(token)) if token else None
        if session is None:
            return None
        now = self._clock.seconds()
        if not session.alive(now):
            await self._end([session])
            return None
        session = msgspec.structs.replace(session, seen=now)
        self._by_hash[session.token_hash] = session
        if now - self._written.get(session.id, 0.0) >= _WRITE_EVERY:
            self._written[session.id] = now
            await self._keep(_touch, session.id, now)
        return session

    async def of(self, mailbox: int) -> Sequence[Session]:
        """A person's live sessions, newest first."""
        now = self._clock.seconds()
        return sorted(
            (one for one in self._by_hash.values() if one.mailbox == mailbox and one.alive(now)), key=lambda one: -one.created
        )

    async def revoke(self, identifier: str, mailbox: int) -> bool:
        """End one session of that person; whether there was one."""
        found = [one for one in self._by_hash.values() if one.id == identifier and one.mailbox == mailbox]
        await self._end(found)
        return bool(found)

    async def revoke_all(self, mailbox: int, *, keep: str = "") -> int:
        """End a person's sessions but the one with the ID ``keep``; how many."""
        found = [one for one in self._by_hash.values() if one.mailbox == mailbox and one.id != keep]
        await self._end(found)
        return len(found)

    async def expire(self) -> int:
        """Drop what is over; how many. A job for the timetable, hourly."""
        now = self._clock.seconds()
        found = [one for one in self._by_hash.values() if not one.alive(now)]
        await self._end(found)
        return len(found)

    async def _keep(self, fn: Callable[..., None], *values: Any) -> None:
        """Into ``control.db``; a full disk must lock nobody out, so a session that cannot be written lasts until the restart."""
        try:
            await self._database.run(fn, *values)
        except DatabaseError:
            self.log.failure("a session could not be written")

    async def _end(self, sessions: Sequence[Session]) -> None:
        for session in sessions:
            self._by_hash.pop(session.token_hash, None)
            self._written.pop(session.id, None)
        if sessions:
            await self._database.run(_delete, [session.id for session in sessions])


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _insert(cursor: Any, session: Session) -> None:
    cursor.execute(
        "INSERT INTO sessions (id, tenant, token_hash, mailbox, created, seen, expires, peer, agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            session.id,
            session.tenant,
            session.token_hash,
            session.mailbox,
            session.created,
            session.seen,
            session.expires,
            session.peer,
            session.agent,
        ),
    )


def _touch(cursor: Any, identifier: str, now: float) -> None:
    cursor.execute("UPDATE sessions SET seen = ? WHERE id = ?", (now, identifier))


def _delete(cursor: Any, identifiers: Sequence[str]) -> None:
    for identifier in identifiers:
        cursor.execute("DELETE FROM sessions WHERE id = ?", (identifier,))


def _read_all(cursor: Any) -> list[Session]:
    cursor.execute("SELECT id, tenant, mailbox, created, seen, expires, peer, agent, token_hash FROM sessions", ())
    return [
        Session(
            id=row[0],
            tenant=int(row[1]),
            mailbox=int(row[2]),
            created=float(row[3]),
            seen=float(row[4]),
            expires=float(row[5]),
            peer=row[6],
            agent=row[7],
            token_hash=bytes(row[8]),
        )
        for row in cursor.fetchall()
    ]
