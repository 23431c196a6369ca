"""What the archive's rules, stamps and figures say by themselves: how long mail is kept, which stamp authorities can be, how it grows; and the clock."""

from __future__ import annotations

import itertools

import pytest

from hornetmail.core.archive.retention import MOST_DAYS, MOST_RULES, Kept, Rule, checked, goes_at
from hornetmail.core.archive.stamps import Authority, CACertificate, StampSettings, problem_of, read_settings, write_settings
from hornetmail.core.archive.statistics import DAY, DayOf, Statistics, Sum, daily
from hornetmail.core.clock import TOLERANCE, Drift, trouble

NOW = 1_800_000_000.0


@pytest.mark.parametrize("rule", [Rule(1), Rule(1, "x.test"), Rule(1, "", "in"), Rule(1, "", "", True), Rule(1, "", "", False)])
def test_of_what_a_rule_speaks(rule: Rule) -> None:
    """Would catch mail that goes, or stays, by the rule of another domain, direction or mark."""
    for domain, direction, spam in itertools.product(("x.test", "y.test"), ("in", "out"), (True, False)):
        differs = (rule.domain and rule.domain != domain) or (rule.direction and rule.direction != direction)
        assert rule.fits(domain, direction, spam) is not (bool(differs) or rule.spam is (not spam))


def test_the_rule_that_says_more() -> None:
    """Would catch a general rule that counts before the one that somebody made for just this mail."""
    rules = [
        Rule(1), Rule(2, spam=True), Rule(3, direction="in"), Rule(4, direction="in", spam=True), Rule(5, "x.test"),
        Rule(6, "x.test", spam=True), Rule(7, "x.test", "in"), Rule(8, "x.test", "in", True),
    ]  # fmt: skip
    for several in (rules, rules[::-1]):
        for most in range(8, 0, -1):
            found = goes_at([rule for rule in several if rule.days <= most], Kept(frozenset({"x.test"}), "in", True, NOW, 0.0))
            assert found == NOW + most * DAY


def test_when_a_mail_goes() -> None:
    """Would catch a mail that goes before the longest of its domains lets it, before what it was promised when it came, or before a hold's end."""
    rules = (Rule(10, "x.test"), Rule(30, "y.test"))

    def goes(*domains: str, kept: float = 0.0) -> float:
        return goes_at(rules, Kept(frozenset(domains), "in", False, NOW, NOW + 20 * DAY, kept)) - NOW

    assert goes("x.test") == 10 * DAY
    assert goes("x.test", "y.test") == 30 * DAY
    assert goes("z.test") == goes() == goes("x.test", "z.test") == 20 * DAY
    assert goes("x.test", kept=NOW + 15 * DAY) == 15 * DAY
    assert goes("x.test", "y.test", kept=NOW + 99 * DAY) == 99 * DAY
    assert goes_at((Rule(5),), Kept(frozenset(), "in", False, NOW, 0.0)) == NOW + 5 * DAY


def test_rules_as_they_are_kept() -> None:
    """Would catch rules that depend on the order or the case in which they were typed."""
    assert checked([Rule(3, " X.Test "), Rule(1), Rule(2, "a.test", "in"), Rule(5, "a.test", spam=False), Rule(4, "a.test")]) == (
        Rule(1), Rule(4, "a.test"), Rule(5, "a.test", spam=False), Rule(2, "a.test", "in"), Rule(3, "x.test"),
    )  # fmt: skip
    assert checked([Rule(1), Rule(MOST_DAYS, "x.test")])[1].days == 36_525
    assert len(checked([Rule(1, f"{number}.test") for number in range(MOST_RULES)])) == 500


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([Rule(1), Rule(0, "x.test")], "rule 2: kept 0 days: from 1 to 36525"),
        ([Rule(MOST_DAYS + 1)], "rule 1: kept 36526 days"),
        ([Rule(1, direction="inward")], "rule 1: there is no direction 'inward'"),
        ([Rule(1, "X.test"), Rule(1), Rule(2, "x.test")], "rule 3: another rule says the same of x.test"),
        ([Rule(1), Rule(2)], "rule 2: another rule says the same of all domains"),
        ([Rule(1, f"{number}.test") for number in range(MOST_RULES + 1)], "more than 500 rules"),
    ],
)
def test_rules_that_cannot_be(rules: list[Rule], said: str) -> None:
    """Would catch a rule that keeps nothing, two of which chance chooses, and an error that does not say which rule."""
    with pytest.raises(ValueError, match=said):
        checked(rules)


