"""Whether a copy of an object is whole, by what it says of itself; and the forms of stamps and their sheets."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from hornetmail.archive.care.copies.sound import flaw_of
from hornetmail.archive.keys.keyring import KEYRING_NAME, Keyring
from hornetmail.archive.media.medium import Medium
from hornetmail.archive.proof.leaves import encode_run
from hornetmail.archive.proof.stamps import HEAD_BYTES, Head, Stamp, StampBroken, read_head, read_stamp
from hornetmail.archive.proof.stampsheets import SHEET, encode_sheet, number_in, sheet_of, stamps_of
from hornetmail.testing.archives import directory_medium
from tests.archive.test_leaf_index import LEAVES
from tests.archive.test_records import LOCKED, RING, ROOT, pack_of


def stamp(number: int) -> bytes:
    """A stamp as it lies on a medium; its token is nobody's."""
    head = Head(0, number, 10 + number, LEAVES[number % 100], 1_780_000_000_000, bytes(64))
    return Stamp(head, b"token%d" % number, "authority", (b"one", b"two")).to_bytes()


STAMPS = [stamp(number) for number in range(SHEET, 2 * SHEET)]


@pytest.fixture
def medium(tmp_path: Path) -> Medium:
    made = directory_medium(1, tmp_path / "medium")
    made.claim(RING.archive)
    return made


def flaw(medium: Medium, name: str, data: bytes, ring: Keyring = RING) -> str:
    return flaw_of(medium, name, data, ring)


def test_runs_and_packs(medium: Medium) -> None:
    """Would catch a sound copy that is overwritten by one that is damaged, or by another object under its name."""
    run, name = encode_run(7, LEAVES[7:9]), f"leaves/n0/{7:020d}.run"
    assert flaw(medium, name, run) == ""
    assert flaw(medium, f"leaves/n0/{8:020d}.run", run) == "it is another run of leaves"
    assert "damaged" in flaw(medium, name, run[:-1])
    assert flaw(medium, "leaves/n0/what.run", run) != ""
    pack = pack_of(2)
    assert flaw(medium, pack.head.name, pack.data) == ""
    assert flaw(medium, pack.head.name.replace("4b", "4c"), pack.data) == "it is another pack"
    assert flaw(medium, pack.head.name, pack.data[:-1]) != ""
    assert flaw(medium, "packs/t1/elsewhere", pack.data) == "it is nothing that can be checked"


def test_stamps(medium: Medium) -> None:
    """Would catch a stamp, or a sheet of them, replaced by another one, by one that is cut off, or by one with a stamp too few."""
    assert flaw(medium, f"stamps/n0/{300:020d}.stamp", stamp(300)) == ""
    assert flaw(medium, f"stamps/n0/{301:020d}.stamp", stamp(300)) == "it is another stamp"
    assert "checksum" in flaw(medium, f"stamps/n0/{300:020d}.stamp", stamp(300)[:-1])
    name, sheet = f"stamps/n0/{SHEET:020d}.sheet", encode_sheet(SHEET, STAMPS)
    assert flaw(medium, name, sheet) == ""
    assert flaw(medium, f"stamps/n0/{2 * SHEET:020d}.sheet", sheet) == "it is another stamp"
    assert flaw(medium, name, encode_sheet(SHEET, STAMPS[:-1])) == "the sheet is damaged"
    assert flaw(medium, name, sheet[:-1] + bytes([sheet[-1] ^ 1])) == "the sheet is damaged"
    assert flaw(medium, name, encode_sheet(SHEET, [*STAMPS[:-1], STAMPS[0]])) == "it is another stamp"
    assert flaw(medium, name, b"x") == "not a sheet of stamps"


