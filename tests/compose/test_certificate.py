"""The certificate that ``init`` makes, before clients that check strictly."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from hornetmail.compose.ground.certificate import self_signed

NOW = datetime.datetime.now(datetime.UTC)


def shaken(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """A handshake in memory, to its end. Raises ssl.SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)]
    for _ in range(10):
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    assert not ends


@pytest.mark.parametrize("name", ["mx.hornet.test", "localhost", "127.0.0.1", "::1"])
def test_whoever_trusts_it_may_check_strictly(tmp_path: Path, name: str) -> None:
    """Python's imaplib and smtplib check with VERIFY_X509_STRICT since 3.13: catches a certificate that is not for servers, or whose key may not
    sign handshakes, or a name of ours that it does not bear."""
    certificate, key = self_signed("mx.hornet.test", NOW)
    (tmp_path / "pair.pem").write_bytes(certificate + key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "pair.pem")
    client = ssl.create_default_context(cadata=certificate.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    shaken(server, client, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(server, client, "mx.other.test")


def test_it_says_what_it_is_for() -> None:
    """RFC 5280: an authority's certificate names its key (4.2.1.2), its signer's (4.2.1.1), and what the key may do (4.2.1.3, critical)."""
    certificate = x509.load_pem_x509_certificate(self_signed("mx.hornet.test", NOW)[0])
    extensions = certificate.extensions
    mine = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert mine == x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == mine.digest
    usage, limits = (extensions.get_extension_for_class(kind) for kind in (x509.KeyUsage, x509.BasicConstraints))
    assert (usage.critical, limits.critical) == (True, True)
    assert (usage.value.digital_signature, usage.value.key_cert_sign, usage.value.key_encipherment) == (True, True, False)
    assert (limits.value.ca, limits.value.path_length) == (True, 0)
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
