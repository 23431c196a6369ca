"""LOGIN and AUTHENTICATE (RFC 3501 section 6.2, RFC 4959)."""

from __future__ import annotations

import binascii
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from twisted.internet.task import deferLater

from hornetmail.access.login import AccessRefused
from hornetmail.core.served import Person
from hornetmail.net.serving.pump import Answer, Result
from hornetmail.servers.imap.mounts import Mounts
from hornetmail.servers.sasl import LogIn
from hornetmail.wire.imap.answers.answers import Bye, Continuation, Tagged
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.sasl import SASLError

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

DOOR = "imap"
_PRIVATE = Tagged("NO", "Log in over TLS only", "PRIVACYREQUIRED")
_FAILED = Tagged("NO", "Log-in failed", "AUTHENTICATIONFAILED")


def login(session: ImapSession, event: c.Login) -> Result:
    """LOGIN."""
    if not session.may_log_in():
        return _PRIVATE
    try:
        user, password = event.user.decode(), event.password.decode()
    except UnicodeDecodeError:
        return _refused(session)
    return _entered(session, session.site.access.login(user, password, DOOR, session.wire.peer[0]))


def authenticate(session: ImapSession, event: c.Authenticate) -> Result:
    """AUTHENTICATE."""
    if not session.may_log_in():
        return _PRIVATE
    try:
        session.exchange = LogIn(session.site.access, session.wire, DOOR, event.mechanism)
    except SASLError:
        return Tagged("NO", "Unknown mechanism", "CANNOT")
    return _step(session, session.exchange, event.initial)


def response(session: ImapSession, event: c.Response) -> Result:
    """What the client said to a challenge."""
    exchange = session.exchange
    if event.data is None or exchange is None:
        session.exchange = None
        return Tagged("BAD", "Cancelled")
    return _step(session, exchange, event.data)


async def _step(session: ImapSession, exchange: LogIn, data: bytes | None) -> Answer:
    try:
        said = await exchange.step(data)
    except SASLError as error:
        session.exchange = None
        return Tagged("NO", f"{error}"[:1].upper() + f"{error}"[1:], "AUTHENTICATIONFAILED")
    except AccessRefused:
        session.exchange = None
        return await _refused(session)
    if isinstance(said, bytes):
        return Continuation(binascii.b2a_base64(said, newline=False).decode("ascii"))
    session.exchange = None
    return _welcome(session, said)


async def _entered(session: ImapSession, asked: Awaitable[Person]) -> Answer:
    try:
        person = await asked
    except AccessRefused:
        return await _refused(session)
    return _welcome(session, person)


def _welcome(session: ImapSession, person: Person) -> Answer:
    session.person = person
    session.mounts = Mounts(session.site.trees(person))
    return Tagged("OK", "Logged in", "CAPABILITY " + session.capabilities())


async def _refused(session: ImapSession) -> Answer:
    """Each time later, and at last for good."""
    session.tries += 1
    policy = session.site.policy
    await deferLater(session.site.reactor, policy.login_delay * session.tries)
    if session.tries >= policy.login_tries:
        return [_FAILED, Bye("Too many failed log-ins")]
    return _FAILED
