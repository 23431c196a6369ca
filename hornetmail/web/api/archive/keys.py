"""The archive key: its backup (A4-A6), and its change in three steps (rule 22)."""

from __future__ import annotations

from typing import Any

import msgspec

from hornetmail.access.rights import Right
from hornetmail.archive.keys.paper import MOST_PARTS, PAGE
from hornetmail.core.archive.archived import KeySourceState, RootKeyState
from hornetmail.web.api.operations import ApiError, Caller, Done, Nothing, Operation, Secret, need
from hornetmail.web.api.rooms import Rooms


class KeyBackupRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The password that the paper is encrypted under; it is needed to read it (A5). ``parts``: papers for so many holders, any ``need`` of which
    restore the key (L12)."""

    password: Secret
    parts: int = 1
    need: int = 1


class KeyBackup(msgspec.Struct, frozen=True):
    """The key as text that can be printed and typed in again (A6), form feeds between its parts. Without key and backup the archive is lost (A3).
    ``papers``: each by itself; ``page``: an HTML document that prints them, with a QR code each."""

    text: str
    papers: list[str]
    page: str


class KeyPaper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text of a paper, as it was written or typed in again, and its password."""

    text: Secret
    password: Secret


class KeyText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text of a backup that was just made."""

    text: Secret


class KeyPage(msgspec.Struct, frozen=True):
    """An HTML document that prints it."""

    page: str


class Unlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``passphrase``, or ``text`` and ``password`` of the key's paper."""

    passphrase: Secret = ""
    text: Secret = ""
    password: Secret = ""


class NewPassphrase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the key shall lie under."""

    passphrase: Secret


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """The archive key. ``id`` names the one in force and tells nothing of it. ``pending``: the ID of a new one whose paper is not confirmed, or
    ``""``; ``since``: when that was made, Unix seconds. ``media_waiting``: media that still open with the key before. ``source``: what it lies under between
    two starts, ``typed`` if somebody has to type that; ``trouble``: why the archive is locked, or why the key lies elsewhere."""

    id: str = ""
    pending: str = ""
    since: float = 0.0
    media_waiting: list[int] = []
    source: str = ""
    typed: bool = False
    trouble: str = ""


class KeyChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The new key is in force. ``former``: the ID of the one before; ``notice``: what its paper still opens, to be told to people."""

    key: KeyView
    former: str
    notice: str


MIN_PASSWORD = 8
MAX_PAPER = 1 << 16
"""Characters; a paper has fewer than 1,000, and there are at most 20."""

KEY_BACKED_UP = "archive_key_backed_up"
"""Setting of the installation: Unix seconds of the newest backup."""


def key_view(state: RootKeyState, source: KeySourceState = KeySourceState()) -> KeyView:
    """What status and pages show."""
    return KeyView(
        id=state.key,
        pending=state.pending,
        since=state.since,
        media_waiting=list(state.waiting),
        source=source.source,
        typed=source.typed,
        trouble=source.trouble,
    )


def _check_password(password: str, field: str) -> None:
    if len(password.strip()) < MIN_PASSWORD:  # space at the ends does not count on paper
        raise ApiError(400, "invalid", f"$.{field}: at least {MIN_PASSWORD} characters")


def _check(request: KeyBackupRequest) -> None:
    _check_password(request.password, "password")
    if not 1 <= request.parts <= MOST_PARTS:
        raise ApiError(400, "invalid", f"$.parts: 1 to {MOST_PARTS}")
    if not min(2, request.parts) <= request.need <= request.parts:
        raise ApiError(400, "invalid", f"$.need: {min(2, request.parts)} to {request.parts}, of {request.parts} parts")


async def _backup_of(keys: Any, text: str) -> KeyBackup:
    return KeyBackup(text, text.split(PAGE), await keys.page(text))


async def _backed_up(rooms: Rooms) -> None:
    await rooms.directory.set_setting(KEY_BACKED_UP, str(int(rooms.clock.seconds())))


async def backup(rooms: Rooms, caller: Caller, request: KeyBackupRequest) -> KeyBackup:
    """Encrypted under the password with AES-256."""
    keys = need(rooms.root_keys, "archive")
    _check(request)
    made = await _backup_of(keys, await keys.backup(request.password, request.parts, request.need))
    await _backed_up(rooms)
    return made


