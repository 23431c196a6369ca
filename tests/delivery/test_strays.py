"""Rule 10 on the real queue and the real portal: mail without an envelope stays, is listed, and drains with ``<>`` once it is chosen."""

from __future__ import annotations

import msgspec
import pytest

from hornetmail.core.delivery.queued import Portal, RowKind, RowState
from hornetmail.core.delivery.stray import Choice, Stray
from hornetmail.core.failover.mode import Mode
from hornetmail.core.folder import FolderError
from hornetmail.delivery.tasks import together
from tests.delivery.stores import StoresCase
from tests.delivery.world import MAIL, SENDER, TRACE

OWN = b"From: alice@example.test\r\nSubject: a note to myself\r\n\r\n.dot\r\nlast"


class TestStrays(StoresCase):
    """Alice (1) and Bob (2)."""

    async def append(self, data: bytes = OWN, mailbox: int = 1, folder: str = "INBOX", flags: tuple[str, ...] = ()) -> int:
        deposit = (await self.portal.tree(mailbox).open(folder)).append(flags, 86_400.0)
        await deposit.write(data)
        return int((await deposit.commit()).targets[0])

    async def strays(self, mailbox: int = 1) -> list[Stray]:
        return list(await self.delivery.strays.of(mailbox))

    async def states(self) -> list[RowState]:
        return [row.state for _, row in await self.queue.rows(kinds=(RowKind.DRAIN,), envelopes=False)]

    async def idle(self) -> bool:
        return self.queue.backlog().messages == 0

    async def emergency(self) -> None:
        await self.build()
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")

    async def back(self) -> None:
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until_mode(Mode.NORMAL)
        await self.wait(self.idle, "the queue is empty")

    async def test_stays_until_it_is_chosen(self) -> None:
        """Catches own notes that drain unasked, chosen ones that do not, with another sender or other bytes, or lie in INBOX afterwards."""
        await self.emergency()
        await self.append()
        await self.append(b"Subject: other\r\n\r\nx\r\n", flags=("\\Deleted",))
        await self.send("al@example.test")
        await self.back()
        assert [(each.sender, each.data) for each in self.primary.accepted] == [(SENDER, TRACE + MAIL)]
        [stray] = await self.strays()
        assert (stray.row, stray.entry.size, stray.entry.date) == (None, len(OWN), 86_400.0)
        assert stray.since > 1.7e9, "when it was brought, not the date that the client gave"
        assert self.delivery.strays.goal(1) == "alice@example.test"
        assert await self.delivery.strays.choose(1) == Choice(chosen=1)
        await self.wait(self.idle, "it is home")
        mail = self.primary.accepted[1]
        assert (mail.sender, [str(each) for each in mail.recipients]) == ("", ["alice@example.test"])
        assert mail.data == OWN + b"\r\n", "its own bytes, nothing added but the line end that SMTP cannot do without"
        assert await self.strays() == []
        assert len(await self.inbox(1)) == 1, "what is marked deleted counts as removed"
        assert len(self.archive.items) == 1, "what was received; a note is not archived as if it had been"

    async def test_waits_through_an_emergency_and_a_restart(self) -> None:
        """Catches a choice that lives in memory only, that dials during the emergency, or that becomes two rows when made twice."""
        await self.emergency()
        for number in range(3):
            await self.append(OWN + b"%d\r\n" % number)
        first, second, _third = await self.strays()
        assert await self.delivery.strays.choose(1, {first.entry.uid, 999}) == Choice(chosen=1, waits=True)
        both = await together(self.delivery.strays.choose(1, {first.entry.uid, second.entry.uid}) for _ in range(2))
        assert sorted(each.chosen for each in both) == [0, 1], "at the same time: one row all the same"
        assert await self.states() == [RowState.PARKED] * 2
        await self.shut()
        await self.launch()
        assert await self.states() == [RowState.PARKED] * 2
        assert [stray.row is not None for stray in await self.strays()] == [True, True, False]
        assert await self.delivery.strays.choose(1) == Choice(chosen=1, already=2, waits=True)
        await self.back()
        assert sorted(each.data[-3:-2] for each in self.primary.accepted) == [b"0", b"1", b"2"]
        assert {each.sender for each in self.primary.accepted} == {""}
        assert await self.inbox(1) == []

    async def test_an_index_made_anew(self) -> None:
        """Catches a choice that only ``queue.db`` knows: the journal alone brings it back."""
        await self.emergency()
        await self.append()
        await self.delivery.strays.choose(1)
        await self.shut()
        for path in self.home.glob("queue.db*"):
            path.unlink()
        await self.launch()
        assert await self.states() == [RowState.PARKED]
        await self.back()
        assert [each.sender for each in self.primary.accepted] == [""]

    async def test_taken_out_beforehand(self) -> None:
        """C6: what its owner deletes or moves between choice and drain stays away from the primary; moved back, it goes (rule 10)."""
        await self.emergency()
        gone, moved = await self.append(OWN + b"gone"), await self.append(OWN + b"moved")
        await self.delivery.strays.choose(1)
        inbox = await self.portal.tree(1).open("INBOX")
        await inbox.store([gone], add=["\\Deleted"])
        await inbox.expunge([gone])
        await self.portal.tree(1).create("Kept")
        await inbox.move([moved], "Kept")
        await self.back()
        assert self.primary.accepted == []
        kept = await self.portal.tree(1).open("Kept")
        await kept.move([entry.uid for entry in await kept.entries()], "INBOX")

        async def home() -> bool:
            return len(self.primary.accepted) == 1

        await self.wait(home, "it was chosen, and is back")
        await self.wait(self.idle, "the queue is empty")
        assert self.primary.accepted[0].data == OWN + b"moved\r\n"

    async def test_refused(self) -> None:
        """Rule 10: 5xx leaves it in INBOX with keyword and reason, for good; choosing it again tries the same row again."""
        await self.build()
        await self.append()
        self.primary.script.replies = {"DOT": "554 5.6.0 no such thing"}
        assert (await self.delivery.strays.choose(1)).chosen == 1

        async def stuck() -> bool:
            return await self.states() == [RowState.STUCK]

        await self.wait(stuck, "refused")

        async def marked() -> bool:
            return all("$DrainFailed" in stray.entry.flags for stray in await self.strays())

        await self.wait(marked, "marked")
        [stray] = await self.strays()
        assert stray.row is not None
        assert "554 5.6.0 no such thing" in stray.row.reason
        self.primary.script.replies = {}
        assert await self.delivery.strays.choose(1) == Choice(again=1)
        await self.wait(self.idle, "it went home")
        assert await self.inbox(1) == []

    async def test_claimed_while_it_is_handed_over(self) -> None:
        """Rule 10: between claim and answer clients get INUSE, as for every portal copy; and an open folder hears of the removal."""
        await self.build()
        uid = await self.append()
        [stray] = await self.strays()
        inbox = await self.portal.tree(1).open("INBOX")
        before = (await inbox.status()).modseq
        found = await self.portal.begin_drain(Portal(1, stray.entry.name))
        assert found is not None
        with pytest.raises(FolderError, match="handed over"):
            await inbox.store([uid], add=["\\Seen"])
        await self.portal.end_drain(Portal(1, stray.entry.name), delivered=True)
        assert [(entry.uid, entry.gone) for entry in await inbox.changes(before)] == [(uid, True)]

    async def test_nowhere_to_go(self) -> None:
        """Catches choices in domains whose only mail server is the portal: they would wait for ever."""
        await self.build()
        await self.append()
        [domain] = self.directory.served
        self.directory.served = [msgspec.structs.replace(domain, primaries=())]
        assert self.delivery.strays.goal(1) == ""
        with pytest.raises(ValueError, match=r"example\.test has no primary"):
            await self.delivery.strays.choose(1)
        with pytest.raises(KeyError):
            await self.delivery.strays.choose(99)
        assert await self.states() == []

    async def test_its_mailbox_is_removed(self) -> None:
        """Catches a row that nobody can hand over any more, which would keep its domain from ever ending its drain."""
        await self.emergency()
        await self.append()
        await self.send("bob@example.test")
        await self.delivery.strays.choose(1)
        self.directory.registered = [box for box in self.directory.registered if box.id != 1]
        await self.back()
        assert [each.sender for each in self.primary.accepted] == [SENDER]
        assert len(await self.inbox(1)) == 1, "mail stays when its mailbox goes"

    async def test_pages_over_mailboxes(self) -> None:
        """Catches foreign files that are only seen once their mailbox was opened, and pages that repeat or leave out."""
        await self.build()
        for number in range(3):
            await self.append(OWN + b"%d" % number)
        drop = self.home / "portal" / "1" / "2" / "Maildir" / "new"
        drop.mkdir(parents=True)
        (drop / "1700000000.12_1.elsewhere").write_bytes(b"Subject: dropped\n\nby a program\n")
        assert await self.portal.holding([3, 2, 1, 99]) == [2, 1]
        page, more = await self.delivery.strays.page([1, 2, 3], 2)
        assert ([(stray.mailbox, stray.entry.uid) for stray in page], more) == ([(1, 1), (1, 2)], True)
        page, more = await self.delivery.strays.page([1, 2, 3], 2, after=2)
        assert ([(stray.mailbox, stray.entry.uid) for stray in page], more) == ([(1, 3), (2, 1)], False)
        assert page[1].since == 1_700_000_000.0
        await self.delivery.strays.choose(2)
        await self.wait(self.idle, "it is home")
        assert self.primary.accepted[-1].data == b"Subject: dropped\r\n\r\nby a program\r\n"
        assert [str(each) for each in self.primary.accepted[-1].recipients] == ["bob@example.test"]

    async def test_taken_off_the_queue(self) -> None:
        """A copy with an envelope whose drain row an administrator deleted stayed in INBOX and was listed nowhere: now it can be chosen, and goes home
        with its own envelope; what drains by itself, or will when it comes back, is not among the strays."""
        await self.emergency()
        await self.send("alice@example.test")
        await self.send("bob@example.test")

        async def parked() -> bool:
            return await self.states() == [RowState.PARKED, RowState.PARKED]

        await self.wait(parked, "in the portal")
        assert not await self.strays(1)
        assert not (await self.delivery.strays.page([1, 2, 3], 10))[0]
        [(_, row)] = await self.queue.rows(kinds=(RowKind.DRAIN,), mailbox=1, envelopes=False)
        await self.queue.change([row.id], RowState.REMOVED, reason="by hand")
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until_mode(Mode.NORMAL)
        [stray] = await self.strays(1)
        assert stray.addressed
        assert [each.mailbox for each in (await self.delivery.strays.page([1, 2, 3], 10))[0]] == [1]
        assert [each.mailbox for each in (await self.delivery.strays.page([1], 10))[0]] == [1]
        assert await self.delivery.strays.choose(1) == Choice(chosen=1)
        await self.wait(self.idle, "it is home")
        [mail] = self.primary.to("alice@example.test")
        assert (mail.sender, mail.data) == (SENDER, TRACE + MAIL)
        assert not await self.strays(1)
