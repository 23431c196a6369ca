"""What is looked through in a fast way says the same as the plain way of saying it."""

from __future__ import annotations

import binascii
import re

from hypothesis import example, given
from hypothesis import strategies as st

from hornetmail.mime.reading.html import behind
from hornetmail.mime.transfer import decoder_of

TOKENS = ("href", "HREF", "alt", "Title", "=", " ", '"', "'", "https:", "HTTP:", "x", "<", ">", "_", "é", "hhref", "xalt", "\n")
PLAINLY = re.compile(
    r"\b(?:(href)\s{0,5}=\s{0,5}[\"']?(https?:[^\"'\s<>]{1,2000})|(?:alt|title)\s{0,5}=\s{0,5}(?:\"([^\"<>]{1,500})\"|'([^'<>]{1,500})'))",
    re.IGNORECASE,
)


@given(st.lists(st.sampled_from(TOKENS), max_size=16).map("".join))
@example("<A HREF=https:x><img aLt=\"one\" TITLE = 'two'><a xhref=https:no href = 'http:yes'>")
def test_what_stands_behind_words(html: str) -> None:
    """Catches a link or a description that is passed over because its attribute is written in capitals, or found in the middle of another's name."""
    links: dict[str, None] = {}
    said: dict[str, None] = {}
    for found in PLAINLY.finditer(html):
        if found[1]:
            links[found[2]] = None
        else:
            said[" ".join((found[3] or found[4]).split())] = None
    assert behind(html) == (list(links), list(said))


def plainly(data: bytes) -> bytes:
    """Each run up to its padding by itself (RFC 4648 section 3.2), what is no letter of it passed over."""
    runs = re.split(b"=+", re.sub(rb"[^A-Za-z0-9+/=]", b"", data))
    whole = [run[:-1] if len(run) % 4 == 1 else run for run in runs]
    return b"".join(binascii.a2b_base64(run + b"=" * (-len(run) % 4)) for run in whole)


@given(st.lists(st.lists(st.sampled_from(b"AABC=\r\n ="), max_size=9).map(bytes), max_size=4))
@example([b"QUJD", b"RA==", b"RUY=", b"R"])
@example([b"QQ=", b"=", b"QUI"])
def test_base64_cut_anywhere(pieces: list[bytes]) -> None:
    """Catches padding that is taken for an end when a piece ends with it, and one that is lost when another run follows."""
    decoder = decoder_of("BASE64")
    assert b"".join([*map(decoder.feed, pieces), decoder.end()]) == plainly(b"".join(pieces))
