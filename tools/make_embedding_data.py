"""A .npy of any size, written block by block: low-rank structure and noise, the same arguments the same bytes.

    python tools/make_embedding_data.py big.npy --gigabytes 20 --features 10000 --seed 0

Row i is a mixture of `RANK` fixed directions with normal weights, plus normal noise of a tenth of its length: distances
differ from pair to pair, so that an embedding has something to keep. Blocks of `BLOCK_ROWS` rows have streams of their
own; memory stays below 100 MB. About 200 MB a second on one core.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

RANK = 16
NOISE = 0.1
BLOCK_ROWS = 256
_DIRECTIONS, _ROWS = range(2)  # what a stream is for


def block(first: int, rows: int, features: int, seed: int) -> NDArray[np.float32]:
    """Rows [first, first + rows) of the matrix, `first` a multiple of `BLOCK_ROWS` and rows at most that.

    Returns:
        float32 (rows, features).
    """
    directions = _normal((RANK, features), seed, _DIRECTIONS, 0)
    weights_and_noise = _normal((BLOCK_ROWS, RANK + features), seed, _ROWS, first // BLOCK_ROWS)[:rows]
    made: NDArray[np.float32] = weights_and_noise[:, :RANK] @ directions / np.float32(RANK**0.5)
    made += np.float32(NOISE) * weights_and_noise[:, RANK:]
    return made


def write(path: Path, rows: int, features: int, seed: int) -> None:
    """Writes the matrix (rows, features) as .npy, which appears under its name when it is whole."""
    hidden = path.with_name(f".{path.name}.tmp")
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, features)}
    with hidden.open("wb") as file:
        npy.write_array_header_1_0(file, header)
        for first in range(0, rows, BLOCK_ROWS):
            file.write(block(first, min(BLOCK_ROWS, rows - first), features, seed).data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(hidden, path)


def rows_in(gigabytes: float, features: int) -> int:
    """Rows of float32 that fit, at least one.

    >>> rows_in(20, 10_000)
    500000
    """
    return max(1, int(gigabytes * 1e9 / (4 * features)))


def _normal(shape: tuple[int, int], seed: int, purpose: int, position: int) -> NDArray[np.float32]:
    generator = np.random.Generator(np.random.SFC64([seed, purpose, position]))
    return generator.standard_normal(shape, dtype=np.float32)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="10^9 bytes; default %(default)s")
    parser.add_argument("--features", type=int, default=10_000, help="columns; default %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.gigabytes <= 0 or given.features < 1 or given.seed < 0:
        parser.error("--gigabytes and --features must be positive, and --seed not negative.")
    rows = rows_in(given.gigabytes, given.features)
    free = shutil.disk_usage(given.out.resolve().parent).free
    if 4 * rows * given.features > free:
        parser.error(f"{4 * rows * given.features / 1e9:.1f} GB do not fit: {free / 1e9:.1f} GB are free.")
    begin = time.perf_counter()
    write(given.out, rows, given.features, given.seed)
    print(f"{given.out}: {rows} rows of {given.features} float32, {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
