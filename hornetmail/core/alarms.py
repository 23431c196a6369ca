"""Alarms (rule 8f): what each code means, what is remembered of one, and when whom it is told to is due. Pure.

An alarm is one trouble: a code and what it is about. It begins, may be raised again (``count``), and ends with its cause. Each way out of the
house (mail, webhook) keeps its own ``Telling``, so that one that does not work holds up no other.
"""

from __future__ import annotations

import enum

import msgspec


class Ends(enum.StrEnum):
    """What ends an alarm. ``CAUSE``: the trouble is gone, which the service sees by itself, after a restart too. ``SEEN``: it happened, and
    nothing of it lasts; somebody acknowledges it."""

    CAUSE = "cause"
    SEEN = "seen"


class Kind(msgspec.Struct, frozen=True, gc=False):
    """What a code stands for. ``title``: a few words, ASCII, for the subject of a mail. ``within``: seconds after a restart in which it is raised
    again if it lasts, 0: as configured."""

    code: str
    title: str
    ends: Ends = Ends.CAUSE
    within: float = 0.0


KINDS = {
    kind.code: kind
    for kind in (
        Kind("alarms-untold", "Alarms cannot be told by one way"),
        Kind("accept-all", "The primary accepts every address"),
        Kind("attempt-lost", "Delivery attempts did not end", Ends.SEEN),
        Kind("archive-backlog", "Mail waits for the archive's medium"),
        Kind("archive-files", "Files that hang on mail are not searched"),
        Kind("archive-index", "The archive cannot be searched"),
        Kind("archive-keyring", "The archive's keyring was lost and restored", Ends.SEEN),
        Kind("archive-key-source", "The archive's key does not lie where it shall"),
        Kind("archive-locked", "The archive is locked"),
        Kind("archive-leaves", "The archive's leaf log was damaged and restored", Ends.SEEN),
        Kind("archive-merging", "Packs cannot be merged", within=26 * 3600.0),
        Kind("archive-purge", "Retention refuses to go on", within=26 * 3600.0),
        Kind("archive-renumbered", "Staged mail of the archive has new leaf numbers", Ends.SEEN),
        Kind("archive-staging-damaged", "Damage in the archive's staging log", Ends.SEEN),
        Kind("archive-stamp", "No time stamp can be had", within=26 * 3600.0),
        Kind("archive-stamp-clock", "The clock differs from the stamp authority's", within=26 * 3600.0),
        Kind("archive-stamp-ending", "Time stamps soon end with their certificate", within=26 * 3600.0),
        Kind("archive-stamp-lost", "A time stamp does not read any more", Ends.SEEN),
        Kind("archive-waits", "The archive takes no mail yet"),
        Kind("archive-unreadable", "Mail is in the index by its headers only", Ends.SEEN),
        Kind("certificate", "The certificate of our doors ends or cannot be used"),
        Kind("bounce-held", "Bounces are held"),
        Kind("delivery-unanswered", "A server takes mail and never says so"),
        Kind("disk-away", "A disk or medium cannot be reached"),
        Kind("disk-full", "A disk is nearly full"),
        Kind("dns-down", "A primary's name cannot be looked up"),
        Kind("drain-orphaned", "Portal mail of a domain without primary stays", Ends.SEEN),
        Kind("drain-refused", "The primary refuses mail from the portal"),
        Kind("emergency", "Emergency mode"),
        Kind("filing", "Mail of the portal does not go home by IMAP"),
        Kind("filing-refused", "The primary refuses to file mail of the portal", Ends.SEEN),
        Kind("message-lost", "A message cannot be read any more", Ends.SEEN),
        Kind("medium-away", "A medium of the archive is out of reach"),
        Kind("medium-taken", "Another installation writes to a medium of the archive"),
        Kind("medium-full", "A medium of the archive is nearly full"),
        Kind("medium-move", "A medium's mail is not yet moved"),
        Kind("mode-unrecorded", "A switch of mode could not be recorded"),
        Kind("no-connections", "No connection can be made from here"),
        Kind("job-failed", "A planned job failed"),
        Kind("loop", "Mail goes in circles and is held"),
        Kind("network-down", "No primary answers: our own network"),
        Kind("outbound-silence", "The primary sends nothing through us"),
        Kind("portal-copy-stays", "A copy that went home cannot leave the portal"),
        Kind("primary-defers", "The primary takes recipients and defers their mail"),
        Kind("portal-expiry", "Portal folders do not expire"),
        Kind("primary-back", "The primary is back, the emergency ends by hand"),
        Kind("primary-down", "The primary seems to be down"),
        Kind("primary-unknown", "There is no host of the primary's name"),
        Kind("queue-body-lost", "The text of a message cannot be read from disk", Ends.SEEN),
        Kind("queue-broken", "The queue's journal failed"),
        Kind("queue-damage", "Damage in the queue's journal", Ends.SEEN),
        Kind("queue-index", "The queue's index is broken"),
        Kind("queue-older", "An older copy of the queue was put back", Ends.SEEN),
        Kind("recipients-damaged", "What was known of recipients was damaged", Ends.SEEN),
        Kind("service-died", "The service ended without being stopped", Ends.SEEN),
        Kind("store-broken", "A database is broken"),
        Kind("store-locked", "Another program holds a database locked"),
        Kind("store-renewed", "A damaged database was made anew", Ends.SEEN),
        Kind("test", "A test", Ends.SEEN),
        Kind("verdict-unrecorded", "What became of deliveries cannot be recorded"),
    )
}
"""Every code that the program raises; ``docs/operations.rst`` says what to do about each, and a test holds the three together."""


