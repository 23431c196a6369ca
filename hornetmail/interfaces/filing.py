"""Home with flags and folders (L13), for those who set it and those who want to know."""

from __future__ import annotations

from zope.interface import Attribute, Interface

from hornetmail.core.delivery.filing import Progress
from hornetmail.core.served import Mailbox


class IFiling(Interface):
    """What people did with mail goes to the primary over IMAP."""

    ways = Attribute("who may, and as whom: ``delivery.filing.ways.Ways``")

    def kick(domain: str) -> None:
        """A pass over a domain, soon."""

    async def progress(mailbox: int) -> Progress:
        """What became of a mailbox's mail."""

    async def retry(mailbox: Mailbox) -> int:
        """What the primary refused is tried anew; how many."""

    async def test(mailbox: Mailbox, user: str = "", password: str = "") -> tuple[str, ...]:
        """Log in now, as ``user`` if one is given, and list the folders, whatever was refused before; their names as on the wire. Raises Closed;
        WayRefused where a password of one's own is not wanted."""
