"""What people find, in which order, and what they see of it first: SEARCH, SORT, THREAD, PREVIEW in situations that a dialog of lines cannot show."""

from __future__ import annotations

import base64

import pytest
from twisted.internet.task import Clock

from hornetmail.core.folder import FolderError
from hornetmail.mime.reading.preview import CHARACTERS
from hornetmail.servers.imap.finding.search import part
from hornetmail.servers.imap.messages.fetch import sliced
from hornetmail.wire.imap.requests.search import ORDERS
from hornetmail.wire.imap.tokens.sequences import SequenceSet, agreed, compressed, missing, parse_sequence_set, rendered
from tests.servers.imap.door import SIMPLE, Door, Talk


def mail(subject: str = "x", sender: str = "a@x.test", date: str = "", more: str = "", body: str = "text") -> bytes:
    fields = [f"Subject: {subject}", f"From: {sender}", *([f"Date: {date}"] if date else []), *([more] if more else [])]
    return ("\r\n".join(fields) + f"\r\n\r\n{body}\r\n").encode()


def holding(*messages: bytes, clock: Clock | None = None) -> Talk:
    door = Door(clock)
    for number, one in enumerate(messages):
        door.inbox.add(one, date=1.7e9 + number)
    talk = door.connect().login()
    talk.say(b"a SELECT INBOX")
    return talk


def test_within() -> None:
    """RFC 5032: seconds before now, by INTERNALDATE."""
    clock = Clock()
    clock.rightNow = 1.7e9 + 10
    talk = holding(SIMPLE, SIMPLE, SIMPLE, clock=clock)
    assert talk.say(b"b SEARCH YOUNGER 9") == b"* SEARCH 2 3\r\nb OK Searched\r\n"
    assert talk.say(b"c SEARCH OLDER 9") == b"* SEARCH 1\r\nc OK Searched\r\n"
    assert talk.say(b"d SEARCH OLDER 0").startswith(b"d BAD")


def test_sort_by_what_people_read() -> None:
    """RFC 5256 section 3 and RFC 5957: subjects without Re: and lists, decoded; zones; names or addresses; a reversed criterion reverses no other."""
    talk = holding(
        mail("Re: [list] Banane", "Zoe <b@x.test>", "1 Nov 2025 10:00 +0100", "Cc: c@x.test"),
        mail("=?utf-8?q?=C3=84pfel?=", "=?iso-8859-1?q?=C4nne?= <z@x.test>", "1 Nov 2025 10:00 -0100"),
        mail("apfel", "a@x.test", "1 Nov 2025 10:30 +0000"),
        mail("banane", "bob@x.test"),
    )
    for order, numbers in (
        (b"SUBJECT", b"3 2 1 4"),
        (b"REVERSE SUBJECT", b"1 4 2 3"),
        (b"SUBJECT REVERSE ARRIVAL", b"3 2 4 1"),
        (b"DATE", b"4 1 3 2"),
        (b"FROM", b"3 1 4 2"),
        (b"DISPLAYFROM", b"3 2 4 1"),
        (b"REVERSE CC ARRIVAL", b"1 2 3 4"),
        (b"REVERSE SIZE", b"2 1 3 4"),
    ):
        assert talk.say(b"b SORT (" + order + b") UTF-8 ALL") == b"* SORT " + numbers + b"\r\nb OK Sorted\r\n", order


def test_sort_and_thread_say_what_they_do_not_know() -> None:
    """Section 5's grammar, and the charset's answer."""
    talk = holding(SIMPLE)
    assert talk.say(b"b SORT (SUBJECT) X-NONE ALL").startswith(b"b NO [BADCHARSET")
    assert talk.say(b"b THREAD REFERENCES X-NONE ALL").startswith(b"b NO [BADCHARSET")
    for broken in (
        b"SORT () UTF-8 ALL",
        b"SORT (COLOUR) UTF-8 ALL",
        b"SORT (REVERSE) UTF-8 ALL",
        b"SORT (DATE) ALL",
        b"THREAD JWZ UTF-8 ALL",
        b"THREAD REFERENCES",
    ):
        assert talk.say(b"b " + broken).startswith(b"b BAD"), broken
    assert talk.say(b"b THREAD REFERENCES UTF-8 SEEN") == b"* THREAD\r\nb OK Threaded\r\n"
    assert talk.say(b"b SORT (SUBJECT) UTF-8 SEEN") == b"* SORT\r\nb OK Sorted\r\n"
    assert (
        talk.say(b"b UID SORT RETURN (ALL MIN MAX COUNT) (DATE) UTF-8 ALL")
        == b'* ESEARCH (TAG "b") UID MIN 1 MAX 1 ALL 1 COUNT 1\r\nb OK Sorted\r\n'
    )
    assert {"DISPLAYFROM", "DISPLAYTO"} <= ORDERS


def test_messages_that_go_while_they_are_sorted() -> None:
    """Catches a SORT that fails because of them, or numbers that are off by those that went."""
    talk = holding(mail("b"), mail("c"), mail("a"))
    structures = talk.door.inbox.structures

    async def late(uids: list[int]) -> dict[int, object]:
        found = await structures(uids)
        if 2 in talk.door.inbox.messages:
            talk.door.inbox.remove(2)
        return found

    talk.door.inbox.structures = late  # type: ignore[method-assign,assignment]
    assert talk.say(b"b SORT (SUBJECT) UTF-8 ALL") == b"* SORT 3 1\r\nb OK Sorted\r\n"
    assert talk.say(b"c NOOP") == b"* 2 EXPUNGE\r\nc OK Done\r\n"


