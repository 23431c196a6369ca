"""The archive's media (A7-A16): listed, added, tested, made active, put out of use, merged. Secrets go in and never come out."""

from __future__ import annotations

from typing import Literal

import msgspec

from hornetmail.access.rights import Right
from hornetmail.core.archive.archived import MediumState
from hornetmail.web.api.operations import ApiError, Caller, Done, Nothing, Operation, Secret, need
from hornetmail.web.api.rooms import Rooms


class MediumView(msgspec.Struct, frozen=True, kw_only=True):
    """A medium. ``id``: its number for good; ``where``: where it lies, without any secret. ``active``: takes new mail; ``used``: false if it is out of
    use; ``taken``: another installation writes there; ``up``: whether it answered when it was last looked at, else ``why`` not. ``mails``, ``packs``, ``bytes``: what it holds, if ``counted``.
    ``total``, ``free``: its room in bytes, 0 where nobody can tell. ``moving_to``, ``copied``: its mail is being moved, so many objects so far;
    ``moved_to``: its mail lies there now."""

    id: int
    kind: str
    name: str
    where: str
    active: bool
    used: bool
    up: bool
    why: str
    taken: bool
    since: float
    mails: int
    packs: int
    bytes: int
    counted: bool
    total: int
    free: int
    moving_to: int
    copied: int
    moved_to: int


class MediaList(msgspec.Struct, frozen=True):
    """All, by number."""

    media: list[MediumView]


class MediumNumber(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which medium."""

    id: int


class NewMedium(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``place``: ``/path``; ``//host[:port]/share[/folder]``; ``https://host[:port]/bucket[/prefix]``. ``secret``: the share's password, or the secret
    key. ``user``, ``domain``, ``encrypted``: of a share. ``key_id``, ``region``, ``style``, ``lock_days``: of a bucket."""

    place: str
    kind: Literal["directory", "smb", "s3"]
    name: str = ""
    secret: Secret = ""
    user: str = ""
    domain: str = ""
    encrypted: bool = False
    key_id: str = ""
    region: str = ""
    style: Literal["", "path", "virtual"] = ""
    lock_days: int = 0


class NewSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The share's password, or the secret key."""

    id: int
    secret: Secret


class MediumAdded(msgspec.Struct, frozen=True):
    """Its number."""

    id: int


class Probed(msgspec.Struct, frozen=True):
    """It could be written, read, listed and deleted from, in so many seconds."""

    id: int
    seconds: float
    total: int
    free: int


class Merge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that ``ids`` hold moves to ``into``."""

    ids: list[int]
    into: int


def view_of(state: MediumState) -> MediumView:
    """As it is shown."""
    return MediumView(**msgspec.structs.asdict(state))


async def list_media(rooms: Rooms, caller: Caller, _: Nothing) -> MediaList:
    """All, by number."""
    return MediaList([view_of(state) for state in await need(rooms.media, "archive").list()])


async def add(rooms: Rooms, caller: Caller, request: NewMedium) -> MediumAdded:
    """Make a new medium there."""
    media = need(rooms.media, "archive")
    per_kind = {"smb": ("user", "domain", "encrypted"), "s3": ("key_id", "region", "style", "lock_days")}
    given = {name: getattr(request, name) for names in per_kind.values() for name in names if getattr(request, name)}
    if strays := sorted(set(given) - set(per_kind.get(request.kind, ()))):
        raise ApiError(400, "invalid", f"$.{strays[0]}: not for a medium of kind {request.kind}")
    try:
        return MediumAdded(await media.add(request.kind, request.place, given, request.secret, request.name))
    except ValueError as error:
        raise ApiError(400, "invalid", f"$.place: {error}") from None


async def test(rooms: Rooms, caller: Caller, request: MediumNumber) -> Probed:
    """Write, read, list, delete."""
    probe = await need(rooms.media, "archive").test(request.id)
    return Probed(request.id, probe.seconds, probe.total, probe.free)


async def activate(rooms: Rooms, caller: Caller, request: MediumNumber) -> Done:
    """It takes new mail from now on."""
    await need(rooms.media, "archive").activate(request.id)
    return Done()


async def deactivate(rooms: Rooms, caller: Caller, request: MediumNumber) -> Done:
    """Out of use for now."""
    await need(rooms.media, "archive").deactivate(request.id)
    return Done()


async def use(rooms: Rooms, caller: Caller, request: MediumNumber) -> Done:
    """Back in use."""
    await need(rooms.media, "archive").use(request.id)
    return Done()


async def take(rooms: Rooms, caller: Caller, request: MediumNumber) -> Done:
    """This installation writes there from now on."""
    await need(rooms.media, "archive").take(request.id)
    return Done()


async def set_secret(rooms: Rooms, caller: Caller, request: NewSecret) -> Done:
    """Another password or secret key."""
    await need(rooms.media, "archive").set_secret(request.id, request.secret)
    return Done()


async def remove(rooms: Rooms, caller: Caller, request: MediumNumber) -> Done:
    """One that never held mail."""
    await need(rooms.media, "archive").remove(request.id)
    return Done()


async def merge(rooms: Rooms, caller: Caller, request: Merge) -> Done:
    """Begin to move; the list of media shows how far it is."""
    await need(rooms.media, "archive").merge(request.ids, request.into)
    return Done(len(request.ids))


def _on(name: str, summary: str, run: object) -> Operation[MediumNumber, Done]:
    path = f"/archive/media/{{id}}/{name}"
    return Operation(f"media.{name}", "POST", path, MediumNumber, Done, Right.OPERATE, summary, run)  # type: ignore[arg-type]


OPERATIONS = (
    Operation("media.list", "GET", "/archive/media", Nothing, MediaList, Right.OPERATE, "List the archive's media", list_media),
    Operation("media.add", "POST", "/archive/media", NewMedium, MediumAdded, Right.OPERATE, "Add a medium", add),
    Operation("media.test", "POST", "/archive/media/{id}/test", MediumNumber, Probed, Right.OPERATE, "Test a medium", test),
    _on("activate", "Make a medium the active one", activate),
    _on("deactivate", "Put a medium out of use", deactivate),
    _on("use", "Take a medium into use again", use),
    _on("take", "Write to a medium to which another installation wrote", take),
    Operation(
        "media.secret",
        "POST",
        "/archive/media/{id}/secret",
        NewSecret,
        Done,
        Right.OPERATE,
        "Set a medium's secret",
        set_secret,
    ),
    Operation(
        "media.remove", "DELETE", "/archive/media/{id}", MediumNumber, Done, Right.OPERATE, "Take out an empty medium", remove
    ),
    Operation("media.merge", "POST", "/archive/media/merge", Merge, Done, Right.OPERATE, "Merge media into one", merge),
)
