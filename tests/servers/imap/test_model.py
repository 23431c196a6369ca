"""Random commands from several sessions on one mailbox against a simple model: whatever was done by whom in whatever order, each client's own book, kept from
nothing but what it was told, agrees with the mailbox as soon as it has asked (RFC 3501 section 7, RFC 7162)."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from hornetmail.wire.imap.tokens.sequences import compressed, parse_sequence_set
from tests.peers.imap_lines import parsed
from tests.servers.imap.door import SIMPLE, Door

FLAGS = ("\\Seen", "\\Deleted", "$Work")


def responses(data: bytes) -> list[bytes]:
    """Lines, with their literals."""
    found, at = [], 0
    while at < len(data):
        end = data.index(b"\r\n", at) + 2
        while (literal := re.search(rb"\{(\d+)\}\r\n\Z", data[at:end])) is not None:
            end = data.index(b"\r\n", end + int(literal[1])) + 2
        found.append(data[at : end - 2])
        at = end
    return found


class Message:
    """What a client knows of a message; ``uid`` 0 and ``flags`` None: nothing yet."""

    def __init__(self, uid: int = 0) -> None:
        self.uid = uid
        self.flags: frozenset[str] | None = None
        self.modseq = 0


class Client:
    """A client that keeps its book. ``highest``: the modseq up to which it was told of everything."""

    def __init__(self, door: Door, words: bytes) -> None:
        self.door = door
        self.words = words
        self.book: list[Message] = []
        self.highest = 0
        self.idling = False
        self.modified: list[int] = []
        self.last = b""
        self.connect()

    def connect(self) -> None:
        """Anew; who resynchronises keeps its book, by UID."""
        self.talk = self.door.connect().login()
        self.idling = False
        if self.words:
            self.say(b"ENABLE " + self.words)
        if self.words == b"QRESYNC" and self.highest:
            self.book = list(itertools.takewhile(lambda message: message.uid and message.flags is not None, self.book))
            among = b" " + compressed([message.uid for message in self.book]) if self.book else b""
            data = self.talk.say(b"x SELECT INBOX (QRESYNC (1001 %d%b))" % (self.highest, among))
            lines = responses(data)
            earlier = [line for line in lines if line.startswith(b"* VANISHED")]
            self.hear(b"".join(line + b"\r\n" for line in earlier + [line for line in lines if line not in earlier]))
        else:
            self.book = []
            self.say(b"SELECT INBOX")

    def say(self, command: bytes) -> None:
        """A command; what it brings is entered."""
        data = self.talk.say(b"x " + command)
        assert b"\r\nx BAD" not in b"\r\n" + data, (command, data)
        self.last = data.rpartition(b"\r\nx ")[2][:3] if b"\r\nx " in data else data[2:5]
        if command.startswith((b"FETCH", b"STORE", b"SEARCH")):  # section 7.4.1: the client says numbers of its own meanwhile
            assert b" EXPUNGE\r\n" not in data
            assert b"* VANISHED " not in data.replace(b"* VANISHED (EARLIER)", b"")
        self.hear(data)

    def hear(self, data: bytes) -> None:
        self.modified = []
        for line in responses(data):
            if (match := re.search(rb"\[HIGHESTMODSEQ (\d+)\]", line)) is not None:
                self.highest = max(self.highest, int(match[1]))
            if (match := re.search(rb"\[MODIFIED ([0-9:,]+)\]", line)) is not None:
                self.modified = numbers(match[1])
            if not line.startswith(b"* ") or line.startswith((b"* OK", b"* FLAGS", b"* SEARCH", b"* ENABLED", b"* ESEARCH")):
                continue
            said = parsed(line[2:])
            if said[0] == b"VANISHED":
                gone = set(numbers(said[-1]))
                strangers = len(gone) - sum(message.uid in gone for message in self.book)
                assert said[1] == [b"EARLIER"] or strangers <= sum(not message.uid for message in self.book), (
                    "VANISHED of what this client was not told of"
                )
                self.book = [message for message in self.book if message.uid not in gone]
                if said[1] != [b"EARLIER"]:  # of which it had the number only
                    for _ in range(strangers):
                        self.book.remove(next(message for message in self.book if not message.uid))
            elif said[1] == b"EXISTS":
                assert int(said[0]) >= len(self.book), "EXISTS takes messages away"
                self.book += [Message() for _ in range(int(said[0]) - len(self.book))]
            elif said[1] == b"EXPUNGE":
                assert self.words != b"QRESYNC"
                del self.book[int(said[0]) - 1]
            elif said[1] == b"FETCH":
                self.enter(said)

    def enter(self, said: list[Any]) -> None:
        """An untagged FETCH."""
        message = self.book[int(said[0]) - 1]
        items = dict(zip(said[2][::2], said[2][1::2], strict=True))
        if b"UID" in items:
            assert message.uid in (0, int(items[b"UID"])), "a number that means another message"
            message.uid = int(items[b"UID"])
        if b"FLAGS" in items:
            message.flags = frozenset(flag.decode() for flag in items[b"FLAGS"]) - {"\\Recent"}
            assert b"MODSEQ" in items or not self.words, "flags without their modseq"
        if b"MODSEQ" in items:
            message.modseq = int(items[b"MODSEQ"][0])

    def ask(self) -> None:
        """What is new."""
        self.say(b"NOOP")
        self.learn()
        if self.words:
            self.highest = max([self.highest, *[message.modseq for message in self.book]])

    def learn(self) -> None:
        """Of what it knows the number only, the rest."""
        while new := [number for number, message in enumerate(self.book, 1) if not message.uid or message.flags is None]:
            self.say(b"FETCH %b (UID FLAGS%b)" % (compressed(new), b" MODSEQ" if self.words else b""))
            if b"NO" in self.last:  # of these some have gone, and only NOOP may say so
                self.say(b"NOOP")


def numbers(raw: bytes) -> list[int]:
    found = parse_sequence_set(raw)
    assert found is not None
    return [n for low, high in found.ranges for n in range(low, high + 1)]


class Mailbox(RuleBasedStateMachine):
    """The model: flags by UID, and who looks."""

    @initialize()
    def begin(self) -> None:
        self.door = Door()
        self.model: dict[int, frozenset[str]] = {}
        for _ in range(3):
            self.deliver()
        self.clients = [Client(self.door, words) for words in (b"", b"CONDSTORE", b"QRESYNC")]
        for client in self.clients:
            client.ask()

    def teardown(self) -> None:
        for client in getattr(self, "clients", []):
            client.talk.pump.connectionLost(Failure(ConnectionDone()))

    who = st.integers(0, 2)
    which = st.lists(st.integers(0, 7), min_size=1, max_size=3)

    def awake(self, who: int) -> Client:
        client = self.clients[who]
        if client.idling:
            client.idling = False
            client.hear(client.talk.say(b"DONE"))
        return client

    def chosen(self, client: Client, which: list[int]) -> list[int]:
        return sorted({1 + place % len(client.book) for place in which}) if client.book else []

    @rule()
    def deliver(self) -> None:
        self.model[self.door.inbox.add(SIMPLE)] = frozenset()

    @rule(place=st.integers(0, 7))
    def drained(self, place: int) -> None:
        """One goes home."""
        if self.model:
            uid = sorted(self.model)[place % len(self.model)]
            del self.model[uid]
            self.door.inbox.remove(uid)

    @rule(
        who=who,
        which=which,
        flag=st.sampled_from(FLAGS),
        op=st.sampled_from("+- "),
        silent=st.booleans(),
        uid=st.booleans(),
        careful=st.booleans(),
    )
    def store(self, who: int, which: list[int], flag: str, op: str, silent: bool, uid: bool, careful: bool) -> None:
        client = self.awake(who)
        client.learn()
        places = self.chosen(client, which)
        named = [client.book[place - 1].uid for place in places]
        if not places or (0 in named and (uid or careful)):
            return
        since = min((client.book[place - 1].modseq for place in places), default=0)
        careful = careful and bool(client.words) and since > 0
        before = {u: self.door.inbox.messages[u].entry.modseq for u in named if u in self.model}
        word = b"%bFLAGS%b (%b)" % (op.strip().encode(), b".SILENT" * silent, flag.encode())
        condition = b"(UNCHANGEDSINCE %d) " % since if careful else b""
        numbered = compressed(named if uid else places)
        client.say(b"%bSTORE %b %b%b" % (b"UID " * uid, numbered, condition, word))
        failed = [u for u in before if careful and before[u] > since]
        told = client.modified if uid else [named[places.index(number)] for number in client.modified]
        assert told == failed
        for u in before:
            if u not in failed:
                old = self.model[u]
                self.model[u] = old | {flag} if op == "+" else old - {flag} if op == "-" else frozenset({flag})
                known = [message for message in client.book if message.uid == u]
                if silent and known:
                    known[0].flags = self.model[u]

    @rule(who=who, which=which)
    def read(self, who: int, which: list[int]) -> None:
        client = self.awake(who)
        client.learn()
        places = self.chosen(client, which)
        if places:
            named = [client.book[place - 1].uid for place in places]
            client.say(b"FETCH %b BODY[TEXT]" % compressed(places))
            for u in named:
                if u in self.model:
                    self.model[u] |= {"\\Seen"}

    @rule(who=who)
    def expunge(self, who: int) -> None:
        self.awake(who).say(b"EXPUNGE")
        self.model = {uid: flags for uid, flags in self.model.items() if "\\Deleted" not in flags}

    @rule(who=who, which=which)
    def expunge_some(self, who: int, which: list[int]) -> None:
        client = self.awake(who)
        client.learn()
        named = [uid for place in self.chosen(client, which) if (uid := client.book[place - 1].uid)]
        if named:
            client.say(b"UID EXPUNGE " + compressed(named))
            self.model = {uid: flags for uid, flags in self.model.items() if "\\Deleted" not in flags or uid not in named}

    @rule(who=who, which=which)
    def copy(self, who: int, which: list[int]) -> None:
        """Into itself."""
        client = self.awake(who)
        client.learn()
        places = self.chosen(client, which)
        if places:
            named = [client.book[place - 1].uid for place in places]
            next_uid = self.door.inbox.uidnext
            client.say(b"COPY %b INBOX" % compressed(places))
            for number, u in enumerate(u for u in named if u in self.model):
                self.model[next_uid + number] = self.model[u]

    @rule(who=who, wanted=st.sampled_from(FLAGS))
    def search(self, who: int, wanted: str) -> None:
        """What is kept names the same messages in the next command."""
        client = self.awake(who)
        client.ask()
        key = f"KEYWORD {wanted}" if wanted.startswith("$") else wanted[1:].upper()
        client.say(b"SEARCH RETURN (SAVE) " + key.encode())
        data = client.talk.say(b"y UID SEARCH $")
        assert [int(n) for n in data.splitlines()[0].split()[2:]] == [
            uid for uid, flags in sorted(self.model.items()) if wanted in flags
        ]

    @rule(who=who)
    def ask(self, who: int) -> None:
        client = self.awake(who)
        client.ask()
        self.agrees(client)

    @rule(who=who)
    def idle(self, who: int) -> None:
        client = self.awake(who)
        client.hear(client.talk.say(b"x IDLE").replace(b"+ idling\r\n", b""))
        client.idling = True

    @rule()
    def grows_up(self) -> None:
        """The simple one finds out what the server can do, while it must not be told what went."""
        client = self.awake(0)
        if not client.words and client.book:
            client.say(b"FETCH 1 UID")
            client.words = b"QRESYNC"
            client.say(b"ENABLE QRESYNC")
            for message in client.book:
                message.flags = None

    @rule(who=st.sampled_from((0, 1, 2, 2, 2)))
    def comes_back(self, who: int) -> None:
        """The line is lost, and the client connects anew."""
        client = self.clients[who]
        client.talk.pump.connectionLost(Failure(ConnectionDone()))
        client.connect()
        client.ask()
        self.agrees(client)

    def agrees(self, client: Client) -> None:
        book = {message.uid: message.flags for message in client.book}
        assert [message.uid for message in client.book] == sorted(self.model)
        assert book == self.model
        if client.words:
            truth = {uid: kept.entry.modseq for uid, kept in self.door.inbox.messages.items()}
            assert {message.uid: message.modseq for message in client.book} == truth

    @invariant()
    def the_mailbox_is_as_it_should_be(self) -> None:
        if not hasattr(self, "door"):
            return
        assert {uid: kept.entry.flags for uid, kept in self.door.inbox.messages.items()} == self.model
        self.door.clock.advance(0)
        for client in self.clients:
            if client.idling:
                client.hear(client.talk.heard())


def test_sessions_agree() -> None:
    """Catches a session that is told too little, too much, in the wrong order, or by the wrong number."""
    run_state_machine_as_test(
        Mailbox, settings=settings(max_examples=100, stateful_step_count=40, deadline=None, derandomize=True)
    )


@pytest.mark.long
def test_sessions_agree_at_length() -> None:
    """The same for some minutes."""
    run_state_machine_as_test(Mailbox, settings=settings(max_examples=2000, stateful_step_count=80, deadline=None))
