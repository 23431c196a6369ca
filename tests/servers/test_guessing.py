"""The brake on guessing recipients, and what is no mistake of a client (rule 8)."""

from __future__ import annotations

from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from hornetmail.servers import smtp_policy
from hornetmail.servers.guessing import Guesses, GuessLimits
from hornetmail.servers.smtp_policy import SMTPPolicy
from tests.servers.test_smtp_session import HOST, Client

MX = smtp_policy.mx(HOST)


class Stranger(Client):
    """``wait``: let time pass until nothing more is said; the seconds it took."""

    def wait(self) -> tuple[list[str], float]:
        answers = self.answers()
        began = self.world.clock.seconds()
        for _ in range(600):
            calls = self.world.clock.getDelayedCalls()
            if not [call for call in calls if call.getTime() - self.world.clock.seconds() <= 6]:
                break
            self.world.clock.advance(0.25)
            answers += self.answers()
        return answers, self.world.clock.seconds() - began

    def again(self) -> Stranger:
        """A further connection to the same service."""
        other = type(self)(self.world.policy, self.transport.getPeer().host)
        other.world.services = self.world.services
        other.world.clock = self.world.clock
        other.pump = other.world.pump()
        other.transport = StringTransport(peerAddress=self.transport.getPeer())
        other.pump.makeConnection(other.transport)
        other.transport.clear()
        return other

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting)


GUESSES = b"".join(b"RCPT TO:<nobody@example.test>\r\n" for _ in range(3000))


def test_three_thousand_guesses() -> None:
    """3,000 unknown recipients were answered in one session in 0.04 s."""
    client = Stranger(MX)
    first = client.say(b"EHLO pc\r\nMAIL FROM:<a@far.test>\r\n" + GUESSES)
    rest, seconds = client.wait()
    answers = first[2:] + rest
    assert [line[:3] for line in answers] == ["550"] * 19 + ["421"]
    assert client.closed
    assert 15 <= seconds <= 60, "slower and slower, but not for ever"


def test_the_first_few_cost_nothing() -> None:
    """Somebody who mistypes an address waits."""
    client = Stranger(MX)
    answers = client.say(b"EHLO pc\r\nMAIL FROM:<a@far.test>\r\n" + b"RCPT TO:<nobody@example.test>\r\n" * 5)
    assert [line[:3] for line in answers[2:]] == ["550"] * 5


def test_good_recipients_get_their_mail() -> None:
    """A list with many dead addresses never gets its mail to the others: after the limit the rest is told to come in a transaction of its own."""
    client = Stranger(MX)
    recipients = [b"alice@example.test"] + [b"nobody@example.test"] * 30 + [b"bob@example.test"]
    client.say(b"EHLO pc\r\nMAIL FROM:<a@far.test>\r\n")
    answers = client.say(b"".join(b"RCPT TO:<%s>\r\n" % each for each in recipients)) + client.wait()[0]
    codes = [line[:3] for line in answers]
    assert codes == ["250"] + ["550"] * 20 + ["452"] * 11
    assert client.say(b"DATA\r\n")[-1].startswith("354")
    assert client.say(b"x\r\n.\r\n")[-1].startswith("250")
    assert [[r.address for r in m.envelope.recipients] for m in client.world.queue.messages] == [["alice@example.test"]]


def test_an_accepted_message_makes_up_for_it() -> None:
    """A kept connection that hands over one message after another, each with a dead recipient, is ended."""
    client = Stranger(MX)
    for _ in range(40):
        client.say(
            b"EHLO pc\r\nMAIL FROM:<a@far.test>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<nobody@example.test>\r\nDATA\r\n"
        )
        assert client.say(b"x\r\n.\r\n")[-1].startswith("250")
    assert not client.closed
    assert len(client.world.services.guesses) == 0 or client.world.services.guesses._level("198.51.100.7") < 1


def guess(client: Stranger, count: int = 20) -> list[str]:
    said = client.say(b"EHLO pc\r\nMAIL FROM:<a@far.test>\r\n" + b"RCPT TO:<nobody@example.test>\r\n" * count)
    return (said + client.wait()[0])[2:]


def test_networks() -> None:
    """Sessions that end before their limit, one after another, guess on; or nobody of that network gets mail through any more."""
    client = Stranger(MX)
    for _ in range(7):
        client = client.again()
        guess(client, 15)
    client = client.again()
    answers = guess(client)
    assert [line[:3] for line in answers] == ["421"], "after the first"
    client = client.again()
    assert client.mail("alice@example.test").startswith("250"), "mail passes"
    client.world.clock.advance(3600)
    assert len(guess(client.again())) == 20, "an hour later"


def test_ipv6_networks() -> None:
    """Rule 8: a new address of the same /64 for each session."""
    clock = Clock()
    guesses = Guesses(clock)
    for number in range(120):
        guesses.refused(f"2001:db8::{number:x}")
    assert guesses.over("2001:db8::ffff", 1)
    assert not guesses.over("2001:db8:0:1::1", 1)
    assert not guesses.over("2001:db8::ffff", 0), "nothing was refused in that session"
    assert guesses.delay("2001:db8::ffff", 1) == guesses.limits.slowest


def test_bounded() -> None:
    """Guesses from ever new networks fill memory."""
    guesses = Guesses(Clock(), GuessLimits(networks=50))
    for number in range(5000):
        guesses.refused(f"198.51.{number // 256}.{number % 256}")
    assert len(guesses) == 50


