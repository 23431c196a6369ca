"""What the portal forgets after its time and what it does not, who waits for whom, and mailboxes whose owner is gone."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Portal
from hornetmail.core.folder import FolderError
from hornetmail.portal import expiry, store
from hornetmail.portal.maildir.lately import Readies
from hornetmail.portal.rows import index
from tests.portal.ground import MAIL, TRACE, Bytes, Ground, message, row

DAY = 86400.0


class Stored(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        await self.ground.start()

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def inbox(self, mailbox: int = 1) -> Any:
        return await self.ground.portal.tree(mailbox).open("INBOX")

    async def delivered(self, number: int = 1, mailbox: int = 1) -> Portal:
        return await self.ground.portal.deliver(mailbox, message(MAIL, number), row(number), Bytes(MAIL))

    async def gone(self, uid: int) -> None:
        inbox = await self.inbox()
        await inbox.store([uid], add=["\\Deleted"])
        await inbox.expunge([uid])

    def later(self, days: float) -> None:
        ground = self.ground.portal._ground
        now = ground.now()
        self.patch(ground, "now", lambda: now + days * DAY)

    async def test_what_was_received_is_known_for_a_month(self) -> None:
        """Rule 11: would catch a row tried again after days that makes a second copy of what its owner removed, and a list that only grows."""
        copies = [await self.delivered(number) for number in range(1, 4)]
        for uid in (1, 2):
            await self.gone(uid)
        self.later(29.9)
        await self.ground.portal.sweep()
        assert [await self.ground.portal.received(1, row(number)) for number in (1, 2, 3)] == copies
        self.later(0.2)
        await self.ground.portal.sweep()
        assert [await self.ground.portal.received(1, row(number)) for number in (1, 2, 3)] == [None, None, copies[2]]

    async def test_what_an_older_version_did_not_keep(self) -> None:
        """Would catch ENVELOPE and BODYSTRUCTURE that are made anew at each question since what was made of them was not kept, and some that are kept of
        a message that went meanwhile."""
        for number in (1, 2, 3):
            await self.delivered(number)
        inbox = await self.inbox()
        summaries, fields = await inbox.summaries([1, 2, 3]), await inbox.fields([1, 2, 3])
        database, ids = self.ground.database, inbox._snapshot.id

        def forget(cursor: Any) -> None:
            for table in ("portal_summaries", "portal_fields"):
                cursor.execute(f"DELETE FROM {table} WHERE folder = ? AND uid <> 1", (ids,))

        await database.run(forget)
        self.patch(self.ground.portal._ground, "lately", Readies())
        assert await inbox.summaries([1, 2, 3]) == summaries
        assert {row[0] for row in await database.read(index.summaries, ids, [1, 2, 3])} == {1, 2, 3}
        assert {row[0] for row in await database.read(index.fields, ids, [1, 2, 3])} == {1, 2, 3}
        assert await inbox.fields([1, 2, 3]) == fields

    async def test_copies_that_an_older_index_does_not_know(self) -> None:
        """Rule 11: would catch a copy that is made a second time after its owner removed it, since the index had lost its arrival and only found its file;
        and one in another folder that counts as delivered into INBOX."""
        copies = [await self.delivered(number) for number in (1, 2)]

        def forget(cursor: Any) -> None:
            for table in ("portal_messages", "portal_received"):
                cursor.execute(f"DELETE FROM {table}")

        await self.ground.database.run(forget)
        maildir = self.ground.maildir()
        [second] = maildir.glob(f"new/{copies[1].name}*")
        second.rename(maildir / ".Sent" / "cur" / f"{copies[1].name}:2,S")
        await self.ground.restart()
        inbox, sent = await self.inbox(), await self.ground.portal.tree(1).open("Sent")
        assert ([one.name for one in await inbox.entries()], [one.name for one in await sent.entries()]) == (
            [copies[0].name],
            [copies[1].name],
        )
        for folder in (inbox, sent):
            [entry] = await folder.entries()
            await folder.store([entry.uid], add=["\\Deleted"])
            await folder.expunge([entry.uid])
        assert await self.ground.portal.received(1, row(1)) == copies[0]
        assert await self.ground.portal.received(1, row(2)) is None

    async def test_nobody_waits_for_a_pop_session_for_ever(self) -> None:
        """Rule 10: would catch a drain that a forgotten POP session stops, and a claim that stays behind."""
        copy = await self.delivered()
        portal = self.ground.portal
        self.patch(store, "POP_WAIT", 0.05)
        assert await portal.lock(1, "pop")
        assert await portal.lock(1, "pop"), "it has it already"
        with pytest.raises(FolderError) as caught:
            await portal.begin_drain(copy)
        assert caught.value.code == "INUSE"
        assert portal._lock_waiters.get(1, []) == []
        await (await self.inbox()).store([1], add=["\\Seen"])
        await portal.unlock(1, "pop")
        await portal.unlock(1, "pop")
        assert await portal.lock(1, "another")
        await portal.unlock(1, "another")
        assert await portal.begin_drain(copy) is not None

    async def test_several_wait_for_one_session(self) -> None:
        """Would catch a hand-over that is forgotten when a session ends, or one that goes on while the next session has the mailbox."""
        first, second = await self.delivered(1), await self.delivered(2)
        portal = self.ground.portal
        await portal.lock(1, "a")
        done: list[Any] = []
        waits = [Deferred.fromCoroutine(portal.begin_drain(copy)).addCallback(done.append) for copy in (first, second)]
        await portal.unlock(1, "a")
        for one in waits:
            await one
        assert len(done) == 2
        assert None not in done

    async def test_owner_gone(self) -> None:
        """Would catch mail of a removed mailbox that cannot go home although its envelope is known, and a note that is sent to nobody."""
        copy = await self.delivered()
        inbox = await self.inbox()
        deposit = inbox.append([], None)
        await deposit.write(MAIL)
        await deposit.commit()
        (note,) = await self.ground.portal.unaddressed(1)
        del self.ground.directory._boxes[1]
        taken = await self.ground.portal.begin_drain(copy)
        assert taken is not None
        assert (taken[0].sender, taken[0].recipients[0].address) == ("alice@example.test", "Bob@example.test")
        assert await taken[1].read() == TRACE + MAIL
        with pytest.raises(FolderError) as caught:
            await self.ground.portal.begin_drain(Portal(1, note.name))
        assert caught.value.code == "CANNOT"
        await inbox.store([2], add=["\\Seen"])
        await self.ground.restart()
        assert len(await (await self.inbox()).entries()) == 2, "what lies there is served all the same"

    async def test_what_has_an_envelope(self) -> None:
        """Would catch a drain that takes home what is marked for deletion (C6), or leaves out what came back."""
        copies = [await self.delivered(number) for number in (1, 2, 3)]
        inbox = await self.inbox()
        await inbox.store([2], add=["\\Deleted"])
        await inbox.move([3], "Trash")
        deposit = inbox.append([], None)
        await deposit.write(MAIL)
        await deposit.commit()
        portal = self.ground.portal
        assert await portal.copies(1) == [copies[0]]
        await (await portal.folder(1, "Trash")).move([1], "INBOX")
        assert await portal.copies(1) == [copies[0], copies[2]]
        found = await portal.returned(1, [one.name for one in copies] + ["nobody's"])
        assert {name: size for name, (_, size) in found.items()} == {
            one.name: len(TRACE + MAIL) for one in (copies[0], copies[2])
        }
        assert [entry.uid for entry in await portal.unaddressed(1)] == [4]
        assert [entry.uid for entry in await portal.unaddressed(1, copies=True)] == [1, 2, 4, 5]

    async def test_uidvalidity_never_comes_again(self) -> None:
        """RFC 3501 section 2.3.1.1: would catch a folder made anew, within the same second too, whose UIDs a client takes for the old ones."""
        tree = self.ground.portal.tree(1)
        seen = [info.uidvalidity for info in await tree.folders()]
        assert len(set(seen)) == len(seen)
        for round_ in range(4):
            await tree.create("Again")
            await tree.create(f"Other {round_}/below")
            seen += [info.uidvalidity for info in await tree.folders() if info.name.startswith((f"Other {round_}", "Again"))]
            await tree.delete("Again")
            if round_ % 2:
                await self.ground.restart()
                tree = self.ground.portal.tree(1)
        assert len(set(seen)) == len(seen)

    async def test_removals_are_told_up_to_a_bound(self) -> None:
        """Would catch a table of removals that only grows, and newest ones that a client is not told after a restart."""
        self.patch(index, "GONE_KEPT", 3)
        self.patch(index, "GONE_LOOKED_AT", 1)
        for number in range(1, 9):
            await self.delivered(number)
        before = (await (await self.inbox()).status()).modseq
        for uid in range(1, 7):
            await self.gone(uid)
        await self.ground.restart()
        assert [one.uid for one in await (await self.inbox()).changes(before) if one.gone] == [4, 5, 6]
        kept = await self.ground.database.read(lambda cursor: cursor.execute("SELECT count(*) FROM portal_gone").fetchone()[0])
        assert kept == 3

    async def test_expiry_in_several_steps(self) -> None:
        """Rule 24: would catch old mail beyond the first transaction that stays, or that goes although somebody took it out meanwhile."""
        self.patch(expiry, "ROWS", 2)
        names = [(await self.delivered(number)).name for number in range(1, 8)]
        await (await self.inbox()).move(range(1, 8), "Junk")
        junk = await self.ground.portal.folder(1, "Junk")
        found = await self.ground.portal.left_over(1, self.ground.portal._ground.now() + 1)
        assert found == {"Junk": names}
        await junk.move([3], "Trash")
        assert await expiry.remove(await self.ground.portal._box(1), "Junk", names) == names[:2] + names[3:]
        assert await junk.entries() == []
        assert await expiry.remove(await self.ground.portal._box(1), "nowhere", names) == []

    async def test_boxes_in_memory_are_bounded(self) -> None:
        """Would catch a process that keeps each mailbox that was ever opened, and one that forgets the one in use."""
        self.patch(store, "BOXES_KEPT", 1)
        first = await self.delivered(1, 1)
        await self.delivered(2, 2)
        gc.collect()
        assert list(self.ground.portal._boxes) == [2]
        assert await self.ground.portal.received(1, row(1)) == first
        gc.collect()
        assert list(self.ground.portal._boxes) == [1]

    async def test_asked_for_twice_while_it_is_loaded(self) -> None:
        """Would catch two boxes of one mailbox, each with UIDs of its own, and one who waits for ever when loading fails."""
        await self.delivered()
        await self.ground.restart()
        portal = self.ground.portal
        boxes = [Deferred.fromCoroutine(portal._box(1)) for _ in range(3)]
        assert len({id(await one) for one in boxes}) == 1
        refused = [Deferred.fromCoroutine(portal._box(99)) for _ in range(3)]
        for one in refused:
            with pytest.raises(FolderError, match="no mailbox 99"):
                await one
