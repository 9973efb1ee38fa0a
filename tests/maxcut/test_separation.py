"""Separation: what is found is violated, chordless and a row; when nothing is found, nothing is there."""

from __future__ import annotations

import heapq

import hypothesis.strategies as st
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from sdp.maxcut.cycles import find_cycles
from sdp.maxcut.graph import Graph
from sdp.maxcut.separation import Rows, Separator
from tests.maxcut.random_graphs import SHAPES, graph_of, small_matrix
from tests.reference.proofs import check_row, has_chord
from tools.make_graphs import torus


def shortest_odd_cycle(graph: Graph, x: NDArray[np.float64]) -> float:
    """Length of the shortest odd closed walk: Dijkstra's search in the doubled graph, from every vertex."""
    near: list[list[tuple[int, float]]] = [[] for _ in range(2 * graph.n_vertices)]
    for a, b, value in zip(*graph.edges()[:2], x.tolist(), strict=True):
        for one, other in ((int(a), int(b)), (int(b), int(a))):
            for level in (0, 1):
                near[2 * one + level].append((2 * other + level, value))
                near[2 * one + level].append((2 * other + 1 - level, 1.0 - value))
    best = np.inf
    for v in range(graph.n_vertices):
        done: set[int] = set()
        queue = [(0.0, 2 * v)]
        while queue:
            length, node = heapq.heappop(queue)
            if node == 2 * v + 1:
                best = min(best, length)
                break
            if node in done:
                continue
            done.add(node)
            for other, step in near[node]:
                heapq.heappush(queue, (length + step, other))
    return float(best)


def a_point(graph: Graph, kind: str, seed: int) -> NDArray[np.float64]:
    """A point of the cube: anywhere, on a grid with many ties, nearly a cut, or a corner."""
    rng = np.random.default_rng(seed)
    u, v, _ = graph.edges()
    if kind == "anywhere":
        return rng.random(graph.n_edges)
    if kind == "grid":
        return rng.integers(0, 5, graph.n_edges) / 4.0
    if kind == "corner":
        return rng.integers(0, 2, graph.n_edges).astype(np.float64)
    side = rng.integers(0, 2, graph.n_vertices)
    cut = (side[u] != side[v]).astype(np.float64)
    return np.asarray(np.clip(cut + rng.normal(size=cut.size) * 0.2, 0.0, 1.0))


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(2, 14),
    shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(["anywhere", "grid", "near a cut", "corner"]),
    seed=st.integers(0, 2**31 - 1),
)
def test_rows_are_violated_and_none_is_missed(n: int, shape: str, kind: str, seed: int) -> None:
    graph = graph_of(small_matrix(n, shape, "ones", seed))
    x = a_point(graph, kind, seed)
    rows, none = Separator(graph).search(x, seed=seed % 1000)
    shortest = shortest_odd_cycle(graph, x) if graph.n_edges else np.inf
    assert none == (rows.n_rows == 0)
    if abs(1.0 - shortest) > 1e-5:
        assert none == (shortest > 1.0)
    violations = rows.violations(x)
    assert (violations > 0).all()
    # Splitting at a chord may only shorten the shortest.
    assert violations.max(initial=-np.inf) <= 1.0 - shortest + 1e-9
    assert np.unique(rows.hashes).size == rows.n_rows
    for begin, end in zip(rows.pointers, rows.pointers[1:], strict=False):
        members, in_F = rows.members[begin:end], rows.in_F[begin:end]
        check_row(graph, members.tolist(), in_F.tolist())
        assert not has_chord(graph, members)


def test_cuts_violate_nothing() -> None:
    graph = torus(20, 20, seed=1)
    u, v, _ = graph.edges()
    side = np.random.default_rng(0).integers(0, 2, graph.n_vertices)
    rows, none = Separator(graph).search((side[u] != side[v]).astype(np.float64))
    assert none
    assert rows.n_rows == 0


def test_searches_that_are_cut_short_prove_nothing() -> None:
    graph = torus(20, 20, seed=1)
    rows, none = Separator(graph).search(np.zeros(graph.n_edges) + 0.25, most_settled=1)
    assert rows.n_rows == 0
    assert not none


def test_cycles_longer_than_the_table_are_found() -> None:
    n = 301
    graph = Graph.from_edges(np.arange(n), (np.arange(n) + 1) % n)
    rows, _ = Separator(graph).search(np.ones(n))
    assert rows.n_rows == 1
    assert rows.members.size == n
    assert rows.violations(np.ones(n)) == pytest.approx([1.0])


def test_threads_do_not_matter() -> None:
    graph = torus(40, 40, seed=3)
    x = a_point(graph, "near a cut", 5)
    before = numba.get_num_threads()
    found = []
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            found.append(Separator(graph).search(x, seed=7)[0])
    finally:
        numba.set_num_threads(before)
    one, other = found
    np.testing.assert_array_equal(one.hashes, other.hashes)
    np.testing.assert_array_equal(one.members, other.members)
    np.testing.assert_array_equal(one.in_F, other.in_F)


def test_rows_of_a_family_ask_for_its_positive_edges() -> None:
    graph = torus(6, 6, seed=0)
    weights = graph.edges()[2]
    rows = Rows.frustrated(find_cycles(graph), weights)
    np.testing.assert_array_equal(rows.in_F, weights[rows.members] > 0)
    assert (rows.violations((weights > 0).astype(np.float64)) == 1.0).all()
    assert np.unique(rows.hashes).size == rows.n_rows
    half = rows.only(np.arange(rows.n_rows) % 2 == 0)
    both = half + Rows.none()
    np.testing.assert_array_equal(both.members, half.members)
    np.testing.assert_array_equal(both.right_sides, rows.right_sides[::2])
