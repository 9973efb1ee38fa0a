"""Bounds against every cut of small graphs, against eigensolvers, and against their own failure probability."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction

import hypothesis
import numba
import numpy as np
import pytest
import scipy.sparse.linalg
import scipy.stats
import torch
from hypothesis import strategies as st

from sdp.maxcut import bound as bounds
from sdp.maxcut.bound import (
    ScaledDual,
    chebyshev_bound,
    dense_bound,
    positive_weight_bound,
    repair,
    ritz_vectors,
    steps_for,
)
from sdp.maxcut.graph import Graph
from sdp.maxcut.problem import Problem, prepare
from sdp_kernels.graph import fields, mixing_sweep
from tests.maxcut.random_graphs import graph_of, small_matrices
from tests.reference import cuts
from tests.reference import graph as oracle

DELTA = 1e-6  # of each Chebyshev bound; 6,000 of them fail with probability .006, and the examples are fixed
CASES = int(os.environ.get("SDP_BOUND_CASES", "2000"))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Waking threads for 18 vertices would take most of the time; bits do not depend on it."""
    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    yield
    numba.set_num_threads(before[0])
    torch.set_num_threads(before[1])


# Rows of V as a solver might hold them, and as none ever should.
V_KINDS = ("random", "swept", "equal", "zero", "some zero", "huge", "tiny", "one column", "partition")
H_KINDS = ("of V", "random", "negative", "far negative", "zero", "huge", "one huge", "mixed decades", "equal")


def rows(problem: Problem, kind: str, rng: np.random.Generator) -> torch.Tensor:
    n = problem.n_vertices
    V = rng.normal(size=(n, 1 if kind in ("one column", "partition") else 5))
    V /= np.linalg.norm(V, axis=1, keepdims=True)
    if kind == "equal":
        V[:] = V[0]
    elif kind == "zero":
        V[:] = 0
    elif kind == "some zero":
        V[rng.random(n) < 0.5] = 0
    tensor = torch.from_numpy(V.astype(np.float32))
    if kind == "swept":
        for _ in range(30):
            mixing_sweep(problem.csr, problem.class_ptr, tensor, 0.5)
    return tensor * {"huge": 1e18, "tiny": 1e-30}.get(kind, 1.0)


def dual(problem: Problem, v_kind: str, h_kind: str, rng: np.random.Generator) -> torch.Tensor:
    h = fields(problem.csr, rows(problem, v_kind, rng))[0]
    n = problem.n_vertices
    draws: dict[str, Callable[[], object]] = {
        "of V": lambda: h.numpy(),
        "random": lambda: rng.normal(size=n) * 3,
        "negative": lambda: -h.numpy(),
        "far negative": lambda: -rng.uniform(1e4, 1e9) * np.ones(n),
        "zero": lambda: np.zeros(n),
        "huge": lambda: rng.normal(size=n) * 1e12,
        "one huge": lambda: np.where(np.arange(n) == 0, 1e9, h.numpy()),
        "mixed decades": lambda: rng.normal(size=n) * 10.0 ** rng.uniform(-20, 12, n),
        "equal": lambda: np.full(n, rng.uniform(0, 3)),
    }
    return torch.from_numpy(np.array(draws[h_kind](), dtype=np.float64))


def all_bounds(problem: Problem, h: torch.Tensor, seed: int) -> dict[str, bounds.Bound]:
    """Every bound that this package can prove from h."""
    upper = ScaledDual.of(problem, h).upper
    steps = min(80, steps_for(0.05, problem.n_vertices, upper, DELTA))
    chebyshev, block = chebyshev_bound(problem, h, steps=steps, delta=DELTA, seed=2 * seed + 1)
    found = {
        "positive": positive_weight_bound(problem.graph),
        "dense": dense_bound(problem, h),
        "chebyshev": chebyshev,
    }
    raised = repair(problem, h, *ritz_vectors(problem, h, block))
    assert bool((raised >= h).all())
    found["repaired"] = dense_bound(problem, raised)
    found["repaired chebyshev"] = chebyshev_bound(problem, raised, steps=20, delta=DELTA, seed=2 * seed + 3)[
        0
    ]
    return found


