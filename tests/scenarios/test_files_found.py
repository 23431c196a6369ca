"""The words of files that hang on mail, in a real service: read in processes of their own, which end with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archive.test_file_words import with_file
from tests.extraction import samples
from tests.peers.installation import Installation
from tests.peers.waiting import until
from tests.scenarios.world import AUDITOR

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


def readers() -> set[int]:
    """Processes that read, of any service on this machine."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if b"hornetmail.extraction.child" in (place / "cmdline").read_bytes():
                found.add(int(place.name))
        except OSError:
            continue
    return found


def test_found(hornet: Installation) -> None:
    """Would catch a service whose files are read only in tests: the plug-in, the configuration, signals of ended processes, a kill in the middle, and processes that are left behind."""
    before = readers()

    def total(word: str) -> int:
        return int(hornet.json("--as", AUDITOR[0], "archive", "search", f"attachment:{word}", password=AUDITOR[1])["total"])

    hornet.send("x@outside.test", [USER], with_file("text.pdf", samples.made("text.pdf"), "first"))
    hornet.send("x@outside.test", [USER], with_file("sealed.pdf", samples.made("sealed.pdf"), "second"))
    until(lambda: total("Schnabeltier") == 1, "it is found by the words of its PDF")
    hornet.stop(kill=True)
    hornet.start()
    hornet.send("x@outside.test", [USER], with_file("table.xls", samples.made("table.xls"), "third"))
    until(lambda: total("Murmeltier") == 1, "and after a crash too")
    assert total("Schnabeltier") == 1
    hornet.stop()
    until(lambda: not readers() - before, "no process is left behind")
