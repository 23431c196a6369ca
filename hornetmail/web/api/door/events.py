"""Live events for pages (server-sent events): what the bus says, thinned out. They are hints: whoever misses one reads anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hornetmail.access.rights import Right
from hornetmail.core.events import (
    Alarm,
    AlarmsChanged,
    ArchiveGrew,
    DirectoryChanged,
    FolderChanged,
    HealthChanged,
    MessageAccepted,
    ModeChanged,
    RecipientSettled,
)
from hornetmail.web.api.operations import Caller
from hornetmail.web.api.rooms import Rooms

BEAT = 15.0
"""Seconds between signs of life; each looks whether the log-in still stands."""

THIN = 1.0
"""Seconds between two events of a kind that comes with every message."""


class LiveEvents:
    """Streams to any number of pages."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def serve(self, request: Any, caller: Caller, still: Callable[[], Awaitable[bool]]) -> None:
        """Until the page goes away or its log-in ends."""
        request.setHeader(b"Content-Type", b"text/event-stream")
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"X-Accel-Buffering", b"no")
        await _Stream(self._rooms, request, caller, still).run()


class _Stream:
    log = Logger()

    def __init__(self, rooms: Rooms, request: Any, caller: Caller, still: Callable[[], Awaitable[bool]]) -> None:
        self._rooms = rooms
        self._request = request
        self._caller = caller
        self._still = still
        self._over: Deferred[None] = Deferred()
        self._pending: dict[str, Any] = {}
        self._ended = False

    async def run(self) -> None:
        gone = self._request.notifyFinish()
        gone.addErrback(lambda _: None)
        gone.addCallback(lambda _: self._end())
        listeners = self._listen()
        self._request.write(b"retry: 3000\n\n")
        beat = self._rooms.clock.callLater(BEAT, self._beat)
        self._timer = beat
        try:
            await self._over
        finally:
            for unsubscribe in listeners:
                unsubscribe()
            if self._timer.active():
                self._timer.cancel()

    def _listen(self) -> list[Callable[[], None]]:
        bus = self._rooms.bus
        if bus is None:
            return []
        listeners: list[tuple[type, Callable[[Any], None]]] = [
            (FolderChanged, self._folder),
            (ArchiveGrew, lambda _: self._soon("archive", {})),
        ]
        if self._caller.may(Right.ADMINISTER):
            listeners += [
                (ModeChanged, lambda event: self._of_domain("mode", event)),
                (HealthChanged, lambda event: self._of_domain("health", event)),
                (Alarm, lambda event: self._of_domain("alarm", event)),
                (AlarmsChanged, lambda _: self._soon("alarms", {})),
                (DirectoryChanged, lambda event: self._soon("directory", {"version": event.version})),
                (MessageAccepted, lambda _: self._soon("queue", {})),
                (RecipientSettled, lambda _: self._soon("queue", {})),
            ]
        return [bus.subscribe(kind, listener) for kind, listener in listeners]

    def _folder(self, event: FolderChanged) -> None:
        if self._caller.person is not None and self._caller.person.mailbox == event.mailbox:
            self._send("folder", {"folder": event.folder})

    def _of_domain(self, name: str, event: Any) -> None:
        domain = self._rooms.directory.domain(event.domain) if event.domain else None
        if domain is None and event.domain and self._caller.tenant != 0:
            return
        if domain is None or self._caller.reaches(domain.tenant):
            self._send(name, event)

    def _soon(self, name: str, data: Any) -> None:
        """At most one a second: what comes with every message must not cost a write each."""
        if name not in self._pending:
            self._rooms.clock.callLater(THIN, self._thinned, name)
        self._pending[name] = data

    def _thinned(self, name: str) -> None:
        self._send(name, self._pending.pop(name))

    def _send(self, name: str, data: Any) -> None:
        if not self._ended:
            self._request.write(b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data, enc_hook=str) + b"\n\n")

    def _beat(self) -> None:
        self._timer = self._rooms.clock.callLater(BEAT, self._beat)
        self._request.write(b": alive\n\n")
        Deferred.fromCoroutine(self._look()).addErrback(lambda failure: self.log.failure("live events", failure))

    async def _look(self) -> None:
        if not await self._still():
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._over.callback(None)
