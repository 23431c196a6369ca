"""Programs that people really use, against the real service, without a complaint in their logs."""

from __future__ import annotations

import imaplib
import mailbox
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hornetmail.testing.corpus import messages
from tests.peers.dovecot import Dovecot
from tests.peers.installation import Installation
from tests.peers.waiting import until

SAMPLES = [
    sample
    for sample in messages(42, 5, sender="sender@outside.test", recipients=["alice@example.test"])
    if sample.kind != "header only"  # mbsync skips mail whose header has no empty line behind it, and says so
]

USER, PASSWORD = "alice@example.test", "alice-secret-1"


@pytest.fixture(scope="module")
def hornet() -> Iterator[Installation]:
    """A domain that the portal serves for good, with 40 varied messages in alice's INBOX."""
    installation = Installation()
    try:
        installation.start()
        installation.add_domain("example.test", None)
        installation.add_mailbox(USER, PASSWORD)
        for sample in SAMPLES:
            installation.send(sample.sender, [USER], sample.data)
        until(lambda: count(installation) == len(SAMPLES), "all are delivered")
        yield installation
    finally:
        installation.close()


def count(hornet: Installation, folder: str = "INBOX") -> int:
    box = imaplib.IMAP4("127.0.0.1", hornet.port(143))
    box.login(USER, PASSWORD)
    answer = box.select(folder)[1][0]
    box.logout()
    return int(answer or 0)


def run(*words: str | Path, **more: str) -> str:
    done = subprocess.run(words, capture_output=True, timeout=120, env={**os.environ, **more})
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, said
    return said


def complaints(said: str) -> list[str]:
    return [
        line
        for line in said.splitlines()
        if any(word in line.lower() for word in ("error", "warning", "unexpected", "malformed", "fail"))
    ]


def test_swaks(hornet: Installation) -> None:
    """swaks delivers over STARTTLS with AUTH, and no line of its transcript is marked as an error."""
    before = count(hornet)
    said = run(
        "swaks", "--server", f"127.0.0.1:{hornet.port(587)}", "--tls", "--auth", "PLAIN", "--auth-user", USER, "--auth-password", PASSWORD,
        "--from", USER, "--to", USER, "--pipeline", "--header", "Subject: by swaks",
    )  # fmt: skip
    assert not [line for line in said.splitlines() if line.startswith(("<**", "<~*", "***"))], said
    until(lambda: count(hornet) == before + 1, "it is delivered")


def test_mbsync_both_ways(hornet: Installation, tmp_path: Path) -> None:
    """mbsync pulls everything, pushes flags and new mail, and pulls changes again."""
    local = tmp_path / "mail"
    local.mkdir()
    (tmp_path / "rc").write_text(
        f"IMAPAccount h\nHost localhost\nPort {hornet.port(143)}\nUser {USER}\nPass {PASSWORD}\nSSLType STARTTLS\nCertificateFile {hornet.dir}/tls/cert.pem\nAuthMechs PLAIN\n\n"
        f"IMAPStore far\nAccount h\n\nMaildirStore near\nPath {local}/\nInbox {local}/INBOX\nSubFolders Verbatim\n\n"
        "Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSync All\nSyncState *\nCopyArrivalDate yes\n"
    )
    before = count(hornet)
    said = run("mbsync", "-c", tmp_path / "rc", "-a", "-V", HOME=str(tmp_path))
    assert not complaints(said), said
    box = mailbox.Maildir(local / "INBOX", create=False)
    keys = list(box.iterkeys())
    assert len(keys) == before
    first = mailbox.MaildirMessage(box[keys[0]])
    first.set_subdir("cur")
    first.set_flags("FS")
    box[keys[0]] = first
    box.add(mailbox.MaildirMessage("From: alice@example.test\nSubject: added here\n\nlocal\n"))
    said = run("mbsync", "-c", tmp_path / "rc", "-a", "-V", HOME=str(tmp_path))
    assert not complaints(said), said
    imap = imaplib.IMAP4("127.0.0.1", hornet.port(143))
    imap.login(USER, PASSWORD)
    imap.select()
    assert imap.search(None, "FLAGGED", "SEEN")[1][0].split()
    (added,) = imap.search(None, "SUBJECT", '"added here"')[1][0].split()
    imap.store(added, "+FLAGS", r"(\Deleted)")
    imap.expunge()
    imap.logout()
    said = run("mbsync", "-c", tmp_path / "rc", "-a", "-V", HOME=str(tmp_path))
    assert not complaints(said), said
    assert len(list(mailbox.Maildir(local / "INBOX", create=False).iterkeys())) == before


