"""Which domains an address may send for through the relay door: those that name it (``Domain.relay_from``), or all of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from hornetmail.core.served import Domain
from hornetmail.interfaces.directory import IDirectory

REMEMBERED = 4_096


class RelayNetworks:
    """Answers from memory, made anew with each version of the directory. Networks that are none are ignored here; the directory refuses them."""

    def __init__(self, directory: IDirectory, everywhere: Sequence[str] = ()) -> None:
        """``everywhere``: networks that may send for every active domain."""
        self._directory = directory
        self._everywhere = [ipaddress.ip_network(text) for text in everywhere]
        self._version: object = None
        self._networks: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, Domain]] = []
        self._primaries: frozenset[str] = frozenset()
        self._answers: dict[str, tuple[Domain, ...]] = {}

    def domains(self, peer: str) -> tuple[Domain, ...]:
        """The active domains that a client address may send for."""
        if self._version != self._directory.version:
            self._read()
        known = self._answers.get(peer)
        if known is None:
            if len(self._answers) >= REMEMBERED:
                self._answers.clear()
            known = self._answers[peer] = self._find(peer)
        return known

    def trusted(self, peer: str) -> bool:
        """Whether a client is of the house: it may send for a domain, or is a primary that is named by its address."""
        return bool(self.domains(peer)) or peer in self._primaries

    def _read(self) -> None:
        self._version = self._directory.version
        self._primaries = frozenset(host.name for domain in self._directory.domains() for host in domain.primaries)
        self._answers.clear()
        self._networks.clear()
        for domain in self._directory.domains():
            if not domain.active:
                continue
            self._networks.extend((network, domain) for network in self._everywhere)
            for text in domain.relay_from:
                try:
                    self._networks.append((ipaddress.ip_network(text, strict=False), domain))
                except ValueError:
                    continue

    def _find(self, peer: str) -> tuple[Domain, ...]:
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return ()
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return tuple(
            {
                domain.name: domain
                for network, domain in self._networks
                if network.version == address.version and address in network
            }.values()
        )
