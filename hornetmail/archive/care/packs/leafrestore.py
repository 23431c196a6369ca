"""The leaf log made anew, where it was lost here: from the runs on the media, and where those are damaged or missing, from the records, each of which states its leaf.

A leaf that neither a run nor a record tells of (of a mail that was deleted, or that is lost too) becomes a void one; it is named, since stamps over it fit no more. What is
at the end counts as much as what lies between: a number that a record bears is never given again (rule 17).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hornetmail.archive.media.medium import IMedium, MediumError, MediumMissing, MediumUnread
from hornetmail.archive.proof.leaflog import runs_on
from hornetmail.archive.proof.leaves import VOID, encode_run
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.packs import HEADER, PackBroken, pack_id_of, read_pack_head, salvage_pack
from hornetmail.archive.store.records import Kind, audit_leaf_of
from hornetmail.core.archive.archived import ArchiveError, Finding
from hornetmail.core.delivery.backoff import DAY
from hornetmail.disk.files import DiskFull

Runs = Mapping[int, list[bytes]]
"""Leaves by the number of the first."""


def restore_leaves(holdings: Holdings, known: int = 0) -> list[Finding]:
    """What could not be restored as it was. ``known``: as many as there were at least, by the newest stamp or a backup of the index. Blocking. Raises MediumError: a medium is away, or the key is needed first, since runs
    are damaged or missing."""
    found: list[Finding] = []
    runs = _runs(holdings, found)
    wanted = max(known, _end(runs))
    broken = bool(found) or bool(_gaps(runs, holdings.leaves.size, wanted))
    if holdings.keys.current().locked:
        if broken:
            raise MediumError(
                "the leaf log was lost, and what the media have of it is not whole: it is put together from the records once the archive is unlocked"
            )
    else:
        # Which packs are the newest is told by their heads; the last run lost shows in nothing else.
        newest = _stated(holdings, _newest(holdings))
        broken = broken or max(newest, default=-1) >= wanted
        stated = _stated(holdings, _packs(holdings)) if broken else newest
        wanted = max(wanted, max(stated, default=-1) + 1)
        filled = _filled(runs, stated, holdings.leaves.size, wanted, found)
        runs = dict(runs) | filled
        _append(holdings, runs)
        found += _put_back(holdings, {first: hashes for first, hashes in filled.items() if VOID not in hashes})
        return found
    _append(holdings, runs)
    return found


def _put_back(holdings: Holdings, runs: Runs) -> Iterator[Finding]:
    """Runs that were put together, onto the active medium, in place of what is damaged or missing; what could not be done."""
    medium = holdings.media.active
    for first, hashes in runs.items():
        try:
            medium.put(holdings.leaves.name_at(first), encode_run(first, hashes))
        except (MediumError, DiskFull) as error:
            yield Finding(f"medium {medium.number}: {holdings.leaves.name_at(first)}", f"the run is not put back: {error}")


def _runs(holdings: Holdings, found: list[Finding]) -> dict[int, list[bytes]]:
    runs: dict[int, list[bytes]] = {}
    for medium in holdings.media.all():
        for first, hashes in runs_on(
            medium, holdings.node, lambda where, what: found.append(Finding(where, what)), holdings.leaves.size
        ):
            if len(hashes) > len(runs.get(first, ())):
                runs[first] = hashes
    return runs


def _end(runs: Runs) -> int:
    return max((first + len(hashes) for first, hashes in runs.items()), default=0)


def _gaps(runs: Runs, size: int, wanted: int) -> list[tuple[int, int]]:
    """Stretches from ``size`` to ``wanted`` that no run has."""
    gaps, end = [], size
    for first, behind in [*sorted((first, first + len(hashes)) for first, hashes in runs.items()), (wanted, wanted)]:
        if first > end:
            gaps.append((end, first))
        end = max(end, behind)
    return gaps


def _filled(runs: Runs, stated: Mapping[int, bytes], size: int, wanted: int, found: list[Finding]) -> dict[int, list[bytes]]:
    filled = {}
    for low, high in _gaps(runs, size, wanted):
        filled[low] = [stated.get(number, VOID) for number in range(low, high)]
        unknown = [number for number in range(low, high) if number not in stated]
        what = f"leaves {low} to {high - 1} are in no run on the media: {high - low - len(unknown)} were put together from their records"
        if unknown:
            what += f", {len(unknown)} are told by none and are void now (the first: {unknown[0]}), so stamps over them may not fit any more"
        found.append(Finding("leaf log", what))
    return filled


def _append(holdings: Holdings, runs: Runs) -> None:
    leaves = holdings.leaves
    for first in sorted(runs):
        run = leaves.run_for(dict(enumerate(runs[first], first)))
        if run is not None:
            leaves.append(run)


# -- what records state


Place = tuple[IMedium, str]


def _packs(holdings: Holdings) -> Iterator[Place]:
    for medium in holdings.media.all():
        for folder in ("packs/", "journal/"):
            for name, _ in medium.names(folder):
                if pack_id_of(name):
                    yield medium, name


def _newest(holdings: Holdings) -> list[Place]:
    """Those of the last day in which any was made."""
    made: list[tuple[float, Place]] = []
    for medium, name in _packs(holdings):
        try:
            made.append((read_pack_head(medium.get(name, 0, HEADER.size)).made, (medium, name)))
        except (PackBroken, MediumMissing, MediumUnread):
            continue
    last = max((at for at, _ in made), default=0.0)
    return [place for at, place in made if at > last - DAY]


def _stated(holdings: Holdings, places: Iterable[Place]) -> dict[int, bytes]:
    """Leaves of this node by their number, as records in these packs state them. What does not read is named by a verification."""
    stated: dict[int, bytes] = {}
    for medium, name in places:
        try:
            pack = salvage_pack(name, medium.get(name), holdings.keys.current()).pack
        except (ArchiveError, KeyError) as error:
            if isinstance(error, MediumError) and not isinstance(error, (MediumMissing, MediumUnread)):
                raise
            continue
        for member in pack.members:
            record = pack.data[member.offset : member.offset + member.length]
            try:
                if member.kind == Kind.MESSAGE:
                    leaf = holdings.codec.open_mail(record)[1]
                elif member.kind == Kind.EVENT:
                    event = holdings.codec.open_event(record)[1]
                    leaf = event.copy or audit_leaf_of(event)  # type: ignore[assignment]
                else:
                    continue
            except ArchiveError:
                continue
            if leaf is not None and leaf.node == holdings.node:
                stated[leaf.leaf] = leaf.leaf_hash()
    return stated
