"""isync's mbsync, the pickiest of the common synchronisers, as a subprocess."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue

CLEAR = "*** IMAP Warning *** Password is being sent in the clear"
"""What mbsync says of every plaintext log-in; the password is not the matter here."""

MBSYNC = """
IMAPStore far
Host 127.0.0.1
Port {port}
User {user}
Pass secret
SSLType None
AuthMechs {mechanism}

MaildirStore near
Path {path}/
Inbox {path}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
"""


async def mbsync(port: int, path: Path, mechanism: str = "LOGIN", user: str = "alice@example.test") -> str:
    """One run over ``path``; what it said. Fails on any complaint."""
    rc = path / "rc"
    rc.write_text(MBSYNC.format(port=port, path=path, mechanism=mechanism, user=user))
    env = {**os.environ, "HOME": str(path)}
    # without a directory of its own: Twisted then spawns where it would fork, which a process with threads must not (Python 3.12 warns)
    out, err, code = await getProcessOutputAndValue("/usr/bin/mbsync", ["-c", str(rc), "-V", "all"], env=env)
    text: str = (out + err).decode()
    assert code == 0, text
    for word in ("error", "warning", "unexpected"):
        assert word not in text.replace(CLEAR, "").lower(), text
    return text


def message(n: int, size: int = 100) -> bytes:
    """A message that mbsync can tell from others."""
    lines = b"".join(b"line %d of %d\r\n" % (k, n) for k in range(max(1, size // 16)))
    return b"From: bob@example.test\r\nSubject: number %d\r\nMessage-ID: <%d@example.test>\r\n\r\n%b" % (n, n, lines)


def number_of(data: bytes) -> int:
    """Which one it is."""
    return int(data.split(b"Subject: number ")[1].split(b"\n")[0])
