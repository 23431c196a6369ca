"""What becomes of a broken store: it is named, told, and the process ends, so that whoever supervises it starts it anew (design: IOERR, CORRUPT or a
failed sync: 4xx, stop, restart). A full disk is none of this: it is answered 4xx until there is room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hornetmail.compose.ground.foundations import Foundations
from hornetmail.core.events import Alarm, AlarmEnded, StoreBroken, StoreHeld
from hornetmail.delivery.tasks import pause, within

LAST_WORDS = 5.0
"""Seconds for the mail that tells it to get out: a store that does not open again keeps the queue from running."""

MOST = 10.0
"""Seconds that telling may take."""

NEEDED = {
    "control": ("archive", "delivery", "portal", "smtp", "web"),
    "queue": ("delivery", "smtp"),
    "journal": ("delivery", "smtp"),
    "portal": ("delivery", "portal"),
    "recipients": ("smtp",),
    "archive": ("archive",),
}
"""Roles that cannot work without a store."""

CODES = {"queue": "queue-index", "journal": "queue-broken"}


class BrokenStores:
    """Listens from the first moment. ``tell`` says all that is to be said; ``end`` ends the process with an exit code that is a failure."""

    log = Logger()

    def __init__(self, base: Foundations) -> None:
        self._base = base
        self._why: dict[str, str] = {}
        self.tell: Callable[[], Awaitable[object]] | None = None
        self.end: Callable[[], None] = lambda: None
        base.bus.subscribe(StoreBroken, self._broken)
        base.bus.subscribe(StoreHeld, self._held)

    def troubles(self) -> dict[str, str]:
        """By role, for ``/healthz``."""
        return {role: why for store, why in self._why.items() for role in NEEDED.get(store, ())}

    def _held(self, event: StoreHeld) -> None:
        """It is told and nothing more: whoever holds it lets go, and until then journal, Maildirs and staging have what it would have."""
        if event.held:
            text = f"another program holds {event.file} locked: nothing is written there until it lets go, which is tried again and again"
            self.log.error("{text}", text=text)
            self._base.bus.publish(Alarm("store-locked", text, subject=event.store))
        else:
            self._base.bus.publish(AlarmEnded("store-locked", event.store, "it can be written again"))

    def _broken(self, event: StoreBroken) -> None:
        if event.store in self._why:
            return
        why = f"the {event.store} store is broken ({event.file}): {event.text}"
        first, self._why[event.store] = not self._why, why
        self.log.critical("{why}; the process ends once that is told, a restart may mend it", why=why)
        if event.corrupt:
            self._mark(event.store)
        text = f"{why}. The service ends and has to be started again"
        self._base.bus.publish(Alarm(CODES.get(event.store, "store-broken"), text, subject=event.store))
        if first:
            Deferred.fromCoroutine(self._finish())

    def _mark(self, store: str) -> None:
        """What is wrong may lie where the next start does not look: it is told by a file not to use this one again."""
        place = marker(self._base, store)
        if place is None:
            return
        try:
            self._base.disk.write_durably(place, b"This index was found damaged; the next start makes it anew.\n")
        except OSError as error:
            self.log.error("{place} cannot be written: {error}", place=str(place), error=error)

    async def _finish(self) -> None:
        reactor = self._base.reactor
        try:
            await pause(reactor, 0.1)  # the alarm is on the bus
            if self.tell is not None:
                tell = self.tell

                async def say() -> None:
                    await tell()

                await within(reactor, MOST, say())
                await pause(reactor, LAST_WORDS)
        except Exception:  # noqa: BLE001 - it ends all the same
            self.log.failure("a broken store could not be told")
        finally:
            self.end()


def index_path(base: Foundations, store: str) -> Path | None:
    """The file of a store that is only an index, and can be made anew: of queue, portal and recipients by the service, of the archive by ``archive rebuild``."""
    if store == "archive":
        return base.directory("archive") / "archive.db"
    url = base.config.database_url(store) if store in ("queue", "portal", "recipients") else ""
    return Path(unquote(urlsplit(url).path)) if url.startswith("sqlite:") else None


def marker(base: Foundations, store: str) -> Path | None:
    """Where it is noted that the store must not be used again."""
    path = index_path(base, store)
    return path.with_name(f"{path.name}.broken") if path is not None else None


async def renew(base: Foundations, store: str, *, damaged: str = "") -> None:
    """Put the file of an index aside if an earlier process found it damaged, or it is ``damaged`` now; with an alarm. Raises OSError."""
    aside = await base.offload(_put_aside, base, store, bool(damaged))
    if aside:
        mended = "run archive rebuild to search the archive again" if store == "archive" else "a new one was made"
        why = f" ({damaged})" if damaged else ""
        text = f"the {store} index was damaged{why} and is kept as {aside}; {mended}"
        base.bus.publish(Alarm("store-renewed", text, subject=store))


def _put_aside(base: Foundations, store: str, damaged: bool) -> str:
    path, place, disk = index_path(base, store), marker(base, store), base.disk
    if path is None or place is None or not (damaged or place.exists()):
        return ""
    aside = path.with_name(f"{path.name}.damaged-{int(base.reactor.seconds())}")
    if path.exists():
        disk.rename(path, aside)
        for suffix in ("-wal", "-shm"):
            disk.unlink(path.with_name(path.name + suffix), missing_ok=True)
    disk.unlink(place, missing_ok=True)
    return str(aside)
