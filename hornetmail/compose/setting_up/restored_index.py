"""The index of a restore: from its backup if that knows just what lies there, and what it knows of leaves (rules 17 and 18)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hornetmail.archive.care.copies.backup import Manifest, read_pieces
from hornetmail.archive.care.terms.retention import mark_rebuilt
from hornetmail.archive.index.finding.folders import renew_uids
from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.archive.keys.keyring import Keyring
from hornetmail.archive.media.medium import IMedium, MediumError
from hornetmail.archive.media.roster import Media
from hornetmail.archive.store.packs import pack_id_of
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.db.engines import Cursor


async def restore_index(
    base: Foundations,
    source: IMedium,
    manifest: Manifest,
    ring: Keyring,
    media: Media,
    united: int,
    say: Callable[[str], None],
) -> tuple[bool, int]:
    """From the backup, if it knows just the packs that are there and nothing was staged; else False, and it is to be made anew; and how many leaves it knows of in packs.
    ``united``: the medium on which all lies now."""
    path = base.directory("archive") / "archive.db"
    base.disk.make_directory(path.parent)
    for suffix in ("-wal", "-shm", ""):
        base.disk.unlink(path.with_name(path.name + suffix), missing_ok=True)
    if manifest.schema > len(MIGRATIONS):
        return False, 0
    leaves = 0
    names: set[bytes] = set()
    away: list[int] = []
    for medium in media.every():
        try:
            names |= {pack_id_of(name) for name, _ in await base.offload(medium.names, "")} - {b""}
        except MediumError as error:
            # What the backup says of it is believed: its mail is found, and says when it is opened where it lies.
            say(f"{error}; its mail is known by the backup")
            away.append(medium.number)
    try:
        await base.offload(_write, path, source, manifest)
        database = await base.open_database(base.reactor, f"sqlite://{path}", MIGRATIONS, key=ring.database_key())
        try:
            whole = await database.read(_knows_all, names, away)
            leaves = await database.read(_leaves_known, base.config.node)
            if whole:
                await database.run(_enter, united)
                await database.run(renew_uids, base.reactor.seconds())
        finally:
            await database.close()
    except Exception as error:  # noqa: BLE001  the packs hold all of it
        say(f"the index's backup is of no use ({error}); it is made anew")
        whole = False
    if not whole:
        for suffix in ("-wal", "-shm", ""):
            base.disk.unlink(path.with_name(path.name + suffix), missing_ok=True)
    return whole, leaves


def _write(path: Path, source: IMedium, manifest: Manifest) -> None:
    with path.open("xb") as file:
        path.chmod(0o600)
        for piece in read_pieces(source, manifest):
            file.write(piece)


def _knows_all(cursor: Cursor, names: set[bytes], away: Sequence[int]) -> bool:
    """Whether it has just the packs that are there, but for those on media that are away."""
    known = {bytes(pack) for pack, medium in cursor.execute("SELECT pack, medium FROM pack").fetchall() if medium not in away}
    (staged,) = cursor.execute("SELECT count(*) FROM mail WHERE pack IS NULL").fetchone()
    return known == names and not staged


def _leaves_known(cursor: Cursor, node: int) -> int:
    """As many leaves as were given to what was sealed at least, on media that may be lost too: to mail, further arrivals, the audit log, and what went since."""
    newest = [
        cursor.execute(f"SELECT coalesce(max({column}), -1) FROM {rows} AND node = ?", (node,)).fetchone()[0]
        for column, rows in (
            ("leaf", "mail WHERE pack IS NOT NULL"),
            ("leaf", "arrival WHERE outcome != 'stored'"),
            ("leaf", "audit_leaf WHERE true"),
            ("last", "leaf_gone WHERE true"),
        )
    ]
    return int(max(newest)) + 1


def _enter(cursor: Cursor, united: int) -> None:
    if united:
        cursor.execute("UPDATE pack SET medium = ?", (united,))
    mark_rebuilt(cursor)