@pytest.mark.parametrize(
    ("authority", "good"),
    [
        (Authority("a", "https://tsa.test/x", "me", "secret"), True),
        (Authority("a", "http://tsa.test"), True),
        (Authority("a", "http://tsa.test:8080/x", "me"), True),
        (Authority("a" * 40, "https://tsa.test/" + "x" * 983), True),
        (Authority("a" * 41, "https://tsa.test"), False),
        (Authority("A", "https://tsa.test"), False),
        (Authority("a", "https://tsa.test/" + "x" * 984), False),
        (Authority("a", "http://tsa.test", "me", "secret"), False),
        (Authority("a", "ftp://tsa.test"), False),
        (Authority("a", "https:///x"), False),
        (Authority("a", "https://me@tsa.test"), False),
        (Authority("a", "https://tsa.test:0"), False),
        (Authority("a", "https://tsa.test:99999"), False),
        (Authority("a", "https://tsa.test/a b"), False),
        (Authority("a", "https://tsa.test/\u00e4"), False),
    ],
)
def test_authorities(authority: Authority, good: bool) -> None:
    """Would catch a password that goes out in clear, and an address that fails at night only."""
    assert (problem_of(authority) == "") is good


def test_stamp_settings() -> None:
    """Would catch another authority asked than the one that was named, its tokens held against another's certificates, and a setting that is not read back."""
    one, two = Authority("one", "https://one.test", certificates=("aa", "cc")), Authority("two", "https://two.test")
    settings = StampSettings((one, two), (CACertificate("aa", "A"), CACertificate("bb", "B"), CACertificate("cc", "C")))
    assert (settings.authority("two"), settings.authority("three")) == (two, None)
    assert (settings.pem_of(one), settings.pem_of(two)) == ("AC", "")
    assert read_settings(write_settings(settings)) == settings
    assert read_settings("") == StampSettings()


def test_growth() -> None:
    """Would catch a forecast that counts the day that is not over, or days before anything came, or one direction alone."""
    days = (
        DayOf(100, {"in": Sum(1, 300), "out": Sum(2, 100)}),
        DayOf(103, {"in": Sum(1, 400)}),
        DayOf(104, {"in": Sum(9, 7000)}),
    )
    assert days[0].total == Sum(3, 400)
    assert daily(days, 104) == 800 / 4
    assert daily(days[2:], 104) == daily((), 104) == 0.0
    figures = Statistics(104.5 * DAY, days, (), 8000, 2000)
    assert figures.ratio == 0.25
    assert figures.forecast(10) == 2000 + 10 * 50
    assert Statistics(104.5 * DAY, (), (), 0, 0).ratio == 0.0


def test_a_clock_that_is_not_to_be_trusted() -> None:
    """Would catch mail removed by a clock that leapt (rule 19), and none removed for a service that merely runs for long."""
    times = [NOW, 50.0]
    drift = Drift(lambda: times[0], lambda: times[1])
    times[:] = [NOW + 9000.0, 9050.0]
    assert drift() == 0.0
    times[0] += 25.0
    assert drift() == 25.0
    for leap, newest, good in (
        (TOLERANCE, NOW, True),
        (-TOLERANCE, NOW, True),
        (TOLERANCE + 1, NOW, False),
        (-TOLERANCE - 1, NOW, False),
        (0.0, NOW + TOLERANCE, True),
        (0.0, NOW + TOLERANCE + 1, False),
    ):
        assert (trouble(leap, newest, NOW, "the newest mail") == "") is good
