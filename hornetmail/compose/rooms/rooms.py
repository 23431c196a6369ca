"""The rooms that mail goes through: queue, portal, archive, delivery."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from hornetmail.archive.archive import Archive, ArchiveSettings, Surroundings
from hornetmail.archive.care.media import MediaCare
from hornetmail.archive.care.media import Parts as MediaParts
from hornetmail.archive.care.terms.retention import RetentionSettings
from hornetmail.archive.care.trust.rootkeys import PendingFile, RootKeys, settle
from hornetmail.archive.care.trust.stamping import Outside, Stamping
from hornetmail.archive.care.trust.unlocking import Unlocking
from hornetmail.archive.keys.keyring import KEYRING_NAME, KeyTrouble, RootFile
from hornetmail.archive.keys.rootstore import RootStore
from hornetmail.archive.keys.sources import Command, Credential, Passphrase, Source
from hornetmail.archive.media.register import Means, Register
from hornetmail.archive.media.roster import Media
from hornetmail.archive.media.writer import Writer
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.rooms.delivery import House, Lines, Stores, delivery_of
from hornetmail.compose.rooms.marks import EVERY, LAST_SECONDS, Marks, OutsideMarks, PortalMark
from hornetmail.compose.rooms.people import People
from hornetmail.compose.rooms.safety import Safety
from hornetmail.compose.rooms.stores import renew
from hornetmail.config import Config, dns_server
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.core.archive.stamps import AUTHORITIES, read_settings
from hornetmail.core.clock import Drift
from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.events import Alarm, AlarmEnded, StoreBroken
from hornetmail.db.engines import DatabaseBroken, DatabaseError
from hornetmail.db.pool import Database
from hornetmail.delivery.filing.filing import EVERY_SECONDS
from hornetmail.delivery.filing.ledger import Ledger
from hornetmail.delivery.filing.ways import Ways
from hornetmail.delivery.home.expiry import DAY, Expiry
from hornetmail.delivery.recipients.store import RecipientDatabase
from hornetmail.delivery.service import Delivery, Settings
from hornetmail.delivery.tasks import within
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.disk.seal import Seal
from hornetmail.disk.threads import lock
from hornetmail.extraction.readers import Readers, ReaderSettings
from hornetmail.filter.spf import SenderCheck
from hornetmail.interfaces.archive import IArchive
from hornetmail.interfaces.audit import IAudit
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.readers import IReaders
from hornetmail.net.ask import Asker
from hornetmail.net.clients.dial import Dialer
from hornetmail.net.clients.smtp import Timeouts
from hornetmail.net.resolver import Resolver
from hornetmail.portal.rows.schema import MIGRATIONS as PORTAL
from hornetmail.portal.store import PortalStore
from hornetmail.runtime.jobs import CutShort, PlannedJob
from hornetmail.runtime.timetable import Job
from hornetmail.spool.start import OpenedQueue, open_queue


def root_store(config: Config, disk: Disk, environment: Mapping[str, str] = os.environ) -> RootStore:
    """Where the archive's root key lies between two starts."""
    key, keys = config.archive.key, config.root / "keys"
    known: dict[str, Source] = {"passphrase": Passphrase()}
    if key.credential:
        known["credential"] = Credential(key.credential, environment.get("CREDENTIALS_DIRECTORY", ""))
    if key.command:
        known["command"] = Command(key.command, key.seconds)
    chosen = known.pop(key.source, None)
    others = [source for source in known.values() if not source.typed]
    return RootStore(RootFile(keys / "archive-root.key", disk), keys / "archive-root.sealed", disk, chosen, others)


def pending_file(base: Foundations) -> PendingFile:
    """Where a new root key waits until its paper is confirmed (rule 22)."""
    return PendingFile(base.config.root / "keys" / "archive-root.pending", base.disk, Seal(base.key.derive("archive root")))


