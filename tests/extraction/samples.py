"""Files for the tests: made by LibreOffice (``make_files.py``), and what no program writes any more, or nobody in good faith."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

FILES = Path(__file__).parent / "files"

LETTER = ("Jahresabschluß", "Nußbaumbretter", "Donnerstag", "Hobelbank", "Счёт", "会议", "Schnabeltier")
TABLE = ("Murmeltier", "2026110042", "Überweisung")
SLIDES = ("Quartalszahlen", "Größenordnung", "Gürteltier", "Wiedehopf", "会議")

MADE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("text.odt", "text.docx", "text.doc", "text.rtf", "text.pdf", "text.epub"), LETTER),
    **dict.fromkeys(("table.ods", "table.xlsx", "table.xls"), TABLE),
    **dict.fromkeys(("slides.odp", "slides.pptx", "slides.ppt"), SLIDES),
}
"""Names of files made by LibreOffice, and words in them."""


def made(name: str) -> bytes:
    """One of them."""
    packed = FILES / f"{name}.gz"
    return gzip.decompress(packed.read_bytes()) if packed.exists() else (FILES / name).read_bytes()


def zipped(*members: tuple[str, bytes], level: int = 6) -> bytes:
    """A zip file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as file:
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def tarred(*members: tuple[str, bytes], packed: bool = False) -> bytes:
    """A tar file, by gzip if ``packed``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if packed else "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def document(body: str, before: str = "") -> bytes:
    """A .docx whose text is this XML."""
    xml = f'<?xml version="1.0"?>{before}<w:document xmlns:w="w"><w:body>{body}</w:body></w:document>'
    return zipped(("[Content_Types].xml", b"<Types/>"), ("word/document.xml", xml.encode()))


def sealed_zip() -> bytes:
    """A zip whose member says that it is encrypted."""
    data = bytearray(zipped(("secret.txt", b"nobody reads this")))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def tnef(subject: str, body: bytes, *files: tuple[str, bytes]) -> bytes:
    """A winmail.dat, with its text as packed RTF, and files."""

    def attribute(level: int, number: int, data: bytes) -> bytes:
        return struct.pack("<BII", level, number, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    def binary(kind: int, number: int, data: bytes) -> bytes:
        return struct.pack("<HHII", kind, number, 1, len(data)) + padded(data)

    named = struct.pack("<HH", 0x1F, 0x8001) + bytes(16) + struct.pack("<II", 1, 6) + padded("Öl\0".encode("utf-16-le"))
    named += struct.pack("<II", 1, 4) + "x\0".encode("utf-16-le")
    packed = struct.pack("<II4sI", len(body) + 12, len(body), b"MELA", 0) + body
    properties = [struct.pack("<HHI", 3, 0x0017, 1), named, binary(0x102, 0x1009, packed)]
    out = [struct.pack("<IH", 0x223E9F78, 1), attribute(1, 0x00069007, struct.pack("<II", 1252, 0))]
    out.append(attribute(1, 0x00018004, subject.encode("cp1252") + b"\0"))
    out.append(attribute(1, 0x00069003, struct.pack("<I", len(properties)) + b"".join(properties)))
    for name, data in files:
        out.append(attribute(2, 0x00069002, bytes(14)))
        out.append(attribute(2, 0x00018010, b"SHORT~1\0"))
        out.append(attribute(2, 0x0006800F, data))
        long = binary(0x1F, 0x3707, f"{name}\0".encode("utf-16-le"))
        out.append(attribute(2, 0x00069005, struct.pack("<I", 1) + long))
    return b"".join(out)


def compound(streams: dict[str, bytes]) -> bytes:
    """A compound file ([MS-CFB]) of these streams, by path; each is filled up with blanks to more than a small one may have."""
    children: dict[str, list[str]] = {"": []}
    for path in streams:
        store = ""
        for step in path.split("/"):
            whole = f"{store}/{step}".lstrip("/")
            if whole not in children[store]:
                children[store].append(whole)
            store = whole
            if store not in streams:
                children.setdefault(store, [])
    entries = ["", *(path for path in dict.fromkeys(one for group in children.values() for one in group))]
    number = {path: at for at, path in enumerate(entries)}
    none, end = 0xFFFFFFFF, 0xFFFFFFFE
    body, chains = bytearray(), []
    for path, data in streams.items():
        padded = (
            data.ljust(8192, b" \0" if path.endswith("001F") else b" ")
            if not path.endswith("001F")
            else data + b" \0" * ((8192 - len(data)) // 2)
        )
        chains.append((path, len(body) // 512, len(padded)))
        body += padded.ljust(-(-len(padded) // 512) * 512, b"\0")
    where = {path: (start, size) for path, start, size in chains}
    sibling = {}
    for group in children.values():
        for this, other in zip(group, [*group[1:], None], strict=True):
            sibling[this] = number[other] if other is not None else none
    listing = bytearray()
    for path in entries:
        name = (path.rpartition("/")[2] or "Root Entry").encode("utf-16-le") + b"\0\0"
        stream = path in streams
        child = number[children[path][0]] if not stream and children.get(path) else none
        start, size = where.get(path, (end if not path else 0, 0))
        listing += name.ljust(64, b"\0") + struct.pack(
            "<HBBIII", len(name), 2 if stream else 1 if path else 5, 1, none, sibling.get(path, none), child
        )
        listing += bytes(36) + struct.pack("<IQ", start, size)
    listing += bytes(-len(listing) % 512)
    sectors = (len(body) + len(listing)) // 512
    tables = -(-(sectors + 200) // 127)
    fat = [none] * (tables * 128)
    for start, size in [*((s, n) for _, s, n in chains), (len(body) // 512, len(listing))]:
        count = -(-size // 512)
        fat[start : start + count] = [*range(start + 1, start + count), end]
    fat[sectors : sectors + tables] = [0xFFFFFFFD] * tables
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    head += struct.pack("<IIIIIIIIII", 0, tables, len(body) // 512, 0, 4096, end, 0, end, 0, sectors)
    head += struct.pack(f"<{tables - 1}I", *range(sectors + 1, sectors + tables))
    return head.ljust(512, b"\xff") + bytes(body) + bytes(listing) + struct.pack(f"<{len(fat)}I", *fat)


LZFU = bytes.fromhex(
    "2d0000002b0000004c5a4675f1c5c7a703000a00726370673132354232 0af32068656c090020627705b06c647d0a800fa0".replace(" ", "")
)
"""The example of [MS-OXRTFCP] section 3.2.1: packed RTF that says "hello world"."""
