"""Moving to another machine as ``docs/operations.rst`` says it ("Moving"), with the very commands that stand there."""

from __future__ import annotations

import hashlib
import imaplib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.installation import Failed, Installation
from tests.peers.scripted import ScriptedServer
from tests.peers.waiting import until

DOCS = Path(__file__).parents[2] / "docs" / "operations.rst"
PASSWORD = "a-good-secret-1"
ALICE, BOB, BOSS, AUDITOR = (f"{name}@moving.test" for name in ("alice", "bob", "boss", "auditor"))
NOBODY = "carol@moving.test"
"""Known to the primary, without a mailbox here: such mail waits in the queue."""


def documented(old: Path, new: Path) -> list[str]:
    """The shell commands of the third step."""
    section = DOCS.read_text().partition("\nMoving\n------\n")[2].partition("\nBackups\n-------\n")[0]
    found = re.findall(r"^ {7}(\S.*)$", section, re.MULTILINE)
    assert [line.split()[0] for line in found] == ["rm", "cp"]
    return [line.replace("NEW", str(new)).replace("OLD", str(old)) for line in found]


class Move:
    """The old installation, what is in it, and the new one."""

    def __init__(self) -> None:
        self.primary = ScriptedServer()
        self.old = Installation("mx.old.test")
        self.mails: list[bytes] = []
        self.new: Installation | None = None

    def close(self) -> None:
        """End both."""
        self.old.close()
        if self.new is not None:
            self.new.close()
        self.primary.stop()

    def send(self, to: str) -> bytes:
        """One message, unlike all others, through the old MX door."""
        number = len(self.mails)
        data = (
            f"From: <x@out.test>\r\nTo: <{to}>\r\nSubject: matter {number}\r\n\r\nThe ocelot, part{number:04}. Grüße\r\n".encode()
        )
        self.mails.append(data)
        self.old.send("x@out.test", [to], data)
        return data

    def imap(self, hornet: Installation, folder: str = "INBOX") -> imaplib.IMAP4:
        box = imaplib.IMAP4("127.0.0.1", hornet.port(143), timeout=60)
        box.login(ALICE, PASSWORD)
        assert box.select(folder)[0] == "OK"
        return box

    def portal(self, hornet: Installation, *folders: str) -> dict[str, tuple[list[bytes], list[tuple[str, bytes]]]]:
        """By folder: UIDVALIDITY, and UID with flags and the bytes of each message."""
        found = {}
        for folder in folders or ("INBOX", "Plans"):
            box = self.imap(hornet, folder)
            validity = box.response("UIDVALIDITY")[1]
            _, lines = box.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[])")
            found[folder] = (
                validity,
                [(line[0].decode().split(" ", 1)[1], line[1]) for line in lines if isinstance(line, tuple)],
            )
            box.logout()
        return found

    def begin(self) -> None:
        """Mail on the medium and staged, in INBOX and in a folder of the portal, held in the queue and waiting in it; an emergency."""
        old, primary = self.old, self.primary
        old.set(seal_seconds=1, retry=1)
        old.start()
        old.add_domain("moving.test", primary.port, "--failover", "manual")
        for address, role in ((ALICE, ""), (BOB, ""), (BOSS, "admin"), (AUDITOR, "auditor")):
            old.add_mailbox(address, PASSWORD, *(["--role", role] if role else []))
        for address in (ALICE, BOB, NOBODY):
            self.send(address)
        until(lambda: len(primary.accepted) == 3, "delivered")
        old.until_idle()
        until(lambda: old.status()["archive"]["staged"] == 0, "on the medium")
        assert old.stop() == 0
        old.set(seal_seconds=900)
        old.start()
        primary.script = {"DATA": "451 4.3.0 not now"}
        self.held, self.waiting = self.send(NOBODY), self.send(NOBODY)
        until(lambda: len(old.json("queue", "list")["messages"]) == 2, "two wait in the queue")
        first = min(one["id"] for one in old.json("queue", "list")["messages"])
        old.command("queue", "hold", first, "--reason", "for the move")
        old.command("domain", "mode", "moving.test", "emergency", "--reason", "a new machine")
        self.moved = self.send(ALICE)
        until(lambda: len(self.portal(old, "INBOX")["INBOX"][1]) == 1, "in the portal")
        self.stays = self.send(ALICE)
        until(lambda: len(self.portal(old, "INBOX")["INBOX"][1]) == 2, "both are in the portal")
        until(lambda: old.status()["archive"]["mails"] == 5, "archived")
        assert old.status()["archive"]["staged"] > 0
        box = self.imap(old)
        box.create("Plans")
        box.store("1", "+FLAGS", "($Work \\Flagged)")
        box.copy("1", "Plans")
        box.store("1", "+FLAGS", "\\Deleted")
        box.expunge()
        box.logout()

    def change_over(self, *, indexes: bool) -> Installation:
        """Steps 1 to 3; without ``indexes`` and root key too, by the paper. The new one is made while the old one runs: its ports are others."""
        old = self.old
        self.new = new = Installation("mx.new.test")
        paper = new.root / "key.txt"
        old.command("archive", "key", "backup", str(paper), "--password-stdin", stdin="paper-secret-9\n")
        assert old.stop() == 0
        for command in documented(old.dir, new.dir):
            subprocess.run(["/bin/sh", "-c", command], check=True, timeout=60)
        if not indexes:
            for name in ("queue.db", "portal.db", "archive/archive.db", "keys/archive-root.key"):
                (new.dir / name).unlink()
            new.command("archive", "key", "import", str(paper), "--password-stdin", stdin="paper-secret-9\n")
            answer = json.loads(new.command("archive", "rebuild", "--json"))
            assert answer == {"mails": 5, "unreadable": []}
        shutil.rmtree(old.dir)
        new.set(retry=1)
        return new


