"""What everybody asks of the directory, from memory."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Attribute, Interface

from hornetmail.core.served import Domain, Mailbox


class IDirectory(Interface):
    """Domains and mailboxes from a versioned in-memory snapshot."""

    version = Attribute("grows with each change")

    def domain(name: str) -> Domain | None:
        """By folded name or alias."""

    def domains() -> Sequence[Domain]:
        """All, by name."""

    def mailbox(address: str) -> Mailbox | None:
        """By address or alias, any case (C25)."""

    def mailbox_by_id(identifier: int) -> Mailbox | None:
        """By its stable ID."""

    def addresses_of(mailbox: Mailbox) -> tuple[str, ...]:
        """Keys of every address that is this mailbox's, at its domains' aliases too (A43, A46)."""

    def mailboxes(domain: str = "") -> Sequence[Mailbox]:
        """All, or those of a domain, by address."""

    def with_roles(tenant: int) -> Sequence[Mailbox]:
        """Those of a tenant that have a role, by address, found without looking at the others."""

    def covered(address: str) -> Mailbox | None:
        """The mailbox, if the service covers it (C11, C12)."""
