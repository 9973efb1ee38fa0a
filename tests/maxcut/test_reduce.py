"""Exact reductions: brute force before equals constant plus brute force after, and the way back cuts what it says."""

from __future__ import annotations

import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from sdp.maxcut.graph import Graph
from sdp.maxcut.reduce import RULES, Reduction, reduce
from tests.maxcut.random_graphs import SHAPES, WEIGHTS, graph_of, small_matrix
from tests.reference import cuts
from tools.make_graphs import preferential_attachment, random_sparse, torus

CASES = 5000
LARGEST = 13  # vertices of most cases: all partitions in a quarter of a millisecond


def best(graph: Graph) -> float:
    """Maximum cut by trying all."""
    W = graph.to_scipy().toarray() if graph.n_vertices else np.zeros((0, 0))
    return cuts.best_cut(W) if len(W) > 1 else 0.0


def check(graph: Graph, reduction: Reduction, optimum: float, seed: int) -> None:
    """The two optima agree, a lifted optimum cuts as much, and so does any other lifted partition."""
    oracle = 0.0 if graph.is_integer else 1e-14 * graph.absolute_weight  # its own rounding
    slack = reduction.lost_weight + oracle
    reduced = best(reduction.graph)
    assert abs(reduction.value(reduced) - optimum) <= slack
    assert reduction.upper_bound(reduced) >= optimum - oracle
    part = np.random.default_rng(seed).integers(0, 2, reduction.graph.n_vertices)
    lifted = reduction.lift(part)
    assert set(np.unique(lifted)) <= {0, 1}
    np.testing.assert_array_equal(reduction.restrict(lifted), part)
    cut = graph.cut_value(lifted)
    assert (
        abs(cut - reduction.value(reduction.graph.cut_value(part))) <= slack + 1e-13 * graph.absolute_weight
    )
    assert cut <= optimum + 1e-13 * graph.absolute_weight


@settings(max_examples=CASES, deadline=None)
@given(
    n=st.integers(2, LARGEST),
    shape=st.sampled_from(SHAPES),
    weights=st.sampled_from(WEIGHTS),
    rules=st.sampled_from([*((rule,) for rule in RULES), RULES, RULES, RULES]),
    seed=st.integers(0, 2**31 - 1),
)
def test_the_maximum_cut_is_kept(n: int, shape: str, weights: str, rules: tuple[str, ...], seed: int) -> None:
    graph = graph_of(small_matrix(n, shape, weights, seed))
    reduction = reduce(graph, rules)
    assert sum(reduction.removed.values()) + reduction.graph.n_vertices <= graph.n_vertices
    assert set(reduction.removed) == set(RULES)
    assert all(count == 0 for rule, count in reduction.removed.items() if rule not in rules)
    check(graph, reduction, best(graph), seed)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("weights", ["ones", "signs", "integers"])
def test_sixteen_vertices(weights: str, seed: int) -> None:
    graph = graph_of(small_matrix(16, "isolated", weights, seed))
    check(graph, reduce(graph), best(graph), seed)


