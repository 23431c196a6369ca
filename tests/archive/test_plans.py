"""What is put together at night, and who is told of media: the rules alone, without an archive around them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hornetmail.archive.care.packs import accounts
from hornetmail.archive.care.packs.accounts import in_stretches
from hornetmail.archive.care.packs.plans import MergeSettings, plan_group
from hornetmail.archive.care.packs.runs import merge_runs
from hornetmail.archive.care.watch import MediaWatch
from hornetmail.archive.media.medium import Medium, MediumAway, MediumError, MediumTaken, Space
from hornetmail.archive.media.roster import Media
from hornetmail.archive.proof.leaves import encode_run
from hornetmail.archive.store.shelf import PackRow
from hornetmail.testing.archives import NOW, directory_medium
from tests.archive.test_leaf_index import LEAVES
from tests.archive.test_merging import DAY, pack_of

SETTINGS = MergeSettings(limit=1000, settled=30 * DAY)


def planned(*packs: PackRow, now: float = NOW) -> list[list[int]]:
    """The numbers of what is written anew together."""
    return [[pack.number for pack in plan] for plan in plan_group(packs, now, SETTINGS)]


# -- packs


def test_small_ones_of_about_the_same_size() -> None:
    """Would catch a pack written anew for the sake of a far smaller one, and one that is as large as those before it left alone."""
    assert planned(pack_of(1, 100), pack_of(2, 100)) == [[1, 2]]
    assert planned(pack_of(1, 100), pack_of(2, 125)) == [[1, 2]]
    assert planned(pack_of(1, 100), pack_of(2, 126)) == []
    assert planned(pack_of(1, 10), pack_of(2, 15)) == [[1, 2]], "the smallest are put together whatever they are"
    assert planned(pack_of(1, 10), pack_of(2, 16)) == []
    assert planned(pack_of(1, 100), pack_of(2, 110), pack_of(3, 260), pack_of(4, 400)) == [[1, 2, 3, 4]]
    assert planned(pack_of(1, 100), pack_of(2, 110), pack_of(3, 263), pack_of(4, 400)) == [[1, 2]]
    assert planned(pack_of(1, 100)) == []


def test_large_ones_are_left_alone() -> None:
    """Would catch a pack of half the limit and more that is written again and again, and a pack beyond the limit."""
    assert planned(pack_of(1, 500), pack_of(2, 500)) == [[1, 2]]
    assert planned(pack_of(1, 501), pack_of(2, 501)) == []
    assert planned(*(pack_of(number, 400) for number in range(1, 6))) == [[1, 2], [3, 4]]
    assert planned(pack_of(1, 334), pack_of(2, 333), pack_of(3, 333)) == [[1, 2, 3]]
    assert planned(pack_of(1, 334), pack_of(2, 334), pack_of(3, 333)) == [[1, 2]]


def test_a_group_that_has_settled() -> None:
    """Would catch a month that stays in many packs for ever, and one that is put together while it still grows."""
    packs = [pack_of(1, 10), pack_of(2, 300), pack_of(3, 500)]
    assert planned(*packs, now=NOW + 30 * DAY) == []
    assert planned(*packs, now=NOW + 30 * DAY + 1) == [[1, 2, 3]]
    packs[0] = msgspec.structs.replace(packs[0], made=NOW + DAY)
    assert planned(*packs, now=NOW + 30 * DAY + 1) == []


def test_what_went_is_written_out() -> None:
    """Rule 23: would catch deleted mail that stays on a medium, and a pack without any that is written anew."""
    lost = pack_of(1, 900, dead=1)
    assert planned(lost) == [[1]]
    assert planned(msgspec.structs.replace(lost, dead=0)) == []
    assert planned(msgspec.structs.replace(lost, month=0)) == [], "the journal holds later facts, of which none goes"
    assert planned(msgspec.structs.replace(lost, month=202605)) == [], "the month that expires just now goes as a whole"
    assert planned(msgspec.structs.replace(lost, month=202605, soon=1)) == [[1]]
    assert planned(lost, pack_of(2, 90), pack_of(3, 600)) == [[1, 2]]
    assert planned(lost, pack_of(2, 110)) == [[1]], "beyond the limit: apart, and alone the other need not be written"


# -- runs of leaves


@pytest.fixture
def medium(tmp_path: Path) -> Medium:
    made = directory_medium(1, tmp_path / "medium")
    made.claim(bytes(16))
    return made


def name(first: int) -> str:
    return f"leaves/n0/{first:020d}.run"


def put(medium: Medium, *spans: tuple[int, int]) -> None:
    for first, behind in spans:
        medium.put(name(first), encode_run(first, LEAVES[first:behind]))


def spans_on(medium: Medium) -> list[tuple[int, int]]:
    """First leaf and how many, of what is there and right."""
    found = []
    for one, size in medium.names("leaves/n0/"):
        first, count = int(one[-24:-4]), (size - 56) // 32
        assert medium.get(one) == encode_run(first, LEAVES[first : first + count])
        found.append((first, count))
    return found


def test_neighbours_become_one_run(medium: Medium) -> None:
    """Rule 17: would catch runs that stay many, one beyond the bound, or leaves that are lost where they meet."""
    put(medium, (0, 4), (4, 8), (8, 12), (12, 16))
    assert merge_runs(medium, 0, 16, most=8) == (2, [])
    assert spans_on(medium) == [(0, 8), (8, 8)]
    assert merge_runs(medium, 0, 16, most=8) == (0, [])
    assert merge_runs(medium, 0, 16, most=15) == (0, [])
    assert merge_runs(medium, 0, 16) == (1, [])
    assert spans_on(medium) == [(0, 16)]


def test_what_the_log_does_not_have_yet(medium: Medium) -> None:
    """Would catch a run put together with one that this log has not taken: of another state of it, perhaps."""
    put(medium, (0, 4), (4, 8), (8, 12))
    assert merge_runs(medium, 0, 8) == (1, [])
    assert spans_on(medium) == [(0, 8), (8, 4)]
    assert merge_runs(medium, 0, 11) == (0, [])
    assert merge_runs(medium, 0, 12) == (1, [])


def test_a_gap_stays(medium: Medium) -> None:
    """Would catch leaves that take the numbers of those between them."""
    put(medium, (0, 4), (5, 8), (8, 10))
    assert merge_runs(medium, 0, 10) == (1, [])
    assert spans_on(medium) == [(0, 4), (5, 5)]


def test_what_a_crash_left(medium: Medium) -> None:
    """Would catch runs within another that stay for ever, or that are lost with what reaches beyond it."""
    put(medium, (0, 8), (4, 8), (6, 10), (10, 12))
    assert merge_runs(medium, 0, 12) == (3, [])
    assert spans_on(medium) == [(0, 12)]
    put(medium, (4, 8))
    assert merge_runs(medium, 0, 12, most=2) == (1, []), "within another, whatever the bound"
    assert spans_on(medium) == [(0, 12)]


def test_within_one_that_does_not_begin_with_the_first_leaf(medium: Medium) -> None:
    """Would catch runs that are said to contradict each other, and stay, since more of the first is compared than they share."""
    put(medium, (4, 12), (5, 7), (6, 11), (10, 14))
    assert merge_runs(medium, 0, 14) == (3, [])
    assert spans_on(medium) == [(4, 10)]


def test_runs_that_contradict_one_another(medium: Medium) -> None:
    """Would catch one of two different truths that is thrown away, unseen; what lies elsewhere is put together all the same."""
    put(medium, (0, 8), (20, 22), (22, 24))
    medium.put(name(4), encode_run(4, LEAVES[50:54]))
    fewer, damaged = merge_runs(medium, 0, 30)
    assert fewer == 1
    assert damaged == [f"medium 1: {name(4)}: it says another thing of leaf 4 than the run before it"]
    assert medium.get(name(4)) == encode_run(4, LEAVES[50:54])
    medium.put(name(4), encode_run(5, LEAVES[5:9]))
    assert merge_runs(medium, 0, 30)[1] == [f"medium 1: {name(4)}: another run than its name says"]
    medium.put(name(4), b"x" * len(encode_run(4, LEAVES[4:8])))
    [told] = merge_runs(medium, 0, 30)[1]
    assert told.startswith(f"medium 1: {name(4)}: a run of leaves is damaged")


def test_a_medium_that_does_not_keep_what_it_is_given(medium: Medium, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch runs that are deleted before the one in their place is seen to be there."""
    put(medium, (0, 4), (4, 8))
    monkeypatch.setattr(medium, "put", lambda *_: None)
    with pytest.raises(MediumError, match="did not keep"):
        merge_runs(medium, 0, 8)
    assert spans_on(medium) == [(0, 4), (4, 4)]


