"""Packed annealing by the definition, replica after replica, in Python integers. Slow on purpose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.reference.cuts import Matrix
from tests.reference.graph import philox

OWN_BITS = 7


def uniforms(vertex: int, word: int, sweep: int, seed: int, shared: bool) -> list[tuple[int, int]]:
    """(u, unit) of the word's 32 replicas: u / unit is uniform in [0, 1)."""
    key = (seed & 0xFFFFFFFF, seed >> 32)
    if shared:
        return [(philox((vertex, 3, sweep, word >> 2), key)[word & 3], 2**32)] * 32
    words = [*philox((vertex, 1, sweep, word), key), *philox((vertex, 2, sweep, word), key)]
    drawn = []
    for bit in range(32):
        own = sum((1 - (words[b] >> bit & 1)) << b for b in range(OWN_BITS))
        drawn.append(((own << 32) + words[7], 2 ** (32 + OWN_BITS)))
    return drawn


def chance(loss: int, weight: float, temperature: float) -> float:
    """Of accepting a loss of this many weights: powers of exp(-2 w/T) in float32, as documented."""
    if loss <= 0:
        return 1.0 if loss < 0 or temperature > 0 else 0.0
    if temperature == 0:
        return 0.0
    below_one = np.float32(1 - 2.0**-24)
    ratio = min(np.float32(np.exp(-2 * weight / temperature)), below_one)
    found = min(np.float32(np.exp(-weight / temperature)), below_one) if loss % 2 else ratio
    for _ in range((loss - 1) // 2):
        found = np.float32(found * ratio)
    return float(found)


def anneal_packed(
    W: Matrix,
    signs: NDArray[np.int8],
    temperatures: Matrix,
    seed: int,
    stream: int,
    first_sweep: int,
    shared: bool,
) -> None:
    """Sweeps of signs (n, 32 n_words) in place; temperatures (n_words, n_sweeps)."""
    weight = float(np.abs(W).max()) or 1.0
    for step in range(temperatures.shape[1]):
        for i in range(len(W)):
            losses = -np.rint(signs[i] * (W[i] @ signs) / weight).astype(int)
            for word, row in enumerate(temperatures):
                drawn = uniforms(i, stream + word, first_sweep + step, seed, shared)
                for bit, (u, unit) in enumerate(drawn):
                    replica = 32 * word + bit
                    if u < int(chance(losses[replica], weight, float(row[step])) * unit):
                        signs[i, replica] *= -1
