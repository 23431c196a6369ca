"""Keys: the keyring file, the root's file, and the paper."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hornetmail.archive.keys import paper, sealedroot
from hornetmail.archive.keys.keyring import NODE_BITS, Keyring, KeyTrouble, RootFile, new_root
from hornetmail.archive.keys.paper import backup, restore
from hornetmail.disk.files import Disk

ROOT = bytes(range(32))
CHEAP = {"memory_kib": 64, "time": 1}


def test_keyring_round_trip() -> None:
    """Catches a keyring whose keys differ after being read back: all mail would be lost (rule 22)."""
    ring = Keyring.create(ROOT).with_data([(1, 2026), (2, 2026), (1, 2027)])
    again = Keyring.from_bytes(ring.to_bytes(), ROOT)
    assert again.to_bytes() == ring.to_bytes()
    assert len(again.database_key()) == 48
    assert again.database_key() == ring.database_key()
    number = again.data_number(2, 2026)
    assert number is not None
    assert again.seal(number).open(ring.seal(number).close(b"x", b"c"), b"c") == b"x"
    assert again.data_number(3, 2026) is None
    assert ring.with_data([(1, 2026)]) is ring


def test_keyring_rewrapped_keeps_keys() -> None:
    """Catches a change of the root key that loses data keys (rule 22)."""
    ring = Keyring.create(ROOT).with_data([(1, 2026)])
    other = new_root()
    moved = Keyring.from_bytes(ring.rewrapped(other).to_bytes(), other)
    assert moved.database_key() == ring.database_key()
    with pytest.raises(KeyTrouble, match="belongs to root key"):
        Keyring.from_bytes(moved.to_bytes(), ROOT)


def test_keyring_locked() -> None:
    """Catches a locked archive that hands out keys, or that cannot even be sealed to (rule 22)."""
    data = Keyring.create(ROOT).to_bytes()
    locked = Keyring.from_bytes(data, None)
    assert locked.locked
    assert locked.public.public_bytes_raw() == Keyring.from_bytes(data, ROOT).public.public_bytes_raw()
    for call in (locked.database_key, locked.to_bytes, lambda: locked.with_data([(1, 2026)]), lambda: locked.private):
        with pytest.raises(KeyTrouble, match="locked"):
            call()


@settings(max_examples=60)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_keyring_damage_is_found(at: int, bit: int) -> None:
    """Catches a flipped bit in the wrapped keys that goes unnoticed."""
    data = bytearray(Keyring.create(ROOT).to_bytes())
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(KeyTrouble):
        Keyring.from_bytes(bytes(data), ROOT)


def test_root_file(tmp_path: Path) -> None:
    """Catches a root key file that is readable by others, or whose damage passes for a key."""
    file = RootFile(tmp_path / "keys" / "root.key", Disk())
    assert file.read() is None
    file.write(ROOT)
    assert file.read() == ROOT
    path = tmp_path / "keys" / "root.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes().replace(b"00", b"01", 1))
    with pytest.raises(KeyTrouble, match="damaged"):
        file.read()


def _paper() -> str:
    return backup(ROOT, "correct horse", 1_780_000_000.0, **CHEAP)


def test_paper_round_trip_as_people_type() -> None:
    """Catches a key text that only comes back exactly as printed (A6): case, look-alikes and spacing differ when typed."""
    text = _paper()
    assert restore(text, "correct horse") == ROOT
    head, _, rest = text.partition("-----BEGIN")
    typed = head + "-----BEGIN" + rest.partition("\n")[0].replace("BEGIN", "") + "\n"
    typed += rest.partition("\n")[2].lower().replace("0", "o").replace("1", "l").replace("-----end", "-----END")
    lines = []
    for number, line in enumerate(typed.splitlines()):
        words = line.split()
        if words and words[0].replace("o", "0").replace("l", "1").isdigit():
            words[0] = words[0].replace("o", "0").replace("l", "1")
        lines.append("".join(words[:1]) + " " + "-".join(words[1:]) if number > 3 and words else line)
    assert restore("\n".join(lines), "correct horse") == ROOT


def test_paper_names_the_bad_line() -> None:
    """Catches a slip of the pen that is not found in its line (L12)."""
    lines = _paper().splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("-----BEGIN"))
    third = begin + 3
    c = lines[third][6]
    lines[third] = lines[third][:6] + ("7" if c != "7" else "8") + lines[third][7:]
    with pytest.raises(KeyTrouble, match="line 3: checksum does not match"):
        restore("\n".join(lines), "correct horse")


def test_paper_lines_missing_or_swapped() -> None:
    """Catches a forgotten or swapped line that is reported as a wrong password."""
    lines = _paper().splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("-----BEGIN"))
    short = lines[: begin + 2] + lines[begin + 3 :]
    with pytest.raises(KeyTrouble, match="line 2: it is numbered '3'"):
        restore("\n".join(short), "correct horse")
    cut = [*lines[: begin + 3], lines[-1]]
    with pytest.raises(KeyTrouble, match="lines are missing at the end"):
        restore("\n".join(cut), "correct horse")
    with pytest.raises(KeyTrouble, match="no key in this text"):
        restore("hello", "correct horse")


TYPED: list[Callable[[str], str]] = [
    str.lower,
    lambda text: "> " + text.replace("\n", "\n> "),
    lambda text: text.replace("-----", ""),
    lambda text: text.replace("-----", "\u2014"),
    lambda text: re.sub(r"^( *\d+) ", r"\1. ", text, flags=re.MULTILINE),
    lambda text: text.replace("1", "l").replace("0", "o"),
    lambda text: text.translate({ord("0") + n: 0xFF10 + n for n in range(10)}),
    lambda text: text.replace(" ", "\u00a0"),
    lambda text: "\ufeff" + text.replace(" ", "\u200b ").replace("\n", "\r\n"),
]
"""What people, word processors and mail programs make of a paper."""


@pytest.mark.parametrize(
    "change",
    TYPED,
    ids=[
        "lower case",
        "quoted",
        "no dashes",
        "long dashes",
        "numbers with dots",
        "look-alikes",
        "wide digits",
        "fixed spaces",
        "unseen characters",
    ],
)
def test_paper_typed_in_anyhow(change: Callable[[str], str]) -> None:
    """L12: catches a paper that is refused on the day on which nothing else is left, because it was typed, scanned or sent in another way than it was printed."""
    assert paper.restore(change(paper.backup(ROOT, "Käse 1", 0.0, **CHEAP)), "Ka\u0308se 1 ") == ROOT


@pytest.mark.parametrize(
    ("at", "value"), [(9, b"\0\0\0\0"), (13, b"\0\0\0\0"), (17, b"\0"), (17, b"\xff"), (9, b"\xff\xff\xff\xff")]
)
def test_paper_that_asks_for_the_impossible(at: int, value: bytes) -> None:
    """Catches a paper, or a sealed key, made by somebody else that ends in a traceback where it is read in, or takes all memory."""
    sealed = bytearray(sealedroot.close(ROOT, b"password", **CHEAP))
    sealed[at : at + len(value)] = value
    with pytest.raises(KeyTrouble, match="asks for"):
        sealedroot.open_with(bytes(sealed), [b"password"])


def test_paper_wrong_password() -> None:
    """Catches a wrong password that yields some other key (A5)."""
    with pytest.raises(KeyTrouble, match="password"):
        restore(_paper(), "incorrect horse")


def test_paper_tells_nothing() -> None:
    """Catches a key that stands in its own backup."""
    assert ROOT.hex() not in _paper().lower().replace(" ", "")


@settings(max_examples=60)
@example("¹")
@example("\x1f")
@given(st.text(max_size=400))
def test_paper_takes_any_text(text: str) -> None:
    """Catches other exceptions than KeyTrouble on what people paste."""
    with pytest.raises(KeyTrouble):
        restore("-----BEGIN HORNETMAIL ARCHIVE KEY-----\n" + text, "x")


@pytest.mark.parametrize("typed", [" Schl\u00fcssel ", "Schlu\u0308ssel", "Schl\u00fcssel\u00a0", "Schl\u00fcssel"])
def test_paper_password_however_it_was_typed(typed: str) -> None:
    """Catches a key that cannot be opened again: umlauts come decomposed from some keyboards, and a space at the end is seen by nobody."""
    text = backup(ROOT, typed, 1_780_000_000.0, **CHEAP)
    for again in ("Schl\u00fcssel", "Schlu\u0308ssel", "Schl\u00fcssel ", " Schlu\u0308ssel"):
        assert restore(text, again) == ROOT


def test_paper_of_an_earlier_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a paper that was written before passwords were normalised, and opens no more."""
    for written in ("Schlu\u0308ssel ", "Schl\u00fcssel ", "Schlu\u0308ssel", " x"):
        with monkeypatch.context() as patched:
            patched.setattr(paper, "normal", lambda password: password)
            text = backup(ROOT, written, 1_780_000_000.0, **CHEAP)
        assert restore(text, written) == ROOT


