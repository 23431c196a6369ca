"""An IMAP server in memory that keeps what is appended, and fails where a test wants it to.

::

    primary = ScriptedIMAP(reactor, {"a@one.example": "secret"})
    port = primary.listen()
    primary.faults.append(("APPEND", "store and drop"))
"""

from __future__ import annotations

import base64
import re
from typing import Any

import msgspec
from twisted.internet.protocol import Factory, Protocol

from hornetmail.core.folder import FolderError
from hornetmail.wire.imap.answers.render import string
from hornetmail.wire.imap.tokens.dates import day_of, parse_date, parse_date_time
from hornetmail.wire.imap.tokens.grammar import Cursor

CAPABILITIES = ("IMAP4rev1", "UIDPLUS", "NAMESPACE", "SPECIAL-USE", "LIST-EXTENDED", "SASL-IR", "AUTH=PLAIN", "LITERAL-")


class Kept(msgspec.Struct):
    """A message."""

    uid: int
    data: bytes
    flags: tuple[str, ...]
    date: float


class Folder(msgspec.Struct):
    """A mailbox; ``attributes`` as LIST has them."""

    uidvalidity: int
    kept: list[Kept] = []
    attributes: str = ""
    uidnext: int = 1


class ScriptedIMAP(Factory):
    """``faults``: what befalls the next command of that name: ``drop`` it and the connection, ``store and drop``: do it and say nothing, ``bye``, ``silence``, or bytes that are
    said instead (``%t`` is its tag). ``master``: who may log in for everybody. ``keywords``: whether flags of one's own can be kept. ``poison``: it falls over whatever holds that. ``said``: all commands, passwords too."""

    noisy = False

    def __init__(
        self,
        reactor: Any,
        users: dict[str, str],
        *,
        master: tuple[str, str] | None = None,
        delimiter: str = "/",
        prefix: str = "",
    ) -> None:
        self.users = users
        self.master = master
        self.delimiter = delimiter
        self.prefix = prefix
        self.capabilities = list(CAPABILITIES)
        self.greeting = b"* OK hello"
        self.faults: list[tuple[str, str | bytes]] = []
        self.keywords = True
        self.quota = 1 << 40
        self.poison = b""
        self.said: list[str] = []
        self.folders: dict[str, dict[str, Folder]] = {}
        self.connections: list[Any] = []
        self._validity = 100
        self._reactor = reactor
        self._port: Any = None

    def listen(self) -> int:
        """The port."""
        self._port = self._reactor.listenTCP(0, self, interface="127.0.0.1")
        return int(self._port.getHost().port)

    async def close(self) -> None:
        """No more connections."""
        for each in list(self.connections):
            each.transport.abortConnection()
        if self._port is not None:
            await self._port.stopListening()

    def of(self, user: str) -> dict[str, Folder]:
        """The mailboxes of somebody, INBOX made."""
        found = self.folders.setdefault(user, {})
        if "INBOX" not in found:
            self.make(user, "INBOX")
        return found

    def make(self, user: str, name: str, attributes: str = "") -> Folder:
        """A mailbox, ``name`` as on the wire."""
        self._validity += 1
        return self.folders.setdefault(user, {}).setdefault(name, Folder(self._validity, [], attributes))

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Dialogue(self)


_APPEND = re.compile(rb"\{([0-9]+)(\+?)\}\Z")


