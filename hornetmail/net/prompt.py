"""Writing at once what the socket takes at once.

Twisted's transports always buffer, ask epoll whether the socket is writable and send in a later turn: two system calls, a reactor event and the
wait for it on top of each ``send``. A reply of a line or two nearly always fits into the socket's buffer.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure


def write(transport: Any, data: bytes) -> None:
    """``transport.write(data)``, without the detour if the transport is plain TCP with nothing buffered. What the socket does not take, and every
    error, is left to the transport: order, flow control and the end of the connection are its own as ever."""
    if _is_plain(transport):
        sent = transport.writeSomeData(data)
        if isinstance(sent, int) and sent > 0:
            if sent == len(data):
                return
            data = data[sent:]
    transport.write(data)


def close(transport: Any) -> None:
    """``transport.loseConnection()``, without asking epoll whether nothing can be written if there is nothing to write."""
    if not _is_plain(transport) or transport.disconnecting:
        transport.loseConnection()
        return
    transport.disconnecting = True
    transport.stopReading()
    transport.reactor.callLater(0, transport.connectionLost, Failure(ConnectionDone()))


def _is_plain(transport: Any) -> bool:
    return bool(
        isinstance(transport, Connection)
        and transport.connected
        and not transport.TLS
        and not transport.dataBuffer
        and not transport._tempDataLen
        and not transport._writeDisconnected
    )
