"""What is kept of messages is written later, many at once: it is answered from memory until then, and what goes before that leaves nothing behind."""

from __future__ import annotations

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

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
