"""The awaitable SMTP client against real sockets: our own server, and servers that misbehave."""

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

from hornetmail.core.failover.verdict import Stage
from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.net.clients.dial import Dialer
from hornetmail.net.clients.smtp import Broken, SMTPClient, Timeouts
from hornetmail.net.serving.listener import PumpFactory
from hornetmail.net.tls import ClientTLS, ServerTLS
from hornetmail.servers import smtp_policy
from hornetmail.testing.resolver import FakeResolver
from hornetmail.wire.smtp.server import ServerEngine
from tests.net.certificates import Authority
from tests.servers.smtp_fakes import World

reactor: Any = default_reactor
QUICK = Timeouts(connect=5, reply=5, data=5, dot=5)


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


class Script(Protocol):
    """A server that answers line by line from a dictionary of verbs; ``None`` closes, ``""`` keeps silent from then on."""

    transport: Any

    def connectionMade(self) -> None:
        self.buffer = b""
        self.text = self.mute = False
        self.factory.connections.append(self)  # type: ignore[union-attr]
        self.reply("GREETING")

    def dataReceived(self, data: bytes) -> None:
        self.factory.received.append(data)  # type: ignore[union-attr]
        self.buffer += data
        while b"\r\n" in self.buffer and not self.transport.disconnecting and not self.mute:
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            if self.text:
                if line == b".":
                    self.text = False
                    self.reply("DOT")
                continue
            self.reply(line.decode().split(" ")[0].split(":")[0].upper())

    def reply(self, verb: str) -> None:
        answers = self.factory.answers  # type: ignore[union-attr]
        answer = answers.get(verb, "250 ok")
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        self.mute = answer == ""
        if answer is None:
            self.transport.loseConnection()
        elif answer:
            self.text = answer.startswith("354")
            self.transport.write(answer.replace("\n", "\r\n").encode() + b"\r\n")
            if answer.startswith("421"):
                self.transport.loseConnection()


class ScriptFactory(Factory):
    protocol = Script
    noisy = False

    def __init__(self, **answers: Any) -> None:
        usual = {"GREETING": "220 hi", "EHLO": "250-script\n250 PIPELINING", "DATA": "354 go", "DOT": "250 2.0.0 done"}
        self.answers: dict[str, Any] = {**usual, **answers}
        self.connections: list[Script] = []
        self.received: list[bytes] = []


class Late(Script):
    """Says what it had to say a command later, once the factory is ``late``; first of all the stray line."""

    def reply(self, verb: str) -> None:
        factory: Any = self.factory
        if not factory.late or verb == "GREETING":
            super().reply(verb)
            return
        answer = factory.answers.get(verb, "250 ok")
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        said, factory.owed = factory.owed, answer
        self.transport.write(said.encode() + b"\r\n")


class LateFactory(ScriptFactory):
    protocol = Late

    def __init__(self, stray: str, **answers: Any) -> None:
        super().__init__(**answers)
        self.late = False
        self.owed = stray


class ClientCase(TestCase):
    """Listens on loopback and dials."""

    timeout = 20

    def setUp(self) -> None:
        self.resolver = FakeResolver({"mx.test": ["127.0.0.1"], "wrong.test": ["127.0.0.1"]})
        self.dialer = Dialer(reactor, self.resolver)

    def listen(self, factory: Any) -> int:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def connect(self, port: int, **more: Any) -> SMTPClient:
        more = {"hello": "client.test", "tls": TLSPolicy.NONE, "timeouts": QUICK, **more}
        client = await SMTPClient.connect(self.dialer, Host(more.pop("name", "mx.test"), port), **more)
        self.addCleanup(self.gone, client)
        return client

    async def gone(self, client: SMTPClient) -> None:
        """The socket is closed before the next test (trial would complain of a dirty reactor)."""
        done: Deferred[None] = Deferred()
        client._link.on_lost = None
        if client._link.transport.connected:
            original: Callable[..., None] = client._link.connectionLost
            client._link.connectionLost = lambda reason=None: (original(reason), done.callback(None))  # type: ignore[method-assign,assignment]
            client.abort()
            if client._link.transport.connected:
                client._link.transport.abortConnection()
            await done

    async def send(self, client: SMTPClient, *recipients: str, body: tuple[bytes, ...] = (b"Subject: x\r\n\r\nhi\r\n",)) -> Any:
        return await client.send(
            "a@b.test",
            [Recipient(r) for r in recipients],
            pieces(*body),
            size=sum(map(len, body)),
            eight_bit=False,
            smtputf8=False,
        )

    async def broken(self, awaitable: Any) -> Broken:
        try:
            await awaitable
        except Broken as error:
            return error
        raise AssertionError("it did not break")


