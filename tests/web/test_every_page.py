"""Each page that the site has, and who may see it (A39-A44, rules 14, 15 and 25)."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest

from hornetmail.core.served import Domain, Host, Mailbox, Role
from hornetmail.web import pages as rooms
from hornetmail.web.signin import SignIn

from .people import House
from .test_admin_pages import fill, queued

ALL = frozenset({"user", "auditor", "revisor", "officer", "tenant", "admin"})
ADMINISTER = frozenset({"tenant", "admin"})
OPERATE = frozenset({"admin"})

PEOPLE = {
    "user": "alice@example.test",
    "auditor": "auditor@example.test",
    "revisor": "rita@example.test",
    "officer": "dora@example.test",
    "tenant": "zoe@other.test",
    "admin": "admin@example.test",
}

PAGES = {
    "/": ("/", ALL),
    "/account": ("/account", ALL),
    "/mail": ("/mail", ALL),
    "/mail/write": ("/mail/write", ALL),
    "/strays": ("/strays", ALL),
    "/archive": ("/archive", ALL),
    "/archive/<number>": ("/archive/7", ALL),
    "/dashboard": ("/dashboard", ADMINISTER),
    "/alarms": ("/alarms", ADMINISTER),
    "/queue": ("/queue", ADMINISTER),
    "/queue/<number>": ("/queue/500", ADMINISTER),
    "/domains": ("/domains", ADMINISTER),
    "/domains/new": ("/domains/new", ADMINISTER),
    "/domains/<name>": ("/domains/example.test", ADMINISTER),
    "/domains/<name>/mode": ("/domains/example.test/mode", ADMINISTER),
    "/mailboxes": ("/mailboxes", ADMINISTER),
    "/mailboxes/new": ("/mailboxes/new", ADMINISTER),
    "/mailboxes/<address>": ("/mailboxes/alice@example.test", ADMINISTER),
    "/statistics": ("/statistics", ADMINISTER),
    "/playground": ("/playground", ADMINISTER),
    "/audit": ("/audit", ADMINISTER | {"auditor"}),
    "/retention": ("/retention", ADMINISTER | {"auditor"}),
    "/approvals": ("/approvals", ADMINISTER | {"auditor", "officer"}),
    "/jobs": ("/jobs", OPERATE),
    "/archive/media": ("/archive/media", OPERATE),
    "/archive/backups": ("/archive/backups", OPERATE),
    "/archive-stamps": ("/archive-stamps", OPERATE),
    "/archive-key": ("/archive-key", OPERATE),
}
"""Of each page: an address of it, and whose it is. ``tenant`` administers another tenant than the operator's."""

CONTENT = frozenset(
    f"/archive/{what}" for what in ("suggest", *(f"<number>/{one}" for one in ("html", "part", "raw", "evidence")))
) | {f"/mail/{what}" for what in ("html", "part", "raw")}
"""What is inside mail: whose it is, the mail says (test_admin_pages, test_mail_pages)."""

ANYBODY = frozenset({"/login"})


@pytest.fixture(scope="module")
def house() -> House:
    """With a person of each role, and with something in queue and archive."""
    house = House(playground=True)
    house.directory.served = [*house.directory.served, Domain("other.test", primaries=(Host("p.other.test"),), tenant=2)]
    house.directory.registered = [
        *house.directory.registered,
        Mailbox(7, "rita@example.test", "example.test", roles=(Role.REVISOR,)),
        Mailbox(8, "dora@example.test", "example.test", roles=(Role.DATAOFFICER,)),
        Mailbox(9, "zoe@other.test", "other.test", roles=(Role.ADMIN,), tenant=2),
    ]
    fill(house, 7, "alice@example.test")
    queued(house)
    return house


def test_no_page_is_left_out() -> None:
    """Catches a new page that no test opens as each of the roles."""
    found = set()
    for module in pkgutil.walk_packages(rooms.__path__, f"{rooms.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and hasattr(value, "routes"):
                found |= {route.path for route in _routes(value) if route.method == "GET"}
    found |= {route.path for route in _routes(SignIn) if route.method == "GET"}
    assert found == set(PAGES) | CONTENT | ANYBODY


def _routes(kind: Any) -> Any:
    """A page says where it lies without anything else of it being there."""
    return kind.routes(kind.__new__(kind))


@pytest.mark.parametrize("page", PAGES)
def test_who_may_see_it(house: House, page: str) -> None:
    """Catches a page that a role sees and should not, or does not see and should; and one that shows itself to strangers."""
    path, allowed = PAGES[page]
    stranger = house.browser().get(path)
    assert (stranger.status, stranger.header("location").partition("?")[0]) == (303, "/login")
    for role, address in PEOPLE.items():
        answer = house.browser(address).get(path)
        assert (answer.status != 403) == (role in allowed), (role, answer.status)
        assert not answer.header("location").startswith("/login")
        assert ("belongs to another role" in answer.text) == (role not in allowed), role


@pytest.mark.parametrize("page", PAGES)
def test_the_menu_leads_only_where_somebody_may_go(house: House, page: str) -> None:
    """Catches a link in the menu that ends at *Not for this account*."""
    path, allowed = PAGES[page]
    for role, address in PEOPLE.items():
        if role not in allowed:
            menu = house.browser(address).get("/account").text.partition('id="rail"')[2].partition("</nav>")[0]
            assert f'href="{path}"' not in menu, role
