"""What an IMAP client says, and what it hears, as values. Names of mailboxes are bytes as they go over the wire (``names.encode_name``), UIDs are ranges."""

from __future__ import annotations

import enum
from typing import ClassVar

import msgspec

from hornetmail.wire.engine import Event, Out

Ranges = tuple[tuple[int, int], ...]
"""Low and high, both in it."""


class Status(enum.StrEnum):
    """How the server completes a command, or greets."""

    OK = "OK"
    NO = "NO"
    BAD = "BAD"
    PREAUTH = "PREAUTH"
    BYE = "BYE"


class Code(msgspec.Struct, frozen=True, gc=False):
    """A response code (RFC 3501 section 7.1, RFC 5530) in capitals, and what stands behind it; empty if there is none."""

    word: str = ""
    rest: bytes = b""

    def numbers(self) -> tuple[int, ...]:
        """``rest`` as numbers, as UIDVALIDITY and APPENDUID have them; nothing if it is something else."""
        words = self.rest.split()
        return tuple(map(int, words)) if all(word.isdigit() and len(word) <= 10 for word in words) else ()


# ---- commands


class Command(Out, frozen=True, gc=False):
    """One command; the engine gives it its tag."""


class Capability(Command, frozen=True, gc=False):
    """CAPABILITY; its answer sets ``capabilities``."""


class Noop(Command, frozen=True, gc=False):
    """NOOP."""


class Logout(Command, frozen=True, gc=False):
    """LOGOUT."""


class StartTLS(Command, frozen=True, gc=False):
    """STARTTLS; its OK sets ``upgrade``."""


class Id(Command, frozen=True, gc=False):
    """ID (RFC 2971) with our fields."""

    fields: tuple[tuple[bytes, bytes], ...]


class Login(Command, frozen=True, gc=False):
    """LOGIN."""

    user: bytes
    password: bytes

    def __repr__(self) -> str:
        return f"Login({self.user!r})"


class Authenticate(Command, frozen=True, gc=False):
    """AUTHENTICATE; challenges are answered with ``Response``. ``initial`` goes with it where SASL-IR is offered (RFC 4959), else it answers the first
    challenge, which is empty."""

    mechanism: str
    initial: bytes | None = None

    def __repr__(self) -> str:
        return f"Authenticate({self.mechanism!r})"


class Enable(Command, frozen=True, gc=False):
    """ENABLE (RFC 5161)."""

    words: tuple[str, ...]


class Namespace(Command, frozen=True, gc=False):
    """NAMESPACE (RFC 2342)."""


class List(Command, frozen=True, gc=False):
    """LIST. ``uses``: with SPECIAL-USE attributes, where the server has them for the asking (RFC 6154)."""

    reference: bytes = b""
    pattern: bytes = b"*"
    uses: bool = True


class Select(Command, frozen=True, gc=False):
    """SELECT, or EXAMINE."""

    mailbox: bytes
    readonly: bool = False


class Unselect(Command, frozen=True, gc=False):
    """UNSELECT (RFC 3691)."""


class Create(Command, frozen=True, gc=False):
    """CREATE. ``use``: with that SPECIAL-USE attribute, where CREATE-SPECIAL-USE is offered."""

    mailbox: bytes
    use: str = ""


class Subscribe(Command, frozen=True, gc=False):
    """SUBSCRIBE."""

    mailbox: bytes


class UidSearch(Command, frozen=True, gc=False):
    """UID SEARCH: ``keys`` are atoms (str) and strings (bytes). Asks for ranges where ESEARCH is offered (RFC 4731)."""

    keys: tuple[str | bytes, ...]


class UidFetch(Command, frozen=True, gc=False):
    """UID FETCH. A part of more than ``largest`` bytes is a violation: who asks knows the size that was announced, or asks for a range (``BODY.PEEK[]<0.n>``)."""

    uids: Ranges
    items: tuple[str, ...]
    largest: int = 0


