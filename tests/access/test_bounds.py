"""Log-in, throttle, passwords and sessions at their bounds: what is so at the very number, and what one beyond it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.access import login, passwords, throttle
from hornetmail.access.login import AccessRefused
from hornetmail.access.passwords import MAX_LENGTH, MIN_CHOSEN, Passwords, WeakPassword, check, normal
from hornetmail.access.rights import Right, may, suspended_text
from hornetmail.access.sessions import IDLE, LIFETIME, csrf_token
from hornetmail.access.throttle import Throttle
from hornetmail.core.served import Cause, Domain, Person, Role, Suspension
from hornetmail.testing.control import Control


class TestLoginBounds(TestCase):
    """With alice@example.test."""

    async def open(self) -> Control:
        control = await Control.open(self)
        await control.directory.add_domain(Domain("example.test"))
        self.alice = await control.person("alice@example.test", "correct horse")
        self.verified = 0
        verify = control.passwords.verify

        async def counted(hashed: str, password: str) -> bool:
            self.verified += 1
            return await verify(hashed, password)

        control.passwords.verify = counted  # type: ignore[method-assign]
        return control

    async def refusal(self, control: Control, user: str, password: str, peer: str = "192.0.2.1") -> AccessRefused:
        with pytest.raises(AccessRefused) as caught:
            await control.access.login(user, password, "imap", peer)
        return caught.value

    async def test_the_longest_name_and_password(self) -> None:
        """Would catch the longest that RFC 5321 and ours allow, refused unseen; and one character more that costs work."""
        control = await self.open()
        await self.refusal(control, "a" * 320, "x")
        assert self.verified == 1
        await self.refusal(control, "a" * 321, "x")
        assert self.verified == 1
        longest = "x" * MAX_LENGTH
        await control.access.set_password(self.alice.id, longest)
        await control.access.login("alice@example.test", longest, "imap", "")
        await self.refusal(control, "alice@example.test", longest + "x")
        assert self.verified == 2

    async def test_remembered_to_the_second(self) -> None:
        """Five minutes: a second sooner costs a verification with each fetch, a second later lets a leaked memory live."""
        control = await self.open()
        await control.access.login("alice@example.test", "correct horse", "imap", "")
        control.clock.advance(login.REMEMBER)
        await control.access.login("alice@example.test", "correct horse", "imap", "")
        assert (login.REMEMBER, self.verified) == (300.0, 1)
        control.clock.advance(0.1)
        await control.access.login("alice@example.test", "correct horse", "imap", "")
        assert self.verified == 2

    async def test_memories_are_bounded(self) -> None:
        """What strangers send must not grow in memory; who was heard of last stays."""
        assert login.MOST == 10_000
        self.patch(login, "MOST", 2)
        control = await self.open()
        await control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1")
        for number in range(2):
            await self.refusal(control, f"user{number}@example.test", "x", f"198.51.100.{number}")
        assert self.verified == 3
        assert len(control.access._seen) == 2
        await self.refusal(control, "user1@example.test", "x")
        await self.refusal(control, "user0@example.test", "x")
        assert self.verified == 3
        await control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.2")
        assert self.verified == 4, "the oldest was forgotten"
        for number in (3, 1, 4):
            await control.access.login("alice@example.test", "correct horse", "imap", f"192.0.2.{number}")
        assert {network for _, network in control.access._known} == {"192.0.2.1", "192.0.2.4"}

    async def test_a_known_network_is_known_for_a_month(self) -> None:
        """L5: the owner's own count holds for 30 days after the last log-in from there, not for a stranger who gets the address later."""
        assert login.KNOWN_NETWORK == 30 * 86_400
        for later, got_in in ((login.KNOWN_NETWORK - 1, True), (login.KNOWN_NETWORK, False)):
            control = await self.open()
            await control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1")
            control.clock.advance(later)
            for number in range(8):
                await self.refusal(control, "alice@example.test", f"guess {number}", f"198.51.100.{number}")
            if got_in:
                await control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1")
            else:
                assert (await self.refusal(control, "alice@example.test", "correct horse")).reason == "throttled"

    async def test_how_many_guesses_are_free(self) -> None:
        """By account six and by network twenty; the sixth and the twentieth begin the waiting. The text says how long, rounded up."""
        assert (login.FREE_BY_ACCOUNT, login.FREE_BY_NETWORK) == (6, 20)
        control = await self.open()
        reasons = [(await self.refusal(control, "alice@example.test", f"g {n}", f"198.51.{n}.1")) for n in range(7)]
        assert [each.reason for each in reasons] == ["credentials"] * 6 + ["throttled"]
        assert reasons[-1].wait == pytest.approx(1.0)
        assert "in 2 s" in str(reasons[-1])
        assert reasons[0].wait == 0.0
        control = await self.open()
        many = [(await self.refusal(control, f"u{n}@example.test", "x", "192.0.2.1")).reason for n in range(21)]
        assert many == ["credentials"] * 20 + ["throttled"]

    async def test_a_right_log_in_gives_its_charge_back(self) -> None:
        """Would catch a busy network, with many people behind one address, that is slowed down by their right log-ins."""
        control = await self.open()
        for number in range(30):
            control.clock.advance(login.REMEMBER + 1)
            await control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1")
            assert control.access._throttle._entries == {}, number

    async def test_what_is_logged_of_a_name(self) -> None:
        """A password typed into the wrong field stays out of the log; so do line ends, and what is endless is cut."""
        assert login._shown("hunter2") == "(not an address)"
        assert login._shown("a b\n@x.test") == "a?b?@x.test"
        assert login._shown("a@" + "x" * 300) == "a@" + "x" * 252

    async def test_who_a_person_is(self) -> None:
        """``person`` answers for the enabled and registered alone; what an administrator chose must be changed, what its owner chose need not."""
        control = await self.open()
        found = control.access.person(self.alice.id)
        assert found is not None
        assert found.address == "alice@example.test"
        assert control.access.person(self.alice.id + 100) is None
        assert not control.access.must_change(Person(99, "x@example.test", 1))
        await control.directory.change_mailbox(self.alice.id, enabled=False)
        assert control.access.person(self.alice.id) is None
        made = await control.access.new_secret()
        assert made.shown
        assert made.credential.must_change
        assert made.credential.changed == control.clock.seconds()
        given = await control.access.new_secret("given one")
        assert not given.shown
        assert not given.credential.must_change

    async def test_settings_of_administrators(self) -> None:
        """A39, C16: would catch a setting that gives what it should take, or one that is read the wrong way round."""
        control = await self.open()
        ada = control.access.person_of(await control.person("ada@example.test", roles=(Role.ADMIN,)))
        scope = control.access.scope(ada)
        assert (scope.addresses, scope.content, scope.subjects) == (None, False, True)
        await control.directory.set_setting("administrators_see_subjects", "no", 1)
        assert not control.access.scope(ada).subjects
        await control.directory.set_setting("administrators_search", "no", 1)
        assert control.access.scope(ada).addresses == {"ada@example.test"}
        assert control.access.suspension(Person(99, "x@example.test", 1)) == ""

    async def test_sessions_at_their_ends(self) -> None:
        """Twelve hours unused, a week in all: at that second it is over. What is written down is not written with each page."""
        assert (IDLE, LIFETIME) == (12 * 3600, 7 * 86_400)
        control = await self.open()
        person = control.access.person_of(self.alice)
        first, session = await control.sessions.create(person, "p" * 99, "a" * 300)
        assert (len(session.peer), len(session.agent), len(session.id), len(first)) == (64, 200, 16, 43)
        assert session.alive(session.created + IDLE - 1)
        assert not session.alive(session.created + IDLE)
        control.clock.advance(1)
        _, second = await control.sessions.create(person)
        assert [one.id for one in await control.sessions.of(person.mailbox)] == [second.id, session.id]
        written: list[object] = []
        run = control.database.run

        async def counted(*args: object) -> object:
            written.append(args)
            return await run(*args)  # type: ignore[arg-type]

        control.sessions._database.run = counted  # type: ignore[method-assign, assignment]
        control.clock.advance(58)
        assert await control.sessions.find(first) is not None
        assert not written
        control.clock.advance(1)
        assert await control.sessions.find(first) is not None
        assert len(written) == 1
        assert await control.sessions.find(first) is not None
        assert len(written) == 1
        control.clock.advance(IDLE - 1)
        assert await control.sessions.expire() == 1
        assert [one.id for one in await control.sessions.of(person.mailbox)] == [session.id]
        control.clock.advance(1)
        assert await control.sessions.of(person.mailbox) == []
        assert await control.sessions.expire() == 1
        assert await control.sessions.expire() == 0
        assert not await control.sessions.revoke(session.id, person.mailbox)
        assert len(csrf_token(first)) == 32


