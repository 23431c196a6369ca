"""Puts back on the media what is missing or damaged there: packs, leaf runs and stamps from the mirror, the wrapped keys from here (L3)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from hornetmail.archive.care.copies.mirror import Sources, superseded
from hornetmail.archive.care.copies.sound import flaw_of
from hornetmail.archive.keys.keyring import KEYRING_NAME
from hornetmail.archive.media.medium import IMedium, MediumAway, MediumError, MediumMissing
from hornetmail.archive.proof.stampsheets import sheet_of
from hornetmail.archive.store.shelf import PackRow, pack_rows
from hornetmail.core.archive.archived import ArchiveError, Finding

Names = Mapping[str, int]
_PROOF = ("leaves/", "stamps/")


class Repair:
    """One run. ``source``: the mirror; ``full``: everything is read, else only what is missing or has another length. ``halted``: whether to end early."""

    def __init__(self, sources: Sources, source: IMedium, full: bool, halted: Callable[[], bool] = lambda: False) -> None:
        self._sources = sources
        self._source = source
        self._full = full
        self._halted = halted

    async def run(self) -> Sequence[Finding]:
        """What was done, and what could not be. Raises MediumError (the mirror), ArchiveError."""
        sources, source = self._sources, self._source
        source.expect(sources.keys.current().archive)
        await sources.offload(source.look)
        rows: list[PackRow] = await sources.index().read(pack_rows)
        found: list[Finding] = []
        media: dict[int, tuple[IMedium, Names]] = {}
        for number in sorted({row.medium for row in rows} | {medium.number for medium in sources.media.all()}):
            try:
                medium = sources.media.get(number)
                media[number] = medium, dict(await sources.offload(medium.names, ""))
            except MediumError as error:
                found.append(Finding(f"medium {number}", str(error)))
        for row in rows:
            if row.medium in media and not self._halted():
                medium, names = media[row.medium]
                if self._full or names.get(row.name) != row.size:
                    try:
                        found += await sources.offload(self._pack, medium, row)
                    except MediumAway as error:
                        # Each of its packs would take as long, to say the same.
                        found.append(Finding(f"medium {row.medium}", str(error)))
                        del media[row.medium]
        for medium, _ in media.values():
            found += await sources.offload(self._keys, medium)
        found += await sources.offload(self._proof, list(media.values()))
        return found

    def _pack(self, medium: IMedium, row: PackRow) -> list[Finding]:
        """In a thread. Raises MediumAway: the medium went out of reach."""
        try:
            data = medium.get(row.name)
            if hashlib.sha256(data).digest() == row.sha256:
                return []
            trouble = flaw_of(medium, row.name, data, self._sources.keys.current())
        except MediumMissing:
            trouble = "missing"
        except MediumAway:
            raise
        except MediumError as error:
            trouble = str(error)
        return [self._put_back(medium, row.name, trouble)] if trouble else []

    def _keys(self, medium: IMedium) -> list[Finding]:
        """In a thread. Without them nothing on the medium opens."""
        where, keyring = f"medium {medium.number}: {KEYRING_NAME}", self._sources.keys.current()
        try:
            trouble = flaw_of(medium, KEYRING_NAME, medium.get(KEYRING_NAME), keyring)
        except MediumMissing:
            trouble = "missing"
        except MediumError as error:
            return [Finding(where, str(error))]
        if not trouble or keyring.locked:
            return []
        try:
            self._sources.keys.publish(medium, again=True)
        except (ArchiveError, OSError) as error:
            return [Finding(where, f"{trouble}; not repaired: {error}")]
        return [Finding(where, f"{trouble}; written anew", mended=True)]

    def _proof(self, media: Sequence[tuple[IMedium, Names]]) -> list[Finding]:
        """In a thread: runs of leaves, which lie on one medium, and stamps, which lie on each in use."""
        there = {name: size for folder in _PROOF for name, size in self._source.names(folder)}
        used = {medium.number for medium in self._sources.media.all()}
        held = {name: size for _, names in media for name, size in names.items()}
        elsewhere = set(superseded(there, held))
        found = []
        for name, size in there.items():
            holders = [(medium, names[name]) for medium, names in media if name in names]
            if name.startswith("stamps/"):
                lacking = [m for m, names in media if m.number in used and name not in names and sheet_of(name) not in names]
            else:
                lacking = [] if holders or name in elsewhere else [self._sources.media.active]
            found += [self._put_back(medium, name, "missing") for medium in lacking]
            for medium, length in holders:
                if not self._halted() and (self._full or length != size):
                    found += self._look(medium, name)
        return found

    def _look(self, medium: IMedium, name: str) -> list[Finding]:
        try:
            trouble = flaw_of(medium, name, medium.get(name), self._sources.keys.current())
        except MediumError as error:
            trouble = str(error)
        return [self._put_back(medium, name, trouble)] if trouble else []

    def _put_back(self, medium: IMedium, name: str, trouble: str) -> Finding:
        where = f"medium {medium.number}: {name}"
        try:
            good = self._source.get(name)
            if flaw := flaw_of(self._source, name, good, self._sources.keys.current()):
                return Finding(where, f"{trouble}; what the mirror has of that name is of no use: {flaw}")
            medium.put(name, good)
            if medium.get(name) != good:
                return Finding(where, f"{trouble}; the medium did not keep what the mirror has")
        except ArchiveError as error:
            return Finding(where, f"{trouble}; not repaired: {error}")
        return Finding(where, f"{trouble}; repaired from the mirror", mended=True)
