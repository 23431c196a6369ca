"""Which couriers a recipient's mail is given to, in which order (step 3 of the way of a message)."""

from __future__ import annotations

import enum

import msgspec

from hornetmail.core.failover import outage
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Verdict
from hornetmail.core.served import Coverage, Domain, Mailbox, PortalOn

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
    get home to a primary later (rule 3). ``patient``: what the primary defers without being in trouble waits for it (``waits_for_primary``)."""

    couriers: tuple[str, ...]
    last: Last
    why: str
    drains: bool = False
    patient: bool = False


def waits_for_primary(way: Route, verdict: Verdict, before: Verdict | None) -> str:
    """Why mail that the primary gave this verdict stays in the queue for it, in words for people; ``""`` if it goes on along its route.

    ``before`` is the row's verdict of earlier attempts: what was uncertain once never waits so, the primary may have it (rule 1).
    """
    if not way.patient or verdict.courier != PRIMARY or (before is not None and before.outcome is Outcome.UNCERTAIN):
        return ""
    why = outage.excuse(verdict)
    return f"waits for the primary: {why}" if why else ""


def route(
    domain: Domain | None, registered: Mailbox | None, covered: Mailbox | None, mode: Mode, *, notice: bool = False
) -> Route:
    """The route of one recipient.

    ``domain`` is the served domain of the address or None; ``registered`` its mailbox, ``covered`` the same one if the service
    covers it (C11, C12). The attempt's number makes no difference: the portal comes at once, within the first one (C20). ``notice``:
    we wrote it ourselves; it never waits behind the full mailbox that it may be about.
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
    if domain.portal_on is PortalOn.OUTAGE and not notice:
        why = "to the primary, into the portal if it is unavailable; greylisting and a full mailbox are waited for (C3, C20, L6)"
        return Route((PRIMARY, PORTAL), Last.RETRY, why, drains=True, patient=True)
    return Route((PRIMARY, PORTAL), Last.RETRY, "to the primary, into the portal if it is unavailable (C3, C20)", drains=True)
