"""When what is told of an alarm, and when a relay is too quiet."""

from __future__ import annotations

import msgspec

from hornetmail.core import alarms
from hornetmail.core.alarms import AGAIN, AlarmRecord, Stage, Telling, Way
from hornetmail.core.failover import silence
from hornetmail.core.failover.silence import DAY, LEAST, Relay

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


def test_what_was_told_last() -> None:
    """Would catch an end that is told to nobody because the state says that it never began, and an alarm told anew in the wrong place."""
    record = alarms.told(alarm(), Way.HOOK, Stage.BEGAN, T)
    assert record.hook == Telling(T, True, False)
    assert record.mail == Telling(0.0, False, False)
    assert not alarms.settled(record)
    assert alarms.settled(alarms.ended(alarm(), "gone", T))
    over = alarms.told(alarms.ended(record, "gone", T + 9), Way.HOOK, Stage.ENDED, T + 9)
    assert over.hook == Telling(T, True, True), "when it was told last is when that is counted from if it comes back"
    assert (over.ended, over.why) == (T + 9, "gone")
    both = alarms.told(over, Way.MAIL, Stage.BEGAN, T)
    assert not alarms.settled(both), "each way by itself"


def test_raised_again() -> None:
    """It counts, says its newest words, and stays the same alarm."""
    again = alarms.raised(alarm(), "fuller", T + 5)
    assert (again.count, again.last, again.since, again.text) == (2, T + 5, T, "fuller")
    assert again.key == alarm().key == ("disk-full", "/")
    assert AlarmRecord(1, "c", "", "t", T, T) == AlarmRecord(
        1, "c", "", "t", T, T, 1, "", 1, 0.0, "", 0.0, "", Telling(), Telling()
    )


def test_a_short_reminder_is_the_shortest_wait() -> None:
    """An alarm that comes back is told once the shorter of reminder and half an hour is over, to the second."""
    record = alarm(mail=Telling(at=T))
    assert alarms.due(record, Way.MAIL, T + 59, 60.0) is None
    assert alarms.due(record, Way.MAIL, T + 60, 60.0) is Stage.BEGAN
    assert alarms.due(record, Way.MAIL, T + AGAIN - 1, 4 * HOUR) is None
    assert alarms.due(record, Way.MAIL, T, 4 * HOUR) is None
    assert AGAIN == 1800


def test_kinds() -> None:
    """Retention, merging and time stamps look once a day: the others are raised again soon after a restart if they last."""
    daily = {code: kind.within for code, kind in alarms.KINDS.items() if kind.within}
    assert daily == dict.fromkeys(
        ("archive-merging", "archive-purge", "archive-stamp", "archive-stamp-clock", "archive-stamp-ending"), 26 * HOUR
    )
    assert all(code == kind.code for code, kind in alarms.KINDS.items())
    assert alarms.kind_of("disk-full").ends is alarms.Ends.CAUSE
    assert alarms.kind_of("some-code").title == "Some code"


def test_silence_at_its_bounds() -> None:
    """Would catch a pause of 31 days ago that counts, one of 30 that does not, and a clock set back that is taken for use."""
    assert (DAY, silence.DAYS, silence.KNOWN, LEAST, silence.MARGIN) == (86_400, 30, 14, 21_600, 1.25)
    assert silence.heard(None, T, 9.0) == Relay(T, T, {}, 0.0)
    relay = Relay(T, T, {int(T // DAY): 5 * HOUR})
    assert silence.heard(relay, T + 30 * DAY, 1.0).first == T
    assert silence.heard(relay, T + 30 * DAY + 1, 1.0) == Relay(T + 30 * DAY + 1, T + 30 * DAY + 1)
    assert silence.heard(relay, T - 1, 1.0) == Relay(T - 1, T - 1)
    assert silence.heard(relay, T, 1.0) == relay, "the longest of the day stays"
    assert silence.heard(relay, T, 6 * HOUR).pauses == {int(T // DAY): 6 * HOUR}
    assert int(T // DAY) in silence.heard(relay, T + 30 * DAY, 1.0).pauses
    later = Relay(T, T + 9 * DAY, {int(T // DAY) + 9: 1.0, int(T // DAY) - 31: 9.0})
    assert silence.heard(later, T + DAY, 2.0).pauses == {int(T // DAY) + 1: 2.0}, "days to come are of a clock that was wrong"
    assert silence.limit(relay, T + 14 * DAY - 1) == float("inf")
    assert silence.limit(relay, T + 14 * DAY) == 6.25 * HOUR
    assert silence.limit(relay, T + 30 * DAY) == 6.25 * HOUR
    assert silence.limit(relay, T + 31 * DAY) == LEAST
    assert silence.limit(Relay(T, T), T + 20 * DAY) == float("inf")
