"""The key on paper (A5, A6, L12): the root key under a password, as text that can be printed and typed in again, whole or in parts for several holders.

Letters are Crockford's base 32 (no I, L, O, U; case and look-alikes do not matter); every line carries its number and 20 bits of a
checksum over number and content, so that a slip is found in its line. Parts are Shamir's (``sharing``) of what the whole paper holds, so that any
few of them, joined, are that paper, and the password is needed as ever.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import struct
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from hornetmail.archive.keys import sealedroot, sharing
from hornetmail.archive.keys.keyring import KeyTrouble, root_id

PAGE = "\f"
"""Between the papers of a text, so that a printer begins a new page for each."""

MOST_PARTS = 20

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {c: v for v, c in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_DIGITS = str.maketrans("OIL", "011")
_QUOTING = " \t>|"
"""What mail programs put before lines."""
_TITLES = {1: "HORNETMAIL ARCHIVE KEY", 2: "HORNETMAIL ARCHIVE KEY PART"}
"""By the version that the content begins with."""
_LINE = 24
_CHECK = 4
_WHOLE = sealedroot.VERSION
_WHOLE_BYTES = sealedroot.SIZE
_PART = 2
_PART_HEAD = struct.Struct(">B8s4sBBB")
_PART_BYTES = _PART_HEAD.size + _WHOLE_BYTES + 4 + 4
_MAX_PAPERS = 64
_MAX_TRIES = 2000


class _Part(msgspec.Struct, frozen=True):
    """One part: of which key and which splitting, its number of how many, how many are needed; ``share`` covers the whole paper and its checksum."""

    key: bytes
    splitting: bytes
    number: int
    need: int
    parts: int
    share: bytes


def backup(
    root: bytes,
    password: str,
    now: float,
    *,
    parts: int = 1,
    need: int = 1,
    memory_kib: int = 65536,
    time: int = 3,
    lanes: int = 1,
) -> str:
    """The text for the safe; with several ``parts`` one for each holder, ``PAGE`` between them, of which any ``need`` restore it. Blocking
    (argon2id). ``now``: Unix seconds, only for the date in its first line. Raises ValueError: such parts cannot be."""
    if parts > MOST_PARTS or ((parts, need) != (1, 1) and not 2 <= need <= parts):
        raise ValueError(f"{need} of {parts} parts: there are 1, or at most {MOST_PARTS} of which at least 2 are needed")
    whole = sealedroot.close(root, normal(password).encode(), memory_kib=memory_kib, time=time, lanes=lanes)
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    name = f"HornetMail archive key {root_id(root).hex()}"
    if parts == 1:
        return _printed(
            whole,
            (
                f"{name}, written {day}, {{lines}} lines.",
                "Without this key and its password the archive is lost. Keep it in a safe.",
            ),
        )
    made = _split(whole, root_id(root), parts, need)
    if any(_join([made[n] for n in numbers]) != whole for numbers in (range(need), range(parts - need, parts))):
        raise KeyTrouble("the parts that were made do not give the key back; nothing was written")
    return PAGE.join(
        _printed(
            _part_bytes(part),
            (
                f"{name}, part {part.number} of {parts}, written {day}, {{lines}} lines.",
                f"Any {need} of the {parts} parts, and the password, restore the key. Without them the archive is lost. Keep it in a safe.",
            ),
        )
        for part in made
    )


def restore(text: str, password: str) -> bytes:
    """The root key again, from a text with its paper, or with as many parts as are needed. Blocking. Raises KeyTrouble that names the bad line, the
    part that is missing or does not belong to the others, or says that the password is wrong."""
    blob = _whole_of(text)
    root = sealedroot.open_with(blob, forms(password))
    if root is None:
        raise KeyTrouble(f"the password does not open key {sealedroot.name_of(blob).hex()}")
    return root


def papers(text: str) -> list[tuple[str, str]]:
    """Of a text that ``backup`` made: each paper, and what a QR code of it holds, which is text that ``restore`` takes too. Raises KeyTrouble: it is
    no such text."""
    found = []
    for paper in text.replace("\r\n", "\n").split(PAGE):
        blob, lines = _read_block(_blocks(paper)[0])
        title = _TITLES[blob[0]]
        short = [f"{number} {''.join(words[1:])}" for number, words in enumerate(lines, 1)]
        found.append((paper, "\n".join([f"-----BEGIN {title}-----", *short, f"-----END {title}-----", ""])))
    return found


def _printed(blob: bytes, above: Sequence[str]) -> str:
    letters = _encode(blob)
    lines = [letters[i : i + _LINE] for i in range(0, len(letters), _LINE)]
    title = _TITLES[blob[0]]
    return "\n".join(
        [
            *(line.format(lines=len(lines)) for line in above),
            "Each line: number, key, check. O reads as 0; I and L read as 1.",
            f"-----BEGIN {title}-----",
            *(f"{n:2d}  {_grouped(line)}  {_check(n, line)}" for n, line in enumerate(lines, 1)),
            f"-----END {title}-----",
            "",
        ]
    )


def _whole_of(text: str) -> bytes:
    """What the whole paper in a text holds, or what its parts make."""
    texts = _blocks(text)
    parts = []
    for place, lines in enumerate(texts, 1):
        try:
            blob, _ = _read_block(lines)
            if blob[0] == _WHOLE:
                return blob
            parts.append(_read_part(blob))
        except KeyTrouble as error:
            raise (KeyTrouble(f"paper {place} of {len(texts)} in this text: {error}") if len(texts) > 1 else error) from None
    return _united(parts)


def _read_block(lines: list[list[str]]) -> tuple[bytes, list[list[str]]]:
    """What a paper holds, and its lines. Raises KeyTrouble that names the bad line."""
    blob = _decode("".join(_content(number, words) for number, words in enumerate(lines, 1)))
    version = blob[0] if blob else 0
    size = {_WHOLE: _WHOLE_BYTES, _PART: _PART_BYTES}.get(version)
    if size is None:
        raise KeyTrouble(f"a key text of version {version}; this program reads versions {_WHOLE} and {_PART}")
    if len(blob) < size:
        raise KeyTrouble(f"lines are missing at the end: there are only {len(lines)}")
    return blob[:size], lines


# -- parts


def _split(whole: bytes, key: bytes, parts: int, need: int) -> list[_Part]:
    shares = sharing.split(whole + hashlib.sha256(whole).digest()[:4], parts, need)
    splitting = secrets.token_bytes(4)
    return [_Part(key, splitting, number, need, parts, share) for number, share in shares.items()]


def _part_bytes(part: _Part) -> bytes:
    blob = _PART_HEAD.pack(_PART, part.key, part.splitting, part.number, part.need, part.parts) + part.share
    return blob + hashlib.sha256(blob).digest()[:4]


def _read_part(blob: bytes) -> _Part:
    _, key, splitting, number, need, parts = _PART_HEAD.unpack_from(blob)
    part = _Part(key, splitting, number, need, parts, blob[_PART_HEAD.size : -4])
    if _part_bytes(part) != blob:
        raise KeyTrouble(f"part {number} of key {key.hex()}: each line is right by itself, but they do not belong to one part")
    if not (2 <= need <= parts and 1 <= number <= parts):
        raise KeyTrouble(f"part {number} of {parts}, {need} needed: that cannot be")
    return part


def _united(parts: Sequence[_Part]) -> bytes:
    """Raises KeyTrouble: parts of two keys or splittings, too few, or ones that do not fit together."""
    first = parts[0]
    for part in parts[1:]:
        if part.key != first.key:
            raise KeyTrouble(
                f"part {part.number} is of key {part.key.hex()}, part {first.number} of key {first.key.hex()}: they cannot be joined"
            )
        if (part.splitting, part.need, part.parts) != (first.splitting, first.need, first.parts):
            raise KeyTrouble(
                f"part {part.number} of {part.parts} is of splitting {part.splitting.hex()}, part {first.number} of {first.parts} of"
                f" splitting {first.splitting.hex()}: the parts of one key that were printed at different times cannot be joined"
            )
    by_number: dict[int, _Part] = {}
    for part in parts:
        if by_number.setdefault(part.number, part) != part:
            raise KeyTrouble(f"part {part.number} is here twice, and each says something else")
    present = sorted(by_number)
    listed = ", ".join(map(str, present))
    if len(present) < first.need:
        raise KeyTrouble(f"{first.need} of the {first.parts} parts of key {first.key.hex()} are needed; here are only: {listed}")
    tries = itertools.islice(itertools.combinations(present, first.need), _MAX_TRIES)
    for numbers in tries:
        whole = _join([by_number[number] for number in numbers])
        if whole is not None:
            return whole
    raise KeyTrouble(f"parts {listed} do not fit together: at least one was changed")


def _join(parts: Sequence[_Part]) -> bytes | None:
    """None: at least one is not what was made."""
    joined = sharing.join({part.number: part.share for part in parts})
    whole, check = joined[:-4], joined[-4:]
    return whole if hashlib.sha256(whole).digest()[:4] == check and whole[0] == _WHOLE else None


# -- passwords


def normal(password: str) -> str:
    """The form in which a password counts: composed (NFC), as keyboards differ in how they make an umlaut, and without space at its ends, as nobody
    sees it on paper."""
    return unicodedata.normalize("NFC", password).strip()


def forms(password: str) -> list[bytes]:
    """The normal form, and the ones that papers of earlier versions may have been written with: as it was typed, composed, decomposed."""
    texts = [normal(password)]
    for text in (password, password.strip()):
        texts += [text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)]
    return [text.encode("utf-8", "surrogatepass") for text in dict.fromkeys(texts)]


# -- lines


def _blocks(text: str) -> list[list[list[str]]]:
    """The lines of each paper in a text, in words."""
    found: list[list[list[str]]] = []
    body: list[list[str]] | None = None
    for line in text.splitlines():
        shown = unicodedata.normalize("NFKC", line)
        plain = _undashed(shown)
        stripped = plain.strip(_QUOTING)
        marker = stripped.upper()
        if marker.startswith("BEGIN HORNETMAIL") or (plain != shown and marker.startswith("BEGIN")):
            body = []
        elif marker.startswith("END HORNETMAIL") or (plain != shown and marker.startswith("END")):
            if body:
                found.append(body)
            body = None
        elif body is not None and (words := stripped.split()):
            body.append(words)
    if body:
        # It was cut off before its end; what is missing is said by whoever reads its lines.
        found.append(body)
    if not found:
        raise KeyTrouble(f"no key in this text: it begins with -----BEGIN {_TITLES[_WHOLE]}-----")
    if len(found) > _MAX_PAPERS:
        raise KeyTrouble(f"{len(found)} papers in one text: a key has at most {MOST_PARTS}")
    return found


def _undashed(line: str) -> str:
    """Without dashes of any kind, which word processors put in place of hyphens, and without characters that show nothing."""
    return "".join(c for c in line if unicodedata.category(c) not in ("Pd", "Cf") and c != "\u2212")


def _content(number: int, words: list[str]) -> str:
    """The letters of one line, checked. Its number may be written as people number lines, and with the look-alikes of the alphabet."""
    if words[0].rstrip(".:)").upper().translate(_DIGITS) != str(number):
        raise KeyTrouble(f"line {number}: it is numbered {words[0]!r}; a line is missing, doubled or out of order")
    letters = []
    for c in "".join(words[1:]).upper():
        if c not in _VALUES:
            raise KeyTrouble(f"line {number}: {c!r} is not a letter of this alphabet")
        letters.append(_ALPHABET[_VALUES[c]])
    content, check = "".join(letters[:-_CHECK]), "".join(letters[-_CHECK:])
    if len(content) > _LINE:
        raise KeyTrouble(f"line {number}: {len(content) - _LINE} characters too many")
    if _check(number, content) != check:
        raise KeyTrouble(f"line {number}: checksum does not match")
    return content


def _grouped(line: str) -> str:
    return " ".join(line[i : i + 4] for i in range(0, len(line), 4))


def _check(number: int, content: str) -> str:
    digest = hashlib.sha256(f"{number}:{content}".encode()).digest()
    return _encode(digest[:3])[:_CHECK]


def _encode(data: bytes) -> str:
    bits = len(data) * 8
    width = -(-bits // 5)
    value = int.from_bytes(data, "big") << (width * 5 - bits)
    return "".join(_ALPHABET[value >> (5 * (width - 1 - i)) & 31] for i in range(width))


def _decode(letters: str) -> bytes:
    value = 0
    for c in letters:
        value = value << 5 | _VALUES[c]
    size = len(letters) * 5 // 8
    return (value >> (len(letters) * 5 - size * 8)).to_bytes(size, "big")
