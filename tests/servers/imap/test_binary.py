"""FETCH BINARY (RFC 3516) and COMPRESS (RFC 4978) in a whole session."""

from __future__ import annotations

import base64
import re
import zlib

import pytest

from hornetmail.servers.imap.messages.fetch import STREAM_BYTES
from tests.servers.imap.door import Door, Talk

PICTURE = bytes(range(256)) * 3


def mail(picture: bytes = PICTURE, encoding: str = "base64") -> bytes:
    lines = base64.encodebytes(picture).replace(b"\n", b"\r\n") if encoding == "base64" else picture
    return (
        b"Subject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe =\r\nan alle\r\n"
        b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n--b--\r\n" % (encoding.encode(), lines)
    )


def selected(*mails: bytes) -> Talk:
    door = Door()
    for one in mails:
        door.inbox.add(one)
    talk = door.connect().login()
    talk.say(b"s SELECT INBOX")
    return talk


def test_decoded_parts() -> None:
    """Sections 4.2 and 4.3: catches an encoding left as it is, offsets into the encoded text, a literal with NUL in it, and sizes that are not those of what
    comes."""
    talk = selected(mail())
    text = "Grüße an alle".encode()
    heard = talk.say(b"a FETCH 1 (BINARY.SIZE[1] BINARY.PEEK[1] BINARY.PEEK[1]<2.4> BINARY.SIZE[2] BINARY.PEEK[2])")
    assert heard == (
        b"* 1 FETCH (BINARY.SIZE[1] %d BINARY[1] {%d}\r\n%b BINARY[1]<2> {4}\r\n%b BINARY.SIZE[2] %d BINARY[2] ~{%d}\r\n%b)\r\na OK Fetched\r\n"
        % (len(text), len(text), text, text[2:6], len(PICTURE), len(PICTURE), PICTURE)
    )
    assert b"BINARY[2]<1> {5}\r\n\x01\x02\x03\x04\x05)" in talk.say(b"b FETCH 1 BINARY.PEEK[2]<1.5>")
    assert b"FLAGS (\\Seen" in talk.say(b"c FETCH 1 BINARY[1]"), "reading marks"
    assert talk.say(b"d FETCH 1 (BINARY.PEEK[7] BINARY.SIZE[7])") == (
        b"* 1 FETCH (BINARY[7] NIL BINARY.SIZE[7] 0)\r\nd OK Fetched\r\n"
    )
    assert talk.say(b"e FETCH 1 (BINARY.SIZE[])").startswith(b"* 1 FETCH (BINARY.SIZE[] %d)\r\n" % len(mail()))


def test_wrong_and_unknown() -> None:
    """Section 4.3: an encoding that is not known is NO [UNKNOWN-CTE], and the other messages are told all the same; BINARY has no fields and no header."""
    talk = selected(mail(encoding="x-uuencode"), mail())
    heard = talk.say(b"a UID FETCH 1:2 (UID BINARY.SIZE[2])")
    assert (
        heard
        == b"* 2 FETCH (UID 2 BINARY.SIZE[2] %d)\r\na NO [UNKNOWN-CTE] The transfer encoding of a part is not known\r\n"
        % len(PICTURE)
    )
    assert b"a OK" in talk.say(b"a FETCH 1 BINARY.SIZE[1]")
    for item in (b"BINARY[HEADER]", b"BINARY[1.MIME]", b"BINARY.SIZE[1]<0.5>", b"BINARY.NONE[1]", b"BINARY"):
        assert talk.say(b"b FETCH 1 " + item).startswith(b"b BAD "), item


@pytest.mark.parametrize("cut", [b"", b"<0.10>", b"<300000.400000>", b"<999999.5>", b"<9999999.1>"])
def test_large_parts_are_decoded_in_slices(cut: bytes) -> None:
    """Catches a large part that is held whole, or decoded otherwise than a small one at the seams of its slices."""
    picture = bytes(range(7, 256)) * 4_100
    assert len(picture) > 3 * STREAM_BYTES
    talk = selected(mail(picture))
    heard = talk.say(b"a FETCH 1 (BINARY.SIZE[2] BINARY.PEEK[2]%b)" % cut)
    start, count = (int(n) for n in re.findall(rb"[0-9]+", cut)) if cut else (0, len(picture))
    wanted = picture[start : start + count]
    label = b"<%d>" % start if cut else b""
    assert heard == b"* 1 FETCH (BINARY.SIZE[2] %d BINARY[2]%b {%d}\r\n%b)\r\na OK Fetched\r\n" % (
        len(picture),
        label,
        len(wanted),
        wanted,
    )


def test_compress() -> None:
    """RFC 4978: catches news of an IDLE that are not compressed, capabilities that go on offering it, and a second layer."""
    talk = selected(mail())
    assert b" COMPRESS=DEFLATE" in talk.say(b"a CAPABILITY")
    assert talk.say(b"b COMPRESS LZ4") == b"b NO [CANNOT] Only DEFLATE is understood\r\n"
    assert talk.say(b"c COMPRESS DEFLATE") == b"c OK DEFLATE from here on\r\n"
    deflater, inflater = zlib.compressobj(6, zlib.DEFLATED, -15), zlib.decompressobj(-15)

    def say(line: bytes) -> bytes:
        talk.pump.dataReceived(deflater.compress(line + b"\r\n") + deflater.flush(zlib.Z_SYNC_FLUSH))
        return inflater.decompress(talk.heard())

    assert b"COMPRESS" not in say(b"d CAPABILITY")
    assert say(b"e COMPRESS DEFLATE") == b"e NO [COMPRESSIONACTIVE] What is compressed already gains nothing\r\n"
    assert b"BODY[] {%d}\r\n%b)" % (len(mail()), mail()) in say(b"f FETCH 1 BODY.PEEK[]")
    assert say(b"g APPEND INBOX {3+}\r\nabc").endswith(b"g OK [APPENDUID 1001 2] Appended\r\n")
    assert say(b"h IDLE") == b"+ idling\r\n"
    talk.door.inbox.add(mail())
    talk.door.clock.advance(0)
    assert inflater.decompress(talk.heard()) == b"* 3 EXISTS\r\n* 3 RECENT\r\n"
    assert say(b"DONE") == b"h OK IDLE done\r\n"
    assert say(b"i LOGOUT").endswith(b"i OK Logged out\r\n")
    assert talk.transport.disconnecting
