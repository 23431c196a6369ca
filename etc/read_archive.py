#!/usr/bin/env python3
"""Reads a HornetMail archive without HornetMail: media and key paper in, mail out. One file, for a day when nothing else is left.

    read_archive.py list|check|extract MEDIUM… --paper key.txt [--into DIR]

MEDIUM: a directory with ``keyring``, ``packs/`` and ``journal/`` (copies of shares and buckets too). The paper's password is asked for, or taken from HORNETMAIL_KEY_PASSWORD; ``--root FILE``
takes the service's archive-root.key instead. Needs Python 3.11, ``cryptography`` (44 or newer) and ``zstandard``. Written from docs/formats/archive.rst. Exit code 1: something is damaged, was named, and the rest read.
"""

import argparse
import base64
import contextlib
import datetime
import functools
import getpass
import hashlib
import hmac
import itertools
import os
import re
import struct
import sys
import unicodedata
from pathlib import Path

try:
    import zstandard
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as lacking:
    raise SystemExit(f"{lacking}: this needs 'pip install cryptography zstandard'") from None

MESSAGE, EVENT = 1, 3
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
problems = []


def problem(where, what):
    problems.append(where)
    print(f"PROBLEM {where}: {what}", file=sys.stderr)


def hkdf(key, info, salt=None):
    return HKDF(hashes.SHA256(), 32, salt, info).derive(key)


def unpack(data, at=0):
    """One MessagePack value and where it ends."""
    kind = data[at]
    at += 1
    if kind <= 0x7F or kind >= 0xE0:
        return (kind if kind <= 0x7F else kind - 256), at
    if kind <= 0x9F:
        return _many(data, at, kind & 15, kind <= 0x8F)
    if kind <= 0xBF:
        return data[at : at + (kind & 31)].decode("utf-8", "surrogateescape"), at + (kind & 31)
    if kind <= 0xC3:
        return {0xC0: None, 0xC2: False, 0xC3: True}[kind], at
    if 0xCA <= kind <= 0xD3:
        form = ">" + "fdBHIQbhiq"[kind - 0xCA]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    width = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}[kind]
    size = int.from_bytes(data[at : at + width], "big")
    at += width
    if kind >= 0xDC:
        return _many(data, at, size, kind >= 0xDE)
    raw = data[at : at + size]
    return (raw if kind <= 0xC6 else raw.decode("utf-8", "surrogateescape")), at + size


def _many(data, at, count, is_map):
    values = [None] * count * (2 if is_map else 1)
    for place in range(len(values)):
        values[place], at = unpack(data, at)
    return (dict(zip(values[::2], values[1::2], strict=True)) if is_map else values), at


