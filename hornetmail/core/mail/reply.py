"""An SMTP reply as a value (RFC 5321 section 4.2, RFC 3463)."""

from __future__ import annotations

import msgspec


class Reply(msgspec.Struct, frozen=True, gc=False):
    """One reply: ``code`` 200-599, ``enhanced`` like ``"4.4.1"`` or ``""``, ``text`` with lines split by ``\\n``.

    ``text`` never repeats the code or the enhanced code.
    """

    code: int
    enhanced: str = ""
    text: str = ""

    @property
    def completed(self) -> bool:
        """2xx: what was asked is done. The only class that is a success."""
        return 200 <= self.code < 300

    @property
    def intermediate(self) -> bool:
        """3xx: nothing is done yet, the server wants more; 334 in AUTH and 354 after DATA are the only ones that are ever asked for."""
        return 300 <= self.code < 400

    @property
    def transient(self) -> bool:
        """4xx: the same command may succeed later."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5xx: the same command will not succeed."""
        return self.code >= 500

    def __str__(self) -> str:
        head = f"{self.code} {self.enhanced}".rstrip()
        return f"{head} {' / '.join(self.text.splitlines())}".rstrip()
