"""Bytes of mail as text: the declared charset if it fits, then UTF-8, then a guess. Never raises."""

from __future__ import annotations

import codecs
from functools import lru_cache

import chardetng_py

_ALIASES = {
    "iso-8859-1": "cp1252",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "x-sjis": "cp932",
    "iso-8859-8-i": "iso-8859-8",
    "unicode-1-1-utf-7": "utf-7",
}
"""What mail says and what it means (WHATWG Encoding section 4.2: labels are read as the larger Windows page)."""

_GUESS_BYTES = 64 << 10
_NOT_TEXT = frozenset({"idna", "punycode"})
_ESCAPED = frozenset({"unicode_escape", "raw_unicode_escape", "undefined", "unicode-escape", "raw-unicode-escape"})


@lru_cache(maxsize=512)
def codec_for(label: str) -> str | None:
    """Python's name of the charset a label means, or None if it means none."""
    name = label.strip().strip("\"'").lower()[:64]
    try:
        found = codecs.lookup(_ALIASES.get(name, name)).name
        b"a".decode(found, "ignore")  # a LookupError for those that make no text, under all their names: uu, hex, zip
    except (LookupError, ValueError):
        return None
    plain = found.replace("-", "_")
    return None if plain in _NOT_TEXT or plain in _ESCAPED or found in _ESCAPED else found


def decode(data: bytes, label: str = "") -> str:
    """Text of a mail's bytes. An unfit or unknown label is not believed; what nothing fits is shown with replacement characters."""
    try:
        text = data.decode("ascii")
        if "\x1b" not in text and "+" not in text and "~" not in text:
            return text
    except UnicodeDecodeError:
        pass
    declared = codec_for(label) if label else None
    if declared is not None and declared != "cp1252":
        try:
            return data.decode(declared)
        except (UnicodeError, ValueError):
            pass
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    return data.decode(declared if declared == "cp1252" else guess(data), "replace")


def guess(data: bytes) -> str:
    """A likely charset of text that is not UTF-8."""
    name = chardetng_py.detect(data[:_GUESS_BYTES])
    return codec_for(str(name)) or "cp1252"
