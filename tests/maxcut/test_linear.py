"""The cycle bound: never below the maximum, equal to it on planar graphs, and proved by rows and multipliers alone."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from sdp.maxcut import _program
from sdp.maxcut.cycles import find_cycles
from sdp.maxcut.graph import Graph
from sdp.maxcut.lattice import cut_step
from sdp.maxcut.linear import CycleLP, cycle_lp, decided_edges
from sdp.maxcut.matching import match
from sdp.maxcut.proof import CycleRows
from tests.maxcut.random_graphs import SHAPES, WEIGHTS, graph_of, small_matrix
from tests.reference import cuts
from tests.reference.proofs import proved
from tools.make_graphs import random_sparse, torus

ROUNDING = 1e-13  # of all weights together: of the oracle's own sums


def planar(n: int, weights: str, seed: int) -> Graph:
    """A random triangulated strip of points with some edges left out: planar whatever is left."""
    rng = np.random.default_rng(seed)
    u, v = [], []
    hull = [0, 1, 2]
    u, v = [0, 1, 0], [1, 2, 2]
    for new in range(3, n):  # a new point outside sees a stretch of the hull
        begin = int(rng.integers(0, len(hull)))
        seen = [hull[(begin + k) % len(hull)] for k in range(int(rng.integers(2, min(5, len(hull)) + 1)))]
        u += seen
        v += [new] * len(seen)
        inner = set(seen[1:-1])
        at = hull.index(seen[0])
        hull = [*hull[at:], *hull[:at]]
        hull = [hull[0], new, *[x for x in hull[1:] if x not in inner]]
    w = {
        "ones": lambda: np.ones(len(u)),
        "signs": lambda: rng.choice([-1.0, 1.0], len(u)),
        "normal": lambda: rng.normal(size=len(u)),
    }[weights]()
    return Graph.from_edges(u, v, w, n_vertices=n)


def best_with(W: cuts.Matrix, graph: Graph, fixed: np.ndarray) -> float:
    """Maximum cut among those that agree with fixings, by trying all; -inf if none does."""
    u, v, w = graph.edges()
    best = -math.inf
    for rest in itertools.product((0, 1), repeat=len(W) - 1):
        side = np.array((0, *rest))
        crosses = side[u] != side[v]
        if (crosses[fixed >= 0] == (fixed[fixed >= 0] == 1)).all():
            best = max(best, float(w[crosses].sum()))
    return best


def slack_of(graph: Graph) -> float:
    return 0.0 if graph.is_integer else ROUNDING * graph.absolute_weight


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 14),
    shape=st.sampled_from(SHAPES),
    weights=st.sampled_from(WEIGHTS),
    seed=st.integers(0, 2**31 - 1),
)
def test_the_bound_is_proved_and_not_below_the_maximum(n: int, shape: str, weights: str, seed: int) -> None:
    W = small_matrix(n, shape, weights, seed)
    graph = graph_of(W)
    found = cycle_lp(graph, seed=seed % 1000)
    best = cuts.best_cut(W)
    assert found.bound.value >= best - slack_of(graph)
    assert found.bound.delta == 0.0
    exact = proved(graph, found.rows)
    # What is reported is what the rows prove, rounded up, and then down to the grid of cuts.
    assert found.bound.value <= exact + ROUNDING * graph.absolute_weight
    step = cut_step(graph)
    assert found.bound.value >= (exact // Fraction(step) * Fraction(step) if step else exact)
    assert found.cut_value == graph.cut_value(found.partition) <= best + slack_of(graph)
    if found.is_integral or found.status == "optimal":
        assert found.cut_value == pytest.approx(best, rel=1e-8, abs=1e-8 * graph.absolute_weight)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(3, 9), weights=st.sampled_from(["signs", "normal"]), seed=st.integers(0, 2**31 - 1))
def test_fixings_are_kept(n: int, weights: str, seed: int) -> None:
    W = small_matrix(n, "random", weights, seed)
    graph = graph_of(W)
    fixed = np.random.default_rng(seed).choice([-1, -1, 0, 1], graph.n_edges)
    found = cycle_lp(graph, fixed=fixed)
    best = best_with(W, graph, fixed)
    assert found.bound.value >= best - slack_of(graph)
    decided = {int(e): bool(fixed[e]) for e in np.flatnonzero(fixed >= 0)}
    assert found.bound.value <= proved(graph, found.rows, decided) + ROUNDING * graph.absolute_weight * 10
    if math.isinf(best):  # no cut agrees: proved by a bound below every cut known
        assert found.bound.value <= found.cut_value + slack_of(graph) + 1e-9 * graph.absolute_weight


@pytest.mark.parametrize("weights", ["ones", "signs", "normal"])
@pytest.mark.parametrize("n", [12, 60])
def test_planar_graphs_are_solved(weights: str, n: int) -> None:
    graph = planar(n, weights, n)
    found = cycle_lp(graph)
    assert found.status == "optimal"
    assert found.bound.value == pytest.approx(found.cut_value, rel=1e-8, abs=1e-7)


def test_matching_says_the_same_of_a_planar_graph() -> None:
    rng = np.random.default_rng(0)
    rows, columns = 8, 7
    name = np.arange(rows * columns).reshape(rows, columns)
    u = np.concatenate((name[:, :-1].ravel(), name[:-1].ravel()))
    v = np.concatenate((name[:, 1:].ravel(), name[1:].ravel()))
    graph = Graph.from_edges(u, v, rng.integers(-9, 10, u.size).astype(float))
    matching = match(graph, find_cycles(graph))
    assert matching is not None
    assert cycle_lp(graph).bound.value == matching.bound.value


def same(one: CycleLP, other: CycleLP) -> None:
    assert (one.bound.value, one.cut_value, one.rounds) == (other.bound.value, other.cut_value, other.rounds)
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.rows.members, other.rows.members)
    np.testing.assert_array_equal(one.rows.multipliers, other.rows.multipliers)


def test_threads_do_not_matter_and_seeds_repeat() -> None:
    graph = torus(16, 16, seed=4)
    same(cycle_lp(graph, threads=1, seed=3), cycle_lp(graph, threads=min(2, threads_here()), seed=3))


def threads_here() -> int:
    import numba

    return int(numba.config.NUMBA_NUM_THREADS)


def test_interior_points_prove_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = torus(16, 16, seed=5)
    by_simplex = cycle_lp(graph)
    monkeypatch.setattr(_program, "SIMPLEX_EDGES", 0)
    by_interior = cycle_lp(graph)
    assert by_simplex.status == by_interior.status == "optimal"
    assert by_simplex.bound.value == by_interior.bound.value
    monkeypatch.setattr(_program, "SIMPLEX_EDGES", 10**6)
    monkeypatch.setattr(_program, "SIMPLEX_ITERATIONS", 20)  # gives up at once
    assert cycle_lp(graph).bound.value == by_simplex.bound.value


def test_no_time_leaves_the_positive_weights() -> None:
    graph = random_sparse(60, 4.0, "signs", seed=1)
    found = cycle_lp(graph, time_limit=0.0)
    assert (found.status, found.rounds) == ("time limit", 0)
    assert found.bound.value == (graph.edges()[2] > 0).sum()
    assert cycle_lp(graph, should_stop=lambda: True).bound.value == found.bound.value


def test_a_known_cut_ends_it_early() -> None:
    graph = torus(10, 10, seed=0)
    whole = cycle_lp(graph)
    told = cycle_lp(graph, incumbent=whole.cut_value)
    assert told.status == "optimal"
    assert told.bound.value == whole.bound.value
    assert told.rounds <= whole.rounds


@pytest.mark.parametrize("n", [0, 1, 4])
def test_graphs_without_edges(n: int) -> None:
    found = cycle_lp(Graph.from_edges([], [], [], n_vertices=n))
    assert (found.bound.value, found.cut_value, found.status) == (0.0, 0.0, "optimal")
    assert found.is_integral


def test_reduced_costs_decide_what_every_better_cut_has() -> None:
    for seed in range(6):
        W = small_matrix(11, "dense", "integers", seed)
        graph = graph_of(W)
        found = cycle_lp(graph)
        best = cuts.best_cut(W)
        known = best - 2.0  # so that there is something better
        decided = decided_edges(graph, found.rows, found.bound.value, known)
        assert best_with(W, graph, decided) == best
    # A tree leaves no doubt of any edge.
    tree = Graph.from_edges([0, 0, 1], [1, 2, 3], [2.0, -3.0, 4.0])
    found = cycle_lp(tree)
    np.testing.assert_array_equal(decided_edges(tree, found.rows, 6.0, 5.0), [1, 0, 1])


def test_bad_arguments() -> None:
    graph = Graph.from_edges([0, 1, 2], [1, 2, 0])
    with pytest.raises(ValueError, match=r"^`fixed` must have shape \(3,\); got \(2,\).$"):
        cycle_lp(graph, fixed=[0, 1])
    with pytest.raises(ValueError, match=r"^`fixed` must hold -1, 0 and 1; got 2.$"):
        cycle_lp(graph, fixed=[0, 1, 2])
    with pytest.raises(ValueError, match=r"^`time_limit` must be at least 0 seconds; got nan.$"):
        cycle_lp(graph, time_limit=math.nan)
    with pytest.raises(ValueError, match=r"^`incumbent` must be finite; got inf.$"):
        cycle_lp(graph, incumbent=math.inf)


def test_rows_that_are_handed_in_prove_what_they_did() -> None:
    graph = random_sparse(60, 4.0, "signs", seed=1)
    first = cycle_lp(graph)
    again = cycle_lp(graph, start_rows=first.rows, time_limit=0.0)
    assert (again.bound.value, again.rounds) == (first.bound.value, 0)
    assert proved(graph, again.rows) == proved(graph, first.rows)
    twice = CycleRows(
        np.concatenate((first.rows.pointers, first.rows.pointers[-1] + first.rows.pointers[1:])),
        np.tile(first.rows.members, 2),
        np.tile(first.rows.in_F, 2),
        np.tile(first.rows.multipliers, 2),
    )
    assert cycle_lp(graph, start_rows=twice).bound.value == first.bound.value
