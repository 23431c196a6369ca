"""Somebody puts the queue's directory back from last night's file backup (rule 26, ADR 27)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.peers.installation import Installation
from tests.peers.scripted import ScriptedServer
from tests.peers.waiting import until

KNOWN = "known@older.test"


@pytest.fixture
def hornet() -> Iterator[Installation]:
    hornet = Installation()
    try:
        yield hornet
    finally:
        hornet.close()


@pytest.fixture
def primary() -> Iterator[ScriptedServer]:
    primary = ScriptedServer()
    try:
        yield primary
    finally:
        primary.stop()


@pytest.mark.parametrize("index", [True, False])
def test_put_back(hornet: Installation, primary: ScriptedServer, index: bool) -> None:
    """What had been delivered since came a second time, with queue.db put back too or not, and nobody was told of anything."""
    hornet.set(networks='["127.0.0.1/32"]', retry="1", retry_most="1")
    hornet.start()
    hornet.add_domain("older.test", primary.port, "--failover", "manual")

    def mail(count: int) -> None:
        hornet.send("x@outside.test", [KNOWN], b"Subject: number %d\r\n\r\n" % count)

    mail(1)
    until(lambda: len(primary.to(KNOWN)) == 1, "it is at home")
    primary.stop()
    mail(2)
    hornet.stop()
    shutil.copytree(hornet.dir / "queue", hornet.root / "queue")
    shutil.copy(hornet.dir / "queue.db", hornet.root / "queue.db")
    primary.start()
    hornet.start()
    until(lambda: len(primary.to(KNOWN)) == 2, "what waited is at home")
    hornet.until_idle()
    hornet.stop()
    shutil.rmtree(hornet.dir / "queue")
    shutil.move(hornet.root / "queue", hornet.dir / "queue")
    if index:
        for name in ("queue.db-wal", "queue.db-shm"):
            (hornet.dir / name).unlink(missing_ok=True)
        shutil.move(hornet.root / "queue.db", hornet.dir / "queue.db")
    hornet.start()
    mail(3)
    until(lambda: len(primary.to(KNOWN)) == 3, "new mail flows")
    assert [alarm["code"] for alarm in hornet.json("alarms", "list")] == ["queue-older"]
    [message] = hornet.json("queue", "list")["messages"]
    assert [row["state"] for row in message["rows"] if row["kind"] == "deliver"] == ["held"]
    assert [each.data for each in primary.to(KNOWN)].count(primary.to(KNOWN)[1].data) == 1
    hornet.command("queue", "delete", "--all")
    hornet.stop()
    hornet.start()
    assert hornet.json("queue", "list")["messages"] == []
