"""Mail whose order and threads are worth arguing about: seeded, the same each time."""

from __future__ import annotations

import random

_SUBJECTS = (
    "Budget", "Re: Budget", "budget (fwd)", "[list] Budget", "Re: [list] RE: Budget", "[Fwd: Budget]", "Fwd: [x] Re[2]: Budget", "Lunch", "Re: Lunch", "lunch  today",
    "", "Re:", "=?utf-8?q?=C3=84pfel?=", "Re: =?iso-8859-1?q?=C4pfel?=", "=?utf-8?b?w6RwZmVs?=", "zebra", "[]", "[a]", "[a] [b] c", "re : lunch", "FW: Lunch (fwd) (fwd)",
)  # fmt: skip
_PEOPLE = (
    "Bob <bob@example.test>", "alice@example.test", '"Zoe, A." <zoe@a.test>', "=?utf-8?q?=C3=84nne?= <aenne@b.test>", "<carl@x.test>", "BOB@other.test", "Carl <BOB@other.test>",
)  # fmt: skip


def mails(count: int = 120, seed: int = 8) -> list[tuple[str, bytes, str]]:
    """INTERNALDATE, message and flags each."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        fields = [
            f"From: {chance.choice(_PEOPLE)}",
            f"To: {', '.join(chance.sample(_PEOPLE, chance.randint(1, 3)))}",
            f"Subject: {chance.choice(_SUBJECTS)}",
            f"Message-ID: <{number}@example.test>",
        ]
        if chance.random() < 0.9:
            zone = chance.choice(("+0000", "-0800", "+0530", "GMT", "EST"))
            fields.append(
                f"Date: {chance.randint(1, 28)} Nov 2025 {chance.randint(0, 23):02}:{chance.randint(0, 59):02}:00 {zone}"
            )
        if chance.random() < 0.3:
            fields.append(f"Cc: {chance.choice(_PEOPLE)}")
        known = [f"<{chance.randint(0, count + 10)}@example.test>" for _ in range(chance.randint(0, 3))]
        if known and chance.random() < 0.7:
            fields.append(f"References: {' '.join(known)}")
        elif known:
            fields.append(f"In-Reply-To: {known[0]}")
        body = f"Text number {number}\r\n" * chance.randint(1, 40)
        flags = " ".join(flag for flag in ("\\Seen", "\\Flagged", "\\Answered", "$Work") if chance.random() < 0.3)
        date = f"{chance.randint(1, 28):2}-Oct-2025 12:{number % 60:02}:00 +0000"
        found.append((date, "\r\n".join([*fields, "", body]).encode(), flags))
    return found
