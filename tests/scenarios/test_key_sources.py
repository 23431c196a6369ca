"""Where the archive's key comes from, in a real service (A2, rule 22): locked and unlocked, and the secret nowhere that it should not be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.installation import Failed, Installation
from tests.peers.waiting import until
from tests.scenarios.world import AUDITOR

USER = "alice@example.test"
WORDS = "Zauberwort-7391"


@pytest.fixture
def hornet() -> Iterator[Installation]:
    installation = Installation()
    installation.set(seal_seconds=1)
    installation.start()
    installation.add_domain("example.test", None)
    installation.add_mailbox(USER, "alice-secret-1")
    installation.add_mailbox(AUDITOR[0], AUDITOR[1], "--role", "auditor")
    yield installation
    installation.close()


def send(hornet: Installation, word: str) -> None:
    hornet.send("a@outside.test", [USER], f"From: <a@outside.test>\r\nTo: <{USER}>\r\nSubject: {word}\r\n\r\n{word}\r\n".encode())
    hornet.until_idle()


def found(hornet: Installation, word: str) -> int:
    answer = hornet.command("--as", AUDITOR[0], "archive", "search", word, "--json", password=AUDITOR[1])
    return int(json.loads(answer)["total"])


def source(hornet: Installation, **values: str) -> None:
    """Another ``[archive.key]``."""
    text = hornet.config.read_text()
    head, _, rest = text.partition("[archive.key]\n")
    lines = "".join(f"{name} = {value}\n" for name, value in values.items())
    hornet.config.write_text(f"{head}[archive.key]\n{lines}\n[delivery]{rest.partition('[delivery]')[2]}")


def restart(hornet: Installation) -> None:
    assert hornet.stop() == 0
    hornet.start()


def key_files(hornet: Installation) -> set[str]:
    return {path.name for path in (hornet.dir / "keys").iterdir()} - {"server.key"}


def nowhere(hornet: Installation, *secrets: bytes) -> None:
    """No file of the installation and nothing that it printed holds one of these."""
    for path in hornet.root.rglob("*"):
        if path.is_file() and not path.is_socket():
            data = path.read_bytes()
            for secret in secrets:
                assert secret not in data, path


def test_by_passphrase(hornet: Installation) -> None:
    """Catches mail that waits for a passphrase, mail that is not found once it was typed, a key that stays in the clear, a passphrase that is written
    somewhere, and a core file that would hold the key."""
    send(hornet, "erstens")
    root = (hornet.dir / "keys" / "archive-root.key").read_text().split()[1]
    paper = hornet.root / "key.txt"
    hornet.command("archive", "key", "backup", str(paper), "--password-stdin", stdin="paper-secret-9\n")
    source(hornet, source='"passphrase"')
    restart(hornet)
    until(lambda: hornet.status()["archive"]["key"]["trouble"] != "", "it asks for a passphrase")
    assert not hornet.status()["archive"]["locked"]
    with pytest.raises(Failed, match="at least 8"):
        hornet.command("archive", "key", "passphrase", "--password-stdin", stdin="short\n")
    hornet.command("archive", "key", "passphrase", "--password-stdin", stdin=f"{WORDS}\n")
    assert key_files(hornet) == {"archive-root.sealed"}
    assert hornet.status()["archive"]["key"]["trouble"] == ""

    restart(hornet)
    status = hornet.status()["archive"]
    assert (status["locked"], status["key"]["trouble"]) == (True, "nobody has typed the passphrase")
    assert "LOCKED" in hornet.command("status")
    until(lambda: "archive-locked" in hornet.status()["alarms"]["codes"], "it is told")
    staged = hornet.status()["archive"]["staged"]
    send(hornet, "zweitens")
    assert hornet.status()["archive"]["staged"] == staged + 1
    with pytest.raises(Failed, match="locked"):
        found(hornet, "erstens")
    with pytest.raises(Failed, match="does not open the archive's key"):
        hornet.command("archive", "unlock", "--password-stdin", stdin="Zauberwort-7392\n")
    hornet.command("archive", "unlock", "--password-stdin", stdin=f"{WORDS}\n")
    until(lambda: (found(hornet, "erstens"), found(hornet, "zweitens")) == (1, 1), "all is found")
    until(lambda: "archive-locked" not in hornet.status()["alarms"]["codes"], "the alarm ends")
    assert hornet.process is not None
    limits = Path(f"/proc/{hornet.process.pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if "core file" in line).split()[4] == "0"

    restart(hornet)
    with pytest.raises(Failed, match="line 2"):
        hornet.command("archive", "unlock", str(hornet.config), str(_slip(paper)), "--password-stdin", stdin="paper-secret-9\n")
    hornet.command("archive", "unlock", str(paper), "--password-stdin", stdin="paper-secret-9\n")
    assert found(hornet, "zweitens") == 1
    assert hornet.stop() == 0
    rebuilt = hornet.command("archive", "rebuild", "--passphrase-stdin", "--json", stdin=f"{WORDS}\n")
    assert json.loads(rebuilt) == {"mails": 2, "unreadable": []}
    nowhere(hornet, WORDS.encode(), root.encode(), bytes.fromhex(root), b"paper-secret-9")


def _slip(paper: Path) -> Path:
    lines = paper.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(" 2 "))
    lines[at] = lines[at][:5] + ("7" if lines[at][5] != "7" else "8") + lines[at][6:]
    slip = paper.with_name("slip.txt")
    slip.write_text("\n".join(lines))
    return slip


def test_by_command_and_credential(hornet: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a service that does not start because its vault is away, a source that is never asked again, a change of source that loses the key, and
    what a command gives in a log, in an error or on disk."""
    vault = tmp_path / "vault.txt"
    vault.write_text("Tresorinhalt-4711\n")
    give = tmp_path / "give"
    give.write_text(
        f"#!/bin/sh\nif [ -e {vault} ]; then cat {vault}; else echo Tresorinhalt-4711; echo 'the vault is sealed' >&2; exit 3; fi\n"
    )
    give.chmod(0o700)
    source(hornet, source='"command"', command=f'["{give}", "--field=key"]')
    restart(hornet)
    until(lambda: key_files(hornet) == {"archive-root.sealed"}, "the key is sealed")
    send(hornet, "drittens")
    until(lambda: found(hornet, "drittens") == 1, "it is found")

    vault.unlink()
    restart(hornet)
    assert "ended with 3: the vault is sealed" in hornet.status()["archive"]["key"]["trouble"]
    assert hornet.status()["archive"]["locked"]
    send(hornet, "viertens")
    vault.write_text("Tresorinhalt-4711\n")
    until(lambda: not hornet.status()["archive"]["locked"], "the vault is asked again", seconds=90)
    until(lambda: found(hornet, "viertens") == 1, "it is found")

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "archive-key").write_text("Geheimzahl-0815")
    source(hornet, source='"credential"', credential='"archive-key"', command=f'["{give}"]')
    restart(hornet)
    until(lambda: hornet.status()["archive"]["key"]["trouble"] == "", "the key moved to the credential")
    source(hornet, source='"credential"', credential='"archive-key"')
    restart(hornet)
    assert found(hornet, "drittens") == 1
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    restart(hornet)
    assert "$CREDENTIALS_DIRECTORY is not set" in hornet.status()["archive"]["key"]["trouble"]
    nowhere(hornet, b"Tresorinhalt", b"Geheimzahl")


