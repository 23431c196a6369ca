"""The commands of a mailbox that is selected, and SELECT itself: their grammar (RFC 3501 section 6.4; RFC 4731, 5182, 5256, 7162, 9394)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.requests.items import parse_items
from hornetmail.wire.imap.requests.search import Returns, parse_order, parse_returns, parse_search
from hornetmail.wire.imap.tokens.grammar import Bad, Cursor, flag_name, mailbox
from hornetmail.wire.imap.tokens.sequences import SequenceSet

Parser = Callable[[bytes, Cursor], c.Command]

ALGORITHMS = frozenset({"ORDEREDSUBJECT", "REFERENCES"})


def _search(uid: bool) -> Parser:
    def parse(tag: bytes, cursor: Cursor) -> c.Command:
        cursor.space()
        returns = _returns(cursor)
        charset = ""
        if _word_is(cursor, "CHARSET"):
            cursor.space()
            charset = _charset(cursor)
        return c.Search(tag, parse_search(cursor), uid, charset, returns)

    return parse


def _returns(cursor: Cursor) -> Returns | None:
    if not _word_is(cursor, "RETURN"):
        return None
    cursor.space()
    returns = parse_returns(cursor)
    cursor.space()
    return returns


def _charset(cursor: Cursor) -> str:
    at = cursor.at
    charset = cursor.astring().decode("latin-1").upper()
    if len(charset) > 80:
        raise Bad("charset too long", at)
    cursor.space()
    return charset


def _sort(uid: bool) -> Parser:
    def parse(tag: bytes, cursor: Cursor) -> c.Command:
        cursor.space()
        returns = _returns(cursor)
        order = parse_order(cursor)
        cursor.space()
        charset = _charset(cursor)
        return c.Sort(tag, parse_search(cursor), uid, charset, returns, order)

    return parse


def _thread(uid: bool) -> Parser:
    def parse(tag: bytes, cursor: Cursor) -> c.Command:
        cursor.space()
        at = cursor.at
        algorithm = cursor.word()
        if algorithm not in ALGORITHMS:
            raise Bad("threading algorithm unknown", at)
        cursor.space()
        charset = _charset(cursor)
        return c.Thread(tag, parse_search(cursor), uid, charset, None, algorithm)

    return parse


def _word_is(cursor: Cursor, word: str) -> bool:
    end = cursor.at + len(word)
    if cursor.data[cursor.at : end].upper() == word.encode("ascii") and cursor.data[end : end + 1] == b" ":
        cursor.at = end
        return True
    return False


def _fetch(uid: bool) -> Parser:
    def parse(tag: bytes, cursor: Cursor) -> c.Command:
        cursor.space()
        wanted = cursor.sequence_set()
        cursor.space()
        items = parse_items(cursor)
        since: int | None = None
        vanished = False
        partial: tuple[int, int] | None = None
        for word in _modifiers(cursor) if cursor.skip(b" ") else ():
            if word == "CHANGEDSINCE" and since is None:
                cursor.space()
                since = cursor.modseq()
            elif word == "VANISHED" and uid:
                vanished = True
            elif word == "PARTIAL" and uid and partial is None:
                cursor.space()
                partial = cursor.partial()
            else:
                raise cursor.bad("FETCH modifier expected")
        if vanished and since is None:
            raise cursor.bad("CHANGEDSINCE expected with VANISHED (RFC 7162 section 3.2.6)")
        return c.Fetch(tag, wanted, items, uid, since, vanished, partial)

    return parse


def _modifiers(cursor: Cursor) -> Iterator[str]:
    """The names in a list of modifiers, if there is one (RFC 4466 section 2.1); what follows each is for the taker."""
    if not cursor.skip(b"("):
        return
    yield cursor.word()
    while not cursor.skip(b")"):
        cursor.space()
        yield cursor.word()


def _selecting(readonly: bool) -> Parser:
    def parse(tag: bytes, cursor: Cursor) -> c.Command:
        cursor.space()
        name = mailbox(cursor)
        condstore = False
        known: c.Known | None = None
        for word in _modifiers(cursor) if cursor.skip(b" ") else ():
            if word == "CONDSTORE":
                condstore = True
            elif word == "QRESYNC" and known is None:
                cursor.expect(b" (")
                known = _known(cursor)
            else:
                raise cursor.bad("SELECT parameter expected")
        return c.Select(tag, name, readonly, condstore, known)

    return parse


def _known(cursor: Cursor) -> c.Known:
    uidvalidity = cursor.number()
    cursor.space()
    modseq = cursor.modseq(least=1)
    uids: SequenceSet | None = None
    match: tuple[SequenceSet, SequenceSet] | None = None
    more = cursor.skip(b" ")
    if more and cursor.peek() != 0x28:
        uids = cursor.uids()
        more = cursor.skip(b" ")
    if more:
        cursor.expect(b"(")
        numbers = cursor.uids()
        cursor.space()
        match = (numbers, cursor.uids())
        cursor.expect(b")")
    cursor.expect(b")")
    return c.Known(uidvalidity, modseq, uids, match)


def _store(uid: bool) -> Parser:
    def parse(tag: bytes, cursor: Cursor) -> c.Command:
        cursor.space()
        wanted = cursor.sequence_set()
        cursor.space()
        since: int | None = None
        for word in _modifiers(cursor):
            if word != "UNCHANGEDSINCE" or since is not None:
                raise cursor.bad("STORE modifier expected")
            cursor.space()
            since = cursor.modseq()
        if since is not None:
            cursor.space()
        op = "+" if cursor.skip(b"+") else "-" if cursor.skip(b"-") else ""
        at = cursor.at
        word = cursor.word()
        if word not in ("FLAGS", "FLAGS.SILENT"):
            raise Bad("FLAGS expected", at)
        cursor.space()
        if cursor.peek() == 0x28:
            flags = list(cursor.flags())
        else:
            flags = [_flag(cursor)]
            while cursor.skip(b" "):
                flags.append(_flag(cursor))
        return c.Store(tag, wanted, op, word == "FLAGS.SILENT", tuple(flags), uid, since)

    return parse


def _flag(cursor: Cursor) -> str:
    return flag_name(cursor.flag())


def _copy(uid: bool, away: bool) -> Parser:
    def parse(tag: bytes, cursor: Cursor) -> c.Command:
        cursor.space()
        wanted = cursor.sequence_set()
        cursor.space()
        return c.Copy(tag, wanted, mailbox(cursor), uid, away)

    return parse


def _uid_expunge(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    return c.Expunge(tag, cursor.sequence_set())


PARSERS: dict[str, Parser] = {
    "SELECT": _selecting(False),
    "EXAMINE": _selecting(True),
    "UID EXPUNGE": _uid_expunge,
    "SEARCH": _search(False),
    "UID SEARCH": _search(True),
    "SORT": _sort(False),
    "UID SORT": _sort(True),
    "THREAD": _thread(False),
    "UID THREAD": _thread(True),
    "FETCH": _fetch(False),
    "UID FETCH": _fetch(True),
    "STORE": _store(False),
    "UID STORE": _store(True),
    "COPY": _copy(False, False),
    "UID COPY": _copy(True, False),
    "MOVE": _copy(False, True),
    "UID MOVE": _copy(True, True),
}
"""By their words."""
