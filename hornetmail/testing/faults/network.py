"""Connections in memory between one process and what is outside of it. What was written to a peer reaches it, whatever becomes of the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, TimeoutError
from twisted.python.failure import Failure

from hornetmail.testing.faults.steps import HANG_SECONDS, Ending, Kind, Steps

_MOMENT = 0.001


class Process(Protocol):
    """What the network needs of a SteppedReactor."""

    steps: Steps
    cut_off: Callable[[], object]

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> Any: ...


class Network:
    """Ports and connections. ``outside`` ports outlive processes; it can be handed to a server as its reactor."""

    def __init__(self) -> None:
        self._ports: dict[int, tuple[Any, Any]] = {}
        self._next = 40_000
        self._process: Process | None = None
        self.open: list[_Pair] = []
        self.unheard = 0
        """How many connections a process gave up with a peer's reply on the way."""

    def process(self, process: Process) -> None:
        """From now on this one lives."""
        self._process = process

    def later(self, delay: float, call: Callable[..., Any], *args: Any) -> None:
        """In the life of the present process."""
        assert self._process is not None
        self._process.callLater(delay, call, *args)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """A port outside of the process."""
        return self.listen(port, factory, None)

    def listen(self, port: int, factory: Any, owner: Any) -> _Port:
        """0: any."""
        if not port:
            self._next += 1
            port = self._next
        self._ports[port] = (factory, owner)
        return _Port(self, port)

    def unlisten(self, port: int) -> None:
        """Refuse connections."""
        self._ports.pop(port, None)

    def connect(self, process: Process, port: int, factory: Any, timeout: float, *, delay: float, refused: bool) -> _Connector:
        """Try it."""
        connector = _Connector(factory)
        factory.doStart()
        factory.startedConnecting(connector)
        if delay >= timeout:
            process.callLater(timeout, connector.failed, TimeoutError())
        else:
            process.callLater(delay, self._connected, process, port, factory, connector, refused)
        return connector

    def _connected(self, process: Process, port: int, factory: Any, connector: _Connector, refused: bool) -> None:
        if connector.over:
            return
        served = self._ports.get(port)
        if served is None or refused:
            connector.failed(ConnectionRefusedError())
            return
        connector.over = True
        pair = _Pair(self, process, port)
        self.open.append(pair)
        server, client = served[0].buildProtocol(pair.address), factory.buildProtocol(pair.address)
        pair.join(client, server, connector, inside=served[1] is not None)

    def dialled(self) -> int:
        """How many connections are open that the process made."""
        return sum(not pair.inside for pair in self.open)

    def hang_up(self) -> None:
        """Whoever dialled the process is gone."""
        for pair in self.open[:]:
            if pair.inside:
                pair.ends[0].abortConnection()

    def died(self) -> None:
        """The process is no more: peers get what it wrote, and then the end of the connection. People last: what they do then may never come to an end."""
        self._ports = {port: served for port, served in self._ports.items() if served[1] is None}
        for pair in sorted(self.open, key=lambda pair: pair.inside):
            pair.died()


class _Port:
    def __init__(self, network: Network, port: int) -> None:
        self._network = network
        self._port = port

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self._port)

    def stopListening(self) -> Deferred[None]:
        self._network.unlisten(self._port)
        return succeed(None)


