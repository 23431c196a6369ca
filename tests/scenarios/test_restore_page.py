"""A restore from the browser under attack (A11): strangers who guess, pages from before a restart, wrong places, two at once, and what comes in the last moment."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from hornetmail.cli.client import Client
from tests.peers.installation import Installation
from tests.peers.waiting import until
from tests.scenarios.test_root_key import archive_some, installed, key_command
from tests.scenarios.test_test_to_production import found

PASSWORD = "paper-secret-9"
GUESSES = 50


@pytest.fixture
def houses() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Browser:
    """Knows the page of one installation."""

    def __init__(self, hornet: Installation) -> None:
        self.hornet = hornet
        self.url = f"http://127.0.0.1:{hornet.port(80)}/restore"
        until(lambda: "give the token" in hornet.log(), "the token is in the log")
        self.token = str(re.findall(r"this installation is empty: .* give the token ([0-9a-f]{32})", hornet.log())[-1])

    def post(self, **fields: str) -> tuple[int, str]:
        """Status and page."""
        data = urlencode({"token": self.token, **fields}).encode()
        try:
            with urlopen(Request(self.url, data=data), timeout=60) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def look(self, place: Path, text: str, password: str = PASSWORD) -> tuple[int, str]:
        return self.post(kind="directory", place=str(place), text=text, password=password)

    def state(self, token: str) -> dict[str, object]:
        """Phase, lines and problem; nothing while the doors change hands."""
        try:
            with urlopen(Request(f"{self.url}/state", headers={"Cookie": f"hornetmail-restore={token}"}), timeout=60) as answer:
                said: dict[str, object] = json.loads(answer.read())
                return said
        except (URLError, ConnectionError):
            return {}


def test_under_attack(houses: ExitStack) -> None:
    """Catches a page that wrong tokens shut for whoever has the right one; a place that is taken though it is another installation's, or half of one; two restores at once; and
    what was set up in the moment before the service had given way, put aside."""
    old = installed()
    houses.callback(old.close)
    key_command(old, "backup", str(old.root / "key.txt"))
    archive_some(old, "early")
    old.command("archive", "backup", "now", "--full")
    old.command("archive", "mirror", "set", str(old.root / "mirror"))
    old.command("archive", "mirror", "now")
    before = found(old, "early")
    assert len(before) == 6
    assert old.stop() == 0
    text, mirror = (old.root / "key.txt").read_text(), old.root / "mirror"

    there = Installation()
    houses.callback(there.close)
    there.set(seal_seconds=1)
    there.start()
    browser = Browser(there)
    for n in range(GUESSES):
        assert browser.post(token=f"{n:032x}", action="begin")[0] == 403
        assert browser.state(f"{n:032x}") == {"phase": "open", "lines": [], "problem": ""}

    status, page = browser.post(action="begin")
    assert (status, "nothing was looked at yet" in page) == (409, True)
    own = there.dir / "archive" / "medium"
    for place, password, wanted in (
        (own, PASSWORD, "the keyring belongs to root key"),
        (mirror, "wrong", "the password does not open key"),
        (mirror / "packs", PASSWORD, "neither a medium nor a mirror"),
        (there.dir / "nowhere", PASSWORD, "No such file"),
    ):
        status, page = browser.look(place, text, password)
        assert status == 409, (place, page)
        assert wanted in page, (place, re.findall(r'role="alert">.*', page))
    half = old.root / "half"
    shutil.copytree(mirror, half)
    (half / "keyring").unlink()
    assert browser.look(half, text)[0] == 409
    assert not (there.dir / "restoring").exists()

    # Somebody sets it up in the half second that the answer gets.
    assert "This is what is there" in browser.look(mirror, text)[1]
    status, page = browser.post(action="begin")
    assert (status, "It is being restored" in page) == (200, True)
    client = Client(there.dir / "hornetmail.sock")
    client.call("POST", "domains", name="new.test")
    until(lambda: "the restore was not begun" in there.log(), "it is not restored")
    until(there.healthy, "the service is back")
    assert [one["name"] for one in there.json("domain", "list")["domains"]] == ["new.test"]
    assert browser.state(browser.token)["phase"] == "closed"
    there.command("domain", "remove", "new.test")

    # Twice at once.
    assert "This is what is there" in browser.look(mirror, text)[1]
    with ThreadPoolExecutor(2) as pool:
        answers = sorted(one.result()[0] for one in [pool.submit(browser.post, action="begin") for _ in range(2)])
    assert answers == [200, 409]
    until(lambda: browser.state(browser.token).get("phase") == "done", "it is restored", seconds=120)
    until(there.healthy, "the service is back")
    assert there.log().count("the service gives way to a restore") == 2
    assert found(there, "early") == before
    assert there.stop() == 0
