"""The noise of perturbed descent: numbered by (seed, position), so that a resumed run draws what it would have drawn.

Sources: Jin, Ge, Netrapalli, Kakade and Jordan (2017) for the ball; Jin, Netrapalli, Ge, Kakade and Jordan (2021) for
the Gaussian of stochastic gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sdp.optim.descent import inner
from sdp_kernels import gaussian

# Streams of a seed beside those of the expectation, 101 to 103.
PURPOSE_DIRECTION, PURPOSE_RADIUS = 104, 105


def normals_like(points: Sequence[Tensor], seed: int, position: int) -> list[Tensor]:
    """Standard normals shaped as the points, of their dtypes and devices: block `position` of the seed."""
    made, first = [], 0
    for point in points:
        dtype = torch.float64 if point.dtype == torch.float64 else torch.float32
        row = gaussian.normal(
            (point.numel(),),
            seed=seed,
            purpose=PURPOSE_DIRECTION,
            row_offset=position,
            column_offset=first,
            dtype=dtype,
            device=point.device,
        )
        made.append(row.view(point.shape).to(point.dtype))
        first += point.numel()
    return made


def in_ball(points: Sequence[Tensor], radius: float, seed: int, position: int) -> list[Tensor]:
    """One vector uniform in the ball of this radius around 0 in the space of all points together.

    A Gaussian direction, and radius u^(1/n) for uniform u in n dimensions. Complexity: O(n).
    """
    made = normals_like(points, seed, position)
    n = sum(point.numel() for point in points)
    word = int(gaussian.uniform_bits((1,), seed=seed, purpose=PURPOSE_RADIUS, row_offset=position)) % 2**32
    length = radius * ((word + 0.5) / 2**32) ** (1.0 / n)
    scale = length / norm_of(made)
    return [part.mul_(scale) for part in made]


def norm_of(parts: Iterable[Tensor]) -> float:
    """Euclidean norm of all entries together, the same bits whatever the number of threads."""
    return math.sqrt(math.fsum(inner(part, part) for part in parts))
