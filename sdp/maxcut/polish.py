"""Improving a cut by local search: reheating, annealing and partition crossover, in islands.

An island keeps one partition, its elite. A round copies it to every replica, reheats each replica to its own
temperature, anneals it down, and lets the elite take from each whatever parts it does better
(`sdp_kernels.anneal.partition_crossover`). On a large sparse graph the replicas' improvements lie in different
places and nearly all of them are kept; that is what a single long anneal cannot do (G81 in 12 s: 14,044, where a
minute of annealing ends at 13,980). Where rounds stop paying, a new island is opened, and what it ends with is
merged into the best partition in the same way.

A round's partitions share temperatures in groups (`Crowd`): eight groups of one on the CPU, up to eight groups of 32 on
a device, where one machine word holds a group (`sdp_kernels.anneal.anneal_packed`, where all weights have one
magnitude) and nothing but earnings and better partitions returns to the host.

Temperatures are multiples of the median weight. Which reheating and which length of anneal pay differs
from graph to graph and changes as the elite improves, so both are chosen by what they earned for their work so far.
Work is counted in vertices visited and changes made, never in seconds: a seed gives the same rounds on
any machine, and time only decides how many of them there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdp.maxcut.placement import is_interpreted, wait, words
from sdp.maxcut.problem import Problem
from sdp_kernels.anneal import anneal, anneal_packed, one_opt, partition_crossover
from sdp_kernels.graph import gains
from sdp_kernels.replicas import REPLICAS_PER_WORD, cut_values, pack_signs, unpack_signs

REPLICAS = 8  # on the CPU
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
SLICE = 2e7  # vertex visits between two looks at the clock: 0.05 to 0.4 s ...
DEVICE_SLICE = 2e9  # ... and on a device, by its model some 0.01 to 0.1 s
INTERPRETED_SLICE = 1e4  # six sweeps of two hundred vertices
FIRST_SHARE = (
    0.1  # of the time limit, for the first anneal from random partitions: G60 gains 10 by 3,000 sweeps
)
FIRST_SWEEPS = (20, 5000)  # of the first island, at least and at most
FIRST_GROWTH = 1.5  # of each island over the one before, up to four times the first
_VISITS_PER_SECOND = (
    4e7  # of two threads, of this project's slowest machine; only sets the first anneal's length
)
_DEVICE_VISITS_PER_SECOND = 1e10  # a guess below the model's number; likewise
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


@dataclass(frozen=True)
class Crowd:
    """How many partitions are annealed at once.

    Attributes:
        groups: of partitions that share their temperatures.
        copies: partitions of a group: 1, or a multiple of 32, which fill words.
    """

    groups: int
    copies: int

    @property
    def size(self) -> int:
        """Number of partitions."""
        return self.groups * self.copies


def default_crowd(problem: Problem) -> Crowd:
    """As many as pay where the problem lies; the same for the CPU engine and the interpreter."""
    if problem.device.type == "cpu":
        return Crowd(REPLICAS, 1)
    return Crowd(words(problem.n_vertices), REPLICAS_PER_WORD)


class Polisher:
    """Local search on one problem, resumable at any round.

    Args:
        problem: with at least one edge.
        seed: of all its random numbers.
        should_stop: asked between slices of sweeps.
        improved: called with the signs (int8 (n,), problem order) whenever the best cut gets better.
        time_limit: seconds that will be allowed; sets the length of the first anneal, nothing else.
        crowd: partitions annealed at once; `default_crowd` when None.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        seed: int,
        should_stop: Callable[[], bool],
        improved: Callable[[Tensor], None],
        time_limit: float = math.inf,
        crowd: Crowd | None = None,
    ) -> None:
        self._problem, self._seed, self._should_stop, self._improved = problem, seed, should_stop, improved
        self._tolerance = 0.0 if problem.is_exact else 1e-5
        self._stream = 0
        self.rounds = 0
        self._work = 0.0
        n = problem.n_vertices
        degree = 2 * problem.n_edges / n
        is_on_cpu = problem.device.type == "cpu"
        self._slice = SLICE if is_on_cpu else DEVICE_SLICE
        if is_interpreted(problem.device):
            self._slice = INTERPRETED_SLICE
        self._crowd = crowd or default_crowd(problem)
        self._is_packed = self._crowd.copies % REPLICAS_PER_WORD == 0 and _has_one_magnitude(problem)
        speed = _VISITS_PER_SECOND if is_on_cpu else _DEVICE_VISITS_PER_SECOND
        visits = FIRST_SHARE * min(time_limit, 60.0) * speed / (1 + degree / 20)
        self._first_sweeps = float(np.clip(visits / (self._crowd.size * n), *FIRST_SWEEPS))
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
        signs = self._random_signs()
        self._anneal(signs, np.resize(self._first_heats, self._crowd.groups), int(self._first_sweeps))
        self._first_sweeps = min(self._first_sweeps * FIRST_GROWTH, self._longest_first)
        self.rounds += 1
        if starts:
            polished = torch.stack(list(starts))
            csr, class_ptr = self._problem.csr, self._problem.class_ptr
            one_opt(csr, class_ptr, polished, gains(csr, polished), self._tolerance)
            signs = torch.cat([signs, polished])
        values = self._values(signs)
        first = int(np.argmax(values))
        island = self._island(signs[first : first + 1], values[first])
        island.value += float(partition_crossover(self._problem.csr, island.elite, signs).sum())
        return island

    def _random_signs(self) -> Tensor:
        """int8 (R, n); made on the CPU, as bits where whole words are needed."""
        n, crowd = self._problem.n_vertices, self._crowd
        generator = np.random.Generator(np.random.Philox(key=[self._seed, self._stream]))
        if crowd.size % REPLICAS_PER_WORD:
            signs = torch.from_numpy(generator.integers(0, 2, (crowd.size, n), dtype=np.int8) * 2 - 1)
            return signs.to(self._problem.device)
        packed = generator.integers(-(2**31), 2**31, (n, crowd.size // REPLICAS_PER_WORD), dtype=np.int32)
        return unpack_signs(torch.from_numpy(packed).to(self._problem.device)).T.contiguous()

    def _values(self, signs: Tensor) -> Sequence[float]:
        """Cut values in problem units; of the exact weights on the CPU, of the rounded ones on a device."""
        problem = self._problem
        if problem.device.type == "cpu":
            return [problem.cut_value(row) * problem.scale for row in signs]
        values: list[float] = cut_values(problem.csr, pack_signs(signs.T.contiguous())).tolist()
        return values[: len(signs)]

    def _round(self, island: _Island) -> None:
        """One reheating of every group, half of them as paid best so far, the others in turn."""
        heats, lengths, crowd = island.heats, island.lengths, self._crowd
        length = lengths.next() if self.rounds % EXPLORE == 0 else lengths.best(1)[0]
        arms = heats.best((crowd.groups + 1) // 2)
        arms += [heats.next() for _ in range(crowd.groups - len(arms))]
        signs = island.elite.repeat(crowd.size, 1)
        costs = self._anneal(
            signs, np.array([self._reheats[arm] for arm in arms]), int(lengths.values[length])
        )
        added = partition_crossover(self._problem.csr, island.elite, signs)
        earned: list[float] = added.view(crowd.groups, crowd.copies).sum(1).tolist()
        for arm, gain, cost in zip(arms, earned, costs.tolist(), strict=True):
            heats.credit(arm, gain / cost)
        total = float(added.sum())
        lengths.credit(length, total / float(costs.sum()))
        island.value += total
        self.rounds += 1

    def _island(self, elite: Tensor, value: float) -> _Island:
        return _Island(elite.clone(), value, _Arms(self._reheats), _Arms(self._lengths))

    def _anneal(self, signs: Tensor, heats: NDArray[np.float64], sweeps: int) -> NDArray[np.float64]:
        """Anneals every group from its heat to the cold, then one-opt; the work each took, float64 (groups,)."""
        problem, crowd = self._problem, self._crowd
        cooling = np.linspace(0.0, 1.0, sweeps)[None, :]
        temperatures = torch.from_numpy(
            (problem.unit * heats[:, None] * (COLD / heats[:, None]) ** cooling).astype(np.float32)
        ).to(problem.device)
        if self._is_packed:
            changes = self._anneal_words(signs, temperatures)
            gained = gains(problem.csr, signs)
        else:
            gained = gains(problem.csr, signs)
            changes = self._anneal_signs(signs, gained, temperatures.repeat_interleave(crowd.copies, 0))
        one_opt(problem.csr, problem.class_ptr, signs, gained, self._tolerance)
        self._stream += crowd.size
        visits = self._visit_cost * problem.n_vertices * sweeps * crowd.copies
        work = visits + self._change_cost * changes.view(crowd.groups, crowd.copies).sum(1).cpu().numpy()
        self._work += float(work.sum())
        return np.asarray(work, dtype=np.float64)

    def _anneal_signs(self, signs: Tensor, gained: Tensor, temperatures: Tensor) -> Tensor:
        """Sweeps at temperatures float32 (R, n_sweeps), in place; changes made, int64 (R,)."""
        problem = self._problem
        changes = torch.zeros(len(signs), dtype=torch.int64, device=signs.device)
        for first, part in self._slices(temperatures):
            changes += anneal(
                problem.csr,
                problem.class_ptr,
                signs,
                gained,
                part,
                seed=self._seed,
                stream=self._stream,
                first_sweep=first,
            )
        return changes

    def _anneal_words(self, signs: Tensor, temperatures: Tensor) -> Tensor:
        """As `_anneal_signs`, with temperatures (groups, n_sweeps); a change costs nothing here and none is counted."""
        problem = self._problem
        packed = pack_signs(signs.T.contiguous())
        words_a_group = self._crowd.copies // REPLICAS_PER_WORD
        for first, part in self._slices(temperatures.repeat_interleave(words_a_group, 0)):
            anneal_packed(
                problem.csr,
                problem.class_ptr,
                packed,
                part,
                seed=self._seed,
                stream=self._stream // REPLICAS_PER_WORD,
                first_sweep=first,
            )
        signs.copy_(unpack_signs(packed).T)
        return torch.zeros(len(signs), dtype=torch.int64, device=signs.device)

    def _slices(self, temperatures: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The sweeps, (R, n_sweeps), cut where the clock is looked at; what it leaves no time for is left out."""
        n_sweeps = temperatures.shape[1]
        step = max(1, int(self._slice / (self._problem.n_vertices * self._crowd.size)))
        for first in range(0, n_sweeps, step):
            if first:
                wait(self._problem.device)
                if self._should_stop():
                    break
            yield first, temperatures[:, first : first + step].contiguous()

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


def _has_one_magnitude(problem: Problem) -> bool:
    magnitudes = problem.csr.weights.abs()
    return bool(magnitudes.min() == magnitudes.max()) and problem.absolute_weight > 0


def _heats(problem: Problem) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """First heats and reheats in units of `problem.unit`, reaching the field of the heaviest weights."""
    squares = float(problem.csr.weights.double().square().sum()) / problem.n_vertices
    hottest = HEAVY_HEAT * math.sqrt(squares) / problem.unit
    if hottest <= FIRST_HEATS[-1]:
        return FIRST_HEATS, REHEATS
    spread = math.sqrt(hottest / FIRST_HEATS[-1])
    return (*FIRST_HEATS, hottest), (*REHEATS, REHEATS[-1] * spread, REHEATS[-1] * spread**2)
