"""What parts of a mail are to those who read it: its text, or files, and which files are text. Pure."""

from __future__ import annotations

import base64

from hornetmail.mime.headers import decode_parameters
from hornetmail.mime.structure import Part

_TEXTS = frozenset(
    (
        *(
            "txt",
            "text",
            "csv",
            "tsv",
            "log",
            "md",
            "rst",
            "ics",
            "vcs",
            "vcf",
            "json",
            "xml",
            "yaml",
            "yml",
            "ini",
            "conf",
            "cfg",
            "sql",
        ),
        *("tex", "srt", "diff", "patch", "ldif", "asc", "py", "c", "h", "java", "js", "sh", "bat", "css", "htm", "html", "xhtml"),
    )
)
_TEXT_TYPES = frozenset(
    (
        *(
            "APPLICATION/JSON",
            "APPLICATION/XML",
            "APPLICATION/XHTML+XML",
            "APPLICATION/ICS",
            "APPLICATION/CSV",
            "APPLICATION/X-CSV",
        ),
        *("APPLICATION/SQL", "APPLICATION/YAML", "APPLICATION/X-YAML", "MESSAGE/DELIVERY-STATUS", "MESSAGE/FEEDBACK-REPORT"),
        *("MESSAGE/DISPOSITION-NOTIFICATION", "MESSAGE/PARTIAL", "MESSAGE/EXTERNAL-BODY", "MESSAGE/GLOBAL-DELIVERY-STATUS"),
    )
)
_HELD = frozenset(
    (
        *(
            "pdf",
            "doc",
            "docx",
            "docm",
            "dot",
            "dotx",
            "xls",
            "xlsx",
            "xlsm",
            "xlsb",
            "ppt",
            "pptx",
            "pps",
            "ppsx",
            "odt",
            "ods",
            "odp",
        ),
        *(
            "rtf",
            "epub",
            "msg",
            "pst",
            "zip",
            "tar",
            "gz",
            "tgz",
            "bz2",
            "tbz2",
            "xz",
            "txz",
            "fodt",
            "ott",
            "ots",
            "otp",
            "odg",
            "dotm",
            "xltx",
            "potx",
            "pptm",
            "ppsm",
            "7z",
            "rar",
            "pages",
            "numbers",
            "key",
            "xps",
            "djvu",
            "vsd",
            "vsdx",
        ),
    )
)
"""Names of files whose words lie in them in another form."""

_HELD_TYPES = frozenset(
    ("APPLICATION/PDF", "APPLICATION/MSWORD", "APPLICATION/RTF", "TEXT/RTF", "APPLICATION/MS-TNEF", "APPLICATION/VND.MS-TNEF")
)


def name_of(part: Part) -> str:
    """The name that a part has as a file, as it was given; ``""`` if it has none."""
    return decode_parameters(part.disposition_params).get("filename") or decode_parameters(part.params).get("name") or ""


def extension(name: str) -> str:
    """In small letters, without the dot."""
    return name.rpartition(".")[2].lower().strip() if "." in name else ""


def is_file(part: Part) -> bool:
    """Whether a leaf of type TEXT is an attachment rather than what the mail says."""
    return part.disposition == "ATTACHMENT" or (bool(name_of(part)) and part.disposition != "INLINE")


def is_text(part: Part, name: str) -> bool:
    """Whether the bytes of this file are text."""
    kind = f"{part.type}/{part.subtype}"
    if kind in _HELD_TYPES:
        return False
    return part.type == "TEXT" or kind in _TEXT_TYPES or part.subtype.endswith(("+XML", "+JSON")) or is_text_name(name)


def is_text_name(name: str) -> bool:
    """Whether a file that is called so is text."""
    return extension(name) in _TEXTS


def is_message(part: Part, name: str) -> bool:
    """Whether the bytes of this leaf are a mail."""
    return (part.type, part.subtype) in (("MESSAGE", "RFC822"), ("MESSAGE", "GLOBAL"), ("MESSAGE", "NEWS")) or extension(
        name
    ) == "eml"


def is_held_name(name: str) -> bool:
    """Whether people would expect to find what is in a file that is called so, though it is no text."""
    return extension(name) in _HELD or name.lower() == "winmail.dat"


def holds_words(part: Part, name: str) -> bool:
    """The same of a part, by its label and its name."""
    kind = f"{part.type}/{part.subtype}"
    return (
        kind in _HELD_TYPES
        or kind.startswith(("APPLICATION/VND.OPENXML", "APPLICATION/VND.OASIS", "APPLICATION/VND.MS-"))
        or is_held_name(name)
    )


_BEGINNINGS = tuple(
    base64.b64encode(start)[:5]
    for start in (b"%PDF-1", b"PK\x03\x04\x14\0", b"\xd0\xcf\x11\xe0\xa1\xb1", b"{\\rtf1", b"\x78\x9f\x3e\x22\0\0")
)


def begins_as_file(encoded: bytes) -> bool:
    """Whether base64 that begins so is a PDF, a zip or office file, RTF or TNEF, whatever its label says (rule 8e)."""
    return encoded.lstrip().startswith(_BEGINNINGS)