class _Connector:
    def __init__(self, factory: Any) -> None:
        self._factory = factory
        self.over = False
        self.transport: Any = None

    def failed(self, error: Exception) -> None:
        if not self.over:
            self.over = True
            self._factory.clientConnectionFailed(self, Failure(error))

    def stopConnecting(self) -> None:
        self.over = True

    def disconnect(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def getDestination(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 0)


class _Pair:
    """One connection. The client's end is the process's, unless the server is (``inside``)."""

    def __init__(self, network: Network, process: Process, port: int) -> None:
        self.network = network
        self.process = process
        self.port = port
        self.address = IPv4Address("TCP", "127.0.0.1", port)
        self.inside = False
        self.hanging = False
        self.ends: tuple[End, End]

    def join(self, client: Any, server: Any, connector: _Connector, *, inside: bool) -> None:
        self.inside = inside
        near, far = End(self, client, replies=not inside), End(self, server, replies=False)
        near.other, far.other = far, near
        self.ends = (near, far)
        connector.transport = near
        for end in (far, near):
            end.protocol.makeConnection(end)

    def died(self) -> None:
        """What the process wrote gets to the other end, which then hears that this one is gone."""
        ours, theirs = reversed(self.ends) if self.inside else self.ends
        self.gone()
        ours.lost = True
        while ours.waiting and not theirs.lost:
            theirs.protocol.dataReceived(ours.waiting.pop(0))
        theirs.drop(ConnectionLost())

    def gone(self) -> None:
        if self in self.network.open:
            self.network.open.remove(self)


class End:
    """A transport. What is written comes to the other end in a later turn, each write by itself; at the process's end of a connection that it
    dialled each is a step, a peer's reply."""

    disconnecting = False
    connected = True

    def __init__(self, pair: _Pair, protocol: Any, *, replies: bool) -> None:
        self.protocol = protocol
        self.other: End
        self.lost = False
        self.waiting: list[bytes] = []
        self._pair = pair
        self._replies = replies
        self._held = 0.0
        self._closing = False

    # ITransport, ITCPTransport

    def write(self, data: bytes) -> None:
        if not self.lost and not self._closing and data:
            self.waiting.append(bytes(data))
            self._pair.network.later(0, self._deliver)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if not self._closing and not self.lost:
            self._closing = self.disconnecting = True
            self._pair.network.later(0, self._deliver)

    def abortConnection(self) -> None:
        if not self.lost:
            if self is self._pair.ends[0] and not self._pair.inside:
                self._pair.network.unheard += bool(self.other.waiting)
            self.waiting.clear()
            self._closing = True
            self._pair.network.later(0, self._end, ConnectionLost())

    def setTcpNoDelay(self, on: bool) -> None: ...
    def setTcpKeepAlive(self, on: bool) -> None: ...
    def registerProducer(self, producer: Any, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...
    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 50_000)

    def getHost(self) -> IPv4Address:
        return self._pair.address

    # Beneath

    def _deliver(self) -> None:
        """The next of what waits, or the end."""
        other = self.other
        if self.lost or other.lost or other._held > 0:
            return
        if self.waiting:
            data = self.waiting[0]
            ending = self._pair.process.steps.take(Kind.REPLY, data[:40].decode("latin-1").strip()) if other._replies else None
            if ending in (Ending.DIES, Ending.LOSES):
                return
            if ending in (Ending.RESET, Ending.RESET_WHILE):
                self._pair.process.steps.unanswered += 1
                self.waiting.clear()
                other._end(ConnectionLost())
                return
            if ending in (Ending.HANGS, Ending.CANCELLED):
                if ending is Ending.CANCELLED:
                    self._pair.network.later(0, self._pair.process.cut_off)
                other._held = HANG_SECONDS if ending is Ending.HANGS else _MOMENT
                self._pair.network.later(other._held, self._release)
                return
            self._pass()
        elif self._closing:
            self._end(ConnectionDone())

    def _pass(self) -> None:
        """What was written at once; to whom replies are steps, a reply with all its lines (RFC 5321 section 4.2.1)."""
        data = self.waiting.pop(0)
        while self.other._replies and self.waiting and data[data.rfind(b"\n", 0, -1) + 4 :][:1] == b"-":
            data += self.waiting.pop(0)
        self.other.protocol.dataReceived(data)
        if self._closing and not self.waiting and not self.lost:
            self._pair.network.later(0, self._deliver)

    def _release(self) -> None:
        self.other._held = 0.0
        if self.waiting and not self.lost and not self.other.lost:
            self._pass()
        for _ in range(len(self.waiting) + 1):
            self._pair.network.later(0, self._deliver)

    def _end(self, reason: Exception) -> None:
        self._pair.gone()
        self.drop(reason)
        self.other.drop(reason)

    def drop(self, reason: Exception) -> None:
        if not self.lost:
            self.lost = True
            self.connected = False
            self.protocol.connectionLost(Failure(reason))
