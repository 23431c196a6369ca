"""Which messages of an INBOX are listed as left behind, page by page, and what choosing makes of them (rule 10). No files: the entries are the test's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Portal, Row, RowKind, RowState, Settled
from hornetmail.core.delivery.stray import Choice, Stray
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Verdict
from hornetmail.core.folder import Entry
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Host, Mailbox
from hornetmail.delivery.home.returned import Returned
from hornetmail.delivery.home.strays import LOOKED, Strays
from hornetmail.runtime.bus import Bus
from hornetmail.testing.destinations import MemoryPortal
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue

DOMAIN = "example.test"
NOW = 1_700_000_000.0


class Modes:
    def __init__(self) -> None:
        self.now = Mode.NORMAL

    def mode(self, domain: str) -> Mode:
        return self.now


class Inboxes(MemoryPortal):
    """``lying``: entries by mailbox; ``asked``: how many mailboxes were looked through at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.lying: dict[int, list[Entry]] = {}
        self.asked: list[int] = []

    async def unaddressed(self, mailbox: int, *, copies: bool = False) -> Sequence[Entry]:
        return [entry for entry in self.lying.get(mailbox, ()) if copies or ".R" not in entry.name]

    async def holding(self, mailboxes: Iterable[int], spoken_for: Collection[int] | None = None) -> Sequence[int]:
        some = list(mailboxes)
        self.asked.append(len(some))
        self.spoken_for = spoken_for
        return [mailbox for mailbox in some if self.lying.get(mailbox)]


