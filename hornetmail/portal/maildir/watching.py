"""What other programs do to a folder's files is known when it happens, where the machine can tell: nothing needs to be listed for what we did ourselves.

A watch begins before its folder is listed. What happened since is compared, with the box's lock held, with what is in memory: a name that lies
where memory has it, and one that is gone and is no message's, were our own doing, or change nothing. All else, and an event that was lost, make the
folder be listed. Since network file systems tell nothing of other machines, a folder is listed every ``TRUSTED_SECONDS`` all the same.
"""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from hornetmail.disk.inotify import Inotify, Told
from hornetmail.portal.maildir import naming
from hornetmail.portal.maildir.snapshot import Snapshot

TRUSTED_SECONDS = 30.0

NEWS_SECONDS = 0.25
"""From the first event to the look, so that a hundred files that come at once are one change."""

PENDING = 2_000
"""Names remembered for a folder; more are a reason to list it."""


class FolderWatch:
    """What happened to the files of one folder. ``news()`` is called, some moments after it began, when something did that may not be ours."""

    def __init__(self, reactor: Any, drain: Callable[[], None], news: Callable[[], None]) -> None:
        self._reactor = reactor
        self._drain = drain
        self._news = news
        self._pending: dict[tuple[str, str], bool] = {}
        self._lost = False
        self._timer: IDelayedCall | None = None

    def told_of(self, sub: str) -> Told:
        """Who is to be told of ``new`` or ``cur``."""
        mine = WeakMethod(self._told)

        def told(name: bytes | None, appeared: bool) -> None:
            if (tell := mine()) is not None:
                tell(sub, name, appeared)

        return told

    def _told(self, sub: str, name: bytes | None, appeared: bool) -> None:
        if name is None or len(self._pending) >= PENDING:
            self._lost = True
            self._pending.clear()
        elif not name.startswith(b"."):
            self._pending[sub, name.decode("utf-8", "surrogateescape")] = appeared
        if self._timer is None:
            self._timer = self._reactor.callLater(NEWS_SECONDS, self._say)

    def _say(self) -> None:
        self._timer = None
        self._news()

    def listed(self) -> None:
        """The folder is about to be listed: what happened before does not matter any more."""
        self._drain()
        self._lost = False
        self._pending.clear()

    def quiet(self, snapshot: Snapshot) -> bool:
        """Whether nothing happened that memory does not know. The box's lock is held."""
        self._drain()
        if self._lost:
            return False
        for (sub, name), appeared in self._pending.items():
            base, letters = naming.split_name(name)
            uid = snapshot.uids.get(base)
            place = snapshot.places[uid] if uid is not None else None
            here = place is not None and (place.sub, place.letters) == (sub, letters if sub == "cur" else "")
            if here is not appeared:
                return False
        self._pending.clear()
        return True

    def end(self) -> None:
        """Nobody wants to know any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Watching:
    """The watches of all folders in memory; none where there is no inotify, or no more of it."""

    log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._inotify: Inotify | None = None
        self._watches: weakref.WeakSet[FolderWatch] = weakref.WeakSet()
        self._told_of_limit = False

    def start(self) -> None:
        """Begin, if it can be."""
        try:
            self._inotify = Inotify(self._reactor)
        except OSError as error:
            self.log.info("folders are looked at in turn, nothing tells of changes to them ({error})", error=error)

    def close(self) -> None:
        """Watch nothing any more."""
        for watch in list(self._watches):
            watch.end()
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def add(self, paths: tuple[str, str]) -> tuple[int, int] | None:
        """Begin to watch the directories ``new`` and ``cur`` of a folder, in a thread; None if that cannot be."""
        inotify = self._inotify
        if inotify is None:
            return None
        try:
            new, cur = (inotify.add(path) for path in paths)
        except OSError as error:
            if error.errno == errno.ENOSPC and not self._told_of_limit:
                self._told_of_limit = True
                self.log.warn(
                    "no more directories can be watched (fs.inotify.max_user_watches): what other programs do to further folders is seen"
                    " when these are looked at"
                )
            return None
        return new, cur

    def watch(self, snapshot: Snapshot, numbers: tuple[int, int], news: Callable[[], None]) -> FolderWatch | None:
        """From what ``add`` answered. It ends with the snapshot."""
        inotify = self._inotify
        if inotify is None:
            return None
        watch = FolderWatch(self._reactor, inotify.drain, news)
        for number, sub in zip(numbers, ("new", "cur"), strict=True):
            told = watch.told_of(sub)
            inotify.tell(number, told)
            weakref.finalize(snapshot, inotify.ignore, number, told).atexit = False
        weakref.finalize(snapshot, watch.end).atexit = False
        self._watches.add(watch)
        return watch
