"""A mailbox that is full, where the portal is the mail server: what its domain wants said (RFC 5321 section 4.2.3, RFC 3463 section 3.3)."""

from __future__ import annotations

from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import OverQuota

LATER = Reply(452, "4.2.2", "the mailbox is full")
NEVER = Reply(552, "5.2.2", "the mailbox is full")


def reply(over_quota: OverQuota) -> Reply:
    """To whom wants to bring more."""
    return NEVER if over_quota is OverQuota.REFUSE else LATER
