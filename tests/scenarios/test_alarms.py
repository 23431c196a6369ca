"""Being told (rule 8f): an alarm reaches people who look at nothing of ours, outlives a restart, and ends with its cause."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import http.client
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.hook import HookReceiver
from tests.peers.installation import Failed, Installation
from tests.peers.scripted import Accepted, ScriptedServer
from tests.peers.waiting import until

SECRET = "between-you-and-me"
MAIL = b"From: <sender@outside.test>\r\nSubject: number %d\r\n\r\nhello\r\n"


class House:
    """A domain with a primary, a smarthost elsewhere, an administrator and a user who both have a second address, and a webhook."""

    def __init__(self) -> None:
        self.primary = ScriptedServer()
        self.outside = ScriptedServer()
        self.hook = HookReceiver()
        self.hornet = Installation()
        self.hornet.set(look=0.5, confirm=5.0)

    def start(self) -> None:
        hornet = self.hornet
        hornet.start()
        words = ("--smarthost", f"localhost:{self.outside.port}", "--tell-people", "--tls", "none")
        hornet.add_domain("example.test", self.primary.port, *words)
        hornet.add_mailbox("boss@example.test", "boss-secret-1", "--role", "admin", "--second", "boss@elsewhere.test")
        hornet.add_mailbox("alice@example.test", "alice-secret-1", "--second", "alice@home.test")
        hornet.add_mailbox("bob@example.test", "bob-secret-1")
        hornet.command("alarms", "settings", "--webhook", self.url, "--secret-stdin", stdin=SECRET + "\n")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.hook.port}/hook"

    def alarm(self, code: str) -> Any:
        """The open alarm, or None."""
        return next((one for one in self.hornet.json("alarms", "list") if one["code"] == code), None)

    def letters(self, address: str, words: str) -> list[Accepted]:
        """What came for an address outside with these words in the subject."""
        return [one for one in self.outside.to(address) if f"Subject: {words}".encode() in one.data]

    def metric(self, code: str) -> float:
        connection = http.client.HTTPConnection("127.0.0.1", self.hornet.port(80), timeout=60)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return float(next(line for line in lines if line.startswith(f'hornetmail_alarms{{code="{code}"}}')).split()[-1])

    def close(self) -> None:
        self.hornet.close()
        self.hook.stop()
        self.primary.stop()
        self.outside.stop()


@pytest.fixture
def house() -> Iterator[House]:
    one = House()
    try:
        one.start()
        yield one
    finally:
        one.close()


def test_an_outage_is_told_over_other_paths_outlives_a_restart_and_ends(house: House) -> None:
    """Would catch an alarm that only the panel shows, that a restart forgets or tells again, that never ends, that goes only to the very server
    that is down; and people who are left to find the way into the portal themselves."""
    hornet = house.hornet
    house.primary.stop()
    sent = 0

    def switched() -> bool:
        nonlocal sent
        hornet.send("sender@outside.test", ["alice@example.test"], MAIL % sent)
        sent += 1
        return hornet.mode() == "emergency"

    until(switched, "the domain is in emergency", every=0.3)
    until(
        lambda: house.letters("boss@elsewhere.test", "Alarm: Emergency mode: example.test"), "the administrator is told outside"
    )
    until(
        lambda: house.letters("alice@home.test", "The mail server of example.test is unavailable"), "alice is told how to get in"
    )
    until(lambda: ("began", "emergency") in house.hook.events(), "the webhook is told")
    [letter] = house.letters("alice@home.test", "The mail server of example.test is unavailable")
    assert letter.sender == ""
    assert b"mx.hornet.test, port %d" % hornet.port(993) in letter.data
    assert not house.outside.to("bob@home.test")
    alarm = house.alarm("emergency")
    assert alarm["subject"] == "example.test"
    assert not alarm["acknowledged"]
    assert alarm["since"] > time.time() - 600
    assert {"code", "text", "since", "count", "acknowledged"} <= alarm.keys()
    assert house.metric("emergency") == 1
    assert hornet.healthy()
    assert hornet.status()["alarms"]["codes"] == ["emergency"]
    post = next(each for each in house.hook.posted if b'"emergency"' in each.body)
    seconds, mac = (part.partition("=")[2] for part in post.headers["x-hornetmail-signature"].split(","))
    assert mac == hmac.new(SECRET.encode(), seconds.encode() + b"." + post.body, hashlib.sha256).hexdigest()

    assert hornet.stop() == 0
    hornet.start()
    started = time.monotonic()
    again = house.alarm("emergency")
    assert (again["id"], again["since"]) == (alarm["id"], alarm["since"])
    hornet.command("alarms", "acknowledge", alarm["id"])
    assert house.alarm("emergency")["acknowledged"]
    until(lambda: time.monotonic() > started + 7, "the time has passed in which others are raised again")
    assert house.alarm("emergency") is not None, "one that lasts is not over because of that"
    assert len(house.letters("boss@elsewhere.test", "Alarm: Emergency mode")) == 1
    assert len(house.letters("alice@home.test", "The mail server of example.test is unavailable")) == 1

    house.primary.start()
    until(lambda: hornet.mode() == "normal", "the domain is back", seconds=120)
    until(
        lambda: house.letters("boss@elsewhere.test", "Over: Emergency mode: example.test"), "the administrator is told of the end"
    )
    until(lambda: house.letters("alice@home.test", "The mail server of example.test is back"), "alice is told of the end")
    until(
        lambda: house.hook.events("emergency") == [("began", "emergency"), ("ended", "emergency")],
        "the webhook is told of the end",
    )
    [letter] = house.letters("alice@home.test", "The mail server of example.test is back")
    went = len(house.primary.to("alice@example.test"))
    assert went >= sent
    assert f"{went} messages went from the emergency server".encode() in letter.data
    assert house.alarm("emergency") is None
    assert house.metric("emergency") == 0
    [over] = [one for one in hornet.json("alarms", "list", "--over") if one["code"] == "emergency"]
    assert f"{went + 1} messages went home" in over["why"]  # the administrator's own mail about it was in the portal too


def test_a_webhook_that_is_down_is_tried_again_and_holds_up_no_mail(house: House) -> None:
    """Would catch one way of telling that keeps the other from being used, and one failed POST after which nobody is told."""
    house.hook.status = 500
    house.hornet.command("alarms", "test")
    until(lambda: house.hook.posted, "the webhook was tried")
    until(
        lambda: any(b"Subject: Alarm: A test" in each.data for each in house.primary.to("boss@example.test")), "the mail is there"
    )
    house.hook.status = 200
    tried = len(house.hook.posted)
    until(lambda: len(house.hook.posted) > tried, "the webhook is tried again")
    alarm = house.alarm("test")
    house.hornet.command("alarms", "acknowledge", alarm["id"])
    until(lambda: ("ended", "test") in house.hook.events(), "the end is posted")
    assert house.alarm("test") is None
    with pytest.raises(Failed, match="https only"):
        house.hornet.command("alarms", "settings", "--webhook", "http://192.0.2.1/")


def damage(path: Path) -> None:
    """Every page of a database but the first is garbage from now on, in its log too, as a dying disk or a stray writer leaves it."""
    for file in (path, path.with_name(path.name + "-wal")):
        if file.exists():
            size = file.stat().st_size
            with file.open("r+b") as data:
                for start in range(4096 if file is path else 0, size, 4096):
                    data.seek(start)
                    data.write(os.urandom(min(4096, size - start)))


def stir(house: House, store: str) -> None:
    """Something that reads and writes the store."""
    hornet = house.hornet
    number = time.monotonic_ns()
    try:
        if store == "control":
            hornet.command("mailbox", "add", f"m{number}@example.test")
        elif store == "archive":
            hornet.command("archive", "search", f"word{number}")
            hornet.send("sender@outside.test", ["alice@example.test"], MAIL % number)
        else:
            hornet.send("sender@outside.test", ["bob@example.test"], MAIL % number)
    except (Failed, OSError):
        pass


def runs(house: House) -> bool:
    """Whether the service answers, well or not."""
    try:
        return bool(house.hornet.status())
    except Failed:
        return False


@pytest.mark.parametrize("store", ["portal", "control", "queue", "recipients", "archive"])
def test_a_broken_store_is_told_and_ends_the_process(house: House, store: str) -> None:
    """Would catch a damaged database that everybody passes on as a refusal: nobody is told, /healthz says 200, and the process goes on for ever
    with a store that takes nothing. Indexes are made anew at the next start; ``control.db``, a source, is named."""
    hornet = house.hornet
    hornet.set(seal_seconds=1)
    assert hornet.stop() == 0
    hornet.start()
    for number in range(5):
        hornet.send("sender@outside.test", ["alice@example.test", "bob@example.test"], MAIL % number)
    hornet.until_idle()
    if store == "portal":
        hornet.command("domain", "mode", "example.test", "emergency")
        for number in range(5):
            hornet.send("sender@outside.test", ["bob@example.test"], MAIL % number)
    path = hornet.dir / "archive" / "archive.db" if store == "archive" else hornet.dir / f"{store}.db"
    damage(path)
    process = hornet.process
    assert process is not None
    sick = False

    def gone() -> bool:
        nonlocal sick
        stir(house, store)
        try:
            sick = sick or not hornet.healthy()
        except AssertionError:  # it ended between
            return True
        return process.poll() is not None

    until(gone, "the process has ended", seconds=90, every=0.2)
    assert process.wait(60) == 1, hornet.log()[-3000:]
    hornet.process = None
    assert sick
    assert f"the {store} store is broken ({path})" in hornet.log()
    code = "queue-index" if store == "queue" else "store-broken"
    assert ("began", code) in house.hook.events()
    if store == "control":
        hornet.start(wait=False)
        assert hornet.process is not None
        assert hornet.process.wait(60) == 1
        hornet.process = None
        assert "control database cannot be opened" in hornet.log()
        return
    hornet.start(wait=store != "archive")
    if store == "archive":
        # An archive that cannot be searched is a role that does not work, until ``archive rebuild``.
        until(lambda: runs(house), "it runs")
        until(lambda: house.alarm("archive-index"), "the lost index is told of")
        assert not hornet.healthy()
    until(lambda: house.alarm("store-renewed"), "the new index is told of")
    hornet.send("sender@outside.test", ["bob@example.test"], MAIL % 999)
    until(lambda: hornet.status()["queue"]["deliver"] == 0, "mail flows")


WRITERS_BYTE = 120
"""Of a SQLite database's -shm file: whoever writes to it has locked this."""


