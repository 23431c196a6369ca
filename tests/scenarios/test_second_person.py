"""The second person (rule 15) with the real service: command line, HTTP, the panel's pages and IMAP, over a restart."""

from __future__ import annotations

import base64
import http.cookiejar
import imaplib
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.installation import Failed, Installation
from tests.peers.waiting import until

PASSWORD = "a-good-secret-1"
ADA, OTTO, ALICE, BOB = (f"{name}@office.test" for name in ("ada", "otto", "alice", "bob"))
MAIL = b"From: <x@outside.test>\r\nTo: <%s>\r\nSubject: wages\r\nMessage-ID: <%s>\r\n\r\nThe text of letter.\r\n"


class Office:
    """A domain whose mail server is the portal, an administrator, an auditor and two users with a mail each."""

    def __init__(self, hornet: Installation) -> None:
        self.hornet = hornet
        self.passwords = dict.fromkeys((ADA, OTTO, ALICE, BOB), PASSWORD)

    def say(self, *words: str, person: str = "", stdin: str = "") -> str:
        """``hornetmail [--as PERSON] WORDS``."""
        named = ("--as", person) if person else ()
        return self.hornet.command(*named, *words, password=self.passwords.get(person, ""), stdin=stdin)

    def refused(self, *words: str, person: str = "") -> str:
        """What it says on standard error, in one line with exit code 1."""
        with pytest.raises(Failed) as caught:
            self.say(*words, person=person)
        assert caught.value.code == 1
        assert "\n" not in caught.value.error
        return caught.value.error

    def http(self, method: str, path: str, person: str, body: object = None) -> Any:
        """The API over HTTP. Raises urllib.error.HTTPError."""
        url = f"http://127.0.0.1:{self.hornet.port(80)}/api/v1{path}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url, data, method=method)
        login = f"{person}:{self.passwords[person]}".encode()
        request.add_header("Authorization", "Basic " + base64.b64encode(login).decode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def page(self, path: str, person: str, **fields: str) -> str:
        """A page of the panel, after a log-in with the form; with ``fields``, the page that follows when they are sent to ``path``."""
        root = f"http://127.0.0.1:{self.hornet.port(80)}"
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        form = browser.open(f"{root}/login", timeout=60).read().decode()
        token = re.search(r'name="csrf" value="([^"]+)"', form)
        assert token

        def send(where: str, values: dict[str, str], csrf: str) -> str:
            body = urllib.parse.urlencode({"csrf": csrf, **values}).encode()
            with browser.open(urllib.request.Request(root + where, body, {"Origin": root}), timeout=60) as answer:
                text: str = answer.read().decode()
                return text

        first = send("/login", {"user": person, "password": self.passwords[person]}, token[1])
        if fields:
            token = re.search(r'name="csrf" value="([^"]+)"', first)
            assert token
            return send(path, fields, token[1])
        with browser.open(root + path, timeout=60) as answer:
            page: str = answer.read().decode()
            return page

    def inbox(self, address: str) -> int:
        """Log in over IMAP and count."""
        box = imaplib.IMAP4("127.0.0.1", self.hornet.port(143), timeout=60)
        box.login(address, self.passwords[address])
        _, count = box.select(readonly=True)
        box.logout()
        assert count[0]
        return int(count[0])

    def found(self, person: str) -> int:
        """How much of the archive somebody finds."""
        return int(json.loads(self.say("archive", "search", "--json", person=person))["total"])

    def waiting(self) -> list[Any]:
        """What waits, with numbers."""
        listed: list[Any] = json.loads(self.say("approvals", "list", "--json"))["requests"]
        return listed


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    """It runs, and the archive has both mails."""
    hornet = Installation()
    made = Office(hornet)
    try:
        hornet.set(seal_seconds=1)
        hornet.start()
        hornet.add_domain("office.test", None)
        hornet.add_mailbox(ADA, PASSWORD, "--role", "admin")
        for address in (ALICE, BOB):
            hornet.add_mailbox(address, PASSWORD)
            hornet.send("x@outside.test", [address], MAIL % (address.encode(), address.encode()))
        until(lambda: made.found(ALICE) == made.found(BOB) == 1, "both are archived", every=0.2)
        yield made
    finally:
        hornet.close()


def test_second_person(office: Office) -> None:
    """Turned on with two who can approve; roles and archive access wait for the right person, over a restart; off waits too."""
    assert "at least two people" in office.refused("second-person", "on", person=ADA)
    office.hornet.add_mailbox(OTTO, PASSWORD, "--role", "auditor")
    assert f"could approve  {ADA} {OTTO}" in office.say("second-person", "on", person=ADA)

    said = office.say("mailbox", "change", BOB, "--role", "auditor", person=ADA)
    assert f"waits for a second person, request 1: give {BOB} the role auditor" in said
    assert "may not" in office.refused("audit", person=BOB)
    assert office.found(BOB) == 1
    assert "you asked for it yourself" in office.refused("approvals", "approve", "1", person=ADA)
    assert "--as ADDRESS" in office.refused("approvals", "approve", "1")
    assert "may not" in office.refused("approvals", "approve", "1", person=BOB)
    assert office.hornet.stop() == 0
    office.hornet.start()
    (waiting,) = office.http("GET", "/approvals", OTTO)["requests"]
    assert (waiting["number"], waiting["by"], waiting["obstacle"]) == (1, ADA, "")
    assert office.http("POST", "/approvals/1/approve", OTTO, {})["state"] == "approved"
    assert "mailbox.change" in office.say("audit", person=BOB)
    assert office.found(BOB) == 2
    with pytest.raises(urllib.error.HTTPError) as twice:
        office.http("POST", "/approvals/1/approve", OTTO, {})
    assert twice.value.code == 409
    twice.value.close()

    office.say("mailbox", "change", BOB, "--no-roles", person=ADA)
    assert "may not" in office.refused("audit", person=BOB)
    assert office.waiting() == []


def test_password_reset(office: Office) -> None:
    """After an administrator's reset: mail works, every door to the archive says why it is shut, and a second person opens it."""
    office.passwords[ALICE] = "known-to-ada-1"
    said = office.say("mailbox", "passwd", ALICE, "--password-stdin", person=ADA, stdin="known-to-ada-1\n")
    assert f"{ALICE} has a new password" in said
    assert "waits for a second person" in said
    assert office.inbox(ALICE) == 1
    why = f"The archive is closed to {ALICE} until a second person approves, because an administrator set its password."
    assert why in office.refused("archive", "search", person=ALICE)
    assert why in office.refused("archive", "search", "--own", person=ALICE)
    identifier = json.loads(office.say("archive", "search", "--json", f"to:{ALICE}", person=OTTO))["results"][0]["id"]
    assert why in office.refused("archive", "export", identifier, person=ALICE)
    assert why in office.refused("archive", "redeliver", identifier, person=ALICE)
    assert why in office.refused("archive", "redeliver", identifier, "--to", ALICE, person=ADA)
    with pytest.raises(urllib.error.HTTPError) as shut:
        office.http("GET", "/archive", ALICE)
    assert (shut.value.code, json.load(shut.value)["error"]["code"]) == (403, "suspended")
    shut.value.close()
    for path in ("/archive", "/archive?own=1", "/account"):
        page = office.page(path, ALICE)
        assert why in page
        assert "wages" not in page
    assert "INBOX" in office.page("/mail", ALICE)
    (waiting,) = office.waiting()
    assert waiting["kind"] == "archive_access"
    assert office.page("/approvals", OTTO).count(f"/approvals/{waiting['number']}/approve") == 1
    assert f"/approvals/{waiting['number']}/approve" not in office.page("/approvals", ADA)
    assert f"done: open the archive to {ALICE} again" in office.say("approvals", "approve", str(waiting["number"]), person=OTTO)
    assert office.found(ALICE) == 1
    assert "wages" in office.page("/archive", ALICE)


def test_forms(office: Office) -> None:
    """The panel's own forms: what waits is told where it was asked, refused with a reason, asked anew, and approved with a button."""
    said = office.page(
        f"/mailboxes/{BOB}", ADA, name="Bob", role="dataofficer", aliases="", enabled="on", picked="on", archive="on"
    )
    assert "Saved, except for what waits for a second person." in said
    assert f"Waits for a second person: give {BOB} the role dataofficer." in said
    assert "requests wait for your approval" not in office.page("/mail", ADA)
    assert "1 request waits for your approval." in office.page("/mail", OTTO)
    number = office.waiting()[0]["number"]
    assert "you asked for it yourself" in office.page(f"/approvals/{number}/approve", ADA, once="1")
    assert "another role" in _refused(office, f"/approvals/{number}/approve", BOB)
    assert "Refused: give" in office.page(f"/approvals/{number}/refuse", OTTO, reason="not him")
    assert "not him" in office.page("/approvals", ADA)
    assert "decided already: refused" in office.page(f"/approvals/{number}/approve", OTTO, once="1")
    said = office.page(f"/mailboxes/{BOB}/password", ADA, password=PASSWORD)
    assert f"The archive is closed to {BOB} until a second person approves" in said
    number = office.waiting()[0]["number"]
    office.page(f"/approvals/{number}/refuse", OTTO, reason="")
    assert "Ask for approval" in office.page(f"/mailboxes/{BOB}", ADA)
    assert "This waits for a second person: open the archive" in office.page(f"/mailboxes/{BOB}/archive-access", ADA, once="1")
    number = office.waiting()[0]["number"]
    assert "Approved and done: open the archive" in office.page(f"/approvals/{number}/approve", OTTO, once="1")
    assert office.found(BOB) == 1
    assert "1 day<" in office.page("/approvals/setting", ADA, days="1")


def _refused(office: Office, path: str, person: str) -> str:
    with pytest.raises(urllib.error.HTTPError) as caught:
        office.page(path, person, once="1")
    assert caught.value.code == 403
    with caught.value as answer:
        return answer.read().decode()


def test_root_needs_a_person_and_off_needs_approval(office: Office) -> None:
    """The local administrator asks and one person approves; turning it off waits; then everything is as before."""
    office.say("mailbox", "change", BOB, "--role", "revisor")
    (waiting,) = office.waiting()
    assert waiting["by"] == "local administrator"
    office.say("approvals", "approve", str(waiting["number"]), person=ADA)
    assert json.loads(office.say("mailbox", "list", "--json"))["mailboxes"]
    off = json.loads(office.say("second-person", "off", "--json", person=ADA))
    assert off["on"]
    assert "you asked for it yourself" in office.refused("approvals", "approve", str(off["waits"][0]["number"]), person=ADA)
    office.say("approvals", "approve", str(off["waits"][0]["number"]), person=OTTO)
    assert not json.loads(office.say("second-person", "--json"))["on"]
    assert "waits" not in office.say("mailbox", "change", BOB, "--role", "auditor", person=ADA)
    assert "mailbox.change" in office.say("audit", person=BOB)
    entries = json.loads(office.say("audit", "--json", "--limit", "100"))["entries"]
    numbers = {one["number"] for one in entries}
    done = [one for one in entries if one["result"].startswith("done: request")]
    assert len(done) == 5
    for one in done:
        assert {int(number) for number in re.findall(r"entry (\d+)", one["result"])} <= numbers
