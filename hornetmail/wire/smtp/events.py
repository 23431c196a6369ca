"""What an SMTP client does and what a server says, as values. ``Chunk``, ``End``, ``Lost`` and ``Broken`` are those of ``wire.engine``."""

from __future__ import annotations

from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.wire.engine import Event, Out


class Hello(Event, frozen=True, gc=False):
    """HELO (``esmtp`` false), EHLO or LHLO, with the name the client gave."""

    name: str
    esmtp: bool = True


class StartTLS(Event, frozen=True, gc=False):
    """STARTTLS. ``Accept`` starts the handshake."""


class Auth(Event, frozen=True, gc=False):
    """AUTH with a mechanism that is offered; ``initial`` is the decoded initial response, None if there is none."""

    mechanism: str
    initial: bytes | None = None

    def __repr__(self) -> str:
        return f"Auth({self.mechanism!r})"


class AuthResponse(Event, frozen=True, gc=False):
    """The decoded answer to a ``Challenge``."""

    data: bytes

    def __repr__(self) -> str:
        return "AuthResponse()"


class Mail(Event, frozen=True, gc=False):
    """MAIL. ``sender`` is ``""`` for ``<>``; ``size`` is what was declared, 0 if nothing; ``ret`` and ``envid`` as in RFC 3461."""

    sender: str
    size: int = 0
    eight_bit: bool = False
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


class Rcpt(Event, frozen=True, gc=False):
    """RCPT."""

    recipient: Recipient


class Data(Event, frozen=True, gc=False):
    """DATA. ``recipients``: how many were accepted; with none only a refusal is possible."""

    recipients: int


class Reset(Event, frozen=True, gc=False):
    """RSET: the transaction is forgotten."""


class Noop(Event, frozen=True, gc=False):
    """NOOP."""


class Verify(Event, frozen=True, gc=False):
    """VRFY."""

    argument: str


class Expand(Event, frozen=True, gc=False):
    """EXPN."""

    argument: str


class Help(Event, frozen=True, gc=False):
    """HELP."""

    argument: str = ""


class Quit(Event, frozen=True, gc=False):
    """QUIT. ``Accept`` closes."""


class Greeting(Out, frozen=True, gc=False):
    """The first thing said: 220 with our name and ESMTP, or a refusal (then the connection closes)."""

    reply: Reply | None = None


class Welcome(Out, frozen=True, gc=False):
    """250 to ``Hello``: our name and, for EHLO, the extensions that the engine's policy offers now. ``mechanisms``: those of its policy that can be offered."""

    mechanisms: tuple[str, ...] = ()


class Accept(Out, frozen=True, gc=False):
    """2xx to the event that waits."""

    reply: Reply


class Refuse(Out, frozen=True, gc=False):
    """4xx or 5xx to the event that waits. 421 closes."""

    reply: Reply


class GoAhead(Out, frozen=True, gc=False):
    """354 to ``Data``."""


class Challenge(Out, frozen=True, gc=False):
    """334 with data that will be encoded."""

    data: bytes = b""


class PerRecipient(Out, frozen=True, gc=False):
    """LMTP: one reply for each accepted recipient, in order, to ``End``."""

    replies: tuple[Reply, ...]


class Farewell(Out, frozen=True, gc=False):
    """421 at any time, asked or not: the connection closes after it."""

    reply: Reply
