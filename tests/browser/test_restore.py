"""A restore from the browser (A11): a real, empty installation, its page, and what runs on it afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.peers.installation import Installation
from tests.peers.waiting import until
from tests.scenarios.test_root_key import archive_some, installed, key_command
from tests.scenarios.test_test_to_production import found

PASSWORD = "paper-secret-9"


@pytest.fixture
def houses() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def filled(houses: ExitStack, lost: bool = False) -> tuple[Installation, str, list[str]]:
    """An installation with mail, a backup and a mirror, then stopped (``lost``: without a word); its mirror, and its paper in parts."""
    hornet = installed()
    houses.callback(hornet.close)
    key_command(hornet, "backup", str(hornet.root / "key.txt"), "--parts", "3", "--need", "2")
    archive_some(hornet, "early")
    hornet.command("archive", "backup", "now", "--full")
    archive_some(hornet, "late")
    hornet.command("archive", "mirror", "set", str(hornet.root / "mirror"))
    hornet.command("archive", "mirror", "now")
    before = [*found(hornet, "early"), *found(hornet, "late")]
    assert len(before) == 12
    if lost:
        hornet.stop(kill=True)
    else:
        assert hornet.stop() == 0
    parts = "\n".join((hornet.root / f"key-{n}.txt").read_text() for n in (3, 1))
    return hornet, parts, before


def token_of(hornet: Installation) -> str:
    said = re.findall(r"this installation is empty: .* give the token ([0-9a-f]{32})", hornet.log())
    assert said
    return str(said[-1])


def fill(page: Page, token: str, place: str, text: str, password: str = PASSWORD) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_label("Place of the medium or mirror").fill(place)
    page.get_by_label("The archive key's paper").fill(text)
    page.get_by_label("Password of the paper").fill(password)
    page.get_by_role("button", name="Look what is there").click()


def test_into_an_empty_installation(houses: ExitStack, chromium: Browser) -> None:
    """Catches a restore that anybody may begin, one that says nothing of what is wrong, or loses mail, people or rights; a service that does not come
    back by itself; and a second restore over what came back."""
    old, parts, before = filled(houses)
    there = Installation()
    houses.callback(there.close)
    there.set(seal_seconds=1)
    there.start()
    process = there.process
    url = f"http://127.0.0.1:{there.port(80)}"
    page = chromium.new_context().new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{url}/login")
    page.get_by_role("link", name="restore from a backup").click()
    mirror = str(old.root / "mirror")

    fill(page, "0" * 32, mirror, parts)
    expect(page.get_by_role("alert")).to_contain_text("not the token that stands in the log")
    token = token_of(there)
    fill(page, token, mirror, parts.replace("1  ", "1  Z", 1))
    expect(page.get_by_role("alert")).to_contain_text(re.compile("paper 1 of 2 in this text: line 1"))
    fill(page, token, mirror, parts, "other-secret")
    expect(page.get_by_role("alert")).to_contain_text("the password does not open key")
    fill(page, token, str(old.root / "nowhere"), parts)
    expect(page.get_by_role("alert")).to_contain_text("nowhere")
    assert not Path(there.dir / "restoring").exists()

    fill(page, token, mirror, parts)
    expect(page.get_by_role("heading", name="This is what is there")).to_be_visible()
    expect(page.get_by_text("The mirror of archive")).to_be_visible()
    assert page.get_by_label("Backup of people and settings").locator("option").count() >= 1
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("heading", name="It is done")).to_be_visible(timeout=120_000)
    expect(page.locator("#lines")).to_contain_text("12 mails on medium 1")
    until(there.healthy, "the service is back")
    assert there.process is process
    assert [*found(there, "early"), *found(there, "late")] == before
    page.get_by_role("link", name="Log in").click()
    assert page.get_by_role("link", name="restore from a backup").count() == 0
    there.send("a@outside.test", ["alice@example.test"], b"Subject: after\r\n\r\nafter\r\n")
    until(lambda: len(found(there, "after")) == 1, "it goes on")

    stranger = chromium.new_context().new_page()
    stranger.goto(f"{url}/restore")
    assert stranger.get_by_text("12 mails").count() == 0
    assert there.stop() == 0
    there.start()
    stranger.goto(f"{url}/restore")
    expect(stranger.get_by_text("This installation is not empty")).to_be_visible()
    assert there.json("archive", "verify", "--full")["ok"]
    for secret in (PASSWORD, "alice-secret-1"):
        assert secret not in there.log()


def test_a_restore_that_cannot_go_on(houses: ExitStack, chromium: Browser) -> None:
    """Catches a failure that ends the service, or that leaves it neither restored nor as it was; and one after which the page takes no other try."""
    old, parts, before = filled(houses)
    mirror, away = old.root / "mirror", old.root / "away"
    there = Installation()
    houses.callback(there.close)
    there.set(seal_seconds=1)
    there.start()
    url = f"http://127.0.0.1:{there.port(80)}"
    page = chromium.new_context().new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{url}/restore")
    fill(page, token_of(there), str(mirror), parts)
    mirror.rename(away)
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("alert")).to_contain_text("mirror: No such file or directory", timeout=60_000)
    until(there.healthy, "the service is as it was")
    assert there.status()["archive"]["mails"] == 0

    away.rename(mirror)
    in_the_way = there.dir / "hornetmail.toml.from-backup"
    in_the_way.mkdir()
    page.goto(f"{url}/restore")
    fill(page, token_of(there), str(mirror), parts)
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("alert")).to_contain_text(in_the_way.name, timeout=60_000)
    assert (there.dir / "restoring").exists()
    in_the_way.rmdir()
    fill(page, token_of(there), str(mirror), parts)
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("heading", name="It is done")).to_be_visible(timeout=120_000)
    until(there.healthy, "the service is back")
    assert [*found(there, "early"), *found(there, "late")] == before
    assert there.stop() == 0


def test_a_medium_whose_installation_is_lost(houses: ExitStack, chromium: Browser) -> None:
    """ADR 38: catches a medium that is taken from an installation which may still run, without a word; a box that changes nothing; and one that is forgotten between looking and restoring."""
    old, parts, before = filled(houses, lost=True)
    there = Installation()
    houses.callback(there.close)
    there.set(seal_seconds=1)
    there.start()
    page = chromium.new_context().new_page()
    page.set_default_timeout(60_000)
    page.goto(f"http://127.0.0.1:{there.port(80)}/restore")
    medium = str(old.dir / "archive" / "medium")
    writers = Path(medium) / "medium"
    mark = json.loads(writers.read_bytes())["writers"]
    fill(page, token_of(there), medium, parts)
    expect(page.get_by_role("alert")).to_contain_text("another installation writes to medium 1")
    expect(page.get_by_role("alert")).to_contain_text(str(old.dir))
    assert json.loads(writers.read_bytes())["writers"] == mark, "nothing is taken by looking"
    page.get_by_label("The old installation is lost for good").check()
    fill(page, token_of(there), medium, parts, "other-secret")
    expect(page.get_by_role("alert")).to_contain_text("the password does not open key")
    expect(page.get_by_label("The old installation is lost for good")).to_be_checked()
    fill(page, token_of(there), medium, parts)
    expect(page.get_by_role("heading", name="This is what is there")).to_be_visible()
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("heading", name="It is done")).to_be_visible(timeout=120_000)
    until(there.healthy, "the service is back")
    assert [*found(there, "early"), *found(there, "late")] == before
    assert str(there.dir) in json.loads(writers.read_bytes())["writers"]["0"]["where"]
    archive_some(there, "after")
    assert there.json("archive", "verify", "--full")["ok"]
    assert there.stop() == 0
