"""Seeds, blocks, doubling, re-factorisation: the same question gets the same answer, and a changed one another."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import sdp
from sdp.expectation import control, pointwise
from sdp.expectation.estimate import Blocks, Estimate
from sdp.expectation.expectation import Expectation
from sdp.expectation.heads import MLP
from sdp_kernels import expectation as kernels
from sdp_kernels import gaussian
from sdp_kernels.expectation import Draw
from tests.reference.gaussian_law import double_well, probit, quadratic, random_point


def blocks_equal(one: Blocks, other: Blocks) -> bool:
    pairs = zip((one.W, one.b, *one.theta), (other.W, other.b, *other.theta), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def make(seed: int = 0, n_samples: int = 4096, **options: Any) -> Expectation:
    W, b = random_point(6, 20, 6, seed=1)
    return Expectation(MLP((6, 7), dtype=torch.float64), W, b, n_samples, seed, method="sampling", **options)


def test_same_seed_same_bits_other_seed_other_bits() -> None:
    one, again, other = make(3), make(3), make(4)
    assert torch.equal(one.value().value, again.value().value)
    assert blocks_equal(one.grad().value, again.grad().value)
    assert torch.equal(one.hessian_z().value, again.hessian_z().value)
    assert float(one.value()) != float(other.value())


def test_threads_change_no_more_than_the_last_bits() -> None:
    """Draws and the order of sums are fixed; what is left is the rounding of torch's own matrix products."""
    form = probit(k=6, d=20, rank=6)
    answers = []
    for threads in (1, 2):
        torch.set_num_threads(threads)  # the fixture restores it
        F = Expectation(form.head, form.W, form.b, 2**14, method="sampling")
        answers.append((F.value().value, F.grad().value.W, F.hessian_z().value))
    for left, right in zip(*answers, strict=True):
        torch.testing.assert_close(left, right, rtol=0.0, atol=1e-15)


def test_values_are_those_of_the_gradients_pass() -> None:
    F = make()
    assert float(F.value()) == pytest.approx(float(F.value_and_grad()[0]), abs=1e-14)


@pytest.mark.parametrize(
    ("n", "antithetic"),
    [
        pytest.param(1, True, id="one pair"),
        pytest.param(31, False, id="fewer draws than batches"),
        pytest.param(100, True, id="a last batch that is smaller"),
        pytest.param(5000, True, id="several batches a block"),
    ],
)
@pytest.mark.parametrize("with_theta", [True, False], ids=["theta", "no theta"])
def test_block_size_does_not_change_batches(
    n: int, antithetic: bool, with_theta: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draws are numbered by position: whatever the blocks, batch means agree to rounding of sums."""
    L, b = random_point(4, 3, 3, seed=2)
    scale = torch.tensor(0.7, dtype=torch.float64)
    theta = [scale] if with_theta else []

    def function(theta: Any, z: Tensor) -> Tensor:
        return torch.tanh(z * (theta[0] if theta else scale)).prod(-1)

    directions = torch.linspace(-1, 1, 2 * (16 + len(theta)), dtype=torch.float64).view(2, -1)
    draw = Draw(n=n, seed=5, first=7, antithetic=antithetic)
    answers = []
    for rows in (4096, 13):
        monkeypatch.setattr(pointwise, "rows_of_block", lambda k, q, rows=rows: rows)
        values, grads, hvps = pointwise.hvp_batches(function, L, b, theta, draw, directions)
        assert torch.equal(values, pointwise.value_batches(function, L, b, theta, draw))
        again, gradient = pointwise.grad_batches(function, L, b, theta, draw)
        torch.testing.assert_close(gradient, grads, rtol=0.0, atol=1e-14)
        assert torch.equal(values, again)
        answers.append((values, grads, hvps, pointwise.hessian_b_batches(function, L, b, theta, draw)))
    for left, right in zip(*answers, strict=True):
        torch.testing.assert_close(left, right, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("antithetic", [True, False], ids=["pairs", "single"])
@pytest.mark.parametrize("points", [False, True], ids=["draws", "points"])
def test_the_autograd_route_is_the_kernels(antithetic: bool, points: bool) -> None:
    """An MLP as a plain function has the kernel's batches: same draws, same sums, float64 rounding."""
    head = MLP((4, 6, 5), "gelu", "mse", target=0.3, seed=2, dtype=torch.float64)
    theta = [part.detach() for part in head.parameters()]
    L, b = random_point(4, 3, 3, seed=3)
    draw = Draw(n=200, seed=9, first=11, antithetic=antithetic)
    if points:
        xi = gaussian.normal((200, 3), seed=1, dtype=torch.float64)
        draw = draw._replace(first=0, points=xi, weights=torch.full((200,), 1 / 200, dtype=torch.float64))

    def function(theta: Any, z: Tensor) -> Tensor:
        names = [name for name, _ in head.named_parameters()]
        result: Tensor = torch.func.functional_call(head, dict(zip(names, theta, strict=True)), (z,))
        return result

    columns = 4 * 3 + 4 + sum(part.numel() for part in theta)
    directions = gaussian.normal((3, columns), seed=4, dtype=torch.float64)
    ours = pointwise.hvp_batches(function, L, b, theta, draw, directions)
    theirs = kernels.hvp_batches(L, b, theta, head.network, draw, directions, "exact")
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        pointwise.hessian_b_batches(function, L, b, theta, draw),
        kernels.hessian_b_batches(L, b, theta, head.network, draw, "exact"),
        rtol=1e-12,
        atol=1e-12,
    )


