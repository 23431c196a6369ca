"""The same POP3 conversations with a real Dovecot and with the real service over the same mail: what RFC 1939 determines must be the same in both."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from tests.peers.dovecot import Dovecot
from tests.peers.imap_lines import Lines
from tests.peers.installation import Installation
from tests.peers.mails import mails
from tests.peers.postfix import free_port

USER, PASSWORD = "alice@example.test", "alice-secret-1"

POP3 = """\
protocols = imap pop3
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""

EDGES = [
    b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n\r\n.\r\n",
    b"Subject: no end of line\r\n\r\nlast",
    b"Subject: header only\r\n\r\n",
    b"\r\nno header\r\nat all\r\n",
    b"Subject: long\r\n\r\n" + b"x" * 200_000 + b"\r\n" + b".\r\n" * 20_000,
]


class Talk:
    """One connection."""

    def __init__(self, port: int, password: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._socket.makefile("rb")
        assert self._file.readline().startswith(b"+OK")
        assert self.say(f"USER {USER}")[0] == b"+OK"
        assert self.say(f"PASS {password}")[0] == b"+OK"

    def say(self, line: str) -> tuple[bytes, list[bytes]]:
        """The status, and what RFC 1939 fixes of the rest: numbers on the first line of STAT, LIST and UIDL, and all lines of a longer answer."""
        self._socket.sendall(line.encode() + b"\r\n")
        first = self._file.readline()
        status, _, rest = first.rstrip(b"\r\n").partition(b" ")
        verb, *words = line.upper().split()
        if status != b"+OK":
            return status, []
        if verb == "STAT" or (verb == "LIST" and words):
            return status, rest.split()[:2]
        if verb == "UIDL" and words:
            return status, rest.split()[:1]
        if verb not in ("LIST", "UIDL", "RETR", "TOP", "CAPA"):
            return status, []
        lines: list[bytes] = []
        while (one := self._file.readline()) != b".\r\n":
            assert one.endswith(b"\r\n"), one
            lines.append(one.split()[0] if verb == "UIDL" else one)
        return status, lines

    def close(self) -> None:
        """Without a word."""
        self._file.close()
        self._socket.close()


@pytest.fixture(scope="module")
def servers() -> Iterator[list[tuple[int, str]]]:
    """Port and password of both, with the same mail in INBOX."""
    port = free_port()
    dovecot, hornet = Dovecot(more=POP3.format(port=port)), Installation()
    try:
        hornet.start()
        hornet.add_domain("example.test", None)
        hornet.add_mailbox(USER, PASSWORD)
        for lines in (Lines(dovecot.port, USER, dovecot.password), Lines(hornet.port(143), USER, PASSWORD)):
            for date, data, flags in mails(30):
                lines.append("INBOX", date, data, flags)
            for data in EDGES:
                lines.append("INBOX", " 1-Nov-2025 12:00:00 +0000", data)
            lines.close()
        yield [(port, dovecot.password), (hornet.port(110), PASSWORD)]
    finally:
        hornet.close()
        dovecot.close()


READING = [
    *(
        "STAT",
        "LIST",
        "LIST 3",
        "LIST 0",
        "LIST 36",
        "LIST x",
        "LIST -1",
        "UIDL",
        "UIDL 3",
        "UIDL 99",
        "NOOP",
        "RSET",
        "LAST",
        "XYZZY",
    ),
    *(f"RETR {number}" for number in range(1, 37)),
    *(f"TOP {number} {lines}" for number in range(25, 36) for lines in (0, 1, 3, 100_000)),
    *(
        "TOP 1",
        "TOP 1 -1",
        "TOP 1 x",
        "TOP 99 1",
        "RETR",
        "RETR 0",
        "RETR 1 2",
        "retr 1",
        "Stat",
        "DELE",
        "DELE 99",
        "DELE x",
        "USER a",
        "PASS b",
    ),
]
DELETING = [
    *(
        "DELE 5",
        "DELE 5",
        "RETR 5",
        "TOP 5 1",
        "LIST 5",
        "UIDL 5",
        "STAT",
        "LIST",
        "UIDL",
        "RSET",
        "STAT",
        "LIST 5",
        "DELE 2",
        "DELE 31",
        "QUIT",
    ),
]


def test_the_same_answers(servers: list[tuple[int, str]]) -> None:
    """Other sizes, numbers, dots, lines of TOP or deletions than clients are used to."""
    different: list[object] = []
    for script in (READING, DELETING, ["STAT", "LIST", "UIDL", "RETR 2", "QUIT"]):
        talks = [Talk(port, password) for port, password in servers]
        for line in script:
            theirs, ours = (talk.say(line) for talk in talks)
            if ours != theirs:
                different.append((line, theirs[0], str(theirs[1])[:200], ours[0], str(ours[1])[:200]))
        for talk in talks:
            talk.close()
    assert not different


def test_capabilities(servers: list[tuple[int, str]]) -> None:
    """What Dovecot offers that we lack. Names of mechanisms and of the program are each server's own."""
    offered: list[set[bytes]] = []
    for port, password in servers:
        talk = Talk(port, password)
        offered.append({re.split(rb"[ \r]", line)[0] for line in talk.say("CAPA")[1]})
        talk.close()
    theirs, ours = offered
    # SASL and USER are of use before log-in only, and nobody need be told of CAPA by CAPA
    assert theirs - ours <= {b"SASL", b"USER", b"CAPA"}
