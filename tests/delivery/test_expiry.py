"""Portal folders expire after the emergency, announced (rule 24): on the real queue and the real portal, with the time handed in."""

from __future__ import annotations

from typing import Any

import msgspec

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.events import Alarm
from hornetmail.core.failover.mode import Mode
from hornetmail.core.folder import FolderError
from hornetmail.delivery.home.expiry import DAY, SPACE, Expiry
from tests.delivery.stores import StoresCase
from tests.delivery.world import HOSTNAME, MAIL, reactor

ALICE = "alice@example.test"


class Log:
    """An audit log in memory: what was done, with its outcome."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []

    async def begin(self, actor: str, action: str, subject: str, detail: str = "", tenant: int = 0) -> int:
        self.rows.append([action, subject, tenant, ""])
        return len(self.rows)

    async def outcome(self, number: int, result: str) -> None:
        self.rows[number - 1][3] = result


class TestExpiry(StoresCase):
    async def emergency(self, kept: int = 1) -> float:
        """An emergency in which Alice moved ``kept`` messages into the folder Kept; when it ended."""
        await self.build()
        self.drift = 0.0
        self.log = Log()
        await self.outage(kept)
        self.fresh()
        return self.delivery.modes.ended("example.test")

    async def outage(self, kept: int) -> None:
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        for number in range(kept):
            await self.send(ALICE, data=MAIL + b"kept %d\r\n" % number)

        async def there() -> bool:
            rows = await self.queue.rows(kinds=(RowKind.DRAIN,), states=(RowState.PARKED,), envelopes=False)
            return len(rows) == kept

        await self.wait(there, "in the portal")
        folder = await self.portal.tree(1).open("INBOX")
        try:
            await self.portal.tree(1).create("Kept")
        except FolderError as error:
            assert error.code == "ALREADYEXISTS"
        await folder.move([entry.uid for entry in await folder.entries()], "Kept")
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until_mode(Mode.NORMAL)

    def fresh(self) -> None:
        """As after a restart."""
        self.expiry = Expiry(
            self.delivery.ground,
            self.portal,
            self.delivery.notices,
            self.log,  # type: ignore[arg-type]
            HOSTNAME,
            drift=lambda: self.drift,
        )

    def told(self) -> list[str]:
        """Announcements that reached the primary."""
        return [each.data.decode() for each in self.primary.accepted if b"emergency server is removed" in each.data]

    async def kept(self, folder: str = "Kept") -> int:
        return (await (await self.portal.tree(1).open(folder)).status()).messages

    async def until_told(self, count: int) -> str:
        await self.until(lambda: len(self.told()) >= count, f"{count} announcements at the primary")
        assert len(self.told()) == count
        return self.told()[-1]

    async def test_announced_and_gone(self) -> None:
        """The whole way: too early, told 14 days before, told 3 days before, gone on the day; each once, also across a restart."""
        end = await self.emergency(kept=2)
        assert (await self.expiry.run(end + 76 * DAY - 60)).announced == 0
        assert self.expiry.due(1) == 0
        assert (await self.expiry.run(end + 76 * DAY)).announced == 1
        text = await self.until_told(1)
        assert self.expiry.due(1) == end + 90 * DAY
        assert "  Kept: 2 messages" in text
        assert "stays in the archive" in text
        assert f"To: <{ALICE}>" in text
        self.fresh()
        assert self.expiry.due(1) == end + 90 * DAY
        for days in (76.1, 80, 86.9):
            assert (await self.expiry.run(end + days * DAY)).announced == 0
        assert (await self.expiry.run(end + 87 * DAY)).announced == 1
        await self.until_told(2)
        assert (await self.expiry.run(end + 90 * DAY - 1)).messages == 0
        folder = await self.portal.tree(1).open("Kept")
        before = (await folder.status()).modseq
        assert await self.kept() == 2
        done = await self.expiry.run(end + 90 * DAY)
        assert (done.messages, done.mailboxes, done.failed) == (2, 1, 0)
        assert [entry.gone for entry in await folder.changes(before)] == [True, True], "an open session sees them go"
        assert self.expiry.due(1) == 0
        assert (await self.expiry.run(end + 91 * DAY)).messages == 0
        assert len(self.told()) == 2
        assert [(row[1], row[3]) for row in self.log.rows] == [
            ("0 to expire, 1 to announce", "done: 0 messages of 0 mailboxes expired, 1 announced"),
            ("0 to expire, 1 to announce", "done: 0 messages of 0 mailboxes expired, 1 announced"),
            ("1 to expire, 0 to announce", "done: 2 messages of 1 mailboxes expired, 0 announced"),
        ]
        assert len(self.archive.items) == 2, "the archive is not touched"

    async def through(self, end: float, days: float = 90) -> int:
        """Both announcements, then the day; how many messages went."""
        for at in (days - 14, days - 3, days):
            done = await self.expiry.run(end + at * DAY + 1)
        return done.messages

    async def test_late_announcements_move_the_date(self) -> None:
        """A service that was off, or was updated long after the emergency: nobody loses mail with less than 14 and 3 days of warning."""
        end = await self.emergency()
        await self.expiry.run(end + 200 * DAY)
        assert self.expiry.due(1) == end + 214 * DAY
        assert (await self.expiry.run(end + 215 * DAY)).announced == 1
        assert self.expiry.due(1) == end + 218 * DAY
        assert (await self.expiry.run(end + 217.9 * DAY)).messages == 0
        assert (await self.expiry.run(end + 218 * DAY)).messages == 1

    async def test_nothing_during_another_emergency(self) -> None:
        """In emergency and while draining nothing is told and nothing goes; the new emergency's end counts."""
        end = await self.emergency()
        await self.expiry.run(end + 76 * DAY)
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        assert (await self.expiry.run(end + 87 * DAY)).announced == 0
        assert (await self.expiry.run(end + 95 * DAY)).messages == 0
        self.delivery.modes._states["example.test"] = msgspec.structs.replace(
            self.delivery.modes._states["example.test"], mode=Mode.DRAINING, ended=end + 96 * DAY
        )
        done = await self.expiry.run(end + 97 * DAY)
        assert (done.announced, done.messages) == (0, 0)
        self.delivery.modes._states["example.test"] = msgspec.structs.replace(
            self.delivery.modes._states["example.test"], mode=Mode.NORMAL
        )
        assert (await self.expiry.run(end + 98 * DAY)).messages == 0
        assert self.expiry.due(1) == 0
        assert await self.through(end + 96 * DAY) == 1

    async def test_never(self) -> None:
        """No primary, a domain that keeps its folders, and a domain without a known emergency: nothing is told, nothing goes."""
        end = await self.emergency()
        served = self.directory.served[0]
        for changed in (
            msgspec.structs.replace(served, portal_days=0.0),
            msgspec.structs.replace(served, primaries=()),
        ):
            self.directory.served[0] = changed
            assert await self.through(end) == 0
            assert self.expiry.due(1) == 0
        self.directory.served[0] = served
        self.delivery.modes._states.clear()
        assert await self.through(end) == 0
        assert self.told() == []

    async def test_days_of_the_domain(self) -> None:
        """A longer term given after the announcement holds; a shorter one does not take back what was promised."""
        end = await self.emergency()
        served = self.directory.served[0]
        await self.expiry.run(end + 76 * DAY)
        self.directory.served[0] = msgspec.structs.replace(served, portal_days=30.0)
        await self.expiry.run(end + 87 * DAY)
        assert self.expiry.due(1) == end + 90 * DAY
        self.directory.served[0] = msgspec.structs.replace(served, portal_days=180.0)
        assert (await self.expiry.run(end + 91 * DAY)).messages == 0
        assert await self.through(end, 180) == 1

    async def test_shorter_days_take_nothing_unannounced(self) -> None:
        """A term that becomes shorter between announcement and date: younger mail would go without a word."""
        end = await self.emergency(kept=2)
        folder = await self.portal.tree(1).open("Kept")
        young = (await folder.entries())[0].name

        def later(cursor: Any) -> None:
            cursor.execute("UPDATE portal_messages SET landed = landed + ? WHERE base = ?", (30 * DAY, young))

        await self.database.run(later)
        await self.expiry.run(end + 76 * DAY)
        await self.expiry.run(end + 87 * DAY)
        self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], portal_days=10.0)
        assert (await self.expiry.run(end + 90 * DAY)).messages == 1
        assert [entry.name for entry in await folder.entries()] == [young]
        assert (await self.expiry.run(end + 90.1 * DAY)).announced == 1

    async def test_young_messages_stay(self) -> None:
        """What came into the portal later, by a failover in normal mode, has its own 90 days, whatever its date says."""
        end = await self.emergency(kept=2)
        folder = await self.portal.tree(1).open("Kept")
        young = (await folder.entries())[0]

        def later(cursor: Any) -> None:
            cursor.execute("UPDATE portal_messages SET landed = landed + ? WHERE base = ?", (10 * DAY, young.name))

        await self.database.run(later)
        assert await self.through(end) == 1
        assert [entry.name for entry in await folder.entries()] == [young.name]
        assert (await self.expiry.run(end + 91 * DAY)).announced == 1, "it is announced on its own"
        assert self.expiry.due(1) >= end + 100 * DAY

    async def test_still_to_drain(self) -> None:
        """A copy that has to get home yet stays wherever it lies, and is not announced; one that the primary refused goes, with its row;
        one without an envelope stays in INBOX."""
        end = await self.emergency(kept=0)
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        for name in (b"held", b"refused"):
            await self.send(ALICE, data=MAIL + name + b"\r\n")

        async def two() -> bool:
            return len(await self.queue.rows(kinds=(RowKind.DRAIN,), states=(RowState.PARKED,), envelopes=False)) == 2

        await self.wait(two, "in the portal")
        held = (await self.queue.rows(kinds=(RowKind.DRAIN,), envelopes=False))[0][1]
        await self.queue.change([held.id], RowState.HELD, reason="by hand")
        note = (await self.portal.tree(1).open("INBOX")).append((), None)
        await note.write(b"Subject: own note\r\n\r\nnote\r\n")
        await note.commit()
        self.primary.script.replies = {"DOT": "554 5.6.0 spam"}
        await self.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
        await self.until_mode(Mode.NORMAL)
        self.primary.script.replies = {}
        inbox = await self.portal.tree(1).open("INBOX")
        [copy] = [entry.uid for entry in await inbox.entries() if held.portal is not None and entry.name == held.portal.name]
        await inbox.move([copy], "Kept")
        end = self.delivery.modes.ended("example.test")
        await self.expiry.run(end + 76 * DAY)
        text = await self.until_told(1)
        assert "INBOX: 1 message that your mail server refused" in text
        assert "Kept" not in text
        assert await self.through(end) == 1
        assert await self.kept() == 1
        [left] = await inbox.entries()
        assert left.name.partition(".")[2].startswith("M"), "the own note"
        rows = await self.queue.rows(kinds=(RowKind.DRAIN,), envelopes=False)
        assert [(row.id, row.state) for _, row in rows] == [(held.id, RowState.HELD)]

    def warned(self) -> list[Alarm]:
        """Alarms of the expiry; the primary that is back has its own."""
        return [alarm for alarm in self.alarms if alarm.code == "portal-expiry"]

    async def test_clock(self) -> None:
        """Rule 19: a clock that jumped, or that was set back, removes nothing and says so."""
        end = await self.emergency()
        await self.expiry.run(end + 76 * DAY)
        await self.expiry.run(end + 87 * DAY)
        self.drift = 4000.0
        assert (await self.expiry.run(end + 90 * DAY)).messages == 0
        await self.until(lambda: self.warned(), "told")
        assert "monotonic" in self.warned()[-1].text
        self.drift = 0.0
        self.fresh()
        assert (await self.expiry.run(end + 80 * DAY)).messages == 0, "behind the last run"
        await self.until(lambda: len(self.warned()) == 2, "told")
        assert (await self.expiry.run(end + 90 * DAY)).messages == 1

    async def test_after_a_clock_in_the_far_future(self) -> None:
        """A date announced by a wrong clock, which is right again: the folders would stay for years."""
        end = await self.emergency()
        await self.expiry.run(end + 4000 * DAY)
        await self.queue.remember(SPACE, "last run", None)
        self.fresh()
        assert self.expiry.due(1) > end + 4000 * DAY
        await self.expiry.run(end + 50 * DAY)
        assert self.expiry.due(1) == 0
        assert await self.through(end) == 1

    async def test_cleaned_up_meanwhile(self) -> None:
        """Who emptied the folder after the first announcement hears no more of it."""
        end = await self.emergency()
        await self.expiry.run(end + 76 * DAY)
        folder = await self.portal.tree(1).open("Kept")
        uids = [entry.uid for entry in await folder.entries()]
        await folder.store(uids, add=["\\Deleted"])
        await folder.expunge(uids)
        assert (await self.expiry.run(end + 87 * DAY)).announced == 0
        assert self.expiry.due(1) == 0
        assert self.queue.remembered(SPACE).keys() == {"last run"}

    async def test_not_archived(self) -> None:
        """The announcement must not promise an archive that is not there."""
        end = await self.emergency()
        self.directory.registered[0] = msgspec.structs.replace(self.directory.registered[0], archive=False)
        await self.expiry.run(end + 76 * DAY)
        text = await self.until_told(1)
        assert "is not archived: what is removed is gone" in text
        assert "stays in the archive" not in text

    async def test_moved_back_in_time(self) -> None:
        """The announcement says that what is moved into INBOX goes home: it must, for as long as the folders are kept."""
        await self.emergency()
        returned = self.delivery._returned
        name, away = next(iter(returned._away[1].items()))
        for days, there in ((100, True), (121, False)):
            returned._away[1][name] = msgspec.structs.replace(away, at=reactor.seconds() - days * DAY)
            await returned.sweep()
            assert (1 in returned._away) is there, days

    async def test_moved_back_when_nobody_knows_for_how_long(self) -> None:
        """Folders of a domain that keeps them for good, or that is gone for a while, are watched for a year: would catch a copy that comes back after some
        weeks and stays where its owner put it to have it sent home."""
        await self.emergency()
        returned, served = self.delivery._returned, self.directory.served[0]
        name, away = next(iter(returned._away[1].items()))
        for domains in ([msgspec.structs.replace(served, portal_days=0)], []):
            self.directory.served = list(domains)
            returned._watch(1, name, msgspec.structs.replace(away, at=reactor.seconds() - 364 * DAY))
            await returned.sweep()
            assert 1 in returned._away
            returned._away[1][name] = msgspec.structs.replace(away, at=reactor.seconds() - 367 * DAY)
            await returned.sweep()
            assert 1 not in returned._away
        self.directory.served = [served]
