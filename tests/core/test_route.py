"""Routes as data (design, step 3; C3, C4, C11, C12, C20)."""

from __future__ import annotations

import pytest

from hornetmail.core.mode import Mode
from hornetmail.core.route import Last, route
from hornetmail.core.served import Coverage, Domain, Host, Mailbox

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


def test_only_failover_copies_drain() -> None:
    """Rule 3: a domain without a primary has nowhere to drain to; every failover copy has."""
    assert not route(Domain("own.test"), ALICE, ALICE, Mode.NORMAL).drains
    assert route(DOMAIN, ALICE, ALICE, Mode.NORMAL).drains
    assert route(DOMAIN, ALICE, ALICE, Mode.EMERGENCY).drains
