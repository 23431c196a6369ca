"""Files that hold files: zip, tar and gzip, bzip2, xz. Members one by one, within bounds."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from io import BytesIO

from hornetmail.extraction.bounds import Bounds, Unreadable
from hornetmail.extraction.formats.zipped import PIECE, Zip

_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, tarfile.TarError, ValueError)


def is_tar(data: bytes) -> bool:
    """Whether it is one, not packed."""
    return data[257:262] == b"ustar"


def zip_members(package: Zip, bounds: Bounds) -> Iterator[tuple[str, bytes | Unreadable]]:
    """Names, and bytes or why there are none. Raises Enough."""
    for name in package.names:
        bounds.member()
        try:
            yield name, package.read(name)
        except Unreadable as error:
            yield name, error


def tar_members(data: bytes, bounds: Bounds) -> Iterator[tuple[str, bytes | Unreadable]]:
    """The same. Raises Unreadable, Enough."""
    try:
        with tarfile.open(fileobj=BytesIO(data), mode="r:") as archive:
            for member in archive:
                bounds.member()
                bounds.on_time()
                if member.isreg() and (stream := archive.extractfile(member)) is not None:
                    yield member.name, stream.read(len(data))
    except _DAMAGE as error:
        raise Unreadable(f"it is damaged: {error}") from None


def unpacked(data: bytes, bounds: Bounds) -> bytes:
    """One file packed by gzip, bzip2 or xz. Raises Unreadable, Enough."""
    opens = gzip.open if data[:2] == b"\x1f\x8b" else bz2.open if data[:3] == b"BZh" else lzma.open
    pieces = []
    try:
        with opens(BytesIO(data)) as stream:
            while piece := stream.read(PIECE):
                bounds.unpack(len(piece))
                pieces.append(piece)
    except _DAMAGE as error:
        raise Unreadable(f"it is damaged: {error}") from None
    return b"".join(pieces)


PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
"""How such files begin."""
