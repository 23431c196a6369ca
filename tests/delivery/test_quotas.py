"""Mail for a mailbox that is full, and the letter before it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.events import QuotaNear
from hornetmail.core.failover.verdict import Outcome, Verdict
from hornetmail.core.folder import FolderError
from hornetmail.core.served import Domain, OverQuota
from hornetmail.delivery.couriers.portal import PortalCourier
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.letters.quotas import QuotaLetters
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.testing.destinations import MemoryPortal
from tests.portal.ground import MAIL, Bytes, Ears, People, message, row


class Desk:
    """Takes letters, or does not."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []
        self.trouble: Exception | None = None

    async def letter(self, tenant: int, address: str, subject: str, lines: Sequence[str], request: str, domain: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.sent.append((address, request, "\n".join(lines)))


class Quotas(TestCase):
    def setUp(self) -> None:
        self.directory = People()
        self.directory.served = Domain("example.test", quota_bytes=100_000_000, quota_messages=500)
        self.portal = MemoryPortal()
        self.bus = Ears()
        self.desk = Desk()
        self.letters = QuotaLetters(
            cast("Any", Clock()),
            IDirectory(self.directory),
            cast("Any", self.portal),
            cast("Notices", self.desk),
            IBus(self.bus),
        )
        self.letters.start()

    async def verdict(self) -> Verdict:
        verdicts: dict[int, Verdict] = {}
        courier = PortalCourier(cast("Any", self.portal), IDirectory(self.directory))
        await courier.deliver(message(), [row()], Bytes(MAIL), verdicts)
        return verdicts[row().id]

    async def test_a_full_mailbox_defers_or_refuses(self) -> None:
        """As its domain wants it (RFC 3463: x.2.2). Would catch a full mailbox that is taken for trouble of our store, whose mail waits whatever was set."""
        self.portal.fail = FolderError("OVERQUOTA", "full")
        verdict = await self.verdict()
        assert (verdict.outcome, verdict.reply.code, verdict.reply.enhanced) == (Outcome.DEFERRED, 452, "4.2.2")
        assert not verdict.unavailable
        self.directory.served = msgspec.structs.replace(self.directory.served, over_quota=OverQuota.REFUSE)
        verdict = await self.verdict()
        assert (verdict.outcome, verdict.reply.code, verdict.reply.enhanced) == (Outcome.FAILED, 552, "5.2.2")
        self.portal.fail = FolderError("UNAVAILABLE", "the disk is away")
        assert (await self.verdict()).reply.code == 451
        assert self.flushLoggedErrors(FolderError)

    async def test_the_letter(self) -> None:
        """Would catch a letter that says nothing, one that goes out twice, and one that the portal is not told of, so that it is sent for ever."""
        event = QuotaNear(1, 91_400_000, 455, 1234.5)
        self.bus.publish(event)
        [(address, request, text)] = self.desk.sent
        assert (address, request) == ("Bob@example.test", "quota:1:1234.500")
        assert "holds 91 of 100 MB and 455 of 500 messages." in text
        assert "mail for you waits" in text
        assert self.portal.quotas_told == [(1, 1234.5)]

    async def test_a_queue_that_takes_nothing(self) -> None:
        """Would catch a warning that counts as given although the queue's disk was full: it is said again."""
        self.desk.trouble = OSError("disk full")
        self.bus.publish(QuotaNear(1, 1, 1, 1.0))
        assert self.portal.quotas_told == []
        self.flushLoggedErrors(OSError)
        self.desk.trouble = None
        self.bus.publish(QuotaNear(1, 1, 1, 1.0))
        assert self.portal.quotas_told == [(1, 1.0)]

    async def test_whose_mailbox_is_gone(self) -> None:
        """Would catch a mailbox without an owner that is told of again at each change."""
        self.bus.publish(QuotaNear(99, 1, 1, 1.0))
        assert self.desk.sent == []
        assert self.portal.quotas_told == [(99, 1.0)]
        await Deferred.fromCoroutine(self.letters.stop())
        self.bus.publish(QuotaNear(1, 1, 1, 1.0))
        assert self.desk.sent == []
