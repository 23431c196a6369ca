"""What an answer means (rules 1 and 8a, C20): each stage with each class of reply, without a socket."""

from __future__ import annotations

import pytest

from hornetmail.core.failover.verdict import Outcome, Stage
from hornetmail.core.mail.reply import Reply
from hornetmail.delivery.couriers.exchange import verdict_of
from hornetmail.net.clients.smtp import Answer


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.BODY, Stage.DOT])
@pytest.mark.parametrize("code", [150, 250, 354, 451, 554])
def test_each_answer(stage: Stage, code: int) -> None:
    """Would catch mail that counts as delivered although only its envelope was taken, or its final dot was answered with anything but 2xx."""
    verdict = verdict_of(Answer(stage, Reply(code)), "primary", "mx.test")
    wanted = Outcome.FAILED if code == 554 else Outcome.DELIVERED if (stage, code) == (Stage.DOT, 250) else Outcome.DEFERRED
    assert (verdict.outcome, verdict.stage, verdict.courier, verdict.host) == (wanted, stage, "primary", "mx.test")
    assert verdict.unavailable is (wanted is Outcome.DEFERRED)
    assert verdict.reply.code == (421 if wanted is Outcome.DEFERRED and code != 451 else code)


@pytest.mark.parametrize("code", [250, 421, 554])
def test_no_reply_after_the_final_dot(code: int) -> None:
    """Rule 1: whatever else was said, nobody knows."""
    verdict = verdict_of(Answer(Stage.DOT, Reply(code), uncertain=True), "primary", "mx.test")
    assert (verdict.outcome, verdict.stage, verdict.unavailable) == (Outcome.UNCERTAIN, Stage.DOT, True)
