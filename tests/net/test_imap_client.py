"""The awaitable IMAP client against real sockets: a server that works, and servers that misbehave."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from hornetmail.core.served import Host, TLSPolicy
from hornetmail.net.clients import imap
from hornetmail.net.clients.dial import Dialer
from hornetmail.net.clients.imap import Broken, IMAPClient, Refused, Timeouts, Trouble
from hornetmail.net.tls import ClientTLS, ServerTLS
from hornetmail.testing.resolver import FakeResolver
from hornetmail.testing.scripted_imap import ScriptedIMAP
from hornetmail.wire.engine import Chunk, Event
from hornetmail.wire.imap.client import commands as c
from hornetmail.wire.sasl_client import Account
from tests.net.certificates import Authority

reactor: Any = default_reactor
PATIENT = Timeouts(connect=60, reply=60, command=60, text=60, verdict=60)
ME = Account("a@one.example", "secret")
MAIL = b"Message-ID: <1@x>\r\n\r\n" + b"body\r\n" * 30_000


def text(*pieces: bytes) -> Callable[[], AsyncIterator[bytes]]:
    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return chunks


class Said(Protocol):
    """Says a thing to whoever comes, and hears nothing."""

    transport: Any

    def connectionMade(self) -> None:
        self.factory.connections.append(self)  # type: ignore[union-attr]
        self.transport.write(self.factory.said)  # type: ignore[union-attr]


class TestAgainstAServer(TestCase):
    timeout = 300

    def setUp(self) -> None:
        self.server = ScriptedIMAP(reactor, {"a@one.example": "secret", "b@one.example": "x"}, master=("master", "key"))
        self.host = Host("imap.test", self.server.listen())
        self.addCleanup(self.server.close)
        self.dialer = Dialer(reactor, FakeResolver({"imap.test": ["127.0.0.1"]}))

    async def connect(self, account: Account = ME, tls: TLSPolicy = TLSPolicy.NONE, timeouts: Timeouts = PATIENT) -> IMAPClient:
        client = await IMAPClient.connect(self.dialer, self.host, account, tls=tls, timeouts=timeouts)
        self.addCleanup(client.logout)
        return client

    async def broken(self, **more: Any) -> Broken:
        error = await self.assertFailure(Deferred.fromCoroutine(self.connect(**more)), Broken)
        assert isinstance(error, Broken)
        return error

    async def test_append_and_fetch(self) -> None:
        """A message comes back as it went, with flags and date, whatever the pieces; a second one follows on the same connection."""
        client = await self.connect()
        for size in (1, 100, 70_000):
            pieces = [MAIL[at : at + size] for at in range(0, 300, size)] + [
                MAIL[300 // size * size + (size if 300 % size else 0) :]
            ]
            data = b"".join(pieces)
            code = await client.append(c.Append(b"INBOX", len(data), ("\\Seen", "$X"), 837596665.0), text(*pieces))
            assert code.word == "APPENDUID"
        kept = self.server.of("a@one.example")["INBOX"].kept
        assert kept[0].data == MAIL
        assert (kept[0].flags, kept[0].date) == (("\\Seen", "$X"), 837596665.0)
        await client.ask(c.Select(b"INBOX"))
        got: list[bytes] = []
        told: list[Event] = []

        async def heard(event: Event) -> None:
            if isinstance(event, Chunk):
                got.append(event.data)
                await pause()
            else:
                told.append(event)

        await client.ask(c.UidFetch(((1, 1),), ("UID", "BODY.PEEK[]"), len(MAIL)), heard)
        assert b"".join(got) == MAIL
        assert isinstance(told[-1], c.Fetched)
        assert told[-1].uid == 1

    async def test_refusals_leave_the_connection(self) -> None:
        """TRYCREATE and OVERQUOTA come before the message does; what is asked next is answered."""
        client = await self.connect()
        self.server.quota = 100
        for name, code in ((b"gone", "TRYCREATE"), (b"INBOX", "OVERQUOTA")):
            refused = await self.assertFailure(
                Deferred.fromCoroutine(client.append(c.Append(name, len(MAIL)), text(MAIL))), Refused
            )
            assert refused.code == code
        assert await client.ask(c.Noop())

    async def test_uncertain(self) -> None:
        """Lost behind the last byte: the server may have it, and has; lost before: it cannot."""
        client = await self.connect()
        self.server.faults.append(("APPEND", "store and drop"))
        error = await self.assertFailure(Deferred.fromCoroutine(client.append(c.Append(b"INBOX", 3), text(b"abc"))), Broken)
        assert not error.certain
        assert len(self.server.of("a@one.example")["INBOX"].kept) == 1
        client = await self.connect()
        error = await self.assertFailure(Deferred.fromCoroutine(client.append(c.Append(b"INBOX", 4), text(b"abc"))), Broken)
        assert error.certain
        assert not client.alive
        client = await self.connect()

        async def breaks() -> AsyncIterator[bytes]:
            yield b"abc"
            raise OSError("the disk")

        error = await self.assertFailure(Deferred.fromCoroutine(client.append(c.Append(b"INBOX", 3), breaks)), Broken)
        assert error.certain
        assert error.trouble is Trouble.OURS
        assert len(self.flushLoggedErrors(OSError)) == 1
        assert len(self.server.of("a@one.example")["INBOX"].kept) == 1

    async def test_log_in(self) -> None:
        """As oneself, for somebody else, without SASL; what is refused for good is told from what is not."""
        await self.connect(Account("master", "key", "b@one.example"))
        await self.connect(Account("b@one.example*master", "key"))
        assert (await self.broken(account=Account("a@one.example", "wrong"))).trouble is Trouble.REFUSED
        self.server.faults.append(("AUTHENTICATE", b"%t NO [UNAVAILABLE] the directory is away"))
        assert (await self.broken()).trouble is Trouble.LATER
        self.server.capabilities = ["IMAP4rev1", "AUTH=PLAIN"]
        await self.connect()
        self.server.capabilities = ["IMAP4rev1"]
        await self.connect()
        assert (await self.broken(account=Account("master", "key", "b@one.example"))).trouble is Trouble.REFUSED
        self.server.capabilities = ["IMAP4rev1", "LOGINDISABLED"]
        assert (await self.broken()).trouble is Trouble.REFUSED

    async def test_no_password_without_tls(self) -> None:
        """Who takes STARTTLS away, or greets as if we were known, would read the password, or our mail."""
        for tls in (TLSPolicy.MAY, TLSPolicy.VERIFY):
            assert (await self.broken(tls=tls)).trouble is Trouble.TLS
        self.server.capabilities.append("STARTTLS")
        assert (await self.broken(tls=TLSPolicy.MAY)).trouble is Trouble.TLS
        self.server.greeting = b"* PREAUTH hello"
        assert (await self.broken()).trouble is Trouble.PROTOCOL
        assert not any("AUTHENTICATE" in each or "LOGIN" in each for each in self.server.said)

    async def test_bye_anywhere(self) -> None:
        """BYE, or a line that is none, at any step is an end with a name, and no command is done twice."""
        for verb in ("CAPABILITY", "AUTHENTICATE"):
            self.server.faults.append((verb, "bye"))
            assert (await self.broken()).trouble is Trouble.LOST
        for said in (b"nonsense", b"h99 OK", b"+ more", b"* LIST () NIL {4294967295}"):
            self.server.faults.append(("NOOP", said))
            client = await self.connect()
            error = await self.assertFailure(Deferred.fromCoroutine(client.ask(c.Noop())), Broken)
            assert error.trouble is Trouble.PROTOCOL, said
        self.server.greeting = b"* BYE full"
        assert (await self.broken()).trouble is Trouble.LATER

    async def test_silence(self) -> None:
        """A server that says nothing is given up."""
        client = await self.connect(timeouts=Timeouts(connect=60, reply=60, command=60, text=60, verdict=0.2))
        self.server.faults.append(("APPEND", "silence"))
        error = await self.assertFailure(Deferred.fromCoroutine(client.append(c.Append(b"INBOX", 1), text(b"a"))), Broken)
        assert (error.trouble, error.certain) == (Trouble.LOST, False)

    async def test_flood(self) -> None:
        """A server that talks while nobody asks is not read on and on."""
        factory = Factory.forProtocol(Said)
        factory.connections = []  # type: ignore[attr-defined]
        factory.said = b"* PREAUTH hi\r\n" + b"* 1 EXISTS\r\n" * 4_000_000  # type: ignore[attr-defined]
        factory.noisy = False
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        link, _ = await self.dialer.connect(Host("imap.test", port.getHost().port), imap.LinkFactory(reactor))
        assert isinstance(link, imap.Link)
        assert isinstance(await link.heard(60), c.Greeted)
        while not link.engine.buffered > 65_536:
            await pause()
        for _ in range(20):
            await pause()
        assert link.engine.buffered < 1_000_000
        for _ in range(30_000):
            assert isinstance(await link.heard(60), c.Exists)
        link.fail("enough")
        for each in factory.connections:  # type: ignore[attr-defined]
            each.transport.abortConnection()


async def pause() -> None:
    """A turn of the reactor."""
    waited: Deferred[None] = Deferred()
    reactor.callLater(0, waited.callback, None)
    await waited


class TestTLS(TestCase):
    timeout = 300

    async def test_certificates(self) -> None:
        """Over TLS from the first byte and by STARTTLS: another's certificate is refused under VERIFY before any password is sent, and taken under MAY."""
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        authority = Authority(directory)
        certificate, key = authority.issue("imap", names=["imap.test"])
        server = ScriptedIMAP(reactor, {"a@one.example": "secret"})
        tls = ServerTLS(certificate, key)

        class Starting(type(server.buildProtocol(None))):  # type: ignore[misc]
            def _do_starttls(self, tag: bytes, cursor: Any) -> bytes:
                self._say(tag + b" OK go")
                self.transport.startTLS(tls)
                return b""

        server.buildProtocol = lambda addr: Starting(server)  # type: ignore[method-assign]
        server.capabilities.append("STARTTLS")
        self.addCleanup(server.close)
        dialer = Dialer(reactor, FakeResolver({"imap.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]}))
        port = server.listen()
        known = ClientTLS(authority.roots)
        client = await IMAPClient.connect(
            dialer, Host("imap.test", port), ME, tls=TLSPolicy.VERIFY, timeouts=PATIENT, client_tls=known
        )
        assert client.tls
        await client.logout()
        server.said.clear()
        for name, context in (("other.test", known), ("imap.test", None)):
            tried = IMAPClient.connect(dialer, Host(name, port), ME, tls=TLSPolicy.VERIFY, timeouts=PATIENT, client_tls=context)
            error = await self.assertFailure(Deferred.fromCoroutine(tried), Broken)
            assert error.trouble is Trouble.TLS
        assert not any("AUTHENTICATE" in each for each in server.said)
        client = await IMAPClient.connect(dialer, Host("other.test", port), ME, tls=TLSPolicy.MAY, timeouts=PATIENT)
        assert client.tls
        await client.logout()
