"""A secret in parts of which any few restore it, and fewer tell nothing (Shamir, "How to share a secret", 1979), byte by byte over GF(256).

The field is that of AES (FIPS 197 section 4.2): polynomials over GF(2) modulo x^8 + x^4 + x^3 + x + 1. Each byte of the secret is the value at
0 of a polynomial of its own, whose other coefficients are random; a share holds the values at one other place. Pure but for the random
bytes; no I/O. Products are looked up in tables: what a table tells by its timing it tells once, to a process on the machine that has the secret.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

MOST = 255
"""Shares of a secret: as many as there are places other than 0."""


def _tables() -> tuple[bytes, bytes]:
    """Powers of the generator x + 1, twice over, and logarithms to it."""
    powers, logarithms = bytearray(510), bytearray(256)
    value = 1
    for exponent in range(255):
        powers[exponent] = powers[exponent + 255] = value
        logarithms[value] = exponent
        value ^= value << 1 ^ (0x11B if value & 0x80 else 0)
    return bytes(powers), bytes(logarithms)


_POWERS, _LOGARITHMS = _tables()


def _product(a: int, b: int) -> int:
    return _POWERS[_LOGARITHMS[a] + _LOGARITHMS[b]] if a and b else 0


def _quotient(a: int, b: int) -> int:
    return _POWERS[_LOGARITHMS[a] + 255 - _LOGARITHMS[b]] if a else 0


def split(secret: bytes, parts: int, need: int, random: Callable[[int], bytes] = secrets.token_bytes) -> dict[int, bytes]:
    """Shares by their place, 1 to ``parts``; any ``need`` of them give the secret back. Raises ValueError: fewer than 2 needed, or more than there are."""
    if not 2 <= need <= parts <= MOST:
        raise ValueError(f"{need} of {parts} parts: at least 2 must be needed, and at most {MOST} can be made")
    # The secret is the constant term; Horner's rule takes the coefficients from the highest down.
    coefficients = [secret, *(random(len(secret)) for _ in range(need - 1))]
    shares = {}
    for place in range(1, parts + 1):
        share = bytearray(len(secret))
        for row in reversed(coefficients):
            for at, coefficient in enumerate(row):
                share[at] = _product(share[at], place) ^ coefficient
        shares[place] = bytes(share)
    return shares


def join(shares: Mapping[int, bytes]) -> bytes:
    """The value at 0 of the polynomials through the shares (Lagrange). With too few, or one that is not theirs, it is something else; whoever calls
    must see to a checksum. Raises ValueError: none, of several lengths, or a place that cannot be."""
    lengths = {len(share) for share in shares.values()}
    if len(lengths) != 1 or not all(1 <= place <= MOST for place in shares):
        raise ValueError("shares of several lengths, or of none, or at a place that no share has")
    secret = bytearray(lengths.pop())
    for place, share in shares.items():
        weight = 1
        for other in shares:
            if other != place:
                weight = _product(weight, _quotient(other, other ^ place))
        for at, value in enumerate(share):
            secret[at] ^= _product(weight, value)
    return bytes(secret)