def test_the_throttle() -> None:
    """From 1 s to 15 min, each twice the one before; the longest wait of several counts; forgotten after an hour, not a second sooner."""
    clock = Clock()
    counted = Throttle(clock)
    waits = []
    for _ in range(16):
        counted.charge("a", 3)
        waits.append(counted.wait(["a"]))
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]
    counted.charge("b", 1)
    assert counted.wait(["a", "b"]) == counted.wait(["b", "a"]) == 900
    assert counted.wait(["b", "c"]) == 1
    clock.advance(1)
    assert counted.wait(["b"]) == 0
    clock.advance(throttle.FORGET - 1)
    assert throttle.FORGET == 3600
    counted.charge("b", 2)
    assert counted.wait(["b"]) == 1, "the failure before was not forgotten"
    counted.clear("a")
    counted.clear("nobody")
    assert counted.wait(["a"]) == 0


def test_charges_given_back() -> None:
    """Would catch an attempt given back twice, one that leaves a wait behind, and one that takes the others' failures along."""
    counted = Throttle(Clock())
    counted.give_back("a")
    for _ in range(3):
        counted.charge("a", 2)
    counted.give_back("a")
    assert counted.wait(["a"]) == 0
    counted.charge("a", 2)
    assert counted.wait(["a"]) == 2, "the two failures before still count"
    for _ in range(3):
        counted.give_back("a")
    assert counted._entries == {}
    assert throttle.MOST == 50_000


