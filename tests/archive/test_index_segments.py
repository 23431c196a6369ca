"""How many segments of full text a batch of mails makes: each is merged with others later, which was most of what indexing cost."""

from __future__ import annotations

import hashlib
from typing import Any

import sqlcipher3

from hornetmail.archive.index.schema.fulltext import FORM, fresh_table_of, table_of
from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.archive.index.writing.mails import Prepared, store_batch
from hornetmail.archive.index.writing.renewal import begin_renewal, due, renew
from hornetmail.archive.store.records import MailMeta, Outcome
from hornetmail.mime.reading.mail import read_mail
from hornetmail.testing.archives import NOW

MONTH = 202_608


def database() -> Any:
    """The one that the product keeps, in memory."""
    cursor = sqlcipher3.connect(":memory:", isolation_level=None).cursor()
    for migration in MIGRATIONS:
        for sql in migration.sql:
            cursor.execute(sql)
    return cursor


def prepared(number: int, raw: bytes) -> Prepared:
    """A mail that came as that one of all."""
    meta = MailMeta(
        identifier=1 + number,
        row=1 + number,
        node=1,
        leaf=number,
        salt=b"",
        sha256=hashlib.sha256(raw).digest(),
        size=len(raw),
        received=NOW + number,
        expires=NOW * 2,
        month=MONTH,
        feed="inline",
        direction="in",
        sender="bob@example.test",
        recipients=(f"u{number}@example.test",),
    )
    return Prepared(1, b"%016d" % number, meta, read_mail(raw), None, 0, len(raw))


def mail(word: str) -> bytes:
    """One that says that."""
    return f"From: bob@example.test\r\nMessage-ID: <{word}@example.test>\r\nSubject: {word}\r\n\r\nHere is {word}.\r\n".encode()


def stored(cursor: Any, batch: list[Prepared]) -> list[Outcome]:
    """In one transaction, as the product does it."""
    cursor.execute("BEGIN IMMEDIATE")
    outcomes = [one.outcome for one in store_batch(cursor, batch)]
    cursor.execute("COMMIT")
    return outcomes


def segments(cursor: Any, table: str) -> int:
    """Of a full-text table."""
    return int(cursor.execute(f"SELECT count(DISTINCT segid) FROM {table}_idx").fetchone()[0])


def found(cursor: Any, word: str) -> list[int]:
    """Where that stands."""
    return [
        row[0]
        for row in cursor.execute(f"SELECT rowid FROM {table_of(MONTH)} WHERE {table_of(MONTH)} MATCH ?", (word,)).fetchall()
    ]


def test_a_batch_is_one_segment() -> None:
    """Catches a row that is written between two texts: its triggers have FTS5 write out the text before it, and each mail is a segment of its own."""
    cursor = database()
    stored(cursor, [prepared(number, mail(word)) for number, word in enumerate(("one", "two", "three"))])
    assert segments(cursor, table_of(MONTH)) == 1
    assert all(len(found(cursor, word)) == 1 for word in ("one", "two", "three"))


def test_the_same_bytes_in_one_batch_and_in_a_later_one() -> None:
    """Catches an arrival whose text replaces nothing, or is lost, because the text of its mail waits to be written: one hit, found by each of its recipients."""
    cursor = database()
    first = stored(cursor, [prepared(0, mail("one")), prepared(1, mail("two")), prepared(2, mail("one"))])
    assert first == [Outcome.STORED, Outcome.STORED, Outcome.COPY]
    assert stored(cursor, [prepared(3, mail("one")), prepared(4, mail("one"))]) == [Outcome.COPY, Outcome.COPY]
    (place,) = found(cursor, "one")
    assert all(found(cursor, f"u{number}") == [place] for number in (0, 2, 3, 4))
    assert len(found(cursor, "two")) == 1
    assert found(cursor, "u1") != [place]


def test_a_slice_of_a_renewed_month_is_one_segment() -> None:
    """Catches the same in the table that is to take a month's place."""
    cursor = database()
    stored(cursor, [prepared(number, mail(word)) for number, word in enumerate(("one", "two", "three"))])
    cursor.execute("UPDATE month SET form = ?", (FORM - 1,))
    cursor.execute("UPDATE mail SET content = NULL")
    begin_renewal(cursor, MONTH)
    cursor.execute("BEGIN IMMEDIATE")
    places = [one.place for one in due(cursor, MONTH, -1, 10)]
    assert renew(
        cursor, MONTH, [(place, read_mail(mail(word))) for place, word in zip(places, ("one", "two", "three"), strict=True)]
    )
    cursor.execute("COMMIT")
    assert segments(cursor, fresh_table_of(MONTH)) == 1
