"""A restore into an empty installation (A11, L3, rules 18 and 26): from a medium or the mirror, with the root key alone.

What comes back: the wrapped keys, the leaf log, ``control.db`` (people, settings, jobs, audit log) with the server key that its secrets are sealed under, and the index, from its backup if that
knows all that lies there, else anew from the packs. What does not: the queue, for what is in it may have been delivered since. Purging is off until confirmed.

The file ``restoring`` in the data directory says that one was begun. No service starts while it is there, and the same command goes on where it was cut off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.copies.backup import (
    BackupName,
    Manifest,
    backup_seal,
    backups_on,
    newest_backup,
    read_control,
    read_manifest,
)
from hornetmail.archive.care.copies.mirror import NUMBER, bring_back
from hornetmail.archive.keys import paper
from hornetmail.archive.keys.keyring import Keyring
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.keys.rootstore import RootStore
from hornetmail.archive.media.medium import (
    IDENTITY,
    Identity,
    IMedium,
    IPlace,
    Medium,
    MediumAway,
    PlaceTrouble,
    identity_at,
)
from hornetmail.archive.media.register import Means
from hornetmail.archive.media.roster import Media
from hornetmail.archive.media.settings import DirectorySettings, Settings, settings_for
from hornetmail.compose.ground.foundations import RESTORING, SERVER_KEY, Foundations
from hornetmail.compose.ground.keys import ServerKey
from hornetmail.compose.rooms.people import control_database
from hornetmail.compose.rooms.rooms import archive_of, register_of, root_store, writer_of
from hornetmail.compose.rooms.stores import index_path
from hornetmail.compose.setting_up.restored_index import restore_index
from hornetmail.compose.setting_up.setup import SetupError, read_paper, with_foundations
from hornetmail.compose.setting_up.written import Written
from hornetmail.config import Config
from hornetmail.core.archive.archived import ArchiveError, Finding
from hornetmail.db.dump import Dump, DumpBroken, load
from hornetmail.directory.schema import CONTROL
from hornetmail.disk.anchor import NAME as ANCHOR
from hornetmail.disk.anchor import Anchor

T = TypeVar("T")

_USED = "used"


class Source(msgspec.Struct, frozen=True):
    """Where from: see ``settings_for``; ``secret`` is the share's password or the secret key."""

    kind: str
    place: str
    options: Mapping[str, object] = {}
    secret: str = ""


class Restored(msgspec.Struct, frozen=True):
    """What came back. ``control``: the stamp of the backup that people and settings are from, ``""`` if there was none; ``rebuilt``: the index was made anew. ``findings``: what
    could not be read."""

    mails: int
    medium: int
    copied: int
    control: str
    rebuilt: bool
    findings: tuple[Finding, ...] = ()


class Wanted(msgspec.Struct, frozen=True):
    """What shall be restored. ``source``; ``text`` and ``password``: the paper of the root key, or enough of its parts, ``""``: the key that is here.
    ``backup``: the stamp of the backup that people, settings and index come from, ``""``: the newest that opens. ``used``: the service ran here already
    and took nothing; what it made is put aside. ``without``: media that are lost, or away for long: they are out of use then, and their mail is known by the backup. ``take_over``: media to which
    another installation writes, as far as they tell, are this one's from now on."""

    source: Source
    text: str = ""
    password: str = ""
    backup: str = ""
    used: bool = False
    without: tuple[int, ...] = ()
    take_over: bool = False


class Looked(msgspec.Struct, frozen=True):
    """What lies at a source that the key opens. ``medium``: its number, 0 for a mirror; ``backups``: their stamps, newest first; ``writer``: which other installation writes there, ``""``: none."""

    where: str
    archive: str
    key: str
    medium: int
    backups: tuple[str, ...]
    writer: str = ""


def restore(
    config: Config,
    source: Source,
    text: str = "",
    password: str = "",
    progress: Callable[[str], None] = lambda line: None,
    backup: str = "",
    without: Sequence[int] = (),
    take_over: bool = False,
) -> Restored:
    """Where no service runs. Raises SetupError, ArchiveError, ValueError (a place that cannot be understood)."""
    wanted = Wanted(source, text, password, backup, without=tuple(without), take_over=take_over)
    settings_for(source.kind, source.place, source.options)
    root = read_paper(text, password) if text else None
    return with_foundations(config, lambda base: restore_into(base, wanted, progress, root), restoring=True)


