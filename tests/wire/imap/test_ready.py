"""What is kept in the form of the wire is what would be made anew."""

from __future__ import annotations

from itertools import islice

import pytest

from hornetmail.mime.structure import scan
from hornetmail.testing.corpus import messages
from hornetmail.wire.imap.answers.ready import FIELDS, MOST_BYTES, TOO_LARGE, asked, picked, ready
from hornetmail.wire.imap.answers.structure import body_structure, envelope, pick_fields
from hornetmail.wire.imap.requests.items import Section

ODD = (
    b"",
    b"\r\n",
    b"From: a@x.test\r\n\tfolded\r\nX-Other: b\r\n more\r\nSubject:\r\n\r\ntext: no field\r\n",
    b"SUBJECT : one\r\nsubject:two\r\nfrom \r\nno colon\r\n to: continued\r\nDate: x",
    b"To: a\0b@x.test\nCc: bare@x.test\n\nbody\n",
)


def section(*names: bytes, kind: str = "HEADER.FIELDS", start: int = -1) -> Section:
    return Section(b"BODY[]", kind=kind, fields=frozenset(names), start=start, count=10)


def test_the_same_as_made_anew() -> None:
    """RFC 3501 section 7.4.2. Would catch a field that is lost, of another message, or twice, folded lines cut off, and a blank line that is missing."""
    asked_for = [section(b"from"), section(b"subject", b"to", b"cc"), section(*FIELDS), section(b"list-id", b"x-label")]
    for data in (*ODD, *(sample.data for sample in islice(messages(300, 11, sender="s@x.test", recipients=["a@x.test"]), 300))):
        tree = scan(data)
        header = data[: tree.body]
        kept = ready(tree, header)
        if kept is TOO_LARGE:
            assert len(envelope(tree.summary)) + len(body_structure(tree, True)) + len(header) > MOST_BYTES
            continue
        assert (kept.envelope, kept.structure) == (envelope(tree.summary), body_structure(tree, True))
        for one in asked_for:
            assert picked(kept.bits, kept.fields, one, asked(one)) == pick_fields(header, one)


@pytest.mark.parametrize(
    "one",
    [
        section(b"from", b"x-unusual"),
        section(b"from", kind="HEADER.FIELDS.NOT"),
        section(b"from", start=3),
        Section(b"BODY[2.HEADER.FIELDS (FROM)]", path=(2,), kind="HEADER.FIELDS", fields=frozenset({b"from"})),
        Section(b"BODY[HEADER]", kind="HEADER"),
    ],
)
def test_what_is_not_kept(one: Section) -> None:
    """Would catch an answer from the kept fields to a question that goes beyond them."""
    assert asked(one) == 0


def test_what_is_large_is_not_kept() -> None:
    """A stranger's mail with thousands of addresses must not make each look at the folder read them."""
    data = b"To: " + b",\r\n ".join([b"somebody%d@x.test" % number for number in range(4000)]) + b"\r\n\r\n"
    tree = scan(data)
    assert ready(tree, data[: tree.body]) is TOO_LARGE
