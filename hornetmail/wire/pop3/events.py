"""What a POP3 client does, and what we say to it (RFC 1939, 2449, 5034, 6856)."""

from __future__ import annotations

from typing import ClassVar

from hornetmail.wire.engine import Event, Out


class Capa(Event, frozen=True, gc=False):
    """CAPA."""


class User(Event, frozen=True, gc=False):
    """USER."""

    name: str


class Pass(Event, frozen=True, gc=False):
    """PASS after USER: the log-in is complete. ``user`` is the name that USER gave."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Pass({self.user!r})"


class Auth(Event, frozen=True, gc=False):
    """AUTH with a mechanism in upper case and the decoded initial response, None if there was none."""

    mechanism: str
    initial: bytes | None = None

    def __repr__(self) -> str:
        return f"Auth({self.mechanism!r})"


class AuthResponse(Event, frozen=True, gc=False):
    """A decoded line of a SASL exchange."""

    data: bytes

    def __repr__(self) -> str:
        return "AuthResponse()"


class Stls(Event, frozen=True, gc=False):
    """STLS (RFC 2595)."""


class Utf8(Event, frozen=True, gc=False):
    """UTF8: the client takes messages with UTF-8 in their headers (RFC 6856 section 2)."""


class Lang(Event, frozen=True, gc=False):
    """LANG: the language of what we say (RFC 6856 section 3). ``tag``: in lower case; ``*`` the preferred one, ``""`` which are there."""

    tag: str = ""


class Stat(Event, frozen=True, gc=False):
    """STAT."""


class List(Event, frozen=True, gc=False):
    """LIST; ``number`` 0 means all."""

    number: int = 0


class Uidl(Event, frozen=True, gc=False):
    """UIDL; ``number`` 0 means all."""

    number: int = 0


class Retr(Event, frozen=True, gc=False):
    """RETR."""

    number: int


class Top(Event, frozen=True, gc=False):
    """TOP: the header and so many lines."""

    number: int
    lines: int


class Dele(Event, frozen=True, gc=False):
    """DELE."""

    number: int


class Rset(Event, frozen=True, gc=False):
    """RSET."""


class Noop(Event, frozen=True, gc=False):
    """NOOP."""


class Quit(Event, frozen=True, gc=False):
    """QUIT; ``update``: after log-in, so that deletions become real before it is answered."""

    update: bool = False


class Greeting(Out, frozen=True, gc=False):
    """The first words."""


class Capabilities(Out, frozen=True, gc=False):
    """The answer to CAPA; the engine knows all of it but the mechanisms of AUTH, and what ``expire`` says behind EXPIRE (RFC 2449
    section 6.7), ``""`` for no promise."""

    mechanisms: tuple[str, ...] = ()
    expire: str = ""


class Ok(Out, frozen=True, gc=False):
    """+OK."""

    text: str = ""


class Welcome(Out, frozen=True, gc=False):
    """+OK: the log-in succeeded, commands on messages may come."""

    text: str = "welcome"


class Err(Out, frozen=True, gc=False):
    """-ERR, with a response code like ``IN-USE`` or ``""`` (RFC 2449 section 8, RFC 3206)."""

    text: str
    code: str = ""


class Challenge(Out, frozen=True, gc=False):
    """A line of ours in a SASL exchange."""

    data: bytes


class Listing(Out, frozen=True, gc=False):
    """+OK and lines; ``data`` is whole lines with CRLF, none of which begins with a dot."""

    text: str
    data: bytes


class Whole(Out, frozen=True, gc=False):
    """+OK and all of a message; ``data``: what ``rendering.whole`` made of it."""

    data: bytes


class Begin(Out, frozen=True, gc=False):
    """+OK, and a message follows in ``Body`` pieces up to ``Finish``."""

    text: str = ""


class Body(Out, frozen=True, gc=False):
    """A piece of the message, as it is; the engine stuffs dots at whatever edges."""

    data: bytes
    unsolicited: ClassVar[bool] = True


class Finish(Out, frozen=True, gc=False):
    """The message is complete."""


class Farewell(Out, frozen=True, gc=False):
    """-ERR, and the connection ends; possible whenever no message is under way."""

    text: str
    code: str = "SYS/TEMP"
