"""What a mailbox may hold: who is bound by it, who is not, and who is told (RFC 9208, rule 3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import TestCase

from hornetmail.core.events import QuotaNear
from hornetmail.core.folder import FolderError
from hornetmail.core.served import Domain, Host, Quota
from tests.portal.ground import MAIL, TRACE, Bytes, Ground, message, row


def test_full() -> None:
    """Would catch a quota of one resource that binds the other, and one that is reached counted as one that is passed."""
    assert not Quota().full(1 << 60, 1 << 60)
    assert not Quota(100, 0).full(100, 999)
    assert Quota(100, 0).full(101, 1)
    assert not Quota(0, 10).full(1 << 60, 10)
    assert Quota(0, 10).full(0, 11)
    assert Quota(100, 10).full(91, 1, 90)
    assert not Quota(100, 10).full(90, 9, 90)


class Quotas(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        self.limit(messages=10)
        await self.ground.start()
        self.heard: list[QuotaNear] = []
        self.ground.bus.subscribe(QuotaNear, self.heard.append)

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    def limit(self, size: int = 0, messages: int = 0, *primaries: Host) -> None:
        self.ground.directory.served = Domain("example.test", primaries=primaries, quota_bytes=size, quota_messages=messages)

    async def inbox(self) -> Any:
        return await self.ground.portal.tree(1).open("INBOX")

    async def delivered(self, *numbers: int) -> None:
        for number in numbers:
            await self.ground.portal.deliver(1, message(MAIL, number), row(number), Bytes(MAIL))

    async def appended(self, folder: Any, data: bytes = MAIL) -> Any:
        deposit = folder.append([], None)
        try:
            await deposit.write(data)
            return await deposit.commit()
        finally:
            await deposit.abort()

    async def refused(self, doing: Any) -> None:
        with pytest.raises(FolderError) as caught:
            await doing
        assert caught.value.code == "OVERQUOTA"

    async def test_where_the_portal_is_the_mail_server(self) -> None:
        """Would catch an eleventh message of ten, one that is refused although another went, and one that is twice the same."""
        await self.delivered(*range(1, 11))
        await self.refused(self.delivered(11))
        await self.delivered(3)
        inbox = await self.inbox()
        await self.refused(self.appended(inbox))
        await self.refused(inbox.copy([1], "Sent"))
        assert (await inbox.move([1], "Sent")).targets == (1,)
        await self.refused(self.delivered(11))
        await inbox.store([2], add=["\\Deleted"])
        await inbox.expunge()
        await self.delivered(11)
        assert len(await inbox.entries()) == 9
        assert list((self.ground.maildir() / "tmp").iterdir()) == []

    async def test_two_at_once(self) -> None:
        """Would catch a mailbox that holds more than it may since two messages came at the same moment: each had room when it began."""
        await self.delivered(*range(1, 10))
        inbox = await self.inbox()
        deposits = [inbox.append([], None) for _ in range(3)]
        for one in deposits:
            await one.write(MAIL)
        results = await DeferredList([Deferred.fromCoroutine(one.commit()) for one in deposits], consumeErrors=True)
        assert sorted(done for done, _ in results) == [False, False, True]
        assert {failure.value.code for done, failure in results if not done} == {"OVERQUOTA"}
        assert len(await inbox.entries()) == 10
        for one in deposits:
            await one.abort()
        assert list((self.ground.maildir() / "tmp").iterdir()) == []

    async def test_bytes(self) -> None:
        """Would catch bytes that are not counted in all folders, and a large message that is written to the disk whole before it is refused."""
        size = len(TRACE + MAIL)
        self.limit(size * 3)
        await self.delivered(1, 2)
        inbox = await self.inbox()
        await inbox.move([1], "Sent")
        deposit = inbox.append([], None)
        await self.refused(deposit.write(b"x" * size * 2))
        await deposit.abort()
        await self.delivered(3)
        await self.refused(self.delivered(4))
        await self.ground.portal.tree(1).delete("Sent")
        await self.delivered(4)
        usage = await self.ground.portal.tree(1).usage()
        assert (usage.size, usage.messages, usage.size_limit) == (size * 3, 3, size * 3)

    async def test_in_an_emergency_everything_is_taken(self) -> None:
        """Mail has its 250, and it goes home to a server with quotas of its own: would catch a copy by failover (rule 3) that is refused or put off for a
        quota. What people put there themselves is bound all the same."""
        self.limit(1, 1, Host("mail.example.test"))
        await self.delivered(1, 2, 3)
        await self.refused(self.appended(await self.inbox()))
        assert [event.messages for event in self.heard][-1] == 3

    async def test_many_at_once(self) -> None:
        """Would catch each of those that come together being measured against the room that is there for one."""
        from hornetmail.delivery.tasks import together

        async def one(number: int) -> bool:
            try:
                await self.delivered(number)
            except FolderError:
                return False
            return True

        assert sum(await together(one(number) for number in range(1, 31))) == 10
        assert (await (await self.inbox()).status()).messages == 10

    async def test_the_owner_is_told_once(self) -> None:
        """Would catch a warning with each message, none after the mailbox was emptied and filled again, and one that a crash loses."""
        await self.delivered(*range(1, 10))
        assert self.heard == []
        await self.delivered(10)
        [first] = self.heard
        assert (first.mailbox, first.messages) == (1, 10)
        await self.ground.restart()
        await self.inbox()
        assert [event.since for event in self.heard] == [first.since] * 2
        await self.ground.portal.quota_told(1, first.since)
        inbox = await self.inbox()
        await inbox.move([1], "Sent")
        await self.ground.restart()
        inbox = await self.inbox()
        assert len(self.heard) == 2
        await inbox.store([2, 3], add=["\\Deleted"])
        await inbox.expunge()
        await self.delivered(11, 12)
        assert len(self.heard) == 3
        assert self.heard[2].since > first.since

    async def test_its_own(self) -> None:
        """Would catch a mailbox's own quota that its domain's overrules, and 0, without limit, taken for none of its own."""
        boxes = self.ground.directory._boxes
        boxes[1] = msgspec.structs.replace(boxes[1], quota_messages=2)
        await self.delivered(1, 2)
        await self.refused(self.delivered(3))
        boxes[1] = msgspec.structs.replace(boxes[1], quota_messages=0)
        await self.delivered(*range(3, 13))

    async def test_room(self) -> None:
        """Would catch a mailbox that is called full where a primary is the mail server, or has no quota, and one that is not although delivery would refuse."""
        await self.delivered(*range(1, 10))
        portal = self.ground.portal
        assert await portal.room(1, 1)
        await self.delivered(10)
        assert not await portal.room(1, 1)
        await self.refused(self.delivered(11))
        self.limit(0, 0)
        assert await portal.room(1, 1 << 40)
        self.limit(1, 0, Host("primary.test"))
        assert await portal.room(1, 1 << 40)
        self.limit(10_000)
        assert not await portal.room(1, 10_000)
        assert await portal.room(1, 100)
        assert await portal.room(99, 1 << 40), "nobody's"
