"""The evidence bundle (L2): checked with nothing but itself; every change of it is found and named."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hornetmail.archive.proof import evidence
from hornetmail.archive.proof.evidence import MANIFEST, Proof, pack, verify_bundle, write_bundle
from hornetmail.archive.proof.leaves import audit_path, leaf_hash, leaf_input, read_leaf_input, tree_root
from hornetmail.archive.proof.stamps import NONE, Head, Stamp
from hornetmail.archive.proof.tokens import ask_for, fingerprint, token_in
from hornetmail.cli.main import cli
from hornetmail.testing.archives import mail
from hornetmail.testing.stamp_authority import StampAuthority

MAIL = mail("proved")
SALT = bytes(range(32))
RECEIVED = 1_780_000_000.25
LEAF = leaf_input(
    SALT,
    hashlib.sha256(MAIL).digest(),
    RECEIVED,
    "in",
    "inline",
    "",
    "alice@example.test",
    ("bob@example.test", "carol@example.test"),
)
AGAIN = leaf_input(
    bytes(reversed(SALT)),
    hashlib.sha256(MAIL).digest(),
    RECEIVED + 60,
    "in",
    "inline",
    "",
    "alice@example.test",
    ("dora@example.test",),
)
"""The same bytes once more, to somebody else."""
OTHERS = [hashlib.sha256(bytes([n])).digest() for n in range(6)]
LEAVES = [*OTHERS[:4], leaf_hash(LEAF), *OTHERS[4:]]
NUMBER = 4


def stamp(authority: StampAuthority, number: int, leaves: list[bytes], before: bytes) -> Stamp:
    head = Head(0, number, len(leaves), tree_root(leaves), 1, before)
    token = token_in(authority.answer(ask_for(head.to_bytes()).data))
    return Stamp(head, token, "one", (authority.root.public_bytes(Encoding.DER),))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StampAuthority]:
    one = StampAuthority(tmp_path_factory.mktemp("authority") / "one")
    yield one
    one.close()


@pytest.fixture(scope="module")
def bundle(authority: StampAuthority) -> bytes:
    """With a stamp, one between, and a later one."""
    first = stamp(authority, 3, LEAVES, NONE)
    between = stamp(authority, 4, [*LEAVES, OTHERS[0]], first.link)
    last = stamp(authority, 5, [*LEAVES, OTHERS[0]], between.link)
    links = between.head.to_bytes() + hashlib.sha512(between.token).digest()
    both = [*LEAVES, leaf_hash(AGAIN)]
    third = stamp(authority, 6, both, last.link)
    again = Proof(AGAIN, len(LEAVES), len(both), audit_path(len(LEAVES), both), [third])
    return write_bundle(MAIL, Proof(LEAF, NUMBER, len(LEAVES), audit_path(NUMBER, LEAVES), [first, last], links), [again])


def members_of(bundle: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(BytesIO(bundle)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: dict[str, bytes]) -> bytes:
    """As somebody would pack it who changed a member, the manifest included."""
    rest = {name: data for name, data in members.items() if name != MANIFEST}
    return pack({**rest, MANIFEST: evidence._manifest(rest)})


def test_what_it_proves(bundle: bytes, authority: StampAuthority) -> None:
    """L2: catches a bundle that does not verify, or tells another story than its mail's."""
    verdict = verify_bundle(bundle)
    assert verdict.flaws == ()
    assert verdict.proved
    assert verdict.statement is not None
    assert verdict.statement == read_leaf_input(LEAF)
    assert verdict.statement.recipients == ("bob@example.test", "carol@example.test")
    assert verdict.statement.received == 1_780_000_000_250
    assert abs(verdict.stamps[0].at - time.time()) < 60
    assert verdict.stamps[0].anchor == fingerprint(authority.root)
    assert verify_bundle(bundle, [authority.root]).proved
    (again,) = verdict.further
    assert again.statement == read_leaf_input(AGAIN)
    assert (again.size, len(again.stamps)) == (8, 1)


def test_every_byte_counts(bundle: bytes) -> None:
    """L2: catches a byte anywhere in the bundle, its container and directory included, that can be changed unseen, or without the place being named."""
    with zipfile.ZipFile(BytesIO(bundle)) as archive:
        starts = [(info.header_offset, info.filename) for info in archive.infolist()]
        directory = archive.start_dir
    for at in range(len(bundle)):
        changed = bytearray(bundle)
        changed[at] ^= 1 << at % 8
        verdict = verify_bundle(bytes(changed))
        assert verdict.flaws, at
        assert not verdict.proved
        told = " ".join(f"{flaw.where} {flaw.what}" for flaw in verdict.flaws)
        inside = next(name for start, name in reversed(starts) if start <= at) if at < directory else ""
        assert (inside in told) if inside else ("bundle" in told), (at, inside, told)


@pytest.mark.parametrize("cut", [0, 1, 30, 500, -1, -30])
def test_cut_off(bundle: bytes, cut: int) -> None:
    """L2: catches a bundle that is believed although its end is missing, or something follows it."""
    assert verify_bundle(bundle[:cut]).flaws
    assert verify_bundle(bundle + bytes(abs(cut) + 1)).flaws


