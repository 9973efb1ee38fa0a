"""Random numbers keyed by what they are for: (seed, purpose, position), never by who drew before.

Philox is counter-based: the key is the seed and the purpose, the position is the top word of the counter, so
every position has 2^192 numbers of its own and any of them can be made first, alone or in parallel.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
"""

from __future__ import annotations

from numbers import Integral

import numpy as np
import torch
from torch import Tensor

PURPOSES = ("hyperplanes", "conditioning")  # append only: a place in this list is part of the key
MAX_SEED = 2**64 - 1


def normals(seed: int, purpose: str, position: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normals: float32 of this shape, the same for the same arguments on every machine.

    Args:
        seed: integer in [0, 2^64).
        purpose: one of PURPOSES.
        position: which block of the stream, at least 0.
        shape: of the block.

    Raises:
        ValueError: the seed is out of range.

    >>> bool((normals(0, "hyperplanes", 7, (2,)) == normals(0, "hyperplanes", 7, (3,))[:2]).all())
    True
    """
    check_seed(seed)
    key = np.array([seed, PURPOSES.index(purpose)], dtype=np.uint64)
    counter = np.array([0, 0, 0, position], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


def check_seed(seed: object) -> None:
    """Refuse a seed that is no integer in [0, 2^64).

    Raises:
        TypeError: it is no integer.
        ValueError: it is out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"`seed` must be an integer; got {seed!r}.")
    if not 0 <= int(seed) <= MAX_SEED:
        raise ValueError(f"`seed` must lie in [0, {MAX_SEED}]; got {seed}.")