@hypothesis.settings(max_examples=CASES)
@hypothesis.given(
    case=small_matrices(), v_kind=st.sampled_from(V_KINDS), h_kind=st.sampled_from(("of V", *H_KINDS))
)
def test_no_bound_is_below_the_best_cut(case: tuple[cuts.Matrix, int], v_kind: str, h_kind: str) -> None:
    W, seed = case
    graph = graph_of(W)
    problem = prepare(graph)
    best = oracle.best_cut(W)
    if problem.n_vertices == 0:
        assert positive_weight_bound(problem.graph).value == best == 0
        return
    # Cut values themselves are float64 sums, which the oracle adds in another order.
    rounding = 0.0 if graph.is_integer else 1e-14 * np.abs(W).sum()
    rng = np.random.default_rng(seed)
    for name, bound in all_bounds(problem, dual(problem, v_kind, h_kind, rng), seed).items():
        assert bound.value >= best - rounding, (name, bound.value, best)
        if graph.is_integer and math.isfinite(bound.value):
            assert bound.value == round(bound.value)


def test_small_graphs_whose_bound_is_tight_stay_above_their_cut() -> None:
    # Balanced graphs: the relaxation's optimum is the best cut, so nothing but rounding lies between.
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(2, 12))
        sides = rng.choice([-1.0, 1.0], n)
        W = cuts.symmetric(-np.outer(sides, sides) * rng.uniform(0.1, 3.0, (n, n)))
        problem = prepare(graph_of(W))
        best = float(W[W > 0].sum() / 2)
        signs = torch.from_numpy(sides[problem.order].astype(np.float32))[:, None]
        h = fields(problem.csr, signs)[0]
        values = [dense_bound(problem, h).value, dense_bound(problem, h - 1e7).value]
        values.append(positive_weight_bound(problem.graph).value)
        assert min(values) >= best * (1 - 1e-15)
        assert values[0] <= best + 1e-6 * np.abs(W).sum()


@pytest.mark.parametrize("kind", ["dense", "chebyshev"])
def test_far_negative_dual_vectors_prove_no_less_than_the_cut(kind: str) -> None:
    # sum h and tau sum d cancel: an edge's bound is exactly its weight, and must not be rounded down to 0.
    edge = prepare(Graph.from_edges([0], [1]))
    for seed, depth in enumerate(np.random.default_rng(0).uniform(1e5, 1e9, 100)):
        h = torch.full((2,), -float(depth), dtype=torch.float64)
        found = (
            dense_bound(edge, h)
            if kind == "dense"
            else chebyshev_bound(edge, h, steps=60, delta=DELTA, seed=seed)[0]
        )
        assert found.value >= 1


def test_values_are_rounded_to_the_safe_side() -> None:
    # Against exact arithmetic. Weights of a tenth: nothing is floored.
    rng = np.random.default_rng(0)
    problem = prepare(graph_of(0.1 * cuts.sparse_random(40, 5.0, 1)))
    n = problem.n_vertices
    total, lost = Fraction(problem.total_weight), Fraction(problem.lost_weight)
    for k in range(300):
        h = torch.from_numpy(
            rng.normal(size=n) * 10.0 ** rng.uniform(-3, 9, n if k % 2 else 1) - 10.0 ** (k % 9)
        )
        d = ScaledDual.of(problem, h).d
        sum_h, sum_d = sum(map(Fraction, h.tolist())), sum(map(Fraction, d.tolist()))
        tau = max(0.0, float(-sum_h / sum_d)) * rng.uniform(0.999, 1.001) + rng.uniform(0, 1e-3)
        exact = (total / 2 + (sum_h + Fraction(tau) * sum_d) / 4 + lost) / Fraction(problem.scale)
        found = Fraction(bounds._Value(problem, h, d)(tau))
        terms = problem.absolute_weight + abs(float(sum_h)) + tau * float(sum_d)
        assert exact <= found <= exact + Fraction(1e-14 * terms / problem.scale)


class TestPositiveWeights:
    def test_all_negative_weights_prove_zero(self) -> None:
        for w in ([-0.1, -0.2, -0.3], [-1.0, -2.0, -3.0], [-1e-300, -5e-324, -1e30]):
            found = positive_weight_bound(Graph.from_edges([0, 1, 2], [1, 2, 0], w))
            assert (found.value, found.delta, found.kind) == (0.0, 0.0, "sum of positive weights")

    def test_sums_are_rounded_up(self) -> None:
        # Ten tenths are a little more than 1 in binary, and 2^53 + 1 is not a float.
        tenths = positive_weight_bound(Graph.from_edges(range(10), range(1, 11), [0.1] * 10))
        assert tenths.value == math.nextafter(1.0, 2.0)
        halves = positive_weight_bound(Graph.from_edges([0, 1], [1, 2], [2.0**53, 1.0]))
        assert halves.value == 2.0**53 + 2
        small = positive_weight_bound(Graph.from_edges([0, 1], [1, 2], [1e30, 1e-30]))
        assert small.value == math.nextafter(1e30, math.inf)

    def test_exact_sums_are_not(self) -> None:
        halves = positive_weight_bound(Graph.from_edges([0, 1, 2], [1, 2, 3], [0.5, -7.0, 0.25]))
        assert halves.value == 0.75


