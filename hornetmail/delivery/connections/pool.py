"""Connections to destinations, kept, shared and counted (rule 2).

A ``Destination`` keeps idle connections for many messages and opens more while messages wait: it starts with a few, one more for each
message that went well, at most ``most``. 421 lowers that. What happens here happens *before* C20 applies:

* an error on a reused connection before the final dot is repeated once on a fresh one;
* a greeting of 421 while other connections work waits for one of them;
* all hosts are tried, those that failed lately last, within one budget of seconds;
* for ``rest`` seconds after all of them failed nobody dials again, so that many messages do not wait out the same time-out each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from hornetmail.core.failover.verdict import Stage
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.delivery.tasks import awaiting, together, within
from hornetmail.net.clients.smtp import Broken, SMTPClient, Timeouts

T = TypeVar("T")

Connect = Callable[..., Awaitable[SMTPClient]]
"""``SMTPClient.connect``, or what a test puts in its place."""


class Limits(msgspec.Struct, frozen=True, gc=False):
    """``most`` connections side by side, ``first`` of them at once; ``idle`` s until an unused one is closed; ``budget`` s for dialling all
    hosts; ``rest`` s without dialling after all failed; ``uses`` messages until a connection is replaced."""

    most: int = 20
    first: int = 4
    idle: float = 30.0
    budget: float = 45.0
    rest: float = 1.0
    uses: int = 1000


def broken(stage: Stage, reply: Reply, *, certain: bool = True) -> Broken:
    """A Broken of our own making."""
    return Broken(stage, reply, certain=certain)


class Destination:
    """One place to deliver to: hosts in order of preference, the same for everybody who goes there."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        connect: Callable[[Host, float], Awaitable[SMTPClient]],
        hosts: Sequence[Host],
        limits: Limits,
        told: Callable[[Host, bool, str], None],
        unrecorded: Unrecorded | None = None,
    ) -> None:
        self._clock = clock
        self.unrecorded = unrecorded
        self._connect = connect
        self.hosts = tuple(hosts)
        self._limits = limits
        self._told = told
        self.ceiling = limits.first
        self.busy = 0
        self._idle: list[tuple[SMTPClient, IDelayedCall]] = []
        self._open: set[SMTPClient] = set()
        self._waiting: deque[Deferred[None]] = deque()
        self._handing_out = False
        self._failed: dict[Host, float] = {}
        self._resting: tuple[float, Broken] | None = None
        self.used = clock.seconds()

    async def exchange(self, job: Callable[[SMTPClient], Awaitable[T]], but: Collection[Host] = ()) -> T:
        """Run ``job`` on a connection of its own, reused or fresh, to any host ``but`` these. Raises Broken as rule 2 leaves it."""
        waited_from = self._clock.seconds()
        while True:
            await self._slot()
            try:
                result = await self._once(job, but)
            except Broken as error:
                # Connections at work, or on the way: if they fail too, the last of them has no others.
                others = max(len(self._open), self.busy - 1)
                if error.reply.code == 421:
                    self.ceiling = max(1, min(self.ceiling, others or self.ceiling // 2))
                self._release()
                if error.reply.code == 421:
                    patience = self._clock.seconds() - waited_from < self._limits.budget
                    if error.stage in (Stage.CONNECT, Stage.GREETING, Stage.EHLO) and others > 0 and patience:
                        continue
                raise
            except BaseException:
                self._release()
                raise
            if self.ceiling < self._limits.most:
                self.ceiling += 1
            self._release()
            return result

    async def _once(self, job: Callable[[SMTPClient], Awaitable[T]], but: Collection[Host]) -> T:
        """A host that greets and then breaks off, before a final dot, has the next one asked (rule 2: all within one budget), and is dialled last from then on. Raises what
        the first of them said, which is nearer to the truth than that another one is away."""
        since = self._clock.seconds()
        broke: set[Host] = set()
        first: Broken | None = None
        client = self._take(but)
        reused = client is not None
        while True:
            if client is None:
                try:
                    client = await self._dial({*but, *broke})
                except Broken as error:
                    raise first or error from None
            try:
                result = await self._run(client, job)
            except Broken as error:
                if not reused:
                    if error.stage is Stage.LOCAL:
                        raise
                    self._failed[client.host] = self._clock.seconds()
                    broke.add(client.host)
                    first = first or error
                if not error.certain:
                    raise
                over = self._clock.seconds() - since >= self._limits.budget
                if first is not None and (over or broke.issuperset(set(self.hosts) - set(but))):
                    raise first from None
                self.log.debug(
                    "a connection to {host} broke ({error}), repeating on a fresh one", host=str(client.host), error=str(error)
                )
                client, reused = None, False
                continue
            self._keep(client)
            return result

    async def _run(self, client: SMTPClient, job: Callable[[SMTPClient], Awaitable[T]]) -> T:
        try:
            return await job(client)
        except BaseException:
            # Whatever it was: the dialogue's state is unknown, the connection is of no further use.
            self._open.discard(client)
            client.abort()
            raise

    async def _slot(self) -> None:
        self.used = self._clock.seconds()
        if self.busy < self.ceiling and not self._waiting:
            self.busy += 1
            return
        turn: Deferred[None] = Deferred(lambda d: self._waiting.remove(d) if d in self._waiting else None)
        self._waiting.append(turn)
        await turn

    def _release(self) -> None:
        """In a turn of its own: one that ends at once (nobody dials for a while) gives its place to the next, and hundreds may wait."""
        self.busy -= 1
        self.used = self._clock.seconds()
        if self._waiting and not self._handing_out:
            self._handing_out = True
            self._clock.callLater(0, self._hand_out)

    def _hand_out(self) -> None:
        self._handing_out = False
        for _ in range(len(self._waiting)):
            if not self._waiting or self.busy >= self.ceiling:
                return
            self.busy += 1
            self._waiting.popleft().callback(None)

    def _take(self, but: Collection[Host]) -> SMTPClient | None:
        for entry in [entry for entry in reversed(self._idle) if entry[0].host not in but]:
            self._idle.remove(entry)
            client, closing = entry
            if closing.active():
                closing.cancel()
            if client.alive:
                return client
            self._open.discard(client)
        return None

    def _keep(self, client: SMTPClient) -> None:
        if not client.alive:
            self._open.discard(client)
            return
        if client.used >= self._limits.uses:
            self._part(client)
            return
        closing = self._clock.callLater(self._limits.idle, self._expire, client)
        self._idle.append((client, closing))

    def _expire(self, client: SMTPClient) -> None:
        self._idle = [(each, call) for each, call in self._idle if each is not client]
        self._part(client)

    def _part(self, client: SMTPClient) -> None:
        self._open.discard(client)
        Deferred.fromCoroutine(client.quit()).addErrback(lambda failure: client.abort())

    async def _dial(self, but: Collection[Host]) -> SMTPClient:
        now = self._clock.seconds()
        if self._resting is not None:
            until, error = self._resting
            if now < until and not self._open:
                raise broken(error.stage, error.reply)
            self._resting = None
        error = broken(Stage.CONNECT, Reply(451, "4.4.1", "no host to dial"))
        for host in sorted(self.hosts, key=lambda each: self._failed.get(each, 0.0)):
            if host in but:
                continue
            left = now + self._limits.budget - self._clock.seconds()
            if left <= 0:
                break
            try:
                client = await self._reach(host, left)
            except Broken as failed:
                if failed.stage is Stage.LOCAL:
                    raise
                error = failed
                continue
            return client
        if not self._open and not but:
            self._resting = (self._clock.seconds() + self._limits.rest, error)
        raise error

    async def _reach(self, host: Host, seconds: float) -> SMTPClient:
        try:
            client = await within(self._clock, seconds, awaiting(self._connect(host, seconds)))
        except TimeoutError:
            failed = broken(Stage.CONNECT, Reply(451, "4.4.1", f"{host} did not answer within {seconds:.0f} s"))
            self._failed[host] = self._clock.seconds()
            self._told(host, False, str(failed.reply))
            raise failed from None
        except Broken as failed:
            if failed.stage is Stage.LOCAL:
                # No connection can be made from here: that is no fault of the host's (rule 5).
                raise
            self._failed[host] = self._clock.seconds()
            if failed.reply.code != 421 or not self._open:
                self._told(host, False, f"{failed.stage}: {failed.reply}")
            raise
        self._failed.pop(host, None)
        self._resting = None
        self._open.add(client)
        client.on_lost(lambda: self._lost(client))
        self._told(host, True, "connected")
        return client

    def _lost(self, client: SMTPClient) -> None:
        self._open.discard(client)
        for entry in list(self._idle):
            if entry[0] is client:
                self._idle.remove(entry)
                if entry[1].active():
                    entry[1].cancel()

    def rested(self) -> None:
        """The destination is known to answer again: dial at once."""
        self._resting = None

    @property
    def unused(self) -> bool:
        """Nothing is open, nobody waits."""
        return not self._open and not self.busy and not self._waiting

    async def close(self) -> None:
        """Say QUIT on idle connections; those at work are left to their jobs."""
        idle, self._idle = self._idle, []
        for client, closing in idle:
            if closing.active():
                closing.cancel()
            self._open.discard(client)
        await together(self._goodbye(client) for client, _ in idle)

    async def _goodbye(self, client: SMTPClient) -> None:
        try:
            await within(self._clock, 1.0, client.quit())
        except (TimeoutError, Broken, CancelledError):
            client.abort()

    def abort(self) -> None:
        """Drop everything at once; jobs under way end with Broken."""
        for _, closing in self._idle:
            if closing.active():
                closing.cancel()
        self._idle = []
        for client in list(self._open):
            client.abort()
        self._open.clear()


def _nothing(host: Host, up: bool, reason: str) -> None:
    """For pools whose connections nobody watches."""


class Pool:
    """All destinations of one kind. ``connect`` is ``SMTPClient.connect``; ``told(host, up, reason)`` hears how dialling went; ``unrecorded``
    keeps the hand-overs of a connection apart, where messages go over it."""

    def __init__(
        self,
        clock: IReactorTime,
        dialer: Any,
        hello: str,
        *,
        connect: Connect = SMTPClient.connect,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        told: Callable[[Host, bool, str], None] = _nothing,
        unrecorded: Unrecorded | None = None,
    ) -> None:
        self._clock = clock
        self._dialer = dialer
        self._hello = hello
        self._connect = connect
        self._timeouts = timeouts or Timeouts()
        self._limits = limits or Limits()
        self._told = told
        self._unrecorded = unrecorded
        self._destinations: dict[tuple[tuple[Host, ...], TLSPolicy], Destination] = {}

    def destination(self, hosts: Sequence[Host], tls: TLSPolicy) -> Destination:
        """The one for these hosts; made on first use, forgotten some time after its last connection closed."""
        key = (tuple(hosts), tls)
        found = self._destinations.get(key)
        if found is None:
            self._forget()

            async def dial(host: Host, seconds: float) -> SMTPClient:
                timeouts = msgspec.structs.replace(self._timeouts, connect=min(self._timeouts.connect, seconds))
                return await self._connect(self._dialer, host, hello=self._hello, tls=tls, timeouts=timeouts)

            found = self._destinations[key] = Destination(self._clock, dial, hosts, self._limits, self._told, self._unrecorded)
        return found

    def _forget(self) -> None:
        if len(self._destinations) < 256:
            return
        now = self._clock.seconds()
        for key, each in list(self._destinations.items()):
            if each.unused and now - each.used > 60:
                del self._destinations[key]

    def rested(self, host: Host) -> None:
        """This host answers again."""
        for destination in self._destinations.values():
            if host in destination.hosts:
                destination.rested()

    def connections(self) -> int:
        """How many are at work now."""
        return sum(each.busy for each in self._destinations.values())

    async def close(self) -> None:
        """QUIT on all that is idle, then drop the rest."""
        destinations = list(self._destinations.values())
        await together(each.close() for each in destinations)
        for each in destinations:
            each.abort()
        self._destinations.clear()
