"""What the playground's page steers: the small primary, and mail from outside."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from zope.interface import implementer

from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.net.clients.smtp import Broken, SMTPClient
from hornetmail.playground.primary import REFUSALS, SmallPrimary
from hornetmail.testing.corpus import messages
from hornetmail.web.pages.service.playground import IPlayground

FAILING = (*REFUSALS, "later", "greylisted")
"""Local parts that fail on purpose; see ``primary``."""


@implementer(IPlayground)
class Playground:
    """``dialer`` and ``door`` lead to our own MX door: samples come in as everybody's mail does."""

    def __init__(self, primary: SmallPrimary, dialer: Any, door: Host, domain: str) -> None:
        self._primary = primary
        self._dialer = dialer
        self._door = door
        self._domain = domain
        self._seed = random.SystemRandom().randrange(1 << 30)
        self._results: deque[Mapping[str, str]] = deque(maxlen=200)

    @property
    def running(self) -> bool:
        """Whether the small primary accepts connections."""
        return self._primary.running

    async def stop_primary(self) -> None:
        """See IPlayground."""
        await self._primary.stop()

    async def start_primary(self) -> None:
        """See IPlayground."""
        await self._primary.start()

    async def send_samples(self, count: int) -> None:
        """See IPlayground. Every eighth goes to somebody who fails on purpose."""
        self._seed += 1
        users = [f"{name}@{self._domain}" for name in ("alice", "bob")]
        client = await SMTPClient.connect(self._dialer, self._door, hello="sender.outside.test", tls=TLSPolicy.NONE)
        try:
            for number, sample in enumerate(messages(count, self._seed, sender="friend@outside.test", recipients=users)):
                to = [f"{FAILING[number // 8 % len(FAILING)]}@{self._domain}"] if number % 8 == 7 else list(sample.recipients)
                await self._send(client, sample.sender, to, sample.kind, sample.data)
        finally:
            await client.quit()

    async def _send(self, client: SMTPClient, sender: str, to: Sequence[str], kind: str, data: bytes) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield data

        try:
            answers = await client.send(
                sender, [Recipient(each) for each in to], body(), size=len(data), eight_bit=not data.isascii(), smtputf8=False
            )
            replies = [str(answer.reply) for answer in answers]
        except Broken as error:
            replies = [str(error.reply)] * len(to)
        for recipient, reply in zip(to, replies, strict=True):
            self._results.appendleft({"to": recipient, "subject": kind, "reply": reply})

    def last_results(self) -> Sequence[Mapping[str, str]]:
        """See IPlayground."""
        return tuple(self._results)
