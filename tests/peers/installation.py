"""A real HornetMail: set up by ``hornetmail init``, run by ``twistd``, administered by the command line."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.peers.nameserver import NameServer
from tests.peers.waiting import until

BIN = Path(sys.executable).parent

OFFSETS = (24, 25, 26, 80, 110, 143, 443, 465, 587, 993, 995)


class Ports:
    """``base`` for ``--ports``: a thousand ports that are this one's until ``close``. Below those that the system gives to whoever dials, and held by a lock: else
    somebody else's are there when a service that was stopped starts again."""

    def __init__(self) -> None:
        places = list(range(11_000, 32_000, 1000))  # no browser opens a page at 10080
        first = os.getpid() % len(places)
        for base in [*places[first:], *places[:first]]:
            lock = (Path(tempfile.gettempdir()) / f"hornetmail-test-ports-{base}").open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for offset in OFFSETS:
                    with socket.socket() as probe:
                        probe.bind(("127.0.0.1", base + offset))
            except OSError:
                lock.close()
                continue
            self.base = base
            self._lock = lock
            return
        raise AssertionError("no free range of ports")

    def close(self) -> None:
        """Others may have them."""
        self._lock.close()


class Failed(Exception):
    """A command exited with ``code``; ``error`` is its standard error."""

    def __init__(self, words: tuple[str, ...], code: int, error: str) -> None:
        super().__init__(f"hornetmail {' '.join(words)}: exit {code}: {error}")
        self.code = code
        self.error = error


class Installation:
    """One data directory and, while it is started, one process. ``names`` is its DNS: nothing exists that a test has not published."""

    def __init__(self, hostname: str = "mx.hornet.test") -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hornetmail-test-"))
        self.dir = self.root / "data"
        self.ports = Ports()
        self.base = self.ports.base
        self.hostname = hostname
        self.process: subprocess.Popen[bytes] | None = None
        self.initial = self._call("init", "--dir", str(self.dir), "--hostname", hostname, "--ports", str(self.base))
        self.names = NameServer()
        self.set(servers=f'["{self.names.address}"]')

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.dir / "hornetmail.toml"

    def set(self, **values: object) -> None:
        """Other values for keys of the configuration that ``init`` wrote; each key stands there once, on a line of its own."""
        text = self.config.read_text()
        for name, value in values.items():
            text, found = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
            assert found == 1, name
        self.config.write_text(text)

    @property
    def admin_password(self) -> str:
        """The one-time password that init printed."""
        found = re.search(r"password:?\s+(\S+)", self.initial, re.IGNORECASE)
        assert found, self.initial
        return found.group(1)

    @property
    def admin(self) -> str:
        """The administrator's log-in that init printed."""
        found = re.search(r"(\S+@\S+)", self.initial)
        assert found, self.initial
        return found.group(1)

    def port(self, offset: int) -> int:
        """The port of a listener by its standard number, with 26 for the relay door."""
        return self.base + offset

    def start(self, *options: str, wait: bool = True) -> None:
        """Start twistd; returns when it is healthy."""
        log = (self.root / "twistd.log").open("ab")
        self.process = subprocess.Popen(
            [BIN / "twistd", "-n", "--pidfile=", "hornetmail", "-c", str(self.config), *options],
            cwd=self.root, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        log.close()
        if wait:
            until(self.healthy, "HornetMail is healthy")

    def healthy(self) -> bool:
        """GET /healthz answers 200. AssertionError with its log if the process is gone."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()[-6000:]
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port(80), timeout=60)
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
            connection.close()
        except OSError:
            return False
        return status == 200

    def stop(self, kill: bool = False) -> int:
        """SIGTERM (or SIGKILL) and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        code = self.process.wait(60)
        self.process = None
        return code

    def close(self) -> None:
        """End it and remove all of it."""
        if self.process is not None:
            self.stop(kill=True)
        self.names.stop()
        self.ports.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def log(self) -> str:
        """Everything it said."""
        path = self.root / "twistd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _call(self, *words: str, stdin: str = "", password: str = "") -> str:
        environment = {**os.environ, **({"HORNETMAIL_PASSWORD": password} if password else {})}
        done = subprocess.run(
            [BIN / "hornetmail", *words], input=stdin.encode(), capture_output=True, timeout=120, env=environment, cwd=self.root
        )
        if done.returncode:
            raise Failed(words, done.returncode, done.stderr.decode(errors="replace").strip())
        return done.stdout.decode()

    def command(self, *words: str, stdin: str = "", password: str = "") -> str:
        """``hornetmail -c … WORDS``; its standard output. Raises Failed."""
        return self._call("-c", str(self.config), *words, stdin=stdin, password=password)

    def json(self, *words: str, password: str = "") -> Any:
        """The same with ``--json``, parsed."""
        return json.loads(self.command(*words, "--json", password=password))

    def status(self) -> Any:
        """``status --json``."""
        return self.json("status")

    def mode(self, domain: str = "example.test") -> str:
        """A domain's mode."""
        return str(next(each["mode"] for each in self.status()["domains"] if each["name"] == domain))

    def add_domain(self, name: str, primary: int | None, *words: str) -> None:
        """A domain, with its primary on a loopback port if there is one."""
        self.command("domain", "add", name, *(["--primary", f"127.0.0.1:{primary}"] if primary else []), *words)

    def add_mailbox(self, address: str, password: str, *words: str) -> None:
        """A registered mailbox."""
        self.command("mailbox", "add", address, "--password-stdin", *words, stdin=password + "\n")

    def smtp(self, offset: int = 25) -> smtplib.SMTP:
        """An SMTP connection to one of its doors."""
        return smtplib.SMTP("127.0.0.1", self.port(offset), local_hostname="client.test", timeout=60)

    def send(self, sender: str, recipients: list[str], data: bytes, offset: int = 25) -> None:
        """One message over a connection of its own; raises smtplib's errors."""
        with self.smtp(offset) as smtp:
            smtp.sendmail(sender, recipients, data, ["BODY=8BITMIME"] if any(b > 127 for b in data) else [])

    def idle(self) -> bool:
        """Nothing is left in the queue and nothing waits for the archive."""
        queue = self.status()["queue"]
        return queue["messages"] == 0 and queue["archive_pending"] == 0

    def until_idle(self, seconds: float = 60.0) -> None:
        """Wait for that."""
        until(self.idle, "the queue is empty", seconds=seconds, every=0.1)
