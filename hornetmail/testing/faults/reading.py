"""Mail programs of people, over connections in memory: just enough of IMAP and POP3 to read, file and remove mail, and to know what they were told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

_LITERAL = re.compile(rb"\{(\d+)\}$")
_UID = re.compile(rb"\bUID (\d+)")


class Refused(Exception):
    """The server said NO, BAD, BYE or -ERR; the message is its line."""


class _Lines(Protocol):
    """Lines, each with its literals, as they come; the end of the connection is an error for whoever waits."""

    transport: Any

    def __init__(self) -> None:
        self._data = b""
        self._literal = 0
        self._line: list[bytes] = []
        self._lines: list[bytes] = []
        self._waiting: Deferred[bytes] | None = None
        self.over = False

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        while self._cut():
            pass
        if self._waiting is not None and self._lines:
            waiting, self._waiting = self._waiting, None
            waiting.callback(self._lines.pop(0))

    def _cut(self) -> bool:
        if self._literal:
            if len(self._data) < self._literal:
                return False
            self._line.append(self._data[: self._literal])
            self._data, self._literal = self._data[self._literal :], 0
        line, found, rest = self._data.partition(b"\r\n")
        if not found:
            return False
        self._data = rest
        self._line.append(line)
        literal = _LITERAL.search(line) if self.literals else None
        if literal is not None:
            self._literal = int(literal.group(1))
        else:
            self._lines.append(b"".join(self._line))
            self._line = []
        return True

    literals = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(ConnectionLost())

    async def line(self) -> bytes:
        """The next one. Raises ConnectionLost."""
        if self._lines:
            return self._lines.pop(0)
        if self.over:
            raise ConnectionLost()
        self._waiting = Deferred()
        return await self._waiting

    def close(self) -> None:
        """Hang up."""
        if not self.over:
            self.transport.loseConnection()


class IMAP(_Lines):
    """One session, logged in. Commands raise Refused and ConnectionLost."""

    literals = True

    def __init__(self) -> None:
        super().__init__()
        self._number = 0

    async def greeted(self, user: str) -> Self:
        """Log in."""
        await self.line()
        await self.command(f'LOGIN "{user}" "secret"')
        return self

    async def command(self, text: str, literal: bytes | None = None) -> Sequence[bytes]:
        """Untagged responses to a command, and what stands behind OK as the last."""
        self._number += 1
        tag = f"a{self._number}"
        ending = b"" if literal is None else f" {{{len(literal)}+}}\r\n".encode() + literal
        self.transport.write(f"{tag} {text}".encode() + ending + b"\r\n")
        found: list[bytes] = []
        while True:
            line = await self.line()
            if line.startswith(b"* BYE"):
                raise Refused(line.decode())
            if line.startswith(b"* "):
                found.append(line)
            elif line.startswith(f"{tag} OK".encode()):
                return [*found, line]
            elif line.startswith(tag.encode()):
                raise Refused(line.decode())

    async def subjects(self, folder: str) -> dict[str, int]:
        """Open a folder: its messages' UIDs by subject. Raises Refused if it is not there."""
        await self.command(f'SELECT "{folder}"')
        found: dict[str, int] = {}
        for line in await self.command("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"):
            uid, _, header = line.partition(b"Subject: ")
            number = _UID.search(uid)
            if header and number is not None and b"\\Deleted" not in uid:
                found[header.split(b"\r\n")[0].decode()] = int(number.group(1))
        return found

    async def mark_deleted(self, uid: int) -> bool:
        """Whether the server says that it is so now."""
        lines = await self.command(f"UID STORE {uid} +FLAGS (\\Deleted)")
        return any(b"FETCH" in line and b"\\Deleted" in line and f"UID {uid}".encode() in line for line in lines)

    async def expunge(self, uid: int) -> None:
        """For good."""
        await self.command(f"UID EXPUNGE {uid}")

    async def put(self, uid: int, folder: str, *, away: bool) -> bool:
        """Move or copy; whether there was something to move or copy (RFC 4315: COPYUID says so)."""
        lines = await self.command(f'UID {"MOVE" if away else "COPY"} {uid} "{folder}"')
        return any(b"COPYUID" in line for line in lines)

    async def append(self, folder: str, data: bytes) -> None:
        """File a message."""
        await self.command(f'APPEND "{folder}"', data)

    async def folders(self) -> set[str]:
        """Names of all that can be opened."""
        lines = await self.command('LIST "" "*"')
        return {line.rpartition(b" ")[2].strip(b'"').decode() for line in lines if line.startswith(b"* LIST")}


class POP(_Lines):
    """One session, logged in. Commands raise Refused and ConnectionLost."""

    async def greeted(self, user: str) -> Self:
        """Log in."""
        await self.line()
        await self.command(f"USER {user}")
        await self.command("PASS secret")
        return self

    async def command(self, text: str) -> str:
        """What the server says."""
        self.transport.write(text.encode() + b"\r\n")
        line = await self.line()
        if not line.startswith(b"+OK"):
            raise Refused(line.decode())
        return line.decode()

    async def subjects(self) -> dict[str, int]:
        """Messages' numbers by subject; those that went home meanwhile are passed over."""
        found: dict[str, int] = {}
        for number in range(1, int((await self.command("STAT")).split()[1]) + 1):
            try:
                await self.command(f"TOP {number} 0")
            except Refused:
                continue
            while (line := await self.line()) != b".":
                if line.startswith(b"Subject: "):
                    found[line[9:].decode()] = number
        return found


class Dialling(ClientFactory):
    """Makes one conversation."""

    noisy = False

    def __init__(self, conversation: _Lines) -> None:
        self.conversation = conversation
        self.made: Deferred[None] = Deferred()

    def buildProtocol(self, addr: object) -> Protocol:
        self.made.callback(None)
        return self.conversation

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self.made.errback(reason)


__all__ = ["IMAP", "POP", "Dialling", "Refused"]
