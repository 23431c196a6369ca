"""Stands between HornetMail and its primary, passes everything on, and remembers which messages came to their final dot on which connection."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress

MARK = re.compile(rb"^X-Mark: (\S+)\r?$", re.MULTILINE)


class Passage:
    """One connection: ``marks`` of the messages whose final dot came through, in order."""

    def __init__(self, number: int, client: socket.socket, server: socket.socket) -> None:
        self.number = number
        self.client = client
        self.server = server
        self.marks: list[str] = []
        self.text = False
        self._rest = b""
        self._body = bytearray()

    def up(self) -> None:
        """From HornetMail to the primary, until the former is gone."""
        with suppress(OSError):
            while data := self.client.recv(65536):
                self._read(data)
                self.server.sendall(data)
        with suppress(OSError):
            # The primary acts on what it got, and has nobody left to answer.
            self.server.shutdown(socket.SHUT_WR)

    def down(self) -> None:
        """From the primary to HornetMail. The text begins after 354 (RFC 5321 section 4.1.1.4)."""
        with suppress(OSError):
            while data := self.server.recv(65536):
                if any(line.startswith(b"354") for line in data.split(b"\r\n")):
                    self.text = True
                with suppress(OSError):
                    self.client.sendall(data)
        for each in (self.client, self.server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _read(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if not self.text:
                continue
            if line != b".":
                self._body += line + b"\r\n"
                continue
            found = MARK.search(self._body)
            if found:
                self.marks.append(found.group(1).decode())
            self._body.clear()
            self.text = False


class Witness:
    """Listens on ``port`` and passes on to ``primary``, the primary's port. Closed for connections while the primary is."""

    def __init__(self, primary: int) -> None:
        self._primary = primary
        self._lock = threading.Lock()
        self._open: dict[int, Passage] = {}
        self._count = 0
        self._watched: dict[int, Passage] | None = None
        self._listener: socket.socket | None = None
        self.port = 0

    def start(self) -> None:
        """Take connections, on the same port each time."""
        listener = self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = listener.getsockname()[1]
        threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def watch(self) -> None:
        """From now on connections that are open, or come, are kept for ``seen``."""
        with self._lock:
            self._watched = dict(self._open)

    @property
    def quiet(self) -> bool:
        """HornetMail has no connection left, and all that it sent is read."""
        with self._lock:
            return not self._open

    def seen(self) -> list[Passage]:
        """The connections since ``watch``."""
        with self._lock:
            watched, self._watched = self._watched, None
        assert watched is not None
        return list(watched.values())

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._primary), 10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._count += 1
            passage = self._open[self._count] = Passage(self._count, client, server)
            if self._watched is not None:
                self._watched[passage.number] = passage
        answers = threading.Thread(target=passage.down, daemon=True)
        answers.start()
        passage.up()
        with self._lock:
            del self._open[passage.number]
        answers.join()
        client.close()
        server.close()
