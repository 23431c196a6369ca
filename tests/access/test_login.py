"""Log-in: who gets in, who does not, and what guessing costs."""

import re
from pathlib import Path

import pytest
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.threads import deferToThreadPool
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from hornetmail.access.login import AccessRefused
from hornetmail.access.passwords import MAX_LENGTH, WeakPassword, check, one_time
from hornetmail.access.throttle import Throttle
from hornetmail.core.served import Domain, Role
from hornetmail.net.serving.limits import network_of
from hornetmail.testing.control import Control


class LoginCase(TestCase):
    """With alice@example.test and bob@example.test, who is disabled."""

    async def open(self, queue: int = 64) -> Control:
        control = await Control.open(self, queue=queue)
        await control.directory.add_domain(Domain("example.test", aliases=("example.org",)))
        self.alice = await control.person("Alice@example.test", "correct horse", roles=(Role.AUDITOR,))
        self.bob = await control.person("bob@example.test", "battery staple")
        await control.directory.change_mailbox(self.bob.id, enabled=False)
        self.verified: list[str] = []
        verify = control.passwords.verify

        async def counted(hashed: str, password: str) -> bool:
            self.verified.append(hashed)
            return await verify(hashed, password)

        control.passwords.verify = counted  # type: ignore[method-assign]
        return control

    async def refusal(self, control: Control, user: str, password: str, peer: str = "192.0.2.1") -> AccessRefused:
        with pytest.raises(AccessRefused) as caught:
            await control.access.login(user, password, "imap", peer)
        return caught.value


