"""Names of message files and of folders: pure translations between Maildir and us."""

from __future__ import annotations

import binascii
import hashlib
import re

INBOX = "INBOX"

SPECIAL_USE = {"Sent": "\\Sent", "Drafts": "\\Drafts", "Trash": "\\Trash", "Junk": "\\Junk", "Archive": "\\Archive"}
"""Folders that every mailbox has from its creation (RFC 6154)."""

_LETTERS = {"D": "\\Draft", "F": "\\Flagged", "P": "$Forwarded", "R": "\\Answered", "S": "\\Seen", "T": "\\Deleted"}
_FLAGS = {flag: letter for letter, flag in _LETTERS.items()}
LETTERED = frozenset(_FLAGS)
"""Flags that live in file names; all others live in the index only."""

_ROW = re.compile(r"[0-9]+\.R([0-9]{1,19})P")
_HIDDEN = re.compile(r",E=([0-9]{1,7})(?:,|\Z)")
_SIZES = re.compile(r",S=([0-9]{1,15}),W=([0-9]{1,15})(?:,|\Z)")

_ORIGIN = re.compile(r",O=([0-9a-f]{32})(?:,|\Z)")


def split_name(name: str) -> tuple[str, str]:
    """Base name and info letters of a file name."""
    base, _, letters = name.partition(":2,")
    return base, letters


def flags_of(letters: str) -> frozenset[str]:
    """System flags (and ``$Forwarded``) of info letters; unknown letters are other programs' own."""
    return frozenset(_LETTERS[letter] for letter in letters if letter in _LETTERS)


def letters_of(flags: frozenset[str], former: str = "") -> str:
    """Info letters for flags, in ASCII order as Maildir wants; letters of other programs stay."""
    return "".join(sorted({_FLAGS[flag] for flag in flags if flag in _FLAGS} | {c for c in former if c not in _LETTERS}))


def row_of(base: str) -> int:
    """The queue row a file was delivered for, or 0."""
    found = _ROW.match(base)
    return int(found[1]) if found else 0


def hidden_of(base: str) -> int:
    """How many bytes of envelope lines the file begins with."""
    found = _HIDDEN.search(base) if row_of(base) else None
    return int(found[1]) if found else 0


def is_ours(base: str, size: int) -> bool:
    """Whether the name says that the file is served as it is (CRLF line ends, or exact bytes to be kept)."""
    if hidden_of(base):
        return True
    found = _SIZES.search(base)
    return found is not None and int(found[1]) == int(found[2]) == size


def origin_of(base: str) -> str:
    """What a message is known by wherever it was moved or copied to, 32 hexadecimal digits: its EMAILID (RFC 8474 section 5.1). The name has it, so that
    it outlives the index: a message that we delivered keeps its row's number, a copy of any other says whose copy it is."""
    found = _ORIGIN.search(base)
    if found:
        return found[1]
    first = base
    if row_of(base):
        head, dot, tail = base.partition(".R")
        unique, point, rest = tail.partition(".")
        first = f"{head}{dot}{unique.partition('C')[0]}{point}{rest}"
    return hashlib.blake2b(first.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def safe_host(host: str) -> str:
    """A host name as it may stand in a file name."""
    return re.sub(r"[^A-Za-z0-9.\-]", "_", host)[:64] or "localhost"


def delivered_base(seconds: float, row: int, number: int, host: str, size: int, hidden: int) -> str:
    """The name is the same whenever the same row is delivered: twice is once. ``number``: the recipient's place in the envelope."""
    return f"{int(seconds)}.R{row}P{number}.{host},S={size},E={hidden}"


def copied_base(base: str, token: str) -> str:
    """A further name for a copy of a delivered message, which keeps the row's number; ``token`` in lower case makes it unique."""
    head, dot, tail = base.partition(".R")
    unique, point, rest = tail.partition(".")
    return f"{head}{dot}{unique.partition('C')[0]}C{token}{point}{rest}"


def appended_base(seconds: float, number: int, token: str, host: str, size: int, origin: str = "") -> str:
    """A name for a message that a client brought; ``origin``: what it is known by already (``origin_of``)."""
    known = f",O={origin}" if origin else ""
    return f"{_unique(seconds, number, token, host)},S={size},W={size}{known}"


def twin_base(base: str, seconds: float, number: int, token: str, host: str, size: int, *, bare: bool) -> str:
    """A name for a copy of a message that was not delivered by us. ``bare``: nothing is said of its size, because it is not served as it is."""
    sizes = "" if bare else f",S={size},W={size}"
    return f"{_unique(seconds, number, token, host)}{sizes},O={origin_of(base)}"


def _unique(seconds: float, number: int, token: str, host: str) -> str:
    whole, _, fraction = f"{seconds:.6f}".partition(".")
    return f"{whole}.M{fraction}Q{number}P{token}.{host}"


# Folders ------------------------------------------------------------------------------------------------------------------------


def encode_level(level: str) -> str:
    """One level in modified UTF-7 (RFC 3501 section 5.1.3), with dots shifted too."""
    out: list[str] = []
    shifted: list[str] = []

    def unshift() -> None:
        if shifted:
            raw = "".join(shifted).encode("utf-16-be", "surrogatepass")
            text = binascii.b2a_base64(raw, newline=False).rstrip(b"=").replace(b"/", b",").decode("ascii")
            out.append(f"&{text}-")
            shifted.clear()

    for c in level:
        if " " <= c <= "~" and c != ".":
            unshift()
            out.append("&-" if c == "&" else c)
        else:
            shifted.append(c)
    unshift()
    return "".join(out)


def decode_level(level: str) -> str:
    """The reverse; text that is not modified UTF-7 is taken as it is."""
    out: list[str] = []
    pos = 0
    while True:
        start = level.find("&", pos)
        if start < 0:
            out.append(level[pos:])
            return "".join(out)
        end = level.find("-", start)
        if end < 0:
            return level
        out.append(level[pos:start])
        inner = level[start + 1 : end]
        if not inner:
            out.append("&")
        else:
            try:
                raw = binascii.a2b_base64(inner.replace(",", "/") + "=" * (-len(inner) % 4), strict_mode=True)
                out.append(raw.decode("utf-16-be"))
            except (ValueError, UnicodeError):
                return level
        pos = end + 1


def directory_of(name: str) -> str:
    """A folder's directory below the Maildir; ``""`` for INBOX."""
    return "" if name == INBOX else "." + ".".join(encode_level(level) for level in name.split("/"))


def folder_of(directory: str) -> str | None:
    """The folder of a directory, or None if it is none of ours (``..gone``, a name that does not survive the way back)."""
    if not directory.startswith(".") or directory.startswith(".."):
        return None
    name = "/".join(decode_level(level) for level in directory[1:].split("."))
    return name if valid_folder(name) and name != INBOX else None


def valid_folder(name: str) -> bool:
    """Whether a name can be a folder: 1 to 20 levels, none empty, no control characters, a directory name of at most 255 bytes."""
    if name == INBOX:
        return True
    levels = name.split("/")
    if len(levels) > 20 or any(not level or level.strip() != level for level in levels):
        return False
    if any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in name):
        return False
    return name.upper() != INBOX and len(directory_of(name).encode()) <= 255


def fold_inbox(name: str) -> str:
    """INBOX in any case is INBOX (RFC 3501 section 5.1); below it, its first level is folded too."""
    if name.upper() == INBOX:
        return INBOX
    return INBOX + name[5:] if name[:6].upper() == INBOX + "/" else name