async def root_of(base: Foundations, roots: RootStore | None = None) -> bytes | None:
    """The archive's root key; None: locked. A change of it that a crash cut off is ended. Raises KeyTrouble, OSError."""
    keyring = base.directory("archive") / KEYRING_NAME
    roots = roots or root_store(base.config, base.disk)
    root: bytes | None = await base.offload(settle, roots, pending_file(base), keyring)
    if root is not None:
        await base.offload(roots.tidy)
    return root


async def _root_at_start(base: Foundations, roots: RootStore) -> tuple[bytes | None, str]:
    """The same for a service, which starts with a locked archive where it cannot be had, and why."""
    try:
        return await root_of(base, roots), ""
    except KeyTrouble as error:
        return None, str(error)


def register_of(base: Foundations, control: Database) -> Register:
    """The media that ``control.db`` knows; the first is the directory that the configuration names."""
    means = Means(base.reactor, base.disk, base.config.path(base.config.archive.medium), writer_of(base))
    return Register(control, Seal(base.key.derive("archive media")), means)


def writer_of(base: Foundations) -> Writer:
    """This installation as the one that writes to the media."""
    config = base.config
    where = f"{config.hostname}:{config.root}"
    return Writer(config.root, base.disk, config.node, where, base.reactor.seconds, lambda: lock(base.reactor))


def stamping_of(base: Foundations, people: People) -> Outside:
    """Whom the archive asks for time stamps, and the audit log that it takes along (A33, L14)."""
    return Outside(
        settings=lambda: read_settings(people.directory.setting(AUTHORITIES, "")),
        post=Asker(base.reactor).post,
        audit=people.audit,
    )


def archive_of(
    base: Foundations,
    root: bytes | None,
    media: Media,
    stamping: Outside | None = None,
    audit: IAudit | None = None,
    readers: IReaders | None = None,
) -> Archive:
    """The archive, not yet started; ``root`` None: locked. ``stamping`` None: nobody is asked for time stamps. ``readers`` None: files that hang on mail
    wait until the service runs."""
    return Archive(
        Surroundings(base.reactor, base.disk, base.ids, base.bus, base.meters, open_database=base.open_database, readers=readers),
        base.directory("archive"),
        media=media,
        root=root,
        audit=audit,
        settings=ArchiveSettings(
            node=base.config.node,
            seal_seconds=base.config.archive.seal_seconds,
            tick_seconds=min(15.0, base.config.archive.seal_seconds),
            glance_seconds=20 * base.config.alarms.look,
            retention=RetentionSettings(base.config.archive.purge_percent / 100, base.config.archive.purge_floor),
        ),
        stamping=stamping,
    )


def readers_of(base: Foundations) -> Readers:
    """Who reads the files that hang on mail. They end behind everything that asks them."""
    chosen = base.config.processes
    readers = Readers(base.reactor, ReaderSettings(chosen.files, chosen.memory_mb << 20, chosen.seconds))
    base.at_close(readers.stop)
    return readers


def settings_of(config: Config) -> Settings:
    """Delivery's settings, as far as the file sets them."""
    chosen = config.delivery
    return Settings(
        backoff=Backoff(first=chosen.retry, ceiling=max(chosen.retry, chosen.retry_most), give_up=chosen.give_up),
        timeouts=Timeouts(connect=chosen.connect, reply=chosen.reply, data=chosen.data, dot=chosen.dot),
    )


def resolver_of(base: Foundations) -> Resolver:
    """DNS as configured, else as ``/etc/resolv.conf`` says; ``/etc/hosts`` before it."""
    servers = [dns_server(text) for text in base.config.dns.servers] or _resolv_conf(Path("/etc/resolv.conf"))
    return Resolver(base.reactor, servers, hosts=_hosts(Path("/etc/hosts")))


def _resolv_conf(path: Path) -> list[tuple[str, int]]:
    if not path.exists():
        return [("127.0.0.1", 53)]
    words = [line.split() for line in path.read_text(errors="replace").splitlines()]
    found = [(line[1], 53) for line in words if len(line) > 1 and line[0] == "nameserver"]
    return found or [("127.0.0.1", 53)]


