"""Which media there are: the active one, those out of use, and retired ones whose mail lies on another by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from hornetmail.archive.media.medium import IMedium, MediumAway, MediumError


class _State(msgspec.Struct, frozen=True):
    media: dict[int, IMedium]
    active: int
    unused: frozenset[int]
    moved: dict[int, int]


def _checked(media: Sequence[IMedium], active: int, unused: frozenset[int], moved: Mapping[int, int]) -> _State:
    known: dict[int, IMedium] = {m.number: m for m in media}
    if len(known) != len(media):
        raise ValueError("two media have the same number")
    if active not in known or active in unused or active in moved:
        raise ValueError(f"medium {active} cannot be the active one")
    return _State(known, active, unused, dict(moved))


class Media:
    """The media that there are. Exactly one is active (A12). ``unused``: not looked at for now (A15); ``moved``: the retired ones, and where their
    mail lies by now (A16). May be used from any thread; a change is seen whole or not at all."""

    def __init__(
        self,
        media: Sequence[IMedium],
        active: int,
        unused: frozenset[int] = frozenset(),
        moved: Mapping[int, int] | None = None,
    ) -> None:
        self._state = _checked(media, active, unused, moved or {})
        self._archive: bytes | None = None

    def change(self, media: Sequence[IMedium], active: int, unused: frozenset[int], moved: Mapping[int, int]) -> None:
        """From now on these. Raises ValueError."""
        state = _checked(media, active, unused, moved)
        if self._archive is not None:
            for medium in media:
                medium.expect(self._archive)
        self._state = state

    def expect(self, archive: bytes) -> None:
        """All must be media of this archive."""
        self._archive = archive
        for medium in self._state.media.values():
            medium.expect(archive)

    @property
    def active(self) -> IMedium:
        """Takes new packs and backups."""
        state = self._state
        return state.media[state.active]

    @property
    def numbers(self) -> frozenset[int]:
        """All that hold something or may, out of use or not; retired ones hold nothing any more."""
        state = self._state
        return frozenset(state.media) - frozenset(state.moved)

    def all(self) -> list[IMedium]:
        """Those in use, by number."""
        state = self._state
        return [m for number, m in sorted(state.media.items()) if number not in state.unused and number not in state.moved]

    def every(self) -> list[IMedium]:
        """All that hold something or may, by number, those out of use too: what lies on them is still the archive's."""
        state = self._state
        return [m for number, m in sorted(state.media.items()) if number not in state.moved]

    def get(self, number: int) -> IMedium:
        """By number, a retired one's successor included. Raises MediumError: unknown, or out of use (A15)."""
        state = self._state
        asked = number
        for _ in range(len(state.moved)):
            number = state.moved.get(number, number)
        if number in state.unused:
            raise MediumAway(f"medium {asked} is out of use")
        try:
            return state.media[number]
        except KeyError:
            raise MediumError(f"medium {asked} is not configured") from None

    def any(self, number: int) -> IMedium:
        """The medium of that number itself, out of use or retired as it may be. Raises MediumError: unknown."""
        try:
            return self._state.media[number]
        except KeyError:
            raise MediumError(f"medium {number} is not configured") from None
