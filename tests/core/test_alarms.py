"""When what is told of an alarm, and when a relay is too quiet."""

from __future__ import annotations

import msgspec

from hornetmail.core import alarms, silence
from hornetmail.core.alarms import AGAIN, AlarmRecord, Stage, Way
from hornetmail.core.silence import DAY, LEAST, Relay

HOUR = 3600.0
T = 1_800_000_000.0


def alarm(code: str = "disk-full", **fields: object) -> AlarmRecord:
    return msgspec.structs.replace(AlarmRecord(1, code, "/", "full", T, T), **fields)


def test_told_at_once_then_every_few_hours_then_once_at_the_end() -> None:
    """Would catch an alarm that is told again at each look, never again, or never to be over."""
    record = alarm()
    assert alarms.due(record, Way.MAIL, T, 4 * HOUR) is Stage.BEGAN
    record = alarms.told(record, Way.MAIL, Stage.BEGAN, T)
    assert alarms.due(record, Way.MAIL, T + 4 * HOUR - 1, 4 * HOUR) is None
    assert alarms.due(record, Way.MAIL, T + 4 * HOUR, 4 * HOUR) is Stage.LASTS
    assert alarms.due(record, Way.HOOK, T + 1, 4 * HOUR) is Stage.BEGAN, "one way's account is not the other's"
    record = alarms.told(record, Way.MAIL, Stage.LASTS, T + 4 * HOUR)
    over = alarms.ended(record, "room", T + 5 * HOUR)
    assert alarms.due(over, Way.MAIL, T + 5 * HOUR, 4 * HOUR) is Stage.ENDED
    assert alarms.due(over, Way.HOOK, T + 5 * HOUR, 4 * HOUR) is None, "who never heard of it need not hear that it is over"
    assert not alarms.settled(over)
    over = alarms.told(over, Way.MAIL, Stage.ENDED, T + 5 * HOUR)
    assert alarms.due(over, Way.MAIL, T + 50 * HOUR, 4 * HOUR) is None
    assert alarms.settled(over)


def test_acknowledging_ends_reminders_and_what_only_had_to_be_seen() -> None:
    """Would catch reminders to people who know, and an alarm that goes away though its cause is there because somebody looked at it."""
    lasting = alarms.acknowledged(alarms.told(alarm(), Way.MAIL, Stage.BEGAN, T), "ada", T + 1)
    assert not lasting.ended
    assert alarms.due(lasting, Way.MAIL, T + 9 * HOUR, 4 * HOUR) is None
    assert alarms.acknowledged(lasting, "bob", T + 2).by == "ada"
    once = alarms.acknowledged(alarm("queue-damage"), "ada", T + 1)
    assert once.ended == T + 1
    assert "ada" in once.why
    assert alarms.due(alarms.ended(lasting, "x", T + 9), Way.MAIL, T + 9, HOUR) is Stage.ENDED, "its end is news all the same"


def test_one_that_comes_and_goes_is_not_told_each_time() -> None:
    """Would catch a flapping alarm that sends a mail a minute, and one that is never told again because of that."""
    record = alarm(mail=alarms.Telling(at=T))
    assert alarms.due(record, Way.MAIL, T + 60, 4 * HOUR) is None
    assert alarms.due(record, Way.MAIL, T + AGAIN, 4 * HOUR) is Stage.BEGAN
    assert alarms.due(record, Way.MAIL, T - 9 * DAY, 4 * HOUR) is Stage.BEGAN, "a clock that was set back keeps nothing quiet"


def test_unknown_codes_never_end_by_themselves() -> None:
    """A code that nobody described has no known cause that could be seen to be gone."""
    assert alarms.kind_of("something-new").ends is alarms.Ends.SEEN


def used(days: int, pause: float) -> Relay:
    """A relay in use for so many days, with one mail each time such a pause has passed."""
    relay, now = silence.heard(None, T, 0.0), T
    while now < T + days * DAY:
        now += pause
        relay = silence.heard(relay, now, pause)
    return relay


def test_silence_is_what_never_was() -> None:
    """Would catch an alarm each weekend, one before anything is known, and one for a domain that sends once a week as it always does."""
    assert silence.limit(used(13, HOUR), T + 13 * DAY) == float("inf")
    assert silence.limit(used(20, HOUR), T + 20 * DAY) == LEAST
    assert silence.limit(used(20, 60 * HOUR), T + 20 * DAY) == 75 * HOUR
    weekly = silence.limit(used(29, 7 * DAY), T + 29 * DAY)
    assert weekly > 8 * DAY


def test_old_pauses_are_forgotten() -> None:
    """A strike months ago must not make the relay deaf for good."""
    relay = silence.heard(used(20, HOUR), T + 25 * DAY, 5 * DAY)
    assert silence.limit(relay, T + 25 * DAY) > 5 * DAY
    now = T + 25 * DAY
    while now < T + 60 * DAY:
        now += HOUR
        relay = silence.heard(relay, now, HOUR)
    assert silence.limit(relay, now) == LEAST
    assert len(relay.pauses) <= 31
