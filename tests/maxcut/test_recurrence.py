"""The two kinds of Chebyshev recurrence: the same polynomial, and errors that their accounts cover."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch

from sdp.maxcut.bound import LONGER, chebyshev_bound, largest_eigenvalue, scaling
from sdp.maxcut.problem import Problem, prepare
from sdp.maxcut.recurrence import Doubled, Dual, Rounded, recurrence
from sdp.optim.chebyshev import Growth, quantile
from sdp_kernels.graph import fields, mixing_sweeps
from tests.maxcut.random_graphs import graph_of
from tests.reference import cuts

module = importlib.import_module("sdp.maxcut.recurrence")  # whose name a function of `sdp` hides in a path
N, STEPS = 400, 150


def case(share: float, seed: int = 1) -> tuple[Problem, Dual]:
    """A random signed graph with the dual vector of some sweeps, less a share of it."""
    W = cuts.sparse_random(N, 6.0, seed) * cuts.dense_random(N, seed + 1)
    problem = prepare(graph_of(W.astype(np.float32).astype(np.float64)))
    V = torch.nn.functional.normalize(normal(problem.n_vertices, 24), dim=1).float()
    mixing_sweeps(problem.csr, problem.class_ptr, V, 0.9, 60)
    h = fields(problem.csr, V)[0] * (1 - share)
    return problem, Dual(h, scaling(problem), largest_eigenvalue(problem, h))


def normal(n: int, columns: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).normal(size=(n, columns)))


def spectrum(problem: Problem, dual: Dual) -> tuple[cuts.Matrix, cuts.Matrix]:
    """Eigenvalues and eigenvectors of B."""
    d = dual.d.numpy()
    M = (cuts.dense(problem.csr) + np.diag(dual.h.numpy())) / np.sqrt(np.outer(d, d))
    values, vectors = np.linalg.eigh(np.eye(len(d)) - 2 / dual.upper * M)
    return values[::-1], vectors[:, ::-1]


def polynomial(k: int, x: cuts.Matrix) -> cuts.Matrix:
    outside = np.abs(x) > 1
    inner = np.cos(k * np.arccos(np.clip(x, -1, 1)))
    values: cuts.Matrix = np.where(
        outside, np.sign(x) ** k * np.cosh(k * np.arccosh(np.maximum(np.abs(x), 1))), inner
    )
    return values


# Negative eigenvalues of h: none that matter, small ones, and those of an h that is far too small.
SHARES = pytest.mark.parametrize("share", [0.0, 0.01, 0.2])


@SHARES
@pytest.mark.parametrize("kind", [Doubled, Rounded])
def test_errors_along_the_lowest_eigenvector_are_accounted_for(
    kind: type[Doubled] | type[Rounded], share: float
) -> None:
    problem, dual = case(share)
    X = normal(problem.n_vertices, 8)
    values, vectors = spectrum(problem, dual)
    exact = vectors[:, 0] @ X.numpy()
    made = kind(problem, dual, X.clone())
    x = values[0]
    lack = max(0.0, (x - 1) * dual.upper / 2)
    error = made.step_error + made.rounding * lack
    k, longest = 1, made.largest
    for _ in range(STEPS - 1):
        k += 1
        longest = max(longest, math.sqrt(made.take(1)[0]))
        grown = polynomial(k, np.array([x]))[0]
        found = vectors[:, 0] @ made.block.numpy()
        # The eigensolver's vector and value err too: k^2 times the last bits of float64.
        allowed = 0.5 * k * (k + 1) * (error + 1e-14) * longest * max(1.0, abs(grown))
        assert (np.abs(found - grown * exact) <= allowed).all(), k
    assert made.block.shape == X.shape


def test_what_rounding_costs_would_be_seen() -> None:
    # A recurrence that multiplied what it lost by B, and not by B - I, would err more than is accounted for.
    problem, dual = case(0.0)
    X = normal(problem.n_vertices, 8)
    values, vectors = spectrum(problem, dual)
    B = vectors @ np.diag(values) @ vectors.T
    previous, current = X.numpy(), B @ X.numpy()
    longest = float(np.linalg.norm(previous, axis=0).max())
    for _ in range(STEPS - 1):
        previous, current = current, 2 * B @ current.astype(np.float32) - previous
    made = Rounded(problem, dual, X)
    lack = max(0.0, (values[0] - 1) * dual.upper / 2)
    error = made.step_error + made.rounding * lack
    grown = polynomial(STEPS, values[:1])[0]
    off = np.abs(vectors[:, 0] @ current - grown * (vectors[:, 0] @ normal(problem.n_vertices, 8).numpy()))
    assert off.max() > 0.5 * STEPS * (STEPS + 1) * (error + 1e-14) * longest * max(1.0, abs(grown))


@SHARES
def test_both_kinds_prove_the_same(share: float) -> None:
    problem, dual = case(share)
    taus = []
    for kind in (Doubled, Rounded):
        made = kind(problem, dual, normal(problem.n_vertices, 8))
        growth = Growth(
            dual.upper,
            quantile(1e-6, 8),
            made.step_error,
            made.largest,
            rounding=made.rounding,
            known=made.known,
        )
        for k in range(2, STEPS):
            growth.after(k, math.sqrt(made.take(1)[0]))
        taus.append(growth.tau)
    assert taus[0] * (1 - 1e-6) <= taus[1] <= taus[0] * (1 + 0.02) + 1e-6
    assert max(0.0, -float((1 - spectrum(problem, dual)[0][0]) * dual.upper / 2)) <= min(taus)


def test_several_steps_are_single_ones() -> None:
    problem, dual = case(0.01)
    for kind in (Doubled, Rounded):
        one, many = (kind(problem, dual, normal(problem.n_vertices, 8)) for _ in range(2))
        squares = [one.take(1)[0] for _ in range(5)]
        assert many.take(5) == squares
        assert torch.equal(one.block, many.block)


def test_a_dual_vector_that_is_far_too_small_is_not_rounded() -> None:
    problem, dual = case(0.0)
    X = normal(problem.n_vertices, 8)
    assert isinstance(recurrence(problem, dual, X.clone()), Rounded)
    far = Dual(dual.h - 100.0, dual.d, 1.0)
    assert isinstance(recurrence(problem, far, X.clone()), Doubled)


def test_known_is_the_bound_of_gershgorin() -> None:
    problem, dual = case(0.2)
    values, _ = spectrum(problem, dual)
    assert 0 < (values[0] - 1) * dual.upper / 2 <= dual.known <= 1.1


def test_an_engine_without_rounded_steps_gets_the_other_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, dual = case(0.0)
    monkeypatch.setattr(module, "offers_rounded_steps", lambda csr: False)
    assert isinstance(recurrence(problem, dual, normal(problem.n_vertices, 8)), Doubled)


class TestForeseen:
    """Columns that grow as cosh(k a) reach a lack when the recurrence says so."""

    def grown(self, rate: float, steps: int) -> Growth:
        growth = Growth(2.0, 0.25, 0.0, 4.0)
        for k in range(2, steps + 1):
            growth.after(k, 4.0 * math.cosh(k * rate))
        return growth

    def reached(self, rate: float, tau: float) -> int:
        growth = Growth(2.0, 0.25, 0.0, 4.0)
        return next(k for k in range(2, 10_000) if growth.after(k, 4.0 * math.cosh(k * rate)) <= tau)

    @pytest.mark.parametrize("rate", [0.0, 0.03])
    def test_is_when_it_comes(self, rate: float) -> None:
        tau = 2.0 * math.sinh(0.06 / 2) ** 2
        found = self.grown(rate, 45).foreseen(tau)
        assert found == pytest.approx(self.reached(rate, tau), rel=0.1)
        assert found > 45

    def test_is_never_where_columns_grow_too_fast(self) -> None:
        tau = 2.0 * math.sinh(0.06 / 2) ** 2
        assert self.grown(0.07, 60).foreseen(tau) == math.inf
        assert self.grown(0.0, 60).foreseen(0.0) == math.inf

    def test_what_is_certified_is_foreseen_now(self) -> None:
        growth = self.grown(0.03, 60)
        assert growth.foreseen(1.01 * growth.tau) <= 61


def test_a_goal_within_reach_is_worth_more_steps() -> None:
    problem, dual = case(0.0)
    ends = {}
    for steps in (40, 60, 200):
        ends[steps] = chebyshev_bound(problem, dual.h, steps=steps, delta=1e-6, seed=1)[0]
        assert ends[steps].steps == steps
    near = chebyshev_bound(problem, dual.h, steps=40, delta=1e-6, seed=1, goal=ends[60].value)[0]
    assert 40 < near.steps <= round(LONGER * 40)
    assert near.value <= ends[40].value
    assert chebyshev_bound(problem, dual.h, steps=40, delta=1e-6, seed=1, goal=ends[200].value)[0].steps == 40
