"""All operations."""

from __future__ import annotations

from typing import Any

from hornetmail.web.api import (
    account,
    alarms,
    approvals,
    archive,
    backups,
    domains,
    guidance,
    homeward,
    jobs,
    keys,
    mailboxes,
    media,
    people,
    queue,
    retention,
    stamps,
    statistics,
    status,
    strays,
)
from hornetmail.web.api.operations import Operation

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    *status.OPERATIONS,
    *alarms.OPERATIONS,
    *domains.OPERATIONS,
    *mailboxes.OPERATIONS,
    *people.OPERATIONS,
    *approvals.OPERATIONS,
    *queue.OPERATIONS,
    *strays.OPERATIONS,
    *homeward.OPERATIONS,
    # before those of the archive, one of whose paths ends in any ID
    *media.OPERATIONS,
    *backups.OPERATIONS,
    *retention.OPERATIONS,
    *guidance.OPERATIONS,
    *archive.OPERATIONS,
    *keys.OPERATIONS,
    *stamps.OPERATIONS,
    *jobs.OPERATIONS,
    *statistics.OPERATIONS,
    *account.OPERATIONS,
)
