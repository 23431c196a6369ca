"""What an emergency left in the portal, and its removal (rule 24), on both databases."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet import reactor as _reactor
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Portal
from hornetmail.core.events import FolderChanged
from tests.portal.ground import MAIL, Bytes, Ground, message, row

reactor: Any = _reactor


class OnSQLite(TestCase):
    """Here on SQLite, below on PostgreSQL."""

    engine: ClassVar[str] = "sqlite"

    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground(self.engine)
        await self.ground.start()

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def delivered(self, number: int = 1) -> Portal:
        return await self.ground.portal.deliver(1, message(MAIL, number), row(number), Bytes(MAIL))

    async def landed(self) -> dict[str, float]:
        """Since when messages are in the portal, by folder."""

        def read(cursor):  # type: ignore[no-untyped-def]
            cursor.execute("SELECT f.name, m.landed FROM portal_messages m JOIN portal_folders f ON f.id = m.folder")
            return dict(cursor.fetchall())

        return await self.ground.database.read(read)  # type: ignore[no-any-return]

    async def test_since_when_it_is_here(self) -> None:
        """Rule 24: the age in the portal counts, not the message's date; moving and copying do not make it younger. What another program
        dropped is here since we saw it."""
        portal, tree = self.ground.portal, self.ground.portal.tree(1)
        await self.delivered()
        before = (await self.landed())["INBOX"]
        assert abs(before - reactor.seconds()) < 60
        await tree.create("Kept")
        await tree.create("Copied")
        inbox = await tree.open("INBOX")
        await self.ground.database.run(lambda cursor: cursor.execute("UPDATE portal_messages SET landed = 1000.5"))
        await inbox.copy([1], "Copied")
        await inbox.move([1], "Kept")
        (self.ground.maildir() / "new" / "1000.x.elsewhere").write_bytes(MAIL)
        await portal.sweep()
        landed = await self.landed()
        assert (landed["Kept"], landed["Copied"]) == (1000.5, 1000.5)
        assert abs(landed["INBOX"] - reactor.seconds()) < 60

    async def test_expire(self) -> None:
        """Rule 24: old enough, in folders; of INBOX only what was refused, and not during a POP session; nothing spared, nothing claimed."""
        portal, tree = self.ground.portal, self.ground.portal.tree(1)
        copies = [await self.delivered(number) for number in range(1, 6)]
        await tree.create("Kept")
        inbox = await tree.open("INBOX")
        await inbox.move([1, 2], "Kept")
        await inbox.copy([3], "Kept")
        spared, refused = [copies[1].name, copies[2].name], [copies[3].name, copies[4].name]
        now = float(reactor.seconds()) + 1
        assert await portal.left_over(1, now - 3600, spared, refused) == {}
        wanted = {"INBOX": refused, "Kept": [copies[0].name]}
        assert await portal.left_over(1, now, spared, refused) == wanted
        assert await portal.begin_drain(copies[3]) is not None
        assert await portal.lock(1, "pop")
        heard: list[str] = []
        self.ground.bus.subscribe(FolderChanged, lambda event: heard.append(event.folder))
        assert await portal.expire(1, now, spared, refused) == {"Kept": [copies[0].name]}
        assert heard == ["Kept"]
        await portal.unlock(1, "pop")
        assert await portal.expire(1, now, spared, refused) == {"INBOX": [copies[4].name]}, "the other is being handed over"
        assert [entry.uid for entry in await inbox.entries()] == [3, 4]
        assert len(list((self.ground.maildir() / ".Kept" / "new").iterdir())) == 2
        await self.ground.restart()
        assert await self.ground.portal.left_over(1, now, spared, ()) == {}


class OnPostgreSQL(OnSQLite):
    """The same on PostgreSQL."""

    engine = "postgresql"
