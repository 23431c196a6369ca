"""What administrators, users and auditors do on the command line, with its real effect on real mail."""

from __future__ import annotations

import email
import hashlib
import imaplib
import json
import shutil
import smtplib
from collections.abc import Iterator
from typing import Any

import pytest

from hornetmail.cli.client import Client
from tests.peers.installation import Failed, Installation
from tests.peers.postfix import Postfix
from tests.peers.scripted import ScriptedServer
from tests.peers.waiting import until

PASSWORD = "a-good-secret-1"
OUTSIDE = "sender@outside.test"
AUDITOR = "auditor@office.test"


class Office:
    """One installation, a scripted primary for each domain, and people."""

    def __init__(self, hornet: Installation) -> None:
        self.hornet = hornet
        self.client = Client(hornet.dir / "hornetmail.sock")
        self.servers: list[ScriptedServer] = []
        self.count = 0

    def server(self) -> ScriptedServer:
        """A further scripted server."""
        self.servers.append(ScriptedServer())
        return self.servers[-1]

    def domain(self, name: str, *words: str, people: tuple[str, ...] = ("alice", "bob")) -> ScriptedServer:
        """A served domain with its own primary and registered people."""
        primary = self.server()
        self.hornet.add_domain(name, primary.port, *words)
        for person in people:
            self.hornet.add_mailbox(f"{person}@{name}", PASSWORD)
        return primary

    def mail(self, to: str, sender: str = OUTSIDE, extra: str = "") -> bytes:
        """A message unlike all others."""
        self.count += 1
        return (
            f"From: <{sender}>\r\nTo: <{to}>\r\n{extra}Subject: matter {self.count}\r\nMessage-ID: <{self.count}@test>\r\n\r\n"
            f"The text of letter{self.count:05}.\r\n"
        ).encode()

    def send(self, to: str, sender: str = OUTSIDE) -> bytes:
        """One message over the MX door; its bytes."""
        data = self.mail(to, sender)
        self.hornet.send(sender, [to], data)
        return data

    def inbox(self, address: str) -> list[bytes]:
        box = imaplib.IMAP4("127.0.0.1", self.hornet.port(143), timeout=60)
        box.login(address, PASSWORD)
        box.select(readonly=True)
        _, found = box.fetch("1:*", "(BODY.PEEK[])") if box.search(None, "ALL")[1][0] else ("OK", [])
        box.logout()
        return [part[1] for part in found if isinstance(part, tuple)]

    def has(self, address: str, data: bytes) -> bool:
        return any(each.endswith(data) for each in self.inbox(address))

    def command(self, *words: str, person: str = "") -> str:
        """``hornetmail [--as PERSON] WORDS``."""
        return self.hornet.command(*(("--as", person) if person else ()), *words, password=PASSWORD if person else "")

    def queued(self, domain: str) -> list[Any]:
        """``queue list`` of a domain."""
        found: list[Any] = json.loads(self.command("queue", "list", "--domain", domain, "--json"))["messages"]
        return found

    def states(self, domain: str) -> list[tuple[str, str]]:
        """Kind and state of all that is not done, without what waits to be archived."""
        rows = [row for one in self.queued(domain) for row in one["rows"]]
        return sorted((row["kind"], row["state"]) for row in rows if row["kind"] != "archive")

    def found(self, query: str = "", person: str = AUDITOR) -> list[Any]:
        """``archive search`` as somebody."""
        self.client.call("POST", "archive", "flush")
        answer = json.loads(self.command("archive", "search", "--limit", "500", "--json", query, person=person))
        assert answer["total"] == len(answer["results"])
        results: list[Any] = answer["results"]
        return results

    def archived(self, data: bytes, person: str = AUDITOR) -> str:
        """The ID of a mail in the archive, once it is there."""
        word = data.split(b"text of ")[1][:11].decode()
        until(lambda: self.found(word, person), "it is archived", every=0.2)
        (hit,) = self.found(word, person)
        return str(hit["id"])


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    """It runs; mail goes to the medium within a second or two. The auditor sees all mail of all its domains."""
    hornet = Installation()
    made = Office(hornet)
    try:
        text = hornet.config.read_text()
        hornet.config.write_text(text.replace("seal_seconds = 900", "seal_seconds = 1"))
        hornet.start()
        hornet.add_domain("office.test", None)
        hornet.add_mailbox(AUDITOR, PASSWORD, "--role", "auditor")
        yield made
    finally:
        hornet.close()
        for each in made.servers:
            each.stop()


