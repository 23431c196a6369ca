"""The record: one mail, one shared attachment part or one later fact, compressed and encrypted (L3, rules 17, 18, 20-22).

A record tells all by itself: what media and key cannot tell is not known after a rebuild. Its additional data are format version, kind,
tenant and record ID, and not the pack it lies in, so that merging packs copies records as they are.
"""

from __future__ import annotations

import binascii
import enum
import hashlib
import secrets
import struct
import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec
import zstandard
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hornetmail.archive.keys.keyring import Keyring
from hornetmail.archive.proof.leaves import audit_input, leaf_hash, leaf_input
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.seal import NONCE_BYTES, BrokenSeal, Opening, Seal

FORMAT = 1
LEVEL = 3
HEADER = struct.Struct(">BBBBQ16sI")
"""Format version, kind, scheme, zero, tenant, record ID, key number: 32 bytes; the sealed content follows."""

BOX_BYTES = 32
"""The ephemeral key in front of what was sealed to the keyring's."""

HEAD_BYTES = HEADER.size + BOX_BYTES + NONCE_BYTES
MAX_PLAIN = 1 << 30

_CONTEXT = struct.Struct(">BBQ16s")
_META = struct.Struct(">I")


class Outcome(enum.StrEnum):
    """What became of an arrival. ``STORED``: a mail of its own. ``COPY``: bytes that were there, recipients united (rule 13).
    ``REPEAT``: the same queue row once more, after a crash. ``GONE``: deleted before (only in a rebuild). ``BROKEN``: does not open."""

    STORED = "stored"
    COPY = "copy"
    REPEAT = "repeat"
    GONE = "gone"
    BROKEN = "broken"


class RecordBroken(ArchiveError):
    """A record that does not open, or does not hold what it states."""


class Kind(enum.IntEnum):
    """What a record is. The numbers stand in files."""

    MESSAGE = 1
    PART = 2
    EVENT = 3


class Scheme(enum.IntEnum):
    """How it is sealed: under a data key of the keyring, or to the keyring's X25519 key while that was locked."""

    DATA_KEY = 1
    SEALED_BOX = 2


class Segment(enum.IntEnum):
    """How a stretch of a mail is kept. ``SHARED``: the bytes of a part record as they are. ``BASE64``: a part record's bytes,
    encoded again in lines of 76 characters with CRLF between them."""

    INLINE = 0
    SHARED = 1
    BASE64 = 2


