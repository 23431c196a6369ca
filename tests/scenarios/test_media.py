"""Media of a real service from the command line: a share that is away at start and comes back, a second medium, test, activate, merge (A7-A16)."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.peers.installation import Failed, Installation
from tests.peers.waiting import until
from tests.scenarios.test_root_key import AUDITOR, archive_some, installed


def health(hornet: Installation) -> tuple[int, str]:
    """What ``/healthz`` says."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{hornet.port(80)}/healthz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def media(hornet: Installation) -> dict[int, Any]:
    return {one["id"]: one for one in hornet.json("archive", "medium", "list")}


def exported(hornet: Installation, word: str) -> list[str]:
    """The subjects of what is found and can be opened."""
    found = hornet.json("--as", AUDITOR[0], "archive", "search", word, password=AUDITOR[1])["results"]
    for one in found:
        hornet.command("--as", AUDITOR[0], "archive", "export", one["id"], password=AUDITOR[1])
    return sorted(one["subject"] for one in found)


def test_media_from_the_command_line() -> None:
    """Catches a start that fails over a medium, a medium that needs a restart, and whatever keeps an administrator from moving to another disk."""
    hornet = installed()
    try:
        archive_some(hornet, "early")
        first = hornet.dir / "archive" / "medium"
        assert [(m["id"], m["kind"], m["active"], m["up"], m["mails"]) for m in media(hornet).values()] == [
            (1, "directory", True, True, 6)
        ]
        hornet.stop()
        first.rename(hornet.dir / "aside")
        first.mkdir()
        hornet.start(wait=False)
        until(lambda: health(hornet)[0] == 503, "the health page says that a medium is away")
        assert "medium 1 is out of reach" in json.loads(health(hornet)[1])["reasons"]["archive"]
        hornet.send("a@outside.test", ["alice@example.test"], b"Subject: meanwhile\r\n\r\nmeanwhile\r\n")
        hornet.until_idle()
        until(lambda: hornet.status()["archive"]["staged"] == 1, "mail is taken")
        assert list(first.iterdir()) == []
        first.rmdir()
        (hornet.dir / "aside").rename(first)
        until(lambda: health(hornet)[0] == 200, "it is taken up")
        until(lambda: hornet.status()["archive"]["staged"] == 0, "all is on the medium")
        second = hornet.dir / "second"
        assert "medium 2 is added" in hornet.command("archive", "medium", "add", "directory", str(second), "--name", "disk two")
        assert hornet.json("archive", "medium", "test", "2")["id"] == 2
        hornet.command("archive", "medium", "activate", "2")
        archive_some(hornet, "late")
        with pytest.raises(Failed, match="active one"):
            hornet.command("archive", "medium", "deactivate", "2")
        with pytest.raises(Failed, match="holds mail"):
            hornet.command("archive", "medium", "remove", "1")
        hornet.command("archive", "medium", "retire", "1", "--into", "2")
        shown = media(hornet)
        assert (shown[1]["moved_to"], shown[1]["mails"], shown[2]["mails"]) == (2, 0, 13)
        shutil.rmtree(first)
        hornet.stop()
        hornet.start()
        assert len(exported(hornet, "early")) == 6
        assert len(exported(hornet, "late")) == 6
        assert hornet.json("archive", "verify", "--full")["ok"]
    finally:
        hornet.close()
