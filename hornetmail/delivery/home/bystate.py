"""How a copy of INBOX goes home: by SMTP as it came, or, where there is a way and its owner did something with it, by IMAP as it stands (L13, docs/adr/0032)."""

from __future__ import annotations

from hornetmail.core.delivery.filing import Standing
from hornetmail.core.delivery.queued import Portal
from hornetmail.core.delivery.route import PRIMARY
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.reply import Reply
from hornetmail.delivery.couriers.exchange import Load
from hornetmail.delivery.couriers.primary import PrimaryCourier
from hornetmail.delivery.filing.filer import Later
from hornetmail.delivery.filing.filing import Filing
from hornetmail.net.clients.imap import Broken


class ByState:
    """``filing`` None: there is but SMTP."""

    def __init__(self, primary: PrimaryCourier, filing: Filing | None = None) -> None:
        self._primary = primary
        self._filing = filing

    async def hand_over(
        self, domain: str, load: Load, copy: Portal, said: dict[int, Verdict], *, doubtful: bool = False, trial: bool = False
    ) -> None:
        """One claimed copy, of one row. ``said`` as in ICourier. ``doubtful``: the primary may have it by SMTP: it goes the same way again, byte for byte, for what the primary does about
        duplicates (rule 1). ``trial``: whether the primary takes mail by SMTP is the question."""
        (row,) = load.rows
        if self._filing is not None:
            try:
                filed = await self._filing.take(copy, load.size, load.chunks, untouched=doubtful, trial=trial)
            except Later as later:
                said[row] = Verdict(Outcome.DEFERRED, Reply(451, "4.3.0", f"by IMAP: {later.text}"), PRIMARY, Stage.LOCAL)
                return
            except Broken as broken:
                reply = Reply(451, "4.4.2", f"by IMAP: {broken.text}")
                said[row] = Verdict(Outcome.UNCERTAIN, reply, PRIMARY, Stage.DOT, unavailable=True)
                return
            if filed is not None and filed.standing is Standing.HOME:
                said[row] = Verdict(Outcome.DELIVERED, Reply(250, "2.0.0", f"in {filed.folder}, by IMAP"), PRIMARY, Stage.DOT)
                return
        await self._primary.hand_over(domain, load, said)
