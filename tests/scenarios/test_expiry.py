"""Rule 24 against the real service: what an emergency left in portal folders goes after its time, announced, and stays in the archive.

The days are seconds here: the domain's by the command line, those of the announcements by the configuration.
"""

from __future__ import annotations

import base64
import email
import hashlib
import http.client
import imaplib
import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.installation import Installation
from tests.peers.scripted import ScriptedServer
from tests.peers.waiting import until

DAY = 86_400
PASSWORD = "a-good-secret-1"
ALICE, ZOE, BOSS = "alice@folders.test", "zoe@portal.test", "boss@folders.test"


class House:
    """The service, its primary, and what people do."""

    def __init__(self, hornet: Installation, primary: ScriptedServer) -> None:
        self.hornet = hornet
        self.primary = primary

    def imap(self, address: str, folder: str = "INBOX") -> imaplib.IMAP4:
        box = imaplib.IMAP4("127.0.0.1", self.hornet.port(143), timeout=60)
        box.login(address, PASSWORD)
        assert box.select(folder)[0] == "OK"
        return box

    def count(self, address: str, folder: str) -> int:
        box = self.imap(address, folder)
        found = box.search(None, "ALL")[1][0].split()
        box.logout()
        return len(found)

    def api(self, path: str, login: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.hornet.port(80), timeout=60)
        basic = base64.b64encode(f"{login}:{PASSWORD}".encode()).decode()
        connection.request("GET", f"/api/v1{path}", headers={"Authorization": f"Basic {basic}"})
        with connection.getresponse() as answer:
            assert answer.status == 200
            found = json.loads(answer.read())
        connection.close()
        return found

    def webmail(self, login: str) -> str:
        """The first page after logging in on the web."""
        root = f"http://127.0.0.1:{self.hornet.port(80)}"
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        token = re.search(r'name="csrf" value="([^"]+)"', browser.open(f"{root}/login", timeout=60).read().decode())
        assert token is not None
        form = urllib.parse.urlencode({"csrf": token[1], "user": login, "password": PASSWORD}).encode()
        browser.open(urllib.request.Request(f"{root}/login", form, {"Origin": root}), timeout=60).close()
        page: str = browser.open(f"{root}/mail", timeout=60).read().decode()
        assert "Write" in page
        return page

    def announcements(self) -> list[str]:
        return [one.data.decode() for one in self.primary.to(ALICE) if b"emergency server is removed" in one.data]

    def audited(self) -> list[str]:
        entries = self.hornet.json("audit")["entries"]
        return [one["result"] for one in reversed(entries) if one["action"] == "portal.expire"]


@pytest.fixture
def house() -> Iterator[House]:
    primary = ScriptedServer()
    hornet = Installation()
    try:
        hornet.set(retry=1, seal_seconds=1, announce_days=f"[{8 / DAY}, {4 / DAY}]")
        hornet.start()
        hornet.add_domain("folders.test", primary.port, "--failover", "manual", "--portal-days", str(14 / DAY))
        hornet.add_domain("portal.test", None, "--portal-days", str(1 / DAY))
        for address in (ALICE, ZOE):
            hornet.add_mailbox(address, PASSWORD)
        hornet.add_mailbox(BOSS, PASSWORD, "--role", "admin")
        yield House(hornet, primary)
    finally:
        hornet.close()
        primary.stop()


def test_folders_expire(house: House) -> None:
    """Told twice at the usual address, with folders, counts and the date, which panel, webmail and API show; then gone from an open IMAP
    session, not from the archive. Mail in a domain without a primary stays."""
    hornet, primary = house.hornet, house.primary
    primary.stop()
    hornet.command("domain", "mode", "folders.test", "emergency")
    mails = [f"From: <x@out.test>\r\nSubject: plan {n}\r\n\r\nThe walrus plan {n}\r\n".encode() for n in range(3)]
    for data in mails:
        hornet.send("x@out.test", [ALICE], data)
    hornet.send("x@out.test", [ZOE], mails[0])
    until(lambda: (house.count(ALICE, "INBOX"), house.count(ZOE, "INBOX")) == (3, 1), "in the portal")
    for address, which in ((ALICE, b"1:2"), (ZOE, b"1")):
        box = house.imap(address)
        box.create("Projects")
        box.copy(which.decode(), "Projects")
        box.store(which.decode(), "+FLAGS", "\\Deleted")
        box.expunge()
        box.logout()
    watching = house.imap(ALICE, "Projects")
    assert watching.untagged_responses["EXISTS"] == [b"2"]
    primary.start()
    hornet.command("domain", "mode", "folders.test", "normal")
    until(lambda: hornet.mode("folders.test") == "normal", "the domain is back")
    assert "is removed on" not in house.webmail(ALICE)

    until(lambda: len(house.announcements()) == 1, "told the first time")
    until(lambda: house.api("/account", ALICE)["folders_expire"] > 0, "the date is known")
    due = house.api("/account", ALICE)["folders_expire"]
    shown = {one["address"]: one["folders_expire"] for one in hornet.json("mailbox", "list")["mailboxes"]}
    assert (shown[ALICE], shown[ZOE], shown[BOSS]) == (due, 0, 0)
    assert "is removed on" in house.webmail(ALICE)
    assert "is removed on" not in house.webmail(BOSS)
    told = email.message_from_string(house.announcements()[0])
    assert told["To"] == f"<{ALICE}>"
    assert "  Projects: 2 messages" in told.get_payload()
    assert house.count(ALICE, "Projects") == 2

    until(lambda: len(house.announcements()) == 2, "told the second time")
    until(lambda: house.count(ALICE, "Projects") == 0, "gone")
    assert watching.noop()[0] == "OK"
    assert watching.response("EXPUNGE")[1] == [b"2", b"1"]
    watching.logout()
    assert len(house.announcements()) == 2
    until(lambda: house.audited()[-1:] == ["done: 2 messages of 1 mailboxes expired, 0 announced"], "it is in the audit log")
    assert len(house.audited()) == 3
    assert house.api("/account", ALICE)["folders_expire"] == 0
    assert house.count(ZOE, "Projects") == 1

    hits = hornet.json("--as", ALICE, "archive", "search", "walrus", password=PASSWORD)["results"]
    target = hornet.root / "out.eml"
    digests = set()
    for hit in hits:
        hornet.command("--as", ALICE, "archive", "export", hit["id"], "--output", str(target), password=PASSWORD)
        digests.add(hashlib.sha256(target.read_bytes()).digest())
        target.unlink()
    assert digests == {hashlib.sha256(data).digest() for data in mails}
    assert hornet.stop() == 0