async def restore_into(
    base: Foundations, wanted: Wanted, progress: Callable[[str], None] = lambda line: None, root: bytes | None = None
) -> Restored:
    """On foundations that nothing else stands on. ``root``: if the paper was read already. Raises the same."""
    return await _at(base, wanted, progress, root, lambda one: one.run(wanted))


async def look(base: Foundations, wanted: Wanted) -> Looked:
    """What a restore would find; nothing is changed. Raises the same."""
    return await _at(base, wanted, lambda line: None, None, lambda one: one.look())


async def _at(
    base: Foundations,
    wanted: Wanted,
    progress: Callable[[str], None],
    root: bytes | None,
    task: Callable[[_Restore], Awaitable[T]],
) -> T:
    config, source = base.config, wanted.source
    settings = settings_for(source.kind, source.place, source.options)
    if root is None and wanted.text:
        root = await base.offload(paper.restore, wanted.text, wanted.password)
    place = Means(base.reactor, base.disk, config.path(config.archive.medium)).place(settings, source.secret)
    roots = root_store(config, base.disk)
    roots.choose(wanted.password)
    try:
        return await task(_Restore(base, settings, source.secret, place, root, progress, roots))
    except PlaceTrouble as error:
        raise SetupError(f"{settings.where}: {error}") from error
    finally:
        await base.offload(place.close)


