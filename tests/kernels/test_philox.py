"""Philox against its authors' known answers, and against Python integers."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from sdp_kernels.cpu._philox import philox
from tests.reference import graph as oracle

Counter = tuple[int, int, int, int]
Key = tuple[int, int]
ONES = 0xFFFFFFFF


@njit
def words(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    return philox(c0, c1, c2, c3, k0, k1)


def compiled(counter: Counter, key: Key) -> tuple[int, ...]:
    return tuple(int(word) for word in words(*(np.uint64(word) for word in (*counter, *key))))


# kat_vectors of Random123, the library of Salmon et al. (2011): philox4x32, 10 rounds.
KNOWN = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN.values(), ids=KNOWN.keys())
def test_known_answers(counter: Counter, key: Key, answer: Counter) -> None:
    assert compiled(counter, key) == answer
    assert oracle.philox(counter, key) == answer


def test_random_counters_and_keys() -> None:
    for row in np.random.default_rng(0).integers(0, 2**32, (200, 6)).tolist():
        counter, key = (row[0], row[1], row[2], row[3]), (row[4], row[5])
        assert compiled(counter, key) == oracle.philox(counter, key)


def test_every_bit_of_counter_and_key_counts() -> None:
    base = compiled((1, 2, 3, 4), (5, 6))
    for word in range(6):
        for bit in (0, 15, 31):
            a, b, c, d, k, m = ((i + 1) ^ (1 << bit if i == word else 0) for i in range(6))
            changed = compiled((a, b, c, d), (k, m))
            flipped = sum((one ^ other).bit_count() for one, other in zip(base, changed, strict=True))
            assert 30 <= flipped <= 98  # of 128, half on average: six standard deviations
