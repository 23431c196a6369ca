"""The evidence bundle (L2): one mail, and of each of its arrivals what its leaf states, its way to a stamped root, the stamp, and what keeps that stamp good.

A bundle is checked with nothing else: no server, database, key or network. It is a zip of stored members in a fixed order with fixed dates, so that
every byte of it is known from its members, and a flipped bit anywhere is found and named (``tests/archive/test_evidence.py`` flips each).

=====================  ==========================================================================================================
``README.txt``         for people
``mail.eml``           the mail, byte for byte as received
``leaf.bin``           leaf input (``docs/formats/archive.rst``): salt, SHA-256 of the mail, envelope, direction, feed, log-in, time
``path.txt``           ``leaf N``, ``size M``, then the hashes of the audit path in hex, lowest first, a line each
``stamp-K.head``       K = 1: the head whose root the path leads to. 2, 3 …: later heads whose stamps keep the one before good
``stamp-K.token``      the authority's token on that head (RFC 3161)
``stamp-K.pem``        the CA certificates that it was held against
``links.bin``          the heads between two of these stamps, each with the SHA-512 of its token (196 bytes each)
``arrival-N/…``        N = 2, 3 …: ``leaf.bin``, ``path.txt``, ``stamp-K.…`` and ``links.bin`` of a further arrival of the same bytes
``MANIFEST.txt``       SHA-256 of all of these, as ``sha256sum -c`` reads them
=====================  ==========================================================================================================

Without a stamp there are no ``stamp-`` members: such a bundle proves no time.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hornetmail.archive.proof.leaves import Statement, leaf_hash, read_leaf_input, root_from_path
from hornetmail.archive.proof.stamps import HEAD_BYTES, LINK_BYTES, Head, Stamp, StampBroken, link_of, read_head
from hornetmail.archive.proof.tokens import Token, TokenWrong, chain, check, fingerprint, good_until, loaded, read_certificates

MANIFEST = "MANIFEST.txt"
MAX_BUNDLE = 1 << 30
_DATE = (1980, 1, 1, 0, 0, 0)


class Flaw(msgspec.Struct, frozen=True, gc=False):
    """Something that does not hold: where, and what."""

    where: str
    what: str


class Stamped(msgspec.Struct, frozen=True, gc=False):
    """A stamp of the bundle that holds. ``at``, ``until``: Unix seconds. ``signer``, ``root``: names; ``anchor``: SHA-256 fingerprint of the root."""

    at: float
    until: float
    signer: str
    root: str
    anchor: str


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """What a bundle proves of one arrival: ``statement`` was made before the time of the first of ``stamps``. Nothing of its time without stamps. ``size``: leaves of
    the tree that its path is of."""

    statement: Statement | None = None
    size: int = 0
    stamps: tuple[Stamped, ...] = ()


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What a bundle proves, if there are no ``flaws``: ``first``, and the ``further`` arrivals of the same bytes that it speaks of. ``readme``: its README says just that; no stamp
    is over it, so one that says anything else (somebody's, or another version's) proves nothing."""

    flaws: tuple[Flaw, ...] = ()
    first: Arrival = Arrival()
    further: tuple[Arrival, ...] = ()
    readme: bool = False

    @property
    def statement(self) -> Statement | None:
        """Of the first arrival."""
        return self.first.statement

    @property
    def size(self) -> int:
        """Of the first arrival."""
        return self.first.size

    @property
    def stamps(self) -> tuple[Stamped, ...]:
        """Of the first arrival."""
        return self.first.stamps

    @property
    def proved(self) -> bool:
        """Whether all holds and a time of the first arrival is stamped."""
        return not self.flaws and bool(self.stamps)


