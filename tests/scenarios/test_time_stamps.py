"""From mail to proof in a real service (A33, A34, A60, L2, L14): a time stamp authority behind HTTP, and a bundle checked by a command that knows nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hornetmail.archive.proof.tokens import fingerprint
from hornetmail.testing.stamp_authority import StampAuthority
from tests.peers.installation import Installation
from tests.peers.waiting import until
from tests.scenarios.test_retention import start_before
from tests.scenarios.world import AUDITOR, World

USER = "alice@example.test"


@pytest.fixture
def hornet() -> Iterator[Installation]:
    installation = Installation()
    try:
        installation.set(seal_seconds=1)
        installation.start()
        installation.add_domain("example.test", None)
        installation.add_mailbox(USER, "alice-secret-1")
        installation.add_mailbox(AUDITOR[0], AUDITOR[1], "--role", "auditor")
        yield installation
    finally:
        installation.close()


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[StampAuthority]:
    one = StampAuthority(tmp_path / "authority", whole_chain=True)
    yield one
    one.close()


def send(hornet: Installation, word: str) -> None:
    raw = f"From: <a@outside.test>\r\nTo: <{USER}>\r\nSubject: {word}\r\n\r\n{word}\r\n".encode()
    hornet.send("a@outside.test", [USER], raw)
    hornet.until_idle()
    until(lambda: hornet.status()["archive"]["staged"] == 0, "it is on the medium")


def test_from_mail_to_proof(hornet: Installation, authority: StampAuthority, tmp_path: Path) -> None:
    """Catches parts that work each for itself and are not joined: settings, the job at 23:57, the audit log's leaf, rights, the command without a service."""
    send(hornet, "proved")
    assert "NO TIME STAMP AUTHORITY" in hornet.command("status")
    ca = tmp_path / "ca.pem"
    ca.write_text(authority.pem)
    hornet.command("archive", "authority", "set", "one", authority.url, "--ca", str(ca))
    assert "its stamps count" in hornet.command("archive", "authority", "test", "one")
    assert "stamped at" in hornet.command("archive", "timestamp")
    assert hornet.status()["archive"]["stamps"]["stamped"] >= 2
    (hit,) = World(hornet, None).archived()  # type: ignore[arg-type]
    bundle = tmp_path / "evidence.zip"
    hornet.command("--as", AUDITOR[0], "archive", "export", "--evidence", hit["id"], str(bundle), password=AUDITOR[1])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    check = [sys.executable, "-m", "hornetmail.cli", "verify-evidence", str(bundle), "--ca", str(ca)]
    done = subprocess.run(check, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert USER in done.stdout
    assert fingerprint(authority.root) in done.stdout
    with zipfile.ZipFile(bundle) as archive:
        assert archive.read("mail.eml").endswith(b"proved\r\n")
    assert hornet.command("archive", "verify", "--full") == "all is well\n"

    # At 23:57 by itself, for what has come since; after a rebuild the stamps are there.
    send(hornet, "later")
    assert hornet.stop() == 0
    start_before(hornet, 23 * 60 + 57, 20)
    before = hornet.status()["archive"]["stamps"]["stamps"]
    until(lambda: hornet.status()["archive"]["stamps"]["stamps"] == before + 1, "23:57 stamps", seconds=75)
    assert hornet.status()["archive"]["stamps"]["unstamped"] == 0
    assert hornet.stop() == 0
    hornet.command("archive", "rebuild")
    hornet.start()
    assert hornet.status()["archive"]["stamps"]["stamps"] == before + 1
    assert hornet.command("archive", "verify", "--full") == "all is well\n"
