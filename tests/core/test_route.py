"""Routes as data (design, step 3; C3, C4, C11, C12, C20)."""

from __future__ import annotations

import msgspec
import pytest

from hornetmail.core.delivery.route import Last, route, waits_for_primary
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Coverage, Domain, Host, Mailbox, PortalOn

PRIMARY = (Host("192.0.2.1"),)
DOMAIN = Domain("example.test", primaries=PRIMARY)
ALICE = Mailbox(1, "alice@example.test", "example.test")


@pytest.mark.parametrize(
    ("domain", "registered", "covered", "mode", "couriers", "last"),
    [
        (None, None, None, Mode.NORMAL, ("mx",), Last.RETRY),
        (DOMAIN, ALICE, ALICE, Mode.NORMAL, ("primary", "portal"), Last.RETRY),
        (DOMAIN, ALICE, ALICE, Mode.DRAINING, ("primary", "portal"), Last.RETRY),
        (DOMAIN, ALICE, ALICE, Mode.EMERGENCY, ("portal",), Last.RETRY),
        (DOMAIN, None, None, Mode.NORMAL, ("primary",), Last.RETRY),
        (DOMAIN, None, None, Mode.EMERGENCY, (), Last.PARK),
        (Domain("p.test", primaries=PRIMARY, coverage=Coverage.PICKED), ALICE, None, Mode.EMERGENCY, ("primary",), Last.RETRY),
        (Domain("p.test", primaries=PRIMARY, coverage=Coverage.PICKED), ALICE, ALICE, Mode.EMERGENCY, ("portal",), Last.RETRY),
        (Domain("p.test", primaries=PRIMARY, active=False), ALICE, ALICE, Mode.NORMAL, ("primary",), Last.RETRY),
        (Domain("own.test"), ALICE, ALICE, Mode.NORMAL, ("portal",), Last.RETRY),
        (Domain("own.test"), None, None, Mode.NORMAL, (), Last.FAIL),
    ],
)
def test_routes(
    domain: Domain | None, registered: Mailbox | None, covered: Mailbox | None, mode: Mode, couriers: tuple[str, ...], last: Last
) -> None:
    """A recipient sent the wrong way: to a portal he has not, past the portal in an emergency, or to nobody."""
    way = route(domain, registered, covered, mode)
    assert way.couriers == couriers
    assert way.last is last
    assert way.why


def deferred(code: int, enhanced: str = "", text: str = "", stage: Stage = Stage.RCPT, courier: str = "primary") -> Verdict:
    return Verdict(Outcome.DEFERRED, Reply(code, enhanced, text), courier, stage, unavailable=True)


UNCERTAIN = Verdict(Outcome.UNCERTAIN, Reply(451, "4.4.2"), "primary", Stage.DOT, unavailable=True)


@pytest.mark.parametrize(
    ("verdict", "before", "reason"),
    [
        (deferred(451, "4.7.1", "come again"), None, "waits for the primary: greylisting is no outage"),
        (
            deferred(450, "4.2.0", "Greylisted for 300 seconds", Stage.DATA),
            None,
            "waits for the primary: greylisting is no outage",
        ),
        (deferred(452, "4.2.2", "mailbox full"), None, "waits for the primary: one full mailbox is no outage"),
        (deferred(452, "4.2.2"), deferred(451, "4.3.0"), "waits for the primary: one full mailbox is no outage"),
        (deferred(452, "4.2.2"), UNCERTAIN, ""),
        (UNCERTAIN, None, ""),
        (deferred(421, "4.7.1", "greylisted"), None, ""),
        (deferred(451, "4.7.1", "greylisted", Stage.GREETING), None, ""),
        (deferred(451, "4.3.0", "not now"), None, ""),
        (deferred(452, "4.3.1", "disk full"), None, ""),
        (deferred(451, "4.4.1", "timed out", Stage.CONNECT), None, ""),
        (deferred(451, "4.4.4", "", Stage.RESOLVE), None, ""),
        (deferred(452, "4.2.2", courier="portal"), None, ""),
        (Verdict(Outcome.FAILED, Reply(552, "5.2.2"), "primary", Stage.RCPT), None, ""),
    ],
)
def test_waits_for_primary(verdict: Verdict, before: Verdict | None, reason: str) -> None:
    """The finer rule: what is an outage kept from the portal, what is none sent there, or a copy kept that the primary may have."""
    finer = msgspec.structs.replace(DOMAIN, portal_on=PortalOn.OUTAGE)
    assert waits_for_primary(route(finer, ALICE, ALICE, Mode.NORMAL), verdict, before) == reason
    assert waits_for_primary(route(finer, ALICE, ALICE, Mode.DRAINING), verdict, before) == reason
    assert not waits_for_primary(route(finer, ALICE, ALICE, Mode.EMERGENCY), verdict, before)
    assert not waits_for_primary(route(finer, ALICE, ALICE, Mode.NORMAL, notice=True), verdict, before)
    assert not waits_for_primary(route(DOMAIN, ALICE, ALICE, Mode.NORMAL), verdict, before), "C20 is the default"


def test_only_failover_copies_drain() -> None:
    """Rule 3: a domain without a primary has nowhere to drain to; every failover copy has."""
    assert not route(Domain("own.test"), ALICE, ALICE, Mode.NORMAL).drains
    assert route(DOMAIN, ALICE, ALICE, Mode.NORMAL).drains
    assert route(DOMAIN, ALICE, ALICE, Mode.EMERGENCY).drains
