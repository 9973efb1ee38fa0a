"""The expectation inside torch.autograd: value, gradient, and the gradient's own derivative, at (W, b, theta).

The bridge holds no mathematics: F's gradient is the estimator's gradient, and since the Hessian is symmetric the
gradient's vector-Jacobian product is a Hessian-vector product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdp.expectation.estimate import Blocks, block_list
from sdp.expectation.integrals import Value, ValueAndGradient, hessian_products

if TYPE_CHECKING:
    from sdp.expectation.expectation import Expectation


def differentiable_value(expectation: Expectation, W: Tensor, b: Tensor, theta: Sequence[Tensor]) -> Tensor:
    """F(W, b, theta) as a scalar of W's dtype with a graph."""
    result: Tensor = _Value.apply(expectation, W, b, *theta)  # type: ignore[no-untyped-call]
    return result


class _Value(torch.autograd.Function):
    """F; where a derivative may be wanted, value and gradient come from one pass."""

    @staticmethod
    def forward(ctx: Any, expectation: Expectation, W: Tensor, b: Tensor, *theta: Tensor) -> Tensor:
        frozen = expectation._frozen(W, b, theta)
        ctx.expectation = expectation
        if not any(ctx.needs_input_grad):
            return expectation._integrate(Value(frozen), plain=True).value[0].to(W.dtype)
        outcome = expectation._integrate(ValueAndGradient(frozen), plain=True)
        gradient = [
            part.to(point.dtype)
            for part, point in zip(block_list(frozen.split(outcome.value[1:])), (W, b, *theta), strict=True)
        ]
        ctx.n_points = len(gradient)
        ctx.save_for_backward(W, b, *theta, *gradient)
        return outcome.value[0].to(W.dtype)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        points, gradient = saved[: ctx.n_points], saved[ctx.n_points :]
        if torch.is_grad_enabled():  # a double backward is wanted
            bridge: Any = _Gradient
            gradient = bridge.apply(ctx.expectation, ctx.n_points, *points, *gradient)
        return None, *(cotangent * part for part in gradient)


class _Gradient(torch.autograd.Function):
    """The gradient, known already; its backward is the Hessian times the cotangent."""

    @staticmethod
    def forward(ctx: Any, expectation: Expectation, n_points: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.expectation, ctx.n_points = expectation, n_points
        ctx.save_for_backward(*tensors[:n_points])
        return tuple(part.clone() for part in tensors[n_points:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        W, b, *theta = points = ctx.saved_tensors
        ctx.expectation._check_twice_differentiable()
        frozen = ctx.expectation._frozen(W, b, theta)
        V_W, V_b, *V_theta = (part[None] for part in cotangents)
        outcome = ctx.expectation._integrate(
            hessian_products(frozen, Blocks(V_W, V_b, tuple(V_theta))), plain=True
        )
        products = block_list(frozen.split(outcome.value))
        made = [part.to(point.dtype) for part, point in zip(products, points, strict=True)]
        return None, None, *made, *(None for _ in points)
