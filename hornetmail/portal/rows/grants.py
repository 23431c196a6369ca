"""Who has which rights on whose folders, as ``portal.db`` has it: the way from a person to what others share. The files in the folders are the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from hornetmail.db.engines import Cursor

Grants = Mapping[str, str]
"""Rights (``core.sharing``) by whom they were given to: the ID of a mailbox, or ``anyone``."""


class Shared(msgspec.Struct, frozen=True, gc=False):
    """A folder of somebody, and rights that were given on it."""

    mailbox: int
    folder: int
    name: str
    uidvalidity: int
    rights: str


def of_mailbox(cursor: Cursor, mailbox: int) -> dict[int, dict[str, str]]:
    """Rights on the folders of a mailbox, by folder."""
    cursor.execute(
        "SELECT g.folder, g.whom, g.rights FROM portal_grants g JOIN portal_folders f ON f.id = g.folder WHERE f.mailbox = ?",
        (mailbox,),
    )
    found: dict[int, dict[str, str]] = {}
    for folder, whom, rights in cursor.fetchall():
        found.setdefault(folder, {})[whom] = rights
    return found


def keep(cursor: Cursor, tenant: int, changed: Mapping[int, Grants]) -> None:
    """The rights on folders are these now."""
    for folder, grants in changed.items():
        cursor.execute("DELETE FROM portal_grants WHERE folder = ?", (folder,))
        cursor.executemany(
            "INSERT INTO portal_grants (tenant, folder, whom, rights) VALUES (?, ?, ?, ?)",
            [(tenant, folder, whom, rights) for whom, rights in grants.items()],
        )


def shared_with(cursor: Cursor, tenant: int, whom: Sequence[str]) -> list[Shared]:
    """What was given to any of these within a tenant; a folder may be there more than once."""
    marks = ",".join("?" * len(whom))
    cursor.execute(
        "SELECT f.mailbox, f.id, f.name, f.uidvalidity, g.rights FROM portal_grants g JOIN portal_folders f ON f.id = g.folder"
        f" WHERE g.tenant = ? AND g.whom IN ({marks}) ORDER BY f.mailbox, f.name",
        (tenant, *whom),
    )
    return [Shared(*row) for row in cursor.fetchall()]
