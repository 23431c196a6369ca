"""The whole at a glance, health, and the audit log."""

from __future__ import annotations

import msgspec

from hornetmail.access.rights import Right
from hornetmail.core.archive.archived import ArchiveFigures, KeySourceState
from hornetmail.core.delivery.queued import Backlog
from hornetmail.core.failover.mode import Mode
from hornetmail.web.api.archive.keys import KeyView, key_view
from hornetmail.web.api.archive.stamps import StampsView, stamps_view
from hornetmail.web.api.mail import domains
from hornetmail.web.api.mail.domains import PrimaryView
from hornetmail.web.api.operations import ApiError, Caller, Nothing, Operation, need
from hornetmail.web.api.rooms import Rooms


class RoleStatus(msgspec.Struct, frozen=True):
    """Whether a role works, and why not."""

    up: bool
    reason: str = ""


class DomainStatus(msgspec.Struct, frozen=True):
    """A domain's mode and its primary."""

    name: str
    mode: Mode
    primary: PrimaryView


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The backlog. ``oldest_seconds``: age of the oldest unfinished delivery."""

    messages: int = 0
    archive_pending: int = 0
    oldest_seconds: float = 0.0
    deliver: int = 0
    drain: int = 0
    held: int = 0


class ArchiveStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The archive in figures. ``staged``: not yet on the medium; ``locked``: the key is not there (rule 22); ``key``: which it is, and whether
    another one is pending; ``marked``: expired, not searchable any more, and gone a day after (rule 19); ``unread``: mails whose files are not read yet; ``stamps``: how time stamps stand."""

    mails: int = 0
    packs: int = 0
    bytes_raw: int = 0
    bytes_stored: int = 0
    staged: int = 0
    unindexed: int = 0
    renewing: int = 0
    unread: int = 0
    locked: bool = False
    key: KeyView = KeyView()
    marked: int = 0
    stamps: StampsView = StampsView()


class AlarmStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How many alarms are open; ``fresh``: those that nobody has acknowledged; ``codes``: which."""

    open: int = 0
    fresh: int = 0
    codes: list[str] = []


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at a glance."""

    hostname: str
    version: str
    roles: dict[str, RoleStatus]
    domains: list[DomainStatus]
    queue: QueueStatus
    archive: ArchiveStatus
    portal: dict[str, int]
    alarms: AlarmStatus = AlarmStatus()


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of the audit log: ``before`` a row's number (0: the newest), ``limit`` 1-500."""

    before: int = 0
    limit: int = 100


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody did something. ``at``: Unix seconds; ``result``: ``""`` while, or if, nothing is known of it; ``hash``: hex."""

    number: int
    at: float
    actor: str
    action: str
    subject: str
    detail: str
    result: str
    hash: str


class AuditList(msgspec.Struct, frozen=True):
    """Newest first."""

    entries: list[AuditEntry]


class Health(msgspec.Struct, frozen=True):
    """``ok``: all roles work; otherwise the reasons by role."""

    ok: bool
    reasons: dict[str, str]


def health(rooms: Rooms) -> Health:
    """What ``/healthz`` says."""
    reasons = {role: reason for role, reason in rooms.health().items() if reason}
    return Health(not reasons, reasons)


async def status(rooms: Rooms, caller: Caller, _: Nothing) -> Status:
    """Roles, domains, queue, archive, portal, alarms."""
    backlog = rooms.queue.backlog(caller.tenant) if rooms.queue is not None else Backlog()
    alarms = rooms.alarms.standing(caller.tenant) if rooms.alarms is not None else []
    figures = await rooms.archive.figures() if rooms.archive is not None else ArchiveFigures()
    return Status(
        hostname=rooms.hostname,
        version=rooms.version,
        roles={role: RoleStatus(not reason, reason) for role, reason in rooms.health().items()},
        domains=[
            DomainStatus(seen.name, seen.mode, seen.primary)
            for seen in (domains.view(rooms, domain) for domain in rooms.directory.domains() if caller.reaches(domain.tenant))
        ],
        queue=QueueStatus(
            messages=backlog.messages,
            archive_pending=backlog.archive,
            oldest_seconds=round(backlog.oldest, 1),
            deliver=backlog.deliver,
            drain=backlog.drain,
            held=backlog.held,
        ),
        archive=ArchiveStatus(
            mails=figures.mails,
            packs=figures.packs,
            bytes_raw=figures.bytes_raw,
            bytes_stored=figures.bytes_stored,
            staged=figures.staged,
            unindexed=figures.unindexed,
            renewing=figures.renewing,
            unread=figures.unread,
            locked=figures.locked,
            marked=figures.marked,
            stamps=stamps_view(rooms.stamps.state()) if rooms.stamps is not None else StampsView(),
            key=key_view(rooms.root_keys.state, rooms.unlocking.state if rooms.unlocking is not None else KeySourceState())
            if rooms.root_keys is not None
            else KeyView(),
        ),
        portal=dict(await rooms.portal.figures()) if rooms.portal is not None else {},
        alarms=AlarmStatus(
            open=len(alarms),
            fresh=sum(not record.acknowledged for record in alarms),
            codes=sorted({record.code for record in alarms}),
        ),
    )


async def audit_list(rooms: Rooms, caller: Caller, request: AuditFilter) -> AuditList:
    """Who did what, in the caller's tenant."""
    if not 1 <= request.limit <= 500:
        raise ApiError(400, "invalid", "$.limit: 1 to 500")
    entries = await need(rooms.audit, "audit").entries(tenant=caller.tenant, before=request.before, limit=request.limit)
    return AuditList(
        [
            AuditEntry(
                number=one.number,
                at=one.at,
                actor=one.actor,
                action=one.action,
                subject=one.subject,
                detail=one.detail,
                result=one.result,
                hash=one.hash.hex(),
            )
            for one in entries
        ]
    )


OPERATIONS = (
    Operation("status", "GET", "/status", Nothing, Status, Right.ADMINISTER, "Show the state of everything", status),
    Operation("audit.list", "GET", "/audit", AuditFilter, AuditList, Right.AUDIT, "Read the audit log", audit_list),
)
