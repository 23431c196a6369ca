"""POP3 over loopback against a real portal: poplib, fetchmail, and what happens to deletions."""

from __future__ import annotations

import datetime
import os
import poplib
import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from hornetmail.access.login import AccessRefused
from hornetmail.access.scram import derive
from hornetmail.compose.ground.certificate import self_signed
from hornetmail.core.delivery.queued import Portal
from hornetmail.core.served import Person, Scope
from hornetmail.interfaces.access import IAccess
from hornetmail.mime.headers import decode_text, first
from hornetmail.net.serving.listener import PumpFactory
from hornetmail.net.tls import ServerTLS
from hornetmail.servers.pop3 import POP3Policy, POP3Session, POP3Site, top, unique_id
from hornetmail.testing.scram import ScramClient, b64, unb64
from hornetmail.wire.pop3.server import POP3ServerEngine
from hornetmail.wire.sasl import ScramKeys
from tests.portal.ground import MAIL, TRACE, Bytes, Ground, message, row

T = TypeVar("T")
POLICY = POP3Policy(hostname="mx.example.test", plaintext_login=True)


@implementer(IAccess)
class Doorman:
    """One password for everybody."""

    async def login(self, user: str, password: str, door: str, peer: str) -> Person:
        if password != "pa ss":
            raise AccessRefused("credentials", "no")
        return Person(1, user, 1)

    def offers_scram(self) -> bool:
        return True

    def scram_keys(self, user: str) -> ScramKeys:
        return derive("pa ss", b"0123456789abcdef", 4096)

    async def proved(self, user: str, keys: ScramKeys, right: bool, door: str, peer: str) -> Person:
        return await self.login(user, "pa ss" if right else "", door, peer)

    def scope(self, person: Person) -> Scope:
        return Scope(1, frozenset())


