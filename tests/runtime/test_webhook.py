"""Webhooks against real HTTP receivers, with and without TLS."""

from __future__ import annotations

import json
import shutil
import ssl
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from hornetmail.core.alarms import AlarmRecord, Stage
from hornetmail.net.tls import ClientTLS
from hornetmail.runtime import webhook
from hornetmail.runtime.webhook import Target, Webhook, WebhookFailed, checked, payload, shown, signature
from hornetmail.testing.resolver import FakeResolver
from tests.net.certificates import Authority
from tests.peers.hook import HookReceiver

reactor: Any = _reactor


class WebhookTest(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hm-hook-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.authority = Authority(self.folder)
        self.resolver = FakeResolver({"hook.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]})
        self.webhook = Webhook(reactor, self.resolver, "mx.test", ClientTLS(self.authority.roots))

    def receiver(self, *names: str, common_name: str = "") -> HookReceiver:
        context = None
        if names or common_name:
            pair = self.authority.issue(names[0] if names else common_name, names=list(names), common_name=common_name)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*pair)
        one = HookReceiver(context)
        self.addCleanup(one.stop)
        return one

    async def refused(self, target: Target, *, outside: bool = False) -> str:
        with pytest.raises(WebhookFailed) as caught:
            await self.webhook.post(target, b"{}", outside=outside)
        return str(caught.value)

    async def test_a_post_over_tls(self) -> None:
        """What arrives must be the body, whole, signed with the secret."""
        one = self.receiver("hook.test")
        body = json.dumps({"text": "ü" * 100_000}).encode()
        await self.webhook.post(Target(f"https://hook.test:{one.port}/a/b?token=1", "secret"), body)
        [post] = one.posted
        assert (post.path, post.body, post.headers["content-type"]) == ("/a/b?token=1", body, "application/json")
        assert post.headers["host"] == f"hook.test:{one.port}"
        seconds = post.headers["x-hornetmail-signature"].partition(",")[0].removeprefix("t=")
        assert post.headers["x-hornetmail-signature"] == signature("secret", body, int(seconds))

    async def test_a_certificate_for_somebody_else_gets_nothing(self) -> None:
        """Would catch alarms handed to whoever answers: another name, no name at all (Twisted lets that pass), or an unknown authority."""
        wrong = self.receiver("hook.test")
        assert "not for other.test" in await self.refused(Target(f"https://other.test:{wrong.port}/"))
        nameless = self.receiver(common_name="hook.test")
        assert "not for hook.test" in await self.refused(Target(f"https://hook.test:{nameless.port}/"))
        (self.folder / "stranger").mkdir()
        self.authority = Authority(self.folder / "stranger")
        stranger = self.receiver("hook.test")
        assert "certificate" in await self.refused(Target(f"https://hook.test:{stranger.port}/"))
        assert not wrong.posted
        assert not nameless.posted
        assert not stranger.posted

    async def test_answers(self) -> None:
        """Would catch an error that counts as told, and a redirect that carries alarms to somewhere else."""
        one = self.receiver()
        for status in (500, 404, 302):
            one.status = status
            assert f"answers {status}" in await self.refused(Target(f"http://127.0.0.1:{one.port}/x?secret=1"))
        assert len(one.posted) == 3

    async def test_one_that_hangs(self) -> None:
        """Would catch a receiver that takes the connection, says nothing, and thereby keeps everybody from hearing anything for ever."""
        self.patch(webhook, "SECONDS", 0.3)
        port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        assert "no answer within" in await self.refused(Target(f"http://127.0.0.1:{port.getHost().port}/"))

    async def test_nobody_there(self) -> None:
        """The reason names what is wrong, without the query."""
        assert "refused" in await self.refused(Target("http://127.0.0.1:1/x?secret=1"))
        told = await self.refused(Target("https://nowhere.test/x?secret=1"))
        assert "does not exist" in told
        assert "secret" not in told

    async def test_other_tenants_stay_outside(self) -> None:
        """Would catch a tenant's administrator who has this machine post to what only this machine reaches."""
        one = self.receiver("hook.test")
        told = await self.refused(Target(f"https://hook.test:{one.port}/"), outside=True)
        assert "no public address" in told
        assert not one.posted


def test_urls() -> None:
    """Would catch alarms sent in the clear, a log-in that everybody sees, and what is no URL."""
    assert checked(" https://a.test:8443/x?y=1 ", local=False) == "https://a.test:8443/x?y=1"
    assert checked("http://127.0.0.1:99/", local=True) == checked("http://127.0.0.1:99/", local=True)
    for url, local in (
        ("http://127.0.0.1/", False),
        ("http://a.test/", True),
        ("https://user:password@a.test/", True),
        ("https://", True),
        ("https://a.test:0/", True),
        ("https://a.test:99999/", True),
        ("ftp://a.test/", True),
        ("https://a.test/a b", True),
        ("https://ä.test/", True),
        ("javascript:alert(1)", True),
    ):
        with pytest.raises(ValueError):
            checked(url, local=local)
    assert shown("https://a.test/x?token=1") == "https://a.test/x?…"


def test_a_flood_is_bounded() -> None:
    """Ten thousand alarms must not become a body of megabytes that nobody takes."""
    record = AlarmRecord(1, "disk-full", "/", "x", 1.0, 1.0)
    many = [(msgspec.structs.replace(record, number=number), Stage.BEGAN) for number in range(10_000)]
    found = json.loads(payload("mx.test", many))
    assert (len(found["alarms"]), found["left_out"]) == (500, 9500)
    assert found["alarms"][7]["id"] == "7"
    assert found["alarms"][7]["event"] == "began"