def root_from_paper(text, password):
    text = re.sub("[\u2010-\u2015\u2212]", "-", text)
    body = re.search(r"-+BEGIN HORNETMAIL ARCHIVE KEY-+(.*?)-+END", text, re.S) or sys.exit("there is no key in this text")
    letters = ""
    lines = [line.split() for line in body.group(1).splitlines() if line.strip()]
    for number, words in enumerate(lines, 1):
        content, check = "".join(words[1:])[:-4], "".join(words[1:])[-4:]
        content, check = (part.upper().replace("O", "0").replace("I", "1").replace("L", "1") for part in (content, check))
        bits = int.from_bytes(hashlib.sha256(f"{number}:{content}".encode()).digest()[:3], "big") >> 4
        right = "".join(ALPHABET[bits >> shift & 31] for shift in (15, 10, 5, 0))
        if words[0] != str(number) or check != right:
            raise SystemExit(f"line {number} of the paper is missing or mistyped")
        letters += content
    bits = functools.reduce(lambda bits, letter: bits << 5 | ALPHABET.index(letter), letters, 0)
    if len(letters) < 151:
        raise SystemExit(f"lines of the paper are missing at its end: there are only {len(lines)}")
    blob = (bits >> (len(letters) * 5 % 8)).to_bytes(len(letters) * 5 // 8, "big")[:94]
    _, _, memory, passes, lanes = struct.unpack_from(">B8sIIB", blob)
    head, sealed = blob[:34], blob[34:]
    for tried in dict.fromkeys((password, *(unicodedata.normalize(form, password.strip()) for form in ("NFC", "NFD", "NFKC")))):
        kdf = Argon2id(salt=head[18:34], length=32, iterations=passes, lanes=lanes, memory_cost=memory)
        with contextlib.suppress(InvalidTag):
            return AESGCM(kdf.derive(tried.encode())).decrypt(sealed[:12], sealed[12:], head)
    raise SystemExit("the password of the paper is wrong")


class Keys:
    """The keyring with the greatest serial that the root key opens."""

    def __init__(self, media, root):
        best = None
        for medium in media:
            for name in ("keyring", "keyring-previous"):
                try:
                    data = (medium / name).read_bytes()
                    (size,) = struct.unpack_from(">I", data, 8)
                    mac = hmac.new(hkdf(root, b"hornetmail keyring mac 1"), data[: 12 + size], "sha256").digest()
                    if data[:8] != b"HMKEYS1\n" or mac != data[16 + size : 48 + size]:
                        raise ValueError("damaged, or under another root key")
                    body = unpack(data[12 : 12 + size])[0]
                    best = max(best or body, body, key=lambda each: each["serial"])
                except (OSError, ValueError, IndexError, struct.error) as error:
                    if name == "keyring":
                        problem(medium / name, error)
        if best is None:
            raise SystemExit("no medium has a keyring that this key opens")
        self.data, self.private = {}, None
        for number, purpose, tenant, year, wrapped in best["entries"]:
            context = b"hornetmail key wrap 1" + struct.pack(">BIQI", purpose, number, tenant, year)
            key = AESGCM(root).decrypt(wrapped[:12], wrapped[12:], context)
            if purpose == 1:
                self.data[number] = key
            elif purpose == 3:
                self.private = X25519PrivateKey.from_private_bytes(key)

    def open(self, record):
        """Kind, tenant, map and body of a record. Raises ValueError."""
        version, kind, scheme, _, tenant, identity, number = struct.unpack_from(">BBBBQ16sI", record)
        if version != 1:
            raise ValueError(f"a record of format {version}")
        context = struct.pack(">BBQ16s", version, kind, tenant, identity)
        key, sealed = self.data.get(number), record[32:]
        if scheme == 2:
            public = self.private.public_key().public_bytes_raw()
            secret = self.private.exchange(X25519PublicKey.from_public_bytes(sealed[:32]))
            key, sealed = hkdf(secret, b"hornetmail sealed record 1", sealed[:32] + public), sealed[32:]
        if key is None:
            raise ValueError(f"key {number} is not in the keyring")
        try:
            packed = AESGCM(key).decrypt(sealed[:12], sealed[12:], context)
            plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=1 << 31)
        except (InvalidTag, zstandard.ZstdError):
            raise ValueError("it does not open: it was changed") from None
        (size,) = struct.unpack_from(">I", plain)
        return kind, tenant, unpack(plain[4 : 4 + size])[0], plain[4 + size :]