class UidStore(Command, frozen=True, gc=False):
    """UID STORE. ``how``: ``+FLAGS.SILENT`` and the like."""

    uids: Ranges
    how: str
    flags: tuple[str, ...]


class UidCopy(Command, frozen=True, gc=False):
    """UID COPY."""

    uids: Ranges
    mailbox: bytes


class UidMove(Command, frozen=True, gc=False):
    """UID MOVE (RFC 6851)."""

    uids: Ranges
    mailbox: bytes


class UidExpunge(Command, frozen=True, gc=False):
    """UID EXPUNGE (RFC 4315)."""

    uids: Ranges


class Append(Command, frozen=True, gc=False):
    """APPEND of a message of exactly ``size`` bytes, which follow as ``Text`` once ``wants`` says how many. ``date``: Unix seconds. ``binary``: as a ``literal8``,
    which may hold NUL (RFC 3516)."""

    mailbox: bytes
    size: int
    flags: tuple[str, ...] = ()
    date: float | None = None
    binary: bool = False


class Text(Out, frozen=True, gc=False):
    """A piece of the message; no reply belongs to it."""

    data: bytes


class Further(Out, frozen=True, gc=False):
    """The next part of a command whose literal was ``Wanted``."""


class Response(Out, frozen=True, gc=False):
    """An answer to a challenge of AUTHENTICATE, encoded here; None cancels."""

    data: bytes | None

    def __repr__(self) -> str:
        return "Response()"


# ---- what the server says


class Heard(Event, frozen=True, gc=False):
    """Of all that a server says: nothing is answered."""

    answered: ClassVar[bool] = False


class Greeted(Heard, frozen=True, gc=False):
    """The first response: OK, PREAUTH or BYE."""

    status: Status
    code: Code
    text: str


class Wanted(Heard, frozen=True, gc=False):
    """A continuation. ``challenge``: of an AUTHENTICATE, decoded."""

    challenge: bytes = b""


class Completed(Heard, frozen=True, gc=False):
    """A command's tagged response."""

    command: Command
    status: Status
    code: Code
    text: str


class Noted(Heard, frozen=True, gc=False):
    """An untagged OK, NO or BAD: what SELECT says of a mailbox, warnings."""

    status: Status
    code: Code
    text: str


class Farewell(Heard, frozen=True, gc=False):
    """BYE, unasked; the connection is of no use any more."""

    code: Code
    text: str


class Listed(Heard, frozen=True, gc=False):
    """A mailbox. ``delimiter``: one byte, or empty where names have no levels. ``attributes`` in lower case."""

    name: bytes
    delimiter: bytes
    attributes: frozenset[str]


class Spaces(Heard, frozen=True, gc=False):
    """The personal namespaces: prefix and delimiter."""

    personal: tuple[tuple[bytes, bytes], ...]


class Exists(Heard, frozen=True, gc=False):
    """So many messages are in the selected mailbox."""

    messages: int


class Expunged(Heard, frozen=True, gc=False):
    """This message is gone, and those above it are one lower."""

    number: int


class Found(Heard, frozen=True, gc=False):
    """What a search found."""

    uids: Ranges


class Part(Heard, frozen=True, gc=False):
    """A part of a message begins, ``size`` bytes of it, in ``Chunk`` after ``Chunk``; which message, ``Fetched`` says when they were all here."""

    number: int
    section: str
    size: int


class PartEnd(Heard, frozen=True, gc=False):
    """The part is complete."""


class Fetched(Heard, frozen=True, gc=False):
    """What was said of one message, at the end. None: nothing. ``date``: Unix seconds."""

    number: int
    uid: int | None = None
    flags: frozenset[str] | None = None
    size: int | None = None
    date: float | None = None


class Violation(Heard, frozen=True, gc=False):
    """The server does not speak IMAP; the connection is of no use any more."""

    reason: str
