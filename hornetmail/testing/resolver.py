"""A resolver that knows what it was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zope.interface import implementer

from hornetmail.core.served import Host
from hornetmail.net.resolver import IResolver, ResolveError, literal


@implementer(IResolver)
class FakeResolver:
    """``hosts``: name to addresses; ``mx``: domain to hosts. A value that is a ResolveError is raised."""

    def __init__(
        self,
        hosts: Mapping[str, Sequence[str] | ResolveError] | None = None,
        mx: Mapping[str, Sequence[Host] | ResolveError] | None = None,
    ) -> None:
        self.hosts = dict(hosts or {})
        self.mx = dict(mx or {})
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
