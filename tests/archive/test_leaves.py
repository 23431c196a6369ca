"""The Merkle tree against known vectors (RFC 6962; those of the certificate-transparency project's reference tree)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.archive.proof.leaves import (
    EMPTY_ROOT,
    VOID,
    Frontier,
    audit_path,
    decode_run,
    encode_run,
    leaf_hash,
    leaf_input,
    root_from_path,
    tree_root,
)

INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(bytes.fromhex(text)) for text in INPUTS]


def test_known_roots() -> None:
    """Catches a tree that no other program would agree with."""
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    for number, root in enumerate(ROOTS, 1):
        frontier.add(LEAVES[number - 1])
        assert frontier.root().hex() == root
        assert tree_root(LEAVES[:number]).hex() == root
    assert LEAVES[0] == VOID


def test_known_paths() -> None:
    """Catches audit paths in another order than RFC 6962 has them."""
    assert audit_path(0, LEAVES[:1]) == []
    assert [p.hex() for p in audit_path(0, LEAVES)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    with pytest.raises(IndexError):
        audit_path(8, LEAVES)


@settings(max_examples=60)
@given(size=st.integers(1, 70), data=st.data())
def test_paths_lead_to_the_root_and_nowhere_else(size: int, data: st.DataObject) -> None:
    """Catches a path that does not prove its leaf, or that proves another one."""
    leaves = [hashlib.sha256(bytes([n])).digest() for n in range(size)]
    number = data.draw(st.integers(0, size - 1))
    path = audit_path(number, leaves)
    root = tree_root(leaves)
    assert root_from_path(number, size, leaves[number], path) == root
    assert root_from_path(number, size, hashlib.sha256(b"other").digest(), path) != root
    if size > 1:
        assert root_from_path(number, size, leaves[number], path[:-1]) != root
        assert root_from_path(number, size, leaves[number], [*path, VOID]) != root


def test_leaf_input_is_unambiguous() -> None:
    """Catches two different envelopes with the same leaf, and a leaf that an offline checker cannot compute from the documentation."""
    base = (bytes(32), bytes(32), 1.5, "in", "inline", "", "a@b", ("c@d", "e@f"))
    assert leaf_input(*base) == (
        b"\x01"
        + bytes(64)
        + (1500).to_bytes(8, "big")
        + b"".join(len(t).to_bytes(4, "big") + t for t in (b"in", b"inline", b"", b"a@b"))
        + b"\0\0\0\2"
        + b"".join(len(t).to_bytes(4, "big") + t for t in (b"c@d", b"e@f"))
    )
    assert leaf_input(*base) != leaf_input(*base[:7], ("c@de@f", ""))


def test_runs() -> None:
    """Catches damage to a run of leaves that goes unnoticed."""
    run = encode_run(5, LEAVES)
    assert decode_run(run) == (5, LEAVES)
    for at in range(0, len(run), 7):
        bad = bytearray(run)
        bad[at] ^= 4
        with pytest.raises(ValueError, match="damaged"):
            decode_run(bytes(bad))
    with pytest.raises(ValueError, match="damaged"):
        decode_run(run[:-1])