@pytest.fixture(autouse=True)
def alive(office: Office) -> Iterator[None]:
    """No test leaves a service behind that is not well."""
    yield
    assert office.hornet.healthy()


def test_queue(office: Office) -> None:
    """``queue list|show|flush|hold|release|delete|bounce``: each does what it says to mail that waits."""
    primary = office.domain("queue.test", "--failover", "manual", people=("sam",))
    primary.script = {"DATA": "451 4.3.0 not now"}
    stays, dropped, later, returned = (office.send(f"{name}@queue.test") for name in ("one", "two", "three", "four"))
    until(lambda: office.states("queue.test") == [("deliver", "queued")] * 4, "four wait")
    ids = {row["recipient"].partition("@")[0]: one["id"] for one in office.queued("queue.test") for row in one["rows"]}
    shown = json.loads(office.command("queue", "show", ids["one"], "--json"))
    assert shown["sender"] == OUTSIDE
    row = next(row for row in shown["rows"] if row["kind"] == "deliver")
    assert "451 4.3.0 not now" in row["last"]
    assert ids["one"] in office.command("queue", "list")

    def attempts() -> int:
        again = json.loads(office.command("queue", "show", ids["one"], "--json"))
        return int(next(row["attempts"] for row in again["rows"] if row["kind"] == "deliver"))

    before = attempts()
    assert office.command("queue", "flush", ids["one"]).endswith("will be tried now\n")
    until(lambda: attempts() == before + 1, "it was tried")
    office.command("queue", "delete", ids["two"])
    office.command("queue", "hold", ids["three"], "--reason", "to be looked at")
    until(lambda: office.states("queue.test").count(("deliver", "held")) == 1, "one is held")
    primary.well()
    office.command("queue", "bounce", ids["four"])
    until(lambda: office.states("queue.test").count(("deliver", "held")) == 2, "rule 6: no bounce to a stranger, held instead")
    office.command("queue", "delete", ids["four"])
    assert office.states("queue.test").count(("deliver", "held")) == 1
    office.command("queue", "flush", "--domain", "queue.test")
    until(lambda: any(each.data.endswith(stays) for each in primary.accepted), "what was flushed arrives")
    assert office.states("queue.test") == [("deliver", "held")], "held mail is not flushed"
    office.command("queue", "release", ids["three"])
    until(lambda: any(each.data.endswith(later) for each in primary.accepted), "what was released arrives")
    assert not any(each.data.endswith((dropped, returned)) for each in primary.accepted)
    with pytest.raises(Failed) as refused:
        office.command("queue", "show", "123456")
    assert refused.value.code == 1
    assert refused.value.error.count("\n") == 0


def test_bounce_by_hand(office: Office) -> None:
    """``queue bounce``: who logged in gets a notification, at once."""
    primary = office.domain("bounce.test", "--failover", "manual", people=("sam",))
    primary.script = {"DATA": "451 4.3.0 not now"}
    data = office.mail("one@bounce.test", "sam@bounce.test")
    with office.hornet.smtp(587) as smtp:
        smtp.login("sam@bounce.test", PASSWORD)
        smtp.sendmail("sam@bounce.test", ["one@bounce.test"], data)
    until(lambda: office.states("bounce.test") == [("deliver", "queued")], "it waits")
    primary.well()
    office.command("queue", "bounce", office.queued("bounce.test")[0]["id"], "--reason", "no longer wanted")
    until(lambda: primary.to("sam@bounce.test"), "the notification arrives")
    (note,) = primary.to("sam@bounce.test")
    assert note.sender == ""
    assert b"no longer wanted" in note.data
    assert not any(each.data.endswith(data) for each in primary.accepted)


