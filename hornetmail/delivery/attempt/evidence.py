"""How far a primary's verdict is believed, and who hears of it (rule 4, L6, L7): the same for deliveries and for drain."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core import outage
from hornetmail.core.address import domain_of, key_of
from hornetmail.core.reply import Reply
from hornetmail.core.verdict import Outcome, Stage, Verdict
from hornetmail.delivery.outage.modes import Modes
from hornetmail.delivery.recipients.accepted import AcceptedRecipients
from hornetmail.delivery.tasks import Tasks
from hornetmail.interfaces import IDirectory


class Evidence:
    """Learns accepted addresses, unmasks sick primaries, gives the mode machine its signs."""

    log = Logger()

    def __init__(self, clock: IReactorTime, directory: IDirectory, known: AcceptedRecipients, modes: Modes) -> None:
        self._directory = directory
        self._known = known
        self._modes = modes
        self._tasks = Tasks(clock)

    async def stop(self, grace: float) -> None:
        """Let what is being learnt be written."""
        await self._tasks.stop(grace)

    def weigh(self, address: str, message: int, verdict: Verdict) -> Verdict:
        """The verdict as it counts: a refusal by a sick primary becomes unavailability. Never raises, and waits for nothing: the verdict is not
        on record yet."""
        try:
            return self._weighed(address, message, verdict)
        except Exception:  # noqa: BLE001 - a fault among those who hear of it changes nothing about what the primary said
            self.log.failure("the primary's answer for <{address}> told nobody anything", address=address)
            return verdict

    def learn(self, addresses: Iterable[str]) -> None:
        """The primary accepted these, and that is on record: from now on they are known. Written in the background."""
        for address in addresses:
            self._tasks.start(self._known.accepted(address), f"learning <{address}>")

    def _weighed(self, address: str, message: int, verdict: Verdict) -> Verdict:
        served = self._directory.domain(domain_of(address))
        name = served.name if served else domain_of(address)
        if self._disbelieved(address, verdict):
            self._modes.refused(name, f"refused {key_of(address)}", verdict)
            reply = Reply(451, "4.3.0", f"not believed, it refuses known addresses: {verdict.reply}")
            return Verdict(Outcome.DEFERRED, reply, verdict.courier, verdict.stage, verdict.host, unavailable=True)
        self._modes.verdict(name, address, message, verdict)
        return verdict

    def _disbelieved(self, address: str, verdict: Verdict) -> bool:
        refusal = verdict.outcome is Outcome.FAILED and verdict.stage is Stage.RCPT and outage.is_unknown(verdict.reply)
        return refusal and self._known.refused(address, verdict.reply.text)