def test_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a leaf that is looked at by nobody, or twice."""
    monkeypatch.setattr(accounts, "STRETCH", 4)
    assert in_stretches(0, 0) == in_stretches(7, 7) == []
    assert in_stretches(0, 4) == [(0, 4)]
    assert in_stretches(3, 12) == [(3, 7), (7, 11), (11, 12)]


# -- media


class Watched:
    """Two media that answer as they are told to."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[tuple[str, str]] = []
        self.over: list[tuple[str, str]] = []
        self.now = 100.0
        self.space: dict[int, Space | Exception] = {1: Space(1000, 500), 2: Space(1000, 500)}
        self.used = [directory_medium(number, tmp_path / str(number)) for number in (1, 2)]
        for medium in self.used:
            monkeypatch.setattr(medium, "look", lambda number=medium.number: self.look(number))
        self.media = Media(self.used, 1)
        self.watch = MediaWatch(
            self.media,
            lambda code, _, number: self.said.append((code, number)),
            lambda code, _, number: self.over.append((code, number)),
            lambda: self.now,
        )

    def look(self, number: int) -> Space:
        answer = self.space[number]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(tmp_path, monkeypatch)


def test_a_medium_that_goes_and_comes_back(watched: Watched) -> None:
    """Would catch an alarm with each look, none when a medium goes once more, one that never ends, a medium that is back and nobody hears of it; and a moment since when it is so that moves."""
    assert watched.watch.health(1) is None
    assert watched.watch.look() == []
    assert watched.said == []
    codes = ("medium-away", "medium-full", "medium-taken")
    assert sorted(watched.over) == [(code, number) for code in codes for number in ("1", "2")]
    watched.over.clear()
    for _ in range(3):
        watched.space[2] = MediumError("unplugged")
        for _ in range(2):
            watched.now += 10
            assert watched.watch.look() == []
        assert watched.said == [("medium-away", "2")]
        assert watched.watch.away() == {2: "unplugged"}
        health = watched.watch.health(2)
        assert health is not None
        assert (health.up, health.since, health.why) == (False, watched.now - 10, "unplugged")
        watched.space[2] = Space(1000, 500)
        watched.now += 10
        watched.over.clear()
        assert watched.watch.look() == [2]
        assert ("medium-away", "2") in watched.over
        assert ("medium-away", "1") not in watched.over
        watched.now += 10
        assert watched.watch.look() == []
        assert watched.watch.away() == {}
        health = watched.watch.health(2)
        assert health is not None
        assert (health.up, health.since, health.space.free) == (True, watched.now - 10, 500)
        watched.said.clear()