class Stretch(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """``length`` bytes of the mail; ``part`` is the record that holds them, empty for ``INLINE``."""

    kind: int
    length: int
    part: bytes = b""


class MailMeta(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename={"identifier": "id"}):
    """All that is known of a mail, encrypted with it. ``identifier``: the mail's ID, the same after a rebuild. ``expires``, ``received``: Unix
    seconds. ``month``: YYYYMM of the merge group, fixed for life. ``leaf``: its number in the log of ``node``."""

    identifier: int
    row: int
    node: int
    leaf: int
    salt: bytes
    sha256: bytes
    size: int
    received: float
    expires: float
    month: int
    feed: str
    direction: str
    sender: str
    recipients: tuple[str, ...]
    login: str = ""
    owners: tuple[str, ...] = ()
    trace: bytes = b""
    spam: bool = False
    stretches: tuple[Stretch, ...] = ()

    def leaf_input(self) -> bytes:
        """What its leaf states: this mail and its envelope (rule 17)."""
        return leaf_input(
            self.salt, self.sha256, self.received, self.direction, self.feed, self.login, self.sender, self.recipients
        )

    def leaf_hash(self) -> bytes:
        """The leaf that states it."""
        return leaf_hash(self.leaf_input())


class PartMeta(msgspec.Struct, frozen=True, gc=False):
    """What is known of a shared part: its merge group's month, and the keyed SHA-256 that it is found by."""

    month: int
    digest: bytes


class What(enum.StrEnum):
    """The words of later facts that this version knows; ``EventMeta.what`` is open, and other words are passed over, not damage.

    ``COPY``: the same bytes arrived once more (rule 13). ``VOID``: a staged record that says nothing new (a row staged twice around a crash).
    ``DELETED``: records that went, by purge or by hand; ``UNDELETED``: they did not after all. ``HOLD``, ``RELEASE``: a legal hold named ``text`` on
    records begins, ends. ``KEEP_UNTIL``: they live until ``until``. ``NOTE``, ``CATEGORY``: ``text`` of ``by`` (``""``: taken away).
    ``RENDITION``: the first record and the others are renditions of one mail (rule 13). ``AUDIT``: the leaf in ``leaves`` states that the audit log's row had
    that hash then (L14); ``text`` is its number and the hash in hex. ``RETENTION``: the tenant's rules from then on, as JSON in ``text``.
    """

    COPY = "copy"
    DELETED = "deleted"
    VOID = "void"
    UNDELETED = "undeleted"
    HOLD = "hold"
    RELEASE = "release"
    KEEP_UNTIL = "keep-until"
    NOTE = "note"
    CATEGORY = "category"
    RENDITION = "rendition"
    AUDIT = "audit"
    RETENTION = "retention"


WITH_THEIR_MAIL = frozenset({What.COPY, What.VOID, What.KEEP_UNTIL, What.NOTE, What.CATEGORY, What.RENDITION})
"""Facts that lie in the pack of their mail's month and go with it (rule 23); all others lie in the medium's journal, for good."""


class EventMeta(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A later fact about ``records`` (record IDs). ``copy``: envelope and leaf of the further arrival. ``leaves``: node and leaf number of all arrivals
    that went with the records; ``text`` and ``until``: see What."""

    what: str
    at: float
    records: tuple[bytes, ...] = ()
    by: str = ""
    reason: str = ""
    copy: MailMeta | None = None
    leaves: tuple[tuple[int, int], ...] = ()
    text: str = ""
    until: float = 0.0
    query: str = ""
    content: bool = False


class AuditLeaf(msgspec.Struct, frozen=True, gc=False):
    """A leaf of the audit log (L14): at ``at``, in Unix seconds, its row ``number`` had this hash."""

    node: int
    leaf: int
    number: int
    digest: bytes
    at: float

    def leaf_hash(self) -> bytes:
        """The leaf that states it."""
        return leaf_hash(audit_input(self.number, self.digest, self.at))


def audit_leaf_of(event: EventMeta) -> AuditLeaf | None:
    """What an event says of the audit log; None: it says something else, or is not understood."""
    number, _, digest = event.text.partition(" ")
    if event.what != What.AUDIT or len(event.leaves) != 1 or not (number.isascii() and number.isdigit()) or len(digest) != 64:
        return None
    try:
        return AuditLeaf(*event.leaves[0], int(number), bytes.fromhex(digest), event.at)
    except ValueError:
        return None


class Header(msgspec.Struct, frozen=True, gc=False):
    """The open part of a record."""

    kind: Kind
    scheme: Scheme
    tenant: int
    record: bytes
    key: int


_mail_decoder = msgspec.msgpack.Decoder(MailMeta)
_event_decoder = msgspec.msgpack.Decoder(EventMeta)
_part_decoder = msgspec.msgpack.Decoder(PartMeta)
_M = TypeVar("_M", MailMeta, EventMeta, PartMeta)


def new_record_id() -> bytes:
    """128 random bits."""
    return secrets.token_bytes(16)


def new_salt() -> bytes:
    """32 random bytes for a leaf."""
    return secrets.token_bytes(32)


def read_header(data: bytes) -> Header:
    """Raises RecordBroken."""
    if len(data) < HEADER.size:
        raise RecordBroken("a record is shorter than its header")
    version, kind, scheme, zero, tenant, record, key = HEADER.unpack_from(data)
    if version != FORMAT:
        raise RecordBroken(f"a record of format {version}; this program reads format {FORMAT}")
    try:
        if zero or (scheme == Scheme.SEALED_BOX) != (key == 0):
            raise ValueError("a header that contradicts itself")
        return Header(Kind(kind), Scheme(scheme), tenant, record, key)
    except ValueError as error:
        raise RecordBroken(f"a record with {error}") from None


class RecordCodec:
    """Closes and opens records with a keyring. May be used from any thread."""

    def __init__(self, keyring: Callable[[], Keyring]) -> None:
        self._keyring = keyring
        self._local = threading.local()

    def close_mail(self, tenant: int, record: bytes, meta: MailMeta, body: bytes, year: int) -> bytes:
        """A message record. ``body``: the inline stretches, one after the other. ``year`` picks the data key."""
        return self._close(Kind.MESSAGE, tenant, record, msgspec.msgpack.encode(meta), body, year)

    def close_event(self, tenant: int, record: bytes, meta: EventMeta, year: int) -> bytes:
        """An event record."""
        return self._close(Kind.EVENT, tenant, record, msgspec.msgpack.encode(meta), b"", year)

    def close_part(self, tenant: int, record: bytes, meta: PartMeta, body: bytes, year: int) -> bytes:
        """A shared attachment part."""
        return self._close(Kind.PART, tenant, record, msgspec.msgpack.encode(meta), body, year)

    def open_mail(self, data: bytes) -> tuple[Header, MailMeta, bytes]:
        """A message record: header, meta, inline stretches. Raises RecordBroken, KeyTrouble."""
        header, meta, body = self._open(data, Kind.MESSAGE)
        return header, _decode(meta, _mail_decoder), body

    def open_event(self, data: bytes) -> tuple[Header, EventMeta]:
        """Raises RecordBroken, KeyTrouble."""
        header, meta, _ = self._open(data, Kind.EVENT)
        return header, _decode(meta, _event_decoder)

    def open_part(self, data: bytes) -> tuple[Header, PartMeta, bytes]:
        """Raises RecordBroken, KeyTrouble."""
        header, meta, body = self._open(data, Kind.PART)
        return header, _decode(meta, _part_decoder), body

    def _close(self, kind: Kind, tenant: int, record: bytes, meta: bytes, body: bytes, year: int) -> bytes:
        plain = self._compressor().compress(b"".join((_META.pack(len(meta)), meta, body)))
        context = _CONTEXT.pack(FORMAT, kind, tenant, record)
        keyring = self._keyring()
        number = None if keyring.locked else keyring.data_number(tenant, year)
        if number is None:
            sealed = _close_box(keyring.public, plain, context)
            return HEADER.pack(FORMAT, kind, Scheme.SEALED_BOX, 0, tenant, record, 0) + sealed
        return HEADER.pack(FORMAT, kind, Scheme.DATA_KEY, 0, tenant, record, number) + keyring.seal(number).close(plain, context)

    def _open(self, data: bytes, kind: Kind) -> tuple[Header, bytes, bytes]:
        header = read_header(data)
        if header.kind != kind:
            raise RecordBroken(f"record {header.record.hex()} is a {header.kind.name.lower()}, not a {kind.name.lower()}")
        context = _CONTEXT.pack(FORMAT, header.kind, header.tenant, header.record)
        sealed = data[HEADER.size :]
        keyring = self._keyring()
        try:
            if header.scheme == Scheme.SEALED_BOX:
                packed = _open_box(keyring.private, sealed, context)
            else:
                packed = keyring.seal(header.key).open(sealed, context)
        except BrokenSeal:
            raise RecordBroken(f"record {header.record.hex()} does not open: it was changed") from None
        try:
            plain = self._decompressor().decompress(packed, max_output_size=MAX_PLAIN)
        except zstandard.ZstdError as error:
            raise RecordBroken(f"record {header.record.hex()} does not unpack: {error}") from None
        (length,) = _META.unpack_from(plain)
        return header, plain[4 : 4 + length], plain[4 + length :]

    def opening(self, head: bytes) -> tuple[Header, int, Opening]:
        """To open a record in pieces: its header, where its ciphertext begins, and what opens that. ``head``: its first ``HEAD_BYTES``. Raises RecordBroken, KeyTrouble."""
        header = read_header(head)
        context = _CONTEXT.pack(FORMAT, header.kind, header.tenant, header.record)
        keyring, at = self._keyring(), HEADER.size
        if header.scheme == Scheme.SEALED_BOX:
            seal, at = _box_seal(keyring.private, head[at : at + BOX_BYTES]), at + BOX_BYTES
        else:
            seal = keyring.seal(header.key)
        nonce = head[at : at + NONCE_BYTES]
        if len(nonce) < NONCE_BYTES:
            raise RecordBroken(f"record {header.record.hex()} is cut off")
        return header, at + NONCE_BYTES, seal.opening(nonce, context)

    def _compressor(self) -> zstandard.ZstdCompressor:
        found: zstandard.ZstdCompressor | None = getattr(self._local, "compressor", None)
        if found is None:
            found = self._local.compressor = zstandard.ZstdCompressor(level=LEVEL)
        return found

    def _decompressor(self) -> zstandard.ZstdDecompressor:
        found: zstandard.ZstdDecompressor | None = getattr(self._local, "decompressor", None)
        if found is None:
            found = self._local.decompressor = zstandard.ZstdDecompressor()
        return found


def assemble(meta: MailMeta, inline: bytes, part: Callable[[bytes], bytes]) -> bytes:
    """The exact bytes of a mail, from its inline stretches and its parts, checked by SHA-256. Raises RecordBroken."""
    if not meta.stretches:
        whole = inline
    else:
        whole = b"".join(_pieces(meta, inline, part))
    if len(whole) != meta.size or hashlib.sha256(whole).digest() != meta.sha256:
        raise RecordBroken(f"mail {meta.identifier}: its bytes do not have the SHA-256 {meta.sha256.hex()}")
    return whole


def _pieces(meta: MailMeta, inline: bytes, part: Callable[[bytes], bytes]) -> list[bytes]:
    at = 0
    pieces = []
    for stretch in meta.stretches:
        if stretch.kind == Segment.INLINE:
            pieces.append(inline[at : at + stretch.length])
            at += stretch.length
        elif stretch.kind == Segment.SHARED:
            pieces.append(part(stretch.part))
        elif stretch.kind == Segment.BASE64:
            pieces.append(base64_lines(part(stretch.part)))
        else:
            raise RecordBroken(f"mail {meta.identifier}: a stretch of kind {stretch.kind}")
        if len(pieces[-1]) != stretch.length:
            raise RecordBroken(f"mail {meta.identifier}: a stretch has {len(pieces[-1])} bytes instead of {stretch.length}")
    return pieces


def base64_lines(data: bytes) -> bytes:
    """Base64 in lines of 76 characters with CRLF between them, none at the end."""

    whole = binascii.b2a_base64(data, newline=False)
    return b"\r\n".join([whole[i : i + 76] for i in range(0, len(whole), 76)])


def mail_meta(data: bytes) -> MailMeta:
    """Raises RecordBroken."""
    return _decode(data, _mail_decoder)


def _decode(data: bytes, decoder: msgspec.msgpack.Decoder[_M]) -> _M:
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise RecordBroken(f"a record's meta does not read: {error}") from None


def _box_key(secret: bytes, ephemeral: bytes, public: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=ephemeral + public, info=b"hornetmail sealed record 1").derive(secret)


def _close_box(public: X25519PublicKey, plain: bytes, context: bytes) -> bytes:
    ephemeral = X25519PrivateKey.generate()
    raw = ephemeral.public_key().public_bytes_raw()
    key = _box_key(ephemeral.exchange(public), raw, public.public_bytes_raw())
    return raw + Seal(key).close(plain, context)


def _open_box(private: X25519PrivateKey, sealed: bytes, context: bytes) -> bytes:
    return _box_seal(private, sealed[:BOX_BYTES]).open(sealed[BOX_BYTES:], context)


def _box_seal(private: X25519PrivateKey, raw: bytes) -> Seal:
    if len(raw) < BOX_BYTES:
        raise BrokenSeal("too short")
    try:
        secret = private.exchange(X25519PublicKey.from_public_bytes(raw))
    except ValueError as error:
        raise BrokenSeal(str(error)) from None
    return Seal(_box_key(secret, raw, private.public_key().public_bytes_raw()))
