"""What the scenarios share: a real primary, a real installation, and ways to look at both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.installation import Installation
from tests.peers.postfix import PostfixPrimary
from tests.scenarios.world import USERS, World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """HornetMail before a Postfix, with the users of ``USERS``; both are running."""
    primary = PostfixPrimary([*USERS, "canary@example.test"])
    hornet = Installation()
    try:
        primary.start()
        hornet.start()
        hornet.add_domain("example.test", primary.port, "--failover", "auto")
        for address, password in USERS.items():
            hornet.add_mailbox(address, password)
        hornet.add_mailbox("auditor@example.test", "auditor-secret-1", "--role", "auditor")
        yield World(hornet, primary)
    finally:
        hornet.close()
        primary.close()
