"""Going through the queue's rows in slices: nobody waits for a million of them, and no more of them is held than a page (rule 8d)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence

from twisted.internet.interfaces import IReactorTime

from hornetmail.core.delivery.queued import Message, Row, RowKind, RowState
from hornetmail.delivery.tasks import pause
from hornetmail.interfaces.queue import IQueue

PAGE = 500


async def pages(
    clock: IReactorTime, queue: IQueue, *, kind: RowKind, states: Collection[RowState], domain: str = ""
) -> AsyncIterator[Sequence[tuple[Message, Row]]]:
    """Rows of that kind in these states, oldest first, without envelopes (``IQueue.rows``); those that whoever looks at a page changes meanwhile are not
    met again."""
    after = 0
    while True:
        page = await queue.rows(domain=domain, kinds=(kind,), states=states, limit=PAGE, after=after, envelopes=False)
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = page[-1][1].id
        await pause(clock, 0)
