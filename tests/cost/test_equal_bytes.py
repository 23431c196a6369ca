"""What the same bytes cost that come again and again: scanners send them for years. Counted is what is written and read, not time."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import sqlcipher3

from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.archive.index.writing.mails import Prepared, store_batch
from hornetmail.archive.store.records import MailMeta
from hornetmail.mime.reading.mail import read_mail
from hornetmail.testing.archives import NOW

SCAN = b"From: scanner@example.test\r\nSubject: Scan\r\n\r\nsee file\r\n"
NAMED = b"From: list@example.test\r\nSubject: Scan\r\nMessage-ID: <one@example.test>\r\nDate: Mon, 25 May 2026 10:00:00 +0000\r\n\r\nsee file\r\n"


class Weighed:
    """A cursor that adds up the bytes that go in and come out, and the steps that the database takes."""

    def __init__(self) -> None:
        self._connection = sqlcipher3.connect(":memory:")
        self._cursor = self._connection.cursor()
        self.bytes = self.steps = 0
        self._connection.set_progress_handler(self._step, 100)
        for migration in MIGRATIONS:
            for sql in migration.sql:
                self._cursor.execute(sql)

    def _step(self) -> int:
        self.steps += 1
        return 0

    def execute(self, sql: str, params: Any = ()) -> Any:
        self.bytes += sum(len(one) for one in params if isinstance(one, (bytes, str)))
        return self._cursor.execute(sql, params)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def cost(raw: bytes, arrivals: int) -> tuple[int, int]:
    """Bytes and hundreds of steps of so many arrivals, one a minute, each for somebody else."""
    weighed = Weighed()
    text = read_mail(raw)
    before = weighed.steps
    for n in range(arrivals):
        meta = MailMeta(
            identifier=1 + n,
            row=1 + n,
            node=1,
            leaf=n,
            salt=b"",
            sha256=hashlib.sha256(raw).digest(),
            size=len(raw),
            received=NOW + 60 * n,
            expires=NOW * 2,
            month=202_608,
            feed="inline",
            direction="in",
            sender="scanner@example.test",
            recipients=(f"u{n}@example.test",),
        )
        store_batch(weighed, [Prepared(1, b"%016d" % n, meta, text, None, 0, len(raw))])  # type: ignore[arg-type]
    return weighed.bytes, weighed.steps - before


@pytest.mark.parametrize("raw", [SCAN, NAMED])
def test_twice_as_many_cost_twice(raw: bytes) -> None:
    """Catches a row that grows with each arrival, and a look for the row of the same bytes that passes all others: 1,500 more at 6,000 took 12.5 s."""
    once, twice = cost(raw, 600), cost(raw, 1200)
    assert twice[0] < 2.2 * once[0], (once, twice)
    assert twice[1] < 2.3 * once[1], (once, twice)
