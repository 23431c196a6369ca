"""Writing without the detour over the reactor."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hornetmail.net import prompt


class PromptTests(TestCase):
    """Over a real TCP connection: the short way depends on the socket."""

    async def connected(self) -> tuple[Protocol, socket.socket]:
        """Our side as a Twisted protocol, the peer's as a plain socket."""
        made: Deferred[Protocol] = Deferred()

        class Ours(Protocol):
            def connectionMade(self) -> None:
                made.callback(self)

        port = reactor.listenTCP(0, Factory.forProtocol(Ours), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        peer = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(peer.close)
        ours = await made
        return ours, peer

    async def test_at_once(self) -> None:
        """Would catch a reply that waits for the reactor's next turn."""
        ours, peer = await self.connected()
        peer.settimeout(5)
        prompt.write(ours.transport, b"250 ok\r\n")
        assert peer.recv(100) == b"250 ok\r\n"
        ours.transport.abortConnection()

    async def test_order_and_completeness_when_the_socket_is_full(self) -> None:
        """Would catch bytes that overtake, get lost or come twice once the transport buffers."""
        ours, peer = await self.connected()
        peer.setblocking(False)
        sent = [bytes([65 + n % 26]) * (400_000 if n % 3 else 7) for n in range(60)]
        for piece in sent:
            prompt.write(ours.transport, piece)
        assert ours.transport.dataBuffer or ours.transport._tempDataLen  # the socket could not take it all
        got, whole = b"", b"".join(sent)
        for _ in range(100_000):
            await deferLater(reactor, 0)
            try:
                got += peer.recv(1 << 20)
            except BlockingIOError:
                continue
            if len(got) >= len(whole):
                break
        assert got == whole
        prompt.write(ours.transport, b"short again")
        for _ in range(1000):
            await deferLater(reactor, 0)
            try:
                assert peer.recv(100) == b"short again"
                break
            except BlockingIOError:
                continue
        else:
            self.fail("nothing came")
        ours.transport.abortConnection()

    async def test_after_the_end(self) -> None:
        """Would catch an exception for whoever writes to a connection that is gone."""
        ours, peer = await self.connected()
        lost: Deferred[None] = Deferred()
        ours.connectionLost = lambda reason: lost.callback(None)  # type: ignore[method-assign]
        peer.close()
        await lost
        prompt.write(ours.transport, b"nobody")

    async def test_closes_behind_the_last_words(self) -> None:
        """Would catch a connection that stays open, last words that are cut off, and a protocol that hears of its end twice or never."""
        for words in (b"221 goodbye\r\n", b"x" * 8_000_000):  # the second is more than the socket takes at once
            ours, peer = await self.connected()
            lost: Deferred[None] = Deferred()
            ours.connectionLost = lambda reason, lost=lost: lost.callback(None)  # type: ignore[method-assign,misc]
            prompt.write(ours.transport, words)
            assert bool(ours.transport.dataBuffer or ours.transport._tempDataLen) is (len(words) > 100)
            prompt.close(ours.transport)
            prompt.close(ours.transport)
            got = await deferToThread(everything, peer)
            assert got == words
            await lost
            assert not ours.transport.connected

    async def test_closed_and_then_aborted(self) -> None:
        """Would catch a protocol that hears of its end twice when somebody loses patience in the same turn."""
        ours, peer = await self.connected()
        ends: list[object] = []
        ours.connectionLost = ends.append  # type: ignore[method-assign,assignment]
        prompt.close(ours.transport)
        ours.transport.abortConnection()
        await deferToThread(everything, peer)
        await deferLater(reactor, 0)
        assert len(ends) == 1


def everything(peer: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    peer.settimeout(10)
    got = b""
    while piece := peer.recv(1 << 20):
        got += piece
    return got