class Proof(msgspec.Struct, frozen=True):
    """One arrival: ``leaf`` is its leaf input, ``path`` the audit path of leaf ``number`` in the tree of ``size`` leaves. ``links``: LINK_BYTES for each stamp between two of
    ``stamps``."""

    leaf: bytes
    number: int
    size: int
    path: Sequence[bytes]
    stamps: Sequence[Stamp] = ()
    links: bytes = b""

    def members(self, prefix: str) -> dict[str, bytes]:
        """As they lie in a bundle."""
        members = {f"{prefix}leaf.bin": self.leaf, f"{prefix}path.txt": _path_text(self.number, self.size, self.path)}
        for place, stamp in enumerate(self.stamps, 1):
            members[f"{prefix}stamp-{place}.head"] = stamp.head.to_bytes()
            members[f"{prefix}stamp-{place}.token"] = stamp.token
            known = [one for raw in stamp.certificates if (one := loaded(raw))]
            members[f"{prefix}stamp-{place}.pem"] = b"".join(one.public_bytes(Encoding.PEM) for one in known)
        if self.links:
            members[f"{prefix}links.bin"] = self.links
        return members


def write_bundle(mail: bytes, first: Proof, further: Sequence[Proof] = (), left_out: int = 0) -> bytes:
    """The zip. ``further``: later arrivals of the same bytes; ``left_out``: how many more there were, of which it does not speak."""
    told = [(proof.leaf, bool(proof.stamps)) for proof in (first, *further)]
    members = {"README.txt": _readme(len(mail), told, left_out).encode(), "mail.eml": mail, **first.members("")}
    for place, proof in enumerate(further, 2):
        members |= proof.members(_folder(place))
    members[MANIFEST] = _manifest(members)
    return pack(members)


def _folder(arrival: int) -> str:
    """Of a further arrival, from 2 on."""
    return f"arrival-{arrival}/"