@pytest.mark.parametrize("exponent", [-1074, -1030, -1000, -400, -130, -20, 0, 60, 119])
def test_bounds_scale_with_the_weights(exponent: int) -> None:
    W = cuts.symmetric(np.random.default_rng(1).integers(1, 9, (9, 9)).astype(float)) * 2.0**exponent
    problem = prepare(graph_of(W))
    h = fields(problem.csr, rows(problem, "swept", np.random.default_rng(2)))[0]
    best = oracle.best_cut(W)
    for found in all_bounds(problem, h, 3).values():
        assert best <= found.value <= 3 * best


def test_weights_of_many_decades() -> None:
    # 1e30 beside 1e-30: the small triangle's share is far below the last bit, and lost in float32.
    W = np.zeros((6, 6))
    W[:3, :3], W[3:, 3:] = 1e30, 1e-30
    W *= 1 - np.eye(6)
    problem = prepare(graph_of(W))
    h = fields(problem.csr, rows(problem, "swept", np.random.default_rng(0)))[0]
    for name, found in all_bounds(problem, h, 0).items():
        assert found.value >= 2e30, name


def test_integers_that_float32_cannot_hold_pay_for_it() -> None:
    # Each weight is rounded down by up to 2^15; the bound of the rounded graph alone would be too small.
    weights = [2**40 - 2**15 + 1, 2**40 + 2**15 - 1, 2**40 + 2**14 + 3]
    graph = Graph.from_edges([0, 1, 2], [1, 2, 3], weights)
    problem = prepare(graph)
    assert graph.is_integer
    assert problem.lost_weight > 0
    h = fields(problem.csr, torch.tensor([[1.0], [1.0], [1.0], [1.0]]))[0]
    without = dataclasses.replace(problem, lost_weight=0.0)
    assert dense_bound(problem, h).value >= sum(weights) > dense_bound(without, h).value


def test_all_zero_weights_prove_zero() -> None:
    problem = prepare(Graph.from_edges([0, 1, 2], [1, 2, 0], [0.0, 0.0, 0.0]))
    h = torch.zeros(3, dtype=torch.float64)
    assert {name: b.value for name, b in all_bounds(problem, h, 0).items() if "cheb" not in name} == {
        "positive": 0.0,
        "dense": 0.0,
        "repaired": 0.0,
    }


def middle(n: int, degree: float, seed: int) -> tuple[Problem, torch.Tensor]:
    """A random graph with normal float32 weights (nothing is floored or lost), the dual vector of a few sweeps."""
    W = (
        (cuts.sparse_random(n, degree, seed) * cuts.dense_random(n, seed + 1))
        .astype(np.float32)
        .astype(np.float64)
    )
    problem = prepare(graph_of(W))
    V = rows(problem, "random", np.random.default_rng(seed))
    for _ in range(60):
        mixing_sweep(problem.csr, problem.class_ptr, V, 0.8)
    return problem, fields(problem.csr, V)[0]


def scaled_matrix(problem: Problem, h: torch.Tensor) -> tuple[cuts.Matrix, cuts.Matrix]:
    """D^-1/2 (Diag(h) + A) D^-1/2 and d, from the definition."""
    A = cuts.dense(problem.csr)
    degree = np.abs(A).sum(1)
    d = degree + 0.05 * degree.mean()
    return (A + np.diag(h.numpy())) / np.sqrt(np.outer(d, d)), d


def value_of(problem: Problem, h: torch.Tensor, lowest: float, d: cuts.Matrix) -> float:
    """W/2 + (sum h + tau sum d) / 4 in graph units."""
    return (problem.total_weight / 2 + (float(h.sum()) - lowest * float(d.sum())) / 4) / problem.scale


@pytest.mark.parametrize(("n", "degree"), [(120, 9.0), (500, 4.0), (500, 60.0)])
def test_bounds_against_an_eigensolver(n: int, degree: float) -> None:
    problem, h = middle(n, degree, n)
    matrix, d = scaled_matrix(problem, h)
    values = np.linalg.eigvalsh(matrix)
    scaled = ScaledDual.of(problem, h)
    assert values[-1] <= scaled.upper * (1 + 1e-12)
    np.testing.assert_allclose(scaled.d.numpy(), d, rtol=1e-12)
    exact = value_of(problem, h, values[0], d)
    scale = problem.absolute_weight / problem.scale
    assert exact <= dense_bound(problem, h).value <= exact + 1e-11 * scale

    tau = 1e-3
    steps = steps_for(tau, problem.n_vertices, scaled.upper, DELTA)
    found = chebyshev_bound(problem, h, steps=steps, delta=DELTA, seed=1)[0]
    # `steps_for` promises -tau where nothing is below 0; what is below 0 is found to a fraction of its own size.
    loosest = value_of(problem, h, 1.5 * values[0] - tau, d)
    assert exact <= found.value <= loosest