def test_a_medium_to_which_another_installation_writes(watched: Watched) -> None:
    """Would catch one that is told of as away, whose mail nobody reads meanwhile, and an alarm that stays when it goes away or comes back after all."""
    watched.space[2] = MediumTaken("another one writes there")
    for _ in range(2):
        watched.watch.look()
    assert watched.said == [("medium-taken", "2")]
    assert (watched.watch.away(), watched.watch.unread()) == ({2: "another one writes there"}, frozenset())
    watched.space[2] = MediumAway("unplugged")
    watched.over.clear()
    watched.watch.look()
    assert (watched.said[1:], watched.watch.unread()) == ([("medium-away", "2")], {2})
    assert ("medium-taken", "2") in watched.over
    watched.space[2] = MediumTaken("another one writes there")
    watched.watch.look()
    assert watched.said[2:] == [("medium-taken", "2")]
    watched.over.clear()
    watched.space[2] = Space(1000, 500)
    assert watched.watch.look() == [2]
    assert ("medium-taken", "2") in watched.over


def test_a_medium_that_is_away_from_the_start(watched: Watched) -> None:
    """Would catch a medium that was never there and of which nobody is told."""
    watched.space[1] = OSError("no such share")
    assert watched.watch.look() == []
    assert watched.said == [("medium-away", "1")]
    assert watched.watch.away() == {1: "no such share"}


def test_room(watched: Watched) -> None:
    """Would catch an alarm with a tenth still free, none below it, one that does not end, and one of an object store that cannot tell."""
    for free, said in ((100, 0), (99, 1), (98, 1), (100, 1), (99, 2)):
        watched.space[1] = Space(1000, free)
        watched.watch.look()
        assert watched.said == [("medium-full", "1")] * said
    watched.space[1] = Space(0, 0)
    watched.watch.look()
    assert watched.said == [("medium-full", "1")] * 2


def test_a_medium_out_of_use(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 8f: would catch an alarm whose medium was given up, and that lasts for ever."""
    watched.space = {1: Space(1000, 5), 2: MediumError("gone")}
    watched.watch.look()
    assert sorted(watched.said) == [("medium-away", "2"), ("medium-full", "1")]
    for rest in (watched.used[:1], []):
        watched.over.clear()
        monkeypatch.setattr(watched.media, "all", lambda rest=rest: rest)
        watched.watch.look()
        number = "1" if not rest else "2"
        assert {("medium-away", number), ("medium-full", number)} <= set(watched.over)
        assert watched.watch.health(int(number)) is None
    watched.over.clear()
    watched.watch.look()
    assert watched.over == [], "told once"
