"""Quadrature: its error estimate is honest, it meets the bars of MATH 2, and sampling agrees with it."""

from __future__ import annotations

import pytest
import torch

from sdp.expectation.expectation import Expectation
from sdp.expectation.heads import MLP
from sdp.expectation.sampling import WHOLE, Rung, quadrature_nodes
from tests.reference.gaussian_law import CLOSED_FORMS, ClosedForm, double_well, probit, random_point

SURE = 1.0 - 1e-6


def form_of_rank(name: str, q: int) -> ClosedForm:
    return CLOSED_FORMS[name](k=5, d=8, rank=q)


@pytest.mark.parametrize("q", [1, 2, 3, 4])
@pytest.mark.parametrize("rung", WHOLE[:4], ids=lambda rung: str(rung.order))
def test_whole_rules_are_exact_for_polynomials(q: int, rung: Rung) -> None:
    """sum_i x_i^2 to the power s has the moments of a chi-square: q (q + 2) ... (q + 2 s - 2)."""
    points, weights = quadrature_nodes(q, rung)
    assert points.shape == (len(weights), q)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-14)
    radius = (points**2).sum(1)
    exact = 1.0
    for power in range(1, min(rung.order, 5)):
        exact *= q + 2 * (power - 1)
        # Some 10^4 nodes dropped weigh up to 1e-14 each, and radius^4, some 10^5 out there, makes 1e-5 of them.
        assert float(weights @ radius**power) == pytest.approx(exact, rel=2e-7)


def test_light_nodes_are_dropped() -> None:
    assert len(quadrature_nodes(3, Rung(13, 1e-14))[1]) == 1929 < 13**3
    assert len(quadrature_nodes(3, Rung(24, 5e-8))[1]) == 1888 < 24**3
    assert len(quadrature_nodes(4, Rung(13, 1e-14))[1]) == 19129 < 13**4


@pytest.mark.parametrize("budget", [400, 2000, 2**16], ids=str)
@pytest.mark.parametrize("q", [1, 2, 3, 4])
@pytest.mark.parametrize("name", sorted(CLOSED_FORMS))
def test_the_true_error_is_within_three_times_the_estimate(name: str, q: int, budget: int) -> None:
    form = form_of_rank(name, q)
    F = Expectation(form.head, form.W, form.b, budget, method="quadrature")
    estimate = F.value()
    assert estimate.method == "quadrature"
    assert estimate.n_samples <= max(budget, 6**q)  # one order alone would have no error estimate
    error = abs(float(estimate) - float(form.value(form.W, form.b)))
    assert error <= 3.0 * float(estimate.standard_error)
    if (
        name != "probit"
    ):  # polynomials of degree 4 need 3 nodes an axis; what is left is due to the nodes dropped
        assert error < 1e-7


@pytest.mark.parametrize("steepness", [3.0, 10.0, 100.0])
@pytest.mark.parametrize("q", [1, 2, 3, 4])
def test_the_estimate_is_honest_for_steep_heads(q: int, steepness: float) -> None:
    form = probit(k=5, d=8, rank=q, steepness=steepness)
    estimate = Expectation(form.head, form.W, form.b, 2000, method="quadrature").value()
    error = abs(float(estimate) - float(form.value(form.W, form.b)))
    assert error <= 3.0 * float(estimate.standard_error)


def head_of_math_2(q: int, seed: int) -> tuple[MLP, torch.Tensor, torch.Tensor]:
    """Two-layer tanh head, k = h = 64, entries of L of variance 1 / q."""
    head = MLP((64, 64), "tanh", seed=seed, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    L = torch.randn(64, q, generator=generator, dtype=torch.float64) / q**0.5
    Q = torch.linalg.qr(torch.randn(128, q, generator=generator, dtype=torch.float64)).Q
    # At b = 0 the head is odd and the answer 0, whatever the nodes.
    return head, L @ Q.T, 0.5 * torch.randn(64, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(8))
def test_two_thousand_nodes_at_rank_3_err_below_1e_4(seed: int) -> None:
    head, W, b = head_of_math_2(3, seed)
    estimate = Expectation(head, W, b, 2000, method="quadrature").value()
    assert estimate.n_samples == 1888
    truth = Expectation(head, W, b, 2**15, method="quadrature", rel_error=1e-9).value()
    assert truth.n_samples > 2 * estimate.n_samples
    error = abs(float(estimate) - float(truth))
    assert error < 1e-4
    assert error <= 3.0 * float(estimate.standard_error)


@pytest.mark.parametrize("q", [1, 2, 3, 4])
@pytest.mark.parametrize("name", sorted(CLOSED_FORMS))
def test_quadrature_and_sampling_agree_within_their_intervals(name: str, q: int) -> None:
    """A change of method moves a value, a gradient and H by no more than both intervals say."""
    form = form_of_rank(name, q)
    by_nodes = Expectation(form.head, form.W, form.b, method="quadrature")
    by_samples = Expectation(form.head, form.W, form.b, 2**14, method="sampling")
    for quantity in ("value", "grad", "hessian_z"):
        nodes, samples = getattr(by_nodes, quantity)(), getattr(by_samples, quantity)()
        pairs = [(nodes.value, samples.value, nodes.half_width(), samples.half_width(SURE))]
        if quantity == "grad":
            pairs = [tuple(getattr(part, block) for part in pairs[0]) for block in ("W", "b")]  # type: ignore[misc]
        for value, other, narrow, wide in pairs:
            assert bool(((value - other).abs() <= narrow + wide + 1e-12).all())


def test_the_choice_is_by_rank() -> None:
    methods = []
    for rank in (0, 1, 4, 5):
        W, b = random_point(6, 9, rank, seed=0)
        methods.append(Expectation(lambda z: torch.tanh(z).sum(-1), W, b, 2**15).value().method)
    assert methods == ["exact", "quadrature", "quadrature", "sampling"]


def test_a_head_too_steep_for_quadrature_is_sampled() -> None:
    """Phi(1000 z): orders differ by more than the sampling error, and the smaller error wins."""
    form = probit(k=4, d=5, rank=4, steepness=1000.0)
    estimate = Expectation(form.head, form.W, form.b, 2**16).value()
    assert estimate.method == "sampling"
    low, high = estimate.interval(SURE)
    assert low <= form.value(form.W, form.b) <= high


def test_a_budget_too_small_for_trusted_orders_is_sampled() -> None:
    form = double_well(k=4, d=6, rank=4)
    assert Expectation(form.head, form.W, form.b, 2000).value().method == "sampling"
    forced = Expectation(form.head, form.W, form.b, 2000, method="quadrature").value()
    assert forced.method == "quadrature"
    assert forced.n_samples == 6**4


def test_rel_error_stops_the_ladder_early() -> None:
    form = probit(k=5, d=8, rank=3, steepness=2.0)
    coarse = Expectation(form.head, form.W, form.b, rel_error=1e-3).value()
    fine = Expectation(form.head, form.W, form.b, rel_error=1e-8).value()
    assert coarse.method == fine.method == "quadrature"
    assert coarse.n_samples < fine.n_samples
    assert coarse.converged
    assert fine.relative_error() <= 1e-8
