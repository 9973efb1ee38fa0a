"""The low-rank relaxation of MAXCUT and a proved bound from it.

    maximise  (W - sum_{i<j} w_ij v_i . v_j) / 2     over unit vectors v_i in R^r

by the over-relaxed mixing method (`sdp_kernels.graph.mixing_sweeps`): after each round of sweeps, which ends when they
add little, h_i = |g_i| is a dual vector, whose bound is certified (`sdp.maxcut.bound`). While the certified gap is
above the target the round is answered: h is raised where negative eigenvectors live, the rank is raised by them if it
may still grow, and the next round is twice as long. A small target is approached by way of `COARSE_TARGET`, so that
whoever runs out of time half-way holds a bound nearly as good as the sweeps he paid for.

Source: Burer and Monteiro (2003); Wang, Chang and Kolter (2017); Boumal, Voroninski and Bandeira (2016) for the rank.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sdp.maxcut.bound import (
    DENSE_VERTICES,
    Bound,
    chebyshev_bound,
    dense_bound,
    largest_eigenvalue,
    repair,
    ritz_vectors,
    scaling,
    shares,
    steps_for,
)
from sdp.maxcut.placement import between_looks, empty, wait, zeros
from sdp.maxcut.problem import Problem
from sdp_kernels.gaussian import normal
from sdp_kernels.graph import fields, mixing_sweeps

OMEGA = 0.9  # .8 to .95 differ little; .98 keeps h noisy for hundreds of sweeps
LARGE = 50_000  # vertices from which the rank starts low: a sweep is bound by gathering rows of V
LOW_RANK, HIGH_RANK, WIDE_RANK = 16, 64, 96
DENSE_DEGREE = (
    10  # mean degree from which a low rank stalls (preferential attachment: gap 3e-3 at 32, 7e-4 at 64)
)
PROBE_SWEEPS = 6  # at LOW_RANK, for a fiftieth of what follows
# Of `evenness`: .99 on random graphs and preferential attachment, .5 on R-MAT, .23 in wordnet-cooc.
EVEN = 0.8
FIRST_ROUND = 150  # sweeps for a target gap of FIRST_TARGET; fewer, as its fourth root, for a larger one
# Of the target: a round ends early when a sweep adds less to the value. All later ones together add about a tenth on
# R-MAT, random graphs and tori, and hardly raise the lowest eigenvalue any more.
SETTLED = 8e-3
SWEEPS_A_MEASUREMENT = 8  # of what a sweep adds, which makes that sweep a sixth longer
FIRST_TARGET, SHORTEST_ROUND = 1e-4, 20
COARSE_TARGET = 1e-3  # its certificate takes a third of the steps that one of 1e-4 takes
MOST_ROUNDS = 7  # 19,000 sweeps from FIRST_ROUND: what they do not close, more of the same would not
SETTLING = 5  # sweeps without over-relaxation that end a round: they halve tau at no cost
GROWN = (
    30.0  # times sqrt(n): a block so long holds negative eigenvectors, and h must be mended before more steps
)
SWEEPS_A_LOOK = 64  # on a device, on graphs whose sweeps are short
SWEEPING_SHARE = 0.45  # of what is left of the time, at most, for one round of sweeps
FINER = 0.7  # of each round's certificate over the one before: a fifth more steps
SPREAD_SHARE = (
    0.1  # of the graph: on random graphs the lowest eigenvectors fill .6, in wordnet-cooc 1e-4 to .3
)
CPU = torch.device("cpu")
PURPOSE_ROWS = 301  # of random rows, beside the streams in `bound.py`
WIDE_SHARE = 0.5  # of the lowest eigenvector, from which h is not mended: raising all of it would cost less
_KICK = 0.3  # length of the new columns, where the eigenvectors live, against unit rows


@dataclass(frozen=True)
class Relaxation:
    """What the relaxation found.

    Attributes:
        V: float32 (n, r), unit rows in problem order, on the problem's device.
        value: of V, in units of the graph's weights: at most the relaxation's optimum.
        bound: the best certified upper bound, or None if there was no time for one.
        sweeps: of the mixing method.
        seconds: spent.
    """

    V: Tensor
    value: float
    bound: Bound | None
    sweeps: int
    seconds: float

    def relative_gap(self, problem: Problem) -> float:
        """(bound - value) / sum |w|, infinite without a bound."""
        if self.bound is None:
            return math.inf
        return (self.bound.value - self.value) * problem.scale / problem.absolute_weight


def default_rank(problem: Problem) -> int:
    """ceil(sqrt(2n)) rounded up to a multiple of 4, at most 16 on large sparse graphs and 64 on others.

    96 on large graphs whose rows of V come to fill all dimensions alike: there it is the rank that keeps the lowest
    eigenvalue down. Random sparse, 10^6 edges: 32 sweeps at 96 and 115 steps, where 60 sweeps at 64 take 187.

    Complexity: O(m) sweeps of a low rank, on large dense graphs alone.
    """
    rank = most_columns(problem)
    return HIGH_RANK if rank == WIDE_RANK and evenness(problem) < EVEN else rank


def most_columns(problem: Problem) -> int:
    """The largest rank that `default_rank` may choose."""
    n = problem.n_vertices
    full = 4 * math.ceil(math.ceil(math.sqrt(2 * n)) / 4)
    if n < LARGE:
        return min(full, HIGH_RANK)
    return LOW_RANK if 2 * problem.n_edges < DENSE_DEGREE * n else WIDE_RANK


def evenness(problem: Problem) -> float:
    """How alike the rows of a V of low rank fill its dimensions after a few sweeps, in (0, 1].

    (sum e)^2 / (r sum e^2) of the eigenvalues e of V'V: the dimensions taken, as a share.
    """
    V = random_rows(problem.n_vertices, LOW_RANK, 0, problem.device)
    mixing_sweeps(problem.csr, problem.class_ptr, V, OMEGA, PROBE_SWEEPS)
    products = (V.T @ V).double()
    return float(products.trace() ** 2 / (LOW_RANK * products.square().sum()))


def random_rows(n: int, rank: int, seed: int, device: torch.device = CPU) -> Tensor:
    """float32 (n, rank) on a device, unit rows, uniform on the sphere; every device starts alike, to rounding."""
    rows = empty((n, rank), torch.float32, device)
    return _normalised(normal((n, rank), seed=seed, purpose=PURPOSE_ROWS, out=rows))


def relaxation_value(problem: Problem, products: Tensor) -> float:
    """(W - sum_i g_i . v_i / 2) / 2 in graph units, from the products g_i . v_i."""
    return (problem.total_weight - float(products.sum()) / 2) / 2 / problem.scale


def relax(
    problem: Problem,
    *,
    target_gap: float = 1e-4,
    time_limit: float = math.inf,
    seed: int = 0,
    delta: float = 1e-6,
    rank: int | None = None,
    report: Callable[[float, Bound], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Relaxation:
    """Solves the relaxation until its certified relative gap is at most `target_gap`.

    Args:
        problem: a graph with at least one edge.
        target_gap: of (bound - value of V) / sum |w|.
        time_limit: seconds; at least one sweep is made, and a bound is proved if time allows.
        seed: of the start and of the certificates; the same seed gives the same rounds.
        delta: probability that any of the bounds proved is wrong.
        rank: columns of V at the start; `default_rank` when None.
        report: called with the value and each new best bound.
        should_stop: asked after each sweep and product; after a few of them on a device (`between_looks`).

    Returns:
        The last V and the best bound.

    Complexity: O(sweeps m rank).
    """
    run = _Run(problem, time_limit, seed, delta, report, should_stop)
    V = random_rows(problem.n_vertices, rank or default_rank(problem), 2 * seed, problem.device)
    by_way_of = [COARSE_TARGET] if target_gap < COARSE_TARGET and problem.n_vertices > DENSE_VERTICES else []
    for target in (*by_way_of, target_gap):
        V = run.approach(V, target)
        if not run.reached(run.best) or run.out_of_time():
            break
    return Relaxation(V, run.value, run.best, run.sweeps, run.elapsed())


def first_round(target_gap: float) -> int:
    """Sweeps from a random start that are likely to be worth a certificate to this gap, at most."""
    eager: float = (FIRST_TARGET / max(target_gap, FIRST_TARGET)) ** 0.25
    return max(SHORTEST_ROUND, round(FIRST_ROUND * eager))


class _Run:
    """One call of `relax`: its clock, its best bound and the seeds of its certificates."""

    def __init__(
        self,
        problem: Problem,
        time_limit: float,
        seed: int,
        delta: float,
        report: Callable[[float, Bound], None] | None,
        should_stop: Callable[[], bool],
    ) -> None:
        self.problem, self.seed, self.delta = problem, seed, delta
        self.target = math.inf
        self.time_limit, self.report, self._asked_to_stop = time_limit, report, should_stop
        self.start = time.perf_counter()
        self.best: Bound | None = None
        self.value = math.nan
        self.sweeps = 0
        self.certificates = 0
        self.rounds = 0
        self.stopped = False

    def approach(self, V: Tensor, target_gap: float) -> Tensor:
        """Rounds of sweeps and certificates until the gap is certified, from and to the rows of V."""
        self.target = target_gap * self.problem.absolute_weight / self.problem.scale
        self.rounds = 0
        length = max(SHORTEST_ROUND, first_round(target_gap) - self.sweeps)
        while True:
            length = self.sweep(V, length)
            lengths, products = fields(self.problem.csr, V)
            self.value = relaxation_value(self.problem, products)
            vectors = self.certify(lengths)
            if self.is_done() or self.rounds == MOST_ROUNDS:
                return V
            if vectors is None:
                length *= 2
                continue
            spread = self.fill_the_graph(vectors) and V.shape[1] < HIGH_RANK
            V = _with_columns(V, vectors, 2 * (self.seed + self.certificates) if spread else None)
            length *= 1 if spread else 2

    def elapsed(self) -> float:
        return time.perf_counter() - self.start

    def out_of_time(self) -> bool:
        self.stopped = self.stopped or self._asked_to_stop() or self.elapsed() >= self.time_limit
        return self.stopped

    def is_done(self) -> bool:
        return self.reached(self.best) or self.out_of_time()

    def reached(self, bound: Bound | None) -> bool:
        return bound is not None and bound.value - self.value <= self.target

    def sweep(self, V: Tensor, count: int) -> int:
        """A round of sweeps, cut short when it would leave too little time to certify it; how many were made.

        The first one also ends when it has settled: later ones are there to settle further.
        """
        until = self.elapsed() + SWEEPING_SHARE * (self.time_limit - self.elapsed())
        csr, class_ptr = self.problem.csr, self.problem.class_ptr
        batch = between_looks(V.device, csr.indices.numel() * V.shape[1], SWEEPS_A_LOOK)
        # Adding x to the energy takes x / 2 from the value.
        little = -2 * SETTLED * self.target * self.problem.scale
        may_settle = self.sweeps == 0
        change = zeros((1,), torch.float64, V.device)
        made, is_settled = 0, False
        while made < count and not (made and (is_settled or self.out_of_time() or self.elapsed() > until)):
            # Measured at the same sweeps however many are made between two looks, so that all engines end alike.
            part = min(batch, count - made, SWEEPS_A_MEASUREMENT - made % SWEEPS_A_MEASUREMENT)
            is_measured = may_settle and (made + part) % SWEEPS_A_MEASUREMENT == 0
            if part > is_measured:
                mixing_sweeps(csr, class_ptr, V, OMEGA, part - is_measured)
            if is_measured:
                mixing_sweeps(csr, class_ptr, V, OMEGA, 1, change)
                is_settled = made + part >= SHORTEST_ROUND and float(change) > little
            wait(V.device)
            made += part
        mixing_sweeps(csr, class_ptr, V, 0.0, SETTLING)
        self.sweeps += made + SETTLING
        return made

    def certify(self, h: Tensor) -> Tensor | None:
        """Proves a bound from h, and from a repaired h; negative eigenvectors of h if any were seen."""
        self.rounds += 1
        if self.problem.n_vertices <= DENSE_VERTICES:
            self._keep(dense_bound(self.problem, h))
            return None
        block = self._chebyshev(h, GROWN)
        if block is None or self.reached(self.best) or self.out_of_time():
            return None
        values, vectors = ritz_vectors(self.problem, h, block)
        if shares(scaling(self.problem), vectors)[0] <= WIDE_SHARE:
            raised = repair(self.problem, h, values, vectors)
            if raised is not h and self._could_help(raised):
                self._chebyshev(raised)
        negative = values < 0
        return vectors[:, negative] if bool(negative.any()) else None

    def fill_the_graph(self, vectors: Tensor) -> bool:
        """Whether the lowest vectors are spread out, so that no mending of h but only a higher rank will do."""
        return shares(scaling(self.problem), vectors)[0] > SPREAD_SHARE

    def _could_help(self, h: Tensor) -> bool:
        """Whether a bound from h might halve the gap, or reach the target."""
        gap = math.inf if self.best is None else self.best.value - self.value
        return self._dual_gap(h) < max(self.target, gap / 2) * self.problem.scale

    def _dual_gap(self, h: Tensor) -> float:
        """Bound of h if no eigenvalue were negative, less the value of V, in problem units."""
        return self.problem.total_weight / 2 + float(h.sum()) / 4 - self.value * self.problem.scale

    def _chebyshev(self, h: Tensor, most_growth: float = math.inf) -> Tensor | None:
        steps = self._steps(h)
        if self.out_of_time():
            return None
        self.certificates += 1
        bound, block = chebyshev_bound(
            self.problem,
            h,
            steps=steps,
            # 6/pi^2 sum 1/i^2 = 1: together the certificates fail with probability delta at most.
            delta=self.delta * 6 / (math.pi * self.certificates) ** 2,
            seed=2 * (self.seed + (self.certificates << 48)) + 1,
            should_stop=lambda value: value - self.value <= self.target or self.out_of_time(),
            most_growth=most_growth,
            goal=self.value + self.target,
        )
        self._keep(bound)
        return block

    def _steps(self, h: Tensor) -> int:
        """Steps whose floor leaves half of the target gap to what h itself lacks."""
        allowed = max(
            self.target * self.problem.scale - self._dual_gap(h), self.target * self.problem.scale / 2
        )
        # A round that failed may have failed on eigenvalues too small to be seen with these steps.
        tau = 0.8 * FINER ** (self.rounds - 1) * 4 * allowed / float(scaling(self.problem).sum())
        upper = largest_eigenvalue(self.problem, h)
        return steps_for(tau, self.problem.n_vertices, upper, self.delta)

    def _keep(self, bound: Bound) -> None:
        if not math.isfinite(bound.value) or (self.best is not None and bound.value >= self.best.value):
            return
        self.best = replace(bound, delta=self.delta if bound.delta else 0.0)
        if self.report is not None:
            self.report(self.value, self.best)


def _with_columns(V: Tensor, vectors: Tensor, noise_seed: int | None = None) -> Tensor:
    """V with eigenvectors of negative curvature as further columns, in place of its weakest where it is full.

    V is first turned so that its columns are sorted by size; that changes no product v_i . v_j. With a seed the
    columns still empty are filled with small noise, in which further negative eigenvectors will grow.
    """
    n, r = V.shape
    rotation = torch.linalg.eigh((V.T @ V).double()).eigenvectors.flip(1)
    width = max(r, min(HIGH_RANK, 2 * r))
    new = min(vectors.shape[1], max(width - r, r // 4))
    columns = zeros((n, width), torch.float32, V.device)
    columns[:, :r] = V @ rotation.float()
    if noise_seed is not None and width - new > r:
        columns[:, r : width - new] = _KICK * random_rows(n, width - new - r, noise_seed, V.device)
    peaks = vectors.abs().amax(0)
    columns[:, width - new :] += (_KICK * vectors[:, :new] / peaks[:new]).float()
    return _normalised(columns)


def _normalised(rows: Tensor) -> Tensor:
    """Makes nonzero rows unit rows, in place."""
    return rows.div_(rows.norm(dim=1, keepdim=True))
