"""The web site and the API: over HTTP and HTTPS for people and scripts, over a UNIX socket for the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import IResource

from hornetmail import __version__
from hornetmail.compose.doors.doors import Doors
from hornetmail.compose.doors.mail import services_of
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.ground.ways_in import mail_servers
from hornetmail.compose.rooms.alarms import Alarms
from hornetmail.compose.rooms.people import People
from hornetmail.compose.rooms.rooms import MailRooms
from hornetmail.net.tls import ServerTLS
from hornetmail.runtime.jobs import Jobs
from hornetmail.servers.submit import Submission
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.door.http import HttpFace, site
from hornetmail.web.api.door.local import listen_locally
from hornetmail.web.api.door.visitors import Visitors
from hornetmail.web.api.rooms import Rooms
from hornetmail.web.restoring import RestorePages
from hornetmail.web.site import Mounted, Site


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
        restoring: Any = None,
    ) -> None:
        self._base = base
        config = base.config
        self.restore_page = f"https://{config.hostname}{config.web.prefix.rstrip('/')}/restore"
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
                filing=rooms.delivery.filing,
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
                mail_servers=mail_servers(config),
                hostname=config.hostname,
                version=__version__,
            )
        )
        self._visitors = Visitors(people.access, people.sessions, proxies=config.web.proxies, plain_ok=config.may_login_plainly)
        face = self._face("http").resource()
        below: dict[str, IResource] = dict.fromkeys(("api", "healthz", "metrics"), face)
        if restoring is not None:
            below["restore"] = RestorePages(restoring, self._visitors.secure, self._visitors.may_send_password).resource()
        self._site = Site(
            self.api,
            self._visitors,
            now=base.reactor.seconds,
            offload=base.offload,
            submit=Submission(services_of(base, people, rooms), config.hostname),
            playground=playground,
            prefix=config.web.prefix,
            below=below,
            restorable=(lambda: restoring.state.phase == "open") if restoring is not None else bool,
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


class RestoreDoors:
    """The doors of the web while a restore has the data directory to itself: its page, and nothing else."""

    def __init__(self, base: Foundations, restoring: Any, tls: ServerTLS) -> None:
        config = base.config
        nobody: Any = None
        visitors = Visitors(nobody, nobody, proxies=config.web.proxies, plain_ok=config.may_login_plainly)
        pages = RestorePages(restoring, visitors.secure, visitors.may_send_password).resource(alone=True)
        self._base, self._tls, self._doors = base, tls, Doors(base)
        prefix = "/" + config.web.prefix.strip("/") if config.web.prefix.strip("/") else ""
        self._site = site(Mounted(prefix, pages, {}), base.reactor)

    async def listen(self) -> None:
        """Raises CannotListen."""
        await self._doors.listen("http", self._site)
        await self._doors.listen("https", TLSMemoryBIOFactory(self._tls, False, self._site, self._base.reactor))

    async def shut(self) -> None:
        """No new connections."""
        await self._doors.shut()
