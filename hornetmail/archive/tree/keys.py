"""SEARCH keys answered by the archive's index, as the archive page answers the same words; what is left over is judged message by message. Keys that name a field
look into that field of the header alone, where the page looks into the envelope too.

The index knows words, not letters: a text is found where its words stand one after the other. SENT keys go by the Date field, where it is certain that its time zone
does not matter; only mails near the edge are looked at. A mail without a Date counts by when it was received.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hornetmail.archive.index.finding.folders import MODSEQ_BITS, Wanted
from hornetmail.archive.index.query.language import Words, tokens
from hornetmail.wire.imap.requests import search as keys
from hornetmail.wire.imap.tokens.dates import moment_of
from hornetmail.wire.imap.tokens.sequences import NUMBER_MAX, SequenceSet, runs

DAY = 86_400.0
MOST_WORDS = 40
"""Texts of one search that the index is asked for."""

Ask = Callable[[Wanted], Awaitable[list[int]]]
NOTHING = keys.Numbers(SequenceSet(()), uid=True)


class Narrowing:
    """One search. ``ask`` answers with UIDs, in order; ``now``: Unix seconds."""

    def __init__(self, ask: Ask, now: float) -> None:
        self._ask = ask
        self._now = now
        self._asked: dict[Wanted, keys.Key] = {}

    async def key(self, key: keys.Key) -> keys.Key:
        """The same, with UIDs in place of what the index answers."""
        match key:
            case keys.Not():
                return keys.Not(await self.key(key.key))
            case keys.Or():
                return keys.Or(await self.key(key.left), await self.key(key.right))
            case keys.And():
                return keys.And(tuple([await self.key(inner) for inner in key.keys]))
            case keys.Flagged():
                return keys.All() if (key.flag == "\\Seen") is key.present else NOTHING
            case keys.Changed():
                return _changed(key.since)
            case keys.EmailId():
                return await self._found(Wanted(identifier=identifier_of(key.id)))
            case keys.Size():
                return await self._found(Wanted(larger=key.octets) if key.op == ">" else Wanted(smaller=key.octets))
            case keys.Age():
                edge = self._now - key.seconds
                return await self._found(Wanted(since=edge) if key.younger else Wanted(until=edge))
            case keys.Day(sent=True):
                return await self._sent(key)
            case keys.Day():
                first = moment_of(key.day)
                return await self._found(
                    Wanted(
                        since=first if key.op != "<" else None,
                        until=first if key.op == "<" else first + DAY if key.op == "=" else None,
                    )
                )
            case keys.Text():
                return await self._words(key, Words(_text(key.text), "" if key.headers else "content"))
            case keys.Header(name="subject"):
                return await self._words(key, Words(_text(key.text), "subject"))
            case keys.Header(name="from" | "to" | "cc"):
                return await self._words(key, Words(_text(key.text), "from" if key.name == "from" else "to"), key.name)
        return key

    async def _words(self, key: keys.Key, words: Words, field: str = "") -> keys.Key:
        """What has no words in it (a dash, say) is looked for in the texts themselves."""
        if not tokens(words.text) or len(self._asked) >= MOST_WORDS:
            return key
        return await self._found(Wanted(words, field=field))

    async def _sent(self, key: keys.Day) -> keys.Key:
        """A day in one zone begins up to half a day before or behind it in another."""
        first = moment_of(key.day)
        near = first - DAY, first + 2 * DAY if key.op == "=" else first + DAY
        edge = keys.And((await self._found(Wanted(sent_since=near[0], sent_until=near[1])), key))
        if key.op == "=":
            return edge
        sure = Wanted(sent_until=near[0]) if key.op == "<" else Wanted(sent_since=near[1])
        return keys.Or(await self._found(sure), edge)

    async def _found(self, wanted: Wanted) -> keys.Key:
        known = self._asked.get(wanted)
        if known is None:
            known = self._asked[wanted] = keys.Numbers(SequenceSet(tuple(runs(await self._ask(wanted)))), uid=True)
        return known


def _changed(modseq: int) -> keys.Key:
    """Mail does not change: its modseq is that of its coming."""
    first = max(1, -(-modseq >> MODSEQ_BITS))
    return keys.Numbers(SequenceSet(((first, NUMBER_MAX),)), uid=True) if first <= NUMBER_MAX else NOTHING


def email_id(identifier: int) -> str:
    """Of a mail, as a folder has it."""
    return f"a{identifier:x}"


def identifier_of(text: str) -> int:
    """Of which mail that is the EMAILID, with the letter in front of it; -1: of none."""
    digits = text[2:]
    if not text.startswith("Ma") or not digits or not set(digits) <= frozenset("0123456789abcdef") or len(digits) > 15:
        return -1
    return int(digits, 16)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
