"""Rows of a database as values, for a backup that any engine takes back: SQLite to PostgreSQL and the other way round."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from hornetmail.db.engines import Cursor
from hornetmail.db.migrate import Migration

_CREATE = re.compile(r"\s*CREATE TABLE (?:IF NOT EXISTS )?(\w+)", re.I)
_NAME = re.compile(r"\w+")


class Table(msgspec.Struct, frozen=True):
    """A table's rows."""

    name: str
    columns: tuple[str, ...]
    rows: list[list[Any]]


class Dump(msgspec.Struct, frozen=True):
    """``schema``: how many migrations the database had."""

    schema: int
    tables: tuple[Table, ...]


class DumpBroken(ValueError):
    """It cannot be taken in; the message says why."""


def tables_of(migrations: Sequence[Migration]) -> list[str]:
    """Their tables, each behind those that it refers to, as they are made."""
    return [found[1] for migration in migrations for sql in migration.sql if (found := _CREATE.match(sql))]


def dump(cursor: Cursor, migrations: Sequence[Migration], without: Collection[str] = ()) -> Dump:
    """For ``Database.read``: all tables but ``without``, in one state of the database."""
    tables = []
    for name in tables_of(migrations):
        if name in without:
            continue
        cursor.execute(f"SELECT * FROM {name}")
        columns = tuple(str(column[0]) for column in cursor.description)
        tables.append(Table(name, columns, [[_plain(value) for value in row] for row in cursor.fetchall()]))
    return Dump(len(migrations), tuple(tables))


def load(cursor: Cursor, dumped: Dump, migrations: Sequence[Migration]) -> int:
    """For ``Database.run`` on a database with just ``dumped.schema`` migrations: in place of all rows that are there; how many. Raises DumpBroken."""
    known = tables_of(migrations[: dumped.schema])
    for name in reversed(known):
        cursor.execute(f"DELETE FROM {name}")
    count = 0
    for table in dumped.tables:
        if table.name not in known or not all(_NAME.fullmatch(column) for column in table.columns):
            raise DumpBroken(f"there is no table {table.name[:60]!r}, or it has other columns")
        places = ", ".join("?" * len(table.columns))
        cursor.executemany(f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({places})", table.rows)
        count += len(table.rows)
    return count


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, (memoryview, bytearray)) else value
