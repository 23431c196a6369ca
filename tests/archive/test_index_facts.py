"""What the index says of leaves, parts and holds: one table at a time, without an archive around it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import cast

import pytest

from hornetmail.archive.care.trust.evidence import _packs_with_facts
from hornetmail.archive.index.finding.search import _cursor_of
from hornetmail.archive.index.schema.facts import UNKNOWN_LEAVES, UNKNOWN_USES
from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.archive.index.schema.places import PLACE_BITS
from hornetmail.archive.index.ties import leaves
from hornetmail.archive.index.ties.holds import begin_hold, end_hold, holds_of, holds_on, is_held, running_queries
from hornetmail.archive.index.ties.leaves import (
    Ledger,
    Looked,
    Ownerless,
    count_untold,
    enter_audit_leaf,
    excused,
    is_audited,
    leaf_went,
    looked_at,
    set_looked,
    settle_unknown,
)
from hornetmail.archive.index.ties.rules import RulesRow, rules_of, rules_row, set_rules, tenants_to_walk
from hornetmail.archive.index.ties.uses import GONE, leave_gone, leave_parts, use_parts, wake_parts
from hornetmail.archive.index.writing.mails import _free_place
from hornetmail.archive.index.writing.removal import last_removal, mail_went
from hornetmail.archive.proof.leaves import VOID
from hornetmail.archive.store.records import AuditLeaf
from hornetmail.core.archive.archived import QueryError
from hornetmail.core.archive.retention import Hold, Rule
from hornetmail.core.ids import milliseconds_of
from hornetmail.db.engines import Cursor
from tests.archive.test_leaf_index import LEAVES
from tests.archive.test_records import meta_for


@pytest.fixture
def cursor() -> Iterator[Cursor]:
    """Of an empty index."""
    with closing(sqlite3.connect(":memory:")) as database:
        for migration in MIGRATIONS:
            for statement in migration.sql:
                database.execute(statement)
        yield cast("Cursor", database.cursor())


def gone(cursor: Cursor, node: int = 0) -> list[tuple[int, int]]:
    rows = cursor.execute("SELECT first, last FROM leaf_gone WHERE node = ? ORDER BY first", (node,)).fetchall()
    return [(first, last) for first, last in rows]


def test_migrations_are_counted() -> None:
    """Would catch a step that no index would take after the one before it."""
    assert [migration.number for migration in MIGRATIONS] == [*range(1, len(MIGRATIONS) + 1)]


# -- leaves


def test_ranges_of_what_went(cursor: Cursor) -> None:
    """Rule 17: would catch a table that grows by a row a mail, and a leaf that counts as gone and is not, or is and does not: at the ends of ranges, and where two become one."""
    for leaf, ranges in (
        (5, [(5, 5)]),
        (5, [(5, 5)]),
        (7, [(5, 5), (7, 7)]),
        (6, [(5, 7)]),
        (6, [(5, 7)]),
        (8, [(5, 8)]),
        (4, [(4, 8)]),
        (2, [(2, 2), (4, 8)]),
        (0, [(0, 0), (2, 2), (4, 8)]),
        (1, [(0, 2), (4, 8)]),
        (-1, [(0, 2), (4, 8)]),
        (8, [(0, 2), (4, 8)]),
        (10, [(0, 2), (4, 8), (10, 10)]),
    ):
        leaf_went(cursor, 0, leaf)
        assert gone(cursor) == ranges, leaf
    leaf_went(cursor, 1, 9)
    assert gone(cursor) == [(0, 2), (4, 8), (10, 10)], "of another node"
    assert gone(cursor, 1) == [(9, 9)]


def add(cursor: Cursor, table: str, leaf: int, node: int = 0) -> None:
    """A mail, or an arrival, of this leaf."""
    names = [(row[1], row[2]) for row in cursor.execute(f"PRAGMA table_info({table})").fetchall()]
    values: dict[str, object] = {name: leaf if kind == "INTEGER" else b"%d" % leaf for name, kind in names}
    if table == "arrival":
        values["outcome"] = "stored"
    values |= {"node": node, "leaf": leaf}
    cursor.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", tuple(values.values()))


def owners(cursor: Cursor, ledger: Ledger) -> tuple[tuple[int, int], ...]:
    for page in (ledger.mails, ledger.arrivals):
        after: int | None = -1
        while after is not None:
            after = page(cursor, after)
    return ledger.rest(cursor)


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_every_leaf_has_an_owner(cursor: Cursor, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """Rule 17: would catch a lost record that nothing tells of, or an alarm for one that is there: at the ends of the stretch that is looked at, of pages, and of what went."""
    monkeypatch.setattr(leaves, "PAGE", page)
    hashes = [VOID if number == 3 else LEAVES[number] for number in range(20)]
    for leaf in (0, 4, 9, 10, 11, 19):
        add(cursor, "mail", leaf)
    add(cursor, "mail", 15, node=1)
    for leaf in (5, 12):
        add(cursor, "arrival", leaf)
    for leaf in (8, 13, 14):
        leaf_went(cursor, 0, leaf)
    for leaf in (7, 16):
        enter_audit_leaf(cursor, AuditLeaf(0, leaf, leaf, bytes(32), 1.0))
    assert owners(cursor, Ledger(0, 0, hashes)) == ((1, 2), (6, 6), (15, 15), (17, 18))
    assert owners(cursor, Ledger(0, 4, hashes[4:10])) == ((6, 6),)
    assert owners(cursor, Ledger(0, 6, hashes[6:7])) == ((6, 6),)
    assert owners(cursor, Ledger(0, 13, hashes[13:16])) == ((15, 15),)
    assert owners(cursor, Ledger(0, 14, hashes[14:15])) == ()
    assert owners(cursor, Ledger(0, 9, hashes[9:13])) == ()
    assert owners(cursor, Ledger(0, 17, hashes[17:])) == ((17, 18),)
    assert owners(cursor, Ledger(1, 14, hashes[14:17])) == ((14, 14), (16, 16))


def test_owners_beyond_the_stretch() -> None:
    """Staged mail is owned whatever is looked at: would catch a look that ends in an error of ours because of a mail that came meanwhile."""
    ledger = Ledger(0, 4, LEAVES[:2])
    ledger.own([3, 6, 7, 100])
    assert bytes(ledger._owned) == bytes(2)
    ledger.own([4, 5])
    assert bytes(ledger._owned) == b"\1\1"


def test_those_without_are_told() -> None:
    """Would catch a count that is off, and a text that hides that there are more."""
    ranges = tuple((10 * number, 10 * number + number % 2) for number in range(6))
    assert Ownerless(ranges[:5]).count == 7
    assert "(leaf 0, 10 to 11, 20, 30 to 31, 40):" in Ownerless(ranges[:5]).told()
    assert Ownerless(ranges[:5]).told().startswith("7 arrivals ")
    assert "(leaf 0, 10 to 11, 20, 30 to 31, 40, \u2026):" in Ownerless(ranges).told()


def test_what_an_earlier_version_did_not_note(cursor: Cursor) -> None:
    """Would catch an alarm for what an earlier version deleted, and one that is forgiven for ever, once all was looked at."""
    assert excused(cursor) == 0
    count_untold(cursor, 2)
    count_untold(cursor, 3)
    assert excused(cursor) == 5
    assert not settle_unknown(cursor, 0, Ownerless(((3, 5),)))
    assert gone(cursor) == []
    cursor.execute("INSERT INTO fact (name, value) VALUES (?, 'yes')", (UNKNOWN_LEAVES,))
    add(cursor, "arrival", -1)
    assert settle_unknown(cursor, 0, Ownerless(((3, 5), (7, 7))))
    assert gone(cursor) == [(3, 5), (7, 7)]
    assert cursor.execute("SELECT leaf FROM arrival").fetchall() == [(-2,)]
    assert not settle_unknown(cursor, 0, Ownerless(((9, 9),)))


def test_how_far_one_has_looked(cursor: Cursor) -> None:
    """Would catch a short look that begins anew each time."""
    assert looked_at(cursor) == Looked(0, 0)
    for looked in (Looked(5, 2), Looked(9, 4)):
        set_looked(cursor, looked)
        assert looked_at(cursor) == looked


def test_rows_of_the_audit_log(cursor: Cursor) -> None:
    """L14: would catch a row with another hash, or of another node, that counts as proved."""
    one = AuditLeaf(0, 7, 17, b"a" * 32, 1.0)
    enter_audit_leaf(cursor, one)
    enter_audit_leaf(cursor, one)
    assert leaves.audit_leaves(cursor) == [one]
    assert is_audited(cursor, 0, 17, b"a" * 32)
    assert not is_audited(cursor, 0, 17, b"b" * 32)
    assert not is_audited(cursor, 0, 18, b"a" * 32)
    assert not is_audited(cursor, 1, 17, b"a" * 32)


def test_when_mail_last_went(cursor: Cursor) -> None:
    """Rule 23: would catch a day on which all is gone that moves back when an older fact is read, or is another tenant's."""
    assert last_removal(cursor, 1) == 0.0
    for at in (5.0, 9.0, 7.0):
        mail_went(cursor, 1, at)
    assert (last_removal(cursor, 1), last_removal(cursor, 2)) == (9.0, 0.0)