def test_the_last_block_holds_the_lowest_eigenvectors() -> None:
    problem, h = middle(300, 8.0, 2)
    h = 0.8 * h
    matrix = scaled_matrix(problem, h)[0]
    block = chebyshev_bound(problem, h, steps=120, delta=DELTA, seed=1)[1]
    assert block.shape == (problem.n_vertices, bounds.COLUMNS)
    ritz, vectors = (x.numpy() for x in ritz_vectors(problem, h, block))
    exact = np.linalg.eigvalsh(matrix)
    assert exact[0] < -0.02
    np.testing.assert_allclose(ritz[:2], exact[:2], atol=1e-4)
    assert (ritz >= exact[: bounds.COLUMNS] - 1e-12).all()
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(bounds.COLUMNS), atol=1e-12)
    np.testing.assert_allclose(matrix @ vectors[:, 0], ritz[0] * vectors[:, 0], atol=1e-2)


def test_bounds_against_arpack() -> None:
    # ARPACK's answer is a Ritz value: it may be above the eigenvalue, never below, so no bound may be below its own.
    problem, h = middle(2600, 5.0, 3)
    scaled = ScaledDual.of(problem, h)
    n = problem.n_vertices
    matrix = scipy.sparse.csr_array(
        (scaled.rows.weights.numpy(), scaled.rows.indices.numpy(), scaled.rows.indptr.numpy()), shape=(n, n)
    ) + scipy.sparse.diags_array(scaled.diagonal.numpy())
    start = np.random.default_rng(0).normal(size=n)
    ritz = scipy.sparse.linalg.eigsh(matrix, k=1, which="SA", v0=start, tol=1e-4, return_eigenvectors=False)
    steps = steps_for(1e-3, n, scaled.upper, DELTA)
    found = chebyshev_bound(problem, h, steps=steps, delta=DELTA, seed=1)[0]
    assert value_of(problem, h, float(ritz[0]), scaled.d.numpy()) <= found.value
    assert found.value <= value_of(problem, h, 1.5 * float(ritz[0]) - 2e-3, scaled.d.numpy())


def failures(problem: Problem, h: torch.Tensor, delta: float, runs: int) -> int:
    """How many of the certificates with seeds 0, 1, ... are below the value of the true lowest eigenvalue."""
    matrix, d = scaled_matrix(problem, h)
    exact = value_of(problem, h, float(np.linalg.eigvalsh(matrix)[0]), d)
    return sum(
        chebyshev_bound(problem, h, steps=25, delta=delta, seed=seed, columns=4)[0].value < exact
        for seed in range(runs)
    )


