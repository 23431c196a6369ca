"""Rule 10 against the real service: what people put into INBOX themselves stays there, is listed, and goes home if somebody chooses so.

The tests of this module are one story in order, told against one installation and one scripted primary.
"""

from __future__ import annotations

import base64
import imaplib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.installation import Failed, Installation
from tests.peers.scripted import HANG, ScriptedServer
from tests.peers.waiting import until

ALICE, BOB, BOSS = (f"{name}@strays.test" for name in ("alice", "bob", "boss"))
PASSWORD = "a-good-secret-1"
NOTE = "From: Älice <alice@strays.test>\r\nSubject: written here\r\n\r\n.a line with a dot\r\nGrüße\r\n".encode()


class Place:
    """The service, its primary, and what people do."""

    def __init__(self, hornet: Installation, primary: ScriptedServer) -> None:
        self.hornet = hornet
        self.primary = primary

    def imap(self, address: str = ALICE) -> imaplib.IMAP4:
        box = imaplib.IMAP4("127.0.0.1", self.hornet.port(143), timeout=60)
        box.login(address, PASSWORD)
        box.select()
        return box

    def append(self, data: bytes, address: str = ALICE) -> None:
        box = self.imap(address)
        assert box.append("INBOX", "", imaplib.Time2Internaldate(86_400 * 365), data)[0] == "OK"
        box.logout()

    def inbox(self, address: str = ALICE) -> list[bytes]:
        box = self.imap(address)
        _, found = box.fetch("1:*", "(BODY.PEEK[])") if box.search(None, "ALL")[1][0] else ("OK", [])
        box.logout()
        return [part[1] for part in found if isinstance(part, tuple)]

    def strays(self, whose: str = "", person: str = "") -> list[Any]:
        words = (*(("--as", person) if person else ()), "mailbox", "strays", *([whose] if whose else []))
        found: list[Any] = self.hornet.json(*words, password=PASSWORD if person else "")["messages"]
        return found

    def choose(self, address: str, *words: str, person: str = "") -> Any:
        words = (*(("--as", person) if person else ()), "mailbox", "drain", address, *words)
        return self.hornet.json(*words, password=PASSWORD if person else "")

    def api(self, method: str, path: str, login: str, body: Any = None) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.hornet.port(80)}/api/v1{path}", method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{login}:{PASSWORD}".encode()).decode())
        data = json.dumps(body).encode() if body is not None else None
        with urllib.request.urlopen(request, data, timeout=60) as answer:
            return json.loads(answer.read())

    def outage(self) -> None:
        self.primary.stop()
        self.hornet.command("domain", "mode", "strays.test", "emergency")

    def back(self) -> None:
        self.primary.start()
        self.hornet.command("domain", "mode", "strays.test", "normal")
        until(lambda: self.hornet.mode("strays.test") == "normal", "the domain is back")

    def drains(self) -> list[Any]:
        listed = self.hornet.json("queue", "list")["messages"]
        return [row for one in listed for row in one["rows"] if row["kind"] == "drain"]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """It runs, the domain is switched by hand, and attempts come again after a second."""
    primary = ScriptedServer()
    hornet = Installation()
    try:
        hornet.set(retry=1)
        hornet.start()
        hornet.add_domain("strays.test", primary.port, "--failover", "manual")
        hornet.add_domain("portal.test", None)
        for address in (ALICE, BOB, "zoe@portal.test"):
            hornet.add_mailbox(address, PASSWORD)
        hornet.add_mailbox(BOSS, PASSWORD, "--role", "admin")
        yield Place(hornet, primary)
    finally:
        hornet.close()
        primary.stop()


@pytest.fixture(autouse=True)
def alive(place: Place) -> Iterator[None]:
    """No chapter leaves a service behind that is not well."""
    yield
    assert place.hornet.healthy()


def test_stays_and_is_listed(place: Place) -> None:
    """Catches own notes that a drain takes along, and ones that nobody is told of."""
    place.outage()
    place.append(NOTE)
    addressed = b"From: <sender@outside.test>\r\nSubject: addressed\r\n\r\nhello\r\n"
    place.hornet.send("sender@outside.test", [ALICE], addressed)
    until(lambda: len(place.inbox()) == 2, "both are in INBOX")
    place.back()
    until(lambda: len(place.primary.to(ALICE)) == 1, "the addressed one is home")
    place.hornet.until_idle()
    assert place.primary.to(ALICE)[0].data.endswith(addressed)
    assert place.inbox() == [NOTE]
    (one,) = place.strays("strays.test")
    assert (one["mailbox"], one["from"], one["subject"]) == (ALICE, "Älice <alice@strays.test>", "written here")
    assert (one["to"], one["size"], one["chosen"], one["state"]) == (ALICE, len(NOTE), False, "")
    assert "no envelope" in one["why"]
    assert one["date"] < 40_000_000 < one["since"], "the client's date, and when it really came"
    assert place.strays(person=ALICE) == place.strays(ALICE) == place.strays() == [one]
    assert "stays; would go to alice@strays.test" in place.hornet.command("mailbox", "strays")
    assert place.strays(person=BOB) == []


def test_bystanders_cannot(place: Place) -> None:
    """Catches people who see or choose other people's mail, on the command line or over HTTP."""
    (one,) = place.strays(ALICE)
    for words in (("strays", ALICE), ("strays", "strays.test"), ("drain", ALICE, "--all"), ("drain", ALICE, "--id", one["id"])):
        with pytest.raises(Failed, match="of their own mailbox only"):
            place.hornet.command("--as", BOB, "mailbox", *words, password=PASSWORD)
    for method, path, body in (
        ("GET", f"/strays?address={urllib.parse.quote(ALICE)}", None),
        ("POST", "/strays/drain", {"address": ALICE, "all": True}),
    ):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            place.api(method, path, BOB, body)
    assert place.drains() == []
    assert place.inbox() == [NOTE]


