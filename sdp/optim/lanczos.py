"""Block Lanczos with full reorthogonalisation: Ritz values and vectors, and what Kuczynski and Wozniakowski make of
them.

Ritz values lie inside the spectrum: the lowest is never below the lowest eigenvalue, so it can refute a claim about
curvature and never prove one. With a random start they are also close, with a probability that is known: for a start
uniform on the sphere, after k steps and for a positive semidefinite A of size n

    P(lambda_max - ritz_max > e lambda_max) <= 1.648 sqrt(n) exp(-sqrt(e) (2 k - 1)).

Krylov spaces do not feel a shift. Applied to M - lambda_min I and to lambda_max I - M, each with delta / 2, both ends
lie within e (lambda_max - lambda_min) of their Ritz values, so that the unknown width is at most (ritz_max -
ritz_min) / (1 - 2 e), and

    lambda_min >= ritz_min - e (ritz_max - ritz_min) / (1 - 2 e),   e = (ln(1.648 sqrt(n) / (delta/2)^(1/c)) / (2 k -
    1))^2:

no norm need be known beforehand [derived for this project]. A block of c starts holds c independent Krylov spaces,
all of which must fail.

Sources: Golub and Van Loan, Matrix Computations (2013), 10.3; Kuczynski and Wozniakowski (1992), theorem 4.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdp.optim.operator import Operator, as_operator
from sdp_kernels import gaussian

PURPOSE_START = 106  # of the start block, beside the streams in `perturbation.py`
_DEPENDENT = 1e-10  # of a block's largest column: what is shorter after projection is rounding


@dataclass(frozen=True, eq=False)
class Ritz:
    """What a Krylov space knows of a spectrum.

    Attributes:
        values: (m,) float64, rising; estimates from inside the spectrum.
        lowest: (n, w) unit vectors of the lowest values.
        highest: (n, w) unit vectors of the highest values, the highest first.
        residuals: (m,) |M v - theta v| of each; some eigenvalue lies so near each value.
        steps: blocks multiplied.
        columns: of each block.
        n: size of the operator.
    """

    values: Tensor
    lowest: Tensor
    highest: Tensor
    residuals: Tensor
    steps: int
    columns: int
    n: int

    def lower_bound(self, delta: float) -> float:
        """The bound of Kuczynski and Wozniakowski, see above; -inf while the steps are too few."""
        return kuczynski_wozniakowski(
            float(self.values[0]), float(self.values[-1]), self.n, self.steps, delta, self.columns
        )


def kuczynski_wozniakowski(
    lowest: float, highest: float, n: int, steps: int, delta: float, columns: int = 1
) -> float:
    """Lower bound of the lowest eigenvalue from the two extreme Ritz values, wrong with probability at most delta."""
    exponent = math.log(1.648 * math.sqrt(n) / (0.5 * delta) ** (1.0 / columns)) / (2 * steps - 1)
    share = max(exponent, 0.0) ** 2
    return lowest - share * (highest - lowest) / (1.0 - 2.0 * share) if share < 0.5 else -math.inf


def lanczos(
    operator: Any,
    n: int | None = None,
    *,
    steps: int = 30,
    columns: int = 1,
    wanted: int = 1,
    seed: int = 0,
    stream: int = 0,
    **options: Any,
) -> Ritz:
    """Ritz values and vectors of a symmetric operator.

    Args:
        operator: a matrix, a scipy LinearOperator, or a function (n, c) -> (n, c); see `operator.as_operator`.
        n: size, for a function.
        steps: blocks multiplied; fewer where the Krylov space is exhausted.
        columns: of a block; more than one finds multiple eigenvalues.
        wanted: vectors returned at each end.
        seed: of the Gaussian start block.
        stream: which of the seed's start blocks.
        **options: of `as_operator`.

    Returns:
        The Ritz values; all eigenvalues once the space is the whole.

    Raises:
        ValueError: a count is below 1, or a product is not finite.

    Complexity: `steps` block products and O(n (steps columns)^2); memory n steps columns numbers.

    >>> ritz = lanczos(torch.diag(torch.tensor([-2.0, 1.0, 3.0])), steps=3)
    >>> [round(value, 6) for value in ritz.values.tolist()]
    [-2.0, 1.0, 3.0]
    """
    for name, count in (("steps", steps), ("columns", columns), ("wanted", wanted)):
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1; got {count}.")
    op = as_operator(operator, n, **options)
    columns = min(columns, op.n)
    start = start_block(op, columns, seed, stream)
    block = _orthonormal(start, None)
    basis, images = block, op(block)
    taken = 1
    newest = images
    while taken < steps and basis.shape[1] < op.n:
        block = _orthonormal(newest, basis)
        if block.shape[1] == 0:
            break
        newest = op(block)
        basis, images = torch.cat([basis, block], 1), torch.cat([images, newest], 1)
        taken += 1
    projected = basis.T @ images
    values, rotation = torch.linalg.eigh(0.5 * (projected + projected.T))
    residuals = torch.linalg.vector_norm(images @ rotation - basis @ (rotation * values), dim=0)
    w = min(wanted, len(values))
    low, high = basis @ rotation[:, :w], basis @ rotation[:, -w:].flip(1)
    return Ritz(values, low, high, residuals, taken, columns, op.n)


def start_block(operator: Operator, columns: int, seed: int, stream: int) -> Tensor:
    """Gaussian float64 (n, columns), numbered by seed and stream, made a column at a time."""
    made = torch.empty((operator.n, columns), dtype=torch.float64, device=operator.device)
    for column in range(columns):
        made[:, column] = gaussian.normal(
            (operator.n,), seed=seed, purpose=PURPOSE_START, row_offset=stream * (1 << 20) + column,
            dtype=torch.float64, device=operator.device,
        )  # fmt: skip
    return made


def _orthonormal(block: Tensor, basis: Tensor | None) -> Tensor:
    """An orthonormal basis of what the block adds to the basis; no columns where it adds nothing."""
    size = float(torch.linalg.vector_norm(block, dim=0).max())
    for _ in range(2 if basis is not None else 0):  # twice is enough: Kahan and Parlett
        assert basis is not None
        block = block - basis @ (basis.T @ block)
    Q: Tensor
    Q, R = torch.linalg.qr(block)
    kept = R.diagonal().abs() > _DEPENDENT * max(size, 1e-300)
    if bool(kept.all()):
        return Q
    Q = Q[:, kept]
    if basis is None or Q.shape[1] == 0:
        return Q
    again: Tensor = torch.linalg.qr(Q - basis @ (basis.T @ Q)).Q
    return again
