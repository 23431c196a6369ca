"""No file is opened in the reactor (rule 8d): a disk that hangs for a second would hold everybody up for it, and no meter of CPU sees that."""

from __future__ import annotations

import html
import imaplib
import os
import poplib
import re
import signal
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.installation import Installation
from tests.peers.waiting import until

USER, PASSWORD = "alice@example.test", "alice-secret-1"
MAIL = b"From: a@far.test\r\nTo: alice@example.test\r\nSubject: number %d\r\n\r\n" + b"text of it\r\n" * 20


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Installation, Path]]:
    """A service that writes down what it opens, once it is told to."""
    installation, opened = Installation(), tmp_path / "opened"
    monkeypatch.setenv("HORNETMAIL_OPENED", str(opened))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent / "watch"), os.environ.get("PYTHONPATH", "")]))
    try:
        installation.start()
        monkeypatch.delenv("HORNETMAIL_OPENED")
        installation.add_domain("example.test", None)
        installation.add_mailbox(USER, PASSWORD)
        yield installation, opened
    finally:
        installation.close()


def load(hornet: Installation, round_: int) -> None:
    """Something of everything that people do."""
    for number in range(5):
        hornet.send("a@far.test", [USER], MAIL % (100 * round_ + number))
    hornet.send("a@far.test", [USER], MAIL % 7 + b"line of a large mail\r\n" * 20_000)
    hornet.until_idle()
    box = imaplib.IMAP4("127.0.0.1", hornet.port(143))
    box.login(USER, PASSWORD)
    until(lambda: int(box.select("INBOX")[1][0] or 0) >= 6, "all is there")
    folder = f"Work{round_}"
    box.create(folder)
    box.append("INBOX", "", imaplib.Time2Internaldate(1_790_000_000), MAIL % 99)
    for command in ("(FLAGS UID)", "(ENVELOPE BODYSTRUCTURE)", "(BODY.PEEK[])", "(BODY.PEEK[HEADER])"):
        assert box.fetch("1:*", command)[0] == "OK"
    assert box.search(None, "TEXT", "text")[0] == "OK"
    assert box.search(None, "SUBJECT", "number")[0] == "OK"
    box.store("1", "+FLAGS", "(\\Flagged)")
    box.copy("1:2", folder)
    box.store("2", "+FLAGS", "(\\Deleted)")
    box.expunge()
    box.status(folder, "(MESSAGES)")
    box.list()
    box.rename(folder, folder + "x")
    box.delete(folder + "x")
    box.logout()
    pop = poplib.POP3("127.0.0.1", hornet.port(110))
    pop.user(USER)
    pop.pass_(PASSWORD)
    pop.uidl()
    pop.retr(1)
    pop.top(2, 1)
    pop.dele(1)
    pop.quit()
    web(hornet)
    for words in (["status"], ["queue", "list"], ["archive", "search", "number"], ["jobs", "list"], ["alarms", "list"]):
        hornet.command(*words)
    hornet.command("--as", USER, "archive", "search", "text", password=PASSWORD)


def web(hornet: Installation) -> None:
    """A person reads mail there."""
    root = f"http://127.0.0.1:{hornet.port(80)}"
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def page(path: str) -> str:
        with browser.open(root + path, timeout=60) as answer:
            text: str = answer.read().decode()
        return text

    token = re.search(r'name="csrf" value="([^"]+)"', page("/login"))
    assert token is not None
    form = urllib.parse.urlencode({"csrf": token[1], "user": USER, "password": PASSWORD}).encode()
    browser.open(urllib.request.Request(f"{root}/login", form, {"Origin": root}), timeout=60).close()
    for path in ("/healthz", "/metrics", "/archive?q=number", "/account", "/mail/write"):
        page(path)
    mail = page("/mail")
    assert "number" in mail
    for path in sorted(set(re.findall(r'href="(/mail\?[^"#]+)"', mail)))[:8]:
        page(html.unescape(path))


def test_no_file_is_opened_in_the_reactor(watched: tuple[Installation, Path]) -> None:
    """Everything once, so that what is imported and read but once has been; then the same again, watched."""
    hornet, opened = watched
    load(hornet, 1)
    assert hornet.process is not None
    hornet.process.send_signal(signal.SIGUSR2)
    load(hornet, 2)
    lines = opened.read_text().splitlines()
    assert lines.count("elsewhere") > 20, "it was watched"
    assert sorted(set(lines) - {"elsewhere"}) == []
