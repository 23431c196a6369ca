"""A resolver that knows what it was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dns.rdata
from zope.interface import implementer

from hornetmail.core.served import Host
from hornetmail.net.resolver import IResolver, ResolveError, literal


@implementer(IResolver)
class FakeResolver:
    """``hosts``: name to addresses; ``mx``: domain to hosts; ``zone``: name and type to records as a zone file writes them, or made already.
    A value that is a ResolveError is raised."""

    def __init__(
        self,
        hosts: Mapping[str, Sequence[str] | ResolveError] | None = None,
        mx: Mapping[str, Sequence[Host] | ResolveError] | None = None,
        zone: Mapping[tuple[str, str], Sequence[Any] | ResolveError] | None = None,
    ) -> None:
        self.hosts = dict(hosts or {})
        self.mx = dict(mx or {})
        self.zone = dict(zone or {})
        self.asked: list[str] = []

    async def addresses(self, name: str) -> Sequence[str]:
        """See IResolver."""
        self.asked.append(name)
        if there := literal(name):
            return (there,)
        found = self.hosts.get(name, ResolveError(f"{name} does not exist", permanent=True))
        if isinstance(found, ResolveError):
            raise found
        return found

    async def mail_hosts(self, domain: str) -> Sequence[Host]:
        """See IResolver."""
        self.asked.append(domain)
        found = self.mx.get(domain)
        if isinstance(found, ResolveError):
            raise found
        if found is None:
            await self.addresses(domain)
            return (Host(domain),)
        return found

    async def records(self, name: str, kind: str) -> Sequence[Any]:
        """See IResolver."""
        self.asked.append(f"{name} {kind}")
        found = self.zone.get((name.lower(), kind), ())
        if isinstance(found, ResolveError):
            raise found
        return [dns.rdata.from_text("IN", kind, each) if isinstance(each, str) else each for each in found]