def pack(members: Mapping[str, bytes]) -> bytes:
    """Members as the one zip that they can be."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return out.getvalue()


def verify_bundle(data: bytes, trusted: Sequence[x509.Certificate] = ()) -> Verdict:
    """Everything is looked at. ``trusted``: roots that the stamps must end at; without, the bundle's own are taken, and the reader compares
    ``Stamped.anchor``. Blocking; raises nothing for a bad bundle."""
    flaws: list[Flaw] = []
    members = _unpack(data, flaws)
    if flaws:
        return Verdict(tuple(flaws))
    folders = ["", *(_folder(place) for place in range(2, 2 + sum(name.endswith("/leaf.bin") for name in members)))]
    _check_names(members, folders, flaws)
    if flaws:
        return Verdict(tuple(flaws))
    _check_manifest(members, flaws)
    first, *further = [_Reading(members, folder, trusted, flaws).arrival() for folder in folders]
    readme = not flaws and _is_readme(members, folders)
    return Verdict(tuple(flaws), first, tuple(further), readme)


def _stamps_in(members: Mapping[str, bytes], folder: str) -> int:
    """How many stamps are in a folder, named from 1 on."""
    place = 1
    while any(f"{folder}stamp-{place}.{kind}" in members for kind in ("head", "token", "pem")):
        place += 1
    return place - 1


def _check_names(members: Mapping[str, bytes], folders: Sequence[str], flaws: list[Flaw]) -> None:
    wanted, allowed = {"README.txt", "mail.eml", MANIFEST}, set()
    for folder in folders:
        wanted |= {f"{folder}leaf.bin", f"{folder}path.txt"}
        wanted |= {
            f"{folder}stamp-{n}.{kind}" for n in range(1, _stamps_in(members, folder) + 1) for kind in ("head", "token", "pem")
        }
        allowed.add(f"{folder}links.bin")
    flaws += [Flaw(name, "it is missing") for name in sorted(wanted - set(members))]
    flaws += [Flaw(name, "it does not belong here") for name in sorted(set(members) - wanted - allowed)]


def _check_manifest(members: Mapping[str, bytes], flaws: list[Flaw]) -> None:
    rest = {name: data for name, data in members.items() if name != MANIFEST}
    if _manifest(rest) == members[MANIFEST]:
        return
    stated = dict(_manifest_line(line) for line in members[MANIFEST].decode("utf-8", "replace").splitlines())
    for name, data in rest.items():
        if stated.get(name) != hashlib.sha256(data).hexdigest():
            flaws.append(Flaw(name, f"it is not what {MANIFEST} says"))
    if not flaws:
        flaws.append(Flaw(MANIFEST, "it was changed"))


class _Reading:
    """One look at what a bundle says of one arrival."""

    def __init__(self, members: Mapping[str, bytes], folder: str, trusted: Sequence[x509.Certificate], flaws: list[Flaw]) -> None:
        self._mail = members["mail.eml"]
        self._members = {name.removeprefix(folder): data for name, data in members.items() if name.startswith(folder)}
        self._folder = folder
        self._trusted = [fingerprint(one) for one in trusted]
        self._flaws = flaws

    def _bad(self, where: str, what: str) -> None:
        self._flaws.append(Flaw(where if where == "mail.eml" else self._folder + where, what))

    def arrival(self) -> Arrival:
        stamps = _stamps_in(self._members, "")
        statement = self._statement()
        heads = self._heads(stamps)
        proved = self._check_path(heads[0] if heads else None)
        found = self._check_stamps(heads)
        if len(heads) == stamps:
            self._check_links(heads, found)
        return Arrival(statement, proved, tuple(found))

    def _statement(self) -> Statement | None:
        try:
            statement = read_leaf_input(self._members["leaf.bin"])
        except ValueError as error:
            self._bad("leaf.bin", str(error))
            return None
        if hashlib.sha256(self._mail).digest() != statement.sha256:
            self._bad("mail.eml", f"it is not the mail that {self._folder}leaf.bin speaks of (SHA-256)")
        return statement

    def _heads(self, stamps: int) -> list[Head]:
        heads: list[Head] = []
        for place in range(1, stamps + 1):
            name = f"stamp-{place}.head"
            try:
                heads.append(read_head(self._members[name]))
            except StampBroken as error:
                self._bad(name, str(error))
        return heads

    def _check_path(self, head: Head | None) -> int:
        try:
            number, size, path = _read_path(self._members["path.txt"])
        except ValueError as error:
            self._bad("path.txt", str(error))
            return 0
        root = root_from_path(number, size, leaf_hash(self._members["leaf.bin"]), path)
        if root is None:
            self._bad("path.txt", f"no path from leaf {number} in a tree of {size} leaves")
        elif head is not None and (head.size != size or head.root != root):
            self._bad("path.txt", "leaf.bin and this path do not lead to the root in stamp-1.head")
        return size

    def _check_stamps(self, heads: Sequence[Head]) -> list[Stamped]:
        found = []
        for place, head in enumerate(heads, 1):
            name = f"stamp-{place}.token"
            token = self._members[name]
            try:
                certificates = read_certificates(self._members[f"stamp-{place}.pem"])
            except ValueError as error:
                self._bad(f"stamp-{place}.pem", f"no certificates: {error}")
                continue
            try:
                stated = check(token, head.to_bytes(), certificates)
            except TokenWrong as error:
                self._bad(name, f"it does not stamp stamp-{place}.head: {error}")
                continue
            one = _stamped(stated, certificates)
            if self._trusted and one.anchor not in self._trusted:
                self._bad(f"stamp-{place}.pem", f"its root {one.root} ({one.anchor}) is not one that you trust")
            if one.until <= one.at:
                self._bad(name, "its certificate had ended, or its algorithm was no longer good, when it was made")
            found.append(one)
        return found

    def _check_links(self, heads: Sequence[Head], stamped: Sequence[Stamped]) -> None:
        """Each later stamp holds the one before it, over the heads between them, and was made while that one was good."""
        data = self._members.get("links.bin", b"")
        links = [data[at : at + LINK_BYTES] for at in range(0, len(data), LINK_BYTES)]
        whole = len(data) % LINK_BYTES == 0
        for place in range(1, len(heads)):
            older, newer = heads[place - 1], heads[place]
            token = self._members[f"stamp-{place}.token"]
            link = link_of(older.to_bytes(), hashlib.sha512(token).digest())
            between = newer.number - older.number - 1
            mine, links = links[: max(between, 0)], links[max(between, 0) :]
            held = whole and between >= 0 and len(mine) == between and newer.node == older.node and newer.size >= older.size
            for one in mine if held else ():
                held = held and one[:HEAD_BYTES][-64:] == link
                link = link_of(one[:HEAD_BYTES], one[HEAD_BYTES:])
            if not held or newer.before != link:
                self._bad(f"stamp-{place + 1}.head", f"it does not hold stamp-{place}, over links.bin")
            elif len(stamped) == len(heads) and stamped[place].at > stamped[place - 1].until:
                self._bad(f"stamp-{place}.token", f"it was no longer good when stamp-{place + 1} was made")
        if links or not whole:
            self._bad("links.bin", "there is more than the stamps need")


def _stamped(stated: Token, certificates: Sequence[x509.Certificate]) -> Stamped:
    whole = chain(stated, certificates)
    return Stamped(
        stated.at,
        good_until(stated, certificates),
        whole[0].subject.rfc4514_string() if whole else "",
        whole[-1].subject.rfc4514_string() if whole else "",
        fingerprint(whole[-1]) if whole else "",
    )


def _unpack(data: bytes, flaws: list[Flaw]) -> dict[str, bytes]:
    """The members, if the zip is byte for byte the one that they make."""
    if len(data) > MAX_BUNDLE:
        flaws.append(Flaw("bundle", "longer than any bundle"))
        return {}
    members: dict[str, bytes] = {}
    name = "bundle"
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            held = 0
            for info in archive.infolist():
                name = f"bundle, at {info.filename[:60]!r}"
                held += info.file_size
                if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or held > len(data):
                    raise zipfile.BadZipFile("a member that is not stored as it is")
                members[info.filename] = archive.read(info)
        name = "bundle"
        again = pack(members)
    except (
        zipfile.BadZipFile,
        struct.error,
        OSError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        EOFError,
        LookupError,
    ) as error:
        flaws.append(Flaw(name, f"the zip was changed: {error or type(error).__name__}"))
        return members
    if again != data:
        at = next(
            (n for n, (one, other) in enumerate(zip(again, data, strict=False)) if one != other), min(len(again), len(data))
        )
        flaws.append(Flaw(f"bundle, byte {at}", f"the zip was changed {_place(again, at)}"))
    return members


def _place(sound: bytes, at: int) -> str:
    """Where in a sound zip a byte lies, for people."""
    with zipfile.ZipFile(BytesIO(sound)) as archive:
        starts = [(info.header_offset, info.filename) for info in archive.infolist()]
        if at >= archive.start_dir:
            return "in its directory"
    return f"at {next(name for start, name in reversed(starts) if start <= at)}"


def _manifest(members: Mapping[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items()).encode()


def _manifest_line(line: str) -> tuple[str, str]:
    digest, _, name = line.partition("  ")
    return name, digest


def _path_text(number: int, size: int, path: Sequence[bytes]) -> bytes:
    return "".join((f"leaf {number}\nsize {size}\n", *(f"{one.hex()}\n" for one in path))).encode()


def _read_path(data: bytes) -> tuple[int, int, list[bytes]]:
    """Raises ValueError."""
    lines = data.decode("ascii").split("\n")
    if len(lines) < 3 or not lines[0].startswith("leaf ") or not lines[1].startswith("size "):
        raise ValueError("not the path of a leaf")
    number, size = int(lines[0][5:]), int(lines[1][5:])
    path = [bytes.fromhex(line) for line in lines[2:-1]]
    if _path_text(number, size, path) != data or any(len(one) != 32 for one in path):
        raise ValueError("not the path of a leaf as it is written")
    return number, size, path


def moment(at: float) -> str:
    """UTC, to the second; a time that no calendar has, in seconds."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"second {at:.0f} after 1970-01-01"


