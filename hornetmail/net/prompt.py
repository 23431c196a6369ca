"""Writing at once what the socket takes at once.

Twisted's transports always buffer, ask epoll whether the socket is writable and send in a later turn: two system calls, a reactor event and the
wait for it on top of each ``send``. A reply of a line or two nearly always fits into the socket's buffer.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


def write(transport: Any, data: bytes) -> None:
    """``transport.write(data)``, without the detour if the transport is plain TCP with nothing buffered. What the socket does not take, and every
    error, is left to the transport: order, flow control and the end of the connection are its own as ever."""
    if (
        isinstance(transport, Connection)
        and transport.connected
        and not transport.TLS
        and not transport.dataBuffer
        and not transport._tempDataLen
        and not transport._writeDisconnected
    ):
        sent = transport.writeSomeData(data)
        if isinstance(sent, int) and sent > 0:
            if sent == len(data):
                return
            data = data[sent:]
    transport.write(data)
