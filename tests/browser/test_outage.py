"""An outage as people live through it, in a real browser on the real service (C2, C4, C16, C18, C21, C26)."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import Page, expect

from .conftest import Complaints, Playground

Person = Callable[..., Page]


def reload_until(page: Page, found: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Ask again as somebody waiting would."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, f"{what}: {page.locator('main').inner_text()[:600]}"
        page.wait_for_timeout(300)
        page.reload()


def test_an_outage_from_switch_to_redelivery(playground: Playground, person: Person, complaints: Complaints) -> None:
    """Log in, switch to emergency, read and answer a mail, find it in the archive and redeliver it. Catches any of these not
    working together, and pages whose own policy stops their scripts and styles."""
    admin = person("admin")
    card = admin.locator("article", has_text="example.test")
    expect(card.get_by_text("Normal", exact=True)).to_be_visible()
    card.get_by_role("button", name="Emergency").click()
    dialog = admin.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="Switch example.test to emergency mode?")).to_be_visible()
    dialog.get_by_label("Reason").fill("the browser test")
    dialog.get_by_role("button", name="Switch to emergency").click()
    expect(admin.locator("article", has_text="example.test").get_by_text("Emergency", exact=True)).to_be_visible()
    expect(admin.get_by_text("Emergency mode: example.test")).to_be_visible()

    playground.send("friend@outside.test", "alice@example.test", "Zebra crossing", "Shall we meet at the xylophone?")
    alice = person("alice")
    expect(alice.get_by_text("Your mail server is unavailable")).to_be_visible()
    line = alice.get_by_role("link", name="Zebra crossing")
    reload_until(alice, lambda: line.count() > 0, "the mail is in the portal")
    line.first.click()
    expect(alice.get_by_role("heading", name="Zebra crossing")).to_be_visible()
    expect(alice.get_by_text("Shall we meet at the xylophone?")).to_be_visible()

    alice.get_by_role("link", name="Reply", exact=True).click()
    expect(alice.get_by_label("To", exact=True)).to_have_value("friend@outside.test")
    alice.get_by_label("To", exact=True).fill("bob@example.test")
    text = alice.get_by_label("Text")
    text.fill("At noon, with the clarinet.\n" + text.input_value())
    alice.get_by_role("button", name="Send").click()
    expect(alice.get_by_text("Sent to bob@example.test.")).to_be_visible()
    alice.get_by_role("link", name="Sent").first.click()
    expect(alice.get_by_role("link", name="Re: Zebra crossing").first).to_be_visible()

    bob = person("bob")
    answer = bob.get_by_role("link", name="Re: Zebra crossing")
    reload_until(bob, lambda: answer.count() > 0, "the answer is in bob's portal inbox")
    answer.first.click()
    expect(bob.get_by_text("At noon, with the clarinet.")).to_be_visible()

    alice.goto(f"{playground.url}/archive?q=xylophone")
    hit = alice.get_by_role("link", name="Zebra crossing", exact=True)
    reload_until(alice, lambda: hit.count() > 0, "the mail is in the archive")
    hit.first.click()
    expect(alice.get_by_text("Shall we meet at the xylophone?")).to_be_visible()
    alice.get_by_role("button", name="Redeliver").click()
    expect(alice.get_by_text("on the way to alice@example.test")).to_be_visible()
    alice.goto(f"{playground.url}/mail")
    line = alice.locator(".line", has_text="Zebra crossing")
    reload_until(alice, lambda: line.count() > 1, "the redelivered mail is in the inbox too")

    admin.goto(f"{playground.url}/dashboard")
    admin.locator("article", has_text="example.test").get_by_role("button", name="Back to normal").click()
    admin.get_by_role("dialog").get_by_role("button", name="Back to normal").click()
    expect(admin.get_by_text("Emergency mode: example.test")).not_to_be_visible()
    reload_until(alice, lambda: line.count() == 0, "what was left in the inbox went home")
    assert not complaints


def test_the_theme_is_kept(playground: Playground, person: Person) -> None:
    """Catches a theme that flashes back at the next page."""
    alice = person("alice", dark=True)
    light = "rgb(245, 244, 240)"
    background = "getComputedStyle(document.body).backgroundColor"
    assert alice.evaluate(background) != light
    alice.get_by_role("button", name="Light or dark").click()
    assert alice.evaluate(background) == light
    alice.goto(f"{playground.url}/account")
    assert alice.evaluate(background) == light


def test_everything_is_reached_by_keyboard(playground: Playground, person: Person) -> None:
    """Catches focus that cannot be seen, and a dialog that does not let go of it."""
    admin = person("admin")
    admin.keyboard.press("Tab")
    expect(admin.get_by_role("link", name="Skip to content")).to_be_focused()
    button = admin.locator("article", has_text="example.test").get_by_role("button").first
    button.focus()
    admin.keyboard.press("Enter")
    expect(admin.get_by_role("dialog")).to_be_visible()
    admin.keyboard.press("Escape")
    expect(admin.get_by_role("dialog")).not_to_be_visible()
