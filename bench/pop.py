"""People who download: a POP3 client that fetches all of its mailbox, from HornetMail and from Debian's Dovecot, in turn, and their ratio.

    .venv/bin/python bench/pop.py [--messages 1000] [--pairs 5] [--size 10000]

The same messages on the same disk, Dovecot's in a Maildir. The client asks for one message after the other, as clients without pipelining do. Time is the
client's; CPU is what the server's processes spent. The two change who begins; the first pair warms up and does not count.
"""

from __future__ import annotations

import argparse
import poplib
import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.reading import DOMAIN, PASSWORD, Dove, Hornet, Server, fill, spent

USER = f"user0@{DOMAIN}"


def texts(count: int, size: int) -> list[bytes]:
    """Messages of that size, some lines of which begin with a dot."""
    chance = random.Random(3)
    head = "From: sender@outside.test\r\nTo: %s\r\nSubject: number %d\r\nMessage-ID: <%d@outside.test>\r\n\r\n"
    found = []
    for number in range(count):
        lines = [("." if chance.random() < 0.02 else "") + f"{chance.getrandbits(280):070x}" for _ in range(size // 72)]
        found.append((head % (USER, number, number) + "\r\n".join(lines) + "\r\n").encode())
    return found


def download(server: Server, count: int) -> float:
    """Seconds for all of it, log-in included."""
    began = time.perf_counter()
    box = poplib.POP3("127.0.0.1", server.pop, timeout=300)
    box.user(USER)
    box.pass_(PASSWORD)
    if box.stat()[0] != count:
        raise AssertionError(f"{server.name} has {box.stat()[0]} messages, not {count}")
    for number in range(1, count + 1):
        box.retr(number)
    took = time.perf_counter() - began
    box.quit()
    return took


def main() -> None:
    """All pairs and their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--size", type=int, default=10_000)
    arguments = parser.parse_args()
    hornet = Hornet([USER])
    try:
        servers: tuple[Server, Server] = (hornet, Dove(*hornet.pair))
        try:
            mails = texts(arguments.messages, arguments.size)
            for server in servers:
                fill(server, USER, mails)
            figures: dict[str, list[tuple[float, float]]] = {server.name: [] for server in servers}
            for pair in range(arguments.pairs + 1):
                for server in servers if pair % 2 else tuple(reversed(servers)):
                    figure = spent(server, lambda server=server: download(server, len(mails)))  # type: ignore[misc]
                    if pair:
                        figures[server.name].append(figure)
        finally:
            servers[1].close()
    finally:
        hornet.close()
    megabytes = sum(map(len, mails)) / 1e6
    for name, found in figures.items():
        took, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name}: {megabytes / took:.1f} MB/s, {took * 1000:.0f} ms, CPU {cpu:.2f} s", flush=True)
    ours, theirs = (figures[server.name] for server in servers)
    print(f"ratio {statistics.median(b[0] / a[0] for a, b in zip(ours, theirs, strict=True)):.2f}", flush=True)


if __name__ == "__main__":
    main()
