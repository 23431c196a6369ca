"""What folders of the archive cost that hold very much (rule 27): the index has rows and no packs, its questions run in a thread as in the product, and what is
measured are the reactor's turns."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import sqlcipher3

from hornetmail.archive.index.finding import folders
from hornetmail.archive.index.finding.folders import Month
from hornetmail.archive.index.schema.fulltext import make_month, table_of
from hornetmail.archive.index.schema.migrations import BITS, MIGRATIONS
from hornetmail.archive.index.schema.people import Arrival, People
from hornetmail.archive.index.schema.places import place_at
from hornetmail.archive.index.schema.tokens import right_token
from hornetmail.archive.tree.site import EVERYBODY, Around, TreeSite
from hornetmail.archive.tree.tree import ArchiveTree
from hornetmail.core.events import ArchiveGrew
from hornetmail.core.served import Scope
from hornetmail.net.serving.pump import Pump
from hornetmail.servers.imap.session import ImapSession
from hornetmail.testing.archives import NOW
from hornetmail.wire.imap.server.server import ImapServerEngine
from tests.cost.turns import MOST, Line, MeasuredReactor, calm
from tests.servers.imap.door import Door

AUDITOR = Scope(1, None, all_recipients=True)
OWN = Scope(1, frozenset({"alice@example.test"}))
MAY = b'"Mail archive/Everybody/Received/2026/05"'
MONTH = 203_001
MAILS = 30_000
MAY_FIRST = 1_777_593_600.0


class Rows:
    """An index in memory, filled with rows; ``read`` answers from a thread."""

    def __init__(self, mails: int, months: int = 1) -> None:
        self.mails = mails
        self._thread = ThreadPoolExecutor(1)
        self._thread.submit(self._fill, months).result()

    def _fill(self, months: int) -> None:
        self._connection = sqlcipher3.connect(":memory:")
        cursor = self._connection.cursor()
        for migration in MIGRATIONS:
            for sql in migration.sql:
                cursor.execute(sql)
        make_month(cursor, MONTH)
        folders.begin_uids(cursor, 1.0)
        people = msgspec.msgpack.encode(
            People(None, (), (), (), (Arrival("inline", 0.0, "a@x.test", "", ("alice@example.test",), (), 0),))
        )
        rights = f"x {right_token('t', '1')} {right_token('r', 'alice@example.test')}"
        step = 28 * 86_400.0 / (self.mails // months + 1)
        for number in range(self.mails):
            at = MAY_FIRST - 31 * 86_400.0 * (number % months) + step * (number // months)
            place = place_at(at) + number % 1000
            key = hashlib.sha256(b"%d" % number).digest()
            cursor.execute(
                "INSERT INTO mail (place, id, tenant, record, sha256, received, date, direction, feed, login, subject, message_id, size, attachments, spam, people,"
                " expires, month, node, leaf, start, length) VALUES (?, ?, 1, ?, ?, ?, ?, 'in', 'inline', '', 's', '<m>', 5000, 0, 0, ?, ?, ?, 0, ?, 0, 0)",
                (place, number + 1, key[:16], key, at, at, people, NOW + 1e9, MONTH, number),
            )
            words = "harvest" if number % 100 == 0 else "moon"
            cursor.execute(
                f"INSERT INTO {table_of(MONTH)} (rowid, subject, body, sender, recipients, hidden, rights) VALUES (?, ?, ?, '', '', '', ?)",
                (place, words, words, rights),
            )
        self._connection.commit()

    async def read(self, fn: Any, *args: Any) -> Any:
        return self.now(fn, *args)

    run = read

    def now(self, fn: Any, *args: Any) -> Any:
        """What it answers."""
        return self._thread.submit(lambda: fn(self._connection.cursor(), *args)).result()

    async def in_thread(self, call: Any, *args: Any) -> Any:
        return self._thread.submit(call, *args).result()

    def close(self) -> None:
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()


class Opened:
    """An auditor's connection."""

    def __init__(self, rows: Rows) -> None:
        self.reactor = MeasuredReactor()
        self.door = Door(self.reactor)
        nobody: Any = None
        site = TreeSite(
            Around(
                index=lambda: rows,  # type: ignore[arg-type,return-value]
                writing=lambda: rows,  # type: ignore[arg-type,return-value]
                node=0,
                texts=nobody,
                scopes=lambda mailbox: {"": OWN, EVERYBODY: AUDITOR},
                person=lambda mailbox: None,
                redelivery=nobody,
                audit=nobody,
                bus=self.door.bus,
                in_thread=rows.in_thread,
                seconds=lambda: NOW,
            )
        )
        self.site = site
        prefix = "Mail archive/"
        self.door.more = [(prefix, ArchiveTree(site, 1, self.door.tree, prefix))]
        session = ImapSession(self.door.site)
        self.line = Line(self.reactor, Pump(ImapServerEngine(), lambda: session, self.reactor))  # type: ignore[arg-type]
        assert b"OK" in self.line.say(b"l LOGIN alice@example.test secret\r\n")

    def say(self, command: bytes) -> bytes:
        said = self.line.say(b"a " + command + b"\r\n")
        assert b"\r\na OK" in said or said.startswith(b"a OK"), said[-300:]
        return said


