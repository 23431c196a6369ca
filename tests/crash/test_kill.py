"""``kill -9`` in the middle of a load, twenty times: no message that got its 250 is lost, and second copies are of messages that were just
being handed over, at most one per connection (L4, rule 11)."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import smtplib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tests.crash.witness import MARK, Witness
from tests.peers.installation import Installation
from tests.peers.postfix import PostfixPrimary
from tests.peers.waiting import until
from tests.scenarios.world import AUDITOR, USERS, World

KILLS = 20
CONNECTIONS = 4


class Load:
    """Clients that send marked messages and note which got their 250; they come again after every refusal. ``sent``: marks by SHA-256."""

    def __init__(self, hornet: Installation) -> None:
        self.hornet = hornet
        self.acknowledged: dict[str, str] = {}
        self.sent: dict[str, str] = {}
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._send, args=(number,)) for number in range(CONNECTIONS)]
        for thread in self.threads:
            thread.start()

    def _send(self, number: int) -> None:
        count = 0
        users = list(USERS)
        while not self.stopping.is_set():
            with suppress(OSError, smtplib.SMTPException), self.hornet.smtp() as smtp:
                while not self.stopping.is_set():
                    count += 1
                    mark, user = f"{number}-{count}", users[count % len(users)]
                    size = 200_000 if count % 25 == 0 else 2_000
                    data = f"Subject: mark {mark}\r\nX-Mark: {mark}\r\n\r\n".encode() + b"0123456789abcde\r\n" * (size // 17)
                    self.sent[hashlib.sha256(data).hexdigest()] = mark
                    smtp.sendmail("sender@outside.test", [user], data)
                    self.acknowledged[mark] = user
            self.stopping.wait(0.02)

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)


def marks(stored: list[bytes]) -> Counter[str]:
    return Counter(found.group(1).decode() for each in stored if (found := MARK.search(each)))


class Death(NamedTuple):
    """For each connection that was open and had carried mail: the messages whose final dot had gone over it and whose hand-over the journal
    has not settled."""

    connections: list[set[str]]

    @property
    def under_way(self) -> set[str]:
        """Those of all connections."""
        return set().union(*self.connections)


class Coroner:
    """Kills the service and finds out what it was handing over."""

    def __init__(self, hornet: Installation, witness: Witness, load: Load, process: subprocess.Popen[str]) -> None:
        self.hornet = hornet
        self.witness = witness
        self.load = load
        self.process = process

    def kill(self) -> Death:
        """SIGKILL; the service is to be started again."""
        self.witness.watch()
        self.hornet.stop(kill=True)
        until(lambda: self.witness.quiet, "all that it sent is read")
        claimed = {self.load.sent[digest] for digest in self._claimed()}
        return Death([claimed & set(each.marks) for each in self.witness.seen() if each.marks])

    def _claimed(self) -> list[str]:
        copy = self.hornet.root / "inquest"
        shutil.copytree(self.hornet.dir / "queue", copy)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{copy}\n")
        self.process.stdin.flush()
        found: list[str] = json.loads(self.process.stdout.readline())
        shutil.rmtree(copy)
        return found


@contextmanager
def coroner(hornet: Installation, witness: Witness, load: Load) -> Iterator[Coroner]:
    """With the process that reads the dead service's journal."""
    command = [sys.executable, "-m", "tests.crash.inquest", str(hornet.dir / "keys" / "server.key")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Coroner(hornet, witness, load, process)
        finally:
            process.kill()


def test_twenty_kills() -> None:
    """Catches any acknowledged message that is neither at the primary nor in the portal, or not in the archive; second copies of messages
    that were not being handed over when the process died, or more than one for each such death; and more hand-overs lost in a death than
    connections were open."""
    primary = PostfixPrimary(USERS)
    hornet = Installation()
    witness = Witness(primary.port)
    dice = random.Random(20)
    deaths: list[Death] = []
    try:
        primary.start()
        witness.start()
        hornet.set(retry=2)  # the first step after which a copy that a kill left uncertain may go home
        hornet.start()
        hornet.add_domain("example.test", witness.port, "--failover", "auto")
        for user, password in USERS.items():
            hornet.add_mailbox(user, password)
        hornet.add_mailbox(*AUDITOR, "--role", "auditor")
        load = Load(hornet)
        try:
            with coroner(hornet, witness, load) as the_coroner:
                for kill in range(KILLS):
                    before = len(load.acknowledged)
                    until(lambda b=before: len(load.acknowledged) > b + 20 + dice.randrange(60), "the load runs")  # type: ignore[misc]
                    deaths.append(the_coroner.kill())
                    if kill in (5, 13):
                        witness.stop()
                        primary.stop()
                    if kill in (9, 16):
                        primary.start()
                        witness.start()
                    hornet.start()
        finally:
            load.stop()
        until(lambda: hornet.mode() == "normal", "back to normal", seconds=120, every=0.2)
        world = World(hornet, primary)
        until(lambda: hornet.idle() and not any(world.inbox(user) for user in USERS), "all is home", seconds=180, every=0.5)
        until(lambda: primary_marks(primary) >= set(load.acknowledged), "the primary filed everything", every=0.5)
        arrived: Counter[str] = Counter()
        for user in USERS:
            here = marks(primary.messages(user))
            lost = [mark for mark, owner in load.acknowledged.items() if owner == user and mark not in here]
            assert not lost, f"{len(lost)} acknowledged messages lost, {lost[:5]}"
            arrived += here
        second = sum(count - 1 for count in arrived.values())
        print(
            f"{len(load.acknowledged)} acknowledged, {second} second copies over {KILLS} kills; "
            f"under way of connections: {', '.join(f'{len(each.under_way)}/{len(each.connections)}' for each in deaths)}"
        )
        often = Counter(mark for each in deaths for mark in each.under_way)
        beyond = {mark: (count, often[mark]) for mark, count in arrived.items() if count > 1 + often[mark]}
        assert not beyond, f"arrivals and deaths during a hand-over: {beyond}"
        too_many = [each for death in deaths for each in death.connections if len(each) > 1]
        assert not too_many, f"more than one hand-over under way on a connection: {too_many}"
        until(
            lambda: world.hornet.status()["archive"]["mails"] >= len(load.acknowledged), "all is archived", seconds=60, every=0.2
        )
        archived = Counter(hit["subject"].removeprefix("mark ") for hit in world.archived())
        assert set(load.acknowledged) <= set(archived)
        assert not [mark for mark, count in archived.items() if count > 1], "the archive holds each message once"
    finally:
        hornet.close()
        witness.stop()
        primary.close()


def primary_marks(primary: PostfixPrimary) -> set[str]:
    return {mark for user in USERS for mark in marks(primary.messages(user))}
