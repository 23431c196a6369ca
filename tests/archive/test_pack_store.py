"""What lies in a pack: its place by name, its kinds of records, and the ends of its parts."""

from __future__ import annotations

import calendar
import hashlib
import time

import msgspec
import pytest
import zstandard

from hornetmail.archive.keys.keyring import KeyTrouble
from hornetmail.archive.store.packs import (
    FOOTER,
    HEADER,
    Group,
    PackBroken,
    PackHead,
    SealedPack,
    build_pack,
    end_of,
    members_of,
    month_of,
    name_of_records,
    open_pack,
    pack_id_of,
    prefix_of,
    salvage_pack,
)
from hornetmail.archive.store.records import EventMeta, PartMeta, What
from tests.archive.test_records import CODEC, RING, meta_for, pack_of

KEY = RING.data_number(1, 2026) or 0


def mixed(group: Group) -> SealedPack:
    """A message, a shared part and a later fact."""
    records = [
        CODEC.close_mail(1, b"M" * 16, meta_for(b"mail"), b"mail", 2026),
        CODEC.close_part(1, b"P" * 16, PartMeta(202702, b"D" * 32), b"part" * 30, 2026),
        CODEC.close_event(1, b"E" * 16, EventMeta(What.DELETED, 1.0, (b"M" * 16,)), 2026),
    ]
    return build_pack(PackHead(1, group, b"K" * 16, 1_780_000_000.25, 3), records, RING, KEY)


def resealed(data: bytes, footer: bytes) -> bytes:
    """The same with another end, whose checksum fits: as somebody would write it who may write there and has no key."""
    body = data[: -FOOTER.size]
    at, key, _, magic = FOOTER.unpack(footer)
    return body + FOOTER.pack(at, key, hashlib.sha256(body).digest(), magic)


