"""From pairs of points to a map: descent on random maps until they are deterministic, then on the largest distortion.

`learn` does it for given pairs; `learn_all` for all pairs of many points, by active sets: learn on some pairs, look at
all of them, add the worst, and go on until none is worse than those that were learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from sdp.jl.objective import Deviation, Moments, Objective, Violations
from sdp.jl.secants import AllPairs, Matrix, Secants, SomePairs, coincidence, pair_blocks
from sdp_kernels import gaussian

OBJECTIVES = ("moments", "violations", "direct")
PURPOSE_START, PURPOSE_PAIRS = 121, 122
POWERS = (2.0, 4.0, 8.0, 16.0)  # of the moment form; at 2 it is one expectation, which the lemma is about
BETAS = tuple(float(beta) for beta in np.geomspace(20.0, 3000.0, 10))
MEMORY = 30  # of L-BFGS, in pairs of vectors
LAM = 1.0  # weight of s^2 / 2
START = 1e-3  # size of M's entries at the start: M = 0 is a saddle by symmetry
VIOLATION_ROUNDS = 3  # each with the tolerance that a tenth of the secants violates
VIOLATED = 0.1
FLOOR = 8.0  # the noise floor's standard deviation of a stretch, 2 tau / sqrt(k), is eps / 4

FIRST_PAIRS_PER_POINT = 40  # of the active set
SAMPLED_AT_ONCE = 1 << 12  # differences formed together
WORST_PAIRS_PER_POINT = 8  # added a round
ACTIVE_ROUNDS = 12
SETTLED = 1.01  # all pairs against those that were learned

Report = Callable[[str, float], None]  # stage, largest distortion of the pairs looked at


@dataclass(frozen=True)
class Stationary:
    """Where the descent on random maps ended.

    Attributes:
        objective: what was minimised last of what the lemma is about.
        x: its point, M row by row and s behind it.
    """

    objective: Objective
    x: Matrix


@dataclass(frozen=True)
class Learned:
    """A map in the coordinates of the span.

    Attributes:
        M: (k, r) float64.
        s: standard deviation that was left to the random map before it was set to 0; 0 for "direct".
        stationary: where that was; None for "direct".
        n_pairs: pairs that were learned.
    """

    M: Matrix
    s: float
    stationary: Stationary | None
    n_pairs: int


def learn(secants: Secants, k: int, *, objective: str, seed: int, iterations: int, report: Report) -> Learned:
    """A map (k, r) of small largest distortion on these pairs.

    Args:
        secants: the pairs, at least one.
        k: rows of the map, 1 <= k < r.
        objective: "moments" or "violations", which begin with a random map of variance s^2 = 1 about M near 0, or
            "direct", M itself from a Gaussian.
        seed: of the start.
        iterations: iterations of each stage.
        report: called after each stage.
    """
    r = secants.points.shape[1]
    normals = gaussian.normal((k, r), seed=seed, purpose=PURPOSE_START, dtype=torch.float64).numpy()
    x = np.append(normals.ravel() / k**0.5, 0.0)
    stationary = None
    if objective != "direct":
        x = np.append(START * normals.ravel(), 1.0)
        stationary = _reach_deterministic(secants, k, x, objective, iterations, report)
        x = stationary.x
        if objective == "moments":
            for power in POWERS[1:]:
                x = _descend(Objective(secants, Moments(k), k, power=power, lam=LAM), x, iterations)
                report("moments", _largest(secants, x, k))
    s = abs(float(x[-1]))
    M = refine(secants, x[:-1].reshape(k, r), BETAS, iterations, report)
    return Learned(M, s, stationary, int(np.count_nonzero(secants.weights)))


def refine(secants: Secants, M: Matrix, betas: tuple[float, ...], iterations: int, report: Report) -> Matrix:
    """M (k, r) moved to a smaller largest distortion by logsumexp descent with these rising powers."""
    k = len(M)
    x = np.append(M.ravel(), 0.0)
    for beta in betas:
        x = _descend(Objective(secants, Deviation(), k, power=beta, lam=0.0), x, iterations)
        report("largest distortion", _largest(secants, x, k))
    return x[:-1].reshape(M.shape)


def learn_all(
    points: Matrix, k: int, *, objective: str, seed: int, iterations: int, dense_limit: int, report: Report
) -> Learned:
    """As `learn`, for all pairs of points (n, r): at once up to `dense_limit` points, beyond that by active sets."""
    if len(points) <= dense_limit:
        return learn(
            AllPairs(points), k, objective=objective, seed=seed, iterations=iterations, report=report
        )
    first, second = _sampled_pairs(points, seed)
    learned = learn(
        SomePairs(points, first, second),
        k,
        objective=objective,
        seed=seed,
        iterations=iterations,
        report=report,
    )
    M = learned.M
    for _ in range(ACTIVE_ROUNDS):
        Y = points @ M.T
        q = SomePairs(points, first, second).stretch(Y)
        known = float(np.abs(q - 1.0).max())
        worst_first, worst_second, largest = _worst_pairs(points, Y, WORST_PAIRS_PER_POINT * len(points))
        report("all pairs", largest)
        if largest <= SETTLED * known:
            break
        first, second = _merged(len(points), first, second, worst_first, worst_second)
        M = refine(SomePairs(points, first, second), M, BETAS[3:], iterations, report)
    return Learned(M, learned.s, learned.stationary, len(first))


def balanced(M: Matrix, lowest: float, highest: float) -> Matrix:
    """M scaled so that its smallest and largest stretch lie equally far from 1: the best that scaling can do."""
    return M * (2.0 / (lowest + highest)) ** 0.5 if lowest + highest > 0 else M


def _reach_deterministic(
    secants: Secants, k: int, x: Matrix, objective: str, iterations: int, report: Report
) -> Stationary:
    """Descends in M and s, until the random map is one map for all that matters."""
    current = Objective(secants, Moments(k), k, power=POWERS[0], lam=LAM)
    x = _descend(current, x, iterations)
    report("moments", _largest(secants, x, k))
    if objective == "moments":
        return Stationary(current, x)
    for _ in range(VIOLATION_ROUNDS):
        off = np.abs(current.stretches(x) - 1.0)[secants.weights > 0]
        eps = float(np.clip(np.quantile(off, 1.0 - VIOLATED), 1e-3, 0.9))
        tau2 = k * (eps / FLOOR) ** 2
        x[-1] = tau2**0.5  # noise again, as much as the floor, for the descent to take away
        current = Objective(secants, Violations(k, eps, tau2), k, power=None, lam=LAM)
        x = _descend(current, x, iterations // 4)
        report("violations", _largest(secants, x, k))
    return Stationary(current, x)


def _descend(objective: Objective, x: Matrix, iterations: int) -> Matrix:
    found = minimize(
        objective.value_and_grad,
        x,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "maxcor": MEMORY},
    )
    point: Matrix = found.x
    return point


def _largest(secants: Secants, x: Matrix, k: int) -> float:
    Y = secants.points @ x[:-1].reshape(k, -1).T
    return float(np.abs(secants.stretch(Y) - 1.0).max(initial=0.0))


def _sampled_pairs(points: Matrix, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (first < second) of distinct points at distinct places, `FIRST_PAIRS_PER_POINT` a point and more."""
    n = len(points)
    words = gaussian.uniform_bits((n, FIRST_PAIRS_PER_POINT), seed=seed, purpose=PURPOSE_PAIRS).numpy()
    steps = 1 + words.view(np.uint32).astype(np.int64) % (n - 1)
    first = np.repeat(np.arange(n), FIRST_PAIRS_PER_POINT)
    second = (first + steps.ravel()) % n
    keys = np.unique(np.minimum(first, second) * n + np.maximum(first, second))
    first, second = keys // n, keys % n
    gaps = np.empty(len(first))
    for start in range(0, len(first), SAMPLED_AT_ONCE):
        part = slice(start, start + SAMPLED_AT_ONCE)
        difference = points[first[part]] - points[second[part]]
        gaps[part] = np.einsum("ij,ij->i", difference, difference)
    differ = gaps > coincidence(points)
    return first[differ], second[differ]


def _worst_pairs(points: Matrix, Y: Matrix, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """The `count` pairs of largest distortion among all, and the largest, by blocks."""
    n = len(points)
    keys, offs = np.empty(0, np.int64), np.empty(0)
    for top, left, q, is_pair in pair_blocks(points, Y):
        off = np.abs(q - 1.0)
        bar = float(offs.min()) if len(offs) >= count else 0.0
        i, j = np.nonzero(is_pair & (off > bar))
        keys = np.concatenate([keys, (top + i) * n + left + j])
        offs = np.concatenate([offs, off[i, j]])
        if len(offs) > count:
            kept = np.argpartition(offs, -count)[-count:]
            keys, offs = keys[kept], offs[kept]
    return keys // n, keys % n, float(offs.max(initial=0.0))


def _merged(
    n: int,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    more_first: NDArray[np.int64],
    more_second: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    keys = np.union1d(first * n + second, more_first * n + more_second)
    return keys // n, keys % n
