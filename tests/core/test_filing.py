"""Which folder of the primary stands for ours, and which flags go along (L13)."""

from __future__ import annotations

import pytest

from hornetmail.core.delivery.filing import Remote, Tree, flags_for, marked, newest_first, target
from hornetmail.core.folder import Entry
from hornetmail.wire.imap.tokens.names import encode_name


def entry(uid: int, *flags: str, date: float = 0.0) -> Entry:
    return Entry(uid, 1, frozenset(flags), 1, date, str(uid))


@pytest.mark.parametrize(
    ("name", "use", "tree", "expected"),
    [
        ("INBOX", "", Tree((), b"INBOX.", b"."), b"INBOX"),
        ("Sent", "\\Sent", Tree((Remote(b"Sent"), Remote(b"Out", "\\sent"))), b"Out"),
        ("Sent", "\\Sent", Tree((Remote(b"Gesendete Objekte"),)), b"Gesendete Objekte"),
        ("Sent", "\\Sent", Tree((Remote(b"INBOX.Sent Items"),), b"INBOX.", b"."), b"INBOX.Sent Items"),
        ("Sent", "\\Sent", Tree((Remote(b"Projects/Sent"),)), b"Sent"),
        ("Entwurf", "\\Drafts", Tree((Remote(encode_name("Entwürfe")),)), b"Entw&APw-rfe"),
        ("A/B", "", Tree((), b"", b"."), b"A.B"),
        ("A/v1.2", "", Tree((), b"INBOX.", b"."), b"INBOX.A.v1_2"),
        ("A/B", "", Tree((), b"", b""), b"A_B"),
        ("INBOX/Sub", "", Tree((), b"INBOX.", b"."), b"INBOX.Sub"),
        ("INBOX/Sub", "", Tree((), b"", b"/"), b"INBOX/Sub"),
        ("Größe", "", Tree((), b"", b"/"), b"Gr&APYA3w-e"),
    ],
)
def test_target(name: str, use: str, tree: Tree, expected: bytes) -> None:
    """Sent mail in a folder that nobody looks into, or a level that becomes a part of a name: people would not find it."""
    assert target(name, use, tree, encode_name) == expected


def test_flags() -> None:
    """A keyword that the folder does not keep makes some servers refuse the message; ours mean nothing there."""
    one = entry(1, "\\Seen", "$Done", "$DrainFailed", "\\Recent", "\\Deleted")
    assert flags_for(one, None) == (("$Done", "\\Seen"), ())
    assert flags_for(one, frozenset({"\\*"})) == (("$Done", "\\Seen"), ())
    assert flags_for(one, frozenset({"\\seen"})) == (("\\Seen",), ("$Done",))
    assert marked(one)
    assert not marked(entry(1, "$DrainFailed", "\\Recent"))


def test_order() -> None:
    """L13: newest first; of the same second the later one."""
    found = newest_first([entry(1, date=5), entry(2, date=9), entry(3, date=5)])
    assert [each.uid for each in found] == [2, 3, 1]
