"""An IMAP client of lines: says what it is told and takes answers apart as RFC 3501 section 9 writes them, so that those of two servers can be compared."""

from __future__ import annotations

import re
import socket
from typing import Any

_TOKEN = re.compile(
    rb'\s*(?:((?:BODY|BINARY|BINARY\.SIZE)\[[^\]]*\](?:<\d+>)?|[()\[\]])|"((?:[^"\\]|\\.)*)"|~?\{(\d+)\}\r\n|([^\s()\[\]"]+))'
)


def parsed(line: bytes) -> list[Any]:
    """Nested lists of byte strings; brackets of response codes and sections are tokens of their own."""
    stack: list[list[Any]] = [[]]
    at = 0
    while at < len(line):
        match = _TOKEN.match(line, at)
        if match is None:
            assert not line[at:].strip(), line[at : at + 80]
            break
        at = match.end()
        sign, quoted, size, atom = match.groups()
        if sign == b"(":
            stack.append([])
        elif sign == b")":
            inner = stack.pop()
            stack[-1].append(inner)
        elif size is not None:
            stack[-1].append(line[at : at + int(size)])
            at += int(size)
        elif quoted is not None:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", quoted))
        else:
            stack[-1].append(sign or atom)
    assert len(stack) == 1, line
    return stack[0]


class Lines:
    """One connection, logged in. ``highest``: the last HIGHESTMODSEQ that was told."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._socket.makefile("rb")
        self._count = 0
        self.highest = 0
        self.validity = 0
        self._answer()
        assert self.say(f'LOGIN "{user}" "{password}"')[1].startswith(b"OK")

    def _answer(self) -> bytes:
        """A response with its literals."""
        data = self._file.readline()
        while (match := re.search(rb"\{(\d+)\}\r\n\Z", data)) is not None:
            data += self._file.read(int(match[1])) + self._file.readline()
        assert data.endswith(b"\r\n"), repr(data)
        return data.removesuffix(b"\r\n")

    def say(self, command: str | bytes) -> tuple[list[bytes], bytes]:
        """The untagged answers, and what stands behind the tag. ``{highest}`` and ``{validity}`` become what was told last."""
        raw = command.encode() if isinstance(command, str) else command
        raw = raw.replace(b"{highest}", b"%d" % self.highest).replace(b"{validity}", b"%d" % self.validity)
        self._count += 1
        tag = b"t%d" % self._count
        self._socket.sendall(tag + b" " + raw + b"\r\n")
        untagged: list[bytes] = []
        while True:
            line = self._answer()
            if (match := re.search(rb"\[HIGHESTMODSEQ (\d+)\]", line)) is not None:
                self.highest = int(match[1])
            if (match := re.search(rb"\[UIDVALIDITY (\d+)\]", line)) is not None:
                self.validity = int(match[1])
            if line.startswith(tag + b" "):
                return untagged, line[len(tag) + 1 :]
            if line.startswith(b"* "):
                untagged.append(line[2:].replace(b'"%b"' % tag, b'"tag"').replace(b"(TAG %b)" % tag, b'(TAG "tag")'))

    def append(self, folder: str, date: str, data: bytes, flags: str = "") -> None:
        """A message."""
        self._count += 1
        tag = b"t%d" % self._count
        self._socket.sendall(tag + f' APPEND {folder} ({flags}) "{date}" {{{len(data)}}}\r\n'.encode())
        assert self._answer().startswith(b"+")
        self._socket.sendall(data + b"\r\n")
        while not (line := self._answer()).startswith(tag):
            pass
        assert line.startswith(tag + b" OK"), line

    def close(self) -> None:
        """Without a word."""
        self._file.close()
        self._socket.close()