def test_emergency_by_hand(office: Office) -> None:
    """Rule 5, C4, C5: an emergency ordered by hand outlasts a primary that works, in a domain that switches by itself; ``normal`` drains."""
    primary = office.domain("hand.test", "--failover", "auto")
    office.command("domain", "mode", "hand.test", "emergency", "--reason", "moving house")
    data = office.send("alice@hand.test")
    until(lambda: office.has("alice@hand.test", data), "it is in the portal")

    def why() -> Any:
        return office.client.call("GET", "domains", "hand.test")["explanation"]

    until(lambda: why()["probes_answered"] >= why()["probes_needed"], "the primary answers long enough", every=0.2)
    assert office.hornet.mode("hand.test") == "emergency"
    assert why()["reason"] == "moving house"
    assert not primary.accepted
    office.command("domain", "mode", "hand.test", "normal")
    until(lambda: office.hornet.mode("hand.test") == "normal", "it is drained")
    (home,) = primary.to("alice@hand.test")
    assert home.data.endswith(data)
    assert home.sender == OUTSIDE
    assert office.inbox("alice@hand.test") == []


def test_unregistered_in_an_emergency(office: Office) -> None:
    """C13, rule 4, L4: strangers are refused; whom the primary knew waits, and gets the mail once a mailbox is assigned; what was
    deferred before the emergency moves to the portal at once."""
    primary = office.domain("known.test", "--failover", "manual")
    first = office.send("dora@known.test")
    until(lambda: any(each.data.endswith(first) for each in primary.accepted), "the primary knows dora")
    primary.script = {"RCPT": "451 4.3.0 not now"}
    deferred = office.send("dora@known.test")
    until(lambda: office.states("known.test") == [("deliver", "queued")], "dora has no mailbox, her mail waits for the primary")
    office.command("domain", "mode", "known.test", "emergency")
    until(lambda: office.states("known.test") == [("deliver", "parked")], "adopted, and parked for want of a mailbox")
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        office.send("stranger@known.test")
    code, text = refused.value.recipients["stranger@known.test"]
    assert (code, text[:5]) == (550, b"5.1.1")
    waits = office.send("dora@known.test")
    until(lambda: office.states("known.test") == [("deliver", "parked")] * 2, "accepted, and waits")
    office.hornet.add_mailbox("dora@known.test", PASSWORD)
    until(lambda: office.has("dora@known.test", deferred) and office.has("dora@known.test", waits), "she has both")
    primary.well()
    office.command("domain", "mode", "known.test", "normal")
    until(lambda: len(primary.to("dora@known.test")) == 3, "all went home")


def test_adoption(office: Office) -> None:
    """L4: what the primary deferred is in the portal right after the switch, long before its next attempt."""
    primary = office.domain("adopt.test", "--failover", "manual", people=("alice",))
    primary.script = {"DATA": "451 4.3.0 not now"}
    datas = [office.send("late@adopt.test") for _ in range(5)]
    until(lambda: office.states("adopt.test") == [("deliver", "queued")] * 5, "five wait for the primary")
    office.hornet.add_mailbox("late@adopt.test", PASSWORD)
    assert office.inbox("late@adopt.test") == []
    office.command("domain", "mode", "adopt.test", "emergency")
    until(lambda: all(office.has("late@adopt.test", data) for data in datas), "all are in the portal")
    assert not primary.accepted
    primary.well()
    office.command("domain", "mode", "adopt.test", "normal")
    until(lambda: len(primary.to("late@adopt.test")) == 5, "and go home from there")


