"""One primary, one HornetMail, a handful of users."""

from __future__ import annotations

import base64
import hashlib
import imaplib
import json
import poplib
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.peers.installation import Installation
from tests.peers.postfix import PostfixPrimary

USERS = {f"{name}@example.test": f"{name}-secret-1" for name in ("alice", "bob", "carol", "dave")}

AUDITOR = ("auditor@example.test", "auditor-secret-1")


class World:
    """Looks at a running installation and its primary as users, auditors and postmasters do."""

    def __init__(self, hornet: Installation, primary: PostfixPrimary) -> None:
        self.hornet = hornet
        self.primary = primary

    def imap(self, address: str) -> imaplib.IMAP4:
        """A logged-in IMAP connection."""
        connection = imaplib.IMAP4("127.0.0.1", self.hornet.port(143), timeout=60)
        connection.login(address, USERS[address])
        return connection

    def pop(self, address: str) -> poplib.POP3:
        """A logged-in POP3 connection."""
        connection = poplib.POP3("127.0.0.1", self.hornet.port(110), timeout=60)
        connection.user(address)
        connection.pass_(USERS[address])
        return connection

    def inbox(self, address: str, folder: str = "INBOX") -> list[bytes]:
        """All messages of a portal folder over IMAP."""
        connection = self.imap(address)
        connection.select(folder, readonly=True)
        _, found = connection.fetch("1:*", "(BODY.PEEK[])") if connection.search(None, "ALL")[1][0] else ("OK", [])
        connection.logout()
        return [part[1] for part in found if isinstance(part, tuple)]

    def api(self, method: str, path: str, login: tuple[str, str], **query: str) -> bytes:
        """A request to the REST API."""
        url = f"http://127.0.0.1:{self.hornet.port(80)}/api/v1{path}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(":".join(login).encode()).decode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            body: bytes = answer.read()
            return body

    def archived(self, login: tuple[str, str] = AUDITOR, query: str = "") -> list[dict[str, Any]]:
        """Everything of the archive that somebody sees."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            page = json.loads(self.api("GET", "/archive", login, query=query, limit="500", after=after))
            found += page["results"]
            after = page.get("after", "")
            if not after:
                assert page["total"] == len(found)
                return found

    def archived_bytes(self, identifier: str, login: tuple[str, str] = AUDITOR) -> bytes:
        """The exact bytes of an archived mail."""
        return self.api("GET", f"/archive/{identifier}/raw", login)

    def archived_digests(self) -> Counter[str]:
        """SHA-256 of everything archived, as the auditor gets it."""
        return Counter(digest(self.archived_bytes(hit["id"])) for hit in self.archived())


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def lf(data: bytes) -> bytes:
    """As a Maildir of Postfix has it: LF, and without the space that one of the samples has before a colon (Postfix takes it out)."""
    return data.replace(b"\r\n", b"\n").replace(b"x-odd :", b"x-odd:")


def split_trace(stored: bytes, original: bytes) -> bytes:
    """What stands before the original bytes in ``stored``; AssertionError if they are not its exact end."""
    assert stored.endswith(original), f"not byte for byte: …{stored[-200:]!r} against …{original[-200:]!r}"
    return stored[: len(stored) - len(original)]


def match(stored: Iterable[bytes], originals: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Pair what arrived with what was sent: (sent but not arrived, arrived beyond that).

    The longest first: a short message may be the end of a longer one.
    """
    left = list(stored)
    missing = []
    for original in sorted(originals, key=len, reverse=True):
        for index, one in enumerate(left):
            if one.endswith(original):
                del left[index]
                break
        else:
            missing.append(original)
    return missing, left
