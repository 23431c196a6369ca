"""The archive in mail programs with the real service: before, in and after an outage, over a kill and a rebuild, with mutt."""

from __future__ import annotations

import imaplib
import os
import pty
import re
import select
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.peers.installation import Installation
from tests.peers.scripted import ScriptedServer
from tests.peers.waiting import until

ALICE, BOB, OTTO = (f"{name}@example.test" for name in ("alice", "bob", "otto"))
PASSWORD = "a-good-secret-1"


class Town:
    """A domain with a scripted primary, two users, and an auditor."""

    def __init__(self, hornet: Installation, primary: ScriptedServer) -> None:
        self.hornet = hornet
        self.primary = primary

    def imap(self, person: str) -> imaplib.IMAP4:
        box = imaplib.IMAP4("127.0.0.1", self.hornet.port(143), timeout=60)
        box.login(person, PASSWORD)
        return box

    def letter(self, word: str, *people: str) -> bytes:
        """Sent to these, and archived."""
        text = f"From: <x@outside.test>\r\nTo: <{people[0]}>\r\nSubject: {word}\r\nMessage-ID: <{word}@outside.test>\r\n\r\nAbout {word}.\r\n".encode()
        before = self.hornet.status()["archive"]["mails"]
        self.hornet.send("x@outside.test", list(people), text)
        until(lambda: self.hornet.status()["archive"]["mails"] > before, "archived", 60)
        self.hornet.until_idle()
        return text

    def folder(self, branch: str = "Received") -> str:
        return f'"Mail archive/{branch}/{datetime.now(UTC):%Y/%m}"'

    def seen(self, person: str, branch: str = "Received") -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """UIDVALIDITY, and UID and subject of each mail."""
        box = self.imap(person)
        try:
            assert box.select(self.folder(branch), readonly=True)[0] == "OK"
            validity = box.response("UIDVALIDITY")[1][0]
            _, found = box.fetch("1:*", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
            return validity, [
                (re.search(rb"UID (\d+)", part[0])[1], part[1].strip())  # type: ignore[index]
                for part in found
                if isinstance(part, tuple)
            ]
        finally:
            box.logout()


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    primary = ScriptedServer()
    hornet = Installation()
    try:
        hornet.start()
        hornet.add_domain("example.test", primary.port)
        for person in (ALICE, BOB):
            hornet.add_mailbox(person, PASSWORD)
        hornet.add_mailbox(OTTO, PASSWORD, "--role", "auditor")
        yield Town(hornet, primary)
    finally:
        hornet.close()
        primary.stop()


def test_in_every_mode(town: Town) -> None:
    """Catches a tree that is there in one mode only, COPY into INBOX that does not reach the active server (C10), and others' mail in it."""
    text = town.letter("harvest", ALICE)
    town.letter("moon", BOB)
    town.letter("both", ALICE, BOB)
    assert [subject for _, subject in town.seen(ALICE)[1]] == [b"Subject: harvest", b"Subject: both"]
    assert [subject for _, subject in town.seen(BOB)[1]] == [b"Subject: moon", b"Subject: both"]
    assert len(town.seen(OTTO, "Everybody/Received")[1]) == 3
    box = town.imap(ALICE)
    assert not any(b"Mail archive" in line for line in box.lsub()[1] if isinstance(line, bytes))
    assert box.select(town.folder("Everybody/Received"))[0] == "NO"
    box.select(town.folder(), readonly=True)
    assert box.fetch("1", "(BODY[])")[1][0][1] == text  # type: ignore[index]
    taken = len(town.primary.accepted)
    assert box.copy("1", "INBOX")[0] == "OK"
    until(lambda: len(town.primary.accepted) > taken, "redelivered to the primary", 60)
    assert b"Subject: harvest" in town.primary.accepted[-1].data
    town.hornet.command("domain", "mode", "example.test", "emergency")
    assert [subject for _, subject in town.seen(ALICE)[1]] == [b"Subject: harvest", b"Subject: both"]
    assert box.copy("2", "INBOX")[0] == "OK"

    def arrived() -> bool:
        portal = town.imap(ALICE)
        try:
            portal.select("INBOX", readonly=True)
            return bool(portal.search(None, "SUBJECT both")[1][0])
        finally:
            portal.logout()

    until(arrived, "redelivered to the portal", 60)
    box.logout()
    town.hornet.command("domain", "mode", "example.test", "normal")
    town.hornet.until_idle()


def test_the_same_uids_over_a_kill_and_a_rebuild(town: Town) -> None:
    """Catches UIDs that only a clean stop keeps, and a rebuild after which each client reads all of the archive again."""
    town.letter("before the kill", ALICE)
    before = town.seen(ALICE), town.seen(OTTO, "Everybody/Received")
    town.hornet.stop(kill=True)
    town.hornet.start()
    assert (town.seen(ALICE), town.seen(OTTO, "Everybody/Received")) == before
    town.hornet.stop()
    town.hornet.command("archive", "rebuild")
    town.hornet.start()
    assert (town.seen(ALICE), town.seen(OTTO, "Everybody/Received")) == before
    town.letter("after the rebuild", ALICE)
    validity, mails = town.seen(ALICE)
    assert (validity, mails[:-1]) == before[0]
    assert mails[-1][1] == b"Subject: after the rebuild"
    assert int(mails[-1][0]) > int(mails[-2][0])


def test_openings_are_in_the_audit_log(town: Town) -> None:
    """Catches an auditor who reads others' mail without a trace, and users whose own reading fills the log."""
    town.letter("a secret", BOB)
    box = town.imap(OTTO)
    box.select(town.folder("Everybody/Received"), readonly=True)
    number = box.search(None, 'SUBJECT "secret"')[1][0]
    before = len(audit(town))
    box.fetch(number, "(ENVELOPE)")
    assert len(audit(town)) == before
    box.fetch(number, "(BODY[TEXT])")
    box.logout()
    [row] = audit(town)[: len(audit(town)) - before]
    assert (row["actor"], row["action"], row["result"]) == (OTTO, "archive.export", "done")
    own = town.imap(BOB)
    own.select(town.folder(), readonly=True)
    own.fetch("1:*", "(BODY[])")
    own.logout()
    assert len(audit(town)) == before + 1


def audit(town: Town) -> list[dict[str, str]]:
    """What openings stand there, newest first."""
    return [row for row in town.hornet.json("audit", "--limit", "500")["entries"] if row["action"] == "archive.export"]


@pytest.mark.skipif(shutil.which("mutt") is None, reason="mutt is not installed")
def test_mutt(town: Town, tmp_path: Path) -> None:
    """Catches a folder that mutt cannot open, or a message that it shows otherwise than it is."""
    text = town.letter("for mutt", ALICE)
    saved = tmp_path / "saved"
    (tmp_path / "Mail").mkdir()
    rc = tmp_path / "rc"
    name = town.folder().strip('"').replace(" ", "%20")
    url = f"imap://127.0.0.1:{town.hornet.port(143)}/{name}"
    rc.write_text(
        f'set imap_user="{ALICE}" imap_pass="{PASSWORD}" ssl_starttls=no ssl_force_tls=no timeout=1 wait_key=no confirmcreate=no header_cache="" pipe_decode=no\n'
        f'set certificate_file="{tmp_path / "certs"}" imap_check_subscribed=no\n'
        f"macro index X \"<limit>~s 'for mutt'<enter><pipe-message>cat > {saved}<enter><exit>\"\npush X\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(HOME=str(tmp_path), TERM="vt100", LINES="24", COLUMNS="80")
        os.execv("/usr/bin/mutt", ["mutt", "-n", "-F", str(rc), "-R", "-f", url])
    shown = b""
    ended = time.monotonic() + 60
    try:
        while time.monotonic() < ended and not (saved.exists() and b"About for mutt" in saved.read_bytes()):
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    shown += os.read(terminal, 65_536)
                except OSError:
                    break
        assert saved.exists(), shown[-2000:]
        assert saved.read_bytes().replace(b"\r\n", b"\n").rstrip() == text.replace(b"\r\n", b"\n").rstrip()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
