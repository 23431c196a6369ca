"""The header of a message while it arrives, without holding the message."""

from __future__ import annotations

from hornetmail.core.mail.fields import begins_field, each_field, mbox_end
from hornetmail.core.mail.received import count, own

HEADER_BYTES = 262_144
"""A header that has not ended by then is taken as it is: the rest is body."""


class HeaderScan:
    """Fed with the pieces of a message; gives back what to keep.

    With ``submission`` the header is held until it is whole and Bcc and Resent-Bcc are taken out (rule 14); otherwise pieces pass unchanged. ``header``
    is the block as received (after ``submission``: as kept), CRLF at its end, without the empty line. ``eight_bit``: a byte above 127 came by.
    """

    __slots__ = ("_pieces", "_whole", "eight_bit", "header", "submission")

    def __init__(self, *, submission: bool) -> None:
        self.submission = submission
        self.header = b""
        self.eight_bit = False
        self._pieces = b""
        self._whole = False

    def take(self, data: bytes) -> bytes:
        """A piece; what to write of the message now."""
        if not self.eight_bit and not data.isascii():
            self.eight_bit = True
        if self._whole:
            return data
        searched = max(0, len(self._pieces) - 3)
        self._pieces = block = self._pieces + data if self._pieces else data
        if block.startswith(b"\r\n"):
            end = 0
        else:
            end = block.find(b"\r\n\r\n", searched)
            if end < 0 and len(block) < HEADER_BYTES:
                return b"" if self.submission else data
            end = end + 2 if end >= 0 else block.rfind(b"\r\n") + 2 if b"\r\n" in block else len(block)
        return self._ended(block, end, data)

    def finish(self) -> bytes:
        """The message ended; what was still held."""
        if self._whole:
            return b""
        return self._ended(self._pieces, len(self._pieces), b"")

    def _ended(self, block: bytes, end: int, data: bytes) -> bytes:
        self._whole = True
        self._pieces = b""
        self.header = block[:end]
        if not self.submission:
            return data
        self.header = without_bcc(self.header)
        return self.header + block[end:]

    def has(self, name: bytes) -> bool:
        """Whether a field is there; ``name`` in lower case."""
        lowered = self.header.lower()
        return lowered.startswith(name + b":") or b"\r\n" + name + b":" in lowered

    @property
    def bridge(self) -> bytes:
        """What must stand between the fields that we put in front and the message, so that its header stays header and its text text. A message that
        begins with text needs an empty line; the line of an mbox before the first field, which some programs send along, becomes a field (its name
        is Postfix's): the message itself stays as it came."""
        first = self.header.partition(b"\r\n")[0]
        if not first or begins_field(first):
            return b""
        behind = mbox_end(self.header)
        if behind and begins_field(self.header, behind):
            return b"X-Mailbox-Line: "
        return b"\r\n"

    def hops(self) -> int:
        """Received fields."""
        return count(self.header)

    def own_lines(self, by: str) -> list[str]:
        """See ``core.received.own``."""
        return own(self.header, by)


def without_bcc(header: bytes) -> bytes:
    """A header block without Bcc and Resent-Bcc; every other byte as it was."""
    if b"bcc" not in header.lower():
        return header
    kept: list[bytes] = []
    at = 0
    for field in each_field(header):
        if field[1].lower() in (b"bcc", b"resent-bcc"):
            kept.append(header[at : field.start()])
            at = field.end()
    return b"".join([*kept, header[at:]])