class TestRules:
    """Each rule on the smallest graph that needs it."""

    def test_degree_1(self) -> None:
        reduction = reduce(Graph.from_edges([0, 0, 0], [1, 2, 3], [2.0, -5.0, 3.0]), ["degree 1"])
        assert (reduction.constant, reduction.graph.n_vertices) == (5.0, 0)
        assert reduction.removed["degree 1"] == 3
        lifted = reduction.lift([])
        assert lifted[0] != lifted[1]
        assert lifted[0] == lifted[2] != lifted[3]

    def test_degree_2_joins_a_cycle(self) -> None:
        reduction = reduce(Graph.from_edges([0, 1, 2, 3, 4], [1, 2, 3, 4, 0]), ["degree 2", "degree 1"])
        assert reduction.constant == 4.0

    def test_degree_3_of_a_cube(self) -> None:
        corners = np.arange(8)
        u = np.concatenate([corners[corners & bit == 0] for bit in (1, 2, 4)])
        v = np.concatenate([corners[corners & bit == 0] | bit for bit in (1, 2, 4)])
        reduction = reduce(Graph.from_edges(u, v))
        assert reduction.constant == 12.0
        assert reduction.graph.n_vertices == 0

    def test_degree_3_halves(self) -> None:
        star = Graph.from_edges(
            [0, 0, 0, 1, 1, 2, 2, 3, 3], [1, 2, 3, 4, 5, 4, 5, 4, 5], [1.0] * 3 + [7.0] * 6
        )
        reduction = reduce(star, ["degree 3"])
        assert reduction.removed["degree 3"] > 0
        assert reduction.unit < 1.0
        assert reduction.graph.is_integer

    def test_dominating_edge(self) -> None:
        complete = np.ones((6, 6)) - np.eye(6)
        complete[0, 1] = complete[1, 0] = 4.0
        reduction = reduce(graph_of(complete), ["dominating edge"])
        assert reduction.removed["dominating edge"] == 1
        lifted = reduction.lift(np.zeros(reduction.graph.n_vertices))
        assert lifted[0] != lifted[1]

    @pytest.mark.parametrize("alpha", [1.0, -1.0, 3.0, -0.5, 1 / 3])
    def test_twins(self, alpha: float) -> None:
        W = np.zeros((8, 8))
        W[0, 2:] = [3, 1, -2, 2, 4, -1]
        W[0, 2:] *= 3.0
        W[1, 2:] = alpha * W[0, 2:]
        W[2:, 2:] = cuts.symmetric(np.ones((6, 6)) * 7)
        reduction = reduce(graph_of(cuts.symmetric(np.triu(W))), ["twins"])
        assert reduction.removed["twins"] == 1
        lifted = reduction.lift(np.zeros(reduction.graph.n_vertices))
        assert (lifted[0] == lifted[1]) == (alpha > 0)

    def test_joined_vertices_are_no_twins(self) -> None:
        assert reduce(graph_of(np.ones((6, 6)) - np.eye(6)), ["twins"]).removed["twins"] == 0


def test_weights_on_no_grid_say_what_rounding_may_cost() -> None:
    rng = np.random.default_rng(0)
    graph = random_sparse(300, 3.0, "ones", 1)
    u, v, _ = graph.edges()
    wild = Graph.from_edges(u, v, rng.normal(size=u.size) * 10.0 ** rng.uniform(-12, 12, u.size))
    reduction = reduce(wild)
    assert not reduction.is_exact
    assert 0 < reduction.lost_weight < 1e-12 * wild.absolute_weight
    assert reduction.graph.n_vertices < graph.n_vertices


def test_integers_stay_exact_on_large_graphs() -> None:
    for graph in (
        preferential_attachment(5000, 2),
        random_sparse(5000, 3.5, "signs", 1),
        torus(50, 50, seed=0),
    ):
        reduction = reduce(graph)
        assert reduction.is_exact
        assert reduction.lost_weight == 0.0
        part = np.random.default_rng(1).integers(0, 2, reduction.graph.n_vertices)
        assert graph.cut_value(reduction.lift(part)) == reduction.value(reduction.graph.cut_value(part))


def test_a_hub_of_many_leaves_and_nothing_at_all() -> None:
    star = reduce(Graph.from_edges(np.zeros(100_000, int), np.arange(1, 100_001)))
    assert (star.constant, star.graph.n_vertices) == (100_000.0, 0)
    empty = reduce(Graph.from_edges([], [], n_vertices=3))
    assert (empty.constant, empty.graph.n_vertices) == (0.0, 0)
    assert empty.lift([]).tolist() == [0, 0, 0]


def test_it_is_the_same_every_time() -> None:
    graph = random_sparse(3000, 4.0, "signs", 2)
    one, other = reduce(graph), reduce(graph)
    assert one.graph.fingerprint() == other.graph.fingerprint()
    assert one.constant == other.constant
    assert str(one) == str(other)
    assert "degree 1" in repr(one)


def test_bounds_are_rounded_to_the_safe_side() -> None:
    graph = random_sparse(200, 3.0, "ones", 3)
    reduction = reduce(graph)
    assert reduction.upper_bound(math.inf) == math.inf
    assert reduction.upper_bound(0.0) == math.floor(reduction.constant)
    assert reduction.upper_bound(2.5) >= reduction.value(2.5)