def test_keyrings(medium: Medium) -> None:
    """Would catch a copy of the keys taken for whole that is damaged, another archive's, or was changed by somebody without the root key; and, while locked, one that cannot be told refused."""
    data = RING.to_bytes()
    assert flaw(medium, KEYRING_NAME, data) == ""
    assert "checksum" in flaw(medium, KEYRING_NAME, data[:40] + bytes([data[40] ^ 1]) + data[41:])
    assert flaw(medium, KEYRING_NAME, Keyring.create(ROOT).to_bytes()) == "it is another archive's"
    forged = data[:-1] + bytes([data[-1] ^ 1])
    assert "without the root key" in flaw(medium, KEYRING_NAME, forged)
    assert flaw(medium, KEYRING_NAME, forged, LOCKED._keyring()) == ""
    assert flaw(medium, "keyring-previous", RING.rewrapped(bytes(32)).to_bytes()) == "", "under another root key"
    assert flaw(medium, "medium", data) == "it is nothing that can be checked"


def test_a_stamp_is_read_as_it_was_written() -> None:
    """Would catch a part of a stamp that is lost, and one cut off or added to anywhere that is read, or ends in an error of ours."""
    data = stamp(5)
    read = read_stamp(data)
    assert (read.head.number, read.head.size, read.token, read.authority) == (5, 15, b"token5", "authority")
    assert read.certificates == (b"one", b"two")
    assert read.to_bytes() == data
    body = data[:-32]
    for end in range(len(body)):
        with pytest.raises(StampBroken):
            read_stamp(body[:end] + hashlib.sha256(body[:end]).digest())
    longer = body + b"x"
    with pytest.raises(StampBroken, match="follows"):
        read_stamp(longer + hashlib.sha256(longer).digest())
    at = 8 + HEAD_BYTES
    for length in (len(body), len(body) - at - 3, 1 << 31):
        wrong = body[:at] + struct.pack(">I", length) + body[at + 4 :]
        with pytest.raises(StampBroken, match="lengths"):
            read_stamp(wrong + hashlib.sha256(wrong).digest())
    head = read.head.to_bytes()
    assert read_head(head) == read.head
    for wrong in (head[:-1], head + b"x", b"x" + head[1:], b""):
        with pytest.raises(StampBroken, match="not a head"):
            read_head(wrong)


def test_links() -> None:
    """L2: would catch two stamps that the next one cannot tell apart."""
    assert len({read_stamp(stamp(number)).link for number in range(5)}) == 5
    assert len(read_stamp(stamp(0)).link) == 64


def test_a_sheet_that_is_damaged() -> None:
    """Would catch a sheet of which one bad byte hides all stamps, one that holds more than a sheet does, and one cut off that ends in an error of ours."""
    sheet = encode_sheet(SHEET, STAMPS)
    assert stamps_of(sheet) == STAMPS
    for end in (20, 23, 24, 30, len(sheet) // 2):
        found = stamps_of(sheet[:end])
        assert found[:-1] == STAMPS[: max(0, len(found) - 1)]
    assert stamps_of(sheet[:20]) == []
    for wrong in (sheet[:19], b"x" + sheet[1:], b""):
        with pytest.raises(StampBroken):
            stamps_of(wrong)
    assert len(stamps_of(encode_sheet(0, [b"s"] * (SHEET + 9)))) == SHEET
    assert len(stamps_of(encode_sheet(0, [b"s"] * 3)[:-32])) == 3


def test_names_of_stamps() -> None:
    """Would catch a stamp put into the sheet before or after its own, and a file of another kind taken for a stamp."""
    for number, first in ((0, 0), (255, 0), (256, 256), (511, 256), (512, 512)):
        assert sheet_of(f"stamps/n3/{number:020d}.stamp") == f"stamps/n3/{first:020d}.sheet"
        assert number_in(f"{number:020d}.sheet", ".sheet") == number
    for wrong in (
        "5.stamp",
        f"{5:019d}.stamp",
        f"{5:021d}.stamp",
        f"{5:020d}",
        f"{5:020d}.sheet",
        f"{-5:020d}.stamp",
        "\u0665" * 20 + ".stamp",
    ):
        assert sheet_of(f"stamps/n0/{wrong}") == ""
        assert number_in(wrong, ".stamp") == -1