def test_a_damaged_key_file_locks_the_archive_alone(hornet: Installation) -> None:
    """Catches a damaged file of the key that keeps mail from flowing."""
    path = hornet.dir / "keys" / "archive-root.key"
    whole = path.read_bytes()
    path.write_bytes(whole[:-6] + b"dead\n")
    restart(hornet)
    assert "archive-root.key is damaged" in hornet.status()["archive"]["key"]["trouble"]
    send(hornet, "trotzdem")
    path.write_bytes(whole)
    until(lambda: found_or_locked(hornet, "trotzdem") == 1, "it is found", seconds=90)


def found_or_locked(hornet: Installation, word: str) -> int:
    return 0 if hornet.status()["archive"]["locked"] else found(hornet, word)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"source": '"vault"'}, "$.archive.key.source: Invalid enum value 'vault'"),
        ({"source": '"command"'}, "$.archive.key.command: it is missing, and $.archive.key.source says 'command'"),
        ({"source": '"command"', "command": '["give me"]'}, "$.archive.key.command[0]: 'give me': write the whole path"),
        ({"source": '"credential"', "credential": '"../x"'}, "$.archive.key.credential: '../x' is no name of a credential"),
        ({"source": '"credential"'}, "$.archive.key.credential: it is missing"),
        ({"source": '"file"', "seconds": "0"}, "$.archive.key.seconds"),
    ],
)
def test_a_source_that_cannot_be(hornet: Installation, values: dict[str, str], told: str) -> None:
    """Catches a mistake in the configuration that is found only when the archive stays locked, or told without its place."""
    source(hornet, **values)
    with pytest.raises(Failed) as failed:
        hornet.command("check-config")
    assert told in failed.value.error
