"""The archive's root key is replaced in a real service, and the archive rebuilt elsewhere from medium and paper (rule 22, L3)."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.peers.installation import Failed, Installation
from tests.peers.waiting import until
from tests.scenarios.world import AUDITOR, World, digest

USER = "alice@example.test"
NO_PRIMARY: Any = None


def installed() -> Installation:
    hornet = Installation()
    hornet.set(seal_seconds=1)
    hornet.start()
    hornet.add_domain("example.test", None)
    hornet.add_mailbox(USER, "alice-secret-1")
    hornet.add_mailbox(AUDITOR[0], AUDITOR[1], "--role", "auditor")
    return hornet


@pytest.fixture
def hornet() -> Iterator[Installation]:
    installation = installed()
    yield installation
    installation.close()


def archive_some(hornet: Installation, word: str) -> Counter[str]:
    """Mail until it is on the medium; the SHA-256 of what was sent."""
    sent = [
        f"From: <a@outside.test>\r\nTo: <{USER}>\r\nSubject: {word} {n}\r\n\r\n{word} {n}\r\n".encode()
        + b"line of text\r\n" * 50 * n
        for n in range(6)
    ]
    for data in sent:
        hornet.send("a@outside.test", [USER], data)
    hornet.until_idle()
    until(lambda: hornet.status()["archive"]["staged"] == 0, "all is on the medium")
    return Counter(map(digest, sent))


def refused(hornet: Installation, *words: str, stdin: str = "") -> str:
    with pytest.raises(Failed) as failed:
        hornet.command(*words, stdin=stdin)
    assert failed.value.code == 1
    assert len(failed.value.error.splitlines()) == 1, failed.value.error
    return failed.value.error


def key(hornet: Installation) -> Any:
    return hornet.status()["archive"]["key"]


def key_command(hornet: Installation, *words: str) -> str:
    return hornet.command("archive", "key", *words, "--password-stdin", stdin="paper-secret-9\n")


def move_medium(hornet: Installation, to: Installation) -> None:
    """All that is left: the medium, in a data directory that has neither key nor archive."""
    shutil.rmtree(to.dir / "archive")
    (to.dir / "archive").mkdir(0o700)
    shutil.copytree(hornet.dir / "archive" / "medium", to.dir / "archive" / "medium")
    (to.dir / "keys" / "archive-root.key").unlink()


def test_replaced_and_rebuilt_elsewhere(hornet: Installation) -> None:
    """Catches a new key that does not open all mail, an old one that still opens something, and a pending one that is in use."""
    papers = {name: str(hornet.root / f"{name}.txt") for name in ("old", "new")}
    sent = archive_some(hornet, "before")
    key_command(hornet, "backup", papers["old"])
    former = key(hornet)["id"]

    key_command(hornet, "new", papers["new"])
    pending = key(hornet)["pending"]
    assert key(hornet)["id"] == former != pending
    again = ("archive", "key", "new", str(hornet.root / "x.txt"), "--password-stdin")
    assert "pending already" in refused(hornet, *again, stdin="paper-secret-9\n")
    confirm = ("archive", "key", "confirm", papers["old"], "--password-stdin")
    assert former in refused(hornet, *confirm, stdin="paper-secret-9\n")
    assert hornet.stop() == 0
    hornet.start()
    assert key(hornet)["pending"] == pending
    sent += archive_some(hornet, "pending")

    said = key_command(hornet, "confirm", papers["new"])
    assert f"key {pending} is in force" in said
    assert "Copies of a medium made before still open with it" in said
    assert (key(hornet)["id"], key(hornet)["pending"], key(hornet)["media_waiting"]) == (pending, "", [])
    sent += archive_some(hornet, "after")
    world = World(hornet, NO_PRIMARY)
    assert world.archived_digests() == sent
    assert hornet.command("archive", "verify", "--full") == "all is well\n"
    actions = [one["action"] for one in json.loads(hornet.command("audit", "--json"))["entries"]]
    assert {"key.new", "key.confirm"} <= set(actions)
    assert hornet.stop() == 0

    elsewhere = installed()
    try:
        assert elsewhere.stop() == 0
        move_medium(hornet, elsewhere)
        key_command(elsewhere, "import", papers["old"])
        told = refused(elsewhere, "archive", "rebuild")
        assert former in told
        assert pending in told
        assert "is older" in told
        key_command(elsewhere, "import", papers["new"])
        assert json.loads(elsewhere.command("archive", "rebuild", "--json")) == {"mails": len(sent), "unreadable": []}
        refused(elsewhere, "archive", "key", "import", papers["old"], "--password-stdin", stdin="paper-secret-9\n")
        elsewhere.start()
        assert World(elsewhere, NO_PRIMARY).archived_digests() == sent
        assert elsewhere.command("archive", "verify", "--full") == "all is well\n"
    finally:
        elsewhere.close()


def test_killed_while_it_changes(hornet: Installation) -> None:
    """Catches a kill -9 during the confirmation after which the service does not start, loses mail, or has two keys at once."""
    sent = archive_some(hornet, "one")
    for round_, delay in enumerate((0.0, 0.35, 0.45, 0.55)):
        paper = str(hornet.root / f"{round_}.txt")
        key_command(hornet, "new", paper)
        before, after = key(hornet)["id"], key(hornet)["pending"]

        def confirm(paper: str = paper) -> None:
            with suppress(Failed):
                key_command(hornet, "confirm", paper)

        thread = threading.Thread(target=confirm)
        thread.start()
        thread.join(delay)
        hornet.stop(kill=True)
        thread.join()
        hornet.start()
        now = key(hornet)
        assert (now["id"], now["pending"]) in ((before, after), (after, ""))
        assert hornet.command("archive", "verify", "--full") == "all is well\n"
        if now["pending"]:
            key_command(hornet, "confirm", paper)
        assert World(hornet, NO_PRIMARY).archived_digests() == sent
