"""The thread that does blocking things in order."""

from __future__ import annotations

import threading

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hornetmail.disk.writer_thread import WriterThread


class WriterThreadTests(TestCase):
    async def test_in_order_in_a_thread_answers_in_the_reactor(self) -> None:
        """Would catch calls side by side or out of order, a failure that ends the thread, and an answer given in the wrong thread."""
        thread = WriterThread(reactor, "writer")
        here, done, threads = threading.get_ident(), list[int](), set[int]()

        def call(number: int) -> int:
            threads.add(threading.get_ident())
            done.append(number)
            return 10 // number

        waits = [thread.run(call, number) for number in (5, 0, 2)]
        waits[2].addCallback(lambda result: (result, threading.get_ident()))
        assert await waits[0] == 2
        with pytest.raises(ZeroDivisionError):
            await waits[1]
        assert await waits[2] == (5, here)
        assert done == [5, 0, 2]
        assert len(threads) == 1
        assert here not in threads
        thread.stop()

    async def test_stop_finishes_what_was_asked(self) -> None:
        """Would catch a journal's last batch that is dropped when the service ends."""
        thread = WriterThread(reactor, "writer")
        gate, done = threading.Event(), list[int]()
        first = thread.run(gate.wait)
        last = thread.run(done.append, 1)
        stopping = deferToThread(thread.stop)
        gate.set()
        await stopping
        assert done == [1]
        assert await first is True
        await last