class TestFailureProbability:
    """The dual vector 0 leaves one eigenvalue far below the others, and the certificate no slack but its q.

    25 steps then fail with probability delta exactly, so the test is sharp on both sides. 1,000 seeds each; an interval
    that holds with probability 1 - 1e-5 under the claim.
    """

    RUNS = 1000
    PROBLEM = prepare(graph_of(cuts.dense_random(16, 5).astype(np.float32).astype(np.float64)))
    ZERO = torch.zeros(16, dtype=torch.float64)

    @pytest.mark.parametrize("delta", [0.3, 0.1])
    def test_is_delta(self, delta: float) -> None:
        failed = failures(self.PROBLEM, self.ZERO, delta, self.RUNS)
        assert failed <= scipy.stats.binom.ppf(1 - 1e-5, self.RUNS, delta)
        assert failed >= scipy.stats.binom.ppf(1e-5, self.RUNS, delta)

    def test_is_below_delta_where_eigenvalues_lie_close(self) -> None:
        problem, h = middle(60, 6.0, 8)
        failed = failures(problem, h, 0.3, 300)
        assert failed <= scipy.stats.binom.ppf(1 - 1e-5, 300, 0.3)

    def test_would_be_seen_to_be_larger(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = bounds._quantile
        monkeypatch.setattr(bounds, "_quantile", lambda delta, columns: 1.25 * right(delta, columns))
        failed = failures(self.PROBLEM, self.ZERO, 0.1, self.RUNS)
        assert failed > scipy.stats.binom.ppf(1 - 1e-5, self.RUNS, 0.1)

    @pytest.mark.parametrize("columns", [1, 4, 8])
    @pytest.mark.parametrize("delta", [0.3, 1e-6])
    def test_quantile(self, columns: int, delta: float) -> None:
        q = bounds._quantile(delta, columns)
        assert (2 * scipy.stats.norm.cdf(q) - 1) ** columns == pytest.approx(delta, rel=1e-9)


def test_rounding_lowers_what_is_sure() -> None:
    # 4,000 steps of a matrix with nothing below 0: the certified tau falls with k until rounding stops it, and is
    # never below what is true.
    problem, _ = middle(200, 6.0, 1)
    A = cuts.dense(problem.csr)
    h = torch.from_numpy(np.abs(A).sum(1) * 1.01)
    matrix, d = scaled_matrix(problem, h)
    assert np.linalg.eigvalsh(matrix)[0] > 0
    values: list[float] = []
    chebyshev_bound(
        problem,
        h,
        steps=4000,
        delta=DELTA,
        seed=0,
        should_stop=lambda value: values.append(value) or False,  # type: ignore[func-returns-value]
    )
    assert len(values) == 3999
    assert (np.diff(values) <= 0).all()
    floor = value_of(problem, h, 0.0, d)
    assert floor <= values[-1] <= floor + 1e-4 * problem.absolute_weight / problem.scale


def test_an_eigenvalue_that_outgrows_float64_ends_the_run() -> None:
    problem, _ = middle(60, 6.0, 1)
    h = torch.full((problem.n_vertices,), -1e3, dtype=torch.float64)
    matrix, d = scaled_matrix(problem, h)
    exact = value_of(problem, h, float(np.linalg.eigvalsh(matrix)[0]), d)
    found, block = chebyshev_bound(problem, h, steps=5000, delta=DELTA, seed=0)
    assert bool(torch.isfinite(block).all())
    assert exact <= found.value


def test_should_stop_ends_a_certificate() -> None:
    problem, h = middle(60, 6.0, 1)
    seen: list[float] = []

    def stop(value: float) -> bool:
        seen.append(value)
        return len(seen) == 3

    found = chebyshev_bound(problem, h, steps=100, delta=DELTA, seed=0, should_stop=stop)[0]
    assert len(seen) == 3
    assert found.value == seen[-1]
    assert found.delta == DELTA
    assert found.kind == "chebyshev"
    assert found.h is h


def test_repair_lowers_the_bound_where_one_part_is_behind() -> None:
    # A hundred pentagons, h at the optimum on all of them and too small on one: tau pays for the whole graph, the
    # repaired h for one pentagon.
    pentagon = np.roll(np.eye(5), 1, axis=1)
    W = np.kron(np.eye(100), pentagon + pentagon.T).astype(np.float64)
    problem = prepare(graph_of(W))
    h = torch.full((500,), 2 * math.cos(math.pi / 5), dtype=torch.float64)
    h[torch.from_numpy(problem.order < 5)] -= 0.3
    values, vectors = ritz_vectors(problem, h, torch.eye(500, dtype=torch.float64)[:, problem.order < 5])
    raised = repair(problem, h, values, vectors)
    before, after = dense_bound(problem, h).value, dense_bound(problem, raised).value
    optimum = 100 * 5 * (1 + math.cos(math.pi / 5)) / 2
    assert before > optimum + 30
    assert math.floor(optimum) <= after <= optimum + 5


def test_repair_leaves_a_good_h_alone() -> None:
    problem, h = middle(60, 6.0, 1)
    values = torch.tensor([0.0, 0.5], dtype=torch.float64)
    vectors = torch.eye(problem.n_vertices, dtype=torch.float64)[:, :2]
    assert repair(problem, h, values, vectors) is h


def test_steps_grow_with_precision_and_end() -> None:
    counts = [steps_for(tau, 10_000, 2.0, DELTA) for tau in (1.0, 1e-2, 1e-4, 1e-6)]
    assert counts == sorted(set(counts))
    assert steps_for(0.0, 10_000, 2.0, DELTA) == steps_for(-1.0, 10_000, 2.0, DELTA) < 10**10
    # MATH of the certificate: k = ln(2 sqrt(n) / q) / acosh(1 + 2 tau / up), the start's logarithm for large n.
    q = bounds._quantile(DELTA, 8)
    expected = math.log(2 * math.sqrt(10_000) / q) / math.acosh(1 + 2e-4)
    assert steps_for(2e-4, 10_000, 2.0, DELTA) == pytest.approx(expected, rel=0.01)
