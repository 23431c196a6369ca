"""The door under TLS, on real sockets."""

from __future__ import annotations

import hashlib
import imaplib
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hornetmail.net.tls import ServerTLS
from hornetmail.servers.imap.site import ImapPolicy
from hornetmail.testing.scram import ScramClient, b64, unb64
from tests.net.certificates import Authority
from tests.servers.imap.door import SIMPLE, Door


class UnderTLS(TestCase):
    """A door with a certificate for 127.0.0.1; passwords are taken under TLS only."""

    async def start(self, *, implicit: bool) -> None:
        folder = Path(tempfile.mkdtemp(prefix="hm-imap-"))
        self.addCleanup(shutil.rmtree, folder)
        authority = Authority(folder)
        self.roots = str(authority.roots)
        self.door = Door(reactor, ImapPolicy(starttls=not implicit))
        self.door.inbox.add(SIMPLE)
        self.factory = self.door.factory(ServerTLS(*authority.issue("imap", names=["127.0.0.1"])), implicit=implicit)
        self.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.factory.listener)
        self.addCleanup(self.stop)

    async def stop(self) -> None:
        await self.port.stopListening()
        await self.factory.stop(0)

    async def client(self, work: Callable[[int, ssl.SSLContext], Any]) -> Any:
        return await deferToThread(work, self.port.getHost().port, ssl.create_default_context(cafile=self.roots))

    async def test_starttls(self) -> None:
        """Catches a handshake that fails, capabilities from before it that stay, and a password taken before it."""
        await self.start(implicit=False)

        def work(port: int, context: ssl.SSLContext) -> None:
            with imaplib.IMAP4("127.0.0.1", port) as client:
                assert "LOGINDISABLED" in client.capabilities
                client.starttls(context)
                assert "LOGINDISABLED" not in client.capabilities
                assert "STARTTLS" not in client.capabilities
                client.login("alice@example.test", "secret")
                assert client.select()[1] == [b"1"]
                assert client.fetch("1", "BODY[TEXT]")[1][0][1] == b"Hello Alice\r\n"

        await self.client(work)

    async def test_from_the_start(self) -> None:
        """Catches a greeting that is lost, or STARTTLS offered where TLS is there."""
        await self.start(implicit=True)

        def work(port: int, context: ssl.SSLContext) -> None:
            with imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=context) as client:
                assert "STARTTLS" not in client.capabilities
                client.login("alice@example.test", "secret")
                assert client.select()[1] == [b"1"]

        await self.client(work)

    async def test_commands_behind_starttls(self) -> None:
        """Catches plaintext that is executed inside TLS (STARTTLS injection)."""
        await self.start(implicit=False)

        def work(port: int, context: ssl.SSLContext) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                client.recv(1000)
                client.sendall(b"a STARTTLS\r\nb NOOP\r\n")
                heard = b""
                while data := client.recv(1000):
                    heard += data
                return heard

        assert await self.client(work) == b"* BYE Plaintext behind STARTTLS\r\n"

    async def test_plus(self) -> None:
        """RFC 5802 section 6, RFC 5929 section 4: catches a proof that is good on another channel too, and a client that was told there is no binding."""
        await self.start(implicit=True)

        def exchange(port: int, context: ssl.SSLContext, mechanism: bytes, make: Callable[[bytes], ScramClient]) -> list[bytes]:
            raw = socket.create_connection(("127.0.0.1", port), timeout=60)
            with context.wrap_socket(raw, server_hostname="127.0.0.1") as link, link.makefile("rwb") as file:

                def say(line: bytes) -> bytes:
                    file.write(line + b"\r\n")
                    file.flush()
                    return file.readline()

                greeting = file.readline()
                certificate = link.getpeercert(True)
                assert certificate is not None
                client = make(certificate)
                first = say(b"a AUTHENTICATE " + mechanism + b" " + b64(client.first))
                if not first.startswith(b"+ "):
                    return [greeting, first]
                return [greeting, say(b64(client.last(unb64(first, b"+ ")))), say(b"")]

        def work(port: int, context: ssl.SSLContext) -> None:
            def good(certificate: bytes) -> ScramClient:
                bound = hashlib.sha256(certificate).digest()
                return ScramClient("alice@example.test", "secret", header="p=tls-server-end-point,,", bound=bound)

            def elsewhere(certificate: bytes) -> ScramClient:
                return ScramClient("alice@example.test", "secret", header="p=tls-server-end-point,,", bound=bytes(32))

            said = exchange(port, context, b"SCRAM-SHA-256-PLUS", good)
            assert b" AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 " in said[0]
            assert said[2].startswith(b"a OK ")
            said = exchange(port, context, b"SCRAM-SHA-256-PLUS", elsewhere)
            assert said[1].startswith(b"a NO [AUTHENTICATIONFAILED] Nonce or channel binding")
            fooled = exchange(
                port, context, b"SCRAM-SHA-256", lambda _: ScramClient("alice@example.test", "secret", header="y,,")
            )
            assert fooled[1].startswith(b"a NO [AUTHENTICATIONFAILED] Channel binding is offered here")
            plain = exchange(port, context, b"SCRAM-SHA-256", lambda _: ScramClient("alice@example.test", "secret"))
            assert plain[2].startswith(b"a OK ")

        await self.client(work)