def _hosts(path: Path) -> dict[str, list[str]]:
    hosts: dict[str, list[str]] = {}
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        address, *names = line.partition("#")[0].split() or [""]
        for name in names:
            hosts.setdefault(name, []).append(address)
    return hosts


async def retention(step: Callable[[float], Awaitable[int]], bus: IBus, now: float) -> str:
    """One of retention's two daily steps, and what came of it; what it refuses to do (rule 19) is an alarm that says how to let it."""
    name = step.__name__
    try:
        mails = await step(now)
    except ArchiveError as error:
        text = f"{error}. To let it: hornetmail archive confirm-purge"
        bus.publish(Alarm("archive-purge", text, subject=name))
        return f"refused: {text}"
    bus.publish(AlarmEnded("archive-purge", name, "retention went through"))
    return f"{mails} mails"


async def merging(archive: Archive, bus: IBus, now: float) -> str:
    """The packs of one night, and what came of it; the archive tells of what it could not merge, this of why it could not begin or go on."""
    try:
        merged = await archive.merge(now)
    except (ArchiveError, DiskFull) as error:
        bus.publish(Alarm("archive-merging", f"packs are not merged: {error}"))
        return f"not merged: {error}"
    left = [*merged.damaged, *merged.away]
    return f"{merged.sources} packs became {merged.packs}, {merged.dropped} records left" + (
        f"; not merged: {'; '.join(left)}" if left else ""
    )


def retention_jobs(archive: IArchive, bus: IBus) -> tuple[PlannedJob, PlannedJob]:
    """02:30 from the search index (A57), 03:40 the day after from the media (A58)."""
    return (
        PlannedJob(
            "mark",
            "Deleted and expired mail leaves the search",
            "30 2 * * *",
            lambda now: retention(archive.mark, bus, now),
            "retention",
        ),
        PlannedJob(
            "purge",
            "Deleted and expired mail leaves the media",
            "40 3 * * *",
            lambda now: retention(archive.purge, bus, now),
            "retention",
        ),
    )


def merge_job(archive: Archive, bus: IBus) -> PlannedJob:
    """04:10, behind the purge: small packs are put together, ciphertext as it is."""
    return PlannedJob("merge", "Packs are put together", "10 4 * * *", lambda now: merging(archive, bus, now), "retention")


def renewal_job(archive: Archive) -> PlannedJob:
    """Months that an earlier version indexed, at each hour that finds some, until there is none."""

    async def run(now: float) -> str:
        try:
            done = await archive.renewing.run()
        except ArchiveError as error:
            return f"not now: {error}"
        if done.halted:
            raise CutShort
        told = f"{done.months} months have their present form, {done.left} do not yet; {done.mails} mails were read"
        told += f", of {done.unread} no more than the header" if done.unread else ""
        return told + (f"; waits: {done.waits}" if done.waits else "")

    return PlannedJob(
        "renewal", "Months indexed by an earlier version are read again", "40 * * * *", run, "renewal", archive.renewing.halt
    )


def stamp_jobs(stamps: Stamping) -> tuple[PlannedJob, PlannedJob]:
    """Time stamps at 23:57 (A60), and at each quarter of an hour if much is unstamped (A52)."""

    async def many(now: float) -> None:
        await stamps.if_many()

    return (
        PlannedJob("time-stamp", "Everything new is time stamped", "57 23 * * *", stamps.daily),
        PlannedJob("time-stamp-of-many", "A time stamp, if 10,000 or more mails are unstamped", "0,15,30,45 * * * *", many),
    )


def search_job(archive: IArchive) -> PlannedJob:
    """xx:05, xx:35 (A54): what is staged is indexed within seconds; should something have been left, it is taken up here."""

    async def run(now: float) -> None:
        await archive.flush()

    return PlannedJob("index", "The search index is brought up to date", "5,35 * * * *", run)


