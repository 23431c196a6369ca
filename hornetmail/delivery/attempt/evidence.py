"""How far a primary's verdict is believed, and who hears of it (rule 4, L6, L7): the same for deliveries and for drain."""

from __future__ import annotations

from hornetmail.core import outage
from hornetmail.core.address import domain_of, key_of
from hornetmail.core.reply import Reply
from hornetmail.core.verdict import Outcome, Stage, Verdict
from hornetmail.delivery.outage.modes import Modes
from hornetmail.delivery.recipients.accepted import AcceptedRecipients
from hornetmail.interfaces import IDirectory


class Evidence:
    """Learns accepted addresses, unmasks sick primaries, gives the mode machine its signs."""

    def __init__(self, directory: IDirectory, known: AcceptedRecipients, modes: Modes) -> None:
        self._directory = directory
        self._known = known
        self._modes = modes

    async def weigh(self, address: str, message: int, verdict: Verdict) -> Verdict:
        """The verdict as it counts: a refusal by a sick primary becomes unavailability."""
        served = self._directory.domain(domain_of(address))
        name = served.name if served else domain_of(address)
        if verdict.outcome is Outcome.DELIVERED:
            await self._known.accepted(address)
        if self._disbelieved(address, verdict):
            self._modes.refused(name, f"refused {key_of(address)}", verdict)
            reply = Reply(451, "4.3.0", f"not believed, it refuses known addresses: {verdict.reply}")
            return Verdict(Outcome.DEFERRED, reply, verdict.courier, verdict.stage, verdict.host, unavailable=True)
        self._modes.verdict(name, address, message, verdict)
        return verdict

    def _disbelieved(self, address: str, verdict: Verdict) -> bool:
        refusal = verdict.outcome is Outcome.FAILED and verdict.stage is Stage.RCPT and outage.is_unknown(verdict.reply)
        return refusal and self._known.refused(address, verdict.reply.text)
