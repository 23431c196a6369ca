"""What the comparisons of mail readers share: both servers with the same messages, a load program that costs little, and what each server costs."""

from __future__ import annotations

import http.client
import re
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from hornetmail.testing.corpus import messages
from tests.peers.dovecot import Dovecot
from tests.peers.installation import Installation
from tests.peers.postfix import free_port

PASSWORD = "at-home-1234"
DOMAIN = "example.test"

LIMITS = """\
protocols = imap pop3
mail_max_userip_connections = 100000
default_vsz_limit = 1024M
auth_cache_size = 4M
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
service imap {{
  process_limit = 20000
}}
service imap-login {{
  process_limit = 20000
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""
"""Dovecot as people run it, but for the numbers of processes, which would otherwise end the measurement."""

Script = Generator[bytes, bytes, None]
"""A client: it yields what to send, tagged (``TAG`` stands for the tag), and gets the answer up to the tagged line."""

TAG = b"\0tag"


class Server:
    """One of the two. ``users`` have ``PASSWORD``."""

    name: str
    imap: int
    imaps: int
    pop: int
    process: int

    def close(self) -> None:
        """End it and remove it."""


class Hornet(Server):
    """HornetMail, whole, as ``twistd`` runs it."""

    name = "HornetMail"

    def __init__(self, users: Sequence[str]) -> None:
        self.installation = Installation()
        self._late = [0.0, 0.0]
        self.installation.set(connections=100_000, per_ip=100_000)
        try:
            self.installation.start()
            self.installation.add_domain(DOMAIN, None)
            for user in users:
                self.installation.add_mailbox(user, PASSWORD)
        except BaseException:
            self.installation.close()
            raise
        self.imap, self.imaps, self.pop = (self.installation.port(offset) for offset in (143, 993, 110))
        assert self.installation.process is not None
        self.process = self.installation.process.pid

    def tell_turns(self, after: str) -> None:
        """Print what the reactor itself counts as long turns (over 50 ms) since this was asked last."""
        connection = http.client.HTTPConnection("127.0.0.1", self.installation.port(80), timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        now = [float(found[1]) if (found := re.search(rf"^hornetmail_reactor_late_seconds_{word} (\S+)$", text, re.MULTILINE)) else 0.0
               for word in ("count", "sum")]  # fmt: skip
        count, seconds = (one - before for one, before in zip(now, self._late, strict=True))
        self._late = now
        longest = re.search(r"^hornetmail_reactor_longest_turn_seconds\{what=\"(.*)\"\} (\S+)$", text, re.MULTILINE)
        said = f"{count:.0f}, together {seconds * 1000:.0f} ms"
        if count and longest is not None:
            said += f"; the longest of the last minutes {float(longest[2]) * 1000:.0f} ms, in {longest[1]}"
        print(f"  our turns over 50 ms {after}: {said}", flush=True)

    @property
    def pair(self) -> tuple[Path, Path]:
        """Its certificate and key."""
        return self.installation.dir / "tls" / "cert.pem", self.installation.dir / "tls" / "key.pem"

    def close(self) -> None:
        """End it and remove it."""
        self.installation.close()


class Dove(Server):
    """Debian's Dovecot, on Maildir on the same disk."""

    name = "Dovecot"

    def __init__(self, certificate: Path, key: Path) -> None:
        self.imaps, self.pop = free_port(), free_port()
        self.dovecot = Dovecot(PASSWORD, LIMITS.format(certificate=certificate, key=key, imaps=self.imaps, pop=self.pop))
        self.imap = self.dovecot.port
        self.process = self.dovecot.process.pid

    def close(self) -> None:
        """End it and remove it."""
        self.dovecot.close()


def corpus(count: int) -> list[bytes]:
    """The messages of a mailbox: varied, the same ones each time."""
    found: Iterator[bytes] = (
        sample.data
        for sample in messages(count * 2, 7, sender="sender@outside.test", recipients=["alice@example.test"])
        if len(sample.data) < 65_536 and sample.kind != "header only" and b"\0" not in sample.data
    )
    return [data for data, _ in zip(found, range(count), strict=False)]


