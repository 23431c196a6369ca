"""Everybody around a mail, as its row of the index holds them."""

from __future__ import annotations

import msgspec

from hornetmail.core.mail.address import key_of
from hornetmail.mime.reading.mail import Named


class Arrival(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One time that a mail came: by which feed, when, to whom (rule 13). ``leaf``: the number of its leaf, -1 in an index from before it was noted."""

    feed: str
    received: float
    sender: str
    login: str
    recipients: tuple[str, ...]
    owners: tuple[str, ...] = ()
    leaf: int = -1


class People(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Everybody around a mail: the header's people, and who each arrival's envelope names."""

    sender: Named | None
    to: tuple[Named, ...]
    cc: tuple[Named, ...]
    bcc: tuple[Named, ...]
    arrivals: tuple[Arrival, ...]

    def shown(self) -> tuple[str, ...]:
        """To and Cc, as addresses."""
        return tuple(n.address or n.name for n in (*self.to, *self.cc))

    def envelope(self) -> tuple[str, ...]:
        """All envelope recipients, each once, in order of coming."""
        return tuple(dict.fromkeys(r for a in self.arrivals for r in a.recipients))

    def senders(self) -> frozenset[str]:
        """Keys of those who are known to have sent it: authenticated, never by a header (rule 14)."""
        return frozenset(key_of(a.login) for a in self.arrivals if a.login)

    def receivers(self) -> frozenset[str]:
        """Keys of all envelope recipients."""
        return frozenset(key_of(r) for a in self.arrivals for r in a.recipients)

    def owners(self) -> frozenset[str]:
        """Keys of others with a right to it (an imported mailbox's owner)."""
        return frozenset(key_of(o) for a in self.arrivals for o in a.owners)

    def hidden(self) -> tuple[str, ...]:
        """Envelope recipients that the header does not name, and a header's Bcc."""
        named = {key_of(n.address) for n in (*self.to, *self.cc)}
        rest = [r for r in self.envelope() if key_of(r) not in named]
        return tuple(dict.fromkeys((*rest, *(n.address for n in self.bcc if key_of(n.address) not in named))))


people_decoder = msgspec.msgpack.Decoder(People)
