"""The rules of retention in the index: when each mail goes."""

from __future__ import annotations

from typing import Any

import msgspec

from hornetmail.archive.index.schema.people import People, people_decoder
from hornetmail.archive.index.ties.holds import is_held
from hornetmail.core.archive.retention import Kept, RetentionPreview, Rule, goes_at
from hornetmail.core.mail.address import domain_of
from hornetmail.core.mail.envelope import Direction
from hornetmail.db.engines import Cursor

PAGE = 500
SAMPLE = 20

_rules = msgspec.msgpack.Decoder(tuple[Rule, ...])


def kept_of(people: People, direction: str, spam: bool, base: float, kept: float) -> Kept:
    """What rules go by, of a mail with these arrivals."""
    addresses: set[str] = set()
    if direction != Direction.OUT:
        addresses |= set(people.envelope())
    if direction != Direction.IN:
        addresses |= {arrival.login or arrival.sender for arrival in people.arrivals}
    domains = frozenset(domain_of(address).lower() for address in addresses if address)
    received = max((arrival.received for arrival in people.arrivals), default=0.0)
    return Kept(domains, direction, spam, received, base, kept)


def rules_of(cursor: Cursor, tenant: int) -> tuple[Rule, ...]:
    """The rules in force for a tenant."""
    row = cursor.execute("SELECT rules FROM rules WHERE tenant = ?", (tenant,)).fetchone()
    return _rules.decode(row[0]) if row else ()


class RulesRow(msgspec.Struct, frozen=True, gc=False):
    """A row of ``rules``. ``walked``: the last place that they are applied to; None: to all."""

    tenant: int
    at: float
    by: str
    rules: tuple[Rule, ...]
    walked: int | None


def rules_row(cursor: Cursor, tenant: int) -> RulesRow | None:
    """The rules of a tenant, and how far they are applied."""
    row = cursor.execute("SELECT tenant, at, by, rules, walked FROM rules WHERE tenant = ?", (tenant,)).fetchone()
    return RulesRow(row[0], row[1], row[2], _rules.decode(row[3]), row[4]) if row else None


def set_rules(cursor: Cursor, tenant: int, at: float, by: str, rules: tuple[Rule, ...]) -> None:
    """From now on these, unless newer ones are known; they are not yet applied to the mail that is there."""
    cursor.execute(
        "INSERT INTO rules (tenant, at, by, rules, walked) VALUES (?, ?, ?, ?, -1) ON CONFLICT (tenant) DO UPDATE SET at = excluded.at,"
        " by = excluded.by, rules = excluded.rules, walked = -1 WHERE excluded.at >= rules.at",
        (tenant, at, by, msgspec.msgpack.encode(rules)),
    )


def tenants_to_walk(cursor: Cursor) -> list[int]:
    """Tenants whose rules are not yet applied to all mail."""
    return [row[0] for row in cursor.execute("SELECT tenant FROM rules WHERE walked IS NOT NULL ORDER BY tenant").fetchall()]


_KEPT = "place, people, direction, spam, expires, base, kept"


def _page(cursor: Cursor, tenant: int, after: int, more: str = "") -> list[Any]:
    found: list[Any] = cursor.execute(
        f"SELECT {_KEPT}{more} FROM mail WHERE place > ? AND tenant = ? ORDER BY place LIMIT ?", (after, tenant, PAGE)
    ).fetchall()
    return found


def walk(cursor: Cursor, tenant: int) -> bool:
    """Apply the rules to one more page of mail; False: to all. A mark goes with the next marking if the mail lives longer now."""
    row = rules_row(cursor, tenant)
    if row is None or row.walked is None:
        return False
    page = _page(cursor, tenant, row.walked)
    changed = []
    for place, people, direction, spam, expires, base, kept in page:
        first = expires if base is None else base
        new = goes_at(row.rules, kept_of(people_decoder.decode(people), direction, bool(spam), first, kept))
        if (new, first) != (expires, base):
            changed.append((new, first, place))
    cursor.executemany("UPDATE mail SET expires = ?, base = ? WHERE place = ?", changed)
    walked = page[-1][0] if len(page) == PAGE else None
    cursor.execute("UPDATE rules SET walked = ? WHERE tenant = ?", (walked, tenant))
    return walked is not None


class Counted:
    """Counts what rules would do, page by page."""

    def __init__(self, tenant: int, rules: tuple[Rule, ...], now: float) -> None:
        self._tenant = tenant
        self._rules = rules
        self._now = now
        self._found = RetentionPreview()
        self._sample: list[int] = []

    def page(self, cursor: Cursor, after: int) -> int | None:
        """One more page of mail behind that place; the last place, None at the end."""
        rows = _page(cursor, self._tenant, after, ", record, size, id, received")
        found, now = self._found, self._now
        mails, going, size, more, held, spared = found.mails, found.going, found.bytes, found.more, found.held, found.spared
        oldest, newest = found.oldest, found.newest
        for _, people, direction, spam, expires, base, kept, record, length, identifier, received in rows:
            first = expires if base is None else base
            due = goes_at(self._rules, kept_of(people_decoder.decode(people), direction, bool(spam), first, kept)) < now
            mails += 1
            if due and is_held(cursor, record):
                held += 1
            elif due:
                going, size, more = going + 1, size + length, more + (expires >= now)
                oldest, newest = min(oldest or received, received), max(newest, received)
                if len(self._sample) < SAMPLE:
                    self._sample.append(identifier)
            elif expires < now:
                spared += 1
        self._found = RetentionPreview(mails, going, size, more, held, spared, oldest, newest, tuple(self._sample))
        return rows[-1][0] if len(rows) == PAGE else None

    @property
    def found(self) -> RetentionPreview:
        """What was counted so far."""
        return self._found