def test_rules_by_their_time(cursor: Cursor) -> None:
    """A57: would catch an older rule that takes the place of a newer one when a rebuild reads it later, and rules that are not applied to what is there."""
    assert rules_row(cursor, 1) is None
    assert rules_of(cursor, 1) == ()
    first, second = (Rule(365),), (Rule(730), Rule(30))
    set_rules(cursor, 1, 5.0, "anna", first)
    cursor.execute("UPDATE rules SET walked = NULL")
    assert tenants_to_walk(cursor) == []
    set_rules(cursor, 1, 4.0, "eve", second)
    assert rules_row(cursor, 1) == RulesRow(1, 5.0, "anna", first, None)
    set_rules(cursor, 1, 5.0, "bert", second)
    assert rules_row(cursor, 1) == RulesRow(1, 5.0, "bert", second, -1)
    assert rules_of(cursor, 1) == second
    assert rules_of(cursor, 2) == ()
    set_rules(cursor, 3, 1.0, "", first)
    assert tenants_to_walk(cursor) == [1, 3]


def test_where_a_mail_stands(cursor: Cursor) -> None:
    """Would catch mail of one moment that is put among that of the next, and a place that is taken; a rebuild must come to the same order."""
    assert PLACE_BITS == 18
    last = meta_for(b"x", identifier=(1 << 63) - 1)
    assert _free_place(cursor, last) == 1500 << 18 | 0x3FFFF
    assert _free_place(cursor, meta_for(b"x", identifier=0)) == 1500 << 18
    one = meta_for(b"x", identifier=5 << 22 | 7)
    place = 1500 << 18 | (milliseconds_of(one.identifier) & 0x3FF) << 8 | 7
    assert _free_place(cursor, one) == place
    add(cursor, "mail", 1)
    cursor.execute("UPDATE mail SET place = ?", (place,))
    assert _free_place(cursor, one) == place + 1
    add(cursor, "mail", 2)
    cursor.execute("UPDATE mail SET place = ? WHERE leaf = 2", (1500 << 18 | 0x3FFFF,))
    assert _free_place(cursor, one) == 1501 << 18, "the moment is full"


