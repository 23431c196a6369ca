"""Whether somebody before us tagged a message as spam (A21)."""

from __future__ import annotations

from hornetmail.core.mail.fields import each_field


def tagged(header: bytes) -> bool:
    """``X-Spam-Flag: YES`` or ``X-Spam-Status: Yes, …`` in a header block (lines end with CRLF), as SpamAssassin and rspamd write them."""
    if b"x-spam" not in header.lower():
        return False
    for field in each_field(header):
        word = field[2].strip().lower()
        match field[1].lower():
            case b"x-spam-flag" if word.startswith((b"yes", b"true")):
                return True
            case b"x-spam-status" if word.startswith(b"yes"):
                return True
            case b"x-spam" if word.startswith((b"yes", b"true")):
                return True
    return False
