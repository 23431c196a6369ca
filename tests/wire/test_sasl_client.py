"""The client's side of SASL against the server's own, and against servers that know nothing, or ask too much."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from hornetmail.wire.sasl import Claim, Credentials, Exchange, Proof, SASLError, ScramKeys
from hornetmail.wire.sasl_client import Account, ClientExchange, Derive, choose

ME = Account("u=s,er", "pass wörd")


def keys(password: str) -> ScramKeys:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 4096)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return ScramKeys(b"salt", 4096, stored, hmac.digest(salted, b"Server Key", "sha256"))


def scram(client: ClientExchange, password: str) -> Proof:
    server = Exchange("SCRAM-SHA-256", "servers")
    first = client.first()
    assert first is not None
    claim = server.step(first)
    assert isinstance(claim, Claim)
    assert claim.user == ME.user
    wanted = client.step(server.challenge(keys(password)))
    assert isinstance(wanted, Derive)
    proof = server.step(client.derived(wanted.salted()))
    assert isinstance(proof, Proof)
    return proof


def test_scram() -> None:
    """A proof that the server cannot check, or a server that need not prove anything: whoever answers would get the mail."""
    client = ClientExchange("SCRAM-SHA-256", ME, "mine")
    proof = scram(client, ME.password)
    assert proof.right
    assert not client.proved
    assert client.step(proof.verdict) == b""
    assert client.proved
    client = ClientExchange("SCRAM-SHA-256", ME, "mine")
    proof = scram(client, "another")
    assert not proof.right
    with pytest.raises(SASLError):
        client.step(proof.verdict)
    assert not client.proved


@pytest.mark.parametrize(
    "challenge",
    [
        b"r=mine,s=c2FsdA==,i=4096",
        b"r=yours,s=c2FsdA==,i=4096",
        b"r=mine2,s=c2FsdA==,i=1000",
        b"r=mine2,s=c2FsdA==,i=2000000000",
        b"r=mine2,s=c2=sdA,i=4096",
        b"",
    ],
)
def test_scram_refuses(challenge: bytes) -> None:
    """A nonce that is not ours and more, iterations that give the password away or that keep us busy for an hour."""
    with pytest.raises(SASLError):
        ClientExchange("SCRAM-SHA-256", ME, "mine").step(challenge)


def test_the_others() -> None:
    """PLAIN as a service account for somebody, LOGIN word by word, XOAUTH2 with its error that wants to be acknowledged."""
    assert ClientExchange("PLAIN", Account("master", "x", "eve@a.example")).first() == b"eve@a.example\0master\0x"
    first = ClientExchange("PLAIN", ME).first()
    assert Exchange("PLAIN").step(first) == Credentials(ME.user, ME.password)
    client, server = ClientExchange("LOGIN", ME), Exchange("LOGIN")
    assert client.first() is None
    server.step(None)
    name = client.step(b"Username:")
    assert isinstance(name, bytes)
    server.step(name)
    word = client.step(b"Password:")
    assert isinstance(word, bytes)
    assert server.step(word) == Credentials(ME.user, ME.password)
    with pytest.raises(SASLError):
        client.step(b"more")
    client = ClientExchange("XOAUTH2", Account("me", "ya29", token=True))
    assert client.first() == b"user=me\1auth=Bearer ya29\1\1"
    assert client.step(base64.b64decode("e30=")) == b""
    for bad in (Account("a\0b", "x"), Account("a", "x\1y")):
        with pytest.raises(SASLError):
            ClientExchange("PLAIN", bad)


def test_choice() -> None:
    """A password told to whoever has no certificate, or a mechanism that cannot say whose mailbox is meant."""
    every = {"PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2"}
    assert choose(every, ME, private=True) == "PLAIN"
    assert choose(every, ME, private=False) == "SCRAM-SHA-256"
    assert choose({"LOGIN"}, ME, private=True) == "LOGIN"
    assert choose({"LOGIN"}, Account("master", "x", "eve"), private=True) is None
    assert choose(every, Account("me", "t", token=True), private=True) == "XOAUTH2"
    assert choose({"PLAIN"}, Account("me", "t", token=True), private=True) is None
    assert "wörd" not in repr(ME)
