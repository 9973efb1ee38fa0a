"""The law of W x for Gaussian x depends on W through few numbers: W = L Q^T.

With x ~ N(0, I_d) and Q (d, q) orthonormal, Q^T x ~ N(0, I_q), so that W x and L xi have the same law. A draw
costs O(q) instead of O(d), and the part of x orthogonal to Q has expectation zero in every formula of the first
order (the estimators are Rao-Blackwellised). Sampling in R^q instead of R^d is what makes the gradient's noise
fall.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Of W W^T, least over largest: its float64 square root is then orthonormal to 1e-8, below float32's rounding.
WELL_CONDITIONED = 1e-8


class Law(NamedTuple):
    """The factors of W = L Q^T.

    Attributes:
        L: (k, q), dtype and device of W; L L^T = W W^T.
        Q: (d, q), orthonormal columns that span the row space of W.
        rank: q, the numerical rank of W; 0 where W = 0.
    """

    L: Tensor
    Q: Tensor
    rank: int


def reduce_law(W: Tensor, extra: Tensor | None = None, *, tolerance: float | None = None) -> Law:
    """Factor W = L Q^T over its row space, or over the joint row space of W and of extra rows.

        W^T = Q_0 T (thin QR),  T^T = A S B^T (small SVD),  Q = Q_0 B_q R,  L = W Q

    where q singular values exceed `tolerance` times the largest, and the rotation R brings L nearest to the first q
    columns of the identity (orthogonal Procrustes). Without R, L would jump where singular values cross or change
    sign; with it L is a smooth function of W wherever the rank and that of its first q rows stay, which is what keeps
    common random numbers common from one step to the next. If q = k, then L = (W W^T)^(1/2); float32 rows of condition
    number below 10^4 take that short way, whose error of 10^-8 they do not see.

    Args:
        W: (k, d) float32 or float64.
        extra: (r, d) rows to stack below W, such as the teacher's U; None for none.
        tolerance: relative to the largest singular value; by default what the rounding of W's entries can make,
            4 eps sqrt(max(k + r, d)).

    Returns:
        The factors of [W; extra], of k + r rows.

    Complexity: O(d (k + r)^2), in float64. Source: Golub and Van Loan, Matrix Computations (2013), 5.4 and 6.4.1.

    >>> law = reduce_law(torch.tensor([[3.0, 4.0, 0.0], [6.0, 8.0, 0.0]]))
    >>> law.rank, tuple(law.L.shape), tuple(law.Q.shape)
    (1, (2, 1), (3, 1))
    >>> bool(torch.allclose(law.L @ law.Q.T, torch.tensor([[3.0, 4.0, 0.0], [6.0, 8.0, 0.0]])))
    True
    """
    with torch.no_grad():
        rows = W if extra is None else torch.cat([W, extra])
        if tolerance is None:
            tolerance = 4.0 * torch.finfo(W.dtype).eps * max(rows.shape) ** 0.5
        exact = rows.detach().to(torch.float64)
        if exact.numel() == 0 or not bool(exact.any()):
            return Law(rows.new_zeros((len(rows), 0)), rows.new_zeros((rows.shape[1], 0)), 0)
        if len(rows) <= rows.shape[1] and rows.dtype == torch.float32:
            squares, E = torch.linalg.eigh(exact @ exact.T)
            if bool(squares[0] > WELL_CONDITIONED * squares[-1]):
                root = squares.sqrt()
                L = (E * root) @ E.T
                Q = exact.T @ ((E / root) @ E.T)
                return Law(L.to(rows.dtype), Q.to(rows.dtype), len(rows))
        thin, T = torch.linalg.qr(exact.T)
        A, S, B = torch.linalg.svd(T.T, full_matrices=False)
        rank = int((tolerance * S[0] < S).sum())
        left, _, right = torch.linalg.svd(A[:rank, :rank] * S[:rank])
        Q = thin @ (B[:rank].T @ (right.T @ left.T))
        return Law((exact @ Q).to(rows.dtype), Q.to(rows.dtype), rank)
