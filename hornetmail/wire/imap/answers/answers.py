"""What an IMAP server says (RFC 3501 section 7): the answers that the engine puts on the wire. ``render`` makes their data."""

from __future__ import annotations

from typing import Literal

from hornetmail.wire.engine import Out


class Greeting(Out, frozen=True, gc=False):
    """The first words."""

    text: str
    code: str = ""


class Tagged(Out, frozen=True, gc=False):
    """Completes the command. ``data``: rendered untagged responses that go before it. ``code`` without its brackets."""

    status: Literal["OK", "NO", "BAD"]
    text: str
    code: str = ""
    data: bytes = b""


class Untagged(Out, frozen=True, gc=False):
    """Rendered untagged responses, or a piece of them; completes nothing."""

    data: bytes


class Continuation(Out, frozen=True, gc=False):
    """``+``: the rest of the command may come."""

    text: str = ""


class Bye(Out, frozen=True, gc=False):
    """``* BYE`` and the end of the connection, at any time."""

    text: str
    code: str = ""
