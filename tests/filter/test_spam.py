"""A21: mail that was tagged as spam before it came."""

from __future__ import annotations

import pytest

from hornetmail.filter.spam import tagged


@pytest.mark.parametrize(
    ("header", "spam"),
    [
        (b"X-Spam-Flag: YES\r\n", True),
        (b"x-spam-flag:yes\r\n", True),
        (b"X-Spam-Status: Yes, score=12.3 required=5\r\n\ttests=X\r\n", True),
        (b"X-Spam: Yes\r\n", True),
        (b"X-Spam-Status: No, score=1\r\n", False),
        (b"X-Spam-Flag: NO\r\n", False),
        (b"Subject: X-Spam-Flag: YES\r\n", False),
        (b"X-Spam-Report: x\r\n X-Spam-Flag: YES\r\n", False),
        (b"", False),
    ],
)
def test_tagged(header: bytes, spam: bool) -> None:
    """Would catch spam that is not marked in the archive, and good mail that is."""
    assert tagged(header) is spam
