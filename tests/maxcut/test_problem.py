"""`Problem`: colouring, numbering, scaling and the way back; and balanced graphs."""

from __future__ import annotations

import math

import hypothesis
import numpy as np
import pytest
import torch

from sdp.maxcut.balance import balanced_signs
from sdp.maxcut.graph import Graph
from sdp.maxcut.problem import Problem, prepare
from tests.maxcut.random_graphs import graph_of, small_matrices
from tests.reference import cuts
from tests.reference import graph as oracle
from tools.make_graphs import preferential_attachment, random_sparse, torus


def assert_sound(problem: Problem, W: cuts.Matrix) -> None:
    """Everything that `Problem` promises about a graph of matrix W; zeros of W are no edges."""
    n = problem.n_vertices
    assert sorted(problem.order) == np.flatnonzero(W.any(1)).tolist()
    exact = W[np.ix_(problem.order, problem.order)] * problem.scale
    found = cuts.dense(problem.csr)
    assert (found == exact.astype(np.float32)).all()
    assert problem.n_edges == np.count_nonzero(W) // 2
    assert math.frexp(problem.scale)[0] == 0.5
    if n:
        assert 1 <= np.abs(exact).max() < 2

    indptr, indices = problem.csr.indptr.numpy(), problem.csr.indices.numpy()
    for k in range(n):
        assert (np.diff(indices[indptr[k] : indptr[k + 1]]) > 0).all()

    class_ptr = problem.class_ptr.numpy()
    assert class_ptr[0] == 0
    assert class_ptr[-1] == n
    assert (np.diff(class_ptr) > 0).all()
    colours = np.searchsorted(class_ptr, np.arange(n), side="right")
    assert (colours[np.repeat(np.arange(n), np.diff(indptr))] != colours[indices]).all()

    largest = float(np.abs(exact).sum()) + 1
    assert problem.total_weight == pytest.approx(found.sum() / 2, abs=1e-12 * largest)
    assert problem.absolute_weight == pytest.approx(np.abs(found).sum() / 2)
    assert problem.lost_weight == pytest.approx(np.abs(found - exact).sum() / 2, rel=1e-6, abs=1e-30)
    weights = np.abs(found[found != 0])
    assert problem.unit == pytest.approx(np.median(weights) if weights.size else 1.0)


@hypothesis.settings(max_examples=150)
@hypothesis.given(small_matrices())
def test_small_graphs(case: tuple[cuts.Matrix, int]) -> None:
    W, seed = case
    graph = graph_of(W)
    problem = prepare(graph)
    assert_sound(problem, W)
    sides = np.random.default_rng(seed).integers(0, 2, len(W)).astype(np.uint8)
    for form in (sides, sides.astype(bool), 2 * sides.astype(int) - 1):
        signs = problem.signs(form)
        assert signs.dtype == torch.int8
        back = problem.partition(signs)
        assert back.dtype == np.uint8
        assert (back[problem.order] == sides[problem.order]).all()
        assert problem.cut_value(signs) == graph.cut_value(sides)


# Rows of many lengths; colours in the dozens; n no multiple of anything.
@pytest.mark.parametrize(
    "graph",
    [
        random_sparse(700, 6.0, "signs", 1),
        torus(20, 31, "signs", 2),
        preferential_attachment(900, 4, "ones", 3),
        graph_of(cuts.several_components(4)),
    ],
    ids=["random", "torus", "attachment", "components"],
)
def test_generated_graphs(graph: Graph) -> None:
    problem = prepare(graph)
    assert_sound(problem, graph.to_scipy().toarray())
    assert problem.is_exact == graph.is_integer
    assert problem.graph is graph


def test_sums_do_not_depend_on_the_numbering() -> None:
    W = cuts.dense_random(40, 1)
    shuffled = np.random.default_rng(2).permutation(40)
    one, other = prepare(graph_of(W)), prepare(graph_of(W[np.ix_(shuffled, shuffled)]))
    for field in ("total_weight", "absolute_weight", "scale", "unit"):
        assert getattr(one, field) == getattr(other, field)
    assert one.lost_weight == pytest.approx(other.lost_weight)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_no_edges(n: int) -> None:
    problem = prepare(Graph.from_edges([], [], n_vertices=n))
    assert problem.n_vertices == problem.n_edges == 0
    assert problem.class_ptr.tolist() == [0]
    assert problem.partition(torch.zeros(0, dtype=torch.int8)).tolist() == [0] * n
    assert problem.signs(np.ones(n)).shape == (0,)
    assert problem.cut_value(torch.zeros(0, dtype=torch.int8)) == 0


def test_edges_of_weight_zero_stay() -> None:
    problem = prepare(Graph.from_edges([0, 1], [1, 2], [0.0, 0.0]))
    assert problem.n_vertices == 3
    assert problem.n_edges == 2
    assert (problem.scale, problem.unit, problem.lost_weight) == (1.0, 1.0, 0.0)


class TestExactness:
    """Whether float32 holds every gain."""

    def test_small_integers_are_exact(self) -> None:
        assert prepare(Graph.from_edges([0, 1], [1, 2], [3, -1000])).is_exact

    def test_a_field_of_more_than_24_bits_is_not(self) -> None:
        leaves = range(1, 18)
        assert prepare(Graph.from_edges([0] * 17, leaves, [2**20 - 1] * 17)).is_exact is False
        assert prepare(Graph.from_edges([0] * 15, range(1, 16), [2**20 - 1] * 15)).is_exact is True

    def test_fractions_and_lost_weight_are_not(self) -> None:
        assert not prepare(Graph.from_edges([0, 1], [1, 2], [0.5, 1.0])).is_exact
        assert not prepare(Graph.from_edges([0, 1], [1, 2], [2**24 + 1, 1])).is_exact


@pytest.mark.parametrize("weight", [5e-324, 3e-310, 1e-300, 1e-38, 1e37])
def test_extreme_weights_are_scaled(weight: float) -> None:
    problem = prepare(Graph.from_edges([0, 1], [1, 2], [weight, -weight]))
    assert np.isfinite(problem.scale)
    assert problem.scale > 0
    weights = problem.csr.weights.abs()
    assert float(weights.max()) == float(weights.min()) == np.float32(weight * problem.scale)
    assert 0 < float(weights.max()) < 2


@hypothesis.settings(max_examples=100)
@hypothesis.given(small_matrices())
def test_balanced_signs(case: tuple[cuts.Matrix, int]) -> None:
    W, seed = case
    sides = np.random.default_rng(seed).choice([-1.0, 1.0], len(W))
    balanced = -np.abs(W) * np.outer(sides, sides)
    # Weights that float32 cannot tell from 0 beside the largest bind nothing.
    balanced[np.abs(balanced) < 1e-30 * np.abs(balanced).max(initial=0)] = 0
    problem = prepare(graph_of(balanced))
    signs = balanced_signs(problem)
    assert set(signs.tolist()) <= {-1, 1}
    assert problem.cut_value(signs) == pytest.approx(balanced[balanced > 0].sum() / 2, rel=1e-14)
    # On any other graph they are some partition.
    problem = prepare(graph_of(W))
    assert problem.cut_value(balanced_signs(problem)) <= oracle.best_cut(W) + 1e-14 * np.abs(W).sum()