class _Restore:
    """One restore, in its steps; each can be done again."""

    def __init__(
        self,
        base: Foundations,
        settings: Settings,
        secret: str,
        place: IPlace,
        root: bytes | None,
        progress: Callable[[str], None],
        roots: RootStore,
    ) -> None:
        self._base = base
        self._roots = roots
        self._settings = settings
        self._secret = secret
        self._place = place
        self._root = root
        self._say = progress
        self._marker = base.directory(RESTORING)
        self._written = Written(writer_of(base))

    async def look(self) -> Looked:
        """What there is."""
        base = self._base
        identity, source = await base.offload(self._open_source)
        ring, _ = await base.offload(self._keyring, source, identity)
        other = await base.offload(self._written.writer_of, self._source_to_write(identity))
        stamps = [name.stamp for name in reversed((await base.offload(backups_on, source)).whole)]
        return Looked(self._settings.where, identity.archive, ring.root.hex(), identity.medium, tuple(stamps), other)

    async def run(self, wanted: Wanted) -> Restored:
        """All of it."""
        base = self._base
        identity, source = await base.offload(self._open_source)
        ring, root = await base.offload(self._keyring, source, identity)
        await base.offload(self._written.refuse, self._source_to_write(identity), wanted.take_over)
        flaws: list[str] = []
        found = await base.offload(_backup_at, source, ring, wanted.backup, flaws.append)
        for flaw in flaws:
            self._say(f"an older backup is taken: {flaw}" if found else f"a backup is of no use: {flaw}")
        if await base.offload(self._begin, identity, wanted.used):
            await base.offload(self._put_used_aside)
        await base.offload(self._put_aside, identity)
        await base.offload(self._roots.write, root)
        control = ""
        if found is not None:
            name, manifest, dumped = found
            await self._restore_control(dumped, manifest.secrets)
            control = name.stamp
        media, number = await self._restore_media(identity, wanted)
        unread: list[Finding] = []
        copied = await base.offload(self._copy, source, media.active, unread) if identity.medium == NUMBER else 0
        archive = archive_of(base, root, media)
        quick, leaves = False, 0
        if found is not None:
            united = number if identity.medium == NUMBER else 0
            quick, leaves = await restore_index(base, source, found[1], ring, media, united, self._say)
        try:
            told = await base.offload(archive.restore, leaves)
        except MediumAway as error:
            raise SetupError(
                f"{error}: bring it back; or leave it out (--without NUMBER), and its mail is only known by the backup"
            ) from error
        rebuilt = await self._open(archive, rebuild=not quick or bool(unread))
        findings = [*(Finding("backup", flaw) for flaw in flaws), *unread, *told, *rebuilt]
        try:
            mails = (await archive.figures()).mails
        finally:
            await archive.stop()
        base.disk.unlink(self._marker)
        return Restored(mails, number, copied, control, not quick, tuple(findings))

    # -- before anything is changed

    def _open_source(self) -> tuple[Identity, Medium]:
        identity = identity_at(self._place)
        if identity is None:
            raise SetupError(f"at {self._settings.where} there is neither a medium nor a mirror")
        source = Medium(identity.medium, self._place)
        source.expect(bytes.fromhex(identity.archive))
        source.look()
        return identity, source

    def _source_to_write(self, identity: Identity) -> Medium:
        """As that which it becomes if it is a medium."""
        medium = Medium(identity.medium, self._place, writer=self._written.here)
        medium.expect(bytes.fromhex(identity.archive))
        return medium

    def _keyring(self, source: IMedium, identity: Identity) -> tuple[Keyring, bytes]:
        """Opened in a scratch directory. Raises KeyTrouble, SetupError."""
        base = self._base
        root = self._root or self._roots.read()
        if root is None:
            raise SetupError("restoring needs the archive's key: give its paper with --key FILE")
        scratch = base.directory("restoring-keys")
        try:
            ring = KeyStore(scratch, base.disk, base.config.node).restore([source], root)
        finally:
            for path in scratch.glob("*") if scratch.is_dir() else ():
                base.disk.unlink(path)
            if scratch.is_dir():
                scratch.rmdir()
        if ring.archive.hex() != identity.archive:
            raise SetupError(f"the wrapped keys at {self._settings.where} are another archive's")
        return ring, root

    def _begin(self, identity: Identity, used: bool) -> bool:
        """Whether a service made something here that goes aside. Raises SetupError: this installation holds something already."""
        base = self._base
        if self._marker.exists():
            begun, *more = self._marker.read_text().split()
            if begun != identity.archive:
                raise SetupError("a restore of another archive was begun here and is not ended")
            return _USED in more
        for name in () if used else ("queue", "portal", "archive/staging", "archive/medium/packs"):
            if held := next((path for path in base.directory(name).rglob("*") if path.is_file() and path.name != ANCHOR), None):
                raise SetupError(
                    f"this installation is not empty ({held}): restore into one that 'hornetmail init' has just made"
                )
        medium = base.config.path(base.config.archive.medium)
        if (medium / "packs").exists() and self._settings != DirectorySettings(str(medium)):
            raise SetupError(f"{medium} holds packs already")
        said = f"{identity.archive} {_USED}\n" if used else f"{identity.archive}\n"
        base.disk.write_durably(self._marker, said.encode())
        return used

    def _put_used_aside(self) -> None:
        """Queue, portal and what is known of recipients, all of them empty, as a service made them under the server key from before."""
        base = self._base
        aside = _free(base.directory("service"))
        places = [base.directory(name) for name in ("queue", "portal")]
        for store in ("queue", "portal", "recipients"):
            path = index_path(base, store)
            if path is None or not path.is_relative_to(base.config.root):
                raise SetupError(f"the {store} database is elsewhere ({base.config.database_url(store)}): restore by command")
            places += [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
        base.disk.make_directory(aside)
        for place in places:
            if place.exists():
                base.disk.rename(place, aside / place.name)
        for name in ("queue", "portal"):
            Anchor(base.directory(name), base.disk).renew()

    def _put_aside(self, identity: Identity) -> None:
        """What ``init`` made. Nothing is deleted."""
        base = self._base
        medium = base.config.path(base.config.archive.medium)
        own = medium / IDENTITY
        if own.exists() and msgspec.json.decode(own.read_bytes(), type=Identity).archive != identity.archive:
            base.disk.rename(medium, _free(medium))
        keyring = base.directory("archive") / "keyring"
        if keyring.exists() and Keyring.from_bytes(keyring.read_bytes(), None).archive.hex() != identity.archive:
            inner = medium.is_relative_to(base.directory("archive")) and medium.exists()
            aside = _free(base.directory("archive"))
            base.disk.rename(base.directory("archive"), aside)
            if inner:  # the source itself may lie there
                base.disk.make_directory(medium.parent)
                base.disk.rename(aside / medium.relative_to(base.directory("archive")), medium)

    # -- people and settings

    async def _restore_control(self, dumped: Dump, secrets: Mapping[str, bytes]) -> None:
        base = self._base
        if dumped.schema > len(CONTROL):
            raise SetupError("the backup was made by a newer version of HornetMail: use that one")
        if SERVER_KEY in secrets:
            await base.offload(base.disk.write_durably, base.directory(SERVER_KEY), secrets[SERVER_KEY])
            base.key = ServerKey.load(base.directory(SERVER_KEY))
        for name in sorted(set(secrets) - {SERVER_KEY}):
            path = base.directory(Path(name).name + ".from-backup")
            await base.offload(base.disk.write_durably, path, secrets[name])
        url = base.config.database_url("control")
        key = base.database_key("control")
        if key is not None:
            path = Path(url.removeprefix("sqlite://"))
            for suffix in ("-wal", "-shm", ""):
                base.disk.unlink(path.with_name(path.name + suffix), missing_ok=True)
        steps = CONTROL[: dumped.schema] if key is not None else CONTROL
        database = await base.open_database(base.reactor, url, steps, key=key)
        try:
            rows = await database.run(load, dumped, CONTROL)
        except DumpBroken as error:
            raise SetupError(f"control.db cannot be restored: {error}") from error
        finally:
            await database.close()
        self._say(f"control.db: {rows} rows")

    # -- media

    async def _restore_media(self, identity: Identity, wanted: Wanted) -> tuple[Media, int]:
        """From a medium: it takes part where it is, under its number, and those ``without`` which it is to be are out of use. From the mirror: all is copied to the directory that the configuration names, and every other number leads there."""
        base = self._base
        register = register_of(base, await control_database(base))
        media = await register.open()
        if identity.medium != NUMBER:
            number, settings, secret = identity.medium, self._settings, self._secret
        else:
            number, settings, secret = media.active.number, DirectorySettings(), ""
        if number not in register.entries:
            await register.add(settings, secret, "", number)
        await register.change(number, settings=settings, used=True, ready=True, moving=0, moved=0, removed=False)
        await register.set_secret(number, secret)
        await register.activate(number)
        if identity.medium == NUMBER:
            for entry in tuple(register.entries.values()):
                if entry.number != number and not entry.removed:
                    await register.change(entry.number, used=False, moving=0, moved=number)
        for lost in wanted.without:
            if lost not in register.entries or lost == number:
                raise SetupError(
                    f"medium {lost} cannot be left out: it is {'where all is restored to' if lost == number else 'none of this archive'}"
                )
            await register.change(lost, used=False)
        register.refresh(media)
        archive = bytes.fromhex(identity.archive)
        media.expect(archive)
        await base.offload(media.active.claim, archive)
        for medium in media.all():
            await base.offload(self._written.become, register.medium(medium.number), wanted.take_over)
        return media, number

    def _copy(self, source: IMedium, target: IMedium, flaws: list[Finding]) -> int:
        """Keys first: without them the rest is nothing. What does not read is told to ``flaws``, and costs nothing beside itself: of a pack all that reads is taken."""
        there = dict(target.names(""))
        names = [(name, size) for name, size in source.names("") if name != IDENTITY and not name.startswith("test/")]
        copied = 0
        for name, size in sorted(names, key=lambda one: ("/" in one[0], one[0])):
            if there.get(name) != size or "/" not in name:
                copied += bring_back(source, target, name, size, flaws)
                if copied and copied % 100 == 0:
                    self._say(f"{copied} of {len(names)} objects copied")
        return copied

    async def _open(self, archive: Archive, rebuild: bool) -> list[Finding]:
        await archive.start()
        try:
            archive.index()
        except ArchiveError:
            rebuild = True
        if not rebuild:
            return []
        self._say("the index is made anew from the packs")
        try:
            return list(await archive.rebuild())
        except BaseException:
            await archive.stop()
            raise


def _backup_at(
    source: IMedium, ring: Keyring, stamp: str, flawed: Callable[[str], None]
) -> tuple[BackupName, Manifest, Dump] | None:
    """The one with that stamp, or the newest that opens. Raises SetupError: there is no such one, or it does not open."""
    if not stamp:
        return newest_backup(source, ring, flawed)
    seal = backup_seal(ring)
    for name in backups_on(source).whole:
        if name.stamp == stamp:
            try:
                manifest = read_manifest(source, name, seal)
                return name, manifest, read_control(source, manifest, seal)
            except ArchiveError as error:
                raise SetupError(f"backup {stamp} does not open: {error}") from error
    raise SetupError(f"there is no backup {stamp} on this medium")


def _free(path: Path) -> Path:
    """A name beside it that is not taken."""
    number = 1
    while (aside := path.with_name(f"{path.name}-before-restore-{number}")).exists():
        number += 1
    return aside
