"""The pump, driven with a toy engine: lines in, lines out."""

from __future__ import annotations

import enum
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from hornetmail.net.serving.limits import ConnectionCount, Limits, network_of
from hornetmail.net.serving.listener import PumpFactory
from hornetmail.net.serving.pump import Pump, Session
from hornetmail.net.serving.rota import Rota, Shift
from hornetmail.wire.engine import NEED_DATA, WAITING, End, Event, LocalProtocolError, Out, Step, TLSPeer


class Line(Event, frozen=True, gc=False):
    text: bytes


class Say(Out, frozen=True, gc=False):
    text: bytes
    answers: bool = True
    last: bool = False


class Phase(enum.Enum):
    OPEN = 1


class ToyEngine:
    """A line is an event; ``END`` is an End."""

    phase = Phase.OPEN
    upgrade = False

    def __init__(self) -> None:
        self.buffer = b""
        self.waiting = False
        self.closing = False
        self.deadline = 30.0

    @property
    def buffered(self) -> int:
        return len(self.buffer)

    def receive(self, data: bytes) -> None:
        self.buffer += data

    def next_event(self) -> Step:
        if self.waiting:
            return WAITING
        line, nl, rest = self.buffer.partition(b"\n")
        if not nl:
            return NEED_DATA
        self.buffer = rest
        self.waiting = True
        return End() if line == b"END" else Line(line)

    def send(self, out: Out) -> bytes:
        assert isinstance(out, Say)
        if out.answers:
            if not self.waiting:
                raise LocalProtocolError("nobody asked")
            self.waiting = False
        self.closing = self.closing or out.last
        return out.text + b"\n"

    def tls_started(self, peer: TLSPeer) -> None:
        self.upgrade = False


class Transport(StringTransport):
    """Counts writes and notes the abort."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)

    def abortConnection(self) -> None:
        self.aborted = True


class ToySession(Session):
    def __init__(self) -> None:
        self.open: Deferred[Any] | None = None
        self.ended: list[str] = []
        self.reasons: list[Failure] = []
        self.is_busy = False

    def attach(self, wire: Any) -> Any:
        super().attach(wire)
        return Say(b"hello", answers=False)

    def on(self, event: Event) -> Any:
        if isinstance(event, End) or (isinstance(event, Line) and event.text == b"wait"):
            return self.wait()
        assert isinstance(event, Line)
        if event.text == b"boom":
            raise ValueError("boom")
        if event.text == b"now":
            return succeed(Say(b"at once"))
        if event.text == b"two":
            return [Say(b"one", answers=False), Say(b"two")]
        if event.text == b"quit":
            return Say(b"bye", last=True)
        return Say(event.text)

    async def wait(self) -> Out:
        self.open = Deferred()
        try:
            await self.open
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        self.ended.append("done")
        return Say(b"waited")

    def failed(self, event: Event, failure: Failure) -> Any:
        return Say(b"sorry")

    def lost(self, reason: Failure) -> None:
        self.reasons.append(reason)

    def timed_out(self) -> Any:
        return Say(b"too slow", answers=False)

    def goodbye(self) -> Any:
        return Say(b"going down", answers=False)

    def busy(self) -> bool:
        return self.is_busy


class Rig:
    def __init__(self, session: Callable[[Clock], ToySession] = lambda clock: ToySession()) -> None:
        self.clock = Clock()
        self.session = session(self.clock)
        self.engine = ToyEngine()
        self.closed: list[Pump] = []
        self.pump = Pump(self.engine, lambda: self.session, self.clock, on_closed=self.closed.append)
        self.transport = Transport()
        self.transport.protocol = self.pump
        self.pump.makeConnection(self.transport)

    def said(self) -> bytes:
        value = self.transport.value()
        self.transport.clear()
        return value


def test_greets_and_answers_in_order() -> None:
    """Would catch a lost greeting, answers out of order, or one write an answer where input was pipelined."""
    rig = Rig()
    assert rig.said() == b"hello\n"
    rig.transport.writes = 0
    rig.pump.dataReceived(b"a\nb\ntwo\nnow\nc\n")
    assert rig.said() == b"a\nb\none\ntwo\nat once\nc\n"
    assert rig.transport.writes == 1


def test_nothing_is_parsed_while_an_answer_is_open() -> None:
    """Would catch replies to pipelined commands overtaking an asynchronous one, and a read side that is never paused."""
    rig = Rig()
    rig.said()
    rig.pump.dataReceived(b"a\nwait\nb\n")
    assert rig.said() == b"a\n"
    rig.pump.dataReceived(b"x" * 70_000 + b"\n")
    assert rig.transport.producerState == "paused"
    assert rig.session.open is not None
    rig.session.open.callback(None)
    assert rig.said() == b"waited\nb\n" + b"x" * 70_000 + b"\n"
    assert rig.transport.producerState == "producing"


def test_lost_connection_cancels_the_session() -> None:
    """Would catch work that goes on for a client that left before the end of data."""
    rig = Rig()
    rig.pump.dataReceived(b"wait\n")
    rig.pump.connectionLost(Failure(ConnectionLost()))
    assert rig.session.ended == ["CancelledError"]
    assert len(rig.session.reasons) == 1
    assert rig.closed == [rig.pump]


def test_after_end_the_work_goes_on() -> None:
    """Would catch a message lost because its client went away while it was being written (250 or not, it is ours)."""
    rig = Rig()
    rig.pump.dataReceived(b"END\n")
    rig.pump.connectionLost(Failure(ConnectionLost()))
    assert rig.session.ended == []
    assert rig.closed == []
    assert rig.session.open is not None
    rig.session.open.callback(None)
    assert rig.session.ended == ["done"]
    assert rig.closed == [rig.pump]


def test_deadline_runs_anew_with_each_event() -> None:
    """Would catch a deadline that counts from the connection's start, or never fires."""
    rig = Rig()
    rig.clock.advance(29)
    rig.pump.dataReceived(b"a\n")
    rig.clock.advance(29)
    assert not rig.transport.disconnecting
    rig.said()
    rig.clock.advance(1)
    assert rig.said() == b"too slow\n"
    assert rig.transport.disconnecting


