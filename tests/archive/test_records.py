"""Records and packs: what is closed opens exactly, and nothing else opens."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings

from hornetmail.archive.keys.keyring import Keyring, KeyTrouble
from hornetmail.archive.store.packs import Group, PackBroken, PackHead, SealedPack, build_pack, open_pack
from hornetmail.archive.store.records import (
    EventMeta,
    Kind,
    MailMeta,
    PartMeta,
    RecordBroken,
    RecordCodec,
    Scheme,
    Segment,
    Stretch,
    What,
    assemble,
    base64_lines,
    read_header,
)
from tests.strategies import any_bytes

ROOT = bytes(range(32))
RING = Keyring.create(ROOT).with_data([(1, 2026), (2, 2026)])
CODEC = RecordCodec(lambda: RING)
LOCKED = RecordCodec(lambda: Keyring.from_bytes(RING.to_bytes(), None))


def meta_for(body: bytes, **more: object) -> MailMeta:
    values: dict[str, object] = {
        "identifier": 1 << 50,
        "row": 7,
        "node": 0,
        "leaf": 3,
        "salt": bytes(32),
        "sha256": hashlib.sha256(body).digest(),
        "size": len(body),
        "received": 1.5,
        "expires": 2.5,
        "month": 202702,
        "feed": "inline",
        "direction": "in",
        "sender": "a@b.c",
        "recipients": ("d@e.f", "ü@e.f"),
        "trace": b"Received: x\r\n",
        "spam": True,
    }
    return MailMeta(**(values | more))  # type: ignore[arg-type]


def no_part(record: bytes) -> bytes:
    raise AssertionError(record)


@settings(max_examples=80)
@given(body=any_bytes(3000))
def test_mail_round_trip(body: bytes) -> None:
    """Catches a byte or a fact that does not survive (L3)."""
    meta = meta_for(body)
    header, again, inline = CODEC.open_mail(CODEC.close_mail(1, b"R" * 16, meta, body, 2026))
    assert (header.kind, header.tenant, header.record, header.scheme) == (Kind.MESSAGE, 1, b"R" * 16, Scheme.DATA_KEY)
    assert again == meta
    assert assemble(again, inline, no_part) == body


def test_locked_archive_still_takes_mail() -> None:
    """Catches mail that cannot be sealed while the key is locked, or not be opened afterwards (rule 22)."""
    body = b"Subject: x\r\n\r\nsecret\r\n"
    data = LOCKED.close_mail(1, b"R" * 16, meta_for(body), body, 2026)
    assert read_header(data).scheme == Scheme.SEALED_BOX
    assert CODEC.open_mail(data)[2] == body


@pytest.mark.parametrize("codec", [CODEC, LOCKED])
def test_every_changed_byte_is_found(codec: RecordCodec) -> None:
    """Catches a record that opens though a bit of it, header included, was changed (rule 21)."""
    body = b"Subject: x\r\n\r\nhello\r\n"
    data = codec.close_mail(1, b"R" * 16, meta_for(body), body, 2026)
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 1
        with pytest.raises((RecordBroken, KeyTrouble)):
            CODEC.open_mail(bytes(bad))
    for cut in (0, 31, 32, 60, len(data) - 1):
        with pytest.raises(RecordBroken):
            CODEC.open_mail(data[:cut])


def test_record_is_bound_to_its_tenant_and_kind() -> None:
    """Catches a record that opens as another tenant's, or as another kind (rule 21)."""
    body = b"hello"
    data = CODEC.close_mail(1, b"R" * 16, meta_for(body), body, 2026)
    key_of_two = RING.data_number(2, 2026)
    moved = data[:11] + b"\x02" + data[12:]
    assert read_header(moved).tenant == 2
    with pytest.raises(RecordBroken):
        CODEC.open_mail(moved)
    event = CODEC.close_event(1, b"E" * 16, EventMeta(What.DELETED, 1.0, (b"R" * 16,)), 2026)
    with pytest.raises(RecordBroken, match="not a message"):
        CODEC.open_mail(event)
    assert key_of_two != RING.data_number(1, 2026)
    assert CODEC.open_event(event)[1].records == (b"R" * 16,)


