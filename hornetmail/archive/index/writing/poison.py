"""A mail that cannot be indexed as it is must not hold up those behind it: it gets a row of its headers only, and is told of.

Its bytes are in the archive like any other's; only the search for its words is poorer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from hornetmail.archive.index.writing.mails import Prepared, Stored, store_batch
from hornetmail.db.engines import DatabaseError
from hornetmail.db.pool import Database
from hornetmail.mime.reading.mail import MailText, Named, read_mail

HEADER_BYTES = 65_536

Told = Callable[[bytes, str], None]
"""Told in whichever thread: the record that is in the index by its headers only, and what went wrong (as text: an exception would keep the
database's cursor alive, and with it the connection)."""


def text_of(record: bytes, raw: bytes, told: Told) -> MailText:
    """``read_mail``, or of the header what can be had. Never raises."""
    try:
        return read_mail(raw)
    except Exception as error:  # noqa: BLE001  whatever it is, the next mail must not wait for it
        told(record, repr(error))
    return plain_text_of(raw)


def plain_text_of(raw: bytes) -> MailText:
    """What the header alone says, of a mail of which no more can be read. Never raises."""
    header, end, _ = raw[:HEADER_BYTES].partition(b"\r\n\r\n")
    try:
        return _plainly(read_mail(header + end))
    except Exception:  # noqa: BLE001
        return MailText(whole=False)


async def store_each(database: Database, batch: Sequence[Prepared], told: Told) -> list[Stored]:
    """``store_batch``; if it raises, mail by mail, and those that raise by their headers only.

    Raises DatabaseError (the database is at fault, not a mail), and what even a row without any text raises.
    """
    try:
        return await database.run(store_batch, batch)
    except DatabaseError:
        raise
    except Exception:  # noqa: BLE001  one of them
        return [stored for one in batch for stored in await _store_alone(database, one, told)]


async def _store_alone(database: Database, one: Prepared, told: Told) -> list[Stored]:
    try:
        return await database.run(store_batch, [one])
    except DatabaseError:
        raise
    except Exception as error:  # noqa: BLE001
        why = repr(error)
    try:
        stored = await database.run(store_batch, [msgspec.structs.replace(one, text=_plainly(one.text))])
    except DatabaseError:
        raise
    except Exception:  # noqa: BLE001
        stored = await database.run(store_batch, [msgspec.structs.replace(one, text=MailText(whole=False))])
    told(one.record, why)
    return stored


def _plainly(text: MailText) -> MailText:
    """Its headers, without what a database may choke on: surrogates, and dates beyond all years."""
    date = text.date if text.date is not None and math.isfinite(text.date) and abs(text.date) < 1e11 else None
    return MailText(
        subject=_clean(text.subject),
        sender=_named(text.sender) if text.sender is not None else None,
        to=tuple(map(_named, text.to)),
        cc=tuple(map(_named, text.cc)),
        bcc=tuple(map(_named, text.bcc)),
        message_id=_clean(text.message_id),
        date=date,
        unsearched=("all but the header",),
        whole=False,
    )


def _named(person: Named) -> Named:
    return Named(_clean(person.name), _clean(person.address))


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "")