def test_half_a_line_does_not_extend_the_deadline() -> None:
    """Would catch a peer that keeps a connection by trickling bytes."""
    rig = Rig()
    rig.clock.advance(20)
    rig.pump.dataReceived(b"a")
    rig.clock.advance(10)
    assert rig.transport.disconnecting


def test_deadline_stands_still_while_we_work() -> None:
    """Would catch a client thrown out because our disk is slow."""
    rig = Rig()
    rig.pump.dataReceived(b"wait\n")
    rig.clock.advance(100)
    assert not rig.transport.disconnecting
    assert rig.session.open is not None
    rig.session.open.callback(None)
    rig.clock.advance(29)
    assert not rig.transport.disconnecting


def test_a_peer_that_does_not_read_is_dropped() -> None:
    """Would catch a connection kept for ever by a client that takes no answers, and answers piling up in memory."""
    rig = Rig()
    rig.said()
    rig.pump.pauseProducing()
    rig.pump.dataReceived(b"a\n")
    assert rig.said() == b""
    rig.pump.resumeProducing()
    assert rig.said() == b"a\n"
    rig.pump.pauseProducing()
    rig.clock.advance(31)
    assert rig.transport.aborted


def test_drained_waits_for_the_transport() -> None:
    """Would catch a whole folder being put into the transport's buffer."""
    rig = Rig()
    fired: list[str] = []
    d = rig.pump.drained()
    assert isinstance(d, Deferred)
    d.addCallback(lambda _: fired.append("at once"))
    rig.pump.pauseProducing()
    d = rig.pump.drained()
    assert isinstance(d, Deferred)
    d.addCallback(lambda _: fired.append("later"))
    assert fired == ["at once"]
    rig.pump.resumeProducing()
    assert fired == ["at once", "later"]


def test_linger_ends() -> None:
    """Would catch sockets that stay open because the peer never takes the last bytes."""
    rig = Rig()
    rig.pump.dataReceived(b"quit\nmore\n")
    assert rig.said() == b"hello\nbye\n"
    assert rig.transport.disconnecting
    rig.clock.advance(11)
    assert rig.transport.aborted


