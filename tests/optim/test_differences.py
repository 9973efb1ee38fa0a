"""A loss whose second derivative torch gets wrong without a word is never certified; one that has its own is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

import sdp
from sdp.optim.certify_function import certify_function
from sdp.optim.kinks import once_differentiable as once


class Square(torch.autograd.Function):
    """x^2, with a backward of torch operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope * 2.0 * ctx.saved_tensors[0]


class OnceOnly(Square):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return Square.backward(ctx, slope)


class Autocast(Square):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return Square.forward(ctx, x)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return Square.backward(ctx, slope)


class Vjp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return Square.forward(ctx, x)

    @staticmethod
    @once_differentiable
    def vjp(ctx: Any, slope: Tensor) -> Tensor:
        return Square.backward(ctx, slope)


class Numpy(Square):
    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope * 2.0 * torch.from_numpy(ctx.saved_tensors[0].detach().numpy().copy())


class OtherDecorator(Square):
    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        with torch.no_grad():
            return Square.backward(ctx, slope)


def test_a_loss_without_a_second_derivative_is_refused() -> None:
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    # Of -x^2: where nothing follows but a sum, torch would say that curvature is 0.
    with pytest.raises(ValueError, match="must be twice differentiable; OnceOnly is marked"):
        certify_function(lambda: -OnceOnly.apply(x).sum(), [x])
    fused = torch.nn.attention.SDPBackend.FLASH_ATTENTION
    y = torch.ones(1, 1, 4, 8, requires_grad=True)
    with torch.nn.attention.sdpa_kernel(fused):
        loss = torch.nn.functional.scaled_dot_product_attention(y, y, y).square().sum()
    with pytest.raises(ValueError, match="must be twice differentiable; torch says: derivative for"):
        certify_function(lambda: loss, [y])


@pytest.mark.parametrize("function", [Autocast, Vjp])
def test_a_mark_is_found_under_other_decorators_and_on_vjp(function: Any) -> None:
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert once(function.apply(x).sum()) == [function.__name__]
    with pytest.raises(ValueError, match=f"must be twice differentiable; {function.__name__} is marked"):
        certify_function(lambda: -function.apply(x).sum(), [x])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("function", [Numpy, OtherDecorator])
@pytest.mark.parametrize("batches", [None, [1.0] * 8], ids=["alone", "batches"])
def test_products_that_differences_contradict_decide_nothing(function: Any, dtype: Any, batches: Any) -> None:
    x = torch.zeros(3, dtype=dtype, requires_grad=True)

    def f(factor: float = 1.0) -> Tensor:
        # torch's curvature is 0, the true one -2
        return -factor * function.apply(x).sum() + 0.0 * (x**2).sum()

    found = certify_function(f, [x], batches=batches)
    assert found.is_sosp == "undecided"
    assert f"custom functions ({function.__name__}) must differentiate twice" in found.decided_by
    assert found.notes == (found.decided_by,)


def test_part_of_a_curvature_is_missed_too() -> None:
    x = torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
    assert (
        certify_function(lambda: (x**2).sum() + 1e-3 * Numpy.apply(x).sum(), [x]).is_sosp is False
    )  # gradient
    found = certify_function(lambda: (x**2).sum() + 1e-3 * Numpy.apply(x).sum(), [x], eps=10.0)
    assert found.is_sosp == "undecided"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("n", [1, 7, 3000], ids=["one", "dense", "by products"])
def test_a_custom_function_that_differentiates_twice_is_certified(n: int, dtype: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (30.0 * torch.randn(n, generator=generator, dtype=dtype)).requires_grad_(True)
    before = x.detach().clone()

    def f() -> Tensor:
        return (torch.cos(Square.apply(x) / 100.0) + Square.apply(x)).sum()

    found = certify_function(f, [x], eps=1e6)
    assert found.is_sosp is True
    assert torch.equal(x.detach(), before)
    assert x.grad is None
    plain = certify_function(lambda: (torch.cos(x**2 / 100.0) + x**2).sum(), [x], eps=1e6)
    assert found.curvature_upper == pytest.approx(plain.curvature_upper, rel=1e-4)


def test_a_linear_custom_function_near_rounding_is_certified() -> None:
    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, slope: Tensor) -> Tensor:
            return slope

    x = torch.linspace(-1.0, 1.0, 50, requires_grad=True)
    assert certify_function(lambda: 1e-5 * Same.apply(x).sum(), [x]).is_sosp is True


def test_losses_that_cannot_be_compared_are_undecided() -> None:
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    once_for_all = torch.cos(Square.apply(1.0 + x)).sum()
    assert certify_function(lambda: once_for_all, [x], eps=10.0).is_sosp == "undecided"
    generator = torch.Generator().manual_seed(0)

    def noisy() -> Tensor:
        return (
            Square.apply(x) * torch.rand(3, generator=generator, dtype=torch.float64)
        ).sum() + x.sum() * float(torch.rand((), generator=generator))

    assert certify_function(noisy, [x], eps=10.0).is_sosp == "undecided"


def test_a_compiled_loss_is_refused_in_a_sentence() -> None:
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(lambda x: (x**4).sum(), backend="aot_eager")
    with pytest.raises(ValueError, match=r"must be twice differentiable; torch says: .*double backward"):
        certify_function(lambda: compiled(x), [x])


@pytest.mark.parametrize(("k", "verdict"), [(2, True), (6, "undecided")], ids=["quadrature", "sampled"])
def test_an_expectation_is_compared_as_well(k: int, verdict: bool | str) -> None:
    # The derivatives of a sampled expectation are estimates of their own: this one's are 5% apart.
    generator = torch.Generator().manual_seed(0)
    W, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((k, 9), (k,)))
    F = sdp.Expectation(lambda z: torch.sin(z).sum(-1), W.requires_grad_(True), b.requires_grad_(True))
    assert certify_function(lambda: F(), [F.W, F.b], eps=100.0, curvature=100.0).is_sosp == verdict


def test_a_step_that_is_too_long_at_first_is_shortened() -> None:
    # In float32 the first difference spans many periods, and its error would hide what is missing below `curvature`.
    x = torch.full((400,), 100.0, requires_grad=True)

    def f() -> Tensor:
        return -torch.sin(3.0 * x).sum() - 0.1 * Numpy.apply(x - 100.0).sum()

    assert certify_function(f, [x], eps=1e3, curvature=50.0, dense_size=1000).is_sosp == "undecided"