class StraysCase(TestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.clock.advance(NOW)
        self.queue = MemoryQueue(self.clock.seconds)
        self.portal = Inboxes()
        self.modes = Modes()
        people = [Mailbox(number, f"user{number}@{DOMAIN}", DOMAIN) for number in range(1, 251)]
        self.directory = MemoryDirectory(
            [Domain(DOMAIN, primaries=(Host("192.0.2.1"),)), Domain("portal.test")],
            [*people, Mailbox(900, "paula@portal.test", "portal.test"), Mailbox(901, "jürgen@example.test", DOMAIN)],
        )
        self.returned = Returned(
            self.clock, self.queue, self.portal, self.directory, self.modes, Bus(self.clock)  # type: ignore[arg-type]
        )  # fmt: skip
        self.strays = Strays(
            self.clock, self.queue, self.portal, self.directory, self.modes, self.returned  # type: ignore[arg-type]
        )  # fmt: skip

    def lies(self, mailbox: int, uid: int, name: str = "", *flags: str) -> str:
        name = name or f"{uid}.note.host"
        self.portal.lying.setdefault(mailbox, []).append(Entry(uid, 1, frozenset(flags), 10, 86_400.0, name))
        return name

    def wait(self, coroutine: Any) -> Any:
        running = Deferred.fromCoroutine(coroutine)
        for _ in range(20):
            self.clock.advance(0)
        return self.successResultOf(running)

    def of(self, mailbox: int = 1, uids: Collection[int] | None = None) -> list[Stray]:
        return list(self.wait(self.strays.of(mailbox, uids)))

    def uids(self, mailbox: int = 1) -> list[int]:
        return [stray.entry.uid for stray in self.of(mailbox)]

    def deliver_row(self) -> Row:
        message = self.queue.take(
            1,
            b"",
            Envelope("s@outside.test", (Recipient(f"user1@{DOMAIN}"),)),
            Origin(Door.MX),
            Direction.IN,
            b"",
            DOMAIN,
            True,
            "",
            "",
        )
        return next(row for row in self.queue.held.values() if row.message == message.id and row.kind is RowKind.DELIVER)


class Listed(StraysCase):
    def test_a_copy_that_is_being_delivered(self) -> None:
        """Would catch a copy whose delivery is not on record yet, or whose row drains, or will when it comes back, and that is listed: chosen, it would be at
        the primary twice. And one that is not listed though nobody will ever take it home."""
        first = self.deliver_row()
        row = self.deliver_row()
        name = self.lies(1, 5, f"1700000000.R{row.id}P1.host")
        assert self.uids() == [], "its delivery is under way"
        self.wait(self.queue.settle([Settled(row.id, RowState.DELIVERED)]))
        assert self.queue.held[row.id].state is RowState.DELIVERED, "the archive still waits"
        [stray] = self.of()
        assert (stray.addressed, stray.row) == (True, None)
        assert self.queue.held[first.id].state is RowState.QUEUED, "a neighbour's row says nothing of it"
        away = self.wait(self.queue.queue_copy(
            Portal(1, name), Envelope("", ()), f"user1@{DOMAIN}", tenant=1, domain=DOMAIN, arrived=NOW, size=1, due=0.0
        ))  # fmt: skip
        assert self.uids() == [], "it drains"
        [drain] = self.queue.all(RowKind.DRAIN)
        self.wait(self.returned.note(away, drain))
        self.wait(self.queue.change([drain.id], RowState.REMOVED))
        assert self.uids() == [], "it drains when it is back"
        self.wait(self.returned._forget(1, name))
        assert self.uids() == [5]
        self.lies(1, 6, f"1700000000.R{10**9}P1.host")
        assert self.uids() == [5, 6], "of a row that is long gone"

    def test_what_counts(self) -> None:
        """Would catch a list that is not by UID, has what is marked deleted, leaves chosen ones out, or shows mailboxes without a primary as if there were a way home;
        and a copy that is listed where it can go nowhere."""
        self.lies(1, 9)
        self.lies(1, 3)
        self.lies(1, 4, "", "\\Deleted")
        assert self.uids() == [3, 9]
        assert [stray.entry.uid for stray in self.of(1, {9, 4, 77})] == [9]
        assert self.of(1, ()) == []
        assert self.uids(2) == []
        assert self.strays.goal(1) == f"user1@{DOMAIN}"
        assert [self.strays.goal(number) for number in (900, 12345)] == ["", ""]
        self.lies(900, 1, "1700000000.R77P1.host")
        self.lies(900, 2)
        assert self.uids(900) == [2]
        self.directory.served.clear()
        assert self.strays.goal(1) == ""

    def test_since_when(self) -> None:
        """Would catch a message's date as its client gave it, where the file's name tells when it came; a name that is no time; and a time that is to come."""
        for uid, (name, since) in enumerate(
            (
                ("1600000000.x.host", 1_600_000_000.0),
                ("160000000.x.host", 160_000_000.0),
                ("16000000.x.host", 86_400.0),
                ("16000000000.x.host", 86_400.0),
                ("x.host", 86_400.0),
                ("1²34567890.x.host", 86_400.0),
                ("1700000500.x.host", NOW),
            ),
            1,
        ):
            self.lies(1, uid, name)
            assert self.of(1, {uid})[0].since == since, name


class Pages(StraysCase):
    def page(self, mailboxes: Sequence[int], limit: int, after: int = 0) -> tuple[list[tuple[int, int]], bool]:
        found, more = self.wait(self.strays.page(mailboxes, limit, after))
        return [(stray.mailbox, stray.entry.uid) for stray in found], more

    def test_pages(self) -> None:
        """Would catch messages that are on no page or on two, and a last page that says that there is more."""
        for mailbox in (2, 3):
            for uid in (1, 2, 3):
                self.lies(mailbox, uid)
        assert self.page([], 10) == ([], False)
        assert self.page([1, 2, 3], 6) == ([(2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)], False)
        assert self.page([1, 2, 3], 5) == ([(2, 1), (2, 2), (2, 3), (3, 1), (3, 2)], True)
        assert self.page([2, 3], 2, 1) == ([(2, 2), (2, 3)], True)
        assert self.page([2, 3], 5, 1) == ([(2, 2), (2, 3), (3, 1), (3, 2), (3, 3)], False)
        assert self.page([3], 1, 3) == ([], False)

    def test_many_mailboxes(self) -> None:
        """Would catch a look through a hundred thousand mailboxes in one hop, or mailboxes that are left out between two."""
        self.lies(LOOKED, 1)
        self.lies(LOOKED + 1, 1)
        self.lies(250, 1)
        assert self.page(list(range(1, 251)), 10) == ([(LOOKED, 1), (LOOKED + 1, 1), (250, 1)], False)
        assert self.portal.asked == [LOOKED, LOOKED, 250 - 2 * LOOKED]

    def test_whose_rows(self) -> None:
        """Would catch a page of several mailboxes that looks at one's rows only: copies of the others were opened one by one."""
        names = {}
        for mailbox, number in ((2, 70), (3, 71)):
            names[mailbox] = f"1700000000.R{number}P1.host"
            self.wait(self.queue.queue_copy(
                Portal(mailbox, names[mailbox]), Envelope("", ()), f"user{mailbox}@{DOMAIN}", tenant=1, domain=DOMAIN, arrived=NOW, size=1, due=0.0,
            ))  # fmt: skip
        self.page([2, 3], 10)
        assert self.portal.spoken_for == {70, 71}
        self.page([3], 10)
        assert self.portal.spoken_for == {71}


class Chosen(StraysCase):
    def test_what_it_becomes(self) -> None:
        """Would catch an envelope with which its server would not take it (8BITMIME, SMTPUTF8), a date of the client's as its order among all that drain, and what
        does not wait for the end of an emergency."""
        self.lies(1, 1)
        self.lies(901, 1)
        assert self.wait(self.strays.choose(1)) == Choice(chosen=1)
        self.modes.now = Mode.EMERGENCY
        self.clock.advance(5.0)
        assert self.wait(self.strays.choose(901)) == Choice(chosen=1, waits=True)
        plain, wide = self.queue.all(RowKind.DRAIN)
        assert (plain.state, plain.due, plain.portal) == (RowState.QUEUED, NOW, Portal(1, "1.note.host"))
        assert (wide.state, wide.address) == (RowState.PARKED, "jürgen@example.test")
        messages = [self.queue.messages[row.message] for row in (plain, wide)]
        assert [message.arrived for message in messages] == [NOW, NOW + 5.0]
        assert [message.size for message in messages] == [10, 10]
        assert messages[0].envelope == Envelope("", (Recipient(f"user1@{DOMAIN}"),), eight_bit=True, smtputf8=False)
        assert messages[1].envelope == Envelope("", (Recipient("jürgen@example.test"),), eight_bit=True, smtputf8=True)

    def test_chosen_before(self) -> None:
        """Would catch a second row, a refused one that is not tried again, one under way that is tried twice, and figures that do not add up."""
        for uid in range(1, 5):
            self.lies(1, uid)
        assert self.wait(self.strays.choose(1, {1, 2, 3})) == Choice(chosen=3)
        first, second, third = self.queue.all(RowKind.DRAIN)
        no = Verdict(Outcome.FAILED, Reply(550, "5.7.1", "no"), "primary")
        for row in (first, second):
            self.queue.held[row.id] = msgspec.structs.replace(row, state=RowState.STUCK, last=no)
        self.queue.held[third.id] = msgspec.structs.replace(third, due=NOW + 100.0)
        assert self.wait(self.strays.choose(1)) == Choice(chosen=1, already=1, again=2)
        assert len(self.queue.all(RowKind.DRAIN)) == 4
        assert [self.queue.held[row.id].due for row in (first, second, third)] == [NOW, NOW, NOW + 100.0]
        self.queue.held[first.id] = msgspec.structs.replace(first, state=RowState.STUCK, last=no)
        self.modes.now = Mode.EMERGENCY
        assert self.wait(self.strays.choose(1)) == Choice(already=3, again=1, waits=True)
        assert self.queue.held[first.id].state is RowState.PARKED

    def test_hundreds(self) -> None:
        """Would catch some of them that are left out where they are taken in parts."""
        for uid in range(1, 402):
            self.lies(1, uid)
        assert self.wait(self.strays.choose(1)) == Choice(chosen=401)
        assert len({row.portal for row in self.queue.all(RowKind.DRAIN)}) == 401

    def test_nowhere(self) -> None:
        """Would catch a choice that can never be carried out."""
        self.failureResultOf(Deferred.fromCoroutine(self.strays.choose(12345)), KeyError)
        self.failureResultOf(Deferred.fromCoroutine(self.strays.choose(900)), ValueError)
