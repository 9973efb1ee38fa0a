"""Upper bounds on the maximum cut that are proved, from any dual vector.

Let A be the adjacency matrix, W = sum_{i<j} w_ij, and M = Diag(h) + A for any h in R^n. A partition s has cut
(W - s'As/2) / 2, and s'Ms = sum_i h_i + s'As, so for any d > 0

    maxcut <= W/2 + (sum_i h_i + tau sum_i d_i) / 4      if      D^-1/2 M D^-1/2 >= -tau I,   D = Diag(d).

At the optimum of the relaxation h_i = |g_i| and tau = 0 (in the notation of Delorme and Poljak (1993):
y_i = -(deg_i + h_i)/4 for C = -Lap/4). d is the weighted degree plus a little, so the scaled matrix has its
spectrum in [-1, 2] and hubs do not set its width.

tau comes from a dense symmetric eigensolver for small graphs, and otherwise from the block Chebyshev
certificate of `sdp.optim.chebyshev`: with B = I - 2 D^-1/2 M D^-1/2 / up and Y = T_k(B) X for Gaussian X of c columns,
max_j |Y_j| bounds T_k(1 + 2 tau/up). It holds for every k of one run at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdp.maxcut._sums import exact_sum
from sdp.maxcut.graph import Graph
from sdp.maxcut.placement import between_looks, empty
from sdp.maxcut.problem import Problem
from sdp.maxcut.recurrence import Dual, recurrence, scaled_weights
from sdp.optim.chebyshev import COLUMNS as COLUMNS
from sdp.optim.chebyshev import TOO_LARGE, Growth
from sdp.optim.chebyshev import UNIT_ROUNDOFF as UNIT_ROUNDOFF
from sdp.optim.chebyshev import quantile as _quantile
from sdp.optim.chebyshev import steps_for as steps_for
from sdp_kernels.gaussian import normal
from sdp_kernels.graph import CSR, adjacency_product

DENSE_VERTICES = 2000
STEPS_A_LOOK = (
    8  # on a device: so many grow a block by 10^6 at the very most, which leaves its columns independent
)
PURPOSE_BLOCK = 302  # of the start block, beside the streams in `relax.py` and those of `sdp.optim`
_DEGREE_SHARE = 0.05  # of the mean weighted degree, added to every d_i so that small vertices are not free
LONGER = 1.75  # times the steps asked for: a goal so near costs less than to sweep on and to begin again
_OVERSHOOT = 1.2  # Ritz values lie above the eigenvalues they stand for
_EIGENSOLVER_ULPS = 4.0  # LAPACK's error is a small multiple of n ulps of the norm


@dataclass(frozen=True)
class Bound:
    """An upper bound on the maximum cut.

    Attributes:
        value: in units of the graph's weights; rounded down where all cuts are integers.
        kind: "dense" (eigenvalues of the whole matrix), "chebyshev", "sum of positive weights", or, from other rooms,
            "cycle packing", "matching" or "exact reduction".
        delta: probability that the bound is wrong, over its own random numbers; 0 for the other kinds.
        h: float64 (n,), the dual vector in problem order and units, or None.
        steps: of the Chebyshev recurrence; 0 for the other kinds.
    """

    value: float
    kind: str
    delta: float
    h: Tensor | None = None
    steps: int = 0


@dataclass(frozen=True)
class ScaledDual:
    """D^-1/2 (Diag(h) + A) D^-1/2 of a dual vector h.

    Attributes:
        rows: CSR of the entries off the diagonal, float64.
        diagonal: float64 (n,).
        d: float64 (n,), the scaling.
        upper: `largest_eigenvalue`.
    """

    rows: CSR
    diagonal: Tensor
    d: Tensor
    upper: float

    @staticmethod
    def of(problem: Problem, h: Tensor) -> ScaledDual:
        """Scales by the weighted degree."""
        csr, d = problem.csr, scaling(problem)
        rows = CSR(csr.indptr, csr.indices, scaled_weights(csr, d.rsqrt()))
        return ScaledDual(rows, h / d, d, largest_eigenvalue(problem, h))


def scaling(problem: Problem) -> Tensor:
    """d, float64 (n,): the weighted degree and a little of its mean. The same for every dual vector."""
    mean = float(problem.degrees.mean())
    return problem.degrees + (_DEGREE_SHARE * mean if mean > 0 else 1.0)


def largest_eigenvalue(problem: Problem, h: Tensor) -> float:
    """No eigenvalue of the scaled matrix is above this (Gershgorin); at least 1."""
    return max(1.0, float(((h + problem.degrees) / scaling(problem)).max()))


def positive_weight_bound(graph: Graph) -> Bound:
    """No cut is worth more than all positive weights together; equality on bipartite graphs."""
    weights = graph.weights if graph.exact_weights is None else graph.exact_weights
    positive = weights[weights > 0]
    value = exact_sum(positive) / 2
    # What the correctly rounded sum left out: only a sum rounded down must go up, or 0 would never be proved.
    if not graph.is_integer and exact_sum(np.append(positive.astype(np.float64), -2 * value)) > 0:
        value = math.nextafter(value, math.inf)
    return Bound(value, "sum of positive weights", 0.0)


def dense_bound(problem: Problem, h: Tensor) -> Bound:
    """Bound of a dual vector by all eigenvalues of the n x n matrix; deterministic.

    Args:
        problem: at most a few thousand vertices.
        h: float64 (n,), any dual vector, in problem units.

    Complexity: O(n^3); 1 s at n = 2000.
    """
    scaled = ScaledDual.of(problem, h)
    n = problem.n_vertices
    matrix = torch.diag(scaled.diagonal)
    rows = torch.repeat_interleave(torch.arange(n, device=h.device), scaled.rows.indptr.diff())
    matrix[rows, scaled.rows.indices] = scaled.rows.weights
    # On the CPU wherever h is: the error bound below is LAPACK's.
    lowest = float(torch.linalg.eigvalsh(matrix.cpu())[0])
    # Off the diagonal the norm is at most 1; h may be negative and its size far above `upper`.
    error = _EIGENSOLVER_ULPS * n * UNIT_ROUNDOFF * (1 + float(scaled.diagonal.abs().max()))
    return Bound(_Value(problem, h, scaled.d)(max(0.0, error - lowest)), "dense", 0.0, h)


def chebyshev_bound(
    problem: Problem,
    h: Tensor,
    *,
    steps: int,
    delta: float,
    seed: int,
    columns: int = COLUMNS,
    should_stop: Callable[[float], bool] | None = None,
    most_growth: float = math.inf,
    goal: float = -math.inf,
) -> tuple[Bound, Tensor]:
    """Bound of a dual vector by the block Chebyshev certificate.

    Rounding. A step errs by at most e (`sdp.maxcut.recurrence`, of which the cheapest kind is taken). An error made j
    steps before the end grows by at most (j + 1) T_j(1 + 2 tau/up). So the component along the lowest eigenvector is at
    least T_k (q - (k + 1)(k + 2) e / 2): q is lowered by that much.

    Args:
        problem: the graph.
        h: float64 (n,), any dual vector, in problem units.
        steps: largest k, unless `goal` lies ahead; see `steps_for`.
        delta: probability, over `seed`, that the bound is wrong; in (0, 1).
        seed: of the Gaussian start block, which is the same on every device to the rounding of float64; must not have
            been used to make h.
        columns: of the block.
        should_stop: asked with the bound so far (graph units), after every step on the CPU and after a few on a device;
            True ends the run.
        most_growth: ends the run when a column is so many times sqrt(n) long. Without eigenvalues below 0 none
            grows beyond about 1: the block then consists of their eigenvectors, and more steps prove little more.
        goal: a bound, in graph units, that is worth more steps: neither `steps` nor `most_growth` ends the run while
            `Growth.foreseen` sees it within LONGER times `steps`.

    Returns:
        The bound (infinite when nothing was proved) and the last block, float64 (n, c), which is rich in the lowest
        eigenvectors.

    Complexity: O(steps m columns).
    """
    n = problem.n_vertices
    start = empty((n, columns), torch.float64, h.device)
    normal((n, columns), seed=seed, purpose=PURPOSE_BLOCK, out=start)
    dual = Dual(h, scaling(problem), largest_eigenvalue(problem, h))
    made = recurrence(problem, dual, start)
    growth = Growth(
        dual.upper,
        _quantile(delta, columns),
        made.step_error,
        made.largest,
        rounding=made.rounding,
        known=made.known,
    )
    value_of = _Value(problem, h, dual.d)
    batch = between_looks(h.device, problem.csr.indices.numel() * columns, STEPS_A_LOOK)
    too_long = most_growth * math.sqrt(n)
    most_steps, wanted = max(steps, round(LONGER * steps)), value_of.lack(goal)
    k, norm = 1, made.largest
    while k < steps or growth.foreseen(wanted) <= most_steps:
        part = min(batch, (steps if k < steps else most_steps) - k)
        if part <= 0:
            break
        # Every step's norm is read, late or not: the rounding error is measured by the longest block of all.
        for square in made.take(part):
            k, norm = k + 1, math.sqrt(square)
            growth.after(k, norm)
        if should_stop is not None and should_stop(value_of(growth.tau)):
            break
        if not norm <= TOO_LARGE or (norm > too_long and growth.foreseen(wanted) > most_steps):
            break
    return Bound(value_of(growth.tau), "chebyshev", delta, h, k), made.block


def ritz_vectors(problem: Problem, h: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
    """Rayleigh-Ritz on a block: values float64 (c,) rising, and vectors float64 (n, c), of the scaled matrix.

    Ritz values are estimates from above; they show where h is too small but prove nothing.
    """
    scaled = ScaledDual.of(problem, h)
    basis = torch.linalg.qr(block).Q.contiguous()
    product = adjacency_product(scaled.rows, basis) + scaled.diagonal[:, None] * basis
    values, rotation = torch.linalg.eigh(basis.T @ product)
    return values, basis @ rotation


def shares(d: Tensor, vectors: Tensor) -> list[float]:
    """Share of the graph that each unit vector fills, in (0, 1]: (sum_i d_i^1/2 |u_i|)^2 / sum_i d_i."""
    masses = d.sqrt() @ vectors.abs()
    return (masses.square() / d.sum()).tolist()


def repair(problem: Problem, h: Tensor, values: Tensor, vectors: Tensor) -> Tensor:
    """Raises h where the vectors with negative Ritz values live, at the least cost to the bound.

    Diag(delta) >= theta u u' holds when sum_i theta u_i^2 / delta_i <= 1, and among those sum_i d_i delta_i is least
    for delta_i = theta |u_i| d_i^-1/2 sum_k d_k^1/2 |u_k|. A vector that fills a share c of the graph then costs
    theta c sum d, where raising tau for all of it would cost theta sum d: worth it while the shares add up to
    less than 1. Measured: wordnet-cooc has negative eigenvectors with shares of 1e-4.

    Args:
        problem: the graph.
        h: float64 (n,).
        values: float64 (c,) rising Ritz values.
        vectors: float64 (n, c) their vectors.

    Returns:
        float64 (n,), h or a vector above it.
    """
    d = scaling(problem)
    root = d.sqrt()
    raised, spent = h, 0.0
    masses = torch.stack([(root * u.abs()).sum() for u in vectors.T]).tolist()
    columns = zip((-values).tolist(), vectors.T, masses, shares(d, vectors), strict=True)
    for theta, u, mass, share in columns:
        spent += share
        if theta <= 0 or spent >= 1:
            break
        raised = raised + _OVERSHOOT * theta * mass * root * u.abs()
    return raised


class _Value:
    """The bound of one dual vector as a function of tau, in graph units, rounded to the safe side."""

    def __init__(self, problem: Problem, h: Tensor, d: Tensor) -> None:
        self._problem = problem
        (self._sum_h, error_h), (self._sum_d, error_d) = _sum(h), _sum(d)
        self._error_h, self._error_d = error_h, error_d

    def __call__(self, tau: float) -> float:
        if not math.isfinite(tau):
            return math.inf
        problem = self._problem
        dual = self._sum_h + tau * self._sum_d
        scaled = problem.total_weight / 2 + dual / 4 + problem.lost_weight
        # The few operations on the sums err by ulps of their terms.
        # Not of `dual`: where h is negative its two parts nearly cancel.
        terms = problem.absolute_weight + abs(self._sum_h) + tau * self._sum_d + problem.lost_weight
        slack = 8 * UNIT_ROUNDOFF * terms + (self._error_h + tau * self._error_d) / 4
        value = (scaled + slack) / problem.scale
        return float(math.floor(value)) if problem.graph.is_integer else value

    def lack(self, value: float) -> float:
        """The tau that makes a bound of about this value; at least 0."""
        problem = self._problem
        dual = 4 * (value * problem.scale - problem.total_weight / 2 - problem.lost_weight)
        return max(0.0, (dual - self._sum_h) / self._sum_d)


def _sum(x: Tensor) -> tuple[float, float]:
    """Sum of a float64 vector, and a bound on its error beyond one rounding: none on the CPU.

    On a device n additions in any order err by at most n u sum |x|, to which a little is added for the roundings of
    that sum itself: 1e-9 of it at ten million vertices, where moving the vector to sum it exactly would take a second.
    """
    if x.device.type == "cpu":
        return exact_sum(x.numpy()), 0.0
    total, size = torch.stack((x.sum(), x.abs().sum())).tolist()
    return total, 1.01 * x.numel() * UNIT_ROUNDOFF * size
