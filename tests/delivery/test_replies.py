"""No reply is believed that does not say what was asked (rule 8a): every stage against every kind of answer, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.route import MX, PRIMARY
from hornetmail.core.failover import outage
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.delivery.connections.pool import Limits, Pool
from hornetmail.delivery.couriers.exchange import Load, hand_over
from hornetmail.net.clients.dial import Dialer
from hornetmail.net.clients.smtp import Timeouts
from hornetmail.testing.resolver import FakeResolver

reactor: Any = _reactor

LINE = b"x" * 70 + b"\r\n"
HEADER = b"Subject: x\r\n\r\n"
BIG = 16_000_000
"""More than the sockets of both sides hold: the text is still being sent when its first line is answered."""

KINDS = {
    "1xx": b"150 x\r\n",
    "2xx": b"250 x\r\n",
    "3xx": b"354 x\r\n",
    "4xx": b"451 4.3.0 x\r\n",
    "5xx": b"554 5.6.0 x\r\n",
    "garbage": b"hello\r\n",
    "silence": b"",
    "nothing": None,  # the connection is closed
}
STAGES = ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "DOT")
USUAL = {
    "GREETING": b"220 x\r\n",
    "MAIL": b"250 ok\r\n",
    "RCPT": b"250 ok\r\n",
    "DATA": b"354 go\r\n",
    "BODY": b"",
    "DOT": b"250 taken\r\n",
    "RSET": b"250 ok\r\n",
    "QUIT": b"221 bye\r\n",
}


class Server(Protocol):
    """Answers as the factory's ``answers`` say (once, if in ``once``), in the order of RFC 5321. ``BODY``: said at the text's first line, after which
    it reads on only if that is nothing."""

    transport: Any
    factory: Any

    def connectionMade(self) -> None:
        self.factory.open.append(self)
        self.buffer = b""
        self.own: dict[str, bytes] = {}
        self.mail = self.rcpt = self.text = self.first = self.over = False
        self.answer("GREETING")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.open.remove(self)

    def dataReceived(self, data: bytes) -> None:
        self.buffer += data
        while not self.over:
            if self.text:
                end = self.buffer.find(b"\r\n.\r\n")
                if self.first and self.buffer:
                    self.first = False
                    if self.answer("BODY"):
                        self.transport.pauseProducing()
                        self.over = True
                        return
                if end < 0:
                    self.buffer = self.buffer[-4:]
                    return
                self.buffer = self.buffer[end + 5 :]
                self.text = False
                self.factory.ended += 1
                self.answer("DOT")
                continue
            line, found, rest = self.buffer.partition(b"\r\n")
            if not found:
                return
            self.buffer = rest
            self.command(line.split(b" ")[0].split(b":")[0].decode().upper())

    def command(self, verb: str) -> None:
        if verb == "HELO":
            self.transport.write(b"250 x\r\n")
        elif (verb == "RCPT" and not self.mail) or (verb == "DATA" and not self.rcpt):
            self.transport.write(b"503 5.5.1 not now\r\n")
        else:
            said = self.answer(verb)
            if verb == "MAIL":
                self.mail, self.rcpt = said.startswith(b"2"), False
            elif verb == "RCPT":
                self.rcpt = self.rcpt or said.startswith(b"2")
            elif verb == "DATA":
                self.text = self.first = said.startswith(b"354")
                self.mail = self.rcpt = False
            elif verb == "RSET":
                self.mail = self.rcpt = False

    def answer(self, stage: str) -> bytes:
        answers = self.own or self.factory.answers
        said: bytes | None = answers.get(stage, self.factory.usual[stage])
        if stage in self.factory.once:
            answers.pop(stage, None)
        if said is None:
            self.over = True
            self.transport.abortConnection()
            return b""
        self.over = said == b"" and stage != "BODY"
        self.transport.write(said)
        return said


class Servers(Factory):
    protocol = Server
    noisy = False

    def __init__(self, *, pipelining: bool) -> None:
        offer = b"250-x\r\n250 PIPELINING\r\n" if pipelining else b"250 x\r\n"
        self.usual = {**USUAL, "EHLO": offer}
        self.answers: dict[str, bytes | None] = {}
        self.once: set[str] = set()
        self.open: list[Server] = []
        self.ended = 0


class Replies(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.pool = Pool(
            reactor,
            Dialer(reactor, FakeResolver()),
            "client.test",
            timeouts=Timeouts(connect=2, reply=0.3, data=0.3, dot=0.3),
            limits=Limits(rest=0.0),
        )

    def serve(self, *, pipelining: bool) -> Servers:
        self.servers = Servers(pipelining=pipelining)
        port = reactor.listenTCP(0, self.servers, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.addCleanup(self.gone, self.servers)
        self.port = port.getHost().port
        return self.servers

    async def gone(self, servers: Servers) -> None:
        await self.pool.close()
        while servers.open:
            for each in list(servers.open):
                each.transport.abortConnection()
            waited: Deferred[None] = Deferred()
            reactor.callLater(0.005, waited.callback, None)
            await waited

    async def send(self, *recipients: str, size: int = 1_000, courier: str = PRIMARY) -> list[Verdict]:
        async def chunks() -> AsyncIterator[bytes]:
            yield HEADER
            for _ in range(max(1, size // 72_000)):
                yield LINE * min(1_000, size // 72)

        load = Load("a@b.test", tuple(Recipient(each) for each in recipients or ("c@d.test",)), (0, 1), chunks, size)
        verdicts: dict[int, Verdict] = {}
        await hand_over(self.pool.destination([Host("127.0.0.1", self.port)], TLSPolicy.NONE), load, courier, verdicts)
        return [verdicts[at] for at in range(len(load.recipients))]

    def expected(self, stage: str, kind: str) -> Outcome:
        if kind == USUAL.get(stage, b"2")[:1].decode() + "xx" or (stage, kind) in (("BODY", "silence"), ("EHLO", "5xx")):
            return Outcome.DELIVERED  # it is what was asked, or (EHLO refused) HELO is
        if stage == "DOT" and kind not in ("4xx", "5xx"):
            return Outcome.UNCERTAIN
        if kind == "5xx" and stage not in ("GREETING", "EHLO"):
            return Outcome.FAILED
        return Outcome.DEFERRED

    async def test_every_stage_and_every_answer(self) -> None:
        """Would catch a reply believed that does not say what was asked: delivered is what got 2xx after the dot of a text that was really sent after a
        354; failed what was refused after the opening; violations are trouble of the primary as a whole."""
        for pipelining in (True, False):
            for stage in STAGES:
                for kind, said in KINDS.items():
                    case = (pipelining, stage, kind)
                    servers = self.serve(pipelining=pipelining)
                    if (stage, kind) == ("GREETING", "2xx"):
                        said = b"220 x\r\n"
                    if said is not None or stage != "BODY" or kind == "nothing":
                        servers.answers = {stage: said}
                    [verdict] = await self.send(size=BIG if stage == "BODY" else 1_000)
                    assert verdict.outcome is self.expected(stage, kind), (case, verdict)
                    assert verdict.outcome is not Outcome.DELIVERED or servers.ended == 1, case
                    sign = outage.read(verdict).breadth
                    if verdict.outcome in (Outcome.DELIVERED, Outcome.FAILED):
                        assert sign is outage.Breadth.NOBODY, case
                    elif kind != "4xx":
                        assert sign.wide, case
                    if stage == "BODY" and kind in ("4xx", "5xx"):
                        assert verdict.stage is Stage.BODY, case
                    await self.gone(servers)

    async def test_a_line_too_many(self) -> None:
        """Would catch all later replies being moved by one: the verdict on the RCPT taken for DATA's, DATA's for the text's."""
        for pipelining in (True, False):
            for stage in ("GREETING", "EHLO", "MAIL", "RCPT", "DATA"):
                for extra in (b"250 extra\r\n", b"354 extra\r\n", b"554 extra\r\n", b"hello\r\n"):
                    for before in (True, False):
                        servers = self.serve(pipelining=pipelining)
                        usual = servers.usual[stage]
                        servers.answers = {stage: extra + usual if before else usual + extra}
                        [verdict] = await self.send()
                        case = (pipelining, stage, extra, before)
                        refused_by_extra = stage == "DATA" and not before and extra.startswith(b"554")
                        wanted = Outcome.FAILED if refused_by_extra else Outcome.DEFERRED
                        assert verdict.outcome is wanted, (case, verdict)
                        assert not servers.ended, case
                        await self.gone(servers)

    async def test_more_than_one_verdict(self) -> None:
        """Would catch a delivery believed that the server takes back in the same breath, or one thrown away because it was told twice or is
        followed by a farewell (rule 8b)."""
        for said, wanted in (
            (b"250 a\r\n250 b\r\n", Outcome.DELIVERED),
            (b"250 a\r\n421 4.3.2 bye\r\n", Outcome.DELIVERED),
            (b"554 a\r\n421 4.3.2 bye\r\n", Outcome.FAILED),
            (b"554 a\r\n554 b\r\n", Outcome.FAILED),
            (b"250 a\r\n554 b\r\n", Outcome.UNCERTAIN),
            (b"554 a\r\n250 b\r\n", Outcome.UNCERTAIN),
            (b"250 a\r\nhello\r\n", Outcome.UNCERTAIN),
            (b"354 a\r\n250 b\r\n", Outcome.UNCERTAIN),
            (b"250 a\r\n221 bye\r\n", Outcome.DELIVERED),
        ):
            servers = self.serve(pipelining=True)
            servers.answers = {"DOT": said}
            [verdict] = await self.send()
            assert verdict.outcome is wanted, (said, verdict)
            await self.gone(servers)

    async def test_a_2xx_that_is_not_this_commands(self) -> None:
        """Would catch a farewell (221) or the greeting of a server that began anew (220) after the final dot taken for its 250: nobody would have the
        mail. A forwarder's 251 and a gateway's 252 at RCPT are answers."""
        for stage in ("MAIL", "RCPT", "DOT"):
            for code in (200, 211, 214, 220, 221, 235, 251, 252):
                servers = self.serve(pipelining=True)
                servers.answers = {stage: b"%d x\r\n" % code}
                [verdict] = await self.send()
                wanted = Outcome.UNCERTAIN if stage == "DOT" else Outcome.DEFERRED
                if stage == "RCPT" and code in (251, 252):
                    wanted = Outcome.DELIVERED
                assert verdict.outcome is wanted, (stage, code, verdict)
                await self.gone(servers)

    async def test_a_session_that_is_refused(self) -> None:
        """Would catch mail bounced because the primary lets nobody in (Exchange without anonymous senders: 530 at MAIL), or was out of step (503 at
        DATA, "unknown command" for a text that it took for commands); a refusal of the mail itself bounces as ever."""
        for stage in ("MAIL", "RCPT", "DATA", "DOT"):
            for said in ("530 5.7.57 not authenticated", "530 must issue STARTTLS first", "503 5.5.1 bad sequence", "500 what?"):
                servers = self.serve(pipelining=True)
                servers.answers = {stage: f"{said}\r\n".encode()}
                [verdict] = await self.send()
                assert (verdict.outcome, verdict.unavailable) == (Outcome.DEFERRED, True), (stage, said, verdict)
                assert outage.read(verdict).breadth.wide, (stage, said)
                assert said in verdict.reply.text
                await self.gone(servers)
            for said in ("500 5.7.1 not wanted", "501 5.1.3 no address", "550 5.7.1 no", "554 no"):
                servers = self.serve(pipelining=True)
                servers.answers = {stage: f"{said}\r\n".encode()}
                [verdict] = await self.send()
                assert verdict.outcome is Outcome.FAILED, (stage, said, verdict)
                await self.gone(servers)

    async def test_refusals_of_us(self) -> None:
        """Would catch everybody's mail that bounces, and no outage, because the primary blocks our address or has lost its table of domains (Postfix says both
        at RCPT); the same words of somebody else's server, or about a text, that keep mail for days instead of bouncing."""
        barred = "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked"
        for stage, courier, outcome in (
            ("MAIL", PRIMARY, Outcome.DEFERRED),
            ("RCPT", PRIMARY, Outcome.DEFERRED),
            ("DATA", PRIMARY, Outcome.FAILED),
            ("DOT", PRIMARY, Outcome.FAILED),
            ("MAIL", MX, Outcome.FAILED),
            ("RCPT", MX, Outcome.FAILED),
        ):
            for said in (barred, "550 5.7.1 <c@d.test>: Relay access denied"):
                servers = self.serve(pipelining=True)
                servers.answers = {stage: f"{said}\r\n".encode()}
                [verdict] = await self.send(courier=courier)
                assert verdict.outcome is outcome, (stage, courier, said, verdict)
                assert outage.read(verdict).breadth.wide is (outcome is Outcome.DEFERRED)
                assert said[4:] in str(verdict.reply)
                await self.gone(servers)

    async def test_a_kept_connection_with_something_unread(self) -> None:
        """Would catch what a transaction left unread being taken for the first answer of the next, so that a good mail is bounced or a bad one
        believed; on a fresh connection it goes through (rule 2)."""
        for pipelining in (True, False):
            for extra in (b"250 extra\r\n", b"554 extra\r\n", b"354 extra\r\n", b"25"):
                for at_once in (True, False):
                    servers = self.serve(pipelining=pipelining)
                    servers.answers, servers.once = {"DOT": USUAL["DOT"] + (extra if at_once else b"")}, {"DOT"}
                    [first] = await self.send()
                    [server] = servers.open
                    if not at_once:
                        # Not read by us yet when the next message goes out.
                        server.transport.socket.send(extra)
                    [second] = await self.send()
                    case = (pipelining, extra, at_once)
                    said_no = at_once and extra[:1] in (b"5", b"3")
                    assert first.outcome is (Outcome.UNCERTAIN if said_no else Outcome.DELIVERED), (case, first)
                    assert second.outcome is Outcome.DELIVERED, (case, second)
                    assert servers.ended == 2, case
                    await self.gone(servers)

    async def test_one_of_several_refused_behind_a_stray_line(self) -> None:
        """Would catch the refusal of one recipient believed of all, or of another one, because a stray line moved it."""
        for pipelining in (True, False):
            servers = self.serve(pipelining=pipelining)
            await self.send()
            [server] = servers.open
            server.own = {"RCPT": b"550 5.1.1 no\r\n"}
            server.transport.socket.send(b"250 stray\r\n")
            verdicts = await self.send("a@d.test", "b@d.test")
            # On a fresh connection nobody is refused: the refusals were said in a conversation out of step.
            assert [each.outcome for each in verdicts] == [Outcome.DELIVERED, Outcome.DELIVERED], (pipelining, verdicts)
            await self.gone(servers)

    async def test_refusals_are_believed_in_step(self) -> None:
        """Would catch a refusal that is not believed although nothing is wrong, or that is lost because the server closes behind it."""
        for pipelining in (True, False):
            for rset in (b"250 ok\r\n", None, b"", b"421 4.3.2 bye\r\n"):
                for stage in ("MAIL", "RCPT", "DATA"):
                    servers = self.serve(pipelining=pipelining)
                    servers.answers = {stage: b"554 5.7.1 no\r\n", "RSET": rset}
                    [verdict] = await self.send()
                    assert (verdict.outcome, str(verdict.stage)) == (Outcome.FAILED, stage.lower()), (
                        pipelining,
                        rset,
                        stage,
                        verdict,
                    )
                    await self.gone(servers)
