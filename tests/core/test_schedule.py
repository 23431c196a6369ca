"""When jobs are due (A50-A60), in the nights in which clocks change too."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from hornetmail.core.schedule import ScheduleError, parse_schedule

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


def times(expression: str, begin: str, count: int) -> list[float]:
    schedule, moment, found = parse_schedule(expression), at(begin), []
    for _ in range(count):
        moment = schedule.after(moment, BERLIN)
        found.append(moment)
    return found


def test_an_hour_that_is_left_out_loses_no_job() -> None:
    """A57's 02:30 does not exist on 29 March 2026: would catch a night without it."""
    assert times("30 2 * * *", "2026-03-28T12:00", 2) == [at("2026-03-29T03:00"), at("2026-03-30T02:30")]


def test_an_hour_that_comes_twice_runs_a_daily_job_once() -> None:
    """02:30 comes twice on 25 October 2026: would catch a purge that is done twice in that night."""
    assert times("30 2 * * *", "2026-10-24T12:00", 2) == [at("2026-10-25T02:30"), at("2026-10-26T02:30")]


def test_hourly_but_for_one_hour() -> None:
    """A55: xx:12, not at 01:12, which A56 has."""
    assert times("12 0,2-23 * * *", "2026-06-01T00:00", 3) == [at(f"2026-06-01T{hour}:12") for hour in ("00", "02", "03")]


def test_weekly() -> None:
    """A56, A60 set to weekly: Sundays."""
    assert times("12 1 * * 0", "2026-06-01T00:00", 1) == [at("2026-06-07T01:12")]


@pytest.mark.parametrize(
    "text", ["", "12", "61 * * * *", "* * * * * * *", "x" * 1000, "12 1 * * 0 \0", "@daily", "* * * * * *", "0 12 1 * * 0"]
)
def test_what_is_no_schedule_is_named(text: str) -> None:
    """Would catch a typing error that ends in a job that never runs, or each second, or in a traceback."""
    with pytest.raises(ScheduleError):
        parse_schedule(text)


def test_a_day_that_never_comes_is_refused() -> None:
    """30 February: would catch a job that is taken and never due."""
    with pytest.raises(ScheduleError, match="day-of-month"):
        parse_schedule("0 0 30 2 *")


def test_the_longest_expression() -> None:
    """Would catch a list of minutes that is refused unread, and a text without an end that is read."""
    text = f"{','.join(['0'] * 96)} 1 * * *"
    assert len(text) == 199
    assert parse_schedule(f"0{text}").text == f"0{text}"
    with pytest.raises(ScheduleError, match="hundreds of characters"):
        parse_schedule(f"00{text}")
