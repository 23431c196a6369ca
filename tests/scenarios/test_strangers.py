"""What strangers try at the real service, whose primary does as Exchange does by default: it keeps back for 5 s what it says of unknown recipients."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hornetmail.cli.client import Client
from tests.peers.installation import Installation
from tests.peers.scripted import ScriptedServer
from tests.peers.waiting import until

ALICE = "alice@tarpit.test"
STRANGERS = [f"guess{number}@tarpit.test" for number in range(12)]


class Stage:
    """The service and the primary of ``tarpit.test``."""

    def __init__(self, hornet: Installation, primary: ScriptedServer) -> None:
        self.hornet = hornet
        self.primary = primary
        self.client = Client(hornet.dir / "hornetmail.sock")

    def domain(self) -> dict[str, object]:
        found: dict[str, object] = self.client.call("GET", "domains", "tarpit.test")
        return found

    def stranger(self, number: int = 2) -> smtplib.SMTP:
        """A connection from an address that is not the house's."""
        door = ("127.0.0.1", self.hornet.port(25))
        smtp = smtplib.SMTP(*door, local_hostname="stranger.test", timeout=120, source_address=(f"127.0.0.{number}", 0))
        smtp.ehlo()
        smtp.mail("<a@stranger.test>")
        return smtp

    def asked(self, address: str, number: int = 2) -> int:
        with self.stranger(number) as smtp:
            return smtp.rcpt(f"<{address}>")[0]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    primary = ScriptedServer()
    primary.unknown.update(STRANGERS)
    primary.tarpit = 5.0
    hornet = Installation()
    try:
        hornet.set(networks='["127.0.0.1/32"]')
        hornet.start()
        hornet.add_domain("tarpit.test", primary.port)
        hornet.add_mailbox(ALICE, "a-good-secret-1")
        yield Stage(hornet, primary)
    finally:
        hornet.close()
        primary.stop()


def test_guesses_at_a_tarpit(stage: Stage) -> None:
    """Rule 8c, C14: six guessed addresses put a healthy domain into emergency mode. They are told 451, then 550 for good once the primary has
    said so; real recipients are taken meanwhile, and nothing is held against the primary."""
    with ThreadPoolExecutor(12) as pool:
        guesses = [pool.submit(stage.asked, address, 2 + number) for number, address in enumerate(STRANGERS)]
        until(lambda: sum(map(stage.primary.asked.__contains__, STRANGERS)) >= 4, "the primary keeps its answers back")
        began = time.monotonic()
        stage.hornet.send("x@outside.test", [ALICE], b"Subject: real\r\n\r\nreal\r\n")
        assert time.monotonic() - began < 20, "the new recipient waits for a turn at most, not for all the guesses (30 s)"
        codes = [each.result() for each in guesses]
    assert set(codes) <= {451, 550}
    assert 451 in codes
    until(lambda: stage.primary.to(ALICE), "the real mail is home")

    def refused() -> bool:
        return [stage.asked(address, 20) for address in STRANGERS[:3]] == [550, 550, 550]

    until(refused, "unknown is unknown", every=1.0)
    shown = stage.domain()
    assert shown["mode"] == "normal"
    assert shown["explanation"]["evidence"] == []  # type: ignore[index]
    assert shown["explanation"]["recipients"]["accepts_everything"] is False  # type: ignore[index]


def test_the_brake(stage: Stage) -> None:
    """3,000 unknown recipients in one session were answered in 0.04 s: now twenty, slower and slower, and then 421; mail of the same stranger
    still passes."""
    stage.primary.tarpit = 0.0
    stage.primary.unknown.update(f"more{number}@tarpit.test" for number in range(60))
    smtp = stage.stranger(30)
    began = time.monotonic()
    codes = []
    for number in range(60):
        codes.append(smtp.rcpt(f"<more{number}@tarpit.test>")[0])
        if codes[-1] == 421:
            break
    smtp.close()
    assert codes == [550] * 19 + [421]
    assert time.monotonic() - began > 10
    assert stage.asked(ALICE, 30) == 250
    assert stage.domain()["mode"] == "normal"
