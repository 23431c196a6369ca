"""Mail that holds and requests are about: by query, or by ID."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hornetmail.archive.index.finding.search import conditions_of
from hornetmail.archive.index.query.expressions import expression
from hornetmail.archive.index.query.language import parse_query
from hornetmail.archive.index.schema.fulltext import FORMS, months_of, table_of
from hornetmail.core.archive.retention import Hold
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor


def matching(cursor: Cursor, tenant: int, hold: Hold) -> list[bytes]:
    """Records of all mail of a tenant that a hold's query finds, marked or not, and that it does not hold yet. Raises QueryError."""
    understood = parse_query(hold.query, hold.at)
    scope = Scope(tenant, None, content=hold.content, subjects=hold.content, all_recipients=hold.content)
    expressions = {form: expression(scope, understood, form) for form in FORMS}
    conditions, values = conditions_of(cursor, scope, understood, marked=True)
    found: list[bytes] = []
    for month, form in reversed(months_of(cursor)):
        table, wanted = table_of(month), expressions[form]
        found += (
            record
            for (record,) in cursor.execute(
                f"WITH found AS MATERIALIZED (SELECT place, coalesce(rendition, place) AS whole FROM mail WHERE place IN (SELECT rowid FROM {table} WHERE {table} MATCH ?{conditions.format(table=table)}))"
                " SELECT record FROM mail WHERE (place IN (SELECT place FROM found UNION SELECT whole FROM found) OR rendition IN (SELECT whole FROM found)) AND NOT EXISTS"
                " (SELECT 1 FROM held h JOIN hold ON hold.tenant = h.tenant AND hold.name = h.name WHERE h.record = mail.record AND h.tenant = ?"
                " AND h.name = ? AND h.at > h.released AND h.at > hold.released)",
                (wanted, *values, tenant, hold.name),
            ).fetchall()
        )
    return found


def with_ids(cursor: Cursor, tenant: int, identifiers: Sequence[int]) -> dict[int, tuple[int, bytes, bool]]:
    """Place, record and whether it is in a pack, of those mails of a tenant that there are, by ID; with all their renditions, for to people they are one mail (rule 13)."""
    found = {}
    columns = "SELECT id, place, record, pack IS NOT NULL FROM mail WHERE"
    for identifier in identifiers:
        row = cursor.execute(
            "SELECT coalesce(rendition, place) FROM mail WHERE id = ? AND tenant = ?", (identifier, tenant)
        ).fetchone()
        if row is None:
            continue
        for name, place, record, packed in cursor.execute(
            f"{columns} place = ? UNION {columns} rendition = ? UNION {columns} id = ?", (row[0], row[0], identifier)
        ).fetchall():
            found[int(name)] = (int(place), bytes(record), bool(packed))
    return found


def by_month(cursor: Cursor, records: Iterable[bytes]) -> dict[int, list[bytes]]:
    """These of those records that are mails, by their merge group's month."""
    found: dict[int, list[bytes]] = {}
    for record in records:
        row = cursor.execute("SELECT month FROM mail WHERE record = ?", (record,)).fetchone()
        if row:
            found.setdefault(int(row[0]), []).append(record)
    return found
