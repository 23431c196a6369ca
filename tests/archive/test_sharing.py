"""Secrets in parts: against a second computation that shares nothing with the first, and papers in parts (L12)."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.archive.keys import paper, sharing
from hornetmail.archive.keys.keyring import KeyTrouble, root_id
from hornetmail.archive.keys.paper import PAGE, backup, papers, restore

ROOT = bytes(range(32))
OTHER = bytes(range(1, 33))
CHEAP = {"memory_kib": 64, "time": 1}
WORD = "correct horse"


# -- the second computation: polynomials over GF(2) as lists of bits, long division, and a linear system solved by elimination


def slow_product(a: int, b: int) -> int:
    """Multiplied and divided as polynomials with pencil and paper."""
    bits = [0] * 15
    for i, j in itertools.product(range(8), range(8)):
        bits[i + j] ^= a >> i & 1 & (b >> j)
    for degree in range(14, 7, -1):
        if bits[degree]:
            for power in (8, 4, 3, 1, 0):
                bits[degree - 8 + power] ^= 1
    return sum(bit << at for at, bit in enumerate(bits[:8]))


PRODUCTS = [[slow_product(a, b) for b in range(256)] for a in range(256)]
INVERSES = [next((b for b in range(256) if PRODUCTS[a][b] == 1), 0) for a in range(256)]


def slow_join(shares: dict[int, bytes]) -> bytes:
    """Every coefficient of every polynomial by Gauss and Jordan from a matrix of Vandermonde; the constant ones are the secret."""
    secret = bytearray()
    for values in zip(*shares.values(), strict=True):
        rows = []
        for place, value in zip(shares, values, strict=True):
            row, power = [], 1
            for _ in shares:
                row.append(power)
                power = PRODUCTS[power][place]
            rows.append([*row, value])
        for column in range(len(rows)):
            pivot = next(row for row in rows[column:] if row[column])
            rows.remove(pivot)
            rows.insert(column, [PRODUCTS[INVERSES[pivot[column]]][x] for x in pivot])
            for other in range(len(rows)):
                if other != column:
                    factor = rows[other][column]
                    rows[other] = [x ^ PRODUCTS[factor][y] for x, y in zip(rows[other], rows[column], strict=True)]
        secret.append(rows[0][-1])
    return bytes(secret)


def test_the_field_is_that_of_aes() -> None:
    """Catches tables of another field: FIPS 197 section 4.2 has 57 times 83 is c1, and 57 times 13 is fe."""
    assert sharing._product(0x57, 0x83) == 0xC1
    assert sharing._product(0x57, 0x13) == 0xFE
    for a, b in itertools.product(range(256), range(256)):
        assert sharing._product(a, b) == PRODUCTS[a][b]
        assert not b or sharing._product(sharing._quotient(a, b), b) == a


@settings(max_examples=25, deadline=None)
@given(secret=st.integers(0, 2**64 - 1).map(lambda n: n.to_bytes(8, "big")), need=st.integers(2, 5), more=st.integers(0, 3))
def test_any_that_are_enough_give_it_back(secret: bytes, need: int, more: int) -> None:
    """Catches shares that only some subsets restore, and arithmetic that is right with itself alone."""
    shares = sharing.split(secret, need + more, need)
    for places in itertools.combinations(shares, need):
        chosen = {place: shares[place] for place in places}
        assert sharing.join(chosen) == slow_join(chosen) == secret
    assert sharing.join(shares) == secret
    fewer = dict(list(shares.items())[: need - 1])
    assert sharing.join(fewer) == slow_join(fewer)


def test_known_shares() -> None:
    """Catches a change of the format: papers printed today must be joined in twenty years. The polynomials are 0x42 + 0x07 x + 0xa5 x^2 and
    0xff + 0x80 x + 0x01 x^2; their values were computed by hand from the definition."""
    rows = iter((bytes((0x07, 0x80)), bytes((0xA5, 0x01))))
    shares = sharing.split(bytes((0x42, 0xFF)), 5, 3, lambda size: next(rows))
    assert shares == {
        place: bytes(
            c ^ PRODUCTS[b][place] ^ PRODUCTS[a][PRODUCTS[place][place]] for c, b, a in ((0x42, 0x07, 0xA5), (0xFF, 0x80, 0x01))
        )
        for place in range(1, 6)
    }
    assert {place: share.hex() for place, share in shares.items()} == KNOWN


KNOWN = {1: "e07e", 2: "eee0", 3: "4c61", 4: "e0d9", 5: "4258"}


def test_too_few_tell_nothing() -> None:
    """Catches a splitting in which fewer shares than needed say something: for every byte that the secret might be there is just one polynomial
    through a share and it, so each is as likely."""
    seen = {sharing.split(b"\x2a", 2, 2, lambda size, n=n: bytes([n]))[1][0] for n in range(256)}
    assert len(seen) == 256


@pytest.mark.parametrize(("parts", "need"), [(1, 1), (3, 1), (2, 3), (256, 2), (0, 0)])
def test_splittings_that_cannot_be(parts: int, need: int) -> None:
    """Catches one share that is the secret itself, more needed than there are, and a place that would be 0."""
    with pytest.raises(ValueError, match="parts"):
        sharing.split(b"secret", parts, need)


# -- papers


def _parts(root: bytes = ROOT, parts: int = 5, need: int = 3) -> list[str]:
    return backup(root, WORD, 1_780_000_000.0, parts=parts, need=need, **CHEAP).split(PAGE)


def test_papers_in_parts() -> None:
    """Catches parts that are not enough when they should be, in any order, twice or more than needed; the password is needed as ever (A5)."""
    made = _parts()
    assert len(made) == 5
    for number, text in enumerate(made, 1):
        first, second, *_ = text.splitlines()
        assert first.startswith(f"HornetMail archive key {root_id(ROOT).hex()}, part {number} of 5, written 2026-05-28, 8 lines.")
        assert second.startswith("Any 3 of the 5 parts, and the password, restore the key.")
    for chosen in itertools.combinations(made, 3):
        assert restore("\n".join(reversed(chosen)), WORD) == ROOT
    assert restore("".join(made), WORD) == ROOT
    assert restore(made[1] * 2 + made[4] + made[0], WORD) == ROOT
    with pytest.raises(KeyTrouble, match="the password does not open key"):
        restore("".join(made), "wrong")


def test_what_is_wrong_with_parts_is_named() -> None:
    """Catches too few parts, parts of two keys or two printings, a damaged one, and lines of two parts on one paper that are told as a wrong
    password, or not in which part they are (L12)."""
    made, again, other = _parts(), _parts(), _parts(OTHER)
    with pytest.raises(KeyTrouble, match=f"3 of the 5 parts of key {root_id(ROOT).hex()} are needed; here are only: 2, 5"):
        restore(made[4] + made[1], WORD)
    with pytest.raises(KeyTrouble, match=f"part 2 is of key {root_id(OTHER).hex()}, part 1 of key {root_id(ROOT).hex()}"):
        restore(made[0] + other[1] + made[2], WORD)
    with pytest.raises(KeyTrouble, match=r"part 2 of 5 is of splitting .*, part 1 of 5 of splitting .* different times"):
        restore(made[0] + again[1] + made[2], WORD)
    lines = made[2].splitlines()
    lines[6] = lines[6][:5] + ("7" if lines[6][5] != "7" else "8") + lines[6][6:]
    with pytest.raises(KeyTrouble, match="paper 2 of 3 in this text: line 3: checksum does not match"):
        restore("\n".join((made[0], *lines, made[3])), WORD)
    mixed = made[2].splitlines()
    mixed[7] = made[3].splitlines()[7]
    with pytest.raises(KeyTrouble, match=r"part 3 of key .* they do not belong to one part"):
        restore("\n".join((made[0], *mixed, made[3])), WORD)


def test_a_forged_part_is_found() -> None:
    """Catches a part that was changed with all its checksums: alone it spoils the key and is told, and with one more than needed it does no harm."""
    made = _parts()
    lines, _ = paper._read_block(paper._blocks(made[1])[0])
    part = paper._read_part(lines)
    forged = paper._printed(
        paper._part_bytes(paper._Part(part.key, part.splitting, part.number, part.need, part.parts, bytes(98))),
        (),
    )
    with pytest.raises(KeyTrouble, match="parts 1, 2, 3 do not fit together: at least one was changed"):
        restore(made[0] + forged + made[2], WORD)
    assert restore(made[0] + forged + made[2] + made[3], WORD) == ROOT
    with pytest.raises(KeyTrouble, match="part 2 is here twice, and each says something else"):
        restore(made[0] + made[1] + forged, WORD)


def test_a_part_alone_says_nothing_of_the_paper() -> None:
    """Catches a part in which the sealed key, its salt or a hash of them can be found: somebody with one part and a guess at the password could try it."""
    made = _parts(parts=2, need=2)
    whole = paper._whole_of("".join(made))
    for text in made:
        blob, _ = paper._read_block(paper._blocks(text)[0])
        assert blob[1:9] == root_id(ROOT)
        for start in range(9, len(whole) - 6):
            assert whole[start : start + 6] not in blob
        assert hashlib.sha256(whole).digest()[:4] not in blob


def test_codes_hold_what_can_be_read_in() -> None:
    """Catches a QR code whose text the same program does not take."""
    whole = backup(ROOT, WORD, 1_780_000_000.0, **CHEAP)
    ((sheet, code),) = papers(whole)
    assert sheet == whole
    assert restore(code, WORD) == ROOT
    codes = [code for _, code in papers(PAGE.join(_parts()))]
    assert restore("".join(codes[2:]), WORD) == ROOT
    assert all(len(code) < 400 for code in codes)
    with pytest.raises(KeyTrouble, match="no key in this text"):
        papers("hello")


@pytest.mark.parametrize(("parts", "need"), [(21, 2), (3, 1), (2, 3), (1, 2), (0, 0)])
def test_papers_that_cannot_be(parts: int, need: int) -> None:
    """Catches a backup that nobody could join, or that one holder could read alone."""
    with pytest.raises(ValueError, match="parts"):
        backup(ROOT, WORD, 0.0, parts=parts, need=need, **CHEAP)
