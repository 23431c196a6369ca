"""All operations."""

from __future__ import annotations

from typing import Any

from hornetmail.web.api.archive import backups, guidance, keys, mails, media, retention, stamps, statistics
from hornetmail.web.api.mail import domains, homeward, queue, strays
from hornetmail.web.api.operations import Operation
from hornetmail.web.api.people import account, approvals, lists, mailboxes
from hornetmail.web.api.service import alarms, jobs, status

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    *status.OPERATIONS,
    *alarms.OPERATIONS,
    *domains.OPERATIONS,
    *mailboxes.OPERATIONS,
    *lists.OPERATIONS,
    *approvals.OPERATIONS,
    *queue.OPERATIONS,
    *strays.OPERATIONS,
    *homeward.OPERATIONS,
    # before those of the archive, one of whose paths ends in any ID
    *media.OPERATIONS,
    *backups.OPERATIONS,
    *retention.OPERATIONS,
    *guidance.OPERATIONS,
    *mails.OPERATIONS,
    *keys.OPERATIONS,
    *stamps.OPERATIONS,
    *jobs.OPERATIONS,
    *statistics.OPERATIONS,
    *account.OPERATIONS,
)