def test_paper_from_a_word_processor() -> None:
    """Catches dashes that a word processor made longer, and characters that show nothing, taken for slips."""
    lines = _paper().splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("-----BEGIN"))
    for dash in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u00ad":
        typed = [line.replace("-----", dash * 2) for line in lines]
        for number in range(begin + 1, len(lines) - 1):
            head, _, rest = lines[number].strip().partition(" ")
            typed[number] = f"\ufeff{head}  {dash.join(rest.split())}"
        assert restore("\n".join(typed), "correct horse") == ROOT


def test_keys_of_two_nodes_are_united() -> None:
    """Catches a number that two nodes give to two keys, and a key that one of them loses to the other."""
    first = Keyring.create(ROOT)
    one = first.with_data([(1, 2026), (2, 2026)], 0)
    two = first.with_data([(1, 2026), (3, 2026)], 5)
    assert one.numbers & two.numbers == first.numbers
    both, other = one.united(two), two.united(one)
    assert both.numbers == other.numbers == one.numbers | two.numbers
    assert both.serial > max(one.serial, two.serial)
    assert both.data_number(1, 2026) == other.data_number(1, 2026) == one.data_number(1, 2026)
    again = Keyring.from_bytes(both.to_bytes(), ROOT)
    for ring in (one, two):
        for number in ring.numbers - first.numbers:
            assert again.seal(number).mark() == ring.seal(number).mark()
    assert both.united(one) is both
    assert again.with_data([(9, 2026)], 5).data_number(9, 2026) == (5 << NODE_BITS) + 3


