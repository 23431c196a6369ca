"""Somebody puts the queue's directory back from last night's file backup (rule 26, ADR 27)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.peers.installation import Failed, Installation
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


@pytest.mark.parametrize("medium_away", [False, True])
def test_all_of_it_is_put_back(hornet: Installation, primary: ScriptedServer, medium_away: bool) -> None:
    """A snapshot of the whole data directory: queue, portal and ``control.db`` agree with each other, and all that had been delivered since, from the queue and
    from the portal, came a second time without a word. The medium lies elsewhere, and knows better; at once, or when it is back."""
    hornet.set(networks='["127.0.0.1/32"]', retry="1", retry_most="1", look="0.5")
    hornet.start()
    hornet.add_domain("older.test", primary.port, "--failover", "manual")
    hornet.add_mailbox("alice@older.test", "alice-secret-1")
    place = hornet.root / "medium"
    hornet.command("archive", "medium", "add", "directory", str(place))
    hornet.command("archive", "medium", "activate", "2")

    def mail(count: int) -> None:
        hornet.send("x@outside.test", [KNOWN, "alice@older.test"], b"Subject: number %d\r\n\r\n" % count)

    def home() -> tuple[int, int]:
        return len(primary.to(KNOWN)), len(primary.to("alice@older.test"))

    mail(1)
    until(lambda: home() == (1, 1), "it is at home")
    hornet.until_idle()
    hornet.stop()
    hornet.start()
    assert hornet.json("alarms", "list") == [], "an ordinary restart is none of this"
    primary.stop()
    mail(2)
    until(lambda: hornet.status()["queue"]["drain"] == 1, "alice's copy is in the portal")
    hornet.stop()
    shutil.copytree(hornet.dir, hornet.root / "snapshot", symlinks=True)
    primary.start()
    hornet.start()
    until(lambda: home() == (2, 2), "what waited is at home")
    hornet.until_idle()
    hornet.stop()
    shutil.rmtree(hornet.dir)
    shutil.move(hornet.root / "snapshot", hornet.dir)
    if medium_away:
        primary.stop()
        place.rename(hornet.root / "away")
        hornet.start(wait=False)
        until(lambda: "medium-away" in codes(hornet), "the medium is missed")
        (hornet.root / "away").rename(place)
        until(lambda: "medium-away" not in codes(hornet), "it is back")
        hornet.stop()
        primary.start()
    hornet.start()
    assert [code for code in codes(hornet) if code not in ("primary-down", "service-died")] == ["queue-older"]
    mail(3)
    until(lambda: home() == (3, 3), "new mail flows")
    rows = [row for message in hornet.json("queue", "list")["messages"] for row in message["rows"]]
    assert sorted((row["kind"], row["state"]) for row in rows if row["state"] != "delivered" and row["kind"] != "archive") == [
        ("deliver", "held"),
        ("drain", "held"),
    ]
    hornet.command("queue", "release", "--all")
    until(lambda: home() == (4, 4), "what is released comes once more, as was said")
    hornet.stop()
    hornet.start()
    hornet.until_idle()


def codes(hornet: Installation) -> list[str]:
    """Of the alarms that are open."""
    try:
        return [alarm["code"] for alarm in hornet.json("alarms", "list")]
    except Failed:
        return []