@pytest.mark.parametrize(
    "wrong", ["x", "5", "5-", "-5", "5-x", "\u0665-1", "5-\u0665", f"{1 << 63}-1", "1" * 20 + "-1", "5-" + "1" * 20]
)
def test_a_page_that_was_never_given(wrong: str) -> None:
    """Would catch an error of ours where somebody asks for a page behind what no page ended with."""
    with pytest.raises(QueryError, match="not from an earlier page"):
        _cursor_of(wrong)
    assert _cursor_of(f"{(1 << 63) - 1}-7") == ((1 << 63) - 1, 7)
    assert _cursor_of("") == (None, None)


# -- parts


def part(cursor: Cursor, record: bytes) -> None:
    cursor.execute(
        "INSERT INTO part (record, tenant, month, digest, pack, start, length) VALUES (?, 1, 202702, ?, 1, 0, 1)",
        (record, record),
    )


def state(cursor: Cursor) -> tuple[list[int], tuple[int, int]]:
    """Which parts are idle, and how many records of their pack are dead, and whether it is written anew soon."""
    idle = [row[0] for row in cursor.execute("SELECT idle FROM part ORDER BY record").fetchall()]
    dead, soon = cursor.execute("SELECT dead, soon FROM pack").fetchone()
    return idle, (dead, soon)


def test_a_part_goes_with_the_last_mail_that_used_it(cursor: Cursor) -> None:
    """Rule 23: would catch an attachment that stays although all its mail went, and one that goes while somebody uses it."""
    cursor.execute(
        "INSERT INTO pack (number, tenant, pack, medium, month, size, sha256, members, shared, made, checked) VALUES (1, 1, x'01', 1, 202702, 1, x'', 2, 2, 0, 0)"
    )
    for record in (b"a", b"b"):
        part(cursor, record)
    use_parts(cursor, 1, 5, [b"a", b"b", b"a"])
    use_parts(cursor, 1, 6, [b"b"])
    leave_parts(cursor, 5, 0)
    assert state(cursor) == ([1, 0], (1, 0))
    leave_parts(cursor, 5, 1)
    assert state(cursor) == ([1, 0], (1, 0)), "it went already"
    leave_parts(cursor, 6, 1)
    assert state(cursor) == ([1, 1], (2, 1))
    use_parts(cursor, 1, 7, [b"a"])
    wake_parts(cursor)
    assert state(cursor)[0] == [0, 1]


