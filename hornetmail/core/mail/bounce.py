"""Whether a failed message may be answered with a notification (rule 6, RFC 3461 section 4.1, RFC 5321 section 4.5.5)."""

from __future__ import annotations

import enum

from hornetmail.core.mail.envelope import Door, Envelope, Origin, Recipient
from hornetmail.core.mail.spf import SPF, SPFVerdict


class Bounce(enum.StrEnum):
    """``SEND`` it, ``HOLD`` the message and show it, or ``NONE``: nobody is told. ``ASK``: SPF decides. ``LATER``: it cannot be
    decided yet."""

    SEND = "send"
    HOLD = "hold"
    NONE = "none"
    ASK = "ask"
    LATER = "later"


_MIGHT = "a bounce might go to somebody else"


def answerable(envelope: Envelope, origin: Origin, own_sender: bool) -> tuple[Bounce, str]:
    """What rule 6 says, and why. ``own_sender``: the sender's domain is served here, and for a client trusted by its address
    (the domain's own server at the relay door) that counts as a log-in."""
    if not envelope.sender:
        return Bounce.NONE, "never a bounce of a bounce"
    if origin.login:
        return Bounce.SEND, "the sender logged in"
    if origin.aligned:
        return Bounce.SEND, "SPF or DKIM passed in alignment with the sender"
    if origin.trusted and own_sender:
        return Bounce.SEND, "the domain's own server vouches for its sender"
    if origin.door is Door.MX and origin.peer and not origin.trusted:
        return Bounce.ASK, "SPF decides"
    return Bounce.HOLD, f"the sender is not proved: {_MIGHT}"


def by_spf(verdict: SPFVerdict) -> tuple[Bounce, str]:
    """What rule 6 says where ``answerable`` says ``ASK``, and why. The reverse-path is where a bounce goes, so SPF of it is aligned by
    definition. Only a pass is a proof: neutral and softfail are what a domain says of those whom it does not know."""
    if verdict.result is SPF.PASS:
        return Bounce.SEND, verdict.why
    if verdict.result is SPF.TEMPERROR:
        return Bounce.LATER, verdict.why
    return Bounce.HOLD, f"{verdict.why}: {_MIGHT}"


def wants(recipient: Recipient | None, condition: str) -> bool:
    """Whether the recipient's NOTIFY asks for ``FAILURE`` or ``DELAY`` (both, when it says nothing)."""
    if recipient is None or not recipient.notify:
        return True
    return condition in {each.upper() for each in recipient.notify}
