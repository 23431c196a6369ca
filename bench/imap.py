"""People who read: HornetMail beside Debian's Dovecot on Maildir, on the same disk, with the same messages, in turn, and their ratios.

    .venv/bin/python bench/imap.py [--messages 3000 10000] [--pairs 3] [--clients 10] [--rounds 20] [--idle 5000] [--searched 10000] [--parts PART]…

Parts: ``mixed`` (log in, select, append, noop, flags, envelope, structure, body, store, search, expunge, status, log out; each client its own mailbox),
``folder`` (SELECT, and FETCH of flags, envelope and structure, headers, bodies of the whole folder), ``resync`` (SELECT with QRESYNC after 50 changes and 10 removals), ``search`` (SEARCH TEXT), ``idle`` (memory of connections
that have a folder open and wait, plain and over TLS; Dovecot is asked with a twentieth of them). Times are those of one load program on the other core;
CPU is what the server's processes spent, which says as much on a busy machine. A bystander asks NOOP all the while: its worst answer is what
everybody feels; turns of our reactor over 50 ms, by its own count (``/metrics``), are told after each part. The two take turns and change who begins; the first pair warms up and does not count.
"""

from __future__ import annotations

import argparse
import gc
import re
import resource
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.reading import (
    DOMAIN,
    TAG,
    Client,
    Dove,
    Hornet,
    Script,
    Server,
    corpus,
    family,
    fill,
    login,
    memory_bytes,
    run,
    spent,
)
from tests.peers.waiting import until

PARTS = ("mixed", "folder", "resync", "search", "idle")
HEADERS = b"FROM TO CC BCC SUBJECT DATE MESSAGE-ID REFERENCES IN-REPLY-TO CONTENT-TYPE REPLY-TO LIST-ID"
WHOLE = {
    "SELECT": b" NOOP",
    "FLAGS": b" FETCH 1:* (FLAGS)",
    "ENVELOPE BODYSTRUCTURE": b" FETCH 1:* (ENVELOPE BODYSTRUCTURE)",
    "headers": b" FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (" + HEADERS + b")])",
    "bodies": b" FETCH 1:* (BODY.PEEK[])",
}


def mixed(user: str, text: bytes, number: int) -> Script:
    """One visit of a client."""
    yield login(user)
    yield TAG + b" SELECT INBOX\r\n"
    yield TAG + b" APPEND INBOX (\\Seen) {%d+}\r\n" % len(text) + text + b"\r\n"
    yield TAG + b" NOOP\r\n"
    yield TAG + b" FETCH 1:50 (UID FLAGS)\r\n"
    yield TAG + b" FETCH 1:20 (UID ENVELOPE)\r\n"
    yield TAG + b" FETCH %d:%d (UID BODYSTRUCTURE)\r\n" % (number % 20 + 1, number % 20 + 20)
    for at in range(3):
        yield TAG + b" FETCH %d (UID BODY.PEEK[])\r\n" % (number % 30 + at * 10 + 1)
    yield TAG + b" STORE %d +FLAGS (\\Flagged)\r\n" % (number % 40 + 1)
    yield TAG + b" STORE %d -FLAGS (\\Flagged)\r\n" % (number % 40 + 1)
    yield TAG + b" STORE * +FLAGS (\\Deleted)\r\n"
    yield TAG + b" SEARCH UNSEEN\r\n"
    yield TAG + b" EXPUNGE\r\n"
    yield TAG + b" STATUS Sent (MESSAGES UNSEEN UIDNEXT)\r\n"
    yield TAG + b" LOGOUT\r\n"


MIXED = 17
"""Commands of a visit."""


def asking(user: str, command: bytes, select: bool = True) -> Script:
    """One command in a folder that is open."""
    yield login(user)
    if select:
        yield TAG + b" SELECT INBOX\r\n"
    yield TAG + command + b"\r\n"


def waiting(user: str) -> Script:
    """A connection with a folder open."""
    yield login(user)
    yield TAG + b" SELECT INBOX\r\n"


def changing(user: str, known: list[bytes]) -> Script:
    """Changes and removals behind the back of a client that knows the folder; ``known`` gets its UIDVALIDITY and modseq of before."""
    yield login(user)
    opened = yield TAG + b" SELECT INBOX (CONDSTORE)\r\n"
    for word in (b"UIDVALIDITY", b"HIGHESTMODSEQ"):
        found = re.search(word + rb" (\d+)", opened)
        assert found is not None, opened
        known.append(found[1])
    yield TAG + b" STORE 1:50 +FLAGS (\\Answered)\r\n"
    yield TAG + b" STORE 1:50 -FLAGS (\\Answered)\r\n"
    yield TAG + b" STORE 101:110 +FLAGS (\\Deleted)\r\n"
    yield TAG + b" EXPUNGE\r\n"


