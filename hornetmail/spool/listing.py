"""Pages of the queue, for people and for whoever looks for rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any

import msgspec
from twisted.internet.task import deferLater

from hornetmail.core.delivery.queued import Message, Row, RowKind, RowState
from hornetmail.spool.disk.journal import LiveRow
from hornetmail.spool.recall import Recall, remains
from hornetmail.spool.rows.live import Live
from hornetmail.spool.rows.ordered import after as in_order

SCAN = 500
"""Rows that are looked at in a turn of the reactor."""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """Which rows; what is empty does not matter."""

    domain: str
    states: Collection[RowState]
    kinds: Collection[RowKind]
    message: int
    mailbox: int


class Listing:
    """``page`` is IQueue's ``rows``."""

    def __init__(self, reactor: Any, live: Live, recall: Recall) -> None:
        self._reactor = reactor
        self._live = live
        self._recall = recall

    async def page(self, asked: Asked, limit: int, after: int, envelopes: bool) -> Sequence[tuple[Message, Row]]:
        """In order of row ID. Looks at the rows of the domain, mailbox or states only, whichever are the fewest. Lets the reactor breathe every
        ``SCAN`` rows, and before a further page: whoever goes through all of them holds nobody (rule 8d). Goes on for those that left while their messages were read: a page that is short is the last one."""
        found: list[tuple[Message, Row]] = []
        if after:
            await deferLater(self._reactor, 0)
        while True:
            rows = (
                self._of_message(asked, after, envelopes)
                if asked.message
                else await self._scan(asked, limit - len(found), after, envelopes)
            )
            last = bool(asked.message) or len(rows) < limit - len(found)
            messages = {message.id: message for message, _ in rows if message is not None}
            messages |= await self._recall.shown(row.message for message, row in rows if message is None)
            found += [(messages[row.message], row) for _, row in rows if row.message in messages]
            if last or len(found) >= limit:
                return found[:limit]
            after = rows[-1][1].id

    def _fits(self, asked: Asked, row: LiveRow) -> bool:
        if (asked.states and row.state not in asked.states) or (asked.kinds and row.kind not in asked.kinds):
            return False
        if asked.mailbox and (row.portal is None or row.portal.mailbox != asked.mailbox):
            return False
        domain = asked.domain
        return not domain or self._live.messages[row.message].domain == domain or row.address.lower().endswith("@" + domain)

    def _of_message(self, asked: Asked, after: int, envelopes: bool) -> list[tuple[Message | None, Row]]:
        entry = self._live.messages.get(asked.message)
        if entry is None:
            return []
        message = None if envelopes else entry.message or remains(entry)
        rows = sorted(entry.rows, key=lambda row: row.id)
        return [(message, row.row()) for row in rows if row.id > after and self._fits(asked, row)]

    async def _scan(self, asked: Asked, limit: int, after: int, envelopes: bool) -> list[tuple[Message | None, Row]]:
        """Up to so many rows, with their messages if ``envelopes`` are not asked for."""
        live = self._live
        found: list[tuple[Message | None, Row]] = []
        while True:
            sets = live.index.among(asked.domain, asked.states, asked.kinds, asked.mailbox)
            seen = list(islice(in_order(sets, after), SCAN)) if sets else []
            for number in seen:
                row = live.rows[number]
                if self._fits(asked, row):
                    entry = live.messages[row.message]
                    found.append((None if envelopes else entry.message or remains(entry), row.row()))
                    if len(found) == limit:
                        # What was looked at was unpacked for it. A page may be all that is looked at in a turn, and nobody else packs for a walk.
                        live.messages.cool()
                        return found
            live.messages.cool()
            if len(seen) < SCAN:
                return found
            after = seen[-1]
            await deferLater(self._reactor, 0)
