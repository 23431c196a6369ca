"""What a client has switched on for its connection (RFC 5161): by ENABLE, or by the first use of what says so (RFC 7162 section 3.1)."""

from __future__ import annotations

KNOWN = ("CONDSTORE", "QRESYNC")
"""What ENABLE understands."""


class Enabled:
    """``condstore``: answers about flags bear mod-sequences. ``qresync``: VANISHED is said instead of EXPUNGE. Never switched off again."""

    __slots__ = ("condstore", "qresync")

    def __init__(self) -> None:
        self.condstore = False
        self.qresync = False

    def add(self, name: str) -> bool:
        """ENABLE of a capability in capitals; whether there is such a one."""
        if name not in KNOWN:
            return False
        self.condstore = True
        self.qresync = self.qresync or name == "QRESYNC"
        return True
