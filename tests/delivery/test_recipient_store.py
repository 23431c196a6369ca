"""What is known of recipients, on a database: bounds per domain, ninety days, flat memory (C13, L7)."""

from __future__ import annotations

import shutil
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.served import Domain, Mailbox
from hornetmail.db.engines import DatabaseError, DatabaseFull, DatabaseLocked
from hornetmail.db.pool import Database
from hornetmail.delivery.recipients.accepted import DAY, SPACE, AcceptedRecipients, Gaps, RecipientLimits
from hornetmail.delivery.recipients.store import MIGRATIONS, Fact, RecipientDatabase
from hornetmail.disk.files import Disk
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue
from hornetmail.testing.memory_recipients import MemoryRecipients

reactor: Any = _reactor


def fact(address: str, at: float, *, delivered: bool = True) -> Fact:
    return Fact(address, address.partition("@")[2], 1, at, delivered)


class Stores(TestCase):
    """The database, and the one in memory that other tests work with: both must do the same."""

    async def setUp(self) -> None:
        home = Path(tempfile.mkdtemp(prefix="hm-recipients-"))
        self.addCleanup(shutil.rmtree, home)
        self.database = await Database.open(reactor, f"sqlite:///{home}/recipients.db", MIGRATIONS)
        self.addCleanup(self.database.close)
        self.stores = (RecipientDatabase(self.database), MemoryRecipients())

    async def test_the_later_time_stays(self) -> None:
        """A fact that is written late takes an address back in time, or makes a delivery a mere question."""
        for store in self.stores:
            await store.write([fact("a@x.test", 100.0), fact("b@x.test", 5.0, delivered=False)])
            await store.write([fact("a@x.test", 50.0, delivered=False)])
            assert await store.accepted("a@x.test") == 100.0
            assert await store.accepted("nobody@x.test") is None
            assert await store.newest("x.test", 5) == ["a@x.test"]

    async def test_pages(self) -> None:
        """A page that skips or repeats an address, or shows one of another domain or of long ago."""
        for store in self.stores:
            await store.write([fact(f"u{number:02}@x.test", float(number)) for number in range(20)])
            await store.write([fact("u@y.test", 20.0)])
            found: list[str] = []
            while page := await store.page("x.test", 5.0, found[-1] if found else "", 4):
                found += page
            assert found == [f"u{number:02}@x.test" for number in range(5, 20)]

    async def test_forgetting(self) -> None:
        """What is old goes; of a crowded domain first what only questions found, of these the oldest; other domains keep theirs."""
        for store in self.stores:
            await store.write([fact(f"old{number}@x.test", 1.0) for number in range(450)])
            await store.write([fact(f"asked{number}@x.test", 1000.0 + number, delivered=False) for number in range(5)])
            await store.write([fact("mailed@x.test", 20.0), fact("u@y.test", 30.0)])
            dropped = 0
            while some := await store.forget(10.0):
                dropped += some
            assert dropped == 450
            assert await store.crowded(3) == {"x.test": 3}
            assert await store.thin("x.test", 3) == 3
            assert await store.page("x.test", 0.0) == ["asked3@x.test", "asked4@x.test", "mailed@x.test"]
            assert await store.accepted("u@y.test") == 30.0


class Damaged(TestCase):
    async def test_put_aside(self) -> None:
        """A damaged file keeps the whole service from starting, though nothing in it is needed for mail to flow."""
        home = Path(tempfile.mkdtemp(prefix="hm-recipients-"))
        self.addCleanup(shutil.rmtree, home)
        (home / "recipients.db").write_bytes(b"no database at all" * 1000)
        alarms: list[tuple[str, str]] = []
        url = f"sqlite:///{home}/recipients.db"
        store = await RecipientDatabase.open(reactor, url, Disk(), lambda *alarm: alarms.append(alarm))
        await store.write([fact("a@x.test", 1.0)])
        await store.close()
        assert [code for code, _ in alarms] == ["recipients-damaged"]
        assert (home / "recipients.db.damaged").read_bytes().startswith(b"no database")
        store = await RecipientDatabase.open(reactor, url, Disk(), lambda *alarm: alarms.append(alarm))
        assert await store.accepted("a@x.test") == 1.0
        await store.close()
        assert len(alarms) == 1