class AgainstOurServer(ClientCase):
    """Client and server of our own, over loopback."""

    def setUp(self) -> None:
        super().setUp()
        self.world = World(reactor, smtp_policy.mx("mx.test"))
        self.factory = PumpFactory(self.world.engine, self.world.session, reactor)
        self.port = self.listen(self.factory.listener)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.factory.stop(1)))

    async def test_many_messages_over_one_connection(self) -> None:
        """Would catch a body changed on the way (dots, edges, 2 MB), answers in the wrong order, or a state left over from the last message."""
        client = await self.connect(self.port)
        big = b"".join(b".%d a line\r\n..\r\n" % n for n in range(60_000))
        cuts = tuple(big[n : n + 10_007] for n in range(0, len(big), 10_007))
        for body in ((b".\r\n..\r\n",), cuts, (b"x\r\n.", b"\r\n.\r\n"), (b"",)):
            answers = await self.send(client, "alice@example.test", "nobody@example.test", "bob@example.test", body=body)
            assert [(a.stage, a.reply.code) for a in answers] == [(Stage.DOT, 250), (Stage.RCPT, 550), (Stage.DOT, 250)]
            assert self.world.queue.bodies[-1] == b"".join(body)
        assert client.used == 4
        assert [r.address for r in self.world.queue.messages[-1].envelope.recipients] == [
            "alice@example.test",
            "bob@example.test",
        ]
        await client.quit()
        assert not client.alive

    async def test_asking(self) -> None:
        """Would catch a callforward that leaves a transaction open or mixes up MAIL and RCPT."""
        client = await self.connect(self.port)
        assert (await client.ask("", "nobody@example.test")).code == 550
        assert (await client.ask("", "alice@example.test")).code == 250
        answers = await self.send(client, "alice@example.test")
        assert answers[0].reply.completed

    async def test_asking_for_other_letters(self) -> None:
        """Would catch an address in UTF-8 said without SMTPUTF8, or to a server that does not offer it."""
        client = await self.connect(self.port)
        assert (await client.ask("", "jürgen@example.test")).code == 250
        del client.extensions["SMTPUTF8"]
        assert (await client.ask("", "jürgen@example.test")).enhanced == "5.6.7"
        assert (await client.ask("", "alice@bücher.test")).enhanced != "5.6.7"

    async def test_all_recipients_refused(self) -> None:
        """Would catch a connection that is out of step after a DATA that nobody got."""
        client = await self.connect(self.port)
        answers = await self.send(client, "nobody@example.test")
        assert [(a.stage, a.reply.enhanced) for a in answers] == [(Stage.RCPT, "5.1.1")]
        answers = await self.send(client, "alice@example.test")
        assert answers[0].reply.code == 250

    async def test_too_big_and_utf8(self) -> None:
        """Would catch a message sent that the server announced it will not take."""
        client = await self.connect(self.port)
        client.extensions["SIZE"] = "10"
        assert (await self.send(client, "alice@example.test"))[0].reply.code == 552
        del client.extensions["SMTPUTF8"]
        answers = await client.send("a@b", [Recipient("ü@b")], pieces(), size=1, eight_bit=True, smtputf8=True)
        assert answers[0].reply.enhanced == "5.6.7"

    async def test_refused_over_the_limit(self) -> None:
        """Would catch a limit that refuses without words: the reply must reach the client."""
        factory = PumpFactory(self.world.engine, self.world.session, reactor, refusal=b"421 4.7.0 too many connections\r\n")
        factory.count.total = 10_000
        error = await self.broken(self.connect(self.listen(factory.listener)))
        assert (error.stage, str(error.reply), error.certain) == (Stage.GREETING, "421 4.7.0 too many connections", True)


