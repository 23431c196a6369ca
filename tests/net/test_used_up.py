"""No socket is left for us: that is told as ours, from wherever it comes (rule 5)."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from twisted.internet import reactor as default_reactor
from twisted.internet.error import CannotListenError, ConnectBindError, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from hornetmail.core.failover.verdict import Outcome, Stage
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.delivery.connections.pool import Pool
from hornetmail.delivery.couriers.exchange import verdict_of_broken
from hornetmail.net.clients.dial import Dialer, DialError
from hornetmail.net.clients.smtp import Broken
from hornetmail.net.resolver import ResolveError, Resolver, is_ours
from hornetmail.testing.scripted_primary import ScriptedPrimary

reactor: Any = default_reactor


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process can open nothing any more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
        while True:
            try:
                held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in held:
            os.close(each)


class UsedUp(TestCase):
    timeout = 20

    async def setUp(self) -> None:
        # The reactor needs descriptors of its own to start.
        await deferLater(reactor, 0.001)

    async def test_names(self) -> None:
        """CannotListenError left the resolver, and whoever looked a name up met an error that nobody expects."""
        resolver = Resolver(reactor, [("127.0.0.1", 9)], timeout=0.2)
        with no_descriptors(), pytest.raises(ResolveError, match="looking up") as caught:
            await resolver.addresses("mx.test")
        assert caught.value.ours
        assert not caught.value.permanent

    async def test_a_dead_server_is_not_ours(self) -> None:
        """The name server does not answer: that may be theirs."""
        with pytest.raises(ResolveError) as caught:
            await Resolver(reactor, [("127.0.0.1", 9)], timeout=0.2).addresses("mx.test")
        assert not caught.value.ours

    async def test_connections(self) -> None:
        """The same at the connection itself was "connection refused" to the machine: a sign of an outage."""
        dialer = Dialer(reactor, Resolver(reactor, []))
        with no_descriptors(), pytest.raises(DialError) as caught:
            await dialer.connect(Host("127.0.0.1", 9), Factory.forProtocol(Protocol))
        assert caught.value.ours
        with pytest.raises(DialError) as caught:
            await dialer.connect(Host("127.0.0.1", 9), Factory.forProtocol(Protocol))
        assert not caught.value.ours

    async def test_deliveries(self) -> None:
        """A delivery meets it: deferred, and nobody there is to blame; the host is not called down, and not rested from."""
        primary = ScriptedPrimary(reactor)
        await primary.listen()
        told: list[bool] = []
        pool = Pool(
            reactor, Dialer(reactor, Resolver(reactor, [])), "mx.hornet.test", told=lambda host, up, reason: told.append(up)
        )
        destination = pool.destination([Host("127.0.0.1", primary.port)], TLSPolicy.NONE)
        with no_descriptors(), pytest.raises(Broken) as caught:
            await destination.exchange(lambda client: client.ask("", "a@x.test"))
        assert caught.value.stage is Stage.LOCAL
        verdict = verdict_of_broken(caught.value, "primary")
        assert (verdict.outcome, verdict.unavailable) == (Outcome.DEFERRED, False)
        assert not told
        reply = await destination.exchange(lambda client: client.ask("", "a@x.test"))
        assert reply.completed, "at once"
        await pool.close()
        await primary.stop()


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (CannotListenError("", 0, OSError()), True),
        (ConnectBindError(24), True),
        (OSError(99, "cannot assign requested address"), True),
        (ConnectionRefusedError(111), False),
        (OSError(101, "network is unreachable"), False),
        (ValueError("x"), False),
    ],
)
def test_whose(error: Exception, ours: bool) -> None:
    """Which errors are for want of something of ours."""
    assert is_ours(error) is ours
