"""SCRAM-SHA-256 at the doors: IMAP, POP3 and submission speak it alike, each in its own words."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from hornetmail.net.tls import ServerTLS, channel_binding
from hornetmail.servers.smtp_policy import submission
from hornetmail.testing.scram import ScramClient, b64, unb64
from tests.net.certificates import Authority
from tests.servers.imap.door import Door
from tests.servers.smtp_fakes import World


def test_imap() -> None:
    """RFC 3501 section 6.2.2, RFC 4959, RFC 5802 section 5: catches a server that lets in before the client knows that it is the right one."""
    talk = Door().connect()
    client = ScramClient("alice@example.test", "secret")
    challenge = unb64(talk.say(b"a AUTHENTICATE SCRAM-SHA-256 " + b64(client.first)), b"+ ")
    assert client.knows(unb64(talk.say(b64(client.last(challenge))), b"+ "))
    assert talk.session.person is None
    assert talk.say(b"").startswith(b"a OK [CAPABILITY ")
    talk = Door().connect()
    client = ScramClient("alice@example.test", "wrong")
    assert talk.say(b"a AUTHENTICATE SCRAM-SHA-256") == b"+ \r\n"
    challenge = unb64(talk.say(b64(client.first)), b"+ ")
    assert talk.say(b64(client.last(challenge))) == b""
    talk.door.clock.advance(1)
    assert talk.heard() == b"a NO [AUTHENTICATIONFAILED] Log-in failed\r\n"
    assert talk.say(b"b AUTHENTICATE SCRAM-SHA-256 " + b64(b"n,,r=a")).startswith(b"b NO [AUTHENTICATIONFAILED] That is no first")
    challenge = unb64(talk.say(b"c AUTHENTICATE SCRAM-SHA-256 " + b64(client.first)), b"+ ")
    assert talk.say(b"*") == b"c BAD Cancelled\r\n"
    assert talk.say(b"d AUTHENTICATE SCRAM-SHA-256-PLUS") == b"d NO [CANNOT] Unknown mechanism\r\n"


def test_exchanges_that_are_given_up() -> None:
    """A stranger who begins and gives up, again and again, was never sent away: only passwords that were wrong counted."""
    talk = Door().connect()
    answers = [talk.say(b"a AUTHENTICATE SCRAM-SHA-256 " + b64(b"n,,n=a,r=b"), b"*") for _ in range(60)]
    assert answers[0].endswith(b"a BAD Cancelled\r\n")
    assert b"* BYE Too many commands before log-in\r\n" in answers
    assert talk.transport.disconnecting


def test_submission() -> None:
    """RFC 4954: catches an exchange in other words, or one that goes on after it was over."""
    world = World(Clock(), submission("mx.hornet.test", plaintext=True))
    transport = StringTransport(peerAddress=IPv4Address("TCP", "198.51.100.7", 4321))
    pump = world.pump()
    pump.makeConnection(transport)

    def say(line: bytes) -> bytes:
        transport.clear()
        pump.dataReceived(line + b"\r\n")
        return bytes(transport.value())

    assert b"250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n" in say(b"EHLO client")
    client = ScramClient("alice@example.test", "secret")
    challenge = unb64(say(b"AUTH SCRAM-SHA-256 " + b64(client.first)), b"334 ")
    assert client.knows(unb64(say(b64(client.last(challenge))), b"334 "))
    assert say(b"").startswith(b"235 ")
    assert say(b"AUTH SCRAM-SHA-256-PLUS x").startswith(b"503 ")
    assert say(b"MAIL FROM:<alice@example.test>").startswith(b"250 ")


class Channels(TestCase):
    def pair(self, most: int = 0) -> tuple[SSL.Connection, SSL.Connection]:
        """Both ends of a TLS connection in memory."""
        folder = Path(tempfile.mkdtemp(prefix="hm-binding-"))
        self.addCleanup(shutil.rmtree, folder)
        authority = Authority(folder)
        server = SSL.Connection(ServerTLS(*authority.issue("door", names=["door.test"])).getContext(), None)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if most:
            context.set_max_proto_version(most)
        client = SSL.Connection(context, None)
        server.set_accept_state()
        client.set_connect_state()
        for _ in range(8):
            for one, other in ((client, server), (server, client)):
                try:
                    one.do_handshake()
                except SSL.WantReadError:
                    pass
                try:
                    other.bio_write(one.bio_read(65_536))
                except SSL.WantReadError:
                    pass
        return server, client

    def test_the_exporter_says_which_channel(self) -> None:
        """RFC 9266: catches a binding that both ends do not see alike, or that two channels share; before TLS 1.3 it says nothing of the channel."""
        server, client = self.pair()
        bound = channel_binding(server, "tls-exporter")
        assert bound == channel_binding(client, "tls-exporter")
        assert bound is not None
        assert len(bound) == 32
        assert bound != channel_binding(self.pair()[0], "tls-exporter")
        assert channel_binding(server, "tls-unique") is None
        older, _ = self.pair(SSL.TLS1_2_VERSION)
        assert channel_binding(older, "tls-exporter") is None
        assert channel_binding(older, "tls-server-end-point") is not None