def test_picked(office: Office) -> None:
    """C12: with picked coverage, only picked mailboxes fail over and are archived; changes count as soon as they are saved."""
    primary = office.domain("picked.test", "--failover", "manual", "--scope", "picked")
    office.command("mailbox", "change", "alice@picked.test", "--picked")
    office.command("mailbox", "change", "bob@picked.test", "--not-picked")
    office.command("domain", "mode", "picked.test", "emergency")
    hers, his = office.send("alice@picked.test"), office.send("bob@picked.test")
    until(lambda: office.has("alice@picked.test", hers), "alice's is in the portal")
    until(lambda: any(each.data.endswith(his) for each in primary.accepted), "bob's went to the primary")
    assert not any(each.data.endswith(hers) for each in primary.accepted)
    assert office.inbox("bob@picked.test") == []
    office.archived(hers)
    until(
        lambda: not any(row["recipient"] == "bob@picked.test" for one in office.queued("picked.test") for row in one["rows"]),
        "done",
    )
    assert office.found(his.split(b"text of ")[1][:11].decode()) == []
    office.command("mailbox", "change", "bob@picked.test", "--picked")
    now = office.send("bob@picked.test")
    until(lambda: office.has("bob@picked.test", now), "bob is covered at once")
    office.command("domain", "mode", "picked.test", "normal")
    until(lambda: len(primary.accepted) == 3, "all went home")


def test_inactive(office: Office) -> None:
    """C11, C15: a domain that is switched off gets its mail passed on, no portal and no archive; its archive begins when it is switched on."""
    primary = office.domain("off.test", "--failover", "manual", "--inactive")
    data = office.send("alice@off.test")
    until(lambda: any(each.data.endswith(data) for each in primary.accepted), "passed on")
    primary.script = {"DATA": "451 4.3.0 not now"}
    waits = office.send("alice@off.test")
    until(lambda: office.states("off.test") == [("deliver", "queued")], "waits for the primary")
    assert office.inbox("alice@off.test") == []
    primary.well()
    office.command("queue", "flush", "--domain", "off.test")
    until(lambda: any(each.data.endswith(waits) for each in primary.accepted), "passed on later")
    until(lambda: office.queued("off.test") == [], "nothing is left")
    assert office.found("to:alice@off.test") == []
    office.command("domain", "change", "off.test", "--active")
    archived = office.send("alice@off.test")
    assert office.archived(archived)


def test_outgoing(office: Office) -> None:
    """C9, C15: the primary's outgoing mail passes the relay door to the smarthost, is archived as outgoing, and can be fetched by its sender; nobody
    else relays there."""
    sink = office.server()
    office.domain("out.test", "--failover", "manual", "--smarthost", f"127.0.0.1:{sink.port}")
    postfix = Postfix(f"relayhost = [127.0.0.1]:{office.hornet.port(26)}\n")
    try:
        postfix.start()
        data = office.mail("customer@far.test", "alice@out.test")
        with smtplib.SMTP("127.0.0.1", postfix.port, local_hostname="primary.out.test", timeout=60) as smtp:
            smtp.sendmail("alice@out.test", ["customer@far.test"], data)
        until(lambda: sink.to("customer@far.test"), "it is outside")
    finally:
        postfix.close()
    (sent,) = sink.to("customer@far.test")
    assert sent.sender == "alice@out.test"
    assert sent.data.endswith(data)
    identifier = office.archived(data, "alice@out.test")
    shown = office.client.call("GET", "archive", identifier)
    assert shown["mail"]["direction"] == "out"
    exported = office.hornet.dir.parent / "sent.eml"
    office.command("archive", "export", identifier, "--output", str(exported), person="alice@out.test")
    assert exported.read_bytes().endswith(data)
    with pytest.raises((smtplib.SMTPSenderRefused, smtplib.SMTPRecipientsRefused)):
        office.hornet.send("somebody@far.test", ["else@far.test"], data, offset=26)


