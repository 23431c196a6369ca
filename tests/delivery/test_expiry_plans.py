"""When what an emergency left is announced and goes, mailbox by mailbox (rule 24). The portal is a list of what lies how long, and the clock is the test's."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Portal, RowKind, RowState
from hornetmail.core.events import Alarm
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.envelope import Envelope
from hornetmail.core.served import Domain, Host, Mailbox
from hornetmail.delivery.attempt.ground import Ground
from hornetmail.delivery.home.expiry import LAST, SHOWN, SLICE, SPACE, Done, Expiry, Plan, announcement
from hornetmail.runtime.bus import Bus
from hornetmail.testing.destinations import MemoryPortal
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue
from tests.delivery.test_expiry import Log
from tests.delivery.world import HOSTNAME, Meters

DOMAIN = "example.test"
DAY = 86_400.0
END = 1_700_000_000.0
"""When the emergency ended."""


class Modes:
    def __init__(self) -> None:
        self.now: dict[str, Mode] = {}
        self.over: dict[str, float] = {DOMAIN: END}

    def mode(self, domain: str) -> Mode:
        return self.now.get(domain, Mode.NORMAL)

    def ended(self, domain: str) -> float:
        return self.over.get(domain, 0.0)


class Shelves(MemoryPortal):
    """``lying``: of each mailbox, folder, name and since when."""

    def __init__(self) -> None:
        super().__init__()
        self.lying: dict[int, list[tuple[str, str, float]]] = {}
        self.looked: list[int] = []

    async def left_over(
        self, mailbox: int, before: float, spared: Collection[str] = (), refused: Collection[str] = ()
    ) -> dict[str, list[str]]:
        self.looked.append(mailbox)
        found: dict[str, list[str]] = {}
        for folder, name, since in self.lying.get(mailbox, ()):
            if since <= before and name not in spared and (folder != "INBOX" or name in refused):
                found.setdefault(folder, []).append(name)
        return found

    async def expire(
        self, mailbox: int, before: float, spared: Collection[str] = (), refused: Collection[str] = ()
    ) -> dict[str, list[str]]:
        gone = await self.left_over(mailbox, before, spared, refused)
        names = [name for some in gone.values() for name in some]
        self.lying[mailbox] = [each for each in self.lying.get(mailbox, ()) if each[1] not in names]
        return gone


class Notices:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, list[str]]] = []
        self.broken = ""

    async def tell(self, tenant: int, address: str, subject: str, lines: Any, about: str, domain: str) -> None:
        if address == self.broken:
            raise OSError("disk full")
        self.told.append((address, about, list(lines)))


class ExpiryCase(TestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.queue = MemoryQueue(self.clock.seconds)
        self.portal, self.modes, self.notices, self.log = Shelves(), Modes(), Notices(), Log()
        self.bus = Bus(self.clock)
        self.alarms: list[Alarm] = []
        self.bus.subscribe(Alarm, self.alarms.append)
        self.directory = MemoryDirectory(
            [Domain(DOMAIN, primaries=(Host("192.0.2.1"),)), Domain("other.test", primaries=(Host("192.0.2.2"),))],
            [
                Mailbox(1, f"alice@{DOMAIN}", DOMAIN),
                Mailbox(2, f"bob@{DOMAIN}", DOMAIN, 2),
                Mailbox(3, "carl@other.test", "other.test"),
            ],
        )
        self.drift = 0.0
        self.expiry = self.new()

    def new(self) -> Expiry:
        ground: Any = Ground(self.clock, self.queue, self.directory, self.modes, self.bus, Meters())  # type: ignore[arg-type]
        return Expiry(ground, self.portal, self.notices, self.log, HOSTNAME, drift=lambda: self.drift)  # type: ignore[arg-type]

    def lies(self, mailbox: int = 1, folder: str = "Kept", name: str = "one", since: float = END - 1.0) -> None:
        self.portal.lying.setdefault(mailbox, []).append((folder, name, since))

    def change_domain(self, **changes: Any) -> None:
        self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], **changes)

    def run_at(self, days: float, plus: float = 0.0) -> Done:
        """So long after the emergency."""
        running = Deferred.fromCoroutine(self.expiry.run(END + days * DAY + plus))
        for _ in range(5):
            self.clock.advance(0)
        return self.successResultOf(running)


class Plans(ExpiryCase):
    def test_in_time(self) -> None:
        """Would catch an announcement a moment too early or too late, one that is made twice, a date that is not 90 days after the emergency, and what goes before it."""
        self.lies()
        self.lies(name="two")
        assert self.run_at(76, -1.0) == Done()
        assert self.expiry.due(1) == 0.0
        assert self.run_at(76) == Done(announced=1)
        assert self.expiry.due(1) == END + 90 * DAY
        for days, plus in ((76, 1.0), (80, 0.0), (87, -1.0)):
            assert self.run_at(days, plus) == Done()
        assert self.run_at(87) == Done(announced=1)
        for days, plus in ((87, 1.0), (90, -1.0)):
            assert self.run_at(days, plus) == Done()
        assert self.run_at(90) == Done(mailboxes=1, messages=2)
        assert self.expiry.due(1) == 0.0
        assert self.run_at(91) == Done()
        due = END + 90 * DAY
        assert [about for _, about, _ in self.notices.told] == [f"portal-expiry-{END:.0f}-{due:.0f}-{n}" for n in (1, 2)]
        assert [row[:3] for row in self.log.rows] == [
            ["portal.expire", "0 to expire, 1 to announce", 1],
            ["portal.expire", "0 to expire, 1 to announce", 1],
            ["portal.expire", "1 to expire, 0 to announce", 1],
        ]
        assert self.log.rows[-1][3] == "done: 2 messages of 1 mailboxes expired, 0 announced"

    def test_late(self) -> None:
        """Would catch mail that goes without its 14 days' notice, or its 3 days', because we were away: each that is late moves the date, and with it what was announced stays."""
        self.lies()
        self.lies(name="young", since=END + 3 * DAY)
        assert self.run_at(80) == Done(announced=1)
        assert self.expiry.due(1) == END + 94 * DAY
        assert self.run_at(93) == Done(announced=1)
        assert self.expiry.due(1) == END + 96 * DAY
        assert self.run_at(96, -1.0) == Done()
        assert self.run_at(96) == Done(mailboxes=1, messages=2)

    def test_what_was_announced(self) -> None:
        """Would catch mail that goes with the rest although it was not in the portal for the domain's days at the time of the first announcement, also when the second moved the
        date, or the term was made shorter or longer since."""
        self.lies()
        self.lies(name="young", since=END + 1.0)
        self.run_at(76)
        self.run_at(88)
        assert self.expiry.due(1) == END + 91 * DAY
        assert self.run_at(91) == Done(mailboxes=1, messages=1)
        self.setUp()
        self.lies()
        self.lies(name="young", since=END + 1.0)
        self.run_at(76)
        self.run_at(87)
        self.change_domain(portal_days=89)
        assert self.run_at(90) == Done(mailboxes=1, messages=1)

    def test_another_term(self) -> None:
        """Would catch a plan that goes on as it was when the domain keeps folders for longer, no more, or after another emergency."""
        for change in ("longer", "for good", "emergency", "switched", "no primary"):
            self.setUp()
            self.lies()
            self.run_at(76)
            if change == "longer":
                self.change_domain(portal_days=100)
            elif change == "for good":
                self.change_domain(portal_days=0)
            elif change == "emergency":
                self.modes.over[DOMAIN] = END + 80 * DAY
            elif change == "no primary":
                self.change_domain(primaries=())
            else:
                self.directory.served.pop(0)
            assert self.run_at(81) == Done(), change
            assert self.expiry.due(1) == 0.0, change
            assert str(1) not in self.queue.remembered(SPACE)

    def test_a_clock_that_was_set_back(self) -> None:
        """Would catch a plan whose date is further away than any can be, and that keeps its folder for years."""
        self.lies()
        self.run_at(80)
        assert self.expiry.due(1) == END + 94 * DAY
        self.expiry._last = 0.0
        assert self.run_at(79, -DAY) == Done(announced=1)
        assert self.expiry.due(1) == END + 92 * DAY

    def test_in_another_emergency(self) -> None:
        """Would catch mail that goes while people live in the portal, by whichever of their addresses, and a date that is forgotten for it."""
        self.directory.registered[0] = msgspec.structs.replace(self.directory.registered[0], aliases=("alice@other.test",))
        self.lies()
        self.run_at(76)
        for name in (DOMAIN, "other.test"):
            for mode in (Mode.EMERGENCY, Mode.DRAINING):
                self.modes.now = {name: mode}
                assert self.run_at(85) == Done()
        self.modes.now.clear()
        self.modes.over["other.test"] = END + 10 * DAY
        assert self.run_at(86) == Done(announced=1), "the later emergency's leavings: begun anew"
        assert self.expiry.due(1) == END + 100 * DAY

    def test_one_that_begins_while_it_is_done(self) -> None:
        """Would catch folders that are emptied in the emergency that began a moment ago."""
        self.lies()
        self.run_at(76)
        self.run_at(87)
        begin = self.log.begin

        async def begun(*rest: Any) -> int:
            self.modes.now[DOMAIN] = Mode.EMERGENCY
            return await begin(*rest)

        self.log.begin = begun  # type: ignore[method-assign]
        assert self.run_at(90) == Done()
        assert self.portal.lying[1]

    def test_nothing_is_left(self) -> None:
        """Would catch a letter about nothing, and a plan that is kept although its folder was emptied."""
        assert self.run_at(80) == Done()
        self.lies()
        self.run_at(80)
        self.portal.lying.clear()
        assert self.run_at(93) == Done()
        assert self.expiry.due(1) == 0.0
        assert len(self.notices.told) == 1

    def test_still_to_get_home(self) -> None:
        """Would catch a copy that goes although its primary is still to take it, and one that the primary refused and that stays, or whose row does."""
        for name, state in (("waits", RowState.PARKED), ("refused", RowState.STUCK), ("moved", RowState.STUCK)):
            message = self.wait_copy(name)
            [row] = [row for row in self.queue.held.values() if row.message == message]
            self.queue.held[row.id] = msgspec.structs.replace(row, state=state)
            self.lies(folder="Kept" if name == "moved" else "INBOX", name=name)
        self.lies(name="own")
        self.run_at(76)
        assert self.notices.told[0][2][3:5] == ["  INBOX: 1 message that your mail server refused", "  Kept: 2 messages"]
        self.run_at(87)
        assert self.run_at(90) == Done(mailboxes=1, messages=3)
        assert sorted(row.portal.name for row in self.queue.all(RowKind.DRAIN) if row.portal) == ["moved", "waits"]

    def wait_copy(self, name: str) -> int:
        made = self.queue.queue_copy(
            Portal(1, name), Envelope("", ()), f"alice@{DOMAIN}", tenant=1, domain=DOMAIN, arrived=END, size=1, due=0.0
        )
        return self.successResultOf(Deferred.fromCoroutine(made)).id


class Runs(ExpiryCase):
    def test_whose_turn(self) -> None:
        """Would catch a run over a hundred thousand mailboxes when no emergency ever was, one that passes over mailboxes, and plans of mailboxes that are gone."""
        self.modes.over.clear()
        self.lies()
        self.lies(2)
        assert self.run_at(80) == Done()
        self.modes.over[DOMAIN] = END
        assert self.run_at(80) == Done(announced=2)
        assert [(row[1], row[2]) for row in self.log.rows] == [
            ("0 to expire, 1 to announce", 1),
            ("0 to expire, 1 to announce", 2),
        ]
        self.directory.registered.pop(0)
        self.modes.over.clear()
        assert self.run_at(81) == Done()
        assert (self.expiry.due(1), self.expiry.due(2)) == (0.0, 0.0)
        assert list(self.queue.remembered(SPACE)) == [LAST]

    def test_one_that_fails(self) -> None:
        """Would catch people who are not told because another's letter, or mailbox, is in trouble; it is tried again."""
        self.lies()
        self.lies(2)
        self.notices.broken = f"alice@{DOMAIN}"
        assert self.run_at(76) == Done(announced=1, failed=1)
        assert sorted(row[3] for row in self.log.rows)[1].startswith(
            "partly done: 0 messages of 0 mailboxes expired, 0 announced, 1 failed"
        )
        self.notices.broken = ""
        assert self.run_at(76, 1.0) == Done(announced=1)
        assert len(self.flushLoggedErrors(OSError)) == 1

    def test_a_restart(self) -> None:
        """Would catch announcements that are made again after a restart, and one unreadable fact that takes the others along."""
        self.lies()
        self.run_at(76)
        for key, value in (("7", b"nonsense"), ("x", msgspec.msgpack.encode(Plan(1.0, 2.0, 1, 0.0)))):
            self.successResultOf(Deferred.fromCoroutine(self.queue.remember(SPACE, key, value)))
        self.expiry = self.new()
        assert self.expiry.due(1) == END + 90 * DAY
        assert self.run_at(77) == Done()
        assert self.run_at(76) == Done(), "the clock is behind the last run"
        assert [alarm.code for alarm in self.alarms] == ["portal-expiry"]

    def test_a_clock_that_jumps(self) -> None:
        """Would catch folders that are emptied because the clock says that it is next year."""
        self.lies()
        self.drift = 1e6
        assert self.run_at(400) == Done()
        assert not self.portal.looked
        self.clock.advance(0)
        assert [alarm.code for alarm in self.alarms] == ["portal-expiry"]

    def test_how_often(self) -> None:
        """Would catch a job that runs too rarely for its shortest announcement, or without a pause."""
        [job] = self.expiry.jobs()
        assert (job.seconds, job.first) == (6 * 3600.0, 300.0)
        for announce, seconds in (((8 * 3600.0, 4 * 3600.0), 3600.0), ((40.0, 8.0), 2.0), ((1.0,), 1.0)):
            self.expiry._announce = announce
            [job] = self.expiry.jobs()
            assert (job.seconds, job.first) == (seconds, min(300.0, seconds))
        assert self.new()._announce == (14 * DAY, 3 * DAY)

    def test_others_have_a_turn(self) -> None:
        """Would catch a look at a hundred thousand mailboxes in one turn of the reactor (rule 8d)."""
        self.directory.registered = [Mailbox(number, f"p{number}@{DOMAIN}", DOMAIN) for number in range(1, 2 * SLICE + 2)]
        running = Deferred.fromCoroutine(self.expiry.run(END + 80 * DAY))
        turns = 0
        while self.clock.calls:
            call = self.clock.calls.pop(0)
            turns += call.func.__name__ != "_deliver"
            call.func(*call.args, **call.kw)
        self.successResultOf(running)
        assert turns >= 2
        assert len(self.portal.looked) == 2 * SLICE + 1


