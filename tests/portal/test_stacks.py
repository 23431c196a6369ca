"""Texts one behind the other: the same answers as one by one, within bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from hornetmail.core.folder import Entry, Sieve
from hornetmail.portal.maildir.stacks import STACK_BYTES, Stacks, stacked
from hornetmail.servers.imap.finding.match import Kept, Matcher
from hornetmail.servers.imap.view import View
from hornetmail.wire.imap.requests import search as keys
from tests.portal.ground import MAIL, Ground

TEXTS = st.text("ab \n", max_size=6).map(str.encode)
SEARCHED = st.recursive(
    st.builds(keys.Text, st.text("ab \n", max_size=4).map(str.encode), headers=st.booleans())
    | st.builds(keys.Flagged, st.just("\\Seen"), st.booleans()),
    lambda inner: (
        st.builds(keys.Not, inner)
        | st.builds(keys.Or, inner, inner)
        | st.lists(inner, max_size=3).map(lambda several: keys.And(tuple(several)))
    ),
    max_leaves=5,
)


@given(SEARCHED, st.lists(st.tuples(TEXTS, TEXTS, st.booleans()), min_size=1, max_size=6))
def test_the_same_as_one_by_one(key: keys.Key, mails: list[tuple[bytes, bytes, bool]]) -> None:
    """Would catch a stack that is passed over although one of its messages matches, and text of one message taken for another's."""
    entries = {uid: Entry(uid, 1, frozenset({"\\Seen"} if seen else ()), 1, 0.0) for uid, (_, _, seen) in enumerate(mails, 1)}
    matcher = Matcher(key, View.__new__(View))
    stack = stacked([(uid, headers, body) for uid, (headers, body, _) in enumerate(mails, 1)])
    assert stack.sifted(matcher.sieve(entries)) == {
        uid: matcher.match(entries[uid], Kept(headers, body)) for uid, (headers, body, _) in enumerate(mails, 1)
    }


def rows(first: int, count: int, size: int = 1000) -> list[tuple[int, bytes, bytes]]:
    return [(uid, b"h%d" % uid, b"x" * size) for uid in range(first, first + count)]


def test_bounds() -> None:
    """Would catch memory that grows with the folders that are searched, and a large folder whose ends push each other out."""
    stacks = Stacks(5 * STACK_BYTES)
    for folder in range(20):
        stacks.put(folder, stacked(rows(1, 200)))
    kept = [folder for folder in range(20) if stacks.of(folder)]
    assert kept[-1:] == [19]
    assert sum(stack.size for folder in kept for stack in stacks.of(folder)) <= 5 * STACK_BYTES
    for first in range(201, 10_000, 200):
        stacks.put(19, stacked(rows(first, 200)))
    assert [folder for folder in range(20) if stacks.of(folder)] == [19]
    assert stacks.of(19)[0].uids[0] == 1
    assert sum(stack.size for stack in stacks.of(19)) <= 5 * STACK_BYTES
    stacks.drop(19)
    stacks.put(1, stacked(rows(1, 3)))
    assert len(stacks.of(1)) == 1


def test_small_ones_become_one() -> None:
    """Would catch a stack for each message that came since the last search."""
    stacks = Stacks()
    for uid in range(1, 300):
        stacks.put(1, stacked(rows(uid, 1, 10)))
    assert len(stacks.of(1)) == 1
    assert list(stacks.of(1)[0].rows()) == rows(1, 299, 10)


class InAFolder(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        await self.ground.start()
        self.inbox = await self.ground.portal.tree(1).open("INBOX")

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def test_texts_that_came_since(self) -> None:
        """Would catch a message that no search finds because those around it are in memory, and one asked for again and again on the disk."""
        asked: list[int] = []

        def judge(uid: int, headers: bytes, body: bytes) -> bool:
            asked.append(uid)
            return body in (b"2", b"4") and body == b"%d" % uid

        sieve = Sieve(judge, lambda headers, bodies: b"2" in bodies or b"4" in bodies)
        for uid in range(1, 5):
            deposit = self.inbox.append([], None)
            await deposit.write(MAIL)
            await deposit.commit()
            await self.inbox.keep_texts([(uid, b"", b"%d" % uid)] if uid != 3 else [])
            found = await self.inbox.sifted(list(range(1, uid + 1)), sieve)
            assert found == {one: one in (2, 4) for one in range(1, uid + 1) if one != 3}
        await self.ground.database.run(lambda cursor: cursor.execute("DELETE FROM portal_texts") and None)
        assert sorted(await self.inbox.sifted([1, 2, 3, 4], sieve)) == [1, 2, 4]
