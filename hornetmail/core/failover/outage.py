"""What a primary's answer says about the primary (L6): server-wide trouble, one recipient's, or none.

C20 sends one mail to the portal for any 4xx. Switching a whole domain wants more: greylisting and a full mailbox are no outage.
A domain may have its single mails judged by that finer rule too (``PortalOn.OUTAGE``).
"""

from __future__ import annotations

import enum
import re

import msgspec

from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.reply import Reply

_GREY = re.compile(r"gr[ea]y-?\s?list|postgrey|first (?:attempt|time)|policy.{0,40}(?:delay|defer)", re.IGNORECASE)
_BARRED = re.compile(r"host(?:name)?\b.{0,30}(?:rejected|not found)|cannot find|block(?:ed|list)|black ?list", re.IGNORECASE)
_AT_THE_EDGE = re.compile(r"recipient address rejected: access denied", re.IGNORECASE)
_QUOTED = re.compile(r"<[^<>]*>")
_BARS_US = re.compile(
    r"client host\b[^;]{0,200}\b(?:rejected|blocked)|\bclient host rejected|helo command rejected|banned sending ip"
    r"|relay(?:ing)? (?:access )?(?:is )?(?:denied|prohibited|not (?:permitted|allowed))|(?:unable|not (?:permitted|allowed)) to relay"
    r"|non-accepted domain",
    re.IGNORECASE,
)
_BARRED_CODES = re.compile(r"5\.7\.(?:25|51|54|64|6[0-4]\d)")
_FULL = re.compile(r"quota|mailbox (?:is )?full|over ?limit|insufficient mailbox", re.IGNORECASE)

SERVER_STAGES = frozenset({Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.TLS, Stage.AUTH})
"""Trouble at these stages concerns everybody: nothing of the mail was said yet, so no stranger can bring it about (rule 8c)."""

TEXT_STAGES = frozenset({Stage.DATA, Stage.BODY, Stage.DOT})
"""Trouble that a question without a message does not meet. 421 at any stage is how a lost connection is told; another 4xx in the middle of the
text is said about that message, as after its final dot."""


class Breadth(enum.StrEnum):
    """Whom an answer concerns. ``CONVERSATION``: greeting and EHLO were answered, then it broke off: that message may have done it.
    ``RECIPIENT``: it was said no to this mail."""

    NOBODY = "nobody"
    RECIPIENT = "recipient"
    CONVERSATION = "conversation"
    SERVER = "server"
    DNS = "dns"

    @property
    def wide(self) -> bool:
        """Others that go there now would meet the same, or might."""
        return self not in (Breadth.NOBODY, Breadth.RECIPIENT)


class Sign(msgspec.Struct, frozen=True, gc=False):
    """What was read out of a verdict, with the reason for people. ``text``: it fell at DATA or later. ``nameless``: there is no host of that name."""

    breadth: Breadth
    why: str
    text: bool = False
    nameless: bool = False


def is_greylisting(reply: Reply) -> bool:
    """RFC 6647: a 4xx that only wants the sender to come again. 4.7.1 alone is taken for it too, unless the words tell that we
    ourselves are barred: that passes for nobody."""
    if not reply.transient:
        return False
    if _GREY.search(reply.text):
        return True
    return reply.code in (450, 451) and reply.enhanced == "4.7.1" and not _BARRED.search(reply.text)


def is_full(reply: Reply) -> bool:
    """One mailbox over quota: X.2.2 of RFC 3463, or words that say so."""
    return reply.enhanced.endswith(".2.2") or (reply.code in (452, 552) and bool(_FULL.search(reply.text)))


def is_unknown(reply: Reply) -> bool:
    """Rule 4: an unknown recipient is 550, 551 or 553 with 5.1.x or no enhanced code, at RCPT only (the caller knows the stage). Exchange Online
    says so in its own way where its directory-based edge blocking does (ADR 0022)."""
    if reply.code == 550 and reply.enhanced == "5.4.1" and _AT_THE_EDGE.search(reply.text):
        return True
    return reply.code in (550, 551, 553) and (not reply.enhanced or reply.enhanced.startswith("5.1.")) and not bars_us(reply)


def bars_us(reply: Reply) -> bool:
    """A primary's 5xx to MAIL or RCPT that is said of us or of the whole domain: our address or name is blocked there (Postfix says that at RCPT and not at the
    greeting, unless told otherwise), or it knows nothing of the domain, because its own tables are away (ADR 0040). What stands in angle brackets is
    the mail's, and strangers chose it. Of a server of others the same words are about what was sent to it: this is asked of primaries alone."""
    if not reply.permanent:
        return False
    return bool(_BARRED_CODES.fullmatch(reply.enhanced) or _BARS_US.search(_QUOTED.sub("", reply.text)))


def is_of_the_session(reply: Reply) -> bool:
    """A 5xx that is not said of the mail: nobody's mail bounces for it, and whoever says it to everybody is unavailable (rule 4). 530 to 538 are
    AUTH's and STARTTLS' (RFC 4954 section 6, RFC 3207 section 4): a primary says them at MAIL or RCPT that was set up to let nobody in. 500, 502 and
    503 say that it heard no command that it knows, or none in its order; unless the enhanced code says otherwise (RFC 3463: 5.5.x is the
    protocol's), that is no answer to MAIL, RCPT, DATA or a text."""
    if reply.code in (500, 502, 503):
        return not reply.enhanced or reply.enhanced.startswith("5.5.")
    return reply.code in (530, 534, 535, 538)


def is_nameless(reply: Reply) -> bool:
    """DNS answers, and says that there is no such host (``net.smtp``): somebody wrote the name wrong, or took it away."""
    return reply.code == 451 and reply.enhanced == "4.1.2"


def excuse(verdict: Verdict) -> str:
    """Why a primary that deferred one recipient works all the same, in plain words; ``""`` if that cannot be said."""
    if verdict.outcome is not Outcome.DEFERRED or not verdict.unavailable:
        return ""
    if verdict.stage in SERVER_STAGES or verdict.stage is Stage.RESOLVE or verdict.reply.code == 421:
        return ""
    if is_greylisting(verdict.reply):
        return "greylisting is no outage"
    return "one full mailbox is no outage" if is_full(verdict.reply) else ""


def read(verdict: Verdict) -> Sign:
    """The sign in a primary's verdict."""
    text = verdict.stage in TEXT_STAGES
    if verdict.outcome is Outcome.UNCERTAIN:
        return Sign(Breadth.CONVERSATION, f"no reply after the final dot: {verdict.reply}", text=True)
    if verdict.outcome is not Outcome.DEFERRED or not verdict.unavailable:
        return Sign(Breadth.NOBODY, "the primary answered")
    if verdict.stage is Stage.RESOLVE and is_nameless(verdict.reply):
        return Sign(Breadth.DNS, f"there is no host of its name: {verdict.reply.text}", nameless=True)
    if verdict.stage is Stage.RESOLVE:
        return Sign(Breadth.DNS, f"its name cannot be resolved: {verdict.reply}")
    if verdict.stage in SERVER_STAGES:
        return Sign(Breadth.SERVER, f"{verdict.stage}: {verdict.reply}")
    if verdict.reply.code == 421:
        return Sign(Breadth.CONVERSATION, f"{verdict.stage}: {verdict.reply}", text=text)
    if why := excuse(verdict):
        return Sign(Breadth.NOBODY, f"{why}: {verdict.reply}")
    return Sign(Breadth.RECIPIENT, f"{verdict.stage}: {verdict.reply}", text=text)
