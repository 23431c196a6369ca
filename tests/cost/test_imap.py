"""What long commands on large folders cost, and that none holds the others up (rule 8d)."""

from __future__ import annotations

import gc
import time

import pytest

from hornetmail.mime.subject import base_subject
from hornetmail.mime.threads import Threaded, by_references, ordered_subject, rendered
from hornetmail.net.serving.pump import Pump
from hornetmail.servers.imap.session import ImapSession
from hornetmail.wire.imap.server.server import ImapServerEngine
from hornetmail.wire.imap.tokens.names import Pattern
from hornetmail.wire.imap.tokens.sequences import missing
from tests.cost.turns import MOST, Line, MeasuredReactor, calm, grows
from tests.servers.imap.door import Door

MESSAGES = 10_000


def mail(number: int) -> bytes:
    """One of many threads of ten, with a subject in an encoded word now and then."""
    subject = f"=?utf-8?q?Gr=C3=BC=C3=9Fe_{number % 700}?=" if number % 3 else f"[list] Re: Words {number % 700}"
    above = f"References: <{number // 10 * 10}@x.test> <{number - 1}@x.test>\r\n" if number % 10 else ""
    return (
        f"From: Person {number % 97} <p{number % 97}@x.test>\r\nTo: alice@example.test\r\nSubject: {subject}\r\n"
        f"Date: {number % 28 + 1} Nov 2025 {number % 24:02}:00:00 +0100\r\nMessage-ID: <{number}@x.test>\r\n{above}\r\nWords\r\n"
    ).encode()


class Full:
    """A folder of many messages, whose structures are kept already."""

    def __init__(self, count: int = MESSAGES) -> None:
        self.reactor = MeasuredReactor()
        self.door = Door(self.reactor)
        for number in range(count):
            self.door.inbox.add(mail(number))
        self.line = self.connected()
        self.line.say(b"a SELECT INBOX\r\na SORT (SUBJECT) UTF-8 ALL\r\n")
        self.reactor.longest = 0.0

    def connected(self) -> Line:
        """Another client."""
        session = ImapSession(self.door.site)
        line = Line(self.reactor, Pump(ImapServerEngine(), lambda: session, self.reactor))  # type: ignore[arg-type]
        line.say(b"l LOGIN alice@example.test secret\r\n")
        return line


@pytest.fixture(scope="module")
def full() -> Full:
    return Full()


@pytest.mark.parametrize(
    "said",
    [
        b"SORT (SUBJECT REVERSE DATE FROM) UTF-8 ALL",
        b"SORT (REVERSE ARRIVAL) UTF-8 ALL",
        b"SORT RETURN (PARTIAL 1:50) (DATE) UTF-8 ALL",
        b"THREAD REFERENCES UTF-8 ALL",
        b"THREAD ORDEREDSUBJECT UTF-8 ALL",
        b"SEARCH RETURN (SAVE COUNT) MODSEQ 5 YOUNGER 100",
        b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)",
        b"UID FETCH 1:* (PREVIEW)",
        b"FETCH 1:* (UID FLAGS MODSEQ RFC822.SIZE INTERNALDATE)",
        b"FETCH 1:* (ENVELOPE BODYSTRUCTURE)",
        b"FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM SUBJECT X-ODD)] BODY.PEEK[HEADER.FIELDS (FROM DATE)])",
        b"FETCH 1:* (BODY.PEEK[])",
    ],
)
def test_no_turn_is_long(full: Full, said: bytes) -> None:
    """Ten thousand messages sorted, threaded or told at once would keep everybody waiting for a second."""

    def longest() -> float:
        full.reactor.longest = 0.0
        assert b"a OK" in full.line.say(b"a " + said + b"\r\n")
        return full.reactor.longest

    assert calm(longest) < MOST


@pytest.mark.parametrize(
    ("items", "most"),
    [
        (b"FLAGS", 2e-6),
        (b"UID FLAGS MODSEQ", 2e-6),
        (b"ENVELOPE BODYSTRUCTURE", 5e-6),
        (b"BODY.PEEK[HEADER.FIELDS (FROM TO DATE)]", 8e-6),
    ],
)
def test_a_message_costs_next_to_nothing(full: Full, items: bytes, most: float) -> None:
    """What mail programs ask of whole folders is told in one go, 0.3 us of the processor for the flags of a message. Would catch a coroutine, a renderer
    or a lookup of each message; ``most``, in seconds, is several times what it takes."""
    line = full.connected()
    line.say(b"s SELECT INBOX\r\n")
    line.say(b"a FETCH 1:* (" + items + b")\r\n")

    def seconds() -> float:
        began = time.thread_time()
        assert line.say(b"a FETCH 1:* (" + items + b")\r\n").count(b" FETCH (") == len(full.door.inbox.messages)
        return time.thread_time() - began

    assert min(seconds() for _ in range(5)) / MESSAGES < most * (MOST / 0.050)