async def page(rooms: Rooms, caller: Caller, request: KeyText) -> KeyPage:
    """With a QR code for each paper."""
    if len(request.text) > MAX_PAPER:
        raise ApiError(400, "invalid", "$.text: too long for a paper of this key")
    return KeyPage(await need(rooms.root_keys, "archive").page(request.text))


async def begin(rooms: Rooms, caller: Caller, request: KeyBackupRequest) -> KeyBackup:
    """A new key, which nothing uses until its paper is confirmed."""
    keys = need(rooms.root_keys, "archive")
    _check(request)
    return await _backup_of(keys, await keys.begin(request.password, request.parts, request.need))


async def confirm(rooms: Rooms, caller: Caller, request: KeyPaper) -> KeyChanged:
    """The paper could be read: its key comes into force."""
    keys = need(rooms.root_keys, "archive")
    if len(request.text) > MAX_PAPER:
        raise ApiError(400, "invalid", "$.text: too long for a paper of this key")
    former = keys.state.key
    state = await keys.confirm(request.text, request.password)
    await _backed_up(rooms)
    return KeyChanged(key=key_view(state), former=former, notice=_notice(former, state))


def _notice(former: str, state: RootKeyState) -> str:
    text = (
        f"The paper of key {former} opens nothing new. Copies of a medium made before still open with it: keep it as long as such copies are needed,"
        " and destroy both when they are not."
    )
    if state.waiting:
        numbers = ", ".join(map(str, state.waiting))
        text += f" Out of reach, and still under key {former}: medium {numbers}; it gets the new keys when it is back."
    return text


async def cancel(rooms: Rooms, caller: Caller, _: Nothing) -> Done:
    """The pending key is forgotten; its paper opens nothing."""
    await need(rooms.root_keys, "archive").cancel()
    return Done()


async def unlock(rooms: Rooms, caller: Caller, request: Unlock) -> Done:
    """Mail that was taken meanwhile becomes searchable."""
    unlocking = need(rooms.unlocking, "archive")
    if len(request.text) > MAX_PAPER or len(request.passphrase) > MAX_PAPER:
        raise ApiError(400, "invalid", "$.text: too long for a paper of this key")
    if bool(request.passphrase) == bool(request.text):
        raise ApiError(400, "invalid", "$.passphrase: either it, or $.text and $.password of the paper")
    if request.text:
        await unlocking.unlock_by_paper(request.text, request.password)
    else:
        await unlocking.unlock(request.passphrase)
    return Done()


async def choose(rooms: Rooms, caller: Caller, request: NewPassphrase) -> Done:
    """It is asked for after each start from now on."""
    _check_password(request.passphrase, "passphrase")
    await need(rooms.unlocking, "archive").choose(request.passphrase)
    return Done()


def key_backed_up(rooms: Rooms) -> bool:
    """Whether a backup of the key was ever made (A4, rule 22)."""
    return bool(rooms.directory.setting(KEY_BACKED_UP, ""))


_NEW = "Make a new archive key, to be confirmed"
_CONFIRM = "Confirm the new archive key's paper"

OPERATIONS = (
    Operation(
        "key.backup",
        "POST",
        "/archive/key/backup",
        KeyBackupRequest,
        KeyBackup,
        Right.OPERATE,
        "Back up the archive key",
        backup,
    ),
    Operation(
        "key.page",
        "POST",
        "/archive/key/page",
        KeyText,
        KeyPage,
        Right.OPERATE,
        "A page that prints a key's backup",
        page,
        audited=False,
    ),
    Operation("key.unlock", "POST", "/archive/key/unlock", Unlock, Done, Right.OPERATE, "Unlock the archive", unlock),
    Operation(
        "key.passphrase",
        "POST",
        "/archive/key/passphrase",
        NewPassphrase,
        Done,
        Right.OPERATE,
        "Choose another passphrase for the archive's key",
        choose,
    ),
    Operation("key.new", "POST", "/archive/key/new", KeyBackupRequest, KeyBackup, Right.OPERATE, _NEW, begin),
    Operation("key.confirm", "POST", "/archive/key/confirm", KeyPaper, KeyChanged, Right.OPERATE, _CONFIRM, confirm),
    Operation("key.cancel", "POST", "/archive/key/cancel", Nothing, Done, Right.OPERATE, "Drop the pending archive key", cancel),
)
