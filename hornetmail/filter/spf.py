"""Whether a domain lets an address send for it: check_host of RFC 7208, for the MAIL FROM identity (section 2.4)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from hornetmail.core.mail.address import AddressError, parse
from hornetmail.core.mail.spf import (
    SPF,
    Address,
    Directive,
    Kind,
    Record,
    SPFSyntaxError,
    SPFVerdict,
    asks_for,
    expand,
    macro_address,
    select,
    usable_name,
)
from hornetmail.core.mail.spf import parse as parse_record
from hornetmail.interfaces.senders import ISenderCheck
from hornetmail.net.resolver import IResolver, ResolveError

TERMS = 10
"""Mechanisms and redirects that ask DNS, in all records together; and names of one mx or ptr (section 4.6.4)."""

VOIDS = 2
"""Answers without a record (section 4.6.4)."""

SECONDS = 20.0
"""For everything (section 4.6.4)."""

MOST = 16
"""Senders looked up side by side: strangers' name servers that hang keep no more deliveries from ending."""


@implementer(ISenderCheck)
class SenderCheck:
    """Asks DNS through the service's own resolver. With ``MOST`` senders under way the next one hears temperror."""

    def __init__(self, clock: IReactorTime, resolver: IResolver) -> None:
        self._clock = clock
        self._resolver = resolver
        self._running = 0

    async def spf(self, peer: str, helo: str, sender: str) -> SPFVerdict:
        """See ISenderCheck."""
        try:
            address = _address(peer)
            path = parse(sender)
        except (ValueError, AddressError) as error:
            return SPFVerdict(SPF.NONE, f"SPF says nothing: {error}")
        later = f"SPF of {path.domain} cannot be looked up now"
        if self._running >= MOST:
            return SPFVerdict(SPF.TEMPERROR, f"{later}: {MOST} others are being looked up")
        self._running += 1
        running = Deferred.fromCoroutine(_Check(self._resolver, address, helo, path.local, path.domain).run())
        running.addTimeout(SECONDS, self._clock)
        try:
            return await running
        except DeferredTimeout:
            return SPFVerdict(SPF.TEMPERROR, f"{later}: no answer within {SECONDS:g} s")
        finally:
            self._running -= 1


class _Ended(Exception):
    """The evaluation ends here with this result."""

    def __init__(self, result: SPF, why: str) -> None:
        super().__init__(why)
        self.result = result
        self.why = why


def _address(text: str) -> Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


