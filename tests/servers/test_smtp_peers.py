"""Python's smtplib and swaks against the doors, over loopback: both must be content."""

from __future__ import annotations

import shutil
import smtplib
import ssl
import tempfile
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from hornetmail.net.serving.listener import PumpFactory
from hornetmail.net.tls import ServerTLS
from hornetmail.servers import smtp_policy
from hornetmail.servers.smtp_policy import SMTPPolicy
from hornetmail.wire.smtp.server import ServerEngine
from tests.net.certificates import Authority
from tests.servers.smtp_fakes import World

reactor: Any = default_reactor
SWAKS = Path("/usr/bin/swaks")


class Doors(TestCase):
    """Listens on loopback."""

    timeout = 30

    def serve(self, policy: SMTPPolicy, *, tls: bool = False, implicit: bool = False) -> tuple[World, int]:
        world = World(reactor, policy)
        context = None
        if tls:
            folder = Path(tempfile.mkdtemp(prefix="hornetmail-test-"))
            self.addCleanup(shutil.rmtree, folder)
            self.authority = Authority(folder)
            context = ServerTLS(*self.authority.issue("server", names=["localhost", "127.0.0.1"]))
        factory = PumpFactory(
            lambda peer: ServerEngine(policy.engine(starttls=tls and not implicit)),
            world.session,
            reactor,
            tls_context_factory=context,
            implicit_tls=implicit,
        )
        port = reactor.listenTCP(0, factory.listener, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.addCleanup(lambda: Deferred.fromCoroutine(factory.stop(2)))
        return world, port.getHost().port

    def roots(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority.roots))

    async def test_smtplib_at_the_mx_door(self) -> None:
        """Would catch an answer that smtplib stumbles over: greeting, EHLO, refusals, dots, 8-bit, several messages, QUIT."""
        world, port = self.serve(smtp_policy.mx("mx.hornet.test"))

        def talk() -> dict[str, tuple[int, bytes]]:
            with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
                client.ehlo()
                assert client.has_extn("pipelining")
                refused: dict[str, tuple[int, bytes]] = client.sendmail(
                    "a@far.test",
                    ["alice@example.test", "nobody@example.test"],
                    b"Subject: x\r\n\r\n.dot\r\n..\r\n",
                    ["BODY=8BITMIME"],
                )
                message = EmailMessage()
                message["From"], message["To"], message["Subject"] = "a@far.test", "müller@example.test", "Grüße"
                message.set_content("x" * 5_000_000)
                client.send_message(message)
                assert client.noop()[0] == 250
                assert client.verify("alice")[0] == 252
                assert client.rset()[0] == 250
            return refused

        refused = await deferToThread(talk)
        assert refused == {"nobody@example.test": (550, b"5.1.1 no such user")}
        assert world.queue.bodies[0] == b"Subject: x\r\n\r\n.dot\r\n..\r\n"
        assert len(world.queue.bodies[1]) > 5_000_000
        assert world.queue.messages[1].envelope.smtputf8

    async def test_smtplib_submits(self) -> None:
        """Would catch STARTTLS, implicit TLS or a log-in that a common client cannot do."""
        for implicit in (False, True):
            world, port = self.serve(smtp_policy.submission("localhost"), tls=True, implicit=implicit)
            roots = self.roots()

            def talk(implicit: bool = implicit, port: int = port, roots: ssl.SSLContext = roots) -> None:
                if implicit:
                    client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", port, timeout=60, context=roots)
                else:
                    client = smtplib.SMTP("localhost", port, timeout=60)
                    client.starttls(context=roots)
                with client:
                    with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
                        client.login("alice@example.test", "wrong")
                    client.login("alice@example.test", "secret")
                    client.sendmail("alice@example.test", ["x@far.test"], b"Subject: x\r\nBcc: y@far.test\r\n\r\nhi\r\n")

            await deferToThread(talk)
            assert world.queue.bodies == [b"Subject: x\r\n\r\nhi\r\n"]
            assert world.queue.messages[0].origin.tls

    async def swaks(self, port: int, *arguments: str) -> tuple[str, int]:
        command = ["--server", "127.0.0.1", "--port", str(port), "--helo", "client.test", "--timeout", "10", *arguments]
        out, err, code = await getProcessOutputAndValue(str(SWAKS), command, env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"})
        return (out + err).decode("utf-8", "replace"), code

    async def test_swaks(self) -> None:
        """Would catch what swaks complains about: pipelining, AUTH, and the exit codes of refusals."""
        if not SWAKS.exists():
            self.fail("swaks is not installed (Debian package swaks)")
        world, port = self.serve(smtp_policy.mx("mx.hornet.test"))
        text, code = await self.swaks(port, "--from", "a@far.test", "--to", "alice@example.test,bob@example.test", "--pipeline")
        assert code == 0, text
        assert "***" not in text, text
        assert len(world.queue.messages[0].envelope.recipients) == 2
        text, code = await self.swaks(port, "--from", "a@far.test", "--to", "nobody@example.test")
        assert code == 24, text
        world, port = self.serve(smtp_policy.submission("localhost", plaintext=True))
        login = ("--auth", "LOGIN", "--auth-user", "alice@example.test", "--auth-password", "secret")
        text, code = await self.swaks(port, *login, "--from", "alice@example.test", "--to", "x@far.test")
        assert code == 0, text
        assert "***" not in text, text
        assert world.queue.messages[0].origin.login == "alice@example.test"
