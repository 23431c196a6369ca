"""Keys: the keyring file, the root's file, and the paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hornetmail.archive.keys.keyring import Keyring, KeyTrouble, RootFile, new_root
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


def test_paper_wrong_password() -> None:
    """Catches a wrong password that yields some other key (A5)."""
    with pytest.raises(KeyTrouble, match="password"):
        restore(_paper(), "incorrect horse")


def test_paper_tells_nothing() -> None:
    """Catches a key that stands in its own backup."""
    assert ROOT.hex() not in _paper().lower().replace(" ", "")


@settings(max_examples=60)
@example("¹")
@given(st.text(max_size=400))
def test_paper_takes_any_text(text: str) -> None:
    """Catches other exceptions than KeyTrouble on what people paste."""
    with pytest.raises(KeyTrouble):
        restore("-----BEGIN HORNETMAIL ARCHIVE KEY-----\n" + text, "x")
