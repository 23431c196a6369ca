"""The book of alarms on ``control.db``: what is kept, what ends when, what is told."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.alarms import AlarmRecord, Stage, Way
from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.core.ids import IdSource
from hornetmail.db.engines import DatabaseFull
from hornetmail.runtime.alarms import AlarmBook
from hornetmail.runtime.telling import Outlet, Pace, Teller
from hornetmail.testing.control import Control, ListeningBus

HOUR = 3600.0


def tenant_of(domain: str) -> int:
    return {"two.test": 2}.get(domain, 1)


class BookOnSQLite(TestCase):
    """On SQLite; ``BookOnPostgreSQL`` runs the same."""

    engine = "sqlite"

    async def setUp(self) -> None:
        self.control = await Control.open(self, self.engine)
        self.clock = self.control.clock
        self.ids = IdSource(self.clock.seconds)
        await self.start()

    async def start(self, *, opened: bool = True) -> None:
        """A process begins: a bus and a book of its own, the database of before."""
        self.bus = ListeningBus()
        self.book = AlarmBook(self.clock, self.bus, self.ids, confirm=600)
        if opened:
            await self.book.open(self.control.database, tenant_of)

    def codes(self, tenant: int = 0) -> list[str]:
        return [record.code for record in self.book.standing(tenant)]

    async def test_it_outlives_a_restart(self) -> None:
        """Would catch an alarm that is gone, begins anew or loses who has seen it when the service starts again."""
        self.bus.publish(Alarm("drain-refused", "no such \0 user \udcff", "two.test"))
        self.clock.advance(5)
        self.bus.publish(Alarm("drain-refused", "again", "two.test"))
        [before] = self.book.standing()
        assert (before.count, before.tenant, before.subject, before.last - before.since) == (2, 2, "two.test", 5)
        assert await self.book.acknowledge([before.number], "ada") == 1
        await self.start()
        [after] = self.book.standing()
        assert after == self.book.find("drain-refused", "two.test")
        assert (after.number, after.since, after.count, after.by) == (before.number, before.since, 2, "ada")
        assert self.codes(1) == []
        assert self.codes(2) == ["drain-refused"]

    async def test_raised_while_starting(self) -> None:
        """Would catch what a room says before anybody could listen or write: it was lost."""
        self.bus.publish(Alarm("archive-backlog", "old", subject=""))
        await self.book.write()
        await self.start(opened=False)
        self.bus.publish(Alarm("queue-damage", "three places"))
        self.bus.publish(Alarm("archive-backlog", "still"))
        self.bus.publish(Alarm("drain-refused", "no", "two.test"))
        await self.book.open(self.control.database, tenant_of)
        assert sorted(self.codes()) == ["archive-backlog", "drain-refused", "queue-damage"]
        found = self.book.find("archive-backlog")
        assert found is not None
        assert (found.count, found.text) == (2, "still"), "the one of before goes on"
        assert self.codes(2) == ["drain-refused"]
        await self.start()
        assert len(self.codes()) == 3
        self.clock.advance(601)
        await self.book.look()
        assert sorted(self.codes()) == ["queue-damage"], "nobody has raised the others again"

    async def test_it_ends_with_its_cause_and_not_with_time(self) -> None:
        """Would catch an alarm that goes away by itself, and one that stays though its cause is gone."""
        self.bus.publish(Alarm("disk-full", "91 %", subject="/var"))
        self.clock.advance(1000 * HOUR)
        await self.book.look()
        assert self.codes() == ["disk-full"]
        self.bus.publish(AlarmEnded("disk-full", "/home"))
        assert self.codes() == ["disk-full"], "another disk"
        self.bus.publish(AlarmEnded("disk-full", "/var", "room again"))
        assert self.codes() == []
        [over] = await self.book.over()
        assert (over.why, over.subject) == ("room again", "/var")
        self.bus.publish(Alarm("disk-full", "92 %", subject="/var"))
        await self.book.write()
        assert self.codes() == ["disk-full"], "a further one of the same kind"
        assert len(await self.book.over()) == 1

    async def test_causes_are_asked(self) -> None:
        """Would catch an alarm of before a restart that ends though its cause lasts, because it is raised once a day only."""
        for code in ("accept-all", "emergency"):
            self.bus.publish(Alarm(code, "x", "one.test"))
        await self.book.write()
        await self.start()
        gone: dict[str, str] = {"emergency": "", "accept-all": ""}

        def broken(_: AlarmRecord) -> str:
            raise RuntimeError("cannot tell")

        self.book.watch("emergency", broken)
        self.book.watch("accept-all", lambda record: gone[record.code])
        self.clock.advance(10 * HOUR)
        await self.book.look()
        assert len(self.flushLoggedErrors(RuntimeError)) == 1
        assert len(self.codes()) == 2
        gone["accept-all"] = "it refuses again"
        await self.book.look()
        self.flushLoggedErrors(RuntimeError)
        assert self.codes() == ["emergency"]

    async def test_a_flood_is_few_rows_and_loses_no_count(self) -> None:
        """Would catch a write for each of ten thousand raisings, and raisings that are lost between two writes."""
        written = 0
        run = self.control.database.run

        async def counting(*args: object) -> object:
            nonlocal written
            written += 1
            return await run(*args)  # type: ignore[arg-type]

        self.patch(self.control.database, "run", counting)
        for number in range(10_000):
            self.bus.publish(Alarm("drain-refused", f"number {number}", "one.test"))
        await self.book.write()
        assert written < 20
        await self.start()
        [record] = self.book.standing()
        assert (record.count, record.text) == (10_000, "number 9999")

    async def test_a_database_that_takes_nothing_keeps_no_alarm_back(self) -> None:
        """Would catch an alarm about a full or broken database that is lost because of just that."""
        run = self.control.database.run

        async def full(*_: object) -> object:
            raise DatabaseFull("no room")

        self.patch(self.control.database, "run", full)
        self.bus.publish(Alarm("disk-full", "91 %", subject="/"))
        await self.book.write()
        assert self.book.due(Way.MAIL, lambda tenant: HOUR)[0][1] is Stage.BEGAN
        self.patch(self.control.database, "run", run)
        await self.book.look()
        await self.start()
        assert self.codes() == ["disk-full"]

    async def test_what_was_told_is_known_after_a_restart(self) -> None:
        """Would catch a second mail for the same beginning, or an end that nobody hears of, because the service was started again between."""
        self.bus.publish(Alarm("disk-full", "91 %", subject="/"))
        self.book.told(Way.MAIL, self.book.due(Way.MAIL, lambda tenant: HOUR))
        await self.book.write()
        await self.start()
        assert self.book.due(Way.MAIL, lambda tenant: HOUR) == []
        self.bus.publish(AlarmEnded("disk-full", "/"))
        await self.book.write()
        await self.start()
        [(record, stage)] = self.book.due(Way.MAIL, lambda tenant: HOUR)
        assert stage is Stage.ENDED
        self.book.told(Way.MAIL, [(record, stage)])
        assert self.book.due(Way.MAIL, lambda tenant: HOUR) == []
        self.bus.publish(Alarm("disk-full", "91 %", subject="/"))
        assert self.book.due(Way.MAIL, lambda tenant: HOUR) == [], "back within minutes: told a while later"
        self.clock.advance(HOUR)
        assert [stage for _, stage in self.book.due(Way.MAIL, lambda tenant: HOUR)] == [Stage.BEGAN]

    async def test_side_by_side(self) -> None:
        """Acknowledging and raising while it is written must end in one state, the newest, in memory and on disk."""
        for number in range(50):
            self.bus.publish(Alarm("disk-full", "x", subject=f"/{number}"))
        numbers = [record.number for record in self.book.standing()]
        await gatherResults([Deferred.fromCoroutine(self.book.acknowledge([number], "ada")) for number in numbers])
        self.bus.publish(AlarmEnded("disk-full", "/7"))
        await self.book.write()
        before = self.book.standing()
        await self.start()
        assert self.book.standing() == before
        assert len(before) == 49
        assert all(record.by == "ada" for record in before)

    async def test_old_ones_are_forgotten(self) -> None:
        """The list of what was must not grow for ever."""
        self.bus.publish(Alarm("disk-full", "x", subject="/"))
        self.bus.publish(AlarmEnded("disk-full", "/"))
        await self.book.look()
        assert len(await self.book.over()) == 1
        self.clock.advance(91 * 24 * HOUR)
        await self.book.look()
        assert await self.book.over() == []


class BookOnPostgreSQL(BookOnSQLite):
    """The same on PostgreSQL."""

    engine = "postgresql"


class TellerTest(TestCase):
    """Pacing and trying again, on a clock of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.bus = ListeningBus()
        self.book = AlarmBook(self.clock, self.bus, IdSource(self.clock.seconds))
        self.sent: list[tuple[float, int, list[tuple[str, Stage]]]] = []
        self.trouble: dict[int, Exception] = {}
        self.nobody = False
        self.goals: dict[int, str] = {}
        self.failing: list[tuple[int, str]] = []
        self.hanging: dict[int, Deferred[None]] = {}
        self.teller = Teller(
            self.clock, self.book, Outlet(Way.MAIL, self.send, self.goals.get, self.heard), lambda tenant: 4 * HOUR, Pace()
        )
        self.began = self.clock.seconds()

    def heard(self, tenant: int, why: str) -> None:
        if why or self.failing:
            self.failing.append((tenant, why))

    async def send(self, tenant: int, said: Sequence[tuple[AlarmRecord, Stage]]) -> bool:
        if tenant in self.trouble:
            raise self.trouble[tenant]
        if tenant in self.hanging:
            await self.hanging[tenant]
        if not self.nobody:
            at = self.clock.seconds() - self.began
            self.sent.append((at, tenant, [(record.subject, stage) for record, stage in said]))
        return not self.nobody

    async def pass_(self, seconds: float, step: float = 1.0) -> None:
        """Time goes by, with a look every half minute as the timetable has it."""
        for number in range(round(seconds / step)):
            self.clock.advance(step)
            if number % round(30 / step) == 0:
                await self.book.look()
                self.teller.soon()

    async def test_what_begins_together_is_one_message(self) -> None:
        """Would catch a mail each when fifty domains go down with one line."""
        for number in range(50):
            self.bus.publish(Alarm("emergency", "x", f"d{number}.test"))
        await self.pass_(60)
        [(at, _, said)] = self.sent
        assert at <= 6
        assert len(said) == 50

    async def test_a_flood_is_few_messages(self) -> None:
        """Would catch a mail every few seconds for as long as something new goes wrong every few seconds."""
        for number in range(360):
            self.bus.publish(Alarm("emergency", "x", f"d{number}.test"))
            await self.pass_(10)
        assert 5 <= len(self.sent) <= 16, len(self.sent)
        self.clock.advance(700)
        assert sum(len(said) for _, _, said in self.sent) == 360

    async def test_reminders_and_the_end(self) -> None:
        """Would catch a way that says it once and never again, or not that it is over."""
        self.bus.publish(Alarm("emergency", "x", "one.test"))
        await self.pass_(9 * HOUR, 10.0)
        self.bus.publish(AlarmEnded("emergency", "one.test"))
        await self.pass_(HOUR, 10.0)
        stages = [stage for _, _, said in self.sent for _, stage in said]
        assert stages == [Stage.BEGAN, Stage.LASTS, Stage.LASTS, Stage.ENDED]

    async def test_trouble_of_one_is_tried_again_and_holds_up_nobody(self) -> None:
        """Would catch a failed hand-over after which nobody is told, and one tenant's that keeps the others from hearing theirs."""
        await self.book.open(FakeDatabase(), tenant_of)  # type: ignore[arg-type]
        self.trouble[2] = OSError("no route")
        self.bus.publish(Alarm("emergency", "x", "two.test"))
        self.bus.publish(Alarm("emergency", "x", "one.test"))
        await self.pass_(60)
        assert [(tenant, said[0][0]) for _, tenant, said in self.sent] == [(1, "one.test")]
        del self.trouble[2]
        await self.pass_(600)
        assert [(tenant, said[0][0]) for _, tenant, said in self.sent] == [(1, "one.test"), (2, "two.test")]

    async def test_a_corrected_goal_is_tried_at_once(self) -> None:
        """Would catch a webhook whose address was put right and that says nothing for a quarter of an hour all the same."""
        self.trouble[1], self.goals[1] = OSError("no such host"), "https://hokk.test"
        self.bus.publish(Alarm("emergency", "x", "one.test"))
        await self.pass_(HOUR, 10.0)
        assert self.sent == []
        self.goals[1] = "https://hook.test"
        del self.trouble[1]
        await self.pass_(40)
        assert [said for _, _, said in self.sent] == [[("one.test", Stage.BEGAN)]]

    async def test_a_way_that_keeps_failing(self) -> None:
        """Would catch alarms that nobody is told of, which only the log knows; one failure that is none a minute later is no trouble."""
        self.trouble[1] = OSError("refused")
        self.bus.publish(Alarm("emergency", "x", "one.test"))
        await self.pass_(12)
        assert self.failing == []
        await self.pass_(200)
        assert self.failing
        assert set(self.failing) == {(1, "refused")}
        del self.trouble[1]
        await self.pass_(900)
        assert self.failing[-1] == (1, "")

    async def test_one_whose_receiver_hangs_holds_up_nobody(self) -> None:
        """Would catch tenants that are told one after another, 20 s each if their webhooks do not answer; and a service that does not stop
        before the last of them has timed out."""
        await self.book.open(FakeDatabase(), tenant_of)  # type: ignore[arg-type]
        self.hanging[2] = Deferred()
        self.bus.publish(Alarm("emergency", "x", "two.test"))
        self.bus.publish(Alarm("emergency", "x", "one.test"))
        await self.pass_(10)
        assert [tenant for _, tenant, _ in self.sent] == [1]
        stopped = Deferred.fromCoroutine(self.teller.stop())
        self.clock.advance(3)
        self.successResultOf(stopped)
        assert self.clock.getDelayedCalls() == []
        assert [record.subject for record, _ in self.book.due(Way.MAIL, lambda tenant: HOUR)] == ["two.test"], (
            "the next start says it"
        )

    async def test_many_tenants_at_once_are_no_flood(self) -> None:
        """Would catch a gap that grows with each tenant of one round: ten minutes before anybody hears of what comes next."""
        await self.book.open(FakeDatabase(), lambda domain: int(domain.partition(".")[0][1:]))  # type: ignore[arg-type]
        for number in range(1, 9):
            self.bus.publish(Alarm("emergency", "x", f"d{number}.test"))
        await self.pass_(10)
        assert len(self.sent) == 8
        self.bus.publish(Alarm("disk-away", "x", "d9.test"))
        await self.pass_(20)
        assert len(self.sent) == 9

    async def test_nobody_to_tell(self) -> None:
        """An administrator who comes later must hear of what is wrong then, and not of what is over."""
        self.nobody = True
        self.bus.publish(Alarm("emergency", "x", "one.test"))
        self.bus.publish(Alarm("disk-full", "x", subject="/"))
        await self.pass_(60)
        self.bus.publish(AlarmEnded("disk-full", "/"))
        self.nobody = False
        await self.pass_(60)
        assert [said for _, _, said in self.sent] == [[("one.test", Stage.BEGAN)]]


class FakeDatabase:
    """Empty, and takes everything."""

    async def read(self, *_: object) -> list[AlarmRecord]:
        return []

    async def run(self, *_: object) -> None:
        return None
