"""From pairs of points to a map: descent on random maps until they are deterministic, then on the largest distortion.

The first is perturbed gradient descent (`sdp.PGD`, with momentum), since a map of M = 0 is a saddle, and a certificate
(`sdp.certify_function`) says what was reached; the second is L-BFGS. Both work in axes of the span rescaled so that the
secants spread equally along each, without which PGD is some ten times slower on real data.

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

from sdp.jl.differentiable import value
from sdp.jl.objective import Cost, Deviation, Moments, Objective, Squares, Violations
from sdp.jl.secants import AllPairs, Matrix, Secants, SomePairs, coincidence, pair_blocks
from sdp.optim.certificate import Certificate
from sdp.optim.certify_function import certify_function
from sdp.optim.pgd import PGD
from sdp_kernels import gaussian

OBJECTIVES = ("moments", "violations", "direct")
PURPOSE_START, PURPOSE_PAIRS = 121, 122
POWERS = (2.0, 4.0, 8.0, 16.0)  # of the moment form; at 2 it is one expectation, which the lemma is about
BETAS = tuple(float(beta) for beta in np.geomspace(20.0, 3000.0, 10))
MEMORY = 30  # of L-BFGS, in pairs of vectors
LAM = 1.0  # weight of s^2 / 2
START = (
    0.5  # of a Gaussian map, M's size at the start: the saddle M = 0 itself takes hundreds of steps to leave
)
MOMENTUM = 0.9
PGD_STEPS = 3  # of them for each iteration of a stage of L-BFGS
PGD_EPS = 1e-4  # gradient at which PGD perturbs, and at last stops
SOSP_EPS, SOSP_CURVATURE = (
    1e-3,
    1e-2,
)  # tolerances of the certificate, for the mean square distortion plus lam s^2 / 2
SOSP_DELTA = 1e-6
VIOLATION_ROUNDS = 3  # each with the tolerance that a tenth of the secants violates
VIOLATED = 0.1
FLOOR = 8.0  # the noise floor's standard deviation of a stretch, 2 tau / sqrt(k), is eps / 4

FIRST_PAIRS_PER_POINT = 40  # of the active set
SAMPLED_AT_ONCE = 1 << 12  # differences formed together
WORST_PAIRS_PER_POINT = 8  # added a round
ACTIVE_ROUNDS = 12
SETTLED = 1.01  # all pairs against those that were learned

LEAST_SHARE = 1e-6  # of an axis in the secants, where all had 1

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]  # first, second
Report = Callable[[str, float], None]  # stage, largest distortion of the pairs looked at


@dataclass(frozen=True)
class Learned:
    """A map in the coordinates of the span.

    Attributes:
        M: (k, r) float64.
        s: standard deviation that was left to the random map before it was set to 0; 0 for "direct".
        certificate: of that point, for the cost that the lemma is about; None for "direct", or where none was asked.
        n_pairs: pairs that were learned.
    """

    M: Matrix
    s: float
    certificate: Certificate | None
    n_pairs: int


def learn(
    points: Matrix,
    pairs: Pairs | None,
    k: int,
    *,
    objective: str,
    seed: int,
    iterations: int,
    certify: bool,
    report: Report,
) -> Learned:
    """A map (k, r) of small largest distortion on these pairs.

    Args:
        points: (n, r), coordinates in the span.
        pairs: which pairs, at least one; None for all.
        k: rows of the map, 1 <= k < r.
        objective: "moments" or "violations", which begin with a random map of variance s^2 = 1 about M near 0, or
            "direct", M itself from a Gaussian.
        seed: of the start and of the perturbations.
        iterations: of each stage.
        certify: whether to certify what the descent on random maps reached.
        report: called after each stage.
    """
    r = points.shape[1]
    axes = axis_scales(points, pairs)
    secants = secants_of(points, pairs, axes)
    normals = gaussian.normal((k, r), seed=seed, purpose=PURPOSE_START, dtype=torch.float64).numpy() / k**0.5
    certificate, s = None, 0.0
    M = normals
    if objective != "direct":
        x, final = _reach_deterministic(secants, START * normals / axes, objective, seed, iterations, report)
        M, s = x[:-1].reshape(k, r) * axes, abs(float(x[-1]))
        if certify:
            certificate = _certificate(
                Objective(secants_of(points, pairs), final, k, power=None, lam=LAM), M, s, seed
            )
        if objective == "moments":
            for power in POWERS[1:]:
                x = _descend(Objective(secants, Moments(k), k, power=power, lam=LAM), x, iterations)
                report("moments", _largest(secants, x, k))
            M = x[:-1].reshape(k, r) * axes
    M = refine(secants, M / axes, BETAS, iterations, report) * axes
    return Learned(M, s, certificate, round(float(secants.weights.sum())))


def refine(secants: Secants, M: Matrix, betas: tuple[float, ...], iterations: int, report: Report) -> Matrix:
    """M (k, r) moved to a smaller largest distortion by logsumexp descent with these rising powers."""
    k = len(M)
    x = np.append(M.ravel(), 0.0)
    for beta in betas:
        x = _descend(Objective(secants, Deviation(), k, power=beta, lam=0.0), x, iterations)
        report("largest distortion", _largest(secants, x, k))
    return x[:-1].reshape(M.shape)


def learn_all(
    points: Matrix,
    k: int,
    *,
    objective: str,
    seed: int,
    iterations: int,
    certify: bool,
    dense_limit: int,
    report: Report,
) -> Learned:
    """As `learn`, for all pairs of points (n, r): at once up to `dense_limit` points, beyond that by active sets."""
    pairs = None if len(points) <= dense_limit else _sampled_pairs(points, seed)
    learned = learn(
        points,
        pairs,
        k,
        objective=objective,
        seed=seed,
        iterations=iterations,
        certify=certify,
        report=report,
    )
    if pairs is None:
        return learned
    M, axes = learned.M, axis_scales(points, pairs)
    for _ in range(ACTIVE_ROUNDS):
        Y = points @ M.T
        q = SomePairs(points, *pairs).stretch(Y)
        known = float(np.abs(q - 1.0).max())
        *worst, largest = _worst_pairs(points, Y, WORST_PAIRS_PER_POINT * len(points))
        report("all pairs", largest)
        if largest <= SETTLED * known:
            break
        pairs = _merged(len(points), *pairs, *worst)
        M = refine(secants_of(points, pairs, axes), M / axes, BETAS[3:], iterations, report) * axes
    return Learned(M, learned.s, learned.certificate, len(pairs[0]))


def secants_of(points: Matrix, pairs: Pairs | None, axes: Matrix | None = None) -> Secants:
    """These pairs, or all; maps are applied to the points with each axis multiplied by its scale."""
    coordinates = points if axes is None else points * axes
    return AllPairs(points, coordinates) if pairs is None else SomePairs(points, *pairs, coordinates)


def axis_scales(points: Matrix, pairs: Pairs | None) -> Matrix:
    """(r,) scales of the axes that make secants spread equally along all of them: (r mean u_a^2)^(-1/2).

    A sample of the pairs decides, which changes how fast a descent is and nothing else.
    """
    first, second = _sampled_pairs(points, seed=0) if pairs is None else pairs
    total, r = np.zeros(points.shape[1]), points.shape[1]
    for start in range(0, len(first), SAMPLED_AT_ONCE):
        part = slice(start, start + SAMPLED_AT_ONCE)
        squares = (points[first[part]] - points[second[part]]) ** 2
        total += (squares / squares.sum(axis=1, keepdims=True)).sum(axis=0)
    share = total / max(len(first), 1)
    # An axis that no sampled pair uses would get an infinite scale: it gets the largest of the others.
    scales: Matrix = 1.0 / np.sqrt(r * np.maximum(share, LEAST_SHARE / r))
    return scales


def _reach_deterministic(
    secants: Secants, M: Matrix, objective: str, seed: int, iterations: int, report: Report
) -> tuple[Matrix, Cost]:
    """Descends in M and s until the random map is one map for all that matters; the point, and the cost there."""
    k = len(M)
    current = Objective(secants, Moments(k), k, power=POWERS[0], lam=LAM)
    x = _perturbed_descent(current, np.append(M.ravel(), 1.0), seed, PGD_STEPS * iterations)
    x = _descend(current, x, iterations)
    report("moments", _largest(secants, x, k))
    if objective == "moments":
        return x, Squares(k)
    cost: Cost = Squares(k)
    for _ in range(VIOLATION_ROUNDS):
        off = np.abs(current.stretches(x) - 1.0)[secants.weights > 0]
        eps = float(np.clip(np.quantile(off, 1.0 - VIOLATED), 1e-3, 0.9))
        tau2 = k * (eps / FLOOR) ** 2
        x[-1] = tau2**0.5  # noise again, as much as the floor, for the descent to take away
        cost = Violations(k, eps, tau2)
        current = Objective(secants, cost, k, power=None, lam=LAM)
        x = _descend(current, x, max(1, iterations // 4))
        report("violations", _largest(secants, x, k))
    return x, cost


def _perturbed_descent(objective: Objective, start: Matrix, seed: int, steps: int) -> Matrix:
    """`sdp.PGD` with momentum, for so many steps or until it stops by itself."""
    x = torch.from_numpy(start.copy()).requires_grad_(True)
    optimizer = PGD([x], lr=1.0, momentum=MOMENTUM, eps=PGD_EPS, seed=seed)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = value(objective, x)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(steps):
        if optimizer.is_done:
            break
        optimizer.step(closure)
    return x.detach().numpy()


def _certificate(objective: Objective, M: Matrix, s: float, seed: int) -> Certificate:
    """The project's own certificate of second-order stationarity at (M, s)."""
    x = torch.from_numpy(np.append(M.ravel(), s)).requires_grad_(True)
    return certify_function(
        lambda: value(objective, x), [x], eps=SOSP_EPS, curvature=SOSP_CURVATURE, delta=SOSP_DELTA, seed=seed
    )


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
    Y = secants.coordinates @ x[:-1].reshape(k, -1).T
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
