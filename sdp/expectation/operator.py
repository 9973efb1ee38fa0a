"""The Hessian of an expectation as a scipy LinearOperator, for eigsh, lobpcg, cg and their like."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from sdp.expectation.estimation import Outcome
from sdp.expectation.integrals import Frozen, HessianProducts
from sdp_kernels.expectation import Draw, batch_sizes

Array = NDArray[np.float64]


def hessian_operator(frozen: Frozen, hessian_z: Outcome) -> LinearOperator:
    """The operator, from the draws that H was computed with.

    Point, draws and H are fixed, so that products are linear in the vector and symmetric to rounding (of the head's
    dtype).

    Args:
        frozen: the point, with tensors that nobody changes.
        hessian_z: the outcome of integrating `HessianInZ` there.
    """
    rows, k = len(frozen.law.L), frozen.k
    H = hessian_z.value.new_zeros((rows, rows))
    H[:k, :k] = hessian_z.value.view(k, k)

    def products(vectors: Any) -> Array:
        """(P, m) -> (P, m)."""
        matrix = torch.from_numpy(np.ascontiguousarray(np.asarray(vectors, dtype=np.float64).T)).to(H.device)
        columns, outside = frozen.lower(frozen.split(matrix, (len(matrix),)))
        inside = torch.zeros(columns.shape, dtype=torch.float64, device=H.device)
        for draw, weight in hessian_z.draws:
            inside += weight * _mean(frozen.route.hvps(draw, columns), draw)
        row = inside.flatten() if outside is None else torch.cat([inside.flatten(), H.flatten()])
        lifted = HessianProducts(frozen, columns, outside).lift(row).view(len(columns), -1)
        made: Array = lifted.cpu().numpy().T
        return made

    def product(vector: Any) -> Array:
        return products(np.reshape(vector, (-1, 1))).ravel()

    n = frozen.n_parameters
    return LinearOperator(
        (n, n), matvec=product, rmatvec=product, matmat=products, rmatmat=products, dtype=np.dtype(np.float64)
    )


def _mean(batches: Tensor, draw: Draw) -> Tensor:
    """Mean over all draws of batch means (B, ...)."""
    sizes = [draw.n] if draw.weights is not None else batch_sizes(draw.n)
    total = torch.zeros_like(batches[0])
    for size, part in zip(sizes, batches, strict=True):
        total += (size / draw.n) * part
    return total