def test_bcc(office: Office) -> None:
    """C26, rule 14: submission strips Bcc, all get it, and only the sender and auditors find out who else did."""
    sink = office.server()
    primary = office.domain("bcc.test", "--smarthost", f"127.0.0.1:{sink.port}")
    data = office.mail("bob@bcc.test", "alice@bcc.test", "Bcc: hidden@far.test,\r\n other@far.test\r\n")
    with office.hornet.smtp(587) as smtp:
        smtp.login("alice@bcc.test", PASSWORD)
        smtp.sendmail("alice@bcc.test", ["bob@bcc.test", "hidden@far.test"], data)
    until(lambda: sink.to("hidden@far.test") and primary.to("bob@bcc.test"), "both have it")
    for copy in (sink.to("hidden@far.test")[0], primary.to("bob@bcc.test")[0]):
        assert b"far.test" not in copy.data.replace(b"for <hidden@far.test>", b"")
        assert copy.data.endswith(data[data.index(b"Subject:") :])
    seen = {}
    for person in ("alice@bcc.test", "bob@bcc.test", AUDITOR):
        identifier = office.archived(data, person)
        seen[person] = office.command("archive", "export", identifier, person=person)
        found = office.found("to:hidden@far.test", person)
        assert bool(found) == (person != "bob@bcc.test"), person
        assert "hidden" not in seen[person]
    with office.hornet.smtp(587) as smtp:
        smtp.login("alice@bcc.test", PASSWORD)
        smtp.mail("bob@bcc.test")
        code, _ = smtp.rcpt("hidden@far.test")
        assert code >= 500, "nobody sends as somebody else"


def test_rights(office: Office) -> None:
    """C18, A39, A40, rule 15: users see their own mail only; an administrator finds it by its envelope, and needs a person to open it."""
    office.domain("rights.test")
    office.hornet.add_mailbox("boss@rights.test", PASSWORD, "--role", "admin")
    hers, his = office.send("alice@rights.test"), office.send("bob@rights.test")
    mine, other = office.archived(hers), office.archived(his)
    assert [hit["id"] for hit in office.found(person="alice@rights.test")] == [mine]
    target = office.hornet.root / "out.eml"
    for person in ("", "boss@rights.test", "bob@rights.test"):
        with pytest.raises(Failed) as refused:
            office.command("archive", "export", mine, "--output", str(target), person=person)
        assert refused.value.code == 1
        assert len(refused.value.error.splitlines()) == 1
        assert not target.exists()
    for person in (AUDITOR, "alice@rights.test"):
        office.command("archive", "export", mine, "--output", str(target), person=person)
        assert target.read_bytes() == hers
        target.unlink()
    assert mine in {
        hit["id"] for hit in json.loads(office.command("archive", "search", "--json", "to:alice@rights.test"))["results"]
    }
    assert not json.loads(office.command("archive", "search", "--json", hers.split(b"text of ")[1][:11].decode()))["results"]
    with pytest.raises(Failed):
        office.command("archive", "redeliver", other, person="alice@rights.test")
    with pytest.raises(Failed) as wrong:
        office.hornet.command("--as", "alice@rights.test", "archive", "search", password="wrong")
    assert wrong.value.code == 1
    with pytest.raises(Failed):
        office.command("domain", "list", person="alice@rights.test")
    assert "rights.test" in office.command("domain", "list", person="boss@rights.test")


