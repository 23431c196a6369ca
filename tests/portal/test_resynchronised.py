"""What a client that resynchronises counts on: modseqs, removals and who was told survive a restart; nothing comes between a condition and its store."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from hornetmail.portal.rows import index
from hornetmail.servers.imap.view import REMEMBERED
from tests.portal.ground import MAIL, Bytes, Ground, message, row


class Resynchronised(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        await self.ground.start()
        for number in range(1, 6):
            await self.ground.portal.deliver(1, message(MAIL, number), row(number), Bytes(MAIL))

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def inbox(self) -> Any:
        return await self.ground.portal.tree(1).open("INBOX")

    async def test_a_condition_holds_when_it_is_acted_on(self) -> None:
        """RFC 7162 section 3.1.3: of clients that mark the same message as theirs at the same time, one may win. Catches a condition that is judged before
        the others' changes, which wait for the lock, are there."""
        inbox = await self.inbox()
        (entry,) = await inbox.entries([3])
        stores = [inbox.store([1, 3], add=[f"$Taken{n}"], since=entry.modseq) for n in range(5)]
        answers = await gatherResults([Deferred.fromCoroutine(one) for one in stores])
        assert [[one.uid for one in answer] for answer in answers] == [[1, 3], [], [], [], []]
        (entry,) = await inbox.entries([3])
        assert entry.flags == {"$Taken0"}
        assert [one.uid for one in await inbox.store([3, 99], remove=["$Taken0"], since=entry.modseq)] == [3]

    async def test_a_store_that_changes_nothing_has_no_modseq_of_its_own(self) -> None:
        """Catches clients that synchronise for nothing, and conditions that fail because of it."""
        inbox = await self.inbox()
        before = await inbox.status()
        await inbox.store([1, 2], remove=["\\Seen"])
        assert await inbox.status() == before

    async def test_changes_survive_a_restart(self) -> None:
        """Catches a modseq that is given twice, or changes and removals that a client which was away never hears of."""
        inbox = await self.inbox()
        before = (await inbox.status()).modseq
        await inbox.store([2], add=["\\Flagged"])
        await inbox.store([4, 5], add=["\\Deleted"])
        await inbox.expunge([4])
        after = (await inbox.status()).modseq
        told = [(one.uid, one.modseq, one.gone) for one in await inbox.changes(before)]
        await self.ground.restart()
        inbox = await self.inbox()
        assert (await inbox.status()).modseq == after
        assert [(one.uid, one.modseq, one.gone) for one in await inbox.changes(before)] == told
        assert [one[0] for one in told if one[2]] == [4]
        (entry,) = await inbox.store([1], add=["\\Seen"])
        assert entry.modseq == after + 1

    async def test_a_large_removal_is_never_told_by_half(self) -> None:
        """More go at once than are remembered: after a restart none of them was known, which looked as if nothing had gone. An answer that is not complete
        has at least as many as its promise says."""
        assert REMEMBERED <= index.GONE_KEPT // 2
        self.patch(index, "GONE_KEPT", 2)
        self.patch(index, "GONE_LOOKED_AT", 1)
        inbox = await self.inbox()
        before = (await inbox.status()).modseq
        await inbox.store([1, 2, 3, 4], add=["\\Deleted"])
        await inbox.expunge()
        await self.ground.restart()
        inbox = await self.inbox()
        assert len([one for one in await inbox.changes(before) if one.gone]) >= 2

    async def test_recent_is_for_the_first_who_is_told(self) -> None:
        r"""RFC 3501 section 2.3.2. Catches \Recent that is never there for what came before SELECT, that everybody sees for ever, or again after each
        restart."""
        inbox = await self.inbox()
        assert (await inbox.status()).recent == 5
        assert await inbox.recent(take=False) == 1
        assert await inbox.recent(take=True) == 1
        assert (await inbox.recent(take=True), (await inbox.status()).recent) == (6, 0)
        await inbox.store([1], add=["\\Seen"])
        await self.ground.restart()
        await self.ground.portal.deliver(1, message(MAIL, 6), row(6), Bytes(MAIL))
        inbox = await self.inbox()
        assert (await inbox.recent(take=False), (await inbox.status()).recent) == (6, 1)
        await inbox.store([6], add=["\\Deleted"])
        await inbox.expunge()
        assert (await inbox.status()).recent == 0
