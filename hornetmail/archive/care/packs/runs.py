"""Runs of leaves merged at night, so that a medium holds few of them however old the archive (rule 17).

Neighbours become one run under the name of the first, put and read back before the others are deleted. A crash in between leaves runs that overlap: they
say the same of the same leaves, and the next run removes what lies within another. A run that is damaged or stands alone is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.archive.media.medium import IMedium, MediumError, MediumUnread
from hornetmail.archive.proof.leaflog import MOST_MERGED, span_of
from hornetmail.archive.proof.leaves import decode_run, encode_run

Span = tuple[int, int, str]
"""First leaf, the leaf behind the last, name."""


def merge_runs(medium: IMedium, node: int, below: int, most: int = MOST_MERGED) -> tuple[int, list[str]]:
    """Merge what lies below a leaf number, the size of the local log. Blocking. How many objects fewer there are, and what is damaged. Raises
    MediumError."""
    spans = [
        (first, first + count, name)
        for name, size in medium.names(f"leaves/n{node}/")
        for first, count in [span_of(name, size)]
        if count and first + count <= below
    ]
    damaged: list[str] = []
    fewer = 0
    for group in _groups(sorted(spans, key=lambda span: (span[0], -span[1])), most):
        try:
            fewer += _merge(medium, group)
        except ValueError as error:
            damaged.append(f"medium {medium.number}: {error}")
    return fewer, damaged


def _groups(spans: Sequence[Span], most: int) -> list[list[Span]]:
    """Neighbours without a gap between them, no more than ``most`` leaves together; groups of one are left out."""
    groups: list[list[Span]] = []
    end = -1
    for span in spans:
        inside = bool(groups) and span[1] <= end
        if groups and (inside or (span[0] <= end and span[1] - groups[-1][0][0] <= most)):
            groups[-1].append(span)
        else:
            groups.append([span])
        end = max(end, span[1])
    return [group for group in groups if len(group) > 1]


def _merge(medium: IMedium, group: Sequence[Span]) -> int:
    first = group[0][0]
    hashes: list[bytes] = []
    for start, end, name in group:
        begin, part = _decoded(medium, name)
        if (begin, begin + len(part)) != (start, end):
            raise ValueError(f"{name}: another run than its name says")
        known = hashes[start - first : end - first]
        if part[: len(known)] != known:
            raise ValueError(f"{name}: it says another thing of leaf {start} than the run before it")
        hashes += part[len(known) :]
    run = encode_run(first, hashes)
    keep = group[0][2]
    if first + len(hashes) > group[0][1]:
        medium.put(keep, run)
        if medium.get(keep) != run:
            raise MediumError(f"medium {medium.number} did not keep {keep} as it was written")
    for _, _, name in group[1:]:
        medium.delete(name)
    return len(group) - 1


def _decoded(medium: IMedium, name: str) -> tuple[int, list[bytes]]:
    try:
        return decode_run(medium.get(name))
    except (ValueError, MediumUnread) as error:
        raise ValueError(f"{name}: {error}") from None
