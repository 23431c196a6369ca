"""The time by which tests in a reactor go (``tests/owntime.py``)."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor as running
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from hornetmail.runtime import steady
from tests.owntime import OwnTime

reactor: Any = running


class Far(Protocol):
    """Says when something came."""

    def __init__(self, came: list[str]) -> None:
        self.came = came

    def dataReceived(self, data: bytes) -> None:
        self.came.append(data.decode())


class OwnTimeTests(TestCase):
    async def test_a_process_that_stood_still(self) -> None:
        """Catches a reactor by whose timers an answer is late that was there in time, because other programs had the processor meanwhile."""
        came: list[str] = []
        port = reactor.listenTCP(0, Factory.forProtocol(lambda: Far(came)), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        near = await TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(Factory.forProtocol(Protocol))
        self.addCleanup(near.transport.abortConnection)
        near.transport.write(b"1")
        while not came:
            await deferLater(reactor, 0.001)
        over: Deferred[None] = Deferred()
        reactor.callLater(0.1, came.append, "timer")
        reactor.callLater(0.2, over.callback, None)
        near.transport.write(b"answer")
        # nothing is worked and nothing waited for: to the process it is the same
        time.sleep(0.5)
        await over
        assert came == ["1", "answer", "timer"]

    async def test_waits_and_work_are_counted(self) -> None:
        """Catches timers that never come, and ones that come before their time."""
        began, real, worked = reactor.seconds(), time.monotonic(), time.thread_time()
        await deferLater(reactor, 0.05)
        while time.thread_time() - worked < 0.05:
            pass
        assert 0.09 < reactor.seconds() - began <= time.monotonic() - real + 0.001

    def test_another_was_put_in_its_place_1(self) -> None:
        """See the next one."""
        steady.keep(reactor)

    def test_another_was_put_in_its_place_2(self) -> None:
        """Catches the time of one test, a service that was started in the process, that is all the others' too."""
        assert isinstance(reactor.seconds, OwnTime)

    async def test_asked_by_another_thread(self) -> None:
        """Catches a thread that sees its own time: the reactor's meter of turns would never see one that is long."""
        from twisted.internet.threads import deferToThread

        own = reactor.seconds
        assert isinstance(own, OwnTime)
        before = own()
        first = await deferToThread(own)
        assert before <= first <= own()
