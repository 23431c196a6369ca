"""How many connections a door takes, in total and from one network (rule 8)."""

from __future__ import annotations

import ipaddress

import msgspec


def network_of(peer: str) -> str:
    """What limits count a peer by: the IPv4 address, or the /64 of an IPv6 address (rule 8). Never raises."""
    if ":" not in peer:
        return peer
    try:
        address = ipaddress.IPv6Address(peer.partition("%")[0])
    except ValueError:
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class Limits(msgspec.Struct, frozen=True, gc=False):
    """Simultaneous connections: ``total`` of one door, ``network`` from one network."""

    total: int = 2000
    network: int = 100


class ConnectionCount:
    """Counts the live connections of a door against its limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.total = 0
        self._networks: dict[str, int] = {}

    def admit(self, peer: str) -> str:
        """Count a connection in. ``""``, or what is exhausted: ``"total"`` or ``"network"`` (then it is not counted)."""
        if self.total >= self.limits.total:
            return "total"
        network = network_of(peer)
        there = self._networks.get(network, 0)
        if there >= self.limits.network:
            return "network"
        self.total += 1
        self._networks[network] = there + 1
        return ""

    def release(self, peer: str) -> None:
        """Count an admitted connection out."""
        self.total -= 1
        network = network_of(peer)
        left = self._networks.get(network, 0) - 1
        if left > 0:
            self._networks[network] = left
        else:
            self._networks.pop(network, None)
