"""What a mailbox holds, counted as it changes, what it may hold, and who is told when that is nearly reached.

A quota binds what people put into a mailbox, and mail for a domain whose mail server the portal is. A copy made because a primary failed is always taken:
its sender has a 250 already, and it goes home to a server that has quotas of its own. It counts, and its owner is warned.
"""

from __future__ import annotations

from collections.abc import Callable

from hornetmail.core.events import QuotaNear
from hornetmail.core.folder import FolderError
from hornetmail.core.served import Quota

NEAR = 90
"""Per cent at which a mailbox's owner is warned."""


class Counted:
    """Messages and bytes of all folders of a mailbox; the index is asked once. ``since``: nearly full from then on, Unix seconds, 0: it is not; ``told``:
    its owner knows."""

    def __init__(
        self, mailbox: int, quota: Callable[[], Quota], messages: int = 0, size: int = 0, since: float = 0.0, told: bool = False
    ) -> None:
        self.messages = messages
        self.size = size
        self.since = since
        self.told = told
        self.quota = quota
        self._mailbox = mailbox

    def grew(self, messages: int, size: int) -> None:
        """So many more, or fewer."""
        self.messages += messages
        self.size += size

    def would_fill(self, quota: Quota, messages: int, size: int) -> bool:
        """Whether so much more is more than that quota."""
        return quota.full(self.size + size, self.messages + messages)

    def admit(self, messages: int, size: int) -> None:
        """Raises FolderError OVERQUOTA if so much more is too much."""
        if self.would_fill(self.quota(), messages, size):
            raise FolderError("OVERQUOTA", "the mailbox is full")

    def turned(self, now: float) -> bool:
        """Whether it became nearly full just now, or is that no more; ``since`` says which."""
        near = self.quota().full(self.size, self.messages, NEAR)
        if near is bool(self.since):
            return False
        self.since, self.told = (now if near else 0.0), False
        return True

    @property
    def news(self) -> QuotaNear | None:
        """What its owner is to be told."""
        return QuotaNear(self._mailbox, self.size, self.messages, self.since) if self.since and not self.told else None
