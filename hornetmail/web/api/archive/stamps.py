"""Time stamps (A33, A34): how they stand, the authorities that are asked, and the CA certificates that their stamps are held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from hornetmail.access.rights import Right
from hornetmail.archive.proof.tokens import fingerprint, read_certificates, self_signed
from hornetmail.core.archive.archived import NoAuthority
from hornetmail.core.archive.stamps import (
    AUTHORITIES,
    MAX_AUTHORITIES,
    MAX_CERTIFICATES,
    Authority,
    CACertificate,
    StampSettings,
    StampState,
    problem_of,
    read_settings,
    write_settings,
)
from hornetmail.web.api.operations import ApiError, Caller, Done, Nothing, Operation, Secret, missing, need
from hornetmail.web.api.rooms import Rooms

MAX_PEM = 1 << 17


class StampsView(msgspec.Struct, frozen=True, kw_only=True):
    """How stamping stands; times are Unix seconds, 0: never. ``authorities``: how many can be asked; none: nothing proves the time of new mail. ``stamped``: leaves
    (mails, and the audit log's) under the newest of ``stamps``, made at ``at`` by ``authority``, good by itself until ``until``; ``unstamped``: leaves since. ``failing`` since
    ``since``: why the last try failed, or ``""``; ``again``: when the next is."""

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


class AuthorityView(msgspec.Struct, frozen=True, kw_only=True):
    """An authority, in the order of asking. ``user``: its log-in; ``password``: whether one is set. ``certificates``: fingerprints of those selected."""

    name: str
    url: str
    user: str
    password: bool
    certificates: list[str]


class CertificateView(msgspec.Struct, frozen=True, kw_only=True):
    """An installed CA certificate: SHA-256 fingerprint in hex, subject, its end (Unix seconds), whether it signs itself, and who uses it."""

    fingerprint: str
    subject: str
    until: float
    root: bool
    used_by: list[str]


class Stamping(msgspec.Struct, frozen=True):
    """All of it."""

    state: StampsView
    authorities: list[AuthorityView]
    certificates: list[CertificateView]


class AuthorityName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which authority."""

    name: str


class AuthorityRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An authority, new or changed: it is asked after those that are there, or keeps its place. ``certificates``: fingerprints of installed ones that its stamps must lead
    to, at least one of them a root. ``password`` None: as it was. ``first``: it is asked first from now on."""

    name: str
    url: str
    certificates: list[str]
    user: str = ""
    password: Secret | None = None
    first: bool = False


class CertificateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PEM, one certificate or several."""

    pem: Annotated[str, msgspec.Meta(max_length=MAX_PEM, extra={"lines": True})]


class CertificateName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which certificate: its SHA-256 fingerprint in hex."""

    fingerprint: str


class CertificatesAdded(msgspec.Struct, frozen=True):
    """Their fingerprints, those that were there already included."""

    fingerprints: list[str]


def stamps_view(state: StampState) -> StampsView:
    """What status and pages show."""
    return StampsView(**msgspec.structs.asdict(state))


def _settings(rooms: Rooms) -> StampSettings:
    return read_settings(rooms.directory.setting(AUTHORITIES, ""))


async def _change(rooms: Rooms, change: Callable[[StampSettings], StampSettings]) -> None:
    await rooms.directory.change_setting(AUTHORITIES, lambda text: write_settings(change(read_settings(text))))


async def show(rooms: Rooms, caller: Caller, _: Nothing) -> Stamping:
    """State, authorities, certificates."""
    settings = _settings(rooms)
    return Stamping(
        stamps_view(need(rooms.stamps, "archive").state()),
        [
            AuthorityView(
                name=one.name, url=one.url, user=one.user, password=bool(one.password), certificates=list(one.certificates)
            )
            for one in settings.authorities
        ],
        [_certificate_view(settings, one) for one in settings.certificates],
    )


def _certificate_view(settings: StampSettings, one: CACertificate) -> CertificateView:
    (certificate,) = read_certificates(one.pem)
    return CertificateView(
        fingerprint=one.fingerprint,
        subject=certificate.subject.rfc4514_string(),
        until=certificate.not_valid_after_utc.timestamp(),
        root=self_signed(certificate),
        used_by=[each.name for each in settings.authorities if one.fingerprint in each.certificates],
    )


async def set_authority(rooms: Rooms, caller: Caller, request: AuthorityRequest) -> Done:
    """Add one, or change it."""

    def change(settings: StampSettings) -> StampSettings:
        there = settings.authority(request.name)
        password = request.password
        if password is None:
            password = there.password if there and there.user == request.user else ""
        chosen = tuple(dict.fromkeys(one.lower().replace(":", "") for one in request.certificates))
        authority = Authority(request.name, request.url.strip(), request.user, password, chosen)
        if problem := problem_of(authority):
            raise ApiError(400, "invalid", f"$.name, $.url: {problem}")
        roots = {each.fingerprint: self_signed(read_certificates(each.pem)[0]) for each in settings.certificates}
        if unknown := [one for one in chosen if one not in roots]:
            raise ApiError(400, "invalid", f"$.certificates: {unknown[0][:80]} is not installed")
        if not any(roots[one] for one in chosen):
            raise ApiError(400, "invalid", "$.certificates: select at least one that signs itself; install the CA's root first")
        others = tuple(one for one in settings.authorities if one.name != request.name)
        if len(others) >= MAX_AUTHORITIES:
            raise ApiError(400, "invalid", f"no more than {MAX_AUTHORITIES} authorities")
        if request.first:
            authorities = (authority, *others)
        elif there is None:
            authorities = (*others, authority)
        else:
            authorities = tuple(authority if one is there else one for one in settings.authorities)
        return StampSettings(authorities, settings.certificates)

    await _change(rooms, change)
    return Done()


async def remove_authority(rooms: Rooms, caller: Caller, request: AuthorityName) -> Done:
    """Ask it no more; its stamps stay good."""

    def change(settings: StampSettings) -> StampSettings:
        if settings.authority(request.name) is None:
            raise missing(f"no time stamp authority {request.name}")
        return StampSettings(tuple(one for one in settings.authorities if one.name != request.name), settings.certificates)

    await _change(rooms, change)
    return Done()


async def test_authority(rooms: Rooms, caller: Caller, request: AuthorityName) -> Done:
    """Ask it for a stamp on nothing, check it, and throw it away."""
    try:
        await need(rooms.stamps, "archive").test(request.name)
    except KeyError:
        raise missing(f"no time stamp authority {request.name}") from None
    return Done()


async def add_certificates(rooms: Rooms, caller: Caller, request: CertificateRequest) -> CertificatesAdded:
    """Install CA certificates."""
    try:
        found = read_certificates(request.pem)
        new = [CACertificate(fingerprint(one), one.public_bytes(Encoding.PEM).decode()) for one in found]
        for certificate in found:
            certificate.subject.rfc4514_string()
            certificate.public_key()
    except ValueError:
        raise ApiError(400, "invalid", "$.pem: no certificates in PEM") from None

    def change(settings: StampSettings) -> StampSettings:
        known = {one.fingerprint: one for one in (*settings.certificates, *new)}
        if len(known) > MAX_CERTIFICATES:
            raise ApiError(400, "invalid", f"no more than {MAX_CERTIFICATES} certificates")
        return StampSettings(settings.authorities, tuple(known.values()))

    await _change(rooms, change)
    return CertificatesAdded([one.fingerprint for one in new])


async def remove_certificate(rooms: Rooms, caller: Caller, request: CertificateName) -> Done:
    """Not one that an authority's stamps are held against."""

    def change(settings: StampSettings) -> StampSettings:
        if request.fingerprint not in {one.fingerprint for one in settings.certificates}:
            raise missing(f"no certificate {request.fingerprint[:80]}")
        if users := [one.name for one in settings.authorities if request.fingerprint in one.certificates]:
            raise ApiError(409, "conflict", f"it is selected for {', '.join(users)}")
        return StampSettings(
            settings.authorities, tuple(one for one in settings.certificates if one.fingerprint != request.fingerprint)
        )

    await _change(rooms, change)
    return Done()


async def stamp(rooms: Rooms, caller: Caller, _: Nothing) -> StampsView:
    """Stamp now: everything archived so far, and the audit log."""
    try:
        return stamps_view(await need(rooms.stamps, "archive").stamp())
    except NoAuthority as error:
        raise ApiError(409, "no_stamp_authority", str(error)) from None


_A = "/archive/authorities"
_C = "/archive/certificates"

OPERATIONS = (
    Operation("stamps.show", "GET", "/archive/stamps", Nothing, Stamping, Right.OPERATE, "Show how time stamps stand", show),
    Operation("archive.timestamp", "POST", "/archive/timestamp", Nothing, StampsView, Right.OPERATE, "Stamp the archive", stamp),
    Operation("authority.set", "POST", _A, AuthorityRequest, Done, Right.OPERATE, "Set up a time stamp authority", set_authority),
    Operation(
        "authority.remove",
        "DELETE",
        _A + "/{name}",
        AuthorityName,
        Done,
        Right.OPERATE,
        "Take out an authority",
        remove_authority,
    ),
    Operation(
        "authority.test", "POST", _A + "/{name}/test", AuthorityName, Done, Right.OPERATE, "Test an authority", test_authority
    ),
    Operation(
        "certificate.add",
        "POST",
        _C,
        CertificateRequest,
        CertificatesAdded,
        Right.OPERATE,
        "Install CA certificates of time stamp authorities",
        add_certificates,
    ),
    Operation(
        "certificate.remove",
        "DELETE",
        _C + "/{fingerprint}",
        CertificateName,
        Done,
        Right.OPERATE,
        "Take out a CA certificate",
        remove_certificate,
    ),
)
