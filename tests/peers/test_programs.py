"""Further mail programs at their real work, over TLS from the start (port 993): offlineimap, getmail, mutt in a terminal, aioimaplib, imapclient."""

from __future__ import annotations

import mailbox
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from imapclient import IMAPClient

from tests.peers.installation import Installation
from tests.peers.waiting import until

USER, OTHER, PASSWORD = "alice@example.test", "bob@example.test", "alice-secret-1"
MANY = 60


@pytest.fixture(scope="module")
def hornet() -> Iterator[Installation]:
    """A domain that the portal serves for good."""
    installation = Installation()
    try:
        installation.start()
        installation.add_domain("example.test", None)
        installation.add_mailbox(USER, PASSWORD)
        installation.add_mailbox(OTHER, PASSWORD)
        yield installation
    finally:
        installation.close()


def trusting(hornet: Installation) -> ssl.SSLContext:
    """TLS that checks the certificate and its name."""
    return ssl.create_default_context(cafile=str(hornet.dir / "tls" / "cert.pem"))


def connected(hornet: Installation, user: str = USER) -> IMAPClient:
    client = IMAPClient("localhost", hornet.port(993), ssl=True, ssl_context=trusting(hornet), timeout=60)
    client.login(user, PASSWORD)
    return client


def mail(number: int) -> bytes:
    return (
        b"From: b@example.test\r\nTo: alice@example.test\r\nSubject: number %d\r\nDate: Mon, 3 Nov 2025 10:00:00 +0100\r\nMessage-ID: <%d@x>\r\n\r\ntext\r\n"
        % (
            number,
            number,
        )
    )


@pytest.fixture
def folder(hornet: Installation) -> Iterator[IMAPClient]:
    """INBOX selected, with nothing in it but 60 messages."""
    client = connected(hornet)
    client.select_folder("INBOX")
    if there := client.search():
        client.delete_messages(there)
        client.expunge()
    client.multiappend(
        "INBOX", [mail(number) for number in range(MANY)]
    )  # with two spaces between messages, where RFC 3502 has one
    client.noop()
    yield client
    client.logout()


def run(*words: str | Path, **more: str) -> str:
    done = subprocess.run(words, capture_output=True, timeout=180, env={**os.environ, **more})
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, said
    return said


def test_tls_from_the_start(hornet: Installation) -> None:
    """Port 993: would catch STARTTLS offered within TLS, a certificate whose name is not the host's, and plain text answered there."""
    client = connected(hornet)
    assert b"STARTTLS" not in client.capabilities()
    assert b"IMAP4REV1" in client.capabilities()
    client.select_folder("INBOX")
    client.logout()
    with socket.create_connection(("localhost", hornet.port(993)), timeout=60) as plain:
        plain.sendall(b"a CAPABILITY\r\n")
        assert b"CAPABILITY" not in plain.recv(4096), "nothing is answered in the clear"


def test_offlineimap_both_ways(hornet: Installation, folder: IMAPClient, tmp_path: Path) -> None:
    """offlineimap takes all of it, brings what was written and flagged there, takes away what was removed here, and in the end has nothing to do."""
    local = tmp_path / "mail"
    local.mkdir()
    (tmp_path / "rc").write_text(
        f"[general]\naccounts = a\nmetadata = {tmp_path}/state\nui = basic\nsocktimeout = 60\n"
        "[Account a]\nlocalrepository = l\nremoterepository = r\n"
        f"[Repository l]\ntype = Maildir\nlocalfolders = {local}\n"
        f"[Repository r]\ntype = IMAP\nremotehost = localhost\nremoteport = {hornet.port(993)}\nssl = yes\n"
        f"sslcacertfile = {hornet.dir}/tls/cert.pem\nremoteuser = {USER}\nremotepass = {PASSWORD}\nfolderfilter = lambda name: name == 'INBOX'\n"
    )

    def through() -> str:
        said = run("offlineimap", "-c", tmp_path / "rc", "-o", "-u", "basic", HOME=str(tmp_path))
        assert "ERROR" not in said, said
        return said

    through()
    box = mailbox.Maildir(local / "INBOX", create=False)
    assert sorted(str(one["Subject"]) for one in box) == sorted(f"number {n}" for n in range(MANY))
    [key] = [key for key, one in box.iteritems() if one["Subject"] == "number 7"]
    flagged = mailbox.MaildirMessage(box[key])
    flagged.set_subdir("cur")
    flagged.set_flags("FS")
    box[key] = flagged
    box.add(mailbox.MaildirMessage("From: alice@example.test\nSubject: written there\nMessage-ID: <there@x>\n\nlocal\n"))
    [gone] = folder.search(["SUBJECT", "number 8", "LARGER", 1, "HEADER", "Message-ID", "<8@x>"])
    folder.delete_messages([gone])
    folder.expunge()
    through()
    folder.noop()
    [seven] = folder.search(["FLAGGED", "SEEN"])
    assert b"number 7" in folder.fetch([seven], ["BODY.PEEK[HEADER]"])[seven][b"BODY[HEADER]"]
    assert len(folder.search(["SUBJECT", "written there"])) == 1
    assert len(list(mailbox.Maildir(local / "INBOX", create=False).iterkeys())) == MANY
    assert "Copy message" not in through()


