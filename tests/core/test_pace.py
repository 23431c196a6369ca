"""How fast a server that just came back is given what waited (rule 10)."""

from __future__ import annotations

from hornetmail.core.delivery.pace import Answer, Limits, Pace


def second(pace: Pace, at: float, count: int, took: float, answer: Answer = Answer.TAKEN) -> None:
    """``count`` answers in the second after ``at``, the last at its end."""
    for number in range(1, count + 1):
        pace.answered(at + number / count, took, answer)


def test_it_begins_with_one_and_doubles() -> None:
    """Would catch a server that is overrun in its first second, and 10,000 messages that go at the pace of the first ten for good."""
    pace = Pace(Limits(), 100.0)
    assert (pace.width, pace.rate) == (1, 20.0)
    pace.answered(100.01, 0.01, Answer.TAKEN)
    assert (pace.width, pace.rate) == (2, 20.0)
    second(pace, 100.01, 20, 0.01)
    assert (pace.width, pace.rate) == (15, 40.0)
    second(pace, 101.01, 40, 0.01)
    second(pace, 102.01, 80, 0.01)
    assert (pace.width, pace.rate) == (15, 160.0)


def test_it_does_not_run_away() -> None:
    """What a server takes is bounded by something else: the pace stays near it, so that it can fall from there."""
    pace = Pace(Limits(), 0.0)
    for at in range(20):
        second(pace, float(at), 50, 0.01)
    assert pace.rate == 160.0


def test_slow_answers_halve_it() -> None:
    """Would catch a primary, hardly back, that is pushed under again. From then on the pace grows gently."""
    pace = Pace(Limits(), 0.0)
    for at in range(4):
        second(pace, float(at), 20 << at, 0.05)
    assert pace.rate == 320.0
    second(pace, 4.0, 100, 1.1)
    assert (pace.rate, pace.width) == (50.0, 7)
    second(pace, 5.0, 50, 0.05)
    assert pace.rate == 62.5


def test_a_server_that_always_takes_long_is_not_slow() -> None:
    """A filter that looks at each message for three seconds is this server's normal; twice that is not. Would catch a pace that dies of it."""
    pace = Pace(Limits(), 0.0)
    for at in range(0, 30, 3):
        for _ in range(5):
            pace.answered(float(at + 3), 3.0, Answer.TAKEN)
    assert (pace.width, pace.rate) == (15, 20.0)
    for _ in range(10):
        pace.answered(33.0, 6.1, Answer.TAKEN)
    pace.answered(36.0, 6.1, Answer.TAKEN)
    assert pace.width == 7
    assert pace.rate < 4


def test_one_large_message_is_not_slowness() -> None:
    """The median counts: 20 MB between small ones take long, and mean nothing."""
    pace = Pace(Limits(), 0.0)
    pace.answered(0.2, 20.0, Answer.TAKEN)
    second(pace, 0.2, 19, 0.05)
    second(pace, 1.2, 39, 0.05)
    assert pace.rate == 80.0


def test_deferrals_halve_it() -> None:
    """452 4.3.1 for some is how a server under pressure speaks; one message in a hundred that it cannot digest is not. Never below one a second."""
    pace = Pace(Limits(), 0.0)
    pace.answered(0.1, 0.05, Answer.DEFERRED)
    second(pace, 0.0, 20, 0.05)
    assert pace.rate == 40.0
    for _ in range(5):
        pace.answered(1.1, 0.05, Answer.DEFERRED)
    second(pace, 1.0, 35, 0.05)
    assert pace.rate == 20.0
    for at in range(2, 20):
        second(pace, float(at), 2, 0.05, Answer.DEFERRED)
    assert pace.rate == 1.0
    assert pace.width == 1


def test_trouble_begins_anew() -> None:
    """One at a time, at once, and gently."""
    pace = Pace(Limits(), 0.0)
    for at in range(4):
        second(pace, float(at), 20 << at, 0.05)
    pace.answered(4.5, 0.05, Answer.TROUBLE)
    assert (pace.rate, pace.width) == (20.0, 1)
    second(pace, 4.5, 20, 0.05)
    assert pace.rate == 25.0


def test_just_patient_enough() -> None:
    """Would catch a server that is slowed down for answers that take what they may, and one that is not for those that take longer."""
    for took, rate in ((1.0, 320.0), (1.01, 50.0)):
        pace = Pace(Limits(), 0.0)
        for at in range(4):
            second(pace, float(at), 20 << at, 0.05)
        assert pace.rate == 320.0
        second(pace, 4.0, 100, took)
        assert pace.rate == rate


def test_half_of_the_pace_is_enough() -> None:
    """Would catch a pace that stays behind what a server takes because it is asked for a little less than it may be."""
    for count, rate in ((10, 40.0), (9, 20.0)):
        pace = Pace(Limits(), 0.0)
        second(pace, 0.0, count, 0.05)
        assert pace.rate == rate
