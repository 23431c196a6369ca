"""The server's side of SASL, the same at every door: PLAIN (RFC 4616) and LOGIN, which claim a password, and SCRAM-SHA-256, which proves one without
telling it, with and without channel binding (RFC 5802, RFC 7677)."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from collections.abc import Callable

import msgspec

PLAIN, LOGIN, SCRAM, SCRAM_PLUS = "PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"

BINDINGS = ("tls-exporter", "tls-server-end-point")
"""What a channel may be known by, on both of its ends (RFC 9266, RFC 5929 section 4)."""

Binding = Callable[[str], bytes | None]
"""What this channel is known by, of the kinds above; None if the kind says nothing of it."""


class Credentials(msgspec.Struct, frozen=True, gc=False):
    """Who somebody claims to be."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.user!r})"


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Who somebody wants to prove to be: ``challenge`` wants that one's keys."""

    user: str


class ScramKeys(msgspec.Struct, frozen=True, gc=False):
    """What a server keeps of a password (RFC 5802 section 3): enough to see a proof, too little to make one."""

    salt: bytes
    iterations: int
    stored: bytes
    server: bytes

    def __repr__(self) -> str:
        return "ScramKeys()"


class Proof(msgspec.Struct, frozen=True, gc=False):
    """``right``: whoever ``user`` is knows the password of these keys. ``verdict``: what proves to the client that we know the keys; it is sent to who was
    right, and answered by an empty response."""

    user: str
    keys: ScramKeys
    right: bool
    verdict: bytes

    def __repr__(self) -> str:
        return f"Proof({self.user!r}, right={self.right})"


class SASLError(Exception):
    """The response does not fit the mechanism; the message says why."""


class Exchange:
    """One exchange: ``step`` takes a decoded response (None: there was no initial response) and gives a challenge or what was said."""

    def __init__(self, mechanism: str, nonce: str = "", binding: Binding | None = None) -> None:
        """``nonce``: printable, without a comma, never used before. ``binding``: None where there is no channel to bind to. Raises SASLError for
        mechanisms that are not known, or cannot be here."""
        if mechanism not in (PLAIN, LOGIN, SCRAM, SCRAM_PLUS):
            raise SASLError("unknown mechanism")
        if mechanism == SCRAM_PLUS and binding is None:
            raise SASLError("there is no channel to bind to")
        self._mechanism = mechanism
        self._user: str | None = None
        self._scram = _Scram(mechanism == SCRAM_PLUS, nonce, binding) if mechanism in (SCRAM, SCRAM_PLUS) else None

    def step(self, response: bytes | None) -> bytes | Credentials | Claim | Proof:
        """The next challenge, or what was claimed or proved. Raises SASLError."""
        if self._scram is not None:
            return b"" if response is None else self._scram.step(response)
        if self._mechanism == PLAIN:
            return b"" if response is None else _plain(response)
        if response is None:
            return b"Username:"
        if self._user is None:
            self._user = _text(response)
            return b"Password:"
        return Credentials(self._user, _text(response))

    def challenge(self, keys: ScramKeys) -> bytes:
        """What is said to a ``Claim``."""
        assert self._scram is not None
        return self._scram.challenge(keys)


def _plain(response: bytes) -> Credentials:
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise SASLError("PLAIN wants authzid, NUL, authcid, NUL, password")
    authzid, user, password = map(_text, parts)
    _same(authzid, user)
    return Credentials(user, password)


def _same(authzid: str, user: str) -> None:
    if authzid and authzid.casefold() != user.casefold():
        raise SASLError("acting as somebody else is not possible here")


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise SASLError("names and passwords are UTF-8") from None


# ---- SCRAM

_FIRST = re.compile(
    rb"(?P<header>(?:(?P<flag>[ny])|p=(?P<kind>[A-Za-z0-9.\-]{1,64})),(?:a=(?P<authzid>[^,\0]+))?,)(?P<bare>n=(?P<user>[^,\0]+),r=(?P<nonce>[!-+\--~]{1,256})(?:,.*)?)",
    re.DOTALL,
)
_FINAL = re.compile(
    rb"(?P<said>c=(?P<binding>[A-Za-z0-9+/=]{1,4096}),r=(?P<nonce>[!-+\--~]{1,1024})(?:,[A-Za-z]=[^,\0]*)*),p=(?P<proof>[A-Za-z0-9+/=]{1,128})"
)
_ESCAPE = re.compile(rb"=(..)?", re.DOTALL)


class _Scram:
    """Client-first, server-first, client-final, server-final (RFC 5802 section 5)."""

    def __init__(self, plus: bool, nonce: str, binding: Binding | None) -> None:
        self._plus = plus
        self._nonce = nonce.encode("ascii")
        self._binding = binding
        self._user = ""
        self._header = b""
        self._said = b""
        self._bound = b""
        self._keys: ScramKeys | None = None

    def step(self, response: bytes) -> Claim | Proof:
        return self._first(response) if not self._said else self._final(response)

    def _first(self, response: bytes) -> Claim:
        match = _FIRST.fullmatch(response)
        if match is None:
            raise SASLError("that is no first message of SCRAM")
        kind = match["kind"]
        if (kind is not None) is not self._plus:
            raise SASLError("channel binding is a matter of SCRAM-SHA-256-PLUS, and of it alone")
        if match["flag"] == b"y" and self._binding is not None:
            raise SASLError("channel binding is offered here: somebody between us took it away")
        if kind is not None:
            self._bound = self._channel(kind.decode("ascii"))
        self._user = _text(_ESCAPE.sub(_unescaped, match["user"]))
        _same(_text(_ESCAPE.sub(_unescaped, match["authzid"] or b"")), self._user)
        self._header = match["header"]
        self._nonce = match["nonce"] + self._nonce
        self._said = match["bare"]
        return Claim(self._user)

    def _channel(self, kind: str) -> bytes:
        bound = self._binding(kind) if self._binding is not None and kind in BINDINGS else None
        if bound is None:
            raise SASLError("that kind of channel binding is not possible here")
        return bound

    def challenge(self, keys: ScramKeys) -> bytes:
        self._keys = keys
        first = b"r=%b,s=%b,i=%d" % (self._nonce, binascii.b2a_base64(keys.salt, newline=False), keys.iterations)
        self._said += b"," + first
        return first

    def _final(self, response: bytes) -> Proof:
        match = _FINAL.fullmatch(response)
        if match is None or self._keys is None:
            raise SASLError("that is no last message of SCRAM")
        proof, bound = _base64(match["proof"]), _base64(match["binding"])
        if match["nonce"] != self._nonce or not hmac.compare_digest(bound, self._header + self._bound):
            raise SASLError("nonce or channel binding is another one")
        keys = self._keys
        said = self._said + b"," + match["said"]
        signature = hmac.digest(keys.stored, said, "sha256")
        key = bytes(a ^ b for a, b in zip(proof, signature, strict=False))
        right = hmac.compare_digest(hashlib.sha256(key).digest(), keys.stored) and len(proof) == len(signature)
        verdict = b"v=" + binascii.b2a_base64(hmac.digest(keys.server, said, "sha256"), newline=False)
        return Proof(self._user, keys, right, verdict)


def _unescaped(match: re.Match[bytes]) -> bytes:
    """A name has no comma and no equals sign (RFC 5802 section 5.1)."""
    found = {b"2C": b",", b"3D": b"="}.get(match[1] or b"")
    if found is None:
        raise SASLError("that is no name of SCRAM")
    return found


def _base64(data: bytes) -> bytes:
    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except binascii.Error:
        raise SASLError("that is no base64") from None
