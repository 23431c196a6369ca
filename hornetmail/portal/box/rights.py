"""Who may do what in a folder of somebody (RFC 4314). The owner may do everything; others what was given to them, or to anyone. Nobody of another tenant is known."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hornetmail.core.folder import FolderError
from hornetmail.core.served import Mailbox
from hornetmail.core.sharing import ALL, ANYONE, letters
from hornetmail.portal.box.box import Box
from hornetmail.portal.maildir.snapshot import Snapshot
from hornetmail.portal.rows import grants

GRANTS = 500
"""To so many the rights on one folder may be given."""


def had(box: Box, folder: int, mailbox: int) -> frozenset[str]:
    """The rights of a mailbox's person on a folder, as they are now."""
    if mailbox == box.mailbox:
        return frozenset(ALL)
    person = box.ground.directory.mailbox_by_id(mailbox)
    if person is None or person.tenant != box.tenant:
        return frozenset()
    given = box.grants.get(folder, {})
    return frozenset(given.get(str(mailbox), "") + given.get(ANYONE, ""))


def whom(box: Box, identifier: str) -> str:
    """The key of an identifier. Raises FolderError for who is not there, or in another tenant, without a difference."""
    if identifier == ANYONE:
        return ANYONE
    if identifier.startswith("-"):
        raise FolderError("CANNOT", "Rights can be given and taken back, not denied")
    person: Mailbox | None = box.ground.directory.mailbox(identifier)
    if person is None or person.tenant != box.tenant:
        raise FolderError("NONEXISTENT", "There is nobody of this name: rights are given to an address, or to anyone")
    return str(person.id)


def listed(box: Box, folder: int) -> list[tuple[str, str]]:
    """Identifiers and their rights, the owner's first; those who are gone are left out."""
    directory = box.ground.directory
    owner = directory.mailbox_by_id(box.mailbox)
    found = [] if owner is None else [(owner.address, ALL)]
    for key, rights in sorted(box.grants.get(folder, {}).items()):
        person = None if key == ANYONE else directory.mailbox_by_id(int(key))
        if key == ANYONE or (person is not None and person.tenant == box.tenant):
            found.append((ANYONE if person is None else person.address, rights))
    return found


async def learn(box: Box, names: Collection[str], known: Mapping[int, Mapping[str, str]]) -> None:
    """Take rights on folders from their files, and mend the index, which has them as ``known``."""
    found = await box.ground.thread(box.maildir.grants, list(names))
    now = {box.rows[name].id: found.get(name, {}) for name in names}
    changed = {folder: given for folder, given in now.items() if given != known.get(folder, {})}
    if changed:
        await box.ground.database.run(grants.keep, box.tenant, changed)
    box.grants = {folder: given for folder, given in {**box.grants, **now}.items() if given}


async def load(box: Box) -> None:
    """Those on all folders of a mailbox that was loaded."""
    await learn(box, list(box.rows), await box.ground.database.read(grants.of_mailbox, box.mailbox))


async def give(box: Box, snapshot: Snapshot, identifier: str, mode: str, rights: frozenset[str]) -> None:
    """SETACL: ``mode`` ``+``, ``-``, or ``""`` for these rights and no others. Durable on return. Raises FolderError."""
    key = whom(box, identifier)
    if key == str(box.mailbox):
        kept = rights if not mode else frozenset(ALL) - rights if mode == "-" else frozenset(ALL)
        if kept != frozenset(ALL):
            raise FolderError("CANNOT", "Whose folder it is has all rights on it")
        return
    async with box.lock:
        if snapshot.removed:
            raise FolderError("NONEXISTENT", "The mailbox has gone")
        given = dict(box.grants.get(snapshot.id, {}))
        before = frozenset(given.pop(key, ""))
        now = before | rights if mode == "+" else before - rights if mode == "-" else rights
        if now:
            given[key] = letters(now)
        if len(given) > GRANTS:
            raise FolderError("LIMIT", f"Rights on a mailbox can be given to {GRANTS} at most")
        await _keep(box, snapshot, given)
    box.ground.changed(box.mailbox, snapshot.name)


async def _keep(box: Box, snapshot: Snapshot, given: Mapping[str, str]) -> None:
    """File, memory, index: what was taken back is taken back even if the index cannot be told; it is mended when the mailbox is loaded again."""
    await box.ground.thread(box.maildir.grant, snapshot.name, given)
    if given:
        box.grants[snapshot.id] = given
    else:
        box.grants.pop(snapshot.id, None)
    await box.ground.database.run(grants.keep, box.tenant, {snapshot.id: given})
