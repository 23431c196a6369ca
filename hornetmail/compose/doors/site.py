"""The web site and the API: over HTTP and HTTPS for people and scripts, over a UNIX socket for the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from twisted.protocols.tls import TLSMemoryBIOFactory

from hornetmail import __version__
from hornetmail.compose.doors.doors import Doors
from hornetmail.compose.doors.mail import services_of
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.rooms.alarms import Alarms
from hornetmail.compose.rooms.people import People
from hornetmail.compose.rooms.rooms import MailRooms
from hornetmail.net.tls import ServerTLS
from hornetmail.runtime.jobs import Jobs
from hornetmail.servers.submit import Submission
from hornetmail.web.api.api import Api
from hornetmail.web.api.http import HttpFace, site
from hornetmail.web.api.local import listen_locally
from hornetmail.web.api.rooms import Rooms
from hornetmail.web.api.visitors import Visitors
from hornetmail.web.site import Site


class Pages:
    """Built once; every HTTP door shows the same."""

    def __init__(
        self,
        base: Foundations,
        people: People,
        rooms: MailRooms,
        jobs: Jobs,
        health: Callable[[], Mapping[str, str]],
        alarms: Alarms,
        playground: Any = None,
    ) -> None:
        self._base = base
        config = base.config
        self.api = Api(
            Rooms(
                directory=people.directory,
                access=people.access,
                sessions=people.sessions,
                clock=base.reactor,
                audit=people.audit,
                second=people.second,
                bus=base.bus,
                queue=rooms.queue,
                modes=rooms.delivery.modes,
                recipients=rooms.delivery.recipients,
                portal=rooms.portal,
                archive=rooms.archive,
                retention=rooms.archive.keeping,
                media=rooms.media,
                safety=rooms.safety,
                redelivery=rooms.delivery.redelivery,
                strays=rooms.delivery.strays,
                expiry=rooms.expiry,
                meters=base.meters,
                health=health,
                bounce=rooms.delivery.give_up,
                root_keys=rooms.root_keys,
                unlocking=rooms.unlocking,
                stamps=rooms.archive.stamps,
                jobs=jobs,
                alarms=alarms.book,
                alarm_addresses=alarms.addresses,
                hostname=config.hostname,
                version=__version__,
            )
        )
        self._visitors = Visitors(people.access, people.sessions, proxies=config.web.proxies, plain_ok=config.may_login_plainly)
        face = self._face("http").resource()
        self._site = Site(
            self.api,
            self._visitors,
            now=base.reactor.seconds,
            offload=base.offload,
            submit=Submission(services_of(base, people, rooms), config.hostname),
            playground=playground,
            prefix=config.web.prefix,
            below=dict.fromkeys(("api", "healthz", "metrics"), face),
        )

    def _face(self, door: Literal["http", "socket"]) -> HttpFace:
        return HttpFace(self.api, self._visitors, door=door, figures=self._base.meters.render)

    async def listen_locally(self, doors: Doors) -> None:
        """The socket in the data directory: whoever may open it is the local administrator. Raises OSError."""
        base = self._base
        pages = site(self._face("socket").resource(), base.reactor)
        doors.keep("socket", await listen_locally(base.reactor, base.disk, base.config.socket, pages))

    async def listen(self, tls: ServerTLS, doors: Doors) -> None:
        """HTTP and HTTPS. Raises CannotListen."""
        pages = site(self._site, self._base.reactor)
        await doors.listen("http", pages)
        await doors.listen("https", TLSMemoryBIOFactory(tls, False, pages, self._base.reactor))