class _Check:
    """One evaluation: who asks, and how much it may still cost."""

    def __init__(self, resolver: IResolver, address: Address, helo: str, local: str, domain: str) -> None:
        self._resolver = resolver
        self._address = address
        self._domain = domain
        self._terms = 0
        self._voids = 0
        self._names: Sequence[str] | None = None
        local = local or "postmaster"
        self._macros = {
            "s": f"{local}@{domain}",
            "l": local,
            "o": domain,
            "i": macro_address(address),
            "v": "in-addr" if address.version == 4 else "ip6",
            "h": helo,
        }

    async def run(self) -> SPFVerdict:
        """The verdict on the reverse-path."""
        try:
            result = await self._check(self._domain)
        except _Ended as ended:
            trouble = "cannot be looked up now" if ended.result is SPF.TEMPERROR else "cannot be used"
            return SPFVerdict(ended.result, f"SPF of {self._domain} {trouble}: {ended.why}")
        if result is SPF.NONE:
            return SPFVerdict(result, f"{self._domain} has no SPF record")
        return SPFVerdict(result, f"SPF of {self._domain} says {result} for {self._address}")

    async def _check(self, domain: str) -> SPF:
        """check_host (section 4). Raises _Ended for both kinds of error."""
        record = await self._record(domain)
        if record is None:
            return SPF.NONE
        for directive in record.directives:
            if await self._matches(directive, domain):
                return directive.result
        if not record.redirect:
            return SPF.NEUTRAL
        self._count()
        target = await self._target(record.redirect, domain)
        result = await self._check(target)
        if result is SPF.NONE:
            _unusable(f"its redirect leads to {target[:80]!r}, which has no SPF record")
        return result

    async def _record(self, domain: str) -> Record | None:
        if "." not in domain or not usable_name(domain):
            return None
        try:
            texts = [b"".join(each.strings) for each in await self._records(domain, "TXT", void=False)]
            text = select(texts)
            return None if text is None else parse_record(text)
        except SPFSyntaxError as error:
            _unusable(f"{domain}: {error}")

    async def _matches(self, directive: Directive, domain: str) -> bool:
        kind = directive.kind
        if kind is Kind.ALL:
            return True
        if directive.network is not None:
            return self._address in directive.network
        self._count()
        target = await self._target(directive.domain, domain)
        match kind:
            case Kind.INCLUDE:
                result = await self._check(target)
                if result is SPF.NONE:
                    _unusable(f"it includes {target[:80]!r}, which has no SPF record")
                return result is SPF.PASS
            case Kind.EXISTS:
                return bool(await self._records(target, "A"))
            case Kind.A:
                return await self._holds(target, directive)
            case Kind.MX:
                hosts = [each.exchange.to_text(omit_final_dot=True) for each in await self._records(target, "MX")]
                if len(hosts) > TERMS:
                    _unusable(f"{target[:80]!r} has more than {TERMS} mail hosts")
                for host in hosts:
                    if await self._holds(host, directive):
                        return True
                return False
        names = await self._validated()
        return any(_below(name, target) for name in names)

    async def _holds(self, name: str, directive: Directive) -> bool:
        """Whether an address of the name and ours have the first bits in common (section 5.3)."""
        length = directive.four if self._address.version == 4 else directive.six
        return any(self._address in ipaddress.ip_network((found, length), strict=False) for found in await self._addresses(name))

    async def _target(self, text: str, domain: str) -> str:
        """The domain that a term means; it may be one that DNS cannot be asked for, and then has no records (section 4.8)."""
        if not text:
            return domain
        values = {**self._macros, "d": domain}
        if asks_for(text, "p"):
            values["p"] = _best(await self._validated(), domain)
        # Nothing in it is an escape, as it would be in a zone file.
        return expand(text, values).lower().replace("\\", "\\\\")

    async def _validated(self) -> Sequence[str]:
        """Names of the address that lead back to it, of the first ten (section 5.5); asked once. DNS trouble counts as none."""
        if self._names is None:
            names: list[str] = []
            for each in (await self._quietly(self._address.reverse_pointer, "PTR"))[:TERMS]:
                name = each.target.to_text(omit_final_dot=True).lower()
                kind = "A" if self._address.version == 4 else "AAAA"
                if any(ipaddress.ip_address(found.address) == self._address for found in await self._quietly(name, kind)):
                    names.append(name)
            self._names = names
        return self._names

    async def _quietly(self, name: str, kind: str) -> Sequence[Any]:
        try:
            return await self._records(name, kind)
        except _Ended as ended:
            if ended.result is SPF.PERMERROR:
                raise
            return ()

    async def _addresses(self, name: str) -> Sequence[str]:
        return [str(each.address) for each in await self._records(name, "A" if self._address.version == 4 else "AAAA")]

    async def _records(self, name: str, kind: str, *, void: bool = True) -> Sequence[Any]:
        if not usable_name(name):
            return ()
        try:
            found = await self._resolver.records(name, kind)
        except ResolveError as error:
            if error.permanent:
                return ()
            raise _Ended(SPF.TEMPERROR, error.text) from None
        if void and not found:
            self._voids += 1
            if self._voids > VOIDS:
                _unusable(f"more than {VOIDS} lookups lead to nothing")
        return found

    def _count(self) -> None:
        self._terms += 1
        if self._terms > TERMS:
            _unusable(f"more than {TERMS} lookups are needed")


def _unusable(why: str) -> NoReturn:
    raise _Ended(SPF.PERMERROR, why)


def _below(name: str, domain: str) -> bool:
    return name == domain or name.endswith("." + domain)


def _best(names: Sequence[str], domain: str) -> str:
    """The ``p`` macro (section 7.3): the domain itself, else a name below it, else any, else ``unknown``."""
    ranked = sorted(names, key=lambda name: (name != domain, not _below(name, domain)))
    return ranked[0] if ranked else "unknown"
