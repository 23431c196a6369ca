"""Names, envelope lines and a folder in memory: what needs no disk."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornetmail.core.folder import Entry
from hornetmail.core.mail.envelope import Envelope, Recipient
from hornetmail.portal.maildir import envelope, naming
from hornetmail.portal.maildir.snapshot import GONE_KEPT, Place, Snapshot
from tests.portal.ground import MAIL, message, row


@pytest.mark.parametrize(
    ("base", "size", "ours"),
    [
        ("1600000000.M5Q1Pabc.host,S=26,W=26", 26, True),
        ("1600000000.M5Q1Pabc.host,S=22,W=26", 22, False),
        ("1600000000.M5Q1Pabc.host,S=22,W=26", 26, False),
        ("1600000000.M5Q1Pabc.host,S=26,W=26", 22, False),
        ("1600000000.M5Q1Pabc.host,S=26", 26, False),
        ("1600000000.M5Q1Pabc.host", 26, False),
        ("1600000000.R1001P0.host,S=300,E=120", 300, True),
        ("1600000000.1_1.other,S=300,E=120", 300, False),
    ],
)
def test_whose_line_ends(base: str, size: int, ours: bool) -> None:
    """Would catch another program's LF file that is served as it is, since its name gives two sizes (Dovecot's does) or old ones."""
    assert naming.is_ours(base, size) is ours


def test_a_copy_keeps_its_row() -> None:
    """Would catch a copy of a delivered message that the drain does not know as one (rule 10), and two copies under one name."""
    base = naming.delivered_base(1_600_000_000.9, 1001, 3, "mx.example.test", 300, 120)
    assert (naming.row_of(base), naming.hidden_of(base)) == (1001, 120)
    copy = naming.copied_base(base, "a1")
    again = naming.copied_base(copy, "b2")
    assert len({base, copy, again, naming.copied_base(base, "b3")}) == 4
    for one in (copy, again):
        assert (naming.row_of(one), naming.hidden_of(one)) == (1001, 120)
        assert one.endswith(".mx.example.test,S=300,E=120")
    assert naming.row_of(naming.appended_base(1_600_000_000.0, 1, "r9p", "host", 5)) == 0


def test_letters() -> None:
    """Would catch a flag that another program sees as another, one of its own that we take off, and letters out of order."""
    every = frozenset({"\\Draft", "\\Flagged", "$Forwarded", "\\Answered", "\\Seen", "\\Deleted"})
    assert naming.letters_of(every | {"$Work"}, "Sza") == "DFPRSTaz"
    assert naming.letters_of(frozenset(), "ST") == ""
    assert naming.flags_of("DFPRSTaz") == every
    assert naming.split_name("base:2,FS") == ("base", "FS")
    assert naming.split_name("base") == ("base", "")


NAMES = st.lists(
    st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1, max_size=4
)


@given(NAMES.map("/".join))
def test_folders_and_back(name: str) -> None:
    """Would catch a folder that is another one, or none, after a restart, and one that a program for Maildir++ takes for two levels."""
    if not naming.valid_folder(name):
        return
    directory = naming.directory_of(name)
    assert directory.isascii()
    assert directory.count(".") == name.count("/") + 1
    assert naming.folder_of(directory) == name


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        ("a b", ".a b"),
        ("a~!b", ".a~!b"),
        ("a&b", ".a&-b"),
        ("a.b/c", ".a&AC4-b.c"),
        ("\u00fc", ".&APw-"),
        ("\u00fc\u00fc a", ".&APwA,A- a"),
        ("a\u00fc", ".a&APw-"),
        ("\u00fc&\u00fc", ".&APw-&-&APw-"),
        ("\u65e5\u672c/\U0001f4e7", ".&ZeVnLA-.&2D3c5w-"),
    ],
)
def test_directories_as_other_programs_call_them(name: str, directory: str) -> None:
    """RFC 3501 section 5.1.3: would catch a name that only we can read: printable US-ASCII stands for itself in modified UTF-7."""
    assert naming.directory_of(name) == directory
    assert naming.folder_of(directory) == name


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("a", True),
        ("INBOX", True),
        ("INBOX/a", True),
        ("inbox", False),
        ("a\x7f", False),
        ("a\x1f", False),
        ("a\ud800", False),
        ("b\udfff", False),
        ("a\ue000", True),
        ("/".join("a" * 20), True),
        ("/".join("a" * 21), False),
        ("a" * 254, True),
        ("a" * 255, False),
        ("a /b", False),
        ("a//b", False),
    ],
)
def test_what_may_be_a_folder(name: str, valid: bool) -> None:
    """Would catch a name that no directory can have (254 bytes after its dot), that breaks IMAP's lines, or that one may not have and could."""
    assert naming.valid_folder(name) is valid