@pytest.fixture(scope="module")
def rows() -> Iterator[Rows]:
    found = Rows(MAILS)
    yield found
    found.close()


@pytest.mark.parametrize(
    "command",
    [
        b'LIST "" "*"',
        b"STATUS " + MAY + b" (MESSAGES UIDNEXT UNSEEN SIZE DELETED)",
        b"EXAMINE " + MAY,
        b"SEARCH ALL",
        b"SEARCH NOT TEXT harvest",
        b"UID SEARCH TEXT harvest SINCE 2-May-2026 LARGER 10",
        b"UID SEARCH RETURN (ALL COUNT) NOT SUBJECT harvest",
        b"UID SEARCH OR TEXT moon (UNSEEN NOT DELETED)",
        b"FETCH 1:* FLAGS",
        b"UID FETCH 1:* (UID RFC822.SIZE INTERNALDATE FLAGS)",
        b"NOOP",
    ],
)
def test_no_turn_is_long(rows: Rows, command: bytes) -> None:
    """Catches a command that holds everybody up because the folder is large."""

    def longest() -> float:
        opened = Opened(rows)
        opened.say(b"EXAMINE " + MAY)
        opened.reactor.longest = 0.0
        opened.say(command)
        return opened.reactor.longest

    assert calm(longest) <= MOST


def test_opening_costs_what_a_small_one_costs() -> None:
    """Catches LIST, STATUS and EXAMINE that read every mail: with four times as many, each costs the same but for the list of UIDs that a session keeps, four bytes a mail."""
    costs = []
    for mails in (5_000, 10_000, 20_000):
        found = Rows(mails)
        try:
            Opened(found).say(b"EXAMINE " + MAY)
            opened = Opened(found)
            opened.say(b"EXAMINE " + MAY)
            began = time.thread_time()
            for _ in range(20):
                for command in (b'LIST "" "*"', b"STATUS " + MAY + b" (MESSAGES UIDNEXT SIZE)", b"EXAMINE " + MAY):
                    said = opened.say(command)
            costs.append((time.thread_time() - began) / 60)
            assert b"* %d EXISTS" % mails in said
            assert opened.line.pump is not None
        finally:
            found.close()
    assert costs[2] < 2 * costs[0] or costs[2] < 0.003, costs


def test_the_uids_of_a_large_folder_are_few_rows(rows: Rows) -> None:
    """Catches UIDs that are read as a row each, which is a second a million with the GIL held: they come 62 a row, in one question; and what came since, as what it is."""
    read: list[int] = []

    def asked(cursor: Any) -> Any:
        class Counted:
            def execute(self, sql: str, *args: Any) -> Any:
                class Found:
                    def fetchall(self) -> Any:
                        found = cursor.execute(sql, *args).fetchall()
                        read.append(len(found))
                        return found

                return Found()

        return folders.numbers(Counted(), AUDITOR, 0, Month(202605, False))  # type: ignore[arg-type]

    found = rows.now(asked)
    assert list(found) == list(range(1, MAILS + 1))
    assert read[1:] == [0], "and there are no renditions"
    assert read[0] <= MAILS / BITS + 1
    assert list(rows.now(folders.grown, 1, 0, Month(202605, False), found[-4])) == list(found[-3:])


def test_months_are_found_by_looking_at_each_once() -> None:
    """Catches a list of one's own folders that reads every mail: 30 months of 20,000 mails are found by some 60 looks."""
    found = Rows(20_000, months=30)
    looks: list[str] = []

    def asked(cursor: Any) -> list[Month]:
        class Counted:
            def execute(self, sql: str, *args: Any) -> Any:
                looks.append(sql)
                return cursor.execute(sql, *args)

        return folders.months(Counted(), OWN)  # type: ignore[arg-type]

    try:
        months = found.now(asked)
        assert len(months) == len(set(months)) >= 29
        assert len(looks) < 2 * len(months) + 10
        assert {month.month for month in months} == {month.month for month in found.now(folders.months, AUDITOR)}
    finally:
        found.close()


def test_what_went_is_compared_in_a_thread(rows: Rows) -> None:
    """Catches the sets of all UIDs of a large folder that are built in the reactor when something went."""
    opened = Opened(rows)
    opened.say(b"EXAMINE " + MAY)

    def went(cursor: Any) -> None:
        cursor.execute("UPDATE mail SET marked = 1 WHERE leaf = 7")

    rows.now(went)
    try:
        opened.reactor.longest = 0.0
        opened.door.bus.publish(ArchiveGrew(0))
        assert b"* 8 EXPUNGE" in opened.say(b"NOOP")
        assert opened.reactor.longest <= MOST
    finally:
        rows.now(lambda cursor: cursor.execute("UPDATE mail SET marked = NULL WHERE leaf = 7"))
