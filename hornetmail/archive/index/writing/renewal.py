"""Months whose full text has a form of an earlier version get the present one, while they are searched: a second table is filled beside the one that is asked, slice by slice, and takes its place when it has
everything. How far it has come is in ``month.walked``: what is entered or leaves meanwhile is seen to in both tables (``put_text``, ``drop_text``).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hornetmail.archive.index.schema.fulltext import FORM, fresh_table_of, make_table, put_fresh, table_of
from hornetmail.archive.index.schema.people import People, people_decoder
from hornetmail.archive.index.schema.tokens import Marks
from hornetmail.archive.index.ties.kin import kin_of
from hornetmail.archive.index.writing.mails import MAX_SUBJECT, MAX_UNSEARCHED
from hornetmail.core.archive.archived import Stretch
from hornetmail.db.engines import Cursor
from hornetmail.mime.reading.mail import MailText


class Due(msgspec.Struct, frozen=True, gc=False):
    """A mail whose text is to be read again, and where it lies."""

    place: int
    record: bytes
    pack: int | None
    start: int
    length: int


def months_left(cursor: Cursor) -> list[int]:
    """Months of an earlier form, the newest first."""
    return [
        month for (month,) in cursor.execute("SELECT month FROM month WHERE form != ? ORDER BY month DESC", (FORM,)).fetchall()
    ]


def stretches_left(cursor: Cursor) -> tuple[Stretch, ...]:
    """When the mail of those months was received, each as one stretch, the newest first."""
    found = []
    for month in months_left(cursor):
        first, last = cursor.execute(
            "SELECT (SELECT min(place) FROM mail WHERE month = ?1), (SELECT max(place) FROM mail WHERE month = ?1)", (month,)
        ).fetchone()
        if first is not None:
            found.append(Stretch((first >> 18) / 1000.0, (last >> 18) / 1000.0))
    return tuple(found)


def begin_renewal(cursor: Cursor, month: int) -> int | None:
    """Make room, unless that was done before; how far it has come. None: the month has gone, or has its form."""
    row = cursor.execute("SELECT form, walked FROM month WHERE month = ?", (month,)).fetchone()
    if row is None or row[0] == FORM:
        return None
    if row[1] is not None:
        return int(row[1])
    make_table(cursor, fresh_table_of(month))
    cursor.execute("UPDATE month SET walked = -1 WHERE month = ?", (month,))
    return -1


def due(cursor: Cursor, month: int, after: int, limit: int) -> list[Due]:
    """The next mails, by place."""
    rows = cursor.execute(
        "SELECT place, record, pack, start, length FROM mail WHERE month = ? AND place > ? ORDER BY place LIMIT ?",
        (month, after, limit),
    ).fetchall()
    return [Due(*row) for row in rows]


def known_text(cursor: Cursor, place: int) -> MailText:
    """What the index itself still knows of a mail whose bytes cannot be read."""
    row = cursor.execute("SELECT subject, people, message_id, date FROM mail WHERE place = ?", (place,)).fetchone()
    if row is None:
        return MailText(whole=False)
    people = people_decoder.decode(row[1])
    return MailText(
        subject=row[0],
        sender=people.sender,
        to=people.to,
        cc=people.cc,
        bcc=people.bcc,
        message_id=row[2],
        date=row[3],
        unsearched=("all but the header",),
        whole=False,
    )


def renew(cursor: Cursor, month: int, texts: Sequence[tuple[int, MailText]]) -> bool:
    """One slice, in the order of places; False: somebody else was faster, or the month has gone. Mail that went meanwhile is left out."""
    row = cursor.execute("SELECT walked FROM month WHERE month = ? AND form != ?", (month, FORM)).fetchone()
    if row is None or row[0] is None or (texts and row[0] >= texts[0][0]):
        return False
    fresh = []
    for place, text in texts:
        mail = cursor.execute(
            "SELECT people, tenant, direction, size, spam, content FROM mail WHERE place = ?", (place,)
        ).fetchone()
        if mail is None:
            continue
        encoded, tenant, direction, size, spam, content = mail
        people = people_decoder.decode(encoded)
        if text.whole:
            people = _read_again(cursor, place, text, people)
        fresh.append((place, text, people, Marks(tenant, direction, size, bool(spam))))
        if content is None:
            kin = kin_of(cursor, tenant, text)
            cursor.execute(
                "UPDATE mail SET content = ?, rendition = ?, namesake = max(namesake, ?), thread = ? WHERE place = ?",
                (kin.content, kin.rendition, int(kin.namesake), kin.thread, place),
            )
        cursor.execute("UPDATE mail SET unsearched = ? WHERE place = ?", ("\n".join(text.unsearched)[:MAX_UNSEARCHED], place))
    # Behind all rows, as in ``store_batch``.
    for one in fresh:
        put_fresh(cursor, month, *one)
    if texts:
        cursor.execute("UPDATE month SET walked = ? WHERE month = ?", (texts[-1][0], month))
    return True


def _read_again(cursor: Cursor, place: int, text: MailText, people: People) -> People:
    """What the row shows of a mail's header, as it is read today; who it came to, and when, stays."""
    people = msgspec.structs.replace(people, sender=text.sender, to=text.to, cc=text.cc, bcc=text.bcc)
    cursor.execute(
        "UPDATE mail SET people = ?, subject = ?, date = coalesce(?, received), message_id = ?, attachments = ? WHERE place = ?",
        (msgspec.msgpack.encode(people), text.subject[:MAX_SUBJECT], text.date, text.message_id, len(text.files), place),
    )
    return people


def end_renewal(cursor: Cursor, month: int) -> bool:
    """The new table takes the old one's place, if it has everything."""
    row = cursor.execute("SELECT walked FROM month WHERE month = ? AND form != ?", (month, FORM)).fetchone()
    if row is None or row[0] is None or due(cursor, month, int(row[0]), 1):
        return False
    cursor.execute(f"DROP TABLE {table_of(month)}")
    cursor.execute(f"ALTER TABLE {fresh_table_of(month)} RENAME TO {table_of(month)}")
    cursor.execute("UPDATE month SET form = ?, walked = NULL WHERE month = ?", (FORM, month))
    return True
