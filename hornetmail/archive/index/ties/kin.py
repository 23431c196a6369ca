"""Which mail is of one kind with which: renditions of one mail, mail that bears another's Message-ID, and conversations (rule 13, L9).

Renditions have rows, full texts and rights of their own; ``rendition`` holds them together, which is the place of the first that there was. A search shows what is held together as one
hit (``search.py``). A conversation is the number of the Message-ID that began it, or of the earliest one that is known of it.
"""

from __future__ import annotations

import msgspec

from hornetmail.core.archive.identity import conversation, identity, is_whole, message_key, number_of, of_same_message_id
from hornetmail.core.mail.address import key_of
from hornetmail.db.engines import Cursor
from hornetmail.mime.reading.mail import MailText

ADOPTED = 1000
"""Mails that follow at once when the one that they answer turns out to be an answer, too."""

_OTHERS = "SELECT content, namesake FROM mail WHERE tenant = ? AND content >= ? AND content < ? ORDER BY content {order} LIMIT 1"


class Kin(msgspec.Struct, frozen=True, gc=False):
    """What the index knows of a mail that is to be entered. ``content``: its identity; None: it does not name itself. ``rendition``: of which mail. ``namesake``: another one has its Message-ID
    and other content. ``thread``: its conversation; None: of none."""

    content: bytes | None = None
    rendition: int | None = None
    namesake: bool = False
    thread: int | None = None


def kin_of(cursor: Cursor, tenant: int, text: MailText) -> Kin:
    """What of that tenant's mail it is of one kind with; the others are told that there is a namesake. A few seeks, however much mail there is."""
    made = identity(text.message_id, key_of(text.sender.address) if text.sender is not None else "", text.date, text.content)
    thread = _thread(cursor, tenant, text)
    if not made:
        return Kin(thread=thread)
    first, behind = of_same_message_id(made)
    rendition = None
    if is_whole(made):
        row = cursor.execute(
            "SELECT coalesce(rendition, place) FROM mail WHERE tenant = ? AND content = ? LIMIT 1", (tenant, made)
        ).fetchone()
        rendition = int(row[0]) if row else None
    before = cursor.execute(_OTHERS.format(order="DESC"), (tenant, first, made)).fetchone()
    after = cursor.execute(_OTHERS.format(order="ASC"), (tenant, made + b"\0", behind)).fetchone()
    for content in (row[0] for row in (before, after) if row and not row[1]):
        cursor.execute("UPDATE mail SET namesake = 1 WHERE tenant = ? AND content = ? AND namesake = 0", (tenant, content))
    return Kin(made, rendition, bool(before or after), thread)


def _thread(cursor: Cursor, tenant: int, text: MailText) -> int | None:
    """The conversation of the nearest mail that it answers and that is there; else what it says itself of its beginning."""
    keys = conversation(text.message_id, text.references)
    if not keys:
        return None
    thread = next((known for key in keys if (known := _known_thread(cursor, tenant, key)) is not None), None)
    if thread is None:
        thread = number_of(message_key(text.references[0]) if text.references else keys[0])
    own = number_of(keys[0]) if message_key(text.message_id) else None
    if own is not None and thread != own:
        # What came before it and answers it took it for the beginning.
        cursor.execute(
            "UPDATE mail SET thread = ? WHERE place IN (SELECT place FROM mail WHERE tenant = ? AND thread = ? LIMIT ?)",
            (thread, tenant, own, ADOPTED),
        )
    return thread


def _known_thread(cursor: Cursor, tenant: int, key: bytes) -> int | None:
    row = cursor.execute(
        "SELECT thread FROM mail WHERE tenant = ? AND content >= ? AND content < ? LIMIT 1", (tenant, *of_same_message_id(key))
    ).fetchone()
    return int(row[0]) if row and row[0] is not None else None
