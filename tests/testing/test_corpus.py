"""The corpus keeps its promises, and goes through what it was made to try."""

from __future__ import annotations

import email
from email.message import Message
from typing import Any

from hornetmail.mime.structure import Part, scan
from hornetmail.testing.corpus import KINDS, big, messages

SENDER, RECIPIENTS = "sender@outside.test", ["alice@example.test", "bob@example.test", "carol@example.test"]


def test_promises() -> None:
    """A sample with a bare LF or an overlong line would be refused by SMTP, one without its CRLF at the end would be changed by it."""
    seen = []
    for sample in messages(200, 1, sender=SENDER, recipients=RECIPIENTS):
        assert sample.data.endswith(b"\r\n")
        assert sample.data.count(b"\n") == sample.data.count(b"\r\n") == sample.data.count(b"\r")
        assert b"\0" not in sample.data
        assert max(map(len, sample.data.split(b"\r\n"))) <= 998
        assert sample.recipients
        assert set(sample.recipients) <= set(RECIPIENTS)
        seen.append(sample)
    assert {sample.kind for sample in seen} == set(KINDS)
    assert len(KINDS) >= 20
    assert len({sample.data for sample in seen}) == 200
    assert not any(other.data.endswith(one.data) for one in seen for other in seen if other is not one)
    assert any(len(sample.recipients) > 1 for sample in seen)
    assert any(not sample.sender for sample in seen)


def test_same_seed() -> None:
    """A failure that cannot be made again is no help."""
    first, again, other = (list(messages(60, seed, sender=SENDER, recipients=RECIPIENTS)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_big() -> None:
    """About as big as asked for."""
    sample = big(3 << 20, sender=SENDER, recipients=RECIPIENTS)
    assert abs(len(sample.data) - (3 << 20)) < 4_000


def compare(data: bytes, ours: Part, theirs: Message) -> None:
    """Types, and the bytes of every leaf."""
    assert f"{ours.type}/{ours.subtype}".lower() == theirs.get_content_type()
    payload: Any = vars(theirs)["_payload"]
    if isinstance(payload, list) and ours.parts:
        assert len(ours.parts) == len(payload)
        for part, other in zip(ours.parts, payload, strict=True):
            compare(data, part, other)
    elif isinstance(payload, str):
        found, wanted = data[ours.body : ours.end], payload.encode("ascii", "surrogateescape")
        assert (
            found in (wanted, wanted + b"\r\n") if ours.end == len(data) else found == wanted
        )  # theirs strips the end of an unclosed part


def test_structure_agrees_with_the_library() -> None:
    """The scanner and Python's parser see the same parts and the same bytes in all of this."""
    kinds = [
        kind for kind in KINDS if kind != "folded header"
    ]  # a blank before the colon (RFC 5322 section 4.5) ends the header for theirs
    for sample in messages(2 * len(kinds), 3, sender=SENDER, recipients=RECIPIENTS, kinds=kinds):
        compare(sample.data, scan(sample.data), email.message_from_bytes(sample.data))