def test_one_number_two_keys_is_refused() -> None:
    """Catches an older copy of a data directory that makes a key anew under a number that has one: what it sealed could never be read."""
    first = Keyring.create(ROOT)
    one, two = first.with_data([(1, 2026)]), first.with_data([(1, 2026)])
    with pytest.raises(KeyTrouble, match="key 4 is one key here and another there"):
        one.united(two)
    with pytest.raises(KeyTrouble, match="two archives"):
        one.united(Keyring.create(ROOT))


def test_new_data_keys_after_a_change_of_the_root_key() -> None:
    """Catches mail that goes on being sealed under keys which whoever had the old root key may have read."""
    before = Keyring.create(ROOT).with_data([(1, 2026)])
    old = before.data_number(1, 2026)
    after = before.rewrapped(bytes(32))
    assert after.data_number(1, 2026) is None
    fresh = Keyring.from_bytes(after.with_data([(1, 2026)]).to_bytes(), bytes(32))
    assert fresh.data_number(1, 2026) not in (None, old)
    assert old is not None
    assert fresh.seal(old).mark() == before.seal(old).mark()


def test_keyring_is_written_as_before() -> None:
    """Catches a keyring of an earlier version that would be told as changed, because it is written in another way now."""
    ring = Keyring.create(ROOT).with_data([(1, 2026)])
    body = msgspec.msgpack.decode(ring.to_bytes()[12:-36])
    assert set(body) == {"serial", "archive", "root", "public", "entries"}
    assert {len(entry) for entry in body["entries"]} == {5}
