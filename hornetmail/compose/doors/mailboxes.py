"""The doors through which people read mail: IMAP and POP3, each with STARTTLS and with TLS from the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from hornetmail.archive.tree.site import EVERYBODY, Around, TreeSite
from hornetmail.archive.tree.tree import ArchiveTree
from hornetmail.compose.doors.doors import Doors
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.rooms.people import People
from hornetmail.compose.rooms.rooms import MailRooms
from hornetmail.core.served import Person, Scope
from hornetmail.interfaces.folders import IFolderTree
from hornetmail.net.serving.limits import Limits
from hornetmail.net.serving.listener import PumpFactory
from hornetmail.net.tls import ServerTLS
from hornetmail.servers.imap.session import ImapSession
from hornetmail.servers.imap.site import ImapPolicy, ImapSite
from hornetmail.servers.pop3 import POP3Policy, POP3Session, POP3Site
from hornetmail.wire.imap.server.server import ImapServerEngine
from hornetmail.wire.pop3.server import POP3ServerEngine


async def listen(base: Foundations, people: People, rooms: MailRooms, tls: ServerTLS, doors: Doors) -> None:
    """Open the doors that are configured."""
    archive = _archive(base, people, rooms)
    base.at_close(archive.close)
    for door, implicit in (("imap", False), ("imaps", True)):
        await doors.listen(door, _imap(base, people, rooms, archive, tls, implicit=implicit))
    for door, implicit in (("pop3", False), ("pop3s", True)):
        await doors.listen(door, _pop3(base, people, rooms, tls, implicit=implicit))


OTHERS = "Other users/"
"""Where the folders lie that others share (RFC 4314)."""

ARCHIVE = "Mail archive/"
"""Where the archive lies beside people's own folders, which may well be called Archive (rule 27)."""


def _imap(
    base: Foundations, people: People, rooms: MailRooms, archive: TreeSite, tls: ServerTLS, *, implicit: bool
) -> PumpFactory:
    def trees(person: Person) -> Sequence[tuple[str, IFolderTree]]:
        own = rooms.portal.tree(person.mailbox)
        others = rooms.portal.shared(person.mailbox, OTHERS)
        return [("", own), (OTHERS, others), (ARCHIVE, ArchiveTree(archive, person.mailbox, own, ARCHIVE))]

    config = base.config
    policy = ImapPolicy(starttls=not implicit, append_bytes=config.limits.max_size, hostname=config.hostname)
    site = ImapSite(base.reactor, base.threads, people.access, trees, base.bus, policy)
    plain = ImapSite(
        base.reactor, base.threads, people.access, trees, base.bus, msgspec.structs.replace(policy, plaintext_login=True)
    )
    return PumpFactory(
        lambda peer: ImapServerEngine(tls=implicit),
        lambda peer: ImapSession(plain if config.may_login_plainly(peer) else site),
        base.reactor,
        limits=Limits(config.limits.connections, config.limits.per_ip),
        refusal=b"* BYE too many connections, come later\r\n",
        tls_context_factory=tls,
        implicit_tls=implicit,
        rota=base.rota,
    )


def _archive(base: Foundations, people: People, rooms: MailRooms) -> TreeSite:
    """The archive as mail programs see it."""

    def scopes(mailbox: int) -> Mapping[str, Scope]:
        person = people.access.person(mailbox)
        if person is None:
            return {}
        widest = people.access.scope(person)
        found = {"": people.access.own_scope(person)}
        return found | {EVERYBODY: widest} if widest.addresses is None and widest.content else found

    archive = rooms.archive
    return TreeSite(
        Around(
            index=archive.index,
            writing=archive.writing,
            node=archive.holdings.node,
            texts=archive,
            scopes=scopes,
            person=people.access.person,
            redelivery=rooms.delivery.redelivery,
            audit=people.audit,
            bus=base.bus,
            in_thread=archive.holdings.in_thread,
            seconds=base.reactor.seconds,
        )
    )


def _pop3(base: Foundations, people: People, rooms: MailRooms, tls: ServerTLS, *, implicit: bool) -> PumpFactory:
    config = base.config
    policy = POP3Policy(hostname=config.hostname, starttls=not implicit)
    plain = msgspec.structs.replace(policy, plaintext_login=True)

    def expire() -> str:
        """Mail stays for good where it is at home; elsewhere it goes home, and what an emergency left goes some day."""
        return "" if any(domain.primaries for domain in people.directory.domains()) else "NEVER"

    site = POP3Site(base.reactor, people.access, rooms.portal, expire=expire)
    return PumpFactory(
        lambda peer: POP3ServerEngine(plain if config.may_login_plainly(peer) else policy),
        lambda peer: POP3Session(site),
        base.reactor,
        limits=Limits(config.limits.connections, config.limits.per_ip),
        refusal=b"-ERR [SYS/TEMP] too many connections, come later\r\n",
        tls_context_factory=tls,
        implicit_tls=implicit,
        rota=base.rota,
    )
