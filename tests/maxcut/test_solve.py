"""`maxcut` as users call it: answers, methods, seeds, starts, results and forms of graphs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx
import numba
import numpy as np
import pytest
import torch

from sdp.maxcut.graph import Graph
from sdp.maxcut.io import write_graph
from sdp.maxcut.result import relative_gap
from sdp.maxcut.solve import METHODS, maxcut
from tests.maxcut.random_graphs import SHAPES, WEIGHTS, graph_of, small_matrix
from tests.maxcut.sound import LARGE, MIDDLE, assert_sound, quick
from tests.reference import cuts
from tests.reference import graph as oracle
from tools.make_graphs import planted_cut, preferential_attachment, random_sparse, torus

MOST_THREADS = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True, scope="module")
def _loaded() -> None:
    """Loading the kernels belongs to no test's clock."""
    maxcut(random_sparse(30, 5.0, "signs", 0), time_limit=0.1)


@pytest.fixture(autouse=True)
def _settings_are_put_back() -> Iterator[None]:
    before = numba.get_num_threads(), torch.get_num_threads()
    yield
    assert (numba.get_num_threads(), torch.get_num_threads()) == before


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_small_graphs_are_solved(shape: str, weights: str) -> None:
    n = 4 + SHAPES.index(shape) + WEIGHTS.index(weights)
    W = small_matrix(n, shape, weights, n)
    graph = graph_of(W)
    result = quick(graph, time_limit=10)
    assert_sound(result, graph)
    best = oracle.best_cut(W)
    # Local search works on float32 gains; over 60 decades the small weights are beyond it.
    slack = 0.0 if graph.is_integer and weights != "large integers" else 1e-4 * np.abs(W).max(initial=0)
    assert best - slack <= result.cut_value <= best + 1e-14 * np.abs(W).sum()
    assert result.upper_bound >= best * (1 - 1e-15)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "graph", [MIDDLE, graph_of(cuts.several_components(3)), LARGE], ids=["middle", "components", "large"]
)
def test_every_method_gives_a_sound_result(graph: Graph, method: str) -> None:
    result = quick(graph, method=method, reduce=False)
    assert_sound(result, graph)
    assert result.method == method
    relaxed = method != "anneal"
    assert result.bound_kind == (
        ("chebyshev" if graph is LARGE else "dense") if relaxed else "sum of positive weights"
    )
    assert math.isfinite(result.relaxation_value) == relaxed
    assert ("polish" in result.timings) == (method in ("auto", "anneal"))
    assert result.cut_value >= 0.7 * result.upper_bound or not relaxed


# Every edge with positive weight can be cut and no other needs to be: known at once, whatever the sizes.
BALANCED = {
    "no vertices": (Graph.from_edges([], []), 0.0),
    "one vertex": (Graph.from_edges([], [], n_vertices=1), 0.0),
    "no edges": (Graph.from_edges([], [], n_vertices=1000), 0.0),
    "zero weights": (Graph.from_edges([0, 1, 2], [1, 2, 0], [0.0, 0.0, 0.0]), 0.0),
    "negative": (Graph.from_edges([0, 1, 2], [1, 2, 0], [-1, -2, -3]), 0.0),
    "negative fractions": (Graph.from_edges([0, 1, 2], [1, 2, 0], [-0.1, -0.2, -1e-30]), 0.0),
    "edge": (Graph.from_edges([0], [1]), 1.0),
    "edge of a tenth": (Graph.from_edges([0], [1], [0.1]), 0.1),
    "bipartite": (planted_cut(20_000, 6.0, 1.0, 1), None),
    "path of tenths": (Graph.from_edges(range(999), range(1, 1000), [0.1] * 999), 99.9),
    "even torus": (torus(40, 50, "ones"), 4000.0),
    "two signs": (Graph.from_edges([0, 1, 2, 3], [1, 2, 3, 0], [1, 1, -1, -1]), 2.0),
    "decades": (Graph.from_edges([0, 1, 2], [1, 2, 3], [1e30, 1e-30, 1e30]), 2e30),
    "subnormal": (Graph.from_edges([0, 1, 2], [1, 2, 0], [1e-310, 2e-310, -1e-310]), 3e-310),
}


