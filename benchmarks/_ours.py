"""Our own relaxation, certificate and annealer, as the benchmarks time them."""

import math
import time
from collections.abc import Callable

import numba
import numpy as np
import torch

from benchmarks import _families
from benchmarks._records import Record
from sdp.maxcut import bound as bounds
from sdp.maxcut import relax
from sdp.maxcut.graph import Graph
from sdp.maxcut.problem import prepare
from sdp_kernels.anneal import anneal
from sdp_kernels.graph import fields, gains, mixing_sweep

DELTA = 1e-6
WARM_UP_EDGES = 20_000  # more than `DENSE_VERTICES` vertices in every family, so that both certificates run
WARM_UP_GAP = 1e-3
FIRST_SWEEPS, MORE_SWEEPS = 8, 1.25  # like-for-like runs are looked at after 8, 10, 13, ... sweeps
REFERENCE_GAP = 1e-4  # of the run whose value tells what cannot pass
HOT, COLD = 1.6, 0.25  # temperatures of the annealing rate, in units of the median weight
RATE_SECONDS = 1.0
CERTIFICATE_SEED = 2**40 + 1  # odd and far from any that `relax` uses for its starts


def warm_up(threads: int) -> None:
    """Set the number of threads, and compile or load every kernel that is timed."""
    numba.set_num_threads(threads)
    torch.set_num_threads(threads)
    for family in ("torus", "random-sparse"):
        graph = _families.make(family, WARM_UP_EDGES, seed=0)
        relaxer = Relaxer(graph, None, threads)
        relaxer.to_certified_gap(WARM_UP_GAP, 10.0, seed=0)
        annealing_rate(graph, threads, seed=0, seconds=0.01)


class Relaxer:
    """The relaxation of one graph.

    Args:
        graph: at least one edge.
        rank: columns of V at the start; what `relax` would choose where None.
        threads: of numba and torch.
    """

    def __init__(self, graph: Graph, rank: int | None, threads: int) -> None:
        numba.set_num_threads(threads)
        torch.set_num_threads(threads)
        self.graph = graph
        self.problem = prepare(graph)
        self.order = torch.from_numpy(np.array(self.problem.order))
        self.rank = rank or relax.default_rank(self.problem)

    def reference_value(self, time_limit: float) -> float:
        """Value of a good V, in units of edge weight: no bound can lie below it."""
        found = relax.relax(
            self.problem, target_gap=REFERENCE_GAP, time_limit=time_limit, seed=0, rank=self.rank
        )
        return found.value

    def to_certified_gap(self, target_gap: float, time_limit: float, seed: int) -> Record:
        """Time from the graph in memory to a certified gap: ordering, sweeps and certificates.

        Returns:
            `seconds` (None when the gap was not reached), `prepare_seconds` of them, and what was reached.
        """
        began = time.perf_counter()
        problem = prepare(self.graph)
        prepared = time.perf_counter() - began
        found = relax.relax(
            problem, target_gap=target_gap, time_limit=time_limit, seed=seed, delta=DELTA, rank=self.rank
        )
        seconds = time.perf_counter() - began
        gap = found.relative_gap(problem)
        return {
            "seconds": seconds if gap <= target_gap else None,
            "prepare_seconds": prepared,
            "gap": gap,
            "value": found.value,
            "upper_bound": found.bound.value if found.bound else math.inf,
            "sweeps": found.sweeps,
        }

    def watched(self, start: torch.Tensor, observe: Callable[[torch.Tensor, float], bool]) -> None:
        """Order the graph and sweep from `start` (n, r), in vertex order, until the observer says stop.

        The observer gets V in problem order, each time after a few sweeps without over-relaxation, as
        `relax` does before it certifies; they are part of the time.
        """
        problem = prepare(self.graph)
        V = start[self.order].contiguous()
        sweeps, until = 0, float(FIRST_SWEEPS)
        while True:
            while sweeps < until:
                mixing_sweep(problem.csr, problem.class_ptr, V, relax.OMEGA)
                sweeps += 1
            for _ in range(relax.SETTLING):
                mixing_sweep(problem.csr, problem.class_ptr, V, 0.0)
            _, products = fields(problem.csr, V)
            if observe(V, relax.relaxation_value(problem, products)):
                return
            until *= MORE_SWEEPS

    def bound(self, v: torch.Tensor, target_gap: float) -> float:
        """Certified upper bound from V (n, r) in vertex order; stops early once it is within the gap."""
        return self.bound_in_problem_order(v[self.order].contiguous(), target_gap)

    def bound_in_problem_order(self, V: torch.Tensor, target_gap: float) -> float:
        """As `bound`, from V in problem order: |g_i| as dual vector, and once more with it repaired."""
        problem = self.problem
        h, products = fields(problem.csr, V)
        if problem.n_vertices <= bounds.DENSE_VERTICES:
            return bounds.dense_bound(problem, h).value
        value = relax.relaxation_value(problem, products)
        target = value + target_gap * problem.absolute_weight / problem.scale
        first, block = self._certificate(h, value, target)
        if first <= target:
            return first
        raised = bounds.repair(problem, h, *bounds.ritz_vectors(problem, h, block))
        return first if raised is h else min(first, self._certificate(raised, value, target)[0])

    def _certificate(self, h: torch.Tensor, value: float, target: float) -> tuple[float, torch.Tensor]:
        problem = self.problem
        scaled = bounds.ScaledDual.of(problem, h)
        dual_gap = problem.total_weight / 2 + float(h.sum()) / 4 - value * problem.scale
        room = (target - value) * problem.scale
        # What h itself lacks leaves the rest of the gap to the certificate, but no less than a quarter.
        tau = 4 * max(room - dual_gap, room / 4) / float(scaled.d.sum())
        steps = bounds.steps_for(0.8 * tau, problem.n_vertices, scaled.upper, DELTA)
        found, block = bounds.chebyshev_bound(
            problem,
            h,
            steps=steps,
            delta=DELTA,
            seed=CERTIFICATE_SEED,
            should_stop=lambda bound: bound <= target,
        )
        return found.value, block


def annealing_rate(graph: Graph, threads: int, seed: int, seconds: float = RATE_SECONDS) -> float:
    """Spin updates a second of the annealer, one replica a thread, over a linear fall of temperature."""
    numba.set_num_threads(threads)
    problem = prepare(graph)
    rng = np.random.default_rng(seed)
    signs = torch.from_numpy(rng.choice(np.array([-1, 1], dtype=np.int8), (threads, problem.n_vertices)))
    state = gains(problem.csr, signs)
    updates, sweeps, spent = 0, 1, 0.0
    while spent < seconds / 2:
        fall = torch.linspace(HOT, COLD, sweeps) * problem.unit
        temperatures = fall.expand(threads, sweeps).contiguous()
        began = time.perf_counter()
        anneal(problem.csr, problem.class_ptr, signs, state, temperatures, seed=seed)
        spent = time.perf_counter() - began
        updates = threads * problem.n_vertices * sweeps
        sweeps *= 2
    return updates / spent
