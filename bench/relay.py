"""Accept, deliver to the primary and archive, against Postfix relaying only: messages per second and their ratio.

    .venv/bin/python bench/relay.py [--messages 2000] [--pairs 3] [--connections 20]

Load: ``smtp-source``; primary: ``smtp-sink``, both Debian's. A run counts from the first byte sent to the last message at the sink; for HornetMail
also until the archive has taken all of them (staged: encrypted and on disk). The two systems take turns, and the median of the pairs counts.
Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.peers.installation import Installation
from tests.peers.postfix import Postfix, free_port
from tests.peers.waiting import until

SINK = "/usr/sbin/smtp-sink"
SOURCE = "/usr/sbin/smtp-source"


class Sink:
    """A primary that takes everything and counts it, on a port that is free or given."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.process = subprocess.Popen(
            [SINK, "-u", "nobody", "-c", f"127.0.0.1:{self.port}", "1000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._seen = b""

    def delivered(self) -> int:
        """Messages so far: smtp-sink rewrites one line of counters as it goes."""
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        while chunk := self.process.stdout.read(65536):
            self._seen = (self._seen + chunk)[-200:]
        for piece in reversed(self._seen.split(b"\r")[:-1]):
            words = dict(word.split(b"=") for word in piece.split() if b"=" in word)
            if words.get(b"mesg", b"").isdigit():
                return int(words[b"mesg"])
        return 0

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def load(port: int, messages: int, connections: int, size: int) -> None:
    """Send with ``smtp-source``: ``-d`` keeps connections open."""
    subprocess.run(
        [SOURCE, "-d", "-s", str(connections), "-m", str(messages), "-l", str(size), "-f", "sender@outside.test",
         "-t", "alice@example.test", f"127.0.0.1:{port}"],
        check=True, capture_output=True,
    )  # fmt: skip


def measure(port: int, sink: Sink, arguments: argparse.Namespace) -> float:
    """Messages per second from the first byte to the last message at the sink."""
    before = sink.delivered()
    began = time.monotonic()
    load(port, arguments.messages, arguments.connections, arguments.size)
    until(lambda: sink.delivered() >= before + arguments.messages, "all are at the sink", seconds=600, every=0.005)
    return arguments.messages / (time.monotonic() - began)


def main() -> None:
    """Run the pairs and print both figures and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--size", type=int, default=10_000)
    arguments = parser.parse_args()
    sink = Sink()
    postfix = Postfix(f"relayhost = [127.0.0.1]:{sink.port}\nsmtp_destination_concurrency_limit = 50\n")
    hornet = Installation()
    ours: list[float] = []
    archived: list[float] = []
    theirs: list[float] = []
    try:
        postfix.start()
        hornet.start()
        hornet.add_domain("example.test", sink.port, "--failover", "auto")
        hornet.add_mailbox("alice@example.test", "alice-secret-1")
        for pair in range(arguments.pairs + 1):
            them = measure(postfix.port, sink, arguments)
            began = time.monotonic()
            us = measure(hornet.port(25), sink, arguments)
            hornet.until_idle(600)
            whole = arguments.messages / (time.monotonic() - began)
            if pair == 0:
                continue  # both have warmed up
            theirs.append(them)
            ours.append(us)
            archived.append(whole)
            print(
                f"pair {pair}: Postfix {them:7.0f}/s   HornetMail {us:7.0f}/s   and archived {whole:7.0f}/s   ratio {whole / them:.2f}",
                flush=True,
            )
    finally:
        hornet.close()
        postfix.close()
        sink.close()
    ratio = statistics.median(a / b for a, b in zip(archived, theirs, strict=True))
    print(
        f"median: Postfix relaying {statistics.median(theirs):.0f}/s, HornetMail relaying {statistics.median(ours):.0f}/s, "
        f"relaying and archiving {statistics.median(archived):.0f}/s; ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