def test_redelivery(office: Office) -> None:
    """C10, C16, C17, rule 16: to the primary or the portal, whichever is active; MAIL FROM <>, and never archived again."""
    sink = office.server()
    primary = office.domain("again.test", "--failover", "manual", "--smarthost", f"127.0.0.1:{sink.port}")
    received = office.send("alice@again.test")
    sent = office.mail("customer@far.test", "bob@again.test")
    with office.hornet.smtp(587) as smtp:
        smtp.login("bob@again.test", PASSWORD)
        smtp.sendmail("bob@again.test", ["customer@far.test"], sent)
    incoming, outgoing = office.archived(received), office.archived(sent)
    total = len(office.found())
    until(lambda: primary.to("alice@again.test"), "delivered the first time")
    office.command("archive", "redeliver", incoming, person="alice@again.test")
    until(lambda: len(primary.to("alice@again.test")) == 2, "users fetch their own mail")
    assert primary.to("alice@again.test")[1].sender == ""
    assert primary.to("alice@again.test")[1].data.endswith(received)
    office.command("archive", "redeliver", incoming, outgoing)
    until(lambda: len(primary.to("alice@again.test")) == 3, "the administrator sends it to its owner")
    until(lambda: len(primary.to("bob@again.test")) == 1, "outgoing mail goes to its sender")
    assert primary.to("bob@again.test")[0].data.endswith(sent)
    office.command("domain", "mode", "again.test", "emergency")
    office.command("archive", "redeliver", incoming, outgoing)
    until(lambda: office.has("alice@again.test", received) and office.has("bob@again.test", sent), "now to the portal")
    assert len(primary.accepted) == 4
    office.hornet.command("domain", "mode", "again.test", "normal")
    until(lambda: len(primary.accepted) == 6, "and home from there")
    until(lambda: office.queued("again.test") == [], "nothing is left")
    assert len(office.found()) == total


def test_redelivery_as_attachment(office: Office) -> None:
    """Rule 16: a server that has seen the Message-ID gets the archive's exact bytes, 8-bit ones too, inside a new message; what SMTP cannot
    carry so is refused in one line."""
    primary = office.domain("enclosed.test")
    plain = office.mail("alice@enclosed.test")
    wide = plain.replace(b"Subject: ", "Subject: Gr\u00fc\u00dfe ".encode()).replace(
        b"The text", "Schöne Grüße. The text".encode("latin-1")
    )
    long = office.mail("alice@enclosed.test") + b"z" * 1500 + b"\r\n"
    for data in (wide, long):
        office.hornet.send(OUTSIDE, ["alice@enclosed.test"], data)
    known, endless = office.archived(wide), office.archived(long)
    until(lambda: len(primary.accepted) == 2, "delivered the first time")
    total = len(office.found())
    shown = json.loads(office.command("archive", "search", "--json", f"id:{known}", person="alice@enclosed.test"))["results"]
    assert [one["id"] for one in shown] == [known]
    office.command("archive", "redeliver", known, "--as-attachment", person="alice@enclosed.test")
    until(lambda: len(primary.accepted) == 3, "delivered again")
    taken = primary.accepted[2]
    assert (taken.sender, taken.recipients) == ("", ("alice@enclosed.test",))
    parsed = email.message_from_bytes(taken.data)
    assert parsed["Message-ID"] != email.message_from_bytes(wide)["Message-ID"]
    assert parsed["From"] == "Mail archive <MAILER-DAEMON@enclosed.test>"
    boundary = str(parsed.get_boundary()).encode()
    attached = taken.data.split(b"\r\n--" + boundary)[2].split(b"\r\n\r\n", 1)[1]
    view = office.client.call("GET", "archive", known)
    assert hashlib.sha256(attached).hexdigest() == view["sha256"] == hashlib.sha256(wide).hexdigest()
    with pytest.raises(Failed) as refused:
        office.command("archive", "redeliver", endless, "--as-attachment", person="alice@enclosed.test")
    assert (refused.value.code, "998" in refused.value.error, len(refused.value.error.splitlines())) == (1, True, 1)
    assert len(office.found()) == total