class _Dialogue(Protocol):
    transport: Any

    def __init__(self, server: ScriptedIMAP) -> None:
        self._server = server
        self._buffer = b""
        self._command = b""
        self._literal = -1
        self._exchange = b""
        self._user = ""
        self._selected: Folder | None = None
        self._deaf = False

    def connectionMade(self) -> None:
        self._server.connections.append(self)
        self._say(self._server.greeting)

    def connectionLost(self, reason: Any = None) -> None:
        self._server.connections.remove(self)

    def _say(self, line: bytes) -> None:
        self.transport.write(line + b"\r\n")

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while not self._deaf and not self.transport.disconnecting:
            if self._literal >= 0:
                if len(self._buffer) < self._literal:
                    return
                self._command += self._buffer[: self._literal]
                self._buffer = self._buffer[self._literal :]
                self._literal = -1
                continue
            if b"\r\n" not in self._buffer:
                return
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            if self._exchange:
                tag, self._exchange = self._exchange, b""
                self._plain(tag, line)
                continue
            match = _APPEND.search(line)
            self._command += line + (b"\r\n" if match else b"")
            if match:
                if not match[2]:
                    refusal = self._before(self._command)
                    if refusal:
                        self._command = b""
                        self._say(refusal)
                        continue
                    self._say(b"+ go on")
                self._literal = int(match[1])
                continue
            command, self._command = self._command, b""
            self._run(command)

    def _before(self, command: bytes) -> bytes:
        """Why a message is not wanted."""
        tag, _, rest = command.partition(b" ")
        if not rest.upper().startswith(b"APPEND"):
            return b""
        name = self._name(Cursor(rest, 6))
        if name not in self._server.of(self._user):
            return tag + b" NO [TRYCREATE] no such mailbox"
        size = int(_APPEND.search(command.rstrip())[1])  # type: ignore[index]
        return tag + b" NO [OVERQUOTA] full" if size > self._server.quota else b""

    def _run(self, command: bytes) -> None:
        tag, _, rest = command.partition(b" ")
        words = rest.split(b" ", 2)
        verb = words[0].decode().upper()
        if verb == "UID":
            verb += " " + words[1].decode().upper()
        self._server.said.append(rest.decode("utf-8", "replace"))
        fault = next((each for each in self._server.faults if each[0] == verb), None)
        action: str | bytes = ""
        if fault is not None:
            self._server.faults.remove(fault)
            action = fault[1]
        if self._server.poison and self._server.poison in rest:
            action = "drop"
        if isinstance(action, bytes):
            self._say(action.replace(b"%t", tag))
        elif action == "drop":
            self.transport.abortConnection()
        elif action == "silence":
            self._deaf = True
        elif action == "bye":
            self._say(b"* BYE [UNAVAILABLE] going down")
            self.transport.loseConnection()
        else:
            answer = self._answer(tag, verb, Cursor(rest, len(verb)))
            if action == "store and drop":
                self.transport.abortConnection()
            elif answer:
                self._say(answer)
            if verb == "LOGOUT":
                self.transport.loseConnection()

    def _answer(self, tag: bytes, verb: str, cursor: Cursor) -> bytes:
        method = getattr(self, "_do_" + verb.lower().replace(" ", "_"), None)
        if method is None:
            return tag + b" BAD unknown"
        try:
            done: bytes = method(tag, cursor)
        except FolderError as error:
            return tag + b" NO [" + error.code.encode() + b"] " + error.text.encode()
        return done

    # ---- before log-in

    def _do_capability(self, tag: bytes, cursor: Cursor) -> bytes:
        self._say(b"* CAPABILITY " + " ".join(self._server.capabilities).encode())
        return tag + b" OK done"

    def _do_noop(self, tag: bytes, cursor: Cursor) -> bytes:
        return tag + b" OK done"

    def _do_logout(self, tag: bytes, cursor: Cursor) -> bytes:
        self._say(b"* BYE bye")
        return tag + b" OK done"

    def _do_login(self, tag: bytes, cursor: Cursor) -> bytes:
        cursor.space()
        user = cursor.astring().decode()
        cursor.space()
        return self._log_in(tag, user, user, cursor.astring().decode())

    def _do_authenticate(self, tag: bytes, cursor: Cursor) -> bytes:
        cursor.space()
        cursor.word()
        if not cursor.skip(b" "):
            self._exchange = tag
            self._say(b"+ ")
            return b""
        self._plain(tag, cursor.data[cursor.at :])
        return b""

    def _plain(self, tag: bytes, line: bytes) -> None:
        acting, user, password = base64.b64decode(line).decode().split("\0")
        self._say(self._log_in(tag, acting or user, user, password))

    def _log_in(self, tag: bytes, acting: str, user: str, password: str) -> bytes:
        server = self._server
        if "*" in user and acting == user:
            acting, _, user = user.partition("*")
        known = server.master == (user, password) if acting != user else server.users.get(user) == password
        if not known or acting not in server.users:
            return tag + b" NO [AUTHENTICATIONFAILED] no"
        self._user = acting
        return tag + b" OK in"

    # ---- inside

    def _name(self, cursor: Cursor) -> str:
        cursor.space()
        return cursor.astring().decode()

    def _folder(self, name: str) -> Folder:
        found = self._server.of(self._user).get(name)
        if found is None:
            raise FolderError("NONEXISTENT", "no such mailbox")
        return found

    def _do_namespace(self, tag: bytes, cursor: Cursor) -> bytes:
        prefix, delimiter = self._server.prefix.encode(), self._server.delimiter.encode()
        self._say(b'* NAMESPACE ((%b "%b")) NIL NIL' % (string(prefix), delimiter))
        return tag + b" OK done"

    def _do_list(self, tag: bytes, cursor: Cursor) -> bytes:
        for name, folder in self._server.of(self._user).items():
            self._say(
                b'* LIST (%b) "%b" %b' % (folder.attributes.encode(), self._server.delimiter.encode(), string(name.encode()))
            )
        return tag + b" OK done"

    def _do_create(self, tag: bytes, cursor: Cursor) -> bytes:
        name = self._name(cursor)
        if not name.startswith(self._server.prefix):
            raise FolderError("CANNOT", "not there")
        if name in self._server.of(self._user):
            raise FolderError("ALREADYEXISTS", "it is there")
        self._server.make(self._user, name)
        return tag + b" OK done"

    def _do_subscribe(self, tag: bytes, cursor: Cursor) -> bytes:
        self._folder(self._name(cursor))
        return tag + b" OK done"

    def _do_select(self, tag: bytes, cursor: Cursor) -> bytes:
        self._selected = None
        folder = self._selected = self._folder(self._name(cursor))
        self._say(b"* %d EXISTS" % len(folder.kept))
        self._say(b"* OK [UIDVALIDITY %d] it is" % folder.uidvalidity)
        star = b" \\*" if self._server.keywords else b""
        self._say(b"* OK [PERMANENTFLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft%b)] these" % star)
        return tag + b" OK done"

    _do_examine = _do_select

    def _do_append(self, tag: bytes, cursor: Cursor) -> bytes:
        folder = self._server.of(self._user).get(self._name(cursor))
        if folder is None:
            raise FolderError("TRYCREATE", "no such mailbox")
        cursor.space()
        flags = cursor.flags() if cursor.peek() == 0x28 else ()
        cursor.skip(b" ")
        date = 0.0
        if cursor.peek() == 0x22:
            date = parse_date_time(cursor.string()) or 0.0
            cursor.space()
        cursor.skip(b"~")
        data = cursor.string()
        if len(data) > self._server.quota:
            raise FolderError("OVERQUOTA", "full")
        if not self._server.keywords and any(not flag.startswith("\\") for flag in flags):
            raise FolderError("CANNOT", "no keywords here")
        uid = folder.uidnext
        folder.uidnext += 1
        folder.kept.append(Kept(uid, data, flags, date))
        if "UIDPLUS" in self._server.capabilities:
            return tag + b" OK [APPENDUID %d %d] done" % (folder.uidvalidity, uid)
        return tag + b" OK done"

    def _do_uid_search(self, tag: bytes, cursor: Cursor) -> bytes:
        assert self._selected is not None
        found = list(self._selected.kept)
        while cursor.skip(b" "):
            word = cursor.word()
            if word == "HEADER":
                cursor.space()
                name = cursor.astring().lower()
                cursor.space()
                value = cursor.string()
                found = [each for each in found if _field(each.data, name, value)]
            elif word in ("LARGER", "SMALLER"):
                cursor.space()
                size = cursor.number()
                found = [each for each in found if (len(each.data) > size) is (word == "LARGER") and len(each.data) != size]
            elif word == "ON":
                cursor.space()
                day = parse_date(cursor.astring())
                found = [each for each in found if day_of(each.date) == day]
        self._say(b"* SEARCH" + b"".join(b" %d" % each.uid for each in found))
        return tag + b" OK done"

    def _do_uid_fetch(self, tag: bytes, cursor: Cursor) -> bytes:
        assert self._selected is not None
        cursor.space()
        wanted = cursor.sequence_set().resolved(1 << 31)
        parts = b"BODY" in cursor.data.upper()
        for number, each in enumerate(self._selected.kept, 1):
            if any(low <= each.uid <= high for low, high in wanted):
                head = b"* %d FETCH (UID %d FLAGS (%b) RFC822.SIZE %d" % (
                    number,
                    each.uid,
                    " ".join(each.flags).encode(),
                    len(each.data),
                )
                self._say(head + (b" BODY[] {%d}\r\n%b" % (len(each.data), each.data) if parts else b"") + b")")
        return tag + b" OK done"

    def _do_uid_store(self, tag: bytes, cursor: Cursor) -> bytes:
        assert self._selected is not None
        cursor.space()
        wanted = cursor.sequence_set().resolved(1 << 31)
        cursor.space()
        cursor.atom()
        cursor.space()
        flags = cursor.flags()
        for each in self._selected.kept:
            if any(low <= each.uid <= high for low, high in wanted):
                each.flags = tuple(dict.fromkeys((*each.flags, *flags)))
        return tag + b" OK done"


def _field(data: bytes, name: bytes, value: bytes) -> bool:
    head = data.partition(b"\r\n\r\n")[0]
    return any(line.lower().startswith(name + b":") and value in line for line in head.split(b"\r\n"))