def test_inbox_in_any_case() -> None:
    """RFC 3501 section 5.1: would catch a second INBOX beside the first, and a folder whose name only begins like it that is renamed."""
    names = ("inbox", "Inbox/Sub", "inboxes", "INBOX", "inbox/inbox", "a/inbox")
    assert [naming.fold_inbox(name) for name in names] == ["INBOX", "INBOX/Sub", "inboxes", "INBOX", "INBOX/inbox", "a/inbox"]
    assert naming.directory_of("INBOX") == ""


def test_directories_that_are_none_of_ours() -> None:
    """Would catch a half-removed folder that is shown again, and another program's odd names taken for something else."""
    for directory in ("..gone5", "cur", ".", ".a..b", ".INBOX"):
        assert naming.folder_of(directory) is None, directory
    assert naming.folder_of(".B&APw-ro") == "Büro"
    assert naming.decode_level("100 & more") == "100 & more"
    assert naming.decode_level("a&-b") == "a&b"
    assert naming.decode_level("&!!-") == "&!!-"


ADDRESS = st.from_regex(r"[a-z]{1,8}@[a-z]{1,8}\.test", fullmatch=True)


@given(ADDRESS | st.just(""), ADDRESS, st.booleans(), st.booleans(), st.sampled_from(["", "FULL", "HDRS"]), st.text(st.characters(exclude_categories=["Cs"]), max_size=12), st.booleans())  # fmt: skip
def test_an_envelope_comes_back(
    sender: str, address: str, eight_bit: bool, smtputf8: bool, ret: str, envid: str, uncertain: bool
) -> None:
    """Rule 9: would catch a sender, a parameter of DSN, or a doubt that a copy loses on its way through the portal."""
    recipients = (Recipient("first@example.test"), Recipient(address, ("FAILURE", "DELAY"), "rfc822;x+3Dy@example.test"))
    sent = Envelope(sender, recipients, eight_bit, smtputf8, ret, envid)
    mail = message(MAIL, 1)
    mail = type(mail)(**{**{name: getattr(mail, name) for name in mail.__struct_fields__}, "envelope": sent})
    lines = envelope.write(mail, row(1, address, 1), "box@example.test", uncertain=uncertain)
    kept = envelope.read(lines)
    assert kept is not None
    assert (kept.mailbox, kept.uncertain) == ("box@example.test", uncertain)
    assert kept.envelope == Envelope(sender, (recipients[1],), eight_bit, smtputf8, ret, envid)
    assert len(lines) <= envelope.ENVELOPE_BYTES


@pytest.mark.parametrize("place", [-1, 1, 2])
def test_a_row_without_a_recipient(place: int) -> None:
    """Would catch a copy that cannot be written since its row has no place in the envelope, as a redelivery's: its own address counts."""
    kept = envelope.read(envelope.write(message(MAIL, 1), row(1, "al@example.test", place), "b@example.test", uncertain=False))
    assert kept is not None
    assert kept.envelope.recipients == (Recipient("al@example.test"),)


def test_lines_that_are_no_envelope() -> None:
    """Would catch a mail whose own header is taken for ours."""
    lines = envelope.write(message(MAIL, 1), row(), "b@example.test", uncertain=False)
    parts = lines.splitlines(keepends=True)
    assert envelope.read(lines) is not None
    assert envelope.read(b"".join(parts[:3])) is None
    assert envelope.read(b"".join([parts[1], parts[0], *parts[2:]])) is None
    assert envelope.read(lines + b"Subject: x\r\n") is None
    for sender, meant in ((b"<a@x.test>", "a@x.test"), (b"<>", ""), (b"a@x.test", "a@x.test"), (b"<a", "<a"), (b"a>", "a>")):
        kept = envelope.read(b"".join([b"Return-Path: " + sender + b"\r\n", *parts[1:]]))
        assert kept is not None
        assert kept.envelope.sender == meant


def entry(uid: int, modseq: int, *flags: str) -> Entry:
    return Entry(uid, modseq, frozenset(flags), 10, 0.0, f"{uid}.name")


def place(uid: int) -> Place:
    return Place(f"{uid}.name", "new", "", 0, False)


