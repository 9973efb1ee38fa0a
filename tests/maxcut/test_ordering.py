"""The loops under `prepare` against slower ways to the same, and exact sums against `math.fsum`."""

from __future__ import annotations

import math
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from numpy.typing import NDArray
from scipy.sparse.csgraph import reverse_cuthill_mckee

from sdp.maxcut import _ordering
from sdp.maxcut._sums import exact_sum
from sdp.maxcut.graph import Graph
from sdp.maxcut.problem import prepare
from tests.maxcut.random_graphs import graph_of
from tests.reference import cuts
from tools.make_graphs import preferential_attachment, random_sparse, rmat, torus

GRAPHS = {
    "random": random_sparse(3000, 7.0, "normal", 1),  # with isolated vertices and small components
    "components": graph_of(cuts.several_components(2)),
    "torus": torus(41, 30, "signs", 2),
    "attachment": preferential_attachment(2000, 20, "ones", 3),
    "rmat": rmat(11, 12.0, seed=4),  # neighbours in lists of more than 48, degrees in the hundreds
    # As many colours as vertices: more than a word's bits.
    "complete": graph_of(np.ones((90, 90)) - np.eye(90)),
    "star": Graph.from_edges([0] * 500, range(1, 501)),
}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_orders_and_colours(graph: Graph) -> None:
    """By (colour, place in scipy's order); colours greedy by falling degree, then that place."""
    problem = prepare(graph)
    kept = np.flatnonzero(np.diff(graph.indptr))
    matrix = graph.to_scipy()[kept][:, kept]
    place = np.empty(kept.size, np.int64)
    place[reverse_cuthill_mckee(matrix, symmetric_mode=True)] = np.arange(kept.size)
    by_degree = sorted(range(kept.size), key=lambda i: (matrix.indptr[i] - matrix.indptr[i + 1], place[i]))
    colours = np.full(kept.size, -1)
    for i in by_degree:
        taken = set(colours[matrix.indices[matrix.indptr[i] : matrix.indptr[i + 1]]])
        colours[i] = next(colour for colour in range(kept.size) if colour not in taken)
    assert (problem.order == kept[np.lexsort((place, colours))]).all()
    assert problem.class_ptr.diff().tolist() == np.bincount(colours).tolist()
    assert (problem.csr.weights.numpy() == permuted(graph, problem.order)[2] * problem.scale).all()
    assert (problem.csr.indices.numpy() == permuted(graph, problem.order)[1]).all()
    assert (problem.csr.indptr.numpy() == permuted(graph, problem.order)[0]).all()


def permuted(graph: Graph, order: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
    """Rows of the graph whose vertex k is order[k], float32 weights."""
    matrix = graph.to_scipy()[order][:, order]
    matrix.sort_indices()
    return matrix.indptr, matrix.indices, matrix.data.astype(np.float32)


def test_the_number_of_colours() -> None:
    graph = GRAPHS["complete"]
    colours = np.empty(90, np.int32)
    order = np.arange(90, dtype=np.int32)[::-1].copy()
    assert _ordering.greedy_colours(graph.indptr, graph.indices, order, colours) == 90
    assert (colours == np.arange(90)[::-1]).all()


class TestExactSums:
    @hypothesis.settings(max_examples=300)
    @hypothesis.given(
        strategies.lists(strategies.floats(-1e307, 1e307, allow_nan=False, allow_subnormal=True), max_size=8)
    )
    def test_any_numbers(self, numbers: list[float]) -> None:
        numbers += [-x for x in numbers[::2]]  # cancels, so that the smallest digits count
        assert exact_sum(np.array(numbers)) == math.fsum(numbers)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_many_numbers(self, dtype: type) -> None:
        rng = np.random.default_rng(0)
        numbers: NDArray[Any] = (rng.normal(size=100_000) * 10.0 ** rng.integers(-30, 30, 100_000)).astype(
            dtype
        )
        assert exact_sum(numbers) == math.fsum(numbers.tolist())
        assert exact_sum(np.full(100_000, 0.1, dtype)) == math.fsum([float(dtype(0.1))] * 100_000)

    def test_what_fsum_says_of_others(self) -> None:
        assert exact_sum(np.array([])) == 0.0
        assert exact_sum(np.array([math.inf, 1.0])) == math.inf
        assert math.isnan(exact_sum(np.array([math.nan, 1.0])))
        with pytest.raises(ValueError, match="inf"):
            exact_sum(np.array([math.inf, -math.inf]))
        with pytest.raises(OverflowError):
            exact_sum(np.full(3, 1e308))
