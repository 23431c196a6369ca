"""Whether a failed message may be answered with a notification (rule 6, RFC 3461 section 4.1, RFC 5321 section 4.5.5)."""

from __future__ import annotations

import enum

from hornetmail.core.envelope import Envelope, Origin, Recipient


class Bounce(enum.StrEnum):
    """``SEND`` it, ``HOLD`` the message and show it, or ``NONE``: nobody is told."""

    SEND = "send"
    HOLD = "hold"
    NONE = "none"


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
    return Bounce.HOLD, "the sender is not proved: a bounce might go to somebody else"


def wants(recipient: Recipient | None, condition: str) -> bool:
    """Whether the recipient's NOTIFY asks for ``FAILURE`` or ``DELAY`` (both, when it says nothing)."""
    if recipient is None or not recipient.notify:
        return True
    return condition in {each.upper() for each in recipient.notify}
