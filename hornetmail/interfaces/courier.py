"""What the agent asks of a way to a destination."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Attribute, Interface

from hornetmail.core.delivery.queued import Message, Row
from hornetmail.core.failover.verdict import Verdict
from hornetmail.interfaces.body import IBody


class ICourier(Interface):
    """A way to a destination. The agent knows nothing else of it."""

    name = Attribute("primary, portal, mx, archive, …")

    async def deliver(message: Message, rows: Sequence[Row], body: IBody, verdicts: dict[int, Verdict]) -> None:
        """One attempt: a verdict for every row given, by row ID, put into ``verdicts`` as soon as it is known. Never raises for what a destination
        does; what is in ``verdicts`` when it raises, or is cancelled, holds all the same (rule 8b)."""
