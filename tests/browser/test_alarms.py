"""Rule 8f in the browser: an alarm that appears while somebody looks on, and the button that says it was seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Complaints, Playground


@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)])
def test_an_alarm_is_seen_and_acknowledged(
    playground: Playground, person: Callable[..., Page], complaints: Complaints, phone: bool, dark: bool
) -> None:
    """Catches a badge that stays or never comes, a page that does not follow, a button without effect, and a page wider than a phone."""
    admin = person("admin", phone=phone, dark=dark)
    admin.goto(f"{playground.url}/alarms")
    admin.get_by_role("button", name="Send a test").click()
    line = admin.get_by_role("listitem").filter(has_text="asked for this test")
    expect(line.get_by_role("button", name="Acknowledge")).to_be_visible(timeout=60_000)
    assert not admin.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    admin.goto(f"{playground.url}/dashboard")
    admin.get_by_role("main").get_by_role("link", name="1 alarm").click()
    line.get_by_role("button", name="Acknowledge").click()
    expect(admin.get_by_text("The alarm is acknowledged")).to_be_visible()
    expect(admin.get_by_text("acknowledged by admin@example.test").first).to_be_visible()
    expect(admin.get_by_text("Nothing is wrong that HornetMail knows of.")).to_be_visible()
    assert complaints == []