def test_parts_of_which_nobody_knows_who_uses_them(cursor: Cursor) -> None:
    """Would catch an attachment that goes although mail of an earlier version may use it; after a rebuild one knows."""
    cursor.execute(
        "INSERT INTO pack (number, tenant, pack, medium, month, size, sha256, members, shared, made, checked) VALUES (1, 1, x'01', 1, 202702, 1, x'', 2, 2, 0, 0)"
    )
    cursor.execute("INSERT INTO fact (name, value) VALUES (?, 'yes')", (UNKNOWN_USES,))
    for record in (b"a", b"b"):
        part(cursor, record)
    use_parts(cursor, 1, 5, [b"a"])
    leave_parts(cursor, 5, 1)
    assert state(cursor) == ([0, 0], (0, 0))
    use_parts(cursor, 1, GONE, [b"a", b"b"])
    use_parts(cursor, 1, 6, [b"b"])
    leave_gone(cursor)
    assert state(cursor) == ([1, 0], (1, 1))


def test_packs_that_say_more_of_a_mail(cursor: Cursor) -> None:
    """Rule 25: would catch evidence for which other tenants' packs are opened, or all there are."""
    for number, (tenant, month, shared, merged) in enumerate(
        [(1, 202702, 2, 0), (1, 202702, 0, 0), (1, 202702, 2, 1), (1, 202703, 2, 0), (2, 202702, 2, 0)], 1
    ):
        cursor.execute(
            "INSERT INTO pack (number, tenant, pack, medium, month, size, sha256, members, shared, made, checked, merged)"
            " VALUES (?, ?, ?, 1, ?, 1, x'', 2, ?, 0, 0, ?)",
            (number, tenant, bytes([number]), month, shared, merged),
        )
    assert [pack.number for pack in _packs_with_facts(cursor, 1, 202702)] == [1]


# -- holds


def hold(name: str, at: float, query: str = "", **more: object) -> Hold:
    return Hold(name, at, "judge", query, **more)  # type: ignore[arg-type]


def test_holds_by_the_time_of_what_was_said(cursor: Cursor) -> None:
    """A28: would catch a hold that ends, or does not, because its facts were read in another order than they were made."""
    begin_hold(cursor, 1, hold("case", 10.0), [b"a", b"b"])
    assert is_held(cursor, b"a")
    assert not is_held(cursor, b"c")
    end_hold(cursor, 1, "case", 20.0, [b"b"])
    assert (holds_on(cursor, b"a"), holds_on(cursor, b"b")) == (["case"], [])
    begin_hold(cursor, 1, hold("case", 15.0), [b"b"])
    assert holds_on(cursor, b"b") == [], "that was before its release"
    begin_hold(cursor, 1, hold("case", 20.0), [b"b"])
    assert holds_on(cursor, b"b") == [], "the release of one moment wins"
    begin_hold(cursor, 1, hold("case", 21.0), [b"b"])
    assert holds_on(cursor, b"b") == ["case"]
    begin_hold(cursor, 1, hold("another", 22.0), [b"b"])
    assert holds_on(cursor, b"b") == ["another", "case"]
    end_hold(cursor, 1, "case", 30.0, [])
    end_hold(cursor, 1, "case", 25.0, [])
    assert holds_on(cursor, b"b") == ["another"]
    begin_hold(cursor, 1, hold("case", 29.0), [b"a"])
    assert not is_held(cursor, b"a")
    begin_hold(cursor, 1, hold("case", 31.0), [b"a"])
    assert is_held(cursor, b"a")
    assert not is_held(cursor, b"c")
    assert holds_on(cursor, b"b") == ["another"], "what it held before stays free"


def test_what_is_said_of_holds(cursor: Cursor) -> None:
    """A28: would catch a running hold shown as over, or one that is over and takes what comes later; and one tenant's shown to another."""
    add(cursor, "mail", 1)
    add(cursor, "mail", 2)
    records = [row[0] for row in cursor.execute("SELECT record FROM mail ORDER BY leaf").fetchall()]
    begin_hold(cursor, 1, hold("case", 10.0, "from:a", content=True, reason="asked for"), records)
    begin_hold(cursor, 1, hold("later", 12.0), [*records[:1], b"elsewhere"])
    begin_hold(cursor, 2, hold("theirs", 11.0, "to:b"), [])
    assert [(one.name, one.mails, one.query, one.content, one.reason, one.released) for one in holds_of(cursor, 1)] == [
        ("later", 1, "", False, "", 0.0),
        ("case", 2, "from:a", True, "asked for", 0.0),
    ]
    assert [(tenant, one.name) for tenant, one in running_queries(cursor)] == [(1, "case"), (2, "theirs")]
    begin_hold(cursor, 1, hold("case", 13.0), records[:1])
    assert [(one.query, one.reason) for one in holds_of(cursor, 1) if one.name == "case"] == [("from:a", "asked for")]
    end_hold(cursor, 1, "case", 20.0, [])
    assert [(one.name, one.mails, one.released) for one in holds_of(cursor, 1)] == [("case", 0, 20.0), ("later", 1, 0.0)]
    assert [(tenant, one.name) for tenant, one in running_queries(cursor)] == [(2, "theirs")]
