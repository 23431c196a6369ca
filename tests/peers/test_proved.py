"""Passwords that are proved and not told, at the service as it is: every door, from one log-in's keys to the next start."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterator

import pytest

from hornetmail.testing.scram import ScramClient, b64, unb64
from tests.peers.installation import Installation

USER, PASSWORD = "alice@example.test", "alice-secret-1"


@pytest.fixture(scope="module")
def service() -> Iterator[Installation]:
    hornet = Installation()
    try:
        hornet.start()
        hornet.add_domain("example.test", None)
        hornet.add_mailbox(USER, PASSWORD)
        yield hornet
    finally:
        hornet.close()


class Talk:
    """Lines over a socket."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.file = self.socket.makefile("rb")
        self.greeting = self.file.readline()

    def say(self, line: bytes) -> bytes:
        self.socket.sendall(line + b"\r\n")
        return self.file.readline()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


DOORS = {143: (b"a AUTHENTICATE ", b"+ ", b"a OK "), 110: (b"AUTH ", b"+ ", b"+OK "), 587: (b"AUTH ", b"334 ", b"235 ")}


@pytest.mark.parametrize("door", DOORS)
def test_every_door(service: Installation, door: int) -> None:
    """Catches a door that offers SCRAM and does not know whom the others let in."""
    command, lead, good = DOORS[door]
    talk = Talk(service.port(door))
    try:
        if door == 587:
            assert talk.say(b"EHLO client").startswith(b"250-")
            lines = []
            while not (line := talk.file.readline()).startswith(b"250 "):
                lines.append(line)
            assert any(line.startswith(b"250-AUTH SCRAM-SHA-256 PLAIN LOGIN") for line in lines)
        client = ScramClient(USER, PASSWORD)
        challenge = unb64(talk.say(command + b"SCRAM-SHA-256 " + b64(client.first)), lead)
        assert client.knows(unb64(talk.say(b64(client.last(challenge))), lead))
        assert talk.say(b"").startswith(good)
    finally:
        talk.close()


def test_compressed(service: Installation) -> None:
    """COMPRESS=DEFLATE (RFC 4978) at the service: catches an answer that stays in a buffer."""
    talk = Talk(service.port(143))
    try:
        assert talk.say(f"a LOGIN {USER} {PASSWORD}".encode()).startswith(b"a OK [CAPABILITY IMAP4rev2 ")
        assert talk.say(b"b COMPRESS DEFLATE").startswith(b"b OK ")
        deflater, inflater = zlib.compressobj(6, zlib.DEFLATED, -15), zlib.decompressobj(-15)

        def say(line: bytes, until: bytes) -> bytes:
            talk.socket.sendall(deflater.compress(line + b"\r\n") + deflater.flush(zlib.Z_SYNC_FLUSH))
            heard = b""
            while until not in heard:
                heard += inflater.decompress(talk.socket.recv(65_536))
            return heard

        body = b"Subject: squeezed\r\n\r\n" + b"the same line\r\n" * 20_000
        assert b"APPENDUID" in say(b"c APPEND INBOX {%d+}\r\n%b" % (len(body), body), b"c OK")
        assert b"* 1 EXISTS" in say(b"d SELECT INBOX", b"d OK")
        assert b"BODY[] {%d}\r\n%b)" % (len(body), body) in say(b"e FETCH 1 BODY.PEEK[]", b"\r\ne OK")
    finally:
        talk.close()
