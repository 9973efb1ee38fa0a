"""Derandomising an expectation: nothing is lost, W goes, and the sample's descent never rises."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

import sdp
from sdp.optim.derandomize import METHODS, derandomize


def wells(z: torch.Tensor) -> torch.Tensor:
    return ((z**2 - 1) ** 2).sum(-1) + 0.3 * z.sum(-1)


def problem(k: int = 3, d: int = 8, n_samples: int = 512, **options: Any) -> sdp.Expectation:
    W = torch.from_numpy(np.random.default_rng(0).normal(size=(k, d)) / math.sqrt(d))
    return sdp.Expectation(
        wells, W, torch.zeros(k, dtype=torch.float64), n_samples, method="sampling", **options
    )


@pytest.mark.parametrize("method", METHODS)
def test_one_point_is_better_than_the_sampler(method: str) -> None:
    F = problem()
    kept = F.W.clone(), F.b.clone()
    found = derandomize(F, method)
    assert torch.equal(F.W, kept[0])
    assert torch.equal(F.b, kept[1])
    assert found.is_better is True
    assert found.value == pytest.approx(float(wells(found.b)), abs=1e-12)
    low, high = found.expected_interval
    # E g = sum of 3 w^4 - 2 w^2 + 1 over rows of norm w.
    w = F.W.square().sum(1)
    exact = float((3 * w**2 - 2 * w + 1).sum())
    assert low <= exact <= high
    assert found.value < low
    assert found.status == "W is gone"
    assert found.w_norm_after <= 2e-3 * found.w_norm_before
    assert found.certificate.is_sosp is True
    assert found.certificate.method == "exact"
    assert found.n_best == found.evaluations > 0
    assert json.loads(json.dumps(found.to_dict()))["method"] == method


def test_descent_on_the_sample_never_rises() -> None:
    values = derandomize(problem(), "sosp", compare=False).sample_values
    assert len(values) > 5
    assert (np.diff(values) <= 1e-12).all()


def test_small_samples_prove_nothing() -> None:
    # E g is -2, nearly all of it from 1 draw in 50, which samples of 4 to 16 seldom hold; g(b) is about 0.
    def g(z: torch.Tensor) -> torch.Tensor:
        return -100 * torch.sigmoid(200 * (z[..., 0] - 2.05)) + 1e-3 * z[..., 0] ** 2

    W, b = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    truth = -100 * float(torch.special.ndtr(torch.tensor(-2.05)))
    for n_samples, seed in itertools.product((4, 16), range(12)):
        F = sdp.Expectation(g, W, b, n_samples, seed, method="sampling")
        found = derandomize(F, "homotopy", seed=seed, compare=False, max_steps=10)
        low, high = found.expected_interval
        assert low <= truth <= high
        assert found.is_better is not True or found.value <= truth


def test_leaves_a_symmetric_saddle() -> None:
    # At b = 0 the gradient in b is 0, and W = 0 there is the top of the well.
    W = torch.tensor([[0.5]], dtype=torch.float64)
    F = sdp.Expectation(lambda z: (z[..., 0] ** 2 - 1) ** 2, W, torch.zeros(1, dtype=torch.float64))
    found = derandomize(F, "sosp")
    assert abs(float(found.b)) == pytest.approx(1.0, abs=1e-6)
    assert found.value == pytest.approx(0.0, abs=1e-10)


def test_seeds_decide() -> None:
    first, again, other = (derandomize(problem(), "homotopy", seed=seed, compare=False) for seed in (1, 1, 2))
    assert torch.equal(first.b, again.b)
    assert first.expected_value_before == again.expected_value_before != other.expected_value_before


def test_w_zero_is_left_alone() -> None:
    F = problem()
    found = derandomize(F.at(W=torch.zeros_like(F.W)), "sosp")
    assert found.w_norm_before == found.w_norm_after == 0.0
    assert found.value <= found.expected_value_before


@pytest.mark.parametrize("method", METHODS)
def test_steps_round_what_is_not_finite(method: str) -> None:
    # z - log(z + 2) / 5: the least value is at z = -1.8, and a step too long ends where there is no logarithm.
    W = torch.from_numpy(0.3 * np.random.default_rng(0).normal(size=(6, 8)) / math.sqrt(8))
    F = sdp.Expectation(
        lambda z: (z - 0.2 * torch.log(z + 2.0)).sum(-1), W, torch.zeros(6, dtype=torch.float64), 128,
        method="sampling",
    )  # fmt: skip
    found = derandomize(F, method, compare=False)
    assert found.status == "W is gone"
    assert found.value == pytest.approx(6 * (-1.8 - 0.2 * math.log(0.2)), abs=1e-9)


def up_to_2(z: torch.Tensor) -> torch.Tensor:
    """-z, and NaN beyond 2: no least value."""
    return -z[..., 0] + 0.0 * torch.sqrt(2.0 - z[..., 0])


def test_says_at_which_step_nothing_finite_is_left() -> None:
    W, b = torch.full((1, 6), 0.1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    found = derandomize(sdp.Expectation(up_to_2, W, b, 256, method="sampling"), compare=False)
    assert found.status == f"not finite beyond step {len(found.sample_values) - 1}"
    assert found.is_better is True
    assert found.value == pytest.approx(-2.0, abs=1e-6)
    assert float(found.b) < 2.0


def test_a_start_that_is_not_finite_is_refused() -> None:
    W, b = torch.full((1, 6), 0.1, dtype=torch.float64), torch.full((1,), 2.5, dtype=torch.float64)
    for method in METHODS:
        with pytest.raises(ValueError, match="not finite"):
            derandomize(sdp.Expectation(up_to_2, W, b, 256, method="sampling"), method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "greedy"}, "`method` must be one of sosp, homotopy, conditional; got 'greedy'."),
        ({"lam": 0.0}, "`lam` must be above 0 and finite; got 0.0."),
        ({"delta": 2.0}, r"`delta` must lie in \(0, 1\); got 2.0."),
        ({"max_steps": 0}, "`max_steps` must be at least 1; got 0."),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        derandomize(problem(), **options)


def test_a_head_that_reads_more_than_z_is_refused() -> None:
    head = sdp.TeacherStudent(
        sdp.MLP((2, 4), dtype=torch.float64), lambda u: u[..., 0], torch.eye(1, 4, dtype=torch.float64)
    )
    F = sdp.Expectation(head, torch.zeros(2, 4, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="reads z alone"):
        derandomize(F)