class MailRooms:
    """Opened, not yet delivering."""

    def __init__(
        self,
        base: Foundations,
        queue: OpenedQueue,
        portal: PortalStore,
        archive: Archive,
        media: MediaCare,
        safety: Safety,
        keys: tuple[RootKeys, Unlocking],
        delivery: Delivery,
        expiry: Expiry,
    ) -> None:
        self.base = base
        self.root_keys, self.unlocking = keys
        self.queue = queue
        self.portal = portal
        self.archive = archive
        self.media = media
        self.safety = safety
        self.delivery = delivery
        self.expiry = expiry

    @classmethod
    async def open(cls, base: Foundations, people: People) -> MailRooms:
        """Queue, portal and archive are replayed and usable on return; ``delivery`` waits for its ``start``."""
        config = base.config
        for store in ("queue", "portal", "recipients", "archive"):
            await renew(base, store)
        marks = Marks(people.control, config.node)
        known_mark = await marks.last()
        queue = await open_queue(
            base.reactor,
            base.directory("queue"),
            config.database_url("queue"),
            disk=base.disk,
            seal=Seal(base.key.derive("queue")),
            node=config.node,
            least_free=1 - config.limits.disk_percent / 100,
            longest=2 * settings_of(config).backoff.ceiling,
            unpacked=config.limits.messages_in_memory,
            database_key=base.database_key("queue"),
            alarm=lambda code, text: _queue_alarm(base, code, text),
            watch=base.watch("queue"),
            mark=known_mark,
        )
        base.at_close(queue.close)
        base.at_close(lambda: marks.write(queue))
        base.jobs.append(Job("queue mark", EVERY, lambda: marks.write(queue), first=EVERY))
        portal_database = await _portal_database(base)
        portal = PortalStore(
            base.reactor,
            base.directory("portal"),
            base.disk,
            portal_database,
            base.bus,
            people.directory,
            host=config.hostname,
            boot=_boot(Path("/proc/sys/kernel/random/boot_id")),
        )
        portal_mark = PortalMark(people.control, config.node)
        await portal_mark.write(await portal.open(await portal_mark.last()))
        base.at_close(portal.close)
        register = register_of(base, people.control)
        roots = root_store(config, base.disk)
        root, why = await _root_at_start(base, roots)
        archive = archive_of(base, root, await register.open(), stamping_of(base, people), people.audit, readers_of(base))
        media_threads = base.pool("media", 2)
        base.start_pool(media_threads)

        async def offload(call: Callable[..., Any], *args: Any) -> Any:
            """In threads of its own, so that a medium which hangs holds none that the queue waits for."""
            return await deferToThreadPool(base.reactor, media_threads, call, *args)

        base.at_close(lambda: offload(register.close))
        base.at_close(lambda: _release(base.reactor, offload, register, archive))
        await archive.start()
        base.at_close(archive.stop)
        outside = OutsideMarks(base.reactor, base.bus, archive, offload, config.node, fresh=known_mark is None)
        await outside.compare(queue)
        base.at_close(lambda: outside.last(queue))
        base.jobs.append(Job("queue mark on the medium", EVERY, lambda: outside.write(queue), first=EVERY))
        media = MediaCare(
            MediaParts(
                register,
                archive.media,
                archive.watch,
                archive.keys,
                archive.holdings.leaves,
                archive.index,
                archive.moving,
                archive.sealed,
                offload,
                lambda code, text, medium: base.bus.publish(Alarm(code, text, subject=medium)),
                lambda code, why, medium: base.bus.publish(AlarmEnded(code, medium, why)),
            )
        )
        base.at_close(media.stop)
        media.resume()
        root_keys = RootKeys(roots, pending_file(base), archive.keys, archive.media, base.offload, base.reactor.seconds)
        await root_keys.open()
        unlocking = Unlocking(
            roots,
            archive.keys,
            archive.unlock,
            base.offload,
            lambda code, text: base.bus.publish(Alarm(code, text)),
            lambda code, why: base.bus.publish(AlarmEnded(code, why=why)),
            root_keys.lock,
            why,
        )
        resolver = resolver_of(base)
        known = await RecipientDatabase.open(
            base.reactor,
            config.database_url("recipients"),
            base.disk,
            lambda code, text: base.bus.publish(Alarm(code, text)),
            watch=base.watch("recipients"),
            key=base.database_key("recipients"),
        )
        base.at_close(known.close)
        ways = Ways(people.control, Seal(base.key.derive("home")), people.directory)
        await ways.open()
        delivery = delivery_of(
            House(base.reactor, people.directory, people.access, base.bus, base.meters),
            Stores(queue, known, portal, archive, ways, Ledger(people.control)),
            Lines(Dialer(base.reactor, resolver), resolver, SenderCheck(base.reactor, resolver), config.hostname),
            settings_of(config),
        )
        expiry = Expiry(
            delivery.ground,
            portal,
            delivery.notices,
            people.audit,
            config.hostname,
            announce=[days * DAY for days in config.portal.announce_days],
            drift=Drift(base.reactor.seconds, monotonic),
        )
        base.jobs += expiry.jobs()
        if delivery.filing is not None:
            base.jobs.append(Job("home by IMAP", EVERY_SECONDS, delivery.filing.sweep, first=EVERY_SECONDS))
        base.jobs += [
            Job("mailboxes", 60, portal.make_missing, first=5),
            Job("foreign files", 30, portal.sweep, first=30),
            Job("queue segments", 60, queue.tidy, first=60),
            Job("media moves", 900, media.go_on, first=900),
            Job("archive key", 60, unlocking.look, first=1),
        ]
        safety = Safety(base, people, archive)
        archive.keeping.copied(safety.copies())
        base.planned += [
            *retention_jobs(archive, base.bus),
            *stamp_jobs(archive.stamps),
            *safety.jobs(),
            search_job(archive),
            merge_job(archive, base.bus),
            renewal_job(archive),
        ]
        base.meters.gauge("queue_messages", lambda: queue.backlog().messages)
        base.meters.gauge("queue_oldest_seconds", lambda: queue.backlog().oldest)
        return cls(base, queue, portal, archive, media, safety, (root_keys, unlocking), delivery, expiry)

    def troubles(self) -> dict[str, str]:
        """What does not work, by role."""
        found: dict[str, str] = {}
        if self.queue.broken:
            found["smtp"] = found["delivery"] = "the queue's disk failed; restart once it is well"
        if trouble := self.archive.trouble:
            found["archive"] = trouble
        return found


