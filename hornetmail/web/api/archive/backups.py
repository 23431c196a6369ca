"""Backups and the mirror (A29, A32): listed, set up; they are made by their jobs."""

from __future__ import annotations

from typing import Literal

import msgspec

from hornetmail.access.rights import Right
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.web.api.operations import ApiError, Caller, Done, Nothing, Operation, Secret, need
from hornetmail.web.api.rooms import Rooms


class BackupView(msgspec.Struct, frozen=True):
    """A backup. ``stamp``: its name, UTC; ``made``: Unix seconds; ``bytes``: of its own."""

    stamp: str
    full: bool
    made: float
    medium: int
    bytes: int


class MirrorView(msgspec.Struct, frozen=True):
    """``kind`` is ``""`` if none is set up. ``done``: when it last followed, Unix seconds; ``text``: what was done; ``trouble``: why it did not since."""

    kind: str = ""
    where: str = ""
    done: float = 0.0
    text: str = ""
    trouble: str = ""


class BackupList(msgspec.Struct, frozen=True):
    """Newest first. ``gone_by``: what is deleted now is in no backup after that (rule 23)."""

    backups: list[BackupView]
    mirror: MirrorView
    gone_by: float


class MirrorPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """As for a medium: ``/path``; ``//host[:port]/share[/folder]``; ``https://host[:port]/bucket[/prefix]``."""

    place: str
    kind: Literal["directory", "smb", "s3"]
    secret: Secret = ""
    user: str = ""
    domain: str = ""
    encrypted: bool = False
    key_id: str = ""
    region: str = ""
    style: Literal["", "path", "virtual"] = ""


async def list_all(rooms: Rooms, caller: Caller, _: Nothing) -> BackupList:
    """On media in reach, and the mirror."""
    safety = need(rooms.safety, "archive")
    made = [BackupView(*msgspec.structs.astuple(one)) for one in await safety.backups()]
    state = await safety.mirror()
    view = MirrorView(*msgspec.structs.astuple(state)) if state is not None else MirrorView()
    return BackupList(made, view, safety.gone_by(rooms.clock.seconds()))


async def set_mirror(rooms: Rooms, caller: Caller, request: MirrorPlace) -> MirrorView:
    """Make a place the mirror, and follow into it instead of another installation that did; what it lacks is copied by the job."""
    safety = need(rooms.safety, "archive")
    options = {name: getattr(request, name) for name in ("user", "domain", "key_id", "region", "style") if getattr(request, name)}
    if request.encrypted:
        options["encrypted"] = True
    try:
        await safety.set_mirror(request.kind, request.place, options, request.secret)
    except ValueError as error:
        raise ApiError(400, "invalid", f"$.place: {error}") from None
    except ArchiveError as error:
        raise ApiError(409, "conflict", str(error)) from None
    state = await safety.mirror()
    return MirrorView(*msgspec.structs.astuple(state))


async def unset_mirror(rooms: Rooms, caller: Caller, _: Nothing) -> Done:
    """Follow no more; what lies there stays."""
    await need(rooms.safety, "archive").unset_mirror()
    return Done()


OPERATIONS = (
    Operation(
        "backup.list", "GET", "/archive/backups", Nothing, BackupList, Right.OPERATE, "List backups, show the mirror", list_all
    ),
    Operation("mirror.set", "POST", "/archive/mirror", MirrorPlace, MirrorView, Right.OPERATE, "Set up the mirror", set_mirror),
    Operation("mirror.unset", "DELETE", "/archive/mirror", Nothing, Done, Right.OPERATE, "End mirroring", unset_mirror),
)
