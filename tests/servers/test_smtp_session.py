"""What SMTP sessions put into the queue, and what they answer when something of ours fails."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from hornetmail.core.events import Alarm, MessageAccepted
from hornetmail.core.mail.envelope import Direction, Door
from hornetmail.disk.files import DiskFull
from hornetmail.mime.structure import scan
from hornetmail.net.serving.pump import Pump
from hornetmail.servers import smtp_policy
from hornetmail.servers.smtp import SMTPSession
from hornetmail.servers.smtp_policy import SMTPPolicy
from hornetmail.servers.smtp_transaction import Transaction
from tests.servers.smtp_fakes import World

HOST = "mx.hornet.test"
LOGIN = b"EHLO pc\r\nAUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=\r\n"


class Client:
    def __init__(self, policy: SMTPPolicy, peer: str = "198.51.100.7") -> None:
        self.world = World(Clock(), policy)
        self.world.clock.advance(1_790_000_000)
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", peer, 4321))
        self.pump = self.world.pump()
        self.pump.makeConnection(self.transport)
        self.transport.clear()

    def say(self, data: bytes) -> list[str]:
        self.pump.dataReceived(data)
        return self.answers()

    def answers(self) -> list[str]:
        value = self.transport.value().decode()
        self.transport.clear()
        return [line for line in value.splitlines() if line[3:4] == " "]

    def mail(
        self,
        *recipients: str,
        body: bytes = b"Subject: x\r\n\r\ntext\r\n",
        sender: str = "a@far.test",
        hello: bytes = b"EHLO pc\r\n",
    ) -> str:
        lines = [b"MAIL FROM:<%s>" % sender.encode(), *(b"RCPT TO:<%s>" % r.encode() for r in recipients), b"DATA"]
        answers = self.say(hello + b"\r\n".join(lines) + b"\r\n")
        assert answers[-1].startswith("354"), answers
        return self.say(body + b".\r\n")[-1]


def mx() -> Client:
    return Client(smtp_policy.mx(HOST))


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Keeps logged errors from failing the test, and shows them."""
    logged: list[Any] = []
    log = type("Log", (), dict.fromkeys(("failure", "error", "info", "debug"), lambda *a, **k: logged.append(a)))()
    for owner in (Pump, SMTPSession, Transaction):
        monkeypatch.setattr(owner, "log", log)
    return logged


def test_a_message_from_outside() -> None:
    """Would catch a wrong envelope, origin, direction, body or trace line in the queue."""
    client = mx()
    assert client.mail("Alice@Example.test").startswith("250 2.0.0 accepted as ")
    queue = client.world.queue
    (message,) = queue.messages
    assert (message.tenant, message.domain, message.direction) == (1, "example.test", Direction.IN)
    assert message.envelope.sender == "a@far.test"
    assert [r.address for r in message.envelope.recipients] == ["Alice@Example.test"]
    assert (message.origin.door, message.origin.peer, message.origin.helo) == (Door.MX, "198.51.100.7", "pc")
    assert queue.bodies == [b"Subject: x\r\n\r\ntext\r\n"]
    assert queue.extras == [(True, "")]
    lines = message.trace.decode().split("\r\n")
    assert lines[0] == "Received: from pc ([198.51.100.7])"
    assert lines[1] == "\tby mx.hornet.test (HornetMail) with ESMTP"
    assert lines[2].startswith("\tid ")
    assert lines[2].endswith(" for <Alice@Example.test>;")
    assert lines[3] == "\tMon, 21 Sep 2026 14:13:20 +0000"
    assert lines[4:] == [""]
    assert client.world.bus.events == [MessageAccepted(message.id, "example.test")]


def test_recipients_of_several_domains_become_messages_of_their_own() -> None:
    """Would catch mail of one tenant in the queue or archive of another (rule 25), and a Bcc told by the trace line."""
    client = mx()
    client.mail("alice@example.test", "b@other.test", "bob@example.test", "c@sister.test", "ALICE@example.test")
    queue = client.world.queue
    assert [(m.tenant, m.domain, [r.address for r in m.envelope.recipients]) for m in queue.messages] == [
        (1, "example.test", ["alice@example.test", "bob@example.test"]),
        (2, "other.test", ["b@other.test"]),
        (1, "sister.test", ["c@sister.test"]),
    ]
    assert [archive for archive, _ in queue.extras] == [True, True, False]
    assert len(set(queue.bodies)) == 1
    assert not any(b" for <" in m.trace for m in queue.messages)


