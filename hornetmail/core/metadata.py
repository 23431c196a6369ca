"""Annotations of mailboxes and of the server (RFC 5464), as values: names, bounds, which are meant, and the lines in which they are kept.

An entry is ``/shared/…``, one for all who see the mailbox, or ``/private/…``, one for each person. Names are told apart without regard to case (section 3.2) and kept in
small letters.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Mapping

import msgspec

PRIVATE = "/private"
SHARED = "/shared"

ENTRY_BYTES = 255
"""No entry has a longer name."""

VALUE_BYTES = 16_384
"""No value is longer."""

ENTRIES = 100
"""So many has a person, or everybody together, on a mailbox; a command names no more."""

OWN_BYTES = 65_536
"""So long are their values together."""

OTHERS_BYTES = 1 << 20
"""So long are those of all people whose mailbox it is not."""

_ENTRY = re.compile(r"/(?:private|shared)(?:/[!-$&-)+-.0-~][ -$&-)+-.0-~]*)*\Z")
_LINE = re.compile(rb"(shared|[0-9]{1,19}) (=|[A-Za-z0-9+/]+={0,2}) (/[ -~]+)\Z")

EVERYBODY = 0
"""Stands for a person where an entry is shared."""

Values = Mapping[str, bytes]


def entry_of(raw: bytes) -> str:
    """A name as it is kept. Raises ValueError for what is none (section 3.2): no wildcards, control characters, empty levels or eight bits."""
    name = raw.decode("ascii").lower()
    if len(raw) > ENTRY_BYTES or not _ENTRY.match(name):
        raise ValueError("an entry is /private/… or /shared/…, without * and %, empty levels and control characters")
    return name


def is_shared(entry: str) -> bool:
    """Whether it is the same for everybody."""
    return entry.startswith(SHARED)


def chosen(there: Iterable[str], entry: str, depth: int | None) -> list[str]:
    """Which of them are meant by an entry and so many levels below it (section 4.2.2); None: all levels."""
    found = []
    for name in there:
        below = name.startswith(entry + "/") and (depth is None or name.count("/", len(entry)) <= depth)
        if below or name == entry:
            found.append(name)
    return sorted(found)


class TooMany(Exception):
    """More than a mailbox is given room for."""


class TooLarge(Exception):
    """A value is longer than ``VALUE_BYTES``."""


class Kept(msgspec.Struct, frozen=True):
    """What is kept of a mailbox: values by person (``EVERYBODY`` for shared ones) and entry. ``strange``: lines that are not understood, kept as they are."""

    values: dict[int, dict[str, bytes]]
    strange: list[bytes]

    def of(self, person: int) -> dict[str, bytes]:
        """Shared entries, and this person's own."""
        return {**self.values.get(EVERYBODY, {}), **self.values.get(person, {})}

    def change(self, owner: int, person: int, changes: Mapping[str, bytes | None]) -> tuple[Kept, list[str]]:
        """With values set, and those removed that are None; all of them or none. And the entries that are others than before. Raises TooMany, TooLarge."""
        after = {EVERYBODY: dict(self.values.get(EVERYBODY, {})), person: dict(self.values.get(person, {}))}
        changed = []
        for entry, value in changes.items():
            if value is not None and len(value) > VALUE_BYTES:
                raise TooLarge
            mine = after[EVERYBODY if is_shared(entry) else person]
            if mine.get(entry) != value:
                changed.append(entry)
            if value is None:
                mine.pop(entry, None)
            else:
                mine[entry] = value
        if not changed:
            return self, []
        for who, mine in after.items():
            grows = _weight(mine) > _weight(self.values.get(who, {}))
            if grows and (len(mine) > ENTRIES or _weight(mine) > OWN_BYTES):
                raise TooMany
        together = {**self.values, **after}
        grows = person != owner and _weight(after[person]) > _weight(self.values.get(person, {}))
        if grows and sum(_weight(mine) for who, mine in together.items() if who not in (EVERYBODY, owner)) > OTHERS_BYTES:
            raise TooMany
        return Kept({who: mine for who, mine in together.items() if mine}, self.strange), changed


def _weight(values: Values) -> int:
    return sum(len(entry) + len(value) for entry, value in values.items())


def read(data: bytes) -> Kept:
    """What a file says (``docs/formats/portal.rst``)."""
    values: dict[int, dict[str, bytes]] = {}
    strange: list[bytes] = []
    for line in data.split(b"\n"):
        match = _LINE.match(line)
        try:
            if match is None:
                raise ValueError
            value = b"" if match[2] == b"=" else binascii.a2b_base64(match[2], strict_mode=True)
            entry = entry_of(match[3])
            who = EVERYBODY if match[1] == b"shared" else int(match[1])
            if is_shared(entry) != (match[1] == b"shared"):
                raise ValueError
        except ValueError:
            if line:
                strange.append(line)
            continue
        values.setdefault(who, {})[entry] = value
    return Kept(values, strange)


def written(kept: Kept) -> bytes:
    """The file again."""
    lines: list[bytes] = []
    for who, mine in sorted(kept.values.items()):
        name = b"shared" if who == EVERYBODY else b"%d" % who
        for entry, value in sorted(mine.items()):
            lines.append(b"%b %b %b" % (name, binascii.b2a_base64(value, newline=False) or b"=", entry.encode("ascii")))
    return b"".join(line + b"\n" for line in (*lines, *kept.strange))