class TestLogin(LoginCase):
    """One attempt at a time."""

    async def test_any_case_and_domain_alias(self) -> None:
        """C22, C25, A47: the full address in any case; the person carries every own address (A43) and the roles."""
        control = await self.open()
        for user in ("Alice@example.test", "alice@example.test", "ALICE@EXAMPLE.TEST", "alice@example.org"):
            person = await control.access.login(user, "correct horse", "imap", "192.0.2.1")
            assert (person.mailbox, person.address, person.roles) == (self.alice.id, "Alice@example.test", (Role.AUDITOR,))
            assert person.addresses == ("alice@example.test", "alice@example.org")

    async def test_fail2ban_reads_who_was_refused(self) -> None:
        """A filter that does not know the log's words bans nobody, at whatever door and by whatever address somebody guesses."""
        control = await self.open()
        filter_file = Path(__file__).parents[2] / "etc" / "fail2ban" / "hornetmail-filter.conf"
        (expression,) = re.findall(r"^failregex = (.+)$", filter_file.read_text(), re.MULTILINE)
        refused = re.compile(expression.replace("<HOST>", r"(?P<host>\S+)"))
        asked = [(door, f"192.0.2.{n}") for n, door in enumerate(("submission", "imap", "pop3", "web", "http"), 1)]
        asked.append(("submission", "2001:db8::1"))
        with capturedLogs() as events:
            for door, peer in asked:
                with pytest.raises(AccessRefused):
                    await control.access.login("alice@example.test", "wrong", door, peer)
        found = [refused.search(formatEvent(event)) for event in events]
        assert [match["host"] for match in found if match] == [peer for _, peer in asked]

    async def test_wrong_pairs_look_the_same(self) -> None:
        """Whether an address exists must show neither in the answer nor in the work done (time)."""
        control = await self.open()
        unset = await control.directory.add_mailbox("nopass@example.test")
        answers = set()
        for user in (
            "alice@example.test",
            "nobody@example.test",
            "nobody@elsewhere.test",
            "nopass@example.test",
            "alice",
            "",
            "@",
            "a" * 300,
        ):
            refused = await self.refusal(control, user, "wrong", f"192.0.2.{len(answers) + 1}")
            answers.add((refused.reason, str(refused)))
        assert answers == {("credentials", "wrong address or password")}
        assert len(self.verified) == 8, "each of them costs one argon2"
        assert control.directory.credential(unset.id) is None

    async def test_disabled_is_told_to_the_owner_only(self) -> None:
        """``disabled`` for a guess would tell that the address exists."""
        control = await self.open()
        assert (await self.refusal(control, "bob@example.test", "guess")).reason == "credentials"
        assert (await self.refusal(control, "bob@example.test", "battery staple")).reason == "disabled"

    async def test_case_and_spaces_of_passwords_count(self) -> None:
        """Only the composition of letters is evened out (RFC 8265), nothing else."""
        control = await self.open()
        await control.access.set_password(self.alice.id, "gr\u00fcn Gras")
        await control.access.login("alice@example.test", "gru\u0308n\u00a0Gras", "imap", "")
        for wrong in ("gr\u00fcn gras", "gr\u00fcn Gras ", "grun Gras", "gr\u00fcn Gras\0"):
            assert (await self.refusal(control, "alice@example.test", wrong, "")).reason == "credentials"

    async def test_absurd_input(self) -> None:
        """Endless names and passwords, surrogates and NULs must be refused without work and without an exception of another kind."""
        control = await self.open()
        for user, password in (
            ("a" * 10_000, "x"),
            ("alice@example.test", "x" * (MAX_LENGTH + 1)),
            ("a\0b@c\udcff", "\udcff"),
            ("\n\r", "\n"),
        ):
            assert (await self.refusal(control, user, password)).reason == "credentials"

    async def test_remembered_for_five_minutes(self) -> None:
        """A mail client that logs in with every fetch must not cost 40 ms each; and not for ever."""
        control = await self.open()
        for _ in range(5):
            await control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1")
        assert len(self.verified) == 1
        control.clock.advance(301)
        await control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1")
        assert len(self.verified) == 2

    async def test_password_change_forgets_at_once(self) -> None:
        """The old password must not work for another five minutes, nor a removed or disabled mailbox's."""
        control = await self.open()
        await control.access.login("alice@example.test", "correct horse", "imap", "")
        await control.access.set_password(self.alice.id, "new password")
        assert (await self.refusal(control, "alice@example.test", "correct horse")).reason == "credentials"
        await control.access.login("alice@example.test", "new password", "imap", "")
        await control.directory.change_mailbox(self.alice.id, enabled=False)
        assert (await self.refusal(control, "alice@example.test", "new password")).reason == "disabled"
        await control.directory.remove_mailbox(self.alice.id)
        assert (await self.refusal(control, "alice@example.test", "new password")).reason == "credentials"

    async def test_hash_is_renewed(self) -> None:
        """Stronger parameters must reach everybody who logs in, and the password's age stays."""
        control = await self.open()
        old = control.directory.credential(self.alice.id)
        from hornetmail.access.passwords import Passwords

        stronger = Passwords(control.reactor, control.passwords._pool, control.passwords.scram, memory_kib=32, time_cost=1)
        control.access._passwords = stronger
        await control.access.login("alice@example.test", "correct horse", "imap", "")
        new = control.directory.credential(self.alice.id)
        assert "m=32" in new.hash
        assert (old.hash != new.hash, old.changed) == (True, new.changed)
        await control.access.login("alice@example.test", "correct horse", "imap", "")


