"""What counts as the same word: text as it goes into the full-text index, and what is looked for there. Pure.

Both sides go through here, so that a word is found as people type it: composed or decomposed, in full-width forms, with soft hyphens in it, ß or ss, ä or
ae. Scripts that put no blanks between words lie in the index as pairs of neighbouring signs. Case and diacritics are the tokenizer's (``unicode61``).
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice
from urllib.parse import urlsplit

VARIANTS = 20_000
"""Second spellings of one text that go into the index."""

_IGNORED = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_UNSPACED = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_RUN = re.compile(f"[{_UNSPACED}]+")
_LETTERS = {
    "ß": "ss",
    "ẞ": "SS",
    "æ": "ae",
    "Æ": "Ae",
    "œ": "oe",
    "Œ": "Oe",
    "ø": "o",
    "Ø": "O",
    "ł": "l",
    "Ł": "L",
    "đ": "d",
    "Đ": "D",
} | {"ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i"}
_LETTER = re.compile(f"[{''.join(_LETTERS)}]")
_SPELT = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "Å": "Aa", "Ø": "Oe"}
)
_TWO_WAYS = re.compile(r"\w*[äöüåøÄÖÜÅØ]\w*")
_SPELT_OUT = re.compile("([aouAOU])e")
_LONG_SEGMENT = 40
"""A longer piece of an address is a code for a machine that nobody types."""


def for_index(text: str) -> str:
    """Text as the index takes it; words that may be spelt in two ways stand once more at its end, spelt the other way."""
    if text.isascii():
        return text
    text = _same(text)
    others = dict.fromkeys(_plain(found[0].translate(_SPELT)) for found in islice(_TWO_WAYS.finditer(text), VARIANTS))
    spread = _RUN.sub(_pairs, _plain(text))
    return f"{spread} {' '.join(others)}" if others else spread


def _same(text: str) -> str:
    return unicodedata.normalize("NFKC", _IGNORED.sub("", text))


def _plain(text: str) -> str:
    """Letters that are another's, or two: a pattern passes over the others many times as fast as ``translate`` does."""
    return _LETTER.sub(lambda found: _LETTERS[found[0]], text)


def _pairs(run: re.Match[str]) -> str:
    """Each sign with its neighbour, the last one alone: any stretch of two signs and more is then a phrase, and one sign a beginning."""
    signs = run[0]
    return f" {' '.join(signs[at : at + 2] for at in range(len(signs)))} "


def sought(text: str) -> list[tuple[str, bool]]:
    """What is looked for in the index for words that somebody typed: one of these phrases; and whether the phrase's last word is a beginning in any case,
    because it is a single sign of an unspaced script."""
    if text.isascii():
        short = _SPELT_OUT.sub(r"\1", text) if " " in text.strip() else text
        # The second spellings lie at the end of a text, where no phrase reaches.
        return [(text, False)] if short == text else [(text, False), (short, False)]
    text = _same(text)
    found = [_phrase(_plain(text))]
    if _TWO_WAYS.search(text):
        found.append(_phrase(_plain(text.translate(_SPELT))))
    return found


def _phrase(text: str) -> tuple[str, bool]:
    single = False

    def pairs(run: re.Match[str]) -> str:
        nonlocal single
        signs = run[0]
        single = len(signs) == 1 and run.end() == len(text)
        return f" {' '.join(signs[at : at + 2] for at in range(max(1, len(signs) - 1)))} "

    return " ".join(_RUN.sub(pairs, text).split()), single


def of_link(address: str) -> str:
    """The words of a link's target that people may look for: host and path, without codes for machines."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return ""
    return " ".join([host, *(segment for segment in parts.path.split("/") if segment and len(segment) <= _LONG_SEGMENT)])
