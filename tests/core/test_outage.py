"""What answers say about a primary (rule 4, L6)."""

from __future__ import annotations

import pytest

from hornetmail.core.failover import outage
from hornetmail.core.failover.outage import Breadth
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.reply import Reply


def deferred(stage: Stage, code: int, enhanced: str = "", text: str = "") -> Verdict:
    return Verdict(Outcome.DEFERRED, Reply(code, enhanced, text), "primary", stage, unavailable=True)


@pytest.mark.parametrize(
    ("verdict", "breadth"),
    [
        (deferred(Stage.CONNECT, 451, "4.4.1"), Breadth.SERVER),
        (deferred(Stage.GREETING, 451, "4.4.1", "the server said: 554"), Breadth.SERVER),
        (deferred(Stage.RCPT, 421, "4.3.2"), Breadth.CONVERSATION),
        (deferred(Stage.BODY, 421, "4.4.2"), Breadth.CONVERSATION),
        (deferred(Stage.RESOLVE, 451, "4.4.4"), Breadth.DNS),
        (deferred(Stage.RCPT, 451, "4.3.0", "local error"), Breadth.RECIPIENT),
        (deferred(Stage.DOT, 452, "4.3.1", "disk full"), Breadth.RECIPIENT),
        (deferred(Stage.RCPT, 452, "4.2.2", "mailbox full"), Breadth.NOBODY),
        (deferred(Stage.RCPT, 452, "", "user is over quota"), Breadth.NOBODY),
        (deferred(Stage.RCPT, 450, "4.7.1", "come again"), Breadth.NOBODY),
        (deferred(Stage.RCPT, 451, "", "Greylisted, please try again"), Breadth.NOBODY),
        (deferred(Stage.RCPT, 450, "4.7.1", "Client host rejected: cannot find your hostname, [192.0.2.1]"), Breadth.RECIPIENT),
        (deferred(Stage.RCPT, 450, "4.7.1", "Service unavailable; Client host [192.0.2.1] blocked"), Breadth.RECIPIENT),
        (Verdict(Outcome.UNCERTAIN, Reply(421, "4.4.2"), "primary", Stage.DOT, unavailable=True), Breadth.CONVERSATION),
        (Verdict(Outcome.FAILED, Reply(550, "5.1.1"), "primary", Stage.RCPT), Breadth.NOBODY),
        (Verdict(Outcome.DELIVERED, Reply(250), "primary", Stage.DOT), Breadth.NOBODY),
        (Verdict(Outcome.DEFERRED, Reply(451, "4.3.0"), "primary", Stage.LOCAL), Breadth.NOBODY),
    ],
)
def test_signs(verdict: Verdict, breadth: Breadth) -> None:
    """A full mailbox or greylisting counted against the server, or a dead server counted against one recipient."""
    assert outage.read(verdict).breadth is breadth


@pytest.mark.parametrize(
    ("reply", "unknown"),
    [
        (Reply(550, "5.1.1"), True),
        (Reply(550), True),
        (Reply(551, "5.1.6"), True),
        (Reply(553, "5.1.3"), True),
        (Reply(550, "5.7.1"), False),
        (Reply(554, "5.1.1"), False),
        (Reply(552, "5.2.2"), False),
        (Reply(450, "4.1.1"), False),
        (Reply(550, "5.4.1", "Recipient address rejected: Access denied. AS(201806281) [X.prod.protection.outlook.com]"), True),
        (Reply(550, "5.4.1", "no answer from host"), False),
        (Reply(550, "5.7.1", "Recipient address rejected: Access denied"), False),
        (Reply(554, "5.7.1", "<a@b.test>: Recipient address rejected: Access denied"), False),
        (Reply(550, "", "relay not permitted"), False),
        (Reply(550, "", "rejected because of <relaying denied@x.test>: no such user"), True),
    ],
)
def test_unknown(reply: Reply, unknown: bool) -> None:
    """Rule 4: policy refusals taken for unknown recipients."""
    assert outage.is_unknown(reply) is unknown


@pytest.mark.parametrize(
    ("reply", "session"),
    [
        (Reply(530, "5.7.57", "Client not authenticated to send mail"), True),
        (Reply(530, "5.7.0", "Must issue a STARTTLS command first"), True),
        (Reply(538, "5.7.11", "encryption required"), True),
        (Reply(503, "", "bad sequence of commands"), True),
        (Reply(502, "5.5.2", "command not recognized"), True),
        (Reply(500, "5.7.1", "message rejected"), False),
        (Reply(501, "5.1.3", "bad recipient address syntax"), False),
        (Reply(550, "5.7.1", "relaying denied"), False),
        (Reply(554, "5.5.1", "no valid recipients"), False),
    ],
)
def test_of_the_session(reply: Reply, session: bool) -> None:
    """Everybody's mail bounced because the primary lets nobody in; or mail that it refuses tried for days."""
    assert outage.is_of_the_session(reply) is session


