"""Which couriers a recipient's mail is given to, in which order (step 3 of the way of a message)."""

from __future__ import annotations

import enum

import msgspec

from hornetmail.core.mode import Mode
from hornetmail.core.served import Coverage, Domain, Mailbox

PRIMARY = "primary"
PORTAL = "portal"
MX = "mx"
ARCHIVE = "archive"


class Last(enum.StrEnum):
    """What happens when no courier of the route took the mail: try again later, wait for an event, or give it up."""

    RETRY = "retry"
    PARK = "park"
    FAIL = "fail"


class Route(msgspec.Struct, frozen=True, gc=False):
    """Courier names in order, what follows the last of them, and why, for people. ``drains``: a copy in the portal has to
    get home to a primary later (rule 3)."""

    couriers: tuple[str, ...]
    last: Last
    why: str
    drains: bool = False


def route(domain: Domain | None, registered: Mailbox | None, covered: Mailbox | None, mode: Mode) -> Route:
    """The route of one recipient.

    ``domain`` is the served domain of the address or None; ``registered`` its mailbox, ``covered`` the same one if the service
    covers it (C11, C12). The attempt's number makes no difference: the portal comes at once, within the first one (C20).
    """
    if domain is None:
        return Route((MX,), Last.RETRY, "not a domain of ours: to its mail exchangers or the sender's smarthost")
    if not domain.primaries:
        if registered is None:
            return Route((), Last.FAIL, "the portal is this domain's mail server and has no such mailbox")
        return Route((PORTAL,), Last.RETRY, "the domain has no primary: the portal is its mail server")
    if not domain.active:
        return Route((PRIMARY,), Last.RETRY, "the service is switched off for the domain (C11): to the primary only")
    if covered is None and domain.coverage is Coverage.PICKED:
        return Route((PRIMARY,), Last.RETRY, "the mailbox is not among the picked ones (C12): to the primary only")
    if mode is Mode.EMERGENCY:
        if covered is None:
            return Route(
                (),
                Last.PARK,
                "emergency, and the recipient has no portal mailbox: waits until one is assigned or the primary is back",
            )
        return Route((PORTAL,), Last.RETRY, "emergency: into the portal (C4)", drains=True)
    if covered is None:
        return Route((PRIMARY,), Last.RETRY, "no portal mailbox: to the primary, later again if it is unavailable")
    return Route((PRIMARY, PORTAL), Last.RETRY, "to the primary, into the portal if it is unavailable (C3, C20)", drains=True)
