"""Rule 6 with the real service and a DNS of our own: who is told that a primary refused what was accepted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hornetmail.cli.client import Client
from tests.peers.installation import Installation
from tests.peers.scripted import Accepted, ScriptedServer
from tests.peers.waiting import until

ALICE = "alice@bounces.test"
REFUSAL = "554 5.7.1 not this"


class Post:
    """The service, the primary of ``bounces.test`` that refuses everything at the end of data, and the smarthost of its outgoing mail."""

    def __init__(self, hornet: Installation, primary: ScriptedServer, smarthost: ScriptedServer) -> None:
        self.hornet = hornet
        self.primary = primary
        self.smarthost = smarthost
        self.client = Client(hornet.dir / "hornetmail.sock")

    def send(self, sender: str) -> None:
        """A stranger's message over the MX door; it is accepted."""
        data = f"From: <{sender}>\r\nTo: <{ALICE}>\r\nSubject: an offer\r\n\r\nof something\r\n"
        self.hornet.send(sender, [ALICE], data.encode())

    def row(self, sender: str) -> dict[str, Any]:
        """The delivery of that sender's message."""
        (row,) = (
            row
            for one in self.client.call("GET", "queue")["messages"]
            for row in one["rows"]
            if one["sender"] == sender and row["kind"] == "deliver"
        )
        return row  # type: ignore[no-any-return]

    def shown(self, sender: str) -> str:
        """What ``queue show`` prints about it."""
        (number,) = (one["id"] for one in self.client.call("GET", "queue")["messages"] if one["sender"] == sender)
        return self.hornet.command("queue", "show", number)

    def bounces(self, sender: str) -> list[Accepted]:
        """What arrived for the sender."""
        return self.smarthost.to(sender)


@pytest.fixture(scope="module")
def post() -> Iterator[Post]:
    """It runs; ``trusts.test`` publishes this client, ``forged.test`` does not, ``vague.test`` will not say."""
    primary, smarthost, hornet = ScriptedServer(), ScriptedServer(), Installation()
    try:
        primary.script["DOT"] = REFUSAL
        hornet.names.publish("trusts.test", "v=spf1 include:_spf.trusts.test -all")
        hornet.names.publish("_spf.trusts.test", "v=spf1 ip4:127.0.0.0/8 ~all")
        hornet.names.publish("forged.test", "v=spf1 ip4:192.0.2.0/24 -all")
        hornet.names.publish("vague.test", "v=spf1 ~all")
        hornet.start()
        hornet.add_domain(
            "bounces.test",
            primary.port,
            "--failover",
            "manual",
            "--smarthost",
            f"127.0.0.1:{smarthost.port}",
        )
        hornet.add_mailbox(ALICE, "a-good-secret-1")
        yield Post(hornet, primary, smarthost)
    finally:
        hornet.close()
        primary.stop()
        smarthost.stop()


def test_proved(post: Post) -> None:
    """SPF passes: the sender hears, from nobody, with the primary's answer; and nothing stays behind."""
    post.send("ann@trusts.test")
    until(lambda: post.bounces("ann@trusts.test"), "the bounce is with the sender's side")
    (bounce,) = post.bounces("ann@trusts.test")
    assert bounce.sender == ""
    assert b"Action: failed" in bounce.data
    assert b"5.7.1" in bounce.data
    until(lambda: "ann@trusts.test" not in post.hornet.command("queue", "list"), "the message left")


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("forged.test", "SPF of forged.test says fail for 127.0.0.1"),
        ("vague.test", "SPF of vague.test says softfail for 127.0.0.1"),
        ("silent.test", "silent.test has no SPF record"),
    ],
)
def test_not_proved(post: Post, domain: str, why: str) -> None:
    """No pass: somebody else would get the bounce. Held, and the reason is shown on the command line and on the page of the API."""
    sender = f"ann@{domain}"
    post.send(sender)
    until(lambda: post.row(sender)["state"] == "held", "it is held")
    assert why in post.row(sender)["reason"]
    assert REFUSAL[4:] in post.row(sender)["reason"]
    assert why in post.shown(sender)
    assert not post.bounces(sender)


def test_dns_in_trouble(post: Post) -> None:
    """DNS fails when the bounce is due: the message waits with that reason, and the bounce goes out when DNS is back."""
    sender = "ann@later.test"
    post.hornet.names.trouble.add("later.test")
    post.send(sender)
    until(lambda: "cannot be looked up now" in post.row(sender)["reason"], "it waits for DNS")
    assert post.row(sender)["state"] == "queued"
    assert "SERVFAIL" in post.shown(sender)
    assert not post.bounces(sender)
    post.hornet.names.trouble.clear()
    post.hornet.names.publish("later.test", "v=spf1 +all")
    post.client.call("POST", "queue", "flush", all=True)
    until(lambda: post.bounces(sender), "the bounce")


def test_accepting_asks_nothing(post: Post) -> None:
    """What is delivered costs no question about its sender: SPF is not asked at the door."""
    script, post.primary.script = post.primary.script, {}
    before = len(post.primary.accepted)
    try:
        post.send("ann@quiet.test")
        until(lambda: len(post.primary.accepted) > before, "it is home")
    finally:
        post.primary.script = script
    assert not [each for each in post.hornet.names.asked if each.startswith("quiet.test")]