@pytest.mark.parametrize(("kind", "offset"), [("SimpleIMAPSSLRetriever", 993), ("SimplePOP3SSLRetriever", 995)])
def test_getmail(hornet: Installation, folder: IMAPClient, tmp_path: Path, kind: str, offset: int) -> None:
    """getmail takes everything once: the second run finds nothing new, because UIDs and UIDLs stay the same."""
    for name in ("new", "cur", "tmp"):
        (tmp_path / "mail" / name).mkdir(parents=True)
    boxes = 'mailboxes = ("INBOX",)\n' if offset == 993 else ""
    (tmp_path / "rc").write_text(
        f"[retriever]\ntype = {kind}\nserver = localhost\nport = {hornet.port(offset)}\nusername = {USER}\npassword = {PASSWORD}\n{boxes}"
        f"ca_certs = {hornet.dir}/tls/cert.pem\n[destination]\ntype = MDA_external\npath = /bin/sh\n"
        f'arguments = ("-c", "cat > $(mktemp {tmp_path}/mail/new/XXXXXXXX)")\nallow_root_commands = true\nunixfrom = false\n'
        "[options]\nread_all = false\ndelete = false\ndelivered_to = false\nreceived = false\n"
    )
    for _ in range(2):
        said = run("getmail", f"--getmaildir={tmp_path}", f"--rcfile={tmp_path}/rc", HOME=str(tmp_path))
        assert "rror" not in said, said
        box = mailbox.Maildir(tmp_path / "mail", create=False)
        assert sorted(str(one["Subject"]) for one in box) == sorted(f"number {n}" for n in range(MANY))


def test_mutt_in_a_terminal(hornet: Installation, folder: IMAPClient, tmp_path: Path) -> None:
    """Somebody opens INBOX in mutt, flags a message, deletes another and leaves; would catch an index that stays empty, a change that is not kept, and an error that is shown."""
    (tmp_path / "rc").write_text(
        f'set imap_user="{USER}"\nset imap_pass="{PASSWORD}"\nset certificate_file="{hornet.dir}/tls/cert.pem"\nset ssl_ca_certificates_file="{hornet.dir}/tls/cert.pem"\n'
        'set delete=yes\nset quit=yes\nset move=no\nset confirmappend=no\nset sort=mailbox-order\nset header_cache=""\nset wait_key=no\nset timeout=1\n'
        f'set folder="imaps://localhost:{hornet.port(993)}/"\nset spoolfile=+INBOX\nset record=""\n'
    )
    home = Path(tempfile.mkdtemp(prefix="hm-tmux-"))  # the path of a socket is short
    tmux = ("tmux", "-S", str(home / "s"), "-f", "/dev/null")

    def screen() -> str:
        return run(*tmux, "capture-pane", "-p", "-t", "m")

    def keys(*pressed: str) -> None:
        run(*tmux, "send-keys", "-t", "m", *pressed)

    url = f"imaps://localhost:{hornet.port(993)}/INBOX"
    over = home / "over"
    try:
        run(*tmux, "new-session", "-d", "-s", "m", "-x", "120", "-y", "40", f"mutt -n -F {tmp_path}/rc -f {url}; echo $? > {over}", HOME=str(home), LC_ALL="C.UTF-8", TERM="screen")  # fmt: skip
        until(lambda: "number 0" in screen(), "the index is shown")
        keys("=", "F")
        until(lambda: "!" in next(line for line in screen().splitlines() if "number 0" in line), "it is flagged")
        keys("j", "d")
        keys("q")
        until(over.exists, "mutt has ended")
        folder.noop()
        [flagged] = folder.search(["FLAGGED"])
        assert b"number 0" in folder.fetch([flagged], ["BODY.PEEK[HEADER]"])[flagged][b"BODY[HEADER]"]
        assert len(folder.search()) == MANY - 1
    finally:
        subprocess.run([*tmux, "kill-server"], capture_output=True, timeout=60, check=False)
        shutil.rmtree(home, ignore_errors=True)


