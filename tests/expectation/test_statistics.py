"""Confidence intervals cover as often as they say, Stein's identity holds, and control variates help or stay out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sdp.expectation.estimate import mean_of, standard_error
from sdp.expectation.expectation import Expectation
from tests.reference.gaussian_law import (
    CLOSED_FORMS,
    ClosedForm,
    derivatives,
    probit,
    quadratic,
    random_point,
)

N_SEEDS = 400
# Of 400 intervals of 95%, between 93% and 97% cover with probability .93; the seeds are 0 to 399, without reruns.
COVERAGE = (0.93, 0.97)
# 512 antithetic pairs in 32 batches of 16: enough that batch means are nearly normal.
N_SAMPLES = 1024
SURE = 1.0 - 1e-6  # for single comparisons: 6 standard errors with 31 degrees of freedom


def sampled(form: ClosedForm, seed: int = 0, n_samples: int = N_SAMPLES, **options: Any) -> Expectation:
    return Expectation(form.head, form.W, form.b, n_samples, seed, method="sampling", **options)


def is_inside(truth: Tensor, low: Tensor, high: Tensor) -> bool:
    return bool(((low <= truth) & (truth <= high)).all())


@pytest.mark.parametrize("antithetic", [True, False], ids=["pairs", "single samples"])
@pytest.mark.parametrize("name", sorted(CLOSED_FORMS))
def test_intervals_cover_the_value(name: str, antithetic: bool) -> None:
    form = CLOSED_FORMS[name]()
    truth = form.value(form.W, form.b)
    options = {"antithetic": antithetic, "control_variate": False}
    covered = [
        is_inside(truth, *sampled(form, seed, **options).value().interval(0.95)) for seed in range(N_SEEDS)
    ]
    assert COVERAGE[0] <= sum(covered) / N_SEEDS <= COVERAGE[1]


def test_intervals_cover_the_value_with_a_control_variate() -> None:
    form = probit(steepness=0.3)
    truth = form.value(form.W, form.b)
    estimates = [sampled(form, seed, 2**13).value() for seed in range(N_SEEDS)]
    assert all("took" in estimate.notes[0] for estimate in estimates)
    covered = [is_inside(truth, *estimate.interval(0.95)) for estimate in estimates]
    assert COVERAGE[0] <= sum(covered) / N_SEEDS <= COVERAGE[1]


def test_intervals_cover_entries_of_the_gradient() -> None:
    """All entries of both blocks together: they are correlated, so the bar is for the mean over seeds and entries."""
    form = probit()
    dW, db, _ = derivatives(form)
    inside = torch.zeros(dW.numel() + db.numel())
    for seed in range(N_SEEDS):
        low, high = sampled(form, seed, control_variate=False).grad().interval(0.95)
        ok_W, ok_b = (dW >= low.W) & (dW <= high.W), (low.b <= db) & (db <= high.b)
        inside += torch.cat([ok_W.flatten(), ok_b])
    assert COVERAGE[0] <= float(inside.mean()) / N_SEEDS <= COVERAGE[1]


@pytest.mark.parametrize("name", sorted(CLOSED_FORMS))
def test_derivatives_lie_in_their_intervals(name: str) -> None:
    form = CLOSED_FORMS[name]()
    dW, db, H = derivatives(form)
    F = sampled(form, n_samples=2**14)
    low, high = F.grad().interval(SURE)
    rounding = 1e-12  # the quadratic's derivatives have no noise at all
    assert is_inside(dW, low.W - rounding, high.W + rounding)
    assert is_inside(db, low.b - rounding, high.b + rounding)
    low_H, high_H = F.hessian_z().interval(SURE)
    assert is_inside(H, low_H - rounding, high_H + rounding)


@pytest.mark.parametrize("name", sorted(CLOSED_FORMS))
def test_stein_identity_within_its_interval(name: str) -> None:
    """grad_W F = H W, both sides from independent draws."""
    form = CLOSED_FORMS[name]()
    gradient = sampled(form, seed=1, n_samples=2**14).grad()
    H = sampled(form, seed=2, n_samples=2**14).hessian_z()
    low, high = gradient.interval(SURE)
    slack = H.half_width(SURE) @ form.W.abs() + 1e-12
    assert is_inside(H.value @ form.W, low.W - slack, high.W + slack)


def test_a_control_variate_narrows_the_interval_where_the_head_is_nearly_quadratic() -> None:
    form = probit(steepness=0.3)
    plain = sampled(form, n_samples=2**14, control_variate=False)
    helped = sampled(form, n_samples=2**14)
    truth = form.value(form.W, form.b)
    assert float(helped.value().standard_error) < 0.5 * float(plain.value().standard_error)
    assert abs(float(helped.value()) - float(truth)) < 6 * float(helped.value().standard_error)
    ratio = helped.grad().standard_error.W.norm() / plain.grad().standard_error.W.norm()
    assert float(ratio) < 0.8
    (note,) = helped.value().notes
    assert note.startswith("control variate: a quadratic model took ")


def test_a_control_variate_that_does_not_help_is_left_out_and_said_so() -> None:
    """Over several periods of a cosine the quadratic model at one point knows nothing."""
    W, b = random_point(5, 8, 5, seed=0, scale=3.0)
    head = lambda z: torch.cos(3.0 * z).sum(-1)  # noqa: E731
    plain, tried = (
        Expectation(head, W, b, 2**14, method="sampling", control_variate=wanted).value()
        for wanted in (False, True)
    )
    (note,) = tried.notes
    assert note.startswith("control variate left out")
    assert torch.equal(tried.value, plain.value)
    assert torch.equal(tried.standard_error, plain.standard_error)


def test_a_quadratic_head_has_no_noise_left() -> None:
    form = quadratic()
    estimate = sampled(form, n_samples=2**13).value()
    assert abs(float(estimate) - float(form.value(form.W, form.b))) < 1e-12


def test_short_batches_get_no_control_variate() -> None:
    """Of 32 batches of 127 pairs and fewer; 128 pairs each is where it begins."""
    form = probit(steepness=0.3)
    (note,) = sampled(form, n_samples=2 * 32 * 127).value().notes
    assert note == "control variate left out: it wants 128 pairs a batch"
    (note,) = sampled(form, n_samples=2 * 32 * 128).value().notes
    assert "took" in note
    # Doubled up to that length, all draws get their controls.
    estimate = sampled(form, n_samples=1024, rel_error=3e-5).value()
    assert "took" in estimate.notes[0]
    assert estimate.converged


def test_antithetic_pairs_and_the_reduced_law_shrink_the_gradient_noise() -> None:
    """MATH 2 saw factors of 5.6 (reduced law) and 10.7 (and pairs) at k = 16, d = 512; here k = 5, d = 400."""
    form = probit(k=5, d=400, rank=5)
    n, x = 4096, torch.randn(4096, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = (x @ form.W.T + form.b).requires_grad_(True)
    (g,) = torch.autograd.grad(form.head(z).sum(), z)
    per_sample = g[:, :, None] * x[:, None, :]
    plain = float(per_sample.std(0).norm()) / math.sqrt(n)
    single = sampled(form, n_samples=n, antithetic=False).grad().standard_error.W
    pairs = sampled(form, n_samples=n, control_variate=False).grad().standard_error.W
    assert float(single.norm()) < plain / 4.0
    assert float(pairs.norm()) < plain / 8.0


def test_sobol_beats_sampling_and_covers() -> None:
    form = probit()
    sobol = Expectation(form.head, form.W, form.b, 2**13, method="sobol").value()
    plain = sampled(form, n_samples=2**13, control_variate=False).value()
    assert sobol.method == "sobol"
    assert sobol.n_samples == 2**13
    assert float(sobol.standard_error) < 0.5 * float(plain.standard_error)
    assert is_inside(form.value(form.W, form.b), *sobol.interval(SURE))


def test_unequal_batches_give_an_unbiased_error() -> None:
    """Batches of 10 and 1 samples: the stated variance of the mean is right on average over 2,000 data sets."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([10.0] * 4 + [1.0] * 3, dtype=torch.float64)
    stated, means = [], []
    for _ in range(2000):
        batches = torch.randn(7, 1, generator=generator, dtype=torch.float64) / sizes.sqrt()[:, None]
        stated.append(float(standard_error(batches, sizes, lambda rows: rows.square().sum(0))) ** 2)
        means.append(float(mean_of(batches, sizes)))
    assert torch.tensor(stated).mean() * float(sizes.sum()) == pytest.approx(1.0, abs=0.06)  # 4.6 sigma
    assert torch.tensor(means).var() * float(sizes.sum()) == pytest.approx(1.0, abs=0.14)  # 4.4 sigma