class Known(TestCase):
    """AcceptedRecipients on the store in memory, at a clock."""

    def build(self, **limits: Any) -> None:
        self.clock = Clock()
        self.clock.advance(200 * DAY)
        self.store = MemoryRecipients()
        self.directory = MemoryDirectory(
            [Domain("x.test"), Domain("y.test", tenant=2, aliases=("alias.test",))], [Mailbox(1, "alice@x.test", "x.test")]
        )
        self.queue = MemoryQueue(self.clock.seconds)
        self.known = AcceptedRecipients(self.clock, self.store, self.directory, RecipientLimits(**limits))

    async def test_no_damage(self) -> None:
        """Would catch a file that is put aside, with all that was known of recipients, because the disk was full for a moment or another program had it
        locked: an emergency right after that answers 550 to people who exist."""
        home = Path(tempfile.mkdtemp(prefix="hm-recipients-"))
        self.addCleanup(shutil.rmtree, home)
        (home / "recipients.db").write_bytes(b"what is known")
        for error in (DatabaseFull("database or disk is full"), DatabaseLocked("recipients.db is locked by another program")):

            async def refused(*_: Any, error: Exception = error, **__: Any) -> Any:
                raise error

            with pytest.raises(DatabaseError, match=str(error)):
                await RecipientDatabase.open(reactor, f"sqlite:///{home}/recipients.db", Disk(), self.fail, refused)
            assert (home / "recipients.db").read_bytes() == b"what is known"

    async def test_one_tenant_does_not_forget_for_another(self) -> None:
        """At 100,000 addresses over all tenants an address accepted seconds ago was forgotten, and refused for good in an emergency."""
        self.build(most=100, most_cached=50)
        self.known.learn("seconds-ago@x.test", delivered=True)
        for number in range(500):
            self.known.learn(f"u{number}@y.test", delivered=False)
        await self.known.tidy()
        assert await self.known.age("seconds-ago@x.test") == 0
        assert len(self.store.facts) == 101

    async def test_ninety_days(self) -> None:
        """Ninety days mean ninety days, not a number of addresses."""
        self.build()
        self.known.learn("a@x.test", delivered=True)
        self.clock.advance(89 * DAY)
        await self.known.tidy()
        assert await self.known.age("a@x.test") == 89 * DAY
        self.clock.advance(2 * DAY)
        await self.known.tidy()
        assert not self.store.facts

    async def test_found_again_in_the_database(self) -> None:
        """What left the cache, or a restart forgot, is unknown."""
        self.build(most_cached=10)
        for number in range(100):
            self.known.learn(f"u{number}@x.test", delivered=True)
        assert len(self.known._cached) <= 10
        assert await self.known.is_known("u0@x.test")
        again = AcceptedRecipients(self.clock, self.store, self.directory)
        assert await again.is_known("u99@x.test")
        assert not await again.is_known("u100@x.test")

    async def test_written_until_it_is(self) -> None:
        """A database that is full for a while loses what was learnt meanwhile, or learning waits for it, or fails."""
        self.build()
        self.store.broken = OSError("disk full")
        self.known.learn("a@x.test", delivered=True)
        assert await self.known.is_known("a@x.test")
        self.clock.advance(5)
        assert not self.store.facts
        assert self.flushLoggedErrors(OSError)
        self.store.broken = None
        self.clock.advance(5)
        assert set(self.store.facts) == {"a@x.test"}
        await self.known.stop()

    async def test_a_broken_database_knows_nobody_and_disturbs_nobody(self) -> None:
        """A verdict is lost because an address could not be looked up (rule 8b)."""
        self.build()
        self.store.broken = OSError("broken")
        assert await self.known.is_known("alice@x.test"), "registered"
        assert not await self.known.is_known("b@x.test")
        assert not await self.known.refused("b@x.test")
        assert await self.known.examples("x.test") == ["alice@x.test"]
        with pytest.raises(OSError, match="broken"):
            await self.known.age("b@x.test")
        self.flushLoggedErrors(OSError)

    async def test_once_a_day(self) -> None:
        """Each message to an address is a write."""
        self.build()
        writes = 0
        write = self.store.write

        async def counted(facts: Any) -> None:
            nonlocal writes
            writes += 1
            await write(facts)

        self.store.write = counted  # type: ignore[method-assign]
        for _ in range(50):
            self.known.learn("a@x.test", delivered=True)
            self.clock.advance(60)
        assert writes == 1
        self.clock.advance(DAY)
        self.known.learn("a@x.test", delivered=True)
        assert writes == 2

    async def test_taken_over(self) -> None:
        """What the queue of an earlier version remembers is lost with the update, or stays there in memory for ever."""
        self.build()
        now = self.clock.seconds()
        self.queue.facts[SPACE] = {f"u{n}@x.test": repr(now - n * DAY).encode() for n in range(1200)}
        self.queue.facts[SPACE]["odd@x.test"] = b"?"
        await self.known.start(self.queue)
        assert await self.known.age("u80@x.test") == 80 * DAY
        for _ in range(10):
            self.clock.advance(0)
        assert not self.queue.remembered(SPACE)
        await self.known.stop()

    async def test_taken_over_later(self) -> None:
        """A full disk at the start loses what the queue remembers, or keeps the service from starting."""
        self.build()
        self.queue.facts[SPACE] = {"a@x.test": repr(self.clock.seconds()).encode()}
        self.store.broken = OSError("disk full")
        await self.known.start(self.queue)
        assert self.queue.remembered(SPACE)
        await self.known.stop()
        assert self.flushLoggedErrors(OSError)
        assert not self.clock.getDelayedCalls(), "nothing is left behind"
        self.store.broken = None
        await self.known.start(self.queue)
        assert await self.known.is_known("a@x.test")
        self.clock.advance(0)
        assert not self.queue.remembered(SPACE)
        await self.known.stop()

    async def test_gaps(self) -> None:
        """L7: shown are the first, counted are all; registered ones are none."""
        self.build(gaps=3)
        self.known.learn("alice@x.test", delivered=True)
        for number in range(5000):
            self.known.learn(f"u{number:04}@x.test", delivered=True)
        assert await self.known.gaps("x.test") == Gaps(("u0000@x.test", "u0001@x.test", "u0002@x.test"), 5000)

    async def test_aliases_belong_to_their_domain(self) -> None:
        """Rule 25: an address of an alias domain is counted for nobody, or has no tenant."""
        self.build()
        self.known.learn("a@alias.test", delivered=True)
        assert self.store.facts["a@alias.test"] == Fact("a@alias.test", "y.test", 2, self.clock.seconds(), True)

    async def test_memory_is_flat(self) -> None:
        """What is known is held in memory as a whole: forty times as many addresses as may be cached take no more than those."""
        self.build(most_cached=500)

        class Nowhere(MemoryRecipients):
            async def write(self, facts: Any) -> None:
                """Kept by nobody: only what AcceptedRecipients holds is measured."""

        self.known = AcceptedRecipients(self.clock, Nowhere(), self.directory, self.known.limits)
        sizes = []
        tracemalloc.start()
        try:
            for start in range(0, 20_000, 10_000):
                for number in range(start, start + 10_000):
                    self.known.learn(f"someone-with-a-name-{number}@x.test", delivered=True)
                sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
        assert sizes[1] < sizes[0] * 1.2 + 50_000
        assert sizes[1] < 2_000_000