def clean(text: str) -> str:
    """What strangers wrote, for a text file: printable characters only."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text.encode("utf-8", "replace").decode())


_README = """\
Evidence for one archived mail
==============================

{what}

{time}
{remark}
How to check it
---------------

With HornetMail, anywhere, without server, database, key or network:

    hornetmail verify-evidence THIS-FILE.zip [--ca ROOT.pem]

It finds and names every change, says what is proved, and whether this text says the same: no stamp is over this text itself. --ca says which root certificate you trust; without it, compare the fingerprint that is printed with the one that the
authority publishes.

By hand, with sha256sum and OpenSSL, in the unpacked folder:

    sha256sum -c MANIFEST.txt
    openssl ts -verify -token_in -in stamp-1.token -data stamp-1.head -CAfile stamp-1.pem

leaf.bin is 1 byte 01, a salt of 32 bytes, the SHA-256 of mail.eml (32), the time of receipt in milliseconds (8), then direction, feed, log-in, sender,
each with its length (4) before it, the number of recipients (4), and each recipient likewise. Numbers are big-endian.
The leaf is SHA-256(00 leaf.bin). From there each line of path.txt leads one step up, by SHA-256(01 left right) as RFC 6962 section 2.1.1 has it, to the
root in stamp-1.head: "HMHEAD1" and a line feed (8), node (4), number (8), leaves (8), root (32), milliseconds (8), link of the stamp before (64).
A link is SHA-512(head, SHA-512(token)). stamp-2 and later keep the stamp before them good: their head's link leads to it over links.bin, and they were made
before its certificate ended. Then check the token of the last one as of today, and each other one as of the time of the one after it.
A folder arrival-N speaks in the same way of a further arrival of the same bytes.
"""


_LEFT_OUT = re.compile(r"^The same bytes arrived (\d{1,9}) more times?, of which this does not speak", re.MULTILINE)


def _readme(size: int, told: Sequence[tuple[bytes, bool]], left_out: int) -> str:
    """Of each arrival its leaf input, and whether it is stamped. All of it follows from what the stamps are over, but for ``left_out``."""
    remark = ""
    if left_out:
        remark = (
            f"\nThe same bytes arrived {left_out} more time{'s' if left_out > 1 else ''}, of which this does not speak: not on a medium yet, not"
            " readable just now, or not for whoever asked to see."
        )
    (first, stamped), *further = told
    what = f"mail.eml ({size} bytes) {_came(first)}"
    for place, (leaf, again) in enumerate(further, 2):
        remark = f"{remark}\n{_folder(place)}: the same bytes {_came(leaf)}\n{_time(again)}\n"
    return _README.format(what=what, time=_time(stamped), remark=f"{remark}\n" if remark else "")


def _is_readme(members: Mapping[str, bytes], folders: Sequence[str]) -> bool:
    given = members["README.txt"].decode("utf-8", "replace")
    left_out = _LEFT_OUT.search(given)
    told = [(members[f"{folder}leaf.bin"], bool(_stamps_in(members, folder))) for folder in folders]
    return given == _readme(len(members["mail.eml"]), told, int(left_out[1]) if left_out else 0)


def _came(leaf: bytes) -> str:
    statement = read_leaf_input(leaf)
    received = moment(statement.received / 1000)
    recipients = ", ".join(f"<{clean(one)}>" for one in statement.recipients) or "nobody"
    login = f", logged in as {clean(statement.login)}" if statement.login else ""
    return (
        f"came in at {received} from <{clean(statement.sender)}>{login}\nto {recipients}"
        f"\n(direction: {clean(statement.direction)}, feed: {clean(statement.feed)}). All envelope recipients stand here, hidden ones too."
    )


def _time(stamped: bool) -> str:
    if stamped:
        return "A time stamp authority has stamped that this was so; its token says who, and when."
    return "THIS IS NOT STAMPED YET. It proves no time: ask for the bundle again when a stamp has been made."
