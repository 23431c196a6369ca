"""What ``portal.db`` is asked about mailboxes as a whole."""

from __future__ import annotations

from hornetmail.db.engines import Cursor
from hornetmail.portal.rows.index import fact


def near(cursor: Cursor, mailbox: int) -> tuple[float, bool]:
    """Since when a mailbox is nearly full, 0 if it is not, and whether its owner was told."""
    cursor.execute("SELECT value FROM portal_facts WHERE tenant = 0 AND name = ?", (f"near {mailbox}",))
    row = cursor.fetchone()
    if row is None or not row[0]:
        return 0.0, False
    since, _, told = str(row[0]).partition(" ")
    return float(since), told == "told"


def set_near(cursor: Cursor, mailbox: int, since: float, told: bool) -> None:
    """Remember it."""
    fact(cursor, f"near {mailbox}", f"{since!r}{' told' if told else ''}" if since else "")


def usage(cursor: Cursor, mailbox: int) -> tuple[int, int]:
    """Messages and bytes of a mailbox, in all its folders."""
    cursor.execute(
        "SELECT count(*), coalesce(sum(m.size), 0) FROM portal_folders f JOIN portal_messages m ON m.folder = f.id WHERE f.mailbox = ?",
        (mailbox,),
    )
    messages, size = cursor.fetchone()
    return int(messages), int(size)


def aged(cursor: Cursor, mailbox: int, before: float) -> list[tuple[str, str]]:
    """Folder and base name of what is in a mailbox since ``before`` or longer, and is not being handed over."""
    cursor.execute(
        "SELECT f.name, m.base FROM portal_folders f JOIN portal_messages m ON m.folder = f.id"
        " WHERE f.mailbox = ? AND m.landed <= ? AND m.claimed = 0 ORDER BY f.name, m.uid",
        (mailbox, before),
    )
    return [(name, base) for name, base in cursor.fetchall()]


def figures(cursor: Cursor) -> dict[str, int]:
    """Mailboxes, messages, bytes, and how much of it lies in INBOXes."""
    cursor.execute("SELECT count(*) FROM portal_boxes")
    boxes = cursor.fetchone()[0]
    cursor.execute(
        "SELECT count(*), coalesce(sum(m.size), 0), coalesce(sum(CASE WHEN f.name = 'INBOX' THEN 1 ELSE 0 END), 0),"
        " coalesce(sum(CASE WHEN f.name = 'INBOX' THEN m.size ELSE 0 END), 0), coalesce(sum(m.claimed), 0)"
        " FROM portal_messages m JOIN portal_folders f ON f.id = m.folder"
    )
    messages, size, inbox, inbox_size, claimed = cursor.fetchone()
    return {
        "mailboxes": int(boxes),
        "messages": int(messages),
        "bytes": int(size),
        "inbox_messages": int(inbox),
        "inbox_bytes": int(inbox_size),
        "claimed": int(claimed),
    }
