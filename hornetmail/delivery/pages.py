"""The queue's rows, a page after the other: nobody waits for a hundred thousand of them (rule 8d)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence

from twisted.internet.interfaces import IReactorTime

from hornetmail.core.delivery.queued import Message, Row, RowKind, RowState
from hornetmail.delivery.tasks import pause
from hornetmail.interfaces.queue import IQueue

PAGE = 500


async def pages(
    clock: IReactorTime,
    queue: IQueue,
    kinds: Collection[RowKind],
    states: Collection[RowState] = (),
    *,
    domain: str = "",
    message: int = 0,
    mailbox: int = 0,
) -> AsyncIterator[Sequence[tuple[Message, Row]]]:
    """All that ``IQueue.rows`` finds without envelopes, in order of row ID; others have a turn between two pages (``tests/delivery/test_pages.py``). Raises the queue's errors."""
    after = 0
    while True:
        page = await queue.rows(
            domain=domain,
            states=states,
            kinds=kinds,
            message=message,
            mailbox=mailbox,
            limit=PAGE,
            after=after,
            envelopes=False,
        )
        yield page
        if len(page) < PAGE:
            return
        after = page[-1][1].id
        await pause(clock, 0)
