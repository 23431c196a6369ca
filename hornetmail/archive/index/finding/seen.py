"""What a scope may see of a mail that it may see (rule 14): recipients, and of renditions those that are its own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hornetmail.archive.index.schema.people import People, people_decoder
from hornetmail.core.archive.archived import Came, Hit
from hornetmail.core.mail.address import key_of
from hornetmail.core.mail.envelope import Direction
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor

MEMBERS = 50
"""Renditions of one mail that are looked at to show it."""

COLUMNS = (
    "place, id, tenant, record, sha256, received, date, direction, feed, login, subject, message_id, size, attachments, spam, people, expires,"
    " month, pack, start, length, unsearched, rendition, namesake"
)


class MailRow(msgspec.Struct, frozen=True, gc=False):
    """A row of ``mail``."""

    place: int
    identifier: int
    tenant: int
    record: bytes
    sha256: bytes
    received: float
    date: float
    direction: str
    feed: str
    login: str
    subject: str
    message_id: str
    size: int
    attachments: int
    spam: int
    people: bytes
    expires: float
    month: int
    pack: int | None
    start: int
    length: int
    unsearched: str = ""
    rendition: int | None = None
    namesake: int = 0


def rows_at(cursor: Cursor, places: Sequence[int]) -> dict[int, MailRow]:
    """Rows of ``mail`` by place."""
    if not places:
        return {}
    marks = ",".join("?" * len(places))
    found = cursor.execute(f"SELECT {COLUMNS} FROM mail WHERE place IN ({marks})", tuple(places)).fetchall()
    return {row[0]: MailRow(*row) for row in found}


def sees(scope: Scope, people: People) -> bool:
    """Whether an arrival of it concerns somebody of the scope, as the full text has it."""
    return scope.addresses is None or bool(scope.addresses & (people.senders() | people.receivers() | people.owners()))


def renditions(cursor: Cursor, scope: Scope, row: MailRow) -> list[MailRow]:
    """What is one mail with it, itself included, as far as the scope may see it, the first to come first."""
    group = row.place if row.rendition is None else row.rendition
    found = cursor.execute(
        f"SELECT {COLUMNS} FROM mail WHERE rendition = ? AND marked IS NULL UNION ALL SELECT {COLUMNS} FROM mail WHERE place = ? AND marked IS NULL LIMIT ?",
        (group, group, MEMBERS),
    ).fetchall()
    members = {one[0]: MailRow(*one) for one in found}
    theirs = {place: one for place, one in members.items() if sees(scope, people_decoder.decode(one.people))}
    return [one for _, one in sorted({**theirs, row.place: row}.items())]


def hits_at(cursor: Cursor, scope: Scope, places: Sequence[int]) -> tuple[Hit, ...]:
    """Lines of a result list: mails at those places, which the scope may see, each with its renditions."""
    if not places:
        return ()
    rows = rows_at(cursor, places)
    groups = [row.place if row.rendition is None else row.rendition for row in rows.values()]
    marks = ",".join("?" * len(groups))
    several = {
        group
        for (group,) in cursor.execute(f"SELECT DISTINCT rendition FROM mail WHERE rendition IN ({marks})", groups).fetchall()
    }
    hits = []
    for place in places:
        if place not in rows:
            continue
        row = rows[place]
        one_mail = {row.place, row.rendition} & several
        hits.append(united(renditions(cursor, scope, row) if one_mail else [row], scope))
    return tuple(hits)


def united(rows: Sequence[MailRow], scope: Scope) -> Hit:
    """One mail: the first rendition that the scope may see, with the recipients of all of them (rule 13)."""
    hits = [hit_of(row, scope) for row in rows]
    recipients = tuple(dict.fromkeys(recipient for hit in hits for recipient in hit.recipients))
    return msgspec.structs.replace(hits[0], recipients=recipients, renditions=len(hits))


def came(rows: Sequence[MailRow], scope: Scope) -> tuple[Came, ...]:
    """When and by which feed it came to whom, as far as the scope may see it, in that order."""
    found = []
    for row in rows:
        people = people_decoder.decode(row.people)
        open_to = set(visible_envelope(scope, people))
        for arrival in people.arrivals:
            shown = tuple(recipient for recipient in arrival.recipients if recipient in open_to)
            if shown or sees_all_recipients(scope, people):
                found.append(Came(row.identifier, arrival.feed, arrival.received, shown, row.size))
    return tuple(sorted(found, key=lambda one: one.received))


def sees_all_recipients(scope: Scope, people: People) -> bool:
    """Rule 14: the sender and auditors see all."""
    return scope.all_recipients or bool(scope.mine & people.senders())


def visible_envelope(scope: Scope, people: People) -> tuple[str, ...]:
    """Envelope recipients that the scope may see: those the header names, and one's own entry; all for sender and auditors."""
    everybody = people.envelope()
    if sees_all_recipients(scope, people):
        return everybody
    open_keys = {key_of(n.address) for n in (*people.to, *people.cc)} | scope.mine
    return tuple(r for r in everybody if key_of(r) in open_keys)


def sees_whole(scope: Scope, people: People, login: str, recipients: Sequence[str]) -> bool:
    """Whether the scope may see everything that an arrival's envelope states: all its recipients and who logged in (rule 14)."""
    if sees_all_recipients(scope, people):
        return True
    return not login and set(recipients) <= set(visible_envelope(scope, people))


def visible_recipients(scope: Scope, people: People) -> tuple[str, ...]:
    """What a result list shows as recipients: the header's, and those of the envelope that may be seen besides."""
    shown = people.shown()
    named = {key_of(s) for s in shown}
    return (*shown, *(r for r in visible_envelope(scope, people) if key_of(r) not in named))


def sender_text(people: People) -> str:
    """The From of the header, or else the reverse-path."""
    if people.sender is not None:
        return str(people.sender)
    return next((a.sender for a in people.arrivals), "")


def hit_of(row: MailRow, scope: Scope) -> Hit:
    """A line of a result list."""
    people = people_decoder.decode(row.people)
    return Hit(
        id=row.identifier,
        date=row.date,
        sender=sender_text(people),
        recipients=visible_recipients(scope, people),
        subject=row.subject if scope.content or scope.subjects else "",
        size=row.size,
        direction=Direction(row.direction),
        received=row.received,
        spam=bool(row.spam),
        attachments=row.attachments,
        namesake=bool(row.namesake) and scope.addresses is None,
    )