def test_aioimaplib_waits_for_mail(hornet: Installation, folder: IMAPClient) -> None:
    """A program on asyncio idles, hears of a new message, fetches and flags it; would catch answers that come while nobody asks and are not understood."""

    done = subprocess.Popen(
        [sys.executable, "-c", IDLER, str(hornet.port(993)), str(hornet.dir / "tls" / "cert.pem"), USER, PASSWORD, str(MANY + 1)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.stdout is not None
    try:
        assert done.stdout.readline() == b"idling\n", done.stdout.read()
        folder.append("INBOX", mail(MANY))
        said, _ = done.communicate(timeout=120)
    finally:
        done.kill()
        done.wait()
        done.stdout.close()
    assert done.returncode == 0, said.decode()
    folder.noop()
    assert folder.search(["FLAGGED"]) == folder.search()[-1:]


IDLER = """
import asyncio, ssl, sys, aioimaplib

async def work(port, cert, user, password, number):
    client = aioimaplib.IMAP4_SSL("localhost", int(port), timeout=60, ssl_context=ssl.create_default_context(cafile=cert))
    await client.wait_hello_from_server()
    assert (await client.login(user, password)).result == "OK"
    assert (await client.select("INBOX")).result == "OK"
    idling = await client.idle_start(timeout=60)
    print("idling", flush=True)
    heard = []
    while number.encode() + b" EXISTS" not in heard:
        heard += await client.wait_server_push(60)
    client.idle_done()
    await asyncio.wait_for(idling, 60)
    fetched = await client.fetch(number, "(BODY.PEEK[])")
    assert any(b"number %d" % (int(number) - 1) in bytes(line) for line in fetched.lines), fetched
    assert (await client.store(number, "+FLAGS", "(\\\\Flagged)")).result == "OK"
    assert (await client.search("FLAGGED")).lines[0] == number.encode()
    await client.logout()

asyncio.run(work(*sys.argv[1:]))
"""
"""In a process of its own: the library calls ``str()`` on bytes, which is an error in tests."""


def test_imapclient_with_a_shared_folder(hornet: Installation, folder: IMAPClient) -> None:
    """A program that knows ACL (RFC 4314) gives rights, and another one works with the folder: catches a namespace, rights or a folder that only our own tests understand."""
    folder.create_folder("Projects")
    folder.setacl("Projects", OTHER, "lrswite")
    assert dict(folder.getacl("Projects"))[OTHER.encode()] == b"lrswited"
    bob = connected(hornet, OTHER)
    try:
        [(prefix, delimiter)] = bob.namespace().other
        assert (prefix, delimiter) == ("Other users/", "/")
        name = f"{prefix}{USER}/Projects"
        assert name in [found for _, _, found in bob.list_folders(prefix, "*")]
        bob.append(name, mail(1000))
        bob.select_folder(name)
        assert len(bob.search(["SUBJECT", "number 1000"])) == 1
        bob.copy(bob.search(), "INBOX")
        bob.move(bob.search(), "Trash")
        assert bob.folder_status("Trash", ["MESSAGES"])[b"MESSAGES"] == 1
        assert folder.folder_status("Projects", ["MESSAGES"])[b"MESSAGES"] == 0
    finally:
        bob.logout()
