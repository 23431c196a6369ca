"""Files that stand in a text as text: uuencode, and yEnc, whose bytes a text does not keep. Pure, bounded, never raising."""

from __future__ import annotations

import binascii
import re

FILES = 100
"""No more are looked for in one text."""

_BEGINS = re.compile(r"^(?:begin [0-7]{3,4} ([^\r\n]{1,200})|=ybegin [^\r\n]{0,200}\bname=([^\r\n]{1,200}))\r?\n", re.MULTILINE)
_UU_END = re.compile(r"^end[ \t]*\r?$", re.MULTILINE)
_Y_END = re.compile(r"^=yend [^\r\n]*\r?$", re.MULTILINE)


def taken_out(text: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The text without such files, and the files: names, and bytes (none of yEnc). What begins and never ends is text."""
    files: list[tuple[str, bytes]] = []
    if "\nend" not in text and "\n=yend" not in text:
        return text, files
    kept: list[str] = []
    at = 0
    while len(files) < FILES and (begins := _BEGINS.search(text, at)) is not None:
        end = (_UU_END if begins[1] else _Y_END).search(text, begins.end())
        if end is None:
            break
        data = _decoded(text[begins.end() : end.start()]) if begins[1] else b""
        kept.append(text[at : begins.start() if data is not None else end.end()])
        if data is not None:
            files.append(((begins[1] or begins[2]).strip(), data))
        at = end.end()
    return "".join([*kept, text[at:]]), files


def _decoded(text: str) -> bytes | None:
    """None: it is no uuencode but a text that says ``begin`` and ``end``."""
    out: list[bytes] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            out.append(binascii.a2b_uu(line.encode("latin-1")))
        except (binascii.Error, UnicodeEncodeError):
            return None
    return b"".join(out)
