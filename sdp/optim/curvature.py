"""Bounds on the lowest eigenvalue of a symmetric operator: certified from below, by a vector from above.

Up to DENSE_SIZE the matrix is formed and all eigenvalues computed. Beyond, Lanczos guesses the spectrum's ends, the
block Chebyshev certificate (`chebyshev.py`) proves a lower bound with probability 1 - delta, and the Rayleigh
quotient of a Ritz vector is the upper bound. Kuczynski and Wozniakowski's bound of the same Lanczos run stands beside
it, for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdp.optim.chebyshev import COLUMNS, TOO_LARGE, UNIT_ROUNDOFF, Growth, quantile, steps_for
from sdp.optim.lanczos import lanczos, start_block
from sdp.optim.operator import Operator, as_operator, check_symmetric

DENSE_SIZE = 2000
LANCZOS_STEPS = 30
TOLERANCE = 1e-2  # of the spectrum's width
MAX_STEPS = 2000
_EIGENSOLVER_ULPS = 4.0  # LAPACK's error is a small multiple of n ulps of the norm
_RERUNS = 4
_LANCZOS_STREAM, _CHEBYSHEV_STREAM = 1, 2


@dataclass(frozen=True, eq=False)
class CurvatureBounds:
    """Bounds on the lowest eigenvalue.

    Attributes:
        lower: no eigenvalue is below this, with probability at least 1 - delta; -inf where nothing was proved.
        upper: some eigenvalue is at most this.
        direction: (n,) float64 unit vector whose Rayleigh quotient gives `upper`.
        method: "dense" or "chebyshev".
        delta: probability that `lower` is wrong; 0 for "dense".
        kuczynski: the classical lower bound of the Lanczos run, wrong with probability at most delta; -inf if
            it proves nothing, or was not computed ("dense").
        products: columns that the operator multiplied.
        steps: of the recurrence.
        largest: estimate of the highest eigenvalue.
        notes: what is assumed, in words.
    """

    lower: float
    upper: float
    direction: Tensor
    method: str
    delta: float
    kuczynski: float
    products: int
    steps: int
    largest: float
    notes: tuple[str, ...] = ()


def curvature_bounds(
    operator: Any,
    n: int | None = None,
    *,
    delta: float = 1e-2,
    target: float | None = None,
    tolerance: float = TOLERANCE,
    columns: int = COLUMNS,
    max_steps: int = MAX_STEPS,
    dense_size: int = DENSE_SIZE,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> CurvatureBounds:
    """Bound the lowest eigenvalue of a symmetric operator from both sides.

    Args:
        operator: a matrix, a scipy LinearOperator, or a function (n, c) -> (n, c); see `operator.as_operator`.
        n: size, for a function.
        delta: probability, over `seed`, that the lower bound is wrong; in (0, 1).
        target: stop as soon as the lower bound reaches this.
        tolerance: otherwise stop when it lies within this share of the spectrum's width of the lowest Ritz value.
        columns: of the block; 8 fill a cache line, 4 take less memory.
        max_steps: the most steps of the recurrence.
        dense_size: up to this size the matrix is formed.
        seed: of all start blocks, in [0, 2^63).
        progress: called with the step and the number of steps.
        **options: of `as_operator`.

    Raises:
        ValueError: not symmetric, not finite, or a number out of its range.

    Complexity: dense O(n^3); otherwise 30 + steps * columns products, steps ~ ln(n) / (2 sqrt(tolerance)).

    >>> bounds = curvature_bounds(torch.diag(torch.tensor([-0.5, 1.0, 2.0])))
    >>> round(bounds.lower, 6), round(bounds.upper, 6), bounds.method
    (-0.5, -0.5, 'dense')
    """
    if not 0.0 < delta < 1.0:
        raise ValueError(f"`delta` must lie in (0, 1); got {delta}.")
    if not 0.0 < tolerance < 1.0:
        raise ValueError(f"`tolerance` must lie in (0, 1); got {tolerance}.")
    for name, count in (("columns", columns), ("max_steps", max_steps)):
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1; got {count}.")
    op = as_operator(operator, n, **options)
    if op.n <= dense_size:
        return _dense(op)
    return _certified(op, delta, target, tolerance, min(columns, op.n), max_steps, seed, progress)


def _dense(op: Operator) -> CurvatureBounds:
    block = 256
    matrix = torch.empty((op.n, op.n), dtype=torch.float64, device=op.device)
    for start in range(0, op.n, block):
        width = min(block, op.n - start)
        unit = torch.zeros((op.n, width), dtype=torch.float64, device=op.device)
        unit[start : start + width] = torch.eye(width, dtype=torch.float64, device=op.device)
        matrix[:, start : start + width] = op(unit)
    size = float(torch.linalg.matrix_norm(matrix))
    skew = float(torch.linalg.matrix_norm(matrix - matrix.T))
    # n columns, each within the operator's error, half of which symmetrising may leave.
    rounding = op.relative_error * math.sqrt(op.n) * size
    if skew > 1e4 * rounding + 1e-300:
        raise ValueError(f"`operator` must be symmetric; |M - M'| is {skew:.3g} where |M| is {size:.3g}.")
    values, vectors = torch.linalg.eigh(0.5 * (matrix + matrix.T))
    error = rounding + _EIGENSOLVER_ULPS * op.n * UNIT_ROUNDOFF * float(values.abs().max())
    lowest = float(values[0])
    return CurvatureBounds(
        lowest - error, lowest + error, vectors[:, 0], "dense", 0.0, -math.inf, op.products, 0,
        float(values[-1]), _assumptions(op),
    )  # fmt: skip


def _certified(
    op: Operator,
    delta: float,
    target: float | None,
    tolerance: float,
    columns: int,
    max_steps: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> CurvatureBounds:
    ritz = lanczos(op, steps=min(LANCZOS_STEPS, op.n), seed=seed, stream=_LANCZOS_STREAM)
    start = start_block(op, columns, seed, _CHEBYSHEV_STREAM)
    check_symmetric(op, start[:, 0], start[:, -1] if columns > 1 else ritz.lowest[:, 0])
    low, high = float(ritz.values[0]), float(ritz.values[-1])
    high += min(float(ritz.residuals[-1]), 0.1 * (high - low))
    direction, lower, steps = ritz.lowest[:, 0], -math.inf, 0
    if target is not None and low > target:  # halfway to the target is as good as the target
        tolerance = max(min(tolerance, 0.5 * (low - target) / max(high - low, 1e-300)), 1e-12)
    for _ in range(_RERUNS):
        width = max(1.001 * (high - low), 1e-10 * max(abs(low), abs(high)), 1e-300)
        wanted = min(steps_for(tolerance * width, op.n, width, delta, columns), max_steps)
        run = _run(op, start, low, width, delta, target, tolerance, wanted, progress)
        lower, steps = max(lower, run.lower), steps + run.steps
        # The block is rich in what the guess left out, at either end. All runs of one start hold at once.
        values, vectors = _ritz_of_block(op, run.block)
        reached = target is not None and lower >= target
        if float(values[0]) < low:
            direction = vectors[:, 0]
        if reached or run.lower >= low - 2.0 * tolerance * width:
            break
        below, above = float(values[0]) < low, float(values[-1]) > low + width
        if not (below or above):
            break
        low = min(low, float(values[0]))
        high = max(high, float(values[-1]) + 0.02 * width) if above else high
    image = op(direction[:, None])[:, 0]
    quotient = float(direction @ image) / float(direction @ direction)
    slack = (op.relative_error + op.n**0.5 * UNIT_ROUNDOFF) * max(abs(low), abs(high))
    notes = _assumptions(op)
    if not math.isfinite(lower):
        notes = (*notes, "rounding left nothing to prove: use float64, or a larger tolerance")
    return CurvatureBounds(
        lower, quotient + slack, direction, "chebyshev", delta, ritz.lower_bound(delta), op.products, steps,
        high, notes,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Run:
    lower: float
    steps: int
    block: Tensor


def _run(
    op: Operator,
    start: Tensor,
    low: float,
    width: float,
    delta: float,
    target: float | None,
    tolerance: float,
    steps: int,
    progress: Callable[[int, int], None] | None,
) -> _Run:
    """Y = T_k(I - 2 (M - low) / width) X, and what its length proves after every step."""
    slope, shift = -2.0 / width, 1.0 + 2.0 * low / width
    size = max(abs(low), abs(low + width))
    # Of one step, relative to the longest column: the product, and a dozen roundings of the recurrence's own terms.
    step_error = 2.0 * (-slope * op.relative_error * size + 6.0 * UNIT_ROUNDOFF * (1.0 + 2.0 * size / width))
    previous = start
    current = op(previous).mul_(slope).add_(previous, alpha=shift)
    norms = [float(torch.linalg.vector_norm(block, dim=0).max()) for block in (previous, current)]
    growth = Growth(width, quantile(delta, start.shape[1]), step_error, max(norms))
    k = 1
    for k in range(2, steps + 1):
        following = op(current).mul_(2.0 * slope).add_(current, alpha=2.0 * shift).sub_(previous)
        previous, current = current, following
        norm = float(torch.linalg.vector_norm(current, dim=0).max())
        tau = growth.after(k, norm)
        if progress is not None:
            progress(k, steps)
        if norm > TOO_LARGE or tau <= tolerance * width or (target is not None and low - tau >= target):
            break
    # The shift and the width are numbers of floating point; a few ulps of them pay for low - tau.
    return _Run(low - growth.tau - 4.0 * UNIT_ROUNDOFF * size, k, current)


def _ritz_of_block(op: Operator, block: Tensor) -> tuple[Tensor, Tensor]:
    """Rayleigh-Ritz on the last block: values rising, vectors (n, c)."""
    basis = torch.linalg.qr(block / torch.linalg.vector_norm(block, dim=0)).Q
    values, rotation = torch.linalg.eigh(basis.T @ op(basis))
    return values, basis @ rotation


def _assumptions(op: Operator) -> tuple[str, ...]:
    if not op.is_assumed:
        return ()
    return (f"assumes that products err by at most {op.relative_error:.1g} of the operator's norm",)
