"""Who a request to the API comes from: the socket, Basic credentials, or the session of a browser."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

from hornetmail.access.login import Access
from hornetmail.access.sessions import Sessions, csrf_matches
from hornetmail.web.api.operations import ApiError, Caller

COOKIE = "hornetmail"
CSRF_HEADER = b"x-csrf-token"
SAFE = frozenset({b"GET", b"HEAD"})


class Visitors:
    """Tells who is asking. ``proxies``: networks of reverse proxies that are believed about the client's address and TLS.
    ``plain_ok``: whether a client at an address may send a password without TLS (``Config.may_login_plainly``)."""

    def __init__(
        self,
        access: Access,
        sessions: Sessions,
        *,
        proxies: Sequence[str] = (),
        plain_ok: Callable[[str], bool] = lambda peer: False,
    ) -> None:
        self._access = access
        self._sessions = sessions
        self._proxies = tuple(ipaddress.ip_network(network) for network in proxies)
        self._plain_ok = plain_ok

    def peer(self, request: Any) -> str:
        """The client's IP address; behind a proxy that we believe, what it says."""
        host = str(getattr(request.getClientAddress(), "host", "") or "")
        if self._believed(host):
            for hop in reversed(header(request, b"x-forwarded-for").split(",")):
                hop = hop.strip().strip("[]")
                if hop and not self._believed(hop):
                    return hop if _is_address(hop) else host
        return host

    def secure(self, request: Any) -> bool:
        """Whether the client speaks TLS, to us or to a proxy that we believe."""
        if request.isSecure():
            return True
        host = str(getattr(request.getClientAddress(), "host", "") or "")
        return self._believed(host) and header(request, b"x-forwarded-proto").strip().lower() == "https"

    def may_send_password(self, request: Any) -> bool:
        """Whether a password may be taken over this connection."""
        return self.secure(request) or self._plain_ok(self.peer(request))

    def token(self, request: Any) -> str:
        """The session token in the cookie, or ``""``."""
        return (request.getCookie(COOKIE.encode()) or b"").decode("ascii", "replace")

    def csrf_ok(self, request: Any, given: str) -> bool:
        """Whether that came from one of our own pages."""
        return csrf_matches(self.token(request), given)

    async def by_session(self, request: Any, door: str = "http") -> Caller:
        """The caller by the browser's session; ``person`` None without one. CSRF is the caller's to check."""
        session = await self._sessions.find(self.token(request))
        person = self._access.person(session.mailbox) if session is not None else None
        if session is None or person is None:
            return Caller(door=door, peer=self.peer(request))
        return Caller(person, door, peer=self.peer(request), session=session.id)

    async def caller(self, request: Any) -> Caller:
        """For the HTTP API: Basic credentials, or a session whose CSRF token came along unless the method is safe. Raises ApiError, AccessRefused."""
        basic = basic_credentials(request)
        if basic is not None:
            if not self.may_send_password(request):
                raise ApiError(403, "tls_needed", "passwords are taken over TLS only")
            peer = self.peer(request)
            return Caller(await self._access.login(*basic, "http", peer), "http", peer=peer)
        caller = await self.by_session(request)
        if caller.person is not None and request.method not in SAFE and not self.csrf_ok(request, header(request, CSRF_HEADER)):
            raise ApiError(403, "csrf", "the header X-CSRF-Token is missing or wrong")
        return caller

    async def local_caller(self, request: Any) -> Caller:
        """For the socket in the data directory: the local administrator, or whoever ``X-HornetMail-As`` names and proves to be. Raises
        ApiError, AccessRefused."""
        named, basic = header(request, b"x-hornetmail-as"), basic_credentials(request)
        if not named and basic is None:
            return Caller(door="socket", root=True)
        if basic is None or (named and basic[0] != named):
            raise ApiError(401, "login_needed", f"acting as {named or 'somebody'} needs that person's password")
        return Caller(await self._access.login(*basic, "socket", ""), "socket")

    def _believed(self, host: str) -> bool:
        if not self._proxies or not _is_address(host):
            return False
        address: Any = ipaddress.ip_address(host)
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._proxies)


def header(request: Any, name: bytes) -> str:
    """A header's last value as UTF-8, or ``""``. Names are bytes throughout: Twisted's cache of names must not mix them with text."""
    return (request.getHeader(name) or b"").decode("utf-8", "replace")


def basic_credentials(request: Any) -> tuple[str, str] | None:
    """User and password of an ``Authorization: Basic`` header (RFC 7617, UTF-8), or None. Raises ApiError on a broken one."""
    given = header(request, b"authorization")
    if not given:
        return None
    scheme, _, encoded = given.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        if not colon:
            raise ValueError
    except (ValueError, binascii.Error):
        raise ApiError(400, "invalid", "Authorization: Basic base64(ADDRESS:PASSWORD) is understood") from None
    return user, password


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
