"""``kill -9`` in the middle of a load, twenty times: no message that got its 250 is lost (L4, rule 11)."""

from __future__ import annotations

import random
import re
import smtplib
import threading
from collections import Counter
from contextlib import suppress

from tests.peers.installation import Installation
from tests.peers.postfix import PostfixPrimary
from tests.peers.waiting import until
from tests.scenarios.world import AUDITOR, USERS, World

KILLS = 20
CONNECTIONS = 4
MARK = re.compile(rb"^X-Mark: (\S+)\r?$", re.MULTILINE)


class Load:
    """Clients that send marked messages and note which got their 250; they come again after every refusal."""

    def __init__(self, hornet: Installation) -> None:
        self.hornet = hornet
        self.acknowledged: dict[str, str] = {}
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
                    smtp.sendmail("sender@outside.test", [user], data)
                    self.acknowledged[mark] = user
            self.stopping.wait(0.02)

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)


def marks(stored: list[bytes]) -> Counter[str]:
    return Counter(found.group(1).decode() for each in stored if (found := MARK.search(each)))


def test_twenty_kills() -> None:
    """Catches any acknowledged message that is neither at the primary nor in the portal, or not in the archive; and second copies beyond
    those that were in flight when the process died."""
    primary = PostfixPrimary(USERS)
    hornet = Installation()
    dice = random.Random(20)
    try:
        primary.start()
        # An uncertain copy goes last: five times the first delay after it was made, which by default is five minutes.
        hornet.config.write_text(hornet.config.read_text().replace("\nretry = 60\n", "\nretry = 5\n"))
        hornet.start()
        hornet.add_domain("example.test", primary.port, "--failover", "auto")
        for user, password in USERS.items():
            hornet.add_mailbox(user, password)
        hornet.add_mailbox(*AUDITOR, "--role", "auditor")
        load = Load(hornet)
        try:
            for kill in range(KILLS):
                before = len(load.acknowledged)
                until(lambda b=before: len(load.acknowledged) > b + 20 + dice.randrange(60), "the load runs", seconds=60)  # type: ignore[misc]
                hornet.stop(kill=True)
                if kill in (5, 13):
                    primary.stop()
                if kill in (9, 16):
                    primary.start()
                hornet.start()
        finally:
            load.stop()
        until(lambda: hornet.mode() == "normal", "back to normal", seconds=120, every=0.2)
        world = World(hornet, primary)
        until(lambda: hornet.idle() and not any(world.inbox(user) for user in USERS), "all is home", seconds=180, every=0.5)
        until(lambda: primary_marks(primary) >= set(load.acknowledged), "the primary filed everything", seconds=60, every=0.5)
        second = 0
        for user in USERS:
            arrived = marks(primary.messages(user))
            lost = [mark for mark, owner in load.acknowledged.items() if owner == user and mark not in arrived]
            assert not lost, f"{len(lost)} acknowledged messages lost, {lost[:5]}"
            second += sum(count - 1 for count in arrived.values())
        assert second <= KILLS * 20, f"{second} second copies"
        until(
            lambda: world.hornet.status()["archive"]["mails"] >= len(load.acknowledged), "all is archived", seconds=60, every=0.2
        )
        archived = Counter(hit["subject"].removeprefix("mark ") for hit in world.archived())
        assert set(load.acknowledged) <= set(archived)
        assert not [mark for mark, count in archived.items() if count > 1], "the archive holds each message once"
        print(f"{len(load.acknowledged)} acknowledged, {second} second copies over {KILLS} kills")
    finally:
        hornet.close()
        primary.close()


def primary_marks(primary: PostfixPrimary) -> set[str]:
    return {mark for user in USERS for mark in marks(primary.messages(user))}