def test_one_failed_part_fails_the_whole(quiet: list[Any]) -> None:
    """Would catch a 250 for a transaction of which a part was not stored, and parts that stay behind after the 451."""
    client = mx()
    client.world.queue.fail_commit = lambda domain: domain == "other.test"
    assert client.mail("alice@example.test", "b@other.test") == "451 4.3.0 the message could not be stored, come again"
    assert client.world.queue.removed == [100]
    assert client.world.bus.events == []
    assert quiet


def test_250_only_when_it_is_stored() -> None:
    """Would catch a 250 before the commit (the way of a message, 2)."""
    client = mx()
    client.world.queue.gate = Deferred()
    client.say(b"EHLO pc\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
    assert client.say(b"x\r\n.\r\nNOOP\r\n") == []
    client.world.queue.gate.callback(None)
    answers = client.answers()
    assert [a[:3] for a in answers] == ["250", "250"]


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (DiskFull("full"), "452 4.3.1 no room for mail now, come again"),
        (OSError("io"), "451 4.3.0 the message could not be stored, come again"),
    ],
)
def test_a_failing_disk_is_a_4xx(quiet: list[Any], error: Exception, answer: str) -> None:
    """Would catch a 5xx, or a torn connection, for trouble of ours; the session goes on afterwards."""
    client = mx()
    client.world.queue.fail_write = error
    assert client.mail("alice@example.test") == answer
    assert client.world.queue.deposits[0].aborted
    client.world.queue.fail_write = None
    assert client.mail("alice@example.test", hello=b"").startswith("250")


def test_lost_in_the_middle_is_forgotten() -> None:
    """Would catch half a message that stays, or is stored."""
    client = mx()
    client.say(b"EHLO pc\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nhalf")
    client.pump.connectionLost(Failure(ConnectionLost()))
    assert client.world.queue.deposits[0].aborted
    assert client.world.queue.messages == []


def test_lost_while_being_stored_is_kept() -> None:
    """Would catch a message torn out of the commit because its client went away."""
    client = mx()
    client.world.queue.gate = Deferred()
    client.say(b"EHLO pc\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nx\r\n.\r\n")
    client.pump.connectionLost(Failure(ConnectionLost()))
    client.world.queue.gate.callback(None)
    assert len(client.world.queue.messages) == 1
    assert not client.world.queue.deposits[0].aborted


def test_smuggling_leaves_nothing_behind() -> None:
    """Would catch the deposit of a refused message that is never aborted."""
    client = mx()
    assert client.mail("alice@example.test", body=b"a\n.\nb\r\n").startswith("550 5.6.11")
    assert client.world.queue.deposits[0].aborted
    assert client.world.queue.messages == []


def test_a_slow_callforward_keeps_the_order() -> None:
    """Would catch pipelined answers out of order while a recipient is being asked for."""
    client = mx()
    client.world.recipients.gate = Deferred()
    assert [a[:3] for a in client.say(b"EHLO pc\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nNOOP\r\n")] == ["250", "250"]
    gate, client.world.recipients.gate = client.world.recipients.gate, None
    gate.callback(None)
    assert client.answers() == ["250 2.1.5 recipient ok", "250 2.0.0 ok"]


def test_our_own_crash_is_a_4xx(quiet: list[Any]) -> None:
    """Would catch a connection that hangs or breaks after an error of ours."""
    client = mx()
    answers = client.say(b"EHLO pc\r\nMAIL FROM:<>\r\nRCPT TO:<crash@example.test>\r\nRCPT TO:<alice@example.test>\r\n")
    assert [a[:3] for a in answers] == ["250", "250", "451", "250"]
    client = Client(smtp_policy.submission(HOST, plaintext=True))
    assert client.say(b"EHLO pc\r\nAUTH PLAIN AGEAYnJva2Vu\r\n")[-1].startswith("454")


def test_a_log_in_names_its_door() -> None:
    """Would catch a log in which nobody sees through which door somebody guesses, unlike IMAP's and POP3's."""
    client = Client(smtp_policy.submission(HOST, plaintext=True))
    assert client.say(LOGIN)[-1].startswith("235")
    assert client.world.access.asked == [("alice@example.test", "submission", "198.51.100.7")]


def test_too_many_recipients() -> None:
    """Would catch a limit that refuses for good, or none (452 4.5.3)."""
    client = Client(SMTPPolicy(Door.MX, HOST, max_recipients=2))
    client.say(b"EHLO pc\r\nMAIL FROM:<>\r\n")
    answers = client.say(b"".join(b"RCPT TO:<u%d@example.test>\r\n" % n for n in range(3)))
    assert [a[:9] for a in answers] == ["250 2.1.5", "250 2.1.5", "452 4.5.3"]


