"""Time stamp tokens (RFC 3161, RFC 5816): what is asked of an authority, what a token states, and whether it can be believed.

Two programs judge a token. The first is strict about DER; tokens that it cannot read (OpenSSL writes certificates of a SET out of order) are
judged by ``openssl ts -verify``. Both look at the certificates as of the time that the token states, and neither asks whether one was revoked.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

MAX_TOKEN = 1 << 18
OPENSSL_SECONDS = 20.0

_HASHES = {
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
}
_WEAK = {
    bytes.fromhex("2a864886f70d0205"): "MD5",
    bytes.fromhex("2b0e03021a"): "SHA-1",
    bytes.fromhex("608648016503040204"): "SHA-224",
}
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_TST_INFO = bytes.fromhex("2a864886f70d0109100104")

YEAR_2031 = datetime(2031, 1, 1, tzinfo=UTC).timestamp()
"""Until then keys of 112 bits of strength sign what can be believed (NIST SP 800-131A)."""


class TokenWrong(ValueError):
    """A token that proves nothing; the message says why."""


class Token(msgspec.Struct, frozen=True, gc=False):
    """What a token states. ``at``: Unix seconds. ``imprint`` is the hash by ``algorithm`` (a name of ``hashlib``) of what was stamped. ``issuer`` (DER) and
    ``serial`` name the signer's certificate; ``digest`` is the OID of the hash that was signed."""

    at: float
    algorithm: str
    imprint: bytes
    nonce: int | None
    issuer: bytes
    serial: int
    digest: bytes
    certificates: tuple[bytes, ...]


class Query(msgspec.Struct, frozen=True, gc=False):
    """A question to an authority: its DER, and the nonce that the answer must have."""

    data: bytes
    nonce: int


def ask_for(data: bytes) -> Query:
    """The query that asks for a stamp on ``data``, by SHA-512, with a nonce and the signer's certificates."""
    request = TimestampRequestBuilder(data=data, hash_algorithm=HashAlgorithm.SHA512).build()
    assert request.nonce is not None
    return Query(request.as_bytes(), request.nonce)


def token_in(reply: bytes) -> bytes:
    """The token in an authority's reply (TimeStampResp). Raises TokenWrong: refused (with the authority's words), or no reply at all."""
    try:
        fields = list(_fields(_only(reply, 0x30)))
        state = list(_fields(fields[0].content))
        status = int.from_bytes(state[0].content, "big")
        words = [
            one.content.decode("utf-8", "replace") for part in state[1:] if part.tag == 0x30 for one in _fields(part.content)
        ]
    except (ValueError, IndexError):
        raise TokenWrong("what came is no reply of a time stamp authority") from None
    if status > 1 or len(fields) < 2:
        raise TokenWrong(f"the authority refused (status {status}){': ' + '; '.join(words) if words else ''}")
    return fields[1].whole


def read_token(token: bytes) -> Token:
    """Raises TokenWrong if it cannot be read."""
    if len(token) > MAX_TOKEN:
        raise TokenWrong("longer than any token")
    try:
        return _read(token)
    except (ValueError, IndexError, OverflowError) as error:
        raise TokenWrong(f"it does not read as a time stamp token ({error})") from None


def check(token: bytes, data: bytes, certificates: Sequence[x509.Certificate], nonce: int | None = None) -> Token:
    """What it states, if it stamps ``data`` and its chain ends at a self-signed one of these certificates. Blocking. Raises TokenWrong."""
    stated = read_token(token)
    if hashlib.new(stated.algorithm, data).digest() != stated.imprint:
        raise TokenWrong("it stamps something else")
    if nonce is not None and stated.nonce != nonce:
        raise TokenWrong("it answers another query (nonce)")
    roots = [one for one in certificates if self_signed(one)]
    if not roots:
        raise TokenWrong("no CA certificate is selected that signs itself")
    others = [one for one in certificates if not self_signed(one)]
    try:
        reply = decode_timestamp_response(_as_reply(token))
    except ValueError:
        _second_opinion(token, data, roots, others, stated.at)
        return stated
    try:
        VerifierBuilder(roots=roots, intermediates=others).build().verify_message(reply, data)
    except (VerificationError, ValueError) as error:
        raise TokenWrong(f"its signature or chain does not hold: {_short(error)}") from None
    return stated


def good_until(stated: Token, certificates: Sequence[x509.Certificate]) -> float:
    """Until when it can be believed by itself, in Unix seconds: its chain's first end, or the end of its weakest algorithm."""
    if stated.digest in _WEAK:
        return 0.0
    return min((_end(one) for one in chain(stated, certificates)), default=0.0)


