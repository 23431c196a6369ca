"""Statistics for the administrator (A59): sums a day, and what follows from them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

DAY = 86400


class Sum(msgspec.Struct, frozen=True, array_like=True):
    """Mails and their bytes."""

    mails: int = 0
    bytes: int = 0


class DayOf(msgspec.Struct, frozen=True):
    """A day (UTC, days since 1970) of a tenant's archive. ``by``: sums by direction (``in``, ``out``, ``internal``)."""

    day: int
    by: dict[str, Sum]

    @property
    def total(self) -> Sum:
        """All directions."""
        return Sum(sum(one.mails for one in self.by.values()), sum(one.bytes for one in self.by.values()))


class Sender(msgspec.Struct, frozen=True):
    """Whose mail takes most room: an envelope sender, and what came from it in the days counted."""

    address: str
    mails: int
    bytes: int


class Statistics(msgspec.Struct, frozen=True):
    """``made``: Unix seconds. ``days``: oldest first, without those on which nothing came. ``senders``: largest first. ``raw``, ``stored``: bytes of all mail as
    received, and what it takes on the media."""

    made: float
    days: tuple[DayOf, ...]
    senders: tuple[Sender, ...]
    raw: int
    stored: int

    @property
    def ratio(self) -> float:
        """Stored bytes for each byte received; 0 if there is no mail."""
        return self.stored / self.raw if self.raw else 0.0

    def forecast(self, ahead: int) -> int:
        """Bytes on the media in so many days, if it goes on growing as in the days counted, and nothing expires."""
        return self.stored + round(daily(self.days, int(self.made // DAY)) * self.ratio * ahead)


def daily(days: Sequence[DayOf], today: int) -> float:
    """Bytes that come a day: the mean of whole days from the first on which something came."""
    whole = [one for one in days if one.day < today]
    return sum(one.total.bytes for one in whole) / (today - whole[0].day) if whole else 0.0
