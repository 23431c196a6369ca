"""The process itself: how it starts, stops, reloads, refuses to start, and gets up again."""

from __future__ import annotations

import datetime
import http.client
import imaplib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from hornetmail.cli.client import Client
from hornetmail.compose.ground.certificate import self_signed
from tests.peers.installation import BIN, Installation
from tests.peers.scripted import HANG, ScriptedServer
from tests.peers.waiting import until

USER, PASSWORD = "alice@example.test", "alice-secret-1"

IN_TIME = 20.0
"""Seconds to end in: 5, and a busy machine's share. What it might wait for would last for minutes, or for ever."""

DOORS = {"smtp": {24, 25, 26, 465, 587}, "portal": {110, 143, 993, 995}, "web": {80, 443}, "delivery": set(), "archive": set()}
"""Offsets of the ports that each role opens."""


@pytest.fixture(scope="module")
def hornet() -> Iterator[Installation]:
    """A domain without a primary: the portal is its mail server for good. Tests start and stop it as they like."""
    installation = Installation()
    try:
        installation.start()
        installation.add_domain("example.test", None)
        installation.add_mailbox(USER, PASSWORD)
        installation.stop()
        yield installation
    finally:
        installation.close()


@pytest.fixture
def running(hornet: Installation) -> Iterator[Installation]:
    """It runs; whatever the test did, the next one finds it stopped."""
    hornet.start()
    yield hornet
    if hornet.process is not None:
        hornet.stop(kill=True)


OPENED: list[socket.socket] = []


def dial(hornet: Installation, offset: int) -> socket.socket:
    """A socket that is closed after the test."""
    OPENED.append(socket.create_connection(("127.0.0.1", hornet.port(offset)), 60))
    return OPENED[-1]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Sockets of a test do not outlive it."""
    yield
    while OPENED:
        OPENED.pop().close()


def inbox(hornet: Installation) -> list[bytes]:
    box = imaplib.IMAP4("127.0.0.1", hornet.port(143), timeout=60)
    box.login(USER, PASSWORD)
    box.select(readonly=True)
    _, found = box.fetch("1:*", "(BODY.PEEK[])") if box.search(None, "ALL")[1][0] else ("OK", [])
    box.logout()
    return [part[1] for part in found if isinstance(part, tuple)]


def mail(word: str) -> bytes:
    return f"From: <a@outside.test>\r\nTo: <{USER}>\r\nSubject: {word}\r\n\r\n{word}\r\n".encode()


def lines(connection: socket.socket) -> bytes:
    """Everything until the end."""
    found = b""
    while True:
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            return found
        if not more:
            return found
        found += more


def test_sigterm_finishes_what_runs(running: Installation) -> None:
    """SIGTERM in the middle of DATA: the transaction ends with its 250, idle SMTP connections get 421, IMAP ones BYE; code 0 within 5 s."""
    process = running.process
    assert process is not None
    idle = dial(running, 25)
    idle.recv(1000)
    box = dial(running, 143)
    box.recv(1000)
    pop = dial(running, 110)
    pop.recv(1000)
    busy = running.smtp()
    busy.ehlo()
    busy.mail("a@outside.test")
    busy.rcpt(USER)
    assert busy.docmd("DATA")[0] == 354
    data = mail("in the middle")
    busy.send(data[:30])
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert lines(idle).startswith(b"421 ")
    assert b"* BYE" in lines(box)
    lines(pop)
    assert process.poll() is None
    busy.send(data[30:] + b".\r\n")
    assert busy.getreply()[0] == 250
    assert process.wait(60) == 0
    assert time.monotonic() - began < IN_TIME
    busy.close()
    running.process = None
    running.start()
    until(lambda: any(each.endswith(data) for each in inbox(running)), "what got its 250 is there")


def test_sigterm_waits_for_nobody(running: Installation) -> None:
    """A client that never ends its DATA does not keep the service: exit within 5 s with code 0 all the same."""
    process = running.process
    assert process is not None
    stuck = running.smtp()
    stuck.ehlo()
    stuck.mail("a@outside.test")
    stuck.rcpt(USER)
    assert stuck.docmd("DATA")[0] == 354
    web = dial(running, 80)
    web.sendall(b"GET / HTTP/1.1\r\n")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert time.monotonic() - began < IN_TIME
    running.process = None
    stuck.close()
    web.close()


def test_sigterm_in_a_delivery(running: Installation) -> None:
    """A primary that says nothing after the final dot does not keep the service; after the restart the mail is handed over again,
    byte for byte the same (rules 1 and 11)."""
    primary = ScriptedServer()
    try:
        process = running.process
        assert process is not None
        running.add_domain("slow.test", primary.port, "--failover", "manual")
        running.add_mailbox("alice@slow.test", PASSWORD)
        primary.script = {"DOT": HANG}
        data = mail("on the way")
        running.send("a@outside.test", ["alice@slow.test"], data)
        until(lambda: primary.to("alice@slow.test"), "the dot was sent")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert time.monotonic() - began < IN_TIME
        running.process = None
        primary.well()
        running.start()
        Client(running.dir / "hornetmail.sock").call("POST", "queue", "flush", all=True)
        until(lambda: len(primary.to("alice@slow.test")) == 2, "it is handed over again")
        first, second = primary.to("alice@slow.test")
        assert first == second
        assert first.data.endswith(data)
        running.until_idle()
    finally:
        primary.stop()


def test_daemon(hornet: Installation) -> None:
    """Without ``-n`` twistd goes into the background; lock and PID file are the daemon's."""
    pidfile = hornet.root / "twistd.pid"
    done = subprocess.run(
        [BIN / "twistd", f"--pidfile={pidfile}", f"--logfile={hornet.root / 'daemon.log'}", "hornetmail", "-c", hornet.config],
        capture_output=True, timeout=60, cwd=hornet.root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pid = int(pidfile.read_text())
    try:
        until(lambda: answers(hornet), "it answers")
        second = subprocess.run(
            [BIN / "twistd", "-n", "--pidfile=", "hornetmail", "-c", hornet.config],
            capture_output=True,
            timeout=60,
            cwd=hornet.root,
        )
        assert second.returncode == 1
        assert str(pid) in second.stderr.decode()
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: not pidfile.exists(), "it is gone")
    hornet.start()
    assert hornet.stop() == 0


