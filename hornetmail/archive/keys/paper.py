"""The key on paper (A5, A6, L12): the root key under a password, as text that can be printed and typed in again.

Letters are Crockford's base 32 (no I, L, O, U; case and look-alikes do not matter); every line carries its number and 20 bits of a
checksum over number and content, so that a slip is found in its line.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import unicodedata
from datetime import UTC, datetime

from argon2.low_level import Type, hash_secret_raw

from hornetmail.archive.keys.keyring import ROOT_BYTES, KeyTrouble, root_id
from hornetmail.disk.seal import BrokenSeal, Seal

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {c: v for v, c in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_BEGIN = "-----BEGIN HORNETMAIL ARCHIVE KEY-----"
_END = "-----END HORNETMAIL ARCHIVE KEY-----"
_LINE = 24
_CHECK = 4
_HEAD = struct.Struct(">B8sIIB16s")
_VERSION = 1
_MAX_MEMORY_KIB = 1 << 20
_MAX_TIME = 64


def backup(root: bytes, password: str, now: float, *, memory_kib: int = 65536, time: int = 3, lanes: int = 1) -> str:
    """The text for the safe. Blocking (argon2id). ``now``: Unix seconds, only for the date in its first line."""
    salt = secrets.token_bytes(16)
    head = _HEAD.pack(_VERSION, root_id(root), memory_kib, time, lanes, salt)
    key = _stretch(normal(password), salt, memory_kib, time, lanes)
    blob = head + Seal(key).close(root, head)
    letters = _encode(blob)
    lines = [letters[i : i + _LINE] for i in range(0, len(letters), _LINE)]
    printed = [f"{n:2d}  {_grouped(line)}  {_check(n, line)}" for n, line in enumerate(lines, 1)]
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    return "\n".join(
        [
            f"HornetMail archive key {root_id(root).hex()}, written {day}, {len(lines)} lines.",
            "Without this key and its password the archive is lost. Keep it in a safe.",
            "Each line: number, key, check. O reads as 0; I and L read as 1.",
            _BEGIN,
            *printed,
            _END,
            "",
        ]
    )


def restore(text: str, password: str) -> bytes:
    """The root key again. Blocking. Raises KeyTrouble that names the bad line, or says that the password is wrong."""
    lines = _key_lines(text)
    blob = _decode("".join(_content(number, words) for number, words in enumerate(lines, 1)))
    if len(blob) < _HEAD.size + 12 + ROOT_BYTES + 16:
        raise KeyTrouble(f"lines are missing at the end: there are only {len(lines)}")
    blob = blob[: _HEAD.size + 12 + ROOT_BYTES + 16]
    version, name, memory_kib, rounds, lanes, salt = _HEAD.unpack_from(blob)
    if version != _VERSION:
        raise KeyTrouble(f"a key text of version {version}; this program reads version {_VERSION}")
    if memory_kib > _MAX_MEMORY_KIB or rounds > _MAX_TIME:
        raise KeyTrouble("the key text asks for more memory or time than any that was made here")
    for form in _forms(password):
        key = _stretch(form, salt, memory_kib, rounds, lanes)
        try:
            return Seal(key).open(blob[_HEAD.size :], blob[: _HEAD.size])
        except BrokenSeal:
            continue
    raise KeyTrouble(f"the password does not open key {name.hex()}")


def normal(password: str) -> str:
    """The form in which a password counts: composed (NFC), as keyboards differ in how they make an umlaut, and without space at its ends, as nobody
    sees it on paper."""
    return unicodedata.normalize("NFC", password).strip()


def _forms(password: str) -> list[str]:
    """The normal form, and the ones that papers of earlier versions may have been written with: as it was typed, composed, decomposed."""
    forms = [normal(password)]
    for text in (password, password.strip()):
        forms += [text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)]
    return list(dict.fromkeys(forms))


def _stretch(password: str, salt: bytes, memory_kib: int, time: int, lanes: int) -> bytes:
    return hash_secret_raw(password.encode(), salt, time, memory_kib, lanes, 32, Type.ID)


def _key_lines(text: str) -> list[list[str]]:
    body: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        plain = _undashed(line)
        stripped = plain.strip()
        if stripped.startswith("BEGIN HORNETMAIL") or (plain != line and stripped.startswith("BEGIN")):
            inside = True
        elif plain != line and stripped.startswith("END"):
            if not body:
                break
            return body
        elif inside and stripped:
            body.append(stripped.split())
    if not body:
        raise KeyTrouble(f"no key in this text: it begins with {_BEGIN}")
    return body


def _undashed(line: str) -> str:
    """Without dashes of any kind, which word processors put in place of hyphens, and without characters that show nothing."""
    return "".join(c for c in line if unicodedata.category(c) not in ("Pd", "Cf") and c != "\u2212")


def _content(number: int, words: list[str]) -> str:
    """The letters of one line, checked."""
    if words[0] != str(number):
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