class Archive:
    """Everything on the media: where each record lies, and what was deleted."""

    def __init__(self, media, keys):
        self.keys, self.places, self.deleted, self.back, self.leaves, self.gone = keys, {}, {}, {}, {}, set()
        self.mails, self.copies, self.excused = [], [], 0
        for medium in media:
            for where in ("journal/**/*.pack", "packs/**/*.pack", "leaves/n[0-9]*/*.run"):
                for path in sorted(medium.glob(where)):
                    try:
                        (self._run if path.suffix == ".run" else self._pack)(path)
                    except OSError as error:
                        problem(path, error)

    def _run(self, path):
        data = path.read_bytes()
        first, count = struct.unpack_from(">QQ", data.ljust(24), 8)
        if hashlib.sha256(data[:-32]).digest() != data[-32:]:
            return problem(path, "a run of leaves is damaged")
        numbers = [(int(path.parent.name[1:]), first + n) for n in range(count)]
        self.leaves.update((one, data[24 + 32 * n : 56 + 32 * n]) for n, one in enumerate(numbers))

    def _pack(self, path):
        data = path.read_bytes()
        tenant = next((struct.pack(">Q", int(part[1:])) for part in path.parts[::-1] if re.fullmatch(r"t\d+", part)), data[16:24])
        end = len(data) - 52
        at, _, digest, magic = struct.unpack_from(">QI32s8s", data, end) if end > 64 else (0, 0, b"", b"")
        if magic != b"HMPEND1\n" or hashlib.sha256(data[:end]).digest() != digest:
            problem(path, "damaged; what opens is taken")
            at = len(data)
        begins = re.compile(rb"\x01[\x01-\x03][\x01\x02]\0" + re.escape(tenant))
        starts = [*(match.start() for match in begins.finditer(data, 64, at)), at + 4]
        for start, following in itertools.pairwise(starts):
            end = min(start + int.from_bytes(data[start - 4 : start], "big"), following - 4)
            self._record(path, start, data[start:end])

    def _record(self, path, start, record):
        identity = record[12:28]
        if identity in self.places:
            return
        try:
            kind, tenant, facts, _ = self.keys.open(record)
        except (ValueError, struct.error, IndexError, KeyError) as error:
            return problem(f"{path} at {start}", f"record {identity.hex()}: {error}")
        self.places[identity] = (path, start, len(record))
        if kind == MESSAGE:
            self.mails.append((identity, tenant, facts))
        elif kind == EVENT and facts["what"] in ("deleted", "undeleted", "audit"):
            self.gone.update(map(tuple, facts.get("leaves", ())))
            self.excused += len(facts["records"]) if facts["what"] == "deleted" and "leaves" not in facts else 0
            when = self.deleted if facts["what"] == "deleted" else self.back
            when.update({each: max(facts["at"], when.get(each, 0.0)) for each in facts.get("records", ())})
        elif kind == EVENT and "copy" in facts:
            self.copies.append(facts["copy"])

    def body(self, identity):
        """Map and body of a record. Raises ValueError."""
        path, start, length = self.places[identity]
        with path.open("rb") as file:
            file.seek(start)
            return self.keys.open(file.read(length))[2:]

    def bytes_of(self, identity):
        """The exact bytes of a mail, checked. Raises ValueError."""
        facts, body = self.body(identity)
        pieces, at = [], 0
        for kind, length, part in facts.get("stretches") or [[0, len(body), b""]]:
            if kind and part not in self.places:
                raise ValueError(f"attachment {part.hex()} is missing")
            piece = self.body(part)[1] if kind else body[at : at + length]
            at += 0 if kind else length
            if kind == 2:
                text = base64.b64encode(piece)
                piece = b"\r\n".join(text[n : n + 76] for n in range(0, len(text), 76))
            pieces.append(piece)
        raw = b"".join(pieces)
        if len(raw) != facts["size"] or hashlib.sha256(raw).digest() != facts["sha256"]:
            raise ValueError("its bytes do not have the SHA-256 that its record states")
        return raw

    def check_leaf(self, facts):
        def text(value):
            raw = value.encode("utf-8", "surrogateescape")
            return struct.pack(">I", len(raw)) + raw

        data = b"\x01" + facts["salt"] + facts["sha256"] + struct.pack(">Q", max(0, round(facts["received"] * 1000)))
        data += b"".join(text(facts.get(name, "")) for name in ("direction", "feed", "login", "sender"))
        data += struct.pack(">I", len(facts["recipients"])) + b"".join(map(text, facts["recipients"]))
        here = self.leaves.pop((facts["node"], facts["leaf"]), None)
        if here is not None and here != hashlib.sha256(b"\0" + data).digest():
            problem(f"mail {facts['id']}", f"it is not what leaf {facts['leaf']} states")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("list", "check", "extract"))
    parser.add_argument("media", type=Path, nargs="+")
    source = parser.add_mutually_exclusive_group(required=True)
    for name in ("--paper", "--root"):
        source.add_argument(name, type=argparse.FileType(errors="replace"))
    parser.add_argument("--into", type=Path, default=Path("mails"))
    chosen = parser.parse_args()
    if chosen.root:
        root = bytes.fromhex(
            (re.match("hornetmail-root-1 ([0-9a-f]{64})", chosen.root.read()) or sys.exit("no root key there"))[1]
        )
    else:
        password = os.environ.get("HORNETMAIL_KEY_PASSWORD") or getpass.getpass("Password of the key paper: ")
        root = root_from_paper(chosen.paper.read(), password)
    archive = Archive(chosen.media, Keys(chosen.media, root))
    for identity, tenant, facts in sorted(archive.mails, key=lambda mail: mail[2]["received"]):
        if archive.deleted.get(identity, 0.0) > archive.back.get(identity, 0.0):
            archive.gone.add((facts["node"], facts["leaf"]))
            continue
        when = datetime.datetime.fromtimestamp(facts["received"], datetime.UTC).isoformat(timespec="seconds")
        if chosen.command == "list":
            print(facts["id"], when, tenant, facts["direction"], facts["size"], facts["sender"], *facts["recipients"], sep="\t")
            continue
        try:
            raw = archive.bytes_of(identity)
            archive.check_leaf(facts)
            if chosen.command == "extract":
                place = chosen.into / f"t{tenant}" / when[:7] / f"{facts['id']}.eml"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(raw)
        except (ValueError, OSError, KeyError, struct.error) as error:
            problem(f"mail {facts['id']}", error)
    if chosen.command == "check":
        for facts in archive.copies:
            archive.check_leaf(facts)
        known = archive.gone | {leaf for leaf, one in archive.leaves.items() if one == hashlib.sha256(b"\0").digest()}
        missing = sorted(archive.leaves.keys() - known)
        if len(missing) > archive.excused:
            problem("leaf log", f"{len(missing)} arrivals have no record; first: leaf {missing[0][1]} of node {missing[0][0]}")
    print(f"{len(archive.mails)} mails, {len(problems)} problems", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
