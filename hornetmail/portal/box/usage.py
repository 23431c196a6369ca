"""What a mailbox holds, counted as it changes."""

from __future__ import annotations


class Usage:
    """Messages and bytes of all folders of a mailbox; the index is asked once."""

    __slots__ = ("messages", "size")

    def __init__(self, messages: int = 0, size: int = 0) -> None:
        self.messages = messages
        self.size = size

    def grew(self, messages: int, size: int) -> None:
        """So many more, or fewer."""
        self.messages += messages
        self.size += size
