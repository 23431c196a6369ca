"""The full text: a table for each month of expiry (rule 23), its columns by form, and a mail's words in it."""

from __future__ import annotations

from hornetmail.archive.index.schema.people import People
from hornetmail.archive.index.schema.tokens import Marks, rights_of
from hornetmail.core.archive.words import for_index
from hornetmail.db.engines import Cursor
from hornetmail.mime.reading.mail import MailText

FORM = 3
"""What new months have. One more whenever what is read of a mail changes: ``writing/renewal.py`` reads again what has an earlier one."""

_APART = ("subject", "body", "attached", "files", "sender", "recipients", "copies", "hidden", "headers", "rights")

FORMS: dict[int, tuple[str, ...]] = {
    1: ("subject", "body", "sender", "recipients", "hidden", "rights"),
    2: _APART,
    FORM: _APART,
}
"""The columns of a month's full text. In the first form ``body`` has everything that is in none of the others; the second was begun before conversations and
renditions were known."""


def table_of(month: int) -> str:
    """The full-text table of a month."""
    return f"fts_{month:06d}"


def fresh_table_of(month: int) -> str:
    """The table that is filled to take its place (``renewal.py``)."""
    return f"{table_of(month)}_fresh"


def make_table(cursor: Cursor, table: str) -> None:
    """A full-text table of the present form.

    The beginnings of 2 and 4 letters have lists of their own, which serve those of 1 and 3 too: without them ``ma*`` joins the lists of all words that
    begin so. Tables from before they were kept answer the same, only later; a rebuild makes them anew.
    """
    cursor.execute(
        f"CREATE VIRTUAL TABLE {table} USING fts5({', '.join(FORMS[FORM])}, content='', contentless_delete=1,"
        ' tokenize="unicode61 remove_diacritics 2", prefix="2 4")'
    )


def make_month(cursor: Cursor, month: int) -> tuple[int, int | None]:
    """A month's form, and how far its new one has come, if one is made; its table is made if it is missing."""
    row = cursor.execute("SELECT form, walked FROM month WHERE month = ?", (month,)).fetchone()
    if row:
        return int(row[0]), row[1]
    make_table(cursor, table_of(month))
    cursor.execute("INSERT INTO month (month, form) VALUES (?, ?)", (month, FORM))
    return FORM, None


def months_of(cursor: Cursor) -> list[tuple[int, int]]:
    """All months that have full text, the newest first, and the form of each."""
    return [(month, form) for month, form in cursor.execute("SELECT month, form FROM month ORDER BY month DESC").fetchall()]


def drop_month(cursor: Cursor, month: int) -> None:
    """Drop a month's full text, whole (rule 23)."""
    cursor.execute(f"DROP TABLE IF EXISTS {table_of(month)}")
    cursor.execute(f"DROP TABLE IF EXISTS {fresh_table_of(month)}")
    cursor.execute("DELETE FROM month WHERE month = ?", (month,))


def put_text(cursor: Cursor, month: int, place: int, text: MailText, people: People, marks: Marks) -> None:
    """Put a mail's full text into its month's table, which is made if need be. One without the words of its files waits for them (``unread``)."""
    form, walked = make_month(cursor, month)
    _put(cursor, table_of(month), form, place, _columns(text, people, marks))
    if walked is not None and place <= walked:
        put_fresh(cursor, month, place, text, people, marks)
    _wait(cursor, place, text, marks)


def _wait(cursor: Cursor, place: int, text: MailText, marks: Marks) -> None:
    if text.waiting:
        cursor.execute("INSERT OR IGNORE INTO unread (place, tenant) VALUES (?, ?)", (place, marks.tenant))


def put_fresh(cursor: Cursor, month: int, place: int, text: MailText, people: People, marks: Marks) -> None:
    """Into the table that is to take its place."""
    _put(cursor, fresh_table_of(month), FORM, place, _columns(text, people, marks))
    _wait(cursor, place, text, marks)


def drop_text(cursor: Cursor, month: int, place: int) -> None:
    """A mail's full text goes."""
    for table in tables_of(cursor, month):
        cursor.execute(f"DELETE FROM {table} WHERE rowid = ?", (place,))


def tables_of(cursor: Cursor, month: int) -> list[str]:
    """All full-text tables that hold words of a month's mail."""
    rows = cursor.execute("SELECT walked FROM month WHERE month = ?", (month,)).fetchall()
    return [table for (walked,) in rows for table in (table_of(month), *([fresh_table_of(month)] if walked is not None else []))]


def _put(cursor: Cursor, table: str, form: int, place: int, values: dict[str, str]) -> None:
    names = FORMS[form]
    if form == 1:
        values["body"] = " ".join((values["body"], values["attached"], values["files"], values["headers"]))
        values["recipients"] = " ; ".join((values["recipients"], values["copies"]))
    cursor.execute(
        f"INSERT INTO {table} (rowid, {', '.join(names)}) VALUES (?{', ?' * len(names)})",
        (place, *(values[name] for name in names)),
    )


def _columns(text: MailText, people: People, marks: Marks) -> dict[str, str]:
    senders = dict.fromkeys(map(str, (*([people.sender] if people.sender else ()), *text.senders)))
    senders |= dict.fromkeys(a.sender for a in people.arrivals if a.sender)
    recipients = [*map(str, people.to), *([text.overflow] if text.overflow else ())]
    columns = {
        "subject": text.subject,
        "body": text.text,
        "attached": text.attached,
        "files": " ; ".join(name for name in text.files if name),
        "sender": " ; ".join(senders),
        "recipients": " ; ".join(recipients),
        "copies": " ; ".join(map(str, people.cc)),
        "hidden": " ; ".join(people.hidden()),
        "headers": text.headers,
    }
    made = {name: for_index(value) for name, value in columns.items()}
    made["rights"] = rights_of(text, people, marks)
    return made
