"""Whether a copy of an object is whole, by what it says of itself: asked before one copy takes the place of another that differs."""

from __future__ import annotations

import hashlib

from hornetmail.archive.care.copies.backup import BackupBroken, backup_named, backup_seal, read_control, read_manifest
from hornetmail.archive.keys.keyring import Keyring, KeyTrouble
from hornetmail.archive.media.medium import IMedium
from hornetmail.archive.proof.leaves import decode_run
from hornetmail.archive.proof.stamps import read_stamp
from hornetmail.archive.proof.stampsheets import SHEET, SUFFIX, encode_sheet, stamps_of
from hornetmail.archive.store.packs import open_pack, pack_id_of
from hornetmail.core.archive.archived import ArchiveError


def flaw_of(medium: IMedium, name: str, data: bytes, keyring: Keyring) -> str:
    """Why ``data``, which the medium has under that name, is not whole, or why that cannot be told; ``""``: it is. In a thread. Raises MediumError."""
    try:
        if pack_id_of(name):
            return "" if open_pack(data, keyring).head.pack == pack_id_of(name) else "it is another pack"
        number = name.rpartition("/")[2].partition(".")[0]
        if name.startswith("leaves/"):
            if decode_run(data)[0] != int(number):
                return "it is another run of leaves"
        elif name.startswith("stamps/"):
            whole = stamps_of(data) if name.endswith(SUFFIX) else [data]
            if [read_stamp(one).head.number for one in whole] != [*range(int(number), int(number) + len(whole))]:
                return "it is another stamp"
            if name.endswith(SUFFIX) and (len(whole) != SHEET or encode_sheet(int(number), whole) != data):
                return "the sheet is damaged"
        elif name.startswith("key"):
            _see_keys(data, keyring)
        elif name.startswith("backup/"):
            return _backup_flaw(medium, name, data, keyring)
        else:
            return "it is nothing that can be checked"
    except (KeyTrouble, ValueError, ArchiveError) as error:
        return str(error)
    return ""


def _see_keys(data: bytes, keyring: Keyring) -> None:
    """Its checksum holds, it is this archive's, and under the root key in force it opens, unless that is locked."""
    found = Keyring.from_bytes(data, None)
    if found.archive != keyring.archive:
        raise KeyTrouble("it is another archive's")
    if not keyring.locked and found.root == keyring.root:
        keyring.reading(data)


def _backup_flaw(medium: IMedium, name: str, data: bytes, keyring: Keyring) -> str:
    """By the manifest of its backup, which the medium has too."""
    backup = backup_named(name)
    if backup is None:
        return "it is no part of a backup"
    seal = backup_seal(keyring)
    try:
        manifest = read_manifest(medium, backup, seal)
        if name == backup.manifest:
            return ""
        if name == manifest.control:
            read_control(medium, manifest, seal)
            return ""
    except BackupBroken as error:
        return str(error)
    for piece in manifest.pieces:
        if manifest.objects[piece.number] == name:
            part = data[piece.start : piece.start + piece.length]
            if hashlib.sha256(part).digest() != piece.digest:
                return f"piece at byte {piece.start} is damaged"
    return ""