def test_shutdown_lets_transactions_finish() -> None:
    """Would catch a SIGTERM that cuts a running transaction, or one that hangs on an idle connection."""
    idle = Rig()
    idle.said()
    idle.pump.shutdown()
    assert idle.said() == b"going down\n"
    rig = Rig()
    rig.session.is_busy = True
    rig.pump.shutdown()
    rig.pump.dataReceived(b"wait\n")
    rig.said()
    rig.session.is_busy = False
    assert rig.session.open is not None
    rig.session.open.callback(None)
    assert rig.said() == b"waited\ngoing down\n"
    assert rig.transport.disconnecting


def test_a_raising_session_apologises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a connection that hangs after an error of ours."""
    logged: list[Any] = []
    monkeypatch.setattr(Pump, "log", type("Log", (), {"failure": lambda *a, **k: logged.append(a)})())
    rig = Rig()
    rig.said()
    rig.pump.dataReceived(b"boom\na\n")
    assert rig.said() == b"sorry\na\n"
    assert logged


def test_a_session_goes_with_its_connection() -> None:
    """Would catch sessions that pile up until the garbage collector comes by, which is seldom (``runtime/collector.py``)."""
    gc.disable()
    try:
        rig = Rig()
        session = weakref.ref(rig.pump._session)
        assert session() is not None
        rig.session = None  # type: ignore[assignment]
        rig.pump.connectionLost(Failure(ConnectionLost()))
        assert session() is None
    finally:
        gc.enable()


def test_factory_limits_and_refuses() -> None:
    """Would catch a door without limits, or one that forgets to count out (rule 8)."""
    clock = Clock()
    factory = PumpFactory(
        lambda peer: ToyEngine(), lambda peer: ToySession(), clock, limits=Limits(total=3, network=2), refusal=b"421 no\r\n"
    )

    class From:
        def __init__(self, host: str) -> None:
            self.host = host
            self.port = 1

    def connect(host: str) -> tuple[Any, Transport]:
        protocol = factory.buildProtocol(From(host))  # type: ignore[arg-type]
        transport = Transport()
        assert protocol is not None
        protocol.makeConnection(transport)
        return protocol, transport

    first, _ = connect("2001:db8::1")
    connect("2001:db8::2")
    _, refused = connect("2001:db8::3")
    assert refused.value() == b"421 no\r\n"
    assert refused.disconnecting
    connect("192.0.2.1")
    assert connect("192.0.2.2")[1].value() == b"421 no\r\n"
    first.connectionLost(Failure(ConnectionLost()))
    _, greeted = connect("192.0.2.2")
    clock.advance(0)
    assert greeted.value() == b"hello\n"
    assert len(factory.pumps) == 3
    stopped = Deferred.fromCoroutine(factory.stop(5))
    for pump in list(factory.pumps):
        pump.connectionLost(Failure(ConnectionLost()))
    assert stopped.called
    assert connect("192.0.2.9")[1].value() == b"421 no\r\n"


def test_networks() -> None:
    """Would catch limits that a client walks around with the addresses of its /64 (rule 8)."""
    assert network_of("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert network_of("::ffff:192.0.2.7") == network_of("192.0.2.7") == "192.0.2.7"
    count = ConnectionCount(Limits(1, 1))
    assert count.admit("192.0.2.1") == ""
    assert count.admit("192.0.2.1") == "total"


class Works(ToySession):
    """Each line takes 3 ms of work; ``long`` takes fifty steps of it and asks for a breath between them."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.breaths = 0

    def on(self, event: Event) -> Any:
        self.clock.rightNow += 0.003
        if isinstance(event, Line) and event.text == b"long":
            return self.long()
        return super().on(event)

    async def long(self) -> Out:
        for _ in range(50):
            self.clock.rightNow += 0.003
            if turn := self.wire.breathe():
                self.breaths += 1
                await turn
        return Say(b"done")


def a_turn(clock: Clock) -> None:
    """The first call that is due, and no other: ``advance`` would run those that it brings too."""
    call = clock.calls.pop(0)
    call.called = 1
    call.func(*call.args)


