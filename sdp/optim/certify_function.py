"""`sdp.certify_function`: is this point of any torch loss second-order stationary?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sdp.optim.certificate import UNDECIDED, Certificate, verdict
from sdp.optim.chebyshev import COLUMNS
from sdp.optim.curvature import DENSE_SIZE, MAX_STEPS, TOLERANCE, curvature_bounds
from sdp.optim.differences import contradiction
from sdp.optim.intervals import Range, mean_curvature_range, norm_range
from sdp.optim.kinks import custom_functions, kinks
from sdp.optim.operator import ASSUMED_ULPS, Operator, flatten, hessian_operator

LEAST_BATCHES = 8  # independent batches below which intervals are not trusted
UNDEFINED = Range(-math.inf, math.nan, math.inf)


def certify_function(
    f: Callable[..., Tensor],
    params: Iterable[Tensor],
    *,
    eps: float = 1e-3,
    curvature: float | None = None,
    delta: float = 1e-2,
    batches: Sequence[Any] | None = None,
    tolerance: float = TOLERANCE,
    columns: int = COLUMNS,
    max_steps: int = MAX_STEPS,
    dense_size: int = DENSE_SIZE,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Certificate:
    """Bounds on the gradient and on the lowest curvature of a loss, in all of the given parameters.

    The point is second-order stationary to the tolerances if ||grad f|| <= eps and lambda_min(hess f) >= -curvature.

    Attention is computed by torch's plain formula, for its fused kernels have no second derivative. Where the graph
    holds a custom `torch.autograd.Function`, whose second derivative may silently be wrong, one Hessian-vector product
    is compared with a difference of gradients, for which `f` must compute anew, and alike, at every call. (A sampled
    `sdp.Expectation` is such a function: its derivatives agree but for sampling errors, which `sdp.certify` bounds.)

    Arithmetic is that of `params`. Gradient and products are taken to err by 32 ulps of their size, which `notes` say:
    where large terms cancel inside f, float32 may lose all of a gradient that float64 shows.

    Args:
        f: the loss, a scalar tensor with a graph to `params`; called without arguments, or with each of `batches`.
        params: tensors that require gradients, of one dtype and device, at the point to certify.
        eps: tolerance of the gradient's norm, above 0.
        curvature: tolerance of the curvature; sqrt(eps) by default, that is a Hessian-Lipschitz constant of 1.
        delta: probability that any bound is wrong, over `seed` and, with batches, over their sampling; in (0, 1).
        batches: independent samples, at least one: the certificate then speaks of the expectation of f over them, and
            is never True for fewer than 8. Without, of f itself.
        tolerance: of the curvature's lower bound, as a share of the spectrum's width, unless `curvature` needs less.
        columns: Hessian-vector products at a time.
        max_steps: the most of them, in turn.
        dense_size: up to so many parameters the Hessian is formed and all its eigenvalues computed.
        seed: of Lanczos and Chebyshev.
        progress: called with step and steps.

    Returns:
        The certificate; "undecided" where the bounds do not suffice, or a custom function fails that comparison.

    Raises:
        TypeError: not tensors, or of several dtypes.
        ValueError: no parameters, no scalar, not finite, not twice differentiable by torch, or a number out of its
            range.

    Warns:
        UserWarning: the loss uses operations with kinks, so that curvature is undefined; says which smooth ones to
            use.

    Complexity: dense n products; otherwise 30 + columns * steps, about two to three gradients each.

    >>> x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> certify_function(lambda: x[0] ** 2 - x[1] ** 2, [x]).is_sosp
    False
    >>> certify_function(lambda: x[0] ** 2 + x[1] ** 4, [x]).is_sosp
    True
    """
    points = _checked(params, eps, curvature, delta)
    bend = math.sqrt(eps) if curvature is None else curvature
    options: dict[str, Any] = {
        "tolerance": tolerance, "columns": columns, "max_steps": max_steps, "dense_size": dense_size, "seed": seed,
    }  # fmt: skip
    covers = f"gradient and curvature in all {sum(p.numel() for p in points):,} parameters given"
    if batches is not None:
        samples = list(batches)
        if not samples:
            raise ValueError("`batches` must hold at least one batch, or be left out; got none.")
        return _of_batches(f, points, samples, eps, bend, delta, covers, options)
    loss = _loss(f)
    sharp = _warn_of_kinks(loss)
    operator, gradient = hessian_operator(loss, points)
    size = float(torch.linalg.vector_norm(gradient))
    if not math.isfinite(size):
        raise ValueError("the gradient of `f` has entries that are NaN or infinite.")
    rounding = ASSUMED_ULPS * torch.finfo(points[0].dtype).eps * size
    slope = Range(max(0.0, size - rounding), size, size + rounding)
    why_not = sharp or _wrong_products(f, (), loss, points, operator, gradient, bend, seed)
    if why_not is not None:
        return _undefined(slope, eps, bend, covers, why_not)
    found = curvature_bounds(operator, delta=delta, target=-bend, progress=progress, **options)
    bounds = Range(found.lower, found.upper, found.upper)
    is_sosp, why, _ = verdict(slope, bounds, eps, bend, 0)
    return Certificate(
        is_sosp, slope, bounds, eps, bend, found.delta, {"curvature lower": found.delta}, covers, why, None,
        method=found.method, products=found.products, kuczynski=found.kuczynski, direction=found.direction,
        notes=(_rounding_assumed(points), *found.notes),
    )  # fmt: skip


def _of_batches(
    f: Callable[..., Tensor],
    points: list[Tensor],
    batches: list[Any],
    eps: float,
    bend: float,
    delta: float,
    covers: str,
    options: dict[str, Any],
) -> Certificate:
    """The expectation of f over independent batches."""
    share = delta / 4
    operators: list[Operator] = []
    gradients: list[Tensor] = []
    why_not: str | None = None
    for batch in batches:
        loss = _loss(f, batch)
        why_not = why_not or _warn_of_kinks(loss)
        operator, gradient = hessian_operator(loss, points)
        why_not = why_not or _wrong_products(
            f, (batch,), loss, points, operator, gradient, bend, options["seed"]
        )
        operators.append(operator)
        gradients.append(gradient)
    if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
        raise ValueError("the gradient of `f` has entries that are NaN or infinite at a batch.")
    slope = norm_range(gradients, share, share)
    covers = f"{covers}, in expectation over {len(batches)} independent batches"
    if why_not is not None:
        return _undefined(slope, eps, bend, covers, why_not)
    bounds, direction, found = mean_curvature_range(operators, share, share, target=-bend, **options)
    enough = len(batches) >= LEAST_BATCHES
    is_sosp, why, needed = verdict(slope, bounds, eps, bend, len(batches), enough=enough)
    if needed is not None:
        why = why.replace(" samples would", " batches would")
    deltas = dict.fromkeys(("gradient lower", "gradient upper", "curvature lower", "curvature upper"), share)
    return Certificate(
        is_sosp, slope, bounds, eps, bend, delta, deltas, covers, why, needed, method=f"{found}, sampling",
        n_samples=len(batches), products=sum(operator.products for operator in operators), direction=direction,
        notes=("intervals take batch means to be normal", _rounding_assumed(points)),
    )  # fmt: skip


def _undefined(slope: Range, eps: float, bend: float, covers: str, why: str) -> Certificate:
    is_sosp: bool | str = False if slope.lower > eps else UNDECIDED
    return Certificate(
        is_sosp, slope, UNDEFINED, eps, bend, 0.0, {}, covers, why, None, method="none", notes=(why,)
    )  # fmt: skip


def _rounding_assumed(points: list[Tensor]) -> str:
    dtype = points[0].dtype
    name = str(dtype).removeprefix("torch.")
    return (
        f"assumes that the gradient errs by at most {ASSUMED_ULPS * torch.finfo(dtype).eps:.1g} of its norm ({name}), "
        "which large terms that cancel inside `f` break; float64 parameters would show it"
    )


def _warn_of_kinks(loss: Tensor) -> str | None:
    found = kinks(loss)
    if not found:
        return None
    why = f"curvature is undefined: the loss has kinks; use {', and '.join(found)}"
    warnings.warn(why, stacklevel=4)
    return why


def _wrong_products(
    f: Callable[..., Tensor],
    batch: tuple[Any, ...],
    loss: Tensor,
    points: list[Tensor],
    operator: Operator,
    gradient: Tensor,
    bend: float,
    seed: int,
) -> str | None:
    """Why products of a graph with custom functions are not to be trusted, or None."""
    custom = custom_functions(loss)
    if not custom:
        return None

    def gradient_at() -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            moved = f(*batch)
        # The graph is kept, for it is that of `operator` where `f` returns the same tensor again.
        parts = torch.autograd.grad(
            moved.reshape(()), points, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return flatten(parts)

    found = contradiction(gradient_at, points, operator, gradient, bend, seed)
    if found is None:
        return None
    return (
        f"curvature is unknown: {found}; custom functions ({', '.join(custom)}) must differentiate twice, without "
        "sampling errors, and `f` compute anew, and alike, at every call"
    )


def _loss(f: Callable[..., Tensor], *batch: Any) -> Tensor:
    """The loss with its graph.

    Raises:
        ValueError: it is no scalar, not finite, or has no graph.
    """
    with sdpa_kernel(SDPBackend.MATH):
        loss: object = f(*batch)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"`f` must return a scalar tensor; got {got}.")
    if not bool(torch.isfinite(loss.detach()).all()):
        raise ValueError(f"`f` must be finite at the point; got {float(loss.detach())}.")
    if not loss.requires_grad:
        raise ValueError(
            "`f` must depend on `params` through torch operations; its value carries no gradient."
        )
    return loss.reshape(())


def _checked(params: Iterable[Tensor], eps: float, curvature: float | None, delta: float) -> list[Tensor]:
    points = [params] if isinstance(params, Tensor) else list(params)
    if not points:
        raise ValueError("`params` must hold at least one tensor; got none.")
    for point in points:
        if not isinstance(point, Tensor):
            raise TypeError(f"`params` must be tensors; got {type(point).__name__}.")
        if not point.requires_grad:
            raise ValueError("`params` must require gradients; one does not.")
        if point.dtype != points[0].dtype:
            raise TypeError(f"`params` must share a dtype; got {point.dtype} and {points[0].dtype}.")
    for name, number in (("eps", eps), ("curvature", 1.0 if curvature is None else curvature)):
        if not 0.0 < number < math.inf:
            raise ValueError(f"`{name}` must be above 0 and finite; got {number}.")
    if not 0.0 < delta < 1.0:
        raise ValueError(f"`delta` must lie in (0, 1); got {delta}.")
    return points
