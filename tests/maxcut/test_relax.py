"""The relaxation: closed forms, certified gaps, clocks and seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest
import torch

from sdp.maxcut import relax as module
from sdp.maxcut.bound import Bound, chebyshev_bound
from sdp.maxcut.graph import Graph
from sdp.maxcut.problem import prepare
from sdp.maxcut.relax import default_rank, evenness, most_columns, random_rows, relax
from tests.maxcut.random_graphs import graph_of
from tests.reference import cuts
from tests.reference import graph as oracle
from tools.make_graphs import planted_cut, preferential_attachment, random_sparse, rmat, torus

MOST_THREADS = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]

LONG = 60.0  # seconds: far more than any of these takes, so that a broken test ends


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


def halved(W: cuts.Matrix) -> cuts.Matrix:
    """Weights that are no integers, so that no bound is rounded down."""
    return 0.5 * W


def complete(n: int) -> cuts.Matrix:
    return np.ones((n, n)) - np.eye(n)


def cycle(n: int) -> cuts.Matrix:
    W = np.roll(np.eye(n), 1, axis=1)
    return W + W.T


def block_diagonal(*parts: cuts.Matrix) -> cuts.Matrix:
    n = sum(map(len, parts))
    W, at = np.zeros((n, n)), 0
    for part in parts:
        W[at : at + len(part), at : at + len(part)] = part
        at += len(part)
    return W


def odd_cycle_optimum(n: int) -> float:
    return n / 2 * (1 - math.cos(math.pi * (n - 1) / n))


# Odd cycles: n/2 (1 - cos(pi (n-1)/n)), 4.5225 for the pentagon. Complete graphs: rows that add up to 0, n^2/4.
# An edge: 1. Bipartite: all edges. All negative: 0. A union of graphs without common vertices: the sum.
CLOSED_FORMS = {
    "edge": (complete(2), 1.0),
    "pentagon": (cycle(5), 4.522542485937369),
    "7-cycle": (cycle(7), odd_cycle_optimum(7)),
    "31-cycle": (cycle(31), odd_cycle_optimum(31)),
    "triangle": (complete(3), 9 / 4),
    "complete 10": (complete(10), 25.0),
    "complete 41": (complete(41), 41**2 / 4),
    "negative": (-complete(6), 0.0),
    "bipartite": (cycle(8), 8.0),
    "union": (
        block_diagonal(cycle(5), np.zeros((3, 3)), complete(10), 2 * cycle(7)),
        4.522542485937369 + 25 + 2 * odd_cycle_optimum(7),
    ),
}


@pytest.mark.parametrize("force_chebyshev", [False, True], ids=["dense", "chebyshev"])
@pytest.mark.parametrize(("W", "optimum"), CLOSED_FORMS.values(), ids=CLOSED_FORMS.keys())
def test_closed_forms(
    W: cuts.Matrix, optimum: float, force_chebyshev: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if force_chebyshev:
        monkeypatch.setattr(module, "DENSE_VERTICES", 0)
    target = 1e-3 if force_chebyshev else 1e-5
    problem = prepare(graph_of(halved(W)))
    found = relax(problem, target_gap=target, time_limit=LONG)
    assert found.bound is not None
    allowed = 0.5 * target * np.abs(W).sum() / 2
    assert found.value <= optimum / 2 * (1 + 1e-6) + 1e-6
    assert optimum / 2 <= found.bound.value * (1 + 1e-12) + 1e-12
    assert found.value >= optimum / 2 - allowed - 1e-6
    assert found.bound.value <= optimum / 2 + allowed + 1e-6
    assert found.bound.kind == ("chebyshev" if force_chebyshev else "dense")
    assert found.bound.delta == (1e-6 if force_chebyshev else 0.0)
    assert found.relative_gap(problem) <= target


def test_the_optimum_follows_the_weights_and_the_numbering() -> None:
    W = halved(cuts.sparse_random(60, 8.0, 1) * np.sign(cuts.dense_random(60, 2)))
    shuffled = np.random.default_rng(0).permutation(60)
    values = []
    for factor, order in (
        (1.0, np.arange(60)),
        (0.25, np.arange(60)),
        (1e-20, np.arange(60)),
        (1.0, shuffled),
    ):
        problem = prepare(graph_of(factor * W[np.ix_(order, order)]))
        found = relax(problem, target_gap=1e-5, time_limit=LONG)
        assert found.bound is not None
        values.append((found.value / factor, found.bound.value / factor))
    gap = 1e-5 * np.abs(W).sum() / 2
    lowest, highest = max(value for value, _ in values), min(bound for _, bound in values)
    # Rows of V are unit to float32, values right to as much.
    rounding = 2e-7 * np.abs(W).sum()
    assert lowest <= highest + rounding
    for value, bound in values:
        assert lowest - gap <= value <= bound + rounding <= highest + gap + 2 * rounding


def test_the_value_is_that_of_v() -> None:
    W = halved(cuts.dense_random(30, 4))
    problem = prepare(graph_of(W))
    found = relax(problem, target_gap=1e-4, time_limit=LONG)
    V = np.zeros((30, found.V.shape[1]))
    V[problem.order] = found.V.double().numpy()
    assert np.abs(np.linalg.norm(V, axis=1) - 1).max() < 1e-6
    value = (W.sum() / 2 - oracle.energy(W, V)) / 2
    assert found.value == pytest.approx(value, abs=1e-6 * np.abs(W).sum())


GENERATED = {
    "random": random_sparse(2600, 6.0, "signs", 1),
    "torus": torus(50, 50, "signs", 2),
    "attachment": preferential_attachment(2500, 3, "ones", 3),
    "planted": planted_cut(2400, 12.0, 0.9, 4),
}


@pytest.mark.parametrize("graph", GENERATED.values(), ids=GENERATED.keys())
def test_generated_graphs_reach_their_target(graph: Graph) -> None:
    target = 1e-3
    problem = prepare(graph)
    reports: list[tuple[float, Bound]] = []
    found = relax(
        problem,
        target_gap=target,
        time_limit=LONG,
        report=lambda value, bound: reports.append((value, bound)),
    )
    assert found.bound is not None
    assert found.bound.kind == "chebyshev"
    assert found.bound.delta == 1e-6
    assert found.relative_gap(problem) <= target
    assert found.seconds < LONG
    assert found.bound.value == math.floor(found.bound.value)
    assert found.value <= found.bound.value + 1  # integer weights: the bound is rounded down
    assert reports[-1][1] is found.bound
    bounds = [bound.value for _, bound in reports]
    assert bounds == sorted(set(bounds), reverse=True)


def test_rank_and_repair_answer_negative_curvature() -> None:
    # Rank 4 is too small for a dense graph: eigenvectors must come in, and the target is reached all the same.
    graph = graph_of(halved(cuts.sparse_random(2200, 60.0, 3)))
    problem = prepare(graph)
    found = relax(problem, target_gap=1e-3, time_limit=LONG, rank=4)
    assert found.relative_gap(problem) <= 1e-3


def test_time_limits_are_kept() -> None:
    problem = prepare(random_sparse(20_000, 8.0, "signs", 1))
    relax(prepare(random_sparse(2100, 4.0)), target_gap=0.1, time_limit=1.0)  # compiles
    for limit in (0.0, 0.3):
        begin = time.perf_counter()
        found = relax(problem, target_gap=1e-9, time_limit=limit)
        # A sweep takes .01 s; the rest is a machine that others use as well.
        assert time.perf_counter() - begin < limit + 1.5
        assert found.sweeps >= 1
        assert math.isfinite(found.value)
        if found.bound is None:
            assert found.relative_gap(problem) == math.inf


def test_being_asked_to_stop() -> None:
    problem = prepare(random_sparse(3000, 8.0, "signs", 1))
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 5

    found = relax(problem, target_gap=1e-9, time_limit=LONG, should_stop=stop)
    assert asked == 6  # the answer is remembered
    assert found.sweeps < 20
    assert found.bound is None


def test_a_target_of_zero_ends_with_the_time() -> None:
    problem = prepare(random_sparse(2300, 5.0, "signs", 1))
    found = relax(problem, target_gap=0.0, time_limit=0.7)
    assert found.bound is not None
    assert found.relative_gap(problem) < 0.05


@pytest.mark.parametrize("n", [300, 2500], ids=["dense", "chebyshev"])
def test_a_seed_gives_the_same_bits(n: int) -> None:
    problem = prepare(graph_of(halved(cuts.sparse_random(n, 7.0, 5))))
    runs = []
    for seed, threads in ((3, 1), (3, MOST_THREADS), (3, MOST_THREADS), (4, MOST_THREADS)):
        numba.set_num_threads(threads)
        runs.append(relax(problem, target_gap=1e-3, seed=seed))
    for other in runs[1:3]:
        assert torch.equal(runs[0].V, other.V)
        assert (runs[0].value, runs[0].sweeps) == (other.value, other.sweeps)
    if n > 2000:  # LAPACK's threads may sum in another order
        assert runs[0].bound.value == runs[1].bound.value  # type: ignore[union-attr]
    assert not torch.equal(runs[0].V, runs[3].V)


def test_certificates_draw_from_streams_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, float]] = []

    def spy(*arguments: Any, **keywords: Any) -> Any:
        seen.append((keywords["seed"], keywords["delta"]))
        return chebyshev_bound(*arguments, **{**keywords, "steps": 30})  # too few for the target

    monkeypatch.setattr(module, "chebyshev_bound", spy)
    monkeypatch.setattr(module, "FIRST_ROUND", 20)
    problem = prepare(random_sparse(2300, 5.0, "signs", 1))
    for seed, wanted in ((1, 4), (2, 8)):

        def stop(wanted: int = wanted) -> bool:
            return len(seen) >= wanted

        relax(problem, target_gap=1e-9, seed=seed, delta=0.01, should_stop=stop)
    assert len(seen) == 8
    seeds = [seed for seed, _ in seen]
    assert len(set(seeds)) == 8
    assert all(seed % 2 for seed in seeds)  # the start of V has the even ones
    for first in (0, 4):
        deltas = [delta for _, delta in seen[first : first + 4]]
        assert deltas == pytest.approx(
            [0.01 * 6 / math.pi**2 / i**2 for i in range(1, 5)]
        )  # 1/i^2 add up to pi^2/6


def test_ranks() -> None:
    assert default_rank(prepare(graph_of(cycle(5)))) == 4
    assert default_rank(prepare(graph_of(cycle(9)))) == 8
    assert default_rank(prepare(graph_of(cycle(500)))) == 32
    assert default_rank(prepare(random_sparse(5000, 4.0))) == module.HIGH_RANK
    for n in (2, 5, 100):
        rank = default_rank(prepare(graph_of(cycle(n) if n > 2 else complete(2))))
        assert rank % 4 == 0
        assert rank >= math.sqrt(2 * n)


def test_the_rank_of_large_dense_graphs_follows_how_even_their_rows_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LARGE", 2000)
    even, uneven, sparse = (
        prepare(graph) for graph in (random_sparse(4000, 16.0), rmat(12, 8.0), torus(60, 60))
    )
    assert evenness(uneven) < module.EVEN < evenness(even) <= 1
    assert most_columns(even) == most_columns(uneven) == module.WIDE_RANK
    assert [default_rank(problem) for problem in (even, uneven, sparse)] == [
        module.WIDE_RANK,
        module.HIGH_RANK,
        module.LOW_RANK,
    ]


def test_a_round_ends_when_it_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = prepare(random_sparse(2500, 6.0, seed=1))
    found = relax(problem, target_gap=1e-3, time_limit=LONG)
    assert found.sweeps < module.first_round(1e-3)
    monkeypatch.setattr(module, "SETTLED", 0.0)
    whole = relax(problem, target_gap=1e-3, time_limit=LONG)
    assert whole.sweeps >= module.first_round(1e-3)
    assert 0 <= whole.value - found.value < 0.2e-3 * problem.absolute_weight / problem.scale


def test_random_rows() -> None:
    rows = random_rows(1000, 7, 3)
    assert rows.dtype == torch.float32
    assert float((rows.norm(dim=1) - 1).abs().max()) < 1e-6
    # Uniform on the sphere: each coordinate has mean 0 and mean square 1/7, within 4.5 standard errors of 1000 rows.
    assert float(rows.mean(0).abs().max()) < 4.5 * (7 * 1000) ** -0.5
    assert float((rows.square().mean(0) - 1 / 7).abs().max()) < 4.5 * (1 / 7) * (2 / 1000) ** 0.5
    assert torch.equal(rows, random_rows(1000, 7, 3))
    assert not torch.equal(rows, random_rows(1000, 7, 4))


@pytest.mark.parametrize("rank", [3, 8, 64, 100])
def test_new_columns_leave_the_old_products(rank: int) -> None:
    V = random_rows(400, rank, 0)
    vectors = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).normal(size=(400, 6)))[0])
    wider = module._with_columns(V, vectors)
    assert wider.dtype == torch.float32
    assert wider.shape[1] >= rank
    assert float((wider.norm(dim=1) - 1).abs().max()) < 1e-5
    # The kick is at most .3 a column, where the eigenvectors live.
    assert float((wider @ wider.T - V @ V.T).abs().mean()) < 0.3


def test_a_small_target_passes_the_coarse_one() -> None:
    problem = prepare(torus(60, 60, seed=1))
    coarse = relax(problem, target_gap=module.COARSE_TARGET, time_limit=LONG)
    on_the_way: list[float] = []
    fine = relax(
        problem,
        target_gap=1e-4,
        time_limit=LONG,
        report=lambda value, bound: on_the_way.append(bound.value),
    )
    assert coarse.bound is not None
    assert on_the_way[0] == coarse.bound.value  # the same rounds by the same random numbers
    assert fine.relative_gap(problem) <= 1e-4 < coarse.relative_gap(problem) <= module.COARSE_TARGET
