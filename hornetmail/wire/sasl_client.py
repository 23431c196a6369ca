"""The client's side of SASL: PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 (RFC 5802, RFC 7677) and XOAUTH2; the server's is ``wire.sasl``."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from collections.abc import Collection

import msgspec

from hornetmail.wire.sasl import LOGIN, PLAIN, SCRAM, SASLError

XOAUTH2 = "XOAUTH2"

ITERATIONS = (4096, 1_000_000)
"""Fewer make the password cheap to guess (RFC 7677 section 4), more keep us busy for longer than anybody waits."""


class Account(msgspec.Struct, frozen=True, gc=False):
    """Who we are at another server. ``acting_for``: whose mailbox a service account wants (RFC 4616 ``authzid``), or ``""``. ``token``: ``password`` is one of OAuth 2."""

    user: str
    password: str
    acting_for: str = ""
    token: bool = False

    def __repr__(self) -> str:
        return f"Account({self.user!r}, acting_for={self.acting_for!r})"


class Derive(msgspec.Struct, frozen=True, gc=False):
    """SCRAM wants the password salted: PBKDF2 with HMAC and SHA-256, which takes a while; ``salted`` makes it, ``Exchange.derived`` takes it."""

    password: bytes
    salt: bytes
    iterations: int

    def salted(self) -> bytes:
        """Up to a second of work."""
        return hashlib.pbkdf2_hmac("sha256", self.password, self.salt, self.iterations)

    def __repr__(self) -> str:
        return "Derive()"


def choose(offered: Collection[str], account: Account, *, private: bool) -> str | None:
    """The mechanism to take of those offered, in capitals; None if none will do. ``private``: the server is known by a verified certificate: then PLAIN comes first, which works whatever
    it keeps of passwords, for each failure counts towards a lock-out. Otherwise SCRAM does, which tells nobody the password."""
    if account.token:
        return XOAUTH2 if XOAUTH2 in offered else None
    order = (PLAIN, SCRAM, LOGIN) if private else (SCRAM, PLAIN, LOGIN)
    return next((each for each in order if each in offered and not (each == LOGIN and account.acting_for)), None)


_SERVER_FIRST = re.compile(
    rb"r=(?P<nonce>[!-+\--~]{1,1024}),s=(?P<salt>[A-Za-z0-9+/=]{1,1024}),i=(?P<iterations>[1-9][0-9]{0,9})(?:,.*)?", re.DOTALL
)


class ClientExchange:
    """One exchange: what ``first`` says goes along or answers an empty challenge; ``step`` answers the others."""

    def __init__(self, mechanism: str, account: Account, nonce: str = "") -> None:
        """``nonce``: printable, without a comma, never used before. Raises SASLError for what the mechanism cannot say."""
        if mechanism not in (PLAIN, LOGIN, SCRAM, XOAUTH2):
            raise SASLError("unknown mechanism")
        if any("\0" in each or "\1" in each for each in (account.user, account.password, account.acting_for)):
            raise SASLError("a control character in a name or password")
        self.mechanism = mechanism
        self.proved = mechanism != SCRAM
        """Whether the server has shown what it has to: SCRAM is mutual, and who says OK before is not who we want."""
        self._account = account
        self._nonce = nonce.encode("ascii")
        self._steps = 0
        self._said = b""
        self._final = b""
        self._verdict = b""
        header = f"n,{'a=' + _name(account.acting_for) if account.acting_for else ''},"
        self._header = header.encode()
        self._bare = f"n={_name(account.user)},r={nonce}".encode()

    def first(self) -> bytes | None:
        """The initial response; None where the server speaks first."""
        account = self._account
        if self.mechanism == PLAIN:
            return f"{account.acting_for}\0{account.user}\0{account.password}".encode()
        if self.mechanism == XOAUTH2:
            return f"user={account.acting_for or account.user}\1auth=Bearer {account.password}\1\1".encode()
        return self._header + self._bare if self.mechanism == SCRAM else None

    def step(self, challenge: bytes) -> bytes | Derive:
        """The answer, or what must be derived before. Raises SASLError for a challenge that does not fit: the exchange is to be cancelled."""
        self._steps += 1
        if self.mechanism == LOGIN and self._steps <= 2:
            return (self._account.user if self._steps == 1 else self._account.password).encode()
        if self.mechanism == XOAUTH2 and self._steps == 1:
            return b""  # an error in JSON, which it wants to be acknowledged
        if self.mechanism == SCRAM and self._steps == 1:
            return self._server_first(challenge)
        if self.mechanism == SCRAM and self._steps == 2 and self._verdict:
            if not hmac.compare_digest(challenge.partition(b",")[0], self._verdict):
                raise SASLError("the server does not know the password either")
            self.proved = True
            return b""
        raise SASLError("a challenge that nobody expects")

    def _server_first(self, challenge: bytes) -> Derive:
        match = _SERVER_FIRST.fullmatch(challenge)
        if match is None or not match["nonce"].startswith(self._nonce) or len(match["nonce"]) == len(self._nonce):
            raise SASLError("that is no first message of SCRAM")
        iterations = int(match["iterations"])
        if not ITERATIONS[0] <= iterations <= ITERATIONS[1]:
            raise SASLError(f"{iterations} iterations are asked for, {ITERATIONS[0]} to {ITERATIONS[1]} are possible")
        try:
            salt = binascii.a2b_base64(match["salt"], strict_mode=True)
        except binascii.Error:
            raise SASLError("a salt that is no base64") from None
        without_proof = b"c=" + binascii.b2a_base64(self._header, newline=False) + b",r=" + match["nonce"]
        self._final = without_proof
        self._said = b",".join((self._bare, challenge, without_proof))
        return Derive(self._account.password.encode(), salt, iterations)

    def derived(self, salted: bytes) -> bytes:
        """The answer to the challenge that wanted it."""
        key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), self._said, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        server = hmac.digest(salted, b"Server Key", "sha256")
        self._verdict = b"v=" + binascii.b2a_base64(hmac.digest(server, self._said, "sha256"), newline=False)
        return self._final + b",p=" + binascii.b2a_base64(proof, newline=False)


def _name(name: str) -> str:
    """A name has no comma and no equals sign (RFC 5802 section 5.1)."""
    return name.replace("=", "=3D").replace(",", "=2C")


__all__ = ["XOAUTH2", "Account", "ClientExchange", "Derive", "SASLError", "choose"]