@pytest.mark.parametrize("store", ["queue", "control"])
def test_a_store_that_another_program_holds_is_told_and_mail_goes_on(house: House, store: str) -> None:
    """Would catch a database that a backup or a shell keeps locked, and nobody hears of before it is looked for; or mail that waits for it."""
    hornet = house.hornet
    hornet.command("domain", "mode", "example.test", "emergency")
    with (hornet.dir / f"{store}.db-shm").open("r+b") as shared:
        until(lambda: taken(shared), "the other program has the lock", every=0.01)
        began = time.monotonic()
        for number in range(5):
            hornet.send("sender@outside.test", ["alice@example.test"], MAIL % number)
        until(lambda: hornet.status()["queue"]["drain"] >= 5, "all of it is in the portal")
        stir(house, store)
        until(lambda: ("began", "store-locked") in house.hook.events(), "it is told")
        assert time.monotonic() - began < 120, "before anybody looks for it"
        assert house.alarm("store-locked")["subject"] == store
    until(lambda: house.hook.events("store-locked")[-1] == ("ended", "store-locked"), "it is over")
    hornet.command("domain", "mode", "example.test", "normal")
    until(lambda: len(house.primary.to("alice@example.test")) == 5, "all of it is home")


def taken(shared: Any) -> bool:
    """Whether the lock could be had now."""
    try:
        fcntl.lockf(shared, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, WRITERS_BYTE)
    except OSError:
        return False
    return True