async def _release(
    clock: IReactorTime, offload: Callable[..., Coroutine[Any, Any, Any]], register: Register, archive: Archive
) -> None:
    """At the end, when nothing is written any more: others may write to the media. One that does not answer bears the mark, which this installation's next start knows."""
    away = archive.watch.away()
    for medium in archive.media.all():
        if medium.number not in away:
            try:
                await within(clock, LAST_SECONDS, offload(register.release, medium.number))
            except Exception as error:  # noqa: BLE001 - the end does not wait for a medium
                Logger().warn(
                    "medium {number} still says that this installation writes there: {error}", number=medium.number, error=error
                )


def _queue_alarm(base: Foundations, code: str, text: str) -> None:
    """What the queue says of itself. A journal that failed is a broken store, and ends the process as each of them does; so does the index."""
    if code == "queue-broken":
        base.bus.publish(StoreBroken("journal", str(base.directory("queue") / "journal"), text, False))
    elif code != "queue-index":  # the index itself says so, with its file
        base.bus.publish(Alarm(code, text))


async def _portal_database(base: Foundations) -> Database:
    """``portal.db``; one that is no database any more is put aside, for it can be made anew from the Maildirs."""
    try:
        return await base.database("portal", PORTAL, synchronous="NORMAL")
    except DatabaseError as error:
        cause = error.__cause__
        if not (isinstance(cause, DatabaseBroken) and cause.corrupt):
            raise
        await renew(base, "portal", damaged=str(cause))
        return await base.database("portal", PORTAL, synchronous="NORMAL")


def _boot(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
