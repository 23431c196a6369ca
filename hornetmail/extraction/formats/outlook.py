"""What Outlook writes: mails as files ([MS-OXMSG]) and ``winmail.dat`` (TNEF, [MS-OXTNEF])."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

from hornetmail.extraction.bounds import Gathered, Unreadable
from hornetmail.extraction.formats import rtf
from hornetmail.mime.charset import codec_for, decode, html_label
from hornetmail.mime.reading.html import html_to_text

TNEF = b"\x78\x9f\x3e\x22"

_SUBJECT, _SENDER, _ADDRESS, _TO, _CC, _BODY, _RTF, _HTML = 0x0037, 0x0C1A, 0x0C1F, 0x0E04, 0x0E03, 0x1000, 0x1009, 0x1013
_DATA, _LONG_NAME, _NAME = 0x3701, 0x3707, 0x3704
_SAID = (_SUBJECT, _SENDER, _ADDRESS, _TO, _CC, _BODY)
_UNICODE, _STRING, _BINARY, _OBJECT = 0x1F, 0x1E, 0x102, 0x0D

Files = list[tuple[str, bytes]]


def read(names: Sequence[str], stream: Callable[[str], bytes], into: Gathered) -> Files:
    """A mail as a file: its words, mails in it included, and what hangs on it. ``names``: of all streams. Raises Enough, Unreadable."""
    files: Files = []
    there = frozenset(names)
    for store in sorted({name.rpartition("/")[0] for name in names}):

        def value(number: int, *, store: str = store) -> str:
            for kind, codec in ((_UNICODE, "utf-16-le"), (_STRING, "cp1252")):
                if (name := f"{store}/__substg1.0_{number:04X}{kind:04X}".lstrip("/")) in there:
                    return stream(name).decode(codec, "replace")
            return ""

        def binary(number: int, *, store: str = store) -> bytes:
            return stream(f"{store}/__substg1.0_{number:04X}{_BINARY:04X}".lstrip("/"))

        last = store.rpartition("/")[2]
        if last.startswith("__attach"):
            files.append((value(_LONG_NAME) or value(_NAME), binary(_DATA)))
        elif last == "" or last.startswith(("__substg1.0_3701000D", "__recip")):
            for number in (_SUBJECT, _SENDER, _ADDRESS, _TO, _CC, _BODY, 0x3001, 0x39FE, 0x3003):
                into.add(value(number) + "\n")
            if not value(_BODY):
                _bodies(binary(_HTML), binary(_RTF), into)
    return [one for one in files if one[1]]


def _bodies(page: bytes, packed: bytes, into: Gathered) -> None:
    if page:
        into.add(html_to_text(decode(page, html_label(page, ""))) + "\n")
    elif packed:
        rtf.read(rtf.unpacked(packed, into), into)


def read_tnef(data: bytes, into: Gathered) -> Files:
    """Its words, and what hangs on it. Raises Unreadable, Enough."""
    try:
        return _Tnef(into).read(data)
    except struct.error:
        raise Unreadable("it is damaged: it ends too early") from None


class _Tnef:
    def __init__(self, into: Gathered) -> None:
        self._into = into
        self._codec = "cp1252"
        self._names: list[str] = []
        self._data: list[bytes] = []

    def read(self, data: bytes) -> Files:
        at = 6
        while at + 9 <= len(data):
            self._into.bounds.on_time()
            number, length = struct.unpack_from("<xII", data, at)
            body = data[at + 9 : at + 9 + length]
            at += 9 + length + 2
            self._attribute(number, body)
        return [(name, body) for name, body in zip(self._names, self._data, strict=True) if body]

    def _attribute(self, number: int, body: bytes) -> None:
        if number == 0x00069007 and len(body) >= 4:
            self._codec = codec_for(f"cp{struct.unpack_from('<I', body)[0]}") or self._codec
        elif number in (0x00018004, 0x0002800C):
            self._into.add(body.rstrip(b"\0").decode(self._codec, "replace") + "\n")
        elif number == 0x00069002:
            self._names.append("")
            self._data.append(b"")
        elif not self._names and number == 0x00069003:
            self._mail(dict(_properties(body, self._codec)))
        elif self._names and number == 0x0006800F:
            self._data[-1] = body
        elif self._names and number == 0x00018010:
            self._names[-1] = self._names[-1] or body.rstrip(b"\0").decode(self._codec, "replace")
        elif self._names and number == 0x00069005:
            found = dict(_properties(body, self._codec))
            if isinstance(name := found.get(_LONG_NAME), str):
                self._names[-1] = name
            if isinstance(inner := found.get(_DATA), bytes) and inner[16:20] == TNEF:
                # A mail in the mail, behind the name of its interface.
                self._data[-1] = inner[16:]

    def _mail(self, found: dict[int, str | bytes]) -> None:
        for number in _SAID:
            if isinstance(said := found.get(number), str):
                self._into.add(said + "\n")
        page, packed = found.get(_HTML, b""), found.get(_RTF, b"")
        _bodies(
            page if isinstance(page, bytes) else page.encode("utf-8"), packed if isinstance(packed, bytes) else b"", self._into
        )


_SIZES = {0x02: 4, 0x03: 4, 0x04: 4, 0x05: 8, 0x06: 8, 0x07: 8, 0x0A: 4, 0x0B: 4, 0x14: 8, 0x40: 8, 0x48: 16}
_MULTIPLE = 0x1000


def _properties(data: bytes, codec: str) -> Iterator[tuple[int, str | bytes]]:
    """Strings and bytes among MAPI properties ([MS-OXTNEF] section 2.1.3.4). Raises struct.error."""
    (count,) = struct.unpack_from("<I", data)
    at = 4
    for _ in range(min(count, len(data))):
        kind, number = struct.unpack_from("<HH", data, at)
        at += 4
        if number >= 0x8000:
            (named,) = struct.unpack_from("<I", data, at + 16)
            at += 20
            (length,) = struct.unpack_from("<I", data, at)
            at += 4 + (_padded(length) if named else 0)
        base = kind & ~_MULTIPLE
        if base in _SIZES:
            values = struct.unpack_from("<I", data, at)[0] if kind & _MULTIPLE else 1
            at += values * _SIZES[base] + (4 if kind & _MULTIPLE else 0)
            continue
        if base not in (_UNICODE, _STRING, _BINARY, _OBJECT):
            return
        (values,) = struct.unpack_from("<I", data, at)
        at += 4
        for _ in range(min(values, len(data))):
            (length,) = struct.unpack_from("<I", data, at)
            value = data[at + 4 : at + 4 + length]
            at += 4 + _padded(length)
            if base == _UNICODE:
                yield number, value.decode("utf-16-le", "replace").rstrip("\0")
            elif base == _STRING:
                yield number, value.rstrip(b"\0").decode(codec, "replace")
            else:
                yield number, value


def _padded(length: int) -> int:
    return (length + 3) & ~3
