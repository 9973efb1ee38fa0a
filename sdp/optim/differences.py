"""Hessian-vector products against differences of gradients, where torch cannot know whether a derivative is one.

A custom `torch.autograd.Function` that computes its backward outside torch, or under `no_grad`, makes a gradient that
is right and a second derivative that is 0 without a word.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sdp.optim.operator import ASSUMED_ULPS, Operator, flatten, unflatten
from sdp_kernels import gaussian

PURPOSE_PROBE = 106  # a stream of a seed, beside those of noise and Lanczos
# Steps of the difference, each a quarter of the one before: where f bends sharply the first may be too long. The change
# from one to the next is 15 times the second's truncation error, where that is of order h^2; it is taken whole.
N_STEPS, SHORTER = 4, 0.25


def contradiction(
    gradient_at: Callable[[], Tensor],
    params: Sequence[Tensor],
    operator: Operator,
    gradient: Tensor,
    bend: float,
    seed: int,
) -> str | None:
    """What is said against H v = (grad f(x + h v) - grad f(x - h v)) / 2h along a random v; None where they agree.

    They agree if they differ by no more than the difference errs, which is read off from shorter h and from the
    arithmetic's rounding; that h is taken where it is least. An error beyond both the curvature seen and `bend` decides
    nothing, and is said too.

    Args:
        gradient_at: the gradient, float64 (n,), at the parameters as they are.
        params: as they were on return; torch is not told of the changes between, so that graphs stay valid.
        operator: H, of the graph at the parameters.
        gradient: float64 (n,), at the parameters.
        bend: curvature that matters.
        seed: of v.

    Complexity: eight gradients and one product. h starts at the cube root of an ulp, where truncation and rounding
    balance, times the parameters' norm if above 1.
    """
    ulp = torch.finfo(params[0].dtype).eps
    v = gaussian.normal(
        (operator.n,), seed=seed, purpose=PURPOSE_PROBE, device=gradient.device, dtype=torch.float64
    )
    v /= torch.linalg.vector_norm(v)
    before = [point.detach().clone() for point in params]
    h = ulp ** (1.0 / 3.0) * max(1.0, float(torch.linalg.vector_norm(flatten(before))))

    def slope(step: float) -> Tensor:
        sides = []
        for shift in (step, -step):
            for point, start, part in zip(params, before, unflatten(v, params), strict=True):
                point.data.copy_(start + shift * part)
            sides.append(gradient_at())
        return (sides[0] - sides[1]) / (2.0 * step)

    try:
        slopes = [slope(h * SHORTER**k) for k in range(N_STEPS)]
    finally:
        for point, start in zip(params, before, strict=True):
            point.data.copy_(start)
    product = operator(v[:, None])[:, 0]
    error, seen, apart = math.inf, math.nan, math.nan
    for k, (coarse, fine) in enumerate(itertools.pairwise(slopes), start=1):
        size = float(product.norm() + fine.norm())
        rounding = (
            ASSUMED_ULPS * ulp * (float(gradient.norm()) / (h * SHORTER**k) + ulp ** (-1.0 / 3.0) * size)
        )
        errs = float((coarse - fine).norm()) + rounding
        if errs < error:
            error, seen, apart = errs, size, float((product - fine).norm())
    if apart <= error <= max(bend, 0.5 * seen):
        return None
    if apart > error:
        found = (
            f"a Hessian-vector product and a difference of gradients are {apart:.2g} apart (sizes {seen:.2g})"
        )
    else:
        found = f"a difference of gradients errs by {error:.2g}, too much to check a Hessian-vector product"
    return found
