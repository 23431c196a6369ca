"""Time stamp authorities and the state of stamping, as values (A33, A34)."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

AUTHORITIES = "stamp_authorities"
"""Setting of the installation: ``Settings`` as JSON."""

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
MAX_AUTHORITIES = 20
MAX_CERTIFICATES = 50


class Authority(msgspec.Struct, frozen=True, gc=False):
    """One that is asked for stamps, in the order of the list. ``user``, ``password``: its log-in (HTTP Basic), or ``""``. ``certificates``: those of its CA
    that are selected, by SHA-256 fingerprint in hex; a token counts only if its chain ends at a self-signed one of them."""

    name: str
    url: str
    user: str = ""
    password: str = ""
    certificates: tuple[str, ...] = ()


class CACertificate(msgspec.Struct, frozen=True, gc=False):
    """A CA certificate that was installed: its SHA-256 fingerprint in hex, and PEM."""

    fingerprint: str
    pem: str


class StampSettings(msgspec.Struct, frozen=True, gc=False):
    """All of it."""

    authorities: tuple[Authority, ...] = ()
    certificates: tuple[CACertificate, ...] = ()

    def authority(self, name: str) -> Authority | None:
        """By name."""
        return next((one for one in self.authorities if one.name == name), None)

    def pem_of(self, authority: Authority) -> str:
        """The certificates that an authority's tokens are held against."""
        return "".join(one.pem for one in self.certificates if one.fingerprint in authority.certificates)


class StampState(msgspec.Struct, frozen=True, gc=False):
    """How it stands. ``stamps``: how many there are. ``stamped``: leaves under the newest, made at ``at`` (Unix seconds, the authority's time) by
    ``authority``, good by itself until ``until``. ``unstamped``: leaves since, those on their way to a medium included. ``failing`` since ``since``: why the last try
    failed, or ``""``; the next is at ``again``. ``authorities``: how many could be asked; none: nothing proves the time of anything new."""

    authorities: int = 0
    stamps: int = 0
    stamped: int = 0
    unstamped: int = 0
    at: float = 0.0
    authority: str = ""
    until: float = 0.0
    failing: str = ""
    since: float = 0.0
    again: float = 0.0


def read_settings(text: str) -> StampSettings:
    """From the setting's value; ``""``: none. Raises ValueError."""
    return msgspec.json.decode(text, type=StampSettings) if text else StampSettings()


def write_settings(settings: StampSettings) -> str:
    """The setting's value."""
    return msgspec.json.encode(settings).decode()


def problem_of(authority: Authority) -> str:
    """What is wrong with one, or ``""``."""
    if not NAME.fullmatch(authority.name):
        return "a name is 1 to 40 of a-z, 0-9, dot, hyphen and underscore"
    try:
        url = urlsplit(authority.url)
        good = url.scheme in ("http", "https") and bool(url.hostname) and not url.username and url.port != 0
    except ValueError:
        good = False
    if not good or not authority.url.isascii() or any(one <= " " for one in authority.url) or len(authority.url) > 1000:
        return "a URL like https://stamps.example/tsa, without a log-in in it"
    if authority.url.startswith("http:") and authority.password:
        return "a password goes over https only"
    return ""
