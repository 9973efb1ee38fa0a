"""The Gaussian expectation of a head, its gradient and batched Hessian-vector products.

    phi(L, b, theta) = E g(b + L xi),  xi ~ N(0, I_q),  estimated by
    sum_p weight_p 1/2 [g(b + L xi_p) + g(b - L xi_p)]  (antithetic)   or   sum_p weight_p g(b + L xi_p)

The head is narrow at its input (k values) and scalar at its output. theta = [A_1 (h_1, k), c_1 (h_1,), ...,
A_D (h_D, h_{D-1}), c_D (h_D,), a (h_D,), c ()], D >= 0:

    h_0 = z, or act(z) with `activate_input`;  h_i = act(A_i h_{i-1} + c_i);  s = a . h_D + c
    g = s (loss "none"),  (s - target)^2 / 2 ("mse"),  softplus(-target s) ("logistic")

Draws are numbers of `sdp_kernels.gaussian` at rows `first`, `first` + 1, ..., so engines see the same ones, or given
points. Nothing is stored per draw. Derivatives are derivatives of this very sum. Columns of a gradient: L row by
row (k q), b (k), then every tensor of theta row by row; P in all.

Everything comes batch by batch, for confidence intervals: see `batch_sizes`. With q = 0 there is nothing to draw: every
batch holds g(b), exactly, in float64.

Cost: per draw k q + head multiply-adds for a value, 3 times that for a gradient, and for m directions 4 m times that
on top (L L^T = W W^T makes q the rank of W, not the dimension of x: see `sdp.expectation`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sdp_kernels import _engine, _streamed
from sdp_kernels import _expectation_problem as problem
from sdp_kernels._expectation_problem import LOSSES, PRECISIONS, Draw, Network

__all__ = [
    "LOSSES",
    "PRECISIONS",
    "Draw",
    "Network",
    "batch_sizes",
    "expectation",
    "flatten",
    "grad_batches",
    "hessian_b_batches",
    "hvp_batches",
    "unflatten",
    "value_batches",
]

NARROW_WIDTH, NARROW_DEPTH = 128, 4  # heads up to here have fused kernels; others stream through torch


def batch_sizes(n: int) -> list[int]:
    """Sizes of the batches of n draws: at most 32, equal but for a last one that may be smaller.

    Raises:
        ValueError: n is not positive.

    >>> batch_sizes(70)[0], batch_sizes(70)[-1], len(batch_sizes(70)), batch_sizes(3)
    (3, 1, 24, [1, 1, 1])
    """
    if n < 1:
        raise ValueError(f"n must be at least 1; got {n}.")
    return _streamed.batch_sizes(n)


def value_batches(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str = "high"
) -> Tensor:
    """Mean of g over every batch of draws: float64 (B,).

    Args:
        L: (k, q) float32 or float64; q may be 0.
        b: (k,), dtype and device of L.
        params: [A_1, c_1, ..., A_D, c_D, a, c] as in the module's docstring, dtype and device of L.
        network: activation and loss.
        draw: the draws.
        precision: "fast" (tf32 products on a GPU), "high" (float32 accuracy) or "exact" (float64). On the CPU
            "fast" is "high". Sums over blocks are float64 always.

    Raises:
        TypeError: a tensor has another dtype than L, or one that is not float32 or float64.
        ValueError: shapes that disagree, tensors on several devices, entries that are not finite, an activation, loss
            or precision of no such name, or a number out of its range.

    Complexity: O(n (k q + head)) time, a fixed block of memory.

    >>> L, b = torch.zeros(2, 0), torch.tensor([1.0, 2.0])
    >>> value_batches(L, b, [torch.ones(2), torch.tensor(0.5)], Network("tanh"), Draw(n=1, seed=0))
    tensor([3.5000], dtype=torch.float64)
    """
    engine = _checked(L, b, params, network, draw, precision)
    found: Tensor = engine.value_batches(L, b, list(params), network, draw, precision)
    return found


def grad_batches(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str = "high"
) -> tuple[Tensor, Tensor]:
    """Values (B,) and gradients (B, P) of every batch, float64.

    Arguments, errors: as `value_batches`. Complexity: 3 times `value_batches`.
    """
    engine = _checked(L, b, params, network, draw, precision)
    found: tuple[Tensor, Tensor] = engine.grad_batches(L, b, list(params), network, draw, precision)
    return found


def hvp_batches(
    L: Tensor,
    b: Tensor,
    params: Sequence[Tensor],
    network: Network,
    draw: Draw,
    directions: Tensor,
    precision: str = "high",
) -> tuple[Tensor, Tensor, Tensor]:
    """Values (B,), gradients (B, P) and Hessian-vector products (B, m, P) of every batch, float64.

    All directions share one primal pass and the draws. A block of columns (L, b, one tensor of theta) that is 0 in
    every direction costs nothing on the way in.

    Args:
        L: as `value_batches`, and so the arguments not named here.
        b: shift.
        params: tensors of the head.
        network: activation and loss.
        draw: the draws.
        directions: (m, P), dtype and device of L.
        precision: see `value_batches`.

    Raises:
        TypeError: as `value_batches`, also for `directions`.
        ValueError: as `value_batches`, also for `directions`.

    Complexity: 3 + 4 m times `value_batches`.
    """
    engine = _checked(L, b, params, network, draw, precision)
    problem.check_directions(L, directions, _n_columns(L, b, params))
    found: tuple[Tensor, Tensor, Tensor] = engine.hvp_batches(
        L, b, list(params), network, draw, directions, precision
    )
    return found


def hessian_b_batches(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str = "high"
) -> Tensor:
    """Hessian in b of every batch: float64 (B, k, k).

    By Stein's identity also E[hess g(z)], all that a second-order certificate needs (MATH: it is k-dimensional).

    Arguments, errors: as `value_batches`. Complexity: 3 + 2 k heads and k q a draw.
    """
    engine = _checked(L, b, params, network, draw, precision)
    found: Tensor = engine.hessian_b_batches(L, b, list(params), network, draw, precision)
    return found


def expectation(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str = "high"
) -> Tensor:
    """The mean over all draws, a scalar of L's dtype, twice differentiable in L, b and params by autograd.

    The operator `sdp_kernels::expectation`: works under torch.compile, torch.func.grad and torch.autograd, whose
    double backward runs the fused Hessian-vector product. Third derivatives are refused.

    Arguments, errors: as `value_batches`.

    >>> b = torch.tensor([2.0], requires_grad=True)
    >>> L, head = torch.zeros(1, 0), [torch.ones(1), torch.tensor(0.0)]
    >>> expectation(L, b, head, Network("relu3", activate_input=True), Draw(n=1, seed=0)).backward()
    >>> b.grad
    tensor([12.])
    """
    _check(L, b, params, network, draw, precision, entries=False)
    # torch.compile sees through the operator and not through the bridge, torch.func the other way round.
    run = _expectation if torch.compiler.is_compiling() else partial(_apply, _Value)
    found: Tensor = run(flatten(L, b, params), *_scalars(L, params, network, draw, precision))
    return found


def flatten(L: Tensor, b: Tensor, params: Sequence[Tensor]) -> Tensor:
    """The columns of (L, b, params), in the order of gradients and directions: (P,). Differentiable."""
    return torch.cat([tensor.reshape(-1) for tensor in (L, b, *params)])


def unflatten(
    columns: Tensor, L: Tensor, b: Tensor, params: Sequence[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The blocks for (L, b, params) of columns (..., P), with their shapes behind the leading ones."""
    first, second, *rest = _split(columns, [tuple(tensor.shape) for tensor in (L, b, *params)])
    return first, second, rest