def test_sighup(hornet: Installation) -> None:
    """SIGHUP reads the certificate and opens the log file anew; connections that are up stay up; a broken pair changes nothing."""
    text = hornet.config.read_text()
    log = hornet.dir / "hornetmail.log"
    hornet.config.write_text(text.replace('file = ""', f'file = "{log}"'))
    try:
        hornet.start()
        process = hornet.process
        assert process is not None

        def shown() -> str:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(dial(hornet, 993)) as tls:
                return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")

        before = shown()
        up = imaplib.IMAP4("127.0.0.1", hornet.port(143))
        certificate, key = self_signed("renewed.hornet.test", datetime.datetime.now(datetime.UTC))
        (hornet.dir / "tls" / "cert.pem").write_bytes(certificate)
        (hornet.dir / "tls" / "key.pem").write_bytes(key)
        assert shown() == before
        moved = log.with_name("hornetmail.log.1")
        log.rename(moved)
        process.send_signal(signal.SIGHUP)
        until(log.exists, "the log file is opened anew")
        until(lambda: shown() != before, "the new certificate is shown")
        assert shown().split() == certificate.decode().split()
        assert up.noop()[0] == "OK"
        up.logout()
        size = moved.stat().st_size
        hornet.send("a@outside.test", [USER], mail("logged"))
        until(lambda: "delivered" in log.read_text(), "the new file is written")
        assert moved.stat().st_size == size
        (hornet.dir / "tls" / "key.pem").write_bytes(b"nonsense")
        process.send_signal(signal.SIGHUP)
        until(lambda: "cannot be used" in log.read_text(), "the broken pair is told")
        assert shown().split() == certificate.decode().split()
        (hornet.dir / "tls" / "key.pem").write_bytes(key)
        assert hornet.stop() == 0
    finally:
        if hornet.process is not None:
            hornet.stop(kill=True)
        hornet.config.write_text(text)


