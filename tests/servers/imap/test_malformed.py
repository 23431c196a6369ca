"""Mail that is broken in every way, over the door: no session ends by it, and what is told of its structure can be read (RFC 3501 section 9)."""

from __future__ import annotations

import random
import re
from typing import Any

from tests.peers.imap_lines import parsed
from tests.servers.imap.door import Door

MESSAGES = 500
SEED = 8

PIECES = (
    b"Content-Type: multipart/mixed; boundary=x\r\n", b'Content-Type: multipart/mixed; boundary="', b"Content-Type: multipart/;boundary=\r\n", b"Content-Type: message/rfc822\r\n",
    b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n", b"Content-Type: text/plain; charset=\"a\\\"b; x*0*=utf-8''%C3; x*1=\xff; =; ;;a\r\n", b"Content-Type: /\r\n",
    b"Content-Type: text/\xe4; n=\"\r\n\0\"\r\n", b"Content-Type\r\n", b": no name\r\n", b"Content-Disposition: attachment; filename=\"a\r\n b\\\r\n", b"Content-Disposition: ;;=\r\n", b"Content-Language: de, (en), \"\r\n",
    b"Content-Location: \0\x7f\xff\r\n", b"Content-MD5: {5}\r\n", b"Content-ID: <\r\n", b"Content-Transfer-Encoding: \"quoted\r\n", b"From: \"a\\\" <b@c>, d:;, @x:y@z, <<>>, \xff\r\n", b"To: (((((\r\n", b"Cc: undisclosed:;:;\r\n",
    b"Subject: =?utf-8?b?\xff?= \0 {9+}\r\n", b"Date: \r\n", b"Message-ID: \r\n \r\n", b"\r\n", b"\r", b"\n", b"\0", b"--x\r\n", b"--x--\r\n", b"--x", b"--\r\n", b"----\r\n", b"body)\r\n* BYE\r\n", b" folded\r\n", b"\tand on\r\n", b"begin 644 x\r\n", b"\xe4\xf6\r\n",
)  # fmt: skip


def message(chance: random.Random) -> bytes:
    """Pieces in any order, cut and doubled anywhere."""
    data = b"".join(chance.choices(PIECES, k=chance.randrange(1, 40)))
    for _ in range(chance.randrange(4)):
        at, length = chance.randrange(len(data)), chance.randrange(30)
        data = chance.choice((data[:at] + data[at + length :], data[:at] + data[at : at + length] + data[at:])) or b"x"
    return data


def word(found: Any) -> bool:
    return isinstance(found, bytes)


def number(found: Any) -> bool:
    return word(found) and re.fullmatch(rb"[0-9]+", found) is not None


def pairs(found: Any) -> bool:
    """``body-fld-param``."""
    return found == b"NIL" or (isinstance(found, list) and bool(found) and len(found) % 2 == 0 and all(map(word, found)))


def addresses(found: Any) -> bool:
    return found == b"NIL" or (
        isinstance(found, list) and bool(found) and all(len(one) == 4 and all(map(word, one)) for one in found)
    )


def envelope(found: Any) -> bool:
    """``envelope``: ten, of which six are lists of addresses."""
    return (
        isinstance(found, list)
        and len(found) == 10
        and all(map(word, (*found[:2], *found[8:])))
        and all(map(addresses, found[2:8]))
    )


def extension(found: list[Any]) -> bool:
    """``body-fld-dsp``, ``body-fld-lang``, ``body-fld-loc``, as far as they are there."""
    for place, one in enumerate(found):
        if place == 0 and not (one == b"NIL" or (isinstance(one, list) and len(one) == 2 and word(one[0]) and pairs(one[1]))):
            return False
        if place == 1 and not (word(one) or (isinstance(one, list) and all(map(word, one)))):
            return False
        if place == 2 and not word(one):
            return False
    return len(found) <= 3


def body(found: Any) -> bool:
    """``body`` with its extension data."""
    if not isinstance(found, list) or not found:
        return False
    if isinstance(found[0], list):
        count = next((n for n, one in enumerate(found) if not isinstance(one, list)), len(found))
        rest = found[count:]
        return (
            all(map(body, found[:count]))
            and bool(rest)
            and word(rest[0])
            and (len(rest) < 2 or pairs(rest[1]))
            and extension(rest[2:])
        )
    if len(found) < 7 or not (
        word(found[0]) and word(found[1]) and pairs(found[2]) and all(map(word, found[3:6])) and number(found[6])
    ):
        return False
    rest = found[7:]
    if found[0].lower() == b"text":
        if not rest or not number(rest.pop(0)):
            return False
    elif found[0].lower() == b"message" and found[1].lower() in (b"rfc822", b"global"):
        if len(rest) < 3 or not (envelope(rest[0]) and body(rest[1]) and number(rest[2])):
            return False
        rest = rest[3:]
    return (not rest or word(rest[0])) and extension(rest[1:])


def test_no_message_breaks_a_session() -> None:
    """Would catch a header that gets out of its string, a list that is not closed or has too few fields, and a FETCH that fails or ends the session for one mail."""
    chance = random.Random(SEED)
    door = Door()
    for _ in range(MESSAGES):
        door.inbox.add(message(chance))
    talk = door.connect()
    talk.login()
    talk.say(b"a SELECT INBOX")
    for at in range(1, MESSAGES + 1):
        said = talk.say(b"b FETCH %d (ENVELOPE BODYSTRUCTURE BODY)" % at)
        lines, _, last = said.removesuffix(b"\r\n").rpartition(b"\r\n")
        assert last.startswith(b"b OK"), (at, said)
        assert lines.startswith(b"* %d FETCH (" % at), (at, said)
        _, _, items = parsed(lines.removeprefix(b"* "))
        told = dict(zip(items[::2], items[1::2], strict=True))
        assert envelope(told[b"ENVELOPE"]), (at, said)
        assert body(told[b"BODYSTRUCTURE"]), (at, said)
        assert body(told[b"BODY"]), (at, said)
        said = talk.say(b"c FETCH %d (BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[HEADER.FIELDS (From)] RFC822.SIZE PREVIEW)" % at)
        assert b"c OK" in said, (at, said)


def test_what_is_not_well_formed() -> None:
    """Would catch a test above that takes anything."""
    good = b'("text" "plain" NIL NIL NIL "7bit" 3 1 NIL NIL NIL NIL)'
    assert body(parsed(good)[0])
    for bad in (
        good.replace(b" 1 ", b" "),
        good.replace(b' "7bit"', b""),
        good.replace(b'plain" NIL', b'plain" ("a")'),
        b"(%b)" % good,
        b"()",
    ):
        assert not body(parsed(bad)[0]), bad
