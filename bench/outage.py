"""An outage in figures: primary refused → readable in the portal; primary back → its mail home.

    .venv/bin/python bench/outage.py [--rate 300] [--seconds 10] [--messages 1000,10000] [--mailboxes 20]

The real service, automatic failover, archive and logs on, nothing set but what ``init`` writes. *Readable*: from the sender's 250 to the moment at
which an IMAP session that idles in the recipient's INBOX was told of the message and has fetched its header. *Home*: from the start of the primary
(Debian's ``smtp-sink``) to the last of all messages there, and from the moment at which the domain is back in normal mode or draining. Each figure stands
beside the number of messages. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import imaplib
import json
import smtplib
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.relay import Sink, load
from tests.peers.installation import Installation
from tests.peers.postfix import free_port
from tests.peers.waiting import until

SENDERS = 10
PAD = "x" * 70 + "\r\n"


class Reader(threading.Thread):
    """One mail client that idles in one INBOX and reads the header of whatever comes. ``seen`` says when, by the message's number."""

    def __init__(self, port: int, address: str, password: str) -> None:
        super().__init__(daemon=True)
        self.seen: dict[int, float] = {}
        self.ended = threading.Event()
        self._imap = imaplib.IMAP4("127.0.0.1", port, timeout=60)
        self._imap.login(address, password)
        self._imap.select("INBOX")

    def run(self) -> None:
        """Idle, read, idle."""
        known = 0
        while not self.ended.is_set():
            tag = self._imap._new_tag().decode()  # type: ignore[attr-defined]  # imaplib has no IDLE before Python 3.14
            self._imap.send(f"{tag} IDLE\r\n".encode())
            newest = known
            while newest == known and not self.ended.is_set():
                line = self._imap.readline()
                words = line.split()
                if len(words) == 3 and words[2] == b"EXISTS":
                    newest = int(words[1])
            self._imap.send(b"DONE\r\n")
            while not (line := self._imap.readline()).startswith(tag.encode()):
                words = line.split()
                if len(words) == 3 and words[2] == b"EXISTS":
                    newest = int(words[1])
            if newest > known:
                _, parts = self._imap.fetch(f"{known + 1}:{newest}", "(BODY.PEEK[HEADER.FIELDS (X-NUMBER)])")
                now = time.monotonic()
                for part in parts:
                    if isinstance(part, tuple) and b":" in part[1]:
                        self.seen[int(part[1].split(b":")[1].split()[0])] = now
                known = newest


def send(port: int, numbers: range, rate: float, mailboxes: int, size: int, done: dict[int, float]) -> None:
    """Messages of one connection at an even rate; when each got its 250."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="outside.test", timeout=60) as smtp:
        began = time.monotonic()
        for place, number in enumerate(numbers):
            rest = began + place / rate - time.monotonic()
            if rest > 0:
                time.sleep(rest)
            text = f"From: s@outside.test\r\nSubject: {number}\r\nX-Number: {number}\r\n\r\n" + PAD * (size // len(PAD))
            smtp.sendmail("s@outside.test", f"u{number % mailboxes}@example.test", text)
            done[number] = time.monotonic()


def readable(chosen: argparse.Namespace) -> None:
    """Primary refused from the first message on."""
    hornet = Installation()
    try:
        hornet.start()
        hornet.add_domain("example.test", free_port(), "--failover", "auto")
        for number in range(chosen.mailboxes):
            hornet.add_mailbox(f"u{number}@example.test", "outage-secret-1")
        readers = [Reader(hornet.port(143), f"u{n}@example.test", "outage-secret-1") for n in range(chosen.mailboxes)]
        for reader in readers:
            reader.start()
        each = int(chosen.rate * chosen.seconds / SENDERS)
        done: dict[int, float] = {}
        senders = [
            threading.Thread(
                target=send,
                args=(
                    hornet.port(25),
                    range(n * each, (n + 1) * each),
                    chosen.rate / SENDERS,
                    chosen.mailboxes,
                    chosen.size,
                    done,
                ),
            )
            for n in range(SENDERS)
        ]
        began = time.monotonic()
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        sent = time.monotonic() - began
        until(lambda: sum(len(reader.seen) for reader in readers) >= each * SENDERS, "all were read", seconds=120)
        for reader in readers:
            reader.ended.set()
        seen = {number: when for reader in readers for number, when in reader.seen.items()}
        waits = sorted(max(0.0, seen[number] - when) for number, when in done.items())
        cuts = statistics.quantiles(waits, n=100)
        print(
            f"primary refused -> readable: {len(waits)} messages at {len(waits) / sent:.0f}/s: median {statistics.median(waits):.3f} s, "
            f"p99 {cuts[98]:.3f} s, worst {waits[-1]:.3f} s",
            flush=True,
        )
    finally:
        hornet.close()


def home(messages: int, size: int) -> None:
    """All of them in the portal, then the primary comes back."""
    hornet = Installation()
    port = free_port()
    sink = None
    try:
        hornet.start()
        hornet.add_domain("example.test", port, "--failover", "auto")
        hornet.add_mailbox("alice@example.test", "outage-secret-1")
        load(hornet.port(25), messages, 20, size)
        until(lambda: _parked(hornet) >= messages, "all are in the portal", seconds=600, every=0.2)
        until(lambda: hornet.mode() == "emergency", "the domain is in emergency", seconds=300, every=0.2)
        sink = Sink(port)
        began = time.monotonic()
        until(lambda: hornet.mode() != "emergency", "the domain is on its way back", seconds=300, every=0.05)
        decided = time.monotonic()
        until(lambda: sink.delivered() >= messages, "all are home", seconds=1200, every=0.02)
        ended = time.monotonic()
        print(
            f"primary back -> home: {messages} messages: decided after {decided - began:.1f} s, the last home {ended - decided:.1f} s after that "
            f"({messages / (ended - decided):.0f}/s), {ended - began:.1f} s in all; at the primary {sink.delivered()}",
            flush=True,
        )
    finally:
        hornet.close()
        if sink is not None:
            sink.close()


def _parked(hornet: Installation) -> int:
    queue = json.loads(hornet.command("status", "--json"))["queue"]
    return int(queue.get("drain", 0))


def main() -> None:
    """Both halves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--messages", default="1000,10000")
    parser.add_argument("--mailboxes", type=int, default=20)
    parser.add_argument("--size", type=int, default=10_000)
    chosen = parser.parse_args()
    readable(chosen)
    for messages in map(int, chosen.messages.split(",")):
        home(messages, chosen.size)


if __name__ == "__main__":
    main()