def family(process: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        children.setdefault(int(words[1]), []).append(int(path.parent.name))
    found, waiting = [], [process]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += children.get(one, [])
    return found


def cpu_seconds(process: int) -> float:
    """CPU time of a process, all below it, and those of them that have ended."""
    ticks = 0
    for one in family(process):
        try:
            words = Path(f"/proc/{one}/stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, words[11:15]))
    return ticks / 100


def memory_bytes(process: int) -> int:
    """What they take of the machine's memory, what they share counted once (PSS)."""
    total = 0
    for one in family(process):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024


class Client:
    """Runs scripts one after the other, each over a connection of its own. The answers' times are in ``times``, by the command's first word."""

    socket: socket.socket

    def __init__(self, port: int, *scripts: Script, tls: bool = False) -> None:
        self.times: dict[str, list[float]] = {}
        self.commands = 0
        self._port = port
        self._tls = tls
        self._scripts = list(scripts)

    def connect(self) -> bool:
        """To the next script's beginning; false if there is none."""
        if not self._scripts:
            return False
        self._script = self._scripts.pop(0)
        self.socket = socket.create_connection(("127.0.0.1", self._port), timeout=300)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
        self._number = 0
        self._tag, self._word = b"* OK", ""
        self._pieces: list[bytes] = []
        self._end = b""
        return True

    def received(self) -> bool:
        """Something came. False at the end of the script, whose connection is left to whoever asks."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError(f"the server closed the connection after {self._word}: {self._end!r}")
        self._pieces.append(data)
        self._end = (self._end + data)[-1000:]
        last = self._end[:-2].rpartition(b"\n")[2]
        if not self._end.endswith(b"\r\n") or not last.startswith(self._tag):
            return True
        if self._number:
            if not last.startswith(self._tag + b"OK"):
                raise AssertionError(f"{self._word}: {last!r}")
            self.commands += 1
            self.times.setdefault(self._word, []).append(time.perf_counter() - self._began)
        answer = b"".join(self._pieces)
        self._pieces.clear()
        self._end = b""
        try:
            command = self._script.send(answer) if self._number else next(self._script)
        except StopIteration:
            return False
        self._number += 1
        self._tag = b"t%d " % self._number
        self._word = command.split(b" ", 2)[1].strip().decode()
        self._began = time.perf_counter()
        self.socket.sendall(command.replace(TAG, self._tag.rstrip(), 1))
        return True


def run(clients: Sequence[Client], stay: bool = False) -> float:
    """All of them side by side, to their ends; how long that took, in seconds. ``stay``: their last connections stay open."""
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        for client in clients:
            if client.connect():
                selector.register(client.socket, selectors.EVENT_READ, client)
        while selector.get_map():
            for key, _ in selector.select(300):
                client = key.data
                going = client.received()
                while going and isinstance(client.socket, ssl.SSLSocket) and client.socket.pending():
                    going = client.received()
                if not going:
                    selector.unregister(key.fileobj)
                    if not stay:
                        client.socket.close()
                    if client.connect():
                        selector.register(client.socket, selectors.EVENT_READ, client)
        return time.perf_counter() - began


def spent(server: Server, work: Callable[[], float]) -> tuple[float, float]:
    """How long it took, and what CPU the server spent on it, in seconds."""
    before = cpu_seconds(server.process)
    took = work()
    return took, cpu_seconds(server.process) - before


def login(user: str) -> bytes:
    """The command."""
    return TAG + b" LOGIN %b %b\r\n" % (user.encode(), PASSWORD.encode())


FILLING = 16
"""Connections that fill a mailbox, so that each message need not wait for the disk alone."""


def fill(server: Server, user: str, texts: Sequence[bytes]) -> None:
    """Put messages into a mailbox; most have been read."""
    run([Client(server.imap, _filling(user, texts, first)) for first in range(min(FILLING, len(texts)))])


def _filling(user: str, texts: Sequence[bytes], first: int) -> Script:
    yield login(user)
    for number, text in list(enumerate(texts))[first::FILLING]:
        flags = b"" if number % 10 == 0 else b"(\\Seen) "
        yield TAG + b" APPEND INBOX " + flags + b"{%d+}\r\n" % len(text) + text + b"\r\n"
    yield TAG + b" LOGOUT\r\n"