class TestFolderInMemory:
    """Against the plainest thing that does the same: what each UID's last change was."""

    def changed(
        self, folder: Snapshot, rounds: int, after: Callable[[int], None] = lambda modseq: None
    ) -> dict[int, tuple[int, bool]]:
        """New messages, changed ones and some that go; by UID, the last change and whether it is gone."""
        known: dict[int, tuple[int, bool]] = {}
        uid = 0
        for modseq in range(2, rounds + 2):
            if modseq % 3 or not (uid > 5 and not known[uid - 5][1]):
                uid += 1
                folder.put(entry(uid, modseq), place(uid))
                known[uid] = (modseq, False)
            elif modseq % 2:
                folder.put(entry(uid - 5, modseq, "\\Seen"), place(uid - 5))
                known[uid - 5] = (modseq, False)
            else:
                folder.remove(uid - 5, modseq)
                known[uid - 5] = (modseq, True)
            after(modseq)
        return known

    @pytest.mark.parametrize("rounds", [30, 9_000])
    def test_what_changed_since(self, rounds: int) -> None:
        """Would catch a client that is not told of a change or of a removal, from any point on, whether it is remembered as news or has to be looked for."""
        folder = Snapshot(1, "INBOX", "", 1, 1, 1)
        folder.loaded()
        known = self.changed(folder, rounds)
        news = {folder._recent_from - 1, folder._recent_from, folder._recent_from + 1}
        for since in {0, 1, 2, rounds // 2, rounds - 2_100, rounds - 50, rounds, rounds + 1, rounds + 9} | news:
            wanted = sorted((modseq, uid, gone) for uid, (modseq, gone) in known.items() if modseq > since)
            assert [(one.modseq, one.uid, one.gone) for one in folder.changes(since)] == wanted
        present = [uid for uid, (_, gone) in known.items() if not gone]
        assert sorted(folder.entries) == sorted(folder.places) == sorted(folder.uids.values()) == present
        status = folder.status()
        assert (status.messages, status.modseq, status.size) == (len(present), rounds + 1, 10 * len(present))
        assert status.unseen == sum("\\Seen" not in one.flags for one in folder.entries.values())

    def test_memory_is_bounded(self) -> None:
        """Would catch a mailbox in memory that grows with all that ever went, and one that forgets the newest removals."""
        folder = Snapshot(1, "INBOX", "", 1, 1, 1)
        for uid in range(1, 5 * GONE_KEPT):
            folder.put(entry(uid, 2 * uid), place(uid))
            folder.remove(uid, 2 * uid + 1)
            assert len(folder.gone) <= 2 * GONE_KEPT
            assert len(folder._recent) <= 4_000
        assert [one.uid for one in folder.gone[-GONE_KEPT:]] == list(range(4 * GONE_KEPT, 5 * GONE_KEPT))
        assert not folder.uids

    def test_rows(self) -> None:
        """Would catch a drain that does not find the second copy of a message in INBOX, or one that went (rule 10)."""
        folder = Snapshot(1, "INBOX", "", 1, 1, 1)
        for uid, base in ((1, "1.R7P0.h,S=9,E=3"), (2, "1.R7P0Cab.h,S=9,E=3"), (3, "1.M0Q1Px.h,S=9,W=9")):
            folder.put(entry(uid, uid + 1), Place(base, "new", "", 3, False))
        assert folder.rows == {7: {1, 2}}
        folder.claimed.add(1)
        folder.remove(1, 9)
        assert folder.rows == {7: {2}}
        assert not folder.claimed
        folder.remove(2, 10)
        assert folder.rows == {}


def test_a_message_is_known_wherever_it_goes() -> None:
    """RFC 8474 section 5.1: would catch an EMAILID that a copy loses, that two messages share, or that the index alone knows."""
    delivered = naming.delivered_base(1_700_000_000.5, 1234, 2, "mx.example.test", 900, 120)
    copy = naming.copied_base(naming.copied_base(delivered, "a1"), "b2")
    assert naming.origin_of(copy) == naming.origin_of(delivered)
    assert naming.origin_of(naming.delivered_base(1_700_000_000.5, 1235, 2, "mx.example.test", 900, 120)) != naming.origin_of(
        delivered
    )
    for base in (naming.appended_base(1.5, 3, "00aa11bb", "host", 77), "1.1_1.mutt", "plain"):
        twin = naming.twin_base(base, 2.5, 4, "11aa22bb", "host", 77, bare=base == "plain")
        second = naming.twin_base(twin, 3.5, 5, "33aa44bb", "host", 77, bare=base == "plain")
        assert naming.origin_of(second) == naming.origin_of(twin) == naming.origin_of(base)
        assert len({base, twin, second}) == 3
        assert naming.is_ours(second, 77) == (base != "plain")
        assert naming.row_of(second) == 0
    assert len({naming.origin_of(base) for base in ("a", "b", "1.1_1.mutt", delivered)}) == 4