@pytest.mark.parametrize(
    ("reply", "us"),
    [
        (Reply(554, "5.7.1", "Service unavailable; Client host [192.0.2.1] blocked using zen.blocked.test"), True),
        (Reply(554, "5.7.1", "<mx.hornet.test[192.0.2.1]>: Client host rejected: Access denied"), True),
        (Reply(550, "5.7.1", "<mx.hornet.test>: Helo command rejected: Host not found"), True),
        (Reply(554, "5.7.1", "<a@b.test>: Relay access denied"), True),
        (Reply(550, "", "relay not permitted"), True),
        (Reply(550, "5.7.1", "<a@b.test>... Relaying denied"), True),
        (Reply(550, "5.7.1", "Unable to relay"), True),
        (Reply(550, "5.7.54", "SMTP; Unable to relay recipient in non-accepted domain"), True),
        (Reply(550, "5.7.64", "TenantAttribution; not here"), True),
        (Reply(550, "5.7.606", "Access denied [192.0.2.1]"), True),
        (Reply(550, "5.7.25", "no PTR record"), True),
        (Reply(450, "4.7.1", "Client host rejected: cannot find your hostname"), False),
        (Reply(554, "5.7.1", "<client host rejected@x.test>: Sender address rejected: Access denied"), False),
        (Reply(554, "5.7.1", "<a@b.test>: Sender address rejected: Access denied"), False),
        (Reply(550, "5.7.1", "not from you"), False),
        (Reply(550, "5.7.26", "unauthenticated email from x.test is not accepted"), False),
        (Reply(550, "5.1.1", "no such user"), False),
    ],
)
def test_bars_us(reply: Reply, us: bool) -> None:
    """Everybody's mail refused because the primary bars us, or has lost the domain; a stranger's address that is read as such words; or a refusal of one mail that is."""
    assert outage.bars_us(reply) is us


def test_a_name_that_is_wrong() -> None:
    """A misspelt primary told as DNS that is down."""
    for enhanced, nameless in (("4.1.2", True), ("4.4.4", False)):
        verdict = Verdict(
            Outcome.DEFERRED, Reply(451, enhanced, "mx.exmaple.test has no address"), "primary", Stage.RESOLVE, "", True
        )
        sign = outage.read(verdict)
        assert (sign.breadth, sign.nameless) == (outage.Breadth.DNS, nameless)
        assert ("there is no host of its name: mx.exmaple.test" in sign.why) is nameless


def test_in_the_middle_of_the_text() -> None:
    """Fault of its kind: what a server says of one message, while its text is sent, taken for trouble of everybody; a connection lost there may be."""
    for code, breadth in ((452, outage.Breadth.RECIPIENT), (421, outage.Breadth.CONVERSATION)):
        verdict = Verdict(Outcome.DEFERRED, Reply(code, "4.3.1", "x"), "primary", Stage.BODY, unavailable=True)
        assert outage.read(verdict).breadth is breadth


@pytest.mark.parametrize(
    ("reply", "grey", "full"),
    [
        (Reply(451, "4.7.1", "later"), True, False),
        (Reply(450, "4.7.1", "later"), True, False),
        (Reply(452, "4.7.1", "later"), False, False),
        (Reply(451, "4.7.0", "later"), False, False),
        (Reply(451, "", "greylisted"), True, False),
        (Reply(550, "5.7.1", "greylisted"), False, False),
        (Reply(450, "4.7.1", "Helo command rejected: cannot find it"), False, False),
        (Reply(452, "4.2.2", ""), False, True),
        (Reply(552, "5.2.2", ""), False, True),
        (Reply(552, "", "over quota"), False, True),
        (Reply(451, "", "over quota"), False, False),
        (Reply(452, "4.3.1", "disk full"), False, False),
    ],
)
def test_excuses(reply: Reply, grey: bool, full: bool) -> None:
    """Would catch a primary in trouble that is excused, and one recipient's trouble that is not."""
    assert outage.is_greylisting(reply) is grey
    assert outage.is_full(reply) is full
    verdict = Verdict(Outcome.DEFERRED, reply, "primary", Stage.RCPT, unavailable=True)
    assert bool(outage.excuse(verdict)) is (grey or full)
    for other in (
        Verdict(Outcome.FAILED, reply, "primary", Stage.RCPT, unavailable=True),
        Verdict(Outcome.DEFERRED, reply, "primary", Stage.RCPT),
        Verdict(Outcome.DEFERRED, reply, "primary", Stage.EHLO, unavailable=True),
        Verdict(Outcome.DEFERRED, reply, "primary", Stage.RESOLVE, unavailable=True),
        Verdict(Outcome.DEFERRED, Reply(421, reply.enhanced, reply.text), "primary", Stage.RCPT, unavailable=True),
    ):
        assert outage.excuse(other) == ""


@pytest.mark.parametrize("stage", list(Stage))
def test_what_concerns_the_text(stage: Stage) -> None:
    """Rule 8c: what is said in the middle of a text or after it is no word about the envelope, which a question could disprove."""
    for code in (421, 452):
        sign = outage.read(deferred(stage, code, "4.3.0", "x"))
        assert sign.text is (stage in (Stage.DATA, Stage.BODY, Stage.DOT))
    assert outage.read(Verdict(Outcome.UNCERTAIN, Reply(421), "primary", Stage.DOT)).text


def test_what_is_wide() -> None:
    """Would catch one mailbox's trouble that holds the copies of all others back."""
    assert {each for each in Breadth if each.wide} == {Breadth.SERVER, Breadth.DNS, Breadth.CONVERSATION}
