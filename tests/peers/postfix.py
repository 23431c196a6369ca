"""A private Postfix from Debian's package, on a loopback port, with its configuration pinned."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.peers.waiting import until

POSTFIX = "/usr/sbin/postfix"

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
proxywrite unix -       -       n       -       1       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""

MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {root}/log/maillog
maillog_file_prefixes = {root}
myhostname = primary.example.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_reject_unlisted_recipient = yes
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
smtpd_tls_security_level = none
smtp_tls_security_level = none
smtp_dns_support_level = disabled
smtputf8_enable = yes
message_size_limit = 40000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
notify_classes =
biff = no
local_header_rewrite_clients =
{more}
"""


def free_port() -> int:
    """A loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Postfix:
    """A Postfix instance. Start and stop it as often as needed; ``close`` removes it."""

    def __init__(self, more: str = "", port: int = 0) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hornetmail-postfix-"))
        self.root.chmod(0o755)
        self.port = port or free_port()
        self.config = self.root / "etc"
        for name in ("etc", "queue", "data", "log"):
            (self.root / name).mkdir()
        shutil.chown(self.root / "data", "postfix", "postfix")
        (self.config / "master.cf").write_text(MASTER.format(port=self.port))
        (self.config / "main.cf").write_text(MAIN.format(root=self.root, more=more))

    def _run(self, *words: str) -> None:
        subprocess.run([POSTFIX, "-c", str(self.config), *words], check=True, capture_output=True, timeout=60)

    def start(self) -> None:
        """Returns when it accepts connections."""
        self._run("start")
        until(self.answers, "Postfix answers")

    def stop(self) -> None:
        """Returns when its port is refused."""
        with suppress(subprocess.CalledProcessError):
            self._run("stop")
        until(lambda: not self.answers(), "Postfix is gone")

    def answers(self) -> bool:
        """Whether its port takes connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def log(self) -> str:
        """What it logged so far."""
        path = self.root / "log" / "maillog"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """Stop it and remove all of it."""
        if self.answers():
            self.stop()
        shutil.rmtree(self.root, ignore_errors=True)


class PostfixPrimary(Postfix):
    """An organisation's own server: it knows ``addresses`` and delivers to a Maildir each."""

    def __init__(self, addresses: Iterable[str], domain: str = "example.test", port: int = 0, more: str = "") -> None:
        known = list(addresses)
        super().__init__(
            f"virtual_mailbox_domains = {domain}\n"
            "virtual_mailbox_base = {root}/mail\n"
            "virtual_mailbox_maps = texthash:{root}/etc/mailboxes\n"
            "virtual_minimum_uid = 1\nvirtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\n" + more,
            port,
        )
        main = self.config / "main.cf"
        main.write_text(main.read_text().replace("{root}", str(self.root)))
        (self.config / "mailboxes").write_text("".join(f"{address} {address}/\n" for address in known))
        mail = self.root / "mail"
        mail.mkdir()
        shutil.chown(mail, 65534, 65534)

    def messages(self, address: str) -> list[bytes]:
        """What was delivered to a mailbox: the files as Postfix wrote them (LF line ends, its own lines on top)."""
        folder = self.root / "mail" / address / "new"
        return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.exists() else []

    def count(self) -> int:
        """Delivered messages over all mailboxes."""
        return sum(1 for _ in (self.root / "mail").glob("*/new/*"))