@pytest.mark.parametrize("month", [202601, 202602, 202611, 202612, 202801, 199912])
def test_a_month_and_its_end(month: int) -> None:
    """Rule 20: would catch an object lock, or the day on which a mail is fully gone, a year too early or late: December's end above all."""
    end = end_of(month)
    assert month_of(end - 0.5) == month
    assert month_of(end) > month
    when = time.gmtime(end)
    assert (when.tm_mday, when.tm_hour, when.tm_min, when.tm_sec) == (1, 0, 0, 0)
    assert 28 * 86400 <= end - calendar.timegm((month // 100, month % 100, 1, 0, 0, 0)) <= 31 * 86400


def test_months_at_the_ends_of_time() -> None:
    """Would catch a mail that is kept for ever, or of before 1970, which ends a seal by an error of ours."""
    assert month_of(-5.0) == month_of(0.0) == 197001
    assert month_of(1e18) == month_of(253402300799.0) == 999912


@pytest.mark.parametrize("group", [Group(1, 202702), Group(12, 202612), Group(1, 0)])
def test_names_are_read_back(group: Group) -> None:
    """Would catch a pack that is put where nothing looks for it: its ID, tenant and month are in its name, and are had from there if its header is lost."""
    pack = mixed(Group(1, group.month))
    head = PackHead(1, group, b"K" * 16, 1.0)
    assert head.name.startswith(prefix_of(group))
    assert pack_id_of(head.name) == b"K" * 16
    data = bytes(HEADER.size) + pack.data[HEADER.size :]
    found = salvage_pack(head.name, data, RING)
    assert (found.pack.head.group, found.pack.head.pack) == (group, b"K" * 16)
    assert found.damage[0] == "its header was changed"
    for wrong in (
        "packs/t1/2027-02/xyz.pack",
        "packs/t1/2027-2/" + "4b" * 16 + ".pack",
        "journal/" + "4b" * 16 + ".pack",
        head.name + "x",
    ):
        assert pack_id_of(wrong) == b""
        with pytest.raises(PackBroken, match="not the name"):
            salvage_pack(wrong, data, RING)


def test_a_header_that_agrees_with_the_name_is_believed() -> None:
    """Would catch a whole header that is put aside, or one of another pack that is believed: of another month, tenant or ID."""
    pack = mixed(Group(1, 202702))
    assert salvage_pack(pack.head.name, pack.data, RING).damage == ()
    assert salvage_pack(pack.head.name, pack.data, RING).pack.head == pack.head
    for other in (
        PackHead(1, Group(1, 202703), b"K" * 16, 1.0),
        PackHead(1, Group(2, 202702), b"K" * 16, 1.0),
        PackHead(1, Group(1, 202702), b"L" * 16, 1.0),
    ):
        assert salvage_pack(other.name, pack.data, RING).damage == ("its header was changed",)


def test_each_kind_of_record_is_named() -> None:
    """Would catch a report that calls a lost attachment a message, or the other way round: what is to be done differs."""
    pack = mixed(Group(1, 202702))
    assert open_pack(pack.data, RING) == pack
    for member, kind in zip(pack.members, ("message", "attachment", "later fact"), strict=True):
        data = bytearray(pack.data)
        data[member.offset + member.length - 1] ^= 1
        found = salvage_pack(pack.head.name, bytes(data), RING)
        assert found.damage == (f"record {member.record.hex()} ({kind}) was changed or is cut off",)
        assert member not in found.pack.members
        assert len(found.pack.members) == 2


def test_records_found_without_a_trailer() -> None:
    """L3: would catch a pack without its end of which not all whole records are had, each in its own bounds, the last one too; and one of another tenant's."""
    pack = mixed(Group(1, 202702))
    at = FOOTER.unpack_from(pack.data, pack.size - FOOTER.size)[0]
    cut = pack.data[:at]
    assert salvage_pack(pack.head.name, cut, RING).pack.members == pack.members
    last = pack.members[-1]
    shorter = cut[:-5]
    found = salvage_pack(pack.head.name, shorter, RING).pack.members
    assert found[:-1] == pack.members[:-1]
    assert (found[-1].offset, found[-1].length) == (last.offset, last.length - 5)
    wrong = bytearray(cut)
    first = pack.members[0]
    wrong[first.offset - 4 : first.offset] = (1 << 20).to_bytes(4, "big")
    found = salvage_pack(pack.head.name, bytes(wrong), RING).pack.members
    assert found == pack.members, "a length that cannot be gives way to where the next record begins"
    head = PackHead(1, Group(2, 202702), b"K" * 16, 1.0)
    assert salvage_pack(head.name, cut, RING).pack.members == ()


def test_an_end_that_points_elsewhere() -> None:
    """Rule 21: would catch a trailer looked for outside of the pack, or an error of ours in place of the pack being named as broken."""
    pack = mixed(Group(1, 202702))
    end = pack.size - FOOTER.size
    at, key, digest, magic = FOOTER.unpack_from(pack.data, end)
    assert open_pack(resealed(pack.data, pack.data[end:]), RING) == pack
    for wrong in (0, HEADER.size - 1, end, end + 1, 1 << 60):
        data = resealed(pack.data, FOOTER.pack(wrong, key, digest, magic))
        with pytest.raises(PackBroken, match="outside"):
            open_pack(data, RING)
        with pytest.raises(PackBroken, match="it has no end"):
            members_of(lambda start, length, data=data: data[start : start + length], len(data), RING)  # type: ignore[misc]
        assert "it has no end" in salvage_pack(pack.head.name, data, RING).damage[0]
    for near in (at - 1, at + 1, HEADER.size):
        with pytest.raises(PackBroken):
            open_pack(resealed(pack.data, FOOTER.pack(near, key, digest, magic)), RING)
    with pytest.raises(KeyTrouble):
        open_pack(resealed(pack.data, FOOTER.pack(at, 999, digest, magic)), RING)


@pytest.mark.parametrize("stated", [0, 2, 4])
def test_a_trailer_of_other_records(stated: int) -> None:
    """Rule 21: would catch a record put into a pack, or taken out of it, by somebody who has the key but not the index; or an error of ours in place of the pack being named as broken."""
    pack = mixed(Group(1, 202702))
    at, key, _, magic = FOOTER.unpack_from(pack.data, pack.size - FOOTER.size)
    members = {"members": (*pack.members, pack.members[-1])[:stated]}
    plain = zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(members))
    sealed = RING.seal(key).close(plain, b"hornetmail pack trailer 1" + pack.data[: HEADER.size])
    data = resealed(pack.data[:at] + sealed + bytes(FOOTER.size), FOOTER.pack(at, key, bytes(32), magic))
    with pytest.raises(PackBroken, match="holds other records"):
        open_pack(data, RING)


def test_a_pack_of_nothing() -> None:
    """Would catch the smallest pack refused: all its mail was deleted before it was sealed."""
    pack = build_pack(PackHead(1, Group(1, 202702), b"K" * 16, 1.0), [], RING, KEY)
    assert open_pack(pack.data, RING) == pack
    assert pack.members == ()
    assert salvage_pack(pack.head.name, pack.data, RING).damage == ()
    assert members_of(lambda start, length: pack.data[start : start + length], pack.size, RING) == (pack.head, ())


def test_what_a_pack_says_of_itself() -> None:
    """Would catch members read from a pack's end that are not those it has, or a pack cut off that is read all the same."""
    pack = pack_of(4)
    read: list[tuple[int, int]] = []

    def get(start: int, length: int) -> bytes:
        read.append((start, length))
        return pack.data[start : start + length]

    assert members_of(get, pack.size, RING) == (pack.head, pack.members)
    assert sum(length for _, length in read) < pack.size / 2, "without its records"
    for size in range(HEADER.size + FOOTER.size + 1):
        short = pack.data[:size]
        with pytest.raises(PackBroken):
            members_of(lambda start, length, short=short: short[start : start + length], size, RING)  # type: ignore[misc]


def test_the_same_records_have_the_same_name() -> None:
    """Would catch two packs of the same records under two names, or of the same records in another order under one."""
    assert name_of_records([b"a" * 16, b"b" * 16]) == name_of_records(iter([b"a" * 16, b"b" * 16]))
    assert name_of_records([b"a" * 16, b"b" * 16]) != name_of_records([b"b" * 16, b"a" * 16])
    assert len(name_of_records([])) == 16
