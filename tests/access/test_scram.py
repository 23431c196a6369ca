"""Log-in by proof: the same people, the same bounds, and nothing to be learnt."""

from __future__ import annotations

import msgspec
import pytest

from hornetmail.access.login import AccessRefused
from hornetmail.access.scram import ScramSecrets, derive
from hornetmail.core.served import Person
from hornetmail.testing.control import Control
from hornetmail.testing.scram import ScramClient
from hornetmail.wire.sasl import SCRAM, Claim, Exchange, Proof
from tests.access.test_login import LoginCase


class TestScram(LoginCase):
    """With alice, whose password is ``correct horse``, and bob, who is disabled."""

    async def prove(self, control: Control, user: str, password: str, peer: str = "192.0.2.1") -> Person:
        client, exchange = ScramClient(user, password), Exchange(SCRAM, "n")
        claim = exchange.step(client.first)
        assert isinstance(claim, Claim)
        proof = exchange.step(client.last(exchange.challenge(control.access.scram_keys(claim.user))))
        assert isinstance(proof, Proof)
        return await control.access.proved(claim.user, proof.keys, proof.right, "imap", peer)

    async def reason(self, control: Control, user: str, password: str, peer: str = "192.0.2.1") -> str:
        with pytest.raises(AccessRefused) as caught:
            await self.prove(control, user, password, peer)
        return caught.value.reason

    async def test_the_same_people(self) -> None:
        """Catches a log-in by proof that gives another person, or costs argon2 after all; and what changes that does not count for it."""
        control = await self.open()
        assert control.access.offers_scram()
        for user in ("alice@example.test", "ALICE@example.org"):
            person = await self.prove(control, user, "correct horse")
            assert person == await control.access.login(user, "correct horse", "imap", "192.0.2.1")
        assert len(self.verified) == 1
        assert await self.reason(control, "alice@example.test", "wrong") == "credentials"
        assert await self.reason(control, "nobody@example.test", "correct horse") == "credentials"
        assert await self.reason(control, "bob@example.test", "battery staple") == "disabled"
        assert await self.reason(control, "bob@example.test", "wrong") == "credentials"
        await control.reopen(self)
        await self.prove(control, "alice@example.test", "correct horse")
        await control.access.set_password(self.alice.id, "new password")
        assert await self.reason(control, "alice@example.test", "correct horse") == "credentials"
        await self.prove(control, "alice@example.test", "new password")
        await control.access.change_password(
            control.access.person_of(self.alice), "new password", "newer password", door="web", peer=""
        )
        await self.prove(control, "alice@example.test", "newer password")
        await control.directory.remove_mailbox(self.alice.id)
        assert await self.reason(control, "alice@example.test", "newer password") == "credentials"

    async def test_a_password_that_changes_between_question_and_proof(self) -> None:
        """Catches a proof of the old password that is let in because it was asked for in time."""
        control = await self.open()
        client, exchange = ScramClient("alice@example.test", "correct horse"), Exchange(SCRAM, "n")
        exchange.step(client.first)
        last = client.last(exchange.challenge(control.access.scram_keys("alice@example.test")))
        await control.access.set_password(self.alice.id, "new password")
        proof = exchange.step(last)
        assert isinstance(proof, Proof)
        assert proof.right
        with pytest.raises(AccessRefused):
            await control.access.proved("alice@example.test", proof.keys, proof.right, "imap", "")

    async def test_strangers_learn_nothing(self) -> None:
        """Catches an answer that tells who exists: salts that change from time to time or from start to start only for those who do not, other
        iterations, or one salt for two names that are one to the directory only while somebody has it."""
        control = await self.open()
        alice, nobody = control.access.scram_keys("alice@example.test"), control.access.scram_keys("nobody@example.test")
        assert (len(alice.salt), alice.iterations) == (len(nobody.salt), nobody.iterations)
        for user in ("alice@example.test", "nobody@example.test"):
            domain_alias = f"{user.partition('@')[0].upper()}@Example.ORG"
            assert control.access.scram_keys(user) == control.access.scram_keys(domain_alias)
        await control.reopen(self)
        assert control.access.scram_keys("nobody@example.test") == nobody
        assert control.access.scram_keys("alice@example.test") == alice
        assert nobody.salt != control.access.scram_keys("nobody2@example.test").salt
        assert control.access.scram_keys("no address at all").iterations == alice.iterations

    async def test_guesses_count(self) -> None:
        """Catches a second way to guess at passwords beside the throttled one."""
        control = await self.open()
        reasons = [await self.reason(control, "alice@example.test", f"guess {n}", "198.51.100.1") for n in range(8)]
        assert reasons[0] == "credentials"
        assert reasons[-1] == "throttled"
        assert (await self.refusal(control, "alice@example.test", "correct horse", "198.51.100.2")).reason == "throttled"
        assert await self.reason(control, "alice@example.test", "correct horse", "198.51.100.2") == "throttled"
        control.clock.advance(901)
        await self.prove(control, "alice@example.test", "correct horse", "198.51.100.2")
        await self.prove(control, "alice@example.test", "correct horse", "198.51.100.1")

    async def test_passwords_from_before(self) -> None:
        """A password of before has no keys: nobody is offered what would fail, until each has logged in once by telling it; and keys that another server key
        sealed, or that belong to another password, are none."""
        control = await self.open()
        old = control.directory.credential(self.alice.id)
        assert old is not None
        for scram in ("", "nonsense", ScramSecrets(b"\1" * 32, 4096).make("correct horse", old.hash)):
            await control.directory.set_credential(self.alice.id, msgspec.structs.replace(old, scram=scram))
            assert control.access.offers_scram() is bool(scram)
            assert await self.reason(control, "alice@example.test", "correct horse", "") == "credentials"
            await control.access.login("alice@example.test", "correct horse", "imap", "192.0.2.1")
            assert control.access.offers_scram()
            assert (await self.prove(control, "alice@example.test", "correct horse")).mailbox == self.alice.id
        without = msgspec.structs.replace(old, scram="")
        await control.directory.set_credential(self.alice.id, without)
        await control.reopen(self)
        assert not control.access.offers_scram()
        await control.directory.remove_mailbox(self.alice.id)
        assert control.access.offers_scram()

    async def test_nothing_of_it_is_readable(self) -> None:
        """Catches keys that lie in the database as they are, where one without encryption of its own holds it."""
        control = await self.open()
        credential, keys = control.directory.credential(self.alice.id), control.access.scram_keys("alice@example.test")
        assert credential is not None
        for secret in (keys.salt, keys.stored, keys.server):
            assert secret.hex() not in credential.scram.encode().hex()
        assert "hash" not in repr(credential)
        assert credential.hash not in repr(credential)


def test_passwords_as_clients_prepare_them() -> None:
    """RFC 5802 section 5.1: clients prepare with SASLprep; catches a password that can be told, and not proved."""
    for typed, sent in (("I\u00adX", "IX"), ("\u00aa", "a"), ("pa\u00a0ss", "pa ss"), ("u\u0308", "\u00fc"), ("\u2168", "IX")):
        assert derive(typed, b"salt", 4096) == derive(sent, b"salt", 4096)
