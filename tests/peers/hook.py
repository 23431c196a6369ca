"""An HTTP receiver for webhooks, in a thread of the test's own process."""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Posted(NamedTuple):
    """One POST: its path, its headers by lower-case name, and its body as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Decoded."""
        return json.loads(self.body)


class HookReceiver:
    """``status`` is what it answers. ``posted``: what came, refused or not. ``context``: speaks TLS."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.status = 200
        self.posted: list[Posted] = []
        owner = self

        class Receive(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.posted.append(Posted(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(owner.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                return

        self._server = Server(("127.0.0.1", 0), Receive)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def events(self, code: str = "") -> list[tuple[str, str]]:
        """``(event, code)`` of every alarm that came, in order."""
        found = [(one["event"], one["code"]) for each in self.posted for one in each.json["alarms"]]
        return [each for each in found if not code or each[1] == code]

    def stop(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