@pytest.mark.parametrize(("graph", "value"), BALANCED.values(), ids=BALANCED.keys())
def test_balanced_graphs_are_optimal_at_once(graph: Graph, value: float | None) -> None:
    result = maxcut(graph, time_limit=60)
    assert_sound(result, graph)
    assert result.status == "optimal"
    assert result.timings["total"] < 5
    assert "relax" not in result.timings
    assert result.cut_value == pytest.approx(graph.total_weight if value is None else value, rel=1e-14)
    assert result.upper_bound == pytest.approx(result.cut_value, rel=1e-15)
    assert (result.bound_kind, result.delta) == ("sum of positive weights", 0.0)


def test_weights_of_many_decades() -> None:
    graph = Graph.from_edges([0, 1, 2, 2, 3, 4], [1, 2, 0, 3, 4, 2], [1e30, 1e30, 1e30, 1e-30, 1e-30, 1e-30])
    result = quick(graph)
    assert_sound(result, graph)
    assert result.cut_value == 2e30


def test_a_gap_that_closes_is_optimal() -> None:
    # A planar grid with a weak bound is not; a complete graph of even order is.
    for n, kind in ((4, "exact reduction"), (20, "exact reduction"), (30, "dense")):
        result = quick(graph_of(np.ones((n, n)) - np.eye(n)))
        assert (result.cut_value, result.upper_bound, result.gap) == (n * n / 4, n * n / 4, 0.0)
        assert result.status == "optimal"
        assert result.bound_kind == kind


@pytest.mark.parametrize("graph", [MIDDLE, LARGE], ids=["middle", "large"])
def test_a_seed_gives_the_same_result(graph: Graph) -> None:
    results = [
        maxcut(graph, time_limit=math.inf, max_rounds=4, seed=seed, threads=threads)
        for seed, threads in ((7, 1), (7, MOST_THREADS), (7, MOST_THREADS), (8, MOST_THREADS))
    ]
    for other in results[1:3]:
        assert (other.partition == results[0].partition).all()
        assert [row[1:] for row in other.history] == [row[1:] for row in results[0].history]
        assert other.upper_bound == results[0].upper_bound
        assert other.relaxation_value == results[0].relaxation_value
        assert other.status == "rounds done"
    assert results[3].relaxation_value != results[0].relaxation_value
    assert [result.threads for result in results] == [1, MOST_THREADS, MOST_THREADS, MOST_THREADS]


@pytest.mark.parametrize("seed", [np.int32(2**31 - 1), np.uint8(200)])
def test_numpy_seeds(seed: np.integer[Any]) -> None:
    one, other = (quick(LARGE, seed=number, max_rounds=1) for number in (seed, int(seed)))
    assert (one.partition == other.partition).all()
    assert one.upper_bound == other.upper_bound
    json.dumps(one.to_dict())


class TestWarmStart:
    BEST = quick(MIDDLE, max_rounds=60)

    def test_is_never_lost(self) -> None:
        for method in METHODS:
            result = quick(MIDDLE, warm_start=self.BEST.partition, method=method, max_rounds=0)
            assert result.cut_value >= self.BEST.cut_value
            assert_sound(result, MIDDLE)

    @pytest.mark.parametrize("form", [np.uint8, bool, np.int8, np.float64, list, torch.tensor])
    def test_forms(self, form: Any) -> None:
        sides = 2 * self.BEST.partition.astype(int) - 1 if form is np.int8 else self.BEST.partition
        given = form(sides) if form in (list, torch.tensor) else sides.astype(form)
        result = maxcut(MIDDLE, warm_start=given, callback=lambda _: True)
        assert result.status == "interrupted"
        assert result.cut_value == self.BEST.cut_value

    def test_is_not_changed(self) -> None:
        mine = self.BEST.partition.copy()
        result = quick(MIDDLE, warm_start=mine)
        result.partition[:] = 0
        assert (mine == self.BEST.partition).all()

    def test_below_zero_is_worth_less_than_no_cut(self) -> None:
        graph = Graph.from_edges([0, 1, 2], [1, 2, 0], [-1, -1, 2])
        result = maxcut(graph, warm_start=[1, 0, 1], callback=lambda _: True)
        assert result.cut_value >= 0
        assert_sound(result, graph)


def test_results_are_ready_for_json() -> None:
    result = quick(MIDDLE, method="anneal")
    record = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert record["relaxation_value"] is None
    assert record["history"][0][2] is None or record["history"][0][2] > 0
    assert "partition" not in record
    assert record["cut_value"] == result.cut_value
    assert record["bound_is_deterministic"] is (result.delta == 0.0)
    assert quick(LARGE).to_dict()["bound_is_deterministic"] is False
    assert len(record["history"]) == len(result.history)
    whole = json.loads(json.dumps(quick(MIDDLE).to_dict(partition=True), allow_nan=False))
    assert len(whole["partition"]) == 300
    assert MIDDLE.cut_value(whole["partition"]) == whole["cut_value"]