class TLS(ClientCase):
    """STARTTLS between our own two ends."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp(prefix="hornetmail-test-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.authority = Authority(self.folder)
        self.world = World(reactor, smtp_policy.submission("mx.test"))

    def serve(self, names: list[str], common_name: str = "", *, implicit: bool = False) -> int:
        context = ServerTLS(*self.authority.issue("server", names=names, common_name=common_name))
        factory = PumpFactory(
            lambda peer: ServerEngine(self.world.policy.engine(starttls=not implicit)),
            self.world.session,
            reactor,
            tls_context_factory=context,  # type: ignore[arg-type]
            implicit_tls=implicit,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(factory.stop(1)))
        return self.listen(factory.listener)

    async def verified(self, port: int, name: str = "mx.test", **more: Any) -> SMTPClient:
        return await self.connect(port, name=name, tls=TLSPolicy.VERIFY, client_tls=ClientTLS(self.authority.roots), **more)

    async def test_verified_login_and_mail(self) -> None:
        """Would catch a handshake or log-in that does not work, or a session that does not know of its TLS."""
        client = await self.verified(self.serve(["mx.test"]), login=("alice@example.test", "secret"))
        assert client.tls
        answers = await client.send(
            "alice@example.test", [Recipient("x@far.test")], pieces(b"x\r\n"), size=3, eight_bit=False, smtputf8=False
        )
        assert answers[0].reply.code == 250
        (message,) = self.world.queue.messages
        assert message.origin.tls
        assert b" with ESMTPSA (TLSv1.3 " in message.trace

    async def test_wrong_name_is_refused(self) -> None:
        """Would catch a certificate of somebody else being taken."""
        error = await self.broken(self.verified(self.serve(["mx.test"]), name="wrong.test"))
        assert error.stage == Stage.TLS

    async def test_certificate_without_alternative_names_is_refused(self) -> None:
        """Would catch Twisted's gap: a certificate without subjectAltName passes its check (findings.md)."""
        error = await self.broken(self.verified(self.serve([], common_name="mx.test")))
        assert error.stage == Stage.TLS
        assert "certificate" in error.reply.text

    async def test_address_is_held_against_the_certificate(self) -> None:
        """Would catch an IP address that is checked as a name."""
        client = await self.verified(self.serve(["127.0.0.1"]), name="127.0.0.1")
        assert client.tls

    async def test_untrusted_authority_is_refused(self) -> None:
        """Would catch a chain that is not checked at all."""
        port = self.serve(["mx.test"])
        (self.folder / "other").mkdir()
        stranger = Authority(self.folder / "other")
        error = await self.broken(self.connect(port, tls=TLSPolicy.VERIFY, client_tls=ClientTLS(stranger.roots)))
        assert error.stage == Stage.TLS

    async def test_may_takes_any_certificate(self) -> None:
        """Would catch opportunistic TLS that fails where plaintext would have been taken."""
        client = await self.connect(self.serve(["elsewhere.test"]), tls=TLSPolicy.MAY)
        assert client.tls

    async def test_wrong_password(self) -> None:
        """Would catch a refused log-in that passes for a connection."""
        error = await self.broken(self.verified(self.serve(["mx.test"]), login=("alice@example.test", "wrong")))
        assert (error.stage, error.reply.code) == (Stage.AUTH, 535)

    async def test_verify_without_starttls(self) -> None:
        """Would catch a downgrade: VERIFY must not go on in the clear."""
        error = await self.broken(self.verified(self.listen(ScriptFactory())))
        assert (error.stage, error.reply.enhanced) == (Stage.TLS, "4.7.4")

    async def test_may_falls_back_when_the_handshake_fails(self) -> None:
        """Would catch mail stuck because a server's TLS is broken (opportunistic: RFC 7435)."""
        factory = ScriptFactory(EHLO="250-script\n250 STARTTLS", STARTTLS="220 go")
        original = Script.dataReceived

        def received(self: Script, data: bytes) -> None:
            if data[:1] == b"\x16":
                self.transport.loseConnection()
            else:
                original(self, data)

        self.patch(Script, "dataReceived", received)
        client = await self.connect(self.listen(factory), tls=TLSPolicy.MAY)
        assert not client.tls

    async def test_no_password_in_the_clear(self) -> None:
        """Would catch a password told to whoever strips STARTTLS."""
        factory = ScriptFactory(EHLO="250-script\n250 AUTH PLAIN")
        error = await self.broken(self.connect(self.listen(factory), tls=TLSPolicy.MAY, login=("u", "p")))
        assert error.stage == Stage.AUTH
        assert b"AUTH" not in b"".join(factory.received)


