#!/usr/bin/env python3
"""Reads a HornetMail archive without HornetMail: media and key paper in, mail out. One file, for a day when nothing else is left.

    read_archive.py list|check|extract MEDIUM… --paper key.txt [--into DIR]

MEDIUM: a directory with ``keyring``, ``packs/`` and ``journal/`` (copies of shares and buckets too; of a disk with bad sectors a copy that ddrescue made). A key in parts: ``--paper`` for as many as are needed; its password is asked for, or taken from
HORNETMAIL_KEY_PASSWORD. ``--root FILE``: the service's archive-root.key instead. Needs Python 3.11, ``cryptography`` (44 or newer) and ``zstandard``. Written from docs/formats/archive.rst. Exit code 1: something is damaged or missing, was named, and the rest read.
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
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
except ImportError as missing:
    raise SystemExit(f"{missing.name} is missing: python3 -m pip install 'cryptography>=44' zstandard") from None

ALPHABET, ALIKE, VOID = "0123456789ABCDEFGHJKMNPQRSTVWXYZ", str.maketrans("OIL", "011"), hashlib.sha256(b"\0").digest()
problems = []


def problem(where, what):
    problems.append(where)
    print(f"PROBLEM {where}: {what}", file=sys.stderr)


def hkdf(key, info, salt=bytes(32)):
    return hmac.digest(hmac.digest(salt, key, "sha256"), info + b"\x01", "sha256")


def unpack(data, at=0):
    """One MessagePack value and where it ends."""
    kind, at = data[at], at + 1
    if kind <= 0x7F or kind >= 0xE0:
        return (kind if kind <= 0x7F else kind - 256), at
    if 0xC0 <= kind <= 0xC3:
        return {0xC0: None, 0xC2: False, 0xC3: True}[kind], at
    if 0xCA <= kind <= 0xD3:
        form = ">" + "fdBHIQbhiq"[kind - 0xCA]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    width = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}.get(kind, 0)
    size = int.from_bytes(data[at : at + width], "big") if width else kind & (31 if kind >= 0xA0 else 15)
    at += width
    is_map = kind <= 0x8F or kind >= 0xDE
    if 0xA0 <= kind <= 0xDB:
        raw = data[at : at + size]
        return (raw if 0xC4 <= kind <= 0xC6 else raw.decode("utf-8", "surrogateescape")), at + size
    values = [None] * size * (2 if is_map else 1)
    for place in range(len(values)):
        values[place], at = unpack(data, at)
    return (dict(zip(values[::2], values[1::2], strict=True)) if is_map else values), at


def times(a, b):
    """A product in GF(256), the field of AES."""
    product = 0
    while b:
        product, a, b = product ^ a * (b & 1), a << 1 ^ (0x11B if a & 128 else 0), b >> 1
    return product


def joined(parts):
    """What enough parts of a paper hold: the values at 0 of the polynomials through their shares."""
    need, secret, shares = parts[0][14], bytes(98), {part[13]: part[16:114] for part in parts}
    if len(shares) < need or len({part[1:13] for part in parts}) > 1:
        raise SystemExit(f"{need} parts of one key and one printing are needed; here are parts {sorted(shares)}")
    for place, share in shares.items():
        weight = functools.reduce(times, (functools.reduce(times, [x ^ place] * 254, x) for x in shares if x != place), 1)
        secret = bytes(a ^ times(weight, b) for a, b in zip(secret, share, strict=True))
    if hashlib.sha256(secret[:94]).digest()[:4] != secret[94:]:
        raise SystemExit(f"parts {sorted(shares)} do not fit together: at least one was changed")
    return secret[:94]


def blob_of(body, where):
    """The bytes of one paper, each line checked."""
    letters = ""
    for number, words in enumerate((line.split() for line in body.translate(ALIKE).splitlines() if line.strip()), 1):
        content, check = "".join(words[1:])[:-4], "".join(words[1:])[-4:]
        bits = int.from_bytes(hashlib.sha256(f"{number}:{content}".encode()).digest()[:3], "big") >> 4
        if words[0].rstrip(".:)") != str(number) or check != "".join(ALPHABET[bits >> shift & 31] for shift in (15, 10, 5, 0)):
            raise SystemExit(f"{where}: line {number} is missing or mistyped: {' '.join(words)}")
        letters += content
    bits = functools.reduce(lambda bits, letter: bits << 5 | ALPHABET.index(letter), letters, 0)
    blob = (bits >> (len(letters) * 5 % 8)).to_bytes(len(letters) * 5 // 8, "big")
    size = {1: 94, 2: 118}.get(blob[0] if blob else 0, 1 << 20)
    if len(blob) < size or (size == 118 and hashlib.sha256(blob[:114]).digest()[:4] != blob[114:118]):
        raise SystemExit(f"{where}: lines are missing at its end, or are those of another part")
    return blob[:size]


def root_from_paper(text):
    shown = unicodedata.normalize("NFKC", text).upper()
    text = re.sub("(?m)^[>| \t]+|[\u00ad\u200b-\u200d\ufeff\u2010-\u2015\u2212-]", "", shown)
    bodies = re.findall(r"(?m)^BEGIN HORNETMAIL[^\n]*\n(.*?)(?:^END|\Z)", text, re.S) or sys.exit("there is no key in this text")
    blobs = [blob_of(body, f"paper {number} of {len(bodies)}") for number, body in enumerate(bodies, 1)]
    blob = next((blob for blob in blobs if blob[0] == 1), None) or joined(blobs)
    password = os.environ.get("HORNETMAIL_KEY_PASSWORD") or getpass.getpass("Password of the key paper: ")
    head, sealed, (memory, passes, lanes) = blob[:34], blob[34:], struct.unpack_from(">IIB", blob, 9)
    for tried in dict.fromkeys((password, *(unicodedata.normalize(form, password.strip()) for form in ("NFC", "NFD", "NFKC")))):
        kdf = Argon2id(salt=head[18:34], length=32, iterations=passes, lanes=lanes, memory_cost=memory)
        with contextlib.suppress(InvalidTag):
            return AESGCM(kdf.derive(tried.encode())).decrypt(sealed[:12], sealed[12:], head)
    raise SystemExit("the password of the paper is wrong")


class Keys:
    """The keys of all keyrings that the root key opens: each node has its own."""

    def __init__(self, media, root):
        self.data, self.private, entries = {}, None, []
        for medium in media:
            for path in (medium / "keyring", *sorted(medium.glob("keyrings/n*")), medium / "keyring-previous"):
                try:
                    data = path.read_bytes()
                    (size,) = struct.unpack_from(">I", data, 8)
                    mac = hmac.digest(hkdf(root, b"hornetmail keyring mac 1"), data[: 12 + size], "sha256")
                    if data[:8] != b"HMKEYS1\n" or mac != data[16 + size : 48 + size]:
                        raise ValueError("damaged, or under another root key")
                    entries += unpack(data[12 : 12 + size])[0]["entries"]
                except (OSError, ValueError, IndexError, struct.error) as error:
                    if path.name != "keyring-previous":
                        problem(path, error)
        if not entries:
            raise SystemExit("no medium has a keyring that this key opens")
        for number, purpose, tenant, year, wrapped in entries:
            context = b"hornetmail key wrap 1" + struct.pack(">BIQI", purpose, number, tenant, year)
            key = AESGCM(root).decrypt(wrapped[:12], wrapped[12:], context)
            if purpose == 1 and self.data.setdefault(number, key) != key:
                problem(f"key {number}", "it is one key in one keyring and another in another")
            elif purpose == 3:
                self.private = X25519PrivateKey.from_private_bytes(key)

    def open(self, record):
        """Kind, tenant, map and body of a record. Raises ValueError."""
        version, kind, scheme, _, tenant, identity, number = struct.unpack_from(">BBBBQ16sI", record)
        context = struct.pack(">BBQ16s", version, kind, tenant, identity)
        key, sealed = self.data.get(number), record[32:]
        if scheme == 2:
            public = self.private.public_key().public_bytes_raw()
            secret = self.private.exchange(X25519PublicKey.from_public_bytes(sealed[:32]))
            key, sealed = hkdf(secret, b"hornetmail sealed record 1", sealed[:32] + public), sealed[32:]
        if version != 1 or key is None:
            raise ValueError(f"a record of format {version} under key {number}, one of which is not known")
        try:
            plain = zstandard.ZstdDecompressor().decompress(AESGCM(key).decrypt(sealed[:12], sealed[12:], context), 1 << 31)
        except (InvalidTag, zstandard.ZstdError):
            raise ValueError("it does not open: it was changed") from None
        (size,) = struct.unpack_from(">I", plain)
        return kind, tenant, unpack(plain[4 : 4 + size])[0], plain[4 + size :]


class Archive:
    """Everything on the media: where each record lies, and what was deleted."""

    def __init__(self, media, keys):
        self.keys, self.places, self.latest, self.leaves, self.gone = keys, {}, {}, {}, set()
        self.mails, self.copies, self.excused = [], [], 0
        for medium in media:
            for where in ("journal/**/*.pack", "packs/**/*.pack", "leaves/n[0-9]*/*.run"):
                for path in sorted(medium.glob(where)):
                    take = self._run if path.suffix == ".run" else self._pack
                    try:
                        take(path) if path.is_file() else problem(path, "it is no file")
                    except OSError as error:
                        problem(path, error)

    def _run(self, path):
        data, node = path.read_bytes(), path.parent.name[1:]
        first, count = struct.unpack_from(">QQ", data.ljust(24), 8)
        whole = hashlib.sha256(data[:-32]).digest() == data[-32:] and len(data) == 56 + 32 * count
        if not whole or not node.isdecimal():
            return problem(path, "a run of leaves is damaged, or lies in no node's folder")
        self.leaves.update(((int(node), first + n), data[24 + 32 * n : 56 + 32 * n]) for n in range(count))

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
            if data[start + 12 : start + 28] not in self.places:
                self._record(path, start, data[start:end], data[start + 12 : start + 28])

    def _record(self, path, start, record, identity):
        try:
            kind, tenant, facts, _ = self.keys.open(record)
        except (ValueError, struct.error, IndexError, KeyError) as error:
            return problem(f"{path} at {start}", f"record {identity.hex()}: {error}")
        self.places[identity] = (path, start, len(record))
        if kind == 1:  # a message
            self.mails.append((identity, tenant, facts))
        elif kind == 3 and facts["what"] in ("deleted", "undeleted", "audit"):
            self.gone.update(map(tuple, facts.get("leaves", ())))
            self.excused += len(facts["records"]) if facts["what"] == "deleted" and "leaves" not in facts else 0
            for each in facts.get("records", ()):
                self.latest[each] = max(self.latest.get(each, (0.0, "")), (facts["at"], facts["what"]))
        elif kind == 3 and "copy" in facts:
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
                piece = base64.encodebytes(piece).rstrip(b"\n").replace(b"\n", b"\r\n")
            pieces.append(piece)
        raw = b"".join(pieces)
        if len(raw) != facts["size"] or hashlib.sha256(raw).digest() != facts["sha256"]:
            raise ValueError("its bytes do not have the SHA-256 that its record states")
        return raw

    def check_leaf(self, facts):
        texts = [*(facts.get(name, "") for name in ("direction", "feed", "login", "sender")), *facts["recipients"]]
        raw = [text.encode("utf-8", "surrogateescape") for text in texts]
        counted = [struct.pack(">I", len(text)) + text for text in raw]
        data = b"\x01" + facts["salt"] + facts["sha256"] + struct.pack(">Q", max(0, round(facts["received"] * 1000)))
        data += b"".join((*counted[:4], struct.pack(">I", len(counted) - 4), *counted[4:]))
        if self.leaves.pop((facts["node"], facts["leaf"]), None) not in (None, hashlib.sha256(b"\0" + data).digest()):
            problem(f"mail {facts['id']}", f"it is not what leaf {facts['leaf']} states")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("list", "check", "extract"))
    parser.add_argument("media", type=Path, nargs="+")
    for name, action, default in (("--paper", "append", []), ("--root", "append", []), ("--into", "store", Path("mails"))):
        parser.add_argument(name, type=Path, action=action, default=default)
    keys = (chosen := parser.parse_args()).paper or chosen.root or parser.error("the key is missing: --paper or --root FILE")
    try:
        text = "\n".join(path.read_text(errors="replace") for path in keys)
    except OSError as error:
        raise SystemExit(f"{error.filename}: {error.strerror}") from None
    plain = re.match(r"hornetmail-root-1 ([0-9a-f]{64}) ", text)
    root = bytes.fromhex(plain[1]) if plain else root_from_paper("" if chosen.root else text)
    archive = Archive(chosen.media, Keys(chosen.media, root))
    for identity, tenant, facts in sorted(archive.mails, key=lambda mail: mail[2]["received"]):
        if archive.latest.get(identity, (0.0, ""))[1] == "deleted":
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
        missing = sorted(leaf for leaf, one in archive.leaves.items() if one != VOID and leaf not in archive.gone)
        if len(missing) > archive.excused:
            problem("leaf log", f"{len(missing)} arrivals have no record (the first: node {missing[0][0]}, leaf {missing[0][1]})")
    print(f"{len(archive.mails)} mails, {len(problems)} problems", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