class Words(TestCase):
    def test_the_announcement(self) -> None:
        """Would catch a letter of a thousand lines, folders that it neither shows nor counts, a number that is not right, and somebody who is told that an archive has what it has
        not."""
        mailbox, domain = Mailbox(1, f"alice@{DOMAIN}", DOMAIN), Domain(DOMAIN, archive=True)

        def said(count: int, **changes: Any) -> str:
            left = {f"folder {number}": ["one", "two"] for number in range(count)}
            return "\n".join(announcement(msgspec.structs.replace(mailbox, **changes), domain, END, left, HOSTNAME)[1])

        assert said(SHOWN).count("2 messages") == SHOWN
        assert "more folders" not in said(SHOWN)
        assert said(SHOWN + 2).count("2 messages") == SHOWN
        assert "and 2 more folders" in said(SHOWN + 2)
        assert "stays in the archive" in said(1)
        assert "not archived" in said(1, archive=False)
        domain = Domain(DOMAIN, archive=False)
        assert "not archived" in said(1)
        subject, lines = announcement(mailbox, domain, END, {"INBOX": ["one"], "Kept": ["one"]}, HOSTNAME)
        assert subject == "Mail on the emergency server is removed on 2023-11-14"
        assert lines[3:5] == ["  INBOX: 1 message that your mail server refused", "  Kept: 1 message"]
