"""What an SMTP client says, and what it hears, as values: the other end of ``events``."""

from __future__ import annotations

from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.wire.engine import Event, Out


class Ehlo(Out, frozen=True, gc=False):
    """EHLO with our name; its positive reply sets ``extensions``."""

    name: str


class Helo(Out, frozen=True, gc=False):
    """HELO, when EHLO was refused."""

    name: str


class StartTLS(Out, frozen=True, gc=False):
    """STARTTLS; a 220 sets ``upgrade``."""


class AuthPlain(Out, frozen=True, gc=False):
    """AUTH PLAIN with its initial response."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"AuthPlain({self.user!r})"


class AuthLogin(Out, frozen=True, gc=False):
    """AUTH LOGIN; 334 replies are answered with ``Response``."""


class Response(Out, frozen=True, gc=False):
    """An answer to 334, encoded here."""

    data: bytes

    def __repr__(self) -> str:
        return "Response()"


class MailFrom(Out, frozen=True, gc=False):
    """MAIL. ``size`` 0 is not told."""

    sender: str
    size: int = 0
    eight_bit: bool = False
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


class RcptTo(Out, frozen=True, gc=False):
    """RCPT."""

    recipient: Recipient


class DataCommand(Out, frozen=True, gc=False):
    """DATA; after its 354 ``Text`` and ``Dot``."""


class Text(Out, frozen=True, gc=False):
    """A piece of the message; no reply belongs to it."""

    data: bytes


class Dot(Out, frozen=True, gc=False):
    """The end of the message; its reply is the verdict."""


class Rset(Out, frozen=True, gc=False):
    """RSET."""


class Noop(Out, frozen=True, gc=False):
    """NOOP."""


class QuitCommand(Out, frozen=True, gc=False):
    """QUIT."""


class Greeted(Event, frozen=True, gc=False):
    """The server's first reply."""

    answered = False
    reply: Reply


class Replied(Event, frozen=True, gc=False):
    """The reply to a command."""

    answered = False
    command: Out
    reply: Reply


class Interrupted(Event, frozen=True, gc=False):
    """The server refuses the message, 4xx or 5xx, while its text is still being sent (RFC 5321 section 4.5.4.2 has no room for it, servers do it at
    a limit all the same). The verdict on this message; the connection is of no use any more."""

    answered = False
    reply: Reply


class Violation(Event, frozen=True, gc=False):
    """The server does not speak SMTP; the connection is of no use any more. ``reply`` is what it said instead, if that is a reply at all. A 421
    that nobody asked for is none of its faults: it says that it closes the connection (RFC 5321 section 3.8)."""

    answered = False
    reason: str
    reply: Reply | None = None

    @property
    def farewell(self) -> bool:
        """It only said 421."""
        return self.reply is not None and self.reply.code == 421
