"""Alarms: what is wrong, who has seen it, and how administrators are told (rule 8f)."""

from __future__ import annotations

import msgspec

from hornetmail.access.rights import Right
from hornetmail.core.alarms import AlarmRecord, kind_of
from hornetmail.core.events import Alarm
from hornetmail.runtime.webhook import checked
from hornetmail.web.api.operations import ApiError, Caller, Done, Nothing, Operation, Secret, need, number
from hornetmail.web.api.rooms import Rooms

URL, SECRET, HOURS = "alarm_webhook", "alarm_webhook_secret", "alarm_repeat_hours"
"""Settings of a tenant."""

REPEAT_HOURS = 4.0


class AlarmView(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm. ``code`` is stable, ``title`` says in a few words what it stands for, ``text`` what happened. ``since``, ``last`` (when it was raised
    last), ``acknowledged_at`` and ``ended`` are Unix seconds, 0: not yet. ``why``: why it ended."""

    id: str
    code: str
    title: str
    subject: str
    domain: str
    text: str
    since: float
    last: float
    count: int
    acknowledged: bool
    acknowledged_at: float
    acknowledged_by: str
    ended: float
    why: str


class AlarmFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Open alarms, or with ``over`` those that ended; at most ``limit`` (1-500), the newest first."""

    over: bool = False
    limit: int = 500


class AlarmList(msgspec.Struct, frozen=True):
    """``total``: how many there are; ended ones are not counted beyond ``limit``."""

    alarms: list[AlarmView]
    total: int


class AlarmChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alarms by their IDs, or ``all`` that are open."""

    ids: list[str] = []
    all: bool = False


class AlarmSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How administrators are told. ``webhook``: where alarms are posted, or ``""``; ``secret_set``: whether posts are signed. ``repeat_hours``: between
    reminders. ``addresses``: who would get a mail now; ``second``: those outside that are kept for when own mail may not arrive; ``alone``: nothing
    would get out of this house if the domains served here were down."""

    webhook: str
    secret_set: bool
    repeat_hours: float
    addresses: list[str]
    second: list[str]
    alone: bool


class AlarmSettingsChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields left out stay; an empty ``webhook`` turns it off, an empty ``secret`` the signature."""

    webhook: str | msgspec.UnsetType = msgspec.UNSET
    secret: Secret | msgspec.UnsetType = msgspec.UNSET
    repeat_hours: float | msgspec.UnsetType = msgspec.UNSET


def view(record: AlarmRecord) -> AlarmView:
    """An alarm for people and programs."""
    return AlarmView(
        id=str(record.number),
        code=record.code,
        title=kind_of(record.code).title,
        subject=record.subject,
        domain=record.domain,
        text=record.text,
        since=record.since,
        last=record.last,
        count=record.count,
        acknowledged=bool(record.acknowledged),
        acknowledged_at=record.acknowledged,
        acknowledged_by=record.by,
        ended=record.ended,
        why=record.why,
    )


async def list_all(rooms: Rooms, caller: Caller, request: AlarmFilter) -> AlarmList:
    """What is wrong now, those that nobody has acknowledged first; or what was."""
    if not 1 <= request.limit <= 500:
        raise ApiError(400, "invalid", "$.limit: 1 to 500")
    book = need(rooms.alarms, "alarms")
    if request.over:
        found = await book.over(caller.tenant, request.limit)
    else:
        found = sorted(book.standing(caller.tenant), key=lambda record: bool(record.acknowledged))
    return AlarmList([view(record) for record in found[: request.limit]], len(found))


async def acknowledge(rooms: Rooms, caller: Caller, request: AlarmChoice) -> Done:
    """Somebody has seen them: no more reminders. An alarm whose cause lasts stays open until that is gone; what only happened once ends."""
    if bool(request.ids) is request.all:
        raise ApiError(400, "invalid", "$.ids: name alarms, or say all")
    numbers = [number(text, "alarm") for text in request.ids]
    book = need(rooms.alarms, "alarms")
    known = {record.number for record in book.standing(caller.tenant)}
    if unknown := [one for one in numbers if one not in known]:
        raise ApiError(404, "not_found", f"alarm {unknown[0]} is not open")
    return Done(await book.acknowledge(numbers, caller.label, caller.tenant))


def _tenant(caller: Caller) -> int:
    """The local administrator operates the installation, which is tenant 1's."""
    return caller.tenant or 1


async def settings(rooms: Rooms, caller: Caller, _: Nothing) -> AlarmSettings:
    """Of the caller's tenant."""
    tenant, directory = _tenant(caller), rooms.directory
    url = directory.setting(URL, "", tenant)
    seconds = [
        one.second
        for one in directory.mailboxes()
        if one.tenant == tenant and one.second and "admin" in one.roles and one.enabled
    ]
    addresses = list(rooms.alarm_addresses(tenant))
    outside = [one for one in addresses if directory.domain(one.rpartition("@")[2]) is None]
    return AlarmSettings(
        webhook=url,
        secret_set=bool(directory.setting(SECRET, "", tenant)),
        repeat_hours=repeat_hours(directory.setting(HOURS, "", tenant)),
        addresses=addresses,
        second=sorted(set(seconds)),
        alone=not (url or seconds or outside),
    )


def repeat_hours(text: str) -> float:
    """The setting's value."""
    try:
        return float(text)
    except ValueError:
        return REPEAT_HOURS


async def change(rooms: Rooms, caller: Caller, request: AlarmSettingsChange) -> AlarmSettings:
    """In force when this answers."""
    tenant, changes = _tenant(caller), {}
    if request.webhook is not msgspec.UNSET:
        try:
            changes[URL] = checked(request.webhook, local=tenant == 1) if request.webhook.strip() else ""
        except ValueError as error:
            raise ApiError(400, "invalid", f"$.webhook: {error}") from None
    if request.secret is not msgspec.UNSET:
        if len(request.secret) > 500 or "\0" in request.secret:
            raise ApiError(400, "invalid", "$.secret: at most 500 characters")
        changes[SECRET] = request.secret
    if request.repeat_hours is not msgspec.UNSET:
        if not 0.1 <= request.repeat_hours <= 168:
            raise ApiError(400, "invalid", "$.repeat_hours: 0.1 to 168")
        changes[HOURS] = f"{request.repeat_hours:g}"
    for name, value in changes.items():
        await rooms.directory.set_setting(name, value, tenant)
    return await settings(rooms, caller, Nothing())


async def test(rooms: Rooms, caller: Caller, _: Nothing) -> Done:
    """Raise an alarm that says it is one, so that everybody sees which ways work. Acknowledging ends it."""
    tenant = _tenant(caller)
    domain = next((one.name for one in rooms.directory.domains() if one.tenant == tenant), "") if tenant != 1 else ""
    if tenant != 1 and not domain:
        raise ApiError(409, "conflict", "no domain is served for you yet")
    need(rooms.bus, "alarms").publish(Alarm("test", f"{caller.label} asked for this test: nothing is wrong", domain))
    return Done()


_RIGHT = Right.ADMINISTER

OPERATIONS = (
    Operation("alarm.list", "GET", "/alarms", AlarmFilter, AlarmList, _RIGHT, "List alarms", list_all),
    Operation("alarm.acknowledge", "POST", "/alarms/acknowledge", AlarmChoice, Done, _RIGHT, "Acknowledge alarms", acknowledge),
    Operation(
        "alarm.settings", "GET", "/alarms/settings", Nothing, AlarmSettings, _RIGHT, "Show who is told of alarms", settings
    ),
    Operation(
        "alarm.change",
        "PATCH",
        "/alarms/settings",
        AlarmSettingsChange,
        AlarmSettings,
        _RIGHT,
        "Set who is told of alarms",
        change,
    ),
    Operation("alarm.test", "POST", "/alarms/test", Nothing, Done, _RIGHT, "Raise an alarm as a test", test),
)