def kind_of(code: str) -> Kind:
    """Its kind. One that is not in ``KINDS`` never ends by itself: nobody knows how to see that its cause is gone."""
    return KINDS.get(code) or Kind(code, code.replace("-", " ").capitalize(), Ends.SEEN)


class Telling(msgspec.Struct, frozen=True, gc=False):
    """What one way has said of an alarm. ``at``: when it last said that it began or lasts, Unix seconds, also of the time before, if it was there
    before; ``begun`` and ``ended``: whether it has said so of this time."""

    at: float = 0.0
    begun: bool = False
    ended: bool = False


class Way(enum.StrEnum):
    """How administrators are told."""

    MAIL = "mail"
    HOOK = "hook"


class AlarmRecord(msgspec.Struct, frozen=True, gc=False):
    """An alarm from its first moment on. Times are Unix seconds; 0 is not yet. ``subject``: what it is about (a domain, medium, host, store);
    ``domain``: the domain that it concerns, if one. ``count``: how often it was raised; ``last``: when. ``by``: who acknowledged it.
    ``why``: why it ended."""

    number: int
    code: str
    subject: str
    text: str
    since: float
    last: float
    tenant: int = 1
    domain: str = ""
    count: int = 1
    acknowledged: float = 0.0
    by: str = ""
    ended: float = 0.0
    why: str = ""
    mail: Telling = Telling()
    hook: Telling = Telling()

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same alarm when it is raised again."""
        return self.code, self.subject

    def telling(self, way: Way) -> Telling:
        """What one way has said."""
        return self.mail if way is Way.MAIL else self.hook


class Stage(enum.StrEnum):
    """What there is to say of an alarm."""

    BEGAN = "began"
    LASTS = "lasts"
    ENDED = "ended"


AGAIN = 1800.0
"""Seconds: an alarm that comes back sooner after it was last told is told once that time is over, if it is still there."""


def raised(record: AlarmRecord, text: str, now: float) -> AlarmRecord:
    """The same trouble was seen once more."""
    return msgspec.structs.replace(record, text=text, last=now, count=record.count + 1)


def ended(record: AlarmRecord, why: str, now: float) -> AlarmRecord:
    """Its cause is gone."""
    return msgspec.structs.replace(record, ended=now, why=why)


def acknowledged(record: AlarmRecord, by: str, now: float) -> AlarmRecord:
    """Somebody has seen it: no more reminders. What only had to be seen ends."""
    if record.acknowledged:
        return record
    seen = msgspec.structs.replace(record, acknowledged=now, by=by)
    return ended(seen, f"acknowledged by {by}", now) if kind_of(record.code).ends is Ends.SEEN else seen


def due(record: AlarmRecord, way: Way, now: float, repeat: float) -> Stage | None:
    """What that way has to say now. ``repeat``: seconds between two reminders while it lasts and nobody has acknowledged it. What was never
    said to have begun is not said to have ended."""
    said = record.telling(way)
    if record.ended:
        return Stage.ENDED if said.begun and not said.ended else None
    if record.acknowledged:
        return None
    if said.begun:
        return Stage.LASTS if now - said.at >= repeat else None
    return Stage.BEGAN if not said.at or now - said.at >= min(AGAIN, repeat) or now < said.at else None


def told(record: AlarmRecord, way: Way, stage: Stage, now: float) -> AlarmRecord:
    """That way has said it."""
    said = record.telling(way)
    after = Telling(said.at, True, True) if stage is Stage.ENDED else Telling(now, True, False)
    return msgspec.structs.replace(record, **{way.value: after})


def settled(record: AlarmRecord) -> bool:
    """It ended, and everybody who was told that it began was told so."""
    return bool(record.ended) and all(not record.telling(way).begun or record.telling(way).ended for way in Way)