@pytest.mark.parametrize("role", list(DOORS))
def test_thin_plugins(hornet: Installation, role: str) -> None:
    """``twistd hornetmail-ROLE`` opens the doors of its role only; the command line reaches it."""
    log = (hornet.root / "twistd.log").open("ab")
    process = subprocess.Popen(
        [BIN / "twistd", "-n", "--pidfile=", f"hornetmail-{role}", "-c", str(hornet.config)],
        cwd=hornet.root, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    log.close()
    try:
        until(lambda: answers(hornet), "the command line's socket answers")
        wanted = DOORS[role]
        until(lambda: open_ports(hornet) == wanted, f"{wanted} are open, and nothing else")
        assert list(hornet.status()["roles"]) == [role]
    finally:
        process.terminate()
        assert process.wait(60) == 0


def answers(hornet: Installation) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        descriptor = os.open(hornet.dir, os.O_PATH)
        try:
            probe.connect(f"/proc/self/fd/{descriptor}/hornetmail.sock")
        except OSError:
            return False
        finally:
            os.close(descriptor)
    return True


def open_ports(hornet: Installation) -> set[int]:
    found = set()
    for offset in set().union(*DOORS.values()):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", hornet.port(offset))) == 0:
                found.add(offset)
    return found


def foreign_root(hornet: Installation) -> str:
    from hornetmail.archive.keys.keyring import RootFile, new_root
    from hornetmail.disk.files import Disk

    RootFile(hornet.dir / "keys" / "archive-root.key", Disk()).write(new_root())
    return "root key"


def short_server_key(hornet: Installation) -> str:
    (hornet.dir / "keys" / "server.key").write_bytes(b"short")
    return "server.key"


def no_server_key(hornet: Installation) -> str:
    (hornet.dir / "keys" / "server.key").unlink()
    return "server.key"


def other_server_key(hornet: Installation) -> str:
    (hornet.dir / "keys" / "server.key").write_bytes(bytes(32))
    return "control"


def no_certificate(hornet: Installation) -> str:
    (hornet.dir / "tls" / "cert.pem").unlink()
    return "cert.pem"


def port_taken(hornet: Installation) -> str:
    taken = socket.create_server(("127.0.0.1", hornet.port(143)))
    OPENED.append(taken)
    return str(hornet.port(143))


@pytest.mark.parametrize(
    "damage",
    [foreign_root, short_server_key, no_server_key, other_server_key, no_certificate, port_taken],
    ids=lambda value: value.__name__,
)
def test_refuses_to_start(hornet: Installation, damage: Callable[[Installation], str]) -> None:
    """What must be right and is not: one line on standard error names it, exit 1, nothing is changed; put right, it starts again."""
    saved = hornet.root / "saved"
    shutil.copytree(hornet.dir, saved)
    try:
        names = damage(hornet)
        done = subprocess.run(
            [BIN / "twistd", "-n", "--pidfile=", "hornetmail", "-c", hornet.config],
            capture_output=True,
            timeout=60,
            cwd=hornet.root,
        )
        error = done.stderr.decode()
        assert done.returncode == 1, error
        assert "Traceback" not in error
        told = [line for line in error.splitlines() if line.startswith("hornetmail: ")]
        assert len(told) == 1, error
        assert names in told[0]
    finally:
        while OPENED:
            OPENED.pop().close()
        shutil.rmtree(hornet.dir)
        saved.rename(hornet.dir)
    hornet.start()
    assert hornet.stop() == 0


def test_after_kill(running: Installation) -> None:
    """After kill -9 the same data directory starts again by itself, with all that got its 250."""
    datas = [mail(f"before the end {number}") for number in range(20)]
    for data in datas:
        running.send("a@outside.test", [USER], data)
    running.stop(kill=True)
    running.start()
    until(lambda: all(any(each.endswith(data) for each in inbox(running)) for data in datas), "everything is there")
    running.until_idle()
    assert running.stop() == 0


def test_second_start(running: Installation) -> None:
    """A command that needs the data directory for itself is refused while the service runs, and names its PID."""
    assert running.process is not None
    done = subprocess.run(
        [BIN / "hornetmail", "-c", running.config, "archive", "rebuild"], capture_output=True, timeout=60, cwd=running.root
    )
    assert done.returncode == 1
    assert str(running.process.pid) in done.stderr.decode()
    assert running.healthy()


def test_below_a_path() -> None:
    """A45: behind a proxy that shows the site under a path, links that lead out of it, or a site that only works at the root."""
    installation = Installation()
    try:
        installation.set(prefix='"/archive"')
        installation.start()
        connection = http.client.HTTPConnection("127.0.0.1", installation.port(80), timeout=60)
        connection.request("GET", "/archive/login")
        answer = connection.getresponse()
        page = answer.read().decode()
        connection.close()
        assert answer.status == 200
        assert 'data-base="/archive/"' in page
        assert 'action="/archive/login"' in page
    finally:
        installation.close()
