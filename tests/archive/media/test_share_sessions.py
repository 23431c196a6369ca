"""How often one logs in to the server of a share; no server is needed to tell."""

from __future__ import annotations

from typing import Any

import pytest

from hornetmail.archive.media import smb
from hornetmail.archive.media.medium import PlaceAway
from hornetmail.archive.media.settings import ShareSettings
from hornetmail.archive.media.smb import SharePlace


class Transport:
    """A connection's socket."""

    connected = True


class Connection:
    """What smbprotocol keeps of a server."""

    def __init__(self) -> None:
        self.transport: Transport | None = Transport()

    def receive(self, *_: Any) -> None:
        """Answers nothing."""

    def disconnect(self, *_: Any) -> None:
        """Let go."""


class Server:
    """In place of the client library's log-in."""

    def __init__(self) -> None:
        self.sessions: list[dict[str, Any]] = []
        self.connections: list[Connection] = []

    def register_session(self, host: str, connection_cache: dict[str, Any], **more: Any) -> None:
        self.sessions.append({"host": host, **more})
        connection = Connection()
        self.connections.append(connection)
        connection_cache[host] = connection


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(smb.smbclient, "register_session", made.register_session)
    return made


def visited(place: SharePlace) -> object:
    with place.visit() as there:
        return there


def test_one_session_for_many_visits(server: Server) -> None:
    """Would catch a log-in with each object that is read or written, on a server that counts them and locks the account."""
    place = SharePlace(ShareSettings("nas", "archive", user="hornet", domain="OFFICE"), "secret", lambda: 0.0)
    for _ in range(5):
        visited(place)
    assert len(server.sessions) == 1
    one = server.sessions[0]
    assert (one["username"], one["password"], one["port"], one["encrypt"]) == ("OFFICE\\hornet", "secret", 445, None)
    assert one["auth_protocol"] == "ntlm"
    place.close()
    visited(place)
    assert len(server.sessions) == 2


@pytest.mark.parametrize("lost", ["closed", "gone"])
def test_a_connection_that_was_lost(server: Server, lost: str) -> None:
    """Would catch a share that stays away once its connection broke, although the server is there."""
    place = SharePlace(ShareSettings("nas", "archive"), "", lambda: 0.0)
    visited(place)
    if lost == "closed":
        transport = server.connections[0].transport
        assert transport is not None
        transport.connected = False
    else:
        server.connections[0].transport = None
    visited(place)
    visited(place)
    assert len(server.sessions) == 2
    assert server.sessions[0]["auth_protocol"] == "negotiate"
    assert (server.sessions[0]["username"], server.sessions[0]["password"]) == (None, None)


def test_a_connection_that_breaks_meanwhile(server: Server) -> None:
    """Would catch a broken connection that is used again by the next visit, and an error of the socket that is not told as a share that is away."""
    place = SharePlace(ShareSettings("nas", "archive", encrypted=True), "", lambda: 0.0)
    for error in (ConnectionError("reset"), TimeoutError("no answer"), OSError(5, "broken")):
        with pytest.raises(PlaceAway), place.visit():
            raise error
    visited(place)
    assert len(server.sessions) == 4
    assert server.sessions[0]["encrypt"] is True


def test_a_log_in_that_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a refused log-in that leaves half a session which the next visit takes for a whole one."""
    place = SharePlace(ShareSettings("nas", "archive"), "", lambda: 0.0)

    def refused(host: str, connection_cache: dict[str, Any], **_: Any) -> None:
        connection_cache[host] = Connection()
        raise ValueError("no such user")

    monkeypatch.setattr(smb.smbclient, "register_session", refused)
    with pytest.raises(PlaceAway, match="cannot log in to the server: no such user"):
        visited(place)
    monkeypatch.setattr(smb.smbclient, "register_session", server.register_session)
    visited(place)
    assert len(server.sessions) == 1
