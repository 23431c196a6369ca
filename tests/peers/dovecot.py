"""A private Dovecot from Debian's package, on a loopback port: 2.3 as in Debian 12, or 2.4, whose configuration is written otherwise, as in
Debian 13."""

from __future__ import annotations

import imaplib
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.peers.postfix import free_port
from tests.peers.waiting import until

DOVECOT = "/usr/sbin/dovecot"

COMMON = """\
base_dir = {root}/run
log_path = {root}/log
protocols = imap
listen = 127.0.0.1
ssl = no
namespace inbox {{
  inbox = yes
  separator = /
}}
first_valid_uid = 1
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""

AS_2_3 = """\
disable_plaintext_auth = no
mail_location = maildir:{root}/mail/%u
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={root}/mail/%u
}}
"""

AS_2_4 = """\
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = {root}/mail/%{{user}}
passdb static {{
  password = {password}
}}
userdb static {{
  fields {{
    uid = {uid}
    gid = {gid}
    home = {root}/mail/%{{user}}
  }}
}}
"""


MASTER_2_3 = """\
auth_master_user_separator = *
passdb {{
  driver = static
  args = password={master}
  master = yes
  pass = yes
}}
"""

MASTER_2_4 = """\
auth_master_user_separator = *
passdb masters {{
  passdb_driver = static
  passdb_static_password = {master}
  passdb_master = yes
  passdb_result_success = continue
}}
"""


EXTENSIONS_2_3 = """\
mail_plugins = acl
mail_attribute_dict = file:%h/attributes
plugin {
  acl = vfile
}
protocol imap {
  mail_plugins = acl imap_acl
  imap_metadata = yes
}
"""

EXTENSIONS_2_4 = """\
mail_plugins {
  acl = yes
}
acl_driver = vfile
mail_attribute {
  dict file {
    path = %{home}/attributes
  }
}
protocol imap {
  mail_plugins {
    acl = yes
    imap_acl = yes
  }
  imap_metadata = yes
}
"""


class Dovecot:
    """IMAP in the clear for whoever knows ``password``; every mailbox is there. ``more`` stands at the end of its configuration. ``master``: with it anybody may log in for everybody, as ``user*anybody`` or by SASL. ``extensions``: it speaks ACL and METADATA. Started when made;
    ``close`` removes it."""

    def __init__(self, password: str = "at-home", more: str = "", master: str = "", *, extensions: bool = False) -> None:
        said = subprocess.run([DOVECOT, "--version"], check=True, capture_output=True, timeout=20).stdout.decode()
        self.version = said.split()[0].partition("-")[0]
        self.password = password
        self.root = Path(tempfile.mkdtemp(prefix="hornetmail-dovecot-"))
        self.root.chmod(0o755)
        self.port = free_port()
        owner = pwd.getpwnam("mail")
        (self.root / "mail").mkdir()
        shutil.chown(self.root / "mail", "mail", "mail")
        new = tuple(map(int, self.version.split(".")[:2])) >= (2, 4)
        head = f"dovecot_config_version = {self.version}\ndovecot_storage_version = {self.version}\n" if new else ""
        text = (COMMON + (AS_2_4 if new else AS_2_3)).format(
            root=self.root, port=self.port, password=password, uid=owner.pw_uid, gid=owner.pw_gid
        )
        masters = (MASTER_2_4 if new else MASTER_2_3).format(master=master) if master else ""
        added = (EXTENSIONS_2_4 if new else EXTENSIONS_2_3) if extensions else ""
        (self.root / "dovecot.conf").write_text(head + text + masters + added + more)
        self.process = subprocess.Popen(
            [DOVECOT, "-F", "-c", str(self.root / "dovecot.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        until(self.answers, "Dovecot answers")

    def answers(self) -> bool:
        """Whether it greets. AssertionError with what it said if it has ended."""
        if self.process.poll() is not None:
            raise AssertionError(self.log())
        try:
            imaplib.IMAP4("127.0.0.1", self.port, timeout=60).shutdown()
        except OSError:
            return False
        return True

    def log(self) -> str:
        """What it said."""
        log = self.root / "log"
        said = self.process.stderr.read().decode() if self.process.stderr and self.process.poll() is not None else ""
        return said + (log.read_text(errors="replace") if log.exists() else "")

    def close(self) -> None:
        """End it and remove all of it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        if self.process.stderr:
            self.process.stderr.close()
        shutil.rmtree(self.root, ignore_errors=True)
