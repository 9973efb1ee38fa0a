"""Principal axes of the relaxation, and the search along one: what `conditional` rounding is made of."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

AXIS_POINTS = 6  # quantiles of each axis, then
MAX_AXIS_POINTS = 100
AXIS_REFINEMENTS = (
    2  # points at the vertex of a parabola; 16 + 3 cut within 0.3% on G14, G22, G32, never better
)


def principal_axes(V: Tensor) -> Tensor:
    """Columns of U S, largest first, of V = U S W^T: float64 (n, at most r).

    By the eigenvectors W of V^T V. On the CPU einsum, not a matrix product: a BLAS splits long sums by threads, and the
    bits may not depend on their number. Axes below rounding, 1e-6 of the first, are left out.
    """
    rows = V.double()
    is_on_cpu = V.device.type == "cpu"
    gram = np.einsum("ik,il->kl", rows.numpy(), rows.numpy()) if is_on_cpu else (rows.T @ rows).cpu().numpy()
    squares, W = np.linalg.eigh(gram)
    kept = np.flatnonzero(squares > 1e-12 * squares.max(initial=0.0))[::-1]
    if not kept.size:
        return rows.new_zeros(len(V), 0)
    # Signs of eigenvectors are the library's whim; the largest entry is made positive.
    W = W[:, kept] * np.sign(W[np.abs(W[:, kept]).argmax(axis=0), kept])
    if is_on_cpu:
        return torch.from_numpy(np.einsum("ik,kl->il", rows.numpy(), W))
    return rows @ torch.from_numpy(W).to(V.device)


def maximise_along(value: Callable[[float], float], mean: float, *, is_even: bool) -> tuple[float, float]:
    """A point x and its value, at least `mean`, which is the mean of `value` over a normal x.

    `is_even` says that value(-x) = value(x). Where there is no value, it is minus infinity.
    """
    found: dict[float, float] = {}
    n_points = AXIS_POINTS
    # Some point reaches the mean; a few quantiles nearly always hold one.
    while not found or (max(found.values()) < mean and n_points <= MAX_AXIS_POINTS):
        levels = (torch.arange(n_points, dtype=torch.float64) + 0.5) / n_points
        found |= {x: value(x) for x in torch.special.ndtri(levels).tolist() if x > 0.0 or not is_even}
        n_points *= 2
    for _ in range(AXIS_REFINEMENTS):
        points = sorted(found)
        k = points.index(max(points, key=lambda x: found[x]))
        if 0 < k < len(points) - 1:
            x = _parabola_top(points[k - 1 : k + 2], [found[x] for x in points[k - 1 : k + 2]])
        else:
            x = points[k] + (-0.5 if k == 0 else 0.5)
        if not math.isfinite(x):  # a neighbour has no finite value, and so no parabola
            break
        if x not in found:
            found[x] = value(x)
    best = max(sorted(found), key=lambda x: found[x])
    return best, found[best]


def _parabola_top(x: list[float], y: list[float]) -> float:
    """Top of the parabola through three points, the middle one the highest; halfway where they lie flat."""
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    bend = (right - left) / (x[2] - x[0])
    return 0.5 * (x[0] + x[1]) - 0.5 * left / bend if bend < 0.0 else 0.5 * (x[1] + x[2])
