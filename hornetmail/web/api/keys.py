"""The archive key's backup (A4-A6)."""

from __future__ import annotations

import msgspec

from hornetmail.access.rights import Right
from hornetmail.web.api.operations import ApiError, Caller, Operation, Secret, need
from hornetmail.web.api.rooms import Rooms


class KeyBackupRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The password that the backup is encrypted under; it is needed to import it (A5)."""

    password: Secret


class KeyBackup(msgspec.Struct, frozen=True):
    """The key as text that can be printed and typed in again (A6). Without key and backup the archive is lost (A3)."""

    text: str


MIN_PASSWORD = 8

KEY_BACKED_UP = "archive_key_backed_up"
"""Setting of the installation: Unix seconds of the newest backup."""


async def backup(rooms: Rooms, caller: Caller, request: KeyBackupRequest) -> KeyBackup:
    """Encrypted under the password with AES-256."""
    write = need(rooms.key_backup, "archive")
    if len(request.password) < MIN_PASSWORD:
        raise ApiError(400, "invalid", f"$.password: at least {MIN_PASSWORD} characters")
    text = await write(request.password)
    await rooms.directory.set_setting(KEY_BACKED_UP, str(int(rooms.clock.seconds())))
    return KeyBackup(text)


def key_backed_up(rooms: Rooms) -> bool:
    """Whether a backup of the key was ever made (A4, rule 22)."""
    return bool(rooms.directory.setting(KEY_BACKED_UP, ""))


OPERATIONS = (
    Operation(
        "key.backup",
        "POST",
        "/archive/key/backup",
        KeyBackupRequest,
        KeyBackup,
        Right.ADMINISTER,
        "Back up the archive key",
        backup,
    ),
)