class AgainstTrouble(ClientCase):
    """Servers that refuse, hang or drop, stage by stage (rule 1, C20)."""

    async def test_dead_port(self) -> None:
        """Would catch an exception other than Broken for a refused connection."""
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        number = port.getHost().port
        await port.stopListening()
        error = await self.broken(self.connect(number))
        assert (error.stage, error.reply.code) == (Stage.CONNECT, 451)

    async def test_no_address(self) -> None:
        """Would catch a name that does not resolve and raises something of its own."""
        error = await self.broken(self.connect(25, name="nowhere.test"))
        assert error.stage == Stage.RESOLVE

    async def test_refused_before_mail(self) -> None:
        """Would catch a lost reply or the wrong stage at greeting, EHLO, AUTH."""
        for answers, stage, code in (
            ({"GREETING": "554 5.7.1 go away"}, Stage.GREETING, 554),
            ({"GREETING": "421 4.3.2 down"}, Stage.GREETING, 421),
            ({"GREETING": None}, Stage.GREETING, 421),
            ({"GREETING": "hello"}, Stage.GREETING, 421),
            ({"EHLO": "450 4.7.1 not now"}, Stage.EHLO, 450),
            ({"EHLO": "502 what", "HELO": "550 5.7.1 no"}, Stage.EHLO, 550),
        ):
            error = await self.broken(self.connect(self.listen(ScriptFactory(**answers))))
            assert (error.stage, error.reply.code, error.certain) == (stage, code, True)

    async def test_silence(self) -> None:
        """Would catch a hang: every wait has its time-out, and after the dot the hand-over is uncertain."""
        quick = Timeouts(connect=1, reply=0.2, data=0.2, dot=0.2)
        error = await self.broken(self.connect(self.listen(ScriptFactory(GREETING="")), timeouts=quick))
        assert (error.stage, error.reply.enhanced) == (Stage.GREETING, "4.4.2")
        for verb, stage, certain in (("RCPT", Stage.RCPT, True), ("DATA", Stage.DATA, True), ("DOT", Stage.DOT, False)):
            client = await self.connect(self.listen(ScriptFactory(**{verb: ""})), timeouts=quick)
            error = await self.broken(self.send(client, "x@y"))
            assert (error.stage, error.certain) == (stage, certain)
            assert not client.alive

    async def test_dropped(self) -> None:
        """Would catch the wrong stage, or certainty, when the connection is dropped (rule 1)."""
        for verb, stage, certain in (
            ("MAIL", Stage.MAIL, True),
            ("RCPT", Stage.RCPT, True),
            ("DATA", Stage.DATA, True),
            ("DOT", Stage.DOT, False),
        ):
            for pipelining in ("PIPELINING", "X-NONE"):
                factory = ScriptFactory(**{verb: None, "EHLO": f"250-script\n250 {pipelining}"})
                client = await self.connect(self.listen(factory))
                error = await self.broken(self.send(client, "x@y"))
                assert (error.stage, error.certain, error.reply.code) == (stage, certain, 421)

    async def test_421_is_kept(self) -> None:
        """Would catch a 421 replaced by our own words."""
        client = await self.connect(self.listen(ScriptFactory(MAIL="421 4.7.0 slow down")))
        error = await self.broken(self.send(client, "x@y"))
        assert str(error.reply) == "421 4.7.0 slow down"

    async def test_mail_refused(self) -> None:
        """Would catch RCPT's 503 told instead of MAIL's own refusal; and a DATA that is accepted although nobody is to get it."""
        for ehlo in ("250-script\n250 PIPELINING", "250 script"):
            rcpt = ["503 no", "250 ok"] if "PIPELINING" in ehlo else "250 ok"
            factory = ScriptFactory(MAIL=["452 4.3.1 full", "250 ok"], RCPT=rcpt, EHLO=ehlo)
            client = await self.connect(self.listen(factory))
            answers = await self.send(client, "x@y")
            assert [(a.stage, a.reply.code) for a in answers] == [(Stage.MAIL, 452)]
            answers = await self.send(client, "x@y")
            assert [(a.stage, a.reply.code) for a in answers] == [(Stage.DOT, 250)]

    async def test_data_refused(self) -> None:
        """Would catch a transaction left open behind a refused DATA."""
        factory = ScriptFactory(DATA=["451 4.3.0 later", "354 go"], RCPT=["250 ok", "452 4.5.3 enough", "250 ok"])
        client = await self.connect(self.listen(factory))
        answers = await self.send(client, "x@y", "z@y")
        assert [(a.stage, a.reply.code) for a in answers] == [(Stage.DATA, 451), (Stage.RCPT, 452)]
        assert factory.received[-1] == b"RSET\r\n"
        answers = await self.send(client, "x@y")
        assert [(a.stage, a.reply.code) for a in answers] == [(Stage.DOT, 250)]

    async def test_mail_refused_when_asking(self) -> None:
        """Would catch a refused sender taken for an unknown recipient (rule 4)."""
        client = await self.connect(self.listen(ScriptFactory(MAIL="550 5.7.1 no", RCPT="503 5.5.1 no")))
        error = await self.broken(client.ask("", "x@y"))
        assert (error.stage, error.reply.code) == (Stage.MAIL, 550)
        assert client.alive

    async def test_recipients_of_a_refused_sender(self) -> None:
        """Rule 8a: replies out of their order: nobody may be accepted whose sender is refused; no text is sent."""
        for data in ("354 go", "554 no"):
            factory = ScriptFactory(MAIL="550 5.7.1 no", DATA=data)
            client = await self.connect(self.listen(factory))
            error = await self.broken(self.send(client, "x@y"))
            assert (error.stage, error.reply.enhanced, error.certain) == (Stage.RCPT, "4.5.0", True)
            client = await self.connect(self.listen(factory))
            error = await self.broken(client.ask("", "x@y"))
            assert (error.stage, error.reply.enhanced) == (Stage.RCPT, "4.5.0")

    async def test_always_a_reply_late(self) -> None:
        """Rule 8a: a refusal of another command believed, because a stray line came just after this one was sent and moved all replies by one, each
        in a packet of its own: without pipelining RSET before, with it RSET behind shows that server and client are out of step."""
        for pipelining in ("PIPELINING", "X-NONE"):
            for stray in ("250 stray", "550 5.1.1 stray"):
                factory = LateFactory(stray, EHLO=f"250-script\n250 {pipelining}", RCPT=["250 ok", "250 ok", "550 5.1.1 no"])
                client = await self.connect(self.listen(factory))
                await self.send(client, "x@y")
                factory.late = True
                error = await self.broken(self.send(client, "x@y", "z@y"))
                assert error.reply.enhanced == "4.5.0", (pipelining, stray, error)
                assert error.certain

    async def test_one_write_for_a_small_message(self) -> None:
        """Would catch more round trips than needed: envelope in one write, message and dot in another."""
        factory = ScriptFactory()
        client = await self.connect(self.listen(factory))
        before = len(factory.received)
        await self.send(client, "x@y", "z@y")
        assert len(factory.received) - before == 2

    async def test_unreadable_message(self) -> None:
        """Would catch half a message ended with a dot because our own disk failed."""

        async def failing() -> AsyncIterator[bytes]:
            yield b"x" * 100_000
            raise OSError("disk")

        factory = ScriptFactory()
        client = await self.connect(self.listen(factory))
        error = await self.broken(client.send("a@b", [Recipient("x@y")], failing(), size=1, eight_bit=False, smtputf8=False))
        assert (error.stage, error.certain) == (Stage.LOCAL, True)
        assert b"\r\n.\r\n" not in b"".join(factory.received)
        assert len(self.flushLoggedErrors(OSError)) == 1

    async def test_lost_while_idle_is_told(self) -> None:
        """Would catch a pool that keeps dead connections."""
        factory = ScriptFactory()
        client = await self.connect(self.listen(factory))
        lost: Deferred[None] = Deferred()
        client.on_lost(lambda: lost.callback(None))
        factory.connections[0].transport.loseConnection()
        await lost
        assert not client.alive
        error = await self.broken(self.send(client, "x@y"))
        assert error.certain
