"""Schemas grow by numbered deltas; a database that is newer than the program is refused."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hornetmail.db.engines import Cursor, Engine


class Migration(msgspec.Struct, frozen=True, gc=False):
    """One step: applied once, whole, in order of ``number`` (from 1). Never edited once released; each table has a tenant (rule 25).

    ``sql`` is written for SQLite; ``Engine.schema`` says what is translated.
    """

    number: int
    name: str
    sql: tuple[str, ...]


class SchemaError(Exception):
    """The database does not fit this program: it is newer, or it went another way. Nothing was changed."""


_APPLIED = "CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied REAL NOT NULL)"


def pending(migrations: Sequence[Migration], applied: dict[int, str]) -> list[Migration]:
    """Those still to apply, in order. Raises SchemaError, ValueError (the list itself is not 1, 2, 3 …)."""
    known = {migration.number: migration for migration in migrations}
    if sorted(known) != list(range(1, len(migrations) + 1)):
        raise ValueError("migrations are numbered 1, 2, 3 without gaps")
    for number, name in sorted(applied.items()):
        if number not in known:
            raise SchemaError(
                f"the database has migration {number} ({name}), this program knows {len(known)}: use a newer version"
            )
        if known[number].name != name:
            raise SchemaError(f"migration {number} is {name!r} in the database and {known[number].name!r} here")
    return [known[number] for number in sorted(known) if number not in applied]


def migrate(connection: object, engine: Engine, migrations: Sequence[Migration], now: float) -> list[int]:
    """Bring a database up to date, each step in a transaction of its own; the numbers applied. Blocking. Raises SchemaError."""
    done: list[int] = []
    while True:
        cursor = engine.cursor(connection)
        engine.begin(cursor)
        try:
            step = _apply_next(cursor, engine, migrations, now)
        except BaseException:
            engine.rollback(connection)
            raise
        engine.commit(cursor)
        if step is None:
            return done
        done.append(step)


def _apply_next(cursor: Cursor, engine: Engine, migrations: Sequence[Migration], now: float) -> int | None:
    engine.lock_schema(cursor)
    cursor.execute(engine.schema(_APPLIED))
    cursor.execute("SELECT number, name FROM schema_migrations")
    todo = pending(migrations, dict(cursor.fetchall()))
    if not todo:
        return None
    for statement in todo[0].sql:
        cursor.execute(engine.schema(statement))
    cursor.execute("INSERT INTO schema_migrations (number, name, applied) VALUES (?, ?, ?)", (todo[0].number, todo[0].name, now))
    return todo[0].number
