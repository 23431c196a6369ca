"""An outage in figures: primary refused -> readable in the portal; primary back -> its mail home.

    .venv/bin/python bench/outage.py [--rate 300] [--seconds 10] [--messages 1000,10000] [--mailboxes 20]

The real service, archive and logs on, nothing set but what ``init`` writes. *Readable*: from the sender's 250 to the moment at which an IMAP session that
idles in the recipient's INBOX was told of the message and has fetched its header; once with automatic failover, once in a domain that stays in
normal mode, where each delivery tries the primary first. *Home*: from the start of the primary (Debian's ``smtp-sink``) to the last of all messages
there; after an emergency that lasted longer than the least that one lasts, also from the moment at which the machine decided. Each figure stands beside the
number of messages. About six minutes; nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.relay import Sink, load
from hornetmail.core.failover.machine import Policy
from tests.peers.installation import Installation
from tests.peers.postfix import free_port
from tests.peers.waiting import until

SENDERS = 10
PASSWORD = "outage-secret-1"
PATIENCE = 60.0
"""Seconds after the last message was sent in which all must have been read."""

PAD = "x" * 70 + "\r\n"


class Reader:
    """One mail client that idles in one INBOX and reads the header of whatever comes. ``seen`` says when, by the message's number."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}
        self._exists = 0
        self._tags = itertools.count(1)

    async def run(self, port: int, address: str, password: str, ready: asyncio.Event) -> None:
        """Log in, then idle, read, idle, until cancelled."""
        self._input, self._output = await asyncio.open_connection("127.0.0.1", port)
        await self._input.readline()
        await self._ask(f'LOGIN "{address}" "{password}"')
        await self._ask("SELECT INBOX")
        ready.set()
        known = self._exists
        while True:
            if self._exists == known:
                await self._idle()
            while self._exists > known:
                # What is told while this is answered counts too (RFC 9051 7.4.1): it is read next, not waited for.
                newest = self._exists
                await self._ask(f"FETCH {known + 1}:{newest} (BODY.PEEK[HEADER.FIELDS (X-NUMBER)])")
                known = newest

    async def _idle(self) -> None:
        tag = self._command("IDLE")
        known = self._exists
        while self._exists == known:
            self._hear(await self._line())
        self._output.write(b"DONE\r\n")
        await self._answered(tag)

    async def _ask(self, command: str) -> None:
        await self._answered(self._command(command))

    def _command(self, command: str) -> bytes:
        tag = f"t{next(self._tags)} "
        self._output.write(f"{tag}{command}\r\n".encode())
        return tag.encode()

    async def _answered(self, tag: bytes) -> None:
        while not (line := await self._line()).startswith(tag):
            self._hear(line)
        if line.split()[1] != b"OK":
            raise AssertionError(line)

    async def _line(self) -> bytes:
        """A line with the literals in it."""
        line = await self._input.readline()
        if not line:
            raise AssertionError("the IMAP server closed the connection")
        while line.endswith(b"}\r\n"):
            line += await self._input.readexactly(int(line[line.rindex(b"{") + 1 : -3]))
            line += await self._input.readline()
        return line

    def _hear(self, line: bytes) -> None:
        words = line.split(b" ", 3)
        if len(words) == 3 and words[2] == b"EXISTS\r\n":
            self._exists = int(words[1])
        elif (number := re.search(rb"^X-Number: ([0-9]+)", line, re.MULTILINE)) is not None:
            self.seen[int(number[1])] = time.monotonic()


