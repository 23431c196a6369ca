"""Structures, headers and texts of archived mail, with what was read last: clients ask for the same message several times in a row."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from twisted.internet.defer import DeferredLock

from hornetmail.archive.index.finding.folders import Row
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.core.served import Scope
from hornetmail.interfaces.archive import IArchivedTexts
from hornetmail.interfaces.body import IBody
from hornetmail.mime.structure import Part, scan

GROUP_BYTES = 4 << 20
"""Mail opened in one go."""

LARGE = 1 << 20
"""A larger mail is not held, but laid out."""

TEXT_BYTES = 16 << 20
"""Texts that are kept."""

SIGHT_BYTES = 32 << 20
"""Structures and headers that are kept."""

HEAD_BYTES = 32_768
"""Longer headers are read anew each time."""

LAID_OUT = 8
"""Large mails that are kept laid out, on the disk."""

V = TypeVar("V")
_TREES = msgspec.msgpack.Decoder(Part)


class Latest(Generic[V]):
    """The values used last, as long as all together weigh no more than ``most``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._values: OrderedDict[int, tuple[V, int]] = OrderedDict()

    def get(self, key: int) -> V | None:
        """One of them."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: int, value: V, weight: int) -> None:
        """Keep it, and let go of those that were not used for the longest time."""
        old = self._values.pop(key, None)
        self._held += weight - (old[1] if old is not None else 0)
        self._values[key] = (value, weight)
        while self._held > self._most and self._values:
            _, (_, gone) = self._values.popitem(last=False)
            self._held -= gone


class Sight(msgspec.Struct, frozen=True, gc=False):
    """What is seen of a mail before it is read: its structure, packed, where its body begins, and its header unless that is long."""

    tree: bytes
    body: int
    header: bytes | None


class Texts:
    """``in_thread`` runs what takes time in proportion to a mail's size."""

    def __init__(self, texts: IArchivedTexts, in_thread: Callable[..., Awaitable[Any]]) -> None:
        self._texts = texts
        self._in_thread = in_thread
        self._kept: Latest[bytes] = Latest(TEXT_BYTES)
        self._sights: Latest[Sight] = Latest(SIGHT_BYTES)
        self._laid: Latest[IBody] = Latest(LAID_OUT)
        self._laying = DeferredLock()

    async def sights(self, scope: Scope, rows: Sequence[Row], wrong: Callable[[ArchiveError], None]) -> dict[int, Sight]:
        """By ID; of what cannot be read ``wrong`` is told. What has gone is left out."""
        found: dict[int, Sight] = {}
        missing = []
        for row in rows:
            known = self._sights.get(row.identifier)
            if known is None:
                missing.append(row)
            else:
                found[row.identifier] = known
        for group in _groups([row for row in missing if row.size <= LARGE]):
            texts = await self._several(scope, group, wrong)
            found.update(await self._in_thread(_seen, texts))
        for row in missing:
            if row.size > LARGE and (body := await self._body_or(scope, row, wrong)) is not None:
                found.update(await self._in_thread(_seen, {row.identifier: await body.read()}))
        for row in missing:
            if row.identifier in found:
                sight = found[row.identifier]
                self._sights.put(row.identifier, sight, len(sight.tree) + len(sight.header or b"") + 200)
        return found

    async def headers(self, scope: Scope, rows: Sequence[Row], wrong: Callable[[ArchiveError], None]) -> dict[int, bytes]:
        """With the line that ends them."""
        found: dict[int, bytes] = {}
        sights = await self.sights(scope, rows, wrong)
        for row in rows:
            sight = sights.get(row.identifier)
            if sight is None:
                continue
            if sight.header is not None:
                found[row.identifier] = sight.header
            else:
                [text] = await self.pieces(scope, [(row, 0, sight.body)], wrong)
                if text is not None:
                    found[row.identifier] = text
        return found

    async def pieces(
        self, scope: Scope, wanted: Sequence[tuple[Row, int, int]], wrong: Callable[[ArchiveError], None]
    ) -> list[bytes | None]:
        """Stretches: first byte and length. None: it has gone, or cannot be read."""
        small = {row.identifier: row for row, _, _ in wanted if row.size <= LARGE}
        texts: dict[int, bytes] = {}
        for group in _groups(list(small.values())):
            texts.update(await self._several(scope, group, wrong))
        found: list[bytes | None] = []
        for row, start, length in wanted:
            if row.size <= LARGE:
                text = texts.get(row.identifier)
                found.append(None if text is None else text[start : start + length])
            else:
                body = await self._body_or(scope, row, wrong)
                found.append(None if body is None else await body.read(start, length))
        return found

    async def body(self, scope: Scope, row: Row) -> IBody:
        """Raises KeyError (it has gone), Refused, ArchiveError."""
        known = self._laid.get(row.identifier)
        if known is not None:
            return known
        async with self._laying:  # one at a time: each is work for the disk, the medium and a thread
            known = self._laid.get(row.identifier)
            if known is None:
                known = await self._texts.body(scope, row.identifier)
                self._laid.put(row.identifier, known, 1)
        return known

    async def _body_or(self, scope: Scope, row: Row, wrong: Callable[[ArchiveError], None]) -> IBody | None:
        try:
            return await self.body(scope, row)
        except KeyError:
            return None
        except ArchiveError as error:
            wrong(error)
            return None

    async def _several(self, scope: Scope, rows: Sequence[Row], wrong: Callable[[ArchiveError], None]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        missing = []
        for row in rows:
            known = self._kept.get(row.identifier)
            if known is None:
                missing.append(row.identifier)
            else:
                found[row.identifier] = known
        for identifier, text in (await self._texts.several(scope, missing)).items() if missing else ():
            if isinstance(text, ArchiveError):
                wrong(text)
                continue
            found[identifier] = text
            self._kept.put(identifier, text, len(text) + 100)
        return found


def unpacked(sight: Sight) -> Part:
    """Its structure."""
    return _TREES.decode(sight.tree)


def _seen(texts: dict[int, bytes]) -> dict[int, Sight]:
    """In a thread."""
    found = {}
    for identifier, text in texts.items():
        tree = scan(text)
        found[identifier] = Sight(msgspec.msgpack.encode(tree), tree.body, text[: tree.body] if tree.body <= HEAD_BYTES else None)
    return found


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    groups: list[list[Row]] = []
    held = GROUP_BYTES
    for row in rows:
        if held + row.size > GROUP_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(row)
        held += row.size
    return groups
