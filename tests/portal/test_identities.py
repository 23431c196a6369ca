"""What names a message, a folder and a moment for good: EMAILID, MAILBOXID (RFC 8474), SAVEDATE (RFC 8514); and an index of a former version."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from hornetmail.db.pool import Database
from hornetmail.portal.rows.schema import MIGRATIONS
from tests.portal.ground import MAIL, Bytes, Ground, message, row


class Identities(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        await self.ground.start()

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def open(self, name: str) -> Any:
        return await self.ground.portal.tree(1).open(name)

    async def ids(self, name: str) -> list[str]:
        folder = await self.open(name)
        return [folder.email_id(entry) for entry in await folder.entries()]

    async def filled(self) -> list[str]:
        """A message that was delivered, one that a client brought, one of another program: their EMAILIDs."""
        await self.ground.portal.deliver(1, message(), row(), Bytes(MAIL))
        inbox = await self.open("INBOX")
        deposit = inbox.append([], None)
        await deposit.write(MAIL)
        await deposit.commit()
        (self.ground.maildir() / "new" / "1.1_1.other").write_bytes(b"Subject: f\n\nline\n")
        ids = await self.ids("INBOX")
        assert len(set(ids)) == 3
        return ids

    async def test_a_message_keeps_its_id(self) -> None:
        """Would catch an EMAILID that changes by COPY, by MOVE, within a folder or by a restart, or that goes with ``portal.db``."""
        ids = await self.filled()
        inbox = await self.open("INBOX")
        await inbox.copy([1, 2, 3], "Sent")
        await inbox.copy([1, 2, 3], "Sent")
        await inbox.move([1, 2, 3], "Trash")
        await (await self.open("Trash")).move([1, 2, 3], "Trash")
        assert await self.ids("Sent") == ids * 2
        assert await self.ids("Trash") == ids
        await self.ground.stop()
        database = await Database.open(reactor, self.ground.url, MIGRATIONS, synchronous="NORMAL")
        for table in (
            "portal_messages",
            "portal_folders",
            "portal_boxes",
            "portal_trees",
            "portal_heads",
            "portal_summaries",
            "portal_fields",
        ):
            await database.run(lambda cursor, table=table: cursor.execute(f"DELETE FROM {table}"))
        await database.close()
        await self.ground.start()
        assert sorted(await self.ids("Trash")) == sorted(ids)

    async def test_moved_within_its_folder(self) -> None:
        """RFC 6851: MOVE is allowed where COPY is. Would catch a refusal, a message that is there twice or not at all, and a drain that takes it for another."""
        await self.filled()
        inbox = await self.open("INBOX")
        before = (await inbox.status()).modseq
        copied = await inbox.move([1, 2], "INBOX")
        assert (copied.sources, copied.targets) == ((1, 2), (4, 5))
        assert [entry.uid for entry in await inbox.entries()] == [3, 4, 5]
        assert [(entry.uid, entry.gone) for entry in await inbox.changes(before)] == [
            (1, True),
            (2, True),
            (4, False),
            (5, False),
        ]
        assert await (await inbox.body(5)).read() == MAIL
        assert len(await self.ground.portal.copies(1)) == 1
        await self.ground.restart()
        assert [entry.uid for entry in await (await self.open("INBOX")).entries()] == [3, 4, 5]

    async def test_a_folder_keeps_its_id(self) -> None:
        """Would catch a MAILBOXID that changes by RENAME or a restart, and one that a new folder of an old name gets again."""
        tree = self.ground.portal.tree(1)
        await tree.create("A/B")
        first = {info.name: info.object for info in await tree.folders()}
        assert len(set(first.values())) == len(first)
        await tree.rename("A", "C")
        await self.ground.restart()
        tree = self.ground.portal.tree(1)
        then = {info.name: info.object for info in await tree.folders()}
        assert (then["C"], then["C/B"], then["INBOX"]) == (first["A"], first["A/B"], first["INBOX"])
        assert (await tree.open("C/B")).info.object == first["A/B"]
        await tree.delete("C/B")
        await tree.create("C/B")
        assert (await tree.open("C/B")).info.object not in first.values()

    async def test_since_when_it_is_in_its_folder(self) -> None:
        """RFC 8514 section 3: would catch a SAVEDATE that is INTERNALDATE, that a copy or a moved message inherits, or that a restart forgets."""
        await self.filled()
        inbox = await self.open("INBOX")
        began = self.ground.portal._ground.now()
        assert all(0 <= began - entry.saved < 60 for entry in await inbox.entries())
        self.patch(self.ground.portal._ground, "now", lambda: began + 1000)
        await inbox.copy([1], "Sent")
        await inbox.move([2], "Sent")
        await inbox.store([3], add=["\\Seen"])
        assert [entry.saved for entry in await (await self.open("Sent")).entries()] == [began + 1000] * 2
        saved = [entry.saved for entry in await inbox.entries()]
        await self.ground.restart()
        assert [entry.saved for entry in await (await self.open("INBOX")).entries()] == saved
        assert all(0 <= began - one < 60 for one in saved)

    async def test_an_index_of_before_is_taken_over(self) -> None:
        """Would catch an upgrade that gives out new UIDs, after which each client downloads all of its mail again; headers, which the former one did not
        keep, are made when they are asked for."""
        await self.filled()
        inbox = await self.open("INBOX")
        await inbox.store([2], add=["$Label1"])
        await inbox.recent(take=True)
        before = inbox.info, await inbox.status()
        await self.ground.stop()
        url = self.ground.url

        def older(cursor: Any) -> None:
            for sql in (
                "DROP TABLE portal_heads",
                "DROP TABLE portal_summaries",
                "DROP TABLE portal_fields",
                "DROP TABLE portal_texts",
                "DROP TABLE portal_grants",
                "DROP INDEX portal_gone_modseq",
                "ALTER TABLE portal_messages DROP COLUMN saved",
                "ALTER TABLE portal_folders DROP COLUMN recent",
                "DELETE FROM schema_migrations WHERE number > 3",
            ):
                cursor.execute(sql)

        database = await Database.open(reactor, url, MIGRATIONS, synchronous="NORMAL")
        await database.run(older)
        await database.close()
        await self.ground.start()
        inbox = await self.open("INBOX")
        assert (inbox.info, await inbox.status()) == before
        assert [(entry.uid, "$Label1" in entry.flags, entry.saved) for entry in await inbox.entries()] == [
            (1, False, 0),
            (2, True, 0),
            (3, False, 0),
        ]
        assert (await inbox.headers([2]))[2].startswith(b"From: Alice")
        assert (await inbox.summaries([1, 2, 3])).keys() == {1, 2, 3}
        assert (await inbox.fields([2]))[2][1].startswith(b"From: Alice")