class OverLoopback(TestCase):
    """A server on a free port, a portal behind it."""

    policy = POLICY

    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        await self.ground.start()
        self.site = POP3Site(reactor, Doorman(), self.ground.portal, login_delay=0.0)
        self.factory = PumpFactory(lambda peer: POP3ServerEngine(self.policy), lambda peer: POP3Session(self.site), reactor)  # type: ignore[arg-type]
        self.port: Any = reactor.listenTCP(0, self.factory.listener, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.number = self.port.getHost().port

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.port.stopListening()
        await self.factory.stop(2.0)
        await self.ground.stop()
        self.ground.clean()

    async def delivered(self, number: int, data: bytes = MAIL) -> Portal:
        return await self.ground.portal.deliver(1, message(data, number), row(number), Bytes(data))

    async def do(self, work: Callable[[poplib.POP3], T]) -> T:
        """Something with poplib, logged in, in a thread."""

        def run() -> T:
            client = poplib.POP3("127.0.0.1", self.number, timeout=60)
            try:
                client.user("bob@example.test")
                client.pass_("pa ss")
                return work(client)
            finally:
                client.close()

        return await deferToThread(run)

    async def test_scram(self) -> None:
        """RFC 5034: catches an exchange in other words."""

        def work() -> None:
            with socket.create_connection(("127.0.0.1", self.number), timeout=60) as link, link.makefile("rwb") as file:

                def say(line: bytes) -> bytes:
                    file.write(line + b"\r\n")
                    file.flush()
                    return file.readline()

                file.readline()
                client = ScramClient("bob@example.test", "pa ss")
                challenge = unb64(say(b"AUTH SCRAM-SHA-256 " + b64(client.first)), b"+ ")
                assert client.knows(unb64(say(b64(client.last(challenge))), b"+ "))
                assert say(b"").startswith(b"+OK 0 messages")
                assert say(b"QUIT").startswith(b"+OK")

        await deferToThread(work)

    async def test_poplib(self) -> None:
        """All of RFC 1939 as a client of Python's library sees it, dots and all."""
        copy = await self.delivered(1)
        dots = b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\nlast"
        await self.delivered(2, dots)

        def work(client: poplib.POP3) -> None:
            assert client.stat() == (2, 2 * len(TRACE) + len(MAIL) + len(dots))
            assert client.list()[1] == [b"1 %d" % len(TRACE + MAIL), b"2 %d" % len(TRACE + dots)]
            assert client.list(2) == b"+OK 2 %d" % len(TRACE + dots)
            assert client.uidl()[1][0] == b"1 " + copy.name.encode()
            assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == TRACE + MAIL
            assert b"\r\n".join(client.retr(2)[1]) == TRACE + dots
            assert b"\r\n".join(client.top(1, 1)[1]) + b"\r\n" == TRACE + MAIL[: MAIL.index(b"Hello") + 7]
            assert b"\r\n".join(client.top(1, 0)[1]) + b"\r\n" == TRACE + MAIL[: MAIL.index(b"Hello")]
            client.noop()
            client.dele(1)
            for call in (client.retr, client.dele, client.list, client.uidl):
                with pytest.raises(poplib.error_proto):
                    call(1)  # type: ignore[operator]
            for number in (0, 3):
                with pytest.raises(poplib.error_proto):
                    client.retr(number)
            assert client.stat()[0] == 1
            client.rset()
            assert client.stat()[0] == 2
            client.dele(2)
            assert set(client.capa()) >= {"TOP", "UIDL", "RESP-CODES", "PIPELINING", "UTF8", "LANG"}
            assert client.quit().startswith(b"+OK")

        await self.do(work)
        inbox = await self.ground.portal.folder(1, "INBOX")
        assert [entry.name for entry in await inbox.entries()] == [copy.name]

    async def test_headers_in_utf_8(self) -> None:
        """A client that knows nothing of UTF-8 in headers got it raw, and one that does could not say so (RFC 6856). What is no UTF-8 stays as it came, and an
        address that cannot be written otherwise is a refusal with its code, not half a message."""
        mails = [
            "Subject: Grüße\r\nFrom: Jörg <j@b.test>\r\n\r\ntext ü\r\n".encode(),
            "Subject: Grüße\r\n\r\n".encode() + b"x" * 60 + b"\r\n" * 200_000,
            b"Subject: Gr\xfc\xdfe\r\n\r\ntext\r\n",
            "From: <jörg@büro.test>\r\n\r\ntext\r\n".encode(),
        ]
        for number, mail in enumerate(mails, 1):
            await self.delivered(number, mail)

        def taken(client: poplib.POP3, number: int) -> bytes:
            return b"\r\n".join(client.retr(number)[1]) + b"\r\n"

        def plain(client: poplib.POP3) -> None:
            for number in (1, 2):
                header, _, text = taken(client, number).partition(b"\r\n\r\n")
                assert header.isascii()
                assert decode_text(first(header, b"subject") or b"") == "Grüße"
                assert text == mails[number - 1].partition(b"\r\n\r\n")[2]
                assert b"\r\n".join(client.top(number, 0)[1]).isascii()
            assert taken(client, 3) == TRACE + mails[2]
            for call in (lambda: client.retr(4), lambda: client.top(4, 1)):
                with pytest.raises(poplib.error_proto) as caught:
                    call()
                assert "[UTF8]" in repr(caught.value.args)
            assert client.stat()[0] == 4

        def modern() -> None:
            client = poplib.POP3("127.0.0.1", self.number, timeout=60)
            try:
                assert client.utf8().startswith(b"+OK")
                assert client._shortcmd("LANG en").startswith(b"+OK en ")  # type: ignore[attr-defined]
                assert client._longcmd("LANG")[1] == [b"en English", b"i-default Default language"]  # type: ignore[attr-defined]
                with pytest.raises(poplib.error_proto):
                    client._shortcmd("LANG tlh")  # type: ignore[attr-defined]
                client.user("bob@example.test")
                client.pass_("pa ss")
                for number, mail in enumerate(mails, 1):
                    assert taken(client, number) == TRACE + mail
            finally:
                client.close()

        await self.do(plain)
        await deferToThread(modern)

    async def test_identifiers_stay(self) -> None:
        """A client that leaves mail on the server fetches all of it again, if a message is called otherwise after flags, a restart, or the loss of ``portal.db``
        (RFC 1939 section 7: never reused, never changed)."""
        for number in range(1, 4):
            await self.delivered(number)
        before = await self.do(lambda client: client.uidl()[1])
        assert len({line.split()[1] for line in before}) == 3
        inbox = await self.ground.portal.folder(1, "INBOX")
        await inbox.store([1, 2], add=["\\Seen", "\\Flagged"])
        await inbox.store([3], add=["kept"])
        assert await self.do(lambda client: client.uidl()[1]) == before
        await self.ground.stop()
        database = Path(self.ground.url.removeprefix("sqlite:"))
        assert database.exists()
        for path in database.parent.glob(database.name + "*"):
            path.unlink()
        assert not database.exists()
        await self.ground.start()
        self.site = msgspec.structs.replace(self.site, portal=self.ground.portal)
        after = await self.do(lambda client: client.uidl()[1])
        assert {line.split()[1] for line in after} == {line.split()[1] for line in before}

    async def test_promises(self) -> None:
        """EXPIRE NEVER was promised where mail goes home, or goes some day (RFC 2449 section 6.7); LOGIN-DELAY, which there is not, never."""

        def asked() -> dict[str, list[str]]:
            client = poplib.POP3("127.0.0.1", self.number, timeout=60)
            try:
                return client.capa()
            finally:
                client.close()

        assert not {"EXPIRE", "LOGIN-DELAY"} & set(await deferToThread(asked))
        self.site = msgspec.structs.replace(self.site, expire=lambda: "NEVER")
        assert (await deferToThread(asked))["EXPIRE"] == ["NEVER"]

    async def test_big(self) -> None:
        """More than is answered in one piece, and more than the client reads at once, comes whole."""
        data = b"Subject: big\r\n\r\n" + b"".join(b".%05d\r\n" % number * 10 for number in range(30_000))
        await self.delivered(1, data)
        lines = await self.do(lambda client: client.retr(1)[1])
        assert b"\r\n".join(lines) + b"\r\n" == TRACE + data

    async def test_without_quit_nothing_goes(self) -> None:
        """A connection that breaks deletes nothing (RFC 1939 section 6), and lets the mailbox go."""
        await self.delivered(1)
        await self.do(lambda client: client.dele(1))
        await self.do(lambda client: client.stat())
        assert (await (await self.ground.portal.folder(1, "INBOX")).status()).messages == 1

    async def test_lock(self) -> None:
        """One session a mailbox: the second hears [IN-USE] (RFC 2449 section 8.1.1)."""
        await self.delivered(1)

        def second(_: poplib.POP3) -> str:
            other = poplib.POP3("127.0.0.1", self.number, timeout=60)
            try:
                other.user("bob@example.test")
                with pytest.raises(poplib.error_proto) as caught:
                    other.pass_("pa ss")
                return repr(caught.value.args)
            finally:
                other.close()

        assert "[IN-USE]" in await self.do(second)

    async def test_wrong_password(self) -> None:
        """[AUTH], and after three of them the end."""

        def work() -> list[str]:
            client = poplib.POP3("127.0.0.1", self.number, timeout=60)
            said = []
            for _ in range(3):
                client.user("bob@example.test")
                with pytest.raises(poplib.error_proto) as caught:
                    client.pass_("wrong")
                said.append(repr(caught.value.args))
            with pytest.raises((poplib.error_proto, OSError)):
                client.user("bob@example.test")
            client.close()
            return said

        assert all("[AUTH]" in one for one in await deferToThread(work))

    async def test_claimed(self) -> None:
        """A message that is being handed over is not deleted, the others are, and the client is told (rule 10, RFC 1939 section 6)."""
        copy = await self.delivered(1)
        await self.delivered(2)
        await self.ground.portal.begin_drain(copy)

        def work(client: poplib.POP3) -> str:
            client.dele(1)
            client.dele(2)
            with pytest.raises(poplib.error_proto) as caught:
                client.quit()
            return repr(caught.value.args)

        assert "[SYS/TEMP]" in await self.do(work)
        inbox = await self.ground.portal.folder(1, "INBOX")
        assert [entry.uid for entry in await inbox.entries()] == [1]
        await self.ground.portal.end_drain(copy, delivered=True)
        assert await inbox.entries() == []

    async def test_removed_meanwhile(self) -> None:
        """What somebody deleted over IMAP meanwhile is said to be gone; QUIT does not complain of it."""
        await self.delivered(1)
        await self.delivered(2)
        inbox = await self.ground.portal.folder(1, "INBOX")
        gone: Deferred[None] = Deferred()

        async def remove() -> None:
            await inbox.store([1], add=["\\Deleted"])
            await inbox.expunge()

        def work(client: poplib.POP3) -> str:
            reactor.callFromThread(lambda: Deferred.fromCoroutine(remove()).chainDeferred(gone))  # type: ignore[attr-defined]
            while (self.ground.maildir() / "cur").exists() and len(os.listdir(self.ground.maildir() / "new")) > 1:
                client.noop()
            client.dele(2)
            return client.quit().decode()

        assert (await self.do(work)).startswith("+OK")
        await gone
        assert await inbox.entries() == []

    async def test_pipelining(self) -> None:
        """Many commands in one packet are answered in order; rubbish in between disturbs nothing else."""
        await self.delivered(1)

        def work() -> bytes:
            with socket.create_connection(("127.0.0.1", self.number), timeout=60) as connection:
                connection.sendall(
                    b"CAPA\r\nUSER bob@example.test\r\nPASS pa ss\r\nSTAT\r\n\0\0\r\nRETR 1\r\nDELE 1\r\nRSET\r\nTOP 1 1\r\nQUIT\r\n"
                )
                said = b""
                while piece := connection.recv(65_536):
                    said += piece
                return said

        said = await deferToThread(work)
        heads = [line[:4] for line in said.split(b"\r\n") if line.startswith((b"+OK", b"-ERR"))]
        assert heads == [b"+OK ", b"+OK", b"+OK ", b"+OK ", b"+OK ", b"-ERR", b"+OK ", b"+OK ", b"+OK ", b"+OK ", b"+OK "]

    async def test_fetchmail(self) -> None:
        """fetchmail takes everything, deletes it, and has nothing to complain of."""
        program = shutil.which("fetchmail")
        if program is None:
            self.fail("fetchmail is not installed")
        for number in range(1, 6):
            await self.delivered(number, MAIL.replace(b"one", b"%d" % number))
        home = self.ground.root.parent
        (home / "rc").write_text(
            f"poll 127.0.0.1 protocol POP3 port {self.number} auth password uidl user 'bob@example.test' password 'pa ss' "
            f"fetchall no rewrite mda '/bin/sh -c \"cat >> {home}/taken\"' sslproto ''\n"
        )
        (home / "rc").chmod(0o600)
        out, errors, code = await getProcessOutputAndValue(
            program,
            ["-f", str(home / "rc"), "-N", "-i", str(home / "ids"), "--pidfile", str(home / "pid"), "--bad-header", "accept"],
            env={**os.environ, "HOME": str(home), "FETCHMAILHOME": str(home)},
        )
        assert code == 0, (out, errors)
        assert (home / "taken").read_bytes().count(b"Subject:") == 5
        assert (await (await self.ground.portal.folder(1, "INBOX")).status()).messages == 0


class OverTLS(TestCase):
    """STLS with a real handshake, no log-in without it."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        await self.ground.start()
        certificate, key = self_signed("localhost", datetime.datetime.now(datetime.UTC))
        (self.ground.root / "cert.pem").write_bytes(certificate)
        (self.ground.root / "key.pem").write_bytes(key)
        tls = ServerTLS(self.ground.root / "cert.pem", self.ground.root / "key.pem")
        policy = POP3Policy(hostname="localhost", starttls=True)
        site = POP3Site(reactor, Doorman(), self.ground.portal, login_delay=0.0)
        self.factory = PumpFactory(
            lambda peer: POP3ServerEngine(policy),
            lambda peer: POP3Session(site),
            reactor,
            tls_context_factory=tls,  # type: ignore[arg-type]
        )
        self.port: Any = reactor.listenTCP(0, self.factory.listener, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.number = self.port.getHost().port

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.port.stopListening()
        await self.factory.stop(2.0)
        await self.ground.stop()
        self.ground.clean()

    async def test_stls(self) -> None:
        """The password goes over TLS only; afterwards everything works as before."""
        await self.ground.portal.deliver(1, message(), row(), Bytes(MAIL))

        def work() -> int:
            client = poplib.POP3("127.0.0.1", self.number, timeout=60)
            with pytest.raises(poplib.error_proto):
                client.user("bob@example.test")
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            client.stls(context)
            client.user("bob@example.test")
            client.pass_("pa ss")
            count = client.stat()[0]
            client.quit()
            return count

        assert await deferToThread(work) == 1

    async def test_injection(self) -> None:
        """Commands sent along with STLS are not run inside TLS: the connection ends."""

        def work() -> bytes:
            with socket.create_connection(("127.0.0.1", self.number), timeout=60) as connection:
                connection.sendall(b"STLS\r\nUSER mallory\r\n")
                said = b""
                while piece := connection.recv(65_536):
                    said += piece
                return said

        said = await deferToThread(work)
        assert said.count(b"+OK") == 1
        assert b"-ERR plaintext behind STLS" in said


@pytest.mark.parametrize("cut", range(1, 40))
def test_top_at_every_edge(cut: int) -> None:
    """The blank line may fall on any edge of the pieces."""
    data = b"A: b\r\nC: d\r\n\r\none\r\ntwo\r\nthree\r\n"

    class Cut(Bytes):
        async def chunks(self) -> Any:
            for at in range(0, len(self.data), cut):
                yield self.data[at : at + cut]

    async def collect(body: Cut, lines: int) -> bytes:
        return b"".join([piece async for piece in top(body.chunks(), lines)])

    def now(body: Cut, lines: int) -> bytes:
        found: list[bytes] = []
        Deferred.fromCoroutine(collect(body, lines)).addCallback(found.append)
        return found[0]

    assert now(Cut(data), 0) == b"A: b\r\nC: d\r\n\r\n"
    assert now(Cut(data), 2) == b"A: b\r\nC: d\r\n\r\none\r\ntwo\r\n"
    assert now(Cut(data), 99) == data
    assert now(Cut(b"\r\nbody\r\nmore"), 1) == b"\r\nbody\r\n"
    assert now(Cut(b"A: b\r\n"), 1) == b"A: b\r\n"


def test_unique_id() -> None:
    """RFC 1939 section 7 allows 1 to 70 printable characters; other names still give something stable and unique."""
    assert unique_id("1.R2P0.host,S=1,E=2") == "1.R2P0.host,S=1,E=2"
    for name in ("x" * 71, "with space", "", "ü"):
        assert 0 < len(unique_id(name)) <= 70
        assert unique_id(name).isalnum()
    assert unique_id("x" * 71) != unique_id("x" * 72)