def test_others_have_their_turn() -> None:
    """A packet of ten thousand commands was one turn of the reactor; what comes in meanwhile must not start a second run beside the one that rests."""
    rig = Rig(Works)
    rig.said()
    rig.pump.dataReceived(b"a\nb\nc\nd\ne\n")
    assert rig.said() == b"a\nb\n", "5 ms are over"
    rig.pump.dataReceived(b"f\n")
    assert rig.said() == b""
    a_turn(rig.clock)
    assert rig.said() == b"c\nd\n", "half of the turn is for those who wait"
    a_turn(rig.clock)
    assert rig.said() == b"e\nf\n"


def test_long_answers_breathe() -> None:
    """One command whose work is long; and it is not slept through: while the turn is short nothing waits."""
    rig = Rig(Works)
    rig.said()
    session = rig.session
    assert isinstance(session, Works)
    rig.pump.dataReceived(b"long\nb\n")
    turns = 0
    while not (said := rig.said()):
        a_turn(rig.clock)
        turns += 1
    assert said.startswith(b"done\n")
    assert 20 <= session.breaths <= 30
    assert session.breaths // 2 <= turns <= session.breaths + 1, "none was made without need"


def test_lost_while_it_rests() -> None:
    """A connection that ends while it rests, or breathes, leaves a timer or a session behind."""
    for said in (b"a\nb\nc\nd\n", b"long\n"):
        rig = Rig(Works)
        rig.pump.dataReceived(said)
        rig.pump.connectionLost(Failure(ConnectionLost()))
        assert rig.closed == [rig.pump]
        rig.clock.advance(0)
        assert rig.clock.getDelayedCalls() == []


def test_many_share_a_turn() -> None:
    """A hundred connections with 5 ms each made a turn of half a second: they share one. Who comes when it is used up waits for no whole slice of others."""
    clock = Clock()
    rota = Rota(clock)
    transports = []
    for _ in range(11):
        session = Works(clock)
        pump = Pump(ToyEngine(), lambda session=session: session, clock, rota=rota)  # type: ignore[misc]
        transport = Transport()
        transport.protocol = pump
        pump.makeConnection(transport)
        transport.clear()
        transports.append(transport)
    clock.advance(1)
    began = clock.seconds()
    for transport in transports[:10]:
        transport.protocol.dataReceived(b"x\n" * 100)
    transports[10].protocol.dataReceived(b"y\n")
    assert clock.seconds() - began < 0.02, "all of them in one turn"
    assert transports[10].value() == b""
    began = clock.seconds()
    while not transports[10].value():
        a_turn(clock)
    assert clock.seconds() - began < 0.04, "one line of each that came before, and no more"
    for _ in range(30):
        a_turn(clock)
    served = [transport.value().count(b"x") for transport in transports[:10]]
    assert min(served) > 0
    assert max(served) - min(served) <= 4, served


def test_a_handshake_after_the_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS that comes up when the connection is being closed began the conversation anew."""
    monkeypatch.setattr("hornetmail.net.serving.pump.tls_peer", lambda transport: TLSPeer())
    clock = Clock()
    made: list[ToySession] = []

    def session() -> ToySession:
        made.append(ToySession())
        return made[-1]

    pump = Pump(ToyEngine(), session, clock, implicit_tls=True)
    transport = Transport()
    pump.makeConnection(transport)
    clock.advance(31)
    assert transport.aborted
    pump.handshakeCompleted()
    assert made == []


def test_whoever_hardly_worked_comes_first() -> None:
    """Somebody whose first step came at the end of a turn stood in line behind all that had used up theirs."""
    clock = Clock()
    rota = Rota(clock)
    called: list[str] = []
    for name in "ab":
        busy = Shift(rota, clock)
        assert busy.begin()
        clock.rightNow += 0.004_95
        busy.later(lambda name=name: called.append(name))  # type: ignore[misc]
    late = Shift(rota, clock)
    assert late.begin()
    clock.rightNow += 0.000_11
    assert late.over()
    late.later(lambda: called.append("late"))
    for name in "cd":
        idle = Shift(rota, clock)
        assert not idle.begin()
        idle.later(lambda name=name: called.append(name))  # type: ignore[misc]
    gone = late.later(lambda: called.append("gone"))
    late.leave(gone)
    a_turn(clock)
    assert called == ["late", "c", "d", "a", "b"]
