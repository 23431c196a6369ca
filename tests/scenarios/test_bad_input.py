"""Bad input at every door: a clear answer, the connection limited, nobody else disturbed."""

from __future__ import annotations

import imaplib
import poplib
import re
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.peers.installation import BIN, Installation
from tests.peers.waiting import until

USER, PASSWORD = "alice@example.test", "alice-secret-1"


@pytest.fixture(scope="module")
def hornet() -> Iterator[Installation]:
    """A domain without a primary: the portal is its mail server for good."""
    installation = Installation()
    try:
        installation.start()
        installation.add_domain("example.test", None)
        installation.add_mailbox(USER, PASSWORD)
        yield installation
    finally:
        installation.close()


@pytest.fixture(autouse=True)
def undisturbed(hornet: Installation) -> Iterator[None]:
    """While a door is abused, a well-behaved client on another connection is served before and after."""
    with hornet.smtp() as other:
        other.ehlo()
        yield
        while OPENED:
            OPENED.pop().close()
        assert other.noop()[0] == 250
    assert hornet.healthy()


OPENED: list[socket.socket] = []


class Raw:
    """A socket that speaks whatever the test wants."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.data = b""
        OPENED.append(self.socket)

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        """The next line, ``b""`` at the end."""
        while b"\n" not in self.data:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                line, self.data = self.data, b""
                return line
            self.data += more
        line, _, self.data = self.data.partition(b"\n")
        return line + b"\n"

    def reply(self) -> bytes:
        """An SMTP reply's last line."""
        while (line := self.line())[3:4] == b"-":
            pass
        return line

    def ended(self) -> bool:
        """The server closes, whatever it still says."""
        while self.line():
            pass
        return True


def inbox(hornet: Installation) -> list[bytes]:
    box = imaplib.IMAP4("127.0.0.1", hornet.port(143))
    box.login(USER, PASSWORD)
    _, (count,) = box.select()
    found = box.fetch(f"1:{count.decode()}", "(BODY.PEEK[])")[1] if count and int(count) else []
    box.logout()
    return [part[1] for part in found if isinstance(part, tuple)]


def transaction(raw: Raw) -> None:
    raw.reply()
    for command in (b"EHLO client.test\r\n", b"MAIL FROM:<a@outside.test>\r\n", f"RCPT TO:<{USER}>\r\n".encode(), b"DATA\r\n"):
        raw.say(command)
        assert raw.reply()[:1] in b"23", command


