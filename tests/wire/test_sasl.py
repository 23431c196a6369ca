"""The exchanges of SASL without any door."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornetmail.access.scram import derive
from hornetmail.testing.scram import ScramClient
from hornetmail.wire.sasl import PLAIN, SCRAM, SCRAM_PLUS, Claim, Credentials, Exchange, Proof, SASLError

KEYS = derive("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
BOUND = {"tls-exporter": b"the channel"}


def test_the_example_of_rfc_7677() -> None:
    """RFC 7677 section 3, byte for byte: catches keys, signatures or messages that only our own client would understand."""
    exchange = Exchange(SCRAM, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    assert exchange.step(None) == b""
    assert exchange.step(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO") == Claim("user")
    first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    assert exchange.challenge(KEYS) == first
    proof = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    said = exchange.step(proof)
    assert said == Proof("user", KEYS, True, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert "W22Z" not in repr(said)


def play(client: ScramClient, exchange: Exchange) -> Proof:
    claim = exchange.step(client.first)
    assert isinstance(claim, Claim)
    proof = exchange.step(client.last(exchange.challenge(KEYS)))
    assert isinstance(proof, Proof)
    assert client.knows(proof.verdict) is proof.right
    return proof


def test_wrong_password() -> None:
    """Catches a proof that is believed because it has the right form."""
    proof = play(ScramClient("a=b,c", "pencil"), Exchange(SCRAM, "n"))
    assert (proof.user, proof.right) == ("a=b,c", True)
    assert not play(ScramClient("alice", "pencils"), Exchange(SCRAM, "n")).right


def test_bound_to_the_channel() -> None:
    """RFC 5802 section 6: catches a proof that somebody between the two ends carried over from another channel, or a client that somebody told there is
    no binding."""
    client = ScramClient("alice", "pencil", header="p=tls-exporter,,", bound=BOUND["tls-exporter"])
    assert play(client, Exchange(SCRAM_PLUS, "n", BOUND.get)).right
    elsewhere = ScramClient("alice", "pencil", header="p=tls-exporter,,", bound=b"another channel")
    with pytest.raises(SASLError, match="another one"):
        play(elsewhere, Exchange(SCRAM_PLUS, "n", BOUND.get))
    for mechanism, header in (
        (SCRAM_PLUS, "n,,"),
        (SCRAM_PLUS, "y,,"),
        (SCRAM, "y,,"),
        (SCRAM, "p=tls-exporter,,"),
        (SCRAM_PLUS, "p=tls-unique,,"),
    ):
        with pytest.raises(SASLError):
            play(ScramClient("alice", "pencil", header=header, bound=b"the channel"), Exchange(mechanism, "n", BOUND.get))
    assert play(ScramClient("alice", "pencil", header="y,,"), Exchange(SCRAM, "n")).right
    with pytest.raises(SASLError, match="no channel"):
        Exchange(SCRAM_PLUS, "n")


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,",
        b"n,,n=,r=a",
        b"n,,n=alice",
        b"n,,n=alice,r=",
        b"n,,m=more,n=alice,r=a",
        b"n,a=bob,n=alice,r=a",
        b"n,,n=al=ice,r=a",
        b"n,,n=al\0ice,r=a",
        b"n,,n=\xff,r=a",
        b"x,,n=alice,r=a",
        b"n,,n=alice,r=a b",
    ],
)
def test_broken_first_messages(first: bytes) -> None:
    """Catches a mandatory extension passed over (RFC 5802 section 5.1, ``m``), acting as somebody else, and names that are none."""
    with pytest.raises(SASLError):
        Exchange(SCRAM, "n").step(first)


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.sampled_from((b"n,,n=a,r=b", b"c=biws,r=bn,p=", b"\0a\0b", b"c=biws,r=bn,p=YQ==")),
            st.lists(st.integers(0, 255)).map(bytes),
        ),
        max_size=5,
    ),
    st.sampled_from((PLAIN, "LOGIN", SCRAM, SCRAM_PLUS)),
)
def test_never_raises_anything_else(responses: list[bytes | None], mechanism: str) -> None:
    """Catches whatever a stranger may answer that is a fault of ours."""
    exchange = Exchange(mechanism, "n", BOUND.get)
    for response in responses:
        try:
            said = exchange.step(response)
        except SASLError:
            return
        if isinstance(said, Claim):
            exchange.challenge(KEYS)
        elif isinstance(said, Credentials | Proof):
            return
