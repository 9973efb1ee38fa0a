"""From the relaxation to cuts: thousands of hyperplanes at once, or one cut without sampling.

    s = sign(V x), x ~ N(0, I_r):   E cut = sum_{i<j} w_ij arccos(v_i . v_j / |v_i| |v_j|) / pi

which is at least 0.87856 of the relaxation's value where weights are positive (Goemans and Williamson, 1995).
`hyperplanes` draws many x and keeps the best; `derandomize` (its own file) uses the expectation itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdp.maxcut import streams
from sdp.maxcut.derandomize import METHODS, Derandomized, derandomize
from sdp_kernels import probit_cut, replicas
from sdp_kernels.graph import CSR

__all__ = ["METHODS", "Derandomized", "derandomize", "expected_cut", "hyperplanes"]

MAX_BLOCK_BYTES = 64 << 20  # packed signs held at once


def hyperplanes(csr: CSR, V: Tensor, n_planes: int, seed: int) -> tuple[Tensor, float, Tensor]:
    """The cuts of many random hyperplanes, and the best of them.

    Args:
        csr: the graph.
        V: (n, r) float32, contiguous; rows of any length, a zero row takes side +1 under every plane.
        n_planes: how many, at least 1.
        seed: integer in [0, 2^64). Plane p depends on the seed and p alone: asking for more planes adds
            to the same ones.

    Returns:
        Signs of the best plane, int8 (n,) in {-1, +1}; its cut value; all cut values, float64 (n_planes,),
        in units of edge weight, on V's device. Ties go to the first plane. Same bits whatever the number of threads.

    Raises:
        TypeError, ValueError: V has another dtype or not one row a vertex, or n_planes < 1.

    Complexity: O(n r n_planes) multiplications, O(m n_planes / 32) word operations, at most 64 MiB of
        signs at a time.

    >>> edge = CSR(torch.tensor([0, 1, 2]), torch.tensor([1, 0], dtype=torch.int32), torch.ones(2))
    >>> signs, best, cuts = hyperplanes(edge, torch.tensor([[1.0], [-1.0]]), 3, seed=0)
    >>> best, cuts.tolist(), int(signs.sum())
    (1.0, [1.0, 1.0, 1.0], 0)
    """
    if n_planes < 1:
        raise ValueError(f"`n_planes` must be at least 1; got {n_planes}.")
    if V.ndim != 2 or V.shape[0] != csr.n_vertices:
        raise ValueError(
            f"`V` must have shape ({csr.n_vertices}, rank), one row a vertex; got {tuple(V.shape)}."
        )
    words_per_block = max(1, MAX_BLOCK_BYTES // (4 * max(1, csr.n_vertices)))
    cuts = torch.empty(n_planes, dtype=torch.float64, device=V.device)
    signs = torch.ones(csr.n_vertices, dtype=torch.int8, device=V.device)
    best = -math.inf
    n_words = replicas.n_words(n_planes)
    for first in range(0, n_words, words_per_block):
        words = range(first, min(first + words_per_block, n_words))
        begin = replicas.REPLICAS_PER_WORD * first
        end = min(n_planes, replicas.REPLICAS_PER_WORD * words.stop)
        planes = torch.cat([_word_of_planes(V.shape[1], seed, word) for word in words], dim=1)
        packed = replicas.project_signs(V, planes[:, : end - begin].contiguous().to(V.device))
        block = replicas.cut_values(csr, packed)[: end - begin]
        cuts[begin:end] = block
        winner = int(block.argmax())
        if float(block[winner]) > best:
            best = float(block[winner])
            word, bit = divmod(winner, replicas.REPLICAS_PER_WORD)
            column = packed[:, word : word + 1].contiguous()
            signs = replicas.unpack_signs(column)[:, bit].contiguous()
    return signs, best, cuts


def expected_cut(csr: CSR, V: Tensor) -> float:
    """Mean cut of a random hyperplane, exactly: sum of w arccos(cosine) / pi, in units of edge weight.

    Args:
        csr: the graph.
        V: (n, r) float32 or float64; every row must be non-zero.

    Raises:
        TypeError, ValueError: as `sdp_kernels.probit_cut.probit_cut_value`.
    """
    mu = torch.zeros(csr.n_vertices, dtype=V.dtype, device=V.device)
    return probit_cut.probit_cut_value(csr, V, mu, math.inf)


def _word_of_planes(rank: int, seed: int, word: int) -> Tensor:
    """The normals of planes 32 word to 32 word + 31: float32 (rank, 32)."""
    return streams.normals(seed, "hyperplanes", word, (replicas.REPLICAS_PER_WORD, rank)).T