def _split(columns: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    parts = _streamed.split_columns(columns, [math.prod(shape) for shape in shapes])
    return [part.reshape((*columns.shape[:-1], *shape)) for part, shape in zip(parts, shapes, strict=True)]


def _n_columns(L: Tensor, b: Tensor, params: Sequence[Tensor]) -> int:
    return sum(tensor.numel() for tensor in (L, b, *params))


def _checked(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str
) -> ModuleType:
    """The module that runs this call, all arguments checked."""
    _check(L, b, params, network, draw, precision, entries=True)
    return _module(L, params, precision)


def _check(
    L: Tensor,
    b: Tensor,
    params: Sequence[Tensor],
    network: Network,
    draw: Draw,
    precision: str,
    *,
    entries: bool,
) -> None:
    problem.check_tensors(L, problem.check_shapes(L, b, params), entries)
    problem.check_network(network)
    problem.check_draw(L, draw, entries)
    problem.check_precision(precision)


def _module(L: Tensor, params: Sequence[Tensor], precision: str) -> ModuleType:
    twin = _engine.twin("expectation", L, *params)
    widths = [*L.shape, *(len(c) for c in params[1:-2:2])]
    is_narrow = max(widths) <= NARROW_WIDTH and len(widths) - 2 <= NARROW_DEPTH
    # The CPU twin chooses for itself; a GPU's fused kernels are for narrow heads in float32.
    if _engine.engine(L) == "cpu" or (is_narrow and precision != "exact" and L.shape[1]):
        return twin
    return _streamed


# The operators. Their schema holds the columns as one tensor and everything else as plain types; `widths` is
# [k, q, h_1, ..., h_D].


def _scalars(
    L: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str
) -> tuple[Any, ...]:
    """Everything but the columns, in the order of the operators' schema."""
    widths = [*L.shape, *(len(c) for c in params[1:-2:2])]
    return (
        widths,
        *network,
        draw.n,
        draw.seed,
        draw.first,
        draw.antithetic,
        draw.points,
        draw.weights,
        precision,
    )


def _arguments_of(
    flat: Tensor, widths: Sequence[int], *rest: Any
) -> tuple[Tensor, Tensor, list[Tensor], Network, Draw, str]:
    """Arguments of the batched functions from those of an operator."""
    k, q, *hidden = widths
    shapes: list[tuple[int, ...]] = [(k, q), (k,)]
    width = k
    for h in hidden:
        shapes += [(h, width), (h,)]
        width = h
    shapes += [(width,), ()]
    L, b, *params = _split(flat, shapes)
    return L, b, params, Network(*rest[:5]), Draw(*rest[5:11]), rest[11]


def _mean(per_batch: Tensor, draw: Draw, dtype: torch.dtype) -> Tensor:
    """Mean over the draws of what is given batch by batch, summed in order."""
    sizes = _streamed.draw_batches(draw)
    total = torch.zeros_like(per_batch[0])
    for size, part in zip(sizes, per_batch, strict=True):
        total += (size / draw.n) * part
    return total.to(dtype)


_ARGUMENTS = (
    "Tensor flat, int[] widths, str activation, str loss, float target, bool activate_input, float iota, "
    "int n, int seed, int first, bool antithetic, Tensor? points, Tensor? weights, str precision"
)


def _operator_value(flat: Tensor, widths: Sequence[int], *rest: Any) -> Tensor:
    asked = _arguments_of(flat, widths, *rest)
    return _mean(value_batches(*asked), asked[4], flat.dtype)


def _operator_grad(flat: Tensor, widths: Sequence[int], *rest: Any) -> Tensor:
    asked = _arguments_of(flat, widths, *rest)
    return _mean(grad_batches(*asked)[1], asked[4], flat.dtype)


def _operator_hvp(flat: Tensor, directions: Tensor, widths: Sequence[int], *rest: Any) -> Tensor:
    L, b, params, network, draw, precision = _arguments_of(flat, widths, *rest)
    hvps = hvp_batches(L, b, params, network, draw, directions, precision)[2]
    return _mean(hvps, draw, flat.dtype)


def _define(name: str, arguments: str, run: Callable[..., Tensor], fake: Callable[..., Tensor]) -> Any:
    operator = torch.library.custom_op(
        f"sdp_kernels::{name}", run, mutates_args=(), schema=f"({arguments}) -> Tensor"
    )
    operator.register_fake(fake)
    return operator


_expectation = _define("expectation", _ARGUMENTS, _operator_value, lambda flat, *rest: flat.new_empty(()))
_expectation_grad = _define(
    "expectation_grad", _ARGUMENTS, _operator_grad, lambda flat, *rest: torch.empty_like(flat)
)
_expectation_hvp = _define(
    "expectation_hvp",
    _ARGUMENTS.replace("Tensor flat", "Tensor flat, Tensor directions"),
    _operator_hvp,
    lambda flat, directions, *rest: torch.empty_like(directions),
)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keep an operator's arguments for its backward: tensors where autograd can see them, the rest as it is."""
    ctx.save_for_backward(*(value if isinstance(value, Tensor) else None for value in inputs))
    ctx.others = [None if isinstance(value, Tensor) else value for value in inputs]


def _kept(ctx: Any) -> list[Any]:
    return [
        other if tensor is None else tensor
        for tensor, other in zip(ctx.saved_tensors, ctx.others, strict=True)
    ]


def _backward_value(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    flat, *rest = _kept(ctx)
    return cotangent * _apply(_Gradient, flat, *rest), *(None for _ in rest)


def _backward_gradient(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    flat, *rest = _kept(ctx)
    return _apply(_HVP, flat, cotangent[None], *rest)[0], *(None for _ in rest)


def _backward_hvp(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    if ctx.needs_input_grad[0]:
        raise NotImplementedError("third derivatives of the expectation are not provided; detach the HVP.")
    flat, _, *rest = _kept(ctx)
    return None, _apply(_HVP, flat, cotangent, *rest), *(None for _ in rest)


def _apply(bridge: type[_Bridge], *arguments: Any) -> Tensor:
    found: Tensor = bridge.apply(*arguments)  # type: ignore[no-untyped-call]
    return found


class _Bridge(torch.autograd.Function):
    """What torch.func can see through: an operator's own autograd rule, in torch 2.13, it cannot."""

    setup_context = staticmethod(_keep)

    @staticmethod
    def vmap(*arguments: Any) -> Any:
        raise NotImplementedError("vmap over the expectation is over directions of its HVP only; use a loop.")


class _Value(_Bridge):
    forward = staticmethod(_expectation)
    backward = staticmethod(_backward_value)


class _Gradient(_Bridge):
    forward = staticmethod(_expectation_grad)
    backward = staticmethod(_backward_gradient)


class _HVP(_Bridge):
    forward = staticmethod(_expectation_hvp)
    backward = staticmethod(_backward_hvp)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], flat: Tensor, directions: Tensor, *rest: Any
    ) -> tuple[Tensor, int]:
        """Directions of all entries join one batch and share one primal pass."""
        if in_dims[1] is None or any(dim is not None for dim in (in_dims[0], *in_dims[-3:-1])):
            _Bridge.vmap()
        stacked = directions.movedim(in_dims[1], 0)
        found = _apply(_HVP, flat, stacked.flatten(0, 1), *rest)
        return found.reshape(stacked.shape), 0


_expectation.register_autograd(_backward_value, setup_context=_keep)
_expectation_grad.register_autograd(_backward_gradient, setup_context=_keep)
_expectation_hvp.register_autograd(_backward_hvp, setup_context=_keep)