@pytest.mark.parametrize(
    "name",
    [
        "mail.eml",
        "leaf.bin",
        "path.txt",
        "stamp-1.head",
        "stamp-2.head",
        "links.bin",
        *(f"arrival-2/{one}" for one in ("leaf.bin", "path.txt", "stamp-1.head")),
    ],
)
def test_a_careful_forger(bundle: bytes, name: str) -> None:
    """L2: catches a bundle whose manifest alone protects it: somebody changes any byte of a member and packs it anew, and it still does not verify."""
    members = members_of(bundle)
    for at in range(len(members[name])):
        changed = bytearray(members[name])
        changed[at] ^= 1 << at % 8
        verdict = verify_bundle(packed({**members, name: bytes(changed)}))
        assert verdict.flaws, (name, at)


def test_what_a_token_signs(bundle: bytes) -> None:
    """L2: catches a token of which something that is signed can be changed; what a token holds besides is not signed, and only the manifest has it."""
    members = members_of(bundle)
    token = members["stamp-1.token"]
    start = token.index(b"\x04", token.index(b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x04"))
    for at in range(len(token)):
        changed = bytearray(token)
        changed[at] ^= 1 << at % 8
        verdict = verify_bundle(packed({**members, "stamp-1.token": bytes(changed)}))
        assert verdict.flaws or not start <= at < start + 120, at


def test_times_that_no_calendar_has(authority: StampAuthority, tmp_path: Path) -> None:
    """L2: catches a bundle that ends the command with a traceback."""
    leaf = leaf_input(SALT, hashlib.sha256(MAIL).digest(), 1.8e16, "in", "", "", "", ())
    file = tmp_path / "evidence.zip"
    file.write_bytes(write_bundle(MAIL, Proof(leaf, 0, 1, [], [stamp(authority, 0, [leaf_hash(leaf)], NONE)])))
    done = CliRunner().invoke(cli, ["verify-evidence", str(file)])
    assert (done.exit_code, "after 1970" in done.output) == (0, True), done.output


MEMBERS: list[tuple[str, Callable[[dict[str, bytes]], dict[str, bytes]], str]] = [
    ("missing", lambda m: {n: d for n, d in m.items() if n != "leaf.bin"}, "leaf.bin it is missing"),
    ("missing token", lambda m: {n: d for n, d in m.items() if n != "stamp-2.token"}, "stamp-2.token it is missing"),
    ("foreign", lambda m: {**m, "more.txt": b""}, "more.txt it does not belong here"),
    ("swapped", lambda m: {**m, "stamp-1.token": m["stamp-2.token"]}, "stamp-1.token it does not stamp stamp-1.head"),
    ("no links", lambda m: {n: d for n, d in m.items() if n != "links.bin"}, "stamp-2.head it does not hold stamp-1"),
    ("links twice", lambda m: {**m, "links.bin": m["links.bin"] * 2}, "links.bin there is more"),
    ("another mail", lambda m: {**m, "mail.eml": m["mail.eml"] + b"!"}, "mail.eml it is not the mail"),
    ("no certificates", lambda m: {**m, "stamp-1.pem": b"none"}, "stamp-1.pem no certificates"),
    ("no path", lambda m: {**m, "path.txt": b"leaf 4\nsize 7\n"}, "path.txt no path from leaf 4"),
    ("path in capitals", lambda m: {**m, "path.txt": m["path.txt"].upper()}, "path.txt not the path"),
]


@pytest.mark.parametrize(("change", "words"), [one[1:] for one in MEMBERS], ids=[one[0] for one in MEMBERS])
def test_members(bundle: bytes, change: Callable[[dict[str, bytes]], dict[str, bytes]], words: str) -> None:
    """L2: catches a bundle with other members that passes, or of which it is not said what is wrong."""
    flaws = [f"{flaw.where} {flaw.what}" for flaw in verify_bundle(packed(change(members_of(bundle)))).flaws]
    assert any(one.startswith(words) for one in flaws), flaws


def test_an_authority_of_ones_own(bundle: bytes, tmp_path: Path) -> None:
    """L2: catches a forger who makes an authority for himself: its bundle holds together, and is refused by who says which root is trusted."""
    forger = StampAuthority(tmp_path / "forger")
    try:
        false = write_bundle(MAIL, Proof(LEAF, NUMBER, len(LEAVES), audit_path(NUMBER, LEAVES), [stamp(forger, 0, LEAVES, NONE)]))
        other = StampAuthority(tmp_path / "other")
        other.close()
        assert verify_bundle(false).proved
        (flaw,) = verify_bundle(false, [other.root]).flaws
        assert flaw.where == "stamp-1.pem"
        assert "not one that you trust" in flaw.what
    finally:
        forger.close()


def test_by_hand(bundle: bytes, tmp_path: Path) -> None:
    """L2: catches a README whose commands do not do what it says, with programs that are not ours."""
    with zipfile.ZipFile(BytesIO(bundle)) as archive:
        archive.extractall(tmp_path)
    readme = (tmp_path / "README.txt").read_text()
    commands = [line.strip() for line in readme.splitlines() if line.startswith(("    sha256sum", "    openssl"))]
    assert len(commands) == 2
    for command in commands:
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    assert "<carol@example.test>" in readme
    shutil.copy(tmp_path / "stamp-2.head", tmp_path / "stamp-1.head")
    assert all(subprocess.run(one.split(), cwd=tmp_path, check=False, capture_output=True).returncode for one in commands)


def test_the_command(bundle: bytes, authority: StampAuthority, tmp_path: Path) -> None:
    """L2: catches a command that needs a configuration, a service or a key, or whose exit code says that all is well when it is not."""
    file, root, other = tmp_path / "evidence.zip", tmp_path / "root.pem", tmp_path / "other.pem"
    file.write_bytes(bundle)
    root.write_text(authority.pem)
    runner = CliRunner()
    for more in ([], ["--ca", str(root)]):
        done = runner.invoke(cli, ["-c", "/nowhere/hornetmail.toml", "verify-evidence", str(file), *more])
        assert done.exit_code == 0, done.output
        assert "carol@example.test" in done.output
        assert fingerprint(authority.root) in done.output
    assert "--ca" in runner.invoke(cli, ["verify-evidence", str(file)]).output
    file.write_bytes(bundle[:-1] + bytes([bundle[-1] ^ 1]))
    done = runner.invoke(cli, ["verify-evidence", str(file)])
    assert done.exit_code == 1
    assert "was changed" in done.output
    file.write_bytes(write_bundle(MAIL, Proof(LEAF, NUMBER, len(LEAVES), audit_path(NUMBER, LEAVES))))
    done = runner.invoke(cli, ["verify-evidence", str(file)])
    assert done.exit_code == 1
    assert "not stamped" in done.output
    other.write_text("no certificate")
    assert runner.invoke(cli, ["verify-evidence", str(file), "--ca", str(other)]).exit_code == 1
    assert runner.invoke(cli, ["verify-evidence", str(tmp_path / "none.zip")]).exit_code == 2


def test_a_readme_that_tells_another_story(bundle: bytes, authority: StampAuthority, tmp_path: Path) -> None:
    """L2: catches a bundle of which all that is proved holds, and whose text for people says something else, without a word: no stamp is over that text."""
    assert verify_bundle(bundle).readme
    one = Proof(LEAF, NUMBER, len(LEAVES), audit_path(NUMBER, LEAVES), [stamp(authority, 3, LEAVES, NONE)])
    for count in (1, 2, 1_000):
        assert verify_bundle(write_bundle(MAIL, one, left_out=count)).readme
    members = members_of(bundle)
    readme = members["README.txt"]
    file = tmp_path / "evidence.zip"
    for lie in (
        readme.replace(b"<bob@example.test>", b"<eve@example.test>"),
        readme.replace(b"2026-05-28", b"2016-05-28"),
        readme.replace(b"arrival-2/: the same bytes", b"arrival-2/: other bytes"),
        readme + b"The sender has admitted it.\n",
        b"",
    ):
        assert lie != readme
        verdict = verify_bundle(packed({**members, "README.txt": lie}))
        assert (verdict.proved, verdict.readme) == (True, False)
        file.write_bytes(packed({**members, "README.txt": lie}))
        done = CliRunner().invoke(cli, ["verify-evidence", str(file)])
        assert "README.txt is not what this program writes" in done.output
        assert "All of it holds" not in done.output


def test_certificates_and_tokens_that_do_not_read(bundle: bytes) -> None:
    """L2: catches a bundle packed by somebody else that ends the command with a traceback, wherever its certificates and tokens are damaged; and one that is proved by another root than its own."""
    members = members_of(bundle)
    (root,) = x509.load_pem_x509_certificates(members["stamp-1.pem"])
    whole = root.public_bytes(Encoding.DER)
    for at in range(0, len(whole), 2):
        changed = bytearray(whole)
        changed[at] ^= 1 << at // 2 % 8
        pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(changed) + b"-----END CERTIFICATE-----\n"
        assert verify_bundle(packed({**members, "stamp-1.pem": pem})).flaws, at
    token = members["arrival-2/stamp-1.token"]
    for at in range(0, len(token), 7):
        for damaged in (token[:at], token[:at] + token[at + 1 :], token[:at] + b"\x30\x84\xff\xff\xff\xff" + token[at:]):
            assert verify_bundle(packed({**members, "arrival-2/stamp-1.token": damaged})).flaws, at


def test_a_zip_in_which_one_member_is_many(bundle: bytes) -> None:
    """Cost: catches a small zip that holds the same bytes thousands of times over, and is read for hours."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("mail.eml", bytes(1 << 20))
        (info,) = archive.infolist()
        archive.filelist.extend([info] * 3000)
    began = time.thread_time()
    (flaw,) = verify_bundle(out.getvalue()).flaws
    assert "the zip was changed" in flaw.what
    assert time.thread_time() - began < 2.0