def exact_best(graph: Graph) -> Fraction:
    """Maximum cut by trying all, in rational numbers."""
    u, v, w = graph.edges()
    weights = [Fraction(x) for x in w.tolist()]
    best = Fraction(0)
    for bits in range(2 ** max(graph.n_vertices - 1, 0)):
        side = [bits >> i & 1 for i in range(graph.n_vertices)]
        best = max(
            best, sum((x for a, b, x in zip(u, v, weights, strict=True) if side[a] != side[b]), Fraction(0))
        )
    return best


@pytest.mark.parametrize("seed", range(60))
def test_rounding_is_paid_for_to_the_last_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 6
    u, v = np.triu_indices(n, 1)
    kept = rng.random(u.size) < 0.6
    w = rng.normal(size=u.size) * 10.0 ** rng.uniform(-9, 9, u.size)
    graph = Graph.from_edges(u[kept], v[kept], w[kept], n_vertices=n)
    reduction = reduce(graph)
    bound = reduction.upper_bound(math.nextafter(float(exact_best(reduction.graph)), math.inf))
    assert Fraction(bound) >= exact_best(graph)


def test_small_terms_between_large_ones_are_not_lost() -> None:
    # Merging u into v sums 1e18, many 60s and -1e18: each 60 is below half an ulp of the partial sum.
    n = 2000
    leaves = np.arange(2, n + 2)
    u = np.concatenate([[0], np.zeros(n, int), np.ones(n, int), leaves[:-1], [0, 0]])
    v = np.concatenate([[1], leaves, leaves, leaves[1:], [n + 2, n + 3]])
    w = np.concatenate([[1e19], np.full(n, 60.0), np.full(n, 59.7), np.full(n - 1, 1e3), [1e18, -1e18]])
    graph = Graph.from_edges(u, v, w)
    reduction = reduce(graph, ["dominating edge"])
    assert not reduction.is_exact
    for seed in range(5):
        part = np.random.default_rng(seed).integers(0, 2, reduction.graph.n_vertices)
        cut = graph.cut_value(reduction.lift(part))
        assert (
            abs(cut - reduction.value(reduction.graph.cut_value(part))) <= reduction.lost_weight + 1e-15 * cut
        )


def test_tiny_and_huge_weights() -> None:
    square = ([0, 1, 2, 0, 1, 2], [1, 2, 0, 3, 3, 3])
    subnormal = Graph.from_edges(*square, [1e-310] * 6)
    assert reduce(subnormal).upper_bound(best(reduce(subnormal).graph)) >= best(subnormal)
    power = reduce(Graph.from_edges(*square, [2.0**-1000] * 6))
    assert power.is_exact
    assert power.value(best(power.graph)) == 2.0**-998
    complete = np.triu_indices(6, 1)
    huge = Graph.from_edges(*complete, np.r_[9e36, 9e36 * (1 - 2.0**-50), np.full(13, 1e36)])
    assert reduce(huge).upper_bound(best(reduce(huge).graph)) >= best(huge)


@pytest.mark.parametrize("shape", ["twins of unequal weight", "hubs"])
def test_time_does_not_grow_as_the_square(shape: str) -> None:
    rng = np.random.default_rng(0)
    n = 400_000 if shape.startswith("twins") else 50_000  # pair by pair the twins would take eight minutes
    if shape == "hubs":
        hub = np.array([rng.choice(300, 3, replace=False) for _ in range(n)])
        u, v, w = np.repeat(np.arange(n) + 300, 3), hub.ravel(), np.ones(3 * n)
    else:
        u, v, w = np.repeat(np.arange(n) + 4, 4), np.tile(np.arange(4), n), rng.normal(size=4 * n)
    graph = Graph.from_edges(u, v, w)
    reduction = reduce(graph)
    assert reduction.graph.n_vertices <= graph.n_vertices


def test_bad_input() -> None:
    graph = random_sparse(20, 3.0, "ones", 0)
    with pytest.raises(ValueError, match=r"^`rules` must be among degree 1, .*; got 'degree 4'\.$"):
        reduce(graph, ["degree 4"])
    reduction = reduce(graph)
    n = reduction.graph.n_vertices
    with pytest.raises(ValueError, match=rf"^partition must have shape \({n},\); got \({n + 1},\)\.$"):
        reduction.lift(np.zeros(n + 1))