def test_plain_text_is_not_in_a_record() -> None:
    """Catches metadata or content that lies open (A2)."""
    body = b"Subject: findme\r\n\r\nfindme\r\n"
    data = CODEC.close_mail(1, b"R" * 16, meta_for(body), body, 2026)
    assert b"findme" not in data
    assert b"d@e.f" not in data


def test_shared_stretches() -> None:
    """Catches a mail with shared parts that does not come back byte for byte (rule 20)."""
    blob = bytes(range(256)) * 9
    encoded = base64_lines(blob)
    assert encoded == base64.encodebytes(blob).strip().replace(b"\n", b"\r\n")
    body = b"head\r\n" + encoded + b"\r\nraw:" + blob + b"tail"
    stretches = (
        Stretch(Segment.INLINE, 6),
        Stretch(Segment.BASE64, len(encoded), b"P" * 16),
        Stretch(Segment.INLINE, 6),
        Stretch(Segment.SHARED, len(blob), b"P" * 16),
        Stretch(Segment.INLINE, 4),
    )
    meta = meta_for(body, stretches=stretches)
    assert assemble(meta, b"head\r\n\r\nraw:tail", lambda record: {b"P" * 16: blob}[record]) == body
    with pytest.raises(RecordBroken):
        assemble(meta, b"head\r\n\r\nraw:tail", lambda record: blob[:-1] + b"?")
    with pytest.raises(RecordBroken):
        assemble(meta, b"head\r\n\r\nraw:tai!", lambda record: blob)
    part = CODEC.close_part(1, b"P" * 16, PartMeta(202702, b"D" * 32), blob, 2026)
    assert CODEC.open_part(part)[1:] == (PartMeta(202702, b"D" * 32), blob)


def pack_of(count: int) -> SealedPack:
    records = []
    for n in range(count):
        body = b"mail %d" % n
        records.append(CODEC.close_mail(1, bytes([n]) * 16, meta_for(body), body, 2026))
    key = RING.data_number(1, 2026)
    assert key is not None
    return build_pack(PackHead(1, Group(1, 202702), b"K" * 16, 1_780_000_000.25), records, RING, key)


def test_pack_round_trip() -> None:
    """Catches a pack whose members do not lie where its trailer says."""
    pack = pack_of(5)
    again = open_pack(pack.data, RING)
    assert again == pack
    assert again.head.name == "packs/t1/2027-02/" + "4b" * 16 + ".pack"
    for n, member in enumerate(again.members):
        assert CODEC.open_mail(again.data[member.offset : member.offset + member.length])[2] == b"mail %d" % n


def test_pack_damage_is_found() -> None:
    """Catches a pack that opens though a bit of it was flipped, or its end is missing (rule 21)."""
    data = pack_of(3).data
    for at in range(0, len(data), 3):
        bad = bytearray(data)
        bad[at] ^= 0x10
        with pytest.raises((PackBroken, KeyTrouble)):
            open_pack(bytes(bad), RING)
    for cut in (0, 10, 64, 200, len(data) - 1):
        with pytest.raises(PackBroken):
            open_pack(data[:cut], RING)


def test_pack_with_its_members_reordered_by_an_insider() -> None:
    """Catches members swapped by somebody who mends the open checksums but lacks the key (rule 21)."""
    pack = pack_of(3)
    first, second = pack.members[0], pack.members[1]
    assert first.length == second.length
    data = bytearray(pack.data)
    one = data[first.offset : first.offset + first.length]
    data[first.offset : first.offset + first.length] = data[second.offset : second.offset + second.length]
    data[second.offset : second.offset + second.length] = one
    end = len(data) - 52
    data[end + 12 : end + 44] = hashlib.sha256(data[:end]).digest()
    with pytest.raises(PackBroken, match="changed or moved"):
        open_pack(bytes(data), RING)


def test_pack_takes_one_tenant() -> None:
    """Catches tenants that share a pack (rule 25)."""
    body = b"x"
    record = CODEC.close_mail(2, b"R" * 16, meta_for(body), body, 2026)
    with pytest.raises(PackBroken, match="tenant"):
        build_pack(PackHead(1, Group(1, 202702), b"K" * 16, 1.0), [record], RING, 4)
