"""Mail that moves while it is read: from staging into a pack, from one pack into another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hornetmail.archive.media.medium import MediumMissing
from hornetmail.archive.proof.leaves import VOID
from hornetmail.archive.running.reading import TRIES
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.testing.archives import AUDITOR, mail
from tests.archive.cases import ArchiveCase


class Moves(ArchiveCase):
    async def test_what_was_indexed_before_a_restart(self) -> None:
        """Rule 17: would catch mail whose leaf says nothing, since the service was restarted between its indexing and its seal: its proof would be void."""
        archive = await self.fresh()
        await self.put(archive, mail("Indexed"))
        await archive.flush()
        await archive.stop()
        again = await self.reopened()
        await again.flush(seal=True)
        assert again.holdings.leaves.size == 1
        assert again.holdings.leaves.leaf(0) != VOID
        assert await again.verify(True) == ()

    async def test_what_was_elsewhere_just_then(self) -> None:
        """Would catch a mail that cannot be opened because it was sealed, or its pack merged, at that moment; and one that is lost and looked for without end, or told as an error of ours."""
        archive = await self.fresh()
        await self.put(archive, mail("Moving"))
        await archive.flush(seal=True)
        hit = await self.only(archive, "moving")
        asked = list[int]()

        def failing(name: str, times: int, error: Callable[[], Exception]) -> None:
            asked.clear()
            given = getattr(type(archive.shelf), name).__get__(archive.shelf)

            def patched(*words: object) -> Any:
                asked.append(1)
                if len(asked) <= times:
                    raise error()
                return given(*words)

            self.patch(archive.shelf, name, patched)

        async def whole() -> bytes:
            return await archive.read(AUDITOR, hit.id)

        async def in_slices() -> bytes:
            body = await archive.body(AUDITOR, hit.id)
            return await body.read()

        for name, read in (("record", whole), ("slices", in_slices)):
            for error, said in (
                (lambda: KeyError(7), "neither staged nor in a pack"),
                (lambda: MediumMissing("it is gone"), "it is gone"),
            ):
                for times in range(TRIES):
                    failing(name, times, error)
                    assert await read() == mail("Moving")
                    assert len(asked) == times + 1
                failing(name, TRIES, error)
                with pytest.raises(ArchiveError, match=said):
                    await read()
                assert len(asked) == TRIES
