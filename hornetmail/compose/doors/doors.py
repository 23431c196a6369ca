"""Listening: endpoint strings of the configuration to ports that are open, and shut again in order."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger

from hornetmail.compose.ground.foundations import Foundations
from hornetmail.delivery.tasks import together
from hornetmail.net.serving.listener import PumpFactory

GRACE = 3.0
"""Seconds that running transactions get at shutdown; the whole service has five."""


class CannotListen(Exception):
    """An endpoint that could not be opened; the message names door, endpoint and reason."""


class Doors:
    """The open doors of this process."""

    log = Logger()

    def __init__(self, base: Foundations) -> None:
        self._base = base
        self._ports: list[IListeningPort] = []
        self._pumps: list[PumpFactory] = []

    async def listen(self, door: str, factory: PumpFactory | IProtocolFactory) -> None:
        """Open every endpoint of a door. Raises CannotListen."""
        if isinstance(factory, PumpFactory):
            self._pumps.append(factory)
            listener: Any = factory.listener
        else:
            listener = factory
        for text in self._base.config.listen.door(door):
            await self.listen_at(door, serverFromString(self._base.reactor, text), listener)

    async def listen_at(self, door: str, endpoint: IStreamServerEndpoint, listener: Any) -> None:
        """Open one endpoint. Raises CannotListen."""
        try:
            port = await endpoint.listen(listener)
        except (OSError, CannotListenError, ValueError) as error:
            raise CannotListen(f"{door}: {error}") from error
        self.keep(door, port)

    def keep(self, door: str, port: IListeningPort) -> None:
        """A port that is open already: it is shut with the others."""
        self._ports.append(port)
        self.log.info("{door} listens on {address}", door=door, address=port.getHost())

    async def shut(self) -> None:
        """Take no new connection, say goodbye to idle ones, let running transactions finish within ``GRACE``."""
        ports, self._ports = self._ports, []
        for port in ports:
            await _stopped(port)
        pumps, self._pumps = self._pumps, []
        await together(pump.stop(GRACE) for pump in pumps)


async def _stopped(port: IListeningPort) -> None:
    result = port.stopListening()
    if result is not None:
        await result
