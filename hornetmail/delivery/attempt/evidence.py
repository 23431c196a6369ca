"""How far a primary's verdict is believed, and who hears of it (rule 4, L6, L7): the same for deliveries and for drain."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.delivery.queued import Message
from hornetmail.core.failover import outage
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.address import domain_of
from hornetmail.core.mail.envelope import Door
from hornetmail.core.mail.reply import Reply
from hornetmail.delivery.outage.modes import Modes
from hornetmail.delivery.recipients.accepted import AcceptedRecipients
from hornetmail.delivery.tasks import within
from hornetmail.interfaces.directory import IDirectory

OURS = frozenset({Door.NOTICE, Door.SUBMISSION, Door.WEB})
"""Doors of messages in which no stranger had a say."""

LOOK_SECONDS = 2.0
"""What the store of recipients does not answer by then is unknown: the verdict is not on record yet, and does not wait for a disk."""


class Evidence:
    """Learns accepted addresses, unmasks sick primaries, gives the mode machine its signs."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        directory: IDirectory,
        accepted: AcceptedRecipients,
        modes: Modes,
        accepts_everything: Callable[[str], bool],
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._accepted = accepted
        self._modes = modes
        self._accepts_everything = accepts_everything

    async def weigh(self, address: str, message: Message, verdict: Verdict) -> Verdict:
        """The verdict as it counts: a refusal by a sick primary becomes unavailability. Raises nothing: the verdict is not on record yet. One
        that says delivered waits for nothing; others wait ``LOOK_SECONDS`` for an address to be looked up, at most."""
        try:
            return await self._weighed(address, message, verdict)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - a fault among those who hear of it changes nothing about what the primary said
            self.log.failure("the primary's answer for <{address}> told nobody anything", address=address)
            return verdict

    def learn(self, addresses: Iterable[str]) -> None:
        """The primary accepted these, and that is on record: from now on they are known."""
        for address in addresses:
            if not self._accepts_everything(self._name(address)):
                self._accepted.learn(address, delivered=True)

    def _name(self, address: str) -> str:
        served = self._directory.domain(domain_of(address))
        return served.name if served else domain_of(address)

    async def _weighed(self, address: str, message: Message, verdict: Verdict) -> Verdict:
        name = self._name(address)
        refusal = verdict.outcome is Outcome.FAILED and verdict.stage is Stage.RCPT and outage.is_unknown(verdict.reply)
        if refusal and await self._looked_up(self._accepted.refused(address, verdict.reply.text), address):
            self._modes.refused(name, address, verdict)
            reply = Reply(451, "4.3.0", f"not believed, it refuses known addresses: {verdict.reply}")
            return Verdict(Outcome.DEFERRED, reply, verdict.courier, verdict.stage, verdict.host, unavailable=True)
        proven = verdict.final or await self._looked_up(self._accepted.is_known(address), address)
        ours = message.origin.door in OURS
        self._modes.verdict(name, address, message.id, verdict, sender=message.envelope.sender, proven=proven, ours=ours)
        return verdict

    async def _looked_up(self, question: Coroutine[Any, Any, bool], address: str) -> bool:
        """What cannot be looked up, or not in time, is not so."""
        try:
            return await within(self._clock, LOOK_SECONDS, question)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the verdict stands
            self.log.failure("<{address}> could not be looked up", address=address)
            return False
