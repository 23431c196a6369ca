"""Mail with files whose words are not in the index yet: which, where it lies, and its words once they were read.

``put_text`` keeps the table: a mail is in it as long as its full text was made without the words of its files.
"""

from __future__ import annotations

import msgspec

from hornetmail.archive.index.schema.fulltext import drop_text, put_text
from hornetmail.archive.index.schema.people import people_decoder
from hornetmail.archive.index.schema.tokens import Marks
from hornetmail.archive.index.writing.mails import MAX_UNSEARCHED
from hornetmail.archive.store.shelf import PackRow, pack_row
from hornetmail.db.engines import Cursor
from hornetmail.mime.reading.mail import MailText

COUNTED = 10_000


class Unread(msgspec.Struct, frozen=True, gc=False):
    """A mail whose files are to be read, and where its record lies."""

    place: int
    record: bytes
    pack: PackRow | None
    start: int
    length: int


def next_unread(cursor: Cursor, limit: int) -> list[int]:
    """Places of the newest of them, but for those on media that are away."""
    rows = cursor.execute("SELECT place FROM unread WHERE away = 0 ORDER BY place DESC LIMIT ?", (limit,)).fetchall()
    return [place for (place,) in rows]


def locate_unread(cursor: Cursor, place: int) -> Unread | None:
    """Where it lies now; None: it went."""
    row = cursor.execute("SELECT record, pack, start, length FROM mail WHERE place = ?", (place,)).fetchone()
    if row is None:
        return None
    record, pack, start, length = row
    return Unread(place, record, pack_row(cursor, pack) if pack is not None else None, start, length)


def count_unread(cursor: Cursor) -> int:
    """How many there are, up to a bound: who looks every few seconds must not count a million."""
    (count,) = cursor.execute("SELECT count(*) FROM (SELECT 1 FROM unread LIMIT ?)", (COUNTED,)).fetchone()
    return int(count)


def away(cursor: Cursor, place: int) -> None:
    """The medium that it lies on is out of reach."""
    cursor.execute("UPDATE unread SET away = 1 WHERE place = ?", (place,))


def back(cursor: Cursor) -> None:
    """Media are back."""
    cursor.execute("UPDATE unread SET away = 0 WHERE away = 1")


def take_words(cursor: Cursor, place: int, text: MailText) -> None:
    """A mail's full text anew, with the words of its files. Nothing if it went meanwhile."""
    row = cursor.execute("SELECT month, people, tenant, direction, size, spam FROM mail WHERE place = ?", (place,)).fetchone()
    if row is None:
        return
    month, people, tenant, direction, size, spam = row
    drop_text(cursor, month, place)
    put_text(cursor, month, place, text, people_decoder.decode(people), Marks(tenant, direction, size, bool(spam)))
    cursor.execute("DELETE FROM unread WHERE place = ?", (place,))
    cursor.execute("UPDATE mail SET unsearched = ? WHERE place = ?", ("\n".join(text.unsearched)[:MAX_UNSEARCHED], place))


def give_up(cursor: Cursor, place: int, why: str) -> None:
    """Its files will not be read, and why; its own words stay found."""
    row = cursor.execute("SELECT unsearched FROM mail WHERE place = ?", (place,)).fetchone()
    if row is not None:
        said = row[0].replace("not read yet", why)
        cursor.execute("UPDATE mail SET unsearched = ? WHERE place = ?", (said[:MAX_UNSEARCHED], place))
    cursor.execute("DELETE FROM unread WHERE place = ?", (place,))
