"""Backups, the mirror and the restore drill, joined to the rooms and to their jobs (A29, A32, A55, A56, L3)."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.archive.archive import Archive
from hornetmail.archive.care import statistics
from hornetmail.archive.care.copies import backup, drill, mirror, repair
from hornetmail.archive.care.copies.follower import follower_at
from hornetmail.archive.care.terms.keeping import Copies
from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.archive.media.medium import IPlace, MediumError, MediumTaken, PlaceTrouble
from hornetmail.archive.media.register import Means
from hornetmail.archive.media.settings import Settings, settings_for
from hornetmail.compose.ground.foundations import SERVER_KEY, Foundations
from hornetmail.compose.rooms.people import People
from hornetmail.core.archive.archived import ArchiveError, BackupState, Finding, MirrorState
from hornetmail.core.archive.statistics import Statistics
from hornetmail.directory.schema import CONTROL
from hornetmail.disk.seal import BrokenSeal, Seal
from hornetmail.interfaces.safety import ISafety
from hornetmail.runtime.jobs import CutShort, PlannedJob

LANE = "backup"
FOLLOWS = 3600.0
"""Seconds between two runs of the mirror."""

DAY = 86400.0
_SETTING = "mirror"
_STATISTICS = "statistics"
_CONTEXT = b"hornetmail mirror secret 1"


class _Kept(msgspec.Struct, frozen=True):
    """The mirror as it lies in ``control.db``; ``secret`` is sealed under the server key."""

    settings: Settings
    secret: bytes = b""
    done: float = 0.0
    text: str = ""
    trouble: str = ""


@implementer(ISafety)
class Safety:
    """See ``ISafety``."""

    log = Logger()

    def __init__(self, base: Foundations, people: People, archive: Archive) -> None:
        self._base = base
        self._directory = people.directory
        self._archive = archive
        self._seal = Seal(base.key.derive("archive mirror"))
        threads = base.pool("backup", 1)
        base.start_pool(threads)

        async def offload(call: Callable[..., Any], *args: Any) -> Any:
            """A thread of its own: a share that hangs holds up no mail."""
            return await deferToThreadPool(base.reactor, threads, call, *args)

        self._offload = offload
        self._means = Means(base.reactor, base.disk, base.directory("mirror"))
        self._backups = backup.Backups(
            backup.Sources(
                base.reactor,
                archive.media,
                archive.keys,
                archive.index,
                len(MIGRATIONS),
                people.control,
                CONTROL,
                self._settle,
                self._secrets,
                offload,
            )
        )
        self._mirror_sources = mirror.Sources(archive.media, archive.keys, archive.index, offload)
        self._mirror = mirror.Mirror(self._mirror_sources)
        self._drill = drill.Drill(
            drill.Sources(
                base.reactor,
                base.disk,
                base.directory("archive"),
                archive.media,
                archive.keys,
                archive.shelf,
                CONTROL,
                archive.index,
                offload,
            )
        )

    async def _settle(self) -> None:
        """What is staged goes along if the medium takes it; what does not is in the staging area and not lost."""
        try:
            await self._archive.flush(seal=True)
        except ArchiveError as error:
            self.log.error("before the backup, staged mail did not reach the medium: {error}", error=error)

    def _secrets(self) -> Mapping[str, bytes]:
        config = self._base.directory("hornetmail.toml")
        found = {SERVER_KEY: self._base.directory(SERVER_KEY).read_bytes()}
        if config.exists():
            found["hornetmail.toml"] = config.read_bytes()
        return found

    # -- jobs

    def jobs(self) -> Sequence[PlannedJob]:
        """xx:12 but for 01:12 the increment (A55), 01:12 the full one (A56), and after either the mirror; Sundays the drill (L3); 06:30 the statistics (A59)."""
        backups, follow = self._backups, self._mirror
        return (
            PlannedJob(
                "backup", "Incremental backup of the databases", "12 0,2-23 * * *", self._job(self._increment), LANE, backups.halt
            ),
            PlannedJob("backup-full", "Full backup of the databases", "12 1 * * *", self._job(self._full), LANE, backups.halt),
            PlannedJob("mirror", "The mirror follows the media", "12 * * * *", self._job(self._follow), LANE, follow.halt),
            PlannedJob(
                "restore-drill", "A sample of the newest backup is restored", "30 4 * * 0", self._job(self._rehearse), LANE
            ),
            PlannedJob("statistics", "Mails and bytes are counted", "30 6 * * *", self._count),
        )

    def _job(self, work: Callable[[float], Awaitable[str]]) -> Callable[[float], Awaitable[str]]:
        async def run(now: float) -> str:
            try:
                return await work(now)
            except backup.Halted:
                raise CutShort from None

        return run

    async def _increment(self, now: float) -> str:
        return (await self._backups.make(now, full=False)).words

    async def _full(self, now: float) -> str:
        return (await self._backups.make(now, full=True)).words

    async def _rehearse(self, now: float) -> str:
        return (await self._drill.run(now)).words

    async def _count(self, now: float) -> str:
        found = await statistics.count(self._archive.index, now, self._statistics())
        await self._directory.set_setting(
            _STATISTICS, msgspec.json.encode({str(tenant): one for tenant, one in found.items()}).decode()
        )
        return f"{sum(one.total.mails for each in found.values() for one in each.days)} mails in {statistics.DAYS} days"

    def _statistics(self) -> dict[int, Statistics]:
        try:
            return msgspec.json.decode(self._directory.setting(_STATISTICS, "{}"), type=dict[int, Statistics])
        except msgspec.DecodeError as error:
            self.log.error("the statistics cannot be read and are counted anew: {error}", error=error)
            return {}

    async def _follow(self, now: float) -> str:
        kept = self._read()
        if kept is None:
            return "no mirror is set up"
        try:
            done = (await self._mirrored_to(kept, now)).words
        except ArchiveError as error:
            await self._note(kept, trouble=str(error))
            raise
        await self._note(kept, done=now, text=done, trouble="")
        return done

    async def _mirrored_to(self, kept: _Kept, now: float) -> mirror.Mirrored:
        place = self._place(kept)
        try:
            mark = await self._offload(follower_at, self._base.directory("archive"), self._base.disk)
            target = await self._offload(mirror.followed, place, self._archive.keys.current().archive, mark)
            return await self._mirror.run(target, now)
        except MediumTaken as error:
            where = kept.settings.where
            raise ArchiveError(
                f"{error}, and this one does not, or each would delete what the other has. If only this one shall: "
                f"hornetmail archive mirror set {where}; if that one goes on: hornetmail archive mirror off"
            ) from error
        except PlaceTrouble as error:
            raise MediumError(f"the mirror ({kept.settings.where}): {error}") from error
        finally:
            await self._offload(place.close)

    async def _note(self, kept: _Kept, **values: Any) -> None:
        """What came of a run, unless the mirror was set anew meanwhile."""
        now_kept = self._read()
        if now_kept is not None and (now_kept.settings, now_kept.secret) == (kept.settings, kept.secret):
            await self._keep(msgspec.structs.replace(now_kept, **values))

    # -- the mirror's place

    def _read(self) -> _Kept | None:
        text = self._directory.setting(_SETTING, "")
        if not text:
            return None
        try:
            return msgspec.json.decode(text, type=_Kept)
        except msgspec.DecodeError as error:
            raise ArchiveError(f"the setting of the mirror cannot be read ({error}): set it again") from None

    async def _keep(self, kept: _Kept) -> None:
        await self._directory.set_setting(_SETTING, msgspec.json.encode(kept).decode())

    def _place(self, kept: _Kept) -> IPlace:
        try:
            secret = self._seal.open(kept.secret, _CONTEXT).decode() if kept.secret else ""
        except BrokenSeal:
            raise ArchiveError("the secret of the mirror was sealed under another server key: set the mirror again") from None
        return self._means.place(kept.settings, secret)

    # -- ISafety

    async def backups(self) -> Sequence[BackupState]:
        """See ISafety."""
        return [
            BackupState(name.stamp, name.full, name.made, medium, size) for name, medium, size in await self._backups.listing()
        ]

    def gone_by(self, now: float) -> float:
        """See ISafety. A mirror follows within the hour, and so do the backups in it."""
        return now + backup.Keep().longest + (FOLLOWS if self._mirrored() is not None else 0.0)

    def _mirrored(self) -> _Kept | None:
        """The mirror; None also if its setting cannot be read, which its job tells of."""
        try:
            return self._read()
        except ArchiveError:
            return None

    def copies(self) -> Copies:
        """For the dates at which mail is fully gone (rule 23)."""
        return Copies(self.gone_by, self._lagging)

    def _lagging(self) -> Sequence[str]:
        """A mirror that does not follow keeps what went."""
        kept = self._mirrored()
        if kept is None or self._base.reactor.seconds() - kept.done <= DAY:
            return ()
        since = (
            f"since {datetime.datetime.fromtimestamp(kept.done, datetime.UTC):%Y-%m-%d %H:%M} UTC"
            if kept.done
            else "and never did"
        )
        return (f"the mirror ({kept.settings.where}) does not follow {since}",)

    async def mirror(self) -> MirrorState | None:
        """See ISafety."""
        kept = self._read()
        if kept is None:
            return None
        return MirrorState(str(kept.settings.__struct_config__.tag), kept.settings.where, kept.done, kept.text, kept.trouble)

    async def set_mirror(self, kind: str, place: str, options: Mapping[str, object], secret: str) -> None:
        """See ISafety."""
        settings = settings_for(kind, place, options)
        kept = _Kept(settings, self._seal.close(secret.encode(), _CONTEXT) if secret else b"")
        there = self._place(kept)
        try:
            mark = await self._offload(follower_at, self._base.directory("archive"), self._base.disk)
            await self._offload(mirror.take_mirror, there, self._archive.keys.current().archive, mark)
        except PlaceTrouble as error:
            raise MediumError(f"{settings.where}: {error}") from error
        finally:
            await self._offload(there.close)
        await self._keep(kept)

    async def unset_mirror(self) -> None:
        """See ISafety."""
        await self._directory.set_setting(_SETTING, "")

    def statistics(self, tenant: int) -> Statistics | None:
        """See ISafety."""
        return self._statistics().get(tenant)

    async def repair(self, full: bool) -> Sequence[Finding]:
        """See ISafety."""
        kept = self._read()
        if kept is None:
            raise ArchiveError("no mirror is set up: there is nothing to repair from")
        place = self._place(kept)
        try:
            target = await self._offload(mirror.mirror_at, place, self._archive.keys.current().archive)
            return await repair.Repair(self._mirror_sources, target, full).run()
        except PlaceTrouble as error:
            raise MediumError(f"the mirror ({kept.settings.where}): {error}") from error
        finally:
            await self._offload(place.close)
