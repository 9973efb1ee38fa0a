"""A step along negative curvature: out of a saddle at once, where a Hessian-vector product is at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sdp.optim.lanczos import lanczos
from sdp.optim.operator import flatten, unflatten

STEPS = 30  # of Lanczos
HALVINGS, DOUBLINGS = 40, 10
SHARE = 0.25  # of the decrease that the curvature promises


def negative_curvature_step(
    points: Sequence[Tensor],
    hvp: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    evaluate: Callable[[], float],
    loss: float,
    *,
    curvature: float,
    seed: int,
    position: int,
) -> float | None:
    """Move the points along the lowest Ritz vector of the Hessian, if its value is below -curvature.

        x + t v,   f(x + t v) <= f(x) - SHARE |theta| t^2 / 2,   t = +-1, +-1/2, ..., doubled while that lowers f

    Args:
        points: changed in place; as they were where None is returned.
        hvp: Hessian-vector product at the points.
        evaluate: the loss at the points as they are (and their gradients, as a closure does).
        loss: before.
        curvature: above 0.
        seed: of Lanczos' start.
        position: number of this step.

    Returns:
        The loss after, or None: Lanczos saw no such curvature, or no step along it lowers the loss.

    Complexity: 30 products, and a few values.
    """
    n = sum(point.numel() for point in points)

    def apply(block: Tensor) -> Tensor:
        with torch.enable_grad():
            made = [
                flatten([part.detach() for part in hvp([p.to(q.dtype) for p, q in zip(
                    unflatten(column, points), points, strict=True)])])
                for column in block.T
            ]  # fmt: skip
        return torch.stack(made, 1)

    dtype = points[0].dtype
    ritz = lanczos(
        apply, n, steps=min(STEPS, n), seed=seed, stream=position, dtype=dtype, device=points[0].device
    )
    theta = float(ritz.values[0])
    if theta >= -curvature:
        return None
    before = [point.detach().clone() for point in points]
    direction = [
        part.to(point.dtype) for part, point in zip(unflatten(ritz.lowest[:, 0], points), points, strict=True)
    ]

    def at(t: float) -> float:
        for point, start, part in zip(points, before, direction, strict=True):
            torch.add(start, part, alpha=t, out=point)
        return evaluate()

    t = 1.0
    for _ in range(HALVINGS):
        new, sign = min((at(t), 1.0), (at(-t), -1.0), key=lambda found: (math.isnan(found[0]), found[0]))
        if new <= loss + 0.5 * SHARE * theta * t * t:
            return _doubled(at, t * sign, new)
        t *= 0.5
    at(0.0)
    return None


def _doubled(at: Callable[[float], float], t: float, value: float) -> float:
    """Go on doubling t while the value falls, and leave the points at the best."""
    for _ in range(DOUBLINGS):
        further = at(2.0 * t)
        if not further < value:
            break
        t, value = 2.0 * t, further
    return at(t)
