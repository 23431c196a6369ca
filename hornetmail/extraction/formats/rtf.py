"""Rich Text Format, and the form in which Outlook packs it ([MS-OXRTFCP])."""

from __future__ import annotations

import re
import struct

from hornetmail.extraction.bounds import Gathered, Unreadable
from hornetmail.mime.charset import codec_for

_TOKEN = re.compile(
    rb"\\(?:([a-zA-Z]{1,32})(-?\d{1,10})? ?|'([0-9a-fA-F]{2})|([^a-zA-Z]))|([{}])|[\r\n]++|([^\\{}\r\n]++)|\\\Z", re.DOTALL
)
_ASIDE = frozenset(
    b"colortbl stylesheet pict object objdata themedata colorschememapping datastore latentstyles listtable listoverridetable rsidtbl generator"
    b" xmlnstbl filetbl fldinst bkmkstart bkmkend operator category nonshppict blipuid mmathPr wgrffmtfilter pgptbl revtbl".split()
)
_BREAKS = {
    b"par": "\n",
    b"line": "\n",
    b"row": "\n",
    b"sect": "\n",
    b"page": "\n",
    b"cell": " ",
    b"tab": " ",
    b"emspace": " ",
    b"enspace": " ",
}
_SIGNS = {b"lquote": "‘", b"rquote": "’", b"ldblquote": "“", b"rdblquote": "”", b"endash": "–", b"emdash": "—", b"bullet": "•"}
_FONTS = {
    0: "cp1252", 77: "mac-roman", 128: "cp932", 129: "cp949", 134: "gb18030", 136: "big5", 161: "cp1253", 162: "cp1254", 163: "cp1258",
    177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250",
}  # fmt: skip
_DEEP = 10_000


class _Group:
    """What holds until the brace closes. ``silent``: nothing in it is text; ``skip``: characters that stand for one of Unicode; ``fonts``: it is the table of fonts;
    ``about``: what the document says of itself, each in a group of its own."""

    __slots__ = ("about", "codec", "fonts", "silent", "skip")

    def __init__(
        self, silent: bool = False, skip: int = 1, codec: str = "cp1252", fonts: bool = False, about: bool = False
    ) -> None:
        self.silent = silent
        self.skip = skip
        self.codec = codec
        self.fonts = fonts
        self.about = about


class _Document:
    def __init__(self, into: Gathered) -> None:
        self._into = into
        self._group = _Group()
        self._outer: list[_Group] = []
        self._bytes = bytearray()
        self._skip = 0
        self._default = "cp1252"
        self._codecs: dict[int, str] = {}
        self._font = 0
        self._high = 0

    def read(self, data: bytes) -> None:
        at = 0
        while (token := _TOKEN.match(data, at)) is not None and at < len(data):
            at = token.end()
            word, number, byte, sign, brace, plain = token.groups()
            if byte is not None:
                self._literal(bytes((int(byte, 16),)))
            elif plain is not None:
                self._literal(plain)
            elif word == b"bin":
                at += max(0, int(number or 0))
            elif word is not None:
                self._word(word, int(number) if number is not None else None)
            elif sign is not None:
                self._sign(sign)
            elif brace is not None:
                self._flush()
                self._brace(brace)
        self._flush()

    def _brace(self, brace: bytes) -> None:
        self._skip = 0
        if brace == b"{":
            if len(self._outer) >= _DEEP:
                raise Unreadable("it nests too deep")
            self._outer.append(self._group)
            group = self._group
            self._group = _Group(group.silent, group.skip, group.codec, group.fonts, group.about)
        elif self._outer:
            if self._group.about:
                self._say("\n")
            self._group = self._outer.pop()

    def _literal(self, data: bytes) -> None:
        if self._skip:
            gone = min(self._skip, len(data))
            self._skip -= gone
            data = data[gone:]
        if not self._group.silent:
            self._bytes += data

    def _sign(self, sign: bytes) -> None:
        if sign == b"*":
            self._group.silent = True
        elif sign in b"\\{}":
            self._literal(sign)
        elif sign == b"~":
            self._say(" ")
        elif sign in (b"\r", b"\n"):
            self._say("\n")

    def _word(self, word: bytes, number: int | None) -> None:
        group = self._group
        if word == b"u" and number is not None:
            self._flush()
            self._skip = group.skip
            self._unicode(number & 0xFFFF)
        elif word in _BREAKS:
            self._say(_BREAKS[word])
        elif word in _SIGNS:
            self._say(_SIGNS[word])
        elif word == b"uc" and number is not None:
            group.skip = max(0, min(number, 100))
        elif word in _ASIDE:
            group.silent = True
        elif word == b"info":
            group.about = True
        elif word == b"fonttbl":
            group.silent = group.fonts = True
        elif word == b"f" and number is not None:
            self._flush()
            self._font = number
            if not group.fonts:
                group.codec = self._codecs.get(number, self._default)
        elif word == b"fcharset" and number is not None and group.fonts:
            if number in _FONTS and number:
                self._codecs[self._font] = _FONTS[number]
        elif word == b"ansicpg" and number is not None:
            self._default = group.codec = codec_for(f"cp{number}") or "cp1252"
        elif word in (b"mac", b"pc", b"pca"):
            self._default = group.codec = {b"mac": "mac-roman", b"pc": "cp437", b"pca": "cp850"}[word]

    def _unicode(self, code: int) -> None:
        if 0xD800 <= code < 0xDC00:
            self._high = code
            return
        if 0xDC00 <= code < 0xE000:
            if not self._high:
                return
            code = 0x10000 + ((self._high - 0xD800) << 10) + (code - 0xDC00)
        self._high = 0
        if not self._group.silent:
            self._into.add(chr(code))

    def _say(self, text: str) -> None:
        self._flush()
        if not self._group.silent:
            self._into.add(text)

    def _flush(self) -> None:
        if self._bytes:
            text = self._bytes.decode(self._group.codec, "replace")
            self._bytes.clear()
            self._into.add(text)


def read(data: bytes, into: Gathered) -> None:
    """Its words. Raises Unreadable, Enough."""
    _Document(into).read(data)


_BEFORE = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor MS Sans SerifSymbolArialTimes New Roman"
    b"Courier{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
"""What stands in the dictionary before the first byte ([MS-OXRTFCP] section 2.1.3.1.2)."""


def unpacked(data: bytes, into: Gathered) -> bytes:
    """RTF as Outlook packs it. Raises Unreadable, Enough."""
    if len(data) < 16:
        raise Unreadable("its packed text is cut off")
    size, kind = struct.unpack_from("<4xI4s", data)
    if kind == b"MELA":
        return data[16 : 16 + size]
    if kind != b"LZFu":
        raise Unreadable("its text is packed in an unknown way")
    into.bounds.unpack(min(size, 17 * len(data)))
    window = bytearray(_BEFORE.ljust(4096, b"\0"))
    out = bytearray()
    write, at = len(_BEFORE), 16
    while at < len(data) and len(out) < size:
        control = data[at]
        at += 1
        for bit in range(8):
            if at >= len(data):
                break
            if not control >> bit & 1:
                out.append(data[at])
                window[write] = data[at]
                write = (write + 1) & 4095
                at += 1
                continue
            reference = int.from_bytes(data[at : at + 2], "big")
            at += 2
            offset = reference >> 4
            if offset == write:
                return bytes(out)
            for step in range((reference & 15) + 2):
                byte = window[(offset + step) & 4095]
                out.append(byte)
                window[write] = byte
                write = (write + 1) & 4095
    return bytes(out[:size])
