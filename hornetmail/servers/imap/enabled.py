"""What a client has switched on for its connection (RFC 5161): by ENABLE, or by the first use of what says so (RFC 7162 section 3.1)."""

from __future__ import annotations

KNOWN = {name.upper(): name for name in ("CONDSTORE", "QRESYNC", "UTF8=ACCEPT", "IMAP4rev2", "METADATA")}
"""What ENABLE understands, as it is written."""


class Enabled:
    r"""``condstore``: answers about flags bear mod-sequences. ``qresync``: VANISHED is said instead of EXPUNGE. ``utf8``: mailbox names are UTF-8, and strings may
    be (RFC 6855, RFC 9051 section 5.1); ``accept``: by UTF8=ACCEPT, which has rules for SEARCH too. ``rev2``: nothing is said of ``\Recent``, SELECT tells
    of the mailbox as LIST does, and SEARCH answers with ESEARCH (RFC 9051 appendix E). ``metadata``: the client is told of annotations that change
    (RFC 5464 section 4.4.2). Never switched off again."""

    __slots__ = ("accept", "condstore", "metadata", "qresync", "rev2", "utf8")

    def __init__(self) -> None:
        self.accept = False
        self.condstore = False
        self.metadata = False
        self.qresync = False
        self.rev2 = False
        self.utf8 = False

    def add(self, name: str) -> str:
        """ENABLE of a capability in capitals; how it is written, ``""`` if there is no such one."""
        if name not in KNOWN:
            return ""
        self.qresync = self.qresync or name == "QRESYNC"
        self.condstore = self.condstore or name in ("CONDSTORE", "QRESYNC")
        self.accept = self.accept or name == "UTF8=ACCEPT"
        self.rev2 = self.rev2 or name == "IMAP4REV2"
        self.metadata = self.metadata or name == "METADATA"
        self.utf8 = self.accept or self.rev2
        return KNOWN[name]
