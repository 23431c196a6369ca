"""Those who wait for the same lock: in turn, together where they can, and never one from within the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from hornetmail.portal.box.batch import Batch, Lock
from tests.portal.ground import Ground

MANY = 3_000


class Locked(TestCase):
    async def test_a_thousand_after_one_another(self) -> None:
        """Would catch STATUS of a hundred folders that ends in a RecursionError and a mailbox that is locked for ever: what is in memory is answered at once, and each
        question came from within the answer before."""
        lock = Lock()

        async def work(items: Sequence[int]) -> Sequence[int]:
            return items

        for number in range(MANY):
            assert await Batch[int, int](lock, work).join(number) == number
        assert not lock.locked

    async def test_a_thousand_who_wait(self) -> None:
        """Would catch the same of many who wait while one has it."""
        lock = Lock()
        order: list[int] = []

        async def one(number: int) -> None:
            async with lock:
                order.append(number)

        await lock.acquire()
        waiting = [Deferred.fromCoroutine(one(number)) for number in range(MANY)]
        assert not order
        lock.release()
        for each in waiting:
            await each
        assert order == list(range(MANY))
        assert not lock.locked

    async def test_who_has_it_has_it_alone(self) -> None:
        """Would catch a lock that is free because it was passed on: its holder waits for something."""
        lock = Lock()
        await lock.acquire()
        second, third = lock.acquire(), lock.acquire()
        lock.release()
        assert lock.locked
        assert second.called
        assert not third.called
        lock.release()
        assert third.called
        fourth = lock.acquire()
        fourth.addErrback(lambda failure: None)
        fourth.cancel()
        lock.release()
        assert not lock.locked
        assert lock.acquire().called

    async def test_many_folders(self) -> None:
        """The same in a mailbox."""
        ground = Ground("sqlite")
        await ground.start()
        try:
            tree: Any = ground.portal.tree(1)
            await tree.open("INBOX")
            for number in range(300):
                for sub in ("cur", "new", "tmp"):
                    (ground.maildir() / f".f{number}" / sub).mkdir(parents=True)
            await ground.portal.sweep()
            ground.portal._boxes[1].surveyed = (0, 0.0)
            names = [info.name for info in await tree.folders()]
            assert len(names) > 300
            folders = [await tree.open(name) for name in names]
            for name, folder in zip(names, folders, strict=True):
                assert (await tree.open(name)).info == folder.info
        finally:
            await ground.stop()
            ground.clean()
