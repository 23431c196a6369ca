"""TLS: our certificate for those who come, and the check of those we go to.

Outgoing, ``check_peer`` is the one place where a host name is held against a certificate: Twisted's own check lets certificates without
subjectAltName pass (findings.md), so it is not used.
"""

from __future__ import annotations

import hashlib
import ipaddress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLContextFactory, IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from hornetmail.core.served import TLSPolicy
from hornetmail.wire.engine import TLSPeer

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL:!MD5:!DSS"
"""For TLS 1.2; TLS 1.3 has only good ones."""


class TLSRefused(Exception):
    """The peer's certificate does not show that it is who we want; the message says why."""


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLContextFactory)
class ServerTLS:
    """Our certificate, from PEM files. Give it as ``tls_context_factory``.

    Raises OpenSSL.SSL.Error or OSError when the files are no matching pair. ``reload`` reads them anew (SIGHUP); connections that are
    up keep what they have. A broken pair on reload is logged and changes nothing; ``trouble`` says what is wrong with it then, and is ``""`` otherwise.
    """

    log = Logger()

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._context = self._load()
        self.trouble = ""

    @property
    def ends(self) -> float:
        """When the certificate in force is not valid any more, Unix seconds."""
        certificate = SSL.Connection(self._context, None).get_certificate()
        assert certificate is not None
        return certificate.to_cryptography().not_valid_after_utc.timestamp()

    def reload(self) -> bool:
        """Whether the new pair is in force."""
        try:
            self._context = self._load()
        except (SSL.Error, OSError) as error:
            self.log.failure("the certificate in {path} cannot be used, the old one stays", path=str(self._certificate))
            reasons = str(error) if isinstance(error, OSError) else "; ".join(str(one[-1]) for one in error.args[0] or ())
            self.trouble = f"{self._certificate} and its key cannot be used: {reasons or 'they are no pair of PEM files'}"
            return False
        self.trouble = ""
        return True

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """See IOpenSSLServerConnectionCreator."""
        return SSL.Connection(self._context, None)

    def getContext(self) -> SSL.Context:
        """See IOpenSSLContextFactory."""
        return self._context

    def _load(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        _modern(context)
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.use_certificate_chain_file(str(self._certificate))
        context.use_privatekey_file(str(self._key))
        context.check_privatekey()
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return context


class ClientTLS:
    """Contexts for outgoing connections. ``roots``: a PEM file with the authorities to trust, None for the system's."""

    def __init__(self, roots: Path | None = None) -> None:
        self._roots = roots
        self._contexts: dict[bool, SSL.Context] = {}

    def to(self, name: str, policy: TLSPolicy) -> Caller:
        """What ``transport.startTLS`` takes to reach ``name`` under a policy."""
        return Caller(self._context(policy is TLSPolicy.VERIFY), name)

    def _context(self, verify: bool) -> SSL.Context:
        context = self._contexts.get(verify)
        if context is None:
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            _modern(context)
            if verify:
                if self._roots is None:
                    context.set_default_verify_paths()
                else:
                    context.load_verify_locations(str(self._roots))
                context.set_verify(SSL.VERIFY_PEER, lambda connection, certificate, error, depth, ok: bool(ok))
            else:
                context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
            self._contexts[verify] = context
        return context


@implementer(IOpenSSLClientConnectionCreator)
class Caller:
    """A TLS connection to one name."""

    def __init__(self, context: SSL.Context, name: str) -> None:
        self.context = context
        self._name = name

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """See IOpenSSLClientConnectionCreator."""
        connection = SSL.Connection(self.context, None)
        if not _is_address(self._name):
            connection.set_tlsext_host_name(self._name.encode("ascii", "ignore"))
        return connection


@implementer(IPolicyForHTTPS)
class HTTPSPolicy:
    """For Twisted's HTTP client: the chain must be good, and the certificate be for the host that was dialled. ``roots`` as for ClientTLS."""

    def __init__(self, roots: Path | None = None) -> None:
        self._roots = roots

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """See IPolicyForHTTPS."""
        name = hostname.decode("ascii").strip("[]")
        return _Checked(self._roots, name)


@implementer(IOpenSSLClientConnectionCreator)
class _Checked:
    """Aborts the handshake of a connection whose certificate is another's."""

    def __init__(self, roots: Path | None, name: str) -> None:
        self._roots = roots
        self._name = name

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """See IOpenSSLClientConnectionCreator."""
        # A context of its own: once a connection was made of it, it takes no callback any more.
        caller = ClientTLS(self._roots).to(self._name, TLSPolicy.VERIFY)

        def look(connection: SSL.Connection, where: int, _: int) -> None:
            if where & SSL.SSL_CB_HANDSHAKE_DONE:
                try:
                    check_peer(connection, self._name)
                except TLSRefused:
                    tlsProtocol.failVerification(Failure())

        caller.context.set_info_callback(look)
        return caller.clientConnectionForTLS(tlsProtocol)


def check_peer(connection: SSL.Connection, name: str) -> None:
    """Hold the certificate of a verified chain against the name that was dialled. Raises TLSRefused."""
    try:
        if _is_address(name):
            verify_ip_address(connection, name)
        else:
            verify_hostname(connection, name)
    except (VerificationError, CertificateError) as error:
        raise TLSRefused(f"the certificate is not for {name}: {error or type(error).__name__}") from None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _modern(context: SSL.Context) -> None:
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(CIPHERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)


_EXPORTER = b"EXPORTER-Channel-Binding"
_WEAK_HASHES = ("md5", "sha1")


def channel_binding(connection: SSL.Connection, kind: str) -> bytes | None:
    """``tls-exporter`` (RFC 9266), of TLS 1.3 alone, because of older versions it does not say which channel it is; or ``tls-server-end-point``, the hash of our
    certificate (RFC 5929 section 4). None for others, and where the certificate's signature names no hash."""
    if kind == "tls-exporter":
        modern = connection.get_protocol_version_name() == "TLSv1.3"
        return bytes(connection.export_keying_material(_EXPORTER, 32, b"")) if modern else None
    if kind != "tls-server-end-point":
        return None
    certificate = connection.get_certificate(as_cryptography=True)
    named = certificate.signature_hash_algorithm if certificate is not None else None
    if certificate is None or named is None:
        return None
    return hashlib.new("sha256" if named.name in _WEAK_HASHES else named.name, certificate.public_bytes(Encoding.DER)).digest()


def tls_peer(transport: Any) -> TLSPeer:
    """What is known of the TLS connection below a transport."""
    connection = transport.getHandle()
    return TLSPeer(connection.get_protocol_version_name(), connection.get_cipher_name() or "", _server_name(connection))


def _server_name(connection: Any) -> str:
    name = connection.get_servername()
    return "" if name is None else bytes(name).decode("ascii", "replace")
