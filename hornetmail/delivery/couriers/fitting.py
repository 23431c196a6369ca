"""A message as one server can take it: flags it needs and no others, and converted where the server lacks an extension (RFC 6531, RFC 6152).

What the client of long ago declared is not believed but looked up in the bytes: an all-ASCII message asks for neither SMTPUTF8 nor 8BITMIME. A
server that offers what a message needs gets its exact bytes, lines over 998 bytes too: servers with 8BITMIME take them, and a line that was broken costs
the message its DKIM signature. One without 8BITMIME gets ASCII in lines of at most 998 bytes (RFC 5321 section 4.5.3.1.6). What cannot be converted, and what needs SMTPUTF8 where it is not offered, has failed: no other
attempt would end otherwise. That is no unavailability (C20).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence

import msgspec

from hornetmail.core.mail.address import in_a_labels
from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.mime.conversion import Column, Conversion, Findings, Flaw, Survey

HELD_BYTES = 65_536
"""Messages up to this size are read once; longer ones once to look at them, once or twice more to convert them, and once to send them."""

Chunks = Callable[[], AsyncIterator[bytes]]


class Fit(msgspec.Struct, frozen=True):
    """What to say and send. ``refusals``: by place, what recipients are told without asking the server; ``recipients``: those left, by place."""

    sender: str
    recipients: dict[int, Recipient]
    refusals: dict[int, Reply]
    chunks: Chunks
    size: int
    eight_bit: bool
    smtputf8: bool


class Text:
    """A message's bytes, ``chunks`` starting the same ones anew each time it is called, and what is known of them. It looks at them when asked, and
    not twice."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._held: list[bytes] | None = None
        self._flaws: Flaw | None = None
        self._findings: Findings | None = None

    async def flaws(self) -> Flaw:
        """All that a server may not take, wherever it is."""
        if self._flaws is None:
            column, flaws, size = Column(), Flaw.NONE, 0
            held: list[bytes] = []
            async for chunk in self._chunks():
                flaws |= column.look(chunk)
                size += len(chunk)
                if size <= HELD_BYTES:
                    held.append(chunk)
            self._held = held if size <= HELD_BYTES else None
            self._flaws = flaws
        return self._flaws

    async def findings(self) -> Findings:
        """Where in its parts that is."""
        if self._findings is None:
            survey = Survey()
            async for chunk in self.chunks():
                survey.feed(chunk)
            self._findings = survey.finish()
        return self._findings

    async def chunks(self) -> AsyncIterator[bytes]:
        """The exact bytes."""
        if self._held is not None:
            for chunk in self._held:
                yield chunk
            return
        async for chunk in self._chunks():
            yield chunk

    async def converted(self, findings: Findings, flaws: Flaw, *, headers: bool) -> AsyncIterator[bytes]:
        """The message without these flaws."""
        conversion = Conversion(findings, flaws, headers=headers)
        async for chunk in self.chunks():
            if piece := conversion.feed(chunk):
                yield piece
        if piece := conversion.finish():
            yield piece


async def fit(
    text: Text, sender: str, recipients: Sequence[Recipient], size: int, offers: Collection[str], server: str, *, smtputf8: bool
) -> Fit:
    """The message for a server that ``offers`` these extensions. ``smtputf8``: it was declared, so that bytes in headers are UTF-8 and stay it;
    without that they are somebody's old habit, which servers with 8BITMIME get as they are. Raises what ``text`` raises."""
    flaws = await text.flaws()
    eight, utf8 = "8BITMIME" in offers, "SMTPUTF8" in offers
    wrong = Flaw.NONE if eight else flaws
    findings = await text.findings() if wrong or (smtputf8 and flaws) else None
    international = smtputf8 and findings is not None and Flaw.EIGHT in findings.header
    sender = in_a_labels(sender)
    named = {at: msgspec.structs.replace(each, address=in_a_labels(each.address)) for at, each in enumerate(recipients)}
    refusals: dict[int, Reply] = {}
    everybody = _everybody(sender, findings, wrong, server, international=international, utf8=utf8)
    for at, each in named.items():
        if everybody is not None:
            refusals[at] = everybody
        elif not utf8 and not each.address.isascii():
            refusals[at] = Reply(550, "5.6.7", f"{server} does not take SMTPUTF8, which the address <{each.address}> needs")
    left = {at: each for at, each in named.items() if at not in refusals}
    chunks: Chunks = text.chunks
    if wrong and findings is not None:
        chunks = lambda: text.converted(findings, wrong, headers=not international)  # noqa: E731 - one line says it
    return Fit(
        sender,
        left,
        refusals,
        chunks,
        0 if wrong else size,  # how long it gets is not known before
        eight and Flaw.EIGHT in flaws,
        utf8 and (international or not sender.isascii() or any(not each.address.isascii() for each in left.values())),
    )


def _everybody(
    sender: str, findings: Findings | None, wrong: Flaw, server: str, *, international: bool, utf8: bool
) -> Reply | None:
    """Why the server cannot take the message for anybody."""
    if not utf8 and not sender.isascii():
        return Reply(550, "5.6.7", f"{server} does not take SMTPUTF8, which the sender's address <{sender}> needs")
    if not utf8 and international:
        return Reply(550, "5.6.9", f"{server} does not take SMTPUTF8, which the message's header needs")
    unfit = findings.unfit(wrong, headers=not international) if findings is not None else ""
    if not unfit:
        return None
    return Reply(554, "5.6.3", f"{server} takes {_limits(wrong)} only, and the message cannot be converted: {unfit}")


def _limits(wrong: Flaw) -> str:
    words = (["ASCII (no 8BITMIME)"] if Flaw.EIGHT in wrong else []) + (["lines of 998 bytes"] if Flaw.LONG in wrong else [])
    return " and ".join(words)
