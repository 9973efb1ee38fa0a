"""Polishing: bits for a seed, the best cuts of small graphs, starts that are never lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numba
import numpy as np
import pytest
import torch

from sdp.maxcut.graph import Graph
from sdp.maxcut.polish import Polisher, _Arms
from sdp.maxcut.problem import Problem, prepare
from tests.maxcut.random_graphs import SHAPES, graph_of, small_matrix
from tests.reference import cuts
from tests.reference import graph as oracle
from tools.make_graphs import planted_cut, planted_sides, random_sparse, torus

MOST_THREADS = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


def polished(
    problem: Problem,
    rounds: float,
    *,
    seed: int = 0,
    starts: Sequence[torch.Tensor] = (),
    should_stop: Callable[[], bool] = lambda: False,
    time_limit: float = 1e-3,
) -> tuple[Polisher, list[float]]:
    """A polisher after so many rounds, and the cut values it reported; a short limit makes the first anneal short."""
    values: list[float] = []
    polisher = Polisher(
        problem,
        seed=seed,
        should_stop=should_stop,
        improved=lambda signs: values.append(problem.cut_value(signs)),
        time_limit=time_limit,
    )
    polisher.run(starts, rounds)
    return polisher, values


@pytest.mark.parametrize("weights", ["ones", "signs", "integers", "normal"])
@pytest.mark.parametrize("shape", SHAPES)
def test_small_graphs_reach_their_best_cut(shape: str, weights: str) -> None:
    for n in (2, 3, 9, 16):
        W = small_matrix(n, shape, weights, n)
        if not W.any():
            continue
        problem = prepare(graph_of(W))
        polisher, values = polished(problem, 6)
        assert polisher.best is not None
        assert values[-1] == problem.cut_value(polisher.best)
        # The last flips may gain less than what float32 gains resolve.
        slack = 0.0 if problem.is_exact else 1e-4 * np.abs(W).max()
        assert oracle.best_cut(W) - slack <= values[-1] <= oracle.best_cut(W) + 1e-12 * np.abs(W).sum()


@pytest.mark.parametrize("weights", ["signs", "normal"])
def test_every_report_is_better(weights: str) -> None:
    W = cuts.sparse_random(300, 8.0, 1) * cuts.dense_random(300, 2)
    problem = prepare(graph_of(np.sign(W) if weights == "signs" else W))
    _, values = polished(problem, 25)
    assert len(values) > 1
    assert (np.diff(values) > -1e-4).all()
    if problem.is_exact:
        assert (np.diff(values) >= 1).all()


def test_a_seed_gives_the_same_bits() -> None:
    problem = prepare(random_sparse(400, 6.0, "signs", 3))
    runs = []
    for seed, threads in ((1, 1), (1, MOST_THREADS), (1, MOST_THREADS), (2, MOST_THREADS)):
        numba.set_num_threads(threads)
        runs.append(polished(problem, 80, seed=seed))
    for other in runs[1:3]:
        assert other[1] == runs[0][1]
        assert torch.equal(other[0].best, runs[0][0].best)  # type: ignore[arg-type]
        assert other[0].rounds == runs[0][0].rounds == 80
    assert runs[3][1] != runs[0][1]


def test_rounds_are_counted() -> None:
    problem = prepare(torus(6, 7, "signs", 1))
    for rounds in (0, 1, 2, 7, 300):  # 300 rounds open several islands
        polisher, values = polished(problem, rounds)
        assert polisher.rounds == rounds
        assert (polisher.best is None) == (rounds == 0)
        assert bool(values) == (rounds > 0)


def test_starts_are_not_lost() -> None:
    graph = planted_cut(400, 10.0, 1.0, 5)  # bipartite: the planted sides cut every edge
    problem = prepare(graph)
    best = problem.signs(planted_sides(400, 5))
    starts = [torch.ones_like(best), best]
    polisher, values = polished(problem, 1, starts=starts)
    assert values[-1] == graph.total_weight
    assert polisher.best is not None
    assert problem.cut_value(polisher.best) == graph.total_weight
    assert torch.equal(starts[1], best)  # and not changed


def test_it_stops_when_asked() -> None:
    problem = prepare(random_sparse(300, 6.0, "signs", 1))
    assert polished(problem, math.inf, should_stop=lambda: True)[0].rounds == 0
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 10

    polisher, values = polished(problem, math.inf, should_stop=stop)
    assert polisher.rounds <= 11
    assert values


def test_one_slice_of_sweeps_at_least_then_it_stops() -> None:
    # 60,000 vertices, 8 replicas: a slice is 41 sweeps, and the first anneal of an hour's limit has far more.
    problem = prepare(random_sparse(60_000, 3.0, "signs", 1))
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 1

    polisher, values = polished(problem, math.inf, should_stop=stop, time_limit=3600.0)
    assert len(asked) <= 4
    assert values
    assert polisher.rounds == 1


def test_two_vertices() -> None:
    problem = prepare(Graph.from_edges([0], [1], [0.3]))
    assert polished(problem, 3)[1][-1] == pytest.approx(0.3)
    problem = prepare(Graph.from_edges([0], [1], [-0.3]))
    assert polished(problem, 3)[1][-1] == 0


class TestArms:
    def test_untried_ones_come_first(self) -> None:
        arms = _Arms((1.0, 2.0, 3.0))
        arms.credit(0, 100.0)
        assert sorted(arms.best(2)) == [1, 2]

    def test_then_the_most_profitable(self) -> None:
        arms = _Arms((1.0, 2.0, 3.0))
        for arm, reward in enumerate((1.0, 5.0, 3.0)):
            arms.credit(arm, reward)
        assert arms.best(2) == [1, 2]
        for _ in range(5):
            arms.credit(1, 0.0)
        assert arms.best(1) == [2]

    def test_equals_take_turns(self) -> None:
        arms = _Arms((1.0, 2.0, 3.0))
        assert {arms.best(1)[0] for _ in range(3)} == {0, 1, 2}
        assert {arms.next() for _ in range(3)} == {0, 1, 2}
