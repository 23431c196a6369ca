"""What is read back from disk and media at its shortest: every cut of it is refused with the error that is promised, and none else."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from hornetmail.archive.proof.leaves import decode_run, encode_run
from hornetmail.archive.store.packs import FOOTER, HEADER, PackBroken, keys_of, open_pack, read_pack_head, salvage_pack
from hornetmail.archive.store.records import HEADER as RECORD_HEADER
from hornetmail.archive.store.records import AuditLeaf, EventMeta, Kind, RecordBroken, What, audit_leaf_of, read_header
from hornetmail.core.archive.archived import ArchiveError
from tests.archive.test_leaf_index import LEAVES, filled, opened
from tests.archive.test_records import CODEC, RING, meta_for, pack_of


def test_a_pack_that_is_cut_off() -> None:
    """Would catch a pack cut off by a full disk that ends a rebuild by an error of ours, instead of being named and passed over."""
    pack = pack_of(1)
    for length in range(HEADER.size + FOOTER.size + 8):
        with pytest.raises(PackBroken):
            open_pack(pack.data[:length], RING)
        if length < HEADER.size:
            with pytest.raises(PackBroken):
                read_pack_head(pack.data[:length])
        else:
            assert read_pack_head(pack.data[:length]) == pack.head
            assert salvage_pack(pack.head.name, pack.data[:length], RING).damage
    assert open_pack(pack.data, RING) == pack


def test_a_record_that_is_cut_off() -> None:
    """Would catch a record of nothing but a header that cannot be told from one that is cut off within it."""
    record = CODEC.close_mail(1, b"R" * 16, meta_for(b"x"), b"x", 2026)
    for length in range(RECORD_HEADER.size):
        with pytest.raises(RecordBroken):
            read_header(record[:length])
    assert read_header(record[: RECORD_HEADER.size]).kind is Kind.MESSAGE
    for length in range(RECORD_HEADER.size, len(record)):
        with pytest.raises(RecordBroken):
            CODEC.open_mail(record[:length])


def test_a_run_of_leaves_that_is_cut_off() -> None:
    """Would catch a run whose checksum fits and whose length does not, and one of no leaves that is refused."""
    run = encode_run(7, LEAVES[:2])
    for length in range(len(run)):
        with pytest.raises(ValueError, match="checksum"):
            decode_run(run[:length])
    for wrong in (run[:-33], run[:-32] + b"x", run[:-64]):
        with pytest.raises(ValueError, match="not a run"):
            decode_run(wrong + hashlib.sha256(wrong).digest())
    assert decode_run(encode_run(7, [])) == (7, [])


def test_the_checkpoint_of_the_leaf_log(tmp_path: Path) -> None:
    """Would catch a log that is read from its beginning at each start, one that was lost and begins anew unseen, and a damaged checkpoint that is believed."""
    filled(tmp_path, 500).close()
    opened(tmp_path).close()
    checkpoint = tmp_path / "leaves-checkpoint"
    good = checkpoint.read_bytes()
    log = opened(tmp_path)
    assert (log.size, log.known) == (500, True)
    log.close()
    shutil.copytree(tmp_path / "leaves", tmp_path / "kept")
    for at in range(len(good)):
        checkpoint.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        log = opened(tmp_path)
        assert log.size == 500, "read as a whole"
        log.close()
        assert checkpoint.read_bytes() == good
    shutil.rmtree(tmp_path / "leaves")
    (tmp_path / "leaves").mkdir()
    with pytest.raises(ArchiveError, match="the leaf log is gone, it had 500 leaves"):
        opened(tmp_path)
    checkpoint.unlink()
    log = opened(tmp_path)
    assert (log.size, log.known) == (0, False), "nobody knows that there were any"
    log.close()


def test_a_pack_is_salvaged_by_its_trailer() -> None:
    """Would catch a pack of which nobody can say what was lost, although its trailer, which says it, is whole."""
    pack = pack_of(3)
    first, lost, last = pack.members
    data = bytearray(pack.data)
    data[lost.offset - 4 : lost.offset + RECORD_HEADER.size] = bytes(4 + RECORD_HEADER.size)
    found = salvage_pack(pack.head.name, bytes(data), RING)
    assert found.pack.members == (first, last)
    assert found.damage == (f"record {lost.record.hex()} (message) was changed or is cut off",)
    data[-FOOTER.size :] = bytes(FOOTER.size)
    by_headers = salvage_pack(pack.head.name, bytes(data), RING)
    assert {first.record, last.record} <= {member.record for member in by_headers.pack.members}
    assert "its trailer is of no use" in by_headers.damage[-1]


def test_the_keys_that_a_pack_needs() -> None:
    """Would catch a pack that is called readable, or locked, by the keys of other bytes than its own."""
    pack = pack_of(3)
    needed = {read_header(pack.data[one.offset : one.offset + one.length]).key for one in pack.members}
    needed.add(FOOTER.unpack_from(pack.data, len(pack.data) - FOOTER.size)[1])
    assert keys_of(pack.data, pack.members) == needed
    assert keys_of(pack.data, ()) <= needed


def test_what_says_something_of_the_audit_log() -> None:
    """L14: would catch an event of another kind, or a damaged one, that stands for a leaf of the audit log, or ends a rebuild by an error of ours."""
    digest = "ab" * 32
    good = EventMeta(What.AUDIT, 5.0, leaves=((1, 9),), text=f"17 {digest}")
    assert audit_leaf_of(good) == AuditLeaf(1, 9, 17, bytes.fromhex(digest), 5.0)
    for wrong in (
        EventMeta(What.NOTE, 5.0, leaves=((1, 9),), text=f"17 {digest}"),
        EventMeta(What.AUDIT, 5.0, text=f"17 {digest}"),
        EventMeta(What.AUDIT, 5.0, leaves=((1, 9), (1, 10)), text=f"17 {digest}"),
        *(
            EventMeta(What.AUDIT, 5.0, leaves=((1, 9),), text=text)
            for text in (
                "",
                "17",
                f"x {digest}",
                f"\u0664 {digest}",
                f"-1 {digest}",
                f"17 {digest}0",
                f"17 {digest[1:]}",
                f"17 {'zz' * 32}",
            )
        ),
    ):
        assert audit_leaf_of(wrong) is None
