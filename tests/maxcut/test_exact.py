"""Small treewidth, blocks and the grid of cuts, all against brute force."""

from __future__ import annotations

import hypothesis.strategies as st
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings

from sdp.maxcut.blocks import blocks, edge_blocks, glue
from sdp.maxcut.exact import Elimination, elimination, solve_exactly
from sdp.maxcut.graph import Graph
from sdp.maxcut.lattice import cut_step, rounded_down
from sdp.maxcut.shrink import Shrunk, shrink, solve_blocks
from tests.maxcut.random_graphs import SHAPES, WEIGHTS, graph_of, small_matrices, small_matrix
from tests.reference import cuts
from tests.reference.cuts import Matrix
from tools.make_graphs import random_sparse, torus

ROUNDING = 1e-13  # of the sum of |w|: the oracle adds up to 153 numbers in another order


def order_of(graph: Graph) -> Elimination:
    found = elimination(graph)
    assert found is not None
    return found


@settings(max_examples=300, deadline=None)
@given(small_matrices())
def test_dynamic_programming_finds_the_maximum_cut(case: tuple[Matrix, int]) -> None:
    graph = graph_of(case[0])
    best = cuts.best_cut(case[0])
    slack = 0.0 if graph.is_integer else ROUNDING * graph.absolute_weight
    exact = solve_exactly(graph, order_of(graph))
    assert exact is not None
    assert exact.value == graph.cut_value(exact.partition)
    assert abs(exact.value - best) <= slack
    assert best - slack <= exact.upper_bound <= best + 2 * slack


@settings(max_examples=300, deadline=None)
@given(small_matrices())
def test_blocks_add_up(case: tuple[Matrix, int]) -> None:
    graph = graph_of(case[0])
    parts = []
    total = 0.0
    for block in blocks(graph):
        exact = solve_exactly(block.graph, order_of(block.graph))
        assert exact is not None
        parts.append((block.vertices, exact.partition))
        total += exact.value
        np.testing.assert_array_equal(block.graph.edges()[2], graph.edges()[2][block.edges])
    slack = 0.0 if graph.is_integer else ROUNDING * graph.absolute_weight
    assert abs(total - cuts.best_cut(case[0])) <= slack
    assert abs(graph.cut_value(glue(graph.n_vertices, parts)) - total) <= slack


@settings(max_examples=300, deadline=None)
@given(small_matrices())
def test_blocks_are_those_of_networkx(case: tuple[Matrix, int]) -> None:
    graph = graph_of(case[0])
    u, v, _ = graph.edges()
    theirs = nx.Graph(zip(u.tolist(), v.tolist(), strict=True))
    assert sorted(sorted(part) for part in nx.biconnected_components(theirs)) == sorted(
        block.vertices.tolist() for block in blocks(graph)
    )
    assert edge_blocks(graph)[1] == len(blocks(graph))


@settings(max_examples=300, deadline=None)
@given(small_matrices())
def test_every_cut_lies_on_the_grid(case: tuple[Matrix, int]) -> None:
    graph = graph_of(case[0])
    step = cut_step(graph)
    assert (step == 0.0) == (not graph.is_integer or graph.absolute_weight == 0.0)
    if step:
        assert cuts.best_cut(case[0]) % step == 0.0
        for part in np.random.default_rng(case[1]).integers(0, 2, (20, graph.n_vertices)):
            assert graph.cut_value(part) % step == 0.0


def test_rounding_down() -> None:
    assert rounded_down(1411.9, 2.0) == 1410.0
    assert rounded_down(-0.5, 2.0) == -2.0
    assert rounded_down(0.7, 0.0) == 0.7
    assert rounded_down(np.inf, 2.0) == np.inf


@settings(max_examples=300, deadline=None)
@given(
    st.integers(2, 16),
    st.sampled_from(SHAPES),
    st.sampled_from(WEIGHTS),
    st.integers(0, 2**31 - 1),
)
def test_shrinking_keeps_the_maximum_cut(n: int, shape: str, weights: str, seed: int) -> None:
    W = small_matrix(n, shape, weights, seed)
    graph = graph_of(W)
    shrunk = shrink(graph)
    assert shrunk.graph.n_edges == 0  # every graph of 16 vertices is small
    best = cuts.best_cut(W)
    slack = 0.0 if graph.is_integer else 1e-12 * graph.absolute_weight
    assert best - slack <= shrunk.upper_bound(0.0) <= best + slack
    assert abs(graph.cut_value(shrunk.lift(np.zeros(shrunk.graph.n_vertices))) - best) <= slack


