"""A question over HTTP(S) and its answer, against a real server: what is not as it should be is an error that says so, in bounded time and memory."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from hornetmail.net import ask
from hornetmail.net.ask import Answer, Asker, AskError
from hornetmail.net.tls import HTTPSPolicy
from tests.net.certificates import Authority


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/hang":
            self.server.released.wait(30)  # type: ignore[attr-defined]
            return
        self.send_response(302 if self.path == "/elsewhere" else 200)
        self.send_header("Content-Type", "Text/Plain; charset=x")
        self.send_header("Location", "/")
        if self.path == "/cut":
            self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(
            b"x" * 100_000 if self.path == "/long" else b"|".join((body, self.headers.get("Authorization", "").encode()))
        )

    def log_message(self, format: str, *args: object) -> None:
        """Not into the test's output."""


class TestAsker(TestCase):
    def serve(self, *, names: list[str] | None = None) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.released = threading.Event()  # type: ignore[attr-defined]
        if names is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.authority.issue("server", names=names))
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()

        def close() -> None:
            server.released.set()  # type: ignore[attr-defined]
            server.shutdown()
            server.server_close()
            thread.join()

        self.addCleanup(close)
        return f"{'http' if names is None else 'https'}://127.0.0.1:{server.server_port}"

    def setUp(self) -> None:
        top = Path(self.mktemp())
        top.mkdir()
        self.authority = Authority(top)

    async def refused(self, url: str, asker: Asker | None = None, **more: Any) -> str:
        with pytest.raises(AskError) as caught:
            await (asker or Asker(reactor)).post(url, "a/b", b"question", **more)
        return str(caught.value)

    async def test_answers(self) -> None:
        """Catches a body or a log-in that does not arrive, and a redirect that is followed to where nobody sent us."""
        url, asker = self.serve(), Asker(reactor)
        assert await asker.post(url, "a/b", b"question") == Answer(200, "text/plain", b"question|")
        said = await asker.post(url, "a/b", b"", user="mé", password="pässword")
        assert said.body == b"|Basic bcOpOnDDpHNzd29yZA=="
        assert (await asker.post(f"{url}/elsewhere", "a/b", b"")).status == 302

    async def test_what_is_no_answer(self) -> None:
        """Catches an answer without end that fills the memory, one that is cut off and taken, a server that hangs, one that is not there."""
        url = self.serve()
        assert "too long" in await self.refused(f"{url}/long", limit=1000)
        assert "cut off" in await self.refused(f"{url}/cut")
        self.patch(ask, "ANSWER_SECONDS", 0.2)
        assert "no answer in time" in await self.refused(f"{url}/hang")
        self.patch(ask, "ANSWER_SECONDS", 40.0)
        assert "refused" in await self.refused("http://127.0.0.1:1/")
        assert await self.refused("gopher://127.0.0.1/")

    async def test_whom_it_talks_to(self) -> None:
        """Catches a log-in that is sent to whoever answers: another name's certificate, or one of an unknown authority."""
        ours = Asker(reactor, HTTPSPolicy(self.authority.roots))
        good = self.serve(names=["127.0.0.1"])
        assert (await ours.post(good, "a/b", b"question")).body == b"question|"
        assert await self.refused(good)
        assert await self.refused(self.serve(names=["other.test"]), ours)
