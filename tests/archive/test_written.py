"""What stands in files, on media and on paper for good, and what is meant where a record, a row or a request does not say."""

from __future__ import annotations

import struct

import msgspec
import pytest

from hornetmail.archive.care.copies import backup, mirror
from hornetmail.archive.care.copies.backup import Keep
from hornetmail.archive.care.copies.mirror import Mirrored
from hornetmail.archive.care.packs.merging import Merged
from hornetmail.archive.care.packs.plans import MergeSettings
from hornetmail.archive.care.terms.retention import Clocks, RetentionSettings
from hornetmail.archive.index.query.language import Query, Words
from hornetmail.archive.index.ties import uses
from hornetmail.archive.index.ties.leaves import Looked
from hornetmail.archive.index.writing import mails
from hornetmail.archive.index.writing.mails import Stored
from hornetmail.archive.keys import keyring, sealedroot
from hornetmail.archive.keys.keyring import Purpose
from hornetmail.archive.media import medium, register
from hornetmail.archive.media.medium import Space
from hornetmail.archive.media.register import Entry
from hornetmail.archive.media.settings import BucketSettings, DirectorySettings, ShareSettings
from hornetmail.archive.proof import leaves, stamps
from hornetmail.archive.proof.evidence import Arrival
from hornetmail.archive.proof.leaflog import _Checkpoint
from hornetmail.archive.running.footing import ArchiveSettings
from hornetmail.archive.store import packs, records, staging
from hornetmail.archive.store.packs import Group, PackHead
from hornetmail.archive.store.records import EventMeta, Kind, MailMeta, Scheme, Segment, Stretch
from hornetmail.archive.store.shelf import PackRow

MIB = 1 << 20
META = (1, 2, 0, 3, b"s", b"h", 4, 5.0, 6.0, 202702, "inline", "in", "a@x.test", ("b@x.test",))
ROW = (1, 1, b"p", 1, 202702, 9, b"h", 3, 0, 1.0, 2.0)
PLACE = DirectorySettings()


def test_numbers_that_stand_in_files() -> None:
    """Would catch a version, a kind or a width that another build reads as another, or not at all (L3): whoever changes one of these writes a new format."""
    assert (records.FORMAT, backup.FORMAT, medium.FORMAT, sealedroot.VERSION) == (1, 1, 1, 1)
    assert (leaves.LEAF_VERSION, leaves.AUDIT_VERSION, keyring.NODE_BITS, mails.PLACE_BITS) == (1, 2, 22, 18)
    assert {kind.name: int(kind) for kind in Kind} == {"MESSAGE": 1, "PART": 2, "EVENT": 3}
    assert {scheme.name: int(scheme) for scheme in Scheme} == {"DATA_KEY": 1, "SEALED_BOX": 2}
    assert {one.name: int(one) for one in Segment} == {"INLINE": 0, "SHARED": 1, "BASE64": 2}
    assert {one.name: int(one) for one in Purpose} == {"DATA": 1, "DATABASE": 2, "SEALED_BOX": 3, "LOOKUP": 4}
    assert struct.pack(">Q", staging.NO_LEAF) == b"\xff" * 8
    assert bytes(64) == stamps.NONE
    assert (records.HEADER.size, sealedroot.SIZE, stamps.LINK_BYTES) == (32, 94, stamps.HEAD_BYTES + 64)
    assert (register.FIRST, mirror.NUMBER, uses.GONE) == (1, 0, -1)
    assert packs.LENGTH.size == 4


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (MailMeta(*META), MailMeta(*META, "", (), b"", False, ())),
        (EventMeta("note", 1.0), EventMeta("note", 1.0, (), "", "", None, (), "", 0.0, "", False)),
        (Stretch(0, 5), Stretch(0, 5, b"")),
        (PackHead(1, Group(1, 0), b"p", 1.0), PackHead(1, Group(1, 0), b"p", 1.0, 0)),
        (PackRow(*ROW), PackRow(*ROW, 0, 0, 0)),
        (_Checkpoint(0, ()), _Checkpoint(0, (), "", 0, 0, 0)),
        (Entry(1, PLACE), Entry(1, PLACE, "", False, True, True, 0, 0, False)),
        (ShareSettings("h", "s"), ShareSettings("h", "s", "", "", "", 445, False)),
        (BucketSettings("https://h", "b"), BucketSettings("https://h", "b", "", "us-east-1", "", "path", 0)),
        (Looked(), Looked(0, 0)),
        (Space(), Space(0, 0)),
        (Merged(), Merged(0, 0, 0, (), (), ())),
        (Mirrored(), Mirrored(0, 0, 0, ())),
        (Clocks(), Clocks(0.0, 0, 0.0, 0.0)),
        (Stored(b"r", records.Outcome.STORED, 1), Stored(b"r", records.Outcome.STORED, 1, 0)),
        (Words("x"), Words("x", "", False)),
        (Query(), Query((), None, None, None, None, None)),
        (Arrival(), Arrival(None, 0, ())),
    ],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
def test_where_nothing_is_said(value: msgspec.Struct, wanted: msgspec.Struct) -> None:
    """Records and rows that were written before a field was there, and all that leave it out, are read with its default: one that moves changes what they say."""
    assert value == wanted


def test_promised_sizes_and_times() -> None:
    """Would catch numbers of ``docs/operations.rst`` and rule 23 that drift: how long backups hold what was deleted, when packs are sealed and merged, and how
    much retention may take at once."""
    assert (Keep(7, 4, 2, 3), Keep().longest) == (Keep(), 35 * 86_400.0)
    assert Keep(days=40).longest == 41 * 86_400.0
    assert ArchiveSettings() == ArchiveSettings(
        32 * MIB, 900.0, 15.0, 0, 0.0, RetentionSettings(0.05, 100), MergeSettings(128 * MIB, 30 * 86_400.0)
    )
