"""The server's certificate: reload, and a broken pair."""

from __future__ import annotations

from pathlib import Path

import pytest
from OpenSSL import SSL
from twisted.logger import Logger

from hornetmail.net.tls import ServerTLS
from tests.net.certificates import Authority


def test_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a SIGHUP that changes nothing, or a broken file that takes the service's TLS away."""
    logged: list[object] = []
    monkeypatch.setattr(Logger, "failure", lambda *a, **k: logged.append(a))
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", names=["mx.test"])
    tls = ServerTLS(certificate, key)
    first = tls.getContext()
    authority.issue("server", names=["mx.test"])
    assert tls.reload()
    second = tls.getContext()
    assert second is not first
    certificate.write_text("rubbish")
    assert not tls.reload()
    assert tls.getContext() is second
    assert logged


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    """Would catch a start with a pair that cannot work."""
    authority = Authority(tmp_path)
    certificate, _ = authority.issue("a", names=["mx.test"])
    _, key = authority.issue("b", names=["mx.test"])
    with pytest.raises(SSL.Error):
        ServerTLS(certificate, key)
    with pytest.raises((SSL.Error, OSError)):
        ServerTLS(tmp_path / "missing", key)