def test_submission_strips_bcc_and_adds_what_is_missing() -> None:
    """Would catch a Bcc that travels on (rule 14), and mail without Date or Message-ID."""
    client = Client(smtp_policy.submission(HOST, plaintext=True))
    body = b"From: a\r\nBCC: secret@x.test,\r\n\tother@x.test\r\nTo: b\r\nresent-bcc: y\r\n\r\nBcc: in the text stays\r\n"
    assert client.mail("b@far.test", "alice@example.test", sender="alias@example.test", hello=LOGIN, body=body).startswith("250")
    out, inside = client.world.queue.messages
    assert client.world.queue.bodies[0] == b"From: a\r\nTo: b\r\n\r\nBcc: in the text stays\r\n"
    assert (out.direction, out.domain, out.tenant) == (Direction.OUT, "example.test", 1)
    assert (inside.direction, inside.domain) == (Direction.INTERNAL, "example.test")
    assert out.origin.login == "alice@example.test"
    assert b" with ESMTPA\r\n" in out.trace
    assert b"\r\nDate: " in out.trace
    assert b"\r\nMessage-ID: <" in out.trace
    body = b"Date: x\r\nmessage-id: <y>\r\n\r\n"
    client.mail("b@far.test", sender="alice@example.test", hello=b"", body=body)
    assert client.world.queue.messages[-1].trace.count(b"\r\n") == 4


def test_submission_without_a_body_or_header() -> None:
    """Would catch a held header that is never written when no empty line comes."""
    for body in (b"", b"Subject: only\r\n", b"\r\nno header\r\n"):
        client = Client(smtp_policy.submission(HOST, plaintext=True))
        assert client.mail("b@far.test", sender="alice@example.test", hello=LOGIN, body=body).startswith("250")
        assert client.world.queue.bodies == [body]


@pytest.mark.parametrize("door", ["mx", "lmtp", "submission"])
@pytest.mark.parametrize("line", [b"From a@b Mon Nov 27 20:00:00 2026\r\n", b">From a@b Mon Nov 27\r\n"])
def test_the_line_of_an_mbox(door: str, line: bytes) -> None:
    """A message that begins as in an mbox file lost its header at each door: an empty line was put in front of all of it."""
    policy = {
        "mx": smtp_policy.mx(HOST),
        "lmtp": smtp_policy.lmtp(HOST),
        "submission": smtp_policy.submission(HOST, plaintext=True),
    }[door]
    client = Client(policy)
    body = line + b"Subject: kept\r\nFrom: <a@far.test>\r\nBcc: c@far.test\r\nContent-Type: text/html\r\n\r\ntext\r\n"
    hello = {"mx": b"EHLO pc\r\n", "lmtp": b"LHLO pc\r\n", "submission": LOGIN}[door]
    assert client.mail("alice@example.test", sender="alice@example.test", hello=hello, body=body).startswith("250")
    queue = client.world.queue
    whole = queue.messages[0].trace + queue.bodies[0]
    part = scan(whole)
    assert part.summary is not None
    assert (part.summary.subject, part.subtype) == (b"kept", "HTML")
    assert whole[part.body :] == b"text\r\n"
    assert b"\r\nX-Mailbox-Line: " + line in whole
    assert (b"Bcc" in whole) is (door != "submission")
    assert queue.bodies[0].startswith(line), "what came is what is kept"


def test_relay_door() -> None:
    """Would catch outgoing mail of a primary with the wrong domain or direction (C9), null sender included."""
    client = Client(smtp_policy.relay(HOST), peer="192.0.2.9")
    assert client.mail("x@far.test", "b@sister.test", "c@other.test", sender="").startswith("250")
    assert [(m.direction, m.domain, m.tenant) for m in client.world.queue.messages] == [
        (Direction.OUT, "example.test", 1),
        (Direction.INTERNAL, "sister.test", 1),
        (Direction.IN, "other.test", 2),
    ]
    assert client.world.queue.messages[0].origin.trusted


