"""Improving a cut by local search: reheating, annealing and partition crossover, in islands.

An island keeps one partition, its elite. A round copies it to every replica, reheats each replica to its own
temperature, anneals it down, and lets the elite take from each whatever parts it does better
(`sdp_kernels.anneal.partition_crossover`). On a large sparse graph the replicas' improvements lie in different
places and nearly all of them are kept; that is what a single long anneal cannot do (G81 in 12 s: 14,044, where a
minute of annealing ends at 13,980). Where rounds stop paying, a new island is opened, and what it ends with is
merged into the best partition in the same way.

Temperatures are multiples of the median weight. Which reheating and which length of anneal pay differs
from graph to graph and changes as the elite improves, so both are chosen by what they earned for their work so far.
Work is counted in vertices visited and changes made, never in seconds: a seed gives the same rounds on
any machine, and time only decides how many of them there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdp.maxcut.problem import Problem
from sdp_kernels.anneal import anneal, one_opt, partition_crossover
from sdp_kernels.graph import gains

REPLICAS = 8
FIRST_HEATS = (1.5, 5.0, 20.0)  # hubs freeze early: debian12-deps needs 20, toroidal grids 1.5
HEAVY_HEAT = (
    2.0  # of the root mean square field, in place of 20 where a few weights outweigh the median by far
)
REHEATS = (0.3, 0.45, 0.6, 0.8, 1.1, 1.6, 2.5, 4.0, 8.0)
COLD = 0.2
LENGTHS = {"small": (50, 150, 600), "large": (20, 50, 100)}  # sweeps of a round
LARGE = 50_000  # vertices
PATIENCE = 20  # rounds without improvement that an island is given at least
EXPLORE = 3  # every so many rounds the length is the next in turn, not the best so far
SLICE = 2e7  # vertex visits between two looks at the clock: 0.05 to 0.4 s
FIRST_SHARE = (
    0.1  # of the time limit, for the first anneal from random partitions: G60 gains 10 by 3,000 sweeps
)
FIRST_SWEEPS = (20, 5000)  # of the first island, at least and at most
FIRST_GROWTH = 1.5  # of each island over the one before, up to four times the first
_VISITS_PER_SECOND = (
    4e7  # of two threads, of this project's slowest machine; only sets the first anneal's length
)
_MEMORY = 0.7  # weight of the past in the running mean of an arm's earnings


@dataclass
class _Arms:
    """Choices and what they earned for a unit of work, as running means; untried ones come first."""

    values: Sequence[float]
    earned: list[float] = field(default_factory=list)
    turn: int = 0

    def __post_init__(self) -> None:
        self.earned = [math.inf] * len(self.values)

    def best(self, count: int) -> list[int]:
        """The most profitable arms; among equals, those whose turn it is."""
        size = len(self.values)
        by_turn = sorted(range(size), key=lambda arm: (arm - self.turn) % size)
        self.turn = (self.turn + 1) % size
        return sorted(by_turn, key=lambda arm: -self.earned[arm])[:count]

    def next(self) -> int:
        """The arms one after another, profitable or not."""
        self.turn = (self.turn + 1) % len(self.values)
        return self.turn

    def credit(self, arm: int, reward: float) -> None:
        """Adds an observation."""
        old = self.earned[arm]
        self.earned[arm] = reward if math.isinf(old) else _MEMORY * old + (1 - _MEMORY) * reward


class Polisher:
    """Local search on one problem, resumable at any round.

    Args:
        problem: with at least one edge.
        seed: of all its random numbers.
        should_stop: asked between slices of sweeps.
        improved: called with the signs (int8 (n,), problem order) whenever the best cut gets better.
        time_limit: seconds that will be allowed; sets the length of the first anneal, nothing else.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        seed: int,
        should_stop: Callable[[], bool],
        improved: Callable[[Tensor], None],
        time_limit: float = math.inf,
    ) -> None:
        self._problem, self._seed, self._should_stop, self._improved = problem, seed, should_stop, improved
        self._tolerance = 0.0 if problem.is_exact else 1e-5
        self._stream = 0
        self.rounds = 0
        self._work = 0.0
        n = problem.n_vertices
        degree = 2 * problem.n_edges / n
        visits = FIRST_SHARE * min(time_limit, 60.0) * _VISITS_PER_SECOND / (1 + degree / 20)
        self._first_sweeps = float(np.clip(visits / (REPLICAS * n), *FIRST_SWEEPS))
        self._longest_first = 4 * self._first_sweeps
        self._first_heats, self._reheats = _heats(problem)
        self._lengths = LENGTHS["large" if n > LARGE else "small"]
        self._visit_cost, self._change_cost = 1.0, 4.0 + degree
        self.best: Tensor | None = None
        self._best_value = -math.inf

    def run(self, starts: Sequence[Tensor] = (), max_rounds: float = math.inf) -> None:
        """Opens islands until told to stop, or until `max_rounds` rounds are made.

        Args:
            starts: partitions int8 (n,) that the first island begins with.
            max_rounds: rounds of all islands, each island's first anneal counting as one.
        """
        while self.rounds < max_rounds and not self._should_stop():
            born = self._work
            island = self._fresh(starts)
            starts = ()
            self._offer(island)
            self._evolve(island, born, max_rounds)
            assert self.best is not None
            merged = self._island(self.best[None], self._best_value)
            merged.value += float(partition_crossover(self._problem.csr, merged.elite, island.elite).sum())
            if merged.value > self._best_value:
                self._offer(merged)
                self._evolve(merged, self._work, max_rounds)

    def _evolve(self, island: _Island, born: float, max_rounds: float) -> None:
        """Rounds on one island until it has gone without improvement for as much work as led to the last one."""
        last_gain, last_round = self._work, self.rounds
        while self.rounds < max_rounds and not self._should_stop():
            before = island.value
            self._round(island)
            if island.value > before:
                last_gain, last_round = self._work, self.rounds
                self._offer(island)
            elif self.rounds - last_round > PATIENCE and self._work - last_gain > last_gain - born:
                break

    def _fresh(self, starts: Sequence[Tensor]) -> _Island:
        """A first anneal of random partitions, merged with the given ones."""
        n = self._problem.n_vertices
        generator = np.random.Generator(np.random.Philox(key=[self._seed, self._stream]))
        signs = torch.from_numpy(generator.integers(0, 2, (REPLICAS, n), dtype=np.int8) * 2 - 1)
        heats = np.resize(self._first_heats, REPLICAS)
        self._anneal(signs, heats, int(self._first_sweeps))
        self._first_sweeps = min(self._first_sweeps * FIRST_GROWTH, self._longest_first)
        self.rounds += 1
        if starts:
            polished = torch.stack(list(starts))
            csr, class_ptr = self._problem.csr, self._problem.class_ptr
            one_opt(csr, class_ptr, polished, gains(csr, polished), self._tolerance)
            signs = torch.cat([signs, polished])
        values = [self._problem.cut_value(row) * self._problem.scale for row in signs]
        first = int(np.argmax(values))
        island = self._island(signs[first : first + 1], values[first])
        island.value += float(partition_crossover(self._problem.csr, island.elite, signs).sum())
        return island

    def _round(self, island: _Island) -> None:
        """One reheating of every replica, half of them as paid best so far, the others in turn."""
        heats, lengths = island.heats, island.lengths
        length = lengths.next() if self.rounds % EXPLORE == 0 else lengths.best(1)[0]
        arms = heats.best(REPLICAS // 2)
        arms += [heats.next() for _ in range(REPLICAS - len(arms))]
        signs = island.elite.repeat(REPLICAS, 1)
        costs = self._anneal(
            signs, np.array([self._reheats[arm] for arm in arms]), int(lengths.values[length])
        )
        added = partition_crossover(self._problem.csr, island.elite, signs)
        for arm, gain, cost in zip(arms, added.tolist(), costs.tolist(), strict=True):
            heats.credit(arm, gain / cost)
        total = float(added.sum())
        lengths.credit(length, total / float(costs.sum()))
        island.value += total
        self.rounds += 1

    def _island(self, elite: Tensor, value: float) -> _Island:
        return _Island(elite.clone(), value, _Arms(self._reheats), _Arms(self._lengths))

    def _anneal(self, signs: Tensor, heats: NDArray[np.float64], sweeps: int) -> NDArray[np.float64]:
        """Anneals every replica from its heat to the cold, then one-opt; the work each took, float64 (R,)."""
        problem = self._problem
        n, unit = problem.n_vertices, problem.unit
        gained = gains(problem.csr, signs)
        cooling = np.linspace(0.0, 1.0, sweeps)[None, :]
        temperatures = torch.from_numpy(
            (unit * heats[:, None] * (COLD / heats[:, None]) ** cooling).astype(np.float32)
        )
        changes = torch.zeros(signs.shape[0], dtype=torch.int64)
        step = max(1, int(SLICE / (n * signs.shape[0])))
        made = 0
        while made < sweeps and not (made and self._should_stop()):
            part = temperatures[:, made : made + step].contiguous()
            changes += anneal(
                problem.csr,
                problem.class_ptr,
                signs,
                gained,
                part,
                seed=self._seed,
                stream=self._stream,
                first_sweep=made,
            )
            made += step
        one_opt(problem.csr, problem.class_ptr, signs, gained, self._tolerance)
        self._stream += signs.shape[0]
        work = self._visit_cost * n * sweeps + self._change_cost * changes.numpy()
        self._work += float(work.sum())
        return np.asarray(work, dtype=np.float64)

    def _offer(self, island: _Island) -> None:
        """Keeps the island's elite if it is the best so far."""
        if island.value > self._best_value + self._tolerance:
            self.best, self._best_value = island.elite[0].clone(), island.value
            self._improved(self.best)


@dataclass
class _Island:
    """One elite partition and what has paid on it.

    Attributes:
        elite: int8 (1, n).
        value: its cut value in problem units.
        heats: earnings of the reheatings.
        lengths: earnings of the lengths of a round.
    """

    elite: Tensor
    value: float
    heats: _Arms
    lengths: _Arms


def _heats(problem: Problem) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """First heats and reheats in units of `problem.unit`, reaching the field of the heaviest weights."""
    squares = float(problem.csr.weights.double().square().sum()) / problem.n_vertices
    hottest = HEAVY_HEAT * math.sqrt(squares) / problem.unit
    if hottest <= FIRST_HEATS[-1]:
        return FIRST_HEATS, REHEATS
    spread = math.sqrt(hottest / FIRST_HEATS[-1])
    return (*FIRST_HEATS, hottest), (*REHEATS, REHEATS[-1] * spread, REHEATS[-1] * spread**2)