def test_forgotten_evenly() -> None:
    """An old guess counts for ever."""
    clock = Clock()
    guesses = Guesses(clock, GuessLimits(network=100, forget=3600))
    for _ in range(110):
        guesses.refused("192.0.2.1")
    assert guesses.over("192.0.2.1", 1)
    clock.advance(361)
    assert not guesses.over("192.0.2.1", 1)


def test_the_house_is_not_counted() -> None:
    """The organisation's own hosts, or people who logged in, are held up: a monitoring that asks, a primary that forwards for another domain."""
    for policy, peer in ((MX, "192.0.2.9"), (smtp_policy.lmtp(HOST), "198.51.100.7")):
        client = Stranger(policy, peer)
        hello = b"LHLO pc\r\n" if policy.door.value == "lmtp" else b"EHLO pc\r\n"
        answers = client.say(hello + b"MAIL FROM:<a@far.test>\r\n" + b"RCPT TO:<nobody@example.test>\r\n" * 100)
        assert [line[:3] for line in answers[2:]] == ["550"] * 100
        assert not client.closed


def test_relaying_is_counted() -> None:
    """Looking for an open relay is free, and addresses outside are guessed instead."""
    client = Stranger(MX)
    said = client.say(b"EHLO pc\r\nMAIL FROM:<a@far.test>\r\n" + b"RCPT TO:<x@elsewhere.test>\r\n" * 30)
    assert (said + client.wait()[0])[-1].startswith("421")


def test_not_now_is_not_counted() -> None:
    """A primary that is away makes every recipient a 451: that is no guess."""
    client = Stranger(MX)
    answers = client.say(b"EHLO pc\r\nMAIL FROM:<a@far.test>\r\n" + b"RCPT TO:<later@example.test>\r\n" * 60)
    assert [line[:3] for line in answers[2:]] == ["451"] * 60


def test_gone_while_it_waits() -> None:
    """Those who hang up meanwhile leave a timer each."""
    client = Stranger(MX)
    client.say(b"EHLO pc\r\nMAIL FROM:<a@far.test>\r\n" + b"RCPT TO:<nobody@example.test>\r\n" * 10)
    client.world.clock.advance(0)
    assert client.world.clock.getDelayedCalls()
    client.pump.connectionLost(Failure(ConnectionLost()))
    client.world.clock.advance(0)
    assert not client.world.clock.getDelayedCalls()


def test_pipelined_behind_a_refused_mail() -> None:
    """One refused MAIL with 19 recipients pipelined behind it counted as twenty mistakes: 421, and the same at each retry."""
    client = Stranger(SMTPPolicy(MX.door, HOST, max_size=1000))
    answers = client.say(
        b"EHLO pc\r\nMAIL FROM:<a@far.test> SIZE=5000\r\n" + b"RCPT TO:<alice@example.test>\r\n" * 40 + b"DATA\r\n"
    )
    assert [line[:3] for line in answers[1:]] == ["552"] + ["503"] * 41
    assert client.mail("alice@example.test").startswith("250")
    answers = client.say(b"MAIL FROM:<a b@far.test>\r\n" + b"RCPT TO:<alice@example.test>\r\n" * 40)
    assert [line[:3] for line in answers] == ["501"] + ["503"] * 40, "refused for its form"


def test_out_of_turn_is_still_a_mistake() -> None:
    """RCPT without any MAIL, over and over."""
    client = Stranger(MX)
    answers = client.say(b"EHLO pc\r\n" + b"RCPT TO:<alice@example.test>\r\n" * 40)
    assert answers[-1].startswith("421")
    assert len(answers) <= 11


def test_odd_recipients_do_not_keep_the_good_ones_away() -> None:
    """Twenty addresses that cannot be before the good ones: 421 at each retry, and those never get their mail."""
    client = Stranger(MX)
    client.say(b"EHLO pc\r\nMAIL FROM:<a@far.test>\r\n")
    answers = client.say(
        b"RCPT TO:<a..b@example.test>\r\nRCPT TO:<@@>\r\nRCPT TO:nonsense\r\n" * 10 + b"RCPT TO:<alice@example.test>\r\n"
    )
    assert {line[0] for line in answers[:-1]} == {"5"}
    assert answers[-1].startswith("250")
    assert client.say(b"DATA\r\n")[-1].startswith("354")
    assert client.say(b"x\r\n.\r\n")[-1].startswith("250")


def test_odd_recipients_are_bounded() -> None:
    """They are not counted at all."""
    client = Stranger(SMTPPolicy(MX.door, HOST, max_recipients=100))
    client.say(b"EHLO pc\r\nMAIL FROM:<a@far.test>\r\n")
    answers = client.say(b"RCPT TO:<a..b@example.test>\r\n" * 200)
    assert answers[-1].startswith("421")
    assert len(answers) == 110


def test_mistakes_are_made_up_for() -> None:
    """A connection kept for days ends at its tenth mistake, whatever was accepted in between."""
    client = Stranger(MX)
    for _ in range(5):
        client.say(b"EHLO pc\r\n" + b"NONSENSE\r\n" * 9)
        assert client.mail("alice@example.test").startswith("250")
    assert client.say(b"NONSENSE\r\n" * 10)[-1].startswith("421")
