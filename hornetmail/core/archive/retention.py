"""How long archived mail is kept (C1, A57): rules by domain, direction and spam mark, legal holds, and what was removed, as values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hornetmail.core.mail.envelope import Direction

DAY = 86_400.0
MOST_DAYS = 36_525
MOST_RULES = 500


class Rule(msgspec.Struct, frozen=True, gc=False):
    """Mail is kept ``days`` from its receipt: of a ``domain`` (``""``: of any), a ``direction`` (``""``: of any), marked as spam or not (None: both)."""

    days: int
    domain: str = ""
    direction: str = ""
    spam: bool | None = None

    @property
    def key(self) -> tuple[str, str, bool | None]:
        """What it speaks of; one rule speaks of it."""
        return self.domain, self.direction, self.spam

    def fits(self, domain: str, direction: str, spam: bool) -> bool:
        """Whether it speaks of such a mail."""
        return self.domain in ("", domain) and self.direction in ("", direction) and self.spam in (None, spam)

    @property
    def weight(self) -> tuple[bool, bool, bool]:
        """The rule that says more counts: the domain before the direction, that before the mark."""
        return bool(self.domain), bool(self.direction), self.spam is not None


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What rules go by. ``domains``: of those whose mail it is, the recipients' of incoming mail, the sender's of outgoing. ``received``: when its last
    arrival came; ``base``: when it would go without any rule; ``kept``: not before that, whatever rules say."""

    domains: frozenset[str]
    direction: str
    spam: bool
    received: float
    base: float
    kept: float = 0.0


def checked(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Rules as they are kept: domains in lower case, one for each matter, in a fixed order. Raises ValueError: which one is wrong, and why."""
    found: dict[tuple[str, str, bool | None], Rule] = {}
    for place, rule in enumerate(rules):
        if not 1 <= rule.days <= MOST_DAYS:
            raise ValueError(f"rule {place + 1}: kept {rule.days} days: from 1 to {MOST_DAYS}")
        if rule.direction and rule.direction not in {one.value for one in Direction}:
            raise ValueError(f"rule {place + 1}: there is no direction {rule.direction!r} (in, out, internal)")
        rule = msgspec.structs.replace(rule, domain=rule.domain.strip().lower())
        if rule.key in found:
            raise ValueError(f"rule {place + 1}: another rule says the same of {rule.domain or 'all domains'}")
        found[rule.key] = rule
    if len(found) > MOST_RULES:
        raise ValueError(f"more than {MOST_RULES} rules")
    return tuple(sorted(found.values(), key=lambda r: (r.domain, r.direction, r.spam is not None, bool(r.spam))))


def goes_at(rules: Sequence[Rule], mail: Kept) -> float:
    """When a mail expires: of each of its domains the most telling rule counts, of those the longest; a domain of which no rule speaks keeps it as long
    as it was to be kept when it came."""
    times = []
    for domain in mail.domains or {""}:
        fitting = [rule for rule in rules if rule.fits(domain, mail.direction, mail.spam)]
        if not fitting:
            times.append(mail.base)
        else:
            times.append(mail.received + max(fitting, key=lambda rule: rule.weight).days * DAY)
    return max(mail.kept, *times) if len(times) > 1 else max(mail.kept, times[0])


class RetentionState(msgspec.Struct, frozen=True, gc=False):
    """The rules in force, since when and by whom; ``walking``: they are not yet applied to all mail that is there. ``marked``: mails that go with the next
    purges; ``waiting``: packs that still hold something which went, on media; ``gone_by``: when media, backups and mirror will be free of all that went so far
    (Unix seconds, 0: they are); ``waits``: what may keep it for longer, for people: media that are away, a mirror that does not follow."""

    rules: tuple[Rule, ...] = ()
    at: float = 0.0
    by: str = ""
    walking: bool = False
    marked: int = 0
    waiting: int = 0
    gone_by: float = 0.0
    waits: tuple[str, ...] = ()


class RetentionPreview(msgspec.Struct, frozen=True, gc=False):
    """What rules would do now, of ``mails`` in all: ``going`` mails of ``bytes`` would be marked tonight, of which ``more`` would not under the rules in force;
    ``held`` besides would go but for a hold; ``spared`` are due now and would live longer. ``oldest`` and ``newest`` receipt of those that go, Unix seconds."""

    mails: int = 0
    going: int = 0
    bytes: int = 0
    more: int = 0
    held: int = 0
    spared: int = 0
    oldest: float = 0.0
    newest: float = 0.0
    sample: tuple[int, ...] = ()


class Hold(msgspec.Struct, frozen=True, gc=False):
    """A legal hold: nothing that it holds goes, whatever rules and requests say. With a ``query`` it also takes what comes later and matches;
    ``content``: the query looks into texts and subjects too, for whoever made it may read them (rule 15).
    ``at``, ``released``: Unix seconds, 0: not released. ``mails``: how many it holds."""

    name: str
    at: float
    by: str
    query: str = ""
    content: bool = False
    reason: str = ""
    released: float = 0.0
    mails: int = 0


class Deleted(msgspec.Struct, frozen=True, gc=False):
    """What a request removed: IDs. It is found and read no more from now on; ``gone_by``: when media, backups and mirror will be
    free of them, Unix seconds; ``waits``: what may keep them for longer, for people: media that are away, a mirror that does not follow."""

    removed: tuple[int, ...]
    gone_by: float
    waits: tuple[str, ...] = ()
