"""Passwords: argon2id in one thread of its own, so that a flood of log-ins takes one core and a bounded queue at most."""

from __future__ import annotations

import secrets
import unicodedata
from typing import Any

import argon2
from argon2.exceptions import InvalidHashError, VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from hornetmail.access.scram import ScramSecrets

MEMORY_KIB = 19 * 1024
TIME_COST = 2
QUEUE = 64
"""Verifications that may wait: about 2.5 s of work at 40 ms each."""

MAX_LENGTH = 1024
MIN_CHOSEN = 8
"""Characters of a password that a person picks; administrators are trusted to know what they do."""

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


class WeakPassword(ValueError):
    """A password that is not taken; the message says why."""


def normal(password: str) -> str:
    """The form that is hashed: the OpaqueString profile of RFC 8265 section 4.2.2 (NFC, other spaces as U+0020), so that clients that
    compose letters differently send the same password."""
    return unicodedata.normalize("NFC", "".join(" " if unicodedata.category(c) == "Zs" else c for c in password))


def check(password: str, *, chosen: bool = False, address: str = "") -> None:
    """Raises WeakPassword. ``chosen``: by the person whose it is, which asks for more."""
    if not password:
        raise WeakPassword("the password is empty")
    if len(password) > MAX_LENGTH:
        raise WeakPassword(f"the password is longer than {MAX_LENGTH} characters")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in password):
        raise WeakPassword("the password holds a control character")
    if chosen and len(password) < MIN_CHOSEN:
        raise WeakPassword(f"the password needs at least {MIN_CHOSEN} characters")
    if chosen and password.casefold() in (address.casefold(), address.casefold().partition("@")[0]):
        raise WeakPassword("the password is the address")


def one_time() -> str:
    """A password that can be read out over the telephone: 79 bits, without letters that look alike."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(16))
    return "-".join(letters[start : start + 4] for start in range(0, 16, 4))


class Passwords:
    """Hashes and verifies. ``pool`` is a started ``ThreadPool(1, 1)`` of its own; ``memory_kib`` and ``time_cost`` are argon2id's; ``scram`` keeps what SCRAM
    needs of each password."""

    def __init__(
        self,
        reactor: Any,
        pool: Any,
        scram: ScramSecrets,
        *,
        memory_kib: int = MEMORY_KIB,
        time_cost: int = TIME_COST,
        queue: int = QUEUE,
    ) -> None:
        self.scram = scram
        self._reactor = reactor
        self._pool = pool
        self._hasher = argon2.PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1, type=argon2.Type.ID)
        self._queue = queue
        self._waiting = 0
        self._decoy = ""

    async def secret(self, password: str) -> tuple[str, str]:
        """The PHC string of a password, and its sealed SCRAM keys. Never Busy: only administrators and logged-in people come here."""
        answer: tuple[str, str] = await deferToThreadPool(self._reactor, self._pool, self._secret, password)
        return answer

    def _secret(self, password: str) -> tuple[str, str]:
        hashed = self._hasher.hash(normal(password).encode())
        return hashed, self.scram.make(password, hashed)

    def stale(self, hashed: str, scram: str) -> bool:
        """Whether a hash was made with other parameters, or has no SCRAM keys that can be read beside it."""
        return self._hasher.check_needs_rehash(hashed) or self.scram.keys(scram, hashed) is None

    @property
    def busy(self) -> bool:
        """Whether as many verifications wait as may."""
        return self._waiting >= self._queue

    async def verify(self, hashed: str, password: str) -> bool:
        """Whether that is the password. ``hashed`` empty: it is not, and it takes as long to say so. Whoever asks looks at ``busy`` first."""
        self._waiting += 1
        work = deferToThreadPool(
            self._reactor, self._pool, self._verify, hashed, normal(password).encode("utf-8", "surrogatepass")
        )
        answer: Deferred[bool] = Deferred()

        def done(result: Any) -> None:
            # Counted until the thread is done with it, even if nobody waits for the answer any more.
            self._waiting -= 1
            answer.callback(result)

        work.addBoth(done)
        return await answer

    def _verify(self, hashed: str, password: bytes) -> bool:
        if not hashed and not self._decoy:
            self._decoy = self._hasher.hash(secrets.token_hex(16))
        try:
            return self._hasher.verify(hashed or self._decoy, password) and bool(hashed)
        except (VerificationError, InvalidHashError):
            return False