def returning(user: str, known: Sequence[bytes]) -> Script:
    """A client that comes back (RFC 7162)."""
    yield login(user)
    yield TAG + b" ENABLE QRESYNC\r\n"
    yield TAG + b" SELECT INBOX (QRESYNC (%b %b))\r\n" % (known[0], known[1])


class Bystander(threading.Thread):
    """Asks NOOP every few milliseconds; ``worst``: its longest wait, in seconds."""

    def __init__(self, port: int, user: str) -> None:
        super().__init__(daemon=True)
        self.worst = 0.0
        self._ended = threading.Event()
        self._client = Client(port, self._script(user))

    def _script(self, user: str) -> Script:
        yield login(user)
        while not self._ended.wait(0.005):
            yield TAG + b" NOOP\r\n"
        yield TAG + b" LOGOUT\r\n"

    def run(self) -> None:
        """Until it is ended."""
        run([self._client])

    def end(self) -> None:
        """No more."""
        self._ended.set()
        self.join()
        self.worst = max(self._client.times.get("NOOP", [0.0]))


@contextmanager
def watched(server: Server, user: str, worst: dict[str, float]) -> Iterator[None]:
    """With a bystander."""
    bystander = Bystander(server.imap, user)
    bystander.start()
    try:
        yield
    finally:
        bystander.end()
        worst[server.name] = max(worst.get(server.name, 0.0), bystander.worst)


Work = Callable[[Server], tuple[float, float]]


def pairs(name: str, servers: tuple[Server, Server], work: Work, count: int, unit: str, amount: float) -> None:
    """``work`` on both, in turn. ``amount`` of ``unit`` are done each time, or times are compared for 0. Ratios above 1 are ours to be proud of."""
    found: dict[str, list[tuple[float, float]]] = {server.name: [] for server in servers}
    for pair in range(count + 1):
        for server in servers if pair % 2 else tuple(reversed(servers)):
            figure = work(server)
            if pair:
                found[server.name].append(figure)
    ours, theirs = (found[server.name] for server in servers)
    ratio = statistics.median(b[0] / a[0] for a, b in zip(ours, theirs, strict=True))
    burnt = statistics.median(b[1] / max(a[1], 0.01) for a, b in zip(ours, theirs, strict=True))
    said = []
    for server in reversed(servers):
        took, cpu = (statistics.median(column) for column in zip(*found[server.name], strict=True))
        rate = f"{amount / took:7.0f} {unit}" if amount else f"{took * 1000:7.1f} ms"
        said.append(f"{server.name} {rate}, CPU {cpu:5.2f} s")
    print(f"{name:34}: {'; '.join(said)}; ratio {ratio:.2f}, by CPU {burnt:.2f}", flush=True)


def profile(clients: Sequence[Client], name: str) -> None:
    """Medians by command."""
    times: dict[str, list[float]] = {}
    for client in clients:
        for word, some in client.times.items():
            times.setdefault(word, []).extend(some)
    print(
        f"  {name}: " + ", ".join(f"{word} {statistics.median(some) * 1000:.2f}" for word, some in times.items()) + " ms",
        flush=True,
    )


def measure_mixed(servers: tuple[Server, Server], users: Sequence[str], text: bytes, arguments: argparse.Namespace) -> None:
    """Commands a second."""
    last: dict[str, list[Client]] = {}
    worst: dict[str, float] = {}

    def work(server: Server) -> tuple[float, float]:
        clients = [Client(server.imap, *(mixed(user, text, number) for number in range(arguments.rounds))) for user in users]
        last[server.name] = clients
        with watched(server, f"bystander@{DOMAIN}", worst):
            return spent(server, lambda: run(clients))

    pairs("mixed load", servers, work, arguments.pairs, "commands/s", float(MIXED * arguments.rounds * len(users)))
    for server in servers:
        profile(last[server.name], server.name)
    _bystanders(worst)


def _bystanders(worst: dict[str, float]) -> None:
    said = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in worst.items())
    print(f"  a bystander's longest wait: {said}", flush=True)


def measure_folder(servers: tuple[Server, Server], user: str, count: int, arguments: argparse.Namespace) -> None:
    """Whole folders."""
    worst: dict[str, float] = {}
    for name, command in WHOLE.items():

        def work(server: Server, command: bytes = command, name: str = name) -> tuple[float, float]:
            client = Client(server.imap, asking(user, command))
            with watched(server, f"bystander@{DOMAIN}", worst):
                _, cpu = spent(server, lambda: run([client]))
            took = client.times["SELECT" if name == "SELECT" else "FETCH"][0]
            return took, cpu

        pairs(f"{name}, {count} messages", servers, work, arguments.pairs, "", 0)
    _bystanders(worst)