def test_chosen_passwords() -> None:
    """Eight characters, and not the address or its local part; what an administrator sets may be shorter, but not empty or endless."""
    assert (MIN_CHOSEN, MAX_LENGTH) == (8, 1024)
    check("x" * MIN_CHOSEN, chosen=True, address="a@x.test")
    check("x")
    check("x" * MAX_LENGTH)
    check("Alice@example.test", address="alice@example.test")
    for password in ("x" * (MIN_CHOSEN - 1), "ALICE@Example.test", "Alicealice"):
        with pytest.raises(WeakPassword):
            check(password, chosen=True, address="alicealice@example.test" if "@" not in password else "alice@example.test")
    for password in ("", "x" * (MAX_LENGTH + 1), "a\0b", "a\udcffb"):
        with pytest.raises(WeakPassword):
            check(password)
    assert normal("a\u3000b") == "a b"
    assert (passwords.QUEUE, passwords.MEMORY_KIB, passwords.TIME_COST) == (64, 19 * 1024, 2), "OWASP's parameters of argon2id"


def test_each_right() -> None:
    """Rule 15: each right by the roles that open it, and by no other."""
    table = {
        Right.ADMINISTER: {Role.ADMIN},
        Right.AUDIT: {Role.ADMIN, Role.AUDITOR},
        Right.APPROVE: {Role.ADMIN, Role.AUDITOR, Role.DATAOFFICER},
        Right.OPERATE: {Role.ADMIN},
    }
    for right in Right:
        for role in Role:
            assert may(Person(7, "a@x.test", 1, (role,)), right) is (role in table.get(right, set(Role)))
    assert not may(Person(7, "a@x.test", 2, (Role.ADMIN,)), Right.OPERATE), "the whole installation is the operator's (rule 25)"


@pytest.mark.parametrize(("cause", "words"), [(Cause.PASSWORD, "set its password"), (Cause.ADDRESS, "made for an address")])
def test_why_it_is_closed(cause: Cause, words: str) -> None:
    """The sentence names whose it is and why."""
    text = suspended_text("a@x.test", Suspension(cause, 1.0, (1,)))
    assert "a@x.test" in text
    assert words in text


def test_a_success_gives_back_one_attempt() -> None:
    """Would catch a success among guesses that makes all of them free again."""
    counted = Throttle(Clock())
    for _ in range(2):
        counted.charge("network", 2)
    assert counted.wait(["network"]) == 1.0
    counted.give_back("network")
    assert counted.wait(["network"]) == 0.0
    counted.charge("network", 2)
    assert counted.wait(["network"]) == 1.0


class CountingHasher:
    """How often it hashed."""

    def __init__(self, hasher: Any) -> None:
        self.hasher, self.made, self.verified = hasher, 0, 0

    def hash(self, password: str) -> str:
        self.made += 1
        return str(self.hasher.hash(password))

    def verify(self, hashed: str, password: bytes) -> bool:
        self.verified += 1
        return bool(self.hasher.verify(hashed, password))


def test_whoever_does_not_exist_takes_as_long() -> None:
    """Would catch a stranger who learns by the clock which addresses there are; and parameters that differ from what was reckoned with."""
    unused: Any = None
    made = Passwords(None, None, unused, memory_kib=16, time_cost=1)
    own = made._hasher.hash("right")
    assert own.startswith("$argon2id$v=19$m=16,t=1,p=1$")
    hasher: Any = CountingHasher(made._hasher)
    made._hasher = hasher
    assert made._verify(own, b"right")
    assert not made._verify(own, b"wrong")
    assert (hasher.made, hasher.verified) == (0, 2)
    for number in range(3):
        assert not made._verify("", b"right")
        assert (hasher.made, hasher.verified) == (1, 3 + number), "one verification each, and nothing else but once"
    assert not made._verify("no hash", b"right")
