"""The server's side of SASL PLAIN (RFC 4616) and LOGIN, as two small machines. IMAP and POP3 may use them too."""

from __future__ import annotations

import msgspec


class Credentials(msgspec.Struct, frozen=True, gc=False):
    """Who somebody claims to be."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.user!r})"


class SASLError(Exception):
    """The response does not fit the mechanism; the message says why."""


class Exchange:
    """One exchange: ``step`` takes a decoded response (None: there was no initial response) and gives a challenge or the credentials."""

    def __init__(self, mechanism: str) -> None:
        """Raises SASLError for mechanisms other than PLAIN and LOGIN."""
        if mechanism not in ("PLAIN", "LOGIN"):
            raise SASLError("unknown mechanism")
        self._mechanism = mechanism
        self._user: str | None = None

    def step(self, response: bytes | None) -> bytes | Credentials:
        """The next challenge, or what was claimed. Raises SASLError."""
        if self._mechanism == "PLAIN":
            return b"" if response is None else _plain(response)
        if response is None:
            return b"Username:"
        if self._user is None:
            self._user = _text(response)
            return b"Password:"
        return Credentials(self._user, _text(response))


def _plain(response: bytes) -> Credentials:
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise SASLError("PLAIN wants authzid, NUL, authcid, NUL, password")
    authzid, user, password = map(_text, parts)
    if authzid and authzid.casefold() != user.casefold():
        raise SASLError("acting as somebody else is not possible here")
    return Credentials(user, password)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise SASLError("names and passwords are UTF-8") from None