def measure_resync(servers: tuple[Server, Server], user: str, count: int, arguments: argparse.Namespace) -> None:
    """Coming back to a folder that others changed."""
    worst: dict[str, float] = {}

    def work(server: Server) -> tuple[float, float]:
        known: list[bytes] = []
        run([Client(server.imap, changing(user, known))])
        client = Client(server.imap, returning(user, known))
        with watched(server, f"bystander@{DOMAIN}", worst):
            _, cpu = spent(server, lambda: run([client]))
        return client.times["SELECT"][0], cpu

    pairs(f"QRESYNC, {count} messages", servers, work, arguments.pairs, "", 0)
    _bystanders(worst)


def measure_search(servers: tuple[Server, Server], user: str, count: int, arguments: argparse.Namespace) -> None:
    """A text that few messages have."""
    worst: dict[str, float] = {}

    def work(server: Server) -> tuple[float, float]:
        client = Client(server.imap, asking(user, b' SEARCH TEXT "reklamation zylinder"'))
        with watched(server, f"bystander@{DOMAIN}", worst):
            _, cpu = spent(server, lambda: run([client]))
        return client.times["SEARCH"][0], cpu

    pairs(f"SEARCH TEXT, {count} messages", servers, work, arguments.pairs, "", 0)
    _bystanders(worst)


def measure_idle(servers: tuple[Server, Server], user: str, arguments: argparse.Namespace) -> None:
    """Memory of a connection that waits."""
    for tls in (False, True):
        each: dict[str, float] = {}
        for server in servers:
            count = arguments.idle if server is servers[0] else max(10, arguments.idle // 20)
            port = server.imaps if tls else server.imap
            clients = [Client(port, waiting(user), tls=tls) for _ in range(count + 1)]
            run(clients[:1], stay=True)
            before = memory_bytes(server.process)
            for at in range(1, count + 1, 20):
                run(clients[at : at + 20], stay=True)
            each[server.name] = (memory_bytes(server.process) - before) / count
            for client in clients:
                client.socket.close()
            until(lambda server=server: len(family(server.process)) < 20, "the connections are gone")
        ours, theirs = (each[server.name] for server in servers)
        said = ", ".join(f"{name} {size / 1024:.1f} KB" for name, size in each.items())
        print(f"a waiting connection{' over TLS' if tls else '':14}: {said}; {theirs / max(ours, 1):.1f} times", flush=True)


def main() -> None:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, nargs="+", default=[3000, 10_000])
    parser.add_argument("--searched", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--own", type=int, default=300, help="messages in each client's mailbox of the mixed load")
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    users = [f"user{number}@{DOMAIN}" for number in range(arguments.clients)]
    folders = {count: f"folder{count}@{DOMAIN}" for count in sorted({*arguments.messages, arguments.searched})}
    hornet = Hornet([*users, *folders.values(), f"bystander@{DOMAIN}"])
    try:
        servers: tuple[Server, Server] = (hornet, Dove(*hornet.pair))
        try:
            texts = corpus(max(arguments.own, *folders))
            gc.freeze()
            if "mixed" in arguments.parts:
                for server in servers:
                    for user in users:
                        fill(server, user, texts[: arguments.own])
                    run([Client(server.imap, _made(user)) for user in users if server is servers[1]])
                hornet.tell_turns("at the start, and while mailboxes were filled")
                measure_mixed(servers, users, texts[3], arguments)
                hornet.tell_turns("under the mixed load")
            for count in folders:
                for server in servers if {"folder", "resync", "search", "idle"}.intersection(arguments.parts) else ():
                    fill(server, folders[count], texts[:count])
                hornet.tell_turns(f"while the folder of {count} was filled")
                if "folder" in arguments.parts and count in arguments.messages:
                    measure_folder(servers, folders[count], count, arguments)
                if "search" in arguments.parts and count == arguments.searched:
                    measure_search(servers, folders[count], count, arguments)
                if "resync" in arguments.parts and count == max(folders):
                    measure_resync(servers, folders[count], count, arguments)
                hornet.tell_turns(f"with the folder of {count}, without filling it")
            if "idle" in arguments.parts:
                measure_idle(servers, folders[arguments.messages[0]], arguments)
                hornet.tell_turns("with waiting connections")
        finally:
            servers[1].close()
    finally:
        hornet.close()


def _made(user: str) -> Script:
    """The folder that ours has from the beginning."""
    yield login(user)
    yield TAG + b" CREATE Sent\r\n"
    yield TAG + b" LOGOUT\r\n"


if __name__ == "__main__":
    main()