@pytest.fixture
def move() -> Iterator[Move]:
    made = Move()
    try:
        made.begin()
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("indexes", [True, False], ids=["all of it", "without indexes and root key"])
def test_moving(move: Move, indexes: bool) -> None:
    """Catches documented steps after which mail that waited, a folder, an archived mail, a log-in or the emergency itself is missing."""
    before = move.portal(move.old)
    new = move.change_over(indexes=indexes)
    new.start()
    assert new.mode("moving.test") == "emergency"
    after = move.portal(new)
    if indexes:
        assert after == before
        assert "$Work" in after["Plans"][1][0][0]
    for folder, (_, messages) in before.items():
        assert [data for _, data in after[folder][1]] == [data for _, data in messages], folder
        assert after[folder][1][0][1].endswith(move.moved if folder == "Plans" else move.stays)

    def found() -> dict[str, str]:
        """What the auditor finds and exports, by SHA-256."""
        answer = new.json("--as", AUDITOR, "archive", "search", "ocelot", "--limit", "500", password=PASSWORD)
        target, digests = new.root / "out.eml", {}
        for hit in answer["results"]:
            new.command("--as", AUDITOR, "archive", "export", hit["id"], "--output", str(target), password=PASSWORD)
            digests[hashlib.sha256(target.read_bytes()).hexdigest()] = str(hit["id"])
            target.unlink()
        return digests

    delivered = [data for data in move.mails if data not in (move.held, move.waiting)]
    assert found().keys() == {hashlib.sha256(data).hexdigest() for data in delivered}
    assert new.command("archive", "verify", "--full") == "all is well\n"
    assert new.json("--as", ALICE, "archive", "search", "ocelot", password=PASSWORD)["total"] == 3
    with pytest.raises(Failed):
        new.json("--as", ALICE, "archive", "search", "ocelot", password="wrong")
    assert "moving.test" in new.command("--as", BOSS, "domain", "list", password=PASSWORD)

    queued = {
        row["state"]: one["id"]
        for one in new.json("queue", "list")["messages"]
        for row in one["rows"]
        if row["kind"] == "deliver"
    }
    move.primary.well()
    count = len(move.primary.accepted)
    new.command("queue", "release", queued["held"])
    new.command("domain", "mode", "moving.test", "normal")
    until(lambda: len(move.primary.accepted) == count + 3, "what waited goes home")
    new.until_idle()
    home = [taken.data for taken in move.primary.accepted[count:]]
    for data in (move.held, move.waiting, move.stays):
        assert sum(each.endswith(data) for each in home) == 1
    assert new.mode("moving.test") == "normal"
    assert [data for _, data in move.portal(new)["Plans"][1]] == [data for _, data in before["Plans"][1]], (
        "what was moved away stays"
    )
    assert move.portal(new)["INBOX"][1] == []
    until(lambda: len(found()) == len(move.mails), "what was delivered here is archived too")
    assert found().keys() == {hashlib.sha256(data).hexdigest() for data in move.mails}
    assert new.command("archive", "verify", "--full") == "all is well\n"
    new.send("x@out.test", [BOB], b"Subject: after\r\n\r\nafter the move\r\n")
    until(lambda: move.primary.accepted[-1].data.endswith(b"after the move\r\n"), "new mail goes through")
    assert new.stop() == 0
