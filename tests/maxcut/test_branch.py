"""Branch and cut: the maximum, and a tree that proves it, checked in rational arithmetic."""

from __future__ import annotations

import math

import highspy
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from sdp.maxcut import branch
from sdp.maxcut.branch import BranchAndCut, branch_and_cut
from sdp.maxcut.graph import Graph
from sdp.maxcut.proof import Branch
from tests.maxcut.random_graphs import SHAPES, WEIGHTS, graph_of, small_matrix
from tests.reference import cuts
from tests.reference.proofs import proved
from tools.make_graphs import random_sparse, torus

ROUNDING = 1e-9  # of all weights together: cuts of rounded weights that count as equal


def check(graph: Graph, found: BranchAndCut) -> None:
    """What must hold of any answer, whenever it was asked for."""
    assert (
        found.cut_value
        == graph.cut_value(found.partition)
        <= found.bound.value + 1e-13 * graph.absolute_weight
    )
    exact = proved(graph, found.proof)
    if graph.is_integer:  # cuts are integers, and the bound may have been rounded down to their grid
        assert found.bound.value > exact - 2 * math.gcd(*np.abs(graph.edges()[2]).astype(int).tolist(), 0) - 1
    else:
        assert found.bound.value >= exact
    assert found.bound.value <= exact + 1e-12 * graph.absolute_weight


def mip_cut(graph: Graph) -> float:
    """Maximum cut by HiGHS's integer programming: x_e <= s_u + s_v and x_e <= 2 - s_u - s_v, or both from below."""
    u, v, w = graph.edges()
    n, m = graph.n_vertices, graph.n_edges
    solver = highspy.Highs()
    solver.silent()
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.addVars(n + m, np.zeros(n + m), np.ones(n + m))
    solver.changeColsCost(m, np.arange(n, n + m, dtype=np.int32), -w)
    kinds = np.full(n, highspy.HighsVarType.kInteger)
    solver.changeColsIntegrality(n, np.arange(n, dtype=np.int32), kinds)
    for e in range(m):
        columns = np.array([u[e], v[e], n + e], dtype=np.int32)
        for signs, low, high in (
            ((-1.0, -1.0, 1.0), -math.inf, 0.0),
            ((1.0, 1.0, 1.0), -math.inf, 2.0),
            ((-1.0, 1.0, 1.0), 0.0, math.inf),
            ((1.0, -1.0, 1.0), 0.0, math.inf),
        ):
            solver.addRow(low, high, 3, columns, np.array(signs))
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return -float(solver.getInfo().objective_function_value)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 14),
    shape=st.sampled_from(SHAPES),
    weights=st.sampled_from(WEIGHTS),
    seed=st.integers(0, 2**31 - 1),
)
def test_small_graphs_are_solved_and_proved(n: int, shape: str, weights: str, seed: int) -> None:
    W = small_matrix(n, shape, weights, seed)
    graph = graph_of(W)
    found = branch_and_cut(graph)
    check(graph, found)
    assert found.status == "optimal"
    assert found.cut_value == pytest.approx(cuts.best_cut(W), rel=1e-12, abs=ROUNDING * graph.absolute_weight)


@pytest.mark.parametrize("n", [7, 9])
def test_complete_graphs_need_branches(n: int) -> None:
    W = np.ones((n, n)) - np.eye(n)
    graph = graph_of(W)
    found = branch_and_cut(graph)
    check(graph, found)
    assert isinstance(found.proof, Branch)
    assert found.bound.kind == branch.KIND
    assert found.cut_value == found.bound.value == n * n // 4


@pytest.mark.parametrize("seed", range(3))
def test_an_integer_program_says_the_same(seed: int) -> None:
    graph = random_sparse(40, 3.5, "signs", seed=seed)
    found = branch_and_cut(graph)
    check(graph, found)
    assert found.status == "optimal"
    assert found.cut_value == pytest.approx(mip_cut(graph), abs=1e-6)


def test_a_torus_is_proved_by_the_grid_of_cuts() -> None:
    graph = torus(16, 16, seed=2)
    found = branch_and_cut(graph)
    check(graph, found)
    assert found.status == "optimal"
    assert found.cut_value == found.bound.value
    assert found.cut_value % 2 == 0


def test_every_stop_leaves_a_bound() -> None:
    graph = random_sparse(80, 5.0, "ones", seed=3)
    bounds = [branch_and_cut(graph, max_nodes=nodes) for nodes in (1, 3, 9)]
    for found in bounds:
        check(graph, found)
    values = [found.bound.value for found in bounds]
    assert values == sorted(values, reverse=True)
    told: list[float] = []
    at_once = branch_and_cut(graph, should_stop=lambda: True, report=lambda bound, _: told.append(bound))
    check(graph, at_once)
    assert (at_once.status, at_once.nodes, told) == ("time limit", 0, [])
    assert at_once.bound.value == graph.n_edges
    calls = iter(range(10**9))
    some = branch_and_cut(
        graph, should_stop=lambda: next(calls) > 60, report=lambda bound, _: told.append(bound)
    )
    check(graph, some)
    assert told == sorted(told, reverse=True)
    assert some.bound.value <= told[-1]


def test_a_cut_that_is_handed_in_is_kept() -> None:
    graph = torus(12, 12, seed=1)
    best = branch_and_cut(graph)
    again = branch_and_cut(graph, partition=2 * best.partition.astype(int) - 1)
    np.testing.assert_array_equal(again.partition, best.partition)
    assert again.rounds <= best.rounds
    none = branch_and_cut(graph, partition=best.partition, time_limit=0.0)
    assert none.cut_value == best.cut_value


def test_threads_do_not_matter() -> None:
    import numba

    graph = random_sparse(70, 5.0, "signs", seed=0)
    two = min(2, int(numba.config.NUMBA_NUM_THREADS))
    one, other = (branch_and_cut(graph, threads=k, max_nodes=7) for k in (1, two))
    assert (one.bound.value, one.nodes, one.rounds) == (other.bound.value, other.nodes, other.rounds)
    np.testing.assert_array_equal(one.partition, other.partition)
    assert proved(graph, one.proof) == proved(graph, other.proof)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_graphs_without_edges(n: int) -> None:
    found = branch_and_cut(Graph.from_edges([], [], [], n_vertices=n))
    assert (found.bound.value, found.cut_value, found.status) == (0.0, 0.0, "optimal")
    assert found.partition.shape == (n,)


def test_bad_arguments() -> None:
    graph = Graph.from_edges([0, 1, 2], [1, 2, 0])
    with pytest.raises(ValueError, match=r"^`max_nodes` must be at least 1; got 0.$"):
        branch_and_cut(graph, max_nodes=0)
    with pytest.raises(ValueError, match=r"^`time_limit` must be at least 0 seconds; got -1.$"):
        branch_and_cut(graph, time_limit=-1)
    with pytest.raises(ValueError, match=r"^partition must have shape \(3,\); got \(2,\).$"):
        branch_and_cut(graph, partition=[0, 1])
