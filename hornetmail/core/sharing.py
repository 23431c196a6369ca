"""Rights on folders that are shared (RFC 4314), as values.

A right is a letter: ``l`` the folder is listed, ``r`` read, ``s`` what is seen is kept, ``w`` other flags are set, ``i`` messages come in, ``p`` (posting) is kept and
means nothing here, ``k`` folders are made below it, ``x`` it is deleted or renamed, ``t`` messages are marked as deleted, ``e`` expunged, ``a`` rights are given.
"""

from __future__ import annotations

from collections.abc import Iterable

ALL = "lrswipkxtea"
"""Every right there is, in the order in which they are told."""

ANYONE = "anyone"
"""The identifier of everybody (section 3); of the owner's tenant, here."""

VIRTUAL = {"c": "kx", "d": "te"}
"""Rights of RFC 2086 that stand for others (section 2.1.1)."""

_FLAG = {"\\Seen": "s", "\\Deleted": "t"}


def rights_of(text: str) -> frozenset[str]:
    """The rights that letters name, those of RFC 2086 as what they stand for. Raises ValueError for letters that are no rights (section 3.1)."""
    found = frozenset("".join(VIRTUAL.get(letter, letter) for letter in text))
    if not found <= frozenset(ALL):
        raise ValueError(f"there is no right {min(found - frozenset(ALL))}")
    return found


def letters(rights: Iterable[str]) -> str:
    """Rights in their order."""
    given = frozenset(rights)
    return "".join(right for right in ALL if right in given)


def told(rights: Iterable[str]) -> str:
    """Rights as clients are told them: with those of RFC 2086 that they are among (section 2.1.1)."""
    given = frozenset(rights)
    return letters(given) + "".join(old for old, members in VIRTUAL.items() if given & frozenset(members))


def flags_allowed(rights: Iterable[str], flags: Iterable[str]) -> frozenset[str]:
    """Those among ``flags`` that may be changed with these rights (section 4, STORE)."""
    given = frozenset(rights)
    return frozenset(flag for flag in flags if _FLAG.get(flag, "w") in given)