def check_way_back(graph: Graph, shrunk: Shrunk) -> None:
    """A lifted partition cuts what it says, and comes back with whole components turned over at most."""
    left = shrunk.graph
    part = np.random.default_rng(5).integers(0, 2, left.n_vertices)
    lifted = shrunk.lift(part)
    assert graph.cut_value(lifted) == shrunk.value(left.cut_value(part))
    assert left.cut_value(shrunk.restrict(lifted)) == left.cut_value(part)


class TestShrink:
    def test_blocks_hang_on_blocks(self) -> None:
        """Two wide blocks at the ends of a chain of small ones: the chain is solved, and turns an end over."""
        rng = np.random.default_rng(0)
        wide = [graph_of(small_matrix(60, "dense", "integers", seed)) for seed in range(2)]
        u, v, w = (list(rows) for rows in zip(*(graph.edges() for graph in wide), strict=True))
        u[1], v[1] = u[1] + 60, v[1] + 60
        ring = np.arange(8)
        around = np.array([0, 120, 121, 122, 60, 123, 124, 125])
        chords = [(0, 60), (120, 60), (121, 124), (122, 125), (120, 123)]
        u += [around[ring], np.array([a for a, _ in chords])]
        v += [around[(ring + 1) % 8], np.array([b for _, b in chords])]
        w += [rng.integers(1, 9, 8).astype(float), rng.integers(1, 9, 5).astype(float)]
        graph = Graph.from_edges(np.concatenate(u), np.concatenate(v), np.concatenate(w))
        solved = solve_blocks(graph)
        assert solved is None  # the chord 0-60 joins two vertices that are left
        keep = ~((graph.edges()[0] == 0) & (graph.edges()[1] == 60))
        graph = Graph.from_edges(*(array[keep] for array in graph.edges()))
        solved = solve_blocks(graph)
        assert solved is not None
        assert [block.vertices.size for block, _ in solved.solved] == [8]
        assert solved.graph.n_vertices == 120
        check_way_back(graph, Shrunk(graph, (solved,)))

    @pytest.mark.parametrize("seed", range(3))
    def test_sparse_graphs(self, seed: int) -> None:
        graph = random_sparse(600, 2.6, seed=seed)
        check_way_back(graph, shrink(graph))

    def test_a_narrow_torus_is_solved(self) -> None:
        graph = torus(40, 6, seed=1)
        shrunk = shrink(graph)
        assert shrunk.graph.n_vertices == 0
        assert graph.cut_value(shrunk.lift([])) == shrunk.upper_bound(0.0)

    def test_a_wide_torus_is_left(self) -> None:
        graph = torus(30, 30, seed=1)
        assert shrink(graph).graph.n_vertices == 900

    def test_it_stops_when_told(self) -> None:
        graph = torus(40, 6, seed=1)
        assert shrink(graph, lambda: True).graph is graph
        assert solve_exactly(graph, order_of(graph), should_stop=lambda: True) is None


def test_too_wide_or_too_large_has_no_order() -> None:
    dense = graph_of(small_matrix(18, "dense", "ones", 0))
    assert elimination(dense, widest=16) is None
    assert elimination(dense, most_entries=1000) is None
    path = np.arange(5000)
    assert elimination(Graph.from_edges(path, path + 1)) is None


def test_no_vertices_and_no_edges() -> None:
    for n in (0, 1, 3):
        graph = Graph.from_edges([], [], n_vertices=n)
        exact = solve_exactly(graph, order_of(graph))
        assert exact is not None
        assert (exact.value, exact.upper_bound, exact.partition.tolist()) == (0.0, 0.0, [0] * n)
        assert blocks(graph) == []
        assert cut_step(graph) == 0.0
        assert shrink(graph).graph is graph
