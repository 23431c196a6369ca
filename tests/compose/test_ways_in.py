"""What people are told of the ways in."""

from __future__ import annotations

from pathlib import Path

from hornetmail import config as configuration
from hornetmail.compose.ground.ways_in import mail_servers, panel, ways_in


def test_ports_and_encryption(tmp_path: Path) -> None:
    """Catches a port of another door, or TLS promised where STARTTLS is spoken."""
    file = tmp_path / "hornetmail.toml"
    file.write_text(configuration.write_default(tmp_path, "mx.example.test", 20_000))
    config = configuration.load(file)
    shown = {(one.protocol, one.port, one.encryption) for one in mail_servers(config)}
    assert shown >= {("IMAP", 20_993, "TLS"), ("IMAP", 20_143, "STARTTLS"), ("POP3", 20_995, "TLS"), ("SMTP", 20_587, "STARTTLS")}
    assert mail_servers(config)[0].port == 20_993, "the best first"
    assert ways_in(config)[0].endswith(panel(config))
