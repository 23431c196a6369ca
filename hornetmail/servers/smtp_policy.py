"""What makes one SMTP door different from another."""

from __future__ import annotations

import msgspec

from hornetmail.core.mail.envelope import Door
from hornetmail.wire.sasl import LOGIN, PLAIN, SCRAM, SCRAM_PLUS
from hornetmail.wire.smtp.server import Policy


class SMTPPolicy(msgspec.Struct, frozen=True, gc=False):
    """One door.

    ``door``: MX and LMTP take mail for served domains from anybody; RELAY takes mail from hosts in a domain's ``relay_from``; SUBMISSION from
    people who log in. ``auth``: mechanisms offered; ``tls_required``: no MAIL without TLS (implicit TLS counts); ``auth_plaintext``: log-in without TLS
    (playground only). ``callforward``: recipients in served domains are verified at RCPT. ``max_size`` bytes; ``max_errors``: broken commands and
    failed log-ins before 421; ``bare``: ``refuse`` or ``normalise``; ``idle`` and ``data`` seconds.
    """

    door: Door
    hostname: str
    auth: tuple[str, ...] = ()
    auth_plaintext: bool = False
    tls_required: bool = False
    callforward: bool = True
    max_size: int = 52_428_800
    max_recipients: int = 1_000
    max_received: int = 25
    max_errors: int = 10
    bare: str = "refuse"
    smtputf8: bool = True
    idle: float = 300.0
    data: float = 300.0

    def engine(self, *, starttls: bool) -> Policy:
        """For the engine; ``starttls``: there is a certificate, and TLS is not up from the start."""
        return Policy(
            hostname=self.hostname,
            lmtp=self.door is Door.LMTP,
            starttls=starttls,
            auth=self.auth,
            auth_plaintext=self.auth_plaintext,
            smtputf8=self.smtputf8,
            max_size=self.max_size,
            bare=self.bare,
            idle=self.idle,
            data=self.data,
        )


MECHANISMS = (SCRAM_PLUS, SCRAM, PLAIN, LOGIN)


def mx(hostname: str) -> SMTPPolicy:
    """Mail from anywhere for served domains."""
    return SMTPPolicy(Door.MX, hostname)


def relay(hostname: str) -> SMTPPolicy:
    """The smarthost of the primaries."""
    return SMTPPolicy(Door.RELAY, hostname)


def submission(hostname: str, *, plaintext: bool = False) -> SMTPPolicy:
    """People's mail programs, with STARTTLS or TLS from the start. ``plaintext`` is for loopback."""
    return SMTPPolicy(Door.SUBMISSION, hostname, auth=MECHANISMS, auth_plaintext=plaintext, tls_required=not plaintext)


def lmtp(hostname: str) -> SMTPPolicy:
    """Local hand-over: like MX, with LMTP's words."""
    return SMTPPolicy(Door.LMTP, hostname)
