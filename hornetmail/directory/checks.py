"""What may enter the directory; every refusal says what and where."""

from __future__ import annotations

import ipaddress

import msgspec

from hornetmail.core.mail.address import Address, AddressError, fold_domain, parse
from hornetmail.core.served import Domain, Host, Mailbox
from hornetmail.core.text import unseen

MOST_BYTES = 1 << 50
MOST_MESSAGES = 1 << 31
"""Quotas above are typing errors."""


class DirectoryError(ValueError):
    """The directory does not take this; one line says what and why."""


class DirectoryMissing(DirectoryError):
    """There is no such domain or mailbox."""


class DirectoryConflict(DirectoryError):
    """It is there already, or something else needs it."""


def domain_name(text: str, where: str) -> str:
    """Folded. ``where`` names the place, like ``domain`` or ``$.aliases[0]``. Raises DirectoryError: ``domain "x y": not a domain``."""
    try:
        folded = fold_domain(text.strip())
    except AddressError:
        raise DirectoryError(f'{where} "{_shown(text)}": not a domain') from None
    if folded.startswith("["):
        raise DirectoryError(f'{where} "{_shown(text)}": an address literal, not a domain')
    return folded


def mailbox_address(text: str, where: str) -> Address:
    """Raises DirectoryError: ``mailbox "x": no @ in 'x'``."""
    try:
        address = parse(text.strip())
    except AddressError as error:
        raise DirectoryError(f'{where} "{_shown(text)}": {error}') from None
    if address.domain.startswith("["):
        raise DirectoryError(f'{where} "{_shown(text)}": an address literal, not a domain')
    if why := unseen(str(address)):
        raise DirectoryError(f'{where} "{_shown(text)}": {why}')
    if len(str(address).encode()) > 254:
        raise DirectoryError(f'{where} "{_shown(text)}": longer than 254 octets')
    return address


def display_name(text: str, where: str) -> str:
    """A name as people are shown it, at most 200 characters of it. Raises DirectoryError if it has something that cannot be seen."""
    name = text.strip()
    if why := unseen(name):
        raise DirectoryError(f'{where} "{_shown(name)}": {why}')
    return name[:200]


def parse_host(text: str, where: str = "host", *, port: int = 25) -> Host:
    """``HOST``, ``HOST:PORT``, an IPv4 address, or an IPv6 address in brackets if a port follows; ``port``: where none does. Raises DirectoryError."""
    whole = text.strip()
    name, chosen = whole, str(port)
    if whole.startswith("["):
        name, closed, rest = whole[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise DirectoryError(f'{where}: "{_shown(text)}" is not [ADDRESS]:PORT')
        chosen = rest[1:] if rest else chosen
    elif whole.count(":") == 1:
        name, _, chosen = whole.partition(":")
    if not (chosen.isascii() and chosen.isdigit()) or not 0 < int(chosen) < 65536:
        raise DirectoryError(f'{where}: "{_shown(text)}": "{_shown(chosen)}" is not a port')
    try:
        name = str(ipaddress.ip_address(name))
    except ValueError:
        try:
            name = fold_domain(name)
        except AddressError:
            raise DirectoryError(f'{where}: "{_shown(text)}" is not HOST:PORT') from None
        if name.startswith("["):
            raise DirectoryError(f'{where}: "{_shown(text)}" is not HOST:PORT') from None
    return Host(name, int(chosen))


def parse_network(text: str, where: str = "network") -> str:
    """An address or a network in the canonical form. Raises DirectoryError."""
    try:
        return str(ipaddress.ip_network(text.strip()))
    except ValueError as error:
        raise DirectoryError(f'{where}: "{_shown(text)}": {error}') from None


def checked_domain(domain: Domain) -> Domain:
    """The domain with everything folded. Raises DirectoryError."""
    name = domain_name(domain.name, "domain")
    aliases = tuple(dict.fromkeys(domain_name(alias, f'domain "{name}": alias') for alias in domain.aliases))
    if name in aliases:
        raise DirectoryConflict(f'domain "{name}": an alias of itself')
    if domain.tenant < 1:
        raise DirectoryError(f'domain "{name}": tenant {domain.tenant} is not a tenant')
    if not 1 <= domain.retention_days <= 36_525:
        raise DirectoryError(f'domain "{name}": kept {domain.retention_days} days: from 1 to 36525')
    if not 0 <= domain.portal_days <= 36_525:
        raise DirectoryError(f'domain "{name}": portal folders kept {domain.portal_days:g} days: from 1 to 36525, or 0 for good')
    _check_quota(f'domain "{name}"', domain.quota_bytes, domain.quota_messages)
    networks = tuple(parse_network(network, f'domain "{name}": relay_from') for network in domain.relay_from)
    if len(set(domain.primaries)) != len(domain.primaries):
        raise DirectoryError(f'domain "{name}": the same primary twice')
    return msgspec.structs.replace(domain, name=name, aliases=aliases, relay_from=networks)


def _check_quota(where: str, size: int | None, messages: int | None) -> None:
    if not 0 <= (size or 0) <= MOST_BYTES:
        raise DirectoryError(f"{where}: quota of {size} bytes: from 1 to {MOST_BYTES}, or 0 for none")
    if not 0 <= (messages or 0) <= MOST_MESSAGES:
        raise DirectoryError(f"{where}: quota of {messages} messages: from 1 to {MOST_MESSAGES}, or 0 for none")


def check_quota(mailbox: Mailbox) -> None:
    """Of a mailbox of its own. Raises DirectoryError."""
    _check_quota(f'mailbox "{mailbox.address}"', mailbox.quota_bytes, mailbox.quota_messages)


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text[:80])
