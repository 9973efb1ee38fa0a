"""Balanced signed graphs, whose maximum cut is read off in one pass."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from sdp.maxcut.problem import Problem


def balanced_signs(problem: Problem) -> Tensor:
    """Signs, int8 (n,), that cut exactly the positive edges of a spanning forest.

    On a balanced graph (every cycle has an even number of positive edges; bipartite, if all weights are positive)
    they cut exactly the positive edges of the whole graph, which is a maximum cut. On any other graph they are
    just some partition. Edges of weight 0 bind nothing.

    Complexity: O(n + m). Source: Harary (1953).
    """
    signs = np.zeros(problem.n_vertices, np.int8)
    csr = problem.csr
    _propagate(csr.indptr.numpy(), csr.indices.numpy(), csr.weights.numpy(), signs)
    return torch.from_numpy(signs)


@njit(cache=True, nogil=True)
def _propagate(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    signs: NDArray[np.int8],
) -> None:
    queue = np.empty(len(signs), np.int32)
    for root in range(len(signs)):
        if signs[root] != 0:
            continue
        signs[root] = 1
        queue[0] = root
        head, size = 0, 1
        while head < size:
            i = queue[head]
            head += 1
            for entry in range(indptr[i], indptr[i + 1]):
                j = indices[entry]
                if signs[j] == 0 and weights[entry] != 0:
                    signs[j] = -signs[i] if weights[entry] > 0 else signs[i]
                    queue[size] = j
                    size += 1
