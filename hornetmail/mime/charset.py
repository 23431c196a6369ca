"""Bytes of mail as text: the declared charset if it fits, then UTF-8, then a guess. Never raises."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

import chardetng_py

_LABELS = {
    **dict.fromkeys(("unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8"), "utf-8"),
    "unicode-1-1-utf-7": "utf-7",
    "sun_eu_greek": "iso8859-7",
    **dict.fromkeys(("csiso88596e", "csiso88596i", "iso-8859-6-e", "iso-8859-6-i"), "iso8859-6"),
    **dict.fromkeys(("csiso88598e", "csiso88598i", "iso-8859-8-e", "iso-8859-8-i", "visual", "logical"), "iso8859-8"),
    "csisolatin9": "iso8859-15",
    "koi": "koi8-r",
    "koi8": "koi8-r",
    "koi8-ru": "koi8-u",
    **dict.fromkeys(("csmacintosh", "mac"), "mac-roman"),
    "mac-ukrainian": "mac-cyrillic",
    **dict.fromkeys(("dos-874", "windows-874"), "cp874"),
    **dict.fromkeys(("csgb2312", "gb_2312", "gb_2312-80"), "gb18030"),
    "cn-big5": "big5",
    "cseucpkdfmtjapanese": "euc_jp",
    **dict.fromkeys(("csshiftjis", "windows-31j"), "cp932"),
    **dict.fromkeys(
        ("cseuckr", "csksc56011987", "iso-ir-149", "ks_c_5601-1987", "ks_c_5601-1989", "ksc_5601", "windows-949"), "cp949"
    ),
    **dict.fromkeys(("csunicode", "iso-10646-ucs-2", "ucs-2", "unicode", "unicodefeff"), "utf-16-le"),
    "unicodefffe": "utf-16-be",
}
"""Labels that Python does not know, without an ``x-`` before them (WHATWG Encoding section 4.2)."""

_LARGER = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "big5": "big5hkscs",
}
"""What mail says and what it means: the smaller set is declared where signs of the larger one stand (the same section)."""

_NUMBERED = re.compile(r"iso8859([0-9]{1,2})")
_GUESS_BYTES = 64 << 10
_META_BYTES = 4 << 10
_META = re.compile(rb"<meta[^>]{0,200}?charset\s{0,5}=\s{0,5}[\"']?([A-Za-z0-9_:.-]{1,60})", re.IGNORECASE)
_NOT_TEXT = frozenset({"idna", "punycode"})
_ESCAPED = frozenset({"unicode_escape", "raw_unicode_escape", "undefined", "unicode-escape", "raw-unicode-escape"})


@lru_cache(maxsize=512)
def codec_for(label: str) -> str | None:
    """Python's name of the charset a label means, or None if it means none."""
    name = label.strip().strip("\"'").lower()[:64].removeprefix("x-").removeprefix("x-")
    name = _NUMBERED.sub(r"iso8859-\1", _LABELS.get(name, name))
    try:
        found = codecs.lookup(name).name
        found = _LARGER.get(found, found)
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


def html_label(data: bytes, label: str) -> str:
    """The charset of HTML: what its own beginning says, where the label is missing or one that programs write without looking."""
    if label and codec_for(label) not in (None, "cp1252", "utf-8"):
        return label
    found = _META.search(data, 0, _META_BYTES)
    return found[1].decode("ascii") if found is not None else label


def guess(data: bytes) -> str:
    """A likely charset of text that is not UTF-8."""
    name = chardetng_py.detect(data[:_GUESS_BYTES])
    return codec_for(str(name)) or "cp1252"
