"""The same conversations with a real Dovecot and with the real service over the same mail: what RFCs determine must be the same in both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.dovecot import Dovecot
from tests.peers.imap_lines import Lines, parsed
from tests.peers.installation import Installation
from tests.peers.mails import mails

USER, PASSWORD = "alice@example.test", "alice-secret-1"
BOB = "bob@example.test"

TOLD = (b"LIST", b"LSUB", b"STATUS", b"FETCH", b"EXPUNGE", b"EXISTS", b"SEARCH", b"ESEARCH", b"SORT", b"THREAD", b"VANISHED",
        b"METADATA", b"ACL", b"MYRIGHTS", b"LISTRIGHTS")  # fmt: skip
"""Untagged answers that are compared."""


class Pair:
    """Both servers, the same mail in INBOX, one connection each."""

    def __init__(self) -> None:
        self.dovecot = Dovecot(extensions=True)
        self.hornet = Installation()

    def start(self) -> None:
        self.hornet.start()
        self.hornet.add_domain("example.test", None)
        self.hornet.add_mailbox(USER, PASSWORD)
        self.hornet.add_mailbox(BOB, PASSWORD)
        for lines in self.lines():
            for date, data, flags in mails():
                lines.append("INBOX", date, data, flags)
            lines.close()

    def lines(self) -> tuple[Lines, Lines]:
        return Lines(self.dovecot.port, USER, self.dovecot.password), Lines(self.hornet.port(143), USER, PASSWORD)

    def close(self) -> None:
        self.hornet.close()
        self.dovecot.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    both = Pair()
    try:
        both.start()
        yield both
    finally:
        both.close()


def comparable(line: bytes) -> Any:
    """An untagged answer without what servers may choose: the order of items and flags, modseqs, the order of results in ESEARCH, spaces of a
    subject."""
    said = parsed(line)
    kind = said[1] if said[0].isdigit() else said[0]
    if kind not in TOLD:
        return None
    if kind == b"LIST":
        return [kind, sorted(flag.lower() for flag in said[1]), *said[2:]]
    if kind == b"STATUS":
        return [kind, said[1], dict(zip(said[2][::2], said[2][1::2], strict=True))]
    if kind == b"METADATA":
        return [kind, said[1], dict(zip(map(bytes.lower, said[2][::2]), said[2][1::2], strict=True))]
    if kind == b"MYRIGHTS":
        return [kind, said[1], sorted(said[2])]
    if kind == b"ACL":  # the owner's rights may be told or not (RFC 4314 section 3.3)
        given = dict(zip(said[2::2], map(sorted, said[3::2]), strict=True))
        return [kind, said[1], {who: rights for who, rights in given.items() if who in (BOB.encode(), b"anyone")}]
    if kind == b"LISTRIGHTS":
        return [kind, *said[1:3], sorted(said[3]), sorted(said[4:])]
    if kind == b"FETCH":
        items: dict[bytes, Any] = dict(zip(said[2][::2], said[2][1::2], strict=True))
        if b"FLAGS" in items:
            items[b"FLAGS"] = sorted(set(items[b"FLAGS"]) - {b"\\Recent"})
        if b"BODYSTRUCTURE" in items:
            items[b"BODYSTRUCTURE"] = lowered(items[b"BODYSTRUCTURE"])
        if b"ENVELOPE" in items:
            items[b"ENVELOPE"][1] = b" ".join(items[b"ENVELOPE"][1].split())
        if b"INTERNALDATE" in items:
            items[b"INTERNALDATE"] = items[b"INTERNALDATE"].strip().rjust(26, b"0")
        if b"MODSEQ" in items:
            items[b"MODSEQ"] = "some"
        return [said[0], kind, sorted(items.items(), key=repr)]
    if kind == b"ESEARCH":
        rest = [piece for piece in said[1:] if piece not in (b"UID",)]
        pairs = dict(zip(rest[1::2], rest[2::2], strict=True))
        if b"MODSEQ" in pairs:
            pairs[b"MODSEQ"] = "some"
        return [kind, b"UID" in said, sorted(pairs.items(), key=repr)]
    return ["(MODSEQ)" if isinstance(piece, list) and piece[:1] == [b"MODSEQ"] else piece for piece in said]


def lowered(found: Any) -> Any:
    """Types, encodings and parameter names are told in any case (RFC 3501 section 7.4.2)."""
    return [lowered(inner) for inner in found] if isinstance(found, list) else found.lower()


def compare(pair: Pair, script: list[str]) -> None:
    """Say each line to both."""
    one, other = pair.lines()
    try:
        for line in script:
            answers = []
            for lines in (one, other):
                untagged, tagged = lines.say(line)
                told = [found for each in untagged if (found := comparable(each)) is not None]
                if line.startswith(("LIST", "LSUB")):
                    told.sort(key=repr)  # in any order
                if line.startswith("LIST (") or "RETURN (STATUS" in line:  # children need not be told of there, and may be
                    for found in told:
                        if found[0] == b"LIST":
                            found[1] = [flag for flag in found[1] if b"children" not in flag]
                code = re.match(
                    rb"(OK|NO|BAD)(?: \[(MODIFIED|HIGHESTMODSEQ|READ-WRITE|READ-ONLY|BADCHARSET)( [0-9,:]+)?)?", tagged
                )
                assert code is not None, tagged
                word = (
                    None if line == "CLOSE" else code[2]
                )  # HIGHESTMODSEQ is due there (RFC 7162 section 3.2.8), and Dovecot forgets it
                answers.append((told, code[1], word, code[3] if code[2] == b"MODIFIED" else None))
            for theirs, ours in zip(*[told for told, *_ in answers], strict=False):
                assert ours == theirs, line
            assert answers[1] == answers[0], line
    finally:
        one.close()
        other.close()


def test_search(pair: Pair) -> None:
    """RFC 3501 section 6.4.4, RFC 4731, 5032, 5182: Catches keys that mean something else here than elsewhere."""
    compare(
        pair,
        [
            "EXAMINE INBOX",
            *(f"SEARCH {key}" for key in (
                "ALL", "UNSEEN", "FLAGGED NOT ANSWERED", "KEYWORD $Work", "UNKEYWORD $work", "1:10,110:*", "UID 5:7,200:*", "SUBJECT lunch",
                'SUBJECT ""', "FROM bob", "TO alice@example.test", "CC zoe", 'HEADER References ""', 'HEADER In-Reply-To "@example"',
                "BEFORE 10-Oct-2025", "ON 10-Oct-2025", "SINCE 20-Oct-2025", *(f'SENT{when}-Nov-2025 HEADER Date ""' for when in ("BEFORE 10", "ON 10", "SINCE 20")), "LARGER 700", "SMALLER 400", "OR SEEN (FLAGGED ANSWERED)", "NOT (OR 1:50 SEEN)", 'BODY "number 11"',
                'TEXT "carl"', "OLDER 31536000000", "YOUNGER 1", "*",
            )),
            "SEARCH CHARSET UTF-8 SUBJECT {6+}\r\n\u00e4pfel",
            "SEARCH CHARSET X-NONE SUBJECT x",
            "UID SEARCH RETURN (MIN MAX COUNT ALL) UNSEEN",
            "SEARCH RETURN () KEYWORD none",
            "SEARCH RETURN (SAVE) FLAGGED",
            "SEARCH RETURN (COUNT) $",
            "FETCH $ UID",
            "UID SEARCH RETURN (SAVE MIN) UID $ SEEN",
            "SEARCH $",
        ],
    )  # fmt: skip


@pytest.mark.parametrize(
    "order",
    ["SUBJECT", "REVERSE SUBJECT", "DATE", "REVERSE DATE FROM", "ARRIVAL", "FROM DATE", "TO", "CC REVERSE SIZE", "SIZE REVERSE ARRIVAL", "SUBJECT REVERSE DATE",
     "DISPLAYFROM", "DISPLAYTO REVERSE SUBJECT"],
)  # fmt: skip
def test_sort(pair: Pair, order: str) -> None:
    """RFC 5256 section 3, RFC 5957."""
    compare(
        pair, ["EXAMINE INBOX", f"SORT ({order}) UTF-8 ALL", f"UID SORT RETURN (MIN MAX COUNT ALL) ({order}) US-ASCII UNSEEN"]
    )


def test_thread(pair: Pair) -> None:
    """RFC 5256 section 3, on references that are incomplete, wrong and in rings."""
    compare(
        pair,
        [
            "EXAMINE INBOX",
            "THREAD ORDEREDSUBJECT UTF-8 ALL",
            "UID THREAD REFERENCES UTF-8 1:30",
            "THREAD REFERENCES UTF-8 ALL",
            "UID THREAD REFERENCES UTF-8 UNSEEN",
        ],
    )


def test_fetch(pair: Pair) -> None:
    """RFC 3501 section 6.4.5, RFC 8970."""
    compare(
        pair,
        [
            "EXAMINE INBOX",
            "FETCH 1:* (UID FLAGS RFC822.SIZE INTERNALDATE ENVELOPE BODYSTRUCTURE)",
            "FETCH 1:5 (BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)] BODY.PEEK[1]<3.10> BODY.PEEK[TEXT])",
            "FETCH 1:20 (PREVIEW)",
            "UID FETCH 1:3,500 ALL",
            "FETCH 1000 UID",
        ],
    )


def test_condstore_and_qresync(pair: Pair) -> None:
    """RFC 7162: Catches changes that a resynchronising client is told in another way, or not at all."""
    compare(
        pair,
        [
            "ENABLE QRESYNC",
            "CREATE Work",
            "EXAMINE INBOX",
            "COPY 1:40 Work",
            "SELECT Work (CONDSTORE)",
            "STORE 1:3 +FLAGS.SILENT (\\Deleted)",
            "STORE 4 (UNCHANGEDSINCE {highest}) FLAGS.SILENT (\\Draft)",
            "NOOP",
            "EXPUNGE",
            "SELECT INBOX",
            "SELECT Work",
            "STORE 7 +FLAGS (\\Answered $New)",
            "SEARCH MODSEQ {highest}",
            "UID SEARCH RETURN (COUNT) NOT MODSEQ {highest}",
            "UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE {highest})",
            "UID STORE 10:12 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)",
            "UID FETCH 1:20 (FLAGS) (CHANGEDSINCE {highest} VANISHED)",
            "UNSELECT",
            "SELECT Work (QRESYNC ({validity} {highest}))",
            "UID STORE 20 +FLAGS.SILENT (\\Deleted)",
            "UID EXPUNGE 20",
            "UNSELECT",
            "SELECT Work (QRESYNC ({validity} 1 1:40))",
            "UID MOVE 21 INBOX",
            "FETCH 1:5 (UID MODSEQ)",
            "STORE 1 +FLAGS.SILENT (\\Deleted)",
            "CLOSE",
        ],
    )


def test_mailboxes(pair: Pair) -> None:
    """RFC 3501 section 6.3, RFC 5258, 3348, 5819, 8438, 3502, 6851: Catches a mailbox that is listed in another way, or not at all."""
    compare(
        pair,
        [
            "CREATE Tree",
            "CREATE Tree/Branch",
            "CREATE Tree/Branch/Leaf",
            "CREATE Tree/Twig",
            "SUBSCRIBE Tree/Branch/Leaf",
            "SUBSCRIBE Tree/Twig",
            'LIST "" Tree/*',
            'LIST "" Tree/%',
            "LIST Tree/ *",
            'LIST "" (Tree/Twig Tree/B*) RETURN (CHILDREN SUBSCRIBED)',
            'LIST (SUBSCRIBED) "" Tree/*',
            'LIST (SUBSCRIBED RECURSIVEMATCH) "" Tree/%',
            'LIST (SUBSCRIBED RECURSIVEMATCH) "" Tree/*',
            'LIST (SUBSCRIBED RECURSIVEMATCH) "" Tree/Bra*ch',
            "SUBSCRIBE Tree/Branch",
            'LIST (SUBSCRIBED RECURSIVEMATCH) "" Tree/*',
            'LSUB "" Tree/*',
            "EXAMINE INBOX",
            "COPY 1:9 Tree/Twig",
            'LIST "" Tree/Tw* RETURN (STATUS (MESSAGES UNSEEN SIZE))',
            "STATUS Tree/Twig (MESSAGES UNSEEN UIDNEXT SIZE)",
            "SELECT Tree/Twig",
            "MOVE 2:3 Tree/Twig",
            "UID FETCH 1:* FLAGS",
            "APPEND Tree/Twig (\\Seen) {3+}\r\nabc (\\Flagged) {3+}\r\ndef",
            "FETCH 10:11 (UID FLAGS BODY.PEEK[])",
            "RENAME Tree/Twig Tree/Other",
            "UNSELECT",
            "DELETE Tree/Other",
            "STATUS Tree/Other (MESSAGES)",
            'LIST "" Tree/*',
        ],
    )


def test_binary(pair: Pair) -> None:
    """RFC 3516: Catches parts that are decoded to other bytes than elsewhere."""
    compare(
        pair,
        [
            "EXAMINE INBOX",
            "FETCH 1:* (BINARY.SIZE[1] BINARY.PEEK[1])",
            "FETCH 1:30 (BINARY.PEEK[1]<3.7>)",
        ],
    )


def test_rights(pair: Pair) -> None:
    """RFC 4314: Catches rights that are given, taken back or told in another way."""
    compare(
        pair,
        [
            "CREATE Lent",
            "MYRIGHTS Lent",
            f"SETACL Lent {BOB} lrs",
            "GETACL Lent",
            f"SETACL Lent {BOB} +wi",
            f"SETACL Lent {BOB} -s",
            f"SETACL Lent {BOB} +d",
            "GETACL Lent",
            f"SETACL Lent {BOB} c",
            "GETACL Lent",
            f"LISTRIGHTS Lent {BOB}",
            f"SETACL Lent {BOB} lrz",
            "GETACL Lent",
            f"DELETEACL Lent {BOB}",
            "GETACL Lent",
            "MYRIGHTS Nowhere",
            "GETACL Nowhere",
            f"SETACL Nowhere {BOB} l",
            "DELETE Lent",
        ],
    )


def test_metadata(pair: Pair) -> None:
    """RFC 5464: Catches annotations that are kept, found or told in another way."""
    compare(
        pair,
        [
            "CREATE Noted",
            "GETMETADATA Noted /private/comment",
            'SETMETADATA Noted (/private/comment "mine")',
            'SETMETADATA Noted (/shared/comment "ours" /private/vendor/x/a "1")',
            'SETMETADATA Noted (/private/vendor/x/a/b {5+}\r\nlong\\ /private/vendor/x/empty "")',
            "GETMETADATA Noted (/private/comment /shared/comment)",
            "GETMETADATA Noted /PRIVATE/Comment",
            "GETMETADATA (DEPTH 1) Noted (/private/vendor/x)",
            "GETMETADATA (DEPTH infinity) Noted (/private/vendor)",
            "GETMETADATA (MAXSIZE 4) Noted (/private/vendor/x/a /private/vendor/x/a/b)",
            "SETMETADATA Noted (/private/comment NIL)",
            "GETMETADATA Noted /private/comment",
            'SETMETADATA "" (/private/vendor/x/server "all")',
            'GETMETADATA "" /private/vendor/x/server',
            'SETMETADATA Nowhere (/private/comment "x")',
            "GETMETADATA Nowhere /private/comment",
            "RENAME Noted Other",
            "GETMETADATA Other (/shared/comment)",
            "DELETE Other",
        ],
    )


def test_a_restart_between(pair: Pair) -> None:
    """RFC 7162: the service is stopped and started while a client is away: UIDVALIDITY, UIDs and modseqs are what they were, and what changed and went before is
    told. Catches state that lives in memory only, and a client that downloads everything anew."""
    line = Lines(pair.hornet.port(143), USER, PASSWORD)
    line.say("CREATE Kept")
    line.say("SELECT INBOX")
    line.say("COPY 1:9 Kept")
    line.say("SELECT Kept")
    validity, highest = line.validity, line.highest
    line.say("STORE 2 +FLAGS.SILENT ($Kept)")
    line.say("STORE 5 +FLAGS.SILENT (\\Deleted)")
    line.say("EXPUNGE")
    before = line.say("FETCH 1:* (UID FLAGS MODSEQ)")[0]
    line.close()
    pair.hornet.stop()
    pair.hornet.start()
    line = Lines(pair.hornet.port(143), USER, PASSWORD)
    line.say("ENABLE QRESYNC")
    told = line.say(f"SELECT Kept (QRESYNC ({validity} {highest}))")[0]
    assert line.validity == validity
    assert b"VANISHED (EARLIER) 5" in told
    assert [one.split()[3] for one in told if b" FETCH (" in one] == [b"2"]
    after = [one for one in line.say("FETCH 1:* (UID FLAGS MODSEQ)")[0] if b" FETCH (" in one]
    assert [one.replace(b" \\Recent", b"").replace(b"\\Recent", b"") for one in after] == [
        one.replace(b" \\Recent", b"").replace(b"\\Recent", b"") for one in before if b" FETCH (" in one
    ]
    line.close()