def test_a_user_chooses(place: Place) -> None:
    """Catches a chosen message that arrives with another sender or other bytes, or stays in INBOX, or goes without those who look hearing."""
    watcher = place.imap()
    (one,) = place.api("GET", "/strays", ALICE)["messages"]
    answer = place.choose(ALICE, "--id", one["id"], person=ALICE)
    assert answer == {"chosen": 1, "already": 0, "again": 0, "gone": 0, "to": ALICE, "waits": False}
    until(lambda: len(place.primary.to(ALICE)) == 2, "it arrived")
    place.hornet.until_idle()
    mail = place.primary.to(ALICE)[1]
    assert (mail.sender, mail.recipients, mail.data) == ("", (ALICE,), NOTE)
    assert place.inbox() == place.strays() == []
    watcher.noop()
    assert watcher.response("EXPUNGE")[1] == [b"1"]
    watcher.logout()
    with pytest.raises(Failed, match="moved, deleted or delivered meanwhile"):
        place.choose(ALICE, "--id", one["id"], person=ALICE)


def test_an_administrator_chooses(place: Place) -> None:
    """Catches choices for others without a trace in the audit log, and mail for domains that have no primary to go to."""
    place.append(NOTE, BOB)
    place.append(NOTE.replace(b"written here", b"another"), BOB)
    assert place.choose(BOB, "--all", person=BOSS)["chosen"] == 2
    until(lambda: len(place.primary.to(BOB)) == 2, "both arrived")
    place.hornet.until_idle()
    assert place.inbox(BOB) == []
    entries = place.api("GET", "/audit", BOSS)["entries"]
    (row,) = [each for each in entries if each["actor"] == BOSS and each["action"] == "stray.drain"]
    assert (row["subject"], row["result"]) == (BOB, "done")
    assert '"all":true' in row["detail"]
    place.append(NOTE, "zoe@portal.test")
    with pytest.raises(Failed, match=r"portal\.test has no primary"):
        place.choose("zoe@portal.test", "--all")
    assert "portal.test has no primary" in place.hornet.command("mailbox", "strays", "portal.test")
    assert place.inbox("zoe@portal.test") == [NOTE]


def test_clients_hear_inuse_while_it_goes(place: Place) -> None:
    """Rule 10: between the claim and the primary's answer clients get NO [INUSE]; a hand-over that failed is made again."""
    before, seen = len(place.primary.to(ALICE)), place.primary.seen.get("DATA", 0)
    place.append(NOTE)
    place.primary.script = {"DATA": HANG}
    place.choose(ALICE, "--all", person=ALICE)
    until(lambda: place.primary.seen.get("DATA", 0) > seen, "the hand-over is under way")
    box = place.imap()
    kind, said = box.store("1", "+FLAGS", r"(\Deleted)")
    assert (kind, b"INUSE" in said[0]) == ("NO", True), said
    (one,) = place.strays(ALICE)
    assert (one["chosen"], one["state"]) == (True, "claimed")
    assert place.choose(ALICE, "--all")["already"] == 1
    place.primary.well()
    until(lambda: len(place.primary.to(ALICE)) == before + 1, "it was tried again")
    place.hornet.until_idle()
    assert box.noop()[0] == "OK"
    assert place.inbox() == []
    box.logout()


def test_refused_for_good(place: Place) -> None:
    """Rule 10: a 5xx leaves it in INBOX with keyword and reason; choosing it again tries again."""
    place.append(NOTE)
    place.primary.script = {"DOT": "554 5.6.0 not that"}
    place.choose(ALICE, "--all")
    until(lambda: [row["state"] for row in place.drains()] == ["stuck"], "it was refused")
    (one,) = place.strays(ALICE)
    assert (one["state"], "554 5.6.0 not that" in one["reason"]) == ("stuck", True)
    box = place.imap()
    assert b"$DrainFailed" in box.fetch("1", "(FLAGS)")[1][0]  # type: ignore[operator]
    box.logout()
    place.primary.well()
    before = len(place.primary.to(ALICE))
    assert place.choose(ALICE, "--id", one["id"], person=ALICE)["again"] == 1
    until(lambda: len(place.primary.to(ALICE)) == before + 1, "it is home")
    place.hornet.until_idle()
    assert place.inbox() == []


def test_the_choice_survives_kill_and_a_lost_index(place: Place) -> None:
    """Catches a choice that ``kill -9`` forgets, that only ``queue.db`` knew, or that is delivered twice."""
    before = len(place.primary.to(ALICE))
    place.outage()
    place.append(NOTE)
    place.append(NOTE.replace(b"written here", b"not chosen"))
    first, second = place.strays(ALICE)
    assert place.choose(ALICE, "--id", first["id"], person=ALICE)["waits"] is True
    place.hornet.stop(kill=True)
    index = list(place.hornet.dir.glob("queue.db*"))
    assert index
    for path in index:
        path.unlink()
    place.hornet.start()
    chosen = {each["id"]: (each["chosen"], each["state"]) for each in place.strays(ALICE)}
    assert chosen == {first["id"]: (True, "parked"), second["id"]: (False, "")}
    assert place.choose(ALICE, "--id", first["id"], person=ALICE)["already"] == 1
    assert len(place.drains()) == 1
    place.back()
    until(lambda: len(place.primary.to(ALICE)) == before + 1, "it is home")
    place.hornet.until_idle()
    assert [mail.data for mail in place.primary.to(ALICE)[before:]] == [NOTE]
    assert [each["id"] for each in place.strays(ALICE)] == [second["id"]]