async def send(port: int, numbers: range, rate: float, mailboxes: int, size: int, done: dict[int, float]) -> None:
    """Messages of one connection at an even rate; when each got its 250."""
    answers, output = await asyncio.open_connection("127.0.0.1", port)

    async def ask(text: str, wanted: bytes) -> None:
        output.write(text.encode())
        while (line := await answers.readline())[3:4] == b"-":
            pass
        if line[:3] != wanted:
            raise AssertionError(line)

    await ask("", b"220")
    await ask("EHLO outside.test\r\n", b"250")
    began = time.monotonic()
    for place, number in enumerate(numbers):
        await asyncio.sleep(max(0.0, began + place / rate - time.monotonic()))
        text = f"From: s@outside.test\r\nSubject: {number}\r\nX-Number: {number}\r\n\r\n" + PAD * (size // len(PAD))
        await ask("MAIL FROM:<s@outside.test>\r\n", b"250")
        await ask(f"RCPT TO:<u{number % mailboxes}@example.test>\r\n", b"250")
        await ask("DATA\r\n", b"354")
        await ask(text + ".\r\n", b"250")
        done[number] = time.monotonic()
    await ask("QUIT\r\n", b"221")
    output.close()


async def _send_and_read(hornet: Installation, chosen: argparse.Namespace) -> tuple[float, list[float]]:
    """How long it took to send all, and the sorted waits from 250 to read, in seconds."""
    readers = [Reader() for _ in range(chosen.mailboxes)]
    ready = [asyncio.Event() for _ in readers]
    reading = [
        asyncio.create_task(reader.run(hornet.port(143), f"u{n}@example.test", PASSWORD, event))
        for n, (reader, event) in enumerate(zip(readers, ready, strict=True))
    ]
    async with asyncio.timeout(60):
        await asyncio.gather(*(event.wait() for event in ready))
    each = int(chosen.rate * chosen.seconds / SENDERS)
    done: dict[int, float] = {}
    began = time.monotonic()
    await asyncio.gather(
        *(
            send(hornet.port(25), range(n * each, (n + 1) * each), chosen.rate / SENDERS, chosen.mailboxes, chosen.size, done)
            for n in range(SENDERS)
        )
    )
    sent = time.monotonic() - began
    until_all = time.monotonic() + PATIENCE
    while (count := sum(len(reader.seen) for reader in readers)) < len(done):
        for task in reading:
            if task.done():
                task.result()
        if time.monotonic() > until_all:
            raise AssertionError(f"{count} of {len(done)} messages were read {PATIENCE} s after the last was sent")
        await asyncio.sleep(0.01)
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    seen = {number: when for reader in readers for number, when in reader.seen.items()}
    return sent, sorted(max(0.0, seen[number] - when) for number, when in done.items())


def readable(chosen: argparse.Namespace, failover: str) -> None:
    """Primary refused from the first message on."""
    hornet = Installation()
    try:
        hornet.start()
        hornet.add_domain("example.test", free_port(), "--failover", failover)
        for number in range(chosen.mailboxes):
            hornet.add_mailbox(f"u{number}@example.test", PASSWORD)
        sent, waits = asyncio.run(_send_and_read(hornet, chosen))
        cuts = statistics.quantiles(waits, n=100)
        print(
            f"primary refused -> readable, failover {failover}: {len(waits)} messages at {len(waits) / sent:.0f}/s:"
            f" median {statistics.median(waits):.3f} s, p99 {cuts[98]:.3f} s, worst {waits[-1]:.3f} s; {hornet.mode()} at the end",
            flush=True,
        )
    finally:
        hornet.close()


def home(messages: int, size: int, failover: str) -> None:
    """All of them in the portal, then the primary comes back: from an emergency (``auto``), or in normal mode (``manual``)."""
    hornet = Installation()
    port = free_port()
    sink = None
    try:
        hornet.start()
        hornet.add_domain("example.test", port, "--failover", failover)
        hornet.add_mailbox("alice@example.test", PASSWORD)
        load(hornet.port(25), messages, 20, size)
        until(lambda: _in_portal(hornet) >= messages, "all are in the portal", seconds=600, every=0.2)
        if failover == "auto":
            until(lambda: hornet.mode() == "emergency", "the domain is in emergency", seconds=300, every=0.2)
            time.sleep(1.1 * Policy().stay)
        sink = Sink(port)
        began = decided = time.monotonic()
        if failover == "auto":
            until(lambda: hornet.mode() != "emergency", "the domain is on its way back", seconds=300, every=0.05)
            decided = time.monotonic()
        until(lambda: sink.delivered() > 0, "the first is home", seconds=300, every=0.005)
        first = time.monotonic()
        until(lambda: sink.delivered() >= messages, "all are home", seconds=1200, every=0.02)
        ended = time.monotonic()
        what = f"decided after {decided - began:.1f} s, then" if failover == "auto" else "normal mode,"
        print(
            f"primary back -> home: {messages} messages: {what} the first home after {first - decided:.1f} s, the last after"
            f" {ended - decided:.1f} s ({messages / (ended - first):.0f}/s); {ended - began:.1f} s in all; at the primary {sink.delivered()}",
            flush=True,
        )
    finally:
        hornet.close()
        if sink is not None:
            sink.close()


def _in_portal(hornet: Installation) -> int:
    queue = json.loads(hornet.command("status", "--json"))["queue"]
    return int(queue.get("drain", 0))


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--messages", default="1000,10000")
    parser.add_argument("--mailboxes", type=int, default=20)
    parser.add_argument("--size", type=int, default=10_000)
    chosen = parser.parse_args()
    readable(chosen, "auto")
    readable(chosen, "manual")
    counts = list(map(int, chosen.messages.split(",")))
    home(counts[0], chosen.size, "manual")
    for messages in counts:
        home(messages, chosen.size, "auto")


if __name__ == "__main__":
    main()
