"""AUTH at every door: from a client's responses to a person."""

from __future__ import annotations

import secrets

from hornetmail.core.served import Person
from hornetmail.interfaces.access import IAccess
from hornetmail.net.serving.pump import Wire
from hornetmail.wire.sasl import LOGIN, PLAIN, SCRAM, SCRAM_PLUS, Claim, Credentials, Exchange, Proof, SASLError


def mechanisms(access: IAccess, wire: Wire) -> tuple[str, ...]:
    """What can be offered on this connection, the strongest first. SCRAM only while everybody with a password can use it: a client that took
    the strongest and failed would think the password wrong."""
    scram = (SCRAM,) if access.offers_scram() else ()
    plus = (SCRAM_PLUS,) if scram and wire.tls is not None else ()
    return (*plus, *scram, PLAIN, LOGIN)


class LogIn:
    """One exchange. ``door`` and the peer's address are for ``IAccess``."""

    def __init__(self, access: IAccess, wire: Wire, door: str, mechanism: str) -> None:
        """Raises SASLError if there is no such mechanism here."""
        self._access = access
        self._wire = wire
        self._door = door
        if mechanism not in mechanisms(access, wire):
            raise SASLError("unknown mechanism")
        self._exchange = Exchange(mechanism, secrets.token_urlsafe(18), wire.binding if wire.tls is not None else None)
        self._proved: Person | None = None

    async def step(self, response: bytes | None) -> bytes | Person:
        """The next challenge, or who it is. Raises SASLError, AccessRefused."""
        if self._proved is not None:
            if response:
                raise SASLError("an empty response was expected")
            return self._proved
        said = self._exchange.step(response)
        access, peer = self._access, self._wire.peer[0]
        if isinstance(said, Credentials):
            person: Person = await access.login(said.user, said.password, self._door, peer)
            return person
        if isinstance(said, Claim):
            return self._exchange.challenge(access.scram_keys(said.user))
        if isinstance(said, Proof):
            self._proved = await access.proved(said.user, said.keys, said.right, self._door, peer)
            return said.verdict
        return said
