"""QUOTA (RFC 9208)."""

from __future__ import annotations

from hornetmail.core.folder import Usage
from hornetmail.testing.folders import MemoryTree
from tests.servers.imap.door import SIMPLE, Door


def test_quota_of_a_mailbox() -> None:
    """Sections 4.1 to 4.3 and 5: would catch limits in bytes instead of KiB, a resource without a limit that is named, and a root that does not exist."""
    door = Door()
    alice = door.connect().login()
    assert b" QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE " in alice.say(b"a CAPABILITY")
    assert alice.say(b"a GETQUOTAROOT INBOX") == b"* QUOTAROOT INBOX\r\na OK Done\r\n"
    assert b"a NO [NONEXISTENT]" in alice.say(b'a GETQUOTA ""')
    door.tree.held = Usage(2049, 7, 10_240, 0)
    assert alice.say(b'a GETQUOTA ""') == b'* QUOTA "" (STORAGE 3 10)\r\na OK Done\r\n'
    door.tree.held = Usage(2048, 7, 10_240, 9)
    said = alice.say(b"a GETQUOTAROOT inbox")
    assert said == b'* QUOTAROOT INBOX ""\r\n* QUOTA "" (STORAGE 2 10 MESSAGE 7 9)\r\na OK Done\r\n'
    door.tree.held = Usage(2048, 7, 0, 0)
    assert alice.say(b'a GETQUOTA ""') == b'* QUOTA "" ()\r\na OK Done\r\n'
    assert b"a NO" in alice.say(b"a GETQUOTA other")
    assert b"a NO [NONEXISTENT]" in alice.say(b"a GETQUOTAROOT nowhere")
    assert b"a BAD" in alice.say(b"a GETQUOTA")
    assert b"a BAD" in door.connect().say(b'a GETQUOTA ""')


def test_other_trees_have_none() -> None:
    """Would catch the archive's folders counted into one's mailbox."""
    door = Door()
    more = MemoryTree(1, door.bus)
    door.more = [("Archive/", more)]
    door.tree.held = Usage(1, 1, 10_240, 0)
    assert door.connect().login().say(b"a GETQUOTAROOT Archive/INBOX") == b"* QUOTAROOT Archive/INBOX\r\na OK Done\r\n"


def test_append_over_quota() -> None:
    """Section 4.1.1: NO [OVERQUOTA], and the connection goes on."""
    door = Door()
    door.tree.full = True
    alice = door.connect().login()
    said = alice.say(b"a APPEND INBOX {%d+}" % len(SIMPLE), SIMPLE)
    assert b"a NO [OVERQUOTA]" in said
    assert b"b OK" in alice.say(b"b NOOP")
