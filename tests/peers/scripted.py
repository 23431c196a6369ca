"""A mail server that does as it is told, in threads of the test's own process: the primary that refuses, hangs and drops."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress
from typing import NamedTuple

HANG = "hang"
DROP = "drop"


class Accepted(NamedTuple):
    """A message that reached its final dot and was kept."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes


def _anywhere() -> socket.socket:
    """On a port that nobody who dials is given while this server is stopped."""
    while True:
        with suppress(OSError):
            return socket.create_server(("127.0.0.1", random.randrange(2_000, 10_000)))


class ScriptedServer:
    """``script``: stage to a reply, ``HANG`` or ``DROP``. Stages: GREETING EHLO MAIL RCPT DATA BODY DOT. What is dropped or hung on at DOT was
    kept all the same. ``times``: how often a stage follows its script, if not always. ``unknown``, ``full``: recipients refused, unknown ones after ``tarpit`` seconds; ``most``: recipients of a transaction, 0 any number; ``asked``: how often each was named in RCPT.
    """

    def __init__(self) -> None:
        self.script: dict[str, str] = {}
        self.times: dict[str, int] = {}
        self.unknown: set[str] = set()
        self.tarpit = 0.0
        self.stopped = threading.Event()
        self.full: set[str] = set()
        self.most = 0
        self.accepted: list[Accepted] = []
        self.asked: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        """Take connections, on the same port each time."""
        self.stopped.clear()
        listener = socket.create_server(("127.0.0.1", self.port)) if self.port else _anywhere()
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections and drop those that are open."""
        self.stopped.set()
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop()

    def drop(self) -> None:
        """Drop every open connection."""
        with self._lock:
            for each in list(self._open):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def well(self) -> None:
        """Forget the script: an ordinary server from now on."""
        self.script, self.times = {}, {}
        self.full = set()
        self.most = 0
        self.drop()

    def to(self, recipient: str) -> list[Accepted]:
        """What was kept for a recipient, in order."""
        return [each for each in self.accepted if recipient in each.recipients]

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                _Dialogue(self, connection).run()
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(connection)


class _Ended(OSError):
    pass


class _Dialogue:
    def __init__(self, server: ScriptedServer, connection: socket.socket) -> None:
        self.server = server
        self.connection = connection
        self.file = connection.makefile("rb")
        self.sender: str | None = None
        self.recipients: list[str] = []

    def say(self, line: str) -> None:
        self.connection.sendall(line.encode() + b"\r\n")

    def staged(self, stage: str) -> bool:
        """Follow the script; whether it said something else than the ordinary reply."""
        self.server.seen[stage] = self.server.seen.get(stage, 0) + 1
        told = self.server.script.get(stage)
        if told is None:
            return False
        if stage in self.server.times:
            self.server.times[stage] -= 1
            if not self.server.times[stage]:
                del self.server.script[stage], self.server.times[stage]
        if told == DROP:
            raise _Ended
        if told == HANG:
            while self.connection.recv(65536):
                pass
            raise _Ended
        self.say(told)
        if told.startswith("421") or (stage == "GREETING" and not told.startswith("2")):
            raise _Ended
        return True

    def run(self) -> None:
        if not self.staged("GREETING"):
            self.say("220 scripted.test ESMTP")
        for line in self.file:
            self.command(line.rstrip(b"\r\n").decode("utf-8", "replace"))

    def command(self, line: str) -> None:
        verb = line[:4].upper()
        path = line.partition("<")[2].partition(">")[0]
        if verb in ("EHLO", "HELO"):
            if not self.staged("EHLO"):
                self.say("250-scripted.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 50000000")
        elif verb == "MAIL":
            if not self.staged("MAIL"):
                self.sender, self.recipients = path, []
                self.say("250 2.1.0 ok")
        elif verb == "RCPT":
            self.recipient(path)
        elif verb == "DATA":
            self.data()
        elif verb == "QUIT":
            self.say("221 2.0.0 bye")
            raise _Ended
        else:
            if verb == "RSET":
                self.sender, self.recipients = None, []
            self.say("250 2.0.0 ok")

    def recipient(self, address: str) -> None:
        server = self.server
        server.asked[address] = server.asked.get(address, 0) + 1
        if self.sender is None:
            self.say("503 5.5.1 MAIL first")
        elif address in server.unknown or address.startswith("no-such-user"):
            server.stopped.wait(server.tarpit)
            self.say(f"550 5.1.1 <{address}>: no such user")
        elif address in server.full:
            self.say("452 4.2.2 mailbox full")
        elif server.most and len(self.recipients) >= server.most:
            self.say("452 4.5.3 too many recipients")
        elif not self.staged("RCPT"):
            self.recipients.append(address)
            self.say("250 2.1.5 ok")

    def data(self) -> None:
        if not self.recipients:
            self.say("554 5.5.1 no valid recipients")
            return
        if self.staged("DATA"):
            return
        self.say("354 go on")
        text = bytearray()
        for line in self.file:
            if line == b".\r\n":
                break
            text += line[1:] if line.startswith(b".") else line
            if "BODY" in self.server.script:
                self.staged("BODY")
        else:
            return
        kept = Accepted(self.sender or "", tuple(self.recipients), bytes(text))
        self.sender, self.recipients = None, []
        if self.server.script.get("DOT") in (DROP, HANG):
            self.server.accepted.append(kept)
        if not self.staged("DOT"):
            self.server.accepted.append(kept)
            self.say("250 2.0.0 taken")
