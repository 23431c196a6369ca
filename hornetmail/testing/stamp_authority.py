"""A time stamp authority for tests: ``openssl ts`` behind a small real HTTP server."""

from __future__ import annotations

import base64
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CONFIG = """[tsa]
default_tsa = one
[one]
serial = serial
signer_cert = tsa.pem
{certs}signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


class StampAuthority:
    """``whole_chain``: tokens carry the root as well, in the order in which OpenSSL writes it, which strict readers refuse. ``days``: how long the signer's
    certificate holds from ``now`` on, which is ``at`` in Unix seconds if given: the authority's clock stands there then. ``ca``: another one's, to share its root.

    ``status``, ``reply``: what is answered instead, if set. ``login``: what must be sent, ``user:password``. ``asked`` counts.
    """

    def __init__(
        self, place: Path, *, whole_chain: bool = False, days: float = 365.0, at: float = 0.0, ca: StampAuthority | None = None
    ) -> None:
        self.place = place
        self.at = at
        self.status = 200
        self.reply: bytes | None = None
        self.login = ""
        self.asked = 0
        place.mkdir(parents=True)
        now = datetime.fromtimestamp(at, UTC) if at else datetime.now(UTC)
        self.key: ec.EllipticCurvePrivateKey = ca.key if ca else ec.generate_private_key(ec.SECP256R1())
        self.root: x509.Certificate = ca.root if ca else _certificate("Test stamps root", None, self.key, self.key, now, 3650)
        signer_key = ec.generate_private_key(ec.SECP256R1())
        self.signer = _certificate(f"Test stamps {place.name}", self.root, self.key, signer_key, now, days)
        self.pem = self.root.public_bytes(Encoding.PEM).decode()
        (place / "ca.pem").write_text(self.pem)
        (place / "tsa.pem").write_bytes(self.signer.public_bytes(Encoding.PEM))
        (place / "tsa.key").write_bytes(signer_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (place / "serial").write_text("01\n")
        (place / "ts.cnf").write_text(_CONFIG.format(certs="certs = ca.pem\n" if whole_chain else ""))
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}/tsa"

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, query: bytes) -> bytes:
        """What ``openssl ts -reply`` says."""
        with self._lock:
            (self.place / "query").write_bytes(query)
            command = ["openssl", "ts", "-reply", "-config", "ts.cnf", "-queryfile", "query", "-out", "reply"]
            if self.at:
                stand = datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
                command = ["env", "TZ=UTC", "faketime", "-f", stand, *command]
            subprocess.run(command, cwd=self.place, check=True, capture_output=True)
            return (self.place / "reply").read_bytes()


def _handler(authority: StampAuthority) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            authority.asked += 1
            query = self.rfile.read(int(self.headers["Content-Length"]))
            status = authority.status
            if (
                authority.login
                and self.headers.get("Authorization") != "Basic " + base64.b64encode(authority.login.encode()).decode()
            ):
                status = 401
            body = authority.reply
            if body is None:
                body = authority.answer(query) if status == 200 else b"no"
            self.send_response(status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Not into the test's output."""

    return Handler


def _certificate(
    name: str,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    days: float,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if issuer is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())