def chain(stated: Token, certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The signer's certificate and those above it, as far as they are known."""
    pool = [*certificates, *(one for raw in stated.certificates if (one := loaded(raw)))]
    found = [one for one in pool if one.serial_number == stated.serial and one.issuer.public_bytes() == stated.issuer][:1]
    while found and not self_signed(found[-1]):
        above = [one for one in pool if one.subject == found[-1].issuer and one not in found]
        if not above:
            break
        found.append(above[0])
    return found


def loaded(raw: bytes) -> x509.Certificate | None:
    """A certificate (DER) as far as it is one; None: what a token or a stamp brings along need not be."""
    try:
        return _whole(x509.load_der_x509_certificate(raw))
    except (ValueError, x509.InvalidVersion):
        return None


def _whole(certificate: x509.Certificate) -> x509.Certificate:
    """With all of it read that is asked for later. Raises ValueError, InvalidVersion, which is none."""
    certificate.issuer.public_bytes(), certificate.subject.public_bytes()
    return certificate


def self_signed(certificate: x509.Certificate) -> bool:
    """Whether it is a root."""
    if certificate.issuer != certificate.subject:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def read_certificates(pem: str | bytes) -> list[x509.Certificate]:
    """All in a PEM text. Raises ValueError."""
    try:
        return [_whole(one) for one in x509.load_pem_x509_certificates(pem.encode() if isinstance(pem, str) else pem)]
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from None


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of its DER, in hex: what people compare."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _end(certificate: x509.Certificate) -> float:
    ends = certificate.not_valid_after_utc.timestamp()
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return ends
    strength = 128
    if isinstance(key, rsa.RSAPublicKey):
        strength = 128 if key.key_size >= 3000 else 112 if key.key_size >= 2048 else 80
    elif isinstance(key, ec.EllipticCurvePublicKey):
        strength = 128 if key.key_size >= 250 else 112 if key.key_size >= 224 else 80
    return ends if strength >= 128 else min(ends, YEAR_2031 if strength >= 112 else 0.0)


def _second_opinion(
    token: bytes, data: bytes, roots: Sequence[x509.Certificate], others: Sequence[x509.Certificate], at: float
) -> None:
    """``openssl ts -verify``. What it gets is no secret: the head of a log, a token, certificates."""
    with tempfile.TemporaryDirectory(prefix="hornetmail-stamp-") as name:
        place = Path(name)
        for file, content in (
            ("token", token),
            ("data", data),
            ("roots", b"".join(one.public_bytes(Encoding.PEM) for one in roots)),
            ("others", b"".join(one.public_bytes(Encoding.PEM) for one in others)),
        ):
            (place / file).write_bytes(content)
        command = ["openssl", "ts", "-verify", "-token_in", "-in", "token", "-data", "data", "-CAfile", "roots"]
        command += ["-attime", str(int(at))]
        command += ["-untrusted", "others"] if others else []
        try:
            done = subprocess.run(command, cwd=place, capture_output=True, timeout=OPENSSL_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TokenWrong(f"it takes openssl to judge it, and that does not run here: {error}") from None
    if done.returncode or b"Verification: OK" not in done.stdout + done.stderr:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if ":error:" in line]
        raise TokenWrong(f"openssl refuses it: {lines[-1].rpartition(':error:')[2] if lines else done.returncode}")


def _short(error: Exception) -> str:
    text = str(error)
    _, found, rest = text.partition("Verify error: ")
    return rest.partition('"')[0] if found else text[:160]


def _as_reply(token: bytes) -> bytes:
    """Granted, and the token: as an authority sends it."""
    body = b"\x30\x03\x02\x01\x00" + token
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    head = bytes([0x30, len(body)]) if len(body) < 128 else bytes([0x30, 0x80 | len(size)]) + size
    return head + body


class _Field(msgspec.Struct, frozen=True, gc=False):
    tag: int
    content: bytes
    whole: bytes


def _fields(data: bytes) -> Iterator[_Field]:
    """DER, one level of it (X.690 section 8.1). Raises ValueError."""
    at = 0
    while at < len(data):
        if at + 2 > len(data) or data[at] & 0x1F == 0x1F:
            raise ValueError(f"no field at byte {at}")
        length, start = data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4:
                raise ValueError(f"a field of unknown length at byte {at}")
            length, start = int.from_bytes(data[start : start + count], "big"), start + count
        if start + length > len(data):
            raise ValueError(f"a field is cut off at byte {at}")
        yield _Field(data[at], data[start : start + length], data[at : start + length])
        at = start + length


def _only(data: bytes, tag: int) -> bytes:
    """The content of the only field, which has that tag."""
    fields = list(_fields(data))
    if len(fields) != 1 or fields[0].tag != tag:
        raise ValueError("something else is there")
    return fields[0].content


def _read(token: bytes) -> Token:
    kind, wrapped = _fields(_only(token, 0x30))
    if kind.content != _SIGNED_DATA or wrapped.tag != 0xA0:
        raise ValueError("no signed data")
    _, _, inner, *rest = _fields(_only(wrapped.content, 0x30))
    content_kind, content = _fields(inner.content)
    if content_kind.content != _TST_INFO:
        raise ValueError("something else is signed")
    info = list(_fields(_only(_only(content.content, 0x04), 0x30)))
    algorithm, imprint = _fields(info[2].content)
    name = _HASHES.get(next(_fields(algorithm.content)).content)
    if name is None:
        raise ValueError("a hash that is not SHA-256, SHA-384 or SHA-512")
    nonces = [int.from_bytes(one.content, "big", signed=True) for one in info[5:] if one.tag == 0x02]
    certificates = [one.whole for part in rest if part.tag == 0xA0 for one in _fields(part.content) if one.tag == 0x30]
    signers = [one for part in rest if part.tag == 0x31 for one in _fields(part.content)]
    if len(signers) != 1:
        raise ValueError(f"{len(signers)} signers")
    _, sid, digest, *_ = _fields(signers[0].content)
    issuer, serial = _fields(sid.content)
    return Token(
        at=_time(info[4].content.decode("ascii")),
        algorithm=name,
        imprint=imprint.content,
        nonce=nonces[0] if nonces else None,
        issuer=issuer.whole,
        serial=int.from_bytes(serial.content, "big", signed=True),
        digest=next(_fields(digest.content)).content,
        certificates=tuple(certificates),
    )


def _time(text: str) -> float:
    """GeneralizedTime of RFC 3161 section 2.4.2: ``20260528120000Z``, with or without a fraction."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")
