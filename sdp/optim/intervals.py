"""Confidence bounds from independent batches, for the quantities that a certificate is made of.

B batches estimate a gradient g and a symmetric matrix H without bias, each from its own samples.

- Norms are convex: E|g_j| >= |E g_j|, so mean_j |g_j| + t sd / sqrt(B) is an upper bound of |g|.
- Against a unit vector u taken from one half of the batches, u'g_j of the other half is unbiased, so its lower bound
is one of
  |g|.
- The lowest eigenvalue is concave: E lambda_min(H_j) <= lambda_min(H), so mean_j lambda_min(H_j) - t sd / sqrt(B) is
a lower
  bound.
- v'H_j v >= lambda_min(H) in expectation, for v from one half: its upper bound, on the other half, is an upper bound.

t is Student's, as if batch means were normal, which is why batches may not be small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import t as student
from torch import Tensor

from sdp.optim.curvature import curvature_bounds
from sdp.optim.operator import Operator


@dataclass(frozen=True)
class Range:
    """A confidence interval, and the estimate in it.

    Attributes:
        lower: bound from below.
        estimate: what the bounds would meet in with more samples (or a little above or below, by convexity).
        upper: bound from above.
        n_batches: how many batches made it; 0 where nothing was sampled.
    """

    lower: float
    estimate: float
    upper: float
    n_batches: int = 0

    def to_dict(self) -> dict[str, float | None]:
        """Lower, estimate and upper; None for what is not finite."""
        named = {"lower": self.lower, "estimate": self.estimate, "upper": self.upper}
        return {name: value if math.isfinite(value) else None for name, value in named.items()}


def one_sided(values: Sequence[float], delta: float) -> float:
    """Half-width t sd / sqrt(B) of a one-sided interval that fails with probability delta; infinite for one value."""
    B = len(values)
    if B < 2:
        return math.inf
    spread = float(torch.tensor(values, dtype=torch.float64).std())
    return float(student.ppf(1.0 - delta, B - 1)) * spread / math.sqrt(B)


def norm_range(batches: Sequence[Tensor], delta_lower: float, delta_upper: float) -> Range:
    """Bounds on the norm of the mean of batches (n,)."""
    norms = [float(torch.linalg.vector_norm(part)) for part in batches]
    mean = sum(norms) / len(norms)
    upper = mean + one_sided(norms, delta_upper)
    half = len(batches) // 2
    whole = torch.stack(list(batches)).mean(0)
    guess = torch.stack(list(batches[:half])).mean(0) if half else whole
    size = float(torch.linalg.vector_norm(guess))
    lower = 0.0
    if size > 0.0 and len(batches) - half >= 2:
        along = [float(part @ guess) / size for part in batches[half:]]
        lower = max(0.0, sum(along) / len(along) - one_sided(along, delta_lower))
    return Range(min(lower, upper), float(torch.linalg.vector_norm(whole)), upper, len(batches))


def curvature_range(
    batches: Sequence[Tensor], delta_lower: float, delta_upper: float
) -> tuple[Range, Tensor]:
    """Bounds on the lowest eigenvalue of the mean of symmetric batches (k, k), and a direction (k,) of the upper."""
    lowest = [float(torch.linalg.eigvalsh(H)[0]) for H in batches]
    lower = sum(lowest) / len(lowest) - one_sided(lowest, delta_lower)
    half = len(batches) // 2
    v = torch.linalg.eigh(torch.stack(list(batches[:half] or batches)).mean(0))[1][:, 0]
    along = [float(v @ H @ v) for H in batches[half:]]
    upper = sum(along) / len(along) + one_sided(along, delta_upper)
    estimate = float(torch.linalg.eigvalsh(torch.stack(list(batches)).mean(0))[0])
    return Range(lower, min(max(estimate, lower), upper), upper, len(batches)), v


def mean_curvature_range(
    operators: Sequence[Operator], delta_lower: float, delta_upper: float, *, target: float, **options: Any
) -> tuple[Range, Tensor, str]:
    """Bounds on the lowest eigenvalue of the mean of independent symmetric operators.

    Half of `delta_lower` pays for the sampling; where lower bounds are themselves random, the other half is split
    between them.

    Args:
        operators: one a batch.
        delta_lower: probability that the lower bound is wrong.
        delta_upper: probability that the upper bound is wrong.
        target: each lower bound stops at this.
        **options: of `curvature_bounds`.

    Returns:
        The range, a direction (n,) of the upper bound, and how single bounds were made.
    """
    B, half = len(operators), len(operators) // 2
    found = [
        curvature_bounds(operator, delta=0.5 * delta_lower / B, target=target, **options)
        for operator in operators
    ]
    lowest = [bounds.lower for bounds in found]
    lower = -math.inf
    if all(math.isfinite(bound) for bound in lowest):
        lower = sum(lowest) / B - one_sided(lowest, 0.5 * delta_lower)
    # Of the first half, the direction that is lowest in its mean.
    first, second = operators[: half or 1], operators[half:] if half else operators

    candidates = torch.stack([bounds.direction for bounds in found[: half or 1]], 1)
    sums = torch.stack([(candidates * operator(candidates)).sum(0) for operator in first]).sum(0)
    v = candidates[:, int(sums.argmin())]
    quotients = [float(v @ operator(v[:, None])[:, 0]) for operator in second]
    mean = sum(quotients) / len(quotients)
    upper = mean + one_sided(quotients, delta_upper)
    return Range(lower, min(max(mean, lower), upper), upper, B), v, found[0].method