class TestThrottling(LoginCase):
    """Many attempts."""

    async def test_guessing_gets_slower_and_slower(self) -> None:
        """By account: after some free guesses each costs twice the wait, from networks never seen before."""
        control = await self.open()
        guesses, waits = 0, []
        for number in range(40):
            refused = await self.refusal(control, "alice@example.test", f"guess {number}", f"198.51.{number}.1")
            if refused.reason == "throttled":
                waits.append(refused.wait)
                control.clock.advance(refused.wait + 0.01)
            else:
                guesses += 1
        assert guesses < 26
        assert waits[:4] == pytest.approx([1, 2, 4, 8], abs=0.1)
        assert max(waits) <= 900

    async def test_strangers_cannot_lock_the_owner_out(self) -> None:
        """L5: from a network where the owner logged in before, guesses from elsewhere do not count."""
        control = await self.open()
        await control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1")
        control.clock.advance(400)
        for number in range(20):
            await self.refusal(control, "alice@example.test", f"guess {number}", f"198.51.100.{number}")
        assert (await self.refusal(control, "alice@example.test", "correct horse", "203.0.113.9")).reason == "throttled"
        await control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1")

    async def test_by_network(self) -> None:
        """One host that tries many accounts is slowed down; IPv6 counts by /64 (rule 8), neighbours are not disturbed."""
        control = await self.open()
        reasons = [
            (await self.refusal(control, f"user{number}@example.test", "x", f"2001:db8::{number:x}")).reason
            for number in range(30)
        ]
        assert reasons[:19] == ["credentials"] * 19
        assert reasons[-1] == "throttled"
        await control.access.login("alice@example.test", "correct horse", "imap", "2001:db8:0:1::1")

    async def test_parallel_guesses_are_charged_at_once(self) -> None:
        """A thousand guesses in flight at the same time must not all be answered before the first is counted."""
        control = await self.open()
        attempts = [
            Deferred.fromCoroutine(control.access.login("alice@example.test", f"guess {n}", "smtp", f"198.51.100.{n}"))
            for n in range(50)
        ]
        for attempt in attempts:
            attempt.addErrback(lambda failure: failure.value)
        reasons = [refused.reason for refused in await gatherResults(attempts)]
        assert reasons.count("credentials") <= 6
        assert reasons.count("throttled") >= 44

    async def test_parallel_right_log_ins_share_one_verification(self) -> None:
        """A mail client opens ten connections at once; they must neither be throttled nor cost ten verifications."""
        control = await self.open()
        people = await gatherResults(
            [
                Deferred.fromCoroutine(control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1"))
                for _ in range(30)
            ]
        )
        assert {person.mailbox for person in people} == {self.alice.id}
        assert len(self.verified) == 1

    async def test_a_stale_password_in_a_client_is_one_guess(self) -> None:
        """A telephone that repeats the old password every minute must not lock its owner out."""
        control = await self.open()
        for _ in range(50):
            assert (await self.refusal(control, "alice@example.test", "old password")).reason == "credentials"
        await control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1")
        assert len(self.verified) == 2

    async def test_success_forgives(self) -> None:
        """Mistyping now and then must not add up over the day."""
        control = await self.open()
        for round_ in range(6):
            for number in range(3):
                refused = await self.refusal(control, "alice@example.test", f"typo {round_} {number}")
                assert refused.reason == "credentials", (round_, number)
            control.clock.advance(301)
            person = await control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1")
            assert person.mailbox == self.alice.id

    async def test_bounded_queue(self) -> None:
        """A flood of log-ins must be refused, not queued for minutes; nobody is charged for our being busy."""
        control = await self.open(queue=2)
        attempts = [
            Deferred.fromCoroutine(control.access.login(f"user{n}@example.test", "x", "smtp", f"198.51.100.{n}"))
            for n in range(10)
        ]
        for attempt in attempts:
            attempt.addErrback(lambda failure: failure.value)
        reasons = [refused.reason for refused in await gatherResults(attempts)]
        assert reasons.count("throttled") == 8
        assert (await self.refusal(control, "user9@example.test", "x", "198.51.100.9")).reason == "credentials"

    async def test_hanging_up_saves_nothing(self) -> None:
        """Who sends a guess and drops the connection must be charged all the same, and keep its place in the queue."""
        control = await self.open(queue=3)
        attempts = [
            Deferred.fromCoroutine(control.access.login("alice@example.test", f"guess {n}", "smtp", "198.51.100.1"))
            for n in range(3)
        ]
        for attempt in attempts:
            attempt.addErrback(lambda failure: failure.trap(CancelledError))
            attempt.cancel()
        assert control.passwords.busy
        assert (await self.refusal(control, "bob@example.test", "x", "198.51.100.2")).reason == "throttled"
        while control.passwords.busy:
            await deferToThreadPool(control.reactor, control.passwords._pool, lambda: None)
        reasons = [(await self.refusal(control, "alice@example.test", f"more {n}", f"198.51.100.{n}")).reason for n in range(4)]
        assert reasons == ["credentials"] * 3 + ["throttled"]

    async def test_a_right_log_in_outlives_a_lost_connection(self) -> None:
        """Of two connections with the same pair one is lost: the other must still get in."""
        control = await self.open()
        first = Deferred.fromCoroutine(control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1"))
        second = Deferred.fromCoroutine(control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1"))
        first.addErrback(lambda failure: failure.trap(CancelledError))
        first.cancel()
        assert (await second).mailbox == self.alice.id

    async def test_old_failures_are_forgotten(self) -> None:
        """An hour without a failure ends it; memory of strangers is bounded."""
        control = await self.open()
        throttle = Throttle(control.clock)
        for _ in range(12):
            throttle.charge("account x", 6)
        assert throttle.wait(["account x"]) == pytest.approx(64)
        control.clock.advance(3601)
        assert throttle.wait(["account x"]) == 0
        throttle.charge("account x", 6)
        assert throttle.wait(["account x"]) == 0


class TestPasswords(LoginCase):
    """Changing them."""

    async def test_one_time_password_is_flagged(self) -> None:
        """C23: a reset shows a password once and marks it, until its owner picks one; web sessions end."""
        control = await self.open()
        person = await control.access.login("alice@example.test", "correct horse", "imap", "")
        token, _ = await control.sessions.create(person)
        assert not control.access.must_change(person)
        shown = await control.access.set_password(self.alice.id)
        assert await control.sessions.find(token) is None
        person = await control.access.login("alice@example.test", shown, "imap", "")
        assert control.access.must_change(person)
        await control.access.change_password(person, shown, "my own password", door="page", peer="")
        assert not control.access.must_change(person)
        await control.access.login("alice@example.test", "my own password", "imap", "")

    async def test_own_change_needs_the_old_one(self) -> None:
        """Somebody at an unlocked screen must not take the account over; the other sessions end, this one stays."""
        control = await self.open()
        person = await control.access.login("alice@example.test", "correct horse", "imap", "")
        here, session = await control.sessions.create(person)
        there, _ = await control.sessions.create(person)
        with pytest.raises(AccessRefused):
            await control.access.change_password(person, "wrong", "my own password", door="page", peer="", keep=session.id)
        for weak in ("short", "Alice@example.test", "correct horse", "", "x" * 2000, "tab\tinside it"):
            with pytest.raises(WeakPassword):
                await control.access.change_password(person, "correct horse", weak, door="page", peer="", keep=session.id)
        assert await control.sessions.find(there) is not None
        await control.access.change_password(person, "correct horse", "my own password", door="page", peer="", keep=session.id)
        assert await control.sessions.find(here) is not None
        assert await control.sessions.find(there) is None

    async def test_nothing_readable_is_stored(self) -> None:
        """Only argon2id hashes with the parameters in them may reach the database."""
        control = await self.open()
        rows = await control.database.read(_credentials)
        assert rows
        assert all(hashed.startswith("$argon2id$v=19$m=") for (hashed,) in rows)


def _credentials(cursor: object) -> list[tuple[str]]:
    cursor.execute("SELECT hash FROM credentials")  # type: ignore[attr-defined]
    return cursor.fetchall()  # type: ignore[attr-defined, no-any-return]


def test_networks() -> None:
    """Rule 8: IPv6 by /64, also written with a zone, and IPv4 in IPv6 as IPv4."""
    assert network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("") == ""


def test_one_time_passwords_differ() -> None:
    """They must be long enough to be no gift, and pass the check themselves."""
    made = {one_time() for _ in range(100)}
    assert len(made) == 100
    for password in made:
        check(password, chosen=True)
        assert len(password) == 19
