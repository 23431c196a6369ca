"""What is kept of messages is written later, many at once: it is answered from memory until then, and what goes before that leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.trial.unittest import TestCase

from hornetmail.disk.files import DiskFull
from hornetmail.portal.box.unwritten import MESSAGES
from tests.portal.ground import MAIL, Ground

KEPT = ("portal_trees", "portal_heads", "portal_summaries", "portal_fields")
ALL = ("portal_messages", "portal_texts", *KEPT)


class WrittenLater(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        await self.ground.start()
        self.inbox = await self.ground.portal.tree(1).open("INBOX")

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def put(self) -> int:
        deposit = self.inbox.append(["\\Deleted"], None)
        await deposit.write(MAIL)
        return int((await deposit.commit()).targets[0])

    async def rows(self, tables: tuple[str, ...] = KEPT) -> list[int]:
        return [
            (
                await self.ground.database.read(
                    lambda cursor, table=table: cursor.execute(f"SELECT count(*) FROM {table}").fetchone()
                )
            )[0]
            for table in tables
        ]

    async def test_gone_before_it_was_written(self) -> None:
        """Would catch rows of a message that has gone, which nobody would ever remove."""
        uid = await self.put()
        assert await self.rows() == [0, 0, 0, 0]
        assert (await self.inbox.structures([uid]))[uid].end == len(MAIL)
        assert await self.inbox.headers([uid]) == {uid: MAIL[: MAIL.find(b"\r\n\r\n") + 4]}
        await self.inbox.keep_texts([(uid, b"head", b"body")])
        await self.inbox.expunge([uid])
        await self.ground.portal.sweep()
        assert await self.rows(ALL) == [0, 0, 0, 0, 0, 0]

    async def test_gone_after_it_was_written(self) -> None:
        """As above, of one that was swept, alone and together with one that was not."""
        first = await self.put()
        await self.ground.portal.sweep()
        assert await self.rows() == [1, 1, 1, 1]
        second = await self.put()
        assert await self.inbox.expunge([first, second]) == [first, second]
        await self.ground.portal.sweep()
        assert await self.rows(ALL) == [0, 0, 0, 0, 0, 0]

    async def test_copied_before_it_was_written(self) -> None:
        """Would catch a copy whose file is read and parsed although memory knows it, and one whose rows stay."""
        uid = await self.put()
        trash = await self.ground.portal.tree(1).open("Trash")
        moved = (await self.inbox.move([uid], "Trash")).targets[0]
        await self.ground.portal.sweep()
        assert await self.rows() == [1, 1, 1, 1]
        await trash.expunge([moved])
        assert await self.rows(ALL) == [0, 0, 0, 0, 0, 0]

    async def test_the_end(self) -> None:
        """An orderly end writes it; after a crash it is made anew."""
        first = await self.put()
        await self.ground.stop()
        await self.ground.start()
        assert await self.rows() == [1, 1, 1, 1]
        self.inbox = await self.ground.portal.tree(1).open("INBOX")
        second = await self.put()
        await self.ground.restart()
        self.inbox = await self.ground.portal.tree(1).open("INBOX")
        assert await self.rows() == [1, 1, 1, 1]
        assert sorted(await self.inbox.structures([first, second])) == [first, second]
        assert (await self.rows())[0] == 2

    async def test_no_more_than_so_many_wait(self) -> None:
        """Would catch memory that grows with what is delivered between two sweeps."""
        await gatherResults([Deferred.fromCoroutine(self.put()) for _ in range(MESSAGES + 5)])
        await self.ground.database.run(lambda cursor: None)
        assert await self.rows() == [MESSAGES] * 4

    async def test_few_files_are_renamed_where_it_is_committed(self) -> None:
        """Would catch a hop for the files of a STORE besides the one for its rows; and rows that say what files do not."""
        uid = await self.put()
        hops: list[object] = []
        ground = self.inbox._box.ground
        true = ground.thread

        def thread(fn: Any, *args: Any, **kwargs: Any) -> Any:
            hops.append(fn)
            return true(fn, *args, **kwargs)

        self.patch(ground, "thread", thread)
        [entry] = await self.inbox.store([uid], add=["\\Seen"])
        assert not hops
        assert entry.flags == {"\\Seen", "\\Deleted"}
        [name] = [path.name for path in (self.ground.maildir() / "cur").iterdir()]
        assert name.endswith(":2,ST")
        await self.ground.restart()
        [entry] = await (await self.ground.portal.tree(1).open("INBOX")).entries()
        assert (entry.uid, entry.flags) == (uid, {"\\Seen", "\\Deleted"})

    async def test_another_program_renamed_it(self) -> None:
        """Would catch flags in the index of a file that was not found, and a STORE that gives up at once."""
        uid = await self.put()
        cur = self.ground.maildir() / "cur"
        [path] = cur.iterdir()
        path.rename(cur / (path.name.removesuffix("T") + "FT"))
        [entry] = await self.inbox.store([uid], add=["\\Seen"])
        assert entry.flags == {"\\Seen", "\\Flagged", "\\Deleted"}
        assert [one.name[-3:] for one in cur.iterdir()] == ["FST"]

    async def test_a_full_disk(self) -> None:
        """Would catch an error of files that is taken for one of the database, or for everybody's of the same transaction."""
        uid, other = await self.put(), await self.put()
        true = self.ground.disk.rename_unsynced

        def rename(old: Path, new: Path) -> None:
            if new.name.endswith("RT"):
                raise DiskFull("no room")
            true(old, new)

        self.patch(self.ground.disk, "rename_unsynced", rename)
        carol = await self.ground.portal.tree(2).open("INBOX")
        deposit = carol.append([], None)
        await deposit.write(MAIL)
        theirs = int((await deposit.commit()).targets[0])
        outcomes = await DeferredList(
            [
                Deferred.fromCoroutine(self.inbox.store([uid], add=["\\Answered"])),
                Deferred.fromCoroutine(carol.store([theirs], add=["\\Seen"])),
                Deferred.fromCoroutine(self.inbox.store([other], add=["\\Seen"])),
            ],
            consumeErrors=True,
        )
        assert [success for success, _ in outcomes] == [False, True, True]
        assert outcomes[0][1].value.code == "OVERQUOTA"
        assert [entry.flags for entry in await self.inbox.entries()] == [{"\\Deleted"}, {"\\Seen", "\\Deleted"}]
