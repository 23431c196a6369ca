"""Looks for words and keys in files: as they are, in UTF-16, in hex, in base64 at any offset, and in what zlib, gzip and zstd made of them (rule 24)."""

from __future__ import annotations

import base64
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import zstandard

MOST = 64 << 20
"""Bytes that are looked at behind one magic number of a compressed stream."""

_PACKED = re.compile(rb"\x28\xb5\x2f\xfd|\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")


class Found(NamedTuple):
    """``what``, a name that the caller gave, in a file, in that form."""

    file: str
    what: str
    form: str


def forms(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """How it may be written down, but for base64; of words in upper and lower case too, as only ASCII is folded."""
    yield "hex", secret.hex().encode()
    yield "plain", secret
    if _is_text(secret):
        word = secret.decode()
        for text in (word, word.lower(), word.upper()):
            yield "plain", text.encode()
            yield "latin-1", text.encode("latin-1")
            # Without the last zero it is the same in either order of bytes.
            yield "utf-16", text.encode("utf-16-le")[:-1]


def base64_forms(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """At the three offsets that a stream of base64 can have; only letters that follow from the secret alone."""
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret)
        yield f"base64+{offset}", encoded[(offset * 8 + 5) // 6 : (offset + len(secret)) * 8 // 6]


def _is_text(secret: bytes) -> bool:
    try:
        return secret.decode().isprintable()
    except UnicodeDecodeError:
        return False


class Search:
    """``secrets``: names and what must not be found, 9 bytes and more, words in the case in which they are written."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._folded: list[tuple[str, str, bytes]] = []
        self._exact: list[tuple[str, str, bytes]] = []
        for what, secret in secrets.items():
            assert len(secret) >= 9, what
            self._folded += [(what, form, data.lower()) for form, data in forms(secret)]
            for one in {secret, secret.decode().lower().encode()} if _is_text(secret) else {secret}:
                self._exact += [(what, form, data) for form, data in base64_forms(one)]
                self._exact += [(what, f"{form} url", data.translate(_URL)) for form, data in base64_forms(one)]

    def in_bytes(self, data: bytes) -> set[tuple[str, str]]:
        """What is in them, and in what form."""
        found = self._in_plain(data)
        for match in _PACKED.finditer(data):
            found |= {(what, f"{form}, compressed") for what, form in self._in_plain(_unpacked(data, match.start()))}
        return found

    def _in_plain(self, data: bytes) -> set[tuple[str, str]]:
        if not data:
            return set()
        folded, joined = data.lower(), data.translate(None, b"\r\n")
        found = {(what, form) for what, form, wanted in self._folded if wanted in folded}
        return found | {(what, form) for what, form, wanted in self._exact if wanted in joined}

    def in_files(self, top: Path) -> set[Found]:
        """In every file below a directory, and in their names."""
        found = set()
        for folder, _, names in os.walk(top):
            for name in names:
                path = Path(folder) / name
                shown = path.relative_to(top).as_posix()
                found |= {Found(shown, what, f"{form}, name") for what, form in self._in_plain(os.fsencode(name))}
                try:
                    if stat.S_ISREG(path.lstat().st_mode):
                        found |= {Found(shown, *one) for one in self.in_bytes(path.read_bytes())}
                except FileNotFoundError:
                    continue  # it went meanwhile
        return found

    def in_open_files(self, process: int) -> set[Found]:
        """In the regular files that a process has open, those included that have no name any more."""
        found = set()
        for link in Path(f"/proc/{process}/fd").iterdir():
            try:
                name = os.readlink(link)
                if name.endswith(" (deleted)") and stat.S_ISREG(link.stat().st_mode):
                    found |= {Found(name, *one) for one in self.in_bytes(link.read_bytes())}
            except OSError:
                continue
        return found


_URL = bytes.maketrans(b"+/", b"-_")


def _unpacked(data: bytes, at: int) -> bytes:
    """What a stream that begins there holds, as far as it reads."""
    rest = memoryview(data)[at:]
    if data[at] == 0x28:
        try:
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(rest) as reader:
                parts = []
                while part := reader.read(1 << 16):
                    parts.append(part)
                    if len(parts) << 16 > MOST:
                        break
        except zstandard.ZstdError:
            pass
        return b"".join(parts)
    stream = zlib.decompressobj(47)
    parts = []
    for start in range(0, len(rest), 1 << 14):
        try:
            parts.append(stream.decompress(rest[start : start + (1 << 14)], MOST))
        except zlib.error:
            break
        if stream.eof or sum(map(len, parts)) > MOST:
            break
    return b"".join(parts)
