"""What becomes of a copy that goes home by IMAP: the verdict of each way in which it can end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.filing import Filed, Standing
from hornetmail.core.delivery.queued import Portal
from hornetmail.core.delivery.route import PRIMARY
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.delivery.couriers.exchange import Load
from hornetmail.delivery.filing.filer import Later
from hornetmail.delivery.home.bystate import ByState
from hornetmail.net.clients.imap import Broken, Trouble

BY_SMTP = Verdict(Outcome.DELIVERED, Reply(250, "2.0.0", "by SMTP"), PRIMARY, Stage.DOT)


async def chunks() -> AsyncIterator[bytes]:
    yield b"mail"


class Primary:
    """SMTP: it takes all."""

    async def hand_over(self, domain: str, load: Load, said: dict[int, Verdict]) -> None:
        said[load.rows[0]] = BY_SMTP


class Filing:
    """IMAP: it ends in some way."""

    def __init__(self, ends: Filed | Exception | None) -> None:
        self.ends = ends
        self.asked: list[tuple[int, bool, bool]] = []

    async def take(self, copy: Portal, size: int, chunks: Any, *, untouched: bool, trial: bool) -> Filed | None:
        self.asked.append((size, untouched, trial))
        if isinstance(self.ends, Exception):
            raise self.ends
        return self.ends


class ByStateTest(TestCase):
    async def said(self, filing: Filing | None, **options: bool) -> Verdict:
        said: dict[int, Verdict] = {}
        load = Load("a@example.test", (Recipient("b@example.test"),), (7,), chunks, 4)
        await ByState(cast("Any", Primary()), cast("Any", filing)).hand_over(
            "example.test", load, Portal(1, "base"), said, **options
        )
        assert list(said) == [7]
        return said[7]

    async def test_by_imap(self) -> None:
        """Would catch a copy that goes twice, by IMAP and by SMTP, and one that is removed here although it is not there."""
        verdict = await self.said(Filing(Filed(Standing.HOME, "Work")))
        assert (verdict.outcome, verdict.reply.code, verdict.courier, verdict.stage) == (
            Outcome.DELIVERED,
            250,
            PRIMARY,
            Stage.DOT,
        )
        assert "Work" in verdict.reply.text

    async def test_by_smtp(self) -> None:
        """Would catch mail that stays here because there is no way by IMAP, or because its owner did nothing with it."""
        for filing in (None, Filing(None), *(Filing(Filed(one, "Work")) for one in (Standing.STUCK, Standing.GOING))):
            assert await self.said(filing) == BY_SMTP

    async def test_later(self) -> None:
        """Would catch a refusal for now that counts as a sign of an outage, as the message's failure, or as delivered."""
        verdict = await self.said(Filing(Later("no room")))
        assert (verdict.outcome, verdict.reply.code, verdict.stage, verdict.unavailable) == (
            Outcome.DEFERRED,
            451,
            Stage.LOCAL,
            False,
        )
        assert "no room" in verdict.reply.text

    async def test_cut_off(self) -> None:
        """Rule 11: would catch what may have come through taken for what did not, and a connection that broke taken for no sign at all."""
        verdict = await self.said(Filing(Broken(Trouble.LOST, "lost")))
        assert (verdict.outcome, verdict.reply.code, verdict.stage, verdict.unavailable) == (
            Outcome.UNCERTAIN,
            451,
            Stage.DOT,
            True,
        )

    async def test_what_is_passed_on(self) -> None:
        """Rule 1: would catch a copy that the primary may have by SMTP and that goes by IMAP, in other bytes."""
        for doubtful in (False, True):
            for trial in (False, True):
                filing = Filing(None)
                await self.said(filing, doubtful=doubtful, trial=trial)
                assert filing.asked == [(4, doubtful, trial)]
        filing = Filing(None)
        await self.said(filing)
        assert filing.asked == [(4, False, False)]
