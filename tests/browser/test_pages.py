"""Every page in a real browser, by the people whose page it is: on a desk and on a phone, light and dark, with long names in it, by keyboard and without scripts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.web.test_every_page import CONTENT, PAGES

from .conftest import Complaints, Playground
from .test_outage import reload_until

LONG = "an-exceedingly-long-domain-name-of-one-of-the-customers.of-a-provider.example.test"
SUBJECT = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
LEGIBLE = (Path(__file__).parent / "legible.js").read_text()

WHOSE = {
    "admin": [page for page, (_, whose) in PAGES.items() if "admin" in whose],
    "auditor": ["/audit", "/retention", "/approvals", "/archive", "/archive/<number>"],
}
WHOSE["alice"] = ["/mail", "/mail/write", "/archive", "/archive/<number>", "/strays", "/account"]

LOOKS = {"a desk by day": (False, False), "a phone by night": (True, True)}
"""Both sizes and both themes: ``phone``, ``dark``."""


def command(playground: Playground, *arguments: str) -> None:
    line = [sys.executable, "-m", "hornetmail.cli", "-c", str(playground.root / "data/hornetmail.toml"), *arguments]
    done = subprocess.run(line, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def filled(playground: Playground) -> Iterator[Playground]:
    """Something on each page, with names that are as long as they come; the domain is in an emergency."""
    command(playground, "domain", "add", LONG)
    command(playground, "mailbox", "add", f"somebody.with.a.long.name@{LONG}", "--role", "revisor")
    command(playground, "domain", "mode", "example.test", "emergency")
    sender = f"a.sender.with.a.local.part.that.goes.on.and.on@{'-'.join(['long'] * 10)}.example.test"
    playground.send(sender, "alice@example.test", "outage", SUBJECT)
    playground.send(sender, "alice@example.test", SUBJECT.encode("ascii", "replace").decode(), "x" * 300)
    command(playground, "archive", "hold", "add", f"case {SUBJECT}", "--query", "from:nobody@example.test", "--reason", SUBJECT)
    command(playground, "archive", "medium", "add", "directory", str(playground.root / SUBJECT))
    command(playground, "archive", "backup", "now")
    command(playground, "jobs", "run", "statistics")
    yield playground
    command(playground, "domain", "mode", "example.test", "normal")


def addresses(page: Page, playground: Playground, names: list[str]) -> list[str]:
    """Of the pages, one each; of what is listed, the first."""
    found = []
    for name in names:
        path = PAGES[name][0]
        if name in ("/queue/<number>", "/archive/<number>"):
            listed = name.partition("/<")[0]
            link = page.locator(f"main a.cover[href^='{listed}/']")
            page.goto(playground.url + (f"{listed}?q=outage" if listed == "/archive" else listed))
            reload_until(page, lambda link=link: link.count() > 0, name)  # type: ignore[misc]
            path = str(link.first.get_attribute("href"))
        found.append(path)
    return [*found, f"/domains/{LONG}", f"/mailboxes/somebody.with.a.long.name@{LONG}"] if "/queue" in names else found


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", WHOSE)
def test_every_page_opens_fits_and_can_be_read(
    filled: Playground, person: Callable[..., Page], complaints: Complaints, name: str, look: str
) -> None:
    """Catches a page that fails, scrolls sideways, complains in the console, has a control without a name, an id twice, no heading, or text that hardly stands out."""
    phone, dark = LOOKS[look]
    page = person(name, phone=phone, dark=dark)
    faults = []
    for path in addresses(page, filled, WHOSE[name]):
        answer = page.goto(filled.url + path)
        assert answer is not None
        faults += [f"{path}: {answer.status}"] if answer.status != 200 else []
        wide, seen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        faults += [f"{path}: {wide} px in {seen}"] if wide > seen else []
        faults += [f"{path}: {one}" for one in page.evaluate(LEGIBLE)]
    assert not faults
    assert not complaints


@pytest.mark.parametrize("path", ["/login", "/restore", "/no-such-page"])
def test_strangers_pages_can_be_read(filled: Playground, chromium: Browser, path: str) -> None:
    """Catches the same on the pages before the log-in."""
    for phone, dark in LOOKS.values():
        page = chromium.new_page(
            viewport={"width": 390 if phone else 1280, "height": 800}, color_scheme="dark" if dark else "light"
        )
        page.goto(filled.url + path)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert page.evaluate(LEGIBLE) == []
        page.close()


@pytest.fixture
def plain(filled: Playground, chromium: Browser) -> Iterator[Callable[[str], Page]]:
    """Somebody whose browser runs no scripts."""
    contexts: list[BrowserContext] = []

    def log_in(name: str) -> Page:
        contexts.append(chromium.new_context(java_script_enabled=False))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{filled.url}/login")
        page.get_by_label("Mail address").fill(f"{name}@example.test")
        page.get_by_label("Password", exact=True).fill(filled.password(name))
        page.get_by_role("button", name="Log in").click()
        return page

    yield log_in
    for context in contexts:
        context.close()


def test_dialogs_without_scripts(filled: Playground, plain: Callable[[str], Page]) -> None:
    """Catches a button that does nothing without scripts ("every page works without it", app.js): each that asks first must ask, and let go again."""
    admin = plain("admin")
    asked = 0
    for path in addresses(admin, filled, WHOSE["admin"]):
        admin.goto(filled.url + path)
        for opener in admin.locator("button[data-dialog]:visible").all():
            dialog = admin.locator(f"dialog[id='{opener.get_attribute('data-dialog')}']")
            opener.click()
            expect(dialog).to_be_visible()
            dialog.get_by_role("button", name="Cancel").click()
            expect(dialog).not_to_be_visible()
            asked += 1
    assert asked >= 5


def test_an_outage_without_scripts(filled: Playground, plain: Callable[[str], Page]) -> None:
    """Catches a switch, a filter or a hold that needs scripts."""
    admin = plain("admin")
    admin.locator("article", has_text="example.test").get_by_role("button", name="Back to normal").first.click()
    expect(admin.get_by_role("heading", name="Take example.test back to normal?")).to_be_visible()
    admin.get_by_role("link", name="Cancel").click()
    admin.goto(f"{filled.url}/mailboxes")
    admin.get_by_label("Domain", exact=True).select_option(LONG)
    admin.get_by_role("button", name="Show").click()
    expect(admin.get_by_text("1 mailbox", exact=True)).to_be_visible()
    admin.goto(f"{filled.url}/retention")
    case = admin.locator("tr", has_text=f"case {SUBJECT}")
    case.get_by_role("button", name="Release").first.click()
    case.get_by_role("dialog").get_by_role("button", name="Release").click()
    expect(case.get_by_text("released")).to_be_visible()


def test_content_is_never_a_page_of_its_own(filled: Playground, person: Callable[..., Page]) -> None:
    """Catches HTML of a mail that a browser would show with the rights of the site: what is inside of mails comes with a policy that runs nothing."""
    alice = person("alice")
    (number,) = addresses(alice, filled, ["/archive/<number>"])
    opened = {
        path: alice.request.get(f"{filled.url}{number}/{path.rpartition('/')[2]}")
        for path in sorted(CONTENT)
        if path.startswith("/archive")
    }
    answers: dict[str, Any] = {path: answer.headers for path, answer in opened.items()}
    for path, headers in answers.items():
        policy = headers["content-security-policy"]
        assert "sandbox" in policy or "default-src 'none'" in policy, path
        assert headers["x-content-type-options"] == "nosniff", path
