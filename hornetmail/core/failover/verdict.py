"""What an attempt to deliver to one recipient came to (rule 1)."""

from __future__ import annotations

import enum

import msgspec

from hornetmail.core.mail.reply import Reply


class Outcome(enum.StrEnum):
    """The four verdicts. ``UNCERTAIN``: the final dot was sent and no reply came."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"
    UNCERTAIN = "uncertain"


class Stage(enum.StrEnum):
    """How far the dialogue had come when the verdict fell; ``LOCAL`` is our own storage."""

    LOCAL = "local"
    RESOLVE = "resolve"
    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"
    DOT = "dot"


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """One recipient's verdict.

    ``unavailable`` says that the courier's destination counts as unavailable in the sense of C20 (time-out,
    refused or broken connection, or a 4xx answer): the next courier of the route is tried in the same attempt.
    ``host`` names who answered, for logs, notices and the health of the primary.
    """

    outcome: Outcome
    reply: Reply
    courier: str
    stage: Stage = Stage.LOCAL
    host: str = ""
    unavailable: bool = False

    @property
    def final(self) -> bool:
        """No further attempt is needed for this recipient."""
        return self.outcome in (Outcome.DELIVERED, Outcome.FAILED)
