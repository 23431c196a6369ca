"""What ``compose`` hands to the pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from hornetmail.core.served import Person


class Offload(Protocol):
    """Runs a pure function in a thread."""

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Awaitable[Any]:
        """Its result."""


class Submit(Protocol):
    """Queues a message that a person wrote, as the submission door would: Received line, archive row, rights to the sender address."""

    def __call__(self, person: Person, data: bytes, recipients: Sequence[str], /) -> Awaitable[int]:
        """The message's ID; durable on return. Raises ApiError, AddressError or OSError: then nothing was queued."""
