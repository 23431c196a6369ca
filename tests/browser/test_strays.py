"""Rule 10 in the browser: somebody's own note, and the button that has it delivered."""

from __future__ import annotations

import imaplib
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.conftest import Complaints, Playground
from tests.peers.waiting import until

SUBJECT = "Notes for the spring meeting"


def inbox(playground: Playground, name: str) -> imaplib.IMAP4:
    box = imaplib.IMAP4("127.0.0.1", playground.base + 143, timeout=60)
    box.login(f"{name}@example.test", playground.password(name))
    box.select()
    return box


def test_a_note_is_delivered_on_request(playground: Playground, person: Callable[..., Page], complaints: Complaints) -> None:
    """Catches a reader that does not tell own notes from mail, a button that does nothing, and an administrator's list without them."""
    for name in ("alice", "bob"):
        box = inbox(playground, name)
        note = f"From: {name}@example.test\r\nSubject: {SUBJECT}\r\n\r\nThe cherry trees first.\r\n"
        assert box.append("INBOX", "", "", note.encode())[0] == "OK"
        box.logout()
    alice = person("alice")
    alice.goto(f"{playground.url}/mail")
    alice.get_by_text(SUBJECT).click()
    expect(alice.get_by_text("it did not arrive by mail")).to_be_visible()
    alice.get_by_role("button", name="Deliver it to alice@example.test").click()
    expect(alice.get_by_text("is on the way to alice@example.test")).to_be_visible()
    box = inbox(playground, "alice")
    until(lambda: box.noop()[0] == "OK" and box.search(None, "SUBJECT", '"spring meeting"')[1] == [b""], "it went home")
    box.logout()

    admin = person("admin", phone=True, dark=True)
    admin.goto(f"{playground.url}/queue")
    admin.get_by_role("link", name="Mail without an envelope").click()
    line = admin.get_by_role("row").filter(has_text="bob@example.test")
    expect(line).to_contain_text("would go to bob@example.test")
    button = admin.get_by_role("button", name="Deliver the ticked ones")
    expect(button).to_be_disabled()
    line.get_by_role("checkbox").check()
    button.click()
    expect(admin.get_by_text("is on the way to bob@example.test")).to_be_visible()
    assert complaints == []
