"""The same story on the real queue and the real portal: that the rooms mean the same by their interfaces."""

from __future__ import annotations

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.failover.mode import Mode
from tests.delivery.stores import StoresCase
from tests.delivery.world import MAIL, SENDER, TRACE


class TestStores(StoresCase):
    async def test_story(self) -> None:
        """Normal, outage, restart in it, return: each message once at the primary, byte for byte, and the queue empty."""
        await self.build()
        await self.send("alice@example.test", "bob@example.test")

        async def idle() -> bool:
            return self.queue.backlog().messages == 0

        await self.wait(idle, "the queue is empty")
        assert self.primary.accepted[0].data == TRACE + MAIL
        assert len(self.archive.items) == 1

        await self.primary.stop()
        await self.until_mode(Mode.EMERGENCY)
        for number in range(5):
            await self.send("alice@example.test", data=MAIL + b"%d\r\n" % number)
        await self.send("stranger@example.test", sender="parked@outside.test")

        async def five() -> bool:
            return len(await self.inbox(1)) == 5

        await self.wait(five, "five in the portal")
        assert (await self.inbox(1))[0].startswith(TRACE + MAIL)
        folder = await self.portal.tree(1).open("INBOX")
        first, second, *_ = [entry.uid for entry in await folder.entries()]
        await self.portal.tree(1).create("Kept")
        await folder.move([first], "Kept")
        await folder.store([second], add=["\\Deleted"])

        async def settled() -> bool:
            rows = [row for _, row in await self.queue.rows(kinds=(RowKind.DRAIN,), envelopes=False)]
            parked = await self.queue.rows(kinds=(RowKind.DELIVER,), states=(RowState.PARKED,), envelopes=False)
            return len(rows) == 5 and all(row.state is RowState.PARKED for row in rows) and len(parked) == 1

        await self.wait(settled, "everything waits")
        await self.shut()
        await self.launch()
        assert self.delivery.modes.mode("example.test") is Mode.EMERGENCY
        before = len(self.primary.accepted)
        await self.primary.listen()
        await self.until_mode(Mode.NORMAL)
        await self.wait(idle, "the queue is empty again")
        home = self.primary.accepted[before:]
        assert sorted(each.sender for each in home) == ["parked@outside.test", SENDER, SENDER, SENDER]
        assert {each.data[-3:-2] for each in home if each.sender == SENDER} <= {b"%d" % n for n in range(5)}
        assert len({each.data for each in home}) == 4
        [left] = await self.inbox(1)
        assert left.startswith(TRACE + MAIL), "what was marked deleted stays and did not drain (rule 10)"
        assert len(self.archive.items) == 7

    async def test_refused_at_drain(self) -> None:
        """Rule 10: 5xx at drain on the real portal: keyword, no bounce, retried by hand."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.send("bob@example.test")

        async def there() -> bool:
            return len(await self.queue.rows(kinds=(RowKind.DRAIN,), states=(RowState.PARKED,), envelopes=False)) == 1

        await self.wait(there, "in the portal")
        self.primary.script.replies = {"DOT": "554 5.6.0 spam"}
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until_mode(Mode.NORMAL)
        folder = await self.portal.tree(2).open("INBOX")
        [entry] = await folder.entries()
        assert "$DrainFailed" in entry.flags
        [(_, row)] = await self.queue.rows(kinds=(RowKind.DRAIN,), envelopes=False)
        assert row.state is RowState.STUCK
        self.primary.script.replies = {}
        await self.queue.change([row.id], RowState.QUEUED)

        async def home() -> bool:
            return not await self.inbox(2)

        await self.wait(home, "it got home")

    async def test_moved_away_and_back(self) -> None:
        """Rule 10: what was moved away, and so was settled at the drain, drains when it comes back into INBOX, with its original envelope,
        once, also after a restart in between; what is marked deleted does not."""
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        await self.send("al@example.test", data=MAIL + b"kept\r\n")
        await self.send("alice@example.test", data=MAIL + b"marked\r\n")

        async def parked() -> bool:
            return len(await self.queue.rows(kinds=(RowKind.DRAIN,), states=(RowState.PARKED,), envelopes=False)) == 2

        await self.wait(parked, "both in the portal")
        tree = self.portal.tree(1)
        await tree.create("Kept")
        inbox = await tree.open("INBOX")
        sizes = {entry.uid: await (await inbox.body(entry.uid)).read() for entry in await inbox.entries()}
        [kept] = [uid for uid, data in sizes.items() if b"kept" in data]
        await inbox.move([kept], "Kept")
        await inbox.store([uid for uid in sizes if uid != kept], add=["\\Deleted"])
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until_mode(Mode.NORMAL)

        async def idle() -> bool:
            return self.queue.backlog().messages == 0

        await self.wait(idle, "nothing is left to drain")
        assert not self.primary.accepted
        await self.shut()
        await self.launch()
        folder = await self.portal.tree(1).open("Kept")
        [entry] = await folder.entries()
        await folder.move([entry.uid], "INBOX")

        async def home() -> bool:
            return bool(self.primary.accepted)

        await self.wait(home, "it went home")
        await self.wait(idle, "the queue is empty")
        [mail] = self.primary.accepted
        assert (mail.sender, mail.data) == (SENDER, TRACE + MAIL + b"kept\r\n")
        assert [str(each) for each in mail.recipients] == ["al@example.test"], "the original recipient (rule 9)"
        assert not self.queue.remembered("moved").keys() & {f"1/{entry.name}"}
        assert len(await self.inbox(1)) == 1, "the marked one stays"
