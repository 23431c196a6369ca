"""The SMTP doors: MX, relay, submission with STARTTLS and with TLS from the start, LMTP."""

from __future__ import annotations

import msgspec

from hornetmail.compose.doors.doors import Doors
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.rooms.people import People
from hornetmail.compose.rooms.rooms import MailRooms
from hornetmail.net.serving.limits import Limits
from hornetmail.net.serving.listener import PumpFactory
from hornetmail.net.tls import ServerTLS
from hornetmail.servers.guessing import Guesses, GuessLimits
from hornetmail.servers.relay import RelayNetworks
from hornetmail.servers.smtp import Services, SMTPSession
from hornetmail.servers.smtp_policy import SMTPPolicy, lmtp, mx, relay, submission
from hornetmail.wire.smtp.server import ServerEngine

IMPLICIT = frozenset({"submissions"})


def services_of(base: Foundations, people: People, rooms: MailRooms) -> Services:
    """What everything that takes mail works with."""
    return Services(
        queue=rooms.queue,
        directory=people.directory,
        access=people.access,
        recipients=rooms.delivery.recipients,
        portal=rooms.portal,
        relay=RelayNetworks(people.directory, base.config.relay.networks),
        guesses=Guesses(
            base.reactor,
            GuessLimits(session=base.config.limits.unknown_recipients, network=base.config.limits.unknown_per_network),
        ),
        bus=base.bus,
        meters=base.meters,
        clock=base.reactor,
    )


async def listen(base: Foundations, people: People, rooms: MailRooms, tls: ServerTLS, doors: Doors) -> None:
    """Open the SMTP doors that are configured."""
    config = base.config
    services = services_of(base, people, rooms)
    for door, policy in {
        "mx": mx(config.hostname),
        "relay": relay(config.hostname),
        "submission": submission(config.hostname),
        "submissions": submission(config.hostname),
        "lmtp": lmtp(config.hostname),
    }.items():
        limited = msgspec.structs.replace(
            policy,
            max_size=config.limits.max_size,
            max_recipients=config.limits.recipients,
            max_received=config.limits.hops,
            max_errors=config.limits.errors,
        )
        await doors.listen(door, _factory(base, services, limited, tls, implicit=door in IMPLICIT))


def _factory(base: Foundations, services: Services, policy: SMTPPolicy, tls: ServerTLS, *, implicit: bool) -> PumpFactory:
    def policy_for(peer: str) -> SMTPPolicy:
        """Log-in without TLS is taken where the configuration says so."""
        if policy.auth and base.config.may_login_plainly(peer):
            return plain
        return policy

    plain = msgspec.structs.replace(policy, auth_plaintext=True, tls_required=False)
    engines = {id(each): each.engine(starttls=not implicit) for each in (policy, plain)}
    limits = base.config.limits
    return PumpFactory(
        lambda peer: ServerEngine(engines[id(policy_for(peer))]),
        lambda peer: SMTPSession(policy_for(peer), services),
        base.reactor,
        limits=Limits(limits.connections, limits.per_ip),
        refusal=f"421 4.7.0 {base.config.hostname} too many connections, come later\r\n".encode(),
        tls_context_factory=tls,
        implicit_tls=implicit,
        rota=base.rota,
    )