def test_verify_before_the_first_pack() -> None:
    """Rules 20, 22: the first mail of a year makes a data key; until a pack needs it, nothing is wrong with a medium that lacks it."""
    hornet = Installation()
    try:
        hornet.start()
        hornet.add_domain("office.test", None)
        hornet.add_mailbox("alice@office.test", PASSWORD)
        hornet.send(OUTSIDE, ["alice@office.test"], b"Subject: first\r\n\r\nfirst\r\n")
        until(lambda: hornet.status()["archive"]["mails"] == 1, "it is archived")
        assert hornet.status()["archive"]["staged"] == 1
        assert hornet.command("archive", "verify", "--full") == "all is well\n"
    finally:
        hornet.close()


def test_verify(office: Office) -> None:
    """A healthy archive has nothing wrong with it, while mail is staged and while it goes to the medium (rule 20)."""
    office.domain("verify.test")
    for _ in range(3):
        data = office.send("alice@verify.test")
        office.archived(data)
        assert office.command("archive", "verify", "--full") == "all is well\n"
        assert office.command("archive", "verify") == "all is well\n"


def test_verify_names_the_damaged_pack(office: Office) -> None:
    """One flipped byte in a pack: exit 1, and the pack's name."""
    until(lambda: sorted((office.hornet.dir / "archive" / "medium" / "packs").rglob("*.pack")), "there are packs")
    packs = sorted((office.hornet.dir / "archive" / "medium" / "packs").rglob("*.pack"))
    victim = packs[len(packs) // 2]
    whole = victim.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    victim.write_bytes(bytes(damaged))
    try:
        with pytest.raises(Failed) as refused:
            office.command("archive", "verify", "--full")
        assert refused.value.code == 1
        assert victim.name in refused.value.error
    finally:
        victim.write_bytes(whole)
    assert office.command("archive", "verify", "--full") == "all is well\n"


def test_rebuild(office: Office) -> None:
    """L3, A4-A6: the index from medium and key alone; then everything from medium and key paper, and the search finds the same."""
    hornet = office.hornet
    backup = hornet.root / "key.txt"
    hornet.command("archive", "key", "backup", str(backup), "--password-stdin", stdin="paper-secret-9\n")
    assert "paper-secret-9" not in backup.read_text()
    until(hornet.idle, "the queue is empty")
    before = office.found()
    assert len(before) > 10
    sample = before[:: len(before) // 8]
    bodies = {hit["id"]: office.command("archive", "export", hit["id"], person=AUDITOR) for hit in sample}
    until(lambda: hornet.status()["archive"]["staged"] == 0, "everything is on the medium")

    def compare() -> None:
        hornet.start()
        assert office.found() == before
        for identifier, body in bodies.items():
            assert office.command("archive", "export", identifier, person=AUDITOR) == body
        assert office.command("archive", "verify", "--full") == "all is well\n"

    assert hornet.stop() == 0
    for suffix in ("", "-wal", "-shm"):
        (hornet.dir / "archive" / f"archive.db{suffix}").unlink(missing_ok=bool(suffix))
    answer = json.loads(hornet.command("archive", "rebuild", "--json"))
    assert answer == {"mails": len(before), "unreadable": []}
    compare()

    assert hornet.stop() == 0
    medium = hornet.root / "kept-medium"
    (hornet.dir / "archive" / "medium").rename(medium)
    shutil.rmtree(hornet.dir / "archive")
    (hornet.dir / "archive").mkdir(0o700)
    medium.rename(hornet.dir / "archive" / "medium")
    (hornet.dir / "keys" / "archive-root.key").unlink()
    with pytest.raises(Failed) as refused:
        hornet.command("archive", "key", "import", str(backup), "--password-stdin", stdin="wrong\n")
    assert refused.value.code == 1
    hornet.command("archive", "key", "import", str(backup), "--password-stdin", stdin="paper-secret-9\n")
    answer = json.loads(hornet.command("archive", "rebuild", "--json"))
    assert answer == {"mails": len(before), "unreadable": []}
    compare()
    data = office.send("alice@verify.test")
    assert office.archived(data)
