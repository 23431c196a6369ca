"""The key paper as it is printed (L12): its QR codes are read by another program, and what that read opens the archive."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page

from hornetmail.archive.keys import paper
from hornetmail.archive.keys.keyring import Keyring
from tests.browser.conftest import Complaints, Playground

WORD = "paper-secret-1"
READER = Path(__file__).parents[2] / "etc" / "read_archive.py"


def scanned(page: Page, into: Path) -> list[str]:
    """What zbarimg reads from a picture of each sheet, as a phone would."""
    read = []
    for number, sheet in enumerate(page.locator("section").all()):
        picture = into / f"sheet{number}.png"
        sheet.screenshot(path=picture)
        command = ["zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", str(picture)]
        read.append(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    return read


def ask_for_paper(admin: Page, playground: Playground, parts: int, need: int) -> Page:
    """The page to print, in its own tab."""
    admin.goto(f"{playground.url}/archive-key")
    admin.get_by_label("Password for the backup").fill(WORD)
    admin.locator("#again").fill(WORD)
    admin.locator("#parts").fill(str(parts))
    admin.locator("#need").fill(str(need))
    with admin.expect_popup() as opened:
        admin.get_by_role("button", name="Show to print").click()
    opened.value.wait_for_load_state()
    return opened.value


def test_the_printed_codes_open_the_archive(
    playground: Playground, person: Callable[..., Page], complaints: Complaints, tmp_path: Path
) -> None:
    """Catches a code that no scanner reads, that holds something else than the paper, or a page that its own policy spoils; whole and in parts."""
    playground.send("carol@outside.test", "alice@example.test", "Key paper", "text")
    admin = person("admin")
    keyring = (playground.root / "data" / "archive" / "keyring").read_bytes()
    page = ask_for_paper(admin, playground, 1, 1)
    (whole,) = scanned(page, tmp_path)
    assert Keyring.from_bytes(keyring, paper.restore(whole, WORD)).database_key()
    shown = page.locator("pre").inner_text()
    assert paper.restore(shown, WORD) == paper.restore(whole, WORD)
    page.pdf(path=tmp_path / "whole.pdf", prefer_css_page_size=True)
    assert (tmp_path / "whole.pdf").read_bytes().count(b"/Type /Page\n") == 1

    page = ask_for_paper(admin, playground, 3, 2)
    codes = scanned(page, tmp_path)
    assert len(codes) == 3
    assert Keyring.from_bytes(keyring, paper.restore(codes[2] + codes[0], WORD)).database_key()
    page.pdf(path=tmp_path / "parts.pdf", prefer_css_page_size=True)
    assert (tmp_path / "parts.pdf").read_bytes().count(b"/Type /Page\n") == 3
    assert complaints == []

    text = tmp_path / "scanned.txt"
    text.write_text(whole)
    medium = playground.root / "data" / "archive" / "medium"
    listed = subprocess.run(
        [sys.executable, READER, "list", medium, "--paper", text],
        env={**os.environ, "HORNETMAIL_KEY_PASSWORD": WORD},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert listed.returncode == 0, listed.stderr


def test_the_command_writes_the_same_page(playground: Playground, chromium: Browser, tmp_path: Path) -> None:
    """Catches a page of the command line that needs the service to be looked at."""
    file = tmp_path / "key.html"
    config = playground.root / "data" / "hornetmail.toml"
    command = [sys.executable, "-m", "hornetmail.cli", "-c", config, "archive", "key", "backup", file]
    subprocess.run(
        [*command, "--parts", "2", "--need", "2", "--password-stdin"], input=WORD + "\n", text=True, check=True, timeout=120
    )
    context = chromium.new_context(offline=True)
    try:
        page = context.new_page()
        page.goto(file.as_uri())
        codes = scanned(page, tmp_path)
    finally:
        context.close()
    assert Keyring.from_bytes(
        (playground.root / "data" / "archive" / "keyring").read_bytes(), paper.restore("".join(codes), WORD)
    ).database_key()
