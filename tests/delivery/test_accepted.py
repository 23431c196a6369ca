"""What is known of recipients, at its limits (rule 4, L7, C13), on a clock that the test advances."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.core.served import Domain, Host, Mailbox
from hornetmail.delivery.recipients.accepted import DAY, AcceptedRecipients, Gaps, RecipientLimits
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_recipients import MemoryRecipients

DOMAIN = "example.test"
KNOWN = f"alice@{DOMAIN}"


class Accepted(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000.0)
        self.store = MemoryRecipients()
        self.known = self.made(RecipientLimits())

    def made(self, limits: RecipientLimits) -> AcceptedRecipients:
        directory = MemoryDirectory(
            [Domain(DOMAIN, primaries=(Host("192.0.2.1"),))], [Mailbox(n, f"{name}@{DOMAIN}", DOMAIN) for n, name in
             enumerate(("alice", "bob", "carol"), 1)],
        )  # fmt: skip
        clock: Any = self.clock
        store: Any = self.store
        return AcceptedRecipients(clock, store, directory, limits)

    def age(self, address: str) -> float:
        return self.successResultOf(self.known.age(address))

    def refused(self, name: str) -> bool:
        return self.successResultOf(self.known.refused(f"{name}@{DOMAIN}", "no such user"))

    def test_the_limits(self) -> None:
        """As rule 4, L7 and C13 have them."""
        assert RecipientLimits() == RecipientLimits(
            7 * DAY, 300.0, 30 * DAY, 90 * DAY, 600.0, 3, 250_000, 20_000, 20_000, 3600.0, 100
        )
        assert DAY == 86_400

    def test_how_long_ago(self) -> None:
        """Would catch an address that is known too young or too old, from memory, not yet written, or from the store."""
        assert self.age("new@example.test") == float("inf")
        self.known.learn("New@Example.test", delivered=False)
        assert self.age("new@example.test") == 0
        self.clock.advance(30 * DAY)
        assert self.age("new@example.test") == 30 * DAY
        assert self.successResultOf(self.known.is_known("new@example.test"))
        self.clock.advance(1)
        assert not self.successResultOf(self.known.is_known("new@example.test"))
        assert self.successResultOf(self.known.is_known(KNOWN)), "registered"
        self.known = self.made(RecipientLimits())
        assert self.age("new@example.test") == 30 * DAY + 1, "of the store"
        self.store.broken = OSError("disk")
        assert self.age("new@example.test") == 30 * DAY + 1, "remembered"

    def test_written_once_a_day(self) -> None:
        """Would catch a write with each mail, none any more, and one that forgets that mail was delivered there."""
        self.known.learn("x@example.test", delivered=True)
        first = self.store.facts["x@example.test"]
        assert (first.domain, first.delivered) == (DOMAIN, True)
        self.clock.advance(DAY - 1)
        self.known.learn("x@example.test", delivered=False)
        assert self.store.facts["x@example.test"] == first
        self.clock.advance(1)
        self.known.learn("x@example.test", delivered=False)
        assert self.store.facts["x@example.test"].accepted == self.clock.seconds()
        assert self.store.facts["x@example.test"].delivered

    def test_written_again_until_it_is(self) -> None:
        """Would catch what was learnt while the disk was full and is gone, and a store that is asked without a pause."""
        self.store.broken = OSError("disk")
        self.known.learn("x@example.test", delivered=True)
        self.known.learn("x@example.test", delivered=False)
        self.clock.advance(4.9)
        self.store.broken = None
        assert self.store.facts == {}
        self.clock.advance(0.2)
        assert self.store.facts["x@example.test"].delivered
        assert len(self.flushLoggedErrors(OSError)) == 1

    def test_three_refusals_of_known_ones(self) -> None:
        """Rule 4: three known addresses within ten minutes, none twice, no strangers; and what was refused before is void."""
        assert not self.refused("stranger")
        assert not self.refused("alice")
        assert not self.refused("alice")
        assert not self.refused("bob")
        assert not self.known.is_sick(DOMAIN)
        assert self.known.refusal(KNOWN) == "no such user"
        self.clock.advance(600)
        assert self.refused("carol")
        assert self.known.is_sick(DOMAIN)
        assert self.known.refusal(KNOWN) is None
        self.clock.advance(0.1)
        assert not self.known.is_sick(DOMAIN)
        assert not self.known.is_sick("other.test")
        self.known.learn(f"carol@{DOMAIN}", delivered=True)
        assert not self.refused("alice")
        assert not self.refused("bob")
        self.known.learn(KNOWN, delivered=True)
        assert not self.refused("carol"), "alice was taken meanwhile"

    def test_a_refusal_is_believed_for_five_minutes(self) -> None:
        """Would catch somebody who is refused for good after an address was made, and one question with each of a spammer's mails."""
        self.refused("ghost")
        ghost = f"Ghost@{DOMAIN}"
        self.clock.advance(300)
        assert self.known.refusal(ghost) == "no such user"
        self.clock.advance(0.1)
        assert self.known.refusal(ghost) is None
        self.refused("ghost")
        self.known.learn(ghost, delivered=False)
        assert self.known.refusal(ghost) is None, "it was accepted since"

    def test_memories_are_bounded(self) -> None:
        """Strangers choose what is asked: would catch memory that grows with it, and the newest forgotten first."""
        self.known = self.made(RecipientLimits(most_cached=2, most_negative=2))
        for name in ("a", "b", "c"):
            self.known.learn(f"{name}@{DOMAIN}", delivered=False)
            self.refused(f"no-{name}")
        assert list(self.known._cached) == [f"b@{DOMAIN}", f"c@{DOMAIN}"]
        assert list(self.known._written) == [f"b@{DOMAIN}", f"c@{DOMAIN}"]
        assert list(self.known._refused) == [f"no-b@{DOMAIN}", f"no-c@{DOMAIN}"]
        self.age(f"b@{DOMAIN}")
        self.known.learn(f"d@{DOMAIN}", delivered=False)
        assert list(self.known._cached) == [f"b@{DOMAIN}", f"d@{DOMAIN}"]

    def test_what_is_forgotten(self) -> None:
        """C13: after 90 days; and of one domain no more than so many, the oldest of those that took no mail first."""
        self.known = self.made(RecipientLimits(most=2))
        for name, delivered in (("a", True), ("b", False), ("c", False), ("d", False)):
            self.known.learn(f"{name}@{DOMAIN}", delivered=delivered)
            self.clock.advance(1)
        self.successResultOf(self.known.tidy())
        assert sorted(self.store.facts) == [f"a@{DOMAIN}", f"d@{DOMAIN}"]
        self.clock.advance(90 * DAY - 1)
        self.successResultOf(self.known.tidy())
        assert sorted(self.store.facts) == [f"d@{DOMAIN}"]
        self.clock.advance(1)
        self.successResultOf(self.known.tidy())
        assert sorted(self.store.facts) == []

    def test_what_is_too_much_goes_bit_by_bit(self) -> None:
        """Would catch a domain that keeps what it has too much of because the store drops a part at a time, and a look that never ends because it drops nothing."""
        self.known = self.made(RecipientLimits(most=2))
        for number in range(6):
            self.known.learn(f"user{number}@{DOMAIN}", delivered=False)
            self.clock.advance(1)
        thin, asked = self.store.thin, []

        async def one(domain: str, count: int) -> int:
            asked.append(count)
            return await thin(domain, 1)

        self.store.thin = one  # type: ignore[method-assign]
        self.successResultOf(self.known.tidy())
        assert asked == [4, 3, 2, 1]
        assert sorted(self.store.facts) == [f"user4@{DOMAIN}", f"user5@{DOMAIN}"]

        async def nothing(domain: str, count: int) -> int:
            return 0

        self.store.thin = nothing  # type: ignore[method-assign]
        self.known.learn(f"user9@{DOMAIN}", delivered=False)
        self.successResultOf(self.known.tidy())

    def test_whom_to_ask_for(self) -> None:
        """Those that took mail last, then registered ones, then the postmaster: never nobody."""
        examples = self.known.examples
        assert self.successResultOf(examples(DOMAIN, 2)) == [KNOWN, f"bob@{DOMAIN}"]
        assert self.successResultOf(examples("empty.test")) == ["postmaster@empty.test"]
        self.known.learn(f"new@{DOMAIN}", delivered=True)
        assert self.successResultOf(examples(DOMAIN)) == [f"new@{DOMAIN}", KNOWN, f"bob@{DOMAIN}"]
        assert self.successResultOf(examples(DOMAIN, 1)) == [f"new@{DOMAIN}"]
        self.store.broken = OSError("disk")
        assert self.successResultOf(examples(DOMAIN)) == [KNOWN, f"bob@{DOMAIN}", f"carol@{DOMAIN}"]
        assert len(self.flushLoggedErrors(OSError)) == 1

    def test_gaps(self) -> None:
        """L7: all are counted, so many are shown, those that are registered are none; pages of the store end nothing early."""
        self.known = self.made(RecipientLimits(gaps=3))
        assert self.successResultOf(self.known.gaps(DOMAIN)) == Gaps((), 0)
        for number in range(2001):
            self.known.learn(f"user{number:04}@{DOMAIN}", delivered=False)
        self.known.learn(KNOWN, delivered=True)
        gaps = self.successResultOf(self.known.gaps(DOMAIN))
        assert gaps == Gaps(tuple(f"user{number:04}@{DOMAIN}" for number in range(3)), 2001)