def test_results_can_be_read() -> None:
    result = quick(MIDDLE)
    assert repr(result).startswith(f"<MaxCutResult of {MIDDLE.name}: cut {result.cut_value:.0f}, at most ")
    assert repr(result).endswith("; rounds done>")
    assert "no certified bound" not in repr(result)


def test_relative_gaps() -> None:
    assert relative_gap(0.0, 0.0) == 0.0
    assert relative_gap(9.0, 10.0) == pytest.approx(0.1)
    assert relative_gap(-1.0, 0.0) == math.inf
    assert relative_gap(3.0, math.inf) == math.inf


def test_notes_of_the_graph_are_kept() -> None:
    graph = Graph.from_edges([0, 1, 1], [1, 2, 1])
    assert graph.notes
    assert quick(graph, reduce=False).notes == graph.notes
    assert quick(graph).notes == (*graph.notes, "reduced exactly to 0 vertices and 0 edges")


def test_everything_like_a_graph_is_accepted(tmp_path: Path) -> None:
    W = cuts.symmetric(np.random.default_rng(0).integers(-3, 4, (12, 12)).astype(float))
    u, v = np.nonzero(np.triu(W))
    graph = graph_of(W)
    write_graph(graph, tmp_path / "graph.txt.gz")
    nx = networkx.Graph()
    nx.add_nodes_from(range(12))
    nx.add_weighted_edges_from(zip(u.tolist(), v.tolist(), W[u, v].tolist(), strict=True))
    coo = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack((u, v))), torch.from_numpy(W[u, v]), (12, 12), check_invariants=True
    )
    forms: list[Any] = [
        graph,
        tmp_path / "graph.txt.gz",
        str(tmp_path / "graph.txt.gz"),
        graph.to_scipy(),
        nx,
        coo,
        (u, v, W[u, v]),
    ]
    igraph = pytest.importorskip("igraph")
    forms.append(igraph.Graph(12, list(zip(u, v, strict=True)), edge_attrs={"weight": W[u, v].tolist()}))
    results = [quick(form) for form in forms]
    assert {result.cut_value for result in results} == {oracle.best_cut(W)}
    assert {result.upper_bound for result in results} == {results[0].upper_bound}


def test_large_graphs_have_a_bound_with_a_stated_chance_of_failure() -> None:
    graph = preferential_attachment(3000, 3, "ones", 1)
    result = quick(graph, delta=0.01, reduce=False)
    assert (result.bound_kind, result.delta) == ("chebyshev", 0.01)
    assert result.upper_bound == math.floor(result.upper_bound)
    assert (result.upper_bound - result.relaxation_value) / graph.absolute_weight < 1e-3


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_reduced_or_not_the_whole_graph_is_spoken_of(shape: str, weights: str) -> None:
    W = small_matrix(13, shape, weights, 5)
    graph = graph_of(W)
    for reduce in (True, False):
        result = quick(graph, time_limit=10, reduce=reduce)
        assert_sound(result, graph)
        rounding = 1e-14 * graph.absolute_weight  # of the oracle, whose sums cancel
        assert result.cut_value == pytest.approx(cuts.best_cut(W), rel=1e-12, abs=rounding)


def test_what_the_rules_leave_is_solved_and_lifted() -> None:
    graph = preferential_attachment(6000, 2, "signs", 4)
    whole, reduced = (quick(graph, reduce=choice, time_limit=20) for choice in (False, True))
    for result in (whole, reduced):
        assert_sound(result, graph)
    assert any(note.startswith("reduced exactly to ") for note in reduced.notes)
    # What is reduced is tighter in both directions; each bound must hold for the other's cut.
    assert reduced.cut_value <= whole.upper_bound
    assert whole.cut_value <= reduced.upper_bound <= whole.upper_bound
    again = quick(graph, warm_start=reduced.partition, max_rounds=0, method="anneal")
    assert again.cut_value >= reduced.cut_value


def test_one_ulp_short_is_not_optimal() -> None:
    graph = Graph.from_edges([0, 2], [1, 3], [2.0**52, 1.0])
    result = maxcut(graph, time_limit=10, warm_start=[0, 1, 0, 0])
    assert (result.cut_value, result.status) == (2.0**52 + 1, "optimal")