def test_a_loop_through_the_primary_is_held() -> None:
    """Would catch mail that circles between us and the primary (rule 7), and honest forwarding held as a loop."""
    client = mx()
    client.mail("alice@example.test")
    trace = client.world.queue.messages[0].trace
    back = Client(smtp_policy.relay(HOST), peer="192.0.2.9")
    assert back.mail("ALICE@example.test", sender="", body=trace + b"Subject: x\r\n\r\n").startswith("250")
    assert back.world.queue.extras == [(True, "loop")]
    assert [type(e) for e in back.world.bus.events] == [MessageAccepted, Alarm]
    assert back.mail("bob@example.test", sender="", hello=b"", body=trace + b"Subject: x\r\n\r\n").startswith("250")
    assert back.world.queue.extras[-1] == (True, "")
    stranger = mx()
    stranger.mail("alice@example.test", body=trace + b"Subject: x\r\n\r\n")
    assert stranger.world.queue.extras == [(True, "")]


def test_eight_bit_is_noticed() -> None:
    """Would catch undeclared 8-bit text that is handed on as 7-bit."""
    client = mx()
    client.mail("alice@example.test", body="Subject: ü\r\n\r\n".encode())
    assert client.world.queue.messages[0].envelope.eight_bit


def test_goodbye_waits_for_the_transaction() -> None:
    """Would catch a SIGTERM that cuts a message (plugins: running transactions finish, idle ones get 421)."""
    client = mx()
    client.say(b"EHLO pc\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nx\r\n")
    client.pump.shutdown()
    assert client.answers() == []
    answers = client.say(b".\r\n")
    assert [a[:3] for a in answers] == ["250", "421"]
    idle = mx()
    idle.pump.shutdown()
    assert idle.answers() == ["421 4.3.2 mx.hornet.test goes down, come again"]
    assert idle.transport.disconnecting


def test_silence_is_ended() -> None:
    """Would catch idle connections kept for ever."""
    client = mx()
    client.world.clock.advance(301)
    assert client.answers() == ["421 4.4.2 mx.hornet.test waited long enough"]


def test_size_declared() -> None:
    """Would catch a message taken in only to be refused at its end."""
    client = Client(SMTPPolicy(Door.MX, HOST, max_size=1000))
    assert client.say(b"EHLO pc\r\nMAIL FROM:<> SIZE=1001\r\n")[-1].startswith("552 5.3.4")


def test_a_session_holds_no_cycle() -> None:
    """Would catch sessions that only the garbage collector frees: a load of connections each with a message would pile them up."""
    gc.disable()
    try:
        session = SMTPSession(smtp_policy.mx(HOST), None)  # type: ignore[arg-type]
        gone = weakref.ref(session)
        del session
        assert gone() is None
    finally:
        gc.enable()


def test_a_full_mailbox_is_told_before_the_text(quiet: list[Any]) -> None:
    """Would catch a whole message taken for a mailbox that has no room for it, where the portal is the mail server: its sender then learns of it by a bounce; a
    mail program told to come again later, which it does not; and mail refused because the portal is away."""
    client = mx()
    client.world.portal.free = 1000
    client.say(b"EHLO pc\r\nMAIL FROM:<a@far.test> SIZE=1001\r\n")
    assert client.say(b"RCPT TO:<small@example.test>\r\n") == ["452 4.2.2 the mailbox is full"]
    assert client.say(b"RCPT TO:<small@strict.test>\r\n") == ["552 5.2.2 the mailbox is full"]
    assert client.say(b"RCPT TO:<alice@strict.test>\r\n") == ["250 2.1.5 recipient ok"]
    client.say(b"RSET\r\nMAIL FROM:<a@far.test> SIZE=1000\r\n")
    assert client.say(b"RCPT TO:<small@strict.test>\r\n") == ["250 2.1.5 recipient ok"]
    client.say(b"RSET\r\nMAIL FROM:<a@far.test>\r\n")
    assert client.say(b"RCPT TO:<small@strict.test>\r\n") == ["250 2.1.5 recipient ok"]
    client.world.portal.free = 0
    assert client.say(b"RCPT TO:<small@strict.test>\r\n") == ["552 5.2.2 the mailbox is full"]
    client.world.portal.fail = OSError("the disk is away")
    assert client.say(b"RCPT TO:<small@strict.test>\r\n") == ["250 2.1.5 recipient ok"]
    assert len(quiet) == 1
    client = Client(smtp_policy.submission(HOST, plaintext=True))
    client.world.portal.free = 0
    client.say(b"EHLO pc\r\nAUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=\r\nMAIL FROM:<alice@example.test>\r\n")
    assert client.say(b"RCPT TO:<small@example.test>\r\n") == ["250 2.1.5 recipient ok"]
    assert client.say(b"RCPT TO:<small@strict.test>\r\n") == ["552 5.2.2 the mailbox is full"]