def test_doubling_keeps_every_earlier_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    original = pointwise.value_batches

    def spy(*arguments: Any) -> Tensor:
        draw = arguments[-1]
        seen.append((draw.first, draw.n))
        return original(*arguments)

    monkeypatch.setattr(pointwise, "value_batches", spy)
    form = probit()
    F = Expectation(form.head, form.W, form.b, 256, method="sampling", rel_error=2e-3, control_variate=False)
    estimate, drawn = F.value(), list(seen)
    assert seen[:3] == [(0, 128), (128, 128), (256, 256)]
    assert len(drawn) > 3
    assert all(first == n for first, n in drawn[1:])
    assert estimate.n_samples == 2 * sum(n for _, n in drawn)
    assert estimate.converged
    assert estimate.relative_error() <= 2e-3
    # 32 more batches each time, and no draw twice: the mean is that of all pairs drawn at once.
    whole = Expectation(
        form.head, form.W, form.b, estimate.n_samples, method="sampling", control_variate=False
    ).value()
    assert float(estimate) == pytest.approx(float(whole), abs=1e-14)
    assert estimate.degrees_of_freedom == 32 * len(drawn) - 1


def test_doubling_stops_at_the_cap_and_says_so() -> None:
    form = probit()
    options: dict[str, Any] = {"method": "sampling", "rel_error": 1e-9, "max_samples": 1000}
    estimate = Expectation(form.head, form.W, form.b, 256, control_variate=False, **options).value()
    assert estimate.n_samples == 512
    assert not estimate.converged
    assert "not converged" in repr(estimate)


def test_sobol_doubles_too() -> None:
    form = probit()
    estimate = Expectation(form.head, form.W, form.b, 256, method="sobol", rel_error=1e-3).value()
    assert estimate.converged
    assert estimate.n_samples > 256
    whole = Expectation(form.head, form.W, form.b, estimate.n_samples, method="sobol").value()
    assert float(estimate) == pytest.approx(float(whole), abs=1e-14)


def test_second_moments_are_those_of_the_draws() -> None:
    """Of 1000 pairs from row 7 on; 1000 = 31 batches of 32 and one of 8."""
    draw = Draw(n=1000, seed=3, first=7)
    found = control.second_moments(draw, 4, torch.float64, torch.device("cpu"))
    place: dict[str, Any] = {"seed": 3, "purpose": gaussian.PURPOSE_SAMPLES, "row_offset": 7}
    xi = gaussian.normal((1000, 4), **place, dtype=torch.float64)
    eye = torch.eye(4, dtype=torch.float64)
    for batch, part in enumerate(xi.split(32)):
        torch.testing.assert_close(found[batch], part.T @ part / len(part) - eye)


def test_the_law_is_factored_anew_as_it_changes() -> None:
    form = quadratic()
    W = form.W.clone()
    F = Expectation(form.head, W, form.b)
    assert F.value().method == "sampling"
    W[1:] = 0.0
    assert F.law.rank == 1
    estimate = F.value()
    assert estimate.method == "quadrature"
    assert float(estimate) == pytest.approx(float(form.value(W, form.b)), abs=1e-12)
    W.zero_()
    estimate = F.value()
    assert estimate.method == "exact"
    assert (estimate.n_samples, float(estimate.standard_error)) == (1, 0.0)
    assert float(estimate) == pytest.approx(float(form.value(W, form.b)), abs=1e-14)


def test_at_moves_the_point_and_leaves_the_original() -> None:
    form = double_well()
    F = Expectation(form.head, form.W, form.b)
    moved = F.at(b=form.b + 1.0)
    assert float(moved.value()) == pytest.approx(float(form.value(form.W, form.b + 1.0)), abs=1e-12)
    assert float(F.value()) == pytest.approx(float(form.value(form.W, form.b)), abs=1e-12)
    assert moved.seed == F.seed


