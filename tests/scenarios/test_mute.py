"""A primary that keeps every message and never says so (rule 11): the bound of five copies, on a real service that is restarted meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.installation import Installation
from tests.peers.scripted import DROP, ScriptedServer
from tests.peers.waiting import until

KNOWN, ALICE = "known@mute.test", "alice@mute.test"


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


def test_five_copies(hornet: Installation, primary: ScriptedServer) -> None:
    """Would catch five more with each restart, a delivery without a portal that goes on for five days, an operator who hears of neither, and one who cannot let it
    go on."""
    hornet.set(networks='["127.0.0.1/32"]', retry="0.5", retry_most="0.5", look="0.5")
    hornet.start()
    hornet.add_domain("mute.test", primary.port, "--failover", "manual")
    hornet.add_mailbox(ALICE, "alice-secret-1")
    primary.script["DOT"] = DROP
    hornet.send("x@outside.test", [KNOWN, ALICE], b"Subject: once\r\n\r\nhello\r\n")

    def copies() -> tuple[int, int]:
        return len(primary.to(KNOWN)), len(primary.to(ALICE))

    def states() -> list[tuple[str, str]]:
        rows = [row for message in hornet.json("queue", "list")["messages"] for row in message["rows"]]
        return sorted((row["kind"], row["state"]) for row in rows if row["state"] not in ("delivered", "waiting", "queued"))

    def codes() -> set[str]:
        return {alarm["code"] for alarm in hornet.json("alarms", "list")} & {"delivery-unanswered", "drain-refused"}

    for least in (2, 3, 4):
        until(lambda least=least: max(copies()) >= least, "it comes again and again")  # type: ignore[misc]
        hornet.stop()
        hornet.start()
    until(lambda: states() == [("deliver", "held"), ("drain", "stuck")], "both wait for somebody", seconds=120)
    assert codes() == {"delivery-unanswered", "drain-refused"}
    before = copies()
    # A stop that cuts a hand-over off is no silence, and may have left one more (rule 11).
    assert max(before) <= 5 + 3
    hornet.stop()
    hornet.start()
    hornet.send("x@outside.test", ["other@mute.test"], b"Subject: other\r\n\r\nhello\r\n")
    until(lambda: len(primary.to("other@mute.test")) == 5, "meanwhile others get as far", seconds=120)
    assert copies() == before
    primary.well()
    hornet.command("queue", "release", "--all")
    hornet.command("queue", "flush", "--all")
    until(lambda: copies() == (before[0] + 1, before[1] + 1), "it goes on when somebody says so")
    hornet.until_idle()
    until(lambda: not codes(), "and the alarms are over")