def test_resynchronisation(full: Full) -> None:
    """RFC 7162: a client that was away for some changes is up to date within 20 ms of the processor, however large the folder is. Catches comparing all with
    all, and answers about what did not change."""
    inbox = full.door.inbox
    before = inbox.modseq
    for uid in range(5000, 5050):
        inbox.remove(uid)
    full.connected().say(b"s SELECT INBOX\r\ns STORE 1:50 +FLAGS.SILENT (\\Flagged)\r\n")

    def seconds() -> float:
        line = full.connected()
        line.say(b"e ENABLE QRESYNC\r\n")
        began = time.thread_time()
        said = line.say(b"s SELECT INBOX (QRESYNC (%d %d))\r\n" % (inbox.info.uidvalidity, before))
        took = time.thread_time() - began
        assert b"* VANISHED (EARLIER) 5000:5049\r\n" in said
        assert said.count(b" FETCH (") == 50
        return took

    least = min(seconds() for _ in range(5))
    assert least < 0.020 * (MOST / 0.050), least


def thread(messages: list[Threaded], algorithm: str = "references") -> bytes:
    """All steps at once."""
    work = (by_references if algorithm == "references" else ordered_subject)(messages)
    while True:
        try:
            next(work)
        except StopIteration as done:
            roots = done.value
            break
    answer = rendered(roots)
    while True:
        try:
            next(answer)
        except StopIteration as done:
            return bytes(done.value)


@pytest.mark.parametrize("shape", ["chain", "star", "backwards", "strangers", "subjects", "rings", "relinked"])
def test_threads_cost_what_they_are_long(shape: str) -> None:
    """A thread of all messages, each the answer to the one before; all answers to one; references to what is not there; rings; links that are made anew: none
    may cost more than its length, whoever wrote them."""

    def name(number: int) -> bytes:
        return b"<%d@x>" % number

    def one(number: int, count: int) -> Threaded:
        references: dict[str, tuple[bytes, ...]] = {
            "chain": (name(number - 1),) if number else (),
            "star": (name(-1),),
            "backwards": (name(count - number), name(count - number - 1)),
            "strangers": tuple(b"<%d.%d@y>" % (number, step) for step in range(20)),
            "subjects": (),
            "rings": (name((number + 1) % count), name((number + count // 2) % count)),
            "relinked": (name(-1), name((number * 7 + 1) % count)),
        }
        return Threaded(
            number + 1,
            float(number % 100),
            "same" if shape == "subjects" else str(number),
            number % 2 > 0,
            name(number),
            references[shape],
        )

    def cost(count: int) -> None:
        thread([one(number, count) for number in range(count)])

    gc.disable()  # how often it looks through all that lives is not what is measured
    try:
        grows(cost, 1_000)
    finally:
        gc.enable()


def test_subjects_cost_what_they_are_long() -> None:
    """``Re: Re: Re:…`` and ``[a] [a] [a]…``."""
    for text in ("Re: ", "[a] ", "(fwd) ", "[fwd: ", "[", "re[a]", " "):
        grows(lambda n, text=text: base_subject(text * n), 20_000)  # type: ignore[misc]

    def seconds() -> float:
        began = time.thread_time()
        base_subject("[a]" * 100_000)
        return time.thread_time() - began

    assert calm(seconds) < MOST


def test_gaps_cost_nothing() -> None:
    """UIDs that were never given (after a crash 100,000 are left out) are told as ranges."""
    assert missing([(1, 4_000_000_000)], [5, 4_000_000_000]) == [(1, 4), (6, 3_999_999_999)]
    grows(lambda n: missing([(1, 4 * n)], range(1, 4 * n, 2)), 20_000)


def test_patterns_cost_what_names_are_long() -> None:
    """LIST with stars in it."""
    grows(lambda n: Pattern("*a" * 400).matches("a" * n), 2_000)
