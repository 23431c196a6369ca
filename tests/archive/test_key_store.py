"""The keyring on disk and on media: whose keys are taken, which are told of, and what is put where (rule 22)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hornetmail.archive.keys.keyring import KEYRING_NAME, Keyring, KeyTrouble
from hornetmail.archive.keys.keystore import OTHERS, PREVIOUS_NAME, KeyStore
from hornetmail.archive.media.medium import MediumError
from hornetmail.disk.files import Disk
from hornetmail.testing.archives import directory_medium
from tests.archive.changing import OLD, PASSWORD, Place, cheap_paper, now_done


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "place")
    made.make()
    now_done(made.change.open())
    return made


def test_keys_of_another_node_are_taken(place: Place) -> None:
    """Would catch mail of another node that this one cannot read, keys that are forgotten by a restart, and one that is taken again and again."""
    shutil.copytree(place.top / "archive", place.top / "other")
    other = KeyStore(place.top / "other", Disk(), node=1)
    other.open(OLD)
    other.ensure([(7, 2030)])
    assert other.publish_all(place.all[1:]) == []
    assert (place.top / "medium2" / OTHERS / "n1").exists()
    assert place.keys.unite(place.all) == []
    taken = place.keys.current()
    assert taken.data_number(7, 2030) == other.current().data_number(7, 2030) is not None
    again = KeyStore(place.top / "archive", Disk())
    assert again.open(OLD).numbers == taken.numbers
    assert place.keys.unite(place.all) == []
    assert place.keys.current() is taken


def test_keyrings_that_are_none_of_ours(place: Place) -> None:
    """Would catch an alarm at each start for a medium that has not got the keys of a changed root key yet, or whose keyring is another archive's: neither has keys for us. The next medium's are
    taken all the same."""
    foreign, older = Keyring.create(OLD), place.keys.current()
    (place.top / "medium1" / KEYRING_NAME).write_bytes(foreign.to_bytes())
    assert place.keys.unite(place.all) == []
    assert place.keys.current() is older
    with cheap_paper():
        now_done(place.change.confirm(now_done(place.change.begin(PASSWORD)), PASSWORD))
    changed = place.keys.current()
    assert changed.root != older.root
    (place.top / "medium1" / KEYRING_NAME).write_bytes(older.to_bytes())
    assert place.keys.unite(place.all) == []
    assert place.keys.current() is changed


def test_what_could_not_be_taken_is_told(place: Place) -> None:
    """Would catch a damaged keyring on one medium that hides those of the others, or that nobody hears of; a locked archive asks nobody."""
    shutil.copytree(place.top / "archive", place.top / "other")
    other = KeyStore(place.top / "other", Disk(), node=1)
    other.open(OLD)
    other.ensure([(7, 2030)])
    other.publish_all(place.all[1:])
    (place.top / "medium1" / KEYRING_NAME).write_bytes(b"rubbish")
    locked = KeyStore(place.top / "archive", Disk())
    locked.open(None)
    assert locked.unite(place.all) == []
    problems = place.keys.unite(place.all)
    assert len(problems) == 1
    assert problems[0].startswith("medium 1: ")
    assert place.keys.current().data_number(7, 2030) is not None
    (place.top / "medium1" / KEYRING_NAME).unlink()
    assert place.keys.unite(place.all) == [], "a medium without one misses nothing yet"


def test_a_key_is_made_once(place: Place) -> None:
    """Would catch a keyring that grows with each start, or a key that is used before it is on disk."""
    before = place.keys.current()
    place.keys.ensure([(1, 2026), (2, 2026)])
    assert place.keys.current() is before
    place.keys.ensure([(1, 2027), (1, 2026)])
    assert len(place.keys.current().numbers) == len(before.numbers) + 1
    assert place.keys.current().serial == before.serial + 1
    again = KeyStore(place.top / "archive", Disk())
    assert again.open(OLD).numbers == place.keys.current().numbers


def test_it_is_put_where_it_is_not_yet(place: Place) -> None:
    """Would catch keys that do not get onto a medium, a medium written at each look, and damage there that is not mended when one looks again."""
    copy = place.top / "medium1" / KEYRING_NAME
    stamp = copy.stat().st_mtime_ns
    place.keys.publish(place.all[0])
    place.keys.publish(place.all[0], again=True)
    assert copy.stat().st_mtime_ns == stamp
    copy.write_bytes(b"rubbish")
    place.keys.publish(place.all[0])
    assert copy.read_bytes() == b"rubbish", "not looked at again unless asked to"
    place.keys.publish(place.all[0], again=True)
    assert copy.read_bytes() == place.keys.current().to_bytes()
    assert not (place.top / "medium1" / PREVIOUS_NAME).exists(), "rubbish is not kept as a keyring"
    place.keys.ensure([(1, 2031)])
    place.keys.publish(place.all[0])
    assert copy.read_bytes() == place.keys.current().to_bytes()
    assert not (place.top / "medium1" / PREVIOUS_NAME).exists(), "under the same root key there is nothing to keep"


def test_one_medium_that_is_away(place: Place) -> None:
    """Would catch keys that reach no medium since the first is away, and an empty mount point that gets them."""
    place.keys.ensure([(1, 2031)])
    (place.top / "medium1").rename(place.top / "away")
    (place.top / "medium1").mkdir()
    problems = place.keys.publish_all(place.all)
    assert len(problems) == 1
    assert problems[0].startswith("medium 1 did not take it: ")
    assert not list((place.top / "medium1").iterdir())
    assert (place.top / "medium2" / KEYRING_NAME).read_bytes() == place.keys.current().to_bytes()
    with pytest.raises(MediumError):
        place.keys.publish(place.all[0])


def test_a_keyring_is_not_made_over_another(place: Place) -> None:
    """Would catch a second set-up that throws the keys of the first away."""
    before = (place.top / "archive" / KEYRING_NAME).read_bytes()
    assert place.keys.exists
    with pytest.raises(KeyTrouble, match="exists already"):
        KeyStore(place.top / "archive", Disk()).create(OLD)
    assert (place.top / "archive" / KEYRING_NAME).read_bytes() == before
    empty = KeyStore(place.top / "elsewhere", Disk())
    assert not empty.exists
    assert not empty.is_open
    with pytest.raises(KeyTrouble, match="a copy lies on every medium"):
        empty.open(OLD)
    with pytest.raises(KeyTrouble, match="not open"):
        empty.current()
    assert place.keys.is_open


def test_restored_from_media_of_which_one_is_damaged(place: Place) -> None:
    """L3: would catch a restore that one damaged keyring prevents, that takes the older of two, or that says nothing of why there is none."""
    place.keys.ensure([(1, 2031)])
    place.keys.publish(place.all[1])
    newest = place.keys.current()
    for number, media in enumerate((place.all, place.all[::-1])):
        store = KeyStore(place.top / f"again{number}", Disk())
        assert store.restore(media, OLD).numbers == newest.numbers
        assert store.current().serial == newest.serial
    (place.top / "medium1" / KEYRING_NAME).write_bytes(b"rubbish")
    assert KeyStore(place.top / "third", Disk()).restore(place.all, OLD).numbers == newest.numbers
    with pytest.raises(KeyTrouble, match="not a keyring"):
        KeyStore(place.top / "fourth", Disk()).restore(place.all[:1], OLD)
    empty = directory_medium(3, place.top / "medium3")
    empty.claim(newest.archive)
    with pytest.raises(KeyTrouble, match="neither here nor on a medium"):
        KeyStore(place.top / "fifth", Disk()).restore([empty], OLD)
    assert not (place.top / "fifth").exists()
