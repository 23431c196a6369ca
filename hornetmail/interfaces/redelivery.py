"""Old mail on its way again."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Interface

from hornetmail.core.archive.archived import Handed
from hornetmail.core.served import Person


class IRedelivery(Interface):
    """Old mail to whoever may have it, wherever that person's mail goes now (C10, C16, C17)."""

    async def redeliver(
        person: Person, identifiers: Sequence[int], to: str = "", request: str = "", *, attached: bool = False
    ) -> Handed:
        """``to`` defaults to the person's own address; administrators name the owner. MAIL FROM ``<>``, not archived again. ``attached``: each
        as message/rfc822 in a new message of ours; what 8bit cannot carry is left out, and why is said."""
