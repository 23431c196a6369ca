"""Fields of a time stamp, as DER writes their lengths (X.690 section 8.1.3)."""

from __future__ import annotations

import pytest

from hornetmail.archive.proof.tokens import _fields, _only


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 70_000])
def test_lengths(length: int) -> None:
    """A33: would catch a stamp of another authority refused for the way in which it says how long a field is, in one byte or in up to four behind it; and one that takes the next field's bytes."""
    content = bytes(length)
    size = max(1, (length.bit_length() + 7) // 8)
    forms = [bytes([0x80 | count]) + length.to_bytes(count, "big") for count in range(size, 5)]
    for form in [*([bytes([length])] if length < 128 else []), *forms]:
        data = b"\x30" + form + content
        first, second = _fields(data + b"\x04\x01x")
        assert (first.tag, first.content, first.whole) == (0x30, content, data)
        assert (second.tag, second.content, second.whole) == (0x04, b"x", b"\x04\x01x")
        assert _only(data, 0x30) == content


@pytest.mark.parametrize(
    "data", [b"\x30", b"\x30\x80", b"\x30\x85\x00\x00\x00\x00\x00", b"\x30\x02x", b"\x30\x81\x02x", b"\x1f\x01x", b"\x30\x82\x01"]
)
def test_what_is_cut_off(data: bytes) -> None:
    """Rule 8d: would catch a field of unknown or endless length, or one that is cut off, that is read."""
    with pytest.raises(ValueError, match="field"):
        list(_fields(data))


def test_the_only_field() -> None:
    """Would catch a second field that nobody looks at, and one of another kind."""
    for data, tag in ((b"\x04\x01x\x04\x01y", 4), (b"", 4), (b"\x04\x01x", 5)):
        with pytest.raises(ValueError, match="something else"):
            _only(data, tag)
