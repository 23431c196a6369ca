"""Where people find the portal, as far as the configuration file tells."""

from __future__ import annotations

from hornetmail.config import Config
from hornetmail.core.served import MailServer

NAMES = {"http": "http", "https": "https", "imap": "IMAP", "imaps": "IMAP with TLS", "pop3": "POP3", "pop3s": "POP3 with TLS"}
NAMES |= {"submission": "sending (SMTP with log-in)", "submissions": "sending with TLS"}

PROTOCOLS = {"imaps": "IMAP", "imap": "IMAP", "pop3s": "POP3", "pop3": "POP3", "submissions": "SMTP", "submission": "SMTP"}
"""Doors that mail programs use, the better one of each kind first (RFC 8314 section 3.3: TLS from the start)."""


def panel(config: Config) -> str:
    """The address of the web site as people reach it from outside, as far as the file tells."""
    for door in ("https", "http"):
        if port := _port(config, door):
            shown = "" if port == {"https": 443, "http": 80}[door] else f":{port}"
            return f"{door}://{config.hostname}{shown}{config.web.prefix.rstrip('/')}"
    return f"https://{config.hostname}{config.web.prefix.rstrip('/')}"


def ways_in(config: Config) -> list[str]:
    """Lines that tell people where the portal is."""
    lines = [f"  in the browser: {panel(config)}"]
    for door in PROTOCOLS:
        if port := _port(config, door):
            lines.append(f"  {NAMES[door]}: {config.hostname}, port {port}")
    return lines


def mail_servers(config: Config) -> list[MailServer]:
    """What a mail program has to be told (C25)."""
    return [
        MailServer(protocol, config.hostname, port, "TLS" if door.endswith("s") else "STARTTLS")
        for door, protocol in PROTOCOLS.items()
        if (port := _port(config, door))
    ]


def _port(config: Config, door: str) -> int:
    """The first TCP port of a door, 0 if it is closed or no TCP port."""
    for endpoint in config.listen.door(door):
        kind, _, rest = endpoint.removeprefix("haproxy:").partition(":")
        port = rest.partition(":")[0].removeprefix("port=")
        if kind.startswith("tcp") and port.isdigit():
            return int(port)
    return 0
