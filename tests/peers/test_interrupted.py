"""Mail programs at their real work with 5,000 messages, cut off again and again on either side: what comes of it is the same as without."""

from __future__ import annotations

import imaplib
import mailbox
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from imapclient import IMAPClient

from tests.peers.installation import Installation
from tests.peers.waiting import until

pytestmark = pytest.mark.long

USER, PASSWORD = "alice@example.test", "alice-secret-1"
MANY = 5_000


@pytest.fixture
def hornet() -> Iterator[Installation]:
    """5,000 messages in alice's INBOX, dropped into her Maildir by another program."""
    installation = Installation()
    try:
        installation.start()
        installation.add_domain("example.test", None)
        installation.add_mailbox(USER, PASSWORD)
        client = connected(installation)
        client.append("INBOX", mail(0))
        client.logout()
        [file] = (installation.dir / "portal").glob("*/*/Maildir/new/*")
        maildir = file.parent.parent
        for number in range(1, MANY):
            (maildir / "tmp" / f"{number}.x").write_bytes(mail(number))
            (maildir / "tmp" / f"{number}.x").rename(maildir / "new" / f"1790000000.{number}.x")
        until(lambda: len(subjects(installation)) == MANY, "all are seen", 120)
        yield installation
    finally:
        installation.close()


def mail(number: int) -> bytes:
    return b"From: b@example.test\r\nSubject: number %d\r\nMessage-ID: <%d@x>\r\n\r\n%b\r\n" % (
        number,
        number,
        b"text " * (number % 50),
    )


def connected(hornet: Installation) -> IMAPClient:
    client = IMAPClient("127.0.0.1", hornet.port(143), ssl=False)
    client.login(USER, PASSWORD)
    return client


def subjects(hornet: Installation, folder: str = "INBOX") -> Counter[bytes]:
    client = connected(hornet)
    client.select_folder(folder, readonly=True)
    numbers = client.search()
    found = client.fetch(numbers, ["BODY.PEEK[HEADER.FIELDS (SUBJECT)]"]) if numbers else {}
    client.logout()
    return Counter(part[b"BODY[HEADER.FIELDS (SUBJECT)]"].strip() for part in found.values())


def near(path: Path) -> Counter[bytes]:
    return Counter(b"Subject: " + str(one["Subject"]).encode() for one in mailbox.Maildir(path, create=False))


def test_mbsync_is_killed(hornet: Installation, tmp_path: Path) -> None:
    """mbsync killed in the middle of each direction, and the service too: would catch messages that are there twice, missing, or read as others afterwards, and a QRESYNC or
    APPEND that depends on the connection's end."""
    local = tmp_path / "mail"
    local.mkdir()
    (tmp_path / "rc").write_text(
        f"IMAPAccount h\nHost localhost\nPort {hornet.port(143)}\nUser {USER}\nPass {PASSWORD}\nSSLType STARTTLS\nCertificateFile {hornet.dir}/tls/cert.pem\nAuthMechs PLAIN\n\n"
        f"IMAPStore far\nAccount h\n\nMaildirStore near\nPath {local}/\nInbox {local}/INBOX\nSubFolders Verbatim\n\n"
        "Channel c\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Both\nExpunge Both\nSync All\nSyncState *\nCopyArrivalDate yes\n"
    )
    words = ["mbsync", "-c", str(tmp_path / "rc"), "-a"]

    def interrupted(seconds: float, *, server: bool = False) -> None:
        process = subprocess.Popen(
            words, env={**os.environ, "HOME": str(tmp_path)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            if server:
                hornet.stop(kill=True)
                process.wait(60)
                hornet.start()
            else:
                process.send_signal(signal.SIGKILL)
                process.wait()

    def through() -> None:
        done = subprocess.run(words, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, timeout=300)
        assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")

    for seconds, server in ((1.0, False), (1.5, True), (1.0, False)):
        interrupted(seconds, server=server)
    through()
    every = Counter(b"Subject: number %d" % number for number in range(MANY))
    assert near(local / "INBOX") == every == subjects(hornet)

    box = mailbox.Maildir(local / "INBOX", create=False)
    for number in range(MANY, MANY + 500):
        box.add(mailbox.MaildirMessage(mail(number).replace(b"\r\n", b"\n")))
    client = connected(hornet)
    client.select_folder("INBOX")
    client.add_flags(client.search(["SUBJECT", "number 1"])[:500], [b"\\Flagged"])
    gone = client.search(["SUBJECT", "number 7"])
    client.delete_messages(gone)
    client.expunge(gone)
    client.logout()
    for seconds, server in ((0.7, False), (0.7, True)):
        interrupted(seconds, server=server)
    through()
    through()
    every = Counter(
        b"Subject: number %d" % number for number in range(MANY + 500) if number >= MANY or not str(number).startswith("7")
    )
    assert subjects(hornet) == every
    assert near(local / "INBOX") == every
    flagged = imaplib.IMAP4("127.0.0.1", hornet.port(143))
    flagged.login(USER, PASSWORD)
    flagged.select(readonly=True)
    marked = flagged.search(None, "FLAGGED")[1][0].split()
    flagged.logout()
    assert len(marked) == 500
    assert sum("F" in one.get_flags() for one in mailbox.Maildir(local / "INBOX", create=False)) == 500