@pytest.fixture
def dovecot() -> Iterator[Dovecot]:
    server = Dovecot()
    try:
        yield server
    finally:
        server.close()


def held(box: imaplib.IMAP4, password: str, folder: str = "INBOX") -> list[bytes]:
    """Every message of a folder, each as it is served, in no order."""
    box.login(USER, password)
    box.select(folder, readonly=True)
    found = box.fetch("1:*", "(BODY.PEEK[])")[1]
    box.logout()
    return sorted(part[1] for part in found if isinstance(part, tuple))


def test_mbsync_carries_the_portal_to_another_server(hornet: Installation, dovecot: Dovecot, tmp_path: Path) -> None:
    """People, or a new primary's administrator, copy a portal mailbox to a Dovecot: each message arrives once and byte for byte, but for
    the line by which mbsync finds it again, and the second run finds nothing to do. Catches UIDs, literals or APPENDs that only one end's own programs understand."""
    (tmp_path / "rc").write_text(
        f"IMAPAccount h\nHost localhost\nPort {hornet.port(143)}\nUser {USER}\nPass {PASSWORD}\nSSLType STARTTLS\nCertificateFile {hornet.dir}/tls/cert.pem\nAuthMechs PLAIN\n\n"
        f'IMAPAccount d\nHost 127.0.0.1\nPort {dovecot.port}\nUser {USER}\nPass "{dovecot.password}"\nSSLType None\nAuthMechs PLAIN\n\n'
        "IMAPStore far\nAccount h\n\nIMAPStore near\nAccount d\n\n"
        f"Channel c\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSync Pull\nSyncState {tmp_path}/state/\nCopyArrivalDate yes\n"
    )
    (tmp_path / "state").mkdir()
    here = held(imaplib.IMAP4("127.0.0.1", hornet.port(143)), PASSWORD)
    for _ in range(2):
        said = run("mbsync", "-c", tmp_path / "rc", "-a", "-V", HOME=str(tmp_path))
        assert not [line for line in complaints(said) if "in the clear" not in line], said
        there = held(imaplib.IMAP4("127.0.0.1", dovecot.port), dovecot.password)
        assert sorted(re.sub(rb"\r\nX-TUID: .{12}(?=\r\n)", b"", one, count=1) for one in there) == here
    assert len(here) == count(hornet)


@pytest.mark.parametrize(("protocol", "offset"), [("IMAP", 143), ("POP3", 110)])
def test_fetchmail(hornet: Installation, tmp_path: Path, protocol: str, offset: int) -> None:
    """fetchmail takes everything and leaves it on the server, byte for byte."""
    (tmp_path / "rc").write_text(
        f"poll localhost service {hornet.port(offset)} protocol {protocol}\n"
        f'user "{USER}" password "{PASSWORD}" is root here keep fetchall no rewrite sslproto "auto" sslcertck sslcertfile "{hornet.dir}/tls/cert.pem"\n'
        f'mda "cat >> {tmp_path}/taken; echo >> {tmp_path}/taken"\n'
    )
    (tmp_path / "rc").chmod(0o600)
    said = run("fetchmail", "-f", tmp_path / "rc", "-v", "--nosyslog", "--pidfile", tmp_path / "pid", FETCHMAILHOME=str(tmp_path))
    assert not [line for line in complaints(said) if "running as root" not in line.lower()], said
    taken = (tmp_path / "taken").read_bytes()
    for sample in SAMPLES:
        tail = sample.data.replace(b"\r\n", b"\n")
        assert tail.rpartition(b"\n\n")[2] in taken, sample.kind