def test_common_random_numbers_make_differences_quiet() -> None:
    """With one seed, F(b + h) - F(b) has far less noise than either value."""
    form = probit()
    differences, values = [], []
    for seed in range(20):
        F = Expectation(form.head, form.W, form.b, 1024, seed, method="sampling", control_variate=False)
        value, moved = float(F.value()), float(F.at(b=form.b + 1e-3).value())
        differences.append((moved - value) / 1e-3)
        values.append(value)
    spread = torch.tensor(values).std()
    assert torch.tensor(differences).std() < 10 * spread
    truth = float(form.value(form.W, form.b + 1e-3) - form.value(form.W, form.b)) / 1e-3
    assert sum(differences) / 20 == pytest.approx(
        truth, abs=6 * float(torch.tensor(differences).std()) / 20**0.5
    )


def test_a_training_loop_finds_the_minimum_of_the_double_well() -> None:
    """f = F + lam |W|^2 from a good start: W decays, and b goes to +-1 (MATH 1 and 7)."""
    W = torch.tensor([[0.5, -0.3, 0.2]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)
    F = Expectation(double_well().head, W, b)
    optimiser = torch.optim.SGD([W, b], lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        (F() + 0.05 * (W**2).sum()).backward()
        optimiser.step()
    assert float(W.detach().norm()) < 1e-6
    assert float(b.detach()) == pytest.approx(1.0, abs=1e-6)


def test_float32_agrees_with_float64() -> None:
    W, b = random_point(6, 20, 6, seed=1)
    values = []
    for dtype in (torch.float32, torch.float64):
        head = MLP((6, 7), dtype=torch.float64).to(dtype)
        F = Expectation(head, W.to(dtype), b.to(dtype), 2**12, method="sampling")
        values.append((float(F.value()), F.grad().value.W, F.hessian_z().value))
        assert F().dtype == dtype
    assert values[0][0] == pytest.approx(values[1][0], abs=1e-6)
    torch.testing.assert_close(values[0][1], values[1][1], rtol=0.0, atol=1e-6)
    torch.testing.assert_close(values[0][2], values[1][2], rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("head", [MLP((6, 7)), lambda z: torch.tanh(z).sum(-1)], ids=["mlp", "function"])
def test_exact_precision_computes_in_float64(head: Any) -> None:
    W, b = (part.float() for part in random_point(6, 20, 6, seed=1))
    options: dict[str, Any] = {"n_samples": 2**12, "method": "sampling"}
    exact = Expectation(head, W, b, precision="exact", **options).value()
    wide_head = MLP((6, 7), dtype=torch.float64) if isinstance(head, MLP) else head
    if isinstance(head, MLP):
        wide_head.load_state_dict({name: part.double() for name, part in head.state_dict().items()})
    wide = Expectation(wide_head, W.double(), b.double(), **options).value()
    assert float(exact) == pytest.approx(float(wide), abs=1e-7)  # the law is factored from float32 entries


class TestEstimate:
    def test_interval_and_half_width(self) -> None:
        one = torch.tensor(1.0, dtype=torch.float64)
        estimate = Estimate(one, 0.1 * one, 64, "sampling", degrees_of_freedom=31)
        low, high = estimate.interval(0.95)
        assert float(high - low) == pytest.approx(2 * 0.1 * 2.0395, abs=1e-4)  # t quantile of 31 degrees
        assert float(estimate.half_width(0.5)) < float(estimate.half_width(0.99))
        nodes = Estimate(one, 0.1 * one, 64, "quadrature")
        assert float(nodes.half_width(0.5)) == float(nodes.half_width(0.999)) == pytest.approx(0.3)

    def test_one_batch_has_no_error(self) -> None:
        form = probit()
        estimate = Expectation(form.head, form.W, form.b, 2, method="sampling").value()
        assert math.isinf(float(estimate.standard_error))
        assert math.isinf(float(estimate.half_width()))
        assert json.loads(json.dumps(estimate.to_dict()))["standard_error"] is None

    def test_to_dict_is_json(self) -> None:
        record = json.loads(json.dumps(make().grad().to_dict()))
        assert set(record["value"]) == {"W", "b", "theta"}
        assert len(record["value"]["W"]) == 6
        assert record["method"] == "sampling"

    def test_repr_and_float(self) -> None:
        F = make()
        assert "4096 samples" in repr(F.value())
        assert repr(F.grad()).startswith("<Estimate W (6, 20), b (6,), 4 of theta")
        assert repr(F.hessian_z()).startswith("<Estimate (6, 6)")
        assert "rank 6" in repr(F)
        with pytest.raises(TypeError, match="has blocks"):
            float(F.grad())

    def test_confidence_out_of_range(self) -> None:
        with pytest.raises(ValueError, match=r"`confidence` must lie in \(0, 1\); got 95"):
            make().value().interval(95)


def test_lazy_names_are_these() -> None:
    assert sdp.Expectation is Expectation
    assert sdp.Blocks is Blocks