@pytest.mark.parametrize(
    "end",
    [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n\n.\r\n", b"\r\n\x00.\r\n", b"\r\n\r.\r\n"],
    ids=repr,
)
def test_smuggling(hornet: Installation, end: bytes) -> None:
    """Every way to end DATA early: refused with 550 5.6.11 after the real end, and the smuggled commands are never run."""
    before = len(inbox(hornet))
    raw = Raw(hornet.port(25))
    transaction(raw)
    smuggled = f"MAIL FROM:<admin@example.test>\r\nRCPT TO:<{USER}>\r\nDATA\r\nSubject: smuggled\r\n\r\nx".encode()
    raw.say(b"Subject: outer\r\n\r\nbody" + end + smuggled + b"\r\n.\r\nNOOP\r\n")
    assert raw.reply().startswith(b"550 5.6.11"), end
    assert raw.reply().startswith(b"250"), "exactly one reply to DATA, then NOOP's"
    assert len(inbox(hornet)) == before


@pytest.mark.parametrize("offset", [25, 26, 587], ids=["mx", "relay", "submission"])
def test_smtp_broken_commands(hornet: Installation, offset: int) -> None:
    """Nonsense is answered 500/501/503 and, when it does not end, 421."""
    raw = Raw(hornet.port(offset))
    raw.reply()
    for nonsense in (
        b"WHAT\r\n",
        b"MAIL\r\n",
        b"RCPT TO:<x@y>\r\n",
        b"EHLO\r\n",
        b"\xff\xfe\r\n",
        b"MAIL FROM:<a@\x00b>\r\n",
        b"DATA\r\n",
    ):
        raw.say(nonsense)
        assert raw.reply()[:2] in (b"50", b"53", b"55"), nonsense
    raw.say(b"NONSENSE\r\n" * 100)
    assert raw.ended()


@pytest.mark.parametrize("offset", [25, 110, 143, 587])
def test_endless_line(hornet: Installation, offset: int) -> None:
    """A line that never ends costs neither memory nor the service: the connection is ended."""
    raw = Raw(hornet.port(offset))
    raw.line()
    try:
        for _ in range(400):
            raw.say(b"A" * 65_536)
    except OSError:
        return
    assert raw.ended()


@pytest.mark.parametrize("offset", [25, 110, 143, 587])
def test_nul_bytes(hornet: Installation, offset: int) -> None:
    """NULs are refused in words of the protocol."""
    raw = Raw(hornet.port(offset))
    raw.line()
    raw.say(b"\x00\x00\x00\r\n")
    line = raw.line()
    assert line[:3] in (b"500", b"501", b"-ER", b"* B", b"421"), line


def test_oversized_message(hornet: Installation) -> None:
    """SIZE is checked when declared and when not."""
    with hornet.smtp() as smtp:
        smtp.ehlo()
        limit = int(smtp.esmtp_features["size"])
        assert smtp.docmd("MAIL", f"FROM:<a@outside.test> SIZE={limit + 1}")[0] == 552
    raw = Raw(hornet.port(25))
    transaction(raw)
    piece = b"x" * 70 + b"\r\n"
    block = piece * 1000
    for _ in range(limit // len(block) + 2):
        raw.say(block)
    raw.say(b".\r\n")
    assert raw.reply().startswith(b"552")


@pytest.mark.parametrize(
    ("offset", "start", "injected", "proof"),
    [
        (25, b"EHLO x\r\nSTARTTLS\r\n", b"RSET\r\n", b"RSET"),
        (587, b"EHLO x\r\nSTARTTLS\r\n", b"RSET\r\n", b"RSET"),
        (143, b"a STARTTLS\r\n", b"b NOOP\r\n", b"b OK"),
        (110, b"STLS\r\n", b"NOOP\r\n", b"NOOP"),
    ],
)
def test_starttls_injection(hornet: Installation, offset: int, start: bytes, injected: bytes, proof: bytes) -> None:
    """Plaintext behind STARTTLS is not run inside TLS: the connection ends, or the handshake gets garbage."""
    raw = Raw(hornet.port(offset))
    raw.line()
    raw.say(start + injected)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    answer = b""
    raw.socket.settimeout(20)
    while line := raw.line():
        answer += line
        if line.startswith((b"220 ", b"a OK", b"+OK")) and b"STARTTLS" in answer.upper().replace(b" ", b"") + b"STARTTLS":
            break
    try:
        with context.wrap_socket(raw.socket) as tls:
            tls.settimeout(5)
            got = tls.recv(4096)
    except (OSError, ssl.SSLError):
        got = b""
    assert proof not in got
    assert got == b"", "nothing is answered inside TLS to what came before it"


def test_wrong_passwords(hornet: Installation) -> None:
    """A wrong password is refused at each door in its own words, never told apart from an unknown user, and slowed down."""
    texts = set()
    for user in (USER, "nobody@example.test"):
        box = imaplib.IMAP4("127.0.0.1", hornet.port(143))
        with pytest.raises(imaplib.IMAP4.error) as refused:
            box.login(user, "wrong")
        texts.add(refused.value.args[0].replace(user.encode(), b""))
        box.shutdown()
    assert len(texts) == 1
    pop = poplib.POP3("127.0.0.1", hornet.port(110))
    pop.user(USER)
    with pytest.raises(poplib.error_proto) as turned_away:
        pop.pass_("wrong")
    assert b"[AUTH]" in turned_away.value.args[0]
    pop.close()
    with hornet.smtp(587) as smtp, pytest.raises(smtplib.SMTPAuthenticationError) as denied:
        smtp.login(USER, "wrong")
    assert denied.value.smtp_code == 535
    doors = re.findall(rf"login refused: user={re.escape(USER)} peer=127\.0\.0\.1 door=(\S+) reason=", hornet.log())
    assert {"imap", "pop3", "submission"} <= set(doors), "who reads the log must see which door is tried"
    until(lambda: logs_in(hornet), "the right password works again")


def logs_in(hornet: Installation) -> bool:
    box = imaplib.IMAP4("127.0.0.1", hornet.port(143))
    try:
        box.login(USER, PASSWORD)
    except imaplib.IMAP4.error:
        return False
    finally:
        box.shutdown()
    return True


def test_wrong_tls(hornet: Installation) -> None:
    """Plain text at a TLS port, and TLS at a plain one, end without harm."""
    raw = Raw(hornet.port(993))
    raw.say(b"a LOGIN x y\r\n" * 10)
    assert raw.ended()
    raw = Raw(hornet.port(25))
    raw.line()
    raw.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n" * 30)
    assert raw.ended()


def test_relaying_is_refused(hornet: Installation) -> None:
    """Nobody relays through us without a right to."""
    with hornet.smtp() as smtp:
        smtp.ehlo()
        smtp.mail("a@outside.test")
        assert smtp.rcpt("b@elsewhere.test")[0] in (550, 554)
    with hornet.smtp(587) as smtp:
        smtp.ehlo()
        assert smtp.mail("alice@example.test")[0] == 530


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("hostname = 5\n", "hostname"),
        ("this is no TOML\n", "hornetmail.toml"),
        ("[limits]\nmax_size = 'big'\n", "max_size"),
        ("[limts]\nmax_size = 1\n", "limts"),
    ],
)
def test_malformed_configuration(hornet: Installation, line: str, names: str) -> None:
    """``check-config`` and ``twistd`` name the file and the place, and exit 1."""
    broken = hornet.root / f"broken-{time.monotonic_ns()}" / "hornetmail.toml"
    broken.parent.mkdir()
    broken.write_text(line)
    for command in (
        [BIN / "hornetmail", "-c", broken, "check-config"],
        [BIN / "twistd", "-n", "--pidfile=", "hornetmail", "-c", broken],
    ):
        done = subprocess.run(command, capture_output=True, timeout=60, cwd=hornet.root)
        assert done.returncode == 1, command
        assert names in done.stderr.decode(), done.stderr
        assert "Traceback" not in done.stderr.decode()


def test_second_start_is_refused(hornet: Installation) -> None:
    """One process per data directory: the second one names the first one's PID and exits 1."""
    assert hornet.process is not None
    done = subprocess.run(
        [BIN / "twistd", "-n", "--pidfile=", "hornetmail", "-c", hornet.config], capture_output=True, timeout=60, cwd=hornet.root
    )
    assert done.returncode == 1
    assert str(hornet.process.pid) in done.stderr.decode()