def test_a_search_that_fails_keeps_nothing() -> None:
    """RFC 5182 section 2.1: after a NO the result is empty, so that no command works on what an older search found."""
    talk = holding(SIMPLE)
    talk.say(b"b SEARCH RETURN (SAVE) ALL")

    async def fails(uids: object = None) -> list[object]:
        raise FolderError("UNAVAILABLE", "not now")

    good, talk.door.inbox.entries = talk.door.inbox.entries, fails  # type: ignore[method-assign,assignment]
    assert talk.say(b"c SEARCH RETURN (SAVE) SEEN").startswith(b"c NO")
    talk.door.inbox.entries = good  # type: ignore[method-assign]
    assert talk.say(b"d SEARCH $") == b"* SEARCH\r\nd OK Searched\r\n"


HTML = (
    b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"<html><style>p { color: red }</style><p>Gr=C3=BC=C3=9Fe</p><p>aus  Ulm</p></html>\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"Subject: x\r\n\r\nHello\r\n  you\tall\r\n", "Hello you all"),
        (HTML, "Grüße aus Ulm"),
        (b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + "ü".encode() * 9000, "ü" * CHARACTERS),
        (b"Content-Type: text/plain; charset=utf-8\r\n\r\nx" + "€".encode() * 9000, "x" + "€" * (CHARACTERS - 1)),
        (
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + base64.encodebytes("Grüße".encode()),
            "Grüße",
        ),
        (b"Content-Type: image/png\r\n\r\nxyz", ""),
        (b"Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nxyz", ""),
        (b"Subject: x\r\n\r\n", ""),
        (b"Subject: x\r\n\r\na\0b\x07c\x85", "abc…"),
    ],
)
def test_previews(data: bytes, words: str) -> None:
    """RFC 8970: the first words, decoded, without the style sheet; empty where there are none; at most 200 characters, none of them cut in two."""
    talk = holding(data)
    raw = words.encode()
    told = b'"%b"' % raw if raw.isascii() else b"{%d}\r\n%b" % (len(raw), raw)
    assert talk.say(b"b FETCH 1 PREVIEW") == b"* 1 FETCH (PREVIEW " + told + b")\r\nb OK Fetched\r\n"
    assert talk.say(b"c FETCH 1 (PREVIEW (LAZY) UID)") == b"* 1 FETCH (PREVIEW " + told + b" UID 1)\r\nc OK Fetched\r\n"
    assert talk.say(b"d FETCH 1 FLAGS") == b"* 1 FETCH (FLAGS (\\Recent))\r\nd OK Fetched\r\n"


def test_recent() -> None:
    r"""RFC 3501 section 2.3.2: what came before SELECT is recent to the first session that selects it for writing, and to none after it. Catches \Recent that
    is never set, and one that EXAMINE takes away."""
    door = Door()
    door.inbox.add(SIMPLE)
    door.inbox.add(SIMPLE)
    first, second = door.connect().login(), door.connect().login()
    assert first.say(b"a STATUS INBOX (RECENT)").startswith(b"* STATUS INBOX (RECENT 2)")
    assert b"* 2 RECENT" in first.say(b"b EXAMINE INBOX")
    assert b"(\\Recent)" in first.say(b"c FETCH 2 FLAGS")
    assert b"* 2 RECENT" in first.say(b"d SELECT INBOX")
    assert b"* 0 RECENT" in second.say(b"a SELECT INBOX")
    assert first.say(b"e SEARCH RECENT") == b"* SEARCH 1 2\r\ne OK Searched\r\n"
    assert second.say(b"b SEARCH RECENT") == b"* SEARCH\r\nb OK Searched\r\n"
    door.inbox.add(SIMPLE)
    assert first.say(b"f NOOP") == b"* 3 EXISTS\r\n* 3 RECENT\r\nf OK Done\r\n"
    third = door.connect().login()
    assert b"* 0 RECENT" in third.say(b"a SELECT INBOX")


@pytest.mark.parametrize(("first", "last"), [(1, 2), (2, 9), (5, 6), (-1, -1), (-2, -3), (-4, -9), (-1, -100)])
def test_parts_of_results(first: int, last: int) -> None:
    """RFC 9394: a range of results from either end, of search results and of spans alike."""
    numbers = [0, 1, 5, 6, 7]
    wanted = numbers[first - 1 : last] if first > 0 else [n for at, n in enumerate(numbers) if first >= at - len(numbers) >= last]
    assert list(part(numbers, first, last)) == wanted
    assert [n for low, high in sliced([(0, 2), (5, 8)], first, last) for n in range(low, high)] == wanted


def test_what_is_missing() -> None:
    """Against brute force: the gaps of a folder, and how far a client's knowledge of it holds."""
    assert rendered(missing([(1, 3), (5, 9)], [2, 6, 7])) == b"1,3,5,8:9"
    assert missing([(4, 3)], []) == []
    assert compressed([3, 4, 5, 9, 2]) == b"3:5,9,2"

    def sets(raw: bytes) -> SequenceSet:
        found = parse_sequence_set(raw)
        assert found is not None
        return found

    uids = [3, 4, 8, 9]
    assert agreed(sets(b"1:4"), sets(b"3:4,8:9"), uids) == 9
    assert agreed(sets(b"2,3"), sets(b"4,7"), uids) == 4
    assert agreed(sets(b"1:4294967295"), sets(b"3:4294967295"), uids) == 4
    assert agreed(sets(b"9"), sets(b"9"), uids) == 0
