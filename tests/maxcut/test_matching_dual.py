"""The matching bound's proof: T-cuts that pack, whose multipliers add up to the least T-join another code finds."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sdp.maxcut.cycles import CycleFamily, find_cycles
from sdp.maxcut.dual_graph import dual_graph
from sdp.maxcut.graph import Graph
from sdp.maxcut.matching import match
from sdp.maxcut.matching_dual import MatchingDual, matching_dual
from sdp.maxcut.proof import CycleRows
from sdp.maxcut.rows import bound_of, packing_bound, packing_rows
from tests.maxcut.random_graphs import WEIGHTS, graph_of, small_matrix
from tests.maxcut.test_cycles import best_cut_of_strip, grid
from tests.reference import cuts
from tools.make_graphs import random_sparse, torus

process_module = importlib.import_module("sdp.maxcut._process")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work is done in this process: starting one takes a second, and `test_cycles.py` does so often enough."""

    def run(
        module: str, problem: dict[str, Any], should_stop: Callable[[], bool] = lambda: False
    ) -> NDArray[Any]:
        np.savez(tmp_path / "problem.npz", **problem)
        importlib.import_module(module).main(str(tmp_path / "problem.npz"), str(tmp_path / "answer.npy"))
        return np.asarray(np.load(tmp_path / "answer.npy"))

    monkeypatch.setattr(process_module, "run", run)
    for module in ("_match", "_blossoms"):
        work = importlib.import_module(f"sdp.maxcut.{module}")
        monkeypatch.setattr(work, "end_with_the_parent", lambda problem: None)


def dense_bound(graph: Graph, rows: CycleRows) -> float:
    """The bound by its definition, row by row; refuses rows that are no cuts' inequalities."""
    u, v, weights = graph.edges()
    left, right = weights.copy(), 0.0
    for r in range(rows.multipliers.size):
        here = slice(rows.pointers[r], rows.pointers[r + 1])
        members, inside = rows.members[here], rows.in_F[here]
        assert len(set(members.tolist())) == len(members)
        assert (np.bincount(np.concatenate([u[members], v[members]])) % 2 == 0).all()
        assert inside.sum() % 2 == 1
        assert rows.multipliers[r] > 0
        left[members] -= np.where(inside, 1, -1) * rows.multipliers[r]
        right += rows.multipliers[r] * (inside.sum() - 1)
    return right + float(np.maximum(left, 0).sum())


def proved(graph: Graph, family: CycleFamily) -> MatchingDual:
    found = matching_dual(graph, family)
    assert found is not None
    return found


@pytest.mark.parametrize("weights", ["signs", "integers"])
@pytest.mark.parametrize("rows", [4, 25])
def test_planar_graphs_are_proved_optimal(rows: int, weights: str) -> None:
    graph = grid(rows, 6, weights, rows)
    dual = proved(graph, find_cycles(graph))
    best = best_cut_of_strip(graph, 6)
    assert dual.bound.value == best == dense_bound(graph, dual.rows)
    assert (2 * dual.rows.multipliers == np.rint(2 * dual.rows.multipliers)).all()
    positive = graph.edges()[2][graph.edges()[2] > 0].sum()
    assert dual.least == positive - best


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weights", ["signs", "integers", "large", "normal"])
def test_the_dual_is_the_least_join(weights: str, seed: int) -> None:
    graph = grid(9, 9, weights, seed)
    family = find_cycles(graph)
    found, dual = match(graph, family), proved(graph, family)
    assert found is not None
    if weights in ("signs", "integers"):
        assert dual.bound.value == found.bound.value == dense_bound(graph, dual.rows)
    else:
        assert dual.bound.value == pytest.approx(found.bound.value, rel=1e-12)
        assert dual.bound.value >= dense_bound(graph, dual.rows) * (1 - 1e-14)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("seed", range(3))
def test_tori_and_sparse_graphs(seed: int) -> None:
    for graph in (torus(12, 13, seed=seed), random_sparse(40, 3.0, "signs", seed)):
        family = find_cycles(graph)
        found, dual = match(graph, family), proved(graph, family)
        assert found is not None
        assert dual.bound.value == found.bound.value == dense_bound(graph, dual.rows)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("weights", WEIGHTS)
def test_it_is_never_below_brute_force(weights: str) -> None:
    for seed in range(3):
        W = small_matrix(11, "random", weights, seed)
        graph = graph_of(W)
        dual = proved(graph, find_cycles(graph, 6))
        best = cuts.best_cut(W)
        oracle = 0.0 if graph.is_integer else 1e-14 * graph.absolute_weight
        assert dual.bound.value >= best - oracle
        assert dense_bound(graph, dual.rows) >= best - 1e-12 * graph.absolute_weight


@pytest.mark.usefixtures("here")
def test_weights_of_nothing_on_the_grid_are_contracted() -> None:
    graph = grid(6, 6, "normal", 0)
    u, v, weights = graph.edges()
    graph = Graph.from_edges(u, v, np.where(np.arange(u.size) % 3, weights, weights * 1e-12))
    family = find_cycles(graph)
    found, dual = match(graph, family), proved(graph, family)
    assert found is not None
    assert dual.bound.value == pytest.approx(found.bound.value, rel=1e-12)
    assert dense_bound(graph, dual.rows) <= dual.bound.value


def test_nothing_frustrated_needs_no_rows() -> None:
    for graph in (
        Graph.from_edges([0, 1, 2, 3], [1, 2, 3, 0]),
        Graph.from_edges([0], [1]),
        Graph.from_edges([], [], n_vertices=2),
    ):
        dual = proved(graph, find_cycles(graph))
        assert dual.rows.multipliers.size == dual.least == 0
        assert dual.bound.value == graph.n_edges


def test_it_can_be_stopped() -> None:
    graph = torus(12, 12, seed=1)
    assert matching_dual(graph, find_cycles(graph), should_stop=lambda: True) is None


def test_a_dual_that_does_not_pack_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = torus(12, 12, seed=1)
    family = find_cycles(graph)
    run = process_module.run

    def twice(*arguments: object) -> NDArray[np.int64]:
        found: NDArray[np.int64] = run(*arguments)
        found[2] *= 2
        return found

    monkeypatch.setattr(process_module, "run", twice)
    with pytest.raises(RuntimeError, match="does not add up to a packing"):
        matching_dual(graph, family)


def test_the_dual_graph_lists_each_edge_once() -> None:
    square_with_diagonal = Graph.from_edges([0, 0, 0, 1, 2], [1, 2, 3, 2, 3])
    family = find_cycles(square_with_diagonal, 3)
    ends, edges = dual_graph(family)
    assert edges.tolist() == [0, 1, 2, 3, 4]
    assert np.sort(ends, 1).tolist() == [[0, 2], [0, 1], [1, 2], [0, 2], [1, 2]]


@pytest.mark.parametrize("weights", ["signs", "normal"])
def test_packings_are_rows_too(weights: str) -> None:
    graph = grid(9, 9, weights, 0)
    family = find_cycles(graph)
    rows = packing_rows(graph, family)
    assert bound_of(graph, rows) == pytest.approx(packing_bound(graph, family).value, rel=1e-12)
    assert bound_of(graph, rows) >= (np.floor if graph.is_integer else float)(dense_bound(graph, rows))
